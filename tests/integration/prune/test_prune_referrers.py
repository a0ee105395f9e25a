"""Referrers that the registry knows: they go before their subject, and stay with it."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import TimeLimitReached
from cleaner.core.reference import Digest
from tests.emulator.faults import After, Before, Delay
from tests.emulator.images import attestation, cosign_signature, cosign_tag, image, index, raw, referrer
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX, OCI_MANIFEST, REFERRING_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ALL, costs
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("workers", [1, 8])
def test_referrers_of_referrers_go_first(world: World, logged: Logged, code: str, workers: int) -> None:
    """A chain is deleted from its end, and no deletion of it is refused."""
    world.store.referrer_code = code
    chain = [world.load(image("subject"), tags="v1")]
    for number in range(12):
        chain.append(world.load(referrer(chain[-1], seed=number)))

    report = world.prune(workers=workers, **ALL)

    assert world.left == frozenset()
    assert world.gone() == ["v1", *reversed(chain)]
    assert (report.deleted, report.refused) == (13, 0)
    assert logged("deletion refused") == []
    costs(world, tags_list=1, manifest_get=12, manifest_head=1, tag_delete=1, manifest_delete=13)


@pytest.mark.parametrize("workers", [1, 4])
def test_referrer_that_signs_the_top_as_well_goes_first(world: World, workers: int) -> None:
    """By its cosign tag it would go behind the subject; but it goes before the referrer that goes before that."""
    subject = world.load(image("subject"), tags="v1")
    about = world.load(referrer(subject))
    world.load(index([], media_type=OCI_INDEX, subject=about), tags=cosign_tag(subject, "att"))

    report = world.prune(workers=workers, **ALL)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (3, 0)


def test_referrer_of_a_referrer_that_has_not_been_read_goes_first(world: World) -> None:
    """It has the subject's cosign tag, and its document names the referrer, of which no plan knows that it is one."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    world.load(referrer(about), tags=cosign_tag(subject))

    report = world.prune(**ALL)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (3, 0)


def test_subjects_that_wait_for_each_other_are_refused(world: World, logged: Logged) -> None:
    """Each one's referrer is the other's signature, which goes behind it: no order is right, and that is told."""
    first, second = world.load(image(1)), world.load(image(2))
    world.load(referrer(first), tags=cosign_tag(second))
    world.load(referrer(second), tags=cosign_tag(first))

    report = world.prune(**ALL)

    assert len(world.left) == 4
    assert (report.deleted, report.refused) == (0, 2)
    assert {one["digest"] for one in logged("deletion refused")} == {first, second}


@pytest.mark.parametrize("how", ["referrer", "parent"])
@pytest.mark.parametrize(("workers", "most"), [(1, 0), (4, 30)])
def test_no_referrer_is_deleted_once_another_was_refused(world: World, how: str, workers: int, most: int) -> None:
    """Something belongs to that one by now, so the subject is kept, and with it all that are still there."""
    subject = world.load(image("subject"), age_days=20)
    listed = [referrer(subject, seed=seed) for seed in range(60)]
    world.load(index(listed, media_type=OCI_INDEX), tags=cosign_tag(subject, ""), age_days=20)
    refused: list[str] = []

    def attach(digest: str) -> None:
        if refused:
            return
        refused.append(digest)
        if how == "referrer":
            world.load(referrer(digest, seed="new"), age_days=0)
        else:
            world.load(index([], absent=[digest], media_type=OCI_INDEX), tags="keep-me", age_days=0)

    for one in listed:
        world.faults.add(Before(functools.partial(attach, one.digest)), kind="manifest_delete", path=one.digest)
    world.faults.add(Delay(0.02), kind="manifest_delete")

    world.prune(workers=workers, **ALL)

    assert subject in world.left
    asked = world.asked("manifest_delete")
    behind = asked[asked.index(("DELETE", refused[0], 400)) + 1 :]
    assert [status for *_, status in behind].count(202) <= most


