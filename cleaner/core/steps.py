"""The order of deletions: which step of a plan comes after which.

An index is deleted before its children, a subject before its referrers by tag, an attestation before what it attests.
The registry refuses to delete a subject before its OCI referrers, so such a subject takes two steps: first its tags,
each of which is checked, so that a tag that moved is noticed in time; then its referrers are deleted; then itself.
A referrers index and what it lists are deleted at the same point, and so is a referrer by tag that blocks one of
them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from itertools import islice

import msgspec

from cleaner.core.graph import Graph
from cleaner.core.history import History
from cleaner.core.manifest import Manifest
from cleaner.core.reference import Digest, Tag
from cleaner.core.walk import reachable

# A chain of OCI referrers has two or three members.  Anyone who may push can build one of ten thousand, and to follow
# it from each member would take time that grows with the square.
_CHAIN_MAX = 20


class Step(msgspec.Struct, frozen=True):
    """Requests that one worker sends back to back: ``tags`` are deleted, then the manifest if ``deletes_manifest``.

    ``after`` are the positions in the plan of the steps that come first.  ``must_be_missing`` are an orphan's
    subjects, of which the registry must not know one.  ``needs_recent_listing``: it deletes an OCI referrer, or comes
    before a step that does.  ``is_begun``: an earlier plan has deleted a part of the image.  ``kept_child`` is a
    child of the manifest that is kept, if there is one; rather one without a tag, and with few other indexes, since a
    registry that deletes children with their index may leave the others.
    """

    manifest: Manifest
    tags: tuple[Tag, ...]
    deletes_manifest: bool
    after: tuple[int, ...]
    must_be_missing: tuple[Digest, ...]
    needs_recent_listing: bool
    is_begun: bool
    kept_child: Digest | None


# A manifest, and whether it is itself deleted, or its tags alone.
_Node = tuple[Digest, bool]


def make_steps(
    graph: Graph, manifests: Iterable[Manifest], history: History, orphans: Container[Digest], kept: Container[Digest]
) -> tuple[Step, ...]:
    """Return the steps that delete ``manifests``, which are sorted oldest first.

    Steps that belong to a begun image come first, then those that need a recent listing, and of both what was refused
    before: if it is again, what comes after it is kept.
    """
    doomed = {manifest.digest: manifest for manifest in manifests}
    order = _Order(graph, doomed)
    after = order.after()
    recent = order.up_to_referrers(after)
    begun = _begun(graph, history)
    refused = history.refused
    nodes = sorted(after, key=lambda node: (node[0] not in begun, node not in recent, node[0] not in refused))
    position = {node: at for at, node in enumerate(nodes)}

    def holds(child: Digest) -> tuple[bool, int]:
        return bool(graph.listing.manifests[child].tags), len(graph.parents[child])

    def step(node: _Node) -> Step:
        digest, deletes_manifest = node
        manifest = doomed[digest]
        left = history.tags_left(manifest)
        children = graph.children.get(digest, ()) if deletes_manifest else ()
        kept_children = (child for child in children if child in kept and child not in history.deleted)
        return Step(
            manifest,
            tags=tuple(tag for tag in manifest.tags if tag in left) if node == order.first(digest) else (),
            deletes_manifest=deletes_manifest,
            after=tuple(sorted(position[other] for other in after[node])),
            must_be_missing=graph.named[digest] if digest in orphans else (),
            needs_recent_listing=node in recent,
            is_begun=digest in begun,
            kept_child=min(kept_children, key=holds, default=None),
        )

    return tuple(map(step, nodes))


def without_order(steps: Sequence[Step]) -> set[Digest]:
    """Return the manifests that no order can delete: a step of theirs is in a cycle, or comes after one."""
    sorter = TopologicalSorter({at: step.after for at, step in enumerate(steps)})
    try:
        sorter.prepare()
    except CycleError:
        # It goes on to give what no cycle blocks.
        done: set[int] = set()
        while ready := sorter.get_ready():
            sorter.done(*ready)
            done.update(ready)
        return {step.manifest.digest for at, step in enumerate(steps) if at not in done}
    return set()


class _Order:
    """The rules by which the manifests of one plan come one after the other."""

    def __init__(self, graph: Graph, doomed: Mapping[Digest, Manifest]) -> None:
        self._graph = graph
        self._doomed = doomed
        self._referrers: dict[Digest, list[Digest]] = {}
        """By subject the referrers without which the registry deletes it."""
        self._between: dict[Digest, list[Digest]] = {}
        """By manifest what has to be deleted between its tags and itself."""
        for subject, blocking in graph.blocking.items():
            if subject in doomed and (found := [*self._in_plan(blocking)]):
                self._referrers[subject] = found
        for subject, found in self._referrers.items():
            direct = {*found}
            referrers = self._in_plan(graph.referrers[subject])
            self._between[subject] = [one for one in referrers if one in direct or self._is_blocking(one, subject)]
        for attested, attestations in graph.attestations().items():
            if attested in doomed and (found := [*self._in_plan(attestations)]):
                self._between.setdefault(attested, []).extend(found)
        self._subjects: dict[Digest, dict[Digest, None]] = {}
        for subject, found in self._between.items():
            for other in found:
                self._subjects.setdefault(other, {})[subject] = None

    def first(self, digest: Digest) -> _Node:
        """Return the first step of a manifest."""
        return digest, digest not in self._between

    def after(self) -> dict[_Node, dict[_Node, None]]:
        """Return for each step those that come before it, in the order of the manifests."""
        after = {}
        for digest in self._doomed:
            after[self.first(digest)] = dict.fromkeys(self._before(digest))
            if digest in self._between:
                last = [(digest, False), *((other, True) for other in self._between[digest])]
                after[digest, True] = dict.fromkeys(last)
        return after

    def up_to_referrers(self, after: Mapping[_Node, Iterable[_Node]]) -> Container[_Node]:
        """Return the steps that delete a subject's OCI referrers, and all that come before."""
        start = ((referrer, True) for found in self._referrers.values() for referrer in found)
        return reachable(start, after.__getitem__)

    def _before(self, digest: Digest) -> Iterator[_Node]:
        """Yield what comes before anything of a manifest is deleted."""
        subjects = self._subjects.get(digest, ())
        yield from ((index, True) for index in self._in_plan(self._graph.indexes_of(digest)))
        for subject in self._in_plan(self._graph.subjects.get(digest, ())):
            if subject not in subjects:
                yield subject, True
        yield from map(self.first, subjects)

    def _is_blocking(self, referrer: Digest, subject: Digest) -> bool:
        """Return whether ``referrer`` has to be deleted before ``subject`` because of what it blocks itself.

        A chain that is too long to be followed makes a cycle of the two.
        """

        def blocked(one: Digest) -> Iterator[Digest]:
            return self._in_plan(self._graph.blocked.get(one, ()))

        return subject in reachable(islice(blocked(referrer), _CHAIN_MAX), blocked, at_most=_CHAIN_MAX)

    def _in_plan(self, digests: Iterable[Digest]) -> Iterator[Digest]:
        return (digest for digest in digests if digest in self._doomed)


def _begun(graph: Graph, history: History) -> AbstractSet[Digest]:
    """Return the manifests of which an earlier plan has deleted a tag, an owner or, at any depth, an OCI referrer."""
    begun = {*history.lost_tags, *reachable(history.deleted, lambda one: graph.blocked.get(one, ()))}
    for digest in history.deleted:
        begun.update(graph.parts(digest), graph.referrers.get(digest, ()))
    return begun
