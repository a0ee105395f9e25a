"""Which images a limit on deletions lets a run delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set as AbstractSet
from heapq import heapify, heappop, heappush

from cleaner.core.graph import Graph
from cleaner.core.reference import Digest


def oldest(
    candidates: Sequence[Digest],
    allowed: int,
    graph: Graph,
    doomed: AbstractSet[Digest],
    deleted: Container[Digest] = frozenset(),
) -> set[Digest]:
    """Return at most ``allowed`` of ``candidates``, which are sorted oldest first, beside those that are ``deleted``.

    ``doomed`` is all that is not kept.  What others need is chosen only after them, and together with what
    it needs itself, so what is not chosen never needs what is.  The deleted keep their rank, so that the choice is
    the same before and after their deletion.
    """
    rank = {digest: at for at, digest in enumerate(candidates)}
    groups = graph.groups(doomed)
    ranks = [[rank[digest] for digest in group if digest in rank] for group in groups]
    members = [[digest for digest in group if digest in rank and digest not in deleted] for group in groups]
    group_of = {digest: number for number, group in enumerate(groups) for digest in group}
    needs = [
        {group_of[other] for digest in group for other in graph.needs(digest) if other in doomed} - {number}
        for number, group in enumerate(groups)
    ]
    needed_by = Counter(other for others in needs for other in others)

    def turn(number: int) -> tuple[int, int]:
        # A group without candidates takes no place, and must not delay what it needs.
        return min(ranks[number], default=-1), number

    free = [turn(number) for number in range(len(groups)) if not needed_by[number]]
    heapify(free)
    chosen: set[Digest] = set()
    while free:
        _, number = heappop(free)
        if len(chosen) + len(members[number]) <= allowed:
            chosen.update(members[number])
            for other in needs[number]:
                needed_by[other] -= 1
                if not needed_by[other]:
                    heappush(free, turn(other))
    return chosen


def over_limit(over: Iterable[Digest], graph: Graph) -> Mapping[Digest, bool]:
    """Return ``over``, which a limit keeps, and what that needs, with whether the limit is the reason for it.

    One that another of them needs is kept for that; of those that need one another none is.
    """
    limited = dict.fromkeys(over)
    kept = graph.closure(limited)
    found = {}
    for group in graph.groups(kept):
        needed_by = {other for digest in group for other in graph.needed_by(digest) if other in kept}
        is_needed = not needed_by.issubset(group)
        for digest in group:
            found[digest] = digest in limited and not is_needed
    return found
