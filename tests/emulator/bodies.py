"""What the body of a manifest says.  A body that is malformed says nothing."""

from __future__ import annotations

import calendar
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def children_of(body: bytes) -> tuple[str, ...]:
    """The digests that an index lists, each once."""
    return tuple(dict.fromkeys(entry["digest"] for entry in entries_of(body)))


def entries_of(body: bytes) -> list[dict[str, Any]]:
    """What an index lists: the entries that have a digest."""
    entries = _object(body).get("manifests")
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("digest"), str)]


def subject_of(body: bytes) -> str | None:
    """The digest of the subject, if there is one."""
    subject = _object(body).get("subject")
    named = subject.get("digest") if isinstance(subject, dict) else None
    return named if isinstance(named, str) else None


def content_size(body: bytes) -> int:
    """The size of configuration and layers."""
    sizes = [part.get("size") for part in _parts(body)]
    return sum(size for size in sizes if isinstance(size, int))


def blobs_of(body: bytes) -> Iterator[str]:
    """The digests of configuration and layers."""
    for part in _parts(body):
        if isinstance(part.get("digest"), str):
            yield part["digest"]


def created_ms_of(body: bytes, blobs: Mapping[str, bytes]) -> int:
    """What the configuration blob says it was created at, cut to ms; 0 if it says nothing."""
    if not blobs:
        return 0
    try:
        config = json.loads(body)["config"]["digest"]
        created = json.loads(blobs[config])["created"]
        seconds, _, fraction = created.rstrip("Z").partition(".")
        parsed = time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0
    return calendar.timegm(parsed) * 1000 + int((fraction + "000")[:3])


def _parts(body: bytes) -> list[dict[str, Any]]:
    document = _object(body)
    layers = document.get("layers")
    parts = [document.get("config"), *(layers if isinstance(layers, list) else [])]
    return [part for part in parts if isinstance(part, dict)]


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object that the body is; an empty one if it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
