"""Which manifest needs which: classes, reachability and the order of deletion.

Every walk is a loop, not a recursion: anyone who may push can build a chain of ten thousand.
Reads no clock, network, environment or log.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet
from enum import Enum

import msgspec

from cleaner.core.manifest import OCI_MANIFEST, Listing, Manifest
from cleaner.core.reference import Digest

Edges = Mapping[Digest, tuple[Digest, ...]]


class Kind(Enum):
    """What a manifest is to its repository; each is exactly one."""

    TAGGED_IMAGE = "tagged image"
    """Has an ordinary tag; may be a child as well."""
    UNTAGGED_IMAGE = "untagged image"
    """Has no ordinary tag and is none of the following."""
    CHILD = "child"
    """An index of the repository lists it."""
    REFERRER = "referrer"
    """Its subject is in the repository."""
    ORPHAN = "orphan"
    """Its subject is not in the repository."""

    @property
    def is_image(self) -> bool:
        """Whether it is judged on its own."""
        return self in (Kind.TAGGED_IMAGE, Kind.UNTAGGED_IMAGE)


class Graph(msgspec.Struct, frozen=True):
    """The edges between the manifests of one listing; what is not in the listing has none.

    ``children`` and ``parents`` come from indexes, ``referrers`` and ``subjects`` from subjects and cosign tags.
    """

    listing: Listing
    children: Edges
    parents: Edges
    referrers: Edges
    subjects: Edges

    @classmethod
    def of(cls, listing: Listing) -> Graph:
        """Return the graph of ``listing``; no order in it depends on the listing's."""
        children: dict[Digest, tuple[Digest, ...]] = {}
        subjects: dict[Digest, tuple[Digest, ...]] = {}
        for digest, manifest in listing.manifests.items():
            if manifest.links.children:
                children[digest] = tuple(child for child in manifest.links.children if child in listing.manifests)
            if present := tuple(subject for subject in manifest.subjects if subject in listing.manifests):
                subjects[digest] = present
        return cls(listing, children, _reversed(children), _reversed(subjects), subjects)

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
        """Yield what must stay when ``digest`` stays: its children, its referrers and its subjects."""
        yield from self.children.get(digest, ())
        yield from self.referrers.get(digest, ())
        yield from self.subjects.get(digest, ())

    def needed_by(self, digest: Digest) -> Iterator[Digest]:
        """Yield what makes ``digest`` stay when it stays: the inverse of ``needs``."""
        yield from self.parents.get(digest, ())
        yield from self.subjects.get(digest, ())
        yield from self.referrers.get(digest, ())

    def followers(self, digest: Digest) -> Iterator[Digest]:
        """Yield what belongs to ``digest``: its children and its referrers."""
        yield from self.children.get(digest, ())
        yield from self.referrers.get(digest, ())

    def owners(self, digest: Digest) -> Iterator[Digest]:
        """Yield what ``digest`` belongs to: its indexes and its subjects."""
        yield from self.parents.get(digest, ())
        yield from self.subjects.get(digest, ())

    def closure(self, start: Iterable[Digest]) -> AbstractSet[Digest]:
        """Return ``start`` and all that it needs, directly or not."""
        return reach(start, self.needs).keys()

    def belongings(self, start: Iterable[Digest]) -> AbstractSet[Digest]:
        """Return ``start`` and all that belongs to it, directly or not."""
        return reach(start, self.followers).keys()

    def groups(self, digests: AbstractSet[Digest]) -> list[tuple[Digest, ...]]:
        """Split ``digests`` into those that need one another, and so stay or go together.

        A group comes before those that it needs.
        """
        return _components(digests, self.needs, self.needed_by)

    def referring(self, subject: Digest) -> AbstractSet[Digest]:
        """Return those whose document names ``subject`` as theirs: a registry refuses to delete it before them."""
        referrers = self.referrers.get(subject, ())
        return {other for other in referrers if self.listing.manifests[other].links.subject == subject}

    def maybe_referring(self, subjects: AbstractSet[Digest]) -> AbstractSet[Digest]:
        """Return those that hang together with ``subjects``, may name one as theirs, and are not read for a plan.

        Of their referrers, and those referrers' own, what has a cosign tag, and what an index lists; and what stands
        beside them in an index.
        """
        referrers = reach(subjects, lambda digest: self.referrers.get(digest, ())).keys() - subjects
        found = {*reach(referrers, lambda digest: self.children.get(digest, ()))}
        for index in {index for digest in subjects for index in self.parents.get(digest, ())}:
            listed = {*self.children[index]}
            found |= listed if len(listed & subjects) > 1 else listed - subjects
        return found

    def predecessors(self, going: AbstractSet[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return for each manifest of ``going`` which others of it have to go before.

        Subjects before referrers, indexes before children.  The result has no loops.  A manifest can be made to
        belong to itself, by cosign tags or by an index whose subject is its own child; there only indexes go before
        their children, which content alone keeps free of loops.  One manifest of a loop waits for all that any of
        it belongs to, and the others for that one.
        """
        before = {
            digest: tuple(dict.fromkeys(owner for owner in self.owners(digest) if owner in going)) for digest in going
        }
        knots = self._knots(going)
        for knot in knots:
            members = dict.fromkeys(knot)
            outside = dict.fromkeys(owner for digest in knot for owner in before[digest] if owner not in members)
            inside = {digest: tuple(o for o in self.parents.get(digest, ()) if o in members) for digest in knot}
            first = next(digest for digest in knot if not inside[digest])
            before.update({digest: (first, *inside[digest]) for digest in knot})
            before[first] = tuple(outside)
        for attested, attestations in self._attestations(going - set().union(*knots)).items():
            before[attested] += tuple(attestations)
        return before

    def _attestations(self, going: AbstractSet[Digest]) -> dict[Digest, list[Digest]]:
        """Return for what is attested the attestations that can go before it.

        They may name it as their subject, for which the registry would refuse it; they are children, so their
        documents are not read.  Such an attestation hangs on the one index that says so, and on nothing else.
        """
        found: dict[Digest, list[Digest]] = {}
        for index in going:
            pairs = self.listing.manifests[index].links.attestations if index not in self.subjects else ()
            listed = {*self.children.get(index, ())} if pairs else set()
            attested = {digest for _, digest in pairs if digest in going and digest in listed}
            for attestation, digest in pairs:
                if digest not in attested or attestation in attested or attestation not in going:
                    continue
                if [*itertools.islice(self.owners(attestation), 2)] == [index]:
                    found.setdefault(digest, []).append(attestation)
        return found

    def _knots(self, going: AbstractSet[Digest]) -> list[tuple[Digest, ...]]:
        """Return the loops of ``going``: what belongs to itself, directly or not.

        Nothing but an index or a cosign tag can close one, and both need a subject for it.
        """
        if not any(self.subjects.get(digest) for digest in going):
            return []
        components = _components(going, self.followers, self.owners)
        return [knot for knot in components if len(knot) > 1 or knot[0] in self.subjects.get(knot[0], ())]


def must_be_read(listing: Listing) -> tuple[Digest, ...]:
    """Return the indexes, whose children are not known before they are read."""
    return tuple(digest for digest, manifest in listing.manifests.items() if manifest.is_index)


def may_have_subject(listing: Listing, also: AbstractSet[Digest] = frozenset()) -> tuple[Digest, ...]:
    """Return the untagged OCI manifests that no index lists, which may name a subject, and those of ``also``.

    The indexes of ``listing`` must have their children by then.
    """
    listed = {child for manifest in listing.manifests.values() for child in manifest.links.children}
    return tuple(
        digest
        for digest, manifest in listing.manifests.items()
        if manifest.media_type == OCI_MANIFEST and (digest in also or (not manifest.tags and digest not in listed))
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
            found = reach((root,), lambda digest: (other for other in backwards(digest) if other in unplaced))
            components.append(tuple(found))
            for digest in found:
                del unplaced[digest]
    return components


def reach(start: Iterable[Digest], step: Callable[[Digest], Iterable[Digest]]) -> dict[Digest, None]:
    """Return ``start`` and all that ``step`` leads to from there, as a set in the order of the walk."""
    reached = dict.fromkeys(start)
    pending = list(reached)
    while pending:
        for digest in step(pending.pop()):
            if digest not in reached:
                reached[digest] = None
                pending.append(digest)
    return reached
