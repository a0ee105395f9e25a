"""A bounded cache that several threads share; its lock protects the entries and their total size.

The lock is held for dictionary operations and for ``size_of``, never for I/O.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_: object) -> int:
    return 1


class LruCache(Generic[K, V]):
    """Values by key; the least recently used are dropped once the sizes of all add up to more than ``max_size``.

    ``size_of`` returns the size of a value; by default each value counts 1.  It must return the same for a value as
    long as that is in the cache.
    """

    def __init__(self, max_size: int, size_of: Callable[[V], int] = _one) -> None:
        self._max_size = max_size
        self._size_of = size_of
        self._size = 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value of ``key``, which thereby counts as used; None if there is none."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Set the value of ``key``.  A value larger than ``max_size`` is not stored, and drops no other."""
        with self._lock:
            self._remove(key)
            self._add(key, value)

    def setdefault(self, key: K, value: V) -> V:
        """Return the value of ``key``, which thereby counts as used; set it to ``value`` first if there is none."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            self._add(key, value)
            return value

    def pop(self, key: K) -> V | None:
        """Remove ``key`` and return its value; None if there is none."""
        with self._lock:
            return self._remove(key)

    def _add(self, key: K, value: V) -> None:
        size = self._size_of(value)
        if size > self._max_size:
            return
        self._values[key] = value
        self._size += size
        while self._size > self._max_size:
            _, dropped = self._values.popitem(last=False)
            self._size -= self._size_of(dropped)

    def _remove(self, key: K) -> V | None:
        value = self._values.pop(key, None)
        if value is not None:
            self._size -= self._size_of(value)
        return value
