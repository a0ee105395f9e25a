"""A plan as lines of text that fit the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from cleaner.cli import words
from cleaner.cli.images import Part, Row, View
from cleaner.cli.terminal import Table, Terminal
from cleaner.core.graph import Kind
from cleaner.core.manifest import Manifest
from cleaner.core.plan import Verdict
from cleaner.core.rules import Reason

_SHOWN_TAGS = 3
_BRIEFLY = {"SBOM": "sbom", "attestation": "att", "redundant index": "idx", "referrer": "ref", "signature": "sig"}
_SHORTER_DIGEST_CHARS = 8
# Signatures of signatures can be a chain of any length.
_DEEPEST_INDENT = 4


class _Line(msgspec.Struct, frozen=True):
    """The texts for one manifest; ``depth`` is 0 for an image."""

    name: str
    manifest: Manifest
    verdict: Verdict
    is_deleted: bool
    age: str
    size: str
    platforms: tuple[str, ...] = ()
    attached: tuple[tuple[str, int], ...] = ()
    depth: int = 0

    @property
    def plan(self) -> str:
        return "delete" if self.is_deleted else "keep"

    @property
    def because(self) -> str:
        reason = self.verdict.reason.value
        return f"{reason}: {self.verdict.detail}" if self.verdict.detail else reason

    @property
    def platform_names(self) -> str:
        # Nearly all are for Linux.
        return ", ".join(platform.removeprefix("linux/") for platform in self.platforms)

    @property
    def attached_names(self) -> str:
        return ", ".join(words.counted(count, what) for what, count in self.attached)

    @property
    def attached_briefly(self) -> str:
        return ", ".join(f"{count} {_BRIEFLY[what]}" for what, count in self.attached)

    @property
    def style(self) -> str:
        return "dim" if self.depth else ""

    @property
    def plan_style(self) -> str:
        return "red" if self.is_deleted else "green"


class _Column(msgspec.Struct, frozen=True):
    """One column: its heading, as ``Table`` reads it, its text and its style.

    ``least`` is the least width at which it is readable if it may be wrapped; 0 if it may not.
    """

    heading: str
    text: Callable[[_Line], str]
    style: Callable[[_Line], str] = lambda line: line.style
    least: int = 0


_TAGS = _Column("TAGS", lambda line: line.name, least=24)
_AGE = _Column(">AGE", lambda line: line.age)
_SIZE = _Column(">SIZE", lambda line: line.size)
_PLATFORMS = _Column("PLATFORMS", lambda line: line.platform_names, least=14)
_PLAN = _Column("PLAN", lambda line: line.plan, lambda line: line.plan_style)
_BECAUSE = _Column("BECAUSE", lambda line: line.because, least=14)
_DIGEST = _Column("DIGEST", lambda line: words.short(line.manifest.digest), lambda _: "dim")
_SHORTER_DIGEST = _Column(
    "DIGEST", lambda line: words.short(line.manifest.digest)[:_SHORTER_DIGEST_CHARS], lambda _: "dim"
)

# The widest layout first.
_LAYOUTS = (
    (
        _TAGS,
        _DIGEST,
        _AGE,
        _SIZE,
        _PLATFORMS,
        _Column("ATTACHED", lambda line: line.attached_names, least=40),
        _PLAN,
        _BECAUSE,
    ),
    (
        _TAGS,
        _DIGEST,
        _AGE,
        _SIZE,
        _PLATFORMS,
        _Column("ATTACHED", lambda line: line.attached_briefly, least=14),
        _PLAN,
        _BECAUSE,
    ),
    (
        _TAGS,
        _SHORTER_DIGEST,
        _AGE,
        _SIZE,
        _Column(">PLAT", lambda line: str(len(line.platforms) or "")),
        _Column(">ATT", lambda line: str(sum(count for _, count in line.attached) or "")),
        _PLAN,
        _BECAUSE,
    ),
    (_TAGS, _SHORTER_DIGEST, _AGE, _SIZE, _PLAN, _BECAUSE),
)


def plan_lines(view: View, terminal: Terminal, now: datetime, *, unfold: bool) -> list[str]:
    """Return the table of a plan, one image a row, newest first; ``unfold`` adds what belongs to each.

    It has the first layout that fits.
    """
    lines = [line for row in view.rows for line in _lines(row, now, unfold=unfold)]
    for layout in _LAYOUTS:
        columns = [column for column in layout if any(column.text(line) for line in lines)]
        flexible = {at: column.least for at, column in enumerate(columns) if column.least}
        table = Table((column.heading for column in columns), flexible)
        for line in lines:
            table.add((column.text(line) for column in columns), (column.style(line) for column in columns))
        if table.fits(terminal.width):
            break
    return table.lines(terminal)


def summary_lines(view: View, terminal: Terminal) -> list[str]:
    """Return how much is kept and how much is deleted, in two sentences."""
    images = [row for row in view.rows if row.kind is not Kind.ORPHAN]
    orphans = Counter(row.is_deleted for row in view.rows if row.kind is Kind.ORPHAN)
    deleted = sum(row.is_deleted for row in images)
    reasons = Counter(row.verdict.reason for row in images if not row.is_deleted)
    why = ", ".join(f"{reasons[reason]:,} {reason.value}" for reason in Reason if reasons[reason])
    kept = _amount(len(images) - deleted, orphans[False], len(view.plan.keep))
    keep = f"keep    {kept}" + (f": {why}" if why else "")
    if not view.plan.delete:
        return [*terminal.wrap(keep, 8), "delete  nothing"]
    amount = _amount(deleted, orphans[True], len(view.plan.delete))
    size = f"{words.size(view.freed)} at most, as images share layers"
    return [*terminal.wrap(keep, 8), *terminal.wrap(f"delete  {amount}: {size}", 8)]


def _amount(images: int, orphans: int, manifests: int) -> str:
    """Return the numbers of images and orphans among so many manifests, and of the rest, which belongs to them."""
    things = [words.counted(images, "image")]
    if orphans:
        things.append(words.counted(orphans, "orphan"))
    if rest := manifests - images - orphans:
        things.append(f"{words.counted(rest, 'manifest')} of images")
    return words.listed(things)


def _lines(row: Row, now: datetime, *, unfold: bool) -> Iterator[_Line]:
    manifest = row.manifest
    yield _Line(
        _row_name(row, unfold=unfold),
        manifest,
        row.verdict,
        row.is_deleted,
        words.age(manifest.uploaded, now),
        words.size(row.size),
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
            depth=part.depth,
        )


def _row_name(row: Row, *, unfold: bool) -> str:
    if row.kind is Kind.ORPHAN:
        return f"({row.what} without a subject)"
    tags = row.tags
    if not tags:
        return "(untagged)"
    shown = tags if unfold or len(tags) <= _SHOWN_TAGS else tags[: _SHOWN_TAGS - 1]
    text = ", ".join(words.short_tag(tag) for tag in shown)
    return text if len(shown) == len(tags) else f"{text} and {len(tags) - len(shown)} more"


def _part_name(part: Part) -> str:
    name = f"{part.what}: {', '.join(part.tags)}" if part.tags else part.what
    return "  " * min(part.depth, _DEEPEST_INDENT) + name
