"""Texts for numbers, times and policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

from cleaner.core.graph import Kind
from cleaner.core.manifest import IMAGE
from cleaner.core.messages import quote
from cleaner.core.plan import Verdict
from cleaner.core.policy import Policy, Rule
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import UNTAGGED, Place, Reason, rule_named
from cleaner.views.images import Planned, Row

SHORT_DIGEST_CHARS = 12
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

# A regex may have a thousand characters.
_REGEX_CHARS = 60
TAG_MAX_CHARS = 128


def age(uploaded: datetime | None, now: datetime) -> str:
    """Return how long ago something was uploaded, in the greatest unit of which there are at least two: ``36h``."""
    if uploaded is None:
        return "unknown"
    seconds = max(int((now - uploaded).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 120 * 60:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def moment(time: datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(count: int) -> str:
    """Return a number of bytes with three digits, in powers of a thousand: ``1.23 GB``."""
    if count < 1000:
        return f"{count} B"
    value, units = count / 1000, ["kB", "MB", "GB", "TB", "PB"]
    # 999,999 bytes are 1.00 MB, not 1000 kB.
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {units[0]}"


def freed(count: int) -> str:
    """Return a number of bytes that are freed."""
    return f"up to {size(count)}, as images share layers"


def counted(count: int, thing: str, things: str = "") -> str:
    """Return ``1 image`` or ``1,234 images``."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def images(rows: Iterable[Row]) -> str:
    """Return how many rows are images, and how many orphans if there are any."""
    kinds = Counter(row.kind is Kind.ORPHAN for row in rows)
    return listed([counted(kinds[False], "image"), *([counted(kinds[True], "orphan")] if kinds[True] else [])])


