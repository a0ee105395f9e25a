"""Tags that move or vanish during a run, and deletions that are repeated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import TransientError
from cleaner.core.notification import Named
from cleaner.core.reference import Digest
from tests.emulator.faults import After, Before, Delay, DropAfter, DropBefore, Status, too_many_requests
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch
from tests.support.builders import one_rule
from tests.support.prune import ALL, children
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("kind", ["manifest_head", "tags_list"])
def test_tag_that_moved_stays_with_what_it_names(world: World, logged: Logged, kind: str) -> None:
    """CI moves `latest` after the listing, or right before its check: the repository is planned anew."""
    old = world.load(image("old"), tags=["latest", "v1"], age_days=40)
    new = world.load(image("new"), age_days=30)
    fault = After if kind == "tags_list" else Before
    world.faults.add(fault(lambda: world.store.tag(world.name, "latest", new)), kind=kind, nth=1)

    report = world.prune(workers=1, **ALL)

    assert world.left == {new}
    assert world.tags == {"latest": new}
    assert (report.deleted, report.refused, report.failed) == (1, 0, 0)
    assert world.gone() == ["v1", old]
    assert report.reasons == {"just-pushed": 1, "expired": 1}
    assert [one["tag"] for one in logged("tag moved")] == ["latest"]


@pytest.mark.parametrize("workers", [1, 8])
def test_tag_that_moved_to_an_index_of_the_plan(world: World, workers: int) -> None:
    """What the tag names now is kept whole, though the first plan deletes it."""
    world.load(image("old"), tags="latest", age_days=40)
    new = multi_arch("new", attestations=True)
    world.load(new, age_days=30)
    signature = world.load(cosign_signature(new), tags=cosign_tag(new))
    world.faults.add(Before(lambda: world.store.tag(world.name, "latest", new.digest)), kind="manifest_head", nth=1)
    # With many workers the index might be gone before anybody moves a tag to it.
    world.faults.add(Delay(0.05), kind="manifest_delete", path=new.digest)

    world.prune(workers=workers, **ALL)

    assert world.left == {new.digest, *children(new), signature}
    assert world.tags == {"latest": new.digest, cosign_tag(new): signature}


def test_tag_that_moved_to_a_new_image(world: World) -> None:
    """The image that lost its tag is judged anew, as one without: never by the tag that it had."""
    old = multi_arch("old")
    world.load(old, tags="latest")
    world.load(image("untagged"), age_days=29)
    world.faults.add(Before(lambda: world.load(image("new"), tags="latest", age_days=0)), kind="manifest_head", nth=1)

    world.prune(**one_rule(1, 2, delete_after="29d"))

    assert world.tags.keys() == {"latest"}
    assert world.log.counts["tag_delete"] == 0


def test_tag_that_is_gone_is_not_deleted(world: World, logged: Logged) -> None:
    """Somebody untagged it; the image goes all the same."""
    digest = world.load(image(1), tags=["a", "b"])
    world.faults.add(Before(lambda: world.store.delete_tag(world.name, "a")), kind="manifest_head", nth=1)

    world.prune(**ALL)

    assert world.left == frozenset()
    assert world.asked("tag_delete", "manifest_delete") == [("DELETE", "b", 202), ("DELETE", digest, 202)]
    assert [one["tag"] for one in logged("tag deleted")] == ["b"]


RETRIED_DELETION = [
    Status(503),
    Status(503, retry_after=5),
    too_many_requests(retry_after=60),
    DropBefore(),
    DropAfter(),
]


@pytest.mark.parametrize("fault", RETRIED_DELETION, ids=repr)
def test_tag_that_moves_while_its_deletion_is_repeated_stays(world: World, fault: Any) -> None:
    """Immediately before means before every attempt: a retry does not delete what CI has tagged since."""
    world.load(image("old"), tags="latest", age_days=40)
    world.faults.add(fault, kind="tag_delete", nth=1)
    # After the first attempt has failed, and before the next one or its look.
    moved: list[Digest] = []

    def move() -> None:
        if not moved:
            moved.append(world.load(image("new"), tags="latest", age_days=0))

    sleep = world.transport._sleep

    def sleeping(seconds: float) -> None:
        move()
        sleep(seconds)

    world.transport._sleep = sleeping

    world.prune(**ALL)

    assert moved
    assert world.tags == {"latest": moved[0]}
    assert moved[0] in world.left


def test_tag_is_deleted_in_the_breath_of_its_check_however_slow_the_pace(world: World) -> None:
    """Workers that are held back by 429 are held back before the look, not between look and deletion."""
    for seed in range(12):
        world.load(image(seed), tags=f"v{seed}")
    # Nothing was answered for a while, so that the pace falls to about one request a second.
    world.faults.add(Before(lambda: world.clock.turn(3)), kind="manifest_head", nth=1)
    world.faults.add(too_many_requests(), kind="manifest_head", nth=1)
    gaps: list[tuple[str, float]] = []
    looks: dict[str, float] = {}

    def looked(tag: str) -> Callable[[], None]:
        return lambda: looks.update({tag: world.clock()})

    def deleted(tag: str) -> Callable[[], None]:
        return lambda: gaps.append((tag, world.clock() - looks[tag]))

    for seed in range(12):
        world.faults.add(After(looked(f"v{seed}")), kind="manifest_head", path=f"/v{seed}$")
        world.faults.add(Before(deleted(f"v{seed}")), kind="tag_delete", path=f"/v{seed}$")

    # One worker: nobody else's sleep turns the clock.
    world.prune(workers=1, **ALL)

    assert sum(world.clock.slept) > 1
    assert len(gaps) == 12
    assert max(seconds for _, seconds in gaps) < 0.1


def test_deletion_that_is_repeated_late_asks_again_who_wants_it(world: World) -> None:
    """A push of the digest that comes while a deletion waits for its retry spares the manifest."""
    wanted: set[Digest] = set()
    digest = world.load(image(1))
    world.faults.add(Status(503, retry_after=30), kind="manifest_delete", nth=1)
    sleep = world.transport._sleep

    def sleeping(seconds: float) -> None:
        wanted.add(digest)
        sleep(seconds)

    world.transport._sleep = sleeping

    world.prune(named=lambda: Named(frozenset(wanted)))

    assert world.left == {digest}


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_head", "manifest_delete"])
def test_deletion_whose_retry_outlives_its_plan_is_finished(world: World, kind: str) -> None:
    """What was begun is finished, also when the registry asks for a minute's patience."""
    world.load(multi_arch("top"), tags="v1")
    world.faults.add(Status(503, retry_after=60), kind=kind, nth=1)

    report = world.prune(**ALL)

    assert world.left == frozenset()
    assert report.deleted == 3
    assert world.log.counts["tags_list"] == 1


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_head", "manifest_delete"])
def test_registry_that_asks_for_patience_for_ever_ends_a_run_without_a_time_limit(world: World, kind: str) -> None:
    """New plans are no new attempts: what never passes is a failure, also on the command line."""
    digest = world.load(image(1), tags="v1")
    rule = world.faults.add(Status(503, retry_after=60), kind=kind, times=60)

    with pytest.raises(TransientError):
        world.prune(time_limit_s=math.inf, **ALL)

    assert world.left == {digest}
    assert rule.hits < 60
