"""The time constants of a run and of its requests, as one value: who starts a process may shorten them."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds.

    A plan begins no deletion once it is ``plan_max_age`` old, and none that precedes a subject's OCI referrers, or
    is one of them, once it is ``referrers_max_age`` old.  ``relist_delay`` lies between the two listings that must
    agree before untagged images are deleted by count.

    A request is sent up to ``attempts`` times, with a backoff that doubles from ``first_backoff`` to
    ``backoff_max``; a ``Retry-After`` is honoured up to ``retry_after_max``.  ``grace`` is how long after the
    deadline an answer is awaited.
    """

    plan_max_age: float = 60.0
    referrers_max_age: float = 10.0
    relist_delay: float = 1.0
    attempts: int = 6
    first_backoff: float = 0.3
    backoff_max: float = 20.0
    retry_after_max: float = 60.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    grace: float = 20.0


TIMING = Timing()
