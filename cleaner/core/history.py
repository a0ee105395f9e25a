"""What the runs of a process have done to one repository, and how a later listing is judged in its light.

A listing that is taken between two deletions of one image shows parts of it: children without their index look like
untagged images, and so does an image that has lost its tags.  So what was deleted is put back before a listing is
judged.  A run that ends early leaves its history to the next run of the process.  Another process does not see it.
"""

from __future__ import annotations

from collections.abc import Container, Set as AbstractSet

import msgspec

from cleaner.core.errors import KeptManifestGone
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.reference import Digest, Tag


class Deleted(msgspec.Struct, frozen=True):
    """A manifest that was deleted, as it was judged; ``counts`` says whether ``max_deletions`` counts it.

    ``is_doubtful``: its deletion was not answered.
    """

    manifest: Manifest
    counts: bool
    is_doubtful: bool = False


class History(msgspec.Struct):
    """What is known of one repository beside its listing; owned by the run under way.

    ``deleted`` are the manifests that were deleted, ``lost_tags`` the tags that were deleted of manifests that were
    not.  ``referrers`` are manifests whose documents name a subject, or may: they are read again, whatever tags they
    have and whatever lists them by then.  ``fault`` is why the registry may not be asked to delete anything more.

    The rest is of the present run alone.  ``refused`` may be requested once more, ``undeletable`` not again;
    ``pushed`` got a tag while the run was on.  ``before`` is the listing that the latest plan rests on, as the
    registry gave it; None before the first.  ``pushed_again`` is how many that ``max_deletions`` counts were deleted
    and are there again.  ``has_immutable_tags``: the registry deletes no tag.
    """

    deleted: dict[Digest, Deleted] = msgspec.field(default_factory=dict)
    lost_tags: dict[Digest, AbstractSet[Tag]] = msgspec.field(default_factory=dict)
    referrers: set[Digest] = msgspec.field(default_factory=set)
    fault: KeptManifestGone | None = None
    refused: set[Digest] = msgspec.field(default_factory=set)
    undeletable: set[Digest] = msgspec.field(default_factory=set)
    pushed: set[Digest] = msgspec.field(default_factory=set)
    before: Listing | None = None
    pushed_again: int = 0
    has_immutable_tags: bool = False

    def __len__(self) -> int:
        return len(self.deleted) + len(self.lost_tags)

    def for_next_run(self) -> History:
        """Return what the next run of the process has to know if this one ends here."""
        return History({**self.deleted}, {**self.lost_tags}, {*self.referrers}, self.fault)

    def about(self, digests: Container[Digest]) -> History:
        """Return what the next run has to know if this one has only left ``digests`` undone."""
        return History(
            {
                digest: Deleted(one.manifest, counts=False)
                for digest, one in self.deleted.items()
                if digest in digests
            },
            {digest: tags for digest, tags in self.lost_tags.items() if digest in digests},
        )

    def add_deleted(self, manifest: Manifest, *, counts: bool, is_doubtful: bool = False) -> None:
        """Note that a manifest was deleted, or may have been; ``observe`` finds out."""
        self.deleted[manifest.digest] = Deleted(manifest, counts, is_doubtful)
        if not is_doubtful:
            self.lost_tags.pop(manifest.digest, None)

    def add_lost_tags(self, digest: Digest, tags: AbstractSet[Tag]) -> None:
        """Note that tags were deleted of a manifest, or may have been; ``observe`` finds out."""
        if tags:
            self.lost_tags[digest] = tags | self.lost_tags.get(digest, frozenset())

    def arrived(self, listing: Listing) -> AbstractSet[Digest]:
        """Return what is in ``listing`` and was not in the one before, or was deleted since."""
        if self.before is None:
            return frozenset()
        return listing.manifests.keys() - (self.before.manifests.keys() - self.deleted.keys())

    def observe(self, listing: Listing) -> None:
        """Note what ``listing``, as the registry gives it, shows to have been pushed.

        A deleted manifest or tag that is there again was pushed again: it is new.
        """
        if self.before is not None:
            self.pushed |= _tagged_since(self.before, listing)
        for digest in self.deleted.keys() & listing.manifests.keys():
            one = self.deleted.pop(digest)
            self.pushed_again += one.counts and not one.is_doubtful
        lost_tags, self.lost_tags = self.lost_tags, {}
        for digest in lost_tags.keys() & listing.manifests.keys():
            there = lost_tags[digest] & {*listing.manifests[digest].tags}
            if there and self.before is not None:
                self.pushed.add(digest)
            self.add_lost_tags(digest, lost_tags[digest] - there)
        self.referrers &= listing.manifests.keys()
        self.referrers.update(digest for digest, one in listing.manifests.items() if one.links.subject)

    def tags_left(self, manifest: Manifest) -> AbstractSet[Tag]:
        """Return the tags of a restored manifest, without those that were deleted, whatever these name now."""
        return {*manifest.tags}.difference(self.lost_tags.get(manifest.digest, ()))

    def holders(self, tags: AbstractSet[Tag], listing: Listing) -> set[Digest]:
        """Return the manifests of ``listing``, which was restored, that have one of ``tags`` in the registry."""
        return {
            digest
            for digest, manifest in listing.manifests.items()
            if not tags.isdisjoint(manifest.tags)
            and digest not in self.deleted
            and not tags.isdisjoint(self.tags_left(manifest))
        }

    def restore(self, listing: Listing) -> Listing:
        """Return ``listing``, which was observed, as if nothing had been deleted."""
        if not self:
            return listing
        manifests = {digest: one.manifest for digest, one in self.deleted.items()}
        manifests.update(listing.manifests)
        for digest, lost in self.lost_tags.items():
            manifest = manifests[digest]
            manifests[digest] = msgspec.structs.replace(manifest, tags=tuple(sorted({*manifest.tags, *lost})))
        return Listing(listing.repository, manifests)


NO_HISTORY = History()
"""For a plan of a repository of which nothing is known; nobody changes it."""


def _tagged_since(before: Listing, listing: Listing) -> set[Digest]:
    """Return the manifests of ``listing`` that have a tag which they had not before."""
    tagged = set()
    for digest, manifest in listing.manifests.items():
        known = before.manifests.get(digest)
        if manifest.tags and (known is None or not {*known.tags}.issuperset(manifest.tags)):
            tagged.add(digest)
    return tagged
