"""Pushing over the wire as clients do, and the notifications that Google publishes for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

import requests

from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.images import Content
from tests.emulator.names import digest_of
from tests.emulator.store import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX))
_TIMEOUT_S = 30


class Pusher:
    """A client that pushes to one registry.  ``token`` asks the token endpoint first, as ``auth`` wants.

    Like real clients it looks for what it is about to upload and leaves out what is there; ``force`` uploads all.
    A ``session`` that is given authorises its requests itself.
    """

    def __init__(
        self, url: str, *, token: bool = False, force: bool = False, session: requests.Session | None = None
    ) -> None:
        self._url = url
        self._host = urlsplit(url).netloc
        self._token = token
        self._force = force
        self._session = session or requests.Session()
        self._session.headers["User-Agent"] = "pusher"

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, path: str, content: Content, tags: Iterable[str] = ()) -> list[dict[str, str]]:
        """Push ``content`` with all it consists of; return what Google would publish, in order.

        Raises:
            requests.HTTPError: The registry refused something; a push that is not complete is repeated whole.
        """
        if self._token:
            scope = f"repository:{path}:push,pull"
            params = {"service": self._host, "scope": scope}
            credential = {"Authorization": f"Bearer {ACCESS_TOKEN}"}
            url = f"{self._url}/v2/token"
            answer = self._session.get(url, params=params, headers=credential, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        try:
            return self._push(path, content, list(tags))
        finally:
            self._session.headers.pop("Authorization", None)

    def _push(self, path: str, content: Content, tags: list[str]) -> list[dict[str, str]]:
        published: list[dict[str, str]] = []
        for child in content.children:
            if self._force or not self._is_there(f"/v2/{path}/manifests/{child.digest}"):
                published += self._push(path, child, [])
        for blob in content.blobs:
            if self._force or not self._is_there(f"/v2/{path}/blobs/{digest_of(blob)}"):
                self._upload(path, blob)
        for reference in tags or [content.digest]:
            url = f"{self._url}/v2/{path}/manifests/{reference}"
            headers = {"Content-Type": content.media_type}
            self._session.put(url, data=content.body, headers=headers, timeout=_TIMEOUT_S).raise_for_status()
        return published + notifications(f"{self._host}/{path}", content.digest, tags)

    def _is_there(self, path: str) -> bool:
        answer = self._session.head(self._url + path, headers={"Accept": ACCEPT}, timeout=_TIMEOUT_S)
        if answer.status_code != requests.codes.not_found:
            answer.raise_for_status()
        return answer.ok

    def _upload(self, path: str, blob: bytes) -> None:
        started = self._session.post(f"{self._url}/v2/{path}/blobs/uploads/", timeout=_TIMEOUT_S)
        started.raise_for_status()
        location = urljoin(self._url, started.headers["Location"])
        params = {"digest": digest_of(blob)}
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._session.put(location, params=params, data=blob, headers=headers, timeout=_TIMEOUT_S)
        answer.raise_for_status()


def notifications(repository: str, digest: str, tags: Iterable[str] = ()) -> list[dict[str, str]]:
    """What the topic ``gcr`` says of one manifest: one INSERT for it, and one for each of its tags."""
    named = f"{repository}@{digest}"
    return [
        {"action": "INSERT", "digest": named},
        *({"action": "INSERT", "digest": named, "tag": f"{repository}:{tag}"} for tag in tags),
    ]
