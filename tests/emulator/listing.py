"""The bytes of ``tags/list`` as Google's two registries spell them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.emulator.store import Manifest


def listing_body(
    name: str,
    children: Sequence[str],
    manifests: Iterable[Manifest],
    tags: Sequence[str],
    *,
    style: str,
    numbers: bool,
) -> bytes:
    """The listing of the repository ``name``; ``style`` is ``gcr``, or ``ar`` for Artifact Registry's own."""
    entry = _gcr_entry if style == "gcr" else _ar_entry
    return "".join(
        (
            '{"child":',
            json.dumps(children, separators=(",", ":")),
            ',"manifest":{',
            ",".join([entry(one, numbers) for one in manifests]),
            '},"name":',
            json.dumps(name.partition("/")[2]),
            ',"tags":',
            json.dumps(tags, separators=(",", ":")),
            "}",
        )
    ).encode()


def _number(value: int | str, numbers: bool) -> str:
    return str(value) if numbers and isinstance(value, int) else json.dumps(str(value))


def _tags_json(manifest: Manifest) -> str:
    return json.dumps(list(manifest.tags), separators=(",", ":")) if manifest.tags else "[]"


def _gcr_entry(one: Manifest, numbers: bool) -> str:
    """An entry with Container Registry's fields, in its order (the captured bodies)."""
    created = "" if one.created_ms is None else f',"timeCreatedMs":{_number(one.created_ms, numbers)}'
    uploaded = "" if one.uploaded_ms is None else f',"timeUploadedMs":{_number(one.uploaded_ms, numbers)}'
    return (
        f'"{one.digest}":{{"imageSizeBytes":{_number(one.size, numbers)},"layerId":"","mediaType":"{one.media_type}"'
        f',"tag":{_tags_json(one)}{created}{uploaded}}}'
    )


def _ar_entry(one: Manifest, numbers: bool) -> str:
    """An entry with Artifact Registry's fields, in its order (the captured bodies)."""
    created = "" if one.created_ms is None else f',"timeCreatedMs":{_number(one.created_ms, numbers)}'
    uploaded = "" if one.uploaded_ms is None else f',"timeUploadedMs":{_number(one.uploaded_ms, numbers)}'
    return (
        f'"{one.digest}":{{"mediaType":"{one.media_type}","tag":{_tags_json(one)}{uploaded}{created}'
        f',"imageSizeBytes":{_number(one.size, numbers)}}}'
    )
