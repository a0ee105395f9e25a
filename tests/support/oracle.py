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

    ``also`` are manifests whose documents are read for a subject whatever tags they have and whatever lists them;
    ``gone`` are in the state, but take no place among the newest: they were deleted, and are put back.
    ``is_nonsense``: a manifest matches its digest and is malformed, so nothing at all may be deleted.
    """

    def __init__(self, state: Iterable[Held], also: Iterable[str] = (), gone: Iterable[str] = ()) -> None:
        self.held = {one.digest: one for one in state}
        self.gone = frozenset(gone)
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
        self.read = self._read(frozenset(also))
        for digest, one in self.held.items():
            named = {subject for tag in one.tags if (subject := cosign_subject(one, tag))}
            subject = document_subject(one.media_type, one.body) if digest in self.read else None
            if subject:
                named.add(subject)
            self.names_subject[digest] = named
            self.subjects[digest] = {one for one in named if one in self.held}
            for subject in self.subjects[digest]:
                self.referrers[subject].add(digest)
        self.kinds = {digest: self._kind(one) for digest, one in self.held.items()}

    def _read(self, also: frozenset[str]) -> frozenset[str]:
        """The manifests whose documents are read for a subject.

        Those without a tag that no index lists, OCI indexes, and what a referrers index of a subject lists.
        """
        listed = {
            child for digest, one in self.held.items() if self._referrers_of(one) for child in self.children[digest]
        }
        return frozenset(
            digest
            for digest, one in self.held.items()
            if one.media_type == OCI_INDEX
            or digest in also
            or digest in listed
            or (not one.tags and not self.parents[digest])
        )

    def _referrers_of(self, one: Held) -> set[str]:
        """The subjects that are here and whose referrers index ``one`` is, by its tags."""
        if one.media_type != OCI_INDEX:
            return set()
        named = {subject for tag in one.tags if "." not in tag and (subject := cosign_subject(one, tag))}
        return named & self.held.keys()

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
        """What is kept when ``start`` is kept."""
        return self.reach(start, self.needs)

    def dependents(self, digest: str) -> set[str]:
        """``digest`` and whatever cannot be kept without it."""
        return self.reach({digest}, lambda one: {other for other in self.held if one in self.needs(other)})

    def in_loops(self) -> set[str]:
        """What belongs to itself, directly or by others."""
        return {
            digest
            for digest in self.held
            if self.owners(digest)
            and self.belonging(digest)
            and digest in self.reach(self.belonging(digest), self.belonging)
        }

    def blocking(self, subject: str) -> set[str]:
        """The referrers without which the registry deletes ``subject``: by document, and referrers indexes."""
        return {
            digest
            for digest in self.referrers[subject]
            if document_subject(self.held[digest].media_type, self.held[digest].body) == subject
            or subject in self._referrers_of(self.held[digest])
        } - {subject}

    def before(self, subject: str) -> set[str]:
        """The referrers of ``subject`` that are deleted before it: those that block it, and what blocks those."""
        return self.referrers[subject] & self.reach(self.blocking(subject), self.blocking)

    def blockers(self, digest: str) -> set[str]:
        """For whose sake the registry refuses to delete ``digest``: indexes, and whatever names it as subject."""
        by_subject = {
            other for other, one in self.held.items() if document_subject(one.media_type, one.body) == digest
        }
        return (self.parents[digest] | by_subject) - {digest}


def decide(
    state: Reading | Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    counted: Iterable[str] | None = None,
) -> dict[str, str]:
    """A reason for every manifest of the state; those in ``GOING`` go.  ``max_deletions`` counts as null.

    ``counted`` are the only untagged images that take places among the newest, and that others can take theirs
    from; None: all.
    """
    reading = state if isinstance(state, Reading) else Reading(state)
    among = None if counted is None else frozenset(counted)
    return _Judgement(reading, policy, now_ms, frozenset(just_pushed), among).reasons()


def may_go(
    state: Reading | Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    counted: Iterable[str] | None = None,
) -> frozenset[str]:
    """The manifests that a run on this state may delete, ``max_deletions`` aside; none if a manifest is nonsense."""
    reading = state if isinstance(state, Reading) else Reading(state)
    if reading.is_nonsense:
        return frozenset()
    reasons = decide(reading, policy, now_ms, just_pushed=just_pushed, counted=counted)
    return frozenset(digest for digest, reason in reasons.items() if reason in GOING)


def left_to_go(state: Iterable[Held], policy: Mapping[str, object], now_ms: int) -> frozenset[str]:
    """What a run on this state would delete, and the registry would let it.

    The registry refuses what something that stays refers to; that stays then, and so does what belongs to it.  With
    ``max_deletions``, images and orphans that only go together, and are more than that, stay.
    """
    reading = Reading(state)
    going = set(may_go(reading, policy, now_ms))
    if not going:
        return frozenset()
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
        counted: frozenset[str] | None,
    ) -> None:
        self._reading = reading
        self._now = now_ms
        self._just_pushed = just_pushed
        self._counted = counted
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
        self._needed(kept, reading.in_loops())
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
        kinds = {one: kind for one, kind in self._reading.kinds.items() if one not in self._reading.gone}
        untagged = [one for one, kind in kinds.items() if kind == UNTAGGED and not self._is_young(one)]
        among = set(untagged) if self._counted is None else self._counted.intersection(untagged)
        newest = self._first(sorted(among), self._keep_untagged)
        if self._keep_untagged:
            others = set(untagged) - among
            newest |= self._first(sorted(others), len(others))
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
            count -= not self._reading.parents[digest]
        return first


def _integer(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
