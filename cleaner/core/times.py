"""Reads times as Google's APIs write them."""

from __future__ import annotations

from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Later than any upload time.
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def parse_time(value: object) -> datetime | None:
    """Return an RFC 3339 time as aware UTC, truncated to microseconds; None if ``value`` is anything else."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None
