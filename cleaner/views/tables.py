"""Plans and results as tables: one image a row, or one repository a row.

A row is always one line.  Through a pipe every cell has its whole text; on a terminal the widest columns that fit are
chosen, and what does not fit is left out in the middle.  Rich's own tables lay out each cell as a document, which
takes a second for a thousand rows, so Rich only styles and measures here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from cleaner.core.graph import Kind
from cleaner.core.pattern import capturing_groups
from cleaner.core.policy import Policy
from cleaner.core.rules import ORPHANS, UNTAGGED, Reason
from cleaner.views import words
from cleaner.views.images import Planned, Result, Row

Paint = Callable[[str, str], str]

_GAP = "  "
_SHOWN_TAGS = 3
_TAG_CHARS = 40
_POOL_CHARS = 30
_BRIEFLY = {"SBOM": "sbom", "attestation": "att", "redundant index": "idx", "referrer": "ref", "signature": "sig"}
# Signatures of signatures can be a chain of any length.
_DEEPEST_INDENT = 4


class Column(msgspec.Struct, frozen=True):
    """A column: its heading, and the text and style of a row's cell.

    One that ``is_number`` is aligned to the right.  ``least`` is the width to which it may be shortened; 0 if it may
    not be.
    """

    heading: str
    text: Callable[[Any], str]
    style: Callable[[Any], str] = lambda _: ""
    is_number: bool = False
    least: int = 0


class _Filled(msgspec.Struct):
    """A column with the texts of its heading and of all rows, and the width in which they are shown."""

    column: Column
    texts: list[str]
    width: int
    least: int

    @classmethod
    def of(cls, column: Column, rows: Iterable[object]) -> _Filled:
        texts = [column.heading, *map(column.text, rows)]
        width = max(map(words.cells, texts))
        return cls(column, texts, width, min(column.least or width, width))

    def cells(self, rows: Iterable[object], paint: Paint) -> Iterator[str]:
        """Yield the cells of the heading and of all rows, padded to the width."""
        style, width, is_number = self.column.style, self.width, self.column.is_number
        for row, text in zip((None, *rows), self.texts, strict=True):
            space = " " * (width - words.cells(text))
            shown = paint(words.middle(text, width) if not space else text, style(row) if row else "dim")
            yield space + shown if is_number else shown + space


def table(
    rows: Sequence[object], layouts: Iterable[Sequence[Column]], width: int | None, paint: Paint
) -> Iterator[str]:
    """Yield headings and rows in the first of ``layouts`` that fits, or else in the last; nothing without rows.

    ``width`` is the terminal's, or None for a pipe.  Columns without any text are left out.
    """
    columns: list[_Filled] = []
    for layout in layouts if rows else ():
        filled = (_Filled.of(column, rows) for column in layout)
        columns = [one for one in filled if any(one.texts[1:])]
        if width is None or sum(one.least for one in columns) + _gaps(columns) <= width:
            break
    if width is not None:
        _shrink(columns, width)
    for cells in zip(*(one.cells(rows, paint) for one in columns), strict=True):
        yield _GAP.join(cells).rstrip()


def _gaps(columns: Sequence[_Filled]) -> int:
    return len(_GAP) * (len(columns) - 1)


def _shrink(columns: Sequence[_Filled], width: int) -> None:
    """Take what is too much from the widest columns that may be shortened, at last also below their least width."""
    flexible = [one for one in columns if one.column.least]
    for _ in range(sum(one.width for one in columns) + _gaps(columns) - width):
        widest = max(flexible, key=lambda one: (one.width > one.least, one.width))
        if widest.width <= 1:
            break
        widest.width -= 1


def plan_table(
    rows: Sequence[Row], planned: Planned, width: int | None, paint: Paint, *, unfold: bool
) -> Iterator[str]:
    """Yield the table of a plan, one image a row; ``unfold`` adds what belongs to each."""
    shown = [one for row in rows for one in (row, *row.parts)] if unfold else rows
    columns = _ImageColumns(planned, is_cut=width is not None, unfold=unfold)
    return table(shown, columns.layouts(), width, paint)


class _ImageColumns:
    """The columns for images and their parts; with ``is_cut`` long texts are shortened."""

    def __init__(self, planned: Planned, *, is_cut: bool, unfold: bool) -> None:
        self._planned = planned
        self._is_cut = is_cut
        self._unfold = unfold

    def layouts(self) -> list[list[Column]]:
        """Return the columns, the widest layout first."""

        def dim(row: Row) -> str:
            return "dim" if row.depth else ""

        tags = Column("TAGS", self._name, dim, least=22)
        age = Column("AGE", self._age, dim, is_number=True)
        size = Column("SIZE", _size, dim, is_number=True)
        platforms = Column("PLATFORMS", lambda row: words.platforms(row.platforms), dim, least=14)
        verdict = Column("PLAN", attrgetter("decision"), lambda row: "red" if row.is_deleted else "green")
        rule = Column("RULE", lambda row: words.place_rule(row.verdict.place), dim)
        because = Column("BECAUSE", self._because, dim, least=22)

        def digest(text: Callable[[str], str]) -> Column:
            return Column("DIGEST", lambda row: text(row.manifest.digest), lambda _: "dim")

        def attached(item: Callable[[int, str], str], least: int) -> Column:
            return Column(
                "ATTACHED",
                lambda row: ", ".join(item(count, what) for what, count in row.attached.items()),
                least=least,
            )

        whole = attached(words.counted, 40)
        brief = attached(lambda count, what: f"{count} {_BRIEFLY[what]}", 14)
        short, shorter = digest(words.short), digest(lambda name: words.short(name)[:8])
        if not self._is_cut:
            return [[tags, digest(str), age, size, platforms, whole, verdict, rule, because]]
        return [
            [tags, short, age, size, platforms, whole, verdict, rule, because],
            [tags, short, age, size, platforms, brief, verdict, rule, because],
            [tags, shorter, age, size, verdict, rule, because],
            [tags, shorter, age, size, verdict, because],
            [tags, age, verdict, because],
        ]

    def _name(self, row: Row) -> str:
        if row.depth:
            name = f"{row.what}: {', '.join(row.tags)}" if row.tags else row.what
            return "  " * min(row.depth, _DEEPEST_INDENT) + name
        if row.kind is Kind.ORPHAN:
            return f"({row.what} without a subject)"
        tags = row.tags
        if not (tags and self._is_cut):
            return ", ".join(tags) or "(untagged)"
        shown = tags if self._unfold or len(tags) <= _SHOWN_TAGS else tags[: _SHOWN_TAGS - 1]
        text = ", ".join(words.middle(words.short_tag(tag), _TAG_CHARS) for tag in shown)
        return text if len(shown) == len(tags) else f"{text} and {len(tags) - len(shown)} more"

    def _age(self, row: Row) -> str:
        return words.age(row.manifest.uploaded, self._planned.now)

    def _because(self, row: Row) -> str:
        longest = _POOL_CHARS if self._is_cut else words.TAG_MAX_CHARS
        return words.because(row.verdict, self._planned.policy, self._planned.now, longest)


def _size(row: Row) -> str:
    # Of a part that is not an image, the registry may not give the size.
    return words.size(row.size) if row.size or not row.depth else ""


def summary_lines(planned: Planned) -> list[str]:
    """Return how much is kept and how much is deleted, in two sentences."""
    kept = Counter(row.verdict.reason for row in planned.rows if not row.is_deleted)
    why = ", ".join(f"{kept[reason]:,} {reason.value}" for reason in Reason if kept[reason])
    plan = planned.plan
    keep = f"keep    {_amount(planned, is_deleted=False, manifests=len(plan.kept))}{f': {why}' if why else ''}"
    if not plan.delete:
        return [keep, "delete  nothing"]
    amount = _amount(planned, is_deleted=True, manifests=len(plan.delete))
    return [keep, f"delete  {amount}, {words.freed(planned.freed)}"]


def _amount(planned: Planned, *, is_deleted: bool, manifests: int) -> str:
    """Return the number of images and orphans that are kept or deleted, and of manifests if they are more."""
    rows = [row for row in planned.rows if row.is_deleted is is_deleted]
    text = words.images(rows)
    return text if len(rows) == manifests else f"{text} ({words.counted(manifests, 'manifest')})"


def overview_table(results: Sequence[Result], width: int | None, paint: Paint) -> Iterator[str]:
    """Yield one row a repository."""
    name = Column("REPOSITORY", lambda one: str(one.repository), least=24)

    def number(heading: str, text: Callable[[Result], str], style: Callable[[Result], str] = lambda _: "") -> Column:
        return Column(heading, lambda one: text(one) if one.planned else "", style, is_number=True)

    keep = number("KEEP", lambda one: f"{one.kept:,}")
    delete = number("DELETE", lambda one: f"{one.deleted:,}", lambda one: "red" if one.deleted else "")
    freed = number("FREED", lambda one: words.size(one.freed))
    policy = Column("POLICY", lambda one: one.planned.where if one.planned else "", lambda _: "dim", least=10)
    note = Column("NOTE", attrgetter("remark"), lambda one: "red" if one.error else "", least=10)
    return table(
        results, [[name, keep, delete, freed, policy, note], [name, keep, delete, freed, note]], width, paint
    )


def total_line(results: Sequence[Result]) -> str:
    """Return what of all repositories is kept and deleted, in a sentence."""
    failed = sum(bool(one.error) for one in results)
    where = words.counted(len(results), "repository", "repositories")
    failures = f" ({failed:,} failed)" if failed else ""
    rows = [row for one in results if one.planned for row in one.planned.rows]
    kept, deleted = ([row for row in rows if row.is_deleted is which] for which in (False, True))
    freed = sum(one.freed for one in results)
    delete = f"{words.images(deleted)}, {words.freed(freed)}" if deleted or freed else "nothing"
    return f"{where}{failures}: keep {words.images(kept)}, delete {delete}"


def rule_table(policy: Policy, width: int | None, paint: Paint) -> Iterator[str]:
    """Yield the rules of a policy, one regex a row, and what splits their pools."""
    rules: list[tuple[str, str, str, str]] = []
    for position, rule in enumerate(policy.tagged):
        for pattern in rule.match:
            groups = " ".join(group.text for group in capturing_groups(pattern.pattern))
            pools = f"one for each value of {groups}" if groups else "one"
            rules.append((f"tagged[{position}]", pattern.pattern, words.rule(rule), pools))
    rules.append((UNTAGGED, "(no tag)", words.rule(policy.untagged), "one for each kind of content"))
    rules.append((ORPHANS, "(subject missing)", words.rule(policy.orphans), "one"))
    headings = (("RULE", 0), ("TAGS", 20), ("KEEPS", 0), ("POOLS", 20))
    columns = [Column(heading, itemgetter(at), least=least) for at, (heading, least) in enumerate(headings)]
    return table(rules, [columns], width, paint)
