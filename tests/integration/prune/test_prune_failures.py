"""Deletions and listings that fail: what goes on, and what ends the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import CleanerError, RepositoryNotFound, Unavailable
from tests.emulator.faults import After, Before, DropAfter, DropBefore, Status, too_many_requests
from tests.emulator.images import image, multi_arch, referrer
from tests.support.prune import ALL, children
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize(
    ("status", "code"), [(400, "FAILED_PRECONDITION"), (403, "DENIED"), (401, "UNAUTHORIZED"), (405, ""), (409, "X")]
)
def test_failed_deletion_is_an_error_and_the_rest_goes_on(
    world: World, logged: Logged, status: int, code: str
) -> None:
    """An ERROR with the registry's codes; that image stays with its parts."""
    failing = multi_arch("failing")
    world.load(failing, tags="v1")
    for seed in range(5):
        world.load(image(seed))
    world.faults.add(Status(status, code), kind="manifest_delete", path=failing.digest)

    report = world.prune(**ALL)

    assert world.left == {failing.digest, *children(failing)}
    assert (report.deleted, report.refused, report.failed) == (5, 0, 1)
    (record,) = logged("deletion failed")
    assert (record["levelname"], record["status"]) == ("ERROR", status)
    assert code in ("", *record["codes"])


def test_404_on_a_deletion_is_success(world: World) -> None:
    """Another delivery was faster with all of it."""
    top = multi_arch("top")
    world.load(top, tags="v1")

    def delete_all() -> None:
        for digest in world.left:
            world.store.force_delete(world.name, digest)

    world.faults.add(Before(delete_all), kind="tag_delete", nth=1)

    report = world.prune(**ALL)

    assert (report.deleted, report.refused, report.failed) == (3, 0, 0)


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_delete", "manifest_head"])
@pytest.mark.parametrize("fault", [DropAfter(), DropBefore(), Status(503), Status(429, plain=True)], ids=repr)
def test_lost_answers_do_no_harm(world: World, fault: Any, kind: str) -> None:
    """A deletion that was done and whose answer is lost is a deletion."""
    for seed in range(5):
        world.load(multi_arch(seed, attestations=True), tags=f"v{seed}", age_days=seed + 1)
    world.faults.add(fault, kind=kind, every=2, times=5)

    report = world.prune(keep=2, delete_tags=[".*"])

    assert len(world.left) == 10
    assert (report.deleted, report.refused, report.failed) == (15, 0, 0)
    assert report.requests == world.log.total


def test_fresh_listing_that_fails_ends_the_run(world: World) -> None:
    """Who cannot see what stands against it deletes nothing more."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    world.faults.add(Status(503), kind="tags_list", skip=1)

    with pytest.raises(Unavailable):
        world.prune(**ALL)

    assert world.left == {subject, about}


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
