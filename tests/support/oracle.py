"""What may be deleted, read from the contract's sections 4 and 5 alone: slow, and without a line of the product's.

A repository's state and a policy document go in; a reason for every manifest comes out.  Nothing here knows how the
product does it; where the text can be read in two ways, this takes the reading that deletes less.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cmp_to_key, lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.emulator.store import Manifest

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
SCHEMA_1: Final = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
KNOWN_TYPES: Final = frozenset({DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, *SCHEMA_1})
INDEX_TYPES: Final = frozenset({DOCKER_LIST, OCI_INDEX})
OCI_TYPES: Final = frozenset({OCI_MANIFEST, OCI_INDEX})

TAGGED: Final = "image, tagged"
UNTAGGED: Final = "image, untagged"
CHILD: Final = "child"
REFERRER: Final = "referrer"
ORPHAN: Final = "orphan"
IMAGES: Final = frozenset({TAGGED, UNTAGGED})

GOING: Final = frozenset({"expired", "follows", "orphaned"})

_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_REFERRER_TAG: Final = re.compile(r"sha256-([0-9a-f]{64})(\..+)?")
_IMAGE_CONFIGS: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_IMAGE_LAYERS: Final = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")


@dataclass(frozen=True, slots=True)
class Held:
    """One manifest of a repository's state.  ``uploaded`` is as the registry keeps it, malformed or not."""

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


# What a document says.


@lru_cache(maxsize=100_000)
def descriptors(media_type: str, body: bytes) -> tuple[Mapping[str, Any], ...] | None:
    """The entries of an index; None for an index without a list of them."""
    if media_type not in INDEX_TYPES:
        return ()
    try:
        entries = tuple(json.loads(body)["manifests"] or ())
        return entries if all(isinstance(entry["digest"], str) for entry in entries) else None
    except (ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=100_000)
def document_subject(media_type: str, body: bytes) -> str | None:
    """The ``subject`` of an OCI manifest's or index's document."""
    subject = _document(media_type, body).get("subject")
    return subject["digest"] if isinstance(subject, dict) else None


@lru_cache(maxsize=100_000)
def content_of(media_type: str, body: bytes) -> str:
    """The kind of content of an untagged image."""
    if media_type in INDEX_TYPES and not descriptors(media_type, body):
        return "an index without descriptors"
    document = _document(media_type, body)
    if document.get("artifactType"):
        return str(document["artifactType"])
    config = (document.get("config") or {}).get("mediaType")
    if config and config not in _IMAGE_CONFIGS:
        return str(config)
    layers = [layer.get("mediaType") for layer in document.get("layers") or ()]
    return next((str(one) for one in layers if one and not one.startswith(_IMAGE_LAYERS)), "image")


