"""Where the command line reads and writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Final, TextIO

# Select Graphic Rendition: the terminal's own colours, which its owner can read on its own background.
_STYLES: Final[Mapping[str, str]] = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
# Where nobody says how wide it is: a file, or a pipe.
_DEFAULT_WIDTH = 100
_LEAST_WIDTH = 40


class Terminal:
    """The three standard streams, as they are when it is made, and what ``environment`` says about them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._in = sys.stdin
        self._out = sys.stdout
        self._err = sys.stderr
        self._is_coloured = self._out.isatty() and not environment.get("NO_COLOR")
        is_dumb = environment.get("TERM") in ("dumb", "unknown")
        if is_dumb:
            self._is_coloured = False
        # A bar on stderr, drawn again and again; a person who can be asked.
        self.shows_progress = self._err.isatty() and not is_dumb
        self.is_attended = self._in is not None and self._in.isatty() and self._err.isatty()
        self.width = _width(environment, self._out)
        self.bar_width = _width(environment, self._err)
        # Whether a report could not be written to stdout.
        self.has_lost = False
        for stream in (self._out, self._err):
            # What a terminal cannot spell must not end a run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")

    def say(self, *lines: str) -> None:
        """Write lines to stdout."""
        self._out.writelines(f"{line}\n" for line in lines)
        self._out.flush()

    def report(self, *lines: str) -> None:
        """Write lines to stdout, or to stderr where that takes no more: of what was done, none is lost."""
        try:
            self.say(*lines)
        except OSError as error:
            hang_up(self._out)
            if not isinstance(error, BrokenPipeError):
                self.has_lost = True
                self.note(f"error: stdout: {error.strerror}")
            for line in lines:
                self.note(line)

    def note(self, line: str) -> None:
        """Write one line to stderr, if that takes any."""
        try:
            self._err.write(f"{' '.join(line.split())}\n")
            self._err.flush()
        except OSError:
            hang_up(self._err)

    def ask(self, question: str) -> bool:
        """Ask on stderr, and return whether the answer is yes; the end of the input is a no."""
        # What was typed before the question is no answer to it.
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios

            termios.tcflush(self._in, termios.TCIFLUSH)
        self._err.write(f"{question} [y/N] ")
        self._err.flush()
        answer = self._in.readline()
        if not answer.endswith("\n"):
            self._err.write("\n")
        return answer.strip().lower() in ("y", "yes")

    def paint(self, text: str, style: str) -> str:
        """Return ``text`` in a style, if stdout shows styles; an empty style changes nothing."""
        if not (style and text and self._is_coloured):
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def wrap(self, text: str, indent: int = 0) -> list[str]:
        """Return a text in lines that fit, the second and further ones behind ``indent`` spaces."""
        first, *rest = wrapped(text, self.width)
        if not rest:
            return [first]
        rest = wrapped(text[len(first) :].lstrip(), self.width - indent)
        return [first, *(" " * indent + line for line in rest)]

    def restore(self) -> None:
        """Show the cursor again, which a bar may have hidden."""
        if self.shows_progress:
            self._err.write("\x1b[?25h\n")
            self._err.flush()


class Table:
    """Lines of cells, as wide as the terminal at most.

    ``columns`` are the headings; those that begin with ``>`` are aligned to the right.  The ``flexible`` ones, by
    number, are wrapped where there is not room for all, but not to less than their number of characters; the others
    are never wrapped.
    """

    GAP: Final = 2

    def __init__(self, columns: Iterable[str], flexible: Mapping[int, int]) -> None:
        headings = list(columns)
        self._right = [heading.startswith(">") for heading in headings]
        self._rows: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._flexible = flexible
        self._widths = [0] * len(headings)
        self.add([heading.removeprefix(">") for heading in headings], ["dim"] * len(headings))

    def add(self, cells: Iterable[str], styles: Iterable[str]) -> None:
        """Add a line; ``styles`` are those of its cells."""
        row = tuple(cells)
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        self._rows.append((row, tuple(styles)))

    def fits(self, width: int) -> bool:
        """Whether ``width`` is enough for every column."""
        return sum(self._least()) + self.GAP * (len(self._widths) - 1) <= width

    def lines(self, terminal: Terminal) -> list[str]:
        """Return the table's lines, the headings first."""
        widths = self._fitted(terminal.width)
        lines: list[str] = []
        for row, styles in self._rows:
            wrapped_cells = [wrapped(cell, width, ",") for cell, width in zip(row, widths, strict=True)]
            pieces = zip_longest(*wrapped_cells, fillvalue="")
            lines.extend(self._line(terminal, some, styles, widths) for some in pieces)
        return lines

    def _line(self, terminal: Terminal, pieces: Iterable[str], styles: Iterable[str], widths: list[int]) -> str:
        cells = []
        pending = 0
        for piece, style, width, right in zip(pieces, styles, widths, self._right, strict=True):
            space = width - len(piece)
            before = pending + (space if right else 0)
            pending = self.GAP + (0 if right else space)
            # Nothing but spaces behind the last word of a line would only be in the way of whoever copies it.
            cells.append(" " * before + terminal.paint(piece, style) if piece else " " * before)
        return "".join(cells).rstrip()

    def _least(self) -> list[int]:
        return [min(width, self._flexible.get(at, width)) for at, width in enumerate(self._widths)]

    def _fitted(self, width: int) -> list[int]:
        """Return the columns' widths: what is too much is taken from the widest flexible one, again and again."""
        widths, least = list(self._widths), self._least()
        over = sum(widths) + self.GAP * (len(widths) - 1) - width
        while over > 0:
            # Below their least only when all are there: a terminal may be narrower than the narrowest table.
            widest = max(self._flexible, key=lambda at: (widths[at] > least[at], widths[at]))
            if widths[widest] <= 1:
                break
            widths[widest] -= 1
            over -= 1
        return widths


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


def wrapped(text: str, width: int, mark: str = "") -> list[str]:
    """Return ``text`` in pieces of at most ``width``, at least one.

    It is cut at spaces behind ``mark``, where there are any; else at any spaces; else behind a slash; else anywhere.
    """
    pieces = []
    indent = text[: len(text) - len(text.lstrip())]
    if len(indent) >= width:
        text, indent = text.lstrip(), ""
    while len(text) > width:
        cut = text.rfind(f"{mark} ", len(indent) + 1, width + 1)
        cut = cut + len(mark) if cut != -1 else text.rfind(" ", len(indent) + 1, width + 1)
        if cut == -1:
            cut = text.rfind("/", len(indent) + 1, width) + 1 or width
            pieces.append(text[:cut])
            text = indent + text[cut:]
        else:
            pieces.append(text[:cut])
            text = indent + text[cut:].lstrip()
    pieces.append(text)
    return pieces


def _width(environment: Mapping[str, str], stream: TextIO) -> int:
    """Return how many columns there are: what ``COLUMNS`` says, or ``stream``, if that is a terminal."""
    columns = environment.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return max(int(columns), _LEAST_WIDTH)
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        found = 0
    return max(found, _LEAST_WIDTH) if found else _DEFAULT_WIDTH
