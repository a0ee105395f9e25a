"""What the contract says of every manifest of a small repository, read slowly.

It shares no code with the program: it goes by the values alone, in the words of the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any

from cleaner.core.manifest import NO_DESCRIPTORS, Manifest
from tests.support.builders import NOW, digest, name_of
from tests.support.strategies import Case

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
UNDERSTOOD = (DOCKER_MANIFEST, OCI_MANIFEST, *INDEXES, *SCHEMA_1)

# A manifest, and whether it is itself deleted, or its tags alone.
Event = tuple[str, bool]

# The rule, and what its pattern captured or the kind of content.
Pool = tuple[int | str, tuple[str | None, ...]]


def duration(text: object) -> timedelta | None:
    """Return the duration that ``text`` is; None for none."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    parts = re.findall("([0-9]+)([smhdw])", str(text)) if text is not None else []
    return timedelta(seconds=sum(int(count) * seconds[unit] for count, unit in parts)) if parts else None


@dataclass(frozen=True)
class Rule:
    """A rule of a policy, with its defaults; ``keep`` is None for ``all``."""

    match: tuple[str, ...]
    keep: int | None
    keep_within: timedelta | None
    delete_after: timedelta | None
    by_version: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rule:
        match = document.get("match", [])
        keep = document.get("keep", 0 if document.get("keep_within") else "all")
        return cls(
            match=(match,) if isinstance(match, str) else tuple(match),
            keep=keep if isinstance(keep, int) else None,
            keep_within=duration(document.get("keep_within")),
            delete_after=duration(document.get("delete_after")),
            by_version=document.get("order") == "version",
        )

    def captures(self, tag: str) -> tuple[str | None, ...] | None:
        matches = (re.fullmatch(pattern, tag) for pattern in self.match)
        return next((match.groups() for match in matches if match), None)


def is_higher(one: str, other: str) -> bool:
    """Return whether the version in one tag is higher than that in another."""
    runs = [re.findall("[0-9]+|[^0-9]", tag) for tag in (one, other)]
    for left, right in zip_longest(*runs):
        if left == right or (left and right and left.isdigit() and right.isdigit() and int(left) == int(right)):
            continue
        if left is None or right is None:
            # The one that continues is the higher, but not if it continues with ``-``.
            return bool((left or right) == "-") == (left is None)
        # Between ``a`` and ``a1``, ``a-1`` would be lower than the first and higher than the second.
        if "-" in (left, right):
            return bool(right == "-")
        if left.isdigit() and right.isdigit():
            return int(left) > int(right)
        # A number is lower than text.
        return not left.isdigit() and (right.isdigit() or left > right)
    return False


