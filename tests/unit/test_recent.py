"""What is remembered, and what is forgotten first."""

from __future__ import annotations

from cleaner.google.recent import Recent


def test_value_is_made_once() -> None:
    """Whoever asks again gets the same one."""
    recent: Recent[str, list[int]] = Recent(2, list)

    recent.get("a").append(1)

    assert recent.get("a") == [1]
    assert recent.get("b") == []


def test_longest_unused_is_forgotten() -> None:
    """To ask for one is to use it."""
    recent: Recent[str, list[int]] = Recent(2, list)
    for key in ("a", "b", "a", "c"):
        recent.get(key).append(1)

    assert [recent.get(key) for key in ("a", "c", "b")] == [[1, 1], [1], []]
