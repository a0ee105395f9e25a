"""The flags of the command line: those for one rule, and how invalid ones are reported."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.command_line import Operator, one_line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "default policy: min_age 1h; tagged: no rules; untagged: keep 5; orphans: keep all"),
        ("--keep 10", "flags: min_age 1h; tagged[0] (.*): keep 10; untagged: keep 5; orphans: keep all"),
        ("--keep 0", "flags: min_age 1h; tagged[0] (.*): keep 0; untagged: keep 5; orphans: keep all"),
        ("--delete-after 30d", "flags: min_age 1h; tagged[0] (.*): keep all, delete_after 30d; untagged: keep 5;"),
        ("--keep-within 36h", "flags: min_age 1h; tagged[0] (.*): keep 0, keep_within 36h; untagged: keep 5;"),
        ("--keep-untagged 0", "flags: min_age 1h; tagged: no rules; untagged: keep 0; orphans: keep all"),
        ("--keep-untagged all", "flags: min_age 1h; tagged: no rules; untagged: keep all; orphans: keep all"),
        ("--min-age 2h", "flags: min_age 2h; tagged: no rules; untagged: keep 5; orphans: keep all"),
        ("--max-deletions 9", "flags: min_age 1h; tagged: no rules; untagged: keep 5; orphans: keep all;"),
        ("--match a.* b --keep 1", "flags: min_age 1h; tagged[0] (a.* or b): keep 1; untagged: keep 5;"),
        (
            "--match (a)-.* --match b --keep all --keep-within 1d --delete-after 2w --keep-untagged 3 --min-age 20m",
            "min_age 20m; tagged[0] ((a)-.* or b): keep all, keep_within 1d, delete_after 2w; untagged: keep 3",
        ),
    ],
)
def test_flags_are_one_policy(operator: Operator, flags: str, said: str) -> None:
    """The flags for tags are one rule, for all tags if no regex is given; the others are keys of the policy."""
    operator.builds(1)

    ended = operator.plan(*flags.split())

    assert (ended.code, "error" in ended.err) == (0, False)
    assert said in " ".join(ended.out.split())


def test_match_counts_by_groups_and_keeps_other_tags(operator: Operator) -> None:
    """``--keep`` counts for each value of the groups; a tag that no regex matches is kept."""
    operator.builds(4)

    by_group = operator.plan("--match", "(build)-[01]", "build-(2)", "--keep", "1", "-o", "json")

    assert by_group.tags("delete") == ["build-1"]
    assert {one["tags"][0]: (one["reason"], one["pool"]) for one in by_group.document["keep"]} == {
        "build-0": ("newest", ["build"]),
        "build-2": ("newest", ["2"]),
        "build-3": ("unmatched", None),
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--keep", "-1"], '--keep: must be an integer of at least 0 or "all", not the number -1'),
        (["--keep", "many"], "--keep: must be an integer of at least 0 or \"all\", not 'many'"),
        (["--keep-untagged", "-1"], "--keep-untagged: must be an integer of at least 0"),
        (["--keep-within", "soon"], "--keep-within: must be a duration like 90m"),
        (["--keep-within", "5"], "--keep-within: must be a duration like 90m"),
        (["--min-age", "5m"], "--min-age: must be 10m or more, not 5m"),
        (["--delete-after", "soon"], "--delete-after: must be a duration like 90m"),
        (
            ["--delete-after", "9d", "--keep", "0"],
            "--delete-after: has no effect where --keep is 0; remove it, or set --keep",
        ),
        (["--delete-after", "2h", "--min-age", "2h"], "--delete-after: 2h must be longer than --min-age"),
        (["--match", "("], "--match: '(' is not a regex in RE2's syntax"),
        (["--match", ".*", "--match", "[", "--keep", "1"], "--match: '[' is not a regex in RE2's syntax"),
        (
            ["--match", "v*", "--keep", "1"],
            "--match: 'v*' looks like a glob; as a regex write 'v.*', or '(?:v)*'",
        ),
        (["--match", "v.*"], "--match: has no effect: it needs --keep, --keep-within or --delete-after"),
        (["--match", "", "--keep", "1"], "--match: must be a regex of 1 to 1000 characters"),
        (["--max-deletions", "0"], "--max-deletions: must be an integer of at least 1"),
        (["--workers", "0"], "--workers: must be a number from 1 to 100"),
        (["--time-limit", "0"], "--time-limit: must be more than 0 seconds"),
        (["--time-limit", "soon"], "--time-limit: must be seconds, or a duration like 90m or 1h30m, not 'soon'"),
        (["--time-limit", "9" * 11], "--time-limit: must be more than 0 seconds and at most ten years"),
        (["--time-limit", "9" * 400], "--time-limit: must be more than 0 seconds and at most ten years"),
        (["--output"], "option '--output' requires an argument"),
        (["--insecure", "localhost"], "--insecure: must be HOST:PORT"),
        (["--insecure", "gcr.io:443"], "--insecure: 'gcr.io:443' is Google's"),
        (["--policies", ""], "--policies: must be the name of a file, or -"),
        (["--running-scopes", "acme"], "--running-scopes: must be projects/P"),
        (["--output", "xml"], "--output: 'xml' is not one of 'table', 'json', 'jsonl'"),
        (["--only", "some"], "--only: 'some' is not one of 'keep', 'delete'"),
        (["--limit", "0"], "--limit: must be a number of at least 1, not '0'"),
        (["--keeep", "1"], "no such option: --keeep; did you mean --keep"),
        (["--match", "keep*", "--keep", "1"], "--match: 'keep*' looks like a glob; as a regex write 'keep.*'"),
        (["--explain", "v1", "--only", "keep", "-a"], "--explain cannot be combined with --only, --all"),
        (["--explain", "v1", "--limit", "1", "--sort", "age"], "--explain cannot be combined with --sort, --limit"),
        (["--html", "-", "--explain", "v1"], "--html - cannot be combined with --explain"),
        (["--html", "-", "-o", "json", "--limit", "1"], "--html - cannot be combined with --output, --limit"),
        (
            ["--policies", "p.json", "--keep", "3", "--min-age", "2h"],
            "--policies cannot be combined with --keep, --min-age",
        ),
    ],
)
def test_bad_flags(operator: Operator, flags: list[str], said: str) -> None:
    """Exit code 2, and a line that names the flag and says what is wrong with it; no request is sent."""
    ended = operator.plan(*flags)

    assert (ended.code, ended.out) == (2, "")
    assert f"error: {said}" in ended.err
    assert all(line.startswith("error: ") for line in ended.err.splitlines())
    assert ended.err.endswith(" plan --help)\n")
    assert operator.emulator.log.total == 0


def test_all_bad_flags_of_a_policy_are_reported(operator: Operator) -> None:
    """One a line, each with its flag."""
    ended = operator.plan("--keep", "x", "--match", "v*", "--min-age", "1m", "--keep-untagged", "y")

    assert ended.code == 2
    assert [line.partition(": ")[2].partition(": ")[0] for line in ended.err.splitlines()] == [
        "--min-age",
        "--keep",
        "--match",
        "--keep-untagged",
    ]


def test_repository_after_match(operator: Operator) -> None:
    """No tag has a slash, so it is no further regex; what has none is one."""
    operator.builds(3)
    host = ("--insecure", operator.emulator.host)

    after = operator.call("plan", *host, "--keep", "2", "--match", "build-[01]", "[^/]+-2", operator.name)
    before = operator.plan("--match", "build-[01]", "--match", "[^/]+-2", "--keep", "2")

    assert after == before
    assert after.code == 0
    assert "tagged[0] (build-[01] or [^/]+-2): keep 2" in after.out
    ended = operator.call("plan", "--keep", "2", "--match", "a.*", "b.*")
    assert (ended.code, "TARGET is missing" in one_line(ended)) == (2, True)


@pytest.mark.parametrize("flag", ["--max-age", "--delete-tags", "--protect-tags", "--group-by"])
def test_flag_of_no_key(operator: Operator, flag: str) -> None:
    """A flag is named as a key of the policy, and no other name is taken for one."""
    ended = operator.plan(flag, "1d")

    assert ended.code == 2
    assert f"no such option: {flag}" in one_line(ended)


@pytest.mark.parametrize(
    "arguments",
    [("plan",), ("prune",), ("check",), ("sweep", "gcr.io/p"), ("burn", "gcr.io/p/x"), ("prune", "a", "b")],
)
def test_missing_arguments(operator: Operator, arguments: tuple[str, ...]) -> None:
    """One line, exit code 2."""
    ended = operator.call(*arguments)

    assert (ended.code, one_line(ended).count(" --help)")) == (2, 1)


def test_file_that_cannot_be_written_is_refused_first(operator: Operator, tmp_path: Path) -> None:
    """Not after minutes of listing; a page that is there is left as it is until there is another."""
    operator.builds(1)
    page = tmp_path / "page.html"
    page.write_text("before")

    for path, said in ((tmp_path / "none" / "page.html", "No such file or directory"), (tmp_path, "Is a directory")):
        ended = operator.plan("--html", str(path))
        assert (ended.code, one_line(ended)) == (2, f"error: {path}: {said}\n")
    assert operator.emulator.log.total == 0
    operator.call("plan", operator.emulator.name("acme/none"), "--explain", "v1", "--html", str(page))
    assert operator.call("plan", "gcr.io/acme/api", "--html", str(tmp_path / "new"), "--time-limit", "1").code == 1
    assert (page.read_text() != "", (tmp_path / "new").exists()) == (True, False)


def test_file_that_a_program_reads(operator: Operator, tmp_path: Path) -> None:
    """A pipe that has a name is opened once: its reader would take the end of the first opening for the end."""
    operator.builds(1)
    os.mkfifo(tmp_path / "pipe")

    with ThreadPoolExecutor(1) as pool:
        text = pool.submit((tmp_path / "pipe").read_text)
        assert operator.plan("--html", str(tmp_path / "pipe")).code == 0

    assert text.result(10).startswith("<!doctype html>")
