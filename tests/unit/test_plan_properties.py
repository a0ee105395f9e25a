"""What holds for every repository and policy."""

from __future__ import annotations

import random
from dataclasses import replace as replaced
from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings, strategies as st

from cleaner.core.plan import Plan
from tests.support.builders import KINDS, NOW, deleted, kept, manifest, name_of, reasons
from tests.support.plan_oracle import Event, Oracle
from tests.support.strategies import NAMES, Case, cases, listed_cases, names

limits = st.one_of(st.none(), st.integers(1, 4))


def doomed(result: Plan) -> set[str]:
    """Return the digests of what a plan deletes."""
    return {str(each.manifest.digest) for each in result.delete}


# --- what is kept and what is deleted


@given(listed_cases())
@settings(max_examples=4 * settings().max_examples)
def test_every_reason_is_the_one_that_the_contract_says(case: Case) -> None:
    """Every manifest gets the oracle's reason, and so the same ones are deleted."""
    assert reasons(case.plan()) == Oracle(case).reasons()


@given(listed_cases(), st.one_of(names(len(NAMES), NAMES)))
def test_only_what_was_untagged_before_is_deleted_by_count(case: Case, before: list[str]) -> None:
    """And only that takes a place among the newest untagged images."""
    assert reasons(case.plan(untagged_before=" ".join(before))) == Oracle(case, before).reasons()


@given(listed_cases(), limits)
def test_listing_is_its_own_listing_before(case: Case, limit: int | None) -> None:
    """Where there was none, or where both agree on what is untagged."""
    first = case.plan(max_deletions=limit)

    assert {name_of(each) for each in first.untagged} == {
        name_of(each.digest) for each in case.held if Oracle(case).kind(each) == "untagged"
    }
    assert case.plan(max_deletions=limit, untagged_before=" ".join(first.untagged)) == first
    if not first.is_by_count:
        assert case.plan(max_deletions=limit, untagged_before="").delete == first.delete


@given(listed_cases(), limits)
def test_every_manifest_has_exactly_one_reason(case: Case, limit: int | None) -> None:
    """It is kept or it is deleted."""
    result = case.plan(max_deletions=limit)

    told = [each.manifest.digest for each in result.keep] + [each.manifest.digest for each in result.delete]
    assert sorted(told) == sorted(each.digest for each in case.held)


@given(listed_cases(), limits)
def test_nothing_kept_needs_anything_deleted(case: Case, limit: int | None) -> None:
    """Not a child, not a referrer, not a subject."""
    result = case.plan(max_deletions=limit)
    oracle = Oracle(case)

    staying = {str(each.manifest.digest) for each in result.keep}
    assert oracle.with_needs(staying) == staying


@given(listed_cases(), limits, st.integers(0, 9))
def test_shuffling_changes_nothing(case: Case, limit: int | None, seed: int) -> None:
    """Not a verdict, not a step, and not their order."""
    order = list(case.held)
    random.Random(seed).shuffle(order)

    assert replaced(case, held=tuple(order)).plan(max_deletions=limit) == case.plan(max_deletions=limit)


@given(cases(), st.sampled_from(["keep", "keep_untagged"]))
def test_keeping_one_more_never_deletes_more(case: Case, key: str) -> None:
    """Of either pool."""
    before = case.keys[key]
    assert isinstance(before, int)
    more: dict[str, Any] = {key: before + 1}

    assert deleted(case.plan(**more)).keys() <= deleted(case.plan()).keys()


@given(cases(), st.sampled_from(NAMES))
def test_another_reason_to_keep_never_deletes_more(case: Case, name: str) -> None:
    """A digest that is pushed or runs, or a tag that is protected."""
    going = deleted(case.plan()).keys()

    assert deleted(replaced(case, just_pushed=f"{case.just_pushed} {name}").plan()).keys() <= going - {name}
    assert deleted(replaced(case, running=f"{case.running} {name}").plan()).keys() <= going - {name}
    assert deleted(case.plan(protect_tags=[".*"])).keys() <= going
    assert deleted(case.plan(delete_tags=[])).keys() <= going


