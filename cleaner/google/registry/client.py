"""The client of the registry API v2: what a process keeps for all its runs, and one run's requests to a repository.

A reading is complete or it raises; a deletion returns how it ended.

A ``Registry`` is made once per process and owns the transport, the tokens and the links cache, each of which has a
lock of its own.  A ``RepositoryClient`` is made per run and has no state but its budget.  Any thread may call either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set as AbstractSet
from functools import partial
from typing import Protocol

from cleaner.core.errors import CutShort, IncompleteListing, RepositoryNotFound, TooManyEntries
from cleaner.core.manifest import Listing
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.google.lru_cache import LruCache
from cleaner.google.registry import deletions, documents, listing as listings
from cleaner.google.registry.deletions import DeletionResponse
from cleaner.google.registry.documents import Map, make_links_cache
from cleaner.google.registry.endpoint import ANY_TYPE, Endpoint
from cleaner.google.registry.errors import check_read
from cleaner.google.tokens import Access, Tokens
from cleaner.google.transport import RequestBudget, Transport

# How long a repository that has too many entries is taken to have them.
_CUT_SHORT_S = 3600.0
_CUT_SHORT_MAX = 10_000


class ListsManifests(Protocol):
    """Another API that lists the manifests of a repository."""

    def list_manifests(self, repository: Repository, budget: RequestBudget) -> Listing:
        """Return every manifest of ``repository``, or raise."""


class Registry:
    """What a process keeps for all its runs: connections, tokens and what manifests name.

    ``access_token`` returns Google's access token, another one than the given one that was refused.  The hosts in
    ``insecure``, each ``HOST:PORT``, are sent plain HTTP without it.  ``rest`` returns the API that lists what the
    registry cuts short; None if there is none.
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
        # By repository, when a listing had too many entries, in seconds of the transport's clock.
        self.cut_short: LruCache[Repository, float] = LruCache(_CUT_SHORT_MAX)
        self.links_cache = make_links_cache()
        self._tokens = Tokens(transport, access_token, insecure)
        self._insecure = insecure

    def open(self, repository: Repository, access: Access, budget: RequestBudget) -> RepositoryClient:
        """Return a client of one repository for one run; no request is sent."""
        scheme = "http" if repository.host in self._insecure else "https"
        base_url = f"{scheme}://{repository.host}/v2/{repository.path}"
        token_source = partial(self._tokens.get, budget, repository, access)
        on_accepted = partial(self._tokens.accept, repository, access)
        endpoint = Endpoint(self.transport, token_source, on_accepted, budget, repository, base_url)
        return RepositoryClient(self, endpoint, budget)


class RepositoryClient:
    """The requests of one run to one repository, counted in ``budget``."""

    def __init__(self, registry: Registry, endpoint: Endpoint, budget: RequestBudget) -> None:
        self.repository = endpoint.repository
        self.budget = budget
        self._registry = registry
        self._endpoint = endpoint

    def list_manifests(self) -> Listing:
        """Return every manifest of the repository, without what their documents name.

        Artifact Registry's REST API lists what the registry of a Google host cuts short.  A repository that has too
        many entries is not requested from the registry again for an hour.

        Raises:
            RepositoryNotFound: The registry has no such repository.
            IncompleteListing: There is no complete listing to be had.
            PermissionDenied, RequestRefused, Unavailable: A page cannot be read.
            TimeLimitReached: The budget's deadline came before the last page.
        """
        registry, repository = self._registry, self.repository
        rest = registry.rest if repository.is_google else None
        known = registry.cut_short.get(repository)
        if rest and known is not None and registry.transport.clock() - known < _CUT_SHORT_S:
            # If there is none any more, the registry has to say so.
            with contextlib.suppress(RepositoryNotFound):
                return rest().list_manifests(repository, self.budget)
        try:
            return listings.list_manifests(self._endpoint)
        except CutShort as error:
            if rest is None:
                raise
            has_too_many = isinstance(error, TooManyEntries)
        try:
            listing = rest().list_manifests(repository, self.budget)
        except RepositoryNotFound as error:
            message = f"{repository}: the listing is cut short, and the REST API has no such repository"
            raise IncompleteListing(message) from error
        if has_too_many:
            registry.cut_short.put(repository, registry.transport.clock())
        return listing

    def list_children(self) -> tuple[bool, tuple[str, ...]]:
        """Return whether the repository has manifests, and the names below it: as ``listing.list_children``."""
        return listings.list_children(self._endpoint)

    def read_documents(
        self,
        listing: Listing,
        each: Map,
        *,
        also: AbstractSet[Digest] = frozenset(),
        absent: AbstractSet[Digest] = frozenset(),
    ) -> Listing:
        """Return ``listing`` with what its documents say: as ``documents.read_documents``.

        What the process remembers is not requested again.
        """
        return documents.read_documents(self._endpoint, self._registry.links_cache, listing, each, also, absent)

    def exists(self, digest: Digest) -> bool:
        """Return whether the repository has the manifest ``digest``, of whatever media type.

        Raises:
            PermissionDenied, RequestRefused, Unavailable: It cannot be read.
        """
        response = self._endpoint.send("HEAD", self._endpoint.manifest_url(digest), accept=ANY_TYPE)
        if response.status == 404:
            return False
        check_read(response, f"{self.repository}: {digest}")
        return True

    def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a tag if it names ``expected_digest`` immediately before: as ``deletions.delete_tag``."""
        return deletions.delete_tag(self._endpoint, tag, expected_digest, precondition)

    def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a manifest: as ``deletions.delete_manifest``."""
        return deletions.delete_manifest(self._endpoint, digest, precondition)
