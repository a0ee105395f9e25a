"""The listing after a refusal: who shares it, and what it costs."""

from __future__ import annotations

import pytest

from tests.emulator.faults import After, Before, Delay
from tests.emulator.images import image, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.support.prune import ALL, Peak, costs
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("latency_s", [0.0, 0.03])
def test_subjects_that_are_refused_at_once_share_a_listing(world: World, count: int, latency_s: float) -> None:
    """Whoever is refused first waits for those who are being asked."""
    world.emulator.faults.latency_s = latency_s
    for seed in range(count):
        world.load(referrer(world.load(image(seed))))

    report = world.prune(workers=20, **ALL)

    assert report.deleted == 2 * count
    costs(world, tags_list=2, manifest_get=count, manifest_delete=3 * count)


def test_subject_that_has_lost_its_tags_is_not_read(world: World) -> None:
    """It had them for the plan, so nobody asks whose referrer it may be."""
    world.load(referrer(world.load(image("subject", media_type=OCI_MANIFEST), tags=["v1", "v2"])))

    assert world.prune(**ALL).deleted == 2

    costs(world, tags_list=2, manifest_get=1, manifest_head=2, tag_delete=2, manifest_delete=3)


@pytest.mark.parametrize(("workers", "most"), [(1, 12), (3, 6)])
def test_as_many_refused_subjects_as_there_are_workers_share_a_look(world: World, workers: int, most: int) -> None:
    """More of them at once would lie untagged for longer, and what was seen would be older when they go."""
    for seed in range(12):
        world.load(referrer(world.load(image(seed), tags=f"v{seed}")))

    report = world.prune(workers=workers, **ALL)

    assert report.deleted == 24
    assert world.left == frozenset()
    assert world.log.counts["tags_list"] <= 1 + most


def test_documents_of_a_fresh_listing_are_read_side_by_side(world: World) -> None:
    """What has arrived may hold a subject, and may be a lot: in all no more requests than there are workers."""
    world.load(referrer(world.load(image("subject"))))
    for seed in range(24):
        world.load(image(f"goes {seed}"))

    def arrive() -> None:
        for seed in range(24):
            world.load(image(seed, media_type=OCI_MANIFEST), tags=f"v{seed}", age_days=0)

    world.faults.add(Before(arrive), kind="manifest_delete", nth=1)
    asking, reading = Peak(), Peak()
    world.faults.add(Before(asking.begin))
    world.faults.add(Before(reading.begin), kind="manifest_get")
    world.faults.add(Delay(0.02, after=True))
    world.faults.add(After(reading.end), kind="manifest_get")
    world.faults.add(After(asking.end))

    report = world.prune(keep_untagged=0, workers=4)

    assert (report.deleted, world.log.counts["manifest_get"]) == (26, 25)
    assert 1 < reading.most <= asking.most <= 4
