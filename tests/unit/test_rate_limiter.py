"""How fast a service is asked: on a simulated clock, against a simulated quota."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cleaner.google.rate_limiter import RateLimiter

# What an answer takes, there and back.
LATENCY_S = (0.010, 0.050)
FIRST_BACKOFF_S = 0.3


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """A registry with a quota: a bucket of ``burst`` requests that fills at ``rate`` a second, until it is lifted."""

    rate: float
    burst: float
    lifted_at: float = float("inf")
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    _tokens: float = field(init=False)
    _filled_at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def ask(self, now: float) -> bool:
        """Return whether a request that arrives now is accepted."""
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1 and now < self.lifted_at:
            self.refused.append(now)
            return False
        self._tokens -= 1
        self.accepted.append(now)
        return True

    def accepted_a_second(self, start: float, end: float) -> float:
        return sum(start <= moment < end for moment in self.accepted) / (end - start)

    @property
    def share_refused(self) -> float:
        return len(self.refused) / (len(self.refused) + len(self.accepted))


def simulate(service: Service, *, workers: int = 20, seconds: float = 30, seed: int = 1) -> None:
    """Let workers send requests for so long, one after another, as fast as their common rate limiter lets them.

    Who is refused backs off, as the transport does.
    """
    clock, chance, number = Clock(), random.Random(seed), itertools.count()
    limiter = RateLimiter(clock)
    events: list[tuple[float, int, Callable[[], None]]] = []

    def at(moment: float, then: Callable[[], None]) -> None:
        heapq.heappush(events, (moment, next(number), then))

    def reserve(attempt: int = 0) -> None:
        at(clock.now + limiter.acquire(), lambda: send(attempt))

    def send(attempt: int) -> None:
        way_s = chance.uniform(*LATENCY_S) / 2
        at(clock.now + way_s, lambda: arrive(attempt, way_s))

    def arrive(attempt: int, way_s: float) -> None:
        accepted = service.ask(clock.now)
        at(clock.now + way_s, lambda: answer(attempt, accepted=accepted))

    def answer(attempt: int, *, accepted: bool) -> None:
        if accepted:
            limiter.on_success()
            reserve()
        else:
            limiter.on_throttled()
            at(clock.now + FIRST_BACKOFF_S * 2**attempt * chance.uniform(0.5, 1.0), lambda: reserve(attempt + 1))

    for _ in range(workers):
        reserve()
    while events[0][0] < seconds:
        clock.now, _, then = heapq.heappop(events)
        then()


def test_nobody_waits_before_the_first_refusal() -> None:
    """As often as they like, whatever else was answered."""
    limiter = RateLimiter(Clock())

    for _ in range(1000):
        assert limiter.acquire() == 0.0
        limiter.on_success()


def test_service_without_a_quota_is_asked_as_fast_as_workers_go() -> None:
    """Twenty workers and 30 ms an answer."""
    service = Service(rate=300, burst=300, lifted_at=0.0)

    simulate(service)

    assert service.share_refused == 0
    assert service.accepted_a_second(0, 30) > 0.95 * 20 / 0.030


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("burst_s", [0.1, 0.3, 1.0])
def test_rate_settles_just_below_the_quota(burst_s: float, seed: int) -> None:
    """Artifact Registry's deletions are 300 a second; at most one request in twenty is refused, from the start."""
    service = Service(rate=300, burst=300 * burst_s)

    simulate(service, seed=seed)

    for start in range(5, 30, 5):
        assert 0.8 * 300 <= service.accepted_a_second(start, start + 5) <= 1.05 * 300
    assert service.share_refused <= 0.05


@pytest.mark.parametrize(("rate", "workers"), [(100, 20), (500, 20), (1000, 60)])
def test_rate_settles_below_other_quotas(rate: float, workers: int) -> None:
    """Nothing in it knows of 300."""
    service = Service(rate=rate, burst=rate / 3)

    simulate(service, workers=workers)

    assert 0.8 * rate <= service.accepted_a_second(5, 30) <= 1.05 * rate
    assert service.share_refused <= 0.05


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rate_recovers_when_the_quota_is_lifted(seed: int) -> None:
    """Within twenty seconds nothing is limited any more."""
    service = Service(rate=300, burst=100, lifted_at=20.0)

    simulate(service, seconds=60, seed=seed)

    assert service.accepted_a_second(10, 20) <= 1.05 * 300
    assert service.accepted_a_second(40, 60) > 0.95 * 20 / 0.030


def waits(limiter: RateLimiter, times: int) -> list[float]:
    return [limiter.acquire() for _ in range(times)]


def refused_after(accepted: int) -> tuple[RateLimiter, Clock]:
    """Return a limiter that was refused after so many answers in one second."""
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(accepted):
        clock.now += 1 / accepted
        limiter.on_success()
    limiter.on_throttled()
    return limiter, clock


def test_refusal_slows_everybody_down() -> None:
    """The moments are handed out one after another, a little apart, whoever asks."""
    limiter, _ = refused_after(100)

    moments = waits(limiter, 20)

    assert moments == sorted(moments)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert all(0.010 < gap < 0.014 for gap in gaps)


def test_refusals_of_one_moment_count_once() -> None:
    """The requests under way were sent before the rate fell."""
    limiter, _ = refused_after(100)
    for _ in range(19):
        limiter.on_throttled()
    once, _ = refused_after(100)

    assert waits(limiter, 5) == waits(once, 5)


def test_later_refusal_slows_down_further() -> None:
    """A service that still refuses bears less than was thought."""
    limiter, clock = refused_after(100)
    before = waits(limiter, 2)
    clock.now += 2
    limiter.on_throttled()
    waits(limiter, 1)

    first, second = waits(limiter, 2)
    assert second - first > before[1] - before[0]


def test_service_that_bears_nothing_is_still_asked_now_and_then() -> None:
    """Else nobody would learn that it bears something again."""
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(50):
        limiter.on_throttled()
        clock.now += 0.3

    first, second = waits(limiter, 2)

    assert 0.5 < second - first < 1.5


def test_requests_that_are_sent_back_to_back_have_waited_for_all_of_them() -> None:
    """The whole of them takes as long as one after another."""
    together, _ = refused_after(100)
    single, _ = refused_after(100)

    first, second = together.acquire(3), together.acquire()

    assert [first, second] == pytest.approx(waits(single, 4)[2:])


def test_limit_that_another_thread_has_lifted_delays_nothing() -> None:
    """Even one that found the limit and only then got the lock."""
    limiter, clock = refused_after(100)
    waits(limiter, 50)
    lock = limiter._lock

    class Overtaken:
        """The limiter's lock, of which another thread gets hold first."""

        def __enter__(self) -> None:
            limiter._lock = lock
            clock.now += 1000
            assert limiter.acquire() == 0.0
            clock.now -= 1000

        def __exit__(self, *_: object) -> None:
            pass

    limiter._lock = Overtaken()  # type: ignore[assignment]  # all that is asked of a lock

    assert limiter.acquire() == 0.0
