"""A dry run as one HTML page, to be sent to those whose images it is about.

Reads no clock, network, environment or log; only the files beside it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files

import jinja2
import msgspec

from cleaner.cli import words
from cleaner.cli.view import Row, View
from cleaner.core.graph import Kind
from cleaner.core.manifest import IMAGE
from cleaner.core.policy import Policy, Rule
from cleaner.core.rules import ORPHANS, UNTAGGED, Place, Reason, rule_named

# The images of a longer repository are folded at first.
LONGEST_OPEN = 25
# A heading names no more targets than this.
_NAMED_TARGETS = 3

WORDS = {
    Reason.UNKNOWN_TYPE: "media type not supported",
    Reason.UNKNOWN_AGE: "no usable upload time",
    Reason.TOO_YOUNG: "younger than min_age",
    Reason.JUST_PUSHED: "was just pushed",
    Reason.RUNNING: "is deployed, or lists what is",
    Reason.UNMATCHED: "no rule matches a tag of it",
    Reason.PROTECTED: "the rule keeps all",
    Reason.NEWEST: "among the newest of its pool",
    Reason.RECENT: "younger than keep_within",
    Reason.NEEDED: "something that is kept needs it",
    Reason.OVER_LIMIT: "max_deletions is reached",
    Reason.EXPIRED: "no rule keeps it",
    Reason.FOLLOWS: "belongs to an image that is deleted",
    Reason.ORPHANED: "its subject does not exist",
}


class Reported(msgspec.Struct, frozen=True):
    """What is known of one repository.

    ``policy`` describes the policy and says where it is from; ``by`` is the policy itself, for what its rules keep.
    ``view`` is None if there is no plan; ``error`` says why, and is empty otherwise.
    """

    repository: str
    policy: str
    view: View | None
    error: str
    by: Policy | None = None


def page(repositories: Sequence[Reported], now: datetime, version: str) -> str:
    """Return the page of a dry run at ``now``: HTML that loads nothing else, and is complete without scripts.

    The repository that frees most comes first; those without a plan come last.
    """
    sections = [_Section.of(one, now) for one in repositories]
    sections.sort(key=lambda one: (not one.is_planned, -one.freed, one.name))
    style, script = _text("page.css"), _text("page.js")
    html = _template().render(
        targets=_targets(one.name for one in sections),
        now=now,
        version=version,
        sections=sections,
        longest_open=LONGEST_OPEN,
        # Bars of different repositories are compared by their lengths.
        largest=max((one.kept_size + one.freed for one in sections), default=0) or 1,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    # A registry's error text may have lone surrogates, which no file takes.
    return html.encode(errors="backslashreplace").decode()


class _Image(msgspec.Struct, frozen=True):
    """The texts of one row; ``rank`` and ``rule`` are empty if no rule decided."""

    row: Row
    age: str
    because: str
    rank: str
    rule: str

    @classmethod
    def of(cls, row: Row, by: Policy | None, now: datetime) -> _Image:
        place = row.verdict.place
        rule = words.place_rule(place)
        age = words.age(row.manifest.uploaded, now)
        return cls(row, age, _because(row), _rank(row, place, by, now) if place else "", rule)

    @property
    def plan(self) -> str:
        return "delete" if self.row.is_deleted else "keep"

    @property
    def platforms(self) -> str:
        return words.platforms(self.row.platforms)

    @property
    def attached(self) -> str:
        counts = [words.counted(count, what) for what, count in sorted(self.row.attached.items())]
        return ", ".join(map(_unbroken, counts))


class _Section(msgspec.Struct, frozen=True):
    """One repository; the numbers are 0 if there is no plan.

    ``kept`` and ``deleted`` count images, the numbers of orphans are apart.  Sizes are in bytes.
    """

    name: str
    policy: str
    error: str
    is_planned: bool
    images: tuple[_Image, ...] = ()
    kept: int = 0
    deleted: int = 0
    orphans_kept: int = 0
    orphans_deleted: int = 0
    kept_size: int = 0
    freed: int = 0

    @classmethod
    def of(cls, reported: Reported, now: datetime) -> _Section:
        view = reported.view
        if view is None:
            return cls(reported.repository, reported.policy, reported.error, is_planned=False)
        orphans = [row.is_deleted for row in view.rows if row.kind is Kind.ORPHAN]
        images = [row.is_deleted for row in view.rows if row.kind is not Kind.ORPHAN]
        return cls(
            reported.repository,
            reported.policy,
            reported.error,
            is_planned=True,
            images=tuple(_Image.of(row, reported.by, now) for row in view.rows),
            kept=images.count(False),
            deleted=images.count(True),
            orphans_kept=orphans.count(False),
            orphans_deleted=orphans.count(True),
            kept_size=view.kept_size,
            freed=view.freed,
        )


def _because(row: Row) -> str:
    verdict = row.verdict
    text = f"{verdict.reason.value}: {verdict.detail or WORDS[verdict.reason]}"
    # An index can be deleted while another index keeps its children.
    if others := sum(part.is_deleted is not row.is_deleted for part in row.parts):
        count = words.counted(others, "manifest")
        text += f"; {count} of it {'is' if others == 1 else 'are'} {'kept' if row.is_deleted else 'deleted'}"
    return text


def _rank(row: Row, place: Place, by: Policy | None, now: datetime) -> str:
    """Return the rank and the pool, and what of the rule decides: ``3rd of main, keep 2``."""
    text = words.ordinal(place.rank)
    rule = rule_named(by, place.rule) if by else None
    if rule and rule.order != "uploaded":
        text += f" by {rule.order}"
    if place.rule == UNTAGGED:
        text += " of untagged" if place.pool == (IMAGE,) else f" of untagged {', '.join(filter(None, place.pool))}"
    elif place.rule == ORPHANS:
        text += " of orphans"
    elif place.pool:
        text += f" of {', '.join(part or '(none)' for part in place.pool)}"
    return ", ".join([text, *map(_unbroken, _deciding(rule, row, now))]) if rule else text


def _deciding(rule: Rule, row: Row, now: datetime) -> Iterator[str]:
    """Yield the keys of a rule that decide for an image, with their values."""
    uploaded = row.manifest.uploaded
    yield f"keep {words.keep(rule)}"
    if row.verdict.reason is Reason.RECENT:
        yield f"keep_within {rule.keep_within}"
    if uploaded and rule.is_retired(uploaded, now):
        yield f"delete_after {rule.delete_after}"


def _unbroken(text: str) -> str:
    """Return ``text`` so that a number is not parted from what it counts at the end of a line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _targets(names: Iterable[str]) -> str:
    """Return the name of the only repository, or the hosts and projects of several."""
    names = sorted(set(names))
    if len(names) == 1:
        return names[0]
    roots = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in names))
    if len(roots) > _NAMED_TARGETS:
        roots[_NAMED_TARGETS:] = [f"{len(roots) - _NAMED_TARGETS:,} more"]
    return words.listed(roots) if roots else "no repositories"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "moment": words.moment,
        "size": words.size,
        "counted": words.counted,
        "short": words.short,
        "short_tag": words.short_tag,
    }
    return environment.from_string(_text("page.html"))


@cache
def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression with which a content security policy allows ``text`` inline."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
