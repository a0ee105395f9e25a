"""Manifests and listings, decoded from the registry's two kinds of documents: the tags list and a manifest.

No other module knows the field names of these documents.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, TypeGuard

import msgspec

from cleaner.core.errors import IncompleteListing, InvalidManifest, InvalidReference, TooManyEntries, Unavailable
from cleaner.core.reference import Digest, Repository, Tag, parse_digest, parse_tag
from cleaner.core.times import END_OF_TIME, EPOCH

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MEDIA_TYPES = (DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX)
# Docker schema 1 names neither children nor a subject, so it is never read.
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_KNOWN = {media_type: media_type for media_type in (*MEDIA_TYPES, *_SCHEMA_1)}

IMAGE = "image"
"""The kind of content of everything that is no other kind."""
NO_DESCRIPTORS = "index without descriptors"
"""The kind of content of an index that lists nothing."""
_IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_IMAGE_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
# image-spec, "Digests".  A subject becomes part of a request's path, so anything else is refused.
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{1,256}")
_PLATFORM = re.compile(r"[a-zA-Z0-9._-]{1,32}(?:/[a-zA-Z0-9._-]{1,32}){1,2}")
# 14 digits of milliseconds reach the year 5138; datetime ends at 9999.
_NUMBER_MAX = 10**14 - 1
_NUMBER = re.compile(r"[0-9]{1,14}")


class Links(msgspec.Struct, frozen=True, gc=False):
    """What a manifest's document says: the manifests that it names, and what it holds.

    ``children`` are those that an index lists, in its order, and ``subject`` is what the document refers to.
    ``attestations`` are pairs of children, of which the first attests the second.  ``platforms`` are the platforms
    of the children, in their order, like ``linux/arm64``; empty for an unknown platform, and ``()`` if none is known.
    Platforms are only displayed.  ``without_platform`` are the children that are listed without a platform.

    ``has_descriptors``: it lists manifests, whether these are in the repository or not.  ``is_referrers_index``: it
    is an OCI index in which every descriptor has an ``artifactType``.  ``content`` is the kind of its content.
    """

    children: tuple[Digest, ...] = ()
    subject: Digest | None = None
    attestations: tuple[tuple[Digest, Digest], ...] = ()
    platforms: tuple[str, ...] = ()
    without_platform: tuple[Digest, ...] = ()
    has_descriptors: bool = False
    is_referrers_index: bool = False
    content: str = IMAGE

    def within(self, present: Container[Digest]) -> Links:
        """Return the links, without the children that are not in ``present``."""
        if all(child in present for child in self.children):
            return self
        pairs = zip(self.children, self.platforms or ("",) * len(self.children), strict=True)
        kept = {child: platform for child, platform in pairs if child in present}
        return msgspec.structs.replace(
            self,
            children=tuple(kept),
            attestations=tuple(pair for pair in self.attestations if kept.keys() >= set(pair)),
            platforms=tuple(kept.values()) if self.platforms else (),
            without_platform=tuple(child for child in self.without_platform if child in kept),
        )


NO_LINKS = Links()


class Manifest(msgspec.Struct, frozen=True, gc=False):
    """One manifest of a repository.

    ``tags`` are sorted.  ``uploaded`` is aware UTC, or None if the registry gives no usable time.  ``size`` is in
    bytes (0 for an index).  ``media_type`` is empty if the listing has none.  ``has_unnamed_tags`` is True if the
    manifest has more tags than ``tags``, whose names are not known.
    """

    digest: Digest
    media_type: str
    tags: tuple[Tag, ...] = ()
    uploaded: datetime | None = None
    size: int = 0
    links: Links = NO_LINKS
    has_unnamed_tags: bool = False

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests."""
        return self.media_type in INDEX_TYPES

    @property
    def is_oci(self) -> bool:
        """Whether its media type is OCI's, so that its document can have a subject."""
        return self.media_type in (OCI_MANIFEST, OCI_INDEX)

    @property
    def has_known_type(self) -> bool:
        """Whether its media type is understood: one of ``MEDIA_TYPES``, or Docker's schema 1."""
        return self.media_type in _KNOWN