class Oracle:
    """The contract's reasons without ``max_deletions``, and its order of deletions.

    ``untagged_before`` are the names of what was an untagged image in the listing before, None if there was none.
    """

    def __init__(self, case: Case, untagged_before: Iterable[str] | None = None) -> None:
        self.case = case
        self.untagged_before = None if untagged_before is None else {str(digest(name)) for name in untagged_before}
        self.all = {str(each.digest): each for each in case.held}
        min_age = duration(case.keys.get("min_age", "1h"))
        assert min_age
        self.min_age = min_age
        keys: Mapping[str, Any] = {"tagged": [], "untagged": {"keep": 5}, "orphans": {"keep": "all"}, **case.keys}
        self.rules: dict[int | str, Rule] = {
            **{at: Rule.of(rule) for at, rule in enumerate(keys["tagged"])},
            **{key: Rule.of(keys[key]) for key in ("untagged", "orphans")},
        }

    # What a manifest is.

    def children(self, one: Manifest) -> set[str]:
        """What of the repository it lists."""
        return {str(child) for child in one.links.children} & self.all.keys()

    def is_referrers_index(self, one: Manifest) -> bool:
        return one.media_type == OCI_INDEX and (one.links.is_referrers_index or not one.links.has_descriptors)

    def subject_of_tag(self, one: Manifest, tag: str) -> str | None:
        """The subject that a referrer tag names; None for an ordinary tag."""
        match = re.fullmatch(r"sha256-([0-9a-f]{64})(\..+)?", tag)
        if not match or one.digest == f"sha256:{match[1]}":
            return None
        subject, suffix = f"sha256:{match[1]}", match[2]
        is_there = subject in self.all
        if suffix:
            does = one.media_type in (OCI_MANIFEST, OCI_INDEX) or (one.media_type == DOCKER_MANIFEST and is_there)
        else:
            does = one.media_type == OCI_INDEX and (self.is_referrers_index(one) or is_there)
        return subject if does else None

    def subjects(self, one: Manifest) -> set[str]:
        """What it refers to, in the repository or not."""
        documents = [one]
        if self.is_referrers_index(one) and not one.tags:
            documents += [self.all[child] for child in self.children(one)]
        by_tag = {self.subject_of_tag(one, tag) for tag in one.tags}
        return {str(subject) for subject in by_tag | {each.links.subject for each in documents} if subject}

    def covers(self, one: Manifest) -> set[str]:
        """The indexes in view of which it is redundant."""
        own = self.children(one)
        if one.tags or one.media_type not in INDEXES or not own:
            return set()
        found = set()
        for key, other in self.all.items():
            listed = self.children(other)
            is_wider = other.tags or own < listed or self.is_newer(other, one)
            if other != one and own <= listed and is_wider:
                found.add(key)
        return found

    def parents(self, one: Manifest) -> set[str]:
        """The indexes that list it."""
        return {key for key, other in self.all.items() if one.digest in other.links.children}

    def indexes(self, one: Manifest) -> set[str]:
        """The indexes that it is a child of."""
        return self.parents(one) | self.covers(one)

    def kind(self, one: Manifest) -> str:
        if any(self.subject_of_tag(one, tag) is None for tag in one.tags):
            return "tagged"
        if self.subjects(one) and not self.subjects(one) & self.all.keys():
            return "orphan"
        if self.indexes(one):
            return "child"
        return "referrer" if self.subjects(one) else "untagged"

    def content(self, one: Manifest) -> str:
        if one.media_type in INDEXES and not one.links.has_descriptors:
            return NO_DESCRIPTORS
        return one.links.content if one.media_type in (OCI_MANIFEST, OCI_INDEX) else "image"

    # What belongs together.

    def owners(self, one: Manifest) -> set[str]:
        """What it follows: its indexes and its subjects."""
        return self.indexes(one) | (self.subjects(one) & self.all.keys())

    def nearest_owners(self, one: Manifest) -> set[str]:
        """What it follows, without the indexes that it follows only because another one that it follows does."""
        covers = self.covers(one)
        beyond = {key for cover in covers for key in self.covers(self.all[cover])}
        return self.parents(one) | (covers - beyond) | (self.subjects(one) & self.all.keys())

    def needs(self, one: Manifest) -> set[str]:
        parts = {key for key, other in self.all.items() if one.digest in self.owners(other)}
        return parts | (self.subjects(one) & self.all.keys())

    def with_needs(self, start: Iterable[str]) -> set[str]:
        found = set(start)
        pending = list(found)
        while pending:
            more = self.needs(self.all[pending.pop()]) - found
            found |= more
            pending += more
        return found

    # What the rules keep.

    def is_old(self, one: Manifest, age: timedelta | None) -> bool:
        """Whether it was uploaded ``age`` ago, or longer."""
        return age is not None and one.uploaded is not None and NOW - one.uploaded >= age

    def is_newer(self, one: Manifest, other: Manifest) -> bool:
        """Whether it was uploaded later; what is of unknown age passes for the newest."""
        if one.uploaded == other.uploaded:
            return one.digest < other.digest
        return other.uploaded is not None and (one.uploaded is None or one.uploaded > other.uploaded)

    def pool_of(self, tag: str) -> Pool | None:
        """The pool of an image with ``tag``; None if no rule matches."""
        for at, rule in self.rules.items():
            captures = rule.captures(tag)
            if captures is not None:
                return at, captures
        return None

    def pools(self, one: Manifest) -> set[Pool]:
        """The pools that an image is in; that of orphans is counted nowhere."""
        kind = self.kind(one)
        if kind == "tagged":
            return {pool for tag in one.tags if (pool := self.pool_of(tag))}
        if kind == "untagged":
            return {("untagged", (self.content(one),))}
        return {("orphans", ())} if kind == "orphan" else set()

    def takes_a_place(self, one: Manifest, pool: Pool) -> bool:
        if pool not in self.pools(one) or one.uploaded is None or one.media_type not in UNDERSTOOD:
            return False
        if self.indexes(one) or self.is_old(one, self.rules[pool[0]].delete_after):
            return False
        if one.links.has_descriptors and not self.children(one):
            return False
        return self.kind(one) == "tagged" or (self.is_old(one, self.min_age) and self.was_untagged(one))

    def was_untagged(self, one: Manifest) -> bool:
        """Whether both listings agree that it is an untagged image."""
        return self.untagged_before is None or one.digest in self.untagged_before

    def precedes(self, one: Manifest, other: Manifest, pool: Pool) -> bool:
        """Whether it counts as the newer of two in a pool."""
        if self.rules[pool[0]].by_version:
            tags, others = (
                [tag for tag in each.tags if self.kind(each) == "tagged" and self.pool_of(tag) == pool]
                for each in (one, other)
            )
            if any(all(is_higher(tag, lower) for lower in others) for tag in tags):
                return True
            if any(all(is_higher(tag, lower) for lower in tags) for tag in others):
                return False
        return self.is_newer(one, other)

    def rank(self, one: Manifest, pool: Pool) -> int:
        """Its rank in a pool, from 1: one more than take places before it."""
        return 1 + sum(
            self.takes_a_place(other, pool) and self.precedes(other, one, pool) for other in self.all.values()
        )

    def ruled_in(self, one: Manifest, pool: Pool) -> str | None:
        """Why the rule of one of its pools keeps it; None if it does not."""
        rule = self.rules[pool[0]]
        if self.is_old(one, rule.delete_after):
            return None
        if rule.keep is None:
            return "protected"
        is_in_doubt = pool[0] == "untagged" and not self.was_untagged(one)
        if rule.keep and (is_in_doubt or self.rank(one, pool) <= rule.keep):
            return "newest"
        is_recent = rule.keep_within is not None and not self.is_old(one, rule.keep_within)
        return "recent" if is_recent else None

    # The reasons.

    def is_running(self, one: Manifest) -> bool:
        if one.digest in {digest(name) for name in self.case.running.split()}:
            return True
        if set(one.tags) & set(self.case.running_tags.split()):
            return True
        return any(self.is_running(self.all[child]) for child in self.children(one))

    def is_named(self, one: Manifest) -> bool:
        """Whether a message of the run names it, or a tag that it has."""
        is_digest = one.digest in {digest(name) for name in self.case.just_pushed.split()}
        return is_digest or bool(set(one.tags) & set(self.case.named_tags.split()))

    def own_reason(self, one: Manifest) -> str | None:
        ruled = {self.ruled_in(one, pool) for pool in self.pools(one)}
        holds = {
            "unknown-type": one.media_type not in UNDERSTOOD,
            "unknown-age": one.uploaded is None,
            "too-young": not self.is_old(one, self.min_age),
            "just-pushed": self.is_named(one),
            "running": self.is_running(one),
            "unmatched": self.kind(one) == "tagged" and any(self.pool_of(tag) is None for tag in one.tags),
            "protected": "protected" in ruled,
            "newest": "newest" in ruled,
            "recent": "recent" in ruled,
        }
        return next((reason for reason, does in holds.items() if does), None)

    def reasons(self) -> dict[str, str]:
        """Return the reason of every manifest, by name."""
        found: dict[str, str] = {}
        for key, one in self.all.items():
            reason = self.own_reason(one)
            if reason:
                found[key] = reason
        for key in self.with_needs(found):
            found.setdefault(key, "needed")
        for key in self.with_needs(self.undeletable(self.all.keys() - found.keys())):
            found.setdefault(key, "needed")
        to_delete = {
            "tagged": "expired",
            "untagged": "expired",
            "orphan": "orphaned",
            "child": "follows",
            "referrer": "follows",
        }
        for key, one in self.all.items():
            found.setdefault(key, to_delete[self.kind(one)])
        return {name_of(key): reason for key, reason in found.items()}

    # The order of deletions.

    def comes_first(self, one: Manifest, subject: str) -> bool:
        """Whether it is deleted before ``subject``: its document names that, or it is the referrers index of it."""
        exact_tag = subject.replace(":", "-")
        if one.links.subject == subject or (exact_tag in one.tags and self.subject_of_tag(one, exact_tag)):
            return True
        return not one.tags and self.is_referrers_index(one) and subject in self.subjects(one)

    def refuses_for(self, subject: str) -> set[str]:
        """What is deleted before ``subject`` for the registry's sake."""
        return {key for key, one in self.all.items() if self.comes_first(one, subject)}

    def blocking(self, subject: str, deleted: Iterable[str]) -> set[str]:
        """What of ``deleted`` is deleted before ``subject`` for the registry's sake, directly or not."""
        blocking = self.refuses_for(subject) & {*deleted}
        while True:
            wider = blocking.union(*(self.refuses_for(key) & {*deleted} for key in blocking))
            if wider == blocking:
                return blocking
            blocking = wider

    def between(self, subject: str, deleted: Iterable[str]) -> set[str]:
        """What is deleted between the tags of ``subject`` and itself, where ``deleted`` are."""
        referrers = {key for key in deleted if subject in self.subjects(self.all[key])}
        return (self.blocking(subject, deleted) & referrers) | (self.attestations_of(subject) & {*deleted})

    def attestations_of(self, attested: str) -> set[str]:
        """What BuildKit's annotations say attests ``attested``, and has no index that does not list that too."""
        indexes = [one for one in self.all.values() if one.media_type in INDEXES]
        pairs = {(str(first), str(other)) for index in indexes for first, other in index.links.attestations}
        found = set()
        for attestation, other in pairs:
            if other != attested or attestation not in self.all or attested not in self.all:
                continue
            is_attested = any(attestation == each for _, each in pairs)
            is_leaf = self.all[attestation].media_type not in INDEXES and not self.subjects(self.all[attestation])
            of_it = {index.digest for index in indexes if attestation in self.children(index)}
            of_attested = {index.digest for index in indexes if attested in self.children(index)}
            if is_leaf and not is_attested and of_it and of_it <= of_attested:
                found.add(attestation)
        return found

    def order(self, deleted: Iterable[str]) -> dict[Event, set[Event]]:
        """Return for all that is done to delete ``deleted`` what comes immediately before."""
        between = {key: self.between(key, deleted) for key in deleted}
        first = {key: (key, not between[key]) for key in deleted}
        found: dict[Event, set[Event]] = {}
        for key in deleted:
            one = self.all[key]
            begins = {(index, True) for index in self.indexes(one) & between.keys()}
            for subject in self.subjects(one) & between.keys():
                begins.add(first[subject] if key in between[subject] else (subject, True))
            begins |= {first[other] for other in deleted if key in between[other]}
            found[first[key]] = begins
            if between[key]:
                found[key, True] = {(key, False), *((other, True) for other in between[key])}
        return found

    def undeletable(self, deleted: Iterable[str]) -> set[str]:
        """What of ``deleted`` is in a cycle of that order, or comes after one."""
        left = self.order(set(deleted))
        while ready := [event for event, before in left.items() if not before & left.keys()]:
            for event in ready:
                del left[event]
        return {key for key, _ in left}
