"""Messages of one repository wait for one another, and one run covers several: with real threads and locks."""

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
NAMES_A, NAMES_B = Named(digests=frozenset({A})), Named(digests=frozenset({B}))
V1, V2 = Tag("v1"), Tag("v2")
START = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
# Longer than any test takes.
LONG_S = 60.0


@pytest.fixture
def locks() -> Coalescing:
    return Coalescing(time.monotonic)


def later() -> float:
    return time.monotonic() + LONG_S


def until(holds: Callable[[], bool]) -> None:
    """Wait until another thread has made the condition true."""
    deadline = later()
    while not holds():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.001)


def succeed(locks: Coalescing, repository: Repository = API, listed: datetime = START) -> None:
    """Record a successful run that began its listing at ``listed``."""
    with locks.lease(repository, NOTHING_NAMED, later()) as lease:
        lease.record_success(listed)


def is_covered(locks: Coalescing, published: datetime | None, repository: Repository = API) -> bool:
    """Return whether a message that was published then is covered."""
    with locks.lease(repository, NOTHING_NAMED, later()) as lease:
        return lease.is_covered(published)


def named(locks: Coalescing, repository: Repository) -> Named:
    """Return what messages of ``repository`` name, beside one that names nothing."""
    with locks.lease(repository, NOTHING_NAMED, later()) as lease:
        return lease.named()


# --- what a run covers


def test_run_covers_what_was_published_before_its_listing_began(locks: Coalescing) -> None:
    """A message published at that moment or after is not covered: the listing may lack what it announces."""
    succeed(locks)

    assert is_covered(locks, START - SECOND)
    assert is_covered(locks, START - TICK)
    assert not is_covered(locks, START)
    assert not is_covered(locks, START + TICK)


def test_message_without_a_publish_time_is_never_covered(locks: Coalescing) -> None:
    """It may have been published after the listing began."""
    succeed(locks)

    assert not is_covered(locks, None)


def test_nothing_is_covered_before_the_first_run(locks: Coalescing) -> None:
    """The age of the message makes no difference."""
    assert not is_covered(locks, START - 999 * SECOND)


def test_run_covers_only_its_own_repository(locks: Coalescing) -> None:
    """The same path on another host is another repository."""
    succeed(locks)

    for other in (WEB, Repository("eu.gcr.io", "acme/api")):
        assert not is_covered(locks, START - SECOND, other)


@pytest.mark.parametrize("error", [None, RuntimeError("failed")])
def test_run_that_did_not_succeed_covers_nothing(locks: Coalescing, error: Exception | None) -> None:
    """It releases the lock, and the next message runs."""
    with ExitStack() as stack:
        if error:
            stack.enter_context(pytest.raises(RuntimeError))
        with locks.lease(API, NAMES_A, later()):
            if error:
                raise error

    assert not is_covered(locks, START - SECOND)
    assert named(locks, API) == NOTHING_NAMED


def test_failed_run_leaves_an_earlier_success_recorded(locks: Coalescing) -> None:
    """What the earlier listing covered is still covered."""
    succeed(locks)
    with pytest.raises(RuntimeError), locks.lease(API, NOTHING_NAMED, later()):
        raise RuntimeError

    assert is_covered(locks, START - SECOND)


# --- waiting


class Service:
    """Handles messages as the function does, and counts its listings."""

    def __init__(self, locks: Coalescing) -> None:
        self.locks = locks
        self.began: list[datetime] = []
        self.under_way = 0
        self.most_at_once = 0
        self.guard = threading.Lock()

    def handle(self, published: datetime, run_s: float = 0.05) -> None:
        with self.locks.lease(API, NOTHING_NAMED, later()) as lease:
            if lease.is_covered(published):
                return
            began = datetime.now(UTC)
            with self.guard:
                self.began.append(began)
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
            time.sleep(run_s)
            with self.guard:
                self.under_way -= 1
            lease.record_success(began)


def test_ten_messages_that_arrive_together_cost_one_listing(locks: Coalescing) -> None:
    """All of them were published before the first run began."""
    service = Service(locks)
    published = datetime.now(UTC) - SECOND

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(service.handle, [published] * 10))

    assert len(service.began) == 1


def test_messages_that_arrive_during_a_run_cost_one_more_listing(locks: Coalescing) -> None:
    """The listing under way may lack what they announce."""
    service = Service(locks)

    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(service.handle, datetime.now(UTC), 0.3)
        until(lambda: bool(service.began))
        time.sleep(0.01)
        rest = [pool.submit(service.handle, datetime.now(UTC)) for _ in range(9)]
        for handled in (first, *rest):
            handled.result()

    assert len(service.began) == 2
    assert service.most_at_once == 1


