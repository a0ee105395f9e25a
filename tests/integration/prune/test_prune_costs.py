"""What a run costs: these requests, and no others."""

from __future__ import annotations

import pytest

from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ABSENT, ALL, costs
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_cost_of_untagged_images(world: World) -> None:
    """Two listings, which have to agree on what is untagged, and one deletion each."""
    for seed in range(7):
        world.load(image(seed), age_days=seed + 1)

    report = world.prune(untagged={"keep": 3})

    assert len(world.left) == 3
    costs(world, tags_list=2, manifest_delete=4)
    assert report.requests == 6


def test_cost_of_tagged_images(world: World) -> None:
    """One look and one deletion more for each tag."""
    for seed in range(6):
        world.load(image(seed), tags=[f"a{seed}", f"b{seed}"], age_days=seed + 1)

    report = world.prune(**one_rule(4, 0))

    assert sorted(world.tags) == [f"{letter}{seed}" for letter in "ab" for seed in range(4)]
    costs(world, tags_list=1, manifest_head=4, tag_delete=4, manifest_delete=2)
    assert report.requests == world.log.total == 11


def test_cost_of_indexes(world: World) -> None:
    """One reading for each index, kept or not; its parts cost a deletion each and nothing else."""
    for seed in range(3):
        world.load(multi_arch(seed, attestations=True), tags=f"v{seed}", age_days=seed + 1)

    world.prune(**one_rule(1, 0))

    assert len(world.left) == 5
    costs(world, tags_list=1, manifest_get=3, manifest_head=2, tag_delete=2, manifest_delete=10)
    assert set(world.log.statuses) == {200, 202}


def test_cost_of_signed_images(world: World) -> None:
    """A signature has a tag, so it is not read, and goes behind its image like an image with a tag."""
    for seed in range(3):
        subject = world.load(image(seed), tags=f"v{seed}", age_days=seed + 1)
        world.load(cosign_signature(subject), tags=cosign_tag(subject))

    world.prune(**one_rule(1, 0, match="v.*"))

    assert len(world.left) == 2
    costs(world, tags_list=1, manifest_head=4, tag_delete=4, manifest_delete=4)
    assert set(world.log.statuses) == {200, 202}


def test_cost_of_oci_referrers(world: World) -> None:
    """One reading each: they are deleted before their subject, so no deletion is refused."""
    for seed in range(3):
        subject = world.load(image(seed), tags=f"v{seed}", age_days=seed + 1)
        for number in range(2):
            world.load(referrer(subject, seed=number))
    for seed in range(5):
        world.load(image(f"not read {seed}", media_type=OCI_MANIFEST), tags=f"release-{seed}", age_days=9)

    world.prune(**one_rule(2, 0, match="v.*"))

    assert len(world.left) == 11
    costs(world, tags_list=1, manifest_get=6, manifest_head=1, tag_delete=1, manifest_delete=3)
    assert set(world.log.statuses) == {200, 202}


def test_cost_of_orphans(world: World) -> None:
    """One reading where the tag does not tell, and one look at the subject."""
    world.load(referrer(ABSENT))
    world.load(cosign_signature(ABSENT), tags=cosign_tag(ABSENT))

    world.prune()

    assert world.left == frozenset()
    costs(world, tags_list=1, manifest_get=1, manifest_head=3, tag_delete=1, manifest_delete=2)
    assert world.asked("manifest_head").count(("HEAD", ABSENT, 404)) == 2


def test_cost_of_pages(world: World) -> None:
    """The listing's pages, and nothing to go."""
    world.emulator.behaviour.page_size = 2
    for seed in range(5):
        world.load(image(seed), tags=f"v{seed}")

    world.prune()

    costs(world, tags_list=3)


def test_push_that_changes_nothing_costs_one_request(google: World) -> None:
    """A process that knows the repository remembers its documents."""
    google.load(multi_arch(1, attestations=True), tags="v1")
    subject = google.load(image("untagged", media_type=OCI_MANIFEST))
    google.load(referrer(subject))
    first = google.prune(untagged={"keep": 5})
    costs(google, tags_list=1, manifest_get=3)
    assert first.requests == 4
    google.log.clear()

    report = google.prune(untagged={"keep": 5})

    costs(google, tags_list=1)
    assert report.requests == 1


def test_cost_of_all_in_one(google: World) -> None:
    """The sum of them; Google's access token costs none."""
    google.load(image("lone"))
    subject = google.load(multi_arch("top"), tags=["v1", "latest"])
    google.load(referrer(subject))
    google.load(cosign_signature(subject), tags=cosign_tag(subject))
    google.load(referrer(ABSENT))

    report = google.prune(**ALL)

    assert google.left == frozenset()
    costs(google, tags_list=1, manifest_get=3, manifest_head=4, tag_delete=3, manifest_delete=7)
    assert report.requests == google.log.total
    assert (report.kept, report.deleted) == (0, 7)
