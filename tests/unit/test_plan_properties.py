"""What holds for every repository and policy."""

from __future__ import annotations

import random
from dataclasses import replace as replaced
from datetime import timedelta
from itertools import compress, permutations
from typing import Any

from hypothesis import assume, given, settings, strategies as st
from msgspec.structs import replace

from cleaner.core.manifest import NO_LINKS, Manifest
from cleaner.core.plan import Plan
from cleaner.core.relations import may_have_subject, must_be_read
from cleaner.core.version import version_key
from tests.support.builders import (
    NOW,
    RETIRING,
    cosign,
    deleted,
    kept,
    listing,
    manifest,
    name_of,
    planned,
    reasons,
)
from tests.support.plan_oracle import UNDERSTOOD, Event, Oracle, is_higher
from tests.support.strategies import NAMES, Case, as_read, cases, contents, listed_cases, untagged_cases, version_tags

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


@given(st.one_of(untagged_cases(), listed_cases()), st.lists(st.booleans(), min_size=8, max_size=8))
@settings(max_examples=2 * settings().max_examples)
def test_only_what_was_untagged_before_is_deleted_by_count(case: Case, was: list[bool]) -> None:
    """And only that takes a place among the newest untagged images."""
    before = list(compress(NAMES, was))

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
        other = case.plan(max_deletions=limit, untagged_before="")
        assert (deleted(other), other.steps) == (deleted(first), first.steps)


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


@given(st.one_of(contents(), contents(is_expiring=True)))
@settings(max_examples=4 * settings().max_examples)
def test_documents_that_are_read_are_those_that_the_contract_says(held: tuple[Manifest, ...]) -> None:
    """Without them a subject or a kind of content is not known; any other is a request too many."""
    there = listing(*held)
    read = {*must_be_read(there), *may_have_subject(there)}

    assert as_read(held) == tuple(
        each if each.digest in read else replace(each, links=NO_LINKS) for each in there.manifests.values()
    )


@given(version_tags, version_tags)
@settings(max_examples=4 * settings().max_examples)
def test_versions_are_compared_as_the_contract_says(one: str, other: str) -> None:
    """Numbers as numbers, the rest as text, and ``-`` as what comes before the end."""
    assert (version_key(one) > version_key(other)) == is_higher(one, other)
    assert (version_key(one) == version_key(other)) == (not (is_higher(one, other) or is_higher(other, one)))


@given(listed_cases())
def test_place_is_that_in_the_pool_that_decided(case: Case) -> None:
    """Its rule, what that captured or the kind of content, and the rank; that of orphans decides nothing."""
    oracle = Oracle(case)
    result = case.plan()

    for verdict in (*result.keep, *result.delete):
        place, reason = verdict.place, verdict.reason.value
        decides = reason in ("protected", "newest", "recent", "expired", "orphaned")
        assert (place is not None) == decides
        if place:
            assert (place.rule, place.pool) in oracle.pools(verdict.manifest)
            found = oracle.ruled_in(verdict.manifest, (place.rule, place.pool))
            assert found == reason if verdict in result.keep else found is None
            if place.rule != "orphans":
                assert place.rank == oracle.rank(verdict.manifest, (place.rule, place.pool))


@given(cases(), st.integers(0, 3))
def test_keeping_one_more_never_deletes_more(case: Case, at: int) -> None:
    """In whatever rule."""
    tagged: list[dict[str, Any]] = [*case.keys.get("tagged", [])]  # type: ignore[misc]
    untagged: dict[str, Any] = case.keys.get("untagged", {"keep": 5})  # type: ignore[assignment]
    rule = [*tagged, untagged][at % (len(tagged) + 1)]
    more = {**rule, "keep": rule["keep"] + 1 if isinstance(rule.get("keep", "all"), int) else "all"}
    if rule is untagged:
        wider = case.plan(untagged=more)
    else:
        wider = case.plan(tagged=[more if each is rule else each for each in tagged])

    assert deleted(wider).keys() <= deleted(case.plan()).keys()


@given(cases(), st.sampled_from(NAMES), st.sampled_from(["v.*", "main-.*", "(pr)-.*", "sha256-.*"]))
def test_another_reason_to_keep_never_deletes_more(case: Case, name: str, pattern: str) -> None:
    """A digest that is pushed or runs, a rule that keeps all before the others, or no rule."""
    before = deleted(case.plan()).keys()
    tagged: list[dict[str, object]] = [*case.keys.get("tagged", [])]  # type: ignore[misc]

    assert deleted(replaced(case, just_pushed=f"{case.just_pushed} {name}").plan()).keys() <= before - {name}
    assert deleted(replaced(case, running=f"{case.running} {name}").plan()).keys() <= before - {name}
    assert deleted(case.plan(tagged=[{"match": pattern, "keep": "all"}, *tagged])).keys() <= before
    assert deleted(case.plan(tagged=[])).keys() <= before
    assert deleted(case.plan(untagged={"keep": "all"})).keys() <= before
    assert deleted(case.plan(orphans={"keep": "all"})).keys() <= before


@given(listed_cases(), limits)
def test_young_unmatched_and_unknown_are_never_deleted(case: Case, limit: int | None) -> None:
    """Whatever else is to be said about them."""
    oracle = Oracle(case)

    for each in case.plan(max_deletions=limit).delete:
        one = each.manifest
        assert one.media_type in UNDERSTOOD
        assert one.uploaded is not None
        assert NOW - one.uploaded >= oracle.min_age
        assert oracle.kind(one) != "tagged" or all(oracle.pool_of(tag) for tag in one.tags)
        assert not oracle.is_running(one)
        assert not oracle.is_named(one)


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


def test_order_of_the_listing_changes_no_step() -> None:
    """Not even the order of those that come before one."""
    held = [
        manifest("a", tags="v1"),
        manifest("b", tags="v2"),
        manifest("c", tags="v3"),
        manifest("referrers", tags=" ".join(cosign(name, "") for name in "abc"), children="sbom"),
        manifest("sbom", subject="a"),
    ]
    expected = planned(held, RETIRING).steps

    for shuffled in permutations(held):
        assert planned(shuffled, RETIRING).steps == expected


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
