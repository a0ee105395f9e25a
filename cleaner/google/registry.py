"""A client of the registry v2 API, with what Google's registries add to it and refuse.

A reading is complete or it raises; a deletion has an outcome.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Set as AbstractSet
from typing import Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from cleaner.core.errors import (
    CutShort,
    IncompleteListing,
    InvalidReference,
    PermissionDenied,
    RepositoryNotFound,
    RequestRefused,
)
from cleaner.core.graph import may_have_subject, must_be_read
from cleaner.core.manifest import (
    MEDIA_TYPES,
    Links,
    Listing,
    Manifest,
    TagsPage,
    decode_links,
    decode_tags_page,
)
from cleaner.core.reference import Digest, Repository, Tag, parse_repository
from cleaner.google.recent import Recent
from cleaner.google.tokens import Access, Tokens
from cleaner.google.transport import Exchange, Response, Transport

# Artifact Registry gives no more entries than this in one body, and shortens the list silently.
PAGE_ENTRIES = 10_000
# distribution-spec, "Pushing manifests": registries should accept manifests of 4 MiB.
MANIFEST_MAX_BYTES = 4 * 1024 * 1024
# A hundred thousand manifests with three tags each take 60 MB.
LISTING_MAX_BYTES = 512 * 1024 * 1024
# How many manifests and descriptors a process remembers, some hundred bytes each.
REMEMBERED_MAX = 250_000
# How many repositories' unfinished deletions a process remembers.
REPOSITORIES_MAX = 10_000
# An index with more than these is read again each time.
REMEMBERED_CHILDREN_MAX = 1_000

# What the registry answers where a deletion would break something that came in between.
REFUSALS = frozenset(
    {"GOOGLE_MANIFEST_DANGLING_TAG", "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE", "GOOGLE_MANIFEST_REFERRING_MANIFEST"}
)
_MAYBE_FOR_REFERRERS = REFUSALS - {"GOOGLE_MANIFEST_DANGLING_TAG"}

_ACCEPT = {"Accept": ", ".join(MEDIA_TYPES)}
# RFC 8288; the registries write one link.
_NEXT_LINK = re.compile(r'\s*<([^>]*)>\s*;\s*rel="?next"?\s*', re.IGNORECASE)

T = TypeVar("T", bound="Response | Outcome")

# The built-in map, or a pool's.
Map = Callable[[Callable[[Manifest], Links | None], Iterable[Manifest]], Iterable[Links | None]]

# What the registry's own protocol checks for a listing and for a manifest.
_READ = Access.READ.permission


class Outcome(msgspec.Struct, frozen=True):
    """How one deletion ended.

    ``gone``, whoever deleted it; ``asked`` says whether this run has.  Otherwise ``status`` and ``codes`` say why
    not, or ``named`` which digest a tag names by now; nothing of that where it did not begin.
    """

    gone: bool
    asked: bool = False
    status: int = 0
    codes: tuple[str, ...] = ()
    named: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a tag, a parent or a referrer stands against it."""
        return not self.gone and not REFUSALS.isdisjoint(self.codes)

    @property
    def maybe_for_referrers(self) -> bool:
        """Whether referrers may be what stands against it; the codes do not tell them from a parent."""
        return not self.gone and not _MAYBE_FOR_REFERRERS.isdisjoint(self.codes)


GONE = Outcome(gone=True, asked=True)
ABSENT = Outcome(gone=True)
NOT_BEGUN = Outcome(gone=False)


class _ErrorItem(msgspec.Struct):
    code: str = ""


class _ErrorAnswer(msgspec.Struct):
    errors: list[_ErrorItem] = []


_error_decoder = msgspec.json.Decoder(_ErrorAnswer)


class ListsManifests(Protocol):
    """Another way to the manifests of a repository."""

    def list_manifests(self, repository: Repository, exchange: Exchange) -> Listing:
        """Return every manifest of ``repository``, or raise."""