def _document(media_type: str, body: bytes) -> dict[str, Any]:
    """The document of an OCI manifest or index; no other is read for what it says."""
    if media_type not in OCI_TYPES:
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


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
    ``is_malformed``: a manifest matches its digest and is malformed, so nothing at all may be deleted.

    ``covering`` are the indexes that a redundant index follows, ``subjects`` are those that are here.
    """

    def __init__(self, state: Iterable[Held], also: Iterable[str] = (), gone: Iterable[str] = ()) -> None:
        self.held = {one.digest: one for one in state}
        self.gone = frozenset(gone)
        self.is_malformed = False
        self.children: dict[str, set[str]] = {}
        self.parents: dict[str, set[str]] = {digest: set() for digest in self.held}
        self._entries: dict[str, Sequence[Mapping[str, Any]]] = {}
        for digest, one in self.held.items():
            entries = descriptors(one.media_type, one.body)
            self.is_malformed = self.is_malformed or entries is None
            self._entries[digest] = entries or ()
            self.children[digest] = {entry["digest"] for entry in entries or () if entry["digest"] in self.held}
            for child in self.children[digest]:
                self.parents[child].add(digest)
        self.covering = {digest: self._covering(digest) for digest in self.held}
        self.redundant = _inverse(self.covering)
        self.read = self._read(frozenset(also))
        self.names_subject = {digest: self._named(one) for digest, one in self.held.items()}
        self.subjects = {digest: named & self.held.keys() for digest, named in self.names_subject.items()}
        self.referrers = _inverse(self.subjects)
        self.kinds = {digest: self._kind(one) for digest, one in self.held.items()}

    # Indexes.

    def is_referrers_index(self, one: Held) -> bool:
        """Whether it is an OCI index in which every descriptor has an ``artifactType``."""
        return one.media_type == OCI_INDEX and all(entry.get("artifactType") for entry in self._entries[one.digest])

    def lists_only_absent(self, digest: str) -> bool:
        """Whether it is an index that lists manifests none of which is here, so that nobody can pull them."""
        return bool(self._entries[digest]) and not self.children[digest]

    def attests(self, digest: str) -> set[str]:
        """What BuildKit's annotations say it attests, of what an index lists beside it."""
        found = set()
        for index in self.parents[digest]:
            for entry in self._entries[index]:
                notes = entry.get("annotations")
                if entry["digest"] == digest and isinstance(notes, dict):
                    found.add(str(notes.get("vnd.docker.reference.digest")))
        return found & self.held.keys()

    def _covering(self, digest: str) -> set[str]:
        """The indexes that a redundant index follows; none if it is not redundant."""
        index, listed = self.held[digest], self.children[digest]
        if index.tags or not listed:
            return set()
        others = set.intersection(*(self.parents[child] for child in listed)) - {digest}
        return {one for one in others if self._is_preferred(self.held[one], index)}

    def _is_preferred(self, other: Held, index: Held) -> bool:
        """Whether an index that lists all that an untagged one lists makes that redundant."""
        if other.tags or self.children[other.digest] > self.children[index.digest]:
            return True
        # One of unknown age counts as newer: it is kept, and so is what follows it.
        theirs, ours = (
            float("inf") if one is None else one for one in map(upload_time, (other.uploaded, index.uploaded))
        )
        return theirs > ours or (theirs == ours and other.digest < index.digest)

    # Subjects.

    def tag_subject(self, one: Held, tag: str) -> str | None:
        """The subject that a referrer tag names; None for an ordinary tag."""
        match = _REFERRER_TAG.fullmatch(tag)
        subject = f"sha256:{match[1]}" if match else ""
        if match is None or subject == one.digest:
            return None
        if match[2]:
            is_referrer = one.media_type in OCI_TYPES or (one.media_type == DOCKER_MANIFEST and subject in self.held)
        else:
            is_referrer = self.is_referrers_index(one) or (one.media_type == OCI_INDEX and subject in self.held)
        return subject if is_referrer else None

    def _read(self, also: frozenset[str]) -> frozenset[str]:
        """The OCI manifests whose documents are read for a subject.

        OCI indexes; what a referrers index lists; and what has no tag and is listed by no index, or by another index
        without a platform.
        """
        hidden: set[str] = set()
        shown: set[str] = set()
        for digest, one in self.held.items():
            if self.is_referrers_index(one) or self._indexed_subjects(one):
                shown |= self.children[digest]
                continue
            hidden |= self.children[digest]
            shown |= {
                entry["digest"]
                for entry in self._entries[digest]
                if entry.get("platform") is None
                and entry["digest"] in self.held
                and not self.held[entry["digest"]].tags
            }
        return frozenset(
            digest
            for digest, one in self.held.items()
            if one.media_type == OCI_INDEX or digest in also or digest in shown or not (one.tags or digest in hidden)
        )

    def _indexed_subjects(self, one: Held) -> set[str]:
        """The subjects that are here and whose referrers index ``one`` is, by its tags."""
        if one.media_type != OCI_INDEX:
            return set()
        named = {subject for tag in one.tags if "." not in tag and (subject := self.tag_subject(one, tag))}
        return named & self.held.keys()

    def _document_subject(self, digest: str) -> set[str]:
        one = self.held[digest]
        subject = document_subject(one.media_type, one.body) if digest in self.read else None
        return {subject} if subject else set()

    def _named(self, one: Held) -> set[str]:
        """All subjects that a manifest names, whether they are here or not."""
        named = {subject for tag in one.tags if (subject := self.tag_subject(one, tag))}
        named |= self._document_subject(one.digest)
        if not one.tags and self.is_referrers_index(one):
            named = named.union(*map(self._document_subject, self.children[one.digest]))
        return named

    def _kind(self, one: Held) -> str:
        if any(self.tag_subject(one, tag) is None for tag in one.tags):
            return TAGGED
        if self.names_subject[one.digest] and not self.subjects[one.digest]:
            return ORPHAN
        if self.parents[one.digest] or self.covering[one.digest]:
            return CHILD
        return REFERRER if self.subjects[one.digest] else UNTAGGED

    # What belongs to what.

    def indexes(self, digest: str) -> set[str]:
        """The indexes that it follows."""
        return self.parents[digest] | self.covering[digest]

    def needs(self, digest: str) -> set[str]:
        return self.belonging(digest) | self.subjects[digest]

    def belonging(self, digest: str) -> set[str]:
        return self.children[digest] | self.redundant[digest] | self.referrers[digest]

    def owners(self, digest: str) -> set[str]:
        return self.indexes(digest) | self.subjects[digest]

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

    def stuck(self, doomed: Iterable[str]) -> set[str]:
        """Those of ``doomed`` that no order deletes: what takes part in a loop, and what comes after it.

        A subject's tags are deleted, then the referrers that are deleted before it, then itself; everything else
        after all that it belongs to.
        """
        left = set(doomed)
        earlier: dict[tuple[str, bool], set[tuple[str, bool]]] = {}
        before = {digest: self.before(digest) for digest in left}
        for digest in left:
            earlier[digest, False] = {(index, True) for index in self.indexes(digest) & left}
            for subject in self.subjects[digest] & left:
                earlier[digest, False].add((subject, digest not in before[subject]))
            earlier[digest, True] = {(digest, False), *((one, True) for one in before[digest] & left)}
        while ready := {node for node, others in earlier.items() if not others & earlier.keys()}:
            earlier = {node: others for node, others in earlier.items() if node not in ready}
        return {digest for digest, _ in earlier}

    def blocking(self, subject: str) -> set[str]:
        """The referrers without which the registry deletes ``subject``: by document, and referrers indexes."""
        return {digest for digest in self.referrers[subject] if subject in self._blocked(self.held[digest])} - {
            subject
        }

    def _blocked(self, one: Held) -> set[str]:
        subject = document_subject(one.media_type, one.body)
        blocked = self._indexed_subjects(one) | ({subject} if subject else set())
        return blocked | (self.subjects[one.digest] if not one.tags and self.is_referrers_index(one) else set())

    def before(self, subject: str) -> set[str]:
        """The referrers of ``subject`` that are deleted before it: those that block it, and what blocks those."""
        return self.referrers[subject] & self.reach(self.blocking(subject), self.blocking)

    def blockers(self, digest: str) -> set[str]:
        """For whose sake the registry refuses to delete ``digest``: indexes, and whatever names it as subject."""
        by_subject = {
            other for other, one in self.held.items() if document_subject(one.media_type, one.body) == digest
        }
        return (self.parents[digest] | by_subject) - {digest}


