"""What the documents of manifests say, read from the registry and remembered by the process.

A digest's content never changes, so a document is read once.  The cache belongs to the process; its own lock protects
it, and the threads that read documents share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set as AbstractSet

import msgspec

from cleaner.core.errors import InvalidManifest
from cleaner.core.manifest import NO_LINKS, Links, Listing, Manifest, decode_links
from cleaner.core.reference import Digest
from cleaner.core.relations import may_have_subject, must_be_read
from cleaner.google.lru_cache import LruCache
from cleaner.google.registry.endpoint import Endpoint
from cleaner.google.registry.errors import check_read

# How many manifests and descriptors a process remembers, at some hundred bytes each.
REMEMBERED_MAX = 250_000
# An index with more descriptors than this is not remembered.
REMEMBERED_CHILDREN_MAX = 1_000

# The built-in ``map``, or an executor's.
Map = Callable[[Callable[[Manifest], Links | None], Iterable[Manifest]], Iterable[Links | None]]

# By digest and media type: what a body names depends on the type that the listing gives it.
LinksCache = LruCache[tuple[Digest, str], Links]


def make_links_cache(max_size: int = REMEMBERED_MAX) -> LinksCache:
    """Return an empty cache; a manifest counts 1, and 1 more for each descriptor and attestation."""
    return LruCache(max_size, _size)


def read_documents(
    endpoint: Endpoint,
    cache: LinksCache,
    listing: Listing,
    each: Map,
    also: AbstractSet[Digest],
    absent: AbstractSet[Digest],
) -> Listing:
    """Return ``listing`` with what its documents say: children, subjects and the kind of their content.

    First reads every index, then what may have a subject by what the indexes list: every untagged OCI manifest that
    no index lists, or that an index other than a referrers index lists without a platform; every OCI manifest that a
    referrers index lists, whether the index has a tag or not; and every OCI manifest among ``also``.

    Sends one request for each, by way of ``each``; none for a document in ``cache``.  A manifest that no longer
    exists is left out, and so are the children of an index that are neither in the listing nor among ``absent``.  A
    manifest that is read for ``also`` alone and is malformed names nothing.

    Raises:
        InvalidManifest: A document matches its digest and is malformed.
        PermissionDenied, RequestRefused, Unavailable: A document cannot be read.
        TimeLimitReached: The budget's deadline came before the last document.
    """
    known = listing.manifests.keys() | absent if absent else listing.manifests.keys()
    listing = _with_links(endpoint, cache, listing, must_be_read(listing), each, known)
    required = may_have_subject(listing)
    listing = _with_links(endpoint, cache, listing, required, each, known)
    if not also:
        return listing
    optional = {*may_have_subject(listing, also)}.difference(required)
    return _with_links(endpoint, cache, listing, sorted(optional), each, known, is_optional=True)


def _with_links(
    endpoint: Endpoint,
    cache: LinksCache,
    listing: Listing,
    digests: Iterable[Digest],
    each: Map,
    known: AbstractSet[Digest],
    *,
    is_optional: bool = False,
) -> Listing:
    """Return ``listing`` with what the documents of ``digests`` name; a malformed one names nothing if optional."""
    wanted = tuple(digests)
    if not wanted:
        return listing
    manifests = dict(listing.manifests)
    unread = []
    for manifest in (manifests[digest] for digest in wanted):
        links = cache.get((manifest.digest, manifest.media_type))
        if links is None:
            unread.append(manifest)
        else:
            manifests[manifest.digest] = msgspec.structs.replace(manifest, links=links)

    def read(manifest: Manifest) -> Links | None:
        try:
            links = _read(endpoint, cache, manifest)
        except InvalidManifest:
            if not is_optional:
                raise
            return NO_LINKS
        # 4 MiB have room for forty thousand descriptors; those of absent manifests would only take memory.
        return links.within(known) if links else None

    for manifest, links in zip(unread, each(read, unread), strict=True):
        if links is None:
            del manifests[manifest.digest]
        else:
            manifests[manifest.digest] = msgspec.structs.replace(manifest, links=links)
    return Listing(listing.repository, manifests)


def _read(endpoint: Endpoint, cache: LinksCache, manifest: Manifest) -> Links | None:
    """Return what the document of ``manifest`` names, and remember it; None if the manifest no longer exists."""
    endpoint.check_time()
    response = endpoint.send("GET", endpoint.manifest_url(manifest.digest))
    if response.status == 404:
        return None
    check_read(response, f"{endpoint.repository}: {manifest.digest}")
    links = decode_links(response.body, manifest.digest, manifest.media_type)
    if _size(links) <= REMEMBERED_CHILDREN_MAX:
        cache.put((manifest.digest, manifest.media_type), links)
    return links


def _size(links: Links) -> int:
    return 1 + len(links.children) + len(links.attestations)
