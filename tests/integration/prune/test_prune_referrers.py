"""Referrers that the registry knows: they go before their subject, and stay with it."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.reference import Digest
from tests.emulator.faults import Before, Delay
from tests.emulator.images import attestation, cosign_signature, cosign_tag, image, index, raw, referrer
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX, OCI_MANIFEST, REFERRING_MANIFEST
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
    """One refusal tells of a whole chain; it goes from its end, and nothing of it is worth a warning."""
    world.store.referrer_code = code
    chain = [world.load(image("subject"), tags="v1")]
    for number in range(12):
        chain.append(world.load(referrer(chain[-1], seed=number)))

    report = world.prune(workers=workers, **ALL)

    assert world.left == frozenset()
    assert world.gone() == ["v1", *reversed(chain)]
    assert (report.deleted, report.refused) == (13, 0)
    assert logged("deletion refused") == []
    costs(world, tags_list=2, manifest_get=12, manifest_head=1, tag_delete=1, manifest_delete=14)


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
def test_referrers_are_held_back_while_one_of_them_is_unclear(
    world: World, how: str, workers: int, most: int
) -> None:
    """It was refused, nobody has seen why, and if it stays so do the subject and all of them."""
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


def test_referrers_are_held_back_while_one_below_them_is_unclear(world: World) -> None:
    """If it stays, so does the one that it is about, and then the subject of all."""
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


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("how", ["referrer", "parent"])
def test_refusal_during_a_look_is_looked_at(world: World, how: str, depth: int) -> None:
    """What was refused since that listing may have been for what has come since, whatever the listing says of it."""
    platform, other = (image(name, media_type=OCI_MANIFEST) for name in ("platform", "other"))
    about = attestation(platform, as_referrer=True, is_annotated=False)
    for age_days, one in zip((30, 29, 28), (platform, other, about), strict=True):
        world.load(one, age_days=age_days)
    world.load(index([platform, other, about], media_type=OCI_INDEX), tags="v1", age_days=20)
    world.load(referrer(other), age_days=10)
    chain = [about.digest]
    for number in range(depth):
        chain.append(world.load(referrer(chain[-1], seed=number), age_days=20))

    def arrive() -> None:
        if how == "referrer":
            world.load(referrer(about, seed="new"), tags="keep-me", age_days=0)
        else:
            world.load(index([about], media_type=OCI_INDEX), tags="keep-me", age_days=0)

    world.faults.add(Delay(0.3), kind="manifest_delete", path=about.digest, nth=1)
    world.faults.add(Before(arrive), kind="manifest_delete", path=about.digest, nth=1)
    world.faults.add(Delay(1.0, after=True), kind="tags_list", nth=2)
    world.faults.add(Delay(0.05), kind="manifest_delete")

    world.prune(workers=2, **ALL)

    assert world.left >= {*chain}


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
    """The registry does not say for whose sake it refuses: nobody takes a new need for the planned one."""
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]
    before = world.left

    world.faults.add(Before(lambda: ARRIVALS[arrival](world, subject, about[0])), kind="manifest_delete", nth=1)

    report = world.prune(**ALL)

    assert before <= world.left
    assert (report.deleted, report.refused) == (0, 1)
    assert world.log.counts["manifest_delete"] == 1


def test_referrer_that_went_meanwhile_does_not_matter(world: World) -> None:
    """Less than was planned stands against it: all goes."""
    subject = world.load(image("subject"))
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]

    world.faults.add(Before(lambda: world.store.force_delete(world.name, about[0])), kind="manifest_delete", nth=1)

    world.prune(**ALL)

    assert world.left == frozenset()
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("held_by", ["a tagged referrer", "a child of a kept index"])
def test_subject_that_is_held_by_what_is_not_read_stays(world: World, held_by: str, code: str) -> None:
    """A tag or a parent decides on it, and not its subject: the registry's refusal is honoured, twice."""
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    world.load(referrer(subject))
    holder = referrer(subject, seed="holder")
    if held_by == "a tagged referrer":
        held = {world.load(holder, tags="keep-me")}
    else:
        held = {world.load(index([holder], media_type=OCI_INDEX), tags="v1"), Digest(holder.digest)}

    report = world.prune(keep_untagged=0)

    assert world.left == {subject, *held}
    assert (report.deleted, report.refused, report.failed) == (1, 1, 0)
    assert ("GET", holder.digest, 200) not in world.asked("manifest_get")


