"""The chaos judge finds what is wrong with a run: each rule of section 6, kept and broken by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.scenes import REPOSITORY, Scene
from tests.emulator.images import Content, cosign_signature, cosign_tag, image, index, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.support.oracle import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable


def oci(seed: str) -> Content:
    return image(seed, media_type=OCI_MANIFEST)


def found(scene: Scene) -> str:
    return "\n".join(loss.what for loss in scene.losses())


class Images:
    """A repository with something of each kind that expires, and untagged images of which one is kept."""

    def __init__(self, **policy: object) -> None:
        self.scene = scene = Scene(**policy)
        scene.load(oci("newest"), "old-0", days=2)
        self.children = [oci("amd64"), oci("arm64")]
        for child in self.children:
            scene.load(child, days=9)
        self.index = scene.load(index(self.children, media_type=OCI_INDEX), "old-1", days=9)
        self.first, self.second = (child.digest for child in self.children)
        self.untagged = scene.load(oci("untagged"), days=20)


def test_run_by_the_rules_is_no_loss() -> None:
    """An index with its tag, then its children."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    scene.delete(images.first)
    scene.delete(images.second)
    scene.close("acked")

    assert found(scene) == ""


# A later listing is judged as if the run had deleted nothing yet.


@pytest.mark.parametrize("outcome", ["", "failed"])
def test_children_of_a_deleted_index_take_no_place(outcome: str) -> None:
    """Nor in the next run of the process, if the run ended badly: an untagged image that they displace is kept."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    if outcome:
        scene.close(outcome)
        scene.open()
    scene.list()
    scene.wait(2)
    scene.list()
    scene.delete(images.untagged)

    assert "which its listing keeps" in found(scene)
    assert f"{scene.records.label(images.untagged)} was kept all the time, and is gone" in found(scene)


def test_children_that_a_run_has_left_take_places_once_it_ended_well() -> None:
    """A run that ended well leaves no half image, or its message is a loss; what it kept is an image of its own."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    scene.head(images.first)
    scene.close("acked")
    scene.open()
    scene.list()
    scene.wait(2)
    scene.list()
    scene.delete(images.untagged)

    assert "left alone" in found(scene)
    assert "which its listing keeps" not in found(scene)


def test_image_that_lost_its_tag_to_the_run_is_still_tagged() -> None:
    """It takes no place of an untagged image."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    for _ in range(2):
        scene.list()
        scene.wait(2)
    scene.list()
    scene.delete(images.untagged)

    assert "which its listing keeps" in found(scene)


def test_run_that_may_have_ended_may_go_on() -> None:
    """Whose message is acknowledged just after a listing may have ended before it, or know what it has deleted."""
    rules = [{"match": match, "keep": 1} for match in ("old.*", "main.*")]
    scene = Scene(tagged=rules, untagged={"keep": 1})
    scene.load(oci("newest"), "old-0", days=2)
    displacing = scene.load(oci("displacing"), "main-0", days=2)
    refused = scene.load(oci("refused"), "main-1", days=9)
    scene.open()
    scene.list()
    scene.delete_tag("main-1")
    scene.delete(refused, answer=400)
    scene.close("acked")
    # With the tag of the earlier run it would be kept.
    scene.remove(displacing)
    scene.tag("old-1", refused)
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(refused, answer=400)
    waiting = scene.also()
    scene.list()
    scene.delete(refused, answer=400)
    scene.end(waiting, "acked")

    assert found(scene) == ""


@pytest.mark.parametrize("is_killed", [True, False])
def test_half_an_image_of_another_process_is_a_gap(is_killed: bool) -> None:
    """Its parts look like untagged images to everybody else, and that is counted under a name of its own."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.process = "another"
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    if is_killed:
        scene.kill()
    scene.process = "function"
    scene.open()
    scene.list()
    scene.wait(2)
    scene.list()
    scene.delete(images.untagged)
    judge = scene.judge()

    assert not [loss for loss in judge.losses if "kept all the time" in loss.what]
    assert judge.gaps == {f"half deleted by {'a killed' if is_killed else 'another'} process": 1}


def test_image_lost_for_another_reason_is_no_gap() -> None:
    """That another process has begun an image excuses nothing that its parts have not displaced."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.process = "another"
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    scene.kill()
    kept = scene.load(oci("kept"), "v1", days=50)
    scene.process = "function"
    scene.open()
    scene.list()
    scene.delete_tag("v1")
    scene.delete(kept)
    judge = scene.judge()

    assert any("which its listing keeps" in loss.what for loss in judge.losses)
    assert not judge.gaps


# Two listings.


@pytest.mark.parametrize(("seconds", "is_lost"), [(0.5, True), (1.5, False)])
def test_untagged_image_is_deleted_by_count_when_two_listings_agree(seconds: float, is_lost: bool) -> None:
    """They are at least a second apart."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    older = scene.load(oci("older"), days=40)
    scene.open()
    scene.list()
    scene.wait(seconds)
    scene.list()
    scene.delete(older)

    assert ("is deleted by count, and no two listings" in found(scene)) is is_lost


