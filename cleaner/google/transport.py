"""The one module that speaks HTTP: connections, retries, the rate of requests, and a fresh token after a 401.

It uses requests' adapter without a session: no cookies, no ``.netrc``, no redirects, so a credential is sent to the
host that it is meant for and to no other.  The exceptions of requests, urllib3 and the system are translated here,
and leave this module as causes only.

State: a ``Transport``, one per process, owns the kept connections, which the adapter protects, and per origin a rate
limiter and the proxies, which its lock protects.  A ``RequestBudget``, one per run, owns the number of its requests,
which its lock protects.  Any thread may call either; a thread that waits for its turn or for a retry holds no lock.
"""

from __future__ import annotations

import email.utils
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from cleaner.core.errors import AnswerTooLong, TimeLimitReached, Unavailable
from cleaner.core.timing import TIMING, Timing
from cleaner.google.rate_limiter import RateLimiter

UNAUTHORIZED = 401
FORBIDDEN = 403
TOO_MANY_REQUESTS = 429
_RETRIED = frozenset({408, TOO_MANY_REQUESTS, 500, 502, 503, 504})

# In the place of a token: the request is sent without an ``Authorization`` header.
ANONYMOUS = ""

# RFC 9110, "WWW-Authenticate": one of several challenges, separated by commas.
_BEARER_CHALLENGE = re.compile(r"(?:.*,)?\s*bearer(?:\s.*)?", re.IGNORECASE | re.DOTALL)
_MIN_TIMEOUT_S = 1.0
_RETRY_AFTER_DIGITS_MAX = 6
# How many runs of one host side by side have their connections kept; connections beyond those are closed after use.
_RUNS = 80
_CHUNK_BYTES = 256 * 1024


class Response(msgspec.Struct, frozen=True):
    """A complete response, its body decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytearray

    @property
    def is_challenged(self) -> bool:
        """Whether it is a 401 that says where a token is to be had (RFC 6750, "WWW-Authenticate")."""
        challenges = self.headers.get("WWW-Authenticate", "")
        return self.status == UNAUTHORIZED and _BEARER_CHALLENGE.fullmatch(challenges) is not None


class HasStatus(Protocol):
    """A response, or what was made of one."""

    @property
    def status(self) -> int:
        """The HTTP status; 0 if there was no response."""

    @property
    def is_challenged(self) -> bool:
        """Whether it is a 401 that says where a token is to be had."""


class RefusedToken(msgspec.Struct, frozen=True):
    """A token that was answered 401; ``is_challenged``: with where another one is to be had."""

    token: str
    is_challenged: bool


T = TypeVar("T")
WithStatus = TypeVar("WithStatus", bound=HasStatus)

# Returns a token other than the given one, which was refused; ``ANONYMOUS`` if there is none to be had.
TokenSource = Callable[[RefusedToken | None], str]


def with_fresh_token(token_source: TokenSource, act: Callable[[str], WithStatus]) -> WithStatus:
    """Return what ``act`` returns with a token; if its status is 401, what it returns with a fresh token."""
    token = token_source(None)
    result = act(token)
    if result.status == UNAUTHORIZED and (fresh := token_source(RefusedToken(token, result.is_challenged))):
        return act(fresh)
    return result


class RequestBudget:
    """How long one run may send requests, and how many it has sent.

    ``deadline`` is in seconds of the transport's clock.  After it a request is still sent, since what has begun is
    finished, but once, without waiting for its turn, and the response is awaited for at most ``Timing.grace`` after
    the deadline.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.requests = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """Count one request that is sent."""
        with self._lock:
            self.requests += 1


class RetryableError(Exception):
    """A request failed in a way that may pass; ``min_delay_s`` is how long the service wants no further request.

    It leaves ``Transport.retrying`` only as the cause of ``Unavailable``.
    """

    def __init__(self, message: str, min_delay_s: float = 0.0) -> None:
        super().__init__(message)
        self.min_delay_s = min_delay_s