def _inverse(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    inverse: dict[str, set[str]] = {digest: set() for digest in edges}
    for digest, others in edges.items():
        for other in others:
            inverse[other].add(digest)
    return inverse


# What a policy says.


def milliseconds(duration: str) -> int:
    return sum(int(number) * _MS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", duration))


class Rule:
    """One rule of a policy, with its defaults; ``keep`` is None for ``all``."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        match = document.get("match", ())
        within, after = document.get("keep_within"), document.get("delete_after")
        keep = document.get("keep", "all" if within is None else 0)
        self.patterns = [re.compile(one) for one in ([match] if isinstance(match, str) else match)]
        self.keep: int | None = None if keep == "all" else keep
        self.keep_within = None if within is None else milliseconds(within)
        self.delete_after = None if after is None else milliseconds(after)
        # It is only for tags.
        self.is_by_version = bool(self.patterns) and document.get("order") == "version"

    def captures(self, tag: str) -> tuple[str | None, ...] | None:
        """What the first pattern that matches captures; None if none matches."""
        matches = (pattern.fullmatch(tag) for pattern in self.patterns)
        return next((match.groups() for match in matches if match), None)

    def is_retired(self, age: int) -> bool:
        return self.delete_after is not None and age >= self.delete_after

    def is_recent(self, age: int) -> bool:
        return self.keep_within is not None and age < self.keep_within


class Rules:
    """The rules of a policy."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        self.min_age = milliseconds(policy.get("min_age", "1h"))
        self.tagged = [Rule(document) for document in policy.get("tagged", ())]
        self.untagged = Rule(policy.get("untagged", {"keep": 5}))
        self.orphans = Rule(policy.get("orphans", {"keep": "all"}))

    def of_tag(self, tag: str) -> tuple[Rule, tuple[str | None, ...]] | None:
        """The first rule that matches a tag, and what it captures; None if none does."""
        for rule in self.tagged:
            captures = rule.captures(tag)
            if captures is not None:
                return rule, captures
        return None


def compare_versions(one: str, other: str) -> int:
    """Below 0 if the version in one tag is lower than that in another, above 0 if it is higher.

    ``-`` is the lowest of all, also beside a number: otherwise ``a-`` < ``a`` < ``a1`` < ``a-`` by the contract's
    letter, which no order has.
    """
    runs = [re.findall("[0-9]+|[^0-9]", tag) for tag in (one, other)]
    for left, right in zip_longest(*runs):
        ranks = [_rank(left), _rank(right)]
        if ranks[0] != ranks[1]:
            return -1 if ranks[0] < ranks[1] else 1
    return 0


def _rank(run: str | None) -> tuple[int, int]:
    """Where a run stands beside others: ``-``, the tag's end, a number, any other character."""
    if run is None:
        return 1, 0
    if run.isdecimal():
        return 2, int(run)
    return (0, 0) if run == "-" else (3, ord(run))


# What is kept.


def decide(
    state: Reading | Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    counted: Iterable[str] | None = None,
) -> dict[str, str]:
    """A reason for every manifest of the state; those in ``GOING`` are deleted.  ``max_deletions`` counts as null.

    ``counted`` are the only untagged images that take places among the newest, and that others can take theirs
    from; None: all.
    """
    reading = state if isinstance(state, Reading) else Reading(state)
    among = None if counted is None else frozenset(counted)
    return _Judgement(reading, Rules(policy), now_ms, frozenset(just_pushed), among).reasons()


def may_go(
    state: Reading | Iterable[Held],
    policy: Mapping[str, object],
    now_ms: int,
    *,
    just_pushed: Iterable[str] = (),
    counted: Iterable[str] | None = None,
) -> frozenset[str]:
    """The manifests that a run on this state may delete, ``max_deletions`` aside; none if one is malformed."""
    reading = state if isinstance(state, Reading) else Reading(state)
    if reading.is_malformed:
        return frozenset()
    reasons = decide(reading, policy, now_ms, just_pushed=just_pushed, counted=counted)
    return frozenset(digest for digest, reason in reasons.items() if reason in GOING)


def left_to_go(state: Iterable[Held], policy: Mapping[str, object], now_ms: int) -> frozenset[str]:
    """What a run on this state would delete, and the registry would let it.

    The registry refuses what something that is kept refers to; that is kept then, and so is what belongs to it.  With
    ``max_deletions``, images and orphans that are only deleted together, and are more than that, are kept.
    """
    reading = Reading(state)
    going = set(may_go(reading, policy, now_ms))
    if not going:
        return frozenset()
    limit = policy.get("max_deletions")
    if isinstance(limit, int):
        counted = {digest for digest in going if reading.kinds[digest] in IMAGES | {ORPHAN}}
        held_up = {one for one in counted if len(reading.dependents(one) & counted) > limit}
        going -= reading.closure(held_up)
    blockers = {digest: reading.blockers(digest) for digest in going}
    while True:
        stuck = {
            digest
            for digest in going
            # An owner that was to be deleted and is stuck, too, holds what belongs to it.
            if not blockers[digest] <= going or not reading.owners(digest) - {digest} <= going
        }
        if not stuck:
            return frozenset(going)
        going -= stuck


class _Judgement:
    def __init__(
        self,
        reading: Reading,
        rules: Rules,
        now_ms: int,
        just_pushed: frozenset[str],
        counted: frozenset[str] | None,
    ) -> None:
        self._reading = reading
        self._rules = rules
        self._just_pushed = just_pushed
        self._counted = counted
        uploaded = {digest: upload_time(one.uploaded) for digest, one in reading.held.items()}
        # Of what has a usable upload time.
        self._ages = {digest: now_ms - at for digest, at in uploaded.items() if at is not None}

    def reasons(self) -> dict[str, str]:
        reading = self._reading
        newest = self._newest_untagged() | self._newest_tagged()
        kept: dict[str, str] = {}
        for digest in reading.held:
            reason = self._own(digest, newest)
            if reason:
                kept[digest] = reason
        self._keep_needed(kept, set(kept))
        self._keep_needed(kept, reading.stuck(reading.held.keys() - kept.keys()))
        return {digest: kept.get(digest) or self._reason_to_delete(digest) for digest in reading.held}

    def _reason_to_delete(self, digest: str) -> str:
        kind = self._reading.kinds[digest]
        if kind in IMAGES:
            return "expired"
        return "orphaned" if kind == ORPHAN else "follows"

    def _keep_needed(self, kept: dict[str, str], start: set[str]) -> None:
        for digest in self._reading.closure(start):
            kept.setdefault(digest, "needed")

    def _own(self, digest: str, newest: set[str]) -> str | None:
        """Why a manifest is kept for its own sake."""
        one, kind = self._reading.held[digest], self._reading.kinds[digest]
        age = self._ages.get(digest)
        if one.media_type not in KNOWN_TYPES:
            return "unknown-type"
        if age is None:
            return "unknown-age"
        if age < self._rules.min_age:
            return "too-young"
        if digest in self._just_pushed:
            return "just-pushed"
        rules: list[Rule] = []
        if kind == TAGGED:
            found = [self._rules.of_tag(tag) for tag in one.tags]
            if None in found:
                return "unmatched"
            rules = [rule for rule, _ in filter(None, found)]
        elif kind in (UNTAGGED, ORPHAN):
            rules = [self._rules.untagged if kind == UNTAGGED else self._rules.orphans]
        rules = [rule for rule in rules if not rule.is_retired(age)]
        if any(rule.keep is None for rule in rules):
            return "protected"
        if digest in newest:
            return "newest"
        return "recent" if any(rule.is_recent(age) for rule in rules) else None

    def _takes_place(self, digest: str, rule: Rule) -> bool:
        """Whether an image counts in the pools of a rule."""
        return (
            self._is_countable(digest, rule)
            and digest not in self._reading.gone
            and not self._reading.lists_only_absent(digest)
            # A child that has a tag is judged, but children never count.
            and not self._reading.parents[digest]
        )

    def _is_countable(self, digest: str, rule: Rule) -> bool:
        is_known = self._reading.held[digest].media_type in KNOWN_TYPES and digest in self._ages
        return is_known and not rule.is_retired(self._ages[digest])

    def _newest_tagged(self) -> set[str]:
        # By the rule's identity, since two rules may say the same.
        pools: dict[tuple[int, tuple[str | None, ...]], tuple[Rule, dict[str, list[str]]]] = {}
        for digest, kind in self._reading.kinds.items():
            for tag in self._reading.held[digest].tags if kind == TAGGED else ():
                if found := self._rules.of_tag(tag):
                    rule, captures = found
                    _, pool = pools.setdefault((id(rule), captures), (rule, {}))
                    pool.setdefault(digest, []).append(tag)
        newest: set[str] = set()
        for rule, pool in pools.values():
            newest |= self._first(self._sorted(pool, rule), rule)
        return newest

    def _newest_untagged(self) -> set[str]:
        rule = self._rules.untagged
        pools: dict[str, list[str]] = {}
        for digest, kind in self._reading.kinds.items():
            one = self._reading.held[digest]
            # What is young takes no place, and is kept anyway.
            if kind == UNTAGGED and self._ages.get(digest, 0) >= self._rules.min_age:
                pools.setdefault(content_of(one.media_type, one.body), []).append(digest)
        newest: set[str] = set()
        for pool in pools.values():
            among = set(pool) if self._counted is None else self._counted & set(pool)
            newest |= self._first(self._sorted(dict.fromkeys(among, ()), rule), rule)
            if rule.keep:
                # Two listings do not agree on these, so they are not deleted by count.
                newest |= {one for one in set(pool) - among if self._is_countable(one, rule)}
        return newest

    def _sorted(self, pool: Mapping[str, Sequence[str]], rule: Rule) -> list[str]:
        """The images of a pool, the newest first; each has the tags for which it is in the pool."""
        known = sorted((self._ages.get(digest, 0), digest) for digest in pool)
        digests = [digest for _, digest in known]
        if rule.is_by_version:
            key = cmp_to_key(compare_versions)
            digests.sort(key=lambda digest: max(map(key, pool[digest])), reverse=True)
        return digests

    def _first(self, digests: Sequence[str], rule: Rule) -> set[str]:
        """Those of a sorted pool that are among its newest."""
        first: set[str] = set()
        left = rule.keep or 0
        for digest in digests:
            if left == 0:
                break
            if self._is_countable(digest, rule):
                first.add(digest)
            left -= self._takes_place(digest, rule)
        return first
