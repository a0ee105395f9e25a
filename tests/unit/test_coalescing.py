"""Messages of one repository wait for one another, and one run answers them all: with real threads and locks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from cleaner import coalescing
from cleaner.coalescing import Coalescing
from cleaner.core.errors import TimeLimitReached
from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.reference import Digest, Repository, Tag

API, WEB = Repository("gcr.io", "acme/api"), Repository("gcr.io", "acme/web")
A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
START = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
# Longer than any test takes.
LONG_S = 60.0


@pytest.fixture
def turns() -> Coalescing:
    return Coalescing(time.monotonic)


def later() -> float:
    return time.monotonic() + LONG_S


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that another thread brings about."""
    deadline = later()
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def naming(*digests: Digest) -> Named:
    return Named(frozenset(digests))


def named(turns: Coalescing, repository: Repository) -> Named:
    with turns.lease(repository, NOTHING_NAMED, later()) as lease:
        return lease.named()


# --- what a run covers


def test_run_covers_what_was_published_before_it_began_its_listing(turns: Coalescing) -> None:
    """Not what was published at that moment or after: its listing may not have it."""
    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        lease.record_success(START)

    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        assert lease.is_covered(START - SECOND)
        assert lease.is_covered(START - TICK)
        assert not lease.is_covered(START)
        assert not lease.is_covered(START + TICK)


def test_message_without_a_publish_time_is_never_covered(turns: Coalescing) -> None:
    """Nobody knows whether it was."""
    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        lease.record_success(START)

    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        assert not lease.is_covered(None)


def test_nothing_is_covered_before_the_first_run(turns: Coalescing) -> None:
    """However old the message is."""
    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        assert not lease.is_covered(START - 999 * SECOND)


def test_run_covers_its_own_repository_alone(turns: Coalescing) -> None:
    """The same path on another host is another repository."""
    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        lease.record_success(START)

    for other in (WEB, Repository("eu.gcr.io", "acme/api")):
        with turns.lease(other, NOTHING_NAMED, later()) as lease:
            assert not lease.is_covered(START - SECOND)


@pytest.mark.parametrize("error", [None, RuntimeError("failed")])
def test_run_that_did_not_end_well_covers_nothing(turns: Coalescing, error: Exception | None) -> None:
    """The next message tries again, and does not wait for ever."""
    with ExitStack() as stack:
        if error:
            stack.enter_context(pytest.raises(RuntimeError))
        with turns.lease(API, naming(A), later()):
            if error:
                raise error

    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        assert not lease.is_covered(START - SECOND)
        assert lease.named() == NOTHING_NAMED


def test_failed_run_takes_nothing_from_an_earlier_good_one(turns: Coalescing) -> None:
    """What that listed it has listed."""
    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        lease.record_success(START)
    with pytest.raises(RuntimeError), turns.lease(API, NOTHING_NAMED, later()):
        raise RuntimeError

    with turns.lease(API, NOTHING_NAMED, later()) as lease:
        assert lease.is_covered(START - SECOND)


# --- waiting


class Service:
    """Answers messages as the function does, and counts its listings."""

    def __init__(self, turns: Coalescing) -> None:
        self.turns = turns
        self.began: list[datetime] = []
        self.under_way = 0
        self.most_at_once = 0
        self.lock = threading.Lock()

    def answer(self, published: datetime, run_s: float = 0.05) -> None:
        with self.turns.lease(API, NOTHING_NAMED, later()) as lease:
            if lease.is_covered(published):
                return
            began = datetime.now(UTC)
            with self.lock:
                self.began.append(began)
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
            time.sleep(run_s)
            with self.lock:
                self.under_way -= 1
            lease.record_success(began)


def test_ten_messages_that_arrive_together_cost_one_listing(turns: Coalescing) -> None:
    """All were published before the first of them began."""
    service = Service(turns)
    published = datetime.now(UTC) - SECOND

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(service.answer, [published] * 10))

    assert len(service.began) == 1


def test_messages_that_arrive_during_a_run_cost_one_more(turns: Coalescing) -> None:
    """The listing under way may not have what they announce."""
    service = Service(turns)

    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(service.answer, datetime.now(UTC), 0.3)
        until(lambda: bool(service.began))
        time.sleep(0.01)
        rest = [pool.submit(service.answer, datetime.now(UTC)) for _ in range(9)]
        for answered in (first, *rest):
            answered.result()

    assert len(service.began) == 2
    assert service.most_at_once == 1