def test_runs_of_one_repository_never_overlap(locks: Coalescing) -> None:
    """That holds also for runs none of which covers the next."""
    service = Service(locks)
    future = datetime.now(UTC) + timedelta(days=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: service.handle(future, 0.005), range(24)))

    assert (len(service.began), service.most_at_once) == (24, 1)


def test_different_repositories_run_side_by_side(locks: Coalescing) -> None:
    """Each run waits for the other one while it holds its own lease."""
    both = threading.Barrier(2, timeout=LONG_S)

    def run(repository: Repository) -> None:
        with locks.lease(repository, NOTHING_NAMED, later()):
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, [API, WEB]))


# --- the time limit


def test_wait_ends_at_the_deadline(locks: Coalescing) -> None:
    """The wait counts towards the time limit; what a message named is no longer named after it."""
    with locks.lease(API, NAMES_A, later()) as lease:
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: locks.lease(API, NAMES_B, time.monotonic() + 0.1).__enter__())
            with pytest.raises(TimeLimitReached, match=r"gcr\.io/acme/api: another run was under way"):
                waiting.result(timeout=LONG_S)
        assert time.monotonic() - began >= 0.1
        assert lease.named() == NAMES_A

    assert TimeLimitReached.transient


def test_free_lock_is_given_even_after_the_deadline(locks: Coalescing) -> None:
    """The run itself decides whether there is time left for it."""
    with locks.lease(API, NOTHING_NAMED, time.monotonic() - 1) as lease:
        assert lease.named() == NOTHING_NAMED


def test_message_does_not_wait_after_the_deadline(locks: Coalescing) -> None:
    """A lock would take a negative timeout for no limit."""
    with locks.lease(API, NOTHING_NAMED, later()), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: locks.lease(API, NOTHING_NAMED, time.monotonic() - 1).__enter__())
        with pytest.raises(TimeLimitReached):
            waiting.result(timeout=LONG_S)


# --- what the waiting messages name


def test_run_sees_what_waiting_messages_name(locks: Coalescing) -> None:
    """Digests and tags, as soon as the messages arrive; those of another repository are not seen."""
    done = threading.Event()

    def wait(repository: Repository, names: Named) -> None:
        with locks.lease(repository, names, later()):
            done.wait(LONG_S)

    own = Named(frozenset({A}), frozenset({V1}))
    with ThreadPoolExecutor(4) as pool:
        with locks.lease(API, own, later()) as lease:
            assert lease.named() == own
            waiting: list[Future[None]] = [
                pool.submit(wait, API, NAMES_B),
                pool.submit(wait, API, Named(tags=frozenset({V2}))),
                pool.submit(wait, API, NOTHING_NAMED),
                pool.submit(wait, WEB, Named(frozenset({Digest("sha256:" + "c" * 64)}), frozenset({Tag("web")}))),
            ]
            until(lambda: lease.named() == Named(frozenset({A, B}), frozenset({V1, V2})))
            done.set()
        for each in waiting:
            each.result()

    assert named(locks, API) == named(locks, WEB) == NOTHING_NAMED


def test_digest_that_two_messages_name_is_named_until_both_are_handled(locks: Coalescing) -> None:
    """Google announces a tag and its manifest with one message each."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.lease(API, NAMES_A, later()) as lease:
            entered.set()
            leave.wait(LONG_S)
            assert lease.named() == NAMES_A

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        entered.wait(LONG_S)
        second = pool.submit(hold)
        leave.set()
        first.result()
        second.result()

    assert named(locks, API) == NOTHING_NAMED


def test_value_of_named_does_not_change_after_it_was_returned(locks: Coalescing) -> None:
    """A plan rests on one value from its beginning to its end."""
    with locks.lease(API, NAMES_A, later()) as lease:
        before = lease.named()

    assert before == NAMES_A


# --- what a process remembers


def test_least_recently_used_repository_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next message costs a listing."""
    monkeypatch.setattr(coalescing, "_REPOSITORIES_MAX", 2)
    locks = Coalescing(time.monotonic)
    repositories = [Repository("gcr.io", f"acme/{name}") for name in "abc"]
    for repository in repositories:
        succeed(locks, repository)

    assert [is_covered(locks, START - SECOND, one) for one in reversed(repositories)] == [True, True, False]


def test_run_of_a_dropped_repository_ends_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that arrives meanwhile does not wait for it; both run, and leave no lock behind."""
    monkeypatch.setattr(coalescing, "_REPOSITORIES_MAX", 1)
    locks = Coalescing(time.monotonic)

    with locks.lease(API, NAMES_A, later()) as lease:
        succeed(locks, WEB)
        with locks.lease(API, NAMES_B, time.monotonic()) as second:
            assert second.named() == NAMES_B
            second.record_success(START)
        assert lease.named() == NAMES_A

    assert is_covered(locks, START - SECOND)