def test_what_is_untagged_in_one_listing_takes_no_place() -> None:
    """A part of an image that another process deletes, for one."""
    scene = Scene(untagged={"keep": 1})
    kept = scene.load(oci("kept"), days=40)
    part = oci("part")
    scene.load(part, days=9)
    parent = scene.load(index([part], media_type=OCI_INDEX), "v1", days=9)
    scene.open()
    scene.list()
    scene.remove(parent)
    scene.wait(2)
    scene.list()
    scene.delete(kept)

    assert "is deleted by count, and no two listings" in found(scene)


def test_listing_with_a_vanished_index_is_none_of_the_two() -> None:
    """Its children look like untagged images."""
    scene = Scene(untagged={"keep": 1})
    older = scene.load(oci("older"), days=40)
    scene.load(oci("newer"), days=9)
    vanished = scene.load(index([oci("absent")], media_type=OCI_INDEX), "v1", days=9)
    scene.open()
    scene.list(missing=vanished)
    scene.wait(2)
    scene.list()
    scene.delete(older)

    assert "is deleted by count, and no two listings" in found(scene)


# OCI referrers.


class Subject:
    """An expired image with two tags, an OCI referrer and a signature by tag."""

    def __init__(self) -> None:
        self.scene = scene = Scene()
        scene.load(oci("newest"), "old-0", days=2)
        subject = oci("subject")
        self.subject = scene.load(subject, "old-1", "old-2")
        self.referrer = scene.load(referrer(subject))
        self.signature = scene.load(cosign_signature(subject), cosign_tag(subject))
        self.signature_tag = cosign_tag(subject)
        scene.open()
        scene.list()


def test_subject_goes_after_its_referrers_and_before_its_signature() -> None:
    """Its tags, its OCI referrers, itself, its referrers by tag."""
    one = Subject()
    one.scene.delete_tag("old-1")
    one.scene.delete_tag("old-2")
    one.scene.delete(one.referrer)
    one.scene.delete(one.subject)
    one.scene.delete_tag(one.signature_tag)
    one.scene.delete(one.signature)
    one.scene.close("acked")

    assert found(one.scene) == ""


def _referrer_before_the_tags(one: Subject) -> None:
    one.scene.delete_tag("old-1")
    one.scene.delete(one.referrer)


def _subject_before_the_referrer(one: Subject) -> None:
    one.scene.delete_tag("old-1")
    one.scene.delete_tag("old-2")
    one.scene.delete(one.subject)


def _signature_before_the_subject(one: Subject) -> None:
    one.scene.delete_tag(one.signature_tag)
    one.scene.delete(one.signature)


def _referrer_too_late(one: Subject) -> None:
    one.scene.delete_tag("old-1")
    one.scene.delete_tag("old-2")
    one.scene.wait(15)
    one.scene.delete(one.referrer)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (_referrer_before_the_tags, "is asked to go before the tag old-2 of its subject"),
        (_subject_before_the_referrer, "is asked to go before its referrers"),
        (_signature_before_the_subject, "which it belongs to"),
        (_referrer_too_late, "s after it listed"),
    ],
)
def test_wrong_order_of_a_subject_is_found(act: Callable[[Subject], None], what: str) -> None:
    """And so is a referrer that is deleted long after the listing."""
    one = Subject()

    act(one)

    assert what in found(one.scene)


def test_child_before_its_index_is_found() -> None:
    """The registry refuses it; nobody should have asked."""
    images = Images()
    images.scene.open()
    images.scene.list()
    images.scene.delete(images.first)

    assert "is asked to go before an index that it follows" in found(images.scene)


@pytest.mark.parametrize("waits", [True, False])
def test_redundant_index_is_deleted_after_the_index_that_it_follows(waits: bool) -> None:
    """Although the registry would delete it at any time."""
    images = Images()
    scene = images.scene
    redundant = scene.load(index(images.children[:1], media_type=OCI_INDEX), days=9)
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    for digest in (images.index, redundant) if waits else (redundant, images.index):
        scene.delete(digest)

    assert ("before an index that it follows" in found(scene)) is not waits


# Time.


@pytest.mark.parametrize(("begun", "is_lost"), [(True, False), (False, True)])
def test_old_plan_finishes_what_was_begun(begun: bool, is_lost: bool) -> None:
    """And begins nothing."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.list()
    if begun:
        scene.delete_tag("old-1")
        scene.wait(70)
        scene.delete(images.index)
        scene.delete(images.first)
    else:
        scene.wait(70)
        scene.delete_tag("old-1")

    assert ("s after its plan" in found(scene)) is is_lost


@pytest.mark.parametrize(("seconds", "is_lost"), [(505.0, False), (550.0, True)])
def test_time_limit_leaves_time_to_finish(seconds: float, is_lost: bool) -> None:
    """Not for ever: the platform ends the process soon after."""
    images = Images(untagged={"keep": 1})
    scene = images.scene
    scene.open()
    scene.wait(490)
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(images.index)
    scene.wait(seconds - 490)
    scene.delete(images.first)

    assert ("after its time was over" in found(scene)) is is_lost


# What a run may repeat.


@pytest.mark.parametrize(("times", "is_lost"), [(2, False), (3, True)])
def test_refused_image_is_asked_for_once_more(times: int, is_lost: bool) -> None:
    """The registry's refusals of one run are counted."""
    images = Images()
    images.scene.open()
    for _ in range(times):
        images.scene.list()
        images.scene.delete(images.untagged, answer=400)

    assert ("is refused" in found(images.scene)) is is_lost


