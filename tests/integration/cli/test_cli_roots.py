"""``plan`` of roots and of several targets: one row a repository, the largest saving first."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cleaner.cli.session import BoundedTransport
from cleaner.google.transport import RequestBudget
from tests.emulator.faults import Delay, Status
from tests.emulator.images import image, load, raw
from tests.emulator.store import OCI_INDEX
from tests.support.command_line import PATH, RETIRING, Operator, one_line


@pytest.fixture
def acme(operator: Operator) -> str:
    """Three repositories under a root, of which the first has least to delete."""
    for path, count in (("acme/api", 3), ("acme/team/app", 6), ("acme/web", 4)):
        operator.builds(count, path)
    return operator.emulator.name("acme")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()[1:] if line.startswith("127.0.0.1")]


def test_root(operator: Operator, acme: str) -> None:
    """One row a repository, the largest saving first, and totals; nothing is deleted."""
    ended = operator.call("plan", acme, *RETIRING)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].split() == ["REPOSITORY", "KEEP", "DELETE", "FREED", "POLICY"]
    assert [row[:3] for row in rows(ended.out)] == [
        [f"{acme}/team/app", "2", "4"],
        [f"{acme}/web", "2", "2"],
        [f"{acme}/api", "2", "1"],
    ]
    assert ended.out.splitlines()[-1].startswith("3 repositories: keep 6 images, delete 7 images, ")
    assert operator.deletions == 0


def test_several_targets(operator: Operator, acme: str) -> None:
    """Repositories and roots, each repository once."""
    ended = operator.call("plan", f"{acme}/api", f"{acme}/team", f"{acme}/team/app", f"{acme}/api", *RETIRING)

    assert (ended.code, ended.err) == (0, "")
    assert [row[0] for row in rows(ended.out)] == [f"{acme}/team/app", f"{acme}/api"]


def test_name_that_is_repository_and_root(operator: Operator) -> None:
    """What has manifests is a repository; a slash at the end makes it a root."""
    operator.builds(3, "acme")
    operator.builds(4, "acme/api")
    name = operator.emulator.name("acme")

    repository = operator.call("plan", name, *RETIRING)
    root = operator.call("plan", f"{name}/", *RETIRING)

    assert repository.out.startswith(f"{name}\nflags: ")
    assert [row[0] for row in rows(root.out)] == [f"{name}/api", name]


def test_plan_lists_once(operator: Operator, acme: str) -> None:
    """A plan of a repository is one listing, and sends no HEAD."""
    assert operator.call("plan", f"{acme}/api", *RETIRING).code == 0

    assert len(operator.emulator.log.of("tags_list")) == 1
    assert {entry.method for entry in operator.emulator.log.entries} == {"GET"}


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_documents(operator: Operator, acme: str, output: str) -> None:
    """An array, or one document a line, also of a root with one repository."""
    ended = operator.call("plan", acme, *RETIRING, "-o", output)
    one = operator.call("plan", f"{acme}/team", *RETIRING, "-o", output)

    def read(text: str) -> list[dict[str, object]]:
        found = json.loads(text) if output == "json" else [json.loads(line) for line in text.splitlines()]
        assert isinstance(found, list)
        return found

    assert [document["repository"] for document in read(ended.out)] == [
        f"{acme}/{path}" for path in ("team/app", "web", "api")
    ]
    assert read(one.out) == [read(ended.out)[0]]
    keys = ["repository", "dry_run", "policy", "keep", "delete", "summary"]
    assert all(list(document) == keys for document in read(ended.out))


def test_repository_that_cannot_be_read_is_a_row(operator: Operator, acme: str) -> None:
    """The others are planned, the error is in the row and on stderr, and the exit code is 1."""
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags", skip=1)

    ended = operator.call("plan", acme, *RETIRING)

    assert ended.code == 1
    assert one_line_of(ended.err).startswith(f"error: {acme}/web: the listing: denied: ")
    assert [row[0] for row in rows(ended.out)] == [f"{acme}/team/app", f"{acme}/api", f"{acme}/web"]
    assert "denied" in ended.out.splitlines()[3]
    assert ended.out.splitlines()[-1].startswith("3 repositories (1 failed): keep 4 images, delete 5 images, ")


@pytest.mark.parametrize("slash", ["", "/"])
def test_target_that_cannot_be_read_is_a_row(operator: Operator, acme: str, slash: str) -> None:
    """As one that was found under a root; the others are planned."""
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags")

    ended = operator.call("plan", f"{acme}/web{slash}", f"{acme}/team", f"{acme}/api", *RETIRING)

    assert ended.code == 1
    assert one_line_of(ended.err).startswith(f"error: {acme}/web: the listing: denied: ")
    assert [row[0] for row in rows(ended.out)] == [f"{acme}/team/app", f"{acme}/api", f"{acme}/web"]


def test_targets_are_resolved_side_by_side(operator: Operator) -> None:
    """As the repositories under a root."""
    for at in range(8):
        operator.builds(1, f"acme/r{at}")
    operator.emulator.faults.add(Delay(0.25), kind="tags_list", path="/acme/r", skip=0)

    began = time.monotonic()
    assert operator.call("plan", *(operator.emulator.name(f"acme/r{at}") for at in range(8))).code == 0

    assert time.monotonic() - began < 4 * 0.25


def one_line_of(text: str) -> str:
    assert text.count("\n") == 1
    return text


def test_error_names_its_repository(operator: Operator, acme: str) -> None:
    """Also one that is about a manifest, of which any repository may have one."""
    load(operator.emulator.store, f"{acme}/web", raw(b"[]", OCI_INDEX), uploaded=datetime.now(UTC))

    ended = operator.call("plan", acme, *RETIRING)

    assert ended.code == 1
    assert one_line_of(ended.err).startswith(f"error: {acme}/web: manifest sha256:")


def test_error_in_a_document(operator: Operator, acme: str) -> None:
    """It is in ``error``; what is not known is empty."""
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags", skip=1)

    ended = operator.call("plan", acme, *RETIRING, "-o", "json")

    document = json.loads(ended.out)[-1]
    assert ended.code == 1
    assert (document["repository"], document["policy"], document["keep"]) == (f"{acme}/web", None, [])
    assert "denied" in document["error"]


def test_targets_without_a_plan_are_rows(operator: Operator, acme: str, tmp_path: Path) -> None:
    """No policy, no such repository: that is told, and is no failure."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"repositories": [f"{acme}/a*", f"{acme}/none"]}]))

    ended = operator.call("plan", f"{acme}/api", f"{acme}/web", f"{acme}/none", "-p", str(path), "-q")

    assert (ended.code, ended.err) == (0, "")
    notes = {row[0]: " ".join(row[1:]) for row in rows(ended.out)}
    assert notes[f"{acme}/web"] == f"no policy of {path} matches; nothing is deleted"
    assert notes[f"{acme}/none"] == "no such repository"


