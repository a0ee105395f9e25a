"""Numbers, times and policies in words.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Tag

SHORT_DIGEST_CHARS = 12

_UNITS = (("w", 7 * 86400), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def duration(value: timedelta) -> str:
    """Return a duration as a policy spells it, ``1h30m``; it is a whole number of seconds there."""
    left = int(value.total_seconds())
    parts = []
    # A policy that says 30d should not read 4w2d.
    for unit, seconds in _UNITS[0 if left % (7 * 86400) == 0 else 1 :]:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def age(uploaded: datetime | None, now: datetime) -> str:
    """Return how long ago something was uploaded, in the greatest unit of which two or more have passed: ``36h``."""
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


def counted(count: int, thing: str, things: str = "") -> str:
    """Return ``1 image`` or ``1,234 images``."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def listed(items: Iterable[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    *others, final = items
    return f"{', '.join(others)} {last} {final}" if others else final


def lost(tags: Mapping[Digest, Collection[Tag]]) -> str:
    """Return how many tags were deleted of manifests that were not, and what that means for the next run."""
    count = counted(sum(map(len, tags.values())), "tag")
    manifests = counted(len(tags), "manifest")
    return (
        f"{count} of {manifests} still there: one without tags is judged as untagged the next time, by keep_untagged"
    )


def short(digest: str) -> str:
    """Return as much of a digest as a person needs."""
    return digest.removeprefix("sha256:")[:SHORT_DIGEST_CHARS]


def short_tag(tag: str) -> str:
    """Return a tag with the digest in a cosign tag cut."""
    prefix, dash, rest = tag.partition("-")
    if prefix == "sha256" and dash and len(rest) >= 64:
        return f"sha256-{rest[:SHORT_DIGEST_CHARS]}..{rest[64:]}"
    return tag


def policy(value: Policy) -> str:
    """Return what a policy says, by the keys it is written with; those that are off are left out."""
    said = [f"keep {value.keep}", f"keep_untagged {value.keep_untagged}", f"min_age {duration(value.min_age)}"]
    if value.max_age is not None:
        said.append(f"max_age {duration(value.max_age)}")
    for key, patterns in (("delete_tags", value.delete_tags), ("protect_tags", value.protect_tags)):
        if patterns:
            said.append(f"{key} {' '.join(pattern.pattern for pattern in patterns)}")
    if value.group_by is not None:
        said.append(f"group_by {value.group_by.pattern}")
    if value.max_deletions is not None:
        said.append(f"max_deletions {value.max_deletions}")
    if value.dry_run:
        said.append("dry_run")
    return ", ".join(said)
