"""The registry's own tokens: exchanged for Google's at ``/v2/token``, one per repository, kept while they last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Set as AbstractSet
from enum import Enum
from urllib.parse import urlencode

import msgspec

from cleaner.core.errors import PermissionDenied, RequestRefused, Unavailable
from cleaner.core.reference import Repository
from cleaner.google.credentials import is_bearer_token
from cleaner.google.recent import Recent
from cleaner.google.transport import Exchange, Response, Transport

# Docker's token specification: a token whose answer does not say how long it is valid is so for 60 seconds.
_DEFAULT_LIFE_S = 60.0
# A token is replaced this long before it ends, or at nine tenths of a short life.
_MARGIN_S = 60.0
_MARGIN_SHARE = 0.1
_TOKENS_MAX = 10_000
_ANSWER_MAX_BYTES = 1024 * 1024

# What the registry checks where a tag or a manifest is deleted by its protocol; tags.delete and versions.delete are
# what the REST API checks.
DELETE_PERMISSION = "artifactregistry.repositories.deleteArtifacts"
_READ_PERMISSION = "artifactregistry.repositories.downloadArtifacts"
_UPLOAD_PERMISSION = "artifactregistry.repositories.uploadArtifacts"


class Access(Enum):
    """What a run asks its token to be good for: a preview could not delete even by mistake."""

    READ = "pull"
    DELETE = "push,pull"

    @property
    def permission(self) -> str:
        """The IAM permission that is likely missing where no such token is given."""
        if self is Access.READ:
            return _READ_PERMISSION
        # There is no scope for deleting alone.
        return f"{_READ_PERMISSION}, {DELETE_PERMISSION}, {_UPLOAD_PERMISSION}"


class _Answer(msgspec.Struct):
    token: str
    expires_in: float = _DEFAULT_LIFE_S


_decoder = msgspec.json.Decoder(_Answer)


class _Slot(msgspec.Struct):
    """One repository's token; ``until`` is in seconds of the transport's clock."""

    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    token: str | None = None
    until: float = 0.0


class Tokens:
    """Hands out tokens.  Safe to use from many threads: those who want the same one wait for one request.

    ``access_token`` gives Google's, other than one that was refused; the ``insecure`` hosts are asked anonymously,
    and only once they want a token.
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
        self._slots: Recent[tuple[Repository, Access], _Slot] = Recent(_TOKENS_MAX, _Slot)

    def get(self, exchange: Exchange, repository: Repository, access: Access) -> str | None:
        """Return the repository's token; None where its host has not asked for one.

        Raises:
            PermissionDenied: The token is refused.
            RequestRefused: Another 4xx.
            Unavailable: The token service does not answer, or not with a token.
        """
        slot = self._slots.get((repository, access))
        with slot.lock:
            if slot.token is None and repository.host in self._insecure:
                return None
            return self._living(slot, exchange, repository, access)

    def renew(self, exchange: Exchange, repository: Repository, access: Access, refused: str | None) -> str:
        """Return a token other than ``refused``, which the registry did not take.

        Raises:
            As ``get``.
        """
        slot = self._slots.get((repository, access))
        with slot.lock:
            if slot.token == refused:
                slot.token = None
            return self._living(slot, exchange, repository, access)

    def _living(self, slot: _Slot, exchange: Exchange, repository: Repository, access: Access) -> str:
        asked = self._transport.clock()
        if slot.token is None or asked >= slot.until:
            answer = self._exchange(exchange, repository, access)
            slot.token = answer.token
            slot.until = asked + answer.expires_in - min(_MARGIN_S, answer.expires_in * _MARGIN_SHARE)
        return slot.token

    def _exchange(self, exchange: Exchange, repository: Repository, access: Access) -> _Answer:
        scope = f"repository:{repository.path}:{access.value}"
        query = urlencode({"service": repository.host, "scope": scope}, safe=":,/")
        response = self._ask(exchange, repository.host, query)
        if response.status in (401, 403):
            raise PermissionDenied(f"{repository}: no token for {access.value}", access.permission)
        if response.status != 200:
            raise RequestRefused(f"{repository}: no token for {access.value}", response.status)
        try:
            answer = _decoder.decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(f"{repository}: the token service's answer makes no sense") from error
        if not is_bearer_token(answer.token):
            raise Unavailable(f"{repository}: the token service's answer is no token")
        return answer

    def _ask(self, exchange: Exchange, host: str, query: str) -> Response:
        """Ask a host's token endpoint: anonymously, or with Google's token and once with a fresh one."""
        if host in self._insecure:
            return self._send(exchange, f"http://{host}/v2/token?{query}", None)
        token = self._access_token(None)
        response = self._send(exchange, f"https://{host}/v2/token?{query}", token)
        if response.status == 401:
            response = self._send(exchange, f"https://{host}/v2/token?{query}", self._access_token(token))
        return response

    def _send(self, exchange: Exchange, url: str, token: str | None) -> Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._transport.send(exchange, "GET", url, headers, max_bytes=_ANSWER_MAX_BYTES)