@given(listed_cases(), limits)
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


@given(listed_cases(), st.integers(1, 4), st.integers(0, 3))
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


# --- the steps


def events(result: Plan) -> dict[int, Event]:
    """Return what each step of a plan does, by its position."""
    return {at: (str(step.manifest.digest), step.deletes_manifest) for at, step in enumerate(result.steps)}


def all_before(order: dict[Event, set[Event]]) -> dict[Event, set[Event]]:
    """Return for each event all that comes before it, directly or not."""
    found = order
    while True:
        wider = {event: before.union(*(found[other] for other in before)) for event, before in found.items()}
        if wider == found:
            return found
        found = wider


def order_of(result: Plan) -> dict[Event, set[Event]]:
    """Return for each step of a plan all that come before it, by what they do."""
    by = events(result)
    return all_before({by[at]: {by[other] for other in step.after} for at, step in enumerate(result.steps)})


@given(listed_cases(), limits)
@settings(max_examples=2 * settings().max_examples)
def test_order_of_the_steps_is_the_one_that_the_contract_says(case: Case, limit: int | None) -> None:
    """Every owner before its parts, but OCI referrers and attestations before the subject; and no cycle."""
    result = case.plan(max_deletions=limit)

    found = order_of(result)

    assert found == all_before(Oracle(case).order(doomed(result)))
    assert not [event for event, before in found.items() if event in before]


@given(listed_cases(), limits)
def test_each_manifest_and_each_tag_is_deleted_in_one_step(case: Case, limit: int | None) -> None:
    """Of all that a plan deletes, and of nothing else."""
    result = case.plan(max_deletions=limit)

    by_manifest = [step.manifest for step in result.steps if step.deletes_manifest]
    by_tag = [(step.manifest.digest, tag) for step in result.steps for tag in step.tags]
    assert sorted(one.digest for one in by_manifest) == sorted(doomed(result))
    assert sorted(by_tag) == sorted((one.digest, tag) for one in by_manifest for tag in one.tags)
    assert len(events(result)) == len(set(events(result).values()))


@given(listed_cases(), limits)
def test_tags_are_deleted_before_anything_that_comes_between(case: Case, limit: int | None) -> None:
    """A tag that has moved is noticed before an OCI referrer is touched."""
    result = case.plan(max_deletions=limit)

    order = order_of(result)
    for at, step in enumerate(result.steps):
        if step.tags and not step.deletes_manifest:
            itself = (str(step.manifest.digest), True)
            assert {event for event in order[itself] if events(result)[at] in order[event]}, name_of(itself[0])
            assert all(
                events(result)[at] in order[key, True] for key in Oracle(case).between(itself[0], doomed(result))
            )


@given(listed_cases(), limits)
def test_steps_say_what_the_executor_has_to_know(case: Case, limit: int | None) -> None:
    """What takes a recent listing, what has to be missing, and a child that has to be there."""
    result = case.plan(max_deletions=limit)
    oracle = Oracle(case)

    order = order_of(result)
    referrers = {key for subject in doomed(result) for key in oracle.refuses_for(subject) if key in doomed(result)}
    recent = {(key, True) for key in referrers}.union(*(order[key, True] for key in referrers))
    assert {events(result)[at] for at, step in enumerate(result.steps) if step.needs_recent_listing} == recent
    for step in result.steps:
        is_orphan = oracle.kind(step.manifest) == "orphan"
        assert set(step.must_be_missing) == (oracle.subjects(step.manifest) if is_orphan else set())
        staying = {each for each in step.manifest.links.children if each in oracle.all} - doomed(result)
        assert step.kept_child in (staying if step.deletes_manifest and staying else {None})
        assert not step.is_begun


@given(listed_cases(), limits)
def test_oldest_is_begun_first(case: Case, limit: int | None) -> None:
    """Those apart that take a recent listing: they come before the others."""
    steps = case.plan(max_deletions=limit).steps

    by_age = [(not step.needs_recent_listing, step.manifest.uploaded) for step in steps]
    assert by_age == sorted(by_age, key=lambda pair: (pair[0], pair[1] or NOW))