def test_runs_of_one_repository_never_overlap(turns: Coalescing) -> None:
    """Even where none covers the next."""
    service = Service(turns)
    future = datetime.now(UTC) + timedelta(days=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: service.answer(future, 0.005), range(24)))

    assert (len(service.began), service.most_at_once) == (24, 1)


def test_different_repositories_run_side_by_side(turns: Coalescing) -> None:
    """Each meets the other inside its own lease."""
    both = threading.Barrier(2, timeout=LONG_S)

    def run(repository: Repository) -> None:
        with turns.lease(repository, NOTHING_NAMED, later()):
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, [API, WEB]))


# --- the time limit


def test_turn_that_does_not_come_in_time_ends_the_wait(turns: Coalescing) -> None:
    """Waiting counts in the time limit; what has ended waiting is named no more."""
    with turns.lease(API, naming(A), later()) as lease:
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: turns.lease(API, naming(B), time.monotonic() + 0.1).__enter__())
            with pytest.raises(TimeLimitReached, match=r"gcr\.io/acme/api"):
                waiting.result(timeout=LONG_S)
        assert time.monotonic() - began >= 0.1
        assert lease.named() == naming(A)

    assert TimeLimitReached.transient


def test_turn_that_is_free_is_taken_even_late(turns: Coalescing) -> None:
    """Whether there is time for a run is not decided here."""
    with turns.lease(API, NOTHING_NAMED, time.monotonic() - 1) as lease:
        assert lease.named() == NOTHING_NAMED


def test_deadline_that_has_passed_does_not_wait_at_all(turns: Coalescing) -> None:
    """A negative time would mean for ever."""
    with turns.lease(API, NOTHING_NAMED, later()), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: turns.lease(API, NOTHING_NAMED, time.monotonic() - 1).__enter__())
        with pytest.raises(TimeLimitReached):
            waiting.result(timeout=LONG_S)


# --- what the waiting messages name


def test_digests_of_waiting_messages_are_seen_by_the_run(turns: Coalescing) -> None:
    """As soon as they arrive, and its own from the beginning; those of another repository are not."""
    done = threading.Event()

    def wait(repository: Repository, *digests: Digest) -> None:
        with turns.lease(repository, naming(*digests), later()):
            done.wait(LONG_S)

    with ThreadPoolExecutor(4) as pool:
        with turns.lease(API, naming(A), later()) as lease:
            assert lease.named() == naming(A)
            waiting: list[Future[None]] = [
                pool.submit(wait, API, B),
                pool.submit(wait, API),
                pool.submit(wait, WEB, Digest("sha256:" + "c" * 64)),
            ]
            until(lambda: lease.named() == naming(A, B))
            done.set()
        for each in waiting:
            each.result()

    assert named(turns, API) == named(turns, WEB) == NOTHING_NAMED


def test_tags_are_named_as_digests_are(turns: Coalescing) -> None:
    """A message may name only one of them."""
    tag = Named(tags=frozenset({Tag("v1")}))
    with turns.lease(API, tag, later()) as lease:
        assert lease.named() == tag

    assert named(turns, API) == NOTHING_NAMED


def test_digest_that_two_messages_name_stays_until_both_are_answered(turns: Coalescing) -> None:
    """A tag and its manifest are announced one by one."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with turns.lease(API, naming(A), later()) as lease:
            entered.set()
            leave.wait(LONG_S)
            assert lease.named() == naming(A)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        entered.wait(LONG_S)
        second = pool.submit(hold)
        leave.set()
        first.result()
        second.result()

    assert named(turns, API) == NOTHING_NAMED


def test_what_a_run_was_told_does_not_change_under_it(turns: Coalescing) -> None:
    """Each question gets an answer of its own."""
    with turns.lease(API, naming(A), later()) as lease:
        before = lease.named()

    assert before == naming(A)


# --- what a process remembers


def test_longest_unused_repository_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its next message costs a listing, no more."""
    monkeypatch.setattr(coalescing, "_REPOSITORIES_MAX", 2)
    turns = Coalescing(time.monotonic)
    repositories = [Repository("gcr.io", f"acme/{name}") for name in "abc"]
    for repository in repositories:
        with turns.lease(repository, NOTHING_NAMED, later()) as lease:
            lease.record_success(START)

    covered = []
    for repository in reversed(repositories):
        with turns.lease(repository, NOTHING_NAMED, later()) as lease:
            covered.append(lease.is_covered(START - SECOND))
    assert covered == [True, True, False]
