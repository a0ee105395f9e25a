"""The product's time constants, shortened, or a round would take minutes."""

from __future__ import annotations

from typing import Final

from cleaner.core.timing import Timing

# What threads, sockets and a busy machine may add to a bound.
SLACK_S: Final = 1.5
# A process that was told 429 once asks as slowly as one request a second for a while.
PACED_SLACK_S: Final = 20.0
# "Milliseconds" between a look at a tag and its deletion, on a busy machine.
LOOK_MAX_S: Final = 1.0
# How long a round may take to come to rest once nothing goes wrong any more.
REST_S: Final = 60.0


def shortened(plan_max_age_s: float) -> Timing:
    """Return the product's time constants, shortened alike but for the age of a plan, which a round sets."""
    return Timing(plan_max_age=plan_max_age_s, first_backoff=0.02, backoff_max=0.3, read_timeout=0.7)
