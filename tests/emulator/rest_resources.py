"""The resources of Artifact Registry as its REST API spells them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tests.emulator.bodies import entries_of
from tests.emulator.rest_names import package_name
from tests.emulator.store import INDEXES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.emulator.rest_names import Repository
    from tests.emulator.store import Manifest, Store

RELATED_TAGS_MAX: Final = 100

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# These APIs tell a time to the microsecond, and the registry to the millisecond.
_FINER_US: Final = 321


def repository(one: Repository, store: Store) -> dict[str, object]:
    held = [name for prefix in one.prefixes for name in store.names_under(prefix)]
    has_immutable_tags = any(store.has_immutable_tags(prefix) for prefix in one.prefixes)
    settings = {"dockerConfig": {"immutableTags": True}} if has_immutable_tags else {}
    return {"name": one.name, "format": "DOCKER", "mode": one.mode(store), **settings, **_times(store, held)}


def package(name: str, held: str, store: Store) -> dict[str, object]:
    return {"name": name, **_times(store, [held])}


def tag(package_name: str, name: str, digest: str) -> dict[str, object]:
    return {
        "name": f"{package_name}/tags/{quote(name, safe='')}",
        "version": f"{package_name}/versions/{digest}",
    }


def version(one: Manifest, package_name: str, *, is_full: bool) -> dict[str, object]:
    """A version; views other than FULL have neither tags nor metadata."""
    document: dict[str, object] = {"name": f"{package_name}/versions/{one.digest}"}
    uploaded = timestamp(one.uploaded_ms)
    if uploaded is not None:
        document["createTime"] = document["updateTime"] = uploaded
    if not is_full:
        return document
    if one.tags:
        document["relatedTags"] = [tag(package_name, each, one.digest) for each in list(one.tags)[:RELATED_TAGS_MAX]]
    metadata: dict[str, object] = {"imageSizeBytes": str(one.size), "mediaType": one.media_type}
    built = timestamp(one.created_ms)
    if built is not None:
        metadata["buildTime"] = built
    metadata["name"] = f"{package_name.replace('/packages/', '/dockerImages/')}@{one.digest}"
    document["metadata"] = metadata
    return document


def docker_image(one: Manifest, where: Repository, path: str) -> dict[str, object]:
    """A manifest as ``dockerImages`` has it; an index with its children."""
    document: dict[str, object] = {
        "name": f"{package_name(where, path).replace('/packages/', '/dockerImages/')}@{one.digest}",
        "uri": f"{where.uri}/{path}@{one.digest}",
        "imageSizeBytes": str(one.size),
        "mediaType": one.media_type,
    }
    if one.tags:
        document["tags"] = list(one.tags)
    uploaded, built = timestamp(one.uploaded_ms), timestamp(one.created_ms)
    if uploaded is not None:
        document["uploadTime"] = document["updateTime"] = uploaded
    if built is not None:
        document["buildTime"] = built
    if one.media_type in INDEXES:
        document["imageManifests"] = [_image_manifest(entry) for entry in entries_of(one.body)]
    return document


def timestamp(ms: int | str | None) -> str | None:
    """Milliseconds as RFC 3339, as Google spells it: finer than the registry does; None for what is no time."""
    if not isinstance(ms, int):
        return None
    try:
        when = _EPOCH + timedelta(milliseconds=ms, microseconds=_FINER_US if ms > 0 else 0)
    except OverflowError:
        return None
    return when.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + f".{when.microsecond:06d}Z"


def _times(store: Store, held: Iterable[str]) -> dict[str, object]:
    """``createTime`` and ``updateTime``: the first and the last upload."""
    times = [one for name in held if (one := store.uploads(name)) is not None]
    if not times:
        return {}
    first, last = min(one[0] for one in times), max(one[1] for one in times)
    return {"createTime": timestamp(first), "updateTime": timestamp(last)}


def _image_manifest(entry: dict[str, object]) -> dict[str, object]:
    platform = entry.get("platform")
    known = platform if isinstance(platform, dict) else {}
    names = {"architecture": "architecture", "os": "os", "os.version": "osVersion", "variant": "variant"}
    named = {spelled: known[key] for key, spelled in names.items() if key in known}
    return {"digest": entry["digest"], "mediaType": entry.get("mediaType", ""), **named}
