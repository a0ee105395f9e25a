"""Plans as tables: one image a row, or one repository a row.

A row is always one line.  Through a pipe every cell has its whole text; on a terminal the widest columns that fit are
chosen, and what does not fit is left out in the middle.  Rich's own tables lay out each cell as a document, which
takes a second for a thousand rows, so Rich only styles and measures here.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from rich.cells import cell_len

from cleaner.cli import words
from cleaner.cli.view import DoneRow, Overview, Part, RepositoryRow, Row, View
from cleaner.core.graph import Kind
from cleaner.core.manifest import Manifest
from cleaner.core.pattern import capturing_groups
from cleaner.core.plan import Verdict
from cleaner.core.policy import Policy
from cleaner.core.rules import ORPHANS, UNTAGGED, Reason

Paint = Callable[[str, str], str]

_GAP = 2
_SHOWN_TAGS = 3
_TAG_CHARS = 40
_POOL_CHARS = 30
_BRIEFLY = {"SBOM": "sbom", "attestation": "att", "redundant index": "idx", "referrer": "ref", "signature": "sig"}
_SHORTER_DIGEST_CHARS = 8
# Signatures of signatures can be a chain of any length.
_DEEPEST_INDENT = 4


class Column(msgspec.Struct, frozen=True):
    """A column: its heading, and the text and style of a line's cell.

    One that ``is_number`` is aligned to the right.  ``least`` is the width to which it may be shortened; 0 if it may
    not be.
    """

    heading: str
    text: Callable[[Any], str]
    style: Callable[[Any], str] = lambda line: "dim" if line.depth else ""
    is_number: bool = False
    least: int = 0


class _Line(msgspec.Struct, frozen=True):
    """The texts for one manifest; ``depth`` is 0 for an image."""

    name: str
    manifest: Manifest
    verdict: Verdict
    is_deleted: bool
    age: str
    size: str
    because: str
    platforms: tuple[str, ...] = ()
    attached: tuple[tuple[str, int], ...] = ()
    depth: int = 0


class _RuleLine(msgspec.Struct, frozen=True):
    """The texts for one regex of a rule."""

    rule: str
    tags: str
    keeps: str
    pools: str


_TAGS = Column("TAGS", attrgetter("name"), least=22)
_AGE = Column("AGE", attrgetter("age"), is_number=True)
_SIZE = Column("SIZE", attrgetter("size"), is_number=True)
_PLATFORMS = Column("PLATFORMS", lambda line: words.platforms(line.platforms), least=14)
_ATTACHED = Column(
    "ATTACHED", lambda line: ", ".join(words.counted(count, what) for what, count in line.attached), least=40
)
_BRIEF = Column(
    "ATTACHED", lambda line: ", ".join(f"{count} {_BRIEFLY[what]}" for what, count in line.attached), least=14
)
_PLAN = Column(
    "PLAN",
    lambda line: "delete" if line.is_deleted else "keep",
    lambda line: "red" if line.is_deleted else "green",
)
_RULE = Column("RULE", lambda line: words.place_rule(line.verdict.place))
_BECAUSE = Column("BECAUSE", attrgetter("because"), least=22)
_DIGEST = Column("DIGEST", lambda line: words.short(line.manifest.digest), lambda _: "dim")
_WHOLE_DIGEST = Column("DIGEST", lambda line: line.manifest.digest, lambda _: "dim")
_SHORTER_DIGEST = Column(
    "DIGEST", lambda line: words.short(line.manifest.digest)[:_SHORTER_DIGEST_CHARS], lambda _: "dim"
)

_WHOLE = (_TAGS, _WHOLE_DIGEST, _AGE, _SIZE, _PLATFORMS, _ATTACHED, _PLAN, _RULE, _BECAUSE)
# The widest layout first.
_LAYOUTS = (
    (_TAGS, _DIGEST, _AGE, _SIZE, _PLATFORMS, _ATTACHED, _PLAN, _RULE, _BECAUSE),
    (_TAGS, _DIGEST, _AGE, _SIZE, _PLATFORMS, _BRIEF, _PLAN, _RULE, _BECAUSE),
    (_TAGS, _SHORTER_DIGEST, _AGE, _SIZE, _PLAN, _RULE, _BECAUSE),
    (_TAGS, _SHORTER_DIGEST, _AGE, _SIZE, _PLAN, _BECAUSE),
    (_TAGS, _AGE, _PLAN, _BECAUSE),
)


def plan_lines(
    rows: Iterable[Row], policy: Policy, now: datetime, width: int | None, paint: Paint, *, unfold: bool
) -> list[str]:
    """Return the table of a plan, one image a row; ``unfold`` adds what belongs to each.

    ``width`` is the terminal's, or None for a pipe.
    """
    is_cut = width is not None
    lines = [line for row in rows for line in _lines(row, policy, now, unfold=unfold, is_cut=is_cut)]
    return _fitted_table(lines, _LAYOUTS if is_cut else (_WHOLE,), width, paint)


def summary_lines(view: View) -> list[str]:
    """Return how much is kept and how much is deleted, in two sentences."""
    images = [row for row in view.rows if row.kind is not Kind.ORPHAN]
    orphans = Counter(row.is_deleted for row in view.rows if row.kind is Kind.ORPHAN)
    deleted = sum(row.is_deleted for row in images)
    reasons = Counter(row.verdict.reason for row in images if not row.is_deleted)
    why = ", ".join(f"{reasons[reason]:,} {reason.value}" for reason in Reason if reasons[reason])
    kept = _amount(len(images) - deleted, orphans[False], len(view.plan.keep))
    keep = f"keep    {kept}" + (f": {why}" if why else "")
    if not view.plan.delete:
        return [keep, "delete  nothing"]
    amount = _amount(deleted, orphans[True], len(view.plan.delete))
    return [keep, f"delete  {amount}: {words.size(view.freed)} at most, as images share layers"]


def overview_lines(rows: Sequence[RepositoryRow], overview: Overview, width: int | None, paint: Paint) -> list[str]:
    """Return one row a repository, and the totals of all of them."""
    lines = _fitted_table(rows, _OVERVIEW, width, paint)
    gap = [""] if lines else []
    return [*lines, *gap, total_line(overview)]


def done_lines(rows: Sequence[DoneRow], width: int | None, paint: Paint) -> list[str]:
    """Return what was done, one row a repository, and the total."""
    count = words.counted(sum(row.deleted for row in rows), "manifest")
    where = words.counted(len(rows), "repository", "repositories")
    freed = words.size(sum(row.freed for row in rows))
    total = f"{count} of {where} were deleted, {freed} at most"
    return [*_fitted_table(rows, _DONE, width, paint), "", total]


def rule_lines(policy: Policy, width: int | None, paint: Paint) -> list[str]:
    """Return the rules of a policy, one a row, and what splits their pools."""
    rules: list[_RuleLine] = []
    for position, rule in enumerate(policy.tagged):
        for pattern in rule.match:
            groups = " ".join(group.text for group in capturing_groups(pattern.pattern))
            pools = f"one for each value of {groups}" if groups else "one"
            rules.append(_RuleLine(f"tagged[{position}]", pattern.pattern, words.rule(rule), pools))
    rules.append(_RuleLine(UNTAGGED, "(no tag)", words.rule(policy.untagged), "one for each kind of content"))
    rules.append(_RuleLine(ORPHANS, "(subject missing)", words.rule(policy.orphans), "one"))
    return _fitted_table(rules, _RULES, width, paint)


def total_line(overview: Overview) -> str:
    """Return what of all repositories is kept and deleted, in a sentence."""
    failed = sum(bool(row.error) for row in overview.rows)
    where = words.counted(len(overview.rows), "repository", "repositories")
    failures = f" ({failed:,} failed)" if failed else ""
    kept, deleted = sum(row.kept for row in overview.rows), sum(row.deleted for row in overview.rows)
    images = f"keep {words.counted(kept, 'image')}, delete {words.counted(deleted, 'image')}"
    freed = words.size(sum(row.freed for row in overview.rows))
    return f"{where}{failures}: {images}, {freed} at most, as images share layers"


_NAME = Column("REPOSITORY", lambda row: row.name, lambda _: "", least=24)
_KEEP = Column("KEEP", lambda row: _count(row, row.kept), lambda _: "", is_number=True)
_DELETE = Column(
    "DELETE", lambda row: _count(row, row.deleted), lambda row: "red" if row.deleted else "", is_number=True
)
_FREED = Column("FREED", lambda row: words.size(row.freed) if row.policy else "", lambda _: "", is_number=True)
_POLICY = Column("POLICY", lambda row: row.policy, lambda _: "dim", least=10)
_NOTE = Column("NOTE", lambda row: row.error or row.note, lambda row: "red" if row.error else "", least=10)
_OVERVIEW = ((_NAME, _KEEP, _DELETE, _FREED, _POLICY, _NOTE), (_NAME, _KEEP, _DELETE, _FREED, _NOTE))
_DONE = (
    (
        _NAME,
        Column("KEPT", lambda row: _number(row, row.kept), lambda _: "", is_number=True),
        Column("DELETED", lambda row: _number(row, row.deleted), lambda _: "", is_number=True),
        Column("REFUSED", lambda row: _number(row, row.refused), lambda _: "", is_number=True),
        Column(
            "FAILED", lambda row: _number(row, row.failed), lambda row: "red" if row.failed else "", is_number=True
        ),
        Column("SIZE", lambda row: words.size(row.freed) if row.freed else "", lambda _: "", is_number=True),
        Column("END", attrgetter("end"), lambda _: "red"),
    ),
    (
        _NAME,
        Column("DELETED", lambda row: _number(row, row.deleted), lambda _: "", is_number=True),
        Column("FAILED", lambda row: _number(row, row.failed), lambda _: "red", is_number=True),
        Column("END", attrgetter("end"), lambda _: "red"),
    ),
)

_RULES = (
    (
        Column("RULE", attrgetter("rule"), lambda _: ""),
        Column("TAGS", attrgetter("tags"), lambda _: "", least=20),
        Column("KEEPS", attrgetter("keeps"), lambda _: ""),
        Column("POOLS", attrgetter("pools"), lambda _: "", least=20),
    ),
)


def _number(row: DoneRow, count: int) -> str:
    return f"{count:,}" if row.kept or row.deleted or row.refused or row.failed or not row.end else ""


def _count(row: RepositoryRow, count: int) -> str:
    # Nothing is known of a repository without a plan.
    return f"{count:,}" if row.policy else ""


def _amount(images: int, orphans: int, manifests: int) -> str:
    """Return the numbers of images and orphans among so many manifests, and of the rest, which belongs to them."""
    things = [words.counted(images, "image")]
    if orphans:
        things.append(words.counted(orphans, "orphan"))
    if rest := manifests - images - orphans:
        things.append(f"{words.counted(rest, 'manifest')} of images")
    return words.listed(things)


def _lines(row: Row, policy: Policy, now: datetime, *, unfold: bool, is_cut: bool) -> Iterator[_Line]:
    manifest, longest = row.manifest, _POOL_CHARS if is_cut else words.TAG_MAX_CHARS
    yield _Line(
        _row_name(row, unfold=unfold, is_cut=is_cut),
        manifest,
        row.verdict,
        row.is_deleted,
        words.age(manifest.uploaded, now),
        words.size(row.size),
        words.because(row.verdict, policy, now, longest),
        row.platforms,
        tuple(sorted(row.attached.items())),
    )
    for part in row.parts if unfold else ():
        manifest = part.manifest
        yield _Line(
            _part_name(part),
            manifest,
            part.verdict,
            part.is_deleted,
            words.age(manifest.uploaded, now),
            words.size(manifest.size) if manifest.size else "",
            words.because(part.verdict, policy, now, longest),
            depth=part.depth,
        )


def _row_name(row: Row, *, unfold: bool, is_cut: bool) -> str:
    if row.kind is Kind.ORPHAN:
        return f"({row.what} without a subject)"
    tags = row.tags
    if not tags:
        return "(untagged)"
    if not is_cut:
        return ", ".join(tags)
    shown = tags if unfold or len(tags) <= _SHOWN_TAGS else tags[: _SHOWN_TAGS - 1]
    text = ", ".join(words.middle(words.short_tag(tag), _TAG_CHARS) for tag in shown)
    return text if len(shown) == len(tags) else f"{text} and {len(tags) - len(shown)} more"


def _part_name(part: Part) -> str:
    name = f"{part.what}: {', '.join(part.tags)}" if part.tags else part.what
    return "  " * min(part.depth, _DEEPEST_INDENT) + name


def _fitted_table(
    lines: Sequence[object], layouts: Sequence[Sequence[Column]], width: int | None, paint: Paint
) -> list[str]:
    """Return the headings and lines in the first layout that fits ``width``; empty if there are no lines.

    Columns without any text are left out.
    """
    if not lines:
        return []
    for layout in layouts:
        cells = [[column.text(line) for line in lines] for column in layout]
        columns = [(column, texts) for column, texts in zip(layout, cells, strict=True) if any(texts)]
        widths = [max(map(cell_len, (column.heading, *texts))) for column, texts in columns]
        least = [min(column.least or most, most) for (column, _), most in zip(columns, widths, strict=True)]
        if width is None or sum(least) + _GAP * (len(least) - 1) <= width:
            break
    if width is not None:
        _shrink(widths, least, [bool(column.least) for column, _ in columns], width)
    headings = [(column.heading, "dim") for column, _ in columns]
    table = [
        headings,
        *([(texts[at], column.style(line)) for column, texts in columns] for at, line in enumerate(lines)),
    ]
    is_number = [column.is_number for column, _ in columns]
    return [_joined(row, widths, is_number, paint) for row in table]


def _shrink(widths: list[int], least: Sequence[int], is_flexible: Sequence[bool], width: int) -> None:
    """Take what is too much from the widest columns that may be shortened, at last also below their least width."""
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    for _ in range(over):
        flexible = [at for at, may in enumerate(is_flexible) if may]
        widest = max(flexible, key=lambda at: (widths[at] > least[at], widths[at]))
        if widths[widest] <= 1:
            break
        widths[widest] -= 1


def _joined(row: Iterable[tuple[str, str]], widths: Iterable[int], is_number: Iterable[bool], paint: Paint) -> str:
    line, pending = "", 0
    for (text, style), width, right in zip(row, widths, is_number, strict=True):
        shown = words.middle(text, width)
        space = max(width - cell_len(shown), 0)
        line += " " * (pending + (space if right else 0)) + paint(shown, style) if shown else " " * (pending + space)
        pending = _GAP + (0 if right or not shown else space)
    return line.rstrip()
