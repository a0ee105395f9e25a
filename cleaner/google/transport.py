"""The one place that speaks HTTP: connections, retries and who is asked how fast.

It uses requests' adapter without a session: no cookies, no ``.netrc``, no redirects, so a credential goes where it
was meant to go and nowhere else.  What it raises is this package's; requests' own exceptions end here.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter

from cleaner.core.errors import AnswerTooLong, TimeLimitReached, Unavailable
from cleaner.core.timing import TIMING, Timing
from cleaner.google.pace import Pace

_LEAST_TIMEOUT_S = 1.0

TOO_MANY_REQUESTS = 429
_RETRIED = frozenset({408, TOO_MANY_REQUESTS, 500, 502, 503, 504})
# How many runs of one host side by side keep their connections; any beyond that make theirs anew.
_RUNS = 80
_CHUNK_BYTES = 256 * 1024


T = TypeVar("T")


class Response(msgspec.Struct, frozen=True):
    """One whole answer: its body is complete and decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytearray


class _Turns:
    """Lets ``most`` threads have a turn at the same time; one that has it may take it again."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)
        self._mine = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._mine, "depth", 0)
        if depth == 0:
            self._free.acquire()
        self._mine.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            self._free.release()


class Exchange:
    """What one run asks of the network: until when it may try again, and how often it has asked.

    ``deadline`` is in seconds of the transport's clock.  After it a request is still sent once, since what runs is
    finished, but neither repeated nor held back, nor waited for longer than 20 s.  ``turn`` is held while requests
    are under way: never more than ``concurrent`` of them, if that is given, however many threads ask.
    """

    def __init__(self, deadline: float, concurrent: int | None = None) -> None:
        self.deadline = deadline
        self.turn = _Turns(concurrent) if concurrent else contextlib.nullcontext()
        self.requests = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """Count one request that is sent."""
        with self._lock:
            self.requests += 1


class TryAgain(Exception):
    """A request failed in a way that may pass; ``least_s`` is how long the service wants to be left alone.

    It never leaves ``Transport.retrying``.
    """

    def __init__(self, message: str, least_s: float = 0.0) -> None:
        super().__init__(message)
        self.least_s = least_s


class Transport:
    """Sends requests over kept connections, and again where that may help.

    One per process; safe to use from many threads.
    """

    def __init__(
        self,
        connections: int = 20,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        timing: Timing = TIMING,
    ) -> None:
        self.clock = clock
        self.timing = timing
        self._sleep = sleep
        self._adapter = HTTPAdapter(pool_connections=32, pool_maxsize=connections * _RUNS, max_retries=0)
        self._verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        self._origins: dict[str, tuple[Pace, Mapping[str, str]]] = {}
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311  # spreads retries, guards nothing

    def send(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        max_bytes: int,
    ) -> Response:
        """Return the answer to a request without a body, whatever its status, once it is none that is retried.

        Raises:
            Unavailable, AnswerTooLong: As ``retrying``.
        """
        return self.retrying(exchange, url, lambda: self.once(exchange, method, url, headers, max_bytes=max_bytes))

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    def check_time(self, exchange: Exchange) -> None:
        """Raise at the exchange's deadline; for what asks again and again.

        Raises:
            TimeLimitReached: It is over.
        """
        if self.clock() >= exchange.deadline:
            raise TimeLimitReached("time is over, and not everything is read")

    def pause(self, seconds: float, exchange: Exchange) -> None:
        """Do nothing for a while, though not beyond the exchange's deadline."""
        if seconds > 0:
            self._sleep(max(min(seconds, exchange.deadline - self.clock()), 0.0))

    def retrying(self, exchange: Exchange, url: str, act: Callable[[], T], *, requests: int = 1) -> T:
        """Return what ``act`` does, which sends ``requests`` by ``once`` to the host of ``url``, back to back.

        It waits for their turn before the first of them, and does all again, with exponential backoff and jitter,
        where one of them says ``TryAgain``.  A ``Retry-After`` is honoured up to 60 s.

        Raises:
            Unavailable: Still failing after all attempts or at the exchange's deadline.
            AnswerTooLong: An answer is longer than it may be.
        """
        pace, _ = self._origin(url)
        for attempt in range(self.timing.attempts):
            self.pause(pace.reserve(requests), exchange)
            try:
                with exchange.turn:
                    return act()
            except TryAgain as again:
                failure = again
            backoff = min(self.timing.first_backoff * 2**attempt, self.timing.backoff_max) * self._random.uniform(
                0.5, 1.0
            )
            delay = max(backoff, failure.least_s)
            if attempt + 1 == self.timing.attempts or self.clock() + delay >= exchange.deadline:
                break
            self._sleep(delay)
        raise Unavailable(str(failure)) from failure

    def once(
        self, exchange: Exchange, method: str, url: str, headers: Mapping[str, str], *, max_bytes: int
    ) -> Response:
        """Return the answer to a request that is sent once; to be called by what ``retrying`` is given.

        Raises:
            TryAgain: The connection was lost, or the status is 408, 429 or one of 5xx that passes.
            AnswerTooLong: The answer is longer than ``max_bytes``.
        """
        pace, proxies = self._origin(url)
        exchange.count()
        try:
            patience_s = max(exchange.deadline + self.timing.grace - self.clock(), _LEAST_TIMEOUT_S)
            response = self._send(method, url, headers, proxies, max_bytes, patience_s)
        except requests.RequestException as error:
            raise TryAgain(f"{method} {url}: {type(error).__name__}") from error
        if response.status == TOO_MANY_REQUESTS:
            pace.refused()
        else:
            pace.accepted()
        if response.status in _RETRIED:
            least_s = _retry_after_s(response.headers.get("Retry-After"), self.timing.retry_after_max)
            raise TryAgain(f"{method} {url}: status {response.status}", least_s)
        return response

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        proxies: Mapping[str, str],
        max_bytes: int,
        patience_s: float,
    ) -> Response:
        request = requests.Request(method, url, headers=dict(headers)).prepare()
        timeout = (min(self.timing.connect_timeout, patience_s), min(self.timing.read_timeout, patience_s))
        response = self._adapter.send(request, stream=True, timeout=timeout, verify=self._verify, proxies=proxies)
        try:
            body = bytearray()
            for chunk in response.iter_content(_CHUNK_BYTES):
                body += chunk
                if len(body) > max_bytes:
                    raise AnswerTooLong(f"{method} {url}: longer than {max_bytes} bytes")
            return Response(response.status_code, response.headers, body)
        finally:
            response.close()

    def _origin(self, url: str) -> tuple[Pace, Mapping[str, str]]:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if origin not in self._origins:
                proxies = requests.utils.get_environ_proxies(url)
                self._origins[origin] = (Pace(self.clock), proxies)
            return self._origins[origin]


def _retry_after_s(value: str | None, longest_s: float) -> float:
    """Return what a ``Retry-After`` asks for, at most ``longest_s``; 0 where there is none."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return min(float(value[:6]), longest_s)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(moment - time.time(), 0.0), longest_s)
