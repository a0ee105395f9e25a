"""Walks along the edges of a directed graph.

Every walk is a loop, not a recursion: anyone who may push can build a chain of ten thousand manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set as AbstractSet
from typing import TypeVar

from cleaner.core.reference import Digest

N = TypeVar("N", bound=Hashable)

Edges = Mapping[Digest, tuple[Digest, ...]]


def reverse_edges(edges: Edges) -> Edges:
    """Return ``edges`` the other way round; the ends are sorted."""
    backwards: dict[Digest, list[Digest]] = {}
    for start, ends in edges.items():
        for end in ends:
            backwards.setdefault(end, []).append(start)
    return {end: tuple(sorted(starts)) for end, starts in backwards.items()}


def components(
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
