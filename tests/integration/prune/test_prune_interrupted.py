"""What a run leaves half deleted, and what the next run makes of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import CleanerError, TimeLimitReached, TransientError, Unavailable
from cleaner.core.notification import Named
from cleaner.core.reference import Digest
from cleaner.core.rules import Running
from tests.emulator.faults import After, Delay, DropAfter, DropBefore, Status
from tests.emulator.images import image, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT
from tests.support.builders import one_rule
from tests.support.prune import PUSHED_OUT, children, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


CUTS: dict[str, Callable[[World, str], object]] = {
    "the plan is old": lambda world, path: world.faults.add(
        After(lambda: world.clock.turn(61)), kind="manifest_delete", path=path, nth=1
    ),
    "the time limit is reached": lambda world, path: world.faults.add(
        After(lambda: world.clock.turn(600)), kind="manifest_delete", path=path, nth=1
    ),
    "the registry fails": lambda world, path: world.faults.add(
        After(lambda: world.faults.add(Status(503), kind="manifest_delete", times=6)),
        kind="manifest_delete",
        path=path,
        nth=1,
    ),
    "the answer is lost for good": lambda world, path: world.faults.add(
        DropAfter(), kind="manifest_delete", path=path, times=6
    ),
    "a page cannot be read": lambda world, path: (
        world.faults.add(After(lambda: world.clock.turn(61)), kind="manifest_delete", path=path, nth=1),
        world.faults.add(Status(503), kind="tags_list", skip=2, times=6),
    ),
}


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("cut", CUTS)
def test_children_of_a_deleted_index_displace_no_untagged_image(world: World, cut: str, workers: int) -> None:
    """Wherever a plan is cut, the next one knows the children for what they are."""
    untagged = {world.load(image(f"untagged {seed}"), age_days=30 + seed) for seed in range(2)}
    top = multi_arch("top")
    world.load(multi_arch("other"), tags="old-2", age_days=19)
    world.load(top, tags="old-1", age_days=20)
    newest = world.load(image("newest"), tags="new", age_days=1)
    policy: dict[str, Any] = {"workers": workers, **one_rule(0, 2, match="old.*")}
    CUTS[cut](world, top.digest)

    for _ in range(3):
        with contextlib.suppress(CleanerError):
            world.run(**policy).prune()

    assert world.left == {*untagged, newest}


def test_children_displace_nobody_when_a_tag_has_moved(world: World) -> None:
    """The plan ends between an index and its children, and the next one has another image without its tag."""
    untagged = {world.load(image(f"untagged {seed}"), age_days=30 + seed) for seed in range(2)}
    top, other = multi_arch("top"), multi_arch("other")
    world.load(other, tags="old-2", age_days=19)
    world.load(top, tags="old-1", age_days=20)
    world.load(image("newest"), tags="new", age_days=1)
    pushed = image("pushed")
    world.faults.add(After(lambda: world.load(pushed, tags="old-2", age_days=0)), kind="tags_list", nth=1)
    # The other worker finds the tag moved meanwhile.
    world.faults.add(Delay(0.2), kind="manifest_delete", path=top.digest)

    world.prune(workers=2, **one_rule(0, 2, match="old.*"))

    assert {*untagged, pushed.digest} <= world.left
    assert world.tags["old-2"] == pushed.digest
    assert children(top).isdisjoint(world.left)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("end", ["left", "failed", "refused"])
def test_image_that_has_lost_its_tags_displaces_no_untagged_image(world: World, end: str, signed: bool) -> None:
    """Whatever prevented its deletion: for the next run it is the tagged image that it was, and is deleted."""
    untagged = world.load(image("untagged"), age_days=7)
    subject = world.load(image("subject"), tags="v1", age_days=6)
    if signed:
        world.load(referrer(subject), age_days=6)
    newest = world.load(image("newest"), tags="v2", age_days=1)
    status = {"left": Status(503), "failed": Status(403, "DENIED"), "refused": Status(400, DANGLING_PARENT)}[end]
    world.faults.add(status, kind="manifest_delete", times=6)

    with contextlib.suppress(Unavailable):
        world.prune(**PUSHED_OUT)
    assert world.tags.keys() == {"v2"}
    assert untagged in world.left
    world.faults.clear()

    world.run(**PUSHED_OUT).prune()
    assert world.left == {untagged, newest}


def test_referrers_that_wait_for_a_recent_listing_displace_no_untagged_image(world: World) -> None:
    """The time limit comes between a subject's tags and its referrers; the next run finishes it."""
    untagged = world.load(image("untagged"), age_days=7)
    subject = world.load(image("subject"), tags="v1", age_days=6)
    about = world.load(referrer(subject), age_days=6)
    newest = world.load(image("newest"), tags="v2", age_days=1)
    world.faults.add(After(lambda: world.clock.turn(600)), kind="tag_delete", nth=1)

    with pytest.raises(TimeLimitReached):
        world.prune(**PUSHED_OUT)
    assert {subject, about} <= world.left
    world.run(**PUSHED_OUT).prune()

    assert world.left == {untagged, newest}


