"""Google's REST APIs: one page after the other, with Google's own token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from cleaner.core.errors import IncompleteListing, PermissionDenied, RequestRefused, Unavailable
from cleaner.google.transport import Exchange, Response, Transport

# A page of a thousand entries with a hundred tags each takes some ten megabytes.
PAGE_MAX_BYTES = 64 * 1024 * 1024


class Credentials(Protocol):
    """What gives Google's access token."""

    def access_token(self, refused: str | None = None) -> str:
        """Return a token other than ``refused``."""

    def quota_project(self) -> str | None:
        """Return the project whose quota the request counts in, or None for the token's own."""


class Page(Protocol):
    """The part of every page that says whether there is another."""

    @property
    def next_page_token(self) -> str:
        """Empty on the last page."""


P = TypeVar("P", bound=Page)


class GoogleApi:
    """One API below ``base_url``, which ends in a slash.

    A base of plain HTTP is somebody's stand-in for Google, and gets no credential.  Safe to use from many threads.
    """

    def __init__(self, transport: Transport, credentials: Credentials, base_url: str) -> None:
        self._transport = transport
        self._credentials = credentials
        self._base_url = base_url
        self._is_trusted = base_url.startswith("https://")

    def get(
        self, exchange: Exchange, path: str, parameters: Sequence[tuple[str, str]], permission: str
    ) -> bytes | bytearray:
        """Return the body of a successful answer; ``path`` is quoted already.

        Raises:
            PermissionDenied: It was refused; ``permission`` is likely missing.
            RequestRefused: Another 4xx; ``status`` says which.
            Unavailable: Still failing after all attempts.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        response = self._authorised(exchange, f"{self._base_url}{path}{query}")
        if response.status in (401, 403):
            raise PermissionDenied(f"{path}: denied", permission)
        if response.status != 200:
            raise RequestRefused(f"{path}: status {response.status}", response.status)
        return response.body

    def pages(
        self,
        exchange: Exchange,
        path: str,
        parameters: Sequence[tuple[str, str]],
        permission: str,
        decode: Callable[[bytes | bytearray], P],
    ) -> Iterator[P]:
        """Yield every page, by ``decode``.

        Raises:
            IncompleteListing: A page makes no sense, or names one that has been before.
            TimeLimitReached: The exchange's deadline came first.
            PermissionDenied, RequestRefused, Unavailable: As ``get``.
        """
        token, seen = "", {""}
        while True:
            self._transport.check_time(exchange)
            body = self.get(exchange, path, [*parameters, *([("pageToken", token)] if token else [])], permission)
            try:
                page = decode(body)
            except (msgspec.ValidationError, RecursionError) as error:
                raise IncompleteListing(f"{path}: a page makes no sense: {error}") from error
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Unavailable(f"{path}: a page is not JSON: {error}") from error
            yield page
            token = page.next_page_token
            if not token:
                return
            if token in seen:
                raise IncompleteListing(f"{path}: the pages go round in a circle")
            seen.add(token)

    def _authorised(self, exchange: Exchange, url: str) -> Response:
        if not self._is_trusted:
            return self._transport.send(exchange, "GET", url, {}, max_bytes=PAGE_MAX_BYTES)
        refused = None
        for _ in range(2):
            token = self._credentials.access_token(refused)
            headers = {"Authorization": f"Bearer {token}"}
            # A person's token belongs to gcloud's own project, which Google refuses to charge.
            if project := self._credentials.quota_project():
                headers["X-Goog-User-Project"] = project
            response = self._transport.send(exchange, "GET", url, headers, max_bytes=PAGE_MAX_BYTES)
            if response.status != 401:
                break
            refused = token
        return response
