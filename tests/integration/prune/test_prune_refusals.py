"""Deletions that the registry refuses, and what takes a refused image's place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.faults import After, Before, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT, DANGLING_TAG, REFERRING_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ALL, children, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("code", [DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST])
def test_refused_deletion_is_counted_and_kept(world: World, logged: Logged, code: str) -> None:
    """A WARNING with the registry's code; what belongs to the image stays, the rest goes."""
    refused = multi_arch("refused")
    world.load(refused)
    signature = world.load(cosign_signature(refused), tags=cosign_tag(refused))
    world.load(multi_arch("other"))
    world.faults.add(Status(400, code), kind="manifest_delete", path=refused.digest)

    report = world.prune(**ALL)

    assert world.left == {refused.digest, *children(refused), signature}
    assert (report.deleted, report.refused, report.failed) == (3, 1, 0)
    (record,) = logged("deletion refused")
    assert (record["levelname"], record["digest"]) == ("WARNING", refused.digest)
    assert (record["status"], tuple(record["codes"])) == (400, (code,))
    assert logged("deletion failed") == []


def test_image_that_got_a_tag_is_refused(world: World) -> None:
    """The registry is the last guard, whatever the plan says."""
    digest = world.load(image(1))
    world.faults.add(Before(lambda: world.store.tag(world.name, "new", digest)), kind="manifest_delete", nth=1)

    report = world.prune(**ALL)

    assert (report.deleted, report.refused) == (0, 1)
    assert world.tags == {"new": digest}


def test_child_that_got_a_parent_stays_with_its_own(world: World) -> None:
    """A push reuses an old platform manifest: it stays in the new index, with its signature."""
    platform = image("platform")
    old = world.load(index([platform, image(2)]), tags="v1")
    signature = world.load(cosign_signature(platform), tags=cosign_tag(platform))
    new = index([platform], seed="new")
    world.faults.add(Before(lambda: world.load(new, tags="v2", age_days=0)), kind="manifest_delete", path=old)

    report = world.prune(**ALL)

    assert world.left == {platform.digest, new.digest, signature}
    assert report.refused == 1


def test_immutable_tags_keep_their_images(world: World, logged: Logged) -> None:
    """A repository of immutable tags: what has one fails, what has none goes."""
    world.store.repository(world.name, immutable_tags=True)
    tagged = [world.load(multi_arch(seed), tags=f"v{seed}") for seed in range(3)]
    world.load(image("untagged"))

    report = world.prune(**ALL)

    assert world.tags == {f"v{seed}": digest for seed, digest in enumerate(tagged)}
    assert len(world.left) == 9
    assert (report.deleted, report.failed) == (1, 3)
    assert {tuple(one["codes"]) for one in logged("deletion failed")} == {("FAILED_PRECONDITION",)}
    # The first tag's refusal is the image's: its manifest is not asked for.
    assert world.log.counts["manifest_delete"] == 1


def test_image_that_is_refused_takes_no_others_place(world: World) -> None:
    """``max_deletions`` counts what goes: one that the registry always refuses must not hold up the rest for ever."""
    stuck = world.load(image("stuck"), age_days=90)
    holder = world.load(referrer(stuck), tags="keep-me", age_days=80)
    others = [world.load(image(seed), age_days=70 - seed) for seed in range(4)]

    report = world.prune(max_deletions=2)

    assert world.left == {stuck, holder, *others[2:]}
    assert (report.deleted, report.refused) == (2, 1)
    assert report.kept == 3


def test_what_takes_a_refused_images_place_was_to_go_before(world: World) -> None:
    """A child with a tag takes no place among the newest before its index is gone; then it does, in another run."""
    stuck = world.load(image("stuck"), age_days=90)
    world.load(referrer(stuck), tags="keep-me", age_days=80)
    top = multi_arch("top", platforms=("amd64",))
    child = world.load(top.children[0], tags="v3", age_days=10)
    world.load(top, tags="v1", age_days=50)
    newest = world.load(image("newest"), tags="v2", age_days=20)
    policy: dict[str, Any] = one_rule(1, 0, match="v.*", max_deletions=2)

    report = world.prune(**policy)

    assert (report.deleted, report.refused) == (1, 1)
    assert {stuck, child, newest} <= world.left
    assert top.digest not in world.left

    assert world.run(**policy).prune().deleted == 1
    assert newest not in world.left


def test_image_that_was_tagged_anew_is_judged_by_itself(world: World) -> None:
    """Once that tag has moved on it is an untagged image: what it was before does not delete it."""
    digest = world.load(image("old"), tags="pr-1", age_days=20)
    world.faults.add(Before(lambda: world.store.tag(world.name, "prod", digest)), kind="manifest_delete", nth=1)
    policy = protecting("prod", {"tagged": [{"match": "pr-.*", "delete_after": "14d"}], "untagged": {"keep": 5}})
    assert world.run(**policy).prune().refused == 1
    newer = world.load(image("new"), tags="prod", age_days=1)

    report = world.prune(**policy)

    assert world.left == {digest, newer}
    assert report.reasons == {"protected": 1, "newest": 1}


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_subject_with_a_child_that_stays_goes(world: World, code: str) -> None:
    """A child with a tag of its own does not need its index, whatever the registry refuses the index for."""
    world.store.referrer_code = code
    top = multi_arch("top")
    child, other = (world.load(one, age_days=40) for one in top.children)
    world.load(top, tags="pr-1", age_days=40)
    world.store.tag(world.name, "v1", child)
    about = world.load(referrer(top), age_days=40)

    report = world.prune(**protecting("v.*", one_rule(0, 0, match="pr-.*")))

    assert world.left == {child}
    assert {top.digest, other, about}.isdisjoint(world.left)
    assert (report.deleted, report.refused) == (3, 0)


def test_refused_image_is_requested_once_more_and_a_failed_one_is_not(world: World) -> None:
    """Each is counted once, however many plans follow."""
    refused = multi_arch("refused")
    world.load(refused, age_days=90)
    failing = world.load(image("failing"), age_days=80)
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused.digest)
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=failing)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")

    report = world.prune(workers=1, **ALL)

    assert world.left == {refused.digest, *children(refused), failing}
    assert (report.deleted, report.refused, report.failed) == (6, 1, 1)
    asked = [what for _, what, _ in world.asked("manifest_delete")]
    assert Counter(asked)[refused.digest] == 2
    assert len(asked) == 9


def test_refused_image_that_goes_later_is_not_taken_for_one_that_stays(world: World) -> None:
    """What is kept is what is left: here the other's plan was too old, and the refused one is gone by the next."""
    refused = world.load(image("refused"), age_days=90)
    world.load(image("other"), age_days=80)
    kept = world.load(image("kept"), tags="v1")
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused)
    world.faults.add(Status(503, retry_after=60), kind="manifest_delete", skip=1, times=1)
    world.faults.add(Before(lambda: world.store.force_delete(world.name, refused)), kind="tags_list", nth=2)

    report = world.run(workers=1).prune()

    assert world.left == {kept}
    assert (report.kept, report.deleted, report.refused) == (1, 1, 1)


def test_image_that_could_not_go_is_told_once(world: World) -> None:
    """As refused or failed, and not as one that a limit keeps."""
    failing = world.load(image("failing"), age_days=90)
    world.load(image("other"), age_days=80)
    world.load(image("kept"), tags="v1")
    world.faults.add(Status(400, "DENIED"), kind="manifest_delete", path=failing)

    report = world.run(max_deletions=2).prune()

    assert (report.kept, report.deleted, report.failed) == (1, 1, 1)
    assert report.reasons == {"unmatched": 1, "expired": 1}
