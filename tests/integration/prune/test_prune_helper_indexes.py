"""Indexes that nobody pulls: stale referrers indexes, and indexes of one platform beside the one of all."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.reference import Digest
from tests.emulator.faults import Before
from tests.emulator.images import cosign_tag, image, index, referrer, referrers_index
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX, OCI_MANIFEST, REFERRING_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ABSENT, ALL, PUSHED_OUT, costs

if TYPE_CHECKING:
    from tests.support.prune import Logged
    from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def load_subject(
    world: World, name: str, *, tags: str = "", age_days: float = 30, count: int = 3, is_lossy: bool = False
) -> tuple[Digest, list[Digest], list[Digest]]:
    """Load a subject, its referrers, and the indexes of them that a client has made one after the other.

    Only the last index has a tag.  If ``is_lossy``, each lists the last referrer alone: another client has written
    the one before at the same time.
    """
    subject = world.load(image(name, media_type=OCI_MANIFEST), tags=tags.split(), age_days=age_days)
    listed = [referrer(subject, seed=seed) for seed in range(count)]
    about = [world.load(one, age_days=age_days) for one in listed]
    indexes = [
        world.load(referrers_index(listed[at if is_lossy else 0 : at + 1]), age_days=age_days) for at in range(count)
    ]
    world.store.tag(world.name, cosign_tag(subject, ""), indexes[-1])
    return subject, about, indexes


def positions(world: World, *what: str) -> list[int]:
    return [world.gone().index(one) for one in what]


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("tags", ["", "v1"])
@pytest.mark.parametrize("workers", [1, 8])
def test_subject_is_deleted_after_its_referrers_and_their_indexes(
    world: World, logged: Logged, code: str, tags: str, workers: int
) -> None:
    """The registry refuses a listed referrer before its indexes, and a subject before its referrers; nothing is."""
    world.store.referrer_code = code
    subject, about, indexes = load_subject(world, "subject", tags=tags)

    report = world.prune(workers=workers, **ALL)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (7, 0)
    assert logged("deletion refused") == []
    assert {status for *_, status in world.asked("tag_delete", "manifest_delete")} == {202}
    of_tags, of_indexes = positions(world, *tags.split()), positions(world, *indexes)
    assert max(of_tags, default=-1) < min(of_indexes)
    assert [max(of_indexes[at:]) < place for at, place in enumerate(positions(world, *about))] == [True] * 3
    assert world.gone()[-1] == subject
    costs(
        world,
        tags_list=1,
        manifest_get=6 + (not tags),
        manifest_head=1 + len(of_tags),
        tag_delete=1 + len(of_tags),
        manifest_delete=7,
    )


@pytest.mark.parametrize("is_lossy", [False, True])
def test_stale_referrers_index_displaces_no_untagged_image(world: World, is_lossy: bool) -> None:
    """It is a referrer: it takes no place among the newest, and is kept with its subject."""
    kept = {world.load(image(f"rollback {seed}"), age_days=40 + seed) for seed in range(2)}
    world.load(image("older"), age_days=50)
    subject, about, indexes = load_subject(world, "subject", tags="v1", age_days=1, is_lossy=is_lossy)

    report = world.prune(**one_rule(1, 2))

    assert world.left == {*kept, subject, *about, *indexes}
    assert report.reasons == {"newest": 3, "needed": 6, "expired": 1}


@pytest.mark.parametrize("is_lossy", [False, True])
def test_stale_referrers_index_does_not_keep_its_subject(world: World, is_lossy: bool) -> None:
    """The next image is pushed, and the subject is deleted with all that is attached to it."""
    old = load_subject(world, "old", tags="v1", age_days=20, is_lossy=is_lossy)
    new, about, indexes = load_subject(world, "new", tags="v2", age_days=10)

    report = world.prune(**PUSHED_OUT)

    assert world.left == {new, *about, *indexes}
    assert report.reasons == {"newest": 1, "needed": 6, "expired": 1, "follows": 6}
    assert old[0] == world.gone()[-1]


def test_stale_referrers_index_of_a_kept_and_an_expired_subject_is_kept(world: World) -> None:
    """What it lists is needed by the kept one, and needs the other one's referrer through the index."""
    kept = world.load(image("kept"), tags="v2", age_days=10)
    expired = world.load(image("expired"), tags="v1", age_days=20)
    about = [referrer(kept), referrer(expired)]
    stale = world.load(referrers_index(about), age_days=20)

    world.prune(**PUSHED_OUT)

    assert world.left == {kept, expired, stale, *(one.digest for one in about)}


def test_stale_referrers_index_of_a_subject_elsewhere_is_an_orphan(world: World) -> None:
    """By default it is kept with what it lists; otherwise a HEAD of each subject comes first."""
    about = [referrer(ABSENT, seed=seed) for seed in range(2)]
    stale = world.load(referrers_index(about))

    report = world.prune(orphans={"keep": "all"})

    assert len(world.left) == 3
    assert report.reasons == {"protected": 3}
    assert world.log.counts["manifest_head"] == 0

    report = world.prune()

    assert world.left == frozenset()
    assert report.reasons == {"orphaned": 3}
    assert world.asked("manifest_head") == [("HEAD", ABSENT, 404)] * 3
    assert world.gone()[0] == stale


