"""Google's REST APIs: single responses and pages, with Google's access token.

It has no state, so any thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from cleaner.core.errors import IncompleteListing, PermissionDenied, RequestRefused, Unavailable
from cleaner.google.transport import (
    ANONYMOUS,
    FORBIDDEN,
    UNAUTHORIZED,
    RefusedToken,
    RequestBudget,
    Response,
    Transport,
    with_fresh_token,
)

# A page of a thousand entries with a hundred tags each takes some ten megabytes.
PAGE_MAX_BYTES = 64 * 1024 * 1024
# The thread that requests the next page needs the interpreter until it has sent the request, and would wait for it
# while this page is decoded.
_HEAD_START_S = 0.005


class Credentials(Protocol):
    """Google's credentials, as this module needs them."""

    def access_token(self, refused: str | None = None) -> str:
        """Return an access token other than ``refused``."""

    def headers(self, token: str) -> Mapping[str, str]:
        """Return the headers of a request with ``token``."""


class _Page(msgspec.Struct, rename="camel"):
    """The field of every page that says whether there is another."""

    next_page_token: str = ""


_page_decoder = msgspec.json.Decoder(_Page)

T = TypeVar("T")


class GoogleApi:
    """One API below ``base_url``, which ends in a slash.

    A ``base_url`` of plain HTTP is a local replacement of Google's API, and is sent no credential.
    """

    def __init__(self, transport: Transport, credentials: Credentials, base_url: str) -> None:
        self._transport = transport
        self._credentials = credentials
        self._base_url = base_url
        self._is_secure = base_url.startswith("https://")

    def get(
        self, budget: RequestBudget, path: str, parameters: Sequence[tuple[str, str]], permission: str
    ) -> bytes | bytearray:
        """Return the body of a response with status 200; ``path`` is quoted already.

        Raises:
            PermissionDenied: The status is 401 or 403; ``permission`` is likely missing.
            RequestRefused: It is another one that is not retried.
            Unavailable: Still failing after all attempts.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        response = self._send(budget, f"{self._base_url}{path}{query}")
        if response.status in (UNAUTHORIZED, FORBIDDEN):
            raise PermissionDenied(f"{path}: denied", permission)
        if response.status != 200:
            raise RequestRefused(f"{path}: status {response.status}", response.status)
        return response.body

    def pages(
        self,
        budget: RequestBudget,
        path: str,
        parameters: Sequence[tuple[str, str]],
        permission: str,
        decode: Callable[[bytes | bytearray], T],
    ) -> Iterator[T]:
        """Yield every page, as ``decode`` returns it.

        The next page is requested as soon as its token is known, while this one is decoded and used.

        Raises:
            IncompleteListing: A page is malformed, or names an earlier page as the next one.
            TimeLimitReached: The budget's deadline came before the last page.
            PermissionDenied, RequestRefused, Unavailable: As ``get``.
        """
        seen: set[str] = set()

        def get(token: str) -> tuple[bytes | bytearray, str]:
            self._transport.check_time(budget)
            seen.add(token)
            body = self.get(budget, path, [*parameters, *([("pageToken", token)] if token else [])], permission)
            next_token = _decoded(path, body, _page_decoder.decode).next_page_token
            if next_token in seen and next_token:
                raise IncompleteListing(f"{path}: the pages form a cycle")
            return body, next_token

        # One page ahead: a second thread is begun with the second page.
        pool = ThreadPoolExecutor(1, thread_name_prefix="page")
        try:
            body, token = get("")
            while token:
                following = pool.submit(get, token)
                wait([following], _HEAD_START_S)
                yield _decoded(path, body, decode)
                body, token = following.result()
        finally:
            # After an error or an interrupt nobody waits for a page that is not wanted any more.
            pool.shutdown(wait=False)
        yield _decoded(path, body, decode)

    def _send(self, budget: RequestBudget, url: str) -> Response:
        def send(token: str) -> Response:
            headers = self._credentials.headers(token) if token else {}
            return self._transport.send(budget, "GET", url, headers, max_bytes=PAGE_MAX_BYTES)

        def access_token(refused: RefusedToken | None) -> str:
            return self._credentials.access_token(refused.token if refused else None)

        return with_fresh_token(access_token, send) if self._is_secure else send(ANONYMOUS)


def _decoded(path: str, body: bytes | bytearray, decode: Callable[[bytes | bytearray], T]) -> T:
    try:
        return decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise IncompleteListing(f"{path}: a page is malformed: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"{path}: a page is not JSON: {error}") from error
