"""What is kept and what is deleted, with one reason for every manifest.

A function of values: the same listing, policy and clock give the same plan, whatever the order of the listing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.history import NO_HISTORY, History
from cleaner.core.limit import oldest, over_limit
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.policy import Pattern, Policy
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.steps import Step, blocked, make_steps


class Reason(Enum):
    """Why a manifest is kept or deleted; of several that apply, the first in this order is given."""

    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_AGE = "unknown-age"
    TOO_YOUNG = "too-young"
    JUST_PUSHED = "just-pushed"
    RUNNING = "running"
    PROTECTED_TAG = "protected-tag"
    TAGGED = "tagged"
    NEWEST = "newest"
    NEEDED = "needed"
    OVER_LIMIT = "over-limit"

    EXPIRED = "expired"
    FOLLOWS = "follows"
    ORPHAN = "orphan"


_REASONS_TO_DELETE = {
    Kind.TAGGED_IMAGE: Reason.EXPIRED,
    Kind.UNTAGGED_IMAGE: Reason.EXPIRED,
    Kind.ORPHAN: Reason.ORPHAN,
}
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class Running(msgspec.Struct, frozen=True):
    """What is deployed, as far as it concerns one repository: digest or tag to who runs it."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[Tag, str] = msgspec.field(default_factory=dict)


NOTHING_RUNNING = Running()


class Verdict(msgspec.Struct, frozen=True):
    """One manifest and why it is kept or deleted; ``detail`` says who runs it, where that is the reason."""

    manifest: Manifest
    reason: Reason
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


class Plan(msgspec.Struct, frozen=True):
    """A verdict for every manifest of a listing; ``keep`` and ``delete`` are sorted newest first.

    ``steps`` delete what ``delete`` names, in their order.  ``untagged`` are the untagged images.
    ``is_by_count``: an untagged image is deleted because others are newer.
    """

    repository: Repository
    keep: tuple[Verdict, ...]
    delete: tuple[Verdict, ...]
    steps: tuple[Step, ...] = ()
    untagged: AbstractSet[Digest] = frozenset()
    is_by_count: bool = False


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
    kinds = {digest: graph.kind(manifest) for digest, manifest in listing.manifests.items()}
    untagged = frozenset(digest for digest, kind in kinds.items() if kind is Kind.UNTAGGED_IMAGE)
    there = {digest: kind for digest, kind in kinds.items() if digest not in history.deleted} if history else kinds
    newest = _newest(graph, there, policy, now, untagged if untagged_before is None else untagged_before)
    running_by = _running(graph, running)
    pushed = named.digests | history.pushed
    decision = _Decision(graph, kinds, history)
    for digest, manifest in listing.manifests.items():
        is_pushed = digest in pushed or not named.tags.isdisjoint(manifest.tags)
        reason = _own_reason(manifest, kinds[digest], policy, now, newest, running_by, is_pushed=is_pushed)
        if reason:
            decision.kept[digest] = reason
    decision.keep_needed(decision.kept)
    decision.keep_undeletable(only)
    decision.keep_cycles()
    if policy.max_deletions is not None:
        decision.keep_over_limit(policy.max_deletions)
    delete = decision.doomed()
    return Plan(
        repository=listing.repository,
        keep=tuple(
            Verdict(manifest, reason, running_by[manifest.digest] if reason is Reason.RUNNING else "")
            for manifest in newest_first(listing.manifests.values())
            if (reason := decision.kept.get(manifest.digest)) and manifest.digest not in history.deleted
        ),
        delete=tuple(Verdict(manifest, decision.reason_to_delete(manifest.digest)) for manifest in delete),
        steps=decision.steps(),
        untagged=untagged,
        is_by_count=any(
            manifest.digest in untagged and policy.keep_untagged and not _is_retired(manifest, policy, now)
            for manifest in delete
        ),
    )


