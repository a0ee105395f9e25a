"""Pushing blobs: in one POST, or POST, any number of PATCHes, PUT."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from tests.emulator.answer import Answer, registry_error
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from tests.emulator.store import Store

_CONTENT_RANGE: Final = re.compile(r"(?:bytes )?(\d+)-\d+(?:/(?:\d+|\*))?")


class Uploads:
    """The uploads that have begun and not ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun: dict[str, bytearray] = {}

    def clear(self) -> None:
        self._begun.clear()

    def answer(
        self, method: str, repository: str, name: str, upload: str, query: str, content_range: str | None, body: bytes
    ) -> Answer:
        """Answer a request to ``/v2/NAME/blobs/uploads/UPLOAD``.

        Raises:
            Refusal: 404 ``BLOB_UPLOAD_UNKNOWN``, 400 ``DIGEST_INVALID``.
        """
        digest = parse_qs(query).get("digest", [None])[0]
        if method == "POST":
            if digest is not None:
                return self._created(repository, name, body, digest)
            # A mount falls back to an upload, as the specification lets a registry do.
            upload = secrets.token_hex(16)
            self._begun[upload] = bytearray()
        elif upload not in self._begun:
            raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        content = self._begun[upload]
        if method in ("PATCH", "PUT") and content_range is not None and not _follows(content_range, content):
            message = f"{content_range} does not begin where the upload ends, at {len(content)}"
            return registry_error(416, "BLOB_UPLOAD_INVALID", message, _headers(name, upload, content))
        if method == "PUT":
            if digest is None:
                raise Refusal(400, "DIGEST_INVALID", "no digest")
            answer = self._created(repository, name, bytes(content) + body, digest)
            del self._begun[upload]
            return answer
        if method == "DELETE":
            del self._begun[upload]
            return Answer(204, b"", {})
        if method == "PATCH":
            content += body
        return Answer(204 if method == "GET" else 202, b"", _headers(name, upload, content))

    def _created(self, repository: str, name: str, content: bytes, digest: str) -> Answer:
        self._store.put_blob(repository, content, digest)
        return Answer(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _follows(content_range: str, content: bytearray) -> bool:
    """Return whether a chunk of this range begins where the upload ends."""
    match = _CONTENT_RANGE.fullmatch(content_range)
    return match is not None and int(match[1]) == len(content)


def _headers(name: str, upload: str, content: bytearray) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{upload}",
        "Docker-Upload-UUID": upload,
        "Range": f"0-{max(len(content) - 1, 0)}",
    }