class Listing(msgspec.Struct, frozen=True):
    """Every manifest of one repository: one that is missing does not protect what it needs."""

    repository: Repository
    manifests: Mapping[Digest, Manifest] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, manifests: Iterable[Manifest]) -> Listing:
        """Return a listing of ``manifests``, in any order."""
        return cls(repository, {manifest.digest: manifest for manifest in manifests})


class TagsPage(msgspec.Struct, frozen=True):
    """One page of ``tags/list``.

    ``tags`` is None if the page has no list of tags.  ``children`` are the names of the repositories one level below.
    """

    manifests: tuple[Manifest, ...]
    tags: frozenset[str] | None
    children: tuple[str, ...] = ()


class _Entry(msgspec.Struct, gc=False):
    # Artifact Registry sends times and sizes as strings or as numbers; ``parse_number`` reads both.
    tag: list[str] | None = None
    media_type: Any = msgspec.field(default=None, name="mediaType")
    uploaded: Any = msgspec.field(default=None, name="timeUploadedMs")
    size: Any = msgspec.field(default=None, name="imageSizeBytes")


class _TagsList(msgspec.Struct):
    # Entries are decoded one by one: all of them decoded take three times the memory of the body.
    manifest: dict[str, msgspec.Raw] | None = None
    child: list[str] | None = None
    tags: list[str] | None = None


class _Descriptor(msgspec.Struct):
    digest: str
    annotations: Any = None
    # Only displayed, so a malformed one must not make the document malformed.
    platform: Any = None
    artifact_type: Any = msgspec.field(default=None, name="artifactType")


class _Document(msgspec.Struct):
    manifests: list[_Descriptor] | msgspec.UnsetType | None = msgspec.UNSET
    subject: _Descriptor | None = None
    # What only says the kind of its content must not make the document malformed either.
    artifact_type: Any = msgspec.field(default=None, name="artifactType")
    config: Any = None
    layers: Any = None


_tags_list_decoder = msgspec.json.Decoder(_TagsList)
# No time or size has a fraction; a number too large for a float must not make the page malformed.
_entry_decoder = msgspec.json.Decoder(_Entry, float_hook=lambda _: None)
_document_decoder = msgspec.json.Decoder(_Document)


def decode_tags_page(body: bytes | bytearray, too_many: float = math.inf) -> TagsPage:
    """Return one page of a repository's ``tags/list``.

    Raises:
        TooManyEntries: It has ``too_many`` entries, or more; they are not decoded.
        Unavailable: The body is not JSON: it was damaged in transit.
        IncompleteListing: The body is JSON, but no listing: it has neither a ``manifest`` map nor ``child`` names, or
            an entry is malformed.
    """
    try:
        page = _tags_list_decoder.decode(body)
        if page.manifest is None and not page.child:
            raise IncompleteListing("the tags list has neither a manifest map nor child names")
        entries = page.manifest or {}
        if len(entries) >= too_many:
            raise TooManyEntries(f"the listing is cut short at {len(entries)} entries")
        manifests = []
        while entries:
            digest, entry = entries.popitem()
            manifests.append(_manifest(digest, _entry_decoder.decode(entry)))
    except (msgspec.ValidationError, InvalidReference, RecursionError) as error:
        raise IncompleteListing(f"the tags list is malformed: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the tags list is not JSON: {error}") from error
    tags = None if page.tags is None else frozenset(page.tags)
    return TagsPage(tuple(manifests), tags, tuple(page.child or ()))


