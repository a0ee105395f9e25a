"""The rules that keep a manifest for its own sake, in their order, and what they read.

A plan takes the first that keeps; an explanation shows what each of them says.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Manifest
from cleaner.core.policy import Pattern, Policy
from cleaner.core.reference import Digest, Tag

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

# What ``group_by`` captured of a tag: the images with the same one are a pool.
Group = tuple[str | None, ...]


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


class Running(msgspec.Struct, frozen=True):
    """What is deployed, as far as it concerns one repository: digest or tag to who runs it."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[Tag, str] = msgspec.field(default_factory=dict)

    def runner_of(self, manifest: Manifest) -> str | None:
        """Return who runs ``manifest``, by its digest or else by the first of its tags; None if nobody does."""
        names = (self.digests.get(manifest.digest), *(self.tags.get(tag) for tag in manifest.tags))
        return next(filter(None, names), None)


NOTHING_RUNNING = Running()


class Facts(msgspec.Struct, frozen=True):
    """What the rules read beside the manifest itself; ``at`` is the time for which they hold, aware UTC.

    ``newest`` are the images that are among the newest of a pool; ``running`` says by whom a manifest, or one that it
    lists, is deployed; ``pushed`` and ``named_tags`` are digests and tags that were pushed.
    """

    policy: Policy
    at: datetime
    kinds: Mapping[Digest, Kind]
    newest: AbstractSet[Digest]
    running: Mapping[Digest, str]
    pushed: AbstractSet[Digest] = frozenset()
    named_tags: AbstractSet[Tag] = frozenset()


def _is_young(facts: Facts, manifest: Manifest) -> bool:
    return manifest.uploaded is not None and facts.at - manifest.uploaded < facts.policy.min_age


def _is_pushed(facts: Facts, manifest: Manifest) -> bool:
    return manifest.digest in facts.pushed or not facts.named_tags.isdisjoint(manifest.tags)


def _is_protected(facts: Facts, manifest: Manifest) -> bool:
    return any(_matches(facts.policy.protect_tags, tag) for tag in manifest.tags)


def _has_other_tag(facts: Facts, manifest: Manifest) -> bool:
    """Return whether a tag of an image is not matched by ``delete_tags``, or may not be.

    An orphan has no image to follow, so its cosign tags are judged like an image's.
    """
    if not facts.kinds[manifest.digest].is_judged:
        return False
    return manifest.has_unnamed_tags or not all(_matches(facts.policy.delete_tags, tag) for tag in manifest.tags)


RULES: tuple[tuple[Reason, Callable[[Facts, Manifest], bool]], ...] = (
    (Reason.UNKNOWN_TYPE, lambda _, manifest: not manifest.has_known_type),
    (Reason.UNKNOWN_AGE, lambda _, manifest: manifest.uploaded is None),
    (Reason.TOO_YOUNG, _is_young),
    (Reason.JUST_PUSHED, _is_pushed),
    (Reason.RUNNING, lambda facts, manifest: manifest.digest in facts.running),
    (Reason.PROTECTED_TAG, _is_protected),
    (Reason.TAGGED, _has_other_tag),
    (Reason.NEWEST, lambda facts, manifest: manifest.digest in facts.newest),
)
"""What is needed, and what a limit keeps, depends on the rest of the plan."""


def first_reason(facts: Facts, manifest: Manifest) -> Reason | None:
    """Return the reason of the first rule that keeps ``manifest`` for its own sake; None if no rule does."""
    for reason, keeps in RULES:
        if keeps(facts, manifest):
            return reason
    return None


def newest_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return ``manifests`` by upload time, an unknown one before all, the smaller digest first among equals."""
    ordered = sorted(manifests, key=lambda manifest: manifest.digest)
    # Two sorts by what is there anyway: one by pairs would make a hundred thousand of them.
    ordered.sort(key=lambda manifest: manifest.uploaded or _END_OF_TIME, reverse=True)
    return ordered


def _matches(patterns: Iterable[Pattern], tag: Tag) -> bool:
    return any(pattern.fullmatch(tag) for pattern in patterns)


def newest_of_pools(
    graph: Graph, kinds: Mapping[Digest, Kind], policy: Policy, now: datetime, untagged_before: AbstractSet[Digest]
) -> set[Digest]:
    """Return the images that are among the newest of a pool and not yet ``max_age`` old.

    ``kinds`` has those that are there: what was deleted takes no place.  An untagged image that was none in the
    listing before may be a part of an image that another process deletes.
    """
    tagged: dict[Group, list[Manifest]] = {}
    untagged: list[Manifest] = []
    newest: list[Manifest] = []
    for digest, kind in kinds.items():
        manifest = graph.listing.manifests[digest]
        if manifest.uploaded is None:
            continue
        if kind is Kind.TAGGED_IMAGE:
            for group in groups(manifest, policy.group_by):
                tagged.setdefault(group, []).append(manifest)
        elif kind is Kind.UNTAGGED_IMAGE and now - manifest.uploaded >= policy.min_age:
            (untagged if digest in untagged_before else newest).append(manifest)
    if not policy.keep_untagged:
        newest.clear()
    newest += newest_first(untagged)[: policy.keep_untagged]
    for pool in tagged.values():
        newest += _newest_of(pool, policy.keep, graph.parents)
    return {manifest.digest for manifest in newest if not is_retired(manifest, policy, now)}


def is_retired(manifest: Manifest, policy: Policy, now: datetime) -> bool:
    """Whether an image is ``max_age`` old, so that to be among the newest keeps it no longer."""
    return policy.max_age is not None and manifest.uploaded is not None and now - manifest.uploaded >= policy.max_age


def groups(manifest: Manifest, group_by: Pattern | None) -> tuple[Group, ...]:
    """Return the groups of a tagged image, each once, in the order of its tags; ``((),)`` if no tag matches."""
    if group_by is None:
        return ((),)
    matches = (group_by.fullmatch(tag) for tag in manifest.tags)
    return tuple(dict.fromkeys(match.groups() for match in matches if match)) or ((),)


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


def runners(graph: Graph, running: Running) -> dict[Digest, str]:
    """Return each manifest that is deployed, or lists one that is, with who runs it."""
    by: dict[Digest, str] = {}
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
