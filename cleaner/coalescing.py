"""Lets messages of one repository wait for one another, and be answered by one run where one is enough.

A multi-arch push announces itself once per manifest and tag; ten messages that arrive together cost one or two
listings.  Different repositories do not wait for one another.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime

import msgspec

from cleaner.core.errors import TimeLimitReached
from cleaner.core.reference import Digest, Repository

# How many repositories' last runs a process remembers.
_REMEMBERED_MAX = 10_000


class _Turnstile(msgspec.Struct):
    """One repository's: ``listed`` is when the latest run that ended well began its listing."""

    turn: threading.Lock = msgspec.field(default_factory=threading.Lock)
    named: Counter[Digest] = msgspec.field(default_factory=Counter)
    waiting: int = 0
    listed: datetime | None = None


class Turn:
    """One message's turn at its repository."""

    def __init__(self, turnstile: _Turnstile, guard: threading.Lock) -> None:
        self._turnstile = turnstile
        self._guard = guard

    def covers(self, published: datetime | None) -> bool:
        """Whether a run that ended well began its listing after a message of that time was published."""
        listed = self._turnstile.listed
        return published is not None and listed is not None and listed > published

    def ended_well(self, listed: datetime) -> None:
        """Remember a run that began its listing at ``listed``, and ended well."""
        self._turnstile.listed = listed

    def named(self) -> AbstractSet[Digest]:
        """Return the digests that this message and those waiting behind it name, as of now."""
        with self._guard:
            return frozenset(self._turnstile.named)


class Coalescing:
    """The turnstiles of a process.  ``clock`` is monotonic, in seconds.  Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._turnstiles: OrderedDict[Repository, _Turnstile] = OrderedDict()

    @contextmanager
    def turn(self, repository: Repository, digest: Digest | None, deadline: float) -> Iterator[Turn]:
        """Wait until no other message of ``repository`` has the turn, then hold it until the end of the context.

        Raises:
            TimeLimitReached: The turn did not come before ``deadline``.
        """
        turnstile = self._enter(repository, digest)
        try:
            if not turnstile.turn.acquire(timeout=max(deadline - self._clock(), 0.0)):
                raise TimeLimitReached(f"{repository}: another run took all the time")
            try:
                yield Turn(turnstile, self._guard)
            finally:
                turnstile.turn.release()
        finally:
            self._leave(turnstile, digest)

    def _enter(self, repository: Repository, digest: Digest | None) -> _Turnstile:
        with self._guard:
            turnstile = self._turnstiles.setdefault(repository, _Turnstile())
            self._turnstiles.move_to_end(repository)
            turnstile.waiting += 1
            if digest:
                turnstile.named[digest] += 1
            return turnstile

    def _leave(self, turnstile: _Turnstile, digest: Digest | None) -> None:
        with self._guard:
            turnstile.waiting -= 1
            if digest:
                turnstile.named[digest] -= 1
                turnstile.named += Counter()  # drops what is named no more
            while len(self._turnstiles) > _REMEMBERED_MAX:
                repository, oldest = next(iter(self._turnstiles.items()))
                if oldest.waiting:
                    break
                del self._turnstiles[repository]