def decode_links(body: bytes | bytearray, digest: Digest, media_type: str) -> Links:
    """Return the links of the manifest ``digest``, whose document is ``body``.

    Raises:
        Unavailable: The body does not match ``digest``: it was damaged in transit.
        InvalidManifest: The body matches, but is not a manifest of this media type.
    """
    if "sha256:" + hashlib.sha256(body).hexdigest() != digest:
        raise Unavailable(f"the body of {digest} does not match its digest")
    try:
        document = _document_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidManifest(f"manifest {digest} is malformed: {error}") from error
    subject = None
    if document.subject and media_type in (OCI_MANIFEST, OCI_INDEX):
        subject = Digest(document.subject.digest)
        if not _ANY_DIGEST.fullmatch(subject):
            raise InvalidManifest(f"manifest {digest} is malformed: its subject is not a digest")
    content = _content(document) if media_type in (OCI_MANIFEST, OCI_INDEX) else IMAGE
    if media_type not in INDEX_TYPES:
        return Links(subject=subject, content=content)
    if document.manifests is msgspec.UNSET:
        raise InvalidManifest(f"index {digest} is malformed: it has no list of manifests")
    # Go writes an empty list as null.
    descriptors = document.manifests or []
    children = {Digest(child.digest): _platform(child.platform) for child in descriptors}
    # An attestation of what the index does not list is ignored.  One descriptor can occur ten thousand times.
    attestations = {pair: None for child in descriptors for pair in _attested_by(child) if pair[1] in children}
    return Links(
        tuple(children),
        subject,
        tuple(attestations),
        tuple(children.values()),
        tuple(dict.fromkeys(Digest(child.digest) for child in descriptors if child.platform is None)),
        has_descriptors=bool(descriptors),
        is_referrers_index=media_type == OCI_INDEX and all(_is_text(child.artifact_type) for child in descriptors),
        content=content if descriptors else NO_DESCRIPTORS,
    )


def newest_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return ``manifests`` by upload time, an unknown one before all, the smaller digest first among equals."""
    ordered = sorted(manifests, key=attrgetter("digest"))
    # Two sorts by what is there anyway: one by pairs would make a hundred thousand of them.
    ordered.sort(key=lambda manifest: manifest.uploaded or END_OF_TIME, reverse=True)
    return ordered


def parse_media_type(value: object) -> str:
    """Return a media type, empty if it is malformed.  Those that are known are shared: manifests are many."""
    return _KNOWN.get(value, value) if isinstance(value, str) else ""


def parse_upload_time(value: object) -> datetime | None:
    """Return milliseconds since 1970, a number or its decimal string, as aware UTC.

    None if they are missing, zero, negative or malformed: the age is unknown.
    """
    milliseconds = parse_number(value)
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


def parse_number(value: object) -> int:
    """Return a number or its decimal string as an integer; 0 if it is negative, malformed or over 14 digits long."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _NUMBER_MAX:
        return value
    return 0


def _attested_by(descriptor: _Descriptor) -> Iterator[tuple[Digest, Digest]]:
    """Yield the digest of an attestation and that of what it attests, if BuildKit has annotated the descriptor so."""
    notes = descriptor.annotations
    if isinstance(notes, dict) and notes.get("vnd.docker.reference.type") == "attestation-manifest":
        attested = notes.get("vnd.docker.reference.digest")
        if isinstance(attested, str):
            yield Digest(descriptor.digest), Digest(attested)


def _manifest(digest: str, entry: _Entry) -> Manifest:
    return Manifest(
        digest=parse_digest(digest),
        media_type=parse_media_type(entry.media_type),
        tags=tuple(sorted({parse_tag(tag) for tag in entry.tag})) if entry.tag else (),
        uploaded=parse_upload_time(entry.uploaded),
        size=parse_number(entry.size),
    )


def _content(document: _Document) -> str:
    """Return the kind of an OCI manifest's content: its artifact type, or the first media type that is no image's."""
    config = document.config.get("mediaType") if isinstance(document.config, dict) else None
    layers = document.layers if isinstance(document.layers, list) else []
    of_layers = (layer.get("mediaType") for layer in layers if isinstance(layer, dict))
    kinds = (
        document.artifact_type,
        None if config in _IMAGE_CONFIGS else config,
        *(None if _is_text(kind) and kind.startswith(_IMAGE_LAYERS) else kind for kind in of_layers),
    )
    # A repository has few kinds of content and many manifests.
    return sys.intern(next(filter(_is_text, kinds), IMAGE))


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""


def _platform(value: object) -> str:
    """Return ``OS/ARCHITECTURE`` or ``OS/ARCHITECTURE/VARIANT``; empty if ``value`` is malformed."""
    if not isinstance(value, dict):
        return ""
    parts = [value.get(key) for key in ("os", "architecture", "variant")]
    text = "/".join(part for part in parts if isinstance(part, str) and part)
    # A repository has few platforms and many children.
    return sys.intern(text) if _PLATFORM.fullmatch(text) else ""
