"""Requests with application default credentials: the registry's own tokens, and Artifact Registry's REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from cleaner.core.reference import PackageName, Repository, package_name
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.registry.errors import error_codes

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S: Final = 60
_API: Final = "https://artifactregistry.googleapis.com/v1"
# What a busy service answers.  Every request here may be repeated.
_RETRY: Final = Retry(
    total=4, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, raise_on_status=False
)


class Failed(Exception):
    """Google answered in a way that leaves a question open; the text says how."""


def describe(response: requests.Response) -> str:
    """Return the status of a response, and the codes of its error body."""
    return " ".join((str(response.status_code), *error_codes(response.content)))


def check(response: requests.Response) -> requests.Response:
    """Return ``response`` if its status is 2xx.

    Raises:
        Failed: It is another one.
    """
    if not response.ok:
        path = urlsplit(response.url).path
        raise Failed(f"{response.request.method} {path}: {describe(response)}")
    return response


class Bearer(AuthBase):
    """Sends a token with the requests to one host.  The token is fetched with the first of them."""

    def __init__(self, host: str, fetch: Callable[[], str]) -> None:
        self._host = host
        self._fetch = fetch
        self._token = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # The address that an upload is sent to is the registry's to choose.
        if urlsplit(request.url or "").netloc == self._host:
            self._token = self._token or self._fetch()
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def make_session(auth: AuthBase | None = None) -> requests.Session:
    """Return a session that repeats what a busy service refuses."""
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=_RETRY))
    # Without any, requests would take what ~/.netrc has for the host.
    session.auth = auth or (lambda request: request)
    return session


class Google:
    """Google's services, as whoever the application default credentials are."""

    def __init__(self) -> None:
        self._credentials = GoogleCredentials()
        self._rest = make_session()

    def access_token(self) -> str:
        """Return Google's access token.

        Raises:
            NoCredentials: There are no credentials, or they are refused.
            Unavailable: The token service does not respond.
        """
        return self._credentials.access_token()

    def registry_session(self, repository: Repository) -> requests.Session:
        """Return a session whose requests carry the registry's own token for ``repository``."""
        return make_session(Bearer(repository.host, lambda: self._registry_token(repository)))

    def describe_repository(self, repository: Repository) -> dict[str, Any]:
        """Return what the REST API says of the Artifact Registry repository that ``repository`` is in.

        Raises:
            Failed: The status is not 200.
        """
        return self._get(_parent(repository))

    def versions(self, repository: Repository) -> list[dict[str, Any]]:
        """Return the versions of an image with all their fields; none if the API does not know it yet.

        Raises:
            Failed: The status is neither 200 nor 404.
        """
        path = f"{_package(repository)}/versions"
        response = self._send("GET", path, {"view": "FULL", "pageSize": "1000"})
        if response.status_code == requests.codes.not_found:
            return []
        versions: list[dict[str, Any]] = check(response).json().get("versions", [])
        return versions

    def delete_if_empty(self, repository: Repository) -> str:
        """Delete an image's name if it has no version; return why it is still there, or an empty text.

        Raises:
            Failed: The versions cannot be listed.
        """
        if self.versions(repository):
            return "it is not empty"
        response = self._send("DELETE", _package(repository))
        return "" if response.ok or response.status_code == requests.codes.not_found else describe(response)

    def _registry_token(self, repository: Repository) -> str:
        response = self._rest.get(
            f"https://{repository.host}/v2/token",
            params={"service": repository.host, "scope": f"repository:{repository.path}:push,pull"},
            headers={"Authorization": f"Bearer {self.access_token()}"},
            timeout=TIMEOUT_S,
        )
        return str(check(response).json()["token"])

    def _get(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = check(self._send("GET", path)).json()
        return document

    def _send(self, method: str, path: str, parameters: dict[str, str] | None = None) -> requests.Response:
        headers = self._credentials.headers(self.access_token())
        return self._rest.request(method, f"{_API}/{path}", params=parameters, headers=headers, timeout=TIMEOUT_S)


def _name(repository: Repository) -> PackageName:
    name = package_name(repository)
    assert name is not None, "the command line takes only names that the REST API has"
    return name


def _parent(repository: Repository) -> str:
    name = _name(repository)
    return f"projects/{name.project}/locations/{name.location}/repositories/{name.repository}"


def _package(repository: Repository) -> str:
    return f"{_parent(repository)}/packages/{quote(_name(repository).package, safe='')}"
