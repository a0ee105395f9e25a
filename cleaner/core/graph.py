"""Which manifest needs which, and what each is to its repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from enum import Enum

import msgspec

from cleaner.core.manifest import Listing, Manifest
from cleaner.core.reference import Digest, Tag
from cleaner.core.relations import blocked_subjects, covering_indexes, named_subjects, tag_subject
from cleaner.core.walk import Edges, components, reachable, reverse_edges


class Kind(Enum):
    """What a manifest is to its repository; each is exactly one."""

    TAGGED_IMAGE = "tagged image"
    """Has an ordinary tag; may be a child as well."""
    UNTAGGED_IMAGE = "untagged image"
    """Has no tag, and is of no kind that follows."""
    CHILD = "child"
    """An index of the repository lists it, or it is a redundant index."""
    REFERRER = "referrer"
    """A subject of it is in the repository."""
    ORPHAN = "orphan"
    """It names subjects, and none is in the repository; may be a child as well."""

    @property
    def is_image(self) -> bool:
        """Whether it is an image."""
        return self in (Kind.TAGGED_IMAGE, Kind.UNTAGGED_IMAGE)

    @property
    def is_judged(self) -> bool:
        """Whether the policy judges it on its own, as it does images and orphans; the rest follows others."""
        return self.is_image or self is Kind.ORPHAN


class Graph(msgspec.Struct, frozen=True):
    """The edges between the manifests of one listing; what is not in the listing has none.

    ``children`` and ``parents`` come from indexes, ``referrers`` and ``subjects`` from the subjects that tags and
    documents name.  ``named`` are all subjects that a manifest names, whether they are in the listing or not.
    ``redundant`` are by index the redundant indexes that follow it, ``covering`` by redundant index those that it
    follows.  ``blocking`` are the referrers that have to be deleted before a subject, ``blocked`` the subjects of
    such a referrer: the registry refuses to delete a subject before the manifests whose documents name it, and these
    before a referrers index that lists them.
    """

    listing: Listing
    children: Edges
    parents: Edges
    referrers: Edges
    subjects: Edges
    named: Edges
    redundant: Edges
    covering: Edges
    blocking: Edges
    blocked: Edges

    @classmethod
    def of(cls, listing: Listing) -> Graph:
        """Return the graph of ``listing``; no order in it depends on the listing's."""
        manifests = listing.manifests
        children: dict[Digest, tuple[Digest, ...]] = {}
        named: dict[Digest, tuple[Digest, ...]] = {}
        subjects: dict[Digest, tuple[Digest, ...]] = {}
        blocked: dict[Digest, tuple[Digest, ...]] = {}
        for digest, manifest in manifests.items():
            if manifest.links.children:
                children[digest] = tuple(child for child in manifest.links.children if child in manifests)
            found = named_subjects(manifest, manifests)
            if not found:
                continue
            named[digest] = found
            if present := tuple(subject for subject in found if subject in manifests):
                subjects[digest] = present
                if refusing := blocked_subjects(manifest, present):
                    blocked[digest] = refusing
        parents = reverse_edges(children)
        covering = covering_indexes(manifests, children, parents)
        return cls(
            listing,
            children,
            parents,
            referrers=reverse_edges(subjects),
            subjects=subjects,
            named=named,
            redundant=reverse_edges(covering),
            covering=covering,
            blocking=reverse_edges(blocked),
            blocked=blocked,
        )

    def subject_of(self, manifest: Manifest, tag: Tag) -> Digest | None:
        """Return the subject that a referrer tag of ``manifest`` names; None if the tag is an ordinary one."""
        return tag_subject(manifest, tag, self.listing.manifests)

    def ordinary_tags(self, manifest: Manifest) -> tuple[Tag, ...]:
        """Return the tags of ``manifest`` that are no referrer tags."""
        manifests = self.listing.manifests
        return tuple([tag for tag in manifest.tags if tag_subject(manifest, tag, manifests) is None])

    def kind(self, manifest: Manifest) -> Kind:
        """Return the one class of ``manifest``."""
        digest = manifest.digest
        # One that names no subject has no referrer tag.
        if manifest.has_unnamed_tags or (
            manifest.tags and (digest not in self.named or self.ordinary_tags(manifest))
        ):
            return Kind.TAGGED_IMAGE
        if digest in self.named and digest not in self.subjects:
            return Kind.ORPHAN
        if digest in self.parents or digest in self.covering:
            return Kind.CHILD
        return Kind.REFERRER if digest in self.subjects else Kind.UNTAGGED_IMAGE

    def by_kind(self) -> Mapping[Kind, Sequence[Manifest]]:
        """Return the manifests of each kind, in the order of the listing."""
        found: dict[Kind, list[Manifest]] = {kind: [] for kind in Kind}
        for manifest in self.listing.manifests.values():
            found[self.kind(manifest)].append(manifest)
        return found

    def lists_only_absent(self, manifest: Manifest) -> bool:
        """Return whether ``manifest`` is an index that lists manifests none of which is in the repository."""
        return manifest.links.has_descriptors and not self.children.get(manifest.digest)

    def needs(self, digest: Digest) -> Iterator[Digest]:
        """Yield what is kept when ``digest`` is kept: its children, its referrers and its subjects."""
        yield from self.parts(digest)
        yield from self.referrers.get(digest, ())
        yield from self.subjects.get(digest, ())

    def needed_by(self, digest: Digest) -> Iterator[Digest]:
        """Yield what keeps ``digest`` when it is kept: the inverse of ``needs``."""
        yield from self.owners(digest)
        yield from self.referrers.get(digest, ())

    def parts(self, digest: Digest) -> Iterator[Digest]:
        """Yield the children of an index and the redundant indexes that follow it."""
        yield from self.children.get(digest, ())
        yield from self.redundant.get(digest, ())

    def indexes_of(self, digest: Digest) -> Iterator[Digest]:
        """Yield the indexes that ``digest`` follows: the inverse of ``parts``."""
        yield from self.parents.get(digest, ())
        yield from self.covering.get(digest, ())

    def owners(self, digest: Digest) -> Iterator[Digest]:
        """Yield what ``digest`` belongs to: its indexes and its subjects."""
        yield from self.indexes_of(digest)
        yield from self.subjects.get(digest, ())

    def closure(self, start: Iterable[Digest]) -> AbstractSet[Digest]:
        """Return ``start`` and all that it needs, directly or not."""
        return reachable(start, self.needs).keys()

    def in_need(self) -> AbstractSet[Digest]:
        """Return what needs anything but itself; most manifests of most repositories do not."""
        return self.children.keys() | self.redundant.keys() | self.referrers.keys() | self.subjects.keys()

    def groups(self, digests: AbstractSet[Digest]) -> list[tuple[Digest, ...]]:
        """Split ``digests`` into those that need one another, and so are kept or deleted together.

        A group comes before those that it needs.
        """
        return components(digests, self.needs, self.needed_by)

    def attestations(self) -> dict[Digest, list[Digest]]:
        """Return for each attested child of an index the attestations that every index of it lists as well.

        An attestation may name what it attests as its subject, for which the registry refuses to delete that first;
        it is a child, so its document is not read, and BuildKit's annotation in the index is all that is known.
        """
        links = (self.listing.manifests[index].links for index in self.children)
        pairs = dict.fromkeys(pair for one in links for pair in one.attestations)
        attested = {digest: frozenset(self.parents.get(digest, ())) for digest in {digest for _, digest in pairs}}
        found: dict[Digest, list[Digest]] = {}
        for attestation, digest in pairs:
            indexes = self.parents.get(attestation, ())
            if not (indexes and attested[digest].issuperset(indexes)):
                continue
            # What is attested itself, an index, or a referrer could make a cycle.
            if attestation not in attested and self._is_leaf(attestation):
                found.setdefault(digest, []).append(attestation)
        return found

    def _is_leaf(self, digest: Digest) -> bool:
        return digest not in self.subjects and not self.listing.manifests[digest].is_index
