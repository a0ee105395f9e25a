"""A repository whose tags cannot be deleted: what is tried, what is kept, and what is deleted all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import PermissionDenied
from tests.emulator.faults import After, Before, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch, referrer
from tests.support.prune import ABSENT, ALL
from tests.support.world import World

if TYPE_CHECKING:
    from cleaner.core.reference import Digest
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

COUNT = 30


def load_tagged(world: World, count: int = COUNT) -> dict[str, Digest]:
    """Load expired images, the oldest first, each with an immutable tag; return the tags with what they name."""
    world.store.repository(world.name, immutable_tags=True)
    return {
        f"v{number}": world.load(image(number), tags=f"v{number}", age_days=90 - number) for number in range(count)
    }


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_tags_that_cannot_be_deleted_are_tried_three_times(world: World, logged: Logged, workers: int) -> None:
    """Beside the third at most what the other workers have begun; then one ERROR, and no tag is begun any more."""
    tags = load_tagged(world)

    report = world.prune(workers=workers, **ALL)

    assert world.tags == tags
    tried = {tag for _, tag, _ in world.asked("tag_delete")}
    assert 3 <= len(tried) <= 3 + workers - 1
    assert len(world.asked("tag_delete", "manifest_head")) == 2 * len(tried)
    (error,) = logged("tags cannot be deleted")
    assert error["levelname"] == "ERROR"
    assert (error["repository"], error["status"], error["codes"]) == (world.name, 400, ("FAILED_PRECONDITION",))
    # What was never tried is kept.
    assert (report.deleted, report.refused) == (0, 0)
    assert (report.failed, report.kept) == (len(tried), COUNT - len(tried))
    assert {tuple(one["tags"]) for one in logged("deletion failed")} == {(tag,) for tag in tried}


@pytest.mark.parametrize("workers", [2, 20])
def test_what_has_no_tag_is_deleted_all_the_same(world: World, logged: Logged, workers: int) -> None:
    """Images, their children, OCI referrers and orphans that have no tag need no tag to be deleted."""
    tags = load_tagged(world)
    before = world.left
    for seed in range(5):
        world.load(image(f"untagged {seed}"), age_days=100)
    world.load(multi_arch("top"), age_days=20)
    subject = world.load(image("subject"), age_days=20)
    world.load(referrer(subject), age_days=20)
    world.load(referrer(ABSENT), age_days=20)
    untagged = len(world.left) - len(before)

    report = world.prune(workers=workers, **ALL)

    assert world.left == before
    assert world.tags == tags
    assert report.deleted == untagged == 11
    assert report.kept + report.failed == COUNT
    assert len(logged("tags cannot be deleted")) == 1


def test_what_belongs_to_an_image_whose_tag_cannot_be_deleted_is_kept(world: World) -> None:
    """Children and signatures, whether the image was tried or not."""
    world.store.repository(world.name, immutable_tags=True)
    tops = [multi_arch(number, attestations=True) for number in range(6)]
    for number, top in enumerate(tops):
        world.load(top, tags=f"v{number}", age_days=90 - number)
        world.load(cosign_signature(top), tags=cosign_tag(top), age_days=90 - number)
        world.load(referrer(top), age_days=90 - number)
    before = world.left

    report = world.prune(workers=1, **ALL)

    assert world.left == before
    assert (report.deleted, report.failed, report.kept) == (0, 3, len(before) - 3)


def test_tagged_child_is_kept_when_its_untagged_index_is_deleted(world: World) -> None:
    """The index needs no tag to be deleted; its child would."""
    load_tagged(world, 3)
    top = multi_arch("top")
    world.load(top, age_days=20)
    world.store.tag(world.name, "child", top.children[0].digest)

    world.prune(workers=1, **ALL)

    assert top.children[0].digest in world.left
    assert {top.digest, top.children[1].digest}.isdisjoint(world.left)


def test_run_ends_without_another_attempt_and_the_next_run_tries_again(world: World, logged: Logged) -> None:
    """The tags may have been made mutable by then."""
    tags = load_tagged(world)

    world.prune(workers=1, **ALL)

    # The second listing leaves nothing to do.
    assert [one.kind for one in world.log.entries] == [
        "tags_list",
        *["manifest_head", "tag_delete"] * 3,
        "tags_list",
    ]
    world.log.clear()
    world.prune(workers=1, **ALL)
    assert world.log.counts["tag_delete"] == 3
    assert len(logged("tags cannot be deleted")) == 2
    assert world.tags == tags

    world.store.repository(world.name, immutable_tags=False)
    assert world.prune(workers=1, **ALL).deleted == COUNT
    assert len(logged("tags cannot be deleted")) == 2


def test_tags_that_failed_before_the_plan_was_cut_count(world: World, logged: Logged) -> None:
    """They are the tag deletions of one run, in however many plans."""
    load_tagged(world, 2)
    for number in range(2):
        world.load(image(f"untagged {number}"), age_days=80 - number)
    for number in range(4):
        world.load(image(f"later {number}"), tags=f"later-{number}", age_days=70 - number)
    # The plan is old after the first image without a tag.
    world.faults.add(After(lambda: world.clock.turn(61)), kind="manifest_delete", nth=1)

    report = world.prune(workers=1, **ALL)

    assert [tag for _, tag, _ in world.asked("tag_delete")] == ["v0", "v1", "later-0"]
    assert len(logged("tags cannot be deleted")) == 1
    assert (report.deleted, report.failed, report.kept) == (2, 3, 3)


def test_later_plan_keeps_what_a_manifest_with_a_tag_needs(world: World, logged: Logged) -> None:
    """A signature that cannot be deleted keeps the untagged image that it signs; the ERROR is logged once."""
    load_tagged(world, 4)
    for number in range(3):
        world.load(image(f"untagged {number}"), age_days=80 - number)
    subject = world.load(image("signed"), age_days=20)
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject), age_days=20)
    world.faults.add(After(lambda: world.clock.turn(40)), kind="manifest_delete")

    report = world.prune(workers=1, **ALL)

    assert world.log.counts["tags_list"] == 2
    assert {subject, signature} <= world.left
    assert (report.deleted, report.failed, report.kept) == (3, 3, 3)
    assert len(logged("tags cannot be deleted")) == 1


def test_tags_of_a_registry_that_deletes_one_are_all_tried(world: World, logged: Logged) -> None:
    """Some tags are protected, others are not: each is its own case."""
    tags = load_tagged(world, 8)
    world.store.repository(world.name, immutable_tags=False)
    protected = [tag for tag in tags if tag != "v1"]
    for tag in protected:
        world.faults.add(Status(403, "DENIED"), kind="tag_delete", path=f"/{tag}$")

    report = world.prune(workers=1, **ALL)

    assert sorted(world.tags) == sorted(protected)
    assert (report.deleted, report.failed, report.kept) == (1, 7, 0)
    assert logged("tags cannot be deleted") == []


def test_tags_that_fail_differently_are_all_tried(world: World, logged: Logged) -> None:
    """Two of each kind are no rule."""
    failures = [Status(400, "FAILED_PRECONDITION"), Status(403, "FAILED_PRECONDITION"), Status(400, "UNSUPPORTED")]
    for tag, failure in zip(load_tagged(world, 6), failures * 2, strict=True):
        world.faults.add(failure, kind="tag_delete", path=f"/{tag}$")

    report = world.prune(workers=1, **ALL)

    assert (report.deleted, report.failed, report.kept) == (0, 6, 0)
    assert logged("tags cannot be deleted") == []


def test_limit_is_not_spent_on_tags_that_cannot_be_deleted(world: World) -> None:
    """What is kept because of its tag counts for nothing: younger images take its place."""
    load_tagged(world, 5)
    untagged = [world.load(image(f"untagged {number}"), age_days=50 - number) for number in range(3)]

    report = world.prune(workers=1, max_deletions=5, **ALL)

    assert world.left.isdisjoint(untagged)
    assert (report.deleted, report.failed, report.kept) == (3, 3, 2)


def test_run_that_ends_badly_has_logged_that_tags_cannot_be_deleted(world: World, logged: Logged) -> None:
    """The error comes after the third tag; the log has both, and the summary."""
    load_tagged(world, 4)
    world.load(image("untagged"), age_days=10)
    world.faults.add(Before(lambda: world.faults.add(Status(403), kind="tags_list")), kind="manifest_delete", nth=1)

    with pytest.raises(PermissionDenied):
        world.prune(workers=1, **ALL)

    assert len(logged("tags cannot be deleted")) == 1
    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["failed"], summary["kept"]) == (1, 3, 1)
