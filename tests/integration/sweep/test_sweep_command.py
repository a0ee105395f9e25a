"""``sweep`` on the command line: what it would ask for, and what it prunes from here."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.emulator.faults import Delay, Status
from tests.support.sweeping import POLICY, builds, call, tags


def test_command_lists_what_it_would_ask_for(emulator: Emulator, acme: str, policies: str) -> None:
    """A name a line on stdout, for other programs; the rest on stderr."""
    ended = call(emulator, acme, "--policies", policies, "--dry-run")

    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [f"{acme}/api", f"{acme}/app", f"{acme}/web"]
    assert ended.stderr == f"{policies} matches 3 repositories under {acme}; nothing was published\n"


def test_yes_without_local_has_no_effect(emulator: Emulator, acme: str, policies: str) -> None:
    """``--yes`` answers a question of ``--local``; elsewhere a note says that, and nothing else changes."""
    without, given = (call(emulator, acme, "--policies", policies, "--dry-run", *yes) for yes in ((), ("--yes",)))

    assert (given.returncode, given.stdout) == (0, without.stdout)
    assert given.stderr == f"--yes has no effect without --local\n{without.stderr}"


def test_command_prunes_from_here(emulator: Emulator, acme: str, policies: str) -> None:
    """Each by its policy: one only reports, one is left alone."""
    ended = call(emulator, acme, "--policies", policies, "--local", "--yes")

    assert (ended.returncode, ended.stderr) == (0, "")
    overview, done = ended.stdout.split("\n\nREPOSITORY ")[0], ended.stdout.rpartition("\nREPOSITORY ")[2]
    kept, all_of_them = ["build-0", "build-1"], [f"build-{at}" for at in range(4)]
    assert [tags(emulator, f"{acme}/{one}") for one in ("api", "app")] == [kept, kept]
    assert [tags(emulator, f"{acme}/{one}") for one in ("web", "legacy")] == [all_of_them, all_of_them]
    shown = {row[0]: row[1:3] for row in map(str.split, overview.splitlines()[1:4])}
    assert shown == {f"{acme}/{one}": ["2", "2"] for one in ("api", "app", "web")}
    assert overview.count("dry run") == 1
    rows = [line.split() for line in done.splitlines()]
    assert [row[:5] for row in rows[1:3]] == [[f"{acme}/{one}", "2", "2", "0", "0"] for one in ("api", "app")]
    assert done.splitlines()[-1].startswith("deleted 4 manifests of 2 repositories, up to ")


def test_command_tells_how_much_would_go(emulator: Emulator, acme: str, policies: str) -> None:
    """For each repository, as ``plan`` does, without a question and without a deletion."""
    ended = call(emulator, acme, "--policies", policies, "--local", "--dry-run")

    assert (ended.returncode, ended.stderr) == (0, "nothing was deleted: --dry-run\n")
    assert ended.stdout.count("dry run") == 1
    assert "3 repositories: keep 6 images, delete 6 images, " in ended.stdout
    assert {one.method for one in emulator.log.entries} == {"GET"}


def test_command_through_a_pipe(emulator: Emulator, policies: str) -> None:
    """A row is one line with whole names, whatever width is said."""
    acme = emulator.name("acme")
    builds(emulator, f"{acme}/a-service-of-the-platform")
    emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", COLUMNS="40")

    assert ended.returncode == 1
    rows = [line.split() for line in ended.stdout.splitlines() if line.startswith(acme)]
    assert [row[0] for row in rows] == [f"{acme}/a-service-of-the-platform"] * 2
    assert rows[1][1:] == ["2", "0", "0", "2"]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("us-docker.pkg.dev/acme.com", "us-docker.pkg.dev/DOMAIN/PROJECT[/REPOSITORY], or a path under it"),
        ("gcr.io/acme.com", "gcr.io/DOMAIN/PROJECT, or a path under it"),
    ],
)
def test_command_with_a_root_that_is_none(emulator: Emulator, policies: str, root: str, said: str) -> None:
    """A name that is invalid, so exit code 2 before anybody is asked for anything."""
    for more in (("--dry-run",), ("--local", "--yes"), ("--topic", "projects/demo/topics/requests")):
        ended = call(emulator, root, "--policies", policies, *more)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"error: {root!r} is not a root; a root is {said}\n"
    assert emulator.log.total == 0


def test_command_needs_yes_to_prune_from_here(emulator: Emulator, acme: str, policies: str) -> None:
    """There is nobody to ask; nobody is asked for anything."""
    ended = call(emulator, acme, "--policies", policies, "--local")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "use --yes, or run plan for a preview" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert emulator.log.total == 0


@pytest.mark.parametrize("skip", [1, 2], ids=["planning", "pruning"])
def test_command_goes_on_behind_a_failure(emulator: Emulator, acme: str, policies: str, skip: int) -> None:
    """One repository that cannot be read keeps no other from being pruned; the exit code is 1."""
    emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/api/tags", skip=skip)

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes")

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {acme}/api: the listing: denied: ")
    assert ended.stderr.count("\n") == 1
    assert tags(emulator, f"{acme}/app") == ["build-0", "build-1"]
    row = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith(f"{acme}/api "))
    assert (row.split()[1] == "error", "denied" in row) == (skip == 2, skip == 1)


def test_command_names_tags_that_went_for_nothing(emulator: Emulator, acme: str, policies: str) -> None:
    """Behind the table, by repository and image, with what it means for the next run."""
    digests = {tag: emulator.store.tags(f"{acme}/api")[tag] for tag in ("build-2", "build-3")}
    emulator.faults.add(Status(405, "UNSUPPORTED"), method="DELETE", path="acme/api/manifests/sha256:")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", COLUMNS="200")

    assert ended.returncode == 1
    assert tags(emulator, f"{acme}/api") == ["build-0", "build-1"]
    heading, *named = ended.stdout.splitlines()[-3:]
    assert heading == (
        f"{acme}/api: lost 2 tags of 2 manifests that were not deleted;"
        " without tags the next run judges them as untagged"
    )
    assert sorted(named) == sorted(f"  failed   {digest[7:19]} without {tag}" for tag, digest in digests.items())


def test_command_finds_nothing(emulator: Emulator, policies: str) -> None:
    """No error, one line."""
    ended = call(emulator, "us-docker.pkg.dev/acme/none", "--policies", policies, "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "us-docker.pkg.dev/acme/none: no such repository\n"

    ended = call(emulator, emulator.name("none"), "--policies", policies, "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"no repository under {emulator.name('none')} is matched by {policies}\n"


@pytest.mark.parametrize(("output", "written"), [("json", "[]\n"), ("jsonl", "")])
def test_document_where_nothing_is_found(emulator: Emulator, policies: str, output: str, written: str) -> None:
    """An array of no repositories, or no line: also of a root that does not exist, and whatever would be done."""
    for root in (emulator.name("none"), "us-docker.pkg.dev/acme/none"):
        for how in (("--dry-run",), ("--local", "--yes")):
            assert call(emulator, root, "--policies", policies, *how, "-o", output).stdout == written


def test_command_without_credentials_for_the_topic(
    emulator: Emulator, acme: str, policies: str, tmp_path: Path
) -> None:
    """One line, which says how to get some."""
    missing = str(tmp_path / "none.json")
    topic = "projects/demo/topics/requests"

    ended = call(emulator, acme, "--policies", policies, "--topic", topic, GOOGLE_APPLICATION_CREDENTIALS=missing)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: no usable application default credentials; run: gcloud auth application-default login\n"
    )


def test_command_without_an_answer_of_the_topic(emulator: Emulator, acme: str, policies: str) -> None:
    """Pub/Sub is out of reach: one line says so, and what to check."""
    topic = "projects/demo/topics/requests"
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

    ended = call(
        emulator, acme, "--policies", policies, "--topic", topic, "--time-limit", "2", PUBSUB_EMULATOR_HOST=host
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"error: {topic}: no response from Pub/Sub in time, after several attempts:"
        " check the host's name and the network, or try again later\n"
    )


def test_command_without_a_place_for_the_requests(emulator: Emulator, policies: str) -> None:
    """Exit code 2, and what could be meant."""
    for given, said in (
        ((), "specify --topic projects/P/topics/T, or --local"),
        (("--topic", "requests"), "must be projects/P/topics/T"),
        (("--topic", "projects/p/topics/ttt", "--local"), "--topic cannot be combined with --local"),
    ):
        ended = call(emulator, "gcr.io/acme", "--policies", policies, *given)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert ended.stderr.endswith(" sweep --help)\n")
        assert ended.stderr.count("\n") == 1
    ended = call(emulator, "gcr.io/acme", "--policies", policies, REQUESTS_TOPIC="requests")
    assert ended.stderr == "error: REQUESTS_TOPIC: must be projects/P/topics/T, not 'requests'\n"


def test_documents_of_what_was_done(emulator: Emulator, acme: str, policies: str) -> None:
    """One for each repository: what was deleted, what was not and why, and what was only reported."""
    digest = emulator.store.tags(f"{acme}/api")["build-3"]
    emulator.faults.add(Status(405, "UNSUPPORTED"), method="DELETE", path=f"acme/api/manifests/{digest}")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", "-o", "json")

    documents = {one["repository"].rpartition("/")[2]: one for one in json.loads(ended.stdout)}
    assert ended.returncode == 1
    assert {name: one["dry_run"] for name, one in documents.items()} == {"api": False, "app": False, "web": True}
    assert [one.get("outcome") for one in documents["api"]["keep"]] == [None, None, "failed"]
    assert [one["tags"] for one in documents["app"]["delete"]] == [["build-2"], ["build-3"]]
    assert tags(emulator, f"{acme}/app") == ["build-0", "build-1"]


def test_documents_where_nothing_is_left_to_delete(emulator: Emulator, acme: str, policies: str) -> None:
    """It was no dry run, but for the policy that says so."""
    call(emulator, acme, "--policies", policies, "--local", "--yes")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", "-o", "jsonl")

    documents = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {one["repository"].rpartition("/")[2]: (one["dry_run"], len(one["delete"])) for one in documents} == {
        "api": (False, 0),
        "app": (False, 0),
        "web": (True, 2),
    }


def test_documents_of_what_would_be_requested(emulator: Emulator, acme: str, policies: str) -> None:
    """The names."""
    names = call(emulator, acme, "--policies", policies, "--dry-run", "-o", "json")
    plans = call(emulator, acme, "--policies", policies, "--dry-run", "--local", "-o", "jsonl")

    assert json.loads(names.stdout) == [f"{acme}/api", f"{acme}/app", f"{acme}/web"]
    assert {json.loads(line)["repository"] for line in plans.stdout.splitlines()} == {*json.loads(names.stdout)}


def test_command_lists_a_project(emulator: Emulator, policies: str) -> None:
    """All of its repositories in a location, by the REST API."""
    for name in ("us-docker.pkg.dev/acme/apps/a", "us-docker.pkg.dev/acme/more/b", "gcr.io/acme/c"):
        builds(emulator, name, 1)

    ended = call(emulator, "us-docker.pkg.dev/acme", "--policies", policies, "--dry-run")

    assert ended.stdout.splitlines() == ["us-docker.pkg.dev/acme/apps/a", "us-docker.pkg.dev/acme/more/b"]


def test_rule_of_options_needs_local(emulator: Emulator, acme: str) -> None:
    """The function goes by its own policies."""
    refused = call(emulator, acme, "--keep", "2", "--topic", "projects/demo/topics/requests")
    pruned = call(emulator, acme, "--keep", "2", "--local", "--yes")

    assert (refused.returncode, "options for one rule need --local" in refused.stderr) == (2, True)
    assert pruned.returncode == 0
    assert tags(emulator, f"{acme}/legacy") == ["build-0", "build-1"]


def test_what_was_not_begun_is_told(emulator: Emulator, acme: str, policies: str) -> None:
    """After the time limit: how many, and in the table and the documents which."""
    emulator.faults.add(Delay(1.2), kind="manifest_delete")
    given = ("--policies", policies, "--local", "--yes", "--workers", "1", "--time-limit", "1")

    table = call(emulator, acme, *given)
    builds(emulator, f"{acme}/api")
    document = call(emulator, acme, *given, "-o", "json")

    for ended in (table, document):
        assert ended.returncode == 1
        assert ended.stderr.count("the time limit is reached") == 1
        assert ended.stderr.endswith("\nnot begun: 1 repository\n")
    assert re.search(rf"^{acme}/app +not begun$", table.stdout, re.MULTILINE)
    assert "deleted 1 manifest of 1 repository, " in table.stdout
    (app,) = (one for one in json.loads(document.stdout) if one["repository"] == f"{acme}/app")
    assert [one.get("outcome") for one in app["keep"]] == [None, None, "left", "left"]


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_repository_without_a_plan_in_what_was_done(
    emulator: Emulator, acme: str, policies: str, output: str
) -> None:
    """It was no dry run, and the error is on stderr, whatever stdout has."""
    emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/api/tags", skip=1)

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", "-o", output)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {acme}/api: the listing: denied: ")
    assert ended.stderr.count("\n") == 1
    if output != "table":
        text = ended.stdout if output == "json" else f"[{','.join(ended.stdout.splitlines())}]"
        (failed,) = (one for one in json.loads(text) if "error" in one)
        assert (failed["repository"], failed["dry_run"]) == (f"{acme}/api", False)


def test_policies_that_all_only_report(emulator: Emulator, acme: str, tmp_path: Path) -> None:
    """Nobody needs to be asked, and that nothing was deleted is told, with the reason."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"repositories": [f"{acme}/*"], **POLICY, "dry_run": True}]))

    for more in ((), ("--yes",)):
        ended = call(emulator, acme, "--policies", str(path), "--local", *more)
        assert (ended.returncode, ended.stderr) == (0, f"nothing was deleted: dry_run of {path}[0]\n")
        assert "4 repositories: keep 8 images, delete 8 images, " in ended.stdout
    assert {one.method for one in emulator.log.entries} == {"GET"}
