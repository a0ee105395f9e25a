"""The tokens of requests to registries: Google's access token, and the registry's own where a host requires one.

Google's hosts accept the access token as it is.  If a host that has not accepted it answers 401 with a challenge, a
token of its own is exchanged for the access token at ``/v2/token``, for the one repository and access, and sent from
then on.

State: the cache of slots, which its own lock protects; each slot's token, which the slot's lock protects; and the
hosts that have accepted an access token, a set whose single operations are atomic.  A slot's lock is held during the
request for a token, so that threads that want the same token send one request.  Any thread may call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Set as AbstractSet
from enum import Enum
from functools import partial
from urllib.parse import urlencode

import msgspec

from cleaner.core.errors import PermissionDenied, RequestRefused, Unavailable
from cleaner.core.reference import Repository
from cleaner.google.credentials import is_bearer_token
from cleaner.google.lru_cache import LruCache
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

# Docker's token specification: a token whose response has no lifetime is valid for 60 seconds.
_DEFAULT_LIFETIME_S = 60.0
# A token is replaced this long before it expires, or at nine tenths of a short lifetime.
_MARGIN_S = 60.0
_MARGIN_SHARE = 0.1
_TOKENS_MAX = 10_000
_RESPONSE_MAX_BYTES = 1024 * 1024

# What the registry API checks for a deletion; the REST API checks tags.delete and versions.delete.
DELETE_PERMISSION = "artifactregistry.repositories.deleteArtifacts"
_READ_PERMISSION = "artifactregistry.repositories.downloadArtifacts"
_UPLOAD_PERMISSION = "artifactregistry.repositories.uploadArtifacts"


class Access(Enum):
    """The scope of an exchanged token: a preview's cannot delete."""

    READ = "pull"
    DELETE = "push,pull"

    @property
    def permission(self) -> str:
        """The IAM permissions that are likely missing if no such token is given."""
        if self is Access.READ:
            return _READ_PERMISSION
        # There is no scope for deleting alone.
        return f"{_READ_PERMISSION}, {DELETE_PERMISSION}, {_UPLOAD_PERMISSION}"


class _TokenResponse(msgspec.Struct):
    token: str
    expires_in: float = _DEFAULT_LIFETIME_S


_decoder = msgspec.json.Decoder(_TokenResponse)


class _Slot(msgspec.Struct):
    """One repository's exchanged token for one access; None before the first exchange.

    ``expires`` is in seconds of the transport's clock.
    """

    token: str | None = None
    expires: float = math.inf
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)


class Tokens:
    """Returns tokens for repositories.

    ``access_token`` returns Google's access token, another one than the given one that was refused.  The hosts in
    ``insecure`` are never sent it: they are sent no token, and after a challenge one that they give anonymously.
    """

    def __init__(
        self,
        transport: Transport,
        access_token: Callable[[str | None], str],
        insecure: AbstractSet[str] = frozenset(),
    ) -> None:
        self._transport = transport
        self._access_token = access_token
        self._insecure = insecure
        self._slots: LruCache[tuple[Repository, Access], _Slot] = LruCache(_TOKENS_MAX)
        self._accepting: set[str] = set()

    def get(
        self, budget: RequestBudget, repository: Repository, access: Access, refused: RefusedToken | None = None
    ) -> str:
        """Return a token for ``repository`` other than ``refused``; ``ANONYMOUS`` if its host has required none.

        Raises:
            NoCredentials: There is no access token.
            PermissionDenied: The token service refuses the access token.
            RequestRefused: The token service responds with another 4xx.
            Unavailable: It, or the service that gives access tokens, does not respond, or not with a token.
        """
        slot = self._slots.setdefault((repository, access), _Slot())
        with slot.lock:
            if slot.token is None and not (refused and self._is_exchange_wanted(repository.host, refused)):
                token = self._direct(repository.host, refused)
                if refused and refused.is_challenged:
                    # With the fresh one it has to show again that it accepts access tokens.
                    self._accepting.discard(repository.host)
                return token
            now = self._transport.clock()
            if slot.token is None or now >= slot.expires or (refused and slot.token == refused.token):
                response = self._exchange(budget, repository, access)
                margin_s = min(_MARGIN_S, response.expires_in * _MARGIN_SHARE)
                slot.token, slot.expires = response.token, now + response.expires_in - margin_s
            return slot.token

    def accept(self, repository: Repository, access: Access) -> None:
        """Note that the host of ``repository`` has accepted the token of a request."""
        if repository.host in self._accepting or repository.host in self._insecure:
            return
        slot = self._slots.get((repository, access))
        if slot and slot.token is None:
            self._accepting.add(repository.host)

    def _is_exchange_wanted(self, host: str, refused: RefusedToken) -> bool:
        """Return whether ``host`` refuses access tokens, and not only this one, which may have expired."""
        return refused.is_challenged and host not in self._accepting and refused.token == self._direct(host, None)

    def _direct(self, host: str, refused: RefusedToken | None) -> str:
        """Return what is sent to a host that has not requested a token of its own."""
        return ANONYMOUS if host in self._insecure else self._access_token(refused.token if refused else None)

    def _exchange(self, budget: RequestBudget, repository: Repository, access: Access) -> _TokenResponse:
        what = f"{repository}: no token for {access.value}"
        response = self._request(budget, repository, access)
        if response.status in (UNAUTHORIZED, FORBIDDEN):
            raise PermissionDenied(what, access.permission)
        if response.status != 200:
            raise RequestRefused(what, response.status)
        try:
            decoded = _decoder.decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(f"{what}: the token service's response is malformed") from error
        if not is_bearer_token(decoded.token):
            raise Unavailable(f"{what}: the token service's response has no valid token")
        return decoded

    def _request(self, budget: RequestBudget, repository: Repository, access: Access) -> Response:
        scope = f"repository:{repository.path}:{access.value}"
        query = urlencode({"service": repository.host, "scope": scope}, safe=":,/")
        is_insecure = repository.host in self._insecure
        url = f"{'http' if is_insecure else 'https'}://{repository.host}/v2/token?{query}"

        def send(token: str) -> Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return self._transport.send(budget, "GET", url, headers, max_bytes=_RESPONSE_MAX_BYTES)

        return with_fresh_token(partial(self._direct, repository.host), send)
