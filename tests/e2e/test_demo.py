"""The demo as whoever types ``make demo`` sees it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.documentation import page
from tests.support.processes import Child, is_listening, wait_for
from tests.support.pubsub import pubsub_command
from tests.support.transcripts import Ended, commands as commands_of, difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# "It ends by itself with exit 0 within 30 s after set-up."
LIMIT_S = 30

# Somebody expects of one image of a repository the opposite of what the policy says.
WRONG = """
import sys
from tests.demo import histories as made, stage
from tests.demo.__main__ import main

def histories(host, now, right=made.histories):
    found = right(host, now)
    expected = next(one.expected for one in found if one.path == "{path}")
    digest = next(digest for digest, one in expected.items() if one.is_kept is {is_kept})
    expected[digest] = made.{instead}(expected[digest].reason, "wrong on purpose")
    return found

stage.histories = histories
sys.exit(main())
"""


# The command line does something else than it should.
MEDDLED = """
import sys
from tests.demo.__main__ import main
from tests.demo.stage import Stage

def run(self, *arguments, right=Stage._run, **how):
    command = arguments[0]
    {meddle}
    return right(self, *arguments, **how)

Stage._run = run
sys.exit(main())
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start the demo, or a program about it; in the end no process of it may be left."""
    started: list[Child] = []

    def run(*arguments: str, **environment: str) -> Child:
        # Inherited by whatever it starts, so that this can be found.
        environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100", **environment}
        child = Child("the demo", [sys.executable, *(arguments or ("-m", "tests.demo"))], environment)
        started.append(child)
        return child

    yield run
    try:
        for child in started:
            assert child.returncode is not None
            assert_nothing_left(child, str(tmp_path))
    finally:
        for child in started:
            child.kill()


def assert_nothing_left(child: Child, mark: str) -> None:
    """No process that the demo started runs, and none of the ports that it gave them is open.

    The registry is the demo itself, and its port may be that of another test's by now.
    """
    left = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]
    given = re.findall(r" at 127\.0\.0\.1:([0-9]+)", "\n".join(child.lines))
    listening = [port for port in given if is_listening(int(port))]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert (left, listening) == ([], [])


def commands(mark: str) -> list[str]:
    """What the processes that the demo started were started with."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]
    return [_read(path / "cmdline").replace("\0", " ") for path in found]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def shown_on_the_first_page() -> tuple[str, ...]:
    """What README.md says that ``make demo`` prints."""
    found = [one for block in page("README.md").blocks if block.language == "console" for one in commands_of(block)]
    (command,) = (one for one in found if one.text == "make demo")
    assert command.printed
    return command.printed