def test_image_that_got_a_tag_again_counts_again(world: World) -> None:
    """Whoever tags what a run has left half deleted finds it judged as any other, also without that tag."""
    untagged = world.load(image("untagged"), age_days=7)
    stripped = world.load(image("stripped"), tags="v1", age_days=6)
    world.load(image("newest"), tags="v2", age_days=1)
    world.faults.add(Status(503), kind="manifest_delete", times=6)
    with pytest.raises(Unavailable):
        world.prune(**PUSHED_OUT)
    world.store.tag(world.name, "keep-me", stripped)
    world.prune(**protecting("keep-me", PUSHED_OUT))
    world.store.delete_tag(world.name, "keep-me")

    assert world.run(**PUSHED_OUT).prune().deleted == 1
    assert untagged not in world.left
    assert stripped in world.left


@pytest.mark.parametrize("status", [400, 403, 503])
def test_tag_whose_deletion_was_never_answered_is_known_to_be_lost(world: World, status: int) -> None:
    """However the tries after it end: the next run of the process judges the image by the tag that it had."""
    untagged = world.load(image("untagged"), age_days=40)
    stripped = world.load(image("stripped"), tags="v1", age_days=20)
    world.faults.add(DropAfter(), kind="tag_delete", nth=1)
    world.faults.add(Status(status, "DENIED"), kind="manifest_head", skip=1, times=6)
    policy: dict[str, Any] = one_rule(keep=0, untagged=1)
    with pytest.raises(TransientError):
        world.prune(workers=1, **policy)
    assert stripped in world.left
    assert world.tags == {}
    world.faults.clear()

    world.prune(workers=1, **policy)

    assert world.left == {untagged}


@pytest.mark.parametrize("status", [400, 403])
def test_index_whose_deletion_was_not_answered_is_known_to_be_gone(world: World, status: int) -> None:
    """Also if the registry rejects the second attempt: its children are no untagged images."""
    untagged = world.load(image("untagged"), age_days=40)
    top = multi_arch("top")
    world.load(top, tags="v1", age_days=20)
    world.faults.add(DropAfter(), kind="manifest_delete", path=top.digest, nth=1)
    world.faults.add(Status(status, "DENIED"), kind="manifest_delete", path=top.digest, nth=2)
    policy: dict[str, Any] = one_rule(keep=0, untagged=1)

    reports = [world.run(workers=1, **policy).prune() for _ in range(2)]

    assert world.left == {untagged}
    assert [(one.deleted, one.failed, one.kept) for one in reports] == [(3, 0, 1), (0, 0, 1)]


def test_part_that_is_deployed_meanwhile_takes_no_place(world: World) -> None:
    """Its index is deleted by then.  It is kept, and in the next run it still is a part and no untagged image."""
    untagged = world.load(image("untagged"), age_days=40)
    top = multi_arch("top")
    world.load(top, tags="v1", age_days=20)
    part = Digest(top.children[0].digest)
    other = world.load(image("other"), tags="v2", age_days=10)
    deployed: dict[Digest, str] = {}
    named: set[Digest] = set()

    def deploy() -> None:
        deployed[part] = "service"
        # A message that contradicts the plan, so that it ends between the index and its parts.
        named.add(other)

    world.faults.add(After(deploy), kind="manifest_delete", path=top.digest)
    policy: dict[str, Any] = one_rule(keep=0, untagged=1)

    for _ in range(2):
        run = world.run(
            workers=1,
            named=lambda: Named(frozenset(named)),
            ask_running=lambda *_: Running(deployed),
            **policy,
        )
        run.prune()

    assert {untagged, part} <= world.left


def test_interrupted_run_leaves_nothing_that_the_next_cannot_finish(world: World) -> None:
    """Wherever a run is cut off, all that is kept is whole, and the next run goes on from there."""
    for number in range(6):
        top = multi_arch(number, attestations=True)
        world.load(top, tags=f"v{number}", age_days=number + 1)
        world.load(referrer(top), age_days=number + 1)
    policy: dict[str, Any] = one_rule(2, 0)
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