def test_no_referrer_is_deleted_once_one_below_another_was_refused(world: World) -> None:
    """The one that it is about is kept, and so is the subject of all."""
    subject = world.load(image("subject"), age_days=20)
    about = [world.load(referrer(subject, seed=seed), age_days=20) for seed in range(60)]
    listed = referrer(about[-1], seed="listed")
    world.load(index([listed], media_type=OCI_INDEX), tags=cosign_tag(about[-1], ""), age_days=20)
    new = Before(lambda: world.load(referrer(listed, seed="new"), tags="keep-me", age_days=0))
    world.faults.add(new, kind="manifest_delete", path=listed.digest, nth=1)

    world.prune(workers=1, **ALL)

    asked = world.asked("manifest_delete")
    behind = asked[asked.index(("DELETE", listed.digest, 400)) + 1 :]
    assert {status for *_, status in behind} <= {400}
    assert {subject, about[-1], listed.digest} <= world.left


def test_nothing_is_begun_twice(world: World) -> None:
    """What is ready when a look puts it behind its own referrers is asked once, when those are gone."""
    platforms = [image(f"platform {seed}", media_type=OCI_MANIFEST) for seed in range(2)]
    slow = image("slow", media_type=OCI_MANIFEST)
    about = [attestation(one, as_referrer=True, is_annotated=False) for one in platforms]
    for age, one in enumerate([*platforms, slow, *about]):
        world.load(one, age_days=30 - age)
    world.load(index([*platforms, slow, *about], media_type=OCI_INDEX), tags="v1", age_days=20)
    for one in about:
        world.load(referrer(one), age_days=20)
    world.faults.add(Delay(0.5), kind="manifest_delete", path=slow.digest)
    world.faults.add(Delay(1.0), kind="manifest_delete", path=about[1].digest)

    report = world.prune(workers=2, **ALL)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (8, 0)
    answers = [status for _, digest, status in world.asked("manifest_delete") if digest == about[1].digest]
    # How it is asked before it is put behind its referrer is a question of time.
    assert answers in ([202], [400, 202])


ARRIVALS: dict[str, Callable[[World, Digest, Digest], Any]] = {
    "referrer": lambda world, subject, _: world.load(referrer(subject, seed="new"), age_days=0),
    "parent": lambda world, subject, _: world.load(
        index([], absent=[subject], media_type=OCI_INDEX), tags="v2", age_days=0
    ),
    "tag": lambda world, subject, _: world.store.tag(world.name, "new", subject),
    "tag of a referrer": lambda world, _, about: world.store.tag(world.name, "new", about),
    "referrer of a referrer": lambda world, _, about: world.load(referrer(about, seed="new"), age_days=0),
    "parent of a referrer": lambda world, _, about: world.load(
        index([], absent=[about], media_type=OCI_INDEX), tags="v2", age_days=0
    ),
    "tagged referrer": lambda world, subject, _: world.load(referrer(subject, seed="new"), tags="v2", age_days=0),
    "tagged referrer of a referrer": lambda world, _, about: world.load(
        referrer(about, seed="new"), tags="v2", age_days=0
    ),
    "referrer in an index": lambda world, subject, _: world.load(
        index([referrer(subject, seed="new")], media_type=OCI_INDEX), tags="v2", age_days=0
    ),
    "cosign signature": lambda world, subject, _: world.load(
        cosign_signature(subject), tags=cosign_tag(subject), age_days=0
    ),
    "cosign signature of a referrer": lambda world, _, about: world.load(
        cosign_signature(about), tags=cosign_tag(about), age_days=0
    ),
}


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_what_arrives_in_between_keeps_the_subject_whole(world: World, code: str, arrival: str) -> None:
    """Referrers are deleted for ten seconds after the listing; then the next one shows what has been attached."""
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]
    before = world.left

    def arrive() -> None:
        world.clock.turn(10)
        ARRIVALS[arrival](world, subject, about[0])

    world.faults.add(After(arrive), kind="tags_list", nth=1)
    # Something else is deleted, or the run would end here.
    other = world.load(image("other"))

    report = world.prune(**ALL)

    assert before <= world.left
    assert other not in world.left
    assert (report.deleted, report.refused) == (1, 0)
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_what_arrives_within_ten_seconds_is_kept_with_the_subject(world: World, code: str, arrival: str) -> None:
    """The registry refuses what it belongs to; referrers that were deleted by then are the gap that is documented."""
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]
    arrived: list[object] = []

    def arrive(digest: Digest) -> None:
        if not arrived:
            arrived.append(ARRIVALS[arrival](world, subject, digest))

    for one in about:
        world.faults.add(Before(functools.partial(arrive, one)), kind="manifest_delete", path=one)

    report = world.prune(workers=1, **ALL)

    if "cosign" in arrival:
        # Nothing keeps the registry from deleting what is only named by a tag.
        assert world.left == {*arrived}
        return
    assert {subject, *filter(None, arrived)} <= world.left
    assert report.refused == 1
    assert {*about} <= world.left or "of a referrer" not in arrival


