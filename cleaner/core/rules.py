"""The rules that keep a manifest for its own sake, in their order, and what they read.

A plan takes the first that keeps; an explanation shows what each of them says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence, Set as AbstractSet
from datetime import datetime
from enum import Enum

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Manifest, newest_first
from cleaner.core.policy import Captures, Policy, Rule
from cleaner.core.reference import Digest, Tag
from cleaner.core.version import version_key


class Reason(Enum):
    """Why a manifest is kept or deleted; of several that apply, the first in this order is given."""

    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_AGE = "unknown-age"
    TOO_YOUNG = "too-young"
    JUST_PUSHED = "just-pushed"
    RUNNING = "running"
    UNMATCHED = "unmatched"
    PROTECTED = "protected"
    NEWEST = "newest"
    RECENT = "recent"
    NEEDED = "needed"
    OVER_LIMIT = "over-limit"

    EXPIRED = "expired"
    FOLLOWS = "follows"
    ORPHANED = "orphaned"


class Running(msgspec.Struct, frozen=True):
    """What is deployed, as far as it concerns one repository: digest or tag to who runs it."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[Tag, str] = msgspec.field(default_factory=dict)

    def runner_of(self, manifest: Manifest) -> str | None:
        """Return who runs ``manifest``, by its digest or else by the first of its tags; None if nobody does."""
        names = (self.digests.get(manifest.digest), *(self.tags.get(tag) for tag in manifest.tags))
        return next(filter(None, names), None)


NOTHING_RUNNING = Running()

UNTAGGED = "untagged"
ORPHANS = "orphans"

