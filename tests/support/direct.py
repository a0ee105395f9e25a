"""A registry without sockets: a process's requests are answered where they are sent, by the emulator's store.

State and its owner: ``Wire`` holds the store and the record of requests.  Exactly one thread at a time sends a
request: a process's own workers wait for one another at its transport, and of two processes one goes on while the
other sleeps (``Time``).  So a run with one worker is repeated request by request.
"""

from __future__ import annotations

import random
import re
import threading
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import requests

from cleaner.core.notification import Named
from cleaner.core.reference import Repository
from cleaner.engine.run import Run, make_histories
from cleaner.google.registry.client import Registry
from cleaner.google.transport import Response, Transport
from tests.emulator.answer import Answer, registry_error
from tests.emulator.names import is_digest
from tests.emulator.store import Refusal, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cleaner.core.policy import Policy
    from cleaner.core.reference import Digest, Tag
    from cleaner.core.rules import Running
    from cleaner.engine.report import Report
    from cleaner.google.transport import RequestBudget

HOST: Final = "registry.test:5000"
NAME: Final = f"{HOST}/acme/api"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS: Final = round(NOW.timestamp() * 1000)
# What one request takes.
LATENCY_S: Final = 0.05
LIST: Final = "tags/list"

_PATH: Final = re.compile(
    r"http://[^/]+/v2/acme/api/(?P<kind>tags/list|manifests)(?:/(?P<reference>[^/?]+))?(?:\?.*)?"
)


class Lost(Enum):
    """The connection ends without an answer."""

    BEFORE = "before the request has had its effect"
    AFTER = "after the request has had its effect"


class Sent(NamedTuple):
    """One request; ``reference`` is ``LIST`` for a listing, ``status`` 0 where it did not arrive."""

    process: int
    method: str
    reference: str
    status: int
    at: float


class Time:
    """A clock that goes on while somebody sleeps; another process's run goes on when its sleep is over."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._start = self._now
        self.beside: Beside | None = None

    def __call__(self) -> float:
        return self._now

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self._now - self._start)

    def wall_ms(self) -> int:
        return NOW_MS + round((self._now - self._start) * 1000)

    def turn(self, seconds: float) -> None:
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        while self.beside is not None and not self.beside.is_over and self.beside.wakes <= until:
            self._now = max(self._now, self.beside.wakes)
            self.beside.go_on()
        self._now = max(self._now, until)

    def finish(self) -> None:
        """Let the other run come to its end."""
        while self.beside is not None and not self.beside.is_over:
            self.sleep(max(self.beside.wakes - self._now, 0.0))


class Beside:
    """A run of another process: in a thread of its own, which goes on only in ``go_on``, until it sleeps or ends."""

    def __init__(self, time: Time, act: Callable[[], object]) -> None:
        self.wakes = time()
        self.is_over = False
        self.error: BaseException | None = None
        self._time = time
        self._may_go_on = threading.Semaphore(0)
        self._has_paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def sleep(self, seconds: float) -> None:
        self.wakes = self._time() + seconds
        self._has_paused.release()
        self._may_go_on.acquire()

    def go_on(self) -> None:
        self._may_go_on.release()
        self._has_paused.acquire()
        if self.is_over:
            self._thread.join()

    def _run(self, act: Callable[[], object]) -> None:
        self._may_go_on.acquire()
        try:
            act()
        except BaseException as error:  # noqa: BLE001  # told by the one who judges the run
            self.error = error
        self.is_over = True
        self._has_paused.release()


class Wire:
    """One repository of a store, the record of what it was asked, and what goes wrong.

    ``intercept`` is called before each request with the process's number, method and reference; it may change the
    store, and returns None, the status to answer without any effect, or how the answer is lost.
    """

    def __init__(self, store: Store, intercept: Callable[[int, str, str], int | Lost | None]) -> None:
        self.store = store
        self.sent: list[Sent] = []
        self._intercept = intercept

    def answer(self, process: int, method: str, url: str, accept: str, at: Callable[[], float]) -> Answer:
        path = _PATH.fullmatch(url)
        assert path is not None, url
        reference = path["reference"] or LIST
        fault = self._intercept(process, method, reference)
        if isinstance(fault, int):
            answer = registry_error(fault, "DENIED" if fault == requests.codes.forbidden else "UNAVAILABLE", "")
        elif fault is Lost.BEFORE:
            answer = Answer(0, b"", {})
        else:
            answer = self._handle(method, reference, accept)
        self.sent.append(Sent(process, method, reference, answer.status, at()))
        if isinstance(fault, Lost):
            raise requests.ConnectionError(fault.value)
        return answer

    def _handle(self, method: str, reference: str, accept: str) -> Answer:
        try:
            if reference == LIST:
                body, _ = self.store.tags_list(NAME)
                return Answer(200, body, {})
            if method == "DELETE":
                if is_digest(reference):
                    self.store.delete_manifest(NAME, reference)
                else:
                    self.store.delete_tag(NAME, reference)
                return Answer(202, b"", {})
            types = None if "*/*" in accept else accept.split(", ")
            found = self.store.get_manifest(NAME, reference, types)
            body = found.body if method == "GET" else b""
            return Answer(200, body, {"Docker-Content-Digest": found.digest, "Content-Type": found.media_type})
        except Refusal as refusal:
            return registry_error(refusal.status, refusal.code, refusal.message)


class _DirectTransport(Transport):
    def __init__(
        self, wire: Wire, process: int, time: Time, sleep: Callable[[float], None], latency_s: float
    ) -> None:
        super().__init__(clock=time, sleep=sleep)
        self._random = random.Random(process)
        self._wire = wire
        self._process = process
        self._pass_time = sleep
        self._latency_s = latency_s
        self._one_at_a_time = threading.Lock()

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        proxies: Mapping[str, str],  # noqa: ARG002  # the parameters are the transport's
        max_bytes: int,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> Response:
        with self._one_at_a_time:
            try:
                answer = self._wire.answer(self._process, method, url, headers.get("Accept", ""), self.clock)
            finally:
                if self._latency_s:
                    self._pass_time(self._latency_s)
        return Response(answer.status, answer.headers, bytearray(answer.body))


class Process:
    """One process: what it knows lasts from one message to the next.

    ``named`` are the digests of its messages, ``named_tags`` the tags.  ``running`` is what is deployed; None if that
    is not asked.
    """

    def __init__(
        self,
        wire: Wire,
        number: int,
        time: Time,
        *,
        sleep: Callable[[float], None] | None = None,
        latency_s: float = LATENCY_S,
    ) -> None:
        self.number = number
        self.named: set[Digest] = set()
        self.named_tags: set[Tag] = set()
        self.running: Running | None = None
        self._time = time
        self._transport = _DirectTransport(wire, number, time, sleep or time.sleep, latency_s)
        self._registry = Registry(self._transport, _no_token, frozenset({HOST}))
        self._histories = make_histories()

    def prune(self, policy: Policy, *, workers: int, time_limit_s: float) -> Report:
        """Handle one message."""
        run = Run(
            self._registry,
            self._histories,
            Repository(*NAME.split("/", 1)),
            policy,
            dry_run=False,
            workers=workers,
            deadline=self._time() + time_limit_s,
            named=lambda: Named(frozenset(self.named), frozenset(self.named_tags)),
            ask_running=None if self.running is None else self._ask,
            now=self._time.wall,
        )
        return run.prune()

    def _ask(self, _repository: Repository, _budget: RequestBudget) -> Running:
        assert self.running is not None
        return self.running


def _no_token(_refused: str | None) -> str:
    raise AssertionError("the registry wants no token")