def test_subject_whose_deletion_is_not_begun_in_time_ends_the_run(world: World) -> None:
    """A listing that is too old before anything begins is no reason to list for ever."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    world.faults.add(After(lambda: world.clock.turn(11)), kind="manifest_get")

    with pytest.raises(TimeLimitReached):
        world.prune(**ALL)
    assert world.left == {subject, about}

    # The documents are remembered, so the next run is in time.
    world.prune(**ALL)
    assert world.left == frozenset()


def test_referrer_that_went_meanwhile_does_not_matter(world: World) -> None:
    """Whoever deleted it: the rest is deleted."""
    subject = world.load(image("subject"))
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]

    world.faults.add(Before(lambda: world.store.force_delete(world.name, about[0])), kind="manifest_delete", nth=1)

    world.prune(**ALL)

    assert world.left == frozenset()
    assert world.log.counts["tags_list"] == 1


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("held_by", ["a tagged referrer", "a child of a kept index"])
def test_subject_that_is_held_by_what_is_not_read_stays(world: World, held_by: str, code: str) -> None:
    """A tag or a parent with a platform decides on it, and not its subject; the registry refuses it twice."""
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    world.load(referrer(subject))
    holder = referrer(subject, seed="holder")
    if held_by == "a tagged referrer":
        held = {world.load(holder, tags="keep-me")}
    else:
        platform = {"architecture": "amd64", "os": "linux"}
        listed = replace(holder, descriptor_extra=(("platform", platform),))
        held = {world.load(index([listed], media_type=OCI_INDEX), tags="v1"), Digest(holder.digest)}

    report = world.prune()

    assert world.left == {subject, *held}
    assert (report.deleted, report.refused, report.failed) == (1, 1, 0)
    assert ("GET", holder.digest, 200) not in world.asked("manifest_get")


def test_subject_of_a_child_that_a_kept_index_lists_without_a_platform_is_kept(world: World) -> None:
    """Such a child may be a referrer, so it is read; its index keeps it, and it keeps all that its subject needs."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    holder = referrer(subject, seed="holder")
    top = world.load(index([holder], media_type=OCI_INDEX), tags="v1")

    report = world.prune()

    assert world.left == {subject, about, top, holder.digest}
    assert (report.deleted, report.refused) == (0, 0)
    assert report.reasons == {"unmatched": 1, "needed": 3}
    costs(world, tags_list=1, manifest_get=3)


def test_referrer_that_is_held_by_what_is_not_read_does_not_hold_its_subject(world: World) -> None:
    """The signature by a cosign tag is refused for its own referrer; what it signs has gone by then."""
    subject = world.load(image("subject"))
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    about = world.load(referrer(subject))
    holder = world.load(referrer(signature), tags="keep-me")

    report = world.prune()

    assert world.left == {signature, holder}
    assert {subject, about}.isdisjoint(world.left)
    assert (report.deleted, report.refused, report.failed) == (2, 1, 0)


def test_referrers_that_go_first_go_next(world: World) -> None:
    """Nothing was seen to hang on the subject a moment ago; every other deletion in between makes that older."""
    subject = world.load(image("subject"), tags="v1", age_days=90)
    about = [world.load(referrer(subject, seed=seed), age_days=90) for seed in range(2)]
    others = [world.load(image(seed), age_days=80 - seed) for seed in range(5)]

    world.prune(workers=1, **ALL)

    assert world.gone()[:1] == ["v1"]
    assert set(world.gone()[1:3]) == set(about)
    assert world.gone()[3:] == [subject, *others]


