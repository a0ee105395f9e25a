"""``prune`` over a real registry's socket: what it asks, what it leaves, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cleaner.google.tokens import Access
from tests.emulator.authorization import PUSH
from tests.emulator.faults import Before, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch
from tests.emulator.store import DANGLING_PARENT
from tests.support.command_line import RETIRING, Operator, no, one_line, yes
from tests.support.documentation import page
from tests.support.held import Held, assert_whole
from tests.support.processes import ROOT


def test_prune_without_a_terminal_needs_yes(operator: Operator) -> None:
    """Exit code 2 before anybody is asked for anything."""
    operator.builds(4)

    ended = operator.prune(*RETIRING)

    assert ended.code == 2
    assert "use --yes, or run plan for a preview" in one_line(ended)
    assert operator.emulator.log.total == 0


def test_prune_with_yes(operator: Operator) -> None:
    """The plan is shown and carried out, and what was done is told."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes")

    assert (ended.code, ended.err) == (0, "")
    assert operator.tags == {"build-0", "build-1"}
    assert "delete  2 images, up to " in ended.out
    assert "\ndeleted 2 manifests, " in ended.out


def test_prune_as_a_document(operator: Operator) -> None:
    """What has gone is in delete, and the registry agrees."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes", "-o", "json")

    assert (ended.code, ended.err) == (0, "")
    assert ended.document["dry_run"] is False
    assert ended.tags("keep") == ["build-0", "build-1"]
    assert ended.tags("delete") == ["build-2", "build-3"]
    assert {one["digest"] for one in ended.document["keep"]} == operator.emulator.store.digests(operator.name)


def test_prune_asks_on_a_terminal(operator: Operator) -> None:
    """No is no, and harms nobody."""
    operator.builds(4)
    operator.answers(no)

    ended = operator.prune(*RETIRING)

    assert (ended.code, ended.err) == (0, "nothing was deleted\n")
    assert len(operator.questions) == 1
    assert operator.questions[0].startswith(f"Delete 2 manifests of {operator.name}, ")
    assert operator.deletions == 0
    outcomes = [one.get("outcome") for one in operator.prune(*RETIRING, "-o", "json").document["keep"]]
    assert outcomes == [None, None, "left", "left"]


def test_prune_does_what_was_agreed_to(operator: Operator) -> None:
    """Yes is yes."""
    operator.builds(4)
    operator.answers(yes)

    assert operator.prune(*RETIRING).code == 0

    assert operator.tags == {"build-0", "build-1"}


def test_prune_deletes_only_what_was_shown(operator: Operator) -> None:
    """What is pushed while somebody thinks makes another image old; nobody agreed to that one."""
    operator.builds(4)

    def push() -> None:
        operator.load(image("new"), ["build-new"], days=0.5)

    operator.answers(yes, push)

    assert operator.prune(*RETIRING).code == 0

    assert operator.tags == {"build-new", "build-0", "build-1"}
    assert operator.plan(*RETIRING, "-o", "json").tags("delete") == ["build-1"]


def test_prune_with_nothing_to_delete_asks_nothing(operator: Operator) -> None:
    """There is nothing to agree to."""
    operator.builds(2)
    operator.answers(yes)

    ended = operator.prune(*RETIRING)

    assert (ended.code, ended.err, operator.questions) == (0, "", [])
    assert ended.out.endswith("delete  nothing\n")
    assert operator.prune(*RETIRING, "-o", "json").document["delete"] == []


@pytest.mark.parametrize("by", ["policy", "flag"])
def test_prune_that_only_reports(operator: Operator, tmp_path: Path, by: str) -> None:
    """A policy with dry_run is reported, whatever is agreed to; it says why."""
    operator.builds(4)
    path = tmp_path / "p.json"
    policy = {"repositories": ["**"], "tagged": [{"match": ".*", "keep": 2}], "dry_run": by == "policy"}
    path.write_text(json.dumps([policy]))
    flags = ("--policies", str(path), *(("--dry-run",) if by == "flag" else ()))

    for more in ((), ("--yes",)):
        ended = operator.prune(*flags, *more, "-o", "json")
        assert ended.code == 0
        assert ended.document["dry_run"] is True
        assert ended.tags("delete") == ["build-2", "build-3"]
        assert ended.err == f"nothing was deleted: {'--dry-run' if by == 'flag' else f'dry_run of {path}[0]'}\n"

    assert operator.deletions == 0


def test_prune_where_something_is_refused(operator: Operator) -> None:
    """What came to need an image meanwhile is no error of ours: exit code 0, told with the registry's words."""
    operator.builds(4)
    digest = operator.emulator.store.tags(operator.name)["build-3"]
    fault = Status(400, DANGLING_PARENT)
    operator.emulator.faults.add(fault, method="DELETE", path=digest)

    ended = operator.prune(*RETIRING, "--yes", "-o", "json")

    assert (ended.code, ended.err) == (0, "")
    assert [len(ended.document[key]) for key in ("keep", "delete")] == [3, 1]
    assert ended.document["keep"][2]["digest"] == digest
    assert ended.document["keep"][2]["outcome"] == "refused"
    operator.builds(4)
    text = operator.prune(*RETIRING, "--yes").out
    assert f"not deleted: 1 refused\n  refused  {digest[7:19]} (build-3): 400 {DANGLING_PARENT}\n" in text


