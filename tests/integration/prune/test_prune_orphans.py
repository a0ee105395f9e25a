"""Orphans: they go only while the registry says that their subjects are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import CleanerError
from tests.emulator.faults import After, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, referrer
from tests.emulator.store import OCI_INDEX, OCI_MANIFEST
from tests.support.prune import ABSENT, ALL
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("count", [4, 40])
def test_subjects_of_connected_orphans_are_looked_up_for_each(world: World, count: int, workers: int) -> None:
    """Each orphan's subject is looked up before its referrers are deleted, and before itself."""
    orphans = [world.load(referrer(image(f"gone {seed}"))) for seed in range(count)]
    listed = [referrer(orphan) for orphan in orphans]
    world.load(index(listed, media_type=OCI_INDEX), tags=[cosign_tag(orphan, "") for orphan in orphans])

    report = world.prune(workers=workers, **ALL)

    assert world.left == frozenset()
    assert report.deleted == 2 * count + 1
    # One for each tag of the index as well.
    assert world.log.counts["manifest_head"] == 3 * count


def test_referrers_index_of_an_orphan_whose_subject_is_back_is_kept(world: World) -> None:
    """What is deleted before an orphan is deleted only if the orphan's own subject is missing."""
    subject = image("subject that comes back", media_type=OCI_MANIFEST)
    orphan = world.load(referrer(subject))
    listed = referrer(orphan, seed="listed")
    fallback = world.load(index([listed], media_type=OCI_INDEX), tags=cosign_tag(orphan, ""))
    world.faults.add(After(lambda: world.load(subject, tags="v9", age_days=0)), kind="tags_list", nth=1)

    world.prune(workers=1)

    assert world.left == {subject.digest, orphan, listed.digest, fallback}
    assert cosign_tag(orphan, "") in world.tags


def test_orphan_whose_subject_is_back_stays(world: World, logged: Logged) -> None:
    """The look at its subject is for this, and the log says what it found."""
    subject = image("subject")
    orphan = world.load(referrer(subject))
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    nested = world.load(cosign_signature(orphan), tags=cosign_tag(orphan))
    world.faults.add(After(lambda: world.load(subject, tags="v1", age_days=0)), kind="tags_list", nth=1)

    report = world.prune(**ALL)

    assert world.left == {subject.digest, orphan, signature, nested}
    assert report.deleted == 0
    assert world.log.counts["manifest_delete"] == 0
    lines = logged("subject exists")
    assert {(line["levelname"], line["repository"], line["subject"]) for line in lines} == {
        ("INFO", world.name, subject.digest)
    }
    assert sorted(line["digest"] for line in lines) == sorted([orphan, signature])


def test_orphan_whose_subject_comes_back_while_its_referrers_are_deleted_is_kept(world: World) -> None:
    """The subject is looked up again immediately before the orphan itself is deleted."""
    subject = image("subject")
    orphan = world.load(referrer(subject))
    world.load(referrer(orphan))
    world.faults.add(After(lambda: world.load(subject, tags="v1", age_days=0)), kind="manifest_delete", nth=1)

    report = world.run(workers=1, **ALL).prune()

    assert world.left == {subject.digest, orphan}
    assert report.deleted == 1


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
        report = world.prune()
        assert (report.kept, report.failed) == (1, 0)
    else:
        with pytest.raises(CleanerError):
            world.prune()

    assert world.left == {orphan}