NONSENSE = raw(
    json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "subject": {"digest": "nonsense"}}).encode(),
    OCI_MANIFEST,
)


@pytest.mark.parametrize("is_signature", [True, False])
def test_nonsense_that_decides_nothing_keeps_nothing(world: World, is_signature: bool) -> None:
    """What has a tag is not read for a plan; and as a cosign tag of the subject it names no subject."""
    subject = world.load(image("subject"))
    world.load(referrer(subject))
    nonsense = world.load(NONSENSE, tags=cosign_tag(subject) if is_signature else "keep-me")

    report = world.prune()

    assert world.left == (set() if is_signature else {nonsense})
    assert (report.refused, report.failed) == (0, 0)


@pytest.mark.parametrize("how", ["tagged", "in an index"])
def test_referrer_that_comes_back_keeps_its_subject_whole(world: World, how: str) -> None:
    """It was deleted by this run, for which its subject was refused, and is pushed again before the next listing."""
    subject = world.load(image("subject"), age_days=20)
    about = world.load(referrer(subject, seed="own"), age_days=20)
    back = referrer(subject, seed="back")
    world.load(back, tags="old", age_days=40)
    again = back if how == "tagged" else index([back], media_type=OCI_INDEX)
    world.faults.add(Before(lambda: world.load(again, tags="again", age_days=0)), kind="tags_list", nth=2)

    world.prune(workers=1, **one_rule(0, 0, match="old"))

    assert {subject, back.digest} <= world.left
    assert about not in world.left


@pytest.mark.parametrize("is_referrer", [True, False])
def test_owner_that_comes_back_keeps_its_child_whole(world: World, is_referrer: bool) -> None:
    """The digest that this run has deleted was pushed again, and the next listing shows it."""
    platform = image("platform", media_type=OCI_MANIFEST)
    top = index([platform], media_type=OCI_INDEX, subject=image("other") if is_referrer else None)
    if is_referrer:
        world.load(image("other"), age_days=20)
    world.load(top, age_days=20)
    about = world.load(referrer(platform), age_days=20)

    def come_back() -> None:
        world.clock.turn(10)
        world.load(top, age_days=0)

    world.faults.add(After(come_back), kind="manifest_delete", path=top.digest, nth=1)

    world.prune(workers=1)

    assert {top.digest, platform.digest, about} <= world.left


def test_listed_referrers_stay_with_a_subject_that_stays(world: World) -> None:
    """Their index has gone before them; one of them gets a tag, and none of the others is begun after that."""
    subject = world.load(image("subject"), age_days=20)
    listed = [referrer(subject, seed=seed) for seed in range(3)]
    world.load(index(listed, media_type=OCI_INDEX), tags=cosign_tag(subject, ""), age_days=20)
    paths = "|".join(one.digest for one in listed)
    asked: list[str] = []

    def get_a_tag(digest: str) -> None:
        if not asked:
            world.store.tag(world.name, "mine", digest)
        asked.append(digest)

    for one in listed:
        world.faults.add(Before(functools.partial(get_a_tag, one.digest)), kind="manifest_delete", path=one.digest)

    report = world.prune(workers=1)

    assert re.search(paths, asked[0])
    assert asked == [world.tags["mine"]]
    assert {subject, *(one.digest for one in listed)} <= world.left
    assert (report.deleted, report.refused) == (1, 1)


def test_referrer_that_is_about_a_child_too_holds_its_subject(world: World) -> None:
    """No order deletes it both before the index and after it, so nothing of them is requested."""
    child = image("child", media_type=OCI_MANIFEST)
    top = index([child], media_type=OCI_INDEX)
    world.load(top, tags="v1")
    world.store.tag(world.name, "v2", child.digest)
    about = world.load(index([], media_type=OCI_INDEX, subject=top), tags=cosign_tag(child, ""))

    report = world.prune(**ALL)

    assert world.left == {top.digest, child.digest, about}
    assert world.tags.keys() == {"v1", "v2", cosign_tag(child, "")}
    assert (report.deleted, report.refused) == (0, 0)
    assert report.reasons == {"needed": 3}
