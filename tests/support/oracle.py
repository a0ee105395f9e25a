"""What may go, read from the README's text alone: slow, plain, and without a line of the product's.

A repository's state and a policy document go in; a reason for every manifest comes out.  Nothing here knows how the
product does it; where the text can be read in two ways, this takes the reading that deletes less.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.emulator.store import Manifest

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
KNOWN_TYPES: Final = frozenset({DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX})
INDEX_TYPES: Final = frozenset({DOCKER_LIST, OCI_INDEX})
OCI_TYPES: Final = frozenset({OCI_MANIFEST, OCI_INDEX})

TAGGED: Final = "image, tagged"
UNTAGGED: Final = "image, untagged"
CHILD: Final = "child"
REFERRER: Final = "referrer"
ORPHAN: Final = "orphan"
IMAGES: Final = frozenset({TAGGED, UNTAGGED})

GOING: Final = frozenset({"expired", "follows", "orphan"})

_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_COSIGN: Final = re.compile(r"sha256-([0-9a-f]{64})(\..+)?")


@dataclass(frozen=True, slots=True)
class Held:
    """One manifest of a repository's state.  ``uploaded`` is as the registry keeps it, nonsense included."""

    digest: str
    media_type: str
    tags: frozenset[str]
    uploaded: int | str | None
    body: bytes

    @classmethod
    def of(cls, manifest: Manifest) -> Held:
        return cls(
            manifest.digest, manifest.media_type, frozenset(manifest.tags), manifest.uploaded_ms, manifest.body
        )


@lru_cache(maxsize=100_000)
def children_of(media_type: str, body: bytes) -> tuple[str, ...] | None:
    """The digests that an index lists; None for an index without a list of entries."""
    if media_type not in INDEX_TYPES:
        return ()
    try:
        return tuple(entry["digest"] for entry in json.loads(body)["manifests"])
    except (ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=100_000)
def document_subject(media_type: str, body: bytes) -> str | None:
    """The ``subject`` of an OCI manifest's or index's document."""
    if media_type not in OCI_TYPES:
        return None
    try:
        subject = json.loads(body).get("subject")
    except (ValueError, AttributeError):
        return None
    return subject["digest"] if isinstance(subject, dict) else None


def cosign_subject(held: Held, tag: str) -> str | None:
    """The subject that a cosign tag names; None for an ordinary tag."""
    match = _COSIGN.fullmatch(tag) if held.media_type in OCI_TYPES else None
    return f"sha256:{match[1]}" if match else None


