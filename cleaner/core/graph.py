"""Which manifest needs which: classes and reachability.

Every walk is a loop, not a recursion: anyone who may push can build a chain of ten thousand manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set as AbstractSet
from enum import Enum
from typing import TypeVar

import msgspec

from cleaner.core.manifest import OCI_INDEX, OCI_MANIFEST, Listing, Manifest
from cleaner.core.reference import Digest, Tag

N = TypeVar("N", bound=Hashable)

Edges = Mapping[Digest, tuple[Digest, ...]]


class Kind(Enum):
    """What a manifest is to its repository; each is exactly one."""

    TAGGED_IMAGE = "tagged image"
    """Has an ordinary tag; may be a child as well."""
    UNTAGGED_IMAGE = "untagged image"
    """Has no ordinary tag, and is of no kind that follows."""
    CHILD = "child"
    """An index of the repository lists it."""
    REFERRER = "referrer"
    """Its subject is in the repository."""
    ORPHAN = "orphan"
    """Its subject is not in the repository."""

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

    ``children`` and ``parents`` come from indexes, ``referrers`` and ``subjects`` from subjects and cosign tags.
    ``blocking`` are the referrers that have to be deleted before a subject, ``blocked`` the subjects of such a
    referrer: the registry refuses to delete a subject before the manifests whose documents name it, and these before
    a referrers index that lists them.
    """

    listing: Listing
    children: Edges
    parents: Edges
    referrers: Edges
    subjects: Edges
    blocking: Edges
    blocked: Edges

    @classmethod
    def of(cls, listing: Listing) -> Graph:
        """Return the graph of ``listing``; no order in it depends on the listing's."""
        children: dict[Digest, tuple[Digest, ...]] = {}
        subjects: dict[Digest, tuple[Digest, ...]] = {}
        blocked: dict[Digest, tuple[Digest, ...]] = {}
        for digest, manifest in listing.manifests.items():
            if manifest.links.children:
                children[digest] = tuple(child for child in manifest.links.children if child in listing.manifests)
            if present := tuple(subject for subject in manifest.subjects if subject in listing.manifests):
                subjects[digest] = present
                if refusing := _blocked(manifest, present):
                    blocked[digest] = refusing
        referrers, blocking = _reversed(subjects), _reversed(blocked)
        return cls(listing, children, _reversed(children), referrers, subjects, blocking, blocked)

    def kind(self, manifest: Manifest) -> Kind:
        """Return the one class of ``manifest``."""
        if manifest.has_ordinary_tag:
            return Kind.TAGGED_IMAGE
        if manifest.digest in self.parents:
            return Kind.CHILD
        if manifest.digest in self.subjects:
            return Kind.REFERRER
        return Kind.ORPHAN if manifest.subjects else Kind.UNTAGGED_IMAGE

    def needs(self, digest: Digest) -> Iterator[Digest]:
        """Yield what is kept when ``digest`` is kept: its children, its referrers and its subjects."""
        yield from self.children.get(digest, ())
        yield from self.referrers.get(digest, ())
        yield from self.subjects.get(digest, ())

    def needed_by(self, digest: Digest) -> Iterator[Digest]:
        """Yield what keeps ``digest`` when it is kept: the inverse of ``needs``."""
        yield from self.parents.get(digest, ())
        yield from self.subjects.get(digest, ())
        yield from self.referrers.get(digest, ())

    def owners(self, digest: Digest) -> Iterator[Digest]:
        """Yield what ``digest`` belongs to: its indexes and its subjects."""
        yield from self.parents.get(digest, ())
        yield from self.subjects.get(digest, ())

    def closure(self, start: Iterable[Digest]) -> AbstractSet[Digest]:
        """Return ``start`` and all that it needs, directly or not."""
        return reachable(start, self.needs).keys()

    def groups(self, digests: AbstractSet[Digest]) -> list[tuple[Digest, ...]]:
        """Split ``digests`` into those that need one another, and so are kept or deleted together.

        A group comes before those that it needs.
        """
        return _components(digests, self.needs, self.needed_by)

    def attestations(self) -> dict[Digest, list[Digest]]:
        """Return for each attested child of an index the attestations that nothing but this index owns.

        An attestation may name what it attests as its subject, for which the registry refuses to delete that first;
        it is a child, so its document is not read, and BuildKit's annotation in the index is all that is known.
        """
        found: dict[Digest, list[Digest]] = {}
        for index, children in self.children.items():
            pairs = self.listing.manifests[index].links.attestations
            present = set(children) if pairs else set()
            attested = {digest for _, digest in pairs}
            for attestation, digest in pairs:
                is_pair = {attestation, digest} <= present and attestation not in attested
                # An index or a referrer could make a cycle.
                if is_pair and self._is_leaf(attestation) and self.parents[attestation] == (index,):
                    found.setdefault(digest, []).append(attestation)
        return found

    def _is_leaf(self, digest: Digest) -> bool:
        return digest not in self.subjects and not self.listing.manifests[digest].is_index


