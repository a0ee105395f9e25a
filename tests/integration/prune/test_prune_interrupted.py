"""What a run leaves half deleted, and what the next run makes of it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from cleaner.core.errors import TimeLimitReached, TransientError, Unavailable
from tests.emulator.faults import After, DropBefore, Status
from tests.emulator.images import image, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT
from tests.support.prune import PUSHED_OUT
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("end", ["left", "failed", "refused"])
def test_image_that_has_lost_its_tags_pushes_no_other_out(world: World, end: str, signed: bool) -> None:
    """Whatever held it up: in the next run it does not take the place of one that was to stay untagged."""
    untagged = world.load(image("untagged"), age_days=7)
    stripped = world.load(image("stripped"), tags="v1", age_days=6)
    referrers = [world.load(referrer(stripped), age_days=6)] if signed else []
    newest = world.load(image("newest"), tags="v2", age_days=1)
    before = world.left
    status = {"left": Status(503), "failed": Status(403, "DENIED"), "refused": Status(400, DANGLING_PARENT)}[end]
    world.faults.add(status, kind="manifest_delete", times=6)

    with contextlib.suppress(Unavailable):
        world.prune(**PUSHED_OUT)
    assert world.tags.keys() == {"v2"}
    world.faults.clear()

    for _ in range(2):
        report = world.run(**PUSHED_OUT).prune()
        assert report.deleted == 0
    assert world.left == before
    assert {untagged, stripped, newest, *referrers} == before


def test_image_that_was_left_for_want_of_time_pushes_no_other_out(world: World) -> None:
    """A subject that is refused has no tags any more when the time is over."""
    untagged = world.load(image("untagged"), age_days=7)
    subject = world.load(image("subject"), tags="v1", age_days=6)
    world.load(referrer(subject), age_days=6)
    world.load(image("newest"), tags="v2", age_days=1)
    before = world.left
    world.faults.add(After(lambda: world.clock.turn(600)), kind="manifest_delete", nth=1)

    with pytest.raises(TimeLimitReached):
        world.prune(**PUSHED_OUT)
    world.run(**PUSHED_OUT).prune()

    assert untagged in world.left
    assert world.left == before


def test_image_that_got_a_tag_again_counts_again(world: World) -> None:
    """Whoever tags what a run has left half deleted finds it judged as any other, also without that tag."""
    untagged = world.load(image("untagged"), age_days=7)
    stripped = world.load(image("stripped"), tags="v1", age_days=6)
    world.load(image("newest"), tags="v2", age_days=1)
    world.faults.add(Status(503), kind="manifest_delete", times=6)
    with pytest.raises(Unavailable):
        world.prune(**PUSHED_OUT)
    world.store.tag(world.name, "keep-me", stripped)
    world.prune(**PUSHED_OUT | {"protect_tags": ["keep-me"]})
    world.store.delete_tag(world.name, "keep-me")

    assert world.run(**PUSHED_OUT).prune().deleted == 1
    assert untagged not in world.left
    assert stripped in world.left


def test_interrupted_run_leaves_nothing_that_the_next_cannot_finish(world: World) -> None:
    """Wherever a run is cut off, all that is kept is whole, and the next run goes on from there."""
    for number in range(6):
        top = multi_arch(number, attestations=True)
        world.load(top, tags=f"v{number}", age_days=number + 1)
        world.load(referrer(top), age_days=number + 1)
    policy: dict[str, Any] = {"keep": 2, "delete_tags": [".*"]}
    kept = world.kept(**policy)
    runs = 0
    while world.left != kept.digests:
        runs += 1
        # From some request on nothing is answered, later every time.
        rule = world.faults.add(DropBefore(), skip=2 * runs)
        with contextlib.suppress(TransientError):
            world.run(**policy).prune()
        world.faults.remove(rule)
        kept.check(world)
        assert runs < 40

    assert runs > 3
