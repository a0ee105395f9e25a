"""What whoever asks for a run may say beside the policy, before it and while it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.notification import Named
from cleaner.core.reference import Digest
from tests.emulator.faults import After
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch
from tests.support.prune import ALL, children
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_nothing_goes_but_what_was_agreed_to(world: World, logged: Logged) -> None:
    """What has become due since somebody said yes is for another time, with all that belongs to it."""
    top = multi_arch("agreed")
    agreed = {world.load(top), *map(Digest, children(top))}
    other = world.load(image("other"))
    signed = world.load(multi_arch("not agreed"))
    before = world.left

    report = world.run().prune(only=frozenset(agreed))

    assert world.left == before - agreed
    assert {other, signed} <= world.left
    assert report.deleted == 3
    assert len(logged("prune finished")) == 1


def test_run_that_is_stopped_begins_nothing_more(world: World, logged: Logged) -> None:
    """What runs is finished, and what was done is told; no error."""
    for seed in range(6):
        world.load(image(seed))
    run = world.run(workers=1)
    world.faults.add(After(run.stop), kind="manifest_delete", nth=2)

    report = run.prune()

    assert len(world.left) == 4
    assert (report.deleted, report.kept) == (2, 4)
    assert len(logged("prune finished")) == 1
    assert world.log.counts["tags_list"] == 1


# Messages that arrive during the run.


def test_digest_that_is_named_from_the_start_is_just_pushed(world: World) -> None:
    """Somebody pushes an old digest again: it stays, and needs what it needs."""
    top = multi_arch("top")
    named = world.load(top)
    world.load(image("other"))

    report = world.prune(named=lambda: Named(frozenset({named})))

    assert world.left == {named, *children(top)}
    assert report.reasons == {"just-pushed": 1, "needed": 2, "expired": 1}


@pytest.mark.parametrize("workers", [1, 8])
def test_digest_that_is_named_during_the_run_is_spared(world: World, workers: int) -> None:
    """A message that comes after the plan was made counts all the same."""
    named: set[Digest] = set()
    spared, other = multi_arch("spared"), multi_arch("other")
    world.load(spared, tags="v1", age_days=30)
    world.load(other, tags="v2", age_days=40)
    signature = world.load(cosign_signature(spared), tags=cosign_tag(spared))
    world.faults.add(After(lambda: named.add(Digest(spared.digest))), kind="tags_list", nth=1)
    world.faults.add(After(lambda: named.add(Digest(spared.digest))), kind="manifest_get")

    # The message arrives between plan and execution: `told` is called once for the plan.
    asked = []

    def told() -> Named:
        asked.append(1)
        return Named(frozenset(named) if len(asked) > 1 else frozenset())

    report = world.prune(workers=workers, named=told, **ALL)

    assert world.left == {spared.digest, *children(spared), signature}
    assert world.tags == {"v1": spared.digest, cosign_tag(spared): signature}
    assert report.deleted == 3
