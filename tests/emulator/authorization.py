"""Who may do what: Google's access token, the registry's own tokens, and the answers to what is missing."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from tests.emulator.answer import Answer, google_error, json_answer, registry_error
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulator.server import Behaviour, Route

PULL: Final = "artifactregistry.repositories.downloadArtifacts"
PUSH: Final = "artifactregistry.repositories.uploadArtifacts"
DELETE: Final = "artifactregistry.repositories.deleteArtifacts"

# What needs no authorisation, because it gives it.
_OPEN_KINDS: Final = frozenset({"token", "oauth", "metadata"})
_GOOGLE_KINDS: Final = ("rest_", "assets")
# What the registry's own tokens begin with, and no credential of Google's does.
_ISSUED: Final = "emulator-token-"
# Google's user name for an access token in the place of a password.
_BASIC_USER: Final = "oauth2accesstoken"
_PERMISSIONS: Final = {"GET": PULL, "HEAD": PULL, "DELETE": DELETE}
# The action of a token's scope -> the permission that is checked before the token is given.
_ACTIONS: Final = {"pull": PULL, "push": PUSH, "delete": DELETE}


@dataclass(frozen=True, slots=True)
class _Token:
    # Path -> what may be done there.
    grants: Mapping[str, frozenset[str]]
    expires: float

    def allows(self, path: str, wanted: str, method: str) -> bool:
        held = self.grants.get(path, frozenset())
        return wanted in held or "*" in held or (method == "DELETE" and "delete" in held)


class Authorization:
    """The tokens that one registry has issued, and what it wants of a request."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._tokens: dict[str, _Token] = {}

    def reset(self) -> None:
        self._tokens.clear()

    def expire(self) -> None:
        """No token issued so far is good any more."""
        for text, token in list(self._tokens.items()):
            self._tokens[text] = _Token(token.grants, 0.0)

    def refuse(self, method: str, route: Route, header: str, address: str) -> Answer | None:
        """Return the answer to a request that lacks what it needs; None if it lacks nothing.

        ``header`` is its ``Authorization``, ``address`` the scheme and host that it was sent to.
        """
        if not self._behaviour.auth or route.kind in _OPEN_KINDS:
            return None
        if route.kind.startswith(_GOOGLE_KINDS):
            if self._is_google(header):
                return None
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        is_anywhere = route.kind in ("ping", "other")
        if self._behaviour.takes_access_token and self._is_google(header):
            if not is_anywhere:
                self._check(route.name, _PERMISSIONS.get(method, PUSH))
            return None
        is_reading = method in ("GET", "HEAD")
        challenge = f'Bearer realm="{address}/v2/token",service="{address.partition("://")[2]}"'
        if not is_anywhere:
            challenge += f',scope="repository:{route.name}:{"pull" if is_reading else "push,pull"}"'
        token = self._tokens.get(_bearer(header))
        if token is None or token.expires <= time.monotonic():
            return _unauthorized("authentication required", challenge)
        if is_anywhere or token.allows(route.name, "pull" if is_reading else "push", method):
            return None
        return _unauthorized("insufficient scope", f'{challenge},error="insufficient_scope"')

    def issue(self, header: str, query: str, body: bytes) -> Answer:
        """Answer a request for a token.

        Raises:
            Refusal: 401 for a bad credential, 403 for a permission that is missing, 400 for a scope that is none.
        """
        asked = parse_qs(query)
        # The specification's newer way sends a form.
        form = parse_qs(body.decode("latin-1"))
        secret = next((form[key][0] for key in ("password", "refresh_token") if key in form), "")
        if secret:
            header = f"Bearer {secret}"
        if header and not self._is_google(header):
            raise Refusal(401, "UNAUTHORIZED", "the credential is not valid")
        grants: dict[str, frozenset[str]] = {}
        for scope in " ".join(asked.get("scope", []) + form.get("scope", [])).split():
            kind, _, rest_of = scope.partition(":")
            if kind == "registry":
                # Asked for with the catalog; the token grants nothing there.
                continue
            path, _, actions = rest_of.rpartition(":")
            if kind != "repository" or not path:
                raise Refusal(400, "UNSUPPORTED", f"invalid scope: {scope}")
            wanted = frozenset(actions.split(","))
            if header:
                for action in sorted(wanted & _ACTIONS.keys()):
                    self._check(path, _ACTIONS[action])
            else:
                wanted &= self._behaviour.anonymous
                self._check(path, PULL)
            grants[path] = wanted
        text = _ISSUED + secrets.token_hex(16)
        expires_in = self._behaviour.expires_in
        self._tokens[text] = _Token(grants, time.monotonic() + (60 if expires_in is None else expires_in))
        document: dict[str, object] = {"token": text, "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if expires_in is not None:
            document["expires_in"] = expires_in
        return json_answer(document)

    def _is_google(self, header: str) -> bool:
        """Whether a request comes with Google's access token, as bearer or as Docker's password."""
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, secret = base64.b64decode(value).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return False
            return user == _BASIC_USER and secret == self._behaviour.access_token
        return _bearer(header) == self._behaviour.access_token

    def _check(self, path: str, permission: str) -> None:
        denied, lacking = self._behaviour.denied, self._behaviour.lacking
        if path in denied or "*" in denied or permission in lacking:
            message = f'Permission "{permission}" denied on resource "{path}" (or it may not exist)'
            raise Refusal(403, "DENIED", message)


def authorization_kind(header: str) -> str:
    """What a request's ``Authorization`` is, as the log names it."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.startswith(_ISSUED):
        return "token"
    return "basic" if scheme.lower() == "basic" else "credential" if header else ""


def _bearer(header: str) -> str:
    scheme, _, value = header.partition(" ")
    return value if scheme.lower() == "bearer" else ""


def _unauthorized(message: str, challenge: str) -> Answer:
    return registry_error(401, "UNAUTHORIZED", message, {"WWW-Authenticate": challenge})
