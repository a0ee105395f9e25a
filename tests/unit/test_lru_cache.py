"""The bounded cache: what it keeps, what it drops first, and how sizes add up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cleaner.google.lru_cache import LruCache


def filled(max_size: int, **sizes: int) -> LruCache[str, int]:
    """Return a cache in which each value is its own size."""
    cache: LruCache[str, int] = LruCache(max_size, size_of=lambda value: value)
    for key, size in sizes.items():
        cache.put(key, size)
    return cache


def test_value_is_found_by_its_key() -> None:
    """None stands for no value."""
    cache: LruCache[str, str] = LruCache(2)
    cache.put("a", "x")

    assert (cache.get("a"), cache.get("b")) == ("x", None)


def test_default_is_set_once() -> None:
    """Later calls return the same object."""
    cache: LruCache[str, list[int]] = LruCache(2)

    cache.setdefault("a", []).append(1)

    assert cache.setdefault("a", []) == [1]
    assert cache.setdefault("b", []) == []


@pytest.mark.parametrize("use", ["get", "put", "setdefault"])
def test_least_recently_used_is_dropped(use: str) -> None:
    """Reading a value counts as use, and so does setting it."""
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    if use == "get":
        cache.get("a")
    else:
        getattr(cache, use)("a", 1)

    cache.put("c", 3)

    assert [cache.get(key) for key in ("a", "b", "c")] == [1, None, 3]


def test_large_value_drops_as_many_as_it_takes() -> None:
    """The sizes of what is kept never add up to more than the maximum."""
    cache = filled(10, a=3, b=3, c=3)

    cache.put("d", 5)

    assert [cache.get(key) for key in ("a", "b", "c", "d")] == [None, None, 3, 5]


def test_value_larger_than_the_cache_is_not_stored() -> None:
    """It drops no other value, and replaces its own older one."""
    cache = filled(10, a=3, b=3)

    cache.put("b", 11)

    assert [cache.get(key) for key in ("a", "b")] == [3, None]
    assert cache.setdefault("c", 12) == 12
    assert cache.get("c") is None


def test_replaced_value_leaves_no_size_behind() -> None:
    """Setting a key again takes no more room than its latest value."""
    cache = filled(10, a=3)
    for size in (9, 3, 6):
        cache.put("a", size)

    cache.put("b", 4)

    assert [cache.get(key) for key in ("a", "b")] == [6, 4]


def test_popped_value_leaves_no_size_behind() -> None:
    """What is removed is returned, and its room is free."""
    cache = filled(10, a=6, b=4)

    assert (cache.pop("a"), cache.pop("a")) == (6, None)
    cache.put("c", 6)

    assert [cache.get(key) for key in ("a", "b", "c")] == [None, 4, 6]


def test_threads_share_the_first_default() -> None:
    """However many set it at the same time, one value is kept."""
    cache: LruCache[str, object] = LruCache(2)
    together = threading.Barrier(8)

    def first(_: int) -> object:
        together.wait()
        return cache.setdefault("a", object())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first, range(8)))) == 1
