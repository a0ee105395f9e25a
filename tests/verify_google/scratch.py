"""A repository that a question has to itself: what is pushed there is recorded, and nothing else can be deleted."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import requests

from tests.emulator.images import Content, image, index
from tests.emulator.store import OCI_MANIFEST
from tests.emulator.wire import ACCEPT, Pusher
from tests.verify_google.google import TIMEOUT_S, Failed, check, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from requests.auth import AuthBase

    from cleaner.core.reference import Repository
    from tests.verify_google.google import Google
    from tests.verify_google.messages import Subscription

_POLL_S: Final = 1.0


class Scratch:
    """One repository, and what a question needs to ask there.

    ``wait_s`` is how long what Google does later may take.  ``seed`` makes every image one that was never there.
    """

    def __init__(
        self, google: Google, repository: Repository, wait_s: float, subscription: Subscription | None
    ) -> None:
        self.google = google
        self.repository = repository
        self.wait_s = wait_s
        self.subscription = subscription
        self._session = google.registry_session(repository)
        self._url = f"https://{repository.host}/v2/{repository.path}"
        self._tags: dict[str, None] = {}
        # A child before its index, and a subject before its referrers.
        self._digests: dict[str, None] = {}

    def image(self, seed: object = "", *, media_type: str = OCI_MANIFEST, platform: str | None = None) -> Content:
        """Return an image that is in no repository yet."""
        return image(f"{self.repository} {seed}", media_type=media_type, platform=platform, with_blobs=True)

    def index(self, *, media_type: str = OCI_MANIFEST) -> Content:
        """Return an index of two platforms, whose images have ``media_type``."""
        return index([self.image(one, media_type=media_type, platform=one) for one in ("amd64", "arm64")])

    def push(self, content: Content, tag: str = "") -> None:
        """Push ``content`` with its children and blobs, by its tag or by its digest.

        Raises:
            requests.RequestException: It is not pushed, or not whole.
        """
        # Before the push: one that is interrupted may have been taken.
        for one in (*content.children, content):
            self._digests[one.digest] = None
        if tag:
            self._tags[tag] = None
        pusher = Pusher(f"https://{self.repository.host}", session=self._session, force=True)
        pusher.push(self.repository.path, content, [tag] if tag else [])

    def head(self, reference: str, accept: str = ACCEPT) -> requests.Response:
        """Look a manifest up, and return the response, whatever its status."""
        return self._send("HEAD", f"/manifests/{reference}", headers={"Accept": accept})

    def delete(self, reference: str, auth: AuthBase | None = None) -> requests.Response:
        """Delete a tag or a digest that was pushed here, and return the response, whatever its status.

        Raises:
            Failed: It was not pushed here, and nothing is sent.
        """
        if reference not in self._tags and reference not in self._digests:
            raise Failed(f"{reference} was not pushed here")
        return self._send("DELETE", f"/manifests/{reference}", auth=auth)

    def list_response(self, query: str = "", auth: AuthBase | None = None) -> requests.Response:
        """Return the response to a request for ``tags/list``, whatever its status."""
        return self._send("GET", f"/tags/list{query}", auth=auth)

    def listed(self, digest: str) -> dict[str, Any]:
        """Return the entry of a manifest in ``tags/list``; an empty one if it is not there.

        Raises:
            Failed: The status is not 200.
        """
        entries: dict[str, dict[str, Any]] = check(self.list_response()).json().get("manifest") or {}
        return entries.get(digest, {})

    def referrers(self, digest: str) -> requests.Response:
        """Return the response of the referrers API, whatever its status."""
        return self._send("GET", f"/referrers/{digest}")

    def wait_until(self, condition: Callable[[], bool]) -> float | None:
        """Wait until ``condition()`` holds; return the seconds, 0 if it held at once, None if not in ``wait_s``."""
        waited_s = 0.0
        while not condition():
            if waited_s >= self.wait_s:
                return None
            time.sleep(_POLL_S)
            waited_s += _POLL_S
        return waited_s

    def clean_up(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield what was pushed, and the repository itself, with what deletes each.

        That returns why it is still there, or an empty text.  Tags come first, then each manifest after those that
        need it.
        """
        for reference in (*self._tags, *reversed(self._digests)):
            mark = "@" if reference in self._digests else ":"
            yield f"{self.repository}{mark}{reference}", partial(self._clean, reference)
        if self._digests:
            yield str(self.repository), partial(self.google.delete_if_empty, self.repository)

    def _clean(self, reference: str) -> str:
        response = self.delete(reference)
        return "" if response.ok or response.status_code == requests.codes.not_found else describe(response)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=TIMEOUT_S, **options)