def test_prune_where_something_fails(operator: Operator) -> None:
    """Any other refusal ends in exit code 1; where it is a missing permission, that is named."""
    operator.builds(5)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 1
    assert "deleted 0 manifests, up to 0 B" in ended.out
    assert "not deleted: 3 failed\n  failed   " in ended.out
    assert ended.err.endswith(
        "deletions denied: the permission that is likely missing is artifactregistry.repositories.deleteArtifacts\n"
    )
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("command", ["prune", "sweep"])
def test_immutable_tags_are_told(operator: Operator, command: str) -> None:
    """The registry answers 400 to each tag, which does not say much."""
    operator.builds(9)
    operator.emulator.store.repository(operator.name, immutable_tags=True)

    how = ["--local"] if command == "sweep" else []
    ended = operator.call(command, operator.name, *RETIRING, "--yes", *how)

    assert ended.code == 1
    assert ended.err.endswith(
        "acme/api: tags cannot be deleted, probably since they are immutable: images with tags are kept\n"
    )
    assert len(operator.tags) == 9


def test_denied_deletion_names_what_the_role_grants(operator: Operator) -> None:
    """The command line and Terraform's custom role name the same permissions; an exchanged token needs one more."""
    operator.builds(3)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")
    source = (ROOT / "terraform" / "repositories.tf").read_text()

    def granted(what: str) -> set[str]:
        found = source.partition(f"{what}_permissions = [")[2].partition("]")[0]
        return set(re.findall(r'"(artifactregistry\.[A-Za-z.]+)"', found))

    ended = operator.prune(*RETIRING, "--yes")

    assert set(ended.err.rpartition(" is ")[2].split()) <= granted("deleting")
    assert {Access.READ.permission} <= granted("reading")
    exchanged = set(Access.DELETE.permission.split(", "))
    assert exchanged - granted("deleting") - granted("reading") == {PUSH}


def test_prune_names_ten_failures(operator: Operator) -> None:
    """A thousand lines would say no more."""
    operator.builds(16)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.out.count("  failed   ") == 10
    assert ended.out.endswith("  and 4 more\n")


def test_prune_that_is_cut_off(operator: Operator) -> None:
    """What went is told, what did not is left for next time, and the exit code is 1."""
    operator.builds(6)
    operator.emulator.faults.add(Status(503), kind="manifest_delete", skip=2)

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "2", "-o", "json")

    assert ended.code == 1
    assert ended.err.startswith(f"error: {operator.name}: DELETE ")
    assert ended.err.count("\n") == 1
    assert len(ended.document["delete"]) == 2
    assert [one.get("outcome") for one in ended.document["keep"]] == [None, None, "left", "left"]


