"""The demo as whoever types ``make demo`` sees it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.local import Child, is_listening, pubsub_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# "It ends by itself with exit 0 within 30 s after set-up."
LIMIT_S = 30

# Somebody expects of the first image that {stays} the opposite of what the policy says.
WRONG = """
import sys
from tests import demo

def histories(host, now, right=demo.histories):
    found = right(host, now)
    expected = found[0].expected
    digest = next(digest for digest, one in expected.items() if one.stays is {stays})
    expected[digest] = demo.{instead}(expected[digest].reason, "wrong on purpose")
    return found

demo.histories = histories
sys.exit(demo.main())
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
    """No process that the demo started runs, and none of the ports that it has named is open."""
    left = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _environment(path)]
    listening = [
        port for port in re.findall(r"127\.0\.0\.1:([0-9]+)", "\n".join(child.lines)) if is_listening(int(port))
    ]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert (left, listening) == ([], [])


def _environment(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_shows_the_main_job(start: Callable[..., Child]) -> None:
    """Every repository before and after, what went, what stayed and why, requests and seconds; exit 0 in time."""
    began = time.monotonic()
    demo = start()

    code = demo.wait_for_end(LIMIT_S)

    text = "\n".join(demo.lines)
    assert code == 0, text + "\n".join(demo.errors)
    assert time.monotonic() - began < LIMIT_S
    assert demo.errors == []
    assert "\x1b" not in text, "colours are for a terminal"
    assert max(map(len, demo.lines)) <= 100
    for path in ("acme/api", "acme/jib-service", "acme/proxy", "acme/vendor"):
        assert re.search(rf"^{path}: .*─", text, re.MULTILINE), path
    assert text.count("Before, with the push") == text.count("\nAfter") == 4
    for line in (
        r"main-e4d909c \w{8} +now +stays +too-young +the push",
        r"main-81fe2d0 \w{8} +3 d +goes +expired +3rd newest of main",
        r"main-5b0c7aa, v1\.4\.2 \w{8} +6 d +stays +protected-tag +a release",
        r"\(no tag\) ca978112 +\d+ y +goes +expired",
        r"├─ linux/arm64 \w{8} +5 d +stays +needed +v1\.4\.2 needs it",
        r"└─ signature \w{8} +5 d +goes +follows",
        r"signature \w{8} +33 d +goes +orphan",
        r"└─ linux/amd64, linux/arm64, 2 attestations, signature, SBOM",
        r"8 of 27 manifests went, 41 MB: 8 messages, [12] runs?, \d+ requests, \d\.\d\d s",
        r"untouched: 2 messages, no request",
        r"acknowledged with no requests to the registry",
    ):
        assert re.search(line, text), line
    assert demo.lines[-1].startswith("What is left is what the policies say.")
    if pubsub_command() is not None:
        assert "the Cloud SDK's emulator at 127.0.0.1:" in text


def test_without_pubsub_the_demo_delivers_itself(start: Callable[..., Child], tmp_path: Path) -> None:
    """One line says so, and the picture is the same."""
    demo = start(CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 0, demo.tail()

    assert sum("the demo sends the same requests itself" in line for line in demo.lines) == 1
    assert demo.lines[-1].startswith("What is left is what the policies say.")


@pytest.mark.parametrize(
    ("stays", "instead", "complaint"),
    [(True, "goes", "should go, and does not"), (False, "stays", "should stay, and does not")],
)
def test_what_is_not_as_expected_fails(
    start: Callable[..., Child], tmp_path: Path, stays: bool, instead: str, complaint: str
) -> None:
    """Whether too little or too much went: exit 1, and the image is named."""
    demo = start("-c", WRONG.format(stays=stays, instead=instead), CLOUDSDK_ROOT_DIR=str(tmp_path))

    assert demo.wait_for_end(LIMIT_S) == 1, demo.tail()

    at = next(at for at, line in enumerate(demo.lines) if "What is left is not what the policies say" in line)
    assert re.search(rf"acme/api: main-\w+ .*wrong on purpose.*: {complaint}", " ".join(demo.lines[at + 1 :]))


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, "registry"), (signal.SIGINT, "pushed"), (signal.SIGTERM, "pub/sub")]
)
def test_a_signal_ends_it_with_all_it_started(
    start: Callable[..., Child], number: signal.Signals, after: str
) -> None:
    """Ctrl-C at any moment leaves no process behind."""
    demo = start()
    demo.wait_for(lambda: any(line.lstrip().startswith(after) for line in list(demo.lines)), f"it says {after}")

    os.kill(demo.pid, number)

    assert demo.wait_for_end(LIMIT_S) == 128 + number
