"""One repository's address in a registry, and the authorized requests of one run to it.

It has no state but the run's budget, so several threads may use it.
"""

from __future__ import annotations

from collections.abc import Callable

from cleaner.core.manifest import MEDIA_TYPES
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.google.transport import (
    UNAUTHORIZED,
    RequestBudget,
    Response,
    TokenSource,
    Transport,
    WithStatus,
    with_fresh_token,
)

# distribution-spec, "Pushing manifests": registries should accept manifests of 4 MiB.
MANIFEST_MAX_BYTES = 4 * 1024 * 1024

# A registry answers 404 to a request for a manifest whose media type is not among these.
UNDERSTOOD_TYPES = ", ".join(MEDIA_TYPES)
ANY_TYPE = "*/*"
# A tag may have moved to a manifest of any type; a registry may convert what it could give as it is.
PREFERRED_TYPES = f"{UNDERSTOOD_TYPES}, {ANY_TYPE}"


class Endpoint:
    """Sends requests below ``base_url``, with tokens of ``token_source``; they are counted in ``budget``.

    ``on_accepted`` is called after each response but a 401.
    """

    def __init__(
        self,
        transport: Transport,
        token_source: TokenSource,
        on_accepted: Callable[[], None],
        budget: RequestBudget,
        repository: Repository,
        base_url: str,
    ) -> None:
        self.repository = repository
        self.base_url = base_url
        self._transport = transport
        self._token_source = token_source
        self._on_accepted = on_accepted
        self._budget = budget

    def manifest_url(self, reference: Tag | Digest) -> str:
        """Return the URL of the manifest that a tag or digest names."""
        return f"{self.base_url}/manifests/{reference}"

    def check_time(self) -> None:
        """Raise if the budget's deadline is reached.

        Raises:
            TimeLimitReached: It is.
        """
        self._transport.check_time(self._budget)

    def send(
        self, method: str, url: str, *, accept: str = UNDERSTOOD_TYPES, max_bytes: int = MANIFEST_MAX_BYTES
    ) -> Response:
        """Return the response to a request, whatever its status, after retries.

        Raises:
            PermissionDenied, RequestRefused: There is no token.
            Unavailable, AnswerTooLong: As ``Transport.retrying``.
        """
        return self.authorized(url, lambda token: self.once(method, url, token, accept=accept, max_bytes=max_bytes))

    def authorized(self, url: str, act: Callable[[str], WithStatus], *, requests: int = 1) -> WithStatus:
        """Return what ``act`` returns with a token, after retries, and with a fresh one if the status is 401.

        ``act`` sends up to ``requests`` requests by ``once``, back to back; it is repeated as a whole.

        Raises:
            PermissionDenied, RequestRefused: There is no token.
            Unavailable, AnswerTooLong: As ``Transport.retrying``.
        """
        return with_fresh_token(
            self._token_source,
            lambda token: self._transport.retrying(self._budget, url, lambda: act(token), requests=requests),
        )

    def once(
        self,
        method: str,
        url: str,
        token: str,
        *,
        accept: str = UNDERSTOOD_TYPES,
        max_bytes: int = MANIFEST_MAX_BYTES,
    ) -> Response:
        """Return the response to a request that is sent once; to be called by what ``authorized`` is given.

        Raises:
            RetryableError, AnswerTooLong: As ``Transport.once``.
        """
        headers = {"Accept": accept}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        response = self._transport.once(self._budget, method, url, headers, max_bytes=max_bytes)
        if response.status != UNAUTHORIZED:
            self._on_accepted()
        return response
