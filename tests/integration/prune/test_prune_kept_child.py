"""Indexes that are deleted while a child of theirs is kept: whether the registry deletes them too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import KeptManifestGone, PermissionDenied, Unavailable
from cleaner.core.notification import Named
from cleaner.core.reference import Digest
from cleaner.engine.run import make_histories
from tests.emulator.faults import After, Delay, Status
from tests.emulator.images import image, index, load, multi_arch, raw
from tests.emulator.store import OCI_INDEX
from tests.support.prune import ALL, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from tests.emulator.images import Content
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

# Tags that begin with ``keep`` protect what has them.
POLICY: dict[str, Any] = protecting("keep.*", ALL)


def load_shared(world: World, seed: object, *, age_days: float = 30, kept: int = 1) -> Content:
    """Load an expired index of three platforms, the first ``kept`` of which have a protected tag of their own."""
    top = multi_arch(seed, platforms=("amd64", "arm64", "arm"))
    world.load(top, tags=f"old-{seed}", age_days=age_days)
    for number, child in enumerate(top.children[:kept]):
        world.store.tag(world.name, f"keep-{seed}-{number}", child.digest)
    return top


def delete_children(world: World, top: Content) -> None:
    """Make the registry delete the children of ``top`` along with it."""
    for child in top.children:
        delete = functools.partial(world.store.force_delete, world.name, child.digest)
        world.faults.add(After(delete), kind="manifest_delete", path=top.digest)


@pytest.mark.parametrize("kept", [1, 3])
def test_one_kept_child_is_checked_immediately_after_its_index(world: World, kept: int) -> None:
    """However many are kept: one request for each index, before anything else that belongs to it."""
    top = load_shared(world, "top", kept=kept)

    report = world.prune(workers=1, **POLICY)

    asked = world.asked("manifest_head", "tag_delete", "manifest_delete")
    child = asked[3][1]
    assert asked[:4] == [
        ("HEAD", "old-top", 200),
        ("DELETE", "old-top", 202),
        ("DELETE", top.digest, 202),
        ("HEAD", child, 200),
    ]
    assert {*asked[4:]} == {("DELETE", other.digest, 202) for other in top.children[kept:]}
    assert child in {one.digest for one in top.children[:kept]}
    assert (report.kept, report.deleted) == (kept, 4 - kept)
    assert world.log.counts["tags_list"] == 1


def test_child_that_another_index_keeps_is_checked(world: World) -> None:
    """It has no tag of its own; the index that needs it does."""
    top = multi_arch("top")
    world.load(top, tags="old")
    other = world.load(index([top.children[0], image("new")], media_type=OCI_INDEX), tags="keep")

    world.prune(**POLICY)

    assert top.digest not in world.left
    assert {other, top.children[0].digest} <= world.left
    assert world.asked("manifest_head").count(("HEAD", top.children[0].digest, 200)) == 1


def test_kept_child_of_a_type_that_is_not_understood_is_found(world: World) -> None:
    """The registry does not show it to whom accepts manifests and indexes alone; ``*/*`` is accepted here."""
    unknown = raw(b'{"mediaType":"application/vnd.acme.unknown+json"}', "application/vnd.acme.unknown+json")
    top = world.load(index([unknown, image(1)]), tags="old")

    report = world.prune(**POLICY)

    assert world.left == {unknown.digest}
    assert world.asked("manifest_head") == [("HEAD", "old", 200), ("HEAD", unknown.digest, 200)]
    assert top not in world.left
    assert report.reasons["unknown-type"] == 1


def test_index_whose_children_are_deleted_with_it_costs_no_further_request(world: World) -> None:
    """There is none that is kept."""
    world.load(multi_arch("top"), tags="old")

    world.prune(**POLICY)

    assert world.asked("manifest_head") == [("HEAD", "old", 200)]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_registry_that_deletes_a_kept_child_ends_the_run(world: World, logged: Logged, workers: int) -> None:
    """Before more such indexes have begun than there are workers; nothing else begins either."""
    tops = [load_shared(world, number, age_days=90 - number) for number in range(20)]
    others = {world.load(image(f"other {number}"), age_days=20) for number in range(20)}
    for top in tops:
        delete_children(world, top)
    # What has begun by then is in flight for a while.
    world.faults.add(Delay(0.05), kind="manifest_delete")

    with pytest.raises(KeptManifestGone) as caught:
        world.run(workers=workers, **POLICY).prune()

    begun = [top for top in tops if top.digest not in world.left]
    assert 1 <= len(begun) <= workers
    assert caught.value.index in {top.digest for top in begun}
    assert caught.value.child in {top.children[0].digest for top in begun}
    assert not caught.value.transient
    assert others <= world.left
    (summary,) = logged("prune finished")
    assert summary["deleted"] == len(begun)
    assert {one["digest"] for one in logged("manifest deleted")} == {top.digest for top in begun}
    assert world.log.counts["tags_list"] == 1


def test_registry_that_deleted_a_kept_child_is_asked_for_nothing_more(world: World) -> None:
    """Not by a later run of the process either: each would lose as many again."""
    tops = [load_shared(world, number, age_days=90 - number) for number in range(4)]
    for top in tops:
        delete_children(world, top)
    with pytest.raises(KeptManifestGone):
        world.run(workers=1, **POLICY).prune()
    left, requests = world.left, world.log.total

    with pytest.raises(KeptManifestGone):
        world.run(workers=1, **POLICY).prune()

    assert (world.left, world.log.total) == (left, requests)
    assert world.run(dry_run=True, **POLICY).prune().deleted > 0


def test_child_that_is_to_be_deleted_too_may_be_deleted_with_its_index(world: World) -> None:
    """The next requests would have deleted them; nothing is lost."""
    top = multi_arch("top")
    world.load(top, tags="old")
    delete_children(world, top)

    report = world.prune(**POLICY)

    assert world.left == frozenset()
    assert report.deleted == 3


@pytest.mark.parametrize("reason", ["unknown-type", "unknown-age", "too-young", "just-pushed"])
def test_registry_that_takes_untagged_children_along_ends_the_run(world: World, logged: Logged, reason: str) -> None:
    """As one user has reported of Google: a child without a tag goes with its index, also one that is kept."""
    child = image("child")
    if reason == "unknown-type":
        child = raw(b'{"mediaType":"application/vnd.acme.unknown+json"}', "application/vnd.acme.unknown+json")
    if reason == "unknown-age":
        load(world.store, world.name, child, uploaded=None)
    world.load(child, age_days=0 if reason == "too-young" else 30)
    top = world.load(index([image("other"), child], media_type=OCI_INDEX), tags="old", age_days=90)
    later = world.load(multi_arch("later"), tags="later", age_days=20)
    named = frozenset({Digest(child.digest)} if reason == "just-pushed" else ())
    world.emulator.behaviour.index_takes_children = True

    with pytest.raises(KeptManifestGone) as caught:
        world.run(workers=1, named=lambda: Named(named), **ALL).prune()

    assert (caught.value.index, caught.value.child) == (top, child.digest)
    assert later in world.left
    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["reasons"][reason]) == (1, 1)


def test_kept_child_of_many_indexes_that_go_proves_nothing(world: World) -> None:
    """It stays as long as one of them is left; what only one of them lists is checked."""
    media_type = "application/vnd.acme.x"
    shared, *own = (raw(b'{"mediaType":"%s","n":%d}' % (media_type.encode(), at), media_type) for at in range(6))
    for at, child in enumerate(own):
        world.load(index([shared, child], media_type=OCI_INDEX), tags=f"old-{at}", age_days=90 - at)
    world.emulator.behaviour.index_takes_children = True

    with pytest.raises(KeptManifestGone) as caught:
        world.run(workers=1, **POLICY).prune()

    assert caught.value.child == own[0].digest
    assert {child.digest for child in own[1:]} <= world.left


@pytest.mark.parametrize("other", ["tagged", "in a kept index"])
def test_kept_child_that_such_a_registry_would_take_is_the_one_that_is_checked(world: World, other: str) -> None:
    """A child that has a tag, or that a kept index lists as well, is left in any case, and proves nothing."""
    staying, child = image("staying"), raw(b'{"mediaType":"application/vnd.acme.x"}', "application/vnd.acme.x")
    top = world.load(index([staying, child], media_type=OCI_INDEX), tags="old", age_days=90)
    if other == "tagged":
        world.store.tag(world.name, "keep", staying.digest)
    else:
        world.load(index([staying, image("beside")], media_type=OCI_INDEX), tags="keep")
    world.emulator.behaviour.index_takes_children = True

    with pytest.raises(KeptManifestGone) as caught:
        world.run(workers=1, **POLICY).prune()

    assert (caught.value.index, caught.value.child) == (top, child.digest)
    assert staying.digest in world.left


@pytest.mark.parametrize("workers", [1, 4])
def test_registry_that_takes_untagged_children_along_loses_nothing_that_is_kept(world: World, workers: int) -> None:
    """It leaves children with a tag or another index; of the others each was to be deleted next, and counts."""
    tops = [load_shared(world, number, age_days=90 - number) for number in range(5)]
    world.load(index([tops[0].children[1], image("new")], media_type=OCI_INDEX), tags="keep")
    nested = world.load(index([multi_arch("nested"), image("beside")], media_type=OCI_INDEX), tags="old")
    world.emulator.behaviour.index_takes_children = True

    report = world.prune(workers=workers, **POLICY)

    assert nested not in world.left
    assert {top.digest for top in tops}.isdisjoint(world.left)
    assert len(world.left) == 5 + 3
    assert (report.kept, report.deleted, report.refused) == (8, 5 + 4 + 5 + 5, 0)


def test_nested_index_is_checked_like_any_child(world: World) -> None:
    """An index that is kept by its own tag is kept with its children when the index that lists it is deleted."""
    inner = multi_arch("inner")
    top = world.load(index([inner, image(1)], media_type=OCI_INDEX), tags="old")
    world.store.tag(world.name, "keep", inner.digest)

    world.prune(**POLICY)

    assert top not in world.left
    assert world.left == {inner.digest, *(child.digest for child in inner.children)}
    assert ("HEAD", inner.digest, 200) in world.asked("manifest_head")


@pytest.mark.parametrize(("status", "error"), [(503, Unavailable), (403, PermissionDenied)])
def test_run_ends_if_a_kept_child_cannot_be_checked(
    world: World, logged: Logged, status: int, error: type[Exception]
) -> None:
    """Whether the registry deletes children too is not known; the index was deleted, and is counted."""
    tops = [load_shared(world, number, age_days=90 - number) for number in range(4)]
    world.faults.add(Status(status), kind="manifest_head", path="sha256:")

    with pytest.raises(error):
        world.prune(workers=1, **POLICY)

    assert [top.digest in world.left for top in tops] == [False, True, True, True]
    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["failed"]) == (1, 0)

    # The next run of the process goes on from there.
    world.faults.clear()
    assert world.prune(workers=1, **POLICY).deleted == 2 + 3 * 3
    assert world.left == {top.children[0].digest for top in tops}


def test_child_that_is_kept_by_a_later_plan_is_not_checked(world: World) -> None:
    """Its index was deleted when the child was to be deleted too, so this plan deletes no index."""
    top = multi_arch("top")
    world.load(top, tags="old")
    child = top.children[0].digest

    def tag() -> None:
        world.clock.turn(61)
        world.store.tag(world.name, "keep", child)

    world.faults.add(After(tag), kind="manifest_delete", path=top.digest)

    report = world.prune(workers=1, **POLICY)

    assert world.left == {child}
    assert (report.deleted, report.refused) == (2, 1)
    assert ("HEAD", child, 200) not in world.asked("manifest_head")


def test_other_process_is_not_ended_by_a_child_that_an_earlier_one_missed(world: World) -> None:
    """What no longer exists is in no listing; what is there is judged as ever."""
    first = load_shared(world, "first", age_days=90)
    second = load_shared(world, "second", age_days=80)
    delete_children(world, first)
    with pytest.raises(KeptManifestGone):
        world.run(workers=1, **POLICY).prune()
    world.faults.clear()
    world.histories = make_histories()

    report = world.run(workers=1, **POLICY).prune()

    assert world.left == {second.children[0].digest}
    assert report.kept == 1
