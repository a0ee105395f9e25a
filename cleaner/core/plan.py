"""What stays and what goes, with one reason for every manifest.

A function of values: the same listing, policy and clock give the same plan, whatever the order of the listing.
Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum
from heapq import heapify, heappop, heappush

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.policy import Pattern, Policy
from cleaner.core.reference import Digest, Repository, Tag


class Reason(Enum):
    """Why a manifest stays or goes; of several that hold, the first in this order is given."""

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


_GOING = {Kind.TAGGED_IMAGE: Reason.EXPIRED, Kind.UNTAGGED_IMAGE: Reason.EXPIRED, Kind.ORPHAN: Reason.ORPHAN}
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class Running(msgspec.Struct, frozen=True):
    """What is deployed, as far as it concerns one repository: digest or tag to who runs it."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[Tag, str] = msgspec.field(default_factory=dict)


NOTHING_RUNNING = Running()


class Verdict(msgspec.Struct, frozen=True):
    """One manifest and why it stays or goes; ``detail`` says who runs it, where that is the reason."""

    manifest: Manifest
    reason: Reason
    detail: str = ""

    def facts(self) -> dict[str, object]:
        """Return it as the fields of a log line."""
        facts: dict[str, object] = {
            "digest": self.manifest.digest,
            "tags": self.manifest.tags,
            "reason": self.reason.value,
            "uploaded": self.manifest.uploaded,
        }
        return facts | {"running": self.detail} if self.detail else facts


class Deletion(msgspec.Struct, frozen=True):
    """One manifest that goes, and what has to be true before.

    ``after`` are those of the plan that go first, ``subjects`` its subjects among them; ``needs`` those that would
    have to stay with this one; ``absent`` the subjects that the registry has to call unknown.  ``may_be_subject``:
    others of the plan refer to it, or may, for whose sake the registry may refuse.  ``is_crowded_out``: newer
    untagged images have its place, of which some may only be untagged because another process has begun to delete
    them.
    """

    verdict: Verdict
    after: tuple[Digest, ...] = ()
    subjects: tuple[Digest, ...] = ()
    needs: tuple[Digest, ...] = ()
    absent: tuple[Digest, ...] = ()
    may_be_subject: bool = False
    is_crowded_out: bool = False

    @property
    def manifest(self) -> Manifest:
        """What goes."""
        return self.verdict.manifest

    @property
    def counts(self) -> bool:
        """Whether it counts in ``max_deletions``: an image or an orphan."""
        return self.verdict.reason is not Reason.FOLLOWS


class Plan(msgspec.Struct, frozen=True):
    """A verdict for every manifest of a listing; both parts newest first."""

    repository: Repository
    keep: tuple[Verdict, ...]
    delete: tuple[Deletion, ...]


def plan(
    listing: Listing,
    policy: Policy,
    now: datetime,
    *,
    just_pushed: AbstractSet[Digest] = frozenset(),
    running: Running = NOTHING_RUNNING,
    already_deleted: int = 0,
    passed_over: AbstractSet[Digest] = frozenset(),
    stripped: AbstractSet[Digest] = frozenset(),
) -> Plan:
    """Return what stays of ``listing`` and what goes, under ``policy`` at ``now``.

    ``just_pushed`` are the digests that messages of this run name; ``already_deleted`` is how many images and
    orphans this run has deleted before, which count in ``max_deletions``; ``passed_over`` are those that it could not
    delete, which must not take the place of others there.  ``stripped`` are those that have lost their tags to an
    earlier plan and not gone yet: they take no other's place among the newest untagged.
    """
    graph = Graph.of(listing)
    kinds = {digest: graph.kind(manifest) for digest, manifest in listing.manifests.items()}
    running_by = _running(graph, running)
    newest = _newest(graph, kinds, policy, now, stripped)
    kept: dict[Digest, Reason] = {}
    for digest, manifest in listing.manifests.items():
        reason = _own_reason(manifest, kinds[digest], policy, now, newest, just_pushed, running_by)
        if reason:
            kept[digest] = reason
    _keep_needed(kept, graph, kept)

    judged = [digest for digest, kind in kinds.items() if kind.is_image or kind is Kind.ORPHAN]
    attached = graph.belongings(judged)
    # What is left hangs on nothing but itself: a loop that somebody's cosign tags made.
    _keep_needed(kept, graph, [digest for digest in kinds if digest not in attached])

    if policy.max_deletions is not None:
        left = max(policy.max_deletions - already_deleted, 0)
        undecided = [digest for digest in judged if digest not in kept]
        staying = {*kept, *graph.closure(digest for digest in undecided if digest in passed_over)}
        candidates = [listing.manifests[digest] for digest in undecided if digest not in staying]
        chosen = _oldest(candidates, left, graph, {digest: None for digest in kinds if digest not in staying}.keys())
        _keep_over_limit(kept, graph, [digest for digest in undecided if digest not in chosen])

    by_age = newest_first(listing.manifests.values())
    remaining = (manifest for manifest in by_age if manifest.digest in kept)
    return Plan(
        repository=listing.repository,
        keep=tuple(_kept_verdict(manifest, kept[manifest.digest], running_by) for manifest in remaining),
        delete=_deletions(
            graph, kinds, [manifest for manifest in by_age if manifest.digest not in kept], policy, now
        ),
    )


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
    just_pushed: AbstractSet[Digest],
    running: Mapping[Digest, str],
) -> Reason | None:
    """Return the first rule that keeps ``manifest`` for its own sake, or None."""
    if not manifest.has_known_type:
        return Reason.UNKNOWN_TYPE
    if manifest.uploaded is None:
        return Reason.UNKNOWN_AGE
    if now - manifest.uploaded < policy.min_age:
        return Reason.TOO_YOUNG
    if manifest.digest in just_pushed:
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
    graph: Graph,
    kinds: Mapping[Digest, Kind],
    policy: Policy,
    now: datetime,
    stripped: AbstractSet[Digest],
) -> set[Digest]:
    """Return the images that are among the newest of a pool and not yet ``max_age`` old."""
    groups: dict[tuple[str | None, ...], list[Manifest]] = {}
    untagged: list[Manifest] = []
    for digest, manifest in graph.listing.manifests.items():
        if manifest.uploaded is None:
            continue
        if kinds[digest] is Kind.TAGGED_IMAGE:
            for group in _groups(manifest, policy.group_by):
                groups.setdefault(group, []).append(manifest)
        elif kinds[digest] is Kind.UNTAGGED_IMAGE and now - manifest.uploaded >= policy.min_age:
            untagged.append(manifest)
    newest = [*_first(untagged, policy.keep_untagged, stripped)]
    for pool in groups.values():
        newest += _first(pool, policy.keep, graph.parents)
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


