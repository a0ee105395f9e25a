"""What the contract says of every manifest of a small repository, read slowly.

It shares no code with the program: it goes by the values alone, in the words of the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from cleaner.core.manifest import Manifest
from tests.support.builders import NOW, digest, name_of
from tests.support.strategies import Case

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
INDEXES = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")

# A manifest, and whether it is itself deleted, or its tags alone.
Event = tuple[str, bool]


class Oracle:
    """The contract's reasons without ``max_deletions``, and its order of deletions.

    ``untagged_before`` are the names of what was an untagged image in the listing before, None if there was none.
    """

    def __init__(self, case: Case, untagged_before: Iterable[str] | None = None) -> None:
        self.case = case
        self.untagged_before = None if untagged_before is None else {str(digest(name)) for name in untagged_before}
        self.all = {str(each.digest): each for each in case.held}
        durations = {"1h": timedelta(hours=1), **{f"{n}d": timedelta(days=n) for n in (1, 3, 5)}}
        self.min_age = durations[str(case.keys["min_age"])]
        self.max_age = durations.get(str(case.keys["max_age"]))

    def signs(self, one: Manifest, tag: str) -> str | None:
        match = re.fullmatch(r"sha256-([0-9a-f]{64})(\..+)?", tag)
        return f"sha256:{match[1]}" if match and one.media_type in (OCI_MANIFEST, OCI_INDEX) else None

    def subjects(self, one: Manifest) -> set[str]:
        named = {self.signs(one, tag) for tag in one.tags} | {one.links.subject}
        return {str(subject) for subject in named if subject}

    def is_tagged(self, one: Manifest) -> bool:
        return any(self.signs(one, tag) is None for tag in one.tags)

    def is_listed(self, one: Manifest) -> bool:
        return any(one.digest in other.links.children for other in self.all.values())

    def kind(self, one: Manifest) -> str:
        if self.is_tagged(one):
            return "tagged"
        if self.is_listed(one):
            return "child"
        if self.subjects(one):
            return "referrer" if self.subjects(one) & self.all.keys() else "orphan"
        return "untagged"

    def owners(self, one: Manifest) -> set[str]:
        """What it follows: its indexes and its subjects."""
        indexes = {key for key, other in self.all.items() if one.digest in other.links.children}
        return indexes | (self.subjects(one) & self.all.keys())

    def needs(self, one: Manifest) -> set[str]:
        children = {str(child) for child in one.links.children}
        referrers = {key for key, other in self.all.items() if one.digest in self.subjects(other)}
        return (children | referrers | self.subjects(one)) & self.all.keys()

    def with_needs(self, start: Iterable[str]) -> set[str]:
        found = set(start)
        while True:
            wider = found.union(*(self.needs(self.all[key]) for key in found))
            if wider == found:
                return found
            found = wider

    def any_match(self, key: str, tag: str) -> bool:
        return any(re.fullmatch(pattern, tag) for pattern in self.case.keys[key])  # type: ignore[attr-defined]

    def pools(self, one: Manifest) -> set[object]:
        """The pools that the image is in: ``untagged``, or the groups of its tags."""
        if self.kind(one) == "untagged":
            return {"untagged"}
        pattern = self.case.keys["group_by"]
        if pattern is None:
            return {"all"}
        matches = [re.fullmatch(str(pattern), tag) for tag in one.tags]
        return {match.groups() for match in matches if match} or {"rest"}

    def in_pools(self, one: Manifest) -> bool:
        """Whether it is an image that a pool holds."""
        if self.kind(one) not in ("tagged", "untagged") or one.uploaded is None:
            return False
        return self.kind(one) == "tagged" or NOW - one.uploaded >= self.min_age

    def takes_a_place(self, one: Manifest) -> bool:
        """Whether it counts in its pools: neither a child, nor untagged only since the listing before."""
        if not self.in_pools(one) or self.is_listed(one):
            return False
        return self.kind(one) == "tagged" or self.untagged_before is None or one.digest in self.untagged_before

    def is_newest(self, one: Manifest) -> bool:
        if not self.in_pools(one):
            return False
        assert one.uploaded
        if self.max_age is not None and NOW - one.uploaded >= self.max_age:
            return False
        keep = self.case.keys["keep_untagged" if self.kind(one) == "untagged" else "keep"]
        assert isinstance(keep, int)
        if self.kind(one) == "untagged" and keep and not self.takes_a_place(one):
            return True
        for pool in self.pools(one):
            newer = 0
            for other in self.all.values():
                if self.takes_a_place(other) and pool in self.pools(other):
                    assert other.uploaded
                    same = other.uploaded == one.uploaded
                    newer += other.uploaded > one.uploaded or (same and other.digest < one.digest)
            if newer < keep:
                return True
        return False

    def is_running(self, one: Manifest) -> bool:
        if one.digest in {digest(name) for name in self.case.running.split()}:
            return True
        if set(one.tags) & set(self.case.running_tags.split()):
            return True
        return any(self.is_running(self.all[child]) for child in one.links.children if child in self.all)

    def own_reason(self, one: Manifest) -> str | None:
        kind = self.kind(one)
        holds = {
            "unknown-type": one.media_type == "application/x",
            "unknown-age": one.uploaded is None,
            "too-young": one.uploaded is not None and NOW - one.uploaded < self.min_age,
            "just-pushed": one.digest in {digest(name) for name in self.case.just_pushed.split()},
            "running": self.is_running(one),
            "protected-tag": any(self.any_match("protect_tags", tag) for tag in one.tags),
            "tagged": kind in ("tagged", "untagged", "orphan")
            and any(not self.any_match("delete_tags", tag) for tag in one.tags),
            "newest": self.is_newest(one),
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
        going = {
            "tagged": "expired",
            "untagged": "expired",
            "orphan": "orphan",
            "child": "follows",
            "referrer": "follows",
        }
        for key, one in self.all.items():
            found.setdefault(key, going[self.kind(one)])
        return {name_of(key): reason for key, reason in found.items()}

    # The order of deletions.

    def refuses_for(self, subject: str) -> set[str]:
        """What the registry wants deleted before ``subject``: what names it, and its referrers index."""
        exact_tag = subject.replace(":", "-")
        return {
            key
            for key, one in self.all.items()
            if one.links.subject == subject or (one.media_type == OCI_INDEX and exact_tag in one.tags)
        }

    def blocking(self, subject: str, going: Iterable[str]) -> set[str]:
        """What of ``going`` the registry wants deleted before ``subject``, directly or not."""
        blocking = self.refuses_for(subject) & {*going}
        while True:
            wider = blocking.union(*(self.refuses_for(key) & {*going} for key in blocking))
            if wider == blocking:
                return blocking
            blocking = wider

    def between(self, subject: str, going: Iterable[str]) -> set[str]:
        """What is deleted between the tags of ``subject`` and itself, where ``going`` are deleted."""
        referrers = {key for key in going if subject in self.subjects(self.all[key])}
        return (self.blocking(subject, going) & referrers) | (self.attestations_of(subject) & {*going})

    def attestations_of(self, attested: str) -> set[str]:
        """What BuildKit's annotations say attests ``attested``, and belongs to that one index alone."""
        found = set()
        for index in self.all.values():
            children = {str(child) for child in index.links.children} & self.all.keys()
            for attestation, other in index.links.attestations:
                is_attested = any(attestation == each for _, each in index.links.attestations)
                is_pair = other == attested and {str(attestation), attested} <= children and not is_attested
                is_index = is_pair and self.all[attestation].media_type in INDEXES
                if is_pair and not is_index and self.owners(self.all[attestation]) == {index.digest}:
                    found.add(str(attestation))
        return found

    def order(self, going: Iterable[str]) -> dict[Event, set[Event]]:
        """Return for all that is done to delete ``going`` what comes immediately before."""
        between = {key: self.between(key, going) for key in going}
        first = {key: (key, not between[key]) for key in going}
        found: dict[Event, set[Event]] = {}
        for key in going:
            one = self.all[key]
            begins: set[Event] = set()
            for owner in self.owners(one) & between.keys():
                lists_it = key in self.all[owner].links.children
                is_late = key not in between[owner]
                if lists_it or (owner in self.subjects(one) and is_late):
                    begins.add((owner, True))
            begins |= {first[other] for other in going if key in between[other]}
            found[first[key]] = begins
            if between[key]:
                found[key, True] = {(key, False), *((other, True) for other in between[key])}
        return found

    def undeletable(self, going: Iterable[str]) -> set[str]:
        """What of ``going`` is in a cycle of that order, or comes after one."""
        left = self.order(set(going))
        while ready := [event for event, before in left.items() if not before & left.keys()]:
            for event in ready:
                del left[event]
        return {key for key, _ in left}