def test_shows_the_main_job(start: Callable[..., Child], tmp_path: Path) -> None:
    """Every repository before and after, what was deleted and kept and why, requests and seconds; exit 0 in time.

    A plan comes first, a sweep last.
    """
    demo = start()

    code = demo.wait_for_end(LIMIT_S)

    text = "\n".join(demo.lines)
    assert code == 0, text + "\n".join(demo.errors)
    assert demo.errors == []
    assert difference(shown_on_the_first_page(), Ended(code, text, "")) == ""
    assert "\x1b" not in text, "colours are for a terminal"
    # Through a pipe the rows of plan's table are not cut.
    pushes = next(at for at, line in enumerate(demo.lines) if line.startswith("The pushes ─"))
    assert max(map(len, demo.lines[pushes:])) <= 100
    for path in (
        "acme/api",
        "acme/jib-service",
        "acme/proxy",
        "acme/gateway",
        "acme/signatures",
        "acme/vendor",
        "acme/attic",
    ):
        assert re.search(rf"^{path}: .*─", text, re.MULTILINE), path
    assert text.count("Before, with the push") == 6
    assert text.count("\nBefore\n") == 1
    assert text.count("\nAfter") == 7
    for line in (
        r"main-e4d909c \w{8} +now +kept +too-young +the push",
        r"main-81fe2d0 \w{8} +3 d +deleted +expired +3rd newest of main",
        r"main-5b0c7aa, v1\.4\.2 \w{8} +6 d +kept +protected +a release",
        r"release-1-7c0ffee \w{8} +100 d +deleted +expired +newest of release-1, but over 90 days old",
        r"pr-41-9d0c77e \w{8} +45 d +deleted +expired +newest of pr-41, but over 14 days old",
        r"debug \w{8} +200 d +kept +unmatched",
        r"\(no tag\) ca978112 +\d+ y +deleted +expired",
        r"├─ linux/arm64 \w{8} +5 d +kept +needed +v1\.4\.2 needs it",
        r"└─ signature \w{8} +5 d +deleted +follows",
        r"signature \w{8} +33 d +deleted +orphaned",
        r"└─ linux/amd64, linux/arm64, 2 attestations, signature, SBOM",
        r"8 of 27 manifests deleted, 41 MB: 8 messages, [12] runs?, \d+ requests, \d\.\d\d s",
        r"\(no tag\) index \w{8} +2 d +kept +needed +follows main-66ad01e",
        r"\(no tag\) index \w{8} +4 d +deleted +follows +follows main-1f90d3b",
        r"8 of 19 manifests deleted, \d+ MB: 4 messages",
        r"\(no tag\) \w{8} +300 d +kept +protected +its subject is elsewhere",
        r"untouched: 2 messages, no request",
        r"nightly-410 \w{8} +192 d +deleted +expired +3rd newest nightly",
        r"nightly-409, v0\.9\.0 \w{8} +193 d +kept +protected +a release",
        r"3 of 6 manifests deleted, 225 MB: (1 message|no messages), 1 run, \d+ requests, \d\.\d\d s",
        r"The sweep asked for 6 repositories, this one among them; the other 5 had nothing more to delete\.",
        r"\nacme/attic +[01] +1 +\d+ +\d\.\d\d +3 +3 +225 MB",
        r"36 messages, acknowledged with no requests to the registry",
    ):
        assert re.search(line, text), line
    plan = text[text.index("Before anything happens") : text.index("The pushes ─")]
    assert re.search(r"^\$ registry-cleaner plan \S+/acme/proxy \\\n +--policies \S+ --insecure \S+$", plan, re.M)
    assert re.search(r"^main-2ab4e90 +sha256:b03bdf61.* keep +tagged\[1\] +newest: 2nd, keep 2$", plan, re.M), (
        "before the push it is kept"
    )
    assert re.search(r"^delete  1 image and 1 orphan \(4 manifests\), up to", plan, re.M)
    assert (
        text.index("no request\n") < text.index("And a sweep") < text.index("acme/attic: ") < text.index("All in all")
    )
    assert demo.lines[-1].startswith("What is left is what the policies say.")
    assert str(tmp_path) not in text
    assert str(Path.cwd()) not in text
    if pubsub_command() is not None:
        assert "the Cloud SDK's emulator at 127.0.0.1:" in text
        assert re.search(r' sweep  \{"action":"SWEEP","repository":"127\.0\.0\.1:\d+/acme"\} published\n', text)
        assert "registry-cleaner sweep" not in text