def milliseconds(duration: str) -> int:
    return sum(int(number) * _MS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", duration))


def upload_time(value: int | str | None) -> int | None:
    """When it was uploaded, in ms; None if that is not known."""
    try:
        number = int(value) if value is not None else 0
    except ValueError:
        return None
    return number if number > 0 else None


class Reading:
    """What each manifest of a state is, and what it needs.

    ``is_nonsense``: a manifest matches its digest and makes no sense, so nothing at all may go.
    """

    def __init__(self, state: Iterable[Held]) -> None:
        self.held = {one.digest: one for one in state}
        self.is_nonsense = False
        self.children: dict[str, set[str]] = {}
        self.parents: dict[str, set[str]] = {digest: set() for digest in self.held}
        self.referrers: dict[str, set[str]] = {digest: set() for digest in self.held}
        self.subjects: dict[str, set[str]] = {}
        self.names_subject: dict[str, set[str]] = {}
        for digest, one in self.held.items():
            listed = children_of(one.media_type, one.body)
            self.is_nonsense = self.is_nonsense or listed is None
            self.children[digest] = {child for child in listed or () if child in self.held}
            for child in self.children[digest]:
                self.parents[child].add(digest)
        for digest, one in self.held.items():
            named = {subject for tag in one.tags if (subject := cosign_subject(one, tag))}
            # A child follows its indexes, so it is not read for a subject, nor is what has a tag.
            is_read = one.media_type == OCI_INDEX or (not one.tags and not self.parents[digest])
            subject = document_subject(one.media_type, one.body) if is_read else None
            if subject:
                named.add(subject)
            self.names_subject[digest] = named
            self.subjects[digest] = {one for one in named if one in self.held}
            for subject in self.subjects[digest]:
                self.referrers[subject].add(digest)
        self.kinds = {digest: self._kind(one) for digest, one in self.held.items()}

    def _kind(self, one: Held) -> str:
        if any(cosign_subject(one, tag) is None for tag in one.tags):
            return TAGGED
        if self.parents[one.digest]:
            return CHILD
        if self.subjects[one.digest]:
            return REFERRER
        if self.names_subject[one.digest]:
            return ORPHAN
        return UNTAGGED

    def needs(self, digest: str) -> set[str]:
        return self.children[digest] | self.referrers[digest] | self.subjects[digest]

    def belonging(self, digest: str) -> set[str]:
        return self.children[digest] | self.referrers[digest]

    def owners(self, digest: str) -> set[str]:
        return self.parents[digest] | self.subjects[digest]

    def reach(self, start: Iterable[str], step: Callable[[str], set[str]]) -> set[str]:
        """``start``, as far as it is here, and whatever ``step`` leads to from there."""
        reached = {digest for digest in start if digest in self.held}
        pending = list(reached)
        while pending:
            fresh = step(pending.pop()) - reached
            reached |= fresh
            pending += fresh
        return reached

    def closure(self, start: Iterable[str]) -> set[str]:
        """What stays when ``start`` stays."""
        return self.reach(start, self.needs)

    def dependents(self, digest: str) -> set[str]:
        """``digest`` and whatever cannot stay without it."""
        return self.reach({digest}, lambda one: {other for other in self.held if one in self.needs(other)})

    def blocked_behind(self, digest: str, subject: str) -> set[str]:
        """``subject`` and those above it, which the registry deletes only behind ``digest`` or what that lists."""
        for start in (digest, *sorted(self.children[digest])):
            above: list[str] = []
            one = start
            while one in self.held and one not in above:
                above.append(one)
                one = document_subject(self.held[one].media_type, self.held[one].body) or ""
            if subject in above[1:]:
                return set(above[above.index(subject) :])
        return set()

    def blockers(self, digest: str) -> set[str]:
        """For whose sake the registry refuses to delete ``digest``: indexes, and whatever names it as subject."""
        by_subject = {
            other for other, one in self.held.items() if document_subject(one.media_type, one.body) == digest
        }
        return (self.parents[digest] | by_subject) - {digest}


def decide(
    state: Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    placeless: Iterable[str] = (),
) -> dict[str, str]:
    """A reason for every manifest of the state; those in ``GOING`` go.  ``max_deletions`` counts as null.

    ``placeless`` are images that a process has left without tags: they take no other's place among the newest.
    """
    return _Judgement(Reading(state), policy, now_ms, frozenset(just_pushed), frozenset(placeless)).reasons()


def may_go(
    state: Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    placeless: Iterable[str] = (),
) -> frozenset[str]:
    """The manifests that a run on this state may delete, ``max_deletions`` aside; none if a manifest is nonsense."""
    state = tuple(state)
    if Reading(state).is_nonsense:
        return frozenset()
    reasons = decide(state, policy, now_ms, just_pushed=just_pushed, placeless=placeless)
    return frozenset(digest for digest, reason in reasons.items() if reason in GOING)


def left_to_go(
    state: Iterable[Held], policy: Mapping[str, object], now_ms: int, *, placeless: Iterable[str] = ()
) -> frozenset[str]:
    """What a run on this state would delete, and the registry would let it.

    The registry refuses what something that stays refers to; that stays then, and so does what belongs to it.  With
    ``max_deletions``, images and orphans that only go together, and are more than that, stay.
    """
    state = tuple(state)
    going = set(may_go(state, policy, now_ms, placeless=placeless))
    if not going:
        return frozenset()
    reading = Reading(state)
    limit = policy.get("max_deletions")
    if limit is not None:
        counted = {digest for digest in going if reading.kinds[digest] in IMAGES | {ORPHAN}}
        held_up = {one for one in counted if len(reading.dependents(one) & counted) > _integer(limit, 0)}
        going -= reading.closure(held_up)
    blockers = {digest: reading.blockers(digest) for digest in going}
    while True:
        stuck = {
            digest
            for digest in going
            # An owner that was to go and is stuck, too, holds what belongs to it.
            if not blockers[digest] <= going or not reading.owners(digest) - {digest} <= going
        }
        if not stuck:
            return frozenset(going)
        going -= stuck


class _Judgement:
    def __init__(
        self,
        reading: Reading,
        policy: Mapping[str, object],
        now_ms: int,
        just_pushed: frozenset[str],
        placeless: frozenset[str],
    ) -> None:
        self._reading = reading
        self._now = now_ms
        self._just_pushed = just_pushed
        self._placeless = placeless
        self._keep = _integer(policy.get("keep"), 5)
        self._keep_untagged = _integer(policy.get("keep_untagged"), self._keep)
        self._min_age = milliseconds(str(policy.get("min_age", "1h")))
        max_age = policy.get("max_age")
        self._max_age = None if max_age is None else milliseconds(str(max_age))
        self._delete = [re.compile(str(one)) for one in _list(policy.get("delete_tags"))]
        self._protect = [re.compile(str(one)) for one in _list(policy.get("protect_tags"))]
        group_by = policy.get("group_by")
        self._group_by = None if group_by is None else re.compile(str(group_by))

    def reasons(self) -> dict[str, str]:
        reading = self._reading
        newest = self._newest()
        kept: dict[str, str] = {}
        for digest in reading.held:
            reason = self._own(digest, newest)
            if reason:
                kept[digest] = reason
        self._needed(kept, set(kept))
        judged = {digest for digest, kind in reading.kinds.items() if kind in IMAGES or kind == ORPHAN}
        hanging = reading.reach(judged, reading.belonging)
        # What is left hangs only on one another.
        self._needed(kept, set(reading.held) - hanging)
        return {digest: kept.get(digest) or self._going(digest) for digest in reading.held}

    def _going(self, digest: str) -> str:
        kind = self._reading.kinds[digest]
        if kind in IMAGES:
            return "expired"
        return "orphan" if kind == ORPHAN else "follows"

    def _needed(self, kept: dict[str, str], start: set[str]) -> None:
        for digest in self._reading.closure(start):
            kept.setdefault(digest, "needed")

    def _age(self, digest: str) -> int | None:
        uploaded = upload_time(self._reading.held[digest].uploaded)
        return None if uploaded is None else self._now - uploaded

    def _is_young(self, digest: str) -> bool:
        age = self._age(digest)
        return age is not None and age < self._min_age

    def _own(self, digest: str, newest: set[str]) -> str | None:
        one, kind = self._reading.held[digest], self._reading.kinds[digest]
        if one.media_type not in KNOWN_TYPES:
            return "unknown-type"
        if self._age(digest) is None:
            return "unknown-age"
        if self._is_young(digest):
            return "too-young"
        if digest in self._just_pushed:
            return "just-pushed"
        if any(pattern.fullmatch(tag) for tag in one.tags for pattern in self._protect):
            return "protected-tag"
        spared = any(not any(pattern.fullmatch(tag) for pattern in self._delete) for tag in one.tags)
        if spared and (kind in IMAGES or kind == ORPHAN):
            return "tagged"
        return "newest" if digest in newest else None

    def _newest(self) -> set[str]:
        kinds = self._reading.kinds
        untagged = [one for one, kind in kinds.items() if kind == UNTAGGED and not self._is_young(one)]
        newest = self._first(untagged, self._keep_untagged)
        pools: dict[object, list[str]] = {}
        for digest, kind in kinds.items():
            if kind == TAGGED:
                for group in self._groups(digest):
                    pools.setdefault(group, []).append(digest)
        for pool in pools.values():
            newest |= self._first(pool, self._keep)
        return newest

    def _groups(self, digest: str) -> set[object]:
        if self._group_by is None:
            return {None}
        # Every tag of a tagged image counts, a cosign tag too: the image is in one more group that may keep it.
        tags = self._reading.held[digest].tags
        matches = [match for tag in tags if (match := self._group_by.fullmatch(tag))]
        return {match.groups() for match in matches} or {None}

    def _first(self, pool: list[str], count: int) -> set[str]:
        """The newest ``count`` of a pool, as far as ``max_age`` lets them count as such."""
        known = [digest for digest in pool if self._age(digest) is not None]
        known.sort(key=lambda digest: (self._age(digest) or 0, digest))
        first: set[str] = set()
        for digest in known:
            if count == 0:
                break
            if self._max_age is None or (self._age(digest) or 0) < self._max_age:
                first.add(digest)
            # A child that has a tag is judged, but children never count.
            count -= not self._reading.parents[digest] and digest not in self._placeless
        return first


def _integer(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
