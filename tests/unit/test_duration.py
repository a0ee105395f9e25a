"""Durations: sums of numbers with units, shown as they were written."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from cleaner.core.duration import Duration

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1s", timedelta(seconds=1)),
        ("1m", timedelta(minutes=1)),
        ("1h", timedelta(hours=1)),
        ("1d", timedelta(days=1)),
        ("1w", timedelta(weeks=1)),
        ("90m", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("30m1h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("1w1d1h1m1s", timedelta(weeks=1, days=1, hours=1, minutes=1, seconds=1)),
        ("1h1h", timedelta(hours=2)),
        ("007s", timedelta(seconds=7)),
        ("0s", timedelta()),
        ("0000000001d", timedelta(days=1)),
        ("999999999d", timedelta(days=999999999)),
    ],
)
def test_duration_is_a_sum(text: str, value: timedelta) -> None:
    """One or more numbers with a unit each, in any order."""
    assert Duration.parse(text).value == value


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from("smhdw")), min_size=1))
def test_duration_is_the_sum_of_its_parts_and_keeps_its_text(parts: list[tuple[int, str]]) -> None:
    """It is shown as it was written."""
    text = "".join(f"{count}{unit}" for count, unit in parts)
    duration = Duration.parse(text)

    assert duration.value.total_seconds() == sum(count * SECONDS[unit] for count, unit in parts)
    assert str(duration) == duration.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "h",
        "1 h",
        " 1h",
        "1h ",
        "1h 30m",
        "1h30",
        "-1h",
        "+1h",
        "1.5h",
        "1,5h",
        "1y",
        "1M",
        "1H",
        "1mo",
        "1ms",
        "1_0s",
        "\u0661h",
        "1\u200bh",
        "1h\n",
        "PT1H",
        "1e3s",
        "00000000001d",
    ],
)
def test_other_text_is_not_a_duration(text: str) -> None:
    """It is matched as a whole, and only ASCII digits count."""
    with pytest.raises(ValueError, match=r"^not a duration$"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["9999999999w", "999999999d1d", "9999999999d", "999999999d" * 1000])
def test_duration_that_is_too_long_is_refused(text: str) -> None:
    """Python's timedelta cannot hold it."""
    with pytest.raises(ValueError, match=r"^too long a duration$"):
        Duration.parse(text)