def test_without_pubsub_the_demo_delivers_itself(start: Callable[..., Child], tmp_path: Path) -> None:
    """One line says so, and the picture is the same; the command line sweeps, and one line says that."""
    demo = start(CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 0, demo.tail()

    assert sum("the demo sends the same requests itself" in line for line in demo.lines) == 1
    assert sum("no Pub/Sub: the command line does the same" in line for line in demo.lines) == 1
    text = "\n".join(demo.lines)
    assert re.search(r"^\$ registry-cleaner sweep 127\.0\.0\.1:\d+/acme \\$", text, re.MULTILINE)
    assert "6 repositories: keep " in text
    assert "deleted 3 manifests of 1 repository, up to 225 MB" in text
    assert re.search(r"nightly-410 \w{8} +192 d +deleted +expired +3rd newest nightly", text)
    assert re.search(r"3 of 6 manifests deleted, 225 MB: no messages, 1 run, \d+ requests", text)
    assert "The sweep asked for 6 repositories" in text
    assert "Google announces those deletions too: 36 messages, acknowledged with no requests" in text
    assert demo.lines[-1].startswith("What is left is what the policies say.")


@pytest.mark.parametrize(
    ("path", "is_kept", "instead", "complaint"),
    [
        ("acme/api", True, "deleted", "should be deleted, and is not"),
        ("acme/api", False, "kept", "should be kept, and is not"),
        ("acme/attic", True, "deleted", "should be deleted, and is not"),
    ],
)
def test_what_is_not_as_expected_fails(
    start: Callable[..., Child], tmp_path: Path, path: str, is_kept: bool, instead: str, complaint: str
) -> None:
    """Whether too little or too much was deleted, after a push or a sweep: exit 1, and the image is named."""
    demo = start("-c", WRONG.format(path=path, is_kept=is_kept, instead=instead), CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 1, demo.tail()

    assert re.search(rf"{path}: [a-z]+-\w+ .*wrong on purpose.*: {complaint}", complaints(demo))


def complaints(demo: Child) -> str:
    at = next(at for at, line in enumerate(demo.lines) if "What is left is not what the policies say" in line)
    return " ".join(demo.lines[at + 1 :])


def test_plan_that_deletes_fails(start: Callable[..., Child], tmp_path: Path) -> None:
    """Nothing else happens then."""
    meddle = "if command[0] == 'plan': command[0] = 'prune'; arguments[1].append('--yes')"

    demo = start("-c", MEDDLED.format(meddle=meddle), CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 1, demo.tail()
    assert demo.lines[-1] == "The demo failed: the plan has changed what is in the registry"


def test_command_that_fails_fails_the_demo(start: Callable[..., Child], tmp_path: Path) -> None:
    """With what it said."""
    meddle = "arguments[1][1] = 'none.yaml'"

    demo = start("-c", MEDDLED.format(meddle=meddle), CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 1, demo.tail()
    assert demo.lines[-2] == "The demo failed: plan ended with 2:"
    assert demo.lines[-1].startswith("error: none.yaml: No such file")


def test_sweep_that_does_something_else_fails(start: Callable[..., Child], tmp_path: Path) -> None:
    """It leaves repositories out, and changes another: exit 1, and each is named."""
    meddle = (
        "if command[0] == 'sweep': command[1] += '/attic';"
        " self._emulator.store.remove_repository(self._host + '/acme/vendor')"
    )

    demo = start("-c", MEDDLED.format(meddle=meddle), CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 1, demo.tail()
    said = complaints(demo)
    for path in ("acme/api", "acme/jib-service", "acme/proxy", "acme/gateway", "acme/signatures"):
        assert f"{path}: the sweep has left it out" in said
    assert "acme/vendor: the sweep has changed it, and had no reason to" in said
    assert "acme/attic" not in said


@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGINT, "registry"), (signal.SIGINT, "pushed"), (signal.SIGTERM, "pub/sub"), (signal.SIGINT, "sweep")],
)
def test_a_signal_ends_it_with_all_it_started(
    start: Callable[..., Child], number: signal.Signals, after: str
) -> None:
    """Ctrl-C at any moment leaves no process behind."""
    demo = start()
    demo.wait_for(lambda: any(line.lstrip().startswith(after) for line in demo.lines), f"it says {after}")

    os.kill(demo.pid, number)

    assert ended(demo) == 128 + number


@pytest.mark.parametrize("what", ["plan", "sweep"])
def test_a_signal_ends_a_command(start: Callable[..., Child], tmp_path: Path, what: str) -> None:
    """One that would still be waiting for the registry."""
    meddle = f"self._emulator.faults.latency_s = 60 if command[0] == {what!r} else 0"
    demo = start("-c", MEDDLED.format(meddle=meddle), CLOUDSDK_ROOT_DIR=str(tmp_path))
    command = f"-m cleaner {what} "
    demo.wait_for(lambda: any(command in text for text in commands(str(tmp_path))), f"it runs {command}")

    os.kill(demo.pid, signal.SIGINT)

    assert ended(demo) == 128 + signal.SIGINT


def ended(demo: Child) -> int | None:
    """The exit code, at once: what it left behind could keep its stdout open, and must not be waited for."""
    wait_for(lambda: demo.returncode is not None, "the demo ends", LIMIT_S)
    return demo.returncode
