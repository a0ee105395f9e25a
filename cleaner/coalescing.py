"""Lets messages of one repository wait for one another, and be answered by one run where one is enough.

A multi-arch push is announced once per manifest and tag; ten messages that arrive together cost one or two listings.
Messages of different repositories do not wait for one another.

State: per repository a lock, which the message that is handled holds; what the current and the waiting messages
name; and when the latest run that ended well began.  ``Coalescing`` owns it; its guard protects the names, and is
held for a few operations on dictionaries.  Any thread calls.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from cleaner.core.errors import TimeLimitReached
from cleaner.core.notification import Named
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.google.lru_cache import LruCache

# How many repositories a process remembers.  One that is dropped while a message holds its lock may be pruned by two
# runs at once, which does no harm.
_REPOSITORIES_MAX = 10_000


class _RepositoryLock(msgspec.Struct):
    """One repository's lock; ``listed`` is when the latest run that ended well began its listing.

    ``digests`` and ``tags`` count the messages that name them.
    """

    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    digests: Counter[Digest] = msgspec.field(default_factory=Counter)
    tags: Counter[Tag] = msgspec.field(default_factory=Counter)
    listed: datetime | None = None


class Lease:
    """One message's hold on its repository."""

    def __init__(self, held: _RepositoryLock, guard: threading.Lock) -> None:
        self._held = held
        self._guard = guard

    def is_covered(self, published: datetime | None) -> bool:
        """Return whether a run that ended well began its listing after a message of that time was published."""
        listed = self._held.listed
        return published is not None and listed is not None and listed > published

    def record_success(self, listed: datetime) -> None:
        """Remember that a run which began its listing at ``listed`` ended well."""
        self._held.listed = listed

    def named(self) -> Named:
        """Return what this message and those that wait for it name, as of now."""
        with self._guard:
            return Named(frozenset(self._held.digests), frozenset(self._held.tags))


class Coalescing:
    """The repositories' locks of a process; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._locks: LruCache[Repository, _RepositoryLock] = LruCache(_REPOSITORIES_MAX)

    @contextmanager
    def lease(self, repository: Repository, named: Named, deadline: float) -> Iterator[Lease]:
        """Wait until no other message of ``repository`` holds it, then hold it until the end of the context.

        ``named`` is what the message names.

        Raises:
            TimeLimitReached: It was not free before ``deadline``.
        """
        held = self._locks.setdefault(repository, _RepositoryLock())
        with self._guard:
            held.digests.update(named.digests)
            held.tags.update(named.tags)
        try:
            if not held.lock.acquire(timeout=max(deadline - self._clock(), 0.0)):
                raise TimeLimitReached(f"{repository}: another run took until the time limit")
            try:
                yield Lease(held, self._guard)
            finally:
                held.lock.release()
        finally:
            with self._guard:
                # Counters that are subtracted so keep nothing that is named no more.
                held.digests -= Counter(named.digests)
                held.tags -= Counter(named.tags)