def referrers_tag(subject: Digest) -> Tag:
    """Return the tag of the referrers index of ``subject`` (distribution-spec, "Referrers Tag Schema")."""
    return Tag(subject.replace(":", "-"))


def _blocked(manifest: Manifest, subjects: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return those of ``subjects`` that a document names, or whose referrers index ``manifest`` is."""
    tags = {*manifest.tags} if manifest.media_type == OCI_INDEX else ()
    return tuple(one for one in subjects if one == manifest.links.subject or referrers_tag(one) in tags)


def _tagged_subject(tag: Tag) -> Digest:
    """Return the subject whose referrers index has ``tag``; for any other tag what is no digest."""
    return Digest(tag.replace("-", ":", 1))


def must_be_read(listing: Listing) -> tuple[Digest, ...]:
    """Return the indexes, whose children are not known before they are read."""
    return tuple(digest for digest, manifest in listing.manifests.items() if manifest.is_index)


def may_have_subject(listing: Listing, also: AbstractSet[Digest] = frozenset()) -> tuple[Digest, ...]:
    """Return the OCI manifests whose documents are read for a subject.

    Those without a tag that no index lists, those that a referrers index of a present subject lists, and those of
    ``also``.  The indexes of ``listing`` must have their children by then.
    """
    listed: set[Digest] = set()
    listed_as_referrers: set[Digest] = set()
    for manifest in listing.manifests.values():
        listed.update(manifest.links.children)
        tags = manifest.tags if manifest.media_type == OCI_INDEX else ()
        if any(_tagged_subject(tag) in listing.manifests for tag in tags):
            listed_as_referrers.update(manifest.links.children)
    wanted = also | listed_as_referrers
    return tuple(
        digest
        for digest, manifest in listing.manifests.items()
        if manifest.media_type == OCI_MANIFEST and (digest in wanted or (not manifest.tags and digest not in listed))
    )


def _reversed(edges: Edges) -> Edges:
    backwards: dict[Digest, list[Digest]] = {}
    for start, ends in edges.items():
        for end in ends:
            backwards.setdefault(end, []).append(start)
    return {end: tuple(sorted(starts)) for end, starts in backwards.items()}


def _components(
    nodes: AbstractSet[Digest],
    forwards: Callable[[Digest], Iterator[Digest]],
    backwards: Callable[[Digest], Iterator[Digest]],
) -> list[tuple[Digest, ...]]:
    """Return the strongly connected components of ``nodes``, each before those that ``forwards`` leads to.

    Kosaraju's algorithm: a walk forwards, depth first, then one backwards from what it left last.
    """
    left: list[Digest] = []
    seen: set[Digest] = set()
    for root in nodes:
        stack = [] if root in seen else [(root, forwards(root))]
        seen.add(root)
        while stack:
            digest, rest = stack[-1]
            following = next((other for other in rest if other in nodes and other not in seen), None)
            if following is None:
                left.append(digest)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, forwards(following)))
    components = []
    unplaced = dict.fromkeys(left)
    for root in reversed(left):
        if root in unplaced:
            found = reachable((root,), lambda digest: (other for other in backwards(digest) if other in unplaced))
            components.append(tuple(found))
            for digest in found:
                del unplaced[digest]
    return components


def reachable(start: Iterable[N], step: Callable[[N], Iterable[N]], *, at_most: int | None = None) -> dict[N, None]:
    """Return ``start`` and all that ``step`` leads to from there, in the order of the walk.

    The walk ends when it has found ``at_most``.
    """
    reached = dict.fromkeys(start)
    pending = list(reached)
    while pending:
        for node in step(pending.pop()):
            if len(reached) == at_most:
                return reached
            if node not in reached:
                reached[node] = None
                pending.append(node)
    return reached