def test_referrer_that_is_held_by_what_is_not_read_does_not_hold_its_subject(world: World) -> None:
    """The signature by a cosign tag is refused for its own referrer; what it signs has gone by then."""
    subject = world.load(image("subject"))
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    about = world.load(referrer(subject))
    holder = world.load(referrer(signature), tags="keep-me")

    report = world.prune(keep_untagged=0, delete_tags=["sha256-.*"])

    assert world.left == {signature, holder}
    assert {subject, about}.isdisjoint(world.left)
    assert (report.deleted, report.refused, report.failed) == (2, 1, 0)


def test_referrers_that_go_first_go_next(world: World) -> None:
    """Nothing was seen to hang on the subject a moment ago; every other deletion in between makes that older."""
    subject = world.load(image("subject"), tags="v1", age_days=90)
    about = [world.load(referrer(subject, seed=seed), age_days=90) for seed in range(2)]
    others = [world.load(image(seed), age_days=80 - seed) for seed in range(5)]

    world.prune(workers=1, keep_untagged=0, delete_tags=[".*"], max_age="1d")

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

    report = world.prune(keep_untagged=0, delete_tags=["sha256-.*"])

    assert world.left == (set() if is_signature else {nonsense})
    assert (report.refused, report.failed) == (0, 0)


def test_nonsense_that_arrives_keeps_only_who_may_hang_on_it(world: World) -> None:
    """What its document would name, nobody knows."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    world.load(image("other"))
    world.faults.add(Before(lambda: world.load(NONSENSE, tags="keep-me", age_days=0)), kind="manifest_delete", nth=1)

    report = world.prune(keep_untagged=0)

    assert world.left == {NONSENSE.digest, subject, about}
    assert (report.deleted, report.refused, report.failed) == (1, 1, 0)


@pytest.mark.parametrize("how", ["tagged", "in an index"])
def test_referrer_that_comes_back_keeps_its_subject_whole(world: World, how: str) -> None:
    """It went as an image of this plan, and is pushed again before anybody looks why its subject is refused."""
    subject = world.load(image("subject"), age_days=20)
    about = world.load(referrer(subject, seed="own"), age_days=20)
    back = referrer(subject, seed="back")
    world.load(back, tags="old", age_days=40)
    again = back if how == "tagged" else index([back], media_type=OCI_INDEX)
    world.faults.add(Before(lambda: world.load(again, tags="again", age_days=0)), kind="tags_list", nth=2)

    world.prune(workers=1, keep_untagged=0, delete_tags=["old"], max_age="1d")

    assert {subject, about, back.digest} <= world.left


@pytest.mark.parametrize("is_referrer", [True, False])
def test_owner_that_comes_back_keeps_its_child_whole(world: World, is_referrer: bool) -> None:
    """The same digest as the one that the plan lets go, and has deleted; but somebody has pushed it since."""
    platform = image("platform", media_type=OCI_MANIFEST)
    top = index([platform], media_type=OCI_INDEX, subject=image("other") if is_referrer else None)
    if is_referrer:
        world.load(image("other"), age_days=20)
    world.load(top, age_days=20)
    about = world.load(referrer(platform), age_days=20)
    world.faults.add(Before(lambda: world.load(top, age_days=0)), kind="manifest_delete", path=platform.digest, nth=1)

    world.prune(workers=1, keep_untagged=0)

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

    report = world.prune(workers=1, keep_untagged=0, delete_tags=["sha256-.*"])

    assert re.search(paths, asked[0])
    assert asked == [world.tags["mine"]]
    assert {subject, *(one.digest for one in listed)} <= world.left
    assert (report.deleted, report.refused) == (1, 2)


def test_referrer_that_is_about_a_child_too_holds_its_subject(world: World) -> None:
    """It can go neither before the index nor after it, so all stay: no child goes before its index."""
    child = image("child", media_type=OCI_MANIFEST)
    top = index([child], media_type=OCI_INDEX)
    world.load(top, tags="v1")
    world.store.tag(world.name, "v2", child.digest)
    about = world.load(index([], media_type=OCI_INDEX, subject=top), tags=cosign_tag(child, ""))

    report = world.prune(**ALL)

    assert world.left == {top.digest, child.digest, about}
    assert world.tags.keys() == {"v2", cosign_tag(child, "")}
    assert (report.deleted, report.refused) == (0, 1)