class _Decision:
    """What is ``kept`` of one listing and why, while that is being decided; the rest is deleted."""

    def __init__(self, graph: Graph, kinds: Mapping[Digest, Kind], history: History) -> None:
        self.kept: dict[Digest, Reason] = {}
        self._graph = graph
        self._kinds = kinds
        self._history = history

    def doomed(self) -> list[Manifest]:
        """Return what is not kept and not deleted yet, newest first."""
        manifests = self._graph.listing.manifests
        return newest_first(
            manifest
            for digest, manifest in manifests.items()
            if digest not in self.kept and digest not in self._history.deleted
        )

    def steps(self) -> tuple[Step, ...]:
        """Return the steps that delete it."""
        doomed = self.doomed()
        orphans = {manifest.digest for manifest in doomed if self._kinds[manifest.digest] is Kind.ORPHAN}
        return make_steps(self._graph, reversed(doomed), self._history, orphans, self.kept)

    def reason_to_delete(self, digest: Digest) -> Reason:
        """Return why a manifest is deleted."""
        return _REASONS_TO_DELETE.get(self._kinds[digest], Reason.FOLLOWS)

    def keep_needed(self, start: Iterable[Digest]) -> None:
        """Keep what ``start`` holds and needs."""
        for digest in self._graph.closure(start):
            self.kept.setdefault(digest, Reason.NEEDED)

    def keep_undeletable(self, only: AbstractSet[Digest] | None) -> None:
        """Keep what the registry does not delete, and what is not among ``only``, with what they need.

        Their reason remains the one for which they would be deleted.
        """
        undeletable = [one.digest for one in self.doomed() if self._is_undeletable(one, only)]
        for digest in undeletable:
            self.kept[digest] = self.reason_to_delete(digest)
        self.keep_needed(undeletable)

    def keep_cycles(self) -> None:
        """Keep what no order can delete."""
        # Content alone makes no cycle: a digest names what was there before it.
        if self._graph.subjects:
            self.keep_needed(blocked(self.steps()))

    def keep_over_limit(self, limit: int) -> None:
        """Keep all images and orphans but the oldest, so that a run deletes ``limit`` of them at most."""
        left = limit - sum(one.counts for one in self._history.deleted.values())
        doomed = {digest: None for digest in self._kinds if digest not in self.kept}.keys()
        judged = [one.digest for one in reversed(self.doomed()) if self._is_judged(one.digest)]
        chosen = oldest(judged, max(left, 0), self._graph, doomed)
        over = [digest for digest in judged if digest not in chosen]
        for digest, is_limited in over_limit(over, self._graph).items():
            self.kept.setdefault(digest, Reason.OVER_LIMIT if is_limited else Reason.NEEDED)

    def _is_judged(self, digest: Digest) -> bool:
        return self._kinds[digest].is_image or self._kinds[digest] is Kind.ORPHAN

    def _is_undeletable(self, manifest: Manifest, only: AbstractSet[Digest] | None) -> bool:
        digest, history = manifest.digest, self._history
        if digest in history.undeletable or (only is not None and digest not in only):
            return True
        return history.has_immutable_tags and not history.lost_tags.get(digest, frozenset()) >= {*manifest.tags}