# A rule's name, as in a ``Place``, and what its groups captured.
_Pool = tuple[int | str, Captures]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an image or orphan stands in one pool of a rule.

    ``rule`` is the rule's position in ``tagged``, or ``UNTAGGED`` or ``ORPHANS``.  ``pool`` is what the rule's groups
    captured; of untagged images, their kind of content.  ``rank`` counts from 1, the newest first.  ``reason`` is why
    the rule keeps it; None if it does not.
    """

    rule: int | str
    pool: Captures
    rank: int
    reason: Reason | None


class Facts(msgspec.Struct, frozen=True):
    """What the rules read beside the manifest itself; ``at`` is the time for which they hold, aware UTC.

    ``places`` has those of each image and orphan whose age is known, in the order of its tags, and ``unmatched`` are
    the images that have a tag that no rule matches, or may have one.  ``running`` says by whom a manifest, or one
    that it lists, is deployed; ``pushed`` are digests that were pushed, or have a tag that was.
    """

    policy: Policy
    at: datetime
    places: Mapping[Digest, Collection[Place]]
    unmatched: Collection[Digest]
    running: Mapping[Digest, str]
    pushed: AbstractSet[Digest] = frozenset()

    def place_for(self, digest: Digest, reason: Reason | None) -> Place | None:
        """Return the first place for which the manifest is kept for ``reason``, or, for None, is not kept."""
        for place in self.places.get(digest, ()):
            if place.reason is reason:
                return place
        return None


# Returns the digests of those of some manifests that a rule keeps; it may return others of the listing as well.
_Keeps = Callable[[Facts, Collection[Manifest]], Iterable[Digest]]


def _young(facts: Facts, manifests: Collection[Manifest]) -> Iterable[Digest]:
    is_young, now = facts.policy.is_young, facts.at
    return (one.digest for one in manifests if one.uploaded is not None and is_young(one.uploaded, now))


def _kept_for(reason: Reason) -> tuple[Reason, _Keeps]:
    return reason, lambda facts, _: (digest for digest in facts.places if facts.place_for(digest, reason))


RULES: tuple[tuple[Reason, _Keeps], ...] = (
    (Reason.UNKNOWN_TYPE, lambda _, manifests: (one.digest for one in manifests if not one.has_known_type)),
    (Reason.UNKNOWN_AGE, lambda _, manifests: (one.digest for one in manifests if one.uploaded is None)),
    (Reason.TOO_YOUNG, _young),
    (Reason.JUST_PUSHED, lambda facts, _: facts.pushed),
    (Reason.RUNNING, lambda facts, _: facts.running),
    (Reason.UNMATCHED, lambda facts, _: facts.unmatched),
    _kept_for(Reason.PROTECTED),
    _kept_for(Reason.NEWEST),
    _kept_for(Reason.RECENT),
)
"""What is needed, and what a limit keeps, depends on the rest of the plan."""


def kept_by_rules(facts: Facts, manifests: Collection[Manifest]) -> dict[Digest, Reason]:
    """Return what the rules keep of ``manifests`` for its own sake, with the reason of the first rule that does."""
    kept: dict[Digest, Reason] = {}
    for reason, keeps in reversed(RULES):
        kept.update(dict.fromkeys(keeps(facts, manifests), reason))
    return kept


def find_places(
    graph: Graph,
    by_kind: Mapping[Kind, Iterable[Manifest]],
    policy: Policy,
    now: datetime,
    untagged_before: AbstractSet[Digest] | None = None,
    deleted: Container[Digest] = frozenset(),
) -> tuple[Mapping[Digest, Collection[Place]], Collection[Digest]]:
    """Return the ``places`` and the ``unmatched`` of a listing, as in ``Facts``.

    What is ``deleted`` has no place.  ``untagged_before`` are the untagged images of an earlier listing; what was
    none there may be a part of an image that another process deletes, so it takes no place and is kept among the
    newest.  None stands for an earlier listing that agrees with this one.
    """
    pools, unmatched = _pools(by_kind, policy, now, deleted)
    found: dict[Digest, list[Place]] = {}
    for (name, captures), members in pools.items():
        rule = rule_named(policy, name)
        rank = 1
        for manifest in _in_order(rule, members, graph):
            is_new = name == UNTAGGED and untagged_before is not None and manifest.digest not in untagged_before
            reason = _reason_to_keep(rule, 1 if is_new else rank, manifest, now)
            found.setdefault(manifest.digest, []).append(Place(name, captures, rank, reason))
            rank += not is_new and _takes_place(graph, rule, manifest, now)
    for digest, places in found.items():
        if len(places) > 1:
            places.sort(key=lambda place: pools[place.rule, place.pool][digest][0])
    return found, unmatched


def _pools(
    by_kind: Mapping[Kind, Iterable[Manifest]], policy: Policy, now: datetime, deleted: Container[Digest]
) -> tuple[Mapping[_Pool, Mapping[Digest, Sequence[Tag]]], Collection[Digest]]:
    """Return the members of each pool, and the images that have a tag that no rule matches, or may have one.

    A member has the tags for which it is in the pool; an empty one if it has none.
    """
    pools: dict[_Pool, dict[Digest, list[Tag]]] = {}
    unmatched: list[Digest] = []

    def add(manifest: Manifest, pool: _Pool, tag: Tag) -> None:
        if manifest.uploaded is not None and manifest.digest not in deleted:
            pools.setdefault(pool, {}).setdefault(manifest.digest, []).append(tag)

    for manifest in by_kind[Kind.TAGGED_IMAGE]:
        is_matched = not manifest.has_unnamed_tags
        for tag in manifest.tags:
            if pool := policy.rule_of(tag):
                add(manifest, pool, tag)
            else:
                is_matched = False
        if not is_matched:
            unmatched.append(manifest.digest)
    for manifest in by_kind[Kind.UNTAGGED_IMAGE]:
        # A younger one may be a part of an index that is still on its way.
        if manifest.uploaded is not None and not policy.is_young(manifest.uploaded, now):
            add(manifest, (UNTAGGED, (manifest.links.content,)), Tag(""))
    for manifest in by_kind[Kind.ORPHAN]:
        add(manifest, (ORPHANS, ()), Tag(""))
    return pools, unmatched


def rule_named(policy: Policy, name: int | str) -> Rule:
    """Return the rule of a policy by its name in a ``Place``."""
    if isinstance(name, int):
        return policy.tagged[name]
    return policy.untagged if name == UNTAGGED else policy.orphans


def _in_order(rule: Rule, members: Mapping[Digest, Collection[Tag]], graph: Graph) -> list[Manifest]:
    """Return the members of a pool, the newest first; ``members`` has the tags by which each is in it."""
    ordered = newest_first(graph.listing.manifests[digest] for digest in members)
    if rule.order == "version":
        ordered.sort(key=lambda manifest: max(map(version_key, members[manifest.digest])), reverse=True)
    return ordered


def _reason_to_keep(rule: Rule, rank: int, manifest: Manifest, now: datetime) -> Reason | None:
    """Return why a rule keeps what has this rank in its pool; None if it does not."""
    if manifest.uploaded is None or rule.is_retired(manifest.uploaded, now):
        return None
    if rule.keep is None:
        return Reason.PROTECTED
    if rank <= rule.keep:
        return Reason.NEWEST
    return Reason.RECENT if rule.is_recent(manifest.uploaded, now) else None


def _takes_place(graph: Graph, rule: Rule, manifest: Manifest, now: datetime) -> bool:
    """Return whether ``manifest`` counts in ``keep`` of its pool."""
    # A child that has a tag of its own is kept by its index.
    if manifest.digest in graph.parents or not manifest.has_known_type or graph.lists_only_absent(manifest):
        return False
    return manifest.uploaded is not None and not rule.is_retired(manifest.uploaded, now)


def runners(graph: Graph, running: Running) -> dict[Digest, str]:
    """Return each manifest that is deployed, or lists one that is, with who runs it."""
    by: dict[Digest, str] = {}
    if not (running.digests or running.tags):
        return by
    for digest, manifest in graph.listing.manifests.items():
        who = running.runner_of(manifest)
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
