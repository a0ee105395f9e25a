"""What holds for every repository and policy, and an oracle that reads the README slowly.

The oracle shares no code with the program: it goes by the values alone, in the words of the README's reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace as replaced
from datetime import timedelta

from hypothesis import assume, given, settings, strategies as st

from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan
from tests.support.builders import (
    KINDS,
    NOW,
    after,
    deleted,
    digest,
    kept,
    manifest,
    name_of,
    possible_order,
    reasons,
)
from tests.support.strategies import NAMES, Case, cases

# --- the oracle


class Oracle:
    """The README's reasons, without ``max_deletions``."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.all = {str(each.digest): each for each in case.held}
        durations = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "3d": timedelta(days=3), None: None}
        self.min_age = durations[case.keys["min_age"]]  # type: ignore[index]  # a table's value
        self.max_age = durations[case.keys["max_age"]]  # type: ignore[index]

    def signs(self, one: Manifest, tag: str) -> str | None:
        oci = one.media_type in (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
        )
        match = re.fullmatch(r"sha256-([0-9a-f]{64})(\..+)?", tag)
        return f"sha256:{match[1]}" if match and oci else None

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
        return self.kind(one) == "tagged" or NOW - one.uploaded >= self.min_age  # type: ignore[operator]

    def is_newest(self, one: Manifest) -> bool:
        if not self.in_pools(one):
            return False
        assert one.uploaded
        if self.max_age is not None and NOW - one.uploaded >= self.max_age:
            return False
        keep = self.case.keys["keep_untagged" if self.kind(one) == "untagged" else "keep"]
        assert isinstance(keep, int)
        for pool in self.pools(one):
            newer = 0
            for other in self.all.values():
                if self.in_pools(other) and pool in self.pools(other) and not self.is_listed(other):
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
            "too-young": one.uploaded is not None and NOW - one.uploaded < self.min_age,  # type: ignore[operator]
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
        # What no chain of indexes and subjects connects to an image or an orphan hangs on itself alone.
        hanging = {key for key, one in self.all.items() if self.kind(one) in ("tagged", "untagged", "orphan")}
        while True:
            wider = hanging | {key for key, one in self.all.items() if self.owners(one) & hanging}
            if wider == hanging:
                break
            hanging = wider
        for key in self.with_needs({*found, *(self.all.keys() - hanging)}):
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

    def is_behind(self, one: str, other: str) -> bool:
        """Whether ``one`` follows ``other``, directly or not."""
        seen, pending = {one}, [one]
        while pending:
            for owner in self.owners(self.all[pending.pop()]) - seen:
                seen.add(owner)
                pending.append(owner)
        return other in seen - {one} or other in self.owners(self.all[one])


# --- properties


@given(cases())
@settings(max_examples=3 * settings().max_examples)
def test_plan_is_what_the_readme_says(case: Case) -> None:
    """Every manifest gets the oracle's reason, and so the same ones go."""
    assert reasons(case.plan()) == Oracle(case).reasons()


@given(cases())
def test_every_manifest_has_exactly_one_reason(case: Case) -> None:
    """It stays or it goes."""
    result = case.plan()

    told = [each.manifest.digest for each in result.keep] + [each.manifest.digest for each in result.delete]
    assert sorted(told) == sorted(each.digest for each in case.held)


@given(cases(), st.one_of(st.none(), st.integers(1, 4)))
def test_nothing_kept_needs_anything_deleted(case: Case, limit: int | None) -> None:
    """Not a child, not a referrer, not a subject."""
    result = case.plan(max_deletions=limit)
    oracle = Oracle(case)

    staying = {str(each.manifest.digest) for each in result.keep}
    assert oracle.with_needs(staying) == staying


@given(cases(), st.one_of(st.none(), st.integers(1, 4)), st.randoms(use_true_random=False))
def test_shuffling_changes_nothing(case: Case, limit: int | None, random: object) -> None:
    """Not a verdict, not the order of the plan, and not what waits for what."""
    order = list(case.held)
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis types it loosely

    first = case.plan(max_deletions=limit)
    second = replaced(case, held=tuple(order)).plan(max_deletions=limit)

    assert list(kept(first).items()) == list(kept(second).items())
    assert list(deleted(first).items()) == list(deleted(second).items())
    for name in deleted(first):
        assert waits(first, name) >= (indexes_of(case, name) & deleted(first).keys())
        assert waits(second, name) >= (indexes_of(case, name) & deleted(second).keys())


