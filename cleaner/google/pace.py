"""How fast one service may be asked: unhindered until it says 429, then by what it has shown to bear.

One ``Pace`` per host and process, shared by every worker: a service that throttles one of them is asked more slowly
by all.  The curve is CUBIC's (RFC 9438): after a refusal the rate falls, climbs back quickly, dwells near the rate
that was refused, and then probes beyond it ever faster, so that it finds out when a limit is lifted.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

# RFC 9438, "C" and "beta", in requests a second.  Its 0.7 gives away more than a quota's steady limit asks for.
_GROWTH = 2.0
_BACK_OFF = 0.9
# Refusals within one reaction time are one event: the requests under way were sent before the rate fell.
_REACTION_S = 0.25
_SLOWEST_PER_S = 1.0
# Twice what twenty workers ever reach: from here on nothing needs to be held back.
_UNHINDERED_PER_S = 2000.0
_MEASURED_S = 1.0


class Pace:
    """Hands out the moments at which requests may be sent; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: deque[float] = deque()
        self._refused_at: float | None = None
        self._refused_rate = 0.0
        self._next = 0.0

    def reserve(self, requests: int = 1) -> float:
        """Return how many seconds to wait before the next ``requests`` may be sent back to back, and count them."""
        if self._refused_at is None:
            return 0.0
        with self._lock:
            # Another thread may have set it free just now.
            if self._refused_at is None:
                return 0.0
            now = self._clock()
            rate = self._rate(now, self._refused_at)
            if rate >= _UNHINDERED_PER_S:
                self._refused_at = None
                return 0.0
            moment = max(self._next, now) + (requests - 1) / rate
            self._next = moment + 1 / rate
            return moment - now

    def accepted(self) -> None:
        """Note that a request was answered with anything but 429."""
        with self._lock:
            now = self._clock()
            self._answers.append(now)
            self._forget(now)

    def refused(self) -> None:
        """Note that a request was answered 429."""
        with self._lock:
            now = self._clock()
            if self._refused_at is not None and now - self._refused_at < _REACTION_S:
                return
            self._forget(now)
            span = min(max(now - self._answers[0], 0.1), _MEASURED_S) if self._answers else _MEASURED_S
            borne = len(self._answers) / span
            asked = borne if self._refused_at is None else min(borne, self._rate(now, self._refused_at))
            self._refused_rate = max(asked, _SLOWEST_PER_S / _BACK_OFF)
            self._refused_at = now
            self._next = max(self._next, now)

    def _rate(self, now: float, refused_at: float) -> float:
        dwell = math.cbrt(self._refused_rate * (1 - _BACK_OFF) / _GROWTH)
        return max(_GROWTH * (now - refused_at - dwell) ** 3 + self._refused_rate, _SLOWEST_PER_S)

    def _forget(self, now: float) -> None:
        while self._answers and self._answers[0] <= now - _MEASURED_S:
            self._answers.popleft()
