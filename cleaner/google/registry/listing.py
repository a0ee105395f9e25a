"""Complete listings of a repository, from ``tags/list`` and the pages that its ``Link`` headers name.

All or nothing: a manifest that is missing in a listing could not protect what it needs, so a page that cannot be read
raises instead of shortening the listing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

import msgspec

from cleaner.core.errors import CutShort, IncompleteListing, RepositoryNotFound, TooManyEntries
from cleaner.core.manifest import Listing, Manifest, TagsPage, decode_tags_page
from cleaner.core.reference import Digest
from cleaner.google.registry.endpoint import Endpoint
from cleaner.google.registry.errors import check_read

# Artifact Registry lists at most this many entries in one body, and omits the others without saying so.
PAGE_ENTRIES = 10_000
# A hundred thousand manifests with three tags each take 60 MB.
LISTING_MAX_BYTES = 512 * 1024 * 1024

# RFC 8288; the registries send a single link.
_NEXT_LINK = re.compile(r'\s*<([^>]*)>\s*;\s*rel="?next"?\s*', re.IGNORECASE)


def list_manifests(endpoint: Endpoint) -> Listing:
    """Return every manifest of the repository, without what their documents name.

    Raises:
        RepositoryNotFound: The registry has no such repository.
        CutShort: The registry has omitted entries; ``TooManyEntries`` if it always will.
        IncompleteListing: A page is malformed, or names a next page that is not one.
        PermissionDenied, RequestRefused, Unavailable: A page cannot be read.
        TimeLimitReached: The budget's deadline came before the last page.
    """
    repository = endpoint.repository
    manifests: dict[Digest, Manifest] = {}
    tags: set[str] = set()
    has_tags = True
    url: str | None = _first_page(endpoint)
    seen: set[str] = set()
    while url:
        seen.add(url)
        endpoint.check_time()
        page, url = _read_page(endpoint, url, PAGE_ENTRIES if repository.is_google else math.inf)
        for manifest in page.manifests:
            known = manifests.get(manifest.digest)
            manifests[manifest.digest] = _merged(known, manifest) if known else manifest
        has_tags = has_tags and page.tags is not None
        tags |= page.tags or frozenset()
        if url in seen:
            raise IncompleteListing(f"{repository}: the listing's pages form a cycle")
    entries = max(len(manifests), len(tags))
    if entries >= PAGE_ENTRIES and repository.is_google:
        raise TooManyEntries(f"{repository}: the listing is cut short at {entries} entries")
    if (has_tags or repository.is_google) and not _has_exactly(manifests.values(), tags):
        raise CutShort(f"{repository}: the listing is cut short: its tags differ from those of its manifests")
    return Listing(repository, manifests)


def list_children(endpoint: Endpoint) -> tuple[bool, tuple[str, ...]]:
    """Return whether the repository has any manifest, and the full names of those one level below it.

    The names are as the registry gives them, also outside the grammar.

    Raises:
        RepositoryNotFound: The registry has no such repository.
        IncompleteListing: The response is malformed.
        PermissionDenied, RequestRefused, Unavailable: It cannot be read.
    """
    page, _ = _read_page(endpoint, _first_page(endpoint))
    return bool(page.manifests), tuple(f"{endpoint.repository}/{child}" for child in page.children)


def _first_page(endpoint: Endpoint) -> str:
    return f"{endpoint.base_url}/tags/list?n={PAGE_ENTRIES}"


def _read_page(endpoint: Endpoint, url: str, too_many: float = math.inf) -> tuple[TagsPage, str | None]:
    """Return one page, and the URL of the next one; None after the last."""
    response = endpoint.send("GET", url, max_bytes=LISTING_MAX_BYTES)
    if response.status == 404:
        raise RepositoryNotFound(f"{endpoint.repository}: no such repository")
    check_read(response, f"{endpoint.repository}: the listing")
    page = decode_tags_page(response.body, too_many)
    # The body may take as much memory as everything decoded from it.
    response.body.clear()
    link = response.headers.get("Link")
    if not link:
        return page, None
    next_page = _next_page(url, link)
    if next_page is None:
        raise IncompleteListing(f"{endpoint.repository}: its Link header does not name a page of the listing")
    return page, next_page


def _next_page(url: str, link: str) -> str | None:
    """Return the URL that the ``Link`` of the page at ``url`` names; None if it is not a page of the same listing.

    Another address could list the manifests of another repository, or receive the token.
    """
    match = _NEXT_LINK.fullmatch(link)
    try:
        next_page = urljoin(url, match[1]) if match else ""
        return next_page if urlsplit(next_page)[:3] == urlsplit(url)[:3] else None
    except ValueError:
        return None


def _has_exactly(manifests: Collection[Manifest], tags: set[str]) -> bool:
    """Return whether ``tags`` are the tags of ``manifests``, no more and no fewer."""
    count = 0
    for manifest in manifests:
        count += len(manifest.tags)
        if not tags.issuperset(manifest.tags):
            return False
    return count == len(tags) or {tag for manifest in manifests for tag in manifest.tags} == tags


def _merged(known: Manifest, again: Manifest) -> Manifest:
    """Return a manifest that two pages list, with the tags of both; a time or type that differs is unknown."""
    return msgspec.structs.replace(
        again,
        tags=tuple(sorted({*known.tags, *again.tags})),
        uploaded=again.uploaded if known.uploaded == again.uploaded else None,
        media_type=again.media_type if known.media_type == again.media_type else "",
    )