@given(cases(), st.sampled_from(["keep", "keep_untagged"]))
def test_keeping_one_more_never_deletes_more(case: Case, key: str) -> None:
    """Of either pool."""
    before = case.keys[key]
    assert isinstance(before, int)

    assert deleted(case.plan(**{key: before + 1})).keys() <= deleted(case.plan()).keys()


@given(cases(), st.sampled_from(NAMES))
def test_another_reason_to_keep_never_deletes_more(case: Case, name: str) -> None:
    """A digest that is pushed or runs, or a tag that is protected."""
    going = deleted(case.plan()).keys()

    assert deleted(replaced(case, just_pushed=f"{case.just_pushed} {name}").plan()).keys() <= going - {name}
    assert deleted(replaced(case, running=f"{case.running} {name}").plan()).keys() <= going - {name}
    assert deleted(case.plan(protect_tags=[".*"])).keys() <= going
    assert deleted(case.plan(delete_tags=[])).keys() <= going


@given(cases(), st.one_of(st.none(), st.integers(1, 4)))
def test_young_protected_and_unknown_never_go(case: Case, limit: int | None) -> None:
    """Whatever else is to be said about them."""
    oracle = Oracle(case)

    for each in case.plan(max_deletions=limit).delete:
        one = each.manifest
        assert one.media_type in KINDS.values()
        assert one.uploaded is not None
        assert oracle.min_age is not None
        assert NOW - one.uploaded >= oracle.min_age
        assert not any(oracle.any_match("protect_tags", tag) for tag in one.tags)
        assert not oracle.is_running(one)
        assert name_of(one.digest) not in case.just_pushed.split()


@given(cases(), st.integers(1, 4), st.integers(0, 3))
def test_limit_is_never_exceeded(case: Case, limit: int, already: int) -> None:
    """It only ever takes from what goes, and what it takes is named so, or is needed by what is."""
    unlimited = case.plan()
    limited = case.plan(max_deletions=limit, already_deleted=already)

    assert sum(each.counts for each in limited.delete) <= max(limit - already, 0)
    assert deleted(limited).items() <= deleted(unlimited).items()
    assert kept(unlimited).items() <= kept(limited).items()
    stopped = {name: reason for name, reason in kept(limited).items() if name not in kept(unlimited)}
    assert set(stopped.values()) <= {"over-limit", "needed"}
    assert not stopped or "over-limit" in stopped.values()
    if sum(each.counts for each in unlimited.delete) <= limit - already:
        assert not stopped


@given(cases(), st.integers(1, 4))
def test_limit_on_images_that_need_one_another_in_nothing_takes_the_oldest(case: Case, limit: int) -> None:
    """Exactly as many as it allows."""
    alone = tuple(
        manifest(
            name_of(each.digest),
            None if each.uploaded is None else (NOW - each.uploaded) / timedelta(days=1),
            " ".join(tag for tag in each.tags if not tag.startswith("sha256-")),
            kind="docker",
        )
        for each in case.held
    )
    lone = replaced(case, held=alone)
    going = list(deleted(lone.plan()))
    assume(going)

    assert list(deleted(lone.plan(max_deletions=limit))) == going[-limit:]


def waits(result: Plan, name: str) -> set[str]:
    """Return all that goes before ``name``, directly or not."""
    found = after(result, name)
    while True:
        wider = found.union(*(after(result, other) for other in found))
        if wider == found:
            return found
        found = wider


def indexes_of(case: Case, name: str) -> set[str]:
    """Return the indexes that list ``name``, by name."""
    return {name_of(other.digest) for other in case.held if digest(name) in other.links.children}


@given(cases(), st.one_of(st.none(), st.integers(1, 4)))
def test_every_owner_goes_before(case: Case, limit: int | None) -> None:
    """Indexes before children, subjects before referrers, without a loop; in a loop only indexes order anything."""
    result = case.plan(max_deletions=limit)
    oracle = Oracle(case)
    going = deleted(result).keys()

    assert set(possible_order(result)) == going
    for name in going:
        assert after(result, name) <= going - {name}
        owners = {name_of(owner): owner for owner in oracle.owners(oracle.all[digest(name)])}
        for owner, key in owners.items():
            in_loop = oracle.is_behind(key, digest(name))
            if owner in going and (not in_loop or owner in indexes_of(case, name)):
                assert owner in waits(result, name)