class Registry:
    """What a process keeps for all its runs: connections, tokens and what manifests name.

    ``access_token`` gives Google's access token, other than one that was refused; ``insecure`` are the ``HOST:PORT``
    that are spoken to over plain HTTP and without it; ``rest`` gives another way to list what the registry cuts
    short.  Safe to use from many threads.
    """

    def __init__(
        self,
        transport: Transport,
        access_token: Callable[[str | None], str],
        insecure: AbstractSet[str] = frozenset(),
        rest: Callable[[], ListsManifests] | None = None,
    ) -> None:
        self.rest = rest
        self.transport = transport
        self.tokens = Tokens(transport, access_token, insecure)
        self.memory = Memory(REMEMBERED_MAX)
        self._stripped: Recent[Repository, set[Digest]] = Recent(REPOSITORIES_MAX, set)
        self._insecure = insecure

    def stripped(self, repository: Repository) -> set[Digest]:
        """Return what runs on ``repository`` have left without the tags that it had; for the run to change."""
        return self._stripped.get(repository)

    def open(self, repository: Repository, access: Access, exchange: Exchange) -> RepositoryClient:
        """Return a client of one repository for one run; no request is made."""
        scheme = "http" if repository.host in self._insecure else "https"
        return RepositoryClient(
            self, repository, access, exchange, f"{scheme}://{repository.host}/v2/{repository.path}"
        )


