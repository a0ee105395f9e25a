"""Referrers whose subject is read only once it matters: attestations, and what a tag or an index decides."""

from __future__ import annotations

import pytest

from cleaner.core.notification import Named
from cleaner.core.reference import Digest
from tests.emulator.faults import After
from tests.emulator.images import attestation, cosign_tag, image, index, referrer
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX, OCI_MANIFEST, REFERRING_MANIFEST
from tests.support.prune import ALL
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_attestation_stays_with_what_it_attests(world: World) -> None:
    """It goes before it; but not if somebody asks for what it attests by then."""
    platform = image("platform", media_type=OCI_MANIFEST)
    about = attestation(platform, as_referrer=True)
    top = world.load(index([platform, about], media_type=OCI_INDEX))
    named: set[Digest] = set()
    world.faults.add(After(lambda: named.add(Digest(platform.digest))), kind="manifest_delete", nth=1)

    world.prune(workers=1, named=lambda: Named(frozenset(named)))

    assert world.left == {platform.digest, about.digest}
    assert world.gone() == [top]


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_attestation_that_names_its_platform_goes_before_it(world: World, code: str) -> None:
    """BuildKit writes into the index what attests what, and into the attestation a subject that is never read."""
    world.store.referrer_code = code
    platforms = [image(f"platform {number}", media_type=OCI_MANIFEST) for number in range(3)]
    attesting = [attestation(platform, as_referrer=True) for platform in platforms]
    world.load(index([*platforms, *attesting], media_type=OCI_INDEX))

    report = world.prune()

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (7, 0)
    assert set(world.log.statuses) == {200, 202}


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_platform_that_two_indexes_share_goes_behind_both_attestations(world: World, code: str) -> None:
    """The same build, pushed twice: each index brings an attestation of its own, which names the platform."""
    world.store.referrer_code = code
    for seed in range(4):
        platform = image(f"platform {seed}", media_type=OCI_MANIFEST)
        for age_days in (40, 30):
            about = attestation(platform, as_referrer=True, seed=age_days)
            world.load(index([platform, about], media_type=OCI_INDEX), tags=f"v{seed}.{age_days}", age_days=age_days)

    report = world.prune(workers=1, **ALL)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (20, 0)
    assert world.log.counts["manifest_delete"] == 20


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("workers", [1, 8])
def test_attestation_that_no_annotation_tells_goes_in_the_same_run(world: World, code: str, workers: int) -> None:
    """Only its document says whose referrer it is: the platform is asked once more behind it."""
    world.store.referrer_code = code
    for number in range(5):
        platform = image(f"platform {number}", media_type=OCI_MANIFEST)
        about = attestation(platform, as_referrer=True, is_annotated=False)
        world.load(index([platform, about], media_type=OCI_INDEX), age_days=20 + number)

    report = world.prune(workers=workers)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (15, 0)


def test_platform_that_got_a_parent_stays_with_the_attestation_beside_it(world: World) -> None:
    """Refused for the new index, not for the attestation."""
    platform = image("platform", media_type=OCI_MANIFEST)
    about = attestation(platform, as_referrer=True, is_annotated=False)
    world.load(index([platform, about], media_type=OCI_INDEX))
    again = index([platform, about], media_type=OCI_INDEX, seed="again")
    world.faults.add(After(lambda: world.load(again, tags="v1", age_days=0)), kind="manifest_delete", nth=1)

    world.prune(workers=1)

    assert world.left == {again.digest, platform.digest, about.digest}


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("is_listed", [True, False])
def test_referrers_that_have_not_been_read_go(world: World, code: str, is_listed: bool, others: int) -> None:
    """Of what has a referrer tag the subject is read once it matters, of what a referrers index lists for the plan.

    Clients that know of no referrers API list referrers in such an index, and others add to them.
    """
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    about = referrer(subject)
    if is_listed:
        world.load(index([about], media_type=OCI_INDEX), tags=cosign_tag(subject, ""))
    else:
        world.load(about, tags=cosign_tag(subject, "sbom"))
    for seed in range(others):
        world.load(referrer(subject, seed=f"other {seed}"))
    for seed in range(5):
        world.load(image(f"not read {seed}", media_type=OCI_MANIFEST), tags=f"release-{seed}")

    report = world.prune()

    assert len(world.left) == 5
    assert (report.deleted, report.refused) == (2 + is_listed + others, 0)
    assert world.log.counts["manifest_get"] == 1 + is_listed + others
    # What a referrers index lists is read for the plan, what has a referrer's tag once its subject was refused.
    assert world.log.counts["manifest_delete"] == 2 + is_listed + others + (not is_listed)
