"""What holds wherever a run is cut: later plans finish what the first one decided, and delete nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import replace as replaced

from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from cleaner.core.history import History
from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest, Tag
from cleaner.core.rules import Reason
from cleaner.core.steps import Step
from tests.support.builders import listing, name_of
from tests.support.plan_oracle import Oracle
from tests.support.strategies import Case, as_read, expiring_cases, listed_expiring_cases

chances = st.integers(0, 999).map(random.Random)
limits = st.sampled_from([None, None, 1, 2, 2, 3, 3])

# A request that deletes a tag, or with None the manifest itself.
Request = tuple[Digest, Tag | None]


class Cut:
    """A repository whose plan was cut: ``held`` is what is left, and ``history`` what the run remembers.

    ``done`` are the requests that were carried out.
    """

    def __init__(self, held: Iterable[Manifest], chance: random.Random) -> None:
        self.held = {each.digest: each for each in held}
        self.history = History()
        self.history.observe(listing(*self.held.values()))
        self.done: set[Request] = set()
        self._chance = chance

    def carry_out(self, plan: Plan, steps: int) -> None:
        """Carry out so many steps of ``plan`` in any order that they allow, and of those under way any tags."""
        counts = {verdict.manifest.digest: verdict.counts for verdict in plan.delete}
        self.history.before = listing(*self.held.values())
        done: set[int] = set()
        while ready := [at for at, step in enumerate(plan.steps) if at not in done and done.issuperset(step.after)]:
            at = self._chance.choice(ready)
            if len(done) == steps:
                break
            done.add(at)
            self._delete_tags(plan.steps[at], len(plan.steps[at].tags))
            if plan.steps[at].deletes_manifest:
                digest = plan.steps[at].manifest.digest
                del self.held[digest]
                self.history.add_deleted(plan.steps[at].manifest, counts=counts[digest])
                self.done.add((digest, None))
        for at in ready:
            self._delete_tags(plan.steps[at], self._chance.randint(0, len(plan.steps[at].tags)))

    def doubt(self, plan: Plan) -> None:
        """Remember deletions that may have been carried out, and were not."""
        for verdict in plan.delete:
            digest = verdict.manifest.digest
            if digest in self.held and self._chance.random() < 0.3:
                self.history.add_deleted(verdict.manifest, counts=verdict.counts, is_doubtful=True)

    def begin_run(self) -> None:
        """Go on in the next run of the process, which may follow upon doubtful deletions of tags."""
        for digest, one in self.held.items():
            if one.tags and self._chance.random() < 0.3:
                self.history.add_lost_tags(digest, {self._chance.choice(one.tags)})
        self.history = self.history.for_next_run()

    def plan(self, case: Case, first: Plan, limit: int | None) -> Plan:
        """Return the plan for what is left."""
        self.history.observe(listing(*self.held.values()))
        return replaced(case, held=tuple(self.held.values())).plan(
            history=self.history, untagged_before=" ".join(first.untagged), max_deletions=limit
        )

    def _delete_tags(self, step: Step, count: int) -> None:
        digest, tags = step.manifest.digest, step.tags[:count]
        left = tuple(tag for tag in self.held[digest].tags if tag not in tags)
        self.held[digest] = replace(self.held[digest], tags=left)
        self.history.add_lost_tags(digest, {*tags})
        self.done.update((digest, tag) for tag in tags)


def requests(step: Step) -> Iterator[Request]:
    """Yield what a step deletes."""
    yield from ((step.manifest.digest, tag) for tag in step.tags)
    if step.deletes_manifest:
        yield step.manifest.digest, None


def predecessors(plan: Plan) -> dict[Request, set[Request]]:
    """Return for each request of ``plan`` those that are carried out before it, in whatever order the steps are."""
    steps: dict[int, set[Request]] = {}

    def through(at: int) -> set[Request]:
        """Return the requests of a step and of all before it."""
        if at not in steps:
            steps[at] = set(requests(plan.steps[at])).union(*map(through, plan.steps[at].after))
        return steps[at]

    found: dict[Request, set[Request]] = {}
    for at, step in enumerate(plan.steps):
        before = through(at) - set(requests(step))
        for request in requests(step):
            found[request] = {*before}
            before.add(request)
    return found


def told(verdicts: Iterable[Verdict]) -> list[tuple[Manifest, Reason]]:
    """Return manifests and reasons; what was deleted takes no place, so that the others move up."""
    return [(one.manifest, one.reason) for one in verdicts]


@given(listed_expiring_cases(), limits, chances, st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(max_examples=3 * settings().max_examples)
def test_later_plans_finish_what_the_first_decided(
    case: Case, limit: int | None, chance: random.Random, cuts: list[int]
) -> None:
    """Wherever plans are cut, whatever run goes on, and whatever deletions were in doubt."""
    first = case.plan(max_deletions=limit)
    order = predecessors(first)
    cut = Cut(case.held, chance)
    plan = first
    for steps in cuts:
        cut.carry_out(plan, steps)
        if chance.random() < 0.5:
            cut.doubt(plan)
        if chance.random() < 0.5:
            cut.begin_run()
        plan = cut.plan(case, first, limit)

        assert told(plan.keep) == told(first.keep)
        assert told(plan.delete) == told(one for one in first.delete if one.manifest.digest in cut.held)
        assert predecessors(plan) == {
            request: before - cut.done for request, before in order.items() if request not in cut.done
        }
    cut.carry_out(plan, len(plan.steps))

    assert not cut.plan(case, first, limit).steps
    assert cut.held == {one.manifest.digest: one.manifest for one in first.keep}


@given(listed_expiring_cases(), limits, chances, st.integers(1, 4))
@settings(max_examples=3 * settings().max_examples)
def test_what_was_begun_is_known_to_be(case: Case, limit: int | None, chance: random.Random, steps: int) -> None:
    """It has lost a tag, an owner, or what the registry wanted deleted first."""
    first = case.plan(max_deletions=limit)
    cut = Cut(case.held, chance)
    cut.carry_out(first, steps)
    oracle = Oracle(case)

    without_tags = {digest for digest, tag in cut.done if tag is not None}
    gone = {str(digest) for digest, tag in cut.done if tag is None}
    for step in cut.plan(case, first, limit).steps:
        digest = str(step.manifest.digest)
        has_begun = digest in without_tags or not gone.isdisjoint(oracle.blocking(digest, oracle.all))
        assert step.is_begun >= (has_begun or not gone.isdisjoint(oracle.nearest_owners(step.manifest))), name_of(
            digest
        )
        assert step.is_begun <= (has_begun or not gone.isdisjoint(oracle.owners(step.manifest))), name_of(digest)


@given(expiring_cases(), chances, st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(max_examples=2 * settings().max_examples)
def test_documents_that_are_read_later_only_keep_more(case: Case, chance: random.Random, cuts: list[int]) -> None:
    """What an index no longer lists, or has lost its tags, is read for a subject: that can be a kept image."""
    subjects = {each.digest: each.links for each in case.held}
    held = as_read(case.held)
    first = plan = replaced(case, held=held).plan()
    cut = Cut(held, chance)
    for steps in cuts:
        cut.carry_out(plan, steps)
        everything = [replace(one, links=subjects[one.digest]) for one in cut.held.values()]
        cut.held = {one.digest: one for one in as_read(everything, cut.history.referrers)}
        plan = cut.plan(case, first, None)

        assert {one.manifest.digest for one in first.keep} <= {one.manifest.digest for one in plan.keep}
        assert {one.manifest.digest for one in plan.delete} <= {one.manifest.digest for one in first.delete}
        for digest, before in predecessors(plan).items():
            blocking = {each.digest for each in cut.held.values() if each.links.subject == digest[0]}
            assert digest[1] is not None or {(one, None) for one in blocking} <= before


@given(listed_expiring_cases(), chances, st.integers(1, 4))
def test_histories_of_two_runs_share_nothing(case: Case, chance: random.Random, steps: int) -> None:
    """What the next run learns changes nothing of what this one knows."""
    cut = Cut(case.held, chance)
    cut.carry_out(case.plan(), steps)
    cut.history.observe(listing(*cut.held.values()))
    known = deepcopy(cut.history)

    following = cut.history.for_next_run()
    for one in case.held:
        following.add_lost_tags(one.digest, {Tag("v1")})
        following.referrers.add(one.digest)
        following.refused.add(one.digest)
        following.undeletable.add(one.digest)
    following.add_deleted(case.held[0], counts=True)
    following.observe(listing())
    for one in case.held:
        following.add_deleted(one, counts=True)
    following.observe(listing(*case.held))

    assert cut.history == known
