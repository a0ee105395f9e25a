"""The steps of one plan, carried out on a registry that refuses what Google's refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import PermissionDenied
from cleaner.core.plan import plan
from cleaner.engine.executor import Outcome, Result, TagDeletions, execute
from tests.emulator.faults import Before, Delay, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, multi_arch, referrer
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    FAILED_PRECONDITION,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERRING_MANIFEST,
)
from tests.support.builders import policy
from tests.support.execution import FreeGuard
from tests.support.prune import ALL, children

if TYPE_CHECKING:
    from cleaner.core.reference import Digest
    from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(30, method="thread")

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVERYTHING = policy(**ALL)


def carry_out(world: World, *, workers: int = 4) -> Result:
    """Plan to delete everything, and carry that plan out."""
    steps = plan(world.listing(), EVERYTHING, NOW).steps
    with ThreadPoolExecutor(workers) as pool:
        return execute(
            steps,
            world.client(),
            FreeGuard(),
            pool,
            workers,
            on_ending=lambda _: None,
            tag_deletions=TagDeletions(),
        )


def ended(result: Result, outcome: Outcome) -> set[Digest]:
    """Return the manifests of the steps that ended so."""
    return {one.step.manifest.digest for one in result.endings if one.outcome is outcome}


def are_deleted_in_order(world: World, *what: str) -> bool:
    places = [world.gone().index(one) for one in what]
    return places == sorted(places)


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_index_is_deleted_before_its_children(world: World, workers: int) -> None:
    """At any depth, and nothing is requested that the registry refuses."""
    platform = image("shared")
    inner = index([platform, image(2)])
    outer = world.load(index([inner, image(3)]), tags="v1")
    other = world.load(index([platform, image(4)]), tags="v2")

    result = carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert len(ended(result, Outcome.DELETED)) == 7
    assert world.log.statuses == {200: 2, 202: 9}
    assert are_deleted_in_order(world, "v1", outer, inner.digest, platform.digest)
    assert are_deleted_in_order(world, "v2", other, platform.digest)


@pytest.mark.parametrize("workers", [1, 20])
def test_subject_is_deleted_before_its_referrers_by_tag(world: World, workers: int) -> None:
    """The registry knows nothing of cosign's signatures."""
    subject = world.load(image(1, media_type=OCI_MANIFEST), tags="v1")
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    second = world.load(cosign_signature(signature), tags=cosign_tag(signature))

    carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert are_deleted_in_order(world, "v1", subject, signature, second)


@pytest.mark.parametrize("workers", [1, 4, 20])
@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_subject_is_deleted_after_its_oci_referrers(world: World, code: str, workers: int) -> None:
    """Its tags first, then its referrers and theirs, then itself; each is requested once."""
    world.store.referrer_code = code
    subject = world.load(image("subject"), tags="v1")
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]
    nested = world.load(referrer(about[0], seed="nested"))

    result = carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert ended(result, Outcome.DELETED) == {subject, *about, nested}
    assert are_deleted_in_order(world, "v1", nested, about[0], subject)
    assert {world.gone().index(one) < world.gone().index(subject) for one in about} == {True}
    assert world.asked("tag_delete", "manifest_head") == [("HEAD", "v1", 200), ("DELETE", "v1", 202)]
    assert sorted(world.asked("manifest_delete")) == sorted(("DELETE", one, 202) for one in (subject, *about, nested))


def test_index_with_a_referrer_is_deleted_before_its_children(world: World) -> None:
    """Nothing of it is deleted before its referrer has been."""
    top = multi_arch("top")
    world.load(top, tags="v1")
    about = world.load(referrer(top))
    world.faults.add(Delay(0.1), kind="manifest_delete", path=about)

    carry_out(world)

    assert world.left == frozenset()
    assert all(are_deleted_in_order(world, "v1", about, top.digest, child.digest) for child in top.children)
    assert set(world.log.statuses) == {200, 202}


def test_tags_are_checked_immediately_before_they_are_deleted(world: World) -> None:
    """Tag by tag a HEAD and a DELETE; then the image."""
    digest = world.load(image(1), tags=["a", "b", "c"])

    carry_out(world)

    assert world.asked("manifest_head", "tag_delete", "manifest_delete") == [
        *(step for tag in "abc" for step in (("HEAD", tag, 200), ("DELETE", tag, 202))),
        ("DELETE", digest, 202),
    ]