def listed(items: Iterable[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    *others, final = items
    return f"{', '.join(others)} {last} {final}" if others else final


def platforms(names: Iterable[str]) -> str:
    """Return the platforms of an index; nearly all are for Linux, so that is left out."""
    return ", ".join(name.removeprefix("linux/") for name in names)


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th``."""
    is_teen = 10 <= number % 100 <= 20
    return f"{number:,}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def cells(text: str) -> int:
    """Return the number of columns of a terminal that a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def middle(text: str, width: int) -> str:
    """Return a text in at most ``width`` columns of a terminal: what is left out is in the middle."""
    if cells(text) <= width:
        return text
    last = (width - 1) // 2
    return f"{set_cell_size(text, width - 1 - last)}{ELLIPSIS}{set_cell_size(text[::-1], last)[::-1]}"


def error_of(repository: Repository, error: str) -> str:
    """Return an error of one of several repositories, which it does not always name."""
    return error if str(repository) in error else f"{repository}: {error}"


def because(verdict: Verdict, by: Policy, now: datetime, longest: int = TAG_MAX_CHARS) -> str:
    """Return why a manifest is kept or deleted, and what decided: ``newest: 3rd of main, keep 5``.

    A tag or pool of more than ``longest`` characters is shortened in the middle.
    """
    detail = _detail(verdict, by, now, longest)
    return f"{verdict.reason.value}: {detail}" if detail else verdict.reason.value


def row_because(row: Row, planned: Planned) -> str:
    """Return the same for an image, and how much of it is decided otherwise.

    An index can be deleted while another index keeps its children.
    """
    text = because(row.verdict, planned.policy, planned.now)
    if others := sum(part.is_deleted is not row.is_deleted for part in row.parts):
        verb = "is" if others == 1 else "are"
        return f"{text}; {counted(others, 'manifest')} of it {verb} {'kept' if row.is_deleted else 'deleted'}"
    return text


def _detail(verdict: Verdict, by: Policy, now: datetime, longest: int) -> str:
    place = verdict.place
    decided = rule_named(by, place.rule) if place else None
    match verdict.reason:
        case Reason.TOO_YOUNG:
            return f"min_age {by.min_age}"
        case Reason.RUNNING:
            return verdict.detail
        case Reason.UNMATCHED:
            tags = [tag for tag in verdict.manifest.tags if by.rule_of(tag) is None]
            return f"no rule for {middle(tags[0], longest)}" if tags and by.tagged else ""
        case Reason.OVER_LIMIT:
            return f"max_deletions {by.max_deletions}"
        case Reason.RECENT if decided:
            return f"keep_within {decided.keep_within}"
        case _ if place and decided:
            uploaded = verdict.manifest.uploaded
            if uploaded and decided.is_retired(uploaded, now):
                return f"delete_after {decided.delete_after}"
            if not decided.keep:
                within = decided.keep_within
                return f"keep_within {within}" if within and decided.keep == 0 else f"keep {keep(decided)}"
            of = f" of {named}" if (named := pool(place, longest)) else ""
            return f"{ordinal(place.rank)}{of}, keep {keep(decided)}"
        case _:
            return ""


def pool(place: Place, longest: int) -> str:
    """Return a short name of a pool: what the groups captured, or the kind of content; empty if there is but one."""
    captured = ", ".join(part for part in place.pool if part)
    is_usual = place.rule == UNTAGGED and captured == IMAGE
    # Whoever may push chooses the kind of content, which may have any characters.
    return "" if is_usual else middle(quote(captured)[1:-1], longest)


def place_rule(place: Place | None) -> str:
    """Return the name of the rule that decided; empty if none did."""
    if place is None:
        return ""
    return f"tagged[{place.rule}]" if isinstance(place.rule, int) else place.rule


def lost(tags: Mapping[Digest, Collection[Tag]]) -> str:
    """Return how many tags were deleted of manifests that were not, and how the next run judges these."""
    count = counted(sum(map(len, tags.values())), "tag")
    manifests, them = (
        ("1 manifest that was", "it") if len(tags) == 1 else (f"{len(tags):,} manifests that were", "them")
    )
    return f"{count} of {manifests} not deleted; without tags the next run judges {them} as untagged"


def short(digest: str) -> str:
    """Return the first digits of a digest."""
    return digest.removeprefix("sha256:")[:SHORT_DIGEST_CHARS]


def short_tag(tag: str) -> str:
    """Return a tag; a digest in it, as in a referrer tag, is cut."""
    prefix, dash, rest = tag.partition("-")
    if prefix == "sha256" and dash and len(rest) >= 64:
        return f"sha256-{rest[:SHORT_DIGEST_CHARS]}..{rest[64:]}"
    return tag


def policy(value: Policy) -> str:
    """Return a policy by its keys, in one line; a limit and ``dry_run`` are left out if they are off."""
    tagged = [f"{rule_name(value, position)}: {rule(one)}" for position, one in enumerate(value.tagged)]
    parts = [
        f"min_age {value.min_age}",
        *(tagged or ["tagged: no rules"]),
        f"untagged: {rule(value.untagged)}",
        f"orphans: {rule(value.orphans)}",
    ]
    return "; ".join([*parts, *_limits(value)])


def policy_settings(value: Policy) -> str:
    """Return the keys of a policy that are not rules, in one line."""
    return "; ".join([f"min_age {value.min_age}", *_limits(value)])


def _limits(value: Policy) -> list[str]:
    limit = [] if value.max_deletions is None else [f"max_deletions {value.max_deletions}"]
    return [*limit, *(["dry_run"] if value.dry_run else [])]


def rule(value: Rule) -> str:
    """Return what a rule keeps, by its keys: ``keep 10, delete_after 90d``."""
    parts = [f"keep {keep(value)}"]
    if value.keep_within is not None:
        parts.append(f"keep_within {value.keep_within}")
    if value.delete_after is not None:
        parts.append(f"delete_after {value.delete_after}")
    if value.order != "uploaded":
        parts.append(f"order {value.order}")
    return ", ".join(parts)


def keep(value: Rule) -> str:
    """Return ``keep`` of a rule as a document has it."""
    return "all" if value.keep is None else str(value.keep)


def rule_name(value: Policy, name: int | str) -> str:
    """Return the name of a rule with its regexes: ``tagged[1] (main-.*)``; ``name`` is that of a ``Place``."""
    if isinstance(name, str):
        return name
    regexes = " or ".join(pattern.pattern for pattern in rule_named(value, name).match)
    shown = regexes if len(regexes) <= _REGEX_CHARS else f"{regexes[:_REGEX_CHARS]}..."
    return f"tagged[{name}] ({shown})"