def test_policies_of_what_is_under_a_name(operator: Operator, acme: str, tmp_path: Path) -> None:
    """A root that no policy matches itself is one all the same; without one for what is under it nothing is sent."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"repositories": [f"{acme}/team/*"]}]))
    assert [row[0] for row in rows(operator.call("plan", acme, "-p", str(path)).out)] == [f"{acme}/team/app"]

    operator.emulator.log.clear()
    ended = operator.call("plan", f"{acme}/api", "-p", str(path))

    assert ended.err.startswith(f"{acme}/api: no policy of {path} matches")
    assert operator.emulator.log.total == 0


def test_name_that_cannot_be_read_is_told(operator: Operator, acme: str) -> None:
    """The function leaves it out as well."""
    plain = operator.call("plan", acme, *RETIRING)
    operator.builds(1, "acme/Upper")

    ended = operator.call("plan", acme, *RETIRING)

    assert (ended.code, ended.out) == (0, plain.out)
    assert ended.err == f"{plain.err}'{operator.emulator.name('acme/Upper')}' is left out: not a repository name\n"


def test_root_with_nothing_under_it(operator: Operator) -> None:
    """One line, no error."""
    ended = operator.call("plan", operator.emulator.name("none/"), *RETIRING)

    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"no repository under {operator.emulator.name('none')}\n"


@pytest.mark.parametrize("command", ["plan", "prune"])
def test_error_of_the_one_repository_is_no_document(operator: Operator, acme: str, command: str) -> None:
    """There is nothing but the error, and the exit code."""
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags")
    yes = ["--yes"] if command == "prune" else []

    ended = operator.call(command, f"{acme}/web", *RETIRING, "-o", "json", *yes)

    assert (ended.code, one_line(ended).startswith(f"error: {acme}/web: the listing: denied: ")) == (1, True)


@pytest.mark.parametrize(("output", "written"), [("json", "[]\n"), ("jsonl", "")])
def test_document_of_a_root_with_nothing_under_it(operator: Operator, output: str, written: str) -> None:
    """An array of no documents, or no line: an empty line is no document."""
    assert operator.call("plan", operator.emulator.name("none/"), *RETIRING, "-o", output).out == written


@pytest.mark.parametrize("given", [("{acme}/",), ("{acme}/api", "{acme}/web"), ("{acme}",)])
def test_explain_is_for_one_repository(operator: Operator, acme: str, given: tuple[str, ...]) -> None:
    """Exit code 2."""
    ended = operator.call("plan", *(one.format(acme=acme) for one in given), "--explain", "build-1")

    assert (ended.code, "one repository" in one_line(ended)) == (2, True)


def test_workers_bound_the_requests_of_all_repositories(operator: Operator) -> None:
    """Repositories are planned side by side, but never with more requests at once."""
    for at in range(8):
        operator.builds(1, f"acme/r{at}")
    root = operator.emulator.name("acme/")
    operator.emulator.faults.add(Delay(0.25), kind="tags_list", path="/acme/r", skip=0)
    seconds = {}
    for workers in ("2", "20"):
        began = time.monotonic()
        assert operator.call("plan", root, "--workers", workers).code == 0
        seconds[workers] = time.monotonic() - began

    # Finding them takes one request after the other.
    found = 8 * 0.25
    assert seconds["2"] > found + 4 * 0.25
    assert seconds["20"] < found + 3 * 0.25


def test_requests_of_all_threads_are_bounded(operator: Operator) -> None:
    """Also of those that read documents, beside those that list."""
    operator.builds(1)
    operator.emulator.faults.add(Delay(0.2), kind="tags_list")
    transport = BoundedTransport(2)
    budget = RequestBudget(transport.clock() + 60)
    url = f"{operator.emulator.url}/v2/{PATH}/tags/list"

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(transport.send, budget, "GET", url, {}, max_bytes=10_000) for _ in range(8)]

    assert [one.result().status for one in sent] == [200] * 8
    assert time.monotonic() - began > 4 * 0.2


def test_what_a_retry_waits_for(operator: Operator) -> None:
    """It is known while it waits, and no longer."""
    operator.emulator.faults.add(Status(503, retry_after=2), kind="tags_list", times=1)
    operator.builds(1)
    transport = BoundedTransport(2)
    seen: list[str] = []

    with ThreadPoolExecutor(1) as pool:
        url = f"{operator.emulator.url}/v2/{PATH}/tags/list"
        budget = RequestBudget(transport.clock() + 60)
        sent = pool.submit(transport.send, budget, "GET", url, {}, max_bytes=10_000)
        while not sent.done():
            seen.append(transport.waiting)
            time.sleep(0.05)

    assert "retrying after status 503 in 2 s" in seen
    assert transport.waiting == ""


def test_rows_that_are_wanted(operator: Operator, acme: str) -> None:
    """Of a repository images, of a root repositories; the totals are those of all."""
    images = operator.plan(*RETIRING, "--only", "delete", "--sort", "age", "--limit", "1")
    operator.load(image("new"), ["keep-me"], days=0.1)
    table = operator.call("plan", acme, *RETIRING, "--limit", "1")
    document = json.loads(operator.call("plan", f"{acme}/web", *RETIRING, "--only", "delete", "-o", "json").out)

    assert [line.split()[0] for line in images.out.splitlines()[3:5]] == ["TAGS", "build-2"]
    assert "\n2 more are not shown\n" in images.out
    assert "keep    2 images: 2 newest" in images.out
    assert [row[0] for row in rows(table.out)] == [f"{acme}/team/app"]
    assert table.out.splitlines()[-1].startswith("3 repositories: ")
    assert ([one["tags"] for one in document["delete"]], document["keep"]) == ([["build-2"], ["build-3"]], [])
    assert document["summary"]["kept"] == 2


def test_age_of_several(operator: Operator, acme: str) -> None:
    """An overview has no ages, and that is said."""
    plain = operator.call("plan", acme, *RETIRING)

    ended = operator.call("plan", acme, *RETIRING, "--sort", "age")

    assert (ended.code, ended.out) == (0, plain.out)
    assert ended.err == f"--sort age has no effect on several repositories\n{plain.err}"


def test_page(operator: Operator, acme: str, tmp_path: Path) -> None:
    """It is written beside the table, or to stdout in its place."""
    path = tmp_path / "page.html"

    beside = operator.call("plan", acme, *RETIRING, "--html", str(path))
    instead = operator.call("plan", f"{acme}/api", *RETIRING, "--html", "-")

    assert (beside.code, beside.err) == (0, f"page written to {path}\n")
    assert len(rows(beside.out)) == 3
    assert all(f"{acme}/{one}" in path.read_text() for one in ("api", "team/app", "web"))
    assert instead.out.startswith("<!doctype html>")
    assert instead.err == ""
    refused = operator.call("plan", acme, "--html", str(tmp_path / "none" / "page.html"))
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"error: {tmp_path}/none/page.html: No such file or directory\n"


def test_page_instead_of_the_table_hides_no_error(operator: Operator, acme: str) -> None:
    """What is said beside the table is said beside the page."""
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags", skip=1)

    ended = operator.call("plan", acme, "--match", "none", "--keep", "2", "--html", "-")

    assert (ended.code, ended.out.count("no plan:")) == (1, 1)
    warning, _, error = ended.err.splitlines()
    assert warning.startswith("warning: flags: tagged[0] (none) matches none of the 6 tags")
    assert error.startswith(f"error: {acme}/web: the listing: denied: ")


def test_policies_of_the_working_directory(operator: Operator, tmp_path: Path) -> None:
    """They decide where nothing else is said, and that is told."""
    operator.builds(4)
    operator.monkeypatch.chdir(tmp_path)
    (tmp_path / "policies.yaml").write_text("- repositories: ['**']\n  tagged: [{match: build-.*, keep: 3}]\n")

    ended = operator.plan()

    assert (ended.code, ended.err) == (0, "policies: policies.yaml in the working directory\n")
    assert "policies.yaml[0]: min_age 1h; tagged[0] (build-.*): keep 3" in ended.out
    assert "flags: " in operator.plan(*RETIRING).out
    assert operator.prune("--yes").code == 0
    assert operator.tags == {"build-0", "build-1", "build-2"}


def test_policies_that_are_a_broken_link(operator: Operator, tmp_path: Path) -> None:
    """They were meant to decide: the default policy does not take their place."""
    operator.builds(1)
    operator.monkeypatch.chdir(tmp_path)
    (tmp_path / "policies.yaml").symlink_to("moved.yaml")

    ended = operator.plan()

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: policies.yaml: No such file or directory\n"


@pytest.mark.parametrize("command", ["prune", "sweep"])
def test_what_deletes_needs_policies(operator: Operator, command: str) -> None:
    """There is no default for them: exit code 2, and no request."""
    operator.builds(1)
    how = ("--yes",) if command == "prune" else ("--local", "--yes")

    ended = operator.call(command, operator.emulator.name(PATH), *how)

    assert (ended.code, one_line(ended).startswith("error: no policies: use --policies FILE")) == (2, True)
    assert operator.emulator.log.total == 0