class Transport:
    """Sends requests over kept connections, and retries them where that may help; one per process.

    ``connections`` is how many requests of one run and host are under way at most.  ``clock`` is monotonic, in
    seconds.
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
        self._origins: dict[str, tuple[RateLimiter, Mapping[str, str]]] = {}
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311  # spreads retries, protects nothing

    def send(
        self,
        budget: RequestBudget,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        max_bytes: int,
    ) -> Response:
        """Return the response to a request without a body, whatever its status, after retries.

        Raises:
            Unavailable, AnswerTooLong: As ``retrying``.
        """
        return self.retrying(budget, url, lambda: self.once(budget, method, url, headers, max_bytes=max_bytes))

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    def check_time(self, budget: RequestBudget) -> None:
        """Raise if the budget's deadline is reached; to be called between many requests.

        Raises:
            TimeLimitReached: It is.
        """
        if self.clock() >= budget.deadline:
            raise TimeLimitReached("the time limit was reached before everything was read")

    def pause(self, seconds: float, budget: RequestBudget) -> None:
        """Wait for ``seconds``, but not beyond the budget's deadline."""
        if seconds > 0:
            self._sleep(max(min(seconds, budget.deadline - self.clock()), 0.0))

    def retrying(self, budget: RequestBudget, url: str, act: Callable[[], T], *, requests: int = 1) -> T:
        """Return what ``act`` returns, which sends up to ``requests`` requests by ``once`` to the host of ``url``.

        Waits for their turn before the first of them, and repeats ``act`` as a whole, with exponential backoff and
        jitter, if it raises ``RetryableError``.

        Raises:
            Unavailable: Still failing after all attempts or at the budget's deadline.
            AnswerTooLong: A response is longer than it may be.
        """
        limiter, _ = self._origin(url)
        for attempt in range(self.timing.attempts):
            self.pause(limiter.acquire(requests), budget)
            try:
                return act()
            except RetryableError as error:
                failure = error
            backoff = min(self.timing.first_backoff * 2**attempt, self.timing.backoff_max)
            delay = max(backoff * self._random.uniform(0.5, 1.0), failure.min_delay_s)
            if attempt + 1 == self.timing.attempts or self.clock() + delay >= budget.deadline:
                break
            self._sleep(delay)
        raise Unavailable(str(failure)) from failure

    def once(
        self, budget: RequestBudget, method: str, url: str, headers: Mapping[str, str], *, max_bytes: int
    ) -> Response:
        """Return the response to a request that is sent once; to be called by what ``retrying`` is given.

        Raises:
            RetryableError: The connection was lost, or the status is 408, 429, 500, 502, 503 or 504.
            AnswerTooLong: The response is longer than ``max_bytes``.
        """
        limiter, proxies = self._origin(url)
        budget.count()
        try:
            timeout_s = max(budget.deadline + self.timing.grace - self.clock(), _MIN_TIMEOUT_S)
            response = self._send(method, url, headers, proxies, max_bytes, timeout_s)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            # Those of requests are named by their types; others say what the operator can do: a CA file is missing.
            problem = type(error).__name__ if isinstance(error, requests.RequestException) else error
            raise RetryableError(f"{method} {url}: {problem}") from error
        if response.status == TOO_MANY_REQUESTS:
            limiter.on_throttled()
        else:
            limiter.on_success()
        if response.status in _RETRIED:
            min_delay_s = _retry_after_s(response.headers.get("Retry-After"), self.timing.retry_after_max)
            raise RetryableError(f"{method} {url}: status {response.status}", min_delay_s)
        return response

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        proxies: Mapping[str, str],
        max_bytes: int,
        timeout_s: float,
    ) -> Response:
        request = requests.Request(method, url, headers=dict(headers)).prepare()
        timeout = (min(self.timing.connect_timeout, timeout_s), min(self.timing.read_timeout, timeout_s))
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

    def _origin(self, url: str) -> tuple[RateLimiter, Mapping[str, str]]:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if origin not in self._origins:
                proxies = requests.utils.get_environ_proxies(url)
                self._origins[origin] = (RateLimiter(self.clock), proxies)
            return self._origins[origin]


def _retry_after_s(value: str | None, max_s: float) -> float:
    """Return the seconds in a ``Retry-After`` header, at most ``max_s``; 0 if it is absent or malformed."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return min(float(value[:_RETRY_AFTER_DIGITS_MAX]), max_s)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(moment - time.time(), 0.0), max_s)
