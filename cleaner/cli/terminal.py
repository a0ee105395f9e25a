"""Where the command line reads and writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

import click
from rich.color import ColorSystem
from rich.style import Style

from cleaner.core.messages import quote

# Where nobody says how wide stderr is.
_DEFAULT_WIDTH = 100
_LEAST_WIDTH = 40
_STYLED = re.compile("(\x1b\\[[0-9;]*m)")


class Terminal:
    """The three standard streams, as they are when it is made, and what ``environment`` says about them.

    ``width`` and ``height`` are those of stdout if it is a terminal, else None: what is written to a pipe is neither
    cut nor wrapped.  Only sentences are, if ``COLUMNS`` says where.  ``has_lost``: a report could not be written to
    stdout.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._in = sys.stdin
        self._out = sys.stdout
        self._err = sys.stderr
        is_dumb = environment.get("TERM") in ("dumb", "unknown")
        is_forced = environment.get("FORCE_COLOR", "0") not in ("", "0")
        self.is_coloured = not environment.get("NO_COLOR") and (is_forced or (self._out.isatty() and not is_dumb))
        # A bar on stderr, drawn again and again; a person who can be asked.
        self.shows_progress = self._err.isatty() and not is_dumb
        self.is_attended = self._in is not None and self._in.isatty() and self._err.isatty()
        self.width = _size(self._out, environment).columns if self._out.isatty() else None
        self.height = _size(self._out, environment).lines if self._out.isatty() else None
        columns = _columns(environment)
        self.bar_width = _size(self._err, environment).columns if self._err.isatty() else columns or _DEFAULT_WIDTH
        self._prose_width = self.width or columns
        self._painted: set[str] = set()
        self.is_quiet = False
        self.has_lost = False
        for stream in (self._out, self._err):
            # What a terminal cannot spell must not end a run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")

    def say(self, *lines: str) -> None:
        """Write lines to stdout."""
        self.show(lines, pages=False)

    def show(self, lines: Iterable[str], *, pages: bool = True) -> None:
        """Write lines to stdout, by a pager if it ``pages`` and they are more than the screen has."""
        lines = (f"{self._printable(line)}\n" for line in lines)
        if pages and self.height is not None and self.is_attended:
            lines = list(lines)
            if len(lines) >= self.height:
                # As git sets it: colours pass, and what was shown is left on the screen.
                os.environ.setdefault("LESS", "FRX")
                with _ctrl_c_left_to_the_pager():
                    click.echo_via_pager("".join(lines), color=self.is_coloured)
                return
        self._out.writelines(lines)
        self._out.flush()

    def write(self, text: str) -> None:
        """Write a text to stdout as it is: a page, which no terminal shows."""
        self._out.write(text)
        self._out.flush()

    def report(self, *lines: str) -> None:
        """Write lines to stdout, or to stderr if that fails: what was done must be known."""
        try:
            self.say(*lines)
        except OSError as error:
            hang_up(self._out)
            if not isinstance(error, BrokenPipeError):
                self.has_lost = True
                self.error(f"stdout: {error.strerror}")
            self.excerpt(*lines)

    def note(self, line: str) -> None:
        """Write one line to stderr, unless nobody wants to read it."""
        if not self.is_quiet:
            self._complain(line)

    def error(self, line: str) -> None:
        """Write an error to stderr."""
        self._complain(f"error: {line}")

    def excerpt(self, *lines: str) -> None:
        """Write lines to stderr, neither wrapped nor left out."""
        try:
            self._err.writelines(f"{self._printable(line)}\n" for line in lines)
            self._err.flush()
        except OSError:
            hang_up(self._err)

    def ask(self, question: str) -> bool:
        """Ask on stderr, and return whether the answer is yes; the end of the input is a no."""
        # What was typed before the question is no answer to it.
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios

            termios.tcflush(self._in, termios.TCIFLUSH)
        self._err.write(f"{self._printable(question)} [y/N] ")
        self._err.flush()
        answer = self._in.readline()
        if not answer.endswith("\n"):
            self._err.write("\n")
        return answer.strip().lower() in ("y", "yes")

    def paint(self, text: str, style: str) -> str:
        """Return ``text`` in one of Rich's styles, if stdout shows styles; the colours are the terminal's own."""
        if not (style and text and self.is_coloured):
            return text
        before, _, after = Style.parse(style).render("|", color_system=ColorSystem.STANDARD).partition("|")
        self._painted |= {before, after}
        return f"{before}{text}{after}"

    def wrap(self, text: str, indent: int = 0) -> list[str]:
        """Return a text in lines that fit, the second and further ones behind ``indent`` spaces."""
        if not self._prose_width:
            return [text]
        return textwrap.wrap(text, self._prose_width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]

    def restore(self) -> None:
        """Show the cursor again, which a bar may have hidden."""
        if self.shows_progress:
            self._err.write("\x1b[?25h\n")
            self._err.flush()

    def _complain(self, line: str) -> None:
        line = " ".join(line.split())
        width = self.bar_width if self._err.isatty() else 0
        # A digest or an address can be copied only if it is whole.
        self.excerpt(
            *(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) if width else [line])
        )

    def _printable(self, line: str) -> str:
        """Return a line with what is not printable as an escape, but for what ``paint`` has added.

        A registry's texts, and a file's, may have control characters.
        """
        if line.isprintable():
            return line
        parts = _STYLED.split(line)
        return "".join(part if part in self._painted else quote(part)[1:-1] for part in parts)


def open_closed_streams() -> None:
    """Put something in the place of each standard stream that the process was started without.

    Such a stdin is empty, such a stdout takes nothing and says so, and what is written to such a stderr is lost.
    """
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            # No connection may get its number, or what is written there would go into that.
            os.dup2(os.open(os.devnull, flags), number)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115  # a descriptor


def hang_up(stream: TextIO) -> None:
    """Write no more to a stream that takes nothing: Python flushes it once more at the end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _ctrl_c_left_to_the_pager() -> Iterator[None]:
    """Do nothing at Ctrl-C, which the pager gets as well; it does not inherit that."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _size(stream: TextIO, environment: Mapping[str, str]) -> os.terminal_size:
    """Return the size of a terminal; ``COLUMNS`` overrides its width."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        found = os.terminal_size((0, 0))
    width = _columns(environment) or found.columns or _DEFAULT_WIDTH
    return os.terminal_size((max(width, _LEAST_WIDTH), found.lines or 24))


def _columns(environment: Mapping[str, str]) -> int:
    """Return the width that ``COLUMNS`` says; 0 if it says none."""
    columns = environment.get("COLUMNS", "")
    return max(int(columns), _LEAST_WIDTH) if columns.isascii() and columns.isdigit() and int(columns) else 0