def test_prune_that_is_cut_off_between_tags_and_image(operator: Operator) -> None:
    """Tags that went for nothing are told, with the image that is still there and what it means for the next run."""
    operator.builds(6)
    digest = operator.emulator.store.tags(operator.name)["build-5"]
    operator.emulator.faults.add(Status(500), method="DELETE", path="/sha256:")

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "1")

    assert ended.code == 1
    assert operator.tags == {f"build-{at}" for at in range(5)}
    assert "\ndeleted 0 manifests, " in ended.out
    assert ended.out.endswith(
        "\nnot deleted: 4 not begun or not finished\n"
        "lost 1 tag of 1 manifest that was not deleted; without tags the next run judges it as untagged\n"
        f"  left     {digest[7:19]} without build-5\n"
    )
    assert "\n(untagged)" in operator.plan(*RETIRING).out


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(Status(400, DANGLING_PARENT), "refused"), (Status(405, "UNSUPPORTED"), "failed"), (Status(500), "left")],
    ids=["refused", "failed", "left"],
)
def test_document_names_tags_that_went_for_nothing(operator: Operator, fault: Status, outcome: str) -> None:
    """What an entry of the document has in ``tags`` is there; ``lost_tags`` are those that no longer are."""
    operator.builds(2)
    image_of_three = image("three")
    digest = operator.load(image_of_three, ["a", "b", "c"], days=9)
    operator.emulator.faults.add(fault, method="DELETE", path="/sha256:")

    ended = operator.prune(*RETIRING, "--yes", "--time-limit", "1", "-o", "json")

    *others, entry = ended.document["keep"]
    assert (entry["digest"], entry["outcome"]) == (digest, outcome)
    assert (entry["tags"], entry["lost_tags"]) == ([], ["a", "b", "c"])
    assert [one.get("lost_tags") for one in others] == [None, None]
    assert operator.tags == {"build-0", "build-1"}


def test_image_that_keeps_some_of_its_tags(operator: Operator) -> None:
    """A tag that cannot be deleted stays, and so does the image; only what went before it is lost."""
    operator.builds(2)
    operator.load(image("three"), ["a", "b", "c"], days=9)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE", path="/b$")

    entry = operator.prune(*RETIRING, "--yes", "-o", "json").document["keep"][-1]

    assert (entry["outcome"], entry["tags"], entry["lost_tags"]) == ("failed", ["b", "c"], ["a"])
    assert operator.tags == {"build-0", "build-1", "b", "c"}


def test_what_left_means_is_told(operator: Operator) -> None:
    """Neither the help nor the page says that what is left was not begun; both name the tags that were deleted."""
    text, shown = (
        page("docs/command-line.md").section("What could not be deleted"),
        operator.call("prune", "--help").out,
    )
    row = next(line for line in text.splitlines() if line.startswith("| `left` |"))

    assert "not begun, or did not end" in row
    assert "left (not begun, or not ended" in " ".join(shown.split())
    assert "lost_tags" in text
    assert "lost_tags" in shown


def test_prune_beyond_the_time_limit(operator: Operator) -> None:
    """No further deletion begins, and the line says how to go on."""
    operator.builds(12)
    operator.emulator.faults.latency_s = 0.15

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "1")

    assert ended.code == 1
    assert "the time limit is reached" in ended.err
    assert ended.err.endswith("run the same command again, or use a longer --time-limit\n")
    assert 2 < len(operator.tags) < 12


def test_prune_where_a_tag_moves(operator: Operator) -> None:
    """CI moves a tag between the plan and its end: the tag stays, and what it names now."""
    operator.builds(4)
    newest = operator.emulator.store.tags(operator.name)["build-0"]

    def move() -> None:
        operator.emulator.store.tag(operator.name, "build-3", newest)

    operator.emulator.faults.add(Before(move), kind="manifest_head", path="build-3", nth=1)

    ended = operator.prune(*RETIRING, "--yes", "-o", "json")

    assert ended.code == 0
    assert "build-3" in operator.tags
    outcomes = {one["tags"][0]: one.get("outcome") for one in ended.document["keep"]}
    assert outcomes == {"build-0": None, "build-1": None, "build-3": "kept"}


