"""Blocks of commands, run in one shell from the top of a page to its end, and their outputs compared.

A block ``console`` has commands behind ``$ `` and what each prints; a block ``sh`` has commands alone.  A line ``…``
stands for any lines.  Outputs are equal but for dates, durations, digests, and ports that are not the page's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import selectors
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import ndiff
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final, Self

from tests.support.documentation import Block
from tests.support.processes import is_listening, wait_for

LANGUAGES: Final = ("console", "fish", "sh")
ANY_LINES: Final = "…"
# Of the terminal that the pages are written for; no table is longer than it.
_COLUMNS, _ROWS = 100, 200
_LIMIT_S: Final = 60
_END: Final = "\x1e"

_PORT: Final = re.compile(r"(?:(?:localhost|127\.0\.0\.1):|-?port[= ])(\d{4,5})\b")
_VARYING: Final = (
    # jq's colours, which some versions show whatever NO_COLOR says.
    (re.compile(r"\x1b\[[\d;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00| UTC)?"), "DATE"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    # Short digests, which are as long in a table as the word that stands for them here.
    (re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8}\b"), "_DIGEST_"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:s|ms|seconds?)\b"), "SECONDS"),
    (re.compile(r'("seconds": )\d+(?:\.\d+)?'), r"\1SECONDS"),
    (re.compile(r"\b\d+ ?y\b"), "YEARS"),
    (re.compile(r"127\.0\.0\.1:\d{4,5}\b"), "127.0.0.1:PORT"),
    (re.compile(r"^\[(\d+)\] \d+$", re.MULTILINE), r"[\1] PID"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a block, the lines that are printed under it, and the exit code that is expected."""

    text: str
    printed: tuple[str, ...]
    place: str
    code: int = 0

    @property
    def is_server(self) -> bool:
        """Whether it goes on while the next commands run."""
        return self.text.endswith("&")


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a block of ``LANGUAGES``.

    A comment before it, ``exit 2``, is the exit code of its last command.
    """
    found: list[tuple[int, list[str], list[str]]] = []
    for at, line in enumerate(block.text.splitlines(), start=block.line):
        is_continued = bool(found) and not found[-1][2] and found[-1][1][-1].endswith("\\")
        if is_continued or (block.language == "sh" and re.match(r"[ \t]+\S|done\b|\}$|EOF$", line)):
            found[-1][1].append(line)
        elif block.language == "console" and not line.startswith("$ "):
            assert found, f"{block.page}:{at}: what is printed stands before the first command"
            found[-1][2].append(line)
        elif line and not line.startswith("#"):
            # Only fish has this way to read a script of completions.
            text = line.removesuffix(" | source") if block.language == "fish" else line.removeprefix("$ ")
            found.append((at, [text], []))
    code = re.fullmatch(r"exit (\d+)", block.comment)
    for number, (at, lines, printed) in enumerate(found, start=1):
        expected = int(code[1]) if code and number == len(found) else 0
        yield Command("\n".join(lines), tuple(printed), f"{block.page}:{at}", expected)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class Shell:
    """A shell in a directory, whose stdout is a terminal and whose stderr is not.

    ``ports`` are those of a page, with the ones that are used in their place.  What servers write is in ``logs``.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], ports: Mapping[str, str]) -> None:
        self.logs: list[Path] = []
        self._ports = ports
        self._directory = directory
        terminal, out = pty.openpty()
        fcntl.ioctl(out, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=directory,
            env={**environment, "NO_COLOR": "1", "PAGER": "cat", "TERM": "xterm"},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(out)
        assert self._process.stderr is not None
        self._terminal, self._errors = terminal, self._process.stderr.fileno()

    def here(self, text: str) -> str:
        """Return a text of the page with the ports of this shell."""
        return _exchange(text, self._ports)

    def there(self, text: str) -> str:
        """Return a text of this shell with the ports of the page."""
        return _exchange(text, {mine: port for port, mine in self._ports.items()})

    def run(self, command: Command) -> Ended:
        """Run a command; a server goes on, once it listens and has written as many lines as are expected of it."""
        if not command.is_server:
            return self._run(self.here(command.text), command.place)
        log = self._directory.parent / f"{len(self.logs)}.log"
        log.touch()
        self.logs.append(log)
        text = self.here(command.text)
        ended = self._run(f"{text[:-1]} >{log} 2>&1 &", command.place)
        for port in ports_of(text):
            wait_for(partial(is_listening, int(port)), f"{command.place}: somebody listens on {port}")
        lines = len(command.printed)
        wait_for(lambda: log.read_text().count("\n") >= lines, f"{command.place}: it writes {lines} lines")
        shown = log.read_text().splitlines(keepends=True)[:lines]
        return Ended(ended.code, self.there("".join(shown)), "")

    def _run(self, text: str, place: str) -> Ended:
        assert self._process.stdin is not None
        # Each command ends with a mark on both streams.
        end = f"ended=$?; printf '{_END}%s\n' $ended; printf '{_END}\n' >&2"
        self._process.stdin.write(f"{{ {text}\n}} </dev/null; {end}\n".encode())
        self._process.stdin.flush()
        read = {self._terminal: b"", self._errors: b""}
        until = time.monotonic() + _LIMIT_S
        with selectors.DefaultSelector() as selector:
            for stream in read:
                selector.register(stream, selectors.EVENT_READ)
            while not all(re.search(rb"\x1e\d*\r?\n$", one) for one in read.values()):
                assert time.monotonic() < until, f"{place} does not end; so far: {read}"
                for key, _ in selector.select(1):
                    read[key.fd] += os.read(key.fd, 65536)
                assert self._process.poll() is None, f"{place} has ended the shell: {read}"
        # A terminal ends its lines with CR and LF.
        out, code = read[self._terminal].decode().replace("\r\n", "\n").split(_END)
        return Ended(int(code), self.there(out), self.there(read[self._errors].decode().partition(_END)[0]))

    def close(self) -> None:
        """End the shell and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        os.close(self._terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ports_of(text: str) -> list[str]:
    """Return the ports of this machine that a text names."""
    return _PORT.findall(text)


def free_ports(text: str) -> dict[str, str]:
    """Return a free port for each that a text names, of as many digits, so that no table is wider.

    None is a number of the text: in an output it would be taken for the port.
    """
    return {port: _free(len(port), text) for port in ports_of(text)}


def _exchange(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\b\d{4,5}\b", lambda found: words.get(found[0], found[0]), text)


def _free(digits: int, text: str) -> str:
    while True:
        port = SystemRandom().randrange(max(1024, 10 ** (digits - 1)), min(32_768, 10**digits))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if str(port) not in text:
                return str(port)


def normal(text: str) -> list[str]:
    """Return lines of an output, with words in the place of what is different each time."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def difference(expected: Sequence[str], ended: Ended) -> str:
    """Return how an output differs from the expected lines, empty if it does not.

    The lines of stdout and stderr may stand among each other, those of each in their order.
    """
    wanted, out, err = normal("\n".join(expected)), normal(ended.out), normal(ended.err)
    # How many lines of each stream may have been printed so far.
    reached = {(0, 0)}
    for line in wanted:
        if line == ANY_LINES:
            reached = {
                (at_out, at_err)
                for from_out, from_err in reached
                for at_out in range(from_out, len(out) + 1)
                for at_err in range(from_err, len(err) + 1)
            }
        else:
            from_out = {(at_out + 1, at_err) for at_out, at_err in reached if out[at_out : at_out + 1] == [line]}
            from_err = {(at_out, at_err + 1) for at_out, at_err in reached if err[at_err : at_err + 1] == [line]}
            reached = from_out | from_err
    return "" if (len(out), len(err)) in reached else "\n".join(ndiff(wanted, [*out, *err]))
