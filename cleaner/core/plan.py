"""What is kept and what is deleted, with one reason for every manifest.

A function of values: the same listing, policy and clock give the same plan, whatever the order of the listing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from datetime import datetime
from functools import cached_property

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.history import NO_HISTORY, History
from cleaner.core.limit import oldest, over_limit
from cleaner.core.manifest import Listing, Manifest, newest_first
from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Repository
from cleaner.core.rules import (
    NOTHING_RUNNING,
    Facts,
    Place,
    Reason,
    Running,
    find_places,
    kept_by_rules,
    runners,
)
from cleaner.core.steps import Step, make_steps, without_order

_REASONS_TO_DELETE = {
    Kind.TAGGED_IMAGE: Reason.EXPIRED,
    Kind.UNTAGGED_IMAGE: Reason.EXPIRED,
    Kind.ORPHAN: Reason.ORPHANED,
}


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One manifest and why it is kept or deleted.

    ``place`` is its place in the pool that decided, None if none did.  ``detail`` says who runs it, where that is the
    reason.
    """

    manifest: Manifest
    reason: Reason
    place: Place | None = None
    detail: str = ""

    @property
    def counts(self) -> bool:
        """Whether its deletion counts in ``max_deletions``: it is an image or an orphan."""
        return self.reason is not Reason.FOLLOWS

    def facts(self) -> dict[str, object]:
        """Return it as the fields of a log line."""
        facts: dict[str, object] = {
            "digest": self.manifest.digest,
            "tags": self.manifest.tags,
            "reason": self.reason.value,
            "uploaded": self.manifest.uploaded,
        }
        return facts | {"running": self.detail} if self.detail else facts


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A verdict for every manifest of a listing; ``delete`` is sorted newest first.

    ``steps`` delete what ``delete`` names, in their order.  ``untagged`` are the untagged images.
    ``is_by_count``: an untagged image is deleted because others are newer.
    """

    repository: Repository
    kept: Mapping[Digest, Verdict]
    delete: tuple[Verdict, ...]
    steps: tuple[Step, ...] = ()
    untagged: AbstractSet[Digest] = frozenset()
    is_by_count: bool = False

    @cached_property
    def keep(self) -> tuple[Verdict, ...]:
        """What is kept, sorted newest first; only a display needs it so, and no run waits for it."""
        ordered = newest_first(verdict.manifest for verdict in self.kept.values())
        return tuple(self.kept[manifest.digest] for manifest in ordered)


def plan(
    listing: Listing,
    policy: Policy,
    now: datetime,
    *,
    named: Named = NOTHING_NAMED,
    running: Running = NOTHING_RUNNING,
    history: History = NO_HISTORY,
    untagged_before: AbstractSet[Digest] | None = None,
    only: AbstractSet[Digest] | None = None,
) -> Plan:
    """Return what of ``listing`` is kept and what is deleted, under ``policy`` at ``now``.

    ``named`` is what messages of this run name.  ``listing`` has what ``history`` restores; that gets no verdict.
    ``untagged_before`` are the untagged images of an earlier listing: only they take places among the newest, and
    only they are deleted by count; None takes this listing for it.  With ``only`` nothing else is deleted.
    """
    graph = Graph.of(listing)
    by_kind = graph.by_kind()
    untagged = frozenset(manifest.digest for manifest in by_kind[Kind.UNTAGGED_IMAGE])
    places, unmatched = find_places(graph, by_kind, policy, now, untagged_before, history.deleted)
    facts = Facts(
        policy,
        now,
        places,
        unmatched,
        running=runners(graph, running),
        pushed=(named.digests | history.pushed) & listing.manifests.keys() | history.holders(named.tags, listing),
    )
    decision = _Decision(graph, history, kept_by_rules(facts, listing.manifests.values()))
    decision.keep_needed(graph.in_need() & decision.kept.keys())
    decision.keep_undeletable(only)
    decision.keep_cycles()
    if policy.max_deletions is not None:
        decision.keep_over_limit(policy.max_deletions)
    delete = decision.doomed()
    return Plan(
        repository=listing.repository,
        kept={
            digest: Verdict(
                listing.manifests[digest],
                reason,
                facts.place_for(digest, reason),
                facts.running[digest] if reason is Reason.RUNNING else "",
            )
            for digest, reason in decision.kept.items()
            if digest not in history.deleted
        },
        delete=tuple(
            Verdict(manifest, decision.reason_to_delete(manifest), facts.place_for(manifest.digest, reason=None))
            for manifest in delete
        ),
        steps=decision.steps(delete),
        untagged=untagged,
        is_by_count=bool(policy.untagged.keep)
        and any(
            manifest.digest in untagged
            and manifest.uploaded is not None
            and not policy.untagged.is_retired(manifest.uploaded, now)
            for manifest in delete
        ),
    )


class _Decision:
    """What is ``kept`` of one listing and why, while that is being decided; the rest is deleted."""

    def __init__(self, graph: Graph, history: History, kept: dict[Digest, Reason]) -> None:
        self.kept = kept
        self._graph = graph
        self._history = history

    def doomed(self) -> list[Manifest]:
        """Return what is not kept and not deleted yet, newest first."""
        manifests = self._graph.listing.manifests
        return newest_first(
            manifest
            for digest, manifest in manifests.items()
            if digest not in self.kept and digest not in self._history.deleted
        )

    def steps(self, doomed: Sequence[Manifest]) -> tuple[Step, ...]:
        """Return the steps that delete ``doomed``."""
        orphans = {manifest.digest for manifest in doomed if self._graph.kind(manifest) is Kind.ORPHAN}
        return make_steps(self._graph, reversed(doomed), self._history, orphans, self.kept)

    def reason_to_delete(self, manifest: Manifest) -> Reason:
        """Return why a manifest is deleted."""
        return _REASONS_TO_DELETE.get(self._graph.kind(manifest), Reason.FOLLOWS)

    def keep_needed(self, start: Iterable[Digest]) -> None:
        """Keep what ``start`` holds and needs."""
        for digest in self._graph.closure(start):
            self.kept.setdefault(digest, Reason.NEEDED)

    def keep_undeletable(self, only: AbstractSet[Digest] | None) -> None:
        """Keep what the registry does not delete, and what is not among ``only``, with what they need.

        Their reason remains the one for which they would be deleted.
        """
        undeletable = [one for one in self.doomed() if self._is_undeletable(one, only)]
        for one in undeletable:
            self.kept[one.digest] = self.reason_to_delete(one)
        self.keep_needed(one.digest for one in undeletable)

    def keep_cycles(self) -> None:
        """Keep what no order can delete."""
        # Indexes alone make no cycle: each lists what was there before it.
        if self._graph.subjects:
            self.keep_needed(without_order(self.steps(self.doomed())))

    def keep_over_limit(self, limit: int) -> None:
        """Keep all images and orphans but the oldest, so that a run deletes ``limit`` of them at most."""
        deleted = self._history.deleted
        left = limit - self._history.pushed_again - sum(one.counts for one in deleted.values())
        doomed = {digest: one for digest, one in self._graph.listing.manifests.items() if digest not in self.kept}
        judged = [one.digest for one in reversed(newest_first(doomed.values())) if self._graph.kind(one).is_judged]
        chosen = oldest(judged, max(left, 0), self._graph, doomed.keys(), deleted)
        over = [digest for digest in judged if digest not in chosen and digest not in deleted]
        for digest, is_limited in over_limit(over, self._graph).items():
            self.kept.setdefault(digest, Reason.OVER_LIMIT if is_limited else Reason.NEEDED)

    def _is_undeletable(self, manifest: Manifest, only: AbstractSet[Digest] | None) -> bool:
        digest, history = manifest.digest, self._history
        if digest in history.undeletable or (only is not None and digest not in only):
            return True
        return history.has_immutable_tags and bool(history.tags_left(manifest))