class Memory:
    """What manifests name, by digest: a digest's content never changes.  The longest unused are forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._links: OrderedDict[tuple[Digest, str], Links] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, manifest: Manifest) -> Links | None:
        """Return what ``manifest`` names, or None where it is not remembered."""
        key = (manifest.digest, manifest.media_type)
        with self._lock:
            links = self._links.get(key)
            if links is not None:
                self._links.move_to_end(key)
            return links

    def put(self, manifest: Manifest, links: Links) -> None:
        """Remember what ``manifest`` names."""
        with self._lock:
            key = (manifest.digest, manifest.media_type)
            if key not in self._links:
                self._links[key] = links
                self._size += _size(links)
            while self._size > self._most:
                _, forgotten = self._links.popitem(last=False)
                self._size -= _size(forgotten)


class RepositoryClient:
    """The requests of one run on one repository.  Safe to use from many threads."""

    def __init__(
        self, registry: Registry, repository: Repository, access: Access, exchange: Exchange, base: str
    ) -> None:
        self.repository = repository
        self.exchange = exchange
        self._registry = registry
        self._access = access
        self._base = base

    def list_manifests(self) -> Listing:
        """Return every manifest of the repository, without what their documents name.

        All or nothing: a manifest that is missing here could not protect what it needs, so a page that cannot be
        read raises instead of shortening the list.  What the registry cuts short, Artifact Registry's REST API is
        asked for.

        Raises:
            RepositoryNotFound: The registry knows no such repository.
            IncompleteListing: It does not give a complete listing.
            PermissionDenied, RequestRefused, Unavailable: A page cannot be read.
        """
        try:
            return self._list_tags()
        except CutShort:
            if not self.repository.is_google or self._registry.rest is None:
                raise
            try:
                return self._registry.rest().list_manifests(self.repository, self.exchange)
            except RepositoryNotFound as error:
                raise IncompleteListing(f"{self.repository}: cut short, and unknown to the REST API") from error

    def read_links(self, listing: Listing, each: Map, *, also: AbstractSet[Digest] = frozenset()) -> Listing:
        """Return ``listing`` with what its documents name: the children of indexes, and subjects.

        One request, by way of ``each``, per index, per untagged OCI manifest that no index lists, and per OCI
        manifest among ``also``; none for what the process remembers.  A manifest that has vanished meanwhile is
        left out.

        Raises:
            InvalidManifest: One matches its digest and makes no sense.
            PermissionDenied, RequestRefused, Unavailable: One cannot be read.
        """
        listing = self._with_links(listing, must_be_read(listing), each)
        return self._with_links(listing, may_have_subject(listing, also), each)

    def survey(self) -> tuple[bool, tuple[Repository, ...]]:
        """Return whether the repository holds any manifest, and the repositories one level down.

        Raises:
            RepositoryNotFound: The registry knows no such repository.
            IncompleteListing: Its answer makes no sense.
            PermissionDenied, RequestRefused, Unavailable: It cannot be asked.
        """
        page, _ = self._page(f"{self._base}/tags/list?n={PAGE_ENTRIES}")
        try:
            hosts = {self.repository.host}
            below = tuple(parse_repository(f"{self.repository}/{child}", hosts) for child in page.children)
        except InvalidReference as error:
            raise IncompleteListing(f"{self.repository}: a child's name makes no sense") from error
        return bool(page.manifests), below

    def digest_of(self, reference: Tag | Digest) -> str | None:
        """Return the digest that a tag or digest names now; None for none, empty where the registry does not say.

        Raises:
            PermissionDenied, RequestRefused, Unavailable: It cannot be asked.
        """
        response = self._send("HEAD", f"{self._base}/manifests/{reference}", MANIFEST_MAX_BYTES)
        if response.status == 404:
            return None
        self._check(response, f"{self.repository}: {reference}", _READ)
        return response.headers.get("Docker-Content-Digest", "")

    def delete_tag(self, tag: Tag, judged: Digest, may_go: Callable[[], bool]) -> Outcome:
        """Delete a tag, and only the tag, if it names ``judged``: asked immediately before, each time it is tried.

        ``may_go`` is asked before that, each time, and lets it not begin.

        Raises:
            PermissionDenied, RequestRefused: The tag cannot be looked at.
            Unavailable: Still failing after all attempts.
        """
        url = f"{self._base}/manifests/{tag}"
        asked = False

        def look_and_delete(token: str | None) -> Response | Outcome:
            nonlocal asked
            if not may_go():
                return NOT_BEGUN
            look = self._once("HEAD", url, token)
            if look.status == 404:
                return GONE if asked else ABSENT
            if look.status != 401:
                self._check(look, f"{self.repository}: {tag}", _READ)
                named = look.headers.get("Docker-Content-Digest", "")
                if named != judged:
                    return Outcome(gone=False, asked=asked, named=named)
                asked = True
                return self._once("DELETE", url, token)
            return look

        answer = self._authorised(url, look_and_delete, requests=2)
        if isinstance(answer, Response) and not asked:
            self._check(answer, f"{self.repository}: {tag}", _READ)
        return self._outcome(answer)

    def delete_manifest(self, digest: Digest, may_go: Callable[[], bool]) -> Outcome:
        """Delete a manifest; ``may_go`` is asked before, each time it is tried, and lets it not begin.

        Raises:
            Unavailable: Still failing after all attempts.
        """
        url = f"{self._base}/manifests/{digest}"

        def delete(token: str | None) -> Response | Outcome:
            return self._once("DELETE", url, token) if may_go() else NOT_BEGUN

        return self._outcome(self._authorised(url, delete))

    def _list_tags(self) -> Listing:
        manifests: dict[Digest, Manifest] = {}
        tags: set[str] = set()
        names_tags = True
        url: str | None = f"{self._base}/tags/list?n={PAGE_ENTRIES}"
        seen: set[str] = set()
        while url:
            seen.add(url)
            self._registry.transport.check_time(self.exchange)
            page, following = self._page(url)
            for manifest in page.manifests:
                known = manifests.get(manifest.digest)
                manifests[manifest.digest] = _merged(known, manifest) if known else manifest
            names_tags = names_tags and page.tags is not None
            tags |= page.tags or frozenset()
            if following in seen:
                raise IncompleteListing(f"{self.repository}: the pages of the listing go round in a circle")
            url = following
        entries = max(len(manifests), len(tags))
        if entries >= PAGE_ENTRIES and self.repository.is_google:
            raise CutShort(f"{self.repository}: the listing is cut short at {entries} entries")
        if (names_tags or self.repository.is_google) and not _are_all(manifests.values(), tags):
            raise CutShort(f"{self.repository}: the listing is cut short: its tags differ from its manifests'")
        return Listing(self.repository, manifests)

    def _page(self, url: str) -> tuple[TagsPage, str | None]:
        """Return one page, and the next one's address if there is one."""
        response = self._send("GET", url, LISTING_MAX_BYTES)
        if response.status == 404:
            raise RepositoryNotFound(f"{self.repository}: no such repository")
        self._check(response, f"{self.repository}: the listing", _READ)
        page = decode_tags_page(response.body)
        # It may be as long as all that was made of it.
        response.body.clear()
        link = response.headers.get("Link")
        if not link:
            return page, None
        following = _following(url, link)
        if following is None:
            raise IncompleteListing(f"{self.repository}: the listing's next page is elsewhere")
        return page, following

    def _with_links(self, listing: Listing, digests: Iterable[Digest], each: Map) -> Listing:
        wanted = tuple(digests)
        if not wanted:
            return listing
        manifests = dict(listing.manifests)
        unread = []
        for digest in wanted:
            links = self._registry.memory.get(manifests[digest])
            if links is None:
                unread.append(manifests[digest])
            else:
                manifests[digest] = msgspec.structs.replace(manifests[digest], links=links)

        def read(manifest: Manifest) -> Links | None:
            links = self._read(manifest)
            # One of forty thousand entries fits into 4 MiB, and nobody may push the process out of memory.
            return links.within(listing.manifests) if links else None

        for manifest, links in zip(unread, each(read, unread), strict=True):
            if links is None:
                del manifests[manifest.digest]
            else:
                manifests[manifest.digest] = msgspec.structs.replace(manifest, links=links)
        return Listing(listing.repository, manifests)

    def _read(self, manifest: Manifest) -> Links | None:
        """Return what a manifest's document names, and remember it; None where it has vanished."""
        self._registry.transport.check_time(self.exchange)
        response = self._send("GET", f"{self._base}/manifests/{manifest.digest}", MANIFEST_MAX_BYTES)
        if response.status == 404:
            return None
        self._check(response, f"{self.repository}: {manifest.digest}", _READ)
        links = decode_links(response.body, manifest.digest, manifest.media_type)
        if _size(links) <= REMEMBERED_CHILDREN_MAX:
            self._registry.memory.put(manifest, links)
        return links

    def _send(self, method: str, url: str, max_bytes: int) -> Response:
        return self._authorised(url, lambda token: self._once(method, url, token, max_bytes))

    def _authorised(self, url: str, act: Callable[[str | None], T], *, requests: int = 1) -> T:
        """Return what ``act`` does with a token, and with one fresh token if the first is answered 401."""
        transport, tokens = self._registry.transport, self._registry.tokens
        token = tokens.get(self.exchange, self.repository, self._access)
        result = transport.retrying(self.exchange, url, lambda: act(token), requests=requests)
        if isinstance(result, Response) and result.status == 401:
            fresh = tokens.renew(self.exchange, self.repository, self._access, token)
            result = transport.retrying(self.exchange, url, lambda: act(fresh), requests=requests)
        return result

    def _once(self, method: str, url: str, token: str | None, max_bytes: int = MANIFEST_MAX_BYTES) -> Response:
        headers = {**_ACCEPT, "Authorization": f"Bearer {token}"} if token else _ACCEPT
        return self._registry.transport.once(self.exchange, method, url, headers, max_bytes=max_bytes)

    def _outcome(self, answer: Response | Outcome) -> Outcome:
        if isinstance(answer, Outcome):
            return answer
        if answer.status == 404 or 200 <= answer.status < 300:
            return GONE
        return Outcome(gone=False, asked=True, status=answer.status, codes=_codes(answer.body))

    def _check(self, response: Response, what: str, permission: str) -> None:
        """Raise unless a reading was answered with 200."""
        if response.status in (401, 403):
            raise PermissionDenied(f"{what}: denied", permission)
        if response.status != 200:
            codes = _codes(response.body)
            raise RequestRefused(
                f"{what}: status {response.status} {' '.join(codes)}".rstrip(), response.status, codes
            )


