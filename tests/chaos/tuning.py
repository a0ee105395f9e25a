"""The product's time constants, shortened, or a round would take minutes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import cleaner.engine.run
import cleaner.google.transport

if TYPE_CHECKING:
    from collections.abc import Iterator


# The product's time constants, shortened alike; a round sets the age of a plan as well.
READ_TIMEOUT_S: Final = 0.7
FIRST_BACKOFF_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.3
# What threads, sockets and a busy machine may add to a bound.
SLACK_S: Final = 1.5
# A process that was told 429 once asks as slowly as one request a second for a while.
PACED_SLACK_S: Final = 20.0
# "Milliseconds" between a look at a tag and its deletion, on a busy machine.
LOOK_MAX_S: Final = 1.0
# How long a round may take to come to rest once nothing goes wrong any more.
REST_S: Final = 60.0


@contextlib.contextmanager
def tuned(plan_age_s: float) -> Iterator[None]:
    """Shorten the product's time constants."""
    defaults = cleaner.google.transport.Transport.__init__.__kwdefaults__
    assert defaults is not None
    before = (
        cleaner.google.transport.FIRST_BACKOFF_S,
        cleaner.google.transport.BACKOFF_MAX_S,
        cleaner.engine.run.PLAN_MAX_AGE_S,
        defaults["read_timeout_s"],
    )
    cleaner.google.transport.FIRST_BACKOFF_S = FIRST_BACKOFF_S
    cleaner.google.transport.BACKOFF_MAX_S = BACKOFF_MAX_S
    cleaner.engine.run.PLAN_MAX_AGE_S = plan_age_s
    defaults["read_timeout_s"] = READ_TIMEOUT_S
    try:
        yield
    finally:
        (
            cleaner.google.transport.FIRST_BACKOFF_S,
            cleaner.google.transport.BACKOFF_MAX_S,
            cleaner.engine.run.PLAN_MAX_AGE_S,
            defaults["read_timeout_s"],
        ) = before