def _first(pool: list[Manifest], count: int, placeless: Container[Digest]) -> list[Manifest]:
    """Return the ``count`` newest of ``pool``, and with them each of ``placeless`` that is as new.

    Those are a child with a tag of its own, which is an image too, and what has lost its tags to an earlier plan:
    they take no other image's place.
    """
    first = []
    for manifest in newest_first(pool):
        if count == 0:
            break
        first.append(manifest)
        if manifest.digest not in placeless:
            count -= 1
    return first


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


def _keep_needed(kept: dict[Digest, Reason], graph: Graph, start: Iterable[Digest]) -> None:
    """Add to ``kept`` what ``start`` holds and needs and has no reason yet."""
    for digest in graph.closure(start):
        kept.setdefault(digest, Reason.NEEDED)


def _keep_over_limit(kept: dict[Digest, Reason], graph: Graph, over: Iterable[Digest]) -> None:
    """Add to ``kept`` what would go but for the limit, and what that needs.

    One that another of them needs is kept for that; of those that need one another none is.
    """
    limited = dict.fromkeys(over)
    staying = graph.closure(limited)
    for group in graph.groups(staying):
        needed_by = {other for digest in group for other in graph.needed_by(digest) if other in staying}
        is_needed = not needed_by.issubset(group)
        for digest in group:
            kept.setdefault(digest, Reason.OVER_LIMIT if digest in limited and not is_needed else Reason.NEEDED)


def _oldest(candidates: list[Manifest], allowed: int, graph: Graph, going: AbstractSet[Digest]) -> set[Digest]:
    """Return at most ``allowed`` of ``candidates``, the oldest that can go; ``going`` is all that is not kept.

    What is needed by others goes only after them, and together with those that it needs itself, so what stays never
    needs what goes.
    """
    rank = {manifest.digest: at for at, manifest in enumerate(reversed(newest_first(candidates)))}
    groups = graph.groups(going)
    members = [[digest for digest in group if digest in rank] for group in groups]
    group_of = {digest: number for number, group in enumerate(groups) for digest in group}
    needs = [
        {group_of[other] for digest in group for other in graph.needs(digest) if other in going} - {number}
        for number, group in enumerate(groups)
    ]
    needed_by = Counter(other for others in needs for other in others)

    def turn(number: int) -> tuple[int, int]:
        # A group without candidates takes no place, and must not hold up what it needs.
        return min((rank[digest] for digest in members[number]), default=-1), number

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


def _kept_verdict(manifest: Manifest, reason: Reason, running_by: Mapping[Digest, str]) -> Verdict:
    return Verdict(manifest, reason, running_by.get(manifest.digest, "") if reason is Reason.RUNNING else "")


def _deletions(
    graph: Graph, kinds: Mapping[Digest, Kind], going: list[Manifest], policy: Policy, now: datetime
) -> tuple[Deletion, ...]:
    """Return how each of ``going`` goes, in its order."""
    digests = {manifest.digest: None for manifest in going}
    before = graph.predecessors(digests.keys())

    def holds(digest: Digest) -> Iterator[Digest]:
        yield from graph.needs(digest)
        # An attestation goes before what it attests, and stays with it all the same.
        owners = {*graph.owners(digest)}
        yield from (other for other in before[digest] if other not in owners)

    deletions = []
    for manifest in going:
        digest, kind = manifest.digest, kinds[manifest.digest]
        subjects = graph.subjects.get(digest, ())
        listed_by = {*graph.parents.get(digest, ())} if subjects else set()
        reason = _GOING.get(kind, Reason.FOLLOWS)
        deletions.append(
            Deletion(
                Verdict(manifest, reason),
                after=before[digest],
                subjects=tuple(one for one in subjects if one in digests and one not in listed_by),
                needs=tuple(dict.fromkeys(other for other in holds(digest) if other in digests)),
                absent=manifest.subjects if kind is Kind.ORPHAN else (),
                may_be_subject=digest in graph.referrers or digest in graph.parents,
                is_crowded_out=kind is Kind.UNTAGGED_IMAGE and _can_be_crowded_out(manifest, policy, now),
            )
        )
    return tuple(deletions)


def _can_be_crowded_out(manifest: Manifest, policy: Policy, now: datetime) -> bool:
    """Whether an untagged image would stay if there were fewer newer ones, and tagged ones become untagged to go."""
    return bool(policy.keep_untagged and policy.delete_tags) and not _is_retired(manifest, policy, now)
