"""What whoever asks for a run may say beside the policy, before it and while it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.reference import Digest, Tag
from tests.emulator.faults import After
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch
from tests.support.prune import ALL, children
from tests.support.world import World

if TYPE_CHECKING:
    from tests.emulator.images import Content
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


@pytest.mark.parametrize("top", [multi_arch("top"), image("top")], ids=["index", "image"])
def test_tag_that_is_named_after_it_was_deleted(world: World, top: Content) -> None:
    """The next build has it by then: the old image is deleted to its end, and takes no place of what is kept."""
    untagged = {world.load(image(seed), age_days=40 + seed) for seed in range(2)}
    digest = world.load(top, tags="pr-12", age_days=20)
    build = image("next build")
    named: list[Named] = []

    def push() -> None:
        world.load(build, tags="pr-12", age_days=0)
        named.append(Named(frozenset({Digest(build.digest)}), frozenset({Tag("pr-12")})))

    kind = "manifest_delete" if top.children else "tag_delete"
    world.faults.add(After(push), kind=kind, nth=1)
    policy: dict[str, Any] = {"tagged": [{"match": "pr-.*", "delete_after": "14d"}], "untagged": {"keep": 2}}

    for _ in range(2):
        world.prune(workers=1, named=lambda: named[-1] if named else NOTHING_NAMED, **policy)

    assert world.left == {*untagged, build.digest}
    assert digest not in world.left
