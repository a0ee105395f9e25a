"""The bytes of ``tags/list`` as Google's two registries spell them."""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.emulator.store import Manifest


def tags_of(manifests: Mapping[str, Manifest], digests: Iterable[str]) -> list[str]:
    """The tags of these manifests in lexical order, as the specification wants them."""
    return sorted(tag for one in digests for tag in manifests[one].tags)


def page_by_digest(
    manifests: Mapping[str, Manifest], order: Sequence[str], limit: int | None, last: str
) -> tuple[Sequence[str], list[str], str | None]:
    """A page's digests, their tags, and the digest that the next page comes after; None if there is none."""
    start = bisect_right(order, last)
    digests = order[start:] if limit is None else order[start : start + limit]
    has_more = start + len(digests) < len(order)
    return digests, tags_of(manifests, digests), digests[-1] if digests and has_more else None


def page_by_tag(
    manifests: Mapping[str, Manifest], order: Sequence[str], limit: int | None, last: str
) -> tuple[Sequence[str], list[str], str | None]:
    """What the tags after ``last`` name, these tags, and the tag that the next come after, as the standard pages."""
    following = tags_of(manifests, order)
    following = following[bisect_right(following, last) :]
    tags = following[:limit]
    shown = set(tags)
    digests = [one for one in order if not shown.isdisjoint(manifests[one].tags)]
    return digests, tags, tags[-1] if tags and len(tags) < len(following) else None


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
