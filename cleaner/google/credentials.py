"""Google's application default credentials, as an access token and the headers of requests with it.

State: the credentials, looked up when the first token is needed, with their current token.  The lock protects them,
and is held during a request for a token, so that several threads send one request.  Any thread may call.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

from cleaner.core.errors import NoCredentials, Unavailable

if TYPE_CHECKING:
    import google.auth.credentials

# The registry and the REST APIs accept no narrower scope; IAM decides what is allowed.
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
# RFC 6750, "b64token".  Any other text is invalid in a header, and the error that says so would contain it.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def is_bearer_token(text: object) -> bool:
    """Return whether ``text`` is a token that an ``Authorization`` header can hold."""
    return isinstance(text, str) and _BEARER_TOKEN.fullmatch(text) is not None


class GoogleCredentials:
    """Application default credentials, refreshed when their token expires in less than four minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credentials: google.auth.credentials.Credentials | None = None

    def access_token(self, refused: str | None = None) -> str:
        """Return an access token, refreshed if it is about to expire or is the one that was ``refused``.

        Raises:
            NoCredentials: There are no credentials, or they are refused.
            Unavailable: The token service does not respond, or not with a token.
        """
        # A process that sends requests to local registries alone needs no credentials.
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
                # google-auth wraps the error of a metadata server that does not respond in one that is not retryable.
                wrapped = (error.__cause__, *error.args)
                # Google's platform has a metadata server, so if no credentials are found, it did not respond.
                is_transient = error.retryable or ("K_SERVICE" in os.environ and self._credentials is None)
                if is_transient or any(isinstance(one, google.auth.exceptions.TransportError) for one in wrapped):
                    raise Unavailable(f"no access token: {type(error).__name__}") from error
                raise NoCredentials(f"no usable application default credentials: {type(error).__name__}") from error
            except OSError as error:
                raise NoCredentials(
                    f"no usable application default credentials: {error.strerror or error}"
                ) from error
            except (TypeError, AttributeError, ValueError) as error:
                # google-auth raises these if a response or a key file is JSON of another shape than it expects.
                raise Unavailable(f"no access token: {type(error).__name__}") from error
            if not isinstance(token, str) or not is_bearer_token(token):
                raise Unavailable("no access token: the response has no valid one")
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
