"""Orphans: they go only while the registry says that their subjects are not there."""

from __future__ import annotations

import pytest

from cleaner.core.errors import CleanerError
from tests.emulator.faults import After, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, referrer
from tests.emulator.store import OCI_INDEX, OCI_MANIFEST
from tests.support.prune import ABSENT, ALL
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("count", [4, 40])
def test_orphans_that_hang_together_are_looked_for_so_often_and_no_more(
    world: World, count: int, workers: int
) -> None:
    """Each goes only while the subjects of all are not there; where those are many, they stay."""
    orphans = [world.load(referrer(image(f"gone {seed}"))) for seed in range(count)]
    listed = [referrer(orphan) for orphan in orphans]
    world.load(index(listed, media_type=OCI_INDEX), tags=[cosign_tag(orphan, "") for orphan in orphans])

    report = world.prune(workers=workers, **ALL)

    assert report.deleted + len(world.left) == 2 * count + 1
    assert (world.left == frozenset()) == (count == 4)
    assert world.log.counts["manifest_head"] <= 4 * count * min(count, 16) + 10


def test_orphans_fallback_index_stays_when_its_subject_is_back(world: World) -> None:
    """Whatever goes before an orphan, so that it can go, goes only while the orphan's own subject is not there."""
    subject = image("subject that comes back", media_type=OCI_MANIFEST)
    orphan = world.load(referrer(subject))
    listed = referrer(orphan, seed="listed")
    fallback = world.load(index([listed], media_type=OCI_INDEX), tags=cosign_tag(orphan, ""))
    world.faults.add(After(lambda: world.load(subject, tags="v9", age_days=0)), kind="tags_list", nth=2)

    world.prune(workers=1, delete_tags=[".*"])

    assert world.left == {subject.digest, orphan, listed.digest, fallback}
    assert cosign_tag(orphan, "") in world.tags


def test_orphan_whose_subject_is_back_stays(world: World) -> None:
    """The look at its subject is for this."""
    subject = image("subject")
    orphan = world.load(referrer(subject))
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    nested = world.load(cosign_signature(orphan), tags=cosign_tag(orphan))
    world.faults.add(After(lambda: world.load(subject, tags="v1", age_days=0)), kind="tags_list", nth=1)

    report = world.prune(**ALL)

    assert world.left == {subject.digest, orphan, signature, nested}
    assert report.deleted == 0
    assert world.log.counts["manifest_delete"] == 0


def test_orphan_is_looked_for_again_behind_its_referrers(world: World) -> None:
    """It was refused for them, and its own subject may have come meanwhile; then they stay, too."""
    subject = image("subject")
    orphan = world.load(referrer(subject))
    about = world.load(referrer(orphan))
    world.faults.add(After(lambda: world.load(subject, tags="v1", age_days=0)), kind="tags_list", nth=2)

    report = world.run(workers=1, **ALL).prune()

    assert world.left == {subject.digest, orphan, about}
    assert report.deleted == 0


def test_orphan_of_several_subjects_stays_if_one_is_back(world: World) -> None:
    """Every one of them has to be gone."""
    subject = image("subject")
    tags = [cosign_tag(ABSENT), cosign_tag(subject)]
    orphan = world.load(cosign_signature(subject), tags=tags)
    world.faults.add(After(lambda: world.load(subject, tags="v1", age_days=0)), kind="tags_list", nth=1)

    world.prune(**ALL)

    assert orphan in world.left
    assert world.tags.keys() == {*tags, "v1"}


def test_orphan_is_looked_for_again_before_each_try(world: World) -> None:
    """By the same worker, also where that is the only one and has its turn already."""
    orphan = world.load(referrer(ABSENT))
    world.faults.add(Status(503), kind="manifest_delete", nth=1)

    world.prune(workers=1)

    assert world.left == frozenset()
    assert world.gone() == [orphan]
    assert (world.log.counts["manifest_head"], world.log.counts["manifest_delete"]) == (2, 2)


@pytest.mark.parametrize("status", [403, 503, 400])
def test_orphan_whose_subject_cannot_be_looked_at_stays(world: World, status: int) -> None:
    """Not to know is not 404."""
    orphan = world.load(referrer(ABSENT))
    world.faults.add(Status(status), kind="manifest_head")

    if status == 400:
        assert world.prune().failed == 1
    else:
        with pytest.raises(CleanerError):
            world.prune()

    assert world.left == {orphan}