def newest_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return ``manifests`` by upload time, an unknown one before all, the smaller digest first among equals."""
    ordered = sorted(manifests, key=lambda manifest: manifest.digest)
    # Two sorts by what is there anyway: one by pairs would make a hundred thousand of them.
    ordered.sort(key=lambda manifest: manifest.uploaded or _END_OF_TIME, reverse=True)
    return ordered


def _own_reason(
    manifest: Manifest,
    kind: Kind,
    policy: Policy,
    now: datetime,
    newest: AbstractSet[Digest],
    running: Mapping[Digest, str],
    *,
    is_pushed: bool,
) -> Reason | None:
    """Return the first rule that keeps ``manifest`` for its own sake, or None."""
    if not manifest.has_known_type:
        return Reason.UNKNOWN_TYPE
    if manifest.uploaded is None:
        return Reason.UNKNOWN_AGE
    if now - manifest.uploaded < policy.min_age:
        return Reason.TOO_YOUNG
    if is_pushed:
        return Reason.JUST_PUSHED
    if manifest.digest in running:
        return Reason.RUNNING
    if any(_matches(policy.protect_tags, tag) for tag in manifest.tags):
        return Reason.PROTECTED_TAG
    # An orphan has no image to follow, so its cosign tags are judged like an image's.
    if (kind.is_image or kind is Kind.ORPHAN) and _has_other_tag(manifest, policy):
        return Reason.TAGGED
    if manifest.digest in newest:
        return Reason.NEWEST
    return None


def _has_other_tag(manifest: Manifest, policy: Policy) -> bool:
    """Whether a tag of ``manifest`` is none that ``delete_tags`` lets go, or may be."""
    return manifest.has_unnamed_tags or not all(_matches(policy.delete_tags, tag) for tag in manifest.tags)


def _matches(patterns: Iterable[Pattern], tag: Tag) -> bool:
    return any(pattern.fullmatch(tag) for pattern in patterns)


def _newest(
    graph: Graph, kinds: Mapping[Digest, Kind], policy: Policy, now: datetime, untagged_before: AbstractSet[Digest]
) -> set[Digest]:
    """Return the images that are among the newest of a pool and not yet ``max_age`` old.

    ``kinds`` has those that are there: what was deleted takes no place.  An untagged image that was none in the
    listing before may be a part of an image that another process deletes.
    """
    groups: dict[tuple[str | None, ...], list[Manifest]] = {}
    untagged: list[Manifest] = []
    newest: list[Manifest] = []
    for digest, kind in kinds.items():
        manifest = graph.listing.manifests[digest]
        if manifest.uploaded is None:
            continue
        if kind is Kind.TAGGED_IMAGE:
            for group in _groups(manifest, policy.group_by):
                groups.setdefault(group, []).append(manifest)
        elif kind is Kind.UNTAGGED_IMAGE and now - manifest.uploaded >= policy.min_age:
            (untagged if digest in untagged_before else newest).append(manifest)
    if not policy.keep_untagged:
        newest.clear()
    newest += newest_first(untagged)[: policy.keep_untagged]
    for pool in groups.values():
        newest += _newest_of(pool, policy.keep, graph.parents)
    return {manifest.digest for manifest in newest if not _is_retired(manifest, policy, now)}


def _is_retired(manifest: Manifest, policy: Policy, now: datetime) -> bool:
    """Whether an image is ``max_age`` old, so that to be among the newest keeps it no longer."""
    return policy.max_age is not None and manifest.uploaded is not None and now - manifest.uploaded >= policy.max_age


def _groups(manifest: Manifest, group_by: Pattern | None) -> set[tuple[str | None, ...]]:
    """Return what ``group_by`` captured of the image's tags; the empty tuple where none matches."""
    if group_by is None:
        return {()}
    matches = (group_by.fullmatch(tag) for tag in manifest.tags)
    return {match.groups() for match in matches if match} or {()}


def _newest_of(pool: list[Manifest], count: int, not_counted: Container[Digest]) -> list[Manifest]:
    """Return the ``count`` newest of ``pool``, and with them each of ``not_counted`` that is as new.

    A child with a tag of its own is an image too; it takes no other image's place.
    """
    newest = []
    for manifest in newest_first(pool):
        if count == 0:
            break
        newest.append(manifest)
        if manifest.digest not in not_counted:
            count -= 1
    return newest


def _running(graph: Graph, running: Running) -> dict[Digest, str]:
    """Return each manifest that is deployed, or lists one that is, with who runs it."""
    by: dict[Digest, str] = {}
    for digest, manifest in graph.listing.manifests.items():
        names = [running.digests.get(digest), *(running.tags.get(tag) for tag in manifest.tags)]
        who = next(filter(None, names), None)
        if who is not None:
            by[digest] = who
    # Of several who run its children an index names the first by name, whatever the order of the listing.
    pending = sorted(by, key=lambda digest: (by[digest], digest), reverse=True)
    while pending:
        digest = pending.pop()
        for index in graph.parents.get(digest, ()):
            if index not in by:
                by[index] = by[digest]
                pending.append(index)
    return by
