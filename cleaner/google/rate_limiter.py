"""Limits the rate of requests to a service that answers 429; before its first 429 nothing is limited.

One ``RateLimiter`` per host and process, which every worker shares: after a 429 to one of them all slow down.  The
rate follows CUBIC's curve (RFC 9438): after a 429 it falls, rises quickly to near the rate that was throttled, is
level for a while, and then rises ever faster, so that a limit that is lifted is noticed.

The lock protects all attributes but the clock; worker threads call every method.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

# RFC 9438, "C" and "beta", in requests a second.  Its beta of 0.7 falls further than a quota's steady limit requires.
_GROWTH = 2.0
_DECREASE = 0.9
# 429s within this time are one event: the requests under way were sent before the rate fell.
_REACTION_S = 0.25
_MIN_PER_S = 1.0
# Twice what twenty workers ever reach: from this rate on nothing needs to be limited.
_UNLIMITED_PER_S = 2000.0
# The time over which the rate of responses is measured.
_MEASURED_S = 1.0


class RateLimiter:
    """Assigns the times at which requests may be sent; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._successes: deque[float] = deque()
        # When the latest 429 came; None while nothing is limited.
        self._throttled_at: float | None = None
        self._throttled_rate = 0.0
        self._next = 0.0

    def acquire(self, requests: int = 1) -> float:
        """Return how many seconds to wait before ``requests`` may be sent back to back, and count them as sent."""
        if self._throttled_at is None:
            return 0.0
        with self._lock:
            # Another thread may have lifted the limit since.
            if self._throttled_at is None:
                return 0.0
            now = self._clock()
            rate = self._rate(now, self._throttled_at)
            if rate >= _UNLIMITED_PER_S:
                self._throttled_at = None
                return 0.0
            moment = max(self._next, now) + (requests - 1) / rate
            self._next = moment + 1 / rate
            return moment - now

    def on_success(self) -> None:
        """Record a response with any status but 429."""
        with self._lock:
            now = self._clock()
            self._successes.append(now)
            self._drop_old(now)

    def on_throttled(self) -> None:
        """Record a response with status 429."""
        with self._lock:
            now = self._clock()
            if self._throttled_at is not None and now - self._throttled_at < _REACTION_S:
                return
            self._drop_old(now)
            span = min(max(now - self._successes[0], 0.1), _MEASURED_S) if self._successes else _MEASURED_S
            measured = len(self._successes) / span
            rate = measured if self._throttled_at is None else min(measured, self._rate(now, self._throttled_at))
            self._throttled_rate = max(rate, _MIN_PER_S / _DECREASE)
            self._throttled_at = now
            self._next = max(self._next, now)

    def _rate(self, now: float, throttled_at: float) -> float:
        """Return the allowed rate, in requests a second."""
        plateau = math.cbrt(self._throttled_rate * (1 - _DECREASE) / _GROWTH)
        return max(_GROWTH * (now - throttled_at - plateau) ** 3 + self._throttled_rate, _MIN_PER_S)

    def _drop_old(self, now: float) -> None:
        while self._successes and self._successes[0] <= now - _MEASURED_S:
            self._successes.popleft()