def test_oldest_image_is_deleted_first(world: World) -> None:
    """One worker deletes in the order of age."""
    by_age = [world.load(image(age), age_days=age) for age in (50, 40, 30, 20)]

    carry_out(world, workers=1)

    assert world.gone() == by_age


def test_shared_child_waits_for_each_of_its_indexes(world: World) -> None:
    """It is deleted when the last of them has been."""
    platform = image("shared")
    first, second = world.load(index([platform], seed=1)), world.load(index([platform], seed=2))
    world.faults.add(Delay(0.2), kind="manifest_delete", path=first)

    carry_out(world)

    assert are_deleted_in_order(world, second, first, platform.digest)
    assert set(world.log.statuses) == {202}


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, DANGLING_PARENT, Outcome.REFUSED),
        (400, DANGLING_TAG, Outcome.REFUSED),
        (400, REFERRING_MANIFEST, Outcome.REFUSED),
        (400, FAILED_PRECONDITION, Outcome.FAILED),
        (403, "DENIED", Outcome.FAILED),
    ],
)
def test_what_belongs_to_an_image_that_is_not_deleted_is_kept(
    world: World, status: int, code: str, outcome: Outcome
) -> None:
    """Its children and referrers, and what belongs to them; everything else is deleted."""
    refused = multi_arch("refused", attestations=True)
    world.load(refused)
    signature = world.load(cosign_signature(refused), tags=cosign_tag(refused))
    second = world.load(cosign_signature(signature), tags=cosign_tag(signature))
    shared = index([refused.children[0], image("other")])
    world.load(shared)
    lone = world.load(image("lone"))
    world.faults.add(Status(status, code), kind="manifest_delete", path=refused.digest)

    result = carry_out(world)

    assert ended(result, outcome) == {refused.digest}
    assert world.left == {refused.digest, signature, second, *children(refused)}
    assert ended(result, Outcome.DELETED) == {lone, shared.digest, shared.children[1].digest}
    assert world.tags.keys() == {cosign_tag(refused), cosign_tag(signature)}
    assert (result.error, result.is_cut) == (None, False)


def test_whatever_belongs_to_an_image_is_deleted_with_it(world: World) -> None:
    """A signature of a child of a child of an index that is itself a referrer."""
    platform = image("platform")
    inner = index([platform])
    subject = world.load(image("subject"))
    top = index([inner], media_type=OCI_INDEX, subject=subject)
    world.load(top)
    last = world.load(cosign_signature(platform), tags=cosign_tag(platform))

    carry_out(world)

    assert world.left == frozenset()
    assert are_deleted_in_order(world, top.digest, inner.digest, platform.digest, last)
    assert are_deleted_in_order(world, top.digest, subject)


def test_subject_of_a_referrer_that_fails_is_not_requested(world: World) -> None:
    """It is kept with all that belongs to it; the registry would refuse it."""
    top = multi_arch("top")
    world.load(top)
    about = world.load(referrer(top))
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=about)

    result = carry_out(world)

    assert [(one.step.manifest.digest, one.outcome) for one in result.endings if one.step.deletes_manifest] == [
        (about, Outcome.FAILED)
    ]
    assert world.left == {about, top.digest, *children(top)}


def test_tag_that_has_moved_is_kept_and_ends_the_plan(world: World) -> None:
    """The image that had it is kept with its other tags; no other image is begun."""
    old = world.load(image("old"), tags=["latest", "v1"], age_days=40)
    new = world.load(image("new"), age_days=30)
    world.faults.add(Before(lambda: world.store.tag(world.name, "latest", new)), kind="manifest_head", nth=1)

    result = carry_out(world, workers=1)

    assert world.tags == {"latest": new, "v1": old}
    assert world.left == {old, new}
    assert (result.is_contradicted, result.is_cut) == (True, True)
    (ending,) = result.endings
    assert (ending.outcome, ending.failed_tag, ending.has_moved_tag) == (Outcome.KEPT, "latest", True)


@pytest.mark.parametrize("status", [401, 403])
def test_tag_that_may_not_be_read_ends_the_run(world: World, status: int) -> None:
    """The permission to read is missing for all of them."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(Status(status, "DENIED"), kind="manifest_head")

    result = carry_out(world)

    assert isinstance(result.error, PermissionDenied)
    assert world.tags == {"v1": digest}
