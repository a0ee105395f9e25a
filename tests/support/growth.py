"""Whether something takes longer than in proportion to its size, however fast the machine is."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long it takes, without what other threads, other processes and the garbage collector take."""
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        gc.enable()


def assert_grows_evenly(seconds: Callable[[int], float], size: int) -> None:
    """Compare what ``size`` takes with what an eighth of it takes: some 8 times as much, and 64 times for a square.

    Both are measured here and now, so no machine is too slow; and what disturbs one measurement, such as another
    process in the same cache, does not disturb three.
    """
    small = min(seconds(size // 8) for _ in range(3))
    assert any(seconds(size) < 24 * small for _ in range(3))
