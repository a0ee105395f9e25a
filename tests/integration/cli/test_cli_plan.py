"""``plan`` over a real registry's socket: what it says, and that it deletes nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.emulator.images import cosign_signature, cosign_tag, image, index, multi_arch
from tests.support.command_line import RETIRING, Operator, one_line


def test_plan_deletes_nothing(operator: Operator) -> None:
    """It asks for a token that is good for reading, and sends no DELETE."""
    operator.builds(4)
    operator.emulator.behaviour.auth = True

    assert operator.plan(*RETIRING).code == 0

    assert [one.path.rpartition(":")[2] for one in operator.emulator.log.of("token")] == ["pull"]
    assert operator.deletions == 0
    assert operator.tags == {f"build-{at}" for at in range(4)}


def test_plan_as_a_document(operator: Operator) -> None:
    """One JSON document on stdout and nothing on stderr."""
    operator.builds(4)

    ended = operator.plan(*RETIRING, "-o", "json")

    assert (ended.code, ended.err) == (0, "")
    assert list(ended.document) == ["repository", "dry_run", "policy", "keep", "delete", "summary"]
    assert ended.document["repository"] == operator.name
    assert ended.document["dry_run"] is True
    assert ended.tags("keep") == ["build-0", "build-1"]
    assert ended.tags("delete") == ["build-2", "build-3"]
    assert list(ended.document["keep"][0]) == [
        *("digest", "tags", "uploaded", "size", "media_type", "reason", "rule", "rank", "pool")
    ]
    assert [one["rank"] for key in ("keep", "delete") for one in ended.document[key]] == [1, 2, 3, 4]
    assert datetime.fromisoformat(ended.document["keep"][0]["uploaded"]).utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("given", "days"),
    [([], [2, 3, 4]), (["--only", "delete"], [2, 3, 4]), (["--limit", "2"], [2, 4]), (["--sort", "age"], [3, 2, 4])],
)
def test_document_is_newest_first(operator: Operator, given: list[str], days: list[int]) -> None:
    """Whichever images are wanted, unless an order is: then each image has what belongs to it behind it."""
    part = image("part")
    operator.load(part, days=4)
    operator.load(image("older"), "older", days=3)
    operator.load(index([part]), "old", days=2)
    operator.load(image("new"), "new", days=1)

    document = operator.plan("--keep", "1", "-o", "json", *given).document

    ages = [datetime.now(UTC) - datetime.fromisoformat(one["uploaded"]) for one in document["delete"]]
    assert [age.days for age in ages] == days


def test_plan_as_a_table(operator: Operator) -> None:
    """The repository, the policy in force, a line for each image, a summary; plain text where nobody sees colours."""
    operator.builds(3)

    lines = operator.plan(*RETIRING).out.splitlines()

    assert lines[0] == operator.name
    assert lines[1] == "flags: min_age 1h; tagged[0] (.*): keep 2; untagged: keep 5; orphans: keep all"
    assert [line.split()[0] for line in lines[3:7]] == ["TAGS", "build-0", "build-1", "build-2"]
    assert lines[6].endswith("delete  tagged[0]  expired: 3rd, keep 2")
    assert lines[8] == "keep    2 images: 2 newest"
    assert lines[9].startswith("delete  1 image, up to ")
    assert "\x1b" not in "".join(lines)


def test_plan_without_a_policy_takes_the_default_policy(operator: Operator) -> None:
    """Tagged images are kept, and the five newest untagged ones; the output says which policy it is."""
    for at in range(7):
        operator.load(image(f"untagged {at}"), days=1 + at)
    operator.builds(7)

    ended = operator.plan()

    assert "default policy: min_age 1h; tagged: no rules; untagged: keep 5; orphans: keep all" in ended.out
    assert "keep    12 images: 7 unmatched, 5 newest" in ended.out
    assert "delete  2 images, up to " in ended.out


def test_plan_of_a_repository_that_is_not_there(operator: Operator) -> None:
    """There is nothing to prune; a document is a document all the same."""
    ended = operator.plan()
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"{operator.name}: no such repository\n"

    ended = operator.plan("-o", "json")
    assert ended.document == {
        "repository": operator.name,
        "dry_run": True,
        "policy": None,
        "keep": [],
        "delete": [],
        "summary": {"kept": 0, "deleted": 0, "bytes": 0, "kept_bytes": 0, "reasons": {}},
    }


def test_plan_unfolds(operator: Operator) -> None:
    """What belongs to an image is one column, or one line each."""
    built = multi_arch("m", attestations=True)
    operator.load(built, ["v1"], days=2)
    operator.load(cosign_signature(built), [cosign_tag(built)], days=2)

    folded, unfolded = operator.plan().out, operator.plan("--all").out

    assert "amd64, arm64  2 attestations, 1 signature  keep  unmatched" in folded
    assert "linux/arm64" not in folded
    assert [line.split()[0] for line in unfolded.splitlines() if line.startswith("  ")] == [
        "linux/amd64",
        "linux/arm64",
        "attestation",
        "attestation",
        "signature",
    ]


def test_plan_explains(operator: Operator) -> None:
    """By tag or by digest, as the table shows it; a name of nothing is an error."""
    operator.builds(4)
    digest = operator.emulator.store.tags(operator.name)["build-3"]

    by_tag = operator.plan(*RETIRING, "--explain", "build-3")
    by_digest = operator.plan(*RETIRING, "--explain", digest[7:15])

    assert by_tag == by_digest
    assert by_tag.out.startswith(f"{operator.name}@{digest}\n")
    assert "newest         Its rank in tagged[0] (.*) is 4, and keep is 2." in by_tag.out
    said = " ".join(by_tag.out.split())
    assert said.endswith(
        "It is deleted, as expired: no rule keeps it; its rank in tagged[0] (.*) is 4, and the rule has keep 2."
    )
    ended = operator.plan("--explain", "biuld-3")
    said = "no manifest has the tag or digest 'biuld-3'; did you mean build-3, "
    assert (ended.code, said in one_line(ended)) == (1, True)


def test_plan_knows_what_is_running(operator: Operator) -> None:
    """Who runs an image is told in all three ways."""
    operator.builds(4)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", f"{operator.emulator.url}/")
    operator.emulator.behaviour.assets = {
        "projects/acme": [
            {
                "name": "//container.googleapis.com/projects/acme/zones/z/clusters/c/k8s/namespaces/prod/pods/api",
                "assetType": "k8s.io/Pod",
                "resource": {"data": {"spec": {"containers": [{"image": f"{operator.name}:build-3"}]}}},
            }
        ]
    }
    scopes = ("--running-scopes", "projects/acme")

    table = operator.plan(*RETIRING, *scopes)
    document = operator.plan(*RETIRING, *scopes, "-o", "json").document
    explained = operator.plan(*RETIRING, *scopes, "--explain", "build-3")

    assert "keep               running: Pod prod/api" in table.out
    assert document["keep"][-1]["running"] == "Pod prod/api"
    assert "yes  running        Pod prod/api runs it." in explained.out
    operator.monkeypatch.setenv("RUNNING_SCOPES", "projects/acme")
    assert operator.plan(*RETIRING).out == table.out


def test_explanation_where_nothing_is_deleted(operator: Operator) -> None:
    """What is deployed is then not requested, although there are scopes."""
    operator.builds(2)
    operator.monkeypatch.setenv("RUNNING_SCOPES", "projects/acme")

    asked = operator.plan(*RETIRING, "--explain", "build-1")
    operator.monkeypatch.delenv("RUNNING_SCOPES")
    not_asked = operator.plan(*RETIRING, "--explain", "build-1")

    assert re.search(r"  no +running +Not checked, as nothing would be deleted anyway.\n", asked.out)
    assert re.search(r"  no +running +Not checked, without --running-scopes.\n", not_asked.out)


def test_plan_fails_where_it_is_not_known_what_runs(operator: Operator) -> None:
    """Nothing is planned on half an answer; the missing permission is named."""
    operator.builds(4)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    operator.emulator.behaviour.denied_scopes = {"projects/acme"}

    ended = operator.plan(*RETIRING, "--running-scopes", "projects/acme")

    assert ended.code == 1
    assert "cloudasset.assets.listResource" in one_line(ended)


def test_after_the_listing_nothing_is_asked_twice(operator: Operator) -> None:
    """A prune reads what manifests name once: the second listing finds them remembered."""
    for at in range(4):
        operator.load(multi_arch(f"m{at}"), [f"build-{at}"], days=1 + at)

    assert operator.prune(*RETIRING, "--yes").code == 0

    assert len(operator.emulator.log.of("manifest_get")) == 4
    assert len(operator.emulator.log.of("tags_list")) == 2
