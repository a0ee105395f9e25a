"""The answers as a table that fits the terminal."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.verify_google.question import Answer

_HEADINGS: Final = ("question", "expected", "seen", "result", "documentation")
_GAP: Final = "  "
# The columns' widths in a terminal of 80 columns; of what a wider one has more, each gets a share.
_WIDTHS: Final = (16, 16, 16, 9, 15)
_SHARES: Final = (0.4, 0.2, 0.2, 0.0, 0.2)
_WIDTH_MIN: Final = sum(_WIDTHS) + len(_GAP) * (len(_WIDTHS) - 1)
_WIDTH_MAX: Final = 180


def table(answers: Iterable[Answer], width: int) -> Iterator[str]:
    """Yield the lines of the table, of at most ``width`` characters, 80 at least."""
    extra = max(min(width, _WIDTH_MAX) - _WIDTH_MIN, 0)
    widths = [least + int(extra * share) for least, share in zip(_WIDTHS, _SHARES, strict=True)]
    rows = [_HEADINGS, tuple("-" * one for one in widths)]
    yield from (line for row in rows for line in _lines(row, widths))
    for answer in answers:
        asked = answer.question
        yield from _lines((asked.text, asked.expects, answer.seen, answer.verdict, str(asked.place)), widths)
        yield ""


def fill(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width``: cut at spaces, else behind marks, else anywhere."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 <= width or not lines[-1]:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
        else:
            lines.append(word)
        while len(lines[-1]) > width:
            long = lines.pop()
            cuts = [max(long.rfind(mark, 0, width) for mark in marks) + 1 for marks in ("/_=", ".")]
            cut = next(filter(None, cuts), width)
            lines += [long[:cut], long[cut:]]
    return lines


def _lines(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    columns = [fill(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for pieces in zip_longest(*columns, fillvalue=""):
        yield _GAP.join(piece.ljust(width) for piece, width in zip(pieces, widths, strict=True)).rstrip()
