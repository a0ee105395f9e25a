"""Deletions and listings that fail: what goes on, and what ends the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import CleanerError, RepositoryNotFound, Unavailable
from tests.emulator.faults import After, Before, Status, too_many_requests
from tests.emulator.images import image, multi_arch
from tests.support.prune import ALL
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_error_of_a_deletion_ends_the_run_with_a_summary(world: World, logged: Logged) -> None:
    """What was done has been said; what is left waits for the next delivery."""
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    rule = world.faults.add(Status(503), kind="manifest_delete", skip=3)

    with pytest.raises(Unavailable):
        world.prune(workers=1)

    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["requests"]) == (3, world.log.total)
    assert len(world.left) == 3
    world.faults.remove(rule)
    assert world.prune().deleted == 3


@pytest.mark.parametrize("status", [503, 404, 403])
def test_error_of_a_second_listing_ends_the_run_with_a_summary(world: World, logged: Logged, status: int) -> None:
    """What the first plan deleted is told, whatever became of the second."""
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")
    world.faults.add(Status(status), kind="tags_list", skip=1)

    with pytest.raises(CleanerError):
        world.prune(workers=1)

    assert len(world.left) == 3
    (summary,) = logged("prune finished")
    assert summary["deleted"] == 3


def test_repository_that_vanishes_in_mid_run(world: World) -> None:
    """What is gone is deleted, by whomever."""
    for seed in range(6):
        world.load(multi_arch(seed), tags=f"v{seed}")
    world.faults.add(Before(lambda: world.store.remove_repository(world.name)), kind="tag_delete", nth=3)

    world.run(**ALL).prune()

    assert world.left == frozenset()


def test_unknown_repository_is_told_apart(world: World, logged: Logged) -> None:
    """There is nothing to prune, and nothing is said of it here."""
    with pytest.raises(RepositoryNotFound):
        world.prune()

    assert logged("prune finished") == []


def test_throttled_registry_is_pruned_all_the_same(world: World) -> None:
    """A quota of deletions costs patience, and nothing else."""
    for seed in range(30):
        digest = world.load(image(seed))
        world.faults.add(too_many_requests(plain=True), kind="manifest_delete", path=digest, times=1 + seed % 2)

    report = world.prune(workers=20)

    assert report.deleted == 30
    assert report.requests == world.log.total
    assert world.log.statuses[202] == 30
