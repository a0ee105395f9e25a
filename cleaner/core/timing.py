"""The time constants of a run and of its requests, as one value that a test can replace."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds.

    No image is begun once its plan is ``plan_max_age`` old.  The OCI referrers of a subject, and what is deleted
    before them, are not requested once the listing is ``referrers_max_age`` old.  ``relist_delay`` is the least time
    between the two listings that must agree before an untagged image is deleted by count.

    A request is sent up to ``attempts`` times, with a backoff that doubles from ``first_backoff`` to
    ``backoff_max``; a ``Retry-After`` is honoured up to ``retry_after_max``.  What was begun is finished, and
    responses are waited for, until ``grace`` after the deadline.
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
