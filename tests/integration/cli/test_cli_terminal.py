"""The command line in front of a person: a real terminal of a given width, keys, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.emulator.faults import Delay
from tests.emulator.images import cosign_signature, cosign_tag, image, load, multi_arch
from tests.support.command_line import Seat
from tests.support.held import Held, assert_whole
from tests.support.processes import DEADLINE_S, ROOT, wait_for

RETIRING = ("--keep", "2", "--keep-untagged", "0")
CTRL_C = b"\x03"

# Control sequences.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A process on a terminal of its own, and all that it has written there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self.raw = ""

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until ``text`` has been written so many times."""
        end = time.monotonic() + DEADLINE_S
        while self.plain.count(text) < times:
            assert time.monotonic() < end, f"no {text!r} in {self.plain!r}"
            assert self._read(), f"ended without {text!r}: {self.plain!r}"

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        end = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < end, f"no end: {self.plain!r}"
        return self._process.wait(DEADLINE_S)

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends before so long has passed."""
        end = time.monotonic() + seconds
        while self._read():
            if time.monotonic() > end:
                return False
        return True

    @property
    def plain(self) -> str:
        """What was written, without control sequences."""
        return _CONTROL.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        """The lines, without control sequences; of one that was drawn over, all of its drawings."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.plain)]

    @property
    def has_cursor(self) -> bool:
        """Whether the cursor is shown, which was hidden before."""
        return self.raw.rindex("\x1b[?25h") > self.raw.rindex("\x1b[?25l")

    def _read(self) -> bool:
        """Read what there is; return whether there may be more."""
        ready, _, _ = select.select([self._terminal], [], [], 0.1)
        if not ready:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux's way of saying that nobody has the other side any more
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


@dataclass(slots=True)
class Desk(Seat):
    """A registry, and terminals to sit at."""

    @property
    def deletions(self) -> int:
        return len(self.emulator.log.of("manifest_delete"))

    def builds(self, count: int, tag: str = "build") -> None:
        for at in range(count):
            uploaded = datetime.now(UTC) - timedelta(days=1 + at)
            built = multi_arch(f"m{at}")
            load(self.emulator.store, self.name, built, tags=f"{tag}-{at}", uploaded=uploaded)
            load(self.emulator.store, self.name, cosign_signature(built), tags=cosign_tag(built), uploaded=uploaded)

    @contextmanager
    def call(
        self,
        command: str,
        *arguments: str,
        width: int = 80,
        stdout: int | None = None,
        name: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Screen]:
        """Call the command line on a terminal; ``stdout`` stands in for its screen."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, command, name or self.name, *arguments],
            cwd=ROOT,
            env={**kept, "INSECURE_REGISTRIES": self.emulator.host, "TERM": "xterm-256color", **(environment or {})},
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Screen(process, ours)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(ours)


# The terminal has to be the process's own, or its Ctrl-C would interrupt nobody.  Nor would it where SIGINT is
# ignored: what a script starts in the background ignores it, and so do its children, the tests and what they start.
_CONTROLLED = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "cleaner", *sys.argv[1:]])
"""


@pytest.fixture
def desk(registry: Emulator) -> Iterator[Desk]:
    registry.reset()
    yield Desk(registry)
    registry.reset()


# --- what is seen


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_table_is_as_wide_as_the_terminal(desk: Desk, width: int) -> None:
    """No line is longer, so none is broken by the terminal; the wider, the more is told."""
    desk.builds(4, "feature-that-has-a-long-name-3f2a1bc")

    with desk.call("plan", *RETIRING, width=width) as screen:
        assert screen.end() == 0

    assert max(map(len, screen.lines)) <= width
    shown = " ".join(screen.plain.split())
    assert ("PLATFORMS ATTACHED PLAN RULE BECAUSE" in shown) == (width >= 120)
    assert ("DIGEST" in shown) == (width >= 80)
    assert ("PLAN BECAUSE" in shown) == (width < 120)
    assert "newest: 1st, keep" in shown


def test_colours_on_a_terminal(desk: Desk) -> None:
    """The terminal's own green and red, which its owner can read on its own background."""
    desk.builds(4)

    with desk.call("plan", *RETIRING) as screen:
        assert screen.end() == 0

    assert "\x1b[32mkeep\x1b[0m" in screen.raw
    assert "\x1b[31mdelete\x1b[0m" in screen.raw


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(desk: Desk, environment: dict[str, str]) -> None:
    """NO_COLOR, and terminals that cannot."""
    desk.builds(4)

    with desk.call("plan", *RETIRING, environment=environment) as screen:
        assert screen.end() == 0

    assert "\x1b[3" not in re.sub(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]", "", screen.raw.partition(desk.name)[2])