def test_failed_image_is_not_asked_for_again() -> None:
    """Any other 4xx is for good."""
    images = Images()
    images.scene.open()
    for _ in range(2):
        images.scene.list()
        images.scene.delete(images.untagged, answer=405)

    assert "asks again for" in found(images.scene)


@pytest.mark.parametrize(("tags", "is_lost"), [(4, False), (5, True)])
def test_immutable_tags_end_the_deletion_of_tags(tags: int, is_lost: bool) -> None:
    """After three failures at most as many more as there are workers."""
    images = Images()
    for number in range(2, 9):
        images.scene.load(oci(f"image {number}"), f"old-{number}", days=30 + number)
    images.scene.open()
    images.scene.list()
    for number in range(2, 2 + tags):
        images.scene.delete_tag(f"old-{number}", answer=405)

    assert ("more tags after three could not be deleted" in found(images.scene)) is is_lost


# A registry that deletes more than it is told.


@pytest.mark.parametrize("looks", [True, False])
def test_kept_child_of_a_deleted_index_is_looked_for(looks: bool) -> None:
    """Once the index is deleted."""
    scene = Scene()
    scene.load(oci("newest"), "old-0", days=2)
    kept = oci("kept")
    scene.load(kept, "v1")
    parent = scene.load(index([kept], media_type=OCI_INDEX), "old-1")
    scene.open()
    scene.list()
    scene.delete_tag("old-1")
    scene.delete(parent)
    if looks:
        scene.head(kept.digest)
    scene.close("acked")

    assert ("does not look whether" in found(scene)) is not looks


def test_missing_kept_child_ends_the_run() -> None:
    """Nothing is deleted after that."""
    images = Images()
    scene = images.scene
    kept = oci("kept")
    scene.load(kept, "v1")
    parent = scene.load(index([kept], media_type=OCI_INDEX, seed="parent"), "old-2", days=40)
    scene.open()
    scene.list()
    scene.delete_tag("old-2")
    scene.delete(parent)
    scene.remove(kept.digest)
    scene.head(kept.digest)
    scene.wait(3)
    scene.delete(images.untagged)

    assert "is gone, and goes on to delete" in found(scene)


# What arrives meanwhile.


def test_tag_that_was_moved_to_an_image_while_the_run_was_on_keeps_it() -> None:
    """Whatever the policy says of it."""
    images = Images()
    scene = images.scene
    scene.open()
    scene.list()
    scene.tag("old-7", images.untagged)
    scene.list()
    scene.delete_tag("old-7")
    scene.delete(images.untagged)

    assert "just-pushed" in found(scene)


def test_subject_of_what_got_a_tag_is_not_left_alone() -> None:
    """A run knows it from the earlier listing, in which what names it had no tag and was read."""
    scene = Scene()
    scene.load(oci("newest"), "old-0", days=2)
    orphan = referrer(oci("absent"))
    scene.load(orphan)
    about = scene.load(referrer(orphan), days=20)
    scene.open()
    scene.list()
    # It may have been the run that this message was for.
    waiting = scene.also()
    scene.tag("old-7", about)
    scene.end(waiting)
    scene.wait(1)
    scene.list()
    scene.close("acked")

    assert found(scene) == ""


def test_what_a_waiting_message_names_is_kept() -> None:
    """It arrived well before the deletion."""
    images = Images()
    scene = images.scene
    scene.open()
    scene.list()
    scene.also(images.untagged)
    scene.wait(5)
    scene.delete(images.untagged)

    assert "'s run names" in found(scene)


def test_loop_is_kept() -> None:
    """Cosign tags can make one; nothing of it comes first."""
    scene = Scene()
    first, second = oci("first"), oci("second")
    scene.load(first, cosign_tag(second))
    scene.load(second, cosign_tag(first))
    scene.open()
    scene.list()
    scene.delete_tag(cosign_tag(second))

    assert "which its listing keeps" in found(scene)


def test_deletion_in_a_repository_without_a_policy_is_found() -> None:
    """Nothing at all may be deleted there."""
    images = Images()
    images.scene.case.repositories[REPOSITORY] = None
    images.scene.open()
    images.scene.list()
    images.scene.delete(images.untagged)

    assert "where nothing may be deleted" in found(images.scene)
