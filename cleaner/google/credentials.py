"""Google's application default credentials, as an access token."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

from cleaner.core.errors import NoCredentials, Unavailable

if TYPE_CHECKING:
    import google.auth.credentials

# The registry and the REST APIs take no narrower scope; what is allowed is decided by IAM.
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
# RFC 6750, "b64token".  Anything else would not pass as a header, and would stand in the error that says so.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def is_bearer_token(text: object) -> bool:
    """Whether ``text`` can stand in an ``Authorization`` header."""
    return isinstance(text, str) and _BEARER_TOKEN.fullmatch(text) is not None


class GoogleCredentials:
    """Hands out an access token that is valid for some minutes yet.  Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credentials: google.auth.credentials.Credentials | None = None

    def access_token(self, refused: str | None = None) -> str:
        """Return a token, refreshed when the one at hand is about to end, or is the one that was ``refused``.

        Raises:
            NoCredentials: There are none, or they are refused.
            Unavailable: The token service does not answer.
        """
        # A process that only talks to local registries needs neither.
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests

        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials, _ = google.auth.default(scopes=_SCOPES)
                if not self._credentials.valid or self._credentials.token == refused:
                    self._credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]  # no types
                token = self._credentials.token
            except google.auth.exceptions.TransportError as error:
                raise Unavailable(f"no access token: {type(error).__name__}") from error
            except google.auth.exceptions.GoogleAuthError as error:
                # A metadata server that does not answer is wrapped in an error that says it is not retryable.
                wrapped = (error.__cause__, *error.args)
                # On Google's platform there is a metadata server, so without credentials it did not answer.
                passes = error.retryable or ("K_SERVICE" in os.environ and self._credentials is None)
                if passes or any(isinstance(one, google.auth.exceptions.TransportError) for one in wrapped):
                    raise Unavailable(f"no access token: {type(error).__name__}") from error
                raise NoCredentials(f"no usable application default credentials: {type(error).__name__}") from error
            except (TypeError, AttributeError, ValueError) as error:
                # What google-auth raises where an answer or a key file is JSON of another shape than it expects.
                raise Unavailable(f"no access token: {type(error).__name__}") from error
            if not isinstance(token, str) or not is_bearer_token(token):
                raise Unavailable("no access token: the answer has none")
            return token

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers of a request with ``token``, which ``access_token`` has returned.

        They name the project whose quota the request counts in, if the credentials are a person's: the token's own
        project is then gcloud's, which Google refuses to charge.
        """
        headers: dict[str, str] = {}
        with self._lock:
            if self._credentials:
                self._credentials.apply(headers, token)  # type: ignore[no-untyped-call]  # no types
        return headers
