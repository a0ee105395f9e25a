"""The product's time constants, shortened, or a round would take minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cleaner.core.timing import Timing

if TYPE_CHECKING:
    from tests.chaos.cases import Case

# What threads, sockets and a busy machine may add to a bound.
SLACK_S: Final = 3.0
# A process that was told 429 once asks as slowly as one request a second for a while.
PACED_SLACK_S: Final = 20.0
# "Milliseconds" between a look at a tag and its deletion, on a busy machine.
LOOK_MAX_S: Final = 1.0
# The environment variable that tells a served process its time constants.
TIMING: Final = "CHAOS_TIMING"
# How long a round may take to come to rest once nothing goes wrong any more.
REST_S: Final = 120.0


def shortened(case: Case) -> Timing:
    """Return the product's time constants, shortened alike but for those that a round sets."""
    return Timing(
        plan_max_age=case.plan_age_s,
        referrers_max_age=case.referrers_age_s,
        relist_delay=case.relist_delay_s,
        grace=case.grace_s,
        first_backoff=0.02,
        backoff_max=0.3,
        read_timeout=0.7,
    )


def timing_text(timing: Timing) -> str:
    """Return time constants as the environment variable ``TIMING`` holds them."""
    return msgspec.json.encode(timing).decode()


def timing_of(text: str) -> Timing:
    """Return what ``timing_text`` made."""
    return msgspec.json.decode(text, type=Timing)
