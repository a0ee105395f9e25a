"""Per repository: a lock, the names in its current and waiting messages, and when its last successful run listed.

Messages of one repository wait for one another, and one run covers every message that was published before it began
its listing: a multi-arch push publishes one message per manifest and tag, and ten that arrive together cost one or
two listings.  Different repositories do not wait for one another.

The lock of a repository is held for the whole of a run, by the thread of its message, and protects ``listed``.  The
guard of ``Coalescing`` protects the names of all repositories.  It is held for a few operations on dictionaries, and
never while a thread waits.
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

# How many repositories a process remembers.  The next message of one that was dropped costs a listing; if a run of it
# is under way, that message does not wait, which is as harmless as the run of another process.
_REPOSITORIES_MAX = 10_000


class _RepositoryLock(msgspec.Struct):
    """The state of one repository.

    ``digests`` and ``tags`` count the messages that name each.  ``listed`` is when the last successful run began its
    listing (aware UTC; None before the first).
    """

    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    digests: Counter[Digest] = msgspec.field(default_factory=Counter)
    tags: Counter[Tag] = msgspec.field(default_factory=Counter)
    listed: datetime | None = None


class Lease:
    """The right of one message to run on its repository, until the end of the context that gave it."""

    def __init__(self, held: _RepositoryLock, guard: threading.Lock) -> None:
        self._held = held
        self._guard = guard

    def is_covered(self, published: datetime | None) -> bool:
        """Return whether a successful run began its listing after a message of that time was published.

        A message whose time is unknown is not covered.
        """
        listed = self._held.listed
        return published is not None and listed is not None and listed > published

    def record_success(self, listed: datetime) -> None:
        """Record that a run succeeded which began its listing at ``listed``."""
        self._held.listed = listed

    def named(self) -> Named:
        """Return what this message and those that wait for it name now."""
        with self._guard:
            return Named(frozenset(self._held.digests), frozenset(self._held.tags))


class Coalescing:
    """The locks of a process, by repository; any thread may use it.  ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._locks: LruCache[Repository, _RepositoryLock] = LruCache(_REPOSITORIES_MAX)

    @contextmanager
    def lease(self, repository: Repository, named: Named, deadline: float) -> Iterator[Lease]:
        """Wait until no other message of ``repository`` has a lease, then hold one until the end of the context.

        ``named`` is what the message names; ``deadline`` is in seconds of the clock.

        Raises:
            TimeLimitReached: The other messages took until ``deadline``.
        """
        held = self._locks.setdefault(repository, _RepositoryLock())
        with self._guard:
            held.digests.update(named.digests)
            held.tags.update(named.tags)
        try:
            # A negative timeout would wait without limit.
            if not held.lock.acquire(timeout=max(deadline - self._clock(), 0.0)):
                raise TimeLimitReached(f"{repository}: another run was under way until the time limit")
            try:
                yield Lease(held, self._guard)
            finally:
                held.lock.release()
        finally:
            with self._guard:
                # ``-=`` also removes what has a count of zero.
                held.digests -= Counter(named.digests)
                held.tags -= Counter(named.tags)