@pytest.mark.parametrize("workers", [1, 4])
def test_referrer_that_is_attached_while_the_indexes_are_deleted_is_kept_with_its_subject(
    world: World, workers: int
) -> None:
    """The registry refuses the subject for it; what was attached before and deleted is the documented gap."""
    subject, *_ = load_subject(world, "subject", age_days=20)
    new = referrer(subject, seed="new")
    attach = functools.partial(world.load, new, age_days=0)
    world.faults.add(Before(attach), kind="manifest_delete", nth=1)

    report = world.prune(workers=workers, **ALL)

    assert {subject, new.digest} <= world.left
    assert report.refused == 1


# --- indexes beside the one of all platforms


def load_platforms(
    world: World, name: str, *, age_days: float, tag: str
) -> tuple[Digest, list[Digest], list[Digest]]:
    """Load what a build for each platform pushes: an untagged index of each, and then the tagged index of all."""
    platforms = [image(f"{name} {one}", media_type=OCI_MANIFEST, platform=one) for one in ("amd64", "arm64")]
    single = [world.load(index([one]), age_days=age_days) for one in platforms]
    merged = world.load(index(platforms), tags=tag, age_days=age_days)
    return merged, single, [Digest(one.digest) for one in platforms]


@pytest.mark.parametrize("workers", [1, 8])
def test_redundant_index_is_deleted_with_the_index_of_all_platforms(
    world: World, logged: Logged, workers: int
) -> None:
    """After that, and before the platforms, which the registry refuses before; nothing is refused."""
    merged, single, platforms = load_platforms(world, "old", age_days=20, tag="v1")
    kept = load_platforms(world, "new", age_days=10, tag="v2")

    report = world.prune(workers=workers, **PUSHED_OUT)

    assert world.left == {kept[0], *kept[1], *kept[2]}
    assert report.reasons == {"newest": 1, "needed": 4, "expired": 1, "follows": 4}
    assert logged("deletion refused") == []
    assert world.gone()[:2] == ["v1", merged]
    places = zip(positions(world, *single), positions(world, *platforms), strict=True)
    assert [one < other for one, other in places] == [True] * 2
    costs(world, tags_list=1, manifest_get=6, manifest_head=1, tag_delete=1, manifest_delete=5)


def test_redundant_index_displaces_no_untagged_image(world: World) -> None:
    """It follows the index of all platforms, so it takes no place."""
    rollback = world.load(image("rollback"), age_days=40)
    merged, single, platforms = load_platforms(world, "new", age_days=10, tag="v2")

    world.prune(**PUSHED_OUT)

    assert world.left == {rollback, merged, *single, *platforms}


def test_untagged_index_that_a_newer_one_equals_is_deleted_with_it(world: World) -> None:
    """Of two untagged indexes that list the same the newer one is the image."""
    platforms = [image(one, media_type=OCI_MANIFEST, platform=one) for one in ("amd64", "arm64")]
    older = world.load(index(platforms, seed="older"), age_days=30)
    newer = world.load(index(platforms, seed="newer"), age_days=20)
    world.load(image("newest"), age_days=10)

    report = world.prune(**PUSHED_OUT)

    assert len(world.left) == 1
    assert world.gone()[:2] == [newer, older]
    assert report.reasons == {"newest": 1, "expired": 1, "follows": 3}


def test_index_that_got_a_tag_is_no_longer_redundant(world: World) -> None:
    """The next plan keeps it, with the platform that it lists."""
    _, single, platforms = load_platforms(world, "old", age_days=20, tag="v1")
    world.load(image("newest"), tags="new", age_days=1)
    tag = functools.partial(world.store.tag, world.name, "mine", single[0])
    world.faults.add(Before(tag), kind="tag_delete", nth=1)
    policy: dict[str, Any] = one_rule(1, 1, match=["v.*", "new"])

    report = world.run(workers=1, **policy).prune()

    assert {single[0], platforms[0]} <= world.left
    assert world.tags.keys() == {"mine", "new"}
    assert report.refused == 1


@pytest.mark.parametrize("media_type", [None, OCI_INDEX])
def test_index_of_nothing_that_is_there_displaces_no_untagged_image(world: World, media_type: str | None) -> None:
    """Nobody can pull it; it is kept for being new itself."""
    rollback = world.load(image("rollback"), age_days=40)
    hollow = [
        world.load(index([], absent=[f"sha256:{at:064x}"], media_type=media_type), age_days=at) for at in (1, 2)
    ]

    report = world.prune(**PUSHED_OUT)

    assert world.left == {rollback, *hollow}
    assert report.reasons == {"newest": 3}
