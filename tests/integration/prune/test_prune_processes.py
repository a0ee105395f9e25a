"""Another process at work on the same repository."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.reference import Digest
from tests.emulator.faults import After, Delay
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch, referrer
from tests.support.builders import one_rule
from tests.support.processes import wait_for
from tests.support.prune import PUSHED_OUT
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def crossed(world: World, *, tagged: int) -> tuple[Digest, Callable[[], None]]:
    """Return an untagged image that is to stay, and what another process does next: it has taken away a tag."""
    untagged = world.load(image("untagged"), age_days=70)
    for seed in range(tagged):
        world.load(image(seed), tags=f"v{seed}", age_days=60 - seed)
    going = world.load(image("going"), age_days=60)
    world.load(image("newest"), tags="new", age_days=1)

    def go_on() -> None:
        world.store.delete_manifest(world.name, going)
        if tagged:
            world.store.delete_tag(world.name, "v0")

    return untagged, go_on


@pytest.mark.parametrize("workers", [1, 8])
def test_what_another_process_has_begun_to_delete_crowds_nobody_out(world: World, workers: int) -> None:
    """What the second listing alone shows as untagged takes no place, and is not deleted by count."""
    untagged, go_on = crossed(world, tagged=9)
    world.faults.add(After(go_on), kind="tags_list", nth=1)

    report = world.run(workers=workers, **PUSHED_OUT).prune()

    assert untagged in world.left
    assert world.log.counts["tags_list"] == 2
    assert (len(world.left), report.kept) == (3, 3)


def test_untagged_image_goes_alone_only_after_two_looks(world: World) -> None:
    """Another process may be between the tags of an image and the image."""
    untagged, go_on = crossed(world, tagged=0)
    world.faults.add(After(go_on), kind="tags_list", nth=1)

    report = world.run(**PUSHED_OUT).prune()

    assert untagged in world.left
    assert (report.deleted, report.kept) == (0, 2)
    assert world.log.counts["tags_list"] == 2


def test_what_only_the_second_look_crowds_out_stays(world: World) -> None:
    """The other process has begun in between."""
    untagged = world.load(image("untagged"), age_days=70)
    old = world.load(image("old"), age_days=80)
    tagged = world.load(image("tagged"), tags="new", age_days=60)
    world.faults.add(After(lambda: world.store.delete_tag(world.name, "new")), kind="tags_list", nth=1)

    world.run(**PUSHED_OUT).prune()

    assert world.left == {untagged, tagged}
    assert old not in world.left


@pytest.mark.parametrize(
    ("policy", "tags", "listings"),
    [
        (one_rule(1, 1), "v1", 2),
        (one_rule(1, 1), "", 2),
        ({"untagged": {"keep": 1}}, "", 2),
        (one_rule(1, 0), "", 1),
        (one_rule(1, 1, delete_after="1d"), "", 1),
    ],
)
def test_two_listings_are_made_where_an_untagged_image_is_deleted_by_count(
    world: World, policy: dict[str, Any], tags: str, listings: int
) -> None:
    """One is enough where none is kept for being new, or its age alone is why it is deleted."""
    world.load(image("first"), age_days=40)
    world.load(image("second"), tags=tags.split(), age_days=50)
    world.load(image("third"), age_days=60)
    world.load(image("newest"), tags="new", age_days=1)

    assert world.run(**policy).prune().deleted >= 1

    assert world.log.counts["tags_list"] == listings
    assert sum(world.clock.slept) == pytest.approx(listings - 1)


def test_two_processes_at_once_leave_what_is_to_stay_untagged(world: World) -> None:
    """Whenever one lists, the other is between the tags of some images and the images."""
    world = World(world.emulator, is_real_time=True)
    untagged = {world.load(image(f"untagged {seed}"), age_days=90 + seed) for seed in range(3)}
    for seed in range(60):
        world.load(image(seed), tags=f"v{seed}", age_days=20 + seed)
    newest = world.load(image("newest"), tags="new", age_days=1)
    world.emulator.faults.latency_s = 0.01
    other = World(world.emulator, is_real_time=True)
    policy: dict[str, Any] = {**one_rule(1, 3), "workers": 20}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(world.run(**policy).prune)
        wait_for(lambda: world.log.counts["tag_delete"] >= 1, "the first is at work")
        second = pool.submit(other.run(**policy).prune)
        first.result()
        second.result()
    other.close()
    world.close()

    assert world.left == {*untagged, newest}


@pytest.mark.parametrize("seed", range(3))
def test_two_runs_at_once(world: World, seed: int) -> None:
    """Two deliveries of one push, in two processes: both end well, and all is whole."""
    chance = random.Random(seed)
    for number in range(12):
        top = multi_arch(number, attestations=True)
        world.load(top, tags=f"v{number}", age_days=number + 1)
        world.load(referrer(top), age_days=number + 1)
        world.load(cosign_signature(top), tags=cosign_tag(top), age_days=number + 1)
    for kind in ("manifest_delete", "tag_delete", "manifest_head"):
        world.faults.add(Delay(chance.random() / 50), kind=kind, probability=0.5)
    policy: dict[str, Any] = one_rule(4, 0)
    kept = world.kept(**policy)
    barrier = threading.Barrier(2)

    def one(_: int) -> int:
        run = world.run(workers=5, **policy)
        barrier.wait()
        report = run.prune()
        return report.failed + report.refused

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [0, 0]

    kept.check(world)
    assert world.left == kept.digests
    assert len(world.left) == 4 * 7
