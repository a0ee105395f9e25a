"""The log of the command line, and streams and disks that fail it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator.faults import Status
from tests.emulator.store import DANGLING_PARENT
from tests.support.command_line import RETIRING, Operator, environment, in_shell, run
from tests.support.processes import ROOT


def test_log_on_demand(operator: Operator) -> None:
    """JSON on stderr, a line each, and stdout is still one document; without the flag there is none."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes", "-o", "json", "-v")

    records = [json.loads(line) for line in ended.err.splitlines()]
    assert [one["message"] for one in records].count("manifest deleted") == 2
    assert len(ended.document["delete"]) == 2
    operator.builds(4)
    assert operator.prune(*RETIRING, "--yes").err == ""


def test_log_of_what_only_shows(operator: Operator) -> None:
    """There is none: the reasons are the result itself."""
    operator.builds(4)

    assert operator.plan(*RETIRING, "-vv").err == ""
    assert operator.prune(*RETIRING, "--dry-run", "-vv").err == "nothing was deleted: --dry-run\n"


def test_quiet(operator: Operator) -> None:
    """Notes and warnings are left out; results and errors are not."""
    operator.builds(4)

    for given in (("--match", "v1", "--keep", "2"), ("--dry-run", *RETIRING)):
        command = operator.prune if "--dry-run" in given else operator.plan
        told, quiet = command(*given), command(*given, "-q")
        assert told.err
        assert (quiet.code, quiet.out, quiet.err) == (0, told.out, "")
    assert operator.plan("--explain", "v9", "-q").err.startswith("error: ")


def test_quiet_hides_no_failure(operator: Operator) -> None:
    """What the registry said is told in the end."""
    operator.builds(3)
    operator.emulator.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete")

    ended = operator.prune(*RETIRING, "--yes", "-q")

    assert ended.err == ""
    assert f": 400 {DANGLING_PARENT}" in ended.out


@pytest.mark.parametrize("what", ["plan", "large plan", "help"])
def test_pipe_that_nobody_reads(operator: Operator, what: str) -> None:
    """``| head`` ends it without a word."""
    operator.builds(400 if what == "large plan" else 1)
    given = "--help" if what == "help" else f"plan {operator.name}"
    # The reader is gone before anything is written.
    command = f"{{ sleep 0.1; {sys.executable} -m cleaner {given}; echo $? >&2; }} | true"

    ended = in_shell(command, operator)

    assert ended.stderr == "141\n"


@pytest.mark.parametrize("given", ["plan", "prune --yes", "--help"])
@pytest.mark.parametrize(
    ("streams", "said"),
    [
        (">/dev/full", "error: stdout: No space left on device\n"),
        (">&-", "error: stdout: Bad file descriptor\n"),
        (">&- 2>&- <&-", ""),
        (">&- 2>/dev/full", ""),
    ],
)
def test_stdout_that_takes_nothing(operator: Operator, given: str, streams: str, said: str) -> None:
    """A full disk, no stdout at all: exit code 1 and one line, and nothing goes that could not be shown."""
    operator.builds(3)
    name = "" if given.startswith("--") else operator.name
    flags = f"{name} {shlex.join(RETIRING)}" if name else ""

    ended = in_shell(f"{sys.executable} -m cleaner {given} {flags} {streams}", operator)

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)
    assert operator.deletions == 0


def test_no_stderr_and_no_stdin(operator: Operator) -> None:
    """What would be said there is lost, and the result is not; nobody there is nobody to ask."""
    operator.builds(3)
    command = f"{sys.executable} -m cleaner"

    for streams in ("2>&-", "2>/dev/full", "2>&- <&-"):
        assert in_shell(f"{command} plan {operator.name} -o json {streams}", operator).returncode == 0
    assert in_shell(f"{command} prune {operator.name} 2>&- <&-", operator).returncode == 2
    ended = in_shell(f"{command} plan {operator.name} --policies - <&-", operator)
    assert (ended.returncode, ended.stderr) == (2, "error: stdin: must be an array of at least one policy\n")


SHORT_OF_SPACE = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from cleaner.__main__ import run
run()
"""


def test_disk_that_is_full_in_the_end(operator: Operator, tmp_path: Path) -> None:
    """What was deleted is told on stderr then."""
    operator.builds(4)
    given = ("prune", operator.name, *RETIRING, "--yes", "-o", "json")

    with (tmp_path / "out").open("w") as out:
        ended = subprocess.run(
            [sys.executable, "-c", SHORT_OF_SPACE, *given],
            env=environment(INSECURE_REGISTRIES=operator.emulator.host),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    said, document = ended.stderr.split("\n", 1)
    assert (ended.returncode, said) == (1, "error: stdout: File too large")
    assert [one["tags"] for one in json.loads(document)["delete"]] == [["build-2"], ["build-3"]]
    assert operator.tags == {"build-0", "build-1"}


@pytest.mark.parametrize("missing", ["click", "requests", "cleaner.cli.main"])
def test_interrupted_while_it_starts(missing: str) -> None:
    """Ctrl-C among the imports is one line, by whichever name the command is called."""
    (script,) = re.findall(r'registry-cleaner = "(.+):run"', (ROOT / "pyproject.toml").read_text())
    code = f"""\
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "{missing}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""
    for start in (
        f"import {script}; {script}.run()",
        'import runpy; runpy.run_module("cleaner", run_name="__main__")',
    ):
        ended = run("--help", code=code + start)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_output_that_the_encoding_cannot_spell(operator: Operator) -> None:
    """A terminal of the last century gets a question mark."""
    operator.builds(1)

    ended = run(
        "plan",
        operator.name,
        "--insecure",
        operator.emulator.host,
        "--match",
        "\xe9",
        "--keep",
        "1",
        PYTHONIOENCODING="ascii",
    )

    assert (ended.returncode, "tagged[0] (?) does not match the only tag" in ended.stderr) == (0, True)
    assert "tagged[0] (?): keep 1" in ended.stdout