def test_file_gets_plain_text_and_the_terminal_the_bar(desk: Desk) -> None:
    """``plan > file``: what is drawn goes to stderr and nothing else."""
    desk.builds(20)
    desk.emulator.faults.add(Delay(0.05), kind="manifest_get")
    reading, writing = os.pipe()

    with desk.call("plan", *RETIRING, "--workers", "2", stdout=writing) as screen:
        os.close(writing)
        screen.wait_for("Reading manifests")
        with open(reading, encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            text = file.read()
        assert screen.end() == 0

    assert text.startswith(desk.name)
    assert "\x1b" not in text
    assert "/20" in screen.plain
    assert "TAGS" not in screen.plain


def test_file_is_as_wide_whatever_the_terminal_beside_it(desk: Desk) -> None:
    """``plan > file`` is the same from a narrow window and from a wide one, uncut; the bar has the window's width."""
    desk.builds(20, "feature-that-has-a-long-name-3f2a1bc")
    desk.emulator.faults.add(Delay(0.05), kind="manifest_get")
    texts = []
    for width in (50, 200):
        reading, writing = os.pipe()
        with desk.call("plan", *RETIRING, "--workers", "2", stdout=writing, width=width) as screen:
            os.close(writing)
            screen.wait_for("Reading manifests")
            with open(reading, encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
                texts.append(file.read())
            assert screen.end() == 0
        assert width - 5 <= max(map(len, screen.lines)) <= width

    assert texts[0] == texts[1]
    assert len(re.findall("^feature-that-has-a-long-name-3f2a1bc-[0-9]+ ", texts[0], re.MULTILINE)) == 20


def test_document_on_a_terminal(desk: Desk) -> None:
    """The bar goes, the document stays."""
    desk.builds(3)

    with desk.call("plan", *RETIRING, "-o", "json") as screen:
        assert screen.end() == 0

    assert '"dry_run": true' in screen.plain


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_through_a_pipe(desk: Desk, environment: dict[str, str], is_coloured: bool) -> None:
    """Only if they are forced; a row is one line all the same."""
    desk.builds(4)
    reading, writing = os.pipe()

    with desk.call("plan", *RETIRING, stdout=writing, environment=environment) as screen:
        os.close(writing)
        with open(reading, encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            text = file.read()
        assert screen.end() == 0

    assert ("\x1b[32mkeep\x1b[0m" in text) == is_coloured
    assert len(re.findall("^build-[0-9] .* keep [0-9]$", _CONTROL.sub("", text), re.MULTILINE)) == 4


PAGER = """\
#!/bin/sh
sed 's/^/paged: /'
"""


@pytest.mark.parametrize(("count", "is_paged"), [(30, False), (60, True)])
def test_pager(desk: Desk, tmp_path: Path, count: int, is_paged: bool) -> None:
    """A table that is longer than the screen is shown by the pager; a question's is not."""
    for at in range(count):
        uploaded = datetime.now(UTC) - timedelta(days=1 + at)
        load(desk.emulator.store, desk.name, image(at), tags=f"build-{at}", uploaded=uploaded)
    pager = tmp_path / "pager"
    pager.write_text(PAGER)
    pager.chmod(0o755)

    with desk.call("plan", *RETIRING, environment={"PAGER": str(pager)}) as screen:
        assert screen.end() == 0
    with desk.call("prune", *RETIRING, environment={"PAGER": str(pager)}) as asked:
        asked.wait_for("? [y/N] ")
        asked.type(b"n\n")
        assert asked.end() == 0

    assert (screen.plain.count("paged: build-") == count) == is_paged
    assert screen.plain.count("build-") == count
    assert "paged" not in asked.plain


def test_ctrl_c_is_left_to_the_pager(desk: Desk, tmp_path: Path) -> None:
    """It may end a search there; what it does not end goes on, and the exit code is that of the plan."""
    # More than a pipe holds: the table is still being written when the key is pressed.
    for at in range(800):
        uploaded = datetime.now(UTC) - timedelta(days=1 + at)
        load(desk.emulator.store, desk.name, image(at), tags=f"build-{at}-{'x' * 30}", uploaded=uploaded)
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\ntrap 'echo caught' INT\necho shown\nsleep 2\ncat >/dev/null\necho closed\n")
    pager.chmod(0o755)

    with desk.call("plan", *RETIRING, width=150, environment={"PAGER": str(pager)}) as screen:
        screen.wait_for("shown")
        screen.type(CTRL_C)
        assert screen.end() == 0

    assert "caught" in screen.plain
    assert "closed" in screen.plain
    assert "interrupted" not in screen.plain


def test_notes_fit_the_terminal(desk: Desk) -> None:
    """Between words; a name is never cut."""
    desk.builds(3)

    with desk.call("plan", "--match", "none-of-these", "--keep", "1", width=60) as screen:
        assert screen.end() == 0

    warning = screen.plain[screen.plain.index("warning: flags") :].splitlines()
    assert len(warning) > 2
    assert max(map(len, warning)) <= 60
    assert "a regex is matched against the whole tag" in " ".join(warning)


# --- what is asked


def test_question(desk: Desk) -> None:
    """The plan, then the question, then what was done."""
    desk.builds(4)

    with desk.call("prune", *RETIRING) as screen:
        screen.wait_for("? [y/N] ")
        assert desk.deletions == 0
        screen.type(b"y\n")
        assert screen.end() == 0

    assert screen.plain.index("expired: 3rd") < screen.plain.index("? [y/N] ") < screen.plain.index("deleted 8 ")
    assert {tag for tag in desk.tags if tag.startswith("build")} == {"build-0", "build-1"}


@pytest.mark.parametrize(
    "keys", [b"\n", b"n\n", b"N\n", b"what\n", b"\x04"], ids=["enter", "n", "N", "what", "ctrl-d"]
)
def test_everything_but_yes_is_no(desk: Desk, keys: bytes) -> None:
    """The default deletes nothing."""
    desk.builds(4)

    with desk.call("prune", *RETIRING) as screen:
        screen.wait_for("? [y/N] ")
        screen.type(keys)
        assert screen.end() == 0

    assert "nothing was deleted" in screen.plain
    assert desk.deletions == 0


def test_what_was_typed_before_is_no_answer(desk: Desk) -> None:
    """A key pressed too often while manifests are read agrees to nothing."""
    desk.builds(10)
    desk.emulator.faults.add(Delay(0.3), kind="manifest_get")

    with desk.call("prune", *RETIRING, "--workers", "4") as screen:
        screen.wait_for("Reading manifests")
        screen.type(b"y\n")
        screen.wait_for("? [y/N] ")
        time.sleep(0.3)
        assert desk.deletions == 0
        screen.type(b"n\n")
        assert screen.end() == 0

    assert desk.deletions == 0


# --- Ctrl-C and SIGTERM


@pytest.fixture(params=["ctrl-c", "sigterm"])
def interrupt(request: pytest.FixtureRequest) -> Callable[[Screen], None]:
    """What a person or a machine does to end it."""
    if request.param == "ctrl-c":
        return lambda screen: screen.type(CTRL_C)
    return lambda screen: screen.signal(signal.SIGTERM)


def test_interrupted_while_reading(desk: Desk, interrupt: Callable[[Screen], None]) -> None:
    """At once, in one line, whatever is under way, with the cursor back where it was."""
    desk.builds(10)
    desk.emulator.faults.add(Delay(3600), kind="manifest_get")

    with desk.call("plan", *RETIRING) as screen:
        screen.wait_for("Reading manifests")
        interrupt(screen)
        assert screen.end() == 130

    assert "interrupted: nothing was deleted" in screen.plain
    assert "Traceback" not in screen.plain
    assert screen.has_cursor


def test_interrupted_at_the_question(desk: Desk) -> None:
    """That is no yes."""
    desk.builds(4)

    with desk.call("prune", *RETIRING) as screen:
        screen.wait_for("? [y/N] ")
        screen.type(CTRL_C)
        assert screen.end() == 130

    assert "interrupted: nothing was deleted" in screen.plain
    assert desk.deletions == 0


def pruning(desk: Desk, count: int) -> Callable[[], bool]:
    return lambda: desk.deletions >= count


def test_interrupted_while_deleting(desk: Desk, interrupt: Callable[[Screen], None]) -> None:
    """What runs is finished, what was done is told, what is left is whole, and the next time goes on from there."""
    desk.builds(30)
    before = Held.now(desk.emulator.store, desk.name)
    kept = [desk.emulator.store.tags(desk.name)[f"build-{at}"] for at in (0, 1)]
    # After the twelfth so slow that the interrupt comes long before the last.
    desk.emulator.faults.add(Delay(0.5), kind="manifest_delete", skip=12)

    with desk.call("prune", *RETIRING, "--yes", "--workers", "3") as screen:
        wait_for(pruning(desk, 12), "some are gone")
        interrupt(screen)
        assert screen.end() == 130

    assert screen.has_cursor
    told = re.search(r"deleted ([0-9]+) manifests, ", screen.plain)
    gone = len(before.children) - len(desk.emulator.store.digests(desk.name))
    assert told is not None
    assert int(told[1]) == gone
    assert 12 <= gone < 112
    assert f"not deleted: {112 - gone} not begun" in screen.plain
    assert "interrupted: deletions in progress were finished" in screen.plain
    assert "finishing" in screen.plain
    assert_whole(before, desk.emulator.store, desk.name, kept)
    with desk.call("prune", *RETIRING, "--yes") as screen:
        desk.emulator.faults.clear()
        assert screen.end() == 0
    assert_whole(before, desk.emulator.store, desk.name, kept)
    assert len(desk.emulator.store.digests(desk.name)) == 8


def test_interrupted_twice(desk: Desk, interrupt: Callable[[Screen], None]) -> None:
    """The second ends it at once, with the cursor back where it was."""
    desk.builds(10)
    desk.emulator.faults.add(Delay(3600), kind="manifest_delete")

    with desk.call("prune", *RETIRING, "--yes", "--workers", "2") as screen:
        wait_for(lambda: len(desk.emulator.log.of("tag_delete")) >= 2, "it is at work")
        screen.wait_for("Deleting")
        interrupt(screen)
        # What comes before the first has been noticed is one with it.
        while not screen.ends_within(0.3):
            interrupt(screen)
        assert screen.end() == 130

    assert screen.has_cursor
    assert screen.plain.count("interrupted again: what was begun may be unfinished") == 1


def test_progress_of_deletions(desk: Desk) -> None:
    """How many of how many, how fast, and how many were refused."""
    desk.builds(30)
    desk.emulator.faults.add(Delay(0.03), method="DELETE")

    with desk.call("prune", *RETIRING, "--yes", "--workers", "4", width=100) as screen:
        assert screen.end() == 0

    assert re.search(r"Deleting .*[0-9]+/112 [0-9]+/s", screen.plain)


@pytest.fixture
def swept(desk: Desk, tmp_path: Path) -> tuple[list[str], Path]:
    """Three repositories of twenty builds, and a policy that keeps two of each."""
    names = [desk.emulator.name(f"acme/r{at}") for at in range(3)]
    for name in names:
        for build in range(20):
            uploaded = datetime.now(UTC) - timedelta(days=1 + build)
            load(desk.emulator.store, name, image(build), tags=f"build-{build}", uploaded=uploaded)
    policies = tmp_path / "policies.json"
    policies.write_text('[{"repositories": ["**"], "tagged": [{"match": ".*", "keep": 2}]}]')
    return names, policies


def test_sweep_from_here(desk: Desk, swept: tuple[list[str], Path]) -> None:
    """The overview, one question, a bar over all, and a line for each in the end."""
    names, policies = swept
    desk.emulator.faults.add(Delay(0.02), method="DELETE")

    with desk.call("sweep", "--local", "--policies", str(policies), name=desk.emulator.name("acme")) as screen:
        screen.wait_for("? [y/N] ")
        assert "3 repositories: keep 6 images, delete 54 images, " in screen.plain
        assert "Delete 54 manifests of 3 repositories, up to " in screen.plain
        assert desk.deletions == 0
        screen.type(b"y\n")
        assert screen.end() == 0

    assert [len(desk.emulator.store.digests(name)) for name in names] == [2, 2, 2]
    assert "2/3" in screen.plain
    for name in names:
        assert re.search(rf"{name} +2 +18 +0 +0", screen.plain)
    assert "deleted 54 manifests of 3 repositories" in screen.plain


def test_sweep_from_here_interrupted(desk: Desk, swept: tuple[list[str], Path]) -> None:
    """What runs is finished, the other repositories are not begun, and all is told."""
    names, policies = swept
    # After the third so slow that the interrupt comes long before the last.
    desk.emulator.faults.add(Delay(1), kind="manifest_delete", skip=3)
    given = ("--local", "--yes", "--workers", "1", "--policies", str(policies))

    with desk.call("sweep", *given, name=desk.emulator.name("acme")) as screen:
        wait_for(pruning(desk, 3), "some are gone")
        screen.type(CTRL_C)
        assert screen.end() == 130

    left = [len(desk.emulator.store.digests(name)) for name in names]
    assert 2 < left[0] < 20
    assert left[1:] == [20, 20]
    assert f"deleted {20 - left[0]} manifests of 1 repository" in screen.plain
    assert "not begun: 2 repositories" in " ".join(screen.plain.split())


def test_sweep_declined(desk: Desk, swept: tuple[list[str], Path]) -> None:
    """Enter is no."""
    _, policies = swept

    with desk.call("sweep", "--local", "--policies", str(policies), name=desk.emulator.name("acme")) as screen:
        screen.wait_for("? [y/N] ")
        screen.type(b"\n")
        assert screen.end() == 0

    assert "nothing was deleted" in screen.plain
    assert desk.deletions == 0
