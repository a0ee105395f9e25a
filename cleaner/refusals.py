"""Why a registry refused to delete subjects, as far as another listing tells.

It does not say for whose sake it refuses.  A subject's own OCI referrers may go first; but a parent, tag or referrer
that came in between keeps it, and what is kept needs its referrers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import msgspec

from cleaner.errors import InvalidManifest
from cleaner.graph import Graph
from cleaner.manifest import NO_LINKS, Links, Listing, Manifest
from cleaner.reference import Digest
from cleaner.registry import RepositoryClient


class Refusals:
    """Looks why subjects were refused while the plan of ``listing`` is carried out, with ``workers`` threads."""

    def __init__(self, client: RepositoryClient, listing: Listing, workers: int) -> None:
        self._client = client
        self._listing = listing
        self._workers = workers

    def standing_against(
        self, subjects: Sequence[Digest], going: AbstractSet[Digest], stripped: AbstractSet[Digest]
    ) -> Sequence[AbstractSet[Digest] | None]:
        """Return for each of ``subjects`` the referrers that stand against it, if nothing does but those ``going``.

        None otherwise.  ``stripped`` have had all their tags deleted.

        Raises:
            CleanerError: The repository cannot be listed.
        """
        listing, arrived = self._since_the_plan(self._client.list_manifests(), stripped)
        own = {digest for subject in subjects for digest in self._planned.maybe_referring(subject)}
        fresh, nonsense = self._read(listing, arrived | own)
        if not nonsense <= own:
            # What it would name, nobody knows.
            return [None] * len(subjects)

        def is_as_planned(digest: Digest) -> bool:
            hanging = {digest, *fresh.owners(digest), *fresh.referrers.get(digest, ())}
            return going >= hanging and arrived.isdisjoint(hanging)

        def is_explained(subject: Digest) -> bool:
            cluster = fresh.cluster(self._planned.cluster({subject}, going), going)
            return all(map(is_as_planned, cluster)) and not fresh.is_knotted(subject)

        return [fresh.referring(subject) if is_explained(subject) else None for subject in subjects]

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
            if before is None or before.uploaded != manifest.uploaded:
                arrived.add(digest)
            elif digest in stripped and not manifest.tags:
                manifests[digest] = msgspec.structs.replace(manifest, tags=before.tags)
            elif digest in stripped or not {*before.tags}.issuperset(manifest.tags):
                arrived.add(digest)
        return Listing(listing.repository, manifests), arrived

    def _read(self, listing: Listing, also: AbstractSet[Digest]) -> tuple[Graph, AbstractSet[Digest]]:
        """Return the graph of ``listing``, and what makes no sense: a plan need not have read it."""
        nonsense: set[Digest] = set()
        # The run's own threads are at work on the plan.
        with ThreadPoolExecutor(self._workers, thread_name_prefix="reader") as pool:

            def each(
                read: Callable[[Manifest], Links | None], manifests: Iterable[Manifest]
            ) -> Iterable[Links | None]:
                def one(manifest: Manifest) -> Links | None:
                    try:
                        return read(manifest)
                    except InvalidManifest:
                        nonsense.add(manifest.digest)
                        return NO_LINKS

                return pool.map(one, manifests)

            return Graph.of(self._client.read_links(listing, each, also=also)), nonsense
