"""Why a registry refused to delete subjects, as far as another listing tells.

It does not say for whose sake it refuses.  A subject's own OCI referrers may go first; but a parent, tag or referrer
that came in between keeps it, and what is kept needs its referrers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property, partial

import msgspec

from cleaner.core.errors import InvalidManifest
from cleaner.core.graph import Graph, reach
from cleaner.core.manifest import NO_LINKS, Links, Listing, Manifest
from cleaner.core.reference import Digest
from cleaner.google.registry.client import RepositoryClient

# The two APIs that list a repository round one upload to different fractions of a second.
_SAME_UPLOAD = timedelta(seconds=1)


class Refusals:
    """Looks why subjects were refused while the plan of ``listing`` is carried out, with ``workers`` threads."""

    def __init__(self, client: RepositoryClient, listing: Listing, workers: int) -> None:
        self._client = client
        self._listing = listing
        self._workers = workers

    def standing_against(
        self, subjects: AbstractSet[Digest], going: AbstractSet[Digest], stripped: AbstractSet[Digest]
    ) -> Mapping[Digest, AbstractSet[Digest]]:
        """Return the referrers that go before each of ``subjects``, before each of those in turn, and so on.

        A subject that is not among the keys stays: what stands against it is not among those ``going``, or may not
        be.  ``stripped`` have had all their tags deleted.

        Raises:
            CleanerError: The repository cannot be listed.
        """
        listing, arrived = self._since_the_plan(self._client.list_manifests(), stripped)
        own = self._planned.maybe_referring(subjects)
        fresh, nonsense = self._read(listing, arrived | own)
        if not nonsense <= own:
            # What it would name, nobody knows.
            return {}

        def needed_by(digest: Digest) -> Iterator[Digest]:
            both = itertools.chain(self._planned.needed_by(digest), fresh.needed_by(digest))
            return (other for other in both if other in going)

        def needs(digest: Digest) -> Iterator[Digest]:
            return itertools.chain(self._planned.needs(digest), fresh.needs(digest))

        expected = going - arrived
        unexpected = [
            digest for digest in reach(subjects, needed_by) if not expected >= {digest, *fresh.needed_by(digest)}
        ]
        staying = reach(unexpected, needs).keys()
        first = reach(subjects - staying, fresh.referring)
        return {digest: fresh.referring(digest) for digest in first}

    @cached_property
    def _planned(self) -> Graph:
        # Most plans are carried out without a refusal.
        return Graph.of(self._listing)

    def _since_the_plan(self, listing: Listing, stripped: AbstractSet[Digest]) -> tuple[Listing, set[Digest]]:
        """Return ``listing``, and of it what has come: what was not there, was pushed again or has got a tag.

        What this run has stripped of its tags has them there, or it would be read for a subject.
        """
        manifests = dict(listing.manifests)
        arrived = set()
        for digest, manifest in listing.manifests.items():
            before = self._listing.manifests.get(digest)
            if before is None or _was_pushed_again(before, manifest):
                arrived.add(digest)
            elif digest in stripped and not manifest.tags:
                manifests[digest] = msgspec.structs.replace(manifest, tags=before.tags)
            elif digest in stripped or not {*before.tags}.issuperset(manifest.tags):
                arrived.add(digest)
        return Listing(listing.repository, manifests), arrived

    def _read(self, listing: Listing, also: AbstractSet[Digest]) -> tuple[Graph, AbstractSet[Digest]]:
        """Return the graph of ``listing``, and what makes no sense: a plan need not have read it."""
        nonsense: set[Digest] = set()

        def tolerant(read: Callable[[Manifest], Links | None], manifest: Manifest) -> Links | None:
            try:
                return read(manifest)
            except InvalidManifest:
                nonsense.add(manifest.digest)
                return NO_LINKS

        # The run's own threads are at work on the plan.
        with ThreadPoolExecutor(self._workers, thread_name_prefix="reader") as pool:
            found = self._client.read_documents(
                listing, lambda read, manifests: pool.map(partial(tolerant, read), manifests), also=also
            )
        return Graph.of(found), nonsense


def _was_pushed_again(before: Manifest, now: Manifest) -> bool:
    if before.uploaded is None or now.uploaded is None:
        return before.uploaded is not now.uploaded
    return abs(now.uploaded - before.uploaded) >= _SAME_UPLOAD
