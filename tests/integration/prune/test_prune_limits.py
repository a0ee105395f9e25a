"""Limits: ``max_deletions``, the age of a plan, and the time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import CleanerError, TimeLimitReached
from tests.emulator.faults import After, too_many_requests
from tests.emulator.images import image, multi_arch
from tests.support.prune import ALL, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_limit_holds_for_a_run(world: World, limit: int) -> None:
    """Images and orphans count, what follows them does not; oldest first."""
    for seed in range(4):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)

    report = world.prune(max_deletions=limit, **ALL)

    assert report.deleted == 3 * min(limit, 4)
    assert sorted(world.tags) == [f"v{seed}" for seed in range(limit, 4)]


def test_limit_holds_across_the_plans_of_a_run(world: World) -> None:
    """A plan that grew old does not begin the count anew."""
    for seed in range(20):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")

    report = world.prune(workers=1, max_deletions=7, **ALL)

    assert world.log.counts["tags_list"] == 3
    assert report.deleted == 7
    assert len(world.left) == 13


def test_plan_is_acted_on_for_a_minute(world: World) -> None:
    """Then the repository is listed anew, until nothing is left to do."""
    for seed in range(8):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(29)), kind="manifest_delete")

    report = world.prune(workers=1, **ALL)

    assert world.left == frozenset()
    assert report.deleted == 8
    kinds = [one.kind for one in world.log.entries]
    assert kinds == ["tags_list", *["manifest_delete"] * 3] * 2 + ["tags_list", *["manifest_delete"] * 2]


def test_new_plan_sees_what_has_changed(world: World) -> None:
    """A tag that came in the first minute decides in the second."""
    digests = [world.load(multi_arch(seed), age_days=50 - seed) for seed in range(3)]

    def change() -> None:
        world.clock.turn(61)
        world.store.tag(world.name, "stable", digests[2])

    world.faults.add(After(change), kind="manifest_delete", nth=1)

    report = world.prune(workers=1, **protecting("stable", ALL))

    assert world.tags == {"stable": digests[2]}
    assert len(world.left) == 3
    assert (report.deleted, report.refused) == (6, 0)


@pytest.mark.parametrize("workers", [1, 4])
def test_time_limit_ends_a_run_for_a_redelivery(world: World, logged: Logged, workers: int) -> None:
    """No further deletion begins, what runs is finished, the summary is written, and the next run goes on."""
    for seed in range(10):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(5)), kind="tag_delete")

    with pytest.raises(TimeLimitReached) as caught:
        world.prune(workers=workers, time_limit_s=12, **ALL)

    assert caught.value.transient
    gone = [what for what in world.gone() if what.startswith("v")]
    assert 3 <= len(gone) <= 2 + workers
    # Back to back: whoever lost its tag went itself.
    assert all(held.tags for held in world.store.manifests(world.name).values() if held.children)
    (summary,) = logged("prune finished")
    assert summary["deleted"] == 30 - len(world.left)
    assert world.prune(**ALL).deleted == summary["kept"]
    assert world.left == frozenset()


def test_time_limit_that_is_over_before_the_plan_deletes_nothing(world: World, logged: Logged) -> None:
    """Waiting for a turn and a slow listing count too."""
    digest = world.load(image(1))
    world.faults.add(After(lambda: world.clock.turn(20)), kind="tags_list")

    with pytest.raises(TimeLimitReached):
        world.prune(time_limit_s=12)

    assert world.left == {digest}
    assert len(logged("prune finished")) == 1


def test_time_limit_that_is_over_with_nothing_left_to_do_is_no_error(world: World) -> None:
    """Who has finished has not been interrupted."""
    world.load(image(1))
    world.faults.add(After(lambda: world.clock.turn(20)), kind="manifest_delete")

    assert world.prune(time_limit_s=12).deleted == 1


def test_no_deletion_begins_after_the_time_limit_for_want_of_an_answer(world: World) -> None:
    """A registry that asks for patience beyond the time gets no more deletions."""
    for seed in range(10):
        world.load(image(seed))
    world.faults.add(too_many_requests(retry_after=60), kind="manifest_delete")

    with pytest.raises(CleanerError) as caught:
        world.prune(time_limit_s=12)

    assert caught.value.transient
    assert len(world.left) == 10
    assert world.log.counts["manifest_delete"] <= 4