def test_prune_where_something_is_wanted_after_all(operator: Operator) -> None:
    """Somebody gives an image a name while somebody else thinks: it stays, and is told as kept."""
    operator.builds(4)

    def release() -> None:
        digest = operator.emulator.store.tags(operator.name)["build-2"]
        operator.emulator.store.tag(operator.name, "v1", digest)

    operator.answers(yes, release)

    ended = operator.prune("--match", "build-.*", "--keep", "2", "-o", "json")

    assert (ended.code, operator.tags) == (0, {"build-0", "build-1", "build-2", "v1"})
    assert [one.get("outcome") for one in ended.document["keep"]] == [None, None, "kept"]


def test_prune_beside_the_function(operator: Operator) -> None:
    """What another run has deleted while somebody was thinking is gone, told as gone, and not counted as deleted."""
    operator.builds(4)

    def others() -> None:
        for tag in ("build-2", "build-3"):
            operator.emulator.store.force_delete(
                operator.name, operator.emulator.store.delete_tag(operator.name, tag)
            )

    operator.answers(yes, others)

    ended = operator.prune(*RETIRING, "-o", "json")

    assert ended.code == 0
    assert ended.document["delete"] == []
    assert [one.get("outcome") for one in ended.document["keep"]] == [None, None, "gone", "gone"]
    summary = ended.document["summary"]
    assert (summary["deleted"], summary["bytes"], summary["kept"]) == (0, 0, 2)


def test_prune_leaves_whole_images(operator: Operator) -> None:
    """Signed, attested, multi-platform: what is kept keeps its parts."""
    kept = []
    for at in range(6):
        built = multi_arch(f"m{at}", attestations=True)
        digest = operator.load(built, [f"build-{at}"], days=1 + at)
        operator.load(cosign_signature(built), [cosign_tag(built)], days=1 + at)
        kept += [digest] if at < 2 else []
    before = Held.now(operator.emulator.store, operator.name)

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 0
    assert "delete  4 images (24 manifests), up to " in ended.out
    assert_whole(before, operator.emulator.store, operator.name, kept)
    assert len(operator.emulator.store.digests(operator.name)) == 12


def test_prune_of_a_repository_that_vanishes(operator: Operator) -> None:
    """Somebody removes it while somebody else thinks: nothing is left to do."""
    operator.builds(4)
    operator.answers(yes, lambda: operator.emulator.store.remove_repository(operator.name))

    ended = operator.prune(*RETIRING)

    assert ended.code == 0
    assert ended.err == f"{operator.name}: no such repository\n"
    assert re.search(r"\ndeleted 0 manifests, up to 0 B, in [0-9.]+ s\nnot deleted: 2 already gone\n$", ended.out)


def test_sweep_of_a_repository_that_vanishes(operator: Operator) -> None:
    """Its row says how it ended, and nothing of it counts as deleted."""
    operator.builds(4)
    operator.builds(3, "acme/web")
    operator.answers(yes, lambda: operator.emulator.store.remove_repository(operator.name))

    ended = operator.call("sweep", operator.emulator.name("acme"), *RETIRING, "--local")

    rows = [line.split() for line in ended.out.rpartition("\n\nREPOSITORY ")[2].splitlines()]
    assert rows[0] == ["KEPT", "DELETED", "REFUSED", "FAILED", "SIZE", "END"]
    assert rows[1] == [operator.name, "not", "found"]
    assert rows[2][:5] == [operator.emulator.name("acme/web"), "2", "1", "0", "0"]
    assert rows[-1][:5] == ["deleted", "1", "manifest", "of", "2"]
    assert (ended.code, ended.err) == (0, f"{operator.name}: no such repository\n")


def test_sweep_beside_the_function(operator: Operator) -> None:
    """What another process has deleted has a column of its own."""
    operator.builds(4)
    operator.builds(3, "acme/web")
    store = operator.emulator.store
    operator.answers(yes, lambda: store.force_delete(operator.name, store.delete_tag(operator.name, "build-3")))

    ended = operator.call("sweep", operator.emulator.name("acme"), *RETIRING, "--local")

    rows = [line.split() for line in ended.out.rpartition("\n\nREPOSITORY ")[2].splitlines()]
    assert rows[0] == ["KEPT", "DELETED", "REFUSED", "FAILED", "GONE", "SIZE"]
    assert rows[1][:6] == [operator.name, "2", "1", "0", "0", "1"]
    assert rows[-1][:5] == ["deleted", "2", "manifests", "of", "2"]
