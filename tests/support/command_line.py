"""Calls of the command line, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cleaner.cli.main import main
from cleaner.cli.terminal import Terminal
from tests.emulator import Emulator
from tests.emulator.images import image, load
from tests.support.processes import ROOT

PATH = "acme/api"
# All but the two newest tagged images are deleted.
RETIRING = ("--keep", "2")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def tags(self, key: str) -> list[str]:
        """The first tag of each entry, in its order."""
        return [one["tags"][0] for one in self.document[key]]


def yes() -> bool:
    return True


def no() -> bool:
    return False


@dataclass(slots=True)
class Seat:
    """A registry with one repository."""

    emulator: Emulator

    @property
    def name(self) -> str:
        return self.emulator.name(PATH)

    @property
    def tags(self) -> set[str]:
        """The tags that are left."""
        return set(self.emulator.store.tags(self.name))


@dataclass(slots=True)
class Operator(Seat):
    """Calls the command line for a registry."""

    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    questions: list[str] = field(default_factory=list)

    @property
    def deletions(self) -> int:
        return len(self.emulator.log.of("tag_delete")) + len(self.emulator.log.of("manifest_delete"))

    def builds(self, count: int, path: str = PATH) -> None:
        """Fill the repository: ``build-0`` is the newest, and one day old."""
        for at in range(count):
            uploaded = datetime.now(UTC) - timedelta(days=1 + at)
            load(self.emulator.store, self.emulator.name(path), image(at), tags=f"build-{at}", uploaded=uploaded)

    def load(self, content: Any, tags: Sequence[str] | str = (), *, days: float) -> str:
        uploaded = datetime.now(UTC) - timedelta(days=days)
        return load(self.emulator.store, self.name, content, tags=tags, uploaded=uploaded)

    def call(self, *arguments: str) -> Ended:
        """Call the command line in this process."""
        try:
            code = main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        read = self.capture.readouterr()
        return Ended(code, read.out, read.err)

    def plan(self, *arguments: str) -> Ended:
        return self.call("plan", self.name, "--insecure", self.emulator.host, *arguments)

    def prune(self, *arguments: str) -> Ended:
        return self.call("prune", self.name, "--insecure", self.emulator.host, *arguments)

    def answers(self, answer: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Be at a terminal, and give this answer to every question."""

        def ask(_: Terminal, question: str) -> bool:
            self.questions.append(question)
            meanwhile()
            return answer()

        self.monkeypatch.setattr(Terminal, "ask", ask)
        made = Terminal.__init__

        def init(terminal: Terminal, environment: Any) -> None:
            made(terminal, environment)
            terminal.is_attended = True

        self.monkeypatch.setattr(Terminal, "__init__", init)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run(*arguments: str, code: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own."""
    start = ["-c", code] if code else ["-m", "cleaner"]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(
        command,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_shell(command: str, operator: Operator) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell."""
    return subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment(INSECURE_REGISTRIES=operator.emulator.host, PYTHONUNBUFFERED=""),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(ended: Ended) -> str:
    """Return the one line of an error; nothing else was printed."""
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err