def _size(links: Links) -> int:
    return 1 + len(links.children) + len(links.attestations)


def _following(url: str, link: str) -> str | None:
    """Return the address that a ``Link`` on the page at ``url`` names; None where that is any other place.

    It could show us somebody else's manifests, or our token to somebody else.
    """
    match = _NEXT_LINK.fullmatch(link)
    try:
        following = urljoin(url, match[1]) if match else ""
        return following if urlsplit(following)[:3] == urlsplit(url)[:3] else None
    except ValueError:
        return None


def _are_all(manifests: Collection[Manifest], tags: set[str]) -> bool:
    """Whether ``tags`` are the tags of ``manifests``, each of one of them."""
    count = 0
    for manifest in manifests:
        count += len(manifest.tags)
        if not tags.issuperset(manifest.tags):
            return False
    return count == len(tags) or {tag for manifest in manifests for tag in manifest.tags} == tags


def _merged(known: Manifest, again: Manifest) -> Manifest:
    """Return a manifest that two pages name, with the tags of both; where they differ otherwise, it is not known."""
    return msgspec.structs.replace(
        again,
        tags=tuple(sorted({*known.tags, *again.tags})),
        uploaded=again.uploaded if known.uploaded == again.uploaded else None,
        media_type=again.media_type if known.media_type == again.media_type else "",
    )


def _codes(body: bytes | bytearray) -> tuple[str, ...]:
    """Return the codes of a registry's error answer; none where it is not one."""
    try:
        return tuple(item.code for item in _error_decoder.decode(body).errors if item.code)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
