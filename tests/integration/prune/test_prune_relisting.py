"""When a repository is listed anew, and what subjects with referrers cost."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from cleaner.core.errors import IncompleteListing
from cleaner.core.timing import TIMING
from tests.emulator.faults import After, Before, Delay, Status
from tests.emulator.images import image, multi_arch, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ALL, Peak, children, costs, protecting
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("latency_s", [0.0, 0.03])
def test_subjects_with_referrers_cost_one_listing(world: World, count: int, latency_s: float) -> None:
    """However many there are: each deletion is requested once."""
    world.emulator.faults.latency_s = latency_s
    for seed in range(count):
        world.load(referrer(world.load(image(seed))))

    report = world.prune(workers=20, **ALL)

    assert report.deleted == 2 * count
    costs(world, tags_list=1, manifest_get=count, manifest_delete=2 * count)


def test_subject_with_tags_is_not_read(world: World) -> None:
    """Its tags, its referrer, then itself; only the referrer's document is read."""
    world.load(referrer(world.load(image("subject", media_type=OCI_MANIFEST), tags=["v1", "v2"])))

    assert world.prune(**ALL).deleted == 2

    costs(world, tags_list=1, manifest_get=1, manifest_head=2, tag_delete=2, manifest_delete=2)


def test_documents_are_read_side_by_side(world: World) -> None:
    """Never more requests at once than there are workers."""
    for seed in range(24):
        world.load(image(seed, media_type=OCI_MANIFEST))
    asking, reading = Peak(), Peak()
    world.faults.add(Before(asking.begin))
    world.faults.add(Before(reading.begin), kind="manifest_get")
    world.faults.add(Delay(0.02, after=True))
    world.faults.add(After(reading.end), kind="manifest_get")
    world.faults.add(After(asking.end))

    report = world.prune(workers=4)

    assert (report.deleted, world.log.counts["manifest_get"]) == (24, 24)
    assert 1 < reading.most <= asking.most <= 4


@pytest.mark.parametrize("others", [0, 5])
def test_index_that_no_longer_exists_when_it_is_read_has_the_repository_listed_anew(
    world: World, others: int
) -> None:
    """Its children look like untagged images; a listing that shows them so is not carried out."""
    untagged = {world.load(image(f"untagged {seed}"), age_days=30 + seed) for seed in range(2)}
    top = multi_arch("top")
    world.load(top, tags="old", age_days=20)
    for seed in range(others):
        world.load(image(seed), tags=f"v{seed}", age_days=20)
    newest = world.load(image("newest"), tags="new", age_days=1)

    def delete() -> None:
        world.store.force_delete(world.name, top.digest)
        for child in top.children:
            world.faults.add(
                Before(functools.partial(world.store.force_delete, world.name, child.digest)), kind="tags_list", nth=1
            )

    world.faults.add(After(delete), kind="tags_list", nth=1)

    world.prune(**one_rule(1, 2))

    assert world.left == {*untagged, newest}
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize("policy", [one_rule(0, 0), one_rule(1, 2, match=["old", "new"])])
def test_index_that_can_never_be_read_lets_nothing_be_deleted(world: World, policy: dict[str, Any]) -> None:
    """The registry lists it and does not have it: any manifest may be its child, and it is kept."""
    top = multi_arch("top")
    world.load(top, tags="keep-me", age_days=20)
    world.load(image("untagged"), age_days=30)
    world.load(image("old"), tags="old", age_days=20)
    world.load(image("newest"), tags="new", age_days=1)
    before = world.left
    world.faults.add(Status(404, "MANIFEST_UNKNOWN"), kind="manifest_get", path=top.digest)

    with pytest.raises(IncompleteListing, match=top.digest):
        world.prune(**protecting("keep-me", policy))

    assert world.left == before
    assert world.log.counts["tags_list"] == TIMING.attempts


def test_index_that_can_be_read_after_a_while(world: World) -> None:
    """Listings may be ahead of documents for a moment."""
    top = multi_arch("top")
    world.load(top, tags="keep-me", age_days=20)
    old = world.load(image("old"), tags="old", age_days=20)
    world.faults.add(Status(404, "MANIFEST_UNKNOWN"), kind="manifest_get", path=top.digest, times=3)

    world.prune(**protecting("keep-me", one_rule(0, 0)))

    assert old not in world.left
    assert {top.digest, *children(top)} == world.left
    assert sum(world.clock.slept) >= 2
