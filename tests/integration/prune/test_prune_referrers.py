"""Whole runs against a registry that refuses what Google refuses: what is left, what it cost, what the log says."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import CleanerError, RepositoryNotFound, TimeLimitReached, TransientError, Unavailable
from cleaner.core.reference import Digest
from tests.emulator.faults import (
    After,
    Before,
    CutBody,
    Delay,
    DropAfter,
    DropBefore,
    Status,
    too_many_requests,
)
from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    multi_arch,
    raw,
    referrer,
)
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERRING_MANIFEST,
)
from tests.support.processes import wait_for
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulator.faults import Action
    from tests.emulator.images import Content

    Logged = Callable[[str], list[dict[str, Any]]]

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

ABSENT = Digest("sha256:" + "0" * 64)
# Everything goes that is a day old.
ALL: dict[str, Any] = {"delete_tags": [".*"], "max_age": "1d"}


def children(content: Content) -> set[str]:
    return {child.digest for child in content.children}


# What a run costs.


def costs(world: World, **expected: int) -> None:
    """These requests, and no others."""
    assert world.log.counts == expected


def test_cost_of_untagged_images(world: World) -> None:
    """The listing, and one deletion each."""
    for seed in range(7):
        world.load(image(seed), age_days=seed + 1)

    report = world.prune(keep_untagged=3)

    assert len(world.left) == 3
    costs(world, tags_list=1, manifest_delete=4)
    assert report.requests == 5


def test_cost_of_tagged_images(world: World) -> None:
    """One look and one deletion more for each tag."""
    for seed in range(6):
        world.load(image(seed), tags=[f"a{seed}", f"b{seed}"], age_days=seed + 1)

    report = world.prune(keep=4, delete_tags=[".*"])

    assert sorted(world.tags) == [f"{letter}{seed}" for letter in "ab" for seed in range(4)]
    costs(world, tags_list=1, manifest_head=4, tag_delete=4, manifest_delete=2)
    assert report.requests == world.log.total == 11


def test_cost_of_indexes(world: World) -> None:
    """One reading for each index, kept or not; its parts cost a deletion each and nothing else."""
    for seed in range(3):
        world.load(multi_arch(seed, attestations=True), tags=f"v{seed}", age_days=seed + 1)

    world.prune(keep=1, delete_tags=[".*"])

    assert len(world.left) == 5
    costs(world, tags_list=1, manifest_get=3, manifest_head=2, tag_delete=2, manifest_delete=10)
    assert set(world.log.statuses) == {200, 202}


def test_cost_of_signed_images(world: World) -> None:
    """A signature has a tag, so it is not read, and goes behind its image like an image with a tag."""
    for seed in range(3):
        subject = world.load(image(seed), tags=f"v{seed}", age_days=seed + 1)
        world.load(cosign_signature(subject), tags=cosign_tag(subject))

    world.prune(keep=1, delete_tags=["v.*"])

    assert len(world.left) == 2
    costs(world, tags_list=1, manifest_head=4, tag_delete=4, manifest_delete=4)
    assert set(world.log.statuses) == {200, 202}


def test_cost_of_oci_referrers(world: World) -> None:
    """One reading each; a subject that has any costs a refused deletion, and another listing after it."""
    for seed in range(3):
        subject = world.load(image(seed), tags=f"v{seed}", age_days=seed + 1)
        for number in range(2):
            world.load(referrer(subject, seed=number))
    for seed in range(5):
        world.load(image(f"not read {seed}", media_type=OCI_MANIFEST), tags=f"release-{seed}", age_days=9)

    world.prune(keep=2, delete_tags=["v.*"])

    assert len(world.left) == 11
    costs(world, tags_list=2, manifest_get=6, manifest_head=1, tag_delete=1, manifest_delete=4)
    assert [status for _, _, status in world.asked("manifest_delete")].count(400) == 1


def test_cost_of_orphans(world: World) -> None:
    """One reading where the tag does not tell, and one look at the subject."""
    world.load(referrer(ABSENT))
    world.load(cosign_signature(ABSENT), tags=cosign_tag(ABSENT))

    world.prune(delete_tags=[".*"])

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
    """A process that knows the repository has its token and remembers its documents."""
    google.load(multi_arch(1, attestations=True), tags="v1")
    subject = google.load(image("untagged", media_type=OCI_MANIFEST))
    google.load(referrer(subject))
    first = google.prune(keep_untagged=5)
    costs(google, token=1, tags_list=1, manifest_get=3)
    assert first.requests == 5
    google.log.clear()

    report = google.prune(keep_untagged=5)

    costs(google, tags_list=1)
    assert report.requests == 1


def test_cost_of_all_in_one(google: World) -> None:
    """The sum of them, with a token."""
    google.load(image("lone"))
    subject = google.load(multi_arch("top"), tags=["v1", "latest"])
    google.load(referrer(subject))
    google.load(cosign_signature(subject), tags=cosign_tag(subject))
    google.load(referrer(ABSENT))

    report = google.prune(**ALL)

    assert google.left == frozenset()
    costs(google, token=1, tags_list=2, manifest_get=4, manifest_head=4, tag_delete=3, manifest_delete=8)
    assert report.requests == google.log.total
    assert (report.kept, report.deleted) == (0, 7)


# What happens in between: tags.


@pytest.mark.parametrize("kind", ["manifest_head", "tags_list"])
def test_tag_that_moved_stays_with_what_it_names(world: World, logged: Logged, kind: str) -> None:
    """CI moves `latest` after the listing, or right before the look: then nothing of both goes."""
    old = world.load(image("old"), tags=["latest", "v1"], age_days=40)
    new = world.load(image("new"), age_days=30)
    fault = After if kind == "tags_list" else Before
    world.faults.add(fault(lambda: world.store.tag(world.name, "latest", new)), kind=kind, nth=1)

    report = world.prune(workers=1, **ALL)

    assert world.left == {old, new}
    assert world.tags == {"latest": new, "v1": old}
    assert (report.deleted, report.refused, report.failed) == (0, 0, 0)
    assert [one["tag"] for one in logged("tag moved")] == ["latest"]


@pytest.mark.parametrize("workers", [1, 8])
def test_tag_that_moved_to_an_index_of_the_plan(world: World, workers: int) -> None:
    """What the tag names now stays whole, though it was to go."""
    old = world.load(image("old"), tags="latest", age_days=40)
    new = multi_arch("new", attestations=True)
    world.load(new, age_days=30)
    signature = world.load(cosign_signature(new), tags=cosign_tag(new))
    world.faults.add(Before(lambda: world.store.tag(world.name, "latest", new.digest)), kind="manifest_head", nth=1)
    # With many workers the index might be gone before anybody moves a tag to it.
    world.faults.add(Delay(0.05), kind="manifest_delete", path=new.digest)

    world.prune(workers=workers, **ALL)

    assert world.left == {old, new.digest, *children(new), signature}
    assert world.tags == {"latest": new.digest, cosign_tag(new): signature}


def test_tag_that_moved_to_a_new_image(world: World) -> None:
    """The image that lost its tag stays for this run: it is not what was judged."""
    old = multi_arch("old")
    world.load(old, tags="latest")
    world.faults.add(Before(lambda: world.load(image("new"), tags="latest", age_days=0)), kind="manifest_head", nth=1)

    world.prune(**ALL)

    assert world.left > {old.digest, *children(old)}
    assert world.tags["latest"] not in (old.digest, *children(old))
    assert world.log.counts["tag_delete"] == world.log.counts["manifest_delete"] == 0


def test_tag_that_is_gone_is_not_deleted(world: World, logged: Logged) -> None:
    """Somebody untagged it; the image goes all the same."""
    digest = world.load(image(1), tags=["a", "b"])
    world.faults.add(Before(lambda: world.store.delete_tag(world.name, "a")), kind="manifest_head", nth=1)

    world.prune(**ALL)

    assert world.left == frozenset()
    assert world.asked("tag_delete", "manifest_delete") == [("DELETE", "b", 202), ("DELETE", digest, 202)]
    assert [one["tag"] for one in logged("tag deleted")] == ["b"]


RETRIED_DELETION = [
    Status(503),
    Status(503, retry_after=5),
    too_many_requests(retry_after=60),
    DropBefore(),
    DropAfter(),
]


@pytest.mark.parametrize("fault", RETRIED_DELETION, ids=repr)
def test_tag_that_moves_while_its_deletion_is_repeated_stays(world: World, fault: Any) -> None:
    """Immediately before means before every attempt: a retry does not delete what CI has tagged since."""
    world.load(image("old"), tags="latest", age_days=40)
    world.faults.add(fault, kind="tag_delete", nth=1)
    # After the first attempt has failed, and before the next one or its look.
    moved: list[Digest] = []

    def move() -> None:
        if not moved:
            moved.append(world.load(image("new"), tags="latest", age_days=0))

    sleep = world.transport._sleep

    def sleeping(seconds: float) -> None:
        move()
        sleep(seconds)

    world.transport._sleep = sleeping

    world.prune(**ALL)

    assert moved
    assert world.tags == {"latest": moved[0]}
    assert moved[0] in world.left


def test_tag_is_deleted_in_the_breath_of_its_check_however_slow_the_pace(world: World) -> None:
    """Workers that are held back by 429 are held back before the look, not between look and deletion."""
    for seed in range(12):
        world.load(image(seed), tags=f"v{seed}")
    # Nothing was answered for a while, so that the pace falls to about one request a second.
    world.faults.add(Before(lambda: world.clock.turn(3)), kind="manifest_head", nth=1)
    world.faults.add(too_many_requests(), kind="manifest_head", nth=1)
    gaps: list[tuple[str, float]] = []
    looks: dict[str, float] = {}

    def looked(tag: str) -> Callable[[], None]:
        return lambda: looks.update({tag: world.clock()})

    def deleted(tag: str) -> Callable[[], None]:
        return lambda: gaps.append((tag, world.clock() - looks[tag]))

    for seed in range(12):
        world.faults.add(After(looked(f"v{seed}")), kind="manifest_head", path=f"/v{seed}$")
        world.faults.add(Before(deleted(f"v{seed}")), kind="tag_delete", path=f"/v{seed}$")

    # One worker: nobody else's sleep turns the clock.
    world.prune(workers=1, **ALL)

    assert sum(world.clock.slept) > 1
    assert len(gaps) == 12
    assert max(seconds for _, seconds in gaps) < 0.1


def test_deletion_that_is_repeated_late_asks_again_who_wants_it(world: World) -> None:
    """A push of the digest that comes while a deletion waits for its retry spares the manifest."""
    wanted: set[Digest] = set()
    digest = world.load(image(1))
    world.faults.add(Status(503, retry_after=30), kind="manifest_delete", nth=1)
    sleep = world.transport._sleep

    def sleeping(seconds: float) -> None:
        wanted.add(digest)
        sleep(seconds)

    world.transport._sleep = sleeping

    world.prune(wanted=lambda: frozenset(wanted))

    assert world.left == {digest}


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_head", "manifest_delete"])
def test_deletion_whose_repetition_outlives_its_plan_is_planned_anew(world: World, kind: str) -> None:
    """A registry that asks for a minute's patience gets a new plan, not an image that is left lying."""
    world.load(multi_arch("top"), tags="v1")
    world.faults.add(Status(503, retry_after=60), kind=kind, nth=1)

    report = world.prune(**ALL)

    assert world.left == frozenset()
    assert report.deleted == 3
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_head", "manifest_delete"])
def test_registry_that_asks_for_patience_for_ever_ends_a_run_without_a_time_limit(world: World, kind: str) -> None:
    """New plans are no new attempts: what never passes is a failure, also on the command line."""
    digest = world.load(image(1), tags="v1")
    rule = world.faults.add(Status(503, retry_after=60), kind=kind, times=60)

    with pytest.raises(TransientError):
        world.prune(time_limit_s=math.inf, **ALL)

    assert world.left == {digest}
    assert rule.hits < 60


# Refusals.


@pytest.mark.parametrize("code", [DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST])
def test_refused_deletion_is_counted_and_kept(world: World, logged: Logged, code: str) -> None:
    """A WARNING with the registry's code; what belongs to the image stays, the rest goes."""
    refused = multi_arch("refused")
    world.load(refused)
    signature = world.load(cosign_signature(refused), tags=cosign_tag(refused))
    world.load(multi_arch("other"))
    world.faults.add(Status(400, code), kind="manifest_delete", path=refused.digest)

    report = world.prune(**ALL)

    assert world.left == {refused.digest, *children(refused), signature}
    assert (report.deleted, report.refused, report.failed) == (3, 1, 0)
    (record,) = logged("deletion refused")
    assert (record["levelname"], record["digest"]) == ("WARNING", refused.digest)
    assert (record["status"], tuple(record["codes"])) == (400, (code,))
    assert logged("deletion failed") == []


def test_image_that_got_a_tag_is_refused(world: World) -> None:
    """The registry is the last guard, whatever the plan says."""
    digest = world.load(image(1))
    world.faults.add(Before(lambda: world.store.tag(world.name, "new", digest)), kind="manifest_delete", nth=1)

    report = world.prune(**ALL)

    assert (report.deleted, report.refused) == (0, 1)
    assert world.tags == {"new": digest}


def test_child_that_got_a_parent_stays_with_its_own(world: World) -> None:
    """A push reuses an old platform manifest: it stays in the new index, with its signature."""
    platform = image("platform")
    old = world.load(index([platform, image(2)]), tags="v1")
    signature = world.load(cosign_signature(platform), tags=cosign_tag(platform))
    new = index([platform], seed="new")
    world.faults.add(Before(lambda: world.load(new, tags="v2", age_days=0)), kind="manifest_delete", path=old)

    report = world.prune(**ALL)

    assert world.left == {platform.digest, new.digest, signature}
    assert report.refused == 1


@pytest.mark.parametrize(
    ("status", "code"), [(400, "FAILED_PRECONDITION"), (403, "DENIED"), (401, "UNAUTHORIZED"), (405, ""), (409, "X")]
)
def test_failed_deletion_is_an_error_and_the_rest_goes_on(
    world: World, logged: Logged, status: int, code: str
) -> None:
    """An ERROR with the registry's codes; that image stays with its parts."""
    failing = multi_arch("failing")
    world.load(failing, tags="v1")
    for seed in range(5):
        world.load(image(seed))
    world.faults.add(Status(status, code), kind="manifest_delete", path=failing.digest)

    report = world.prune(**ALL)

    assert world.left == {failing.digest, *children(failing)}
    assert (report.deleted, report.refused, report.failed) == (5, 0, 1)
    (record,) = logged("deletion failed")
    assert (record["levelname"], record["status"]) == ("ERROR", status)
    assert code in ("", *record["codes"])


def test_immutable_tags_keep_their_images(world: World, logged: Logged) -> None:
    """A repository of immutable tags: what has one fails, what has none goes."""
    world.store.repository(world.name, immutable_tags=True)
    tagged = [world.load(multi_arch(seed), tags=f"v{seed}") for seed in range(3)]
    world.load(image("untagged"))

    report = world.prune(**ALL)

    assert world.tags == {f"v{seed}": digest for seed, digest in enumerate(tagged)}
    assert len(world.left) == 9
    assert (report.deleted, report.failed) == (1, 3)
    assert {tuple(one["codes"]) for one in logged("deletion failed")} == {("FAILED_PRECONDITION",)}
    # The first tag's refusal is the image's: its manifest is not asked for.
    assert world.log.counts["manifest_delete"] == 1


def test_404_on_a_deletion_is_success(world: World) -> None:
    """Another delivery was faster with all of it."""
    top = multi_arch("top")
    world.load(top, tags="v1")

    def delete_all() -> None:
        for digest in world.left:
            world.store.force_delete(world.name, digest)

    world.faults.add(Before(delete_all), kind="tag_delete", nth=1)

    report = world.prune(**ALL)

    assert (report.deleted, report.refused, report.failed) == (3, 0, 0)


@pytest.mark.parametrize("kind", ["tag_delete", "manifest_delete", "manifest_head"])
@pytest.mark.parametrize("fault", [DropAfter(), DropBefore(), Status(503), Status(429, plain=True)], ids=repr)
def test_lost_answers_do_no_harm(world: World, fault: Any, kind: str) -> None:
    """A deletion that was done and whose answer is lost is a deletion."""
    for seed in range(5):
        world.load(multi_arch(seed, attestations=True), tags=f"v{seed}", age_days=seed + 1)
    world.faults.add(fault, kind=kind, every=2, times=5)

    report = world.prune(keep=2, delete_tags=[".*"])

    assert len(world.left) == 10
    assert (report.deleted, report.refused, report.failed) == (15, 0, 0)
    assert report.requests == world.log.total


# Referrers that the registry knows.


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


def test_attestation_stays_with_what_it_attests(world: World) -> None:
    """It goes before it; but not if somebody asks for what it attests by then."""
    platform = image("platform", media_type=OCI_MANIFEST)
    about = attestation(platform, as_referrer=True)
    top = world.load(index([platform, about], media_type=OCI_INDEX))
    named: set[Digest] = set()
    world.faults.add(After(lambda: named.add(Digest(platform.digest))), kind="manifest_delete", nth=1)

    world.prune(workers=1, keep_untagged=0, wanted=lambda: frozenset(named))

    assert world.left == {platform.digest, about.digest}
    assert world.gone() == [top]


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_attestation_that_names_its_platform_goes_before_it(world: World, code: str) -> None:
    """BuildKit writes into the index what attests what, and into the attestation a subject that is never read."""
    world.store.referrer_code = code
    platforms = [image(f"platform {number}", media_type=OCI_MANIFEST) for number in range(3)]
    attesting = [attestation(platform, as_referrer=True) for platform in platforms]
    world.load(index([*platforms, *attesting], media_type=OCI_INDEX))

    report = world.prune(keep_untagged=0)

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

    report = world.prune(workers=workers, keep_untagged=0)

    assert world.left == frozenset()
    assert (report.deleted, report.refused) == (15, 0)


def test_platform_that_got_a_parent_stays_with_the_attestation_beside_it(world: World) -> None:
    """Refused for the new index, not for the attestation."""
    platform = image("platform", media_type=OCI_MANIFEST)
    about = attestation(platform, as_referrer=True, is_annotated=False)
    world.load(index([platform, about], media_type=OCI_INDEX))
    again = index([platform, about], media_type=OCI_INDEX, seed="again")
    world.faults.add(After(lambda: world.load(again, tags="v1", age_days=0)), kind="manifest_delete", nth=1)

    world.prune(workers=1, keep_untagged=0)

    assert world.left == {again.digest, platform.digest, about.digest}


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("is_listed", [True, False])
def test_referrers_that_have_not_been_read_go(world: World, code: str, is_listed: bool, others: int) -> None:
    """Of what has a cosign tag, or is listed in an index that has one, the subject is read once it matters.

    Clients that know of no referrers API list referrers in such an index, and others add to them.
    """
    world.store.referrer_code = code
    subject = world.load(image("subject"))
    about = referrer(subject)
    world.load(index([about], media_type=OCI_INDEX) if is_listed else about, tags=cosign_tag(subject, ""))
    for seed in range(others):
        world.load(referrer(subject, seed=f"other {seed}"))
    for seed in range(5):
        world.load(image(f"not read {seed}", media_type=OCI_MANIFEST), tags=f"release-{seed}")

    report = world.prune(keep_untagged=0, delete_tags=["sha256-.*"])

    assert len(world.left) == 5
    assert (report.deleted, report.refused) == (2 + is_listed + others, 0)
    assert world.log.counts["manifest_get"] == 1 + is_listed + others
    assert world.log.counts["manifest_delete"] == 3 + is_listed + others


def test_image_that_is_refused_takes_no_others_place(world: World) -> None:
    """``max_deletions`` counts what goes: one that the registry always refuses must not hold up the rest for ever."""
    stuck = world.load(image("stuck"), age_days=90)
    holder = world.load(referrer(stuck), tags="keep-me", age_days=80)
    others = [world.load(image(seed), age_days=70 - seed) for seed in range(4)]

    report = world.prune(max_deletions=2)

    assert world.left == {stuck, holder, *others[2:]}
    assert (report.deleted, report.refused) == (2, 1)
    assert report.kept == 3


def test_what_takes_a_refused_images_place_was_to_go_before(world: World) -> None:
    """A child with a tag takes no place among the newest before its index is gone; then it does, in another run."""
    stuck = world.load(image("stuck"), age_days=90)
    world.load(referrer(stuck), tags="keep-me", age_days=80)
    top = multi_arch("top", platforms=("amd64",))
    child = world.load(top.children[0], tags="v3", age_days=10)
    world.load(top, tags="v1", age_days=50)
    newest = world.load(image("newest"), tags="v2", age_days=20)
    policy: dict[str, Any] = {"keep": 1, "keep_untagged": 0, "delete_tags": ["v.*"], "max_deletions": 2}

    report = world.prune(**policy)

    assert (report.deleted, report.refused) == (1, 1)
    assert {stuck, child, newest} <= world.left
    assert top.digest not in world.left

    assert world.run(**policy).prune().deleted == 1
    assert newest not in world.left


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_subject_with_a_child_that_stays_goes(world: World, code: str) -> None:
    """A child with a tag of its own does not need its index, whatever the registry refuses the index for."""
    world.store.referrer_code = code
    top = multi_arch("top")
    child, other = (world.load(one, age_days=40) for one in top.children)
    world.load(top, tags="pr-1", age_days=40)
    world.store.tag(world.name, "v1", child)
    about = world.load(referrer(top), age_days=40)

    report = world.prune(keep=1, delete_tags=["pr-.*"], protect_tags=["v.*"], max_age="1d")

    assert world.left == {child}
    assert {top.digest, other, about}.isdisjoint(world.left)
    assert (report.deleted, report.refused) == (3, 0)


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("latency_s", [0.0, 0.03])
def test_subjects_that_are_refused_at_once_share_a_listing(world: World, count: int, latency_s: float) -> None:
    """Whoever is refused first waits for those who are being asked."""
    world.emulator.faults.latency_s = latency_s
    for seed in range(count):
        world.load(referrer(world.load(image(seed))))

    report = world.prune(workers=20, **ALL)

    assert report.deleted == 2 * count
    costs(world, tags_list=2, manifest_get=count, manifest_delete=3 * count)


def test_subject_that_has_lost_its_tags_is_not_read(world: World) -> None:
    """It had them for the plan, so nobody asks whose referrer it may be."""
    world.load(referrer(world.load(image("subject", media_type=OCI_MANIFEST), tags=["v1", "v2"])))

    assert world.prune(**ALL).deleted == 2

    costs(world, tags_list=2, manifest_get=1, manifest_head=2, tag_delete=2, manifest_delete=3)


class Peak:
    """How many of something have been under way at the same time, at most."""

    def __init__(self) -> None:
        self._now = self.most = 0

    def begin(self) -> None:
        self._now += 1
        self.most = max(self.most, self._now)

    def end(self) -> None:
        self._now -= 1


@pytest.mark.parametrize(("workers", "most"), [(1, 12), (3, 6)])
def test_as_many_refused_subjects_as_there_are_workers_share_a_look(world: World, workers: int, most: int) -> None:
    """More of them at once would lie untagged for longer, and what was seen would be older when they go."""
    for seed in range(12):
        world.load(referrer(world.load(image(seed), tags=f"v{seed}")))

    report = world.prune(workers=workers, **ALL)

    assert report.deleted == 24
    assert world.left == frozenset()
    assert world.log.counts["tags_list"] <= 1 + most


def test_documents_of_a_fresh_listing_are_read_side_by_side(world: World) -> None:
    """What has arrived may hold a subject, and may be a lot: in all no more requests than there are workers."""
    world.load(referrer(world.load(image("subject"))))
    for seed in range(24):
        world.load(image(f"goes {seed}"))

    def arrive() -> None:
        for seed in range(24):
            world.load(image(seed, media_type=OCI_MANIFEST), tags=f"v{seed}", age_days=0)

    world.faults.add(Before(arrive), kind="manifest_delete", nth=1)
    asking, reading = Peak(), Peak()
    world.faults.add(Before(asking.begin))
    world.faults.add(Before(reading.begin), kind="manifest_get")
    world.faults.add(Delay(0.02, after=True))
    world.faults.add(After(reading.end), kind="manifest_get")
    world.faults.add(After(asking.end))

    report = world.prune(keep_untagged=0, workers=4)

    assert (report.deleted, world.log.counts["manifest_get"]) == (26, 25)
    assert 1 < reading.most <= asking.most <= 4


def test_fresh_listing_that_fails_ends_the_run(world: World) -> None:
    """Who cannot see what stands against it deletes nothing more."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))
    world.faults.add(Status(503), kind="tags_list", skip=1)

    with pytest.raises(Unavailable):
        world.prune(**ALL)

    assert world.left == {subject, about}


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


# What whoever asks for a run may say beside the policy.


def test_nothing_goes_but_what_was_agreed_to(world: World, logged: Logged) -> None:
    """What has become due since somebody said yes is for another time, with all that belongs to it."""
    top = multi_arch("agreed")
    agreed = {world.load(top), *map(Digest, children(top))}
    other = world.load(image("other"))
    signed = world.load(multi_arch("not agreed"))
    before = world.left

    report = world.run(keep_untagged=0).prune(only=frozenset(agreed))

    assert world.left == before - agreed
    assert {other, signed} <= world.left
    assert report.deleted == 3
    assert len(logged("prune finished")) == 1


def test_run_that_is_stopped_begins_nothing_more(world: World, logged: Logged) -> None:
    """What runs is finished, and what was done is told; no error."""
    for seed in range(6):
        world.load(image(seed))
    run = world.run(keep_untagged=0, workers=1)
    world.faults.add(After(run.stop), kind="manifest_delete", nth=2)

    report = run.prune()

    assert len(world.left) == 4
    assert (report.deleted, report.kept) == (2, 4)
    assert len(logged("prune finished")) == 1
    assert world.log.counts["tags_list"] == 1


# What a run leaves half deleted.


PUSHED_OUT: dict[str, Any] = {"keep": 1, "keep_untagged": 1, "delete_tags": [".*"]}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("end", ["left", "failed", "refused"])
def test_image_that_has_lost_its_tags_pushes_no_other_out(world: World, end: str, signed: bool) -> None:
    """Whatever held it up: in the next run it does not take the place of one that was to stay untagged."""
    untagged = world.load(image("untagged"), age_days=7)
    stripped = world.load(image("stripped"), tags="v1", age_days=6)
    referrers = [world.load(referrer(stripped), age_days=6)] if signed else []
    newest = world.load(image("newest"), tags="v2", age_days=1)
    before = world.left
    status = {"left": Status(503), "failed": Status(403, "DENIED"), "refused": Status(400, DANGLING_PARENT)}[end]
    world.faults.add(status, kind="manifest_delete", times=6)

    with contextlib.suppress(Unavailable):
        world.prune(**PUSHED_OUT)
    assert world.tags.keys() == {"v2"}
    world.faults.clear()

    for _ in range(2):
        report = world.run(**PUSHED_OUT).prune()
        assert report.deleted == 0
    assert world.left == before
    assert {untagged, stripped, newest, *referrers} == before


def test_image_that_was_left_for_want_of_time_pushes_no_other_out(world: World) -> None:
    """A subject that is refused has no tags any more when the time is over."""
    untagged = world.load(image("untagged"), age_days=7)
    subject = world.load(image("subject"), tags="v1", age_days=6)
    world.load(referrer(subject), age_days=6)
    world.load(image("newest"), tags="v2", age_days=1)
    before = world.left
    world.faults.add(After(lambda: world.clock.turn(600)), kind="manifest_delete", nth=1)

    with pytest.raises(TimeLimitReached):
        world.prune(**PUSHED_OUT)
    world.run(**PUSHED_OUT).prune()

    assert untagged in world.left
    assert world.left == before


def test_image_that_got_a_tag_again_counts_again(world: World) -> None:
    """Whoever tags what a run has left half deleted finds it judged as any other, also without that tag."""
    untagged = world.load(image("untagged"), age_days=7)
    stripped = world.load(image("stripped"), tags="v1", age_days=6)
    world.load(image("newest"), tags="v2", age_days=1)
    world.faults.add(Status(503), kind="manifest_delete", times=6)
    with pytest.raises(Unavailable):
        world.prune(**PUSHED_OUT)
    world.store.tag(world.name, "keep-me", stripped)
    world.prune(**PUSHED_OUT | {"protect_tags": ["keep-me"]})
    world.store.delete_tag(world.name, "keep-me")

    assert world.run(**PUSHED_OUT).prune().deleted == 1
    assert untagged not in world.left
    assert stripped in world.left


# Another process at work.


def crossed(world: World, *, tagged: int) -> tuple[Digest, Callable[[], None]]:
    """Return an untagged image that is to stay, and what another process does next: it has taken away a tag."""
    untagged = world.load(image("untagged"), age_days=70)
    for seed in range(tagged):
        world.load(image(seed), tags=f"v{seed}", age_days=60 - seed)
    going = world.load(image("going"), age_days=60)
    world.load(image("newest"), tags="new", age_days=1)

    def go_on() -> None:
        world.store.delete_manifest(world.name, going)
        if tagged:
            world.store.delete_tag(world.name, "v0")

    return untagged, go_on


@pytest.mark.parametrize("workers", [1, 8])
def test_what_another_process_has_begun_to_delete_crowds_nobody_out(world: World, workers: int) -> None:
    """A tag that is gone before us shows that somebody is at work: what is untagged waits for another plan."""
    untagged, go_on = crossed(world, tagged=9)
    world.faults.add(After(go_on), kind="tags_list", nth=1)

    report = world.run(workers=workers, **PUSHED_OUT).prune()

    assert untagged in world.left
    assert world.log.counts["tags_list"] == 2
    assert (len(world.left), report.kept) == (2, 2)


def test_untagged_image_goes_alone_only_after_two_looks(world: World) -> None:
    """Nothing else that goes would show whether another process is at work."""
    untagged, go_on = crossed(world, tagged=0)
    world.faults.add(After(go_on), kind="tags_list", nth=1)

    report = world.run(**PUSHED_OUT).prune()

    assert untagged in world.left
    assert (report.deleted, report.kept) == (0, 2)
    assert world.log.counts["tags_list"] == 2


def test_what_only_the_second_look_crowds_out_stays(world: World) -> None:
    """The other process has begun in between."""
    untagged = world.load(image("untagged"), age_days=70)
    old = world.load(image("old"), age_days=80)
    tagged = world.load(image("tagged"), tags="new", age_days=60)
    world.faults.add(After(lambda: world.store.delete_tag(world.name, "new")), kind="tags_list", nth=1)

    world.run(**PUSHED_OUT).prune()

    assert world.left == {untagged, tagged}
    assert old not in world.left


@pytest.mark.parametrize(
    ("policy", "tags", "listings"),
    [
        ({"keep_untagged": 1, "delete_tags": [".*"]}, "v1", 1),
        ({"keep_untagged": 1, "delete_tags": [".*"]}, "", 2),
        ({"keep_untagged": 1}, "", 1),
        ({"keep_untagged": 0, "delete_tags": [".*"]}, "", 1),
        ({"keep_untagged": 1, "delete_tags": [".*"], "max_age": "1d"}, "", 1),
    ],
)
def test_look_is_taken_twice_only_where_it_could_mislead(
    world: World, policy: dict[str, Any], tags: str, listings: int
) -> None:
    """Where tagged images never go, or a place is not why something goes, or a tag that goes would show it: once."""
    world.load(image("first"), age_days=40)
    world.load(image("second"), tags=tags.split(), age_days=50)
    world.load(image("third"), age_days=60)
    world.load(image("newest"), tags="new", age_days=1)

    assert world.run(keep=1, **policy).prune().deleted >= 1

    assert world.log.counts["tags_list"] == listings


def test_two_processes_at_once_leave_what_is_to_stay_untagged(world: World) -> None:
    """Whenever one begins, the other is between tags and images."""
    untagged = {world.load(image(f"untagged {seed}"), age_days=90 + seed) for seed in range(3)}
    for seed in range(60):
        world.load(image(seed), tags=f"v{seed}", age_days=20 + seed)
    newest = world.load(image("newest"), tags="new", age_days=1)
    world.emulator.faults.latency_s = 0.01
    other = World(world.emulator)
    policy: dict[str, Any] = {**PUSHED_OUT, "keep_untagged": 3, "workers": 20}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(world.run(**policy).prune)
        wait_for(lambda: world.log.counts["tag_delete"] >= 1, "the first is at work")
        second = pool.submit(other.run(**policy).prune)
        first.result()
        second.result()
    other.close()

    assert world.left == {*untagged, newest}


# What is told.


def test_refused_image_that_goes_later_is_not_taken_for_one_that_stays(world: World) -> None:
    """What is kept is what is left: here the other's plan was too old, and the refused one is gone by the next."""
    refused = world.load(image("refused"), age_days=90)
    world.load(image("other"), age_days=80)
    kept = world.load(image("kept"), tags="v1")
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused)
    world.faults.add(Status(503, retry_after=60), kind="manifest_delete", skip=1, times=1)
    world.faults.add(Before(lambda: world.store.force_delete(world.name, refused)), kind="tags_list", nth=2)

    report = world.run(workers=1).prune()

    assert world.left == {kept}
    assert (report.kept, report.deleted, report.refused) == (1, 1, 1)


def test_image_that_could_not_go_is_told_once(world: World) -> None:
    """As refused or failed, and not as one that a limit keeps."""
    failing = world.load(image("failing"), age_days=90)
    world.load(image("other"), age_days=80)
    world.load(image("kept"), tags="v1")
    world.faults.add(Status(400, "DENIED"), kind="manifest_delete", path=failing)

    report = world.run(max_deletions=2).prune()

    assert (report.kept, report.deleted, report.failed) == (1, 1, 1)
    assert report.reasons == {"tagged": 1, "expired": 1}


# Messages that arrive during the run.


def test_digest_that_is_named_from_the_start_is_just_pushed(world: World) -> None:
    """Somebody pushes an old digest again: it stays, and needs what it needs."""
    top = multi_arch("top")
    named = world.load(top)
    world.load(image("other"))

    report = world.prune(wanted=lambda: frozenset({named}))

    assert world.left == {named, *children(top)}
    assert report.reasons == {"just-pushed": 1, "needed": 2, "expired": 1}


@pytest.mark.parametrize("workers", [1, 8])
def test_digest_that_is_named_during_the_run_is_spared(world: World, workers: int) -> None:
    """A message that comes after the plan was made counts all the same."""
    named: set[Digest] = set()
    spared, other = multi_arch("spared"), multi_arch("other")
    world.load(spared, tags="v1", age_days=30)
    world.load(other, tags="v2", age_days=40)
    signature = world.load(cosign_signature(spared), tags=cosign_tag(spared))
    world.faults.add(After(lambda: named.add(Digest(spared.digest))), kind="tags_list", nth=1)
    world.faults.add(After(lambda: named.add(Digest(spared.digest))), kind="manifest_get")

    # The message arrives between plan and execution: `wanted` is asked once for the plan.
    asked = []

    def wanted() -> frozenset[Digest]:
        asked.append(1)
        return frozenset(named) if len(asked) > 1 else frozenset()

    report = world.prune(workers=workers, wanted=wanted, **ALL)

    assert world.left == {spared.digest, *children(spared), signature}
    assert world.tags == {"v1": spared.digest, cosign_tag(spared): signature}
    assert report.deleted == 3


# Limits.


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_limit_holds_for_a_run(world: World, limit: int) -> None:
    """Images and orphans count, what follows them does not; oldest first."""
    for seed in range(4):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)

    report = world.prune(max_deletions=limit, **ALL)

    assert report.deleted == 3 * min(limit, 4)
    assert sorted(world.tags) == [f"v{seed}" for seed in range(limit, 4)]


def test_limit_holds_across_the_plans_of_a_run(world: World) -> None:
    """A plan that grew old does not begin the count anew."""
    for seed in range(20):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")

    report = world.prune(workers=1, max_deletions=7, **ALL)

    assert world.log.counts["tags_list"] == 3
    assert report.deleted == 7
    assert len(world.left) == 13


def test_plan_is_acted_on_for_a_minute(world: World) -> None:
    """Then the repository is listed anew, until nothing is left to do."""
    for seed in range(8):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(29)), kind="manifest_delete")

    report = world.prune(workers=1, **ALL)

    assert world.left == frozenset()
    assert report.deleted == 8
    kinds = [one.kind for one in world.log.entries]
    assert kinds == ["tags_list", *["manifest_delete"] * 3] * 2 + ["tags_list", *["manifest_delete"] * 2]


def test_new_plan_sees_what_has_changed(world: World) -> None:
    """A tag that came in the first minute decides in the second."""
    digests = [world.load(multi_arch(seed), age_days=50 - seed) for seed in range(3)]

    def change() -> None:
        world.clock.turn(61)
        world.store.tag(world.name, "stable", digests[2])

    world.faults.add(After(change), kind="manifest_delete", nth=1)

    report = world.prune(workers=1, protect_tags=["stable"], **ALL)

    assert world.tags == {"stable": digests[2]}
    assert len(world.left) == 3
    assert (report.deleted, report.refused) == (6, 0)


def test_refused_images_are_not_asked_for_again_by_the_next_plan(world: World) -> None:
    """Whatever was refused or failed stays for this run, and is counted once."""
    refused = multi_arch("refused")
    world.load(refused, age_days=90)
    failing = world.load(image("failing"), age_days=80)
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused.digest)
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=failing)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")

    report = world.prune(workers=1, **ALL)

    assert world.left == {refused.digest, *children(refused), failing}
    assert (report.deleted, report.refused, report.failed) == (6, 1, 1)
    asked = [what for _, what, _ in world.asked("manifest_delete")]
    assert len(asked) == len(set(asked)) == 8


@pytest.mark.parametrize("workers", [1, 4])
def test_time_limit_ends_a_run_for_a_redelivery(world: World, logged: Logged, workers: int) -> None:
    """No further deletion begins, what runs is finished, the summary is written, and the next run goes on."""
    for seed in range(10):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(5)), kind="tag_delete")

    with pytest.raises(TimeLimitReached) as caught:
        world.prune(workers=workers, time_limit_s=12, **ALL)

    assert caught.value.transient
    gone = [what for what in world.gone() if what.startswith("v")]
    assert 3 <= len(gone) <= 2 + workers
    # Back to back: whoever lost its tag went itself.
    assert all(held.tags for held in world.store.manifests(world.name).values() if held.children)
    (summary,) = logged("prune finished")
    assert summary["deleted"] == 30 - len(world.left)
    assert world.prune(**ALL).deleted == summary["kept"]
    assert world.left == frozenset()


def test_time_limit_that_is_over_before_the_plan_deletes_nothing(world: World, logged: Logged) -> None:
    """Waiting for a turn and a slow listing count too."""
    digest = world.load(image(1))
    world.faults.add(After(lambda: world.clock.turn(20)), kind="tags_list")

    with pytest.raises(TimeLimitReached):
        world.prune(time_limit_s=12)

    assert world.left == {digest}
    assert len(logged("prune finished")) == 1


def test_time_limit_that_is_over_with_nothing_left_to_do_is_no_error(world: World) -> None:
    """Who has finished has not been interrupted."""
    world.load(image(1))
    world.faults.add(After(lambda: world.clock.turn(20)), kind="manifest_delete")

    assert world.prune(time_limit_s=12).deleted == 1


def test_no_deletion_begins_after_the_time_limit_for_want_of_an_answer(world: World) -> None:
    """A registry that asks for patience beyond the time gets no more deletions."""
    for seed in range(10):
        world.load(image(seed))
    world.faults.add(too_many_requests(retry_after=60), kind="manifest_delete")

    with pytest.raises(CleanerError) as caught:
        world.prune(time_limit_s=12)

    assert caught.value.transient
    assert len(world.left) == 10
    assert world.log.counts["manifest_delete"] <= 4


def test_error_of_a_deletion_ends_the_run_with_a_summary(world: World, logged: Logged) -> None:
    """What was done has been said; what is left waits for the next delivery."""
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    rule = world.faults.add(Status(503), kind="manifest_delete", skip=3)

    with pytest.raises(Unavailable):
        world.prune(workers=1)

    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["requests"]) == (3, world.log.total)
    assert len(world.left) == 3
    world.faults.remove(rule)
    assert world.prune().deleted == 3


@pytest.mark.parametrize("status", [503, 404, 403])
def test_error_of_a_second_listing_ends_the_run_with_a_summary(world: World, logged: Logged, status: int) -> None:
    """What the first plan deleted is told, whatever became of the second."""
    for seed in range(6):
        world.load(image(seed), age_days=50 - seed)
    world.faults.add(After(lambda: world.clock.turn(25)), kind="manifest_delete")
    world.faults.add(Status(status), kind="tags_list", skip=1)

    with pytest.raises(CleanerError):
        world.prune(workers=1)

    assert len(world.left) == 3
    (summary,) = logged("prune finished")
    assert summary["deleted"] == 3


def test_repository_that_vanishes_in_mid_run(world: World) -> None:
    """What is gone is deleted, by whomever."""
    for seed in range(6):
        world.load(multi_arch(seed), tags=f"v{seed}")
    world.faults.add(Before(lambda: world.store.remove_repository(world.name)), kind="tag_delete", nth=3)

    world.run(**ALL).prune()

    assert world.left == frozenset()


def test_unknown_repository_is_told_apart(world: World, logged: Logged) -> None:
    """There is nothing to prune, and nothing is said of it here."""
    with pytest.raises(RepositoryNotFound):
        world.prune()

    assert logged("prune finished") == []


# A registry that throttles.


def test_throttled_registry_is_pruned_all_the_same(world: World) -> None:
    """A quota of deletions costs patience, and nothing else."""
    for seed in range(30):
        digest = world.load(image(seed))
        world.faults.add(too_many_requests(plain=True), kind="manifest_delete", path=digest, times=1 + seed % 2)

    report = world.prune(workers=20)

    assert report.deleted == 30
    assert report.requests == world.log.total
    assert world.log.statuses[202] == 30


# Dry runs and logs.


def test_dry_run_deletes_nothing(google: World, logged: Logged) -> None:
    """It says what would go, and asks for nothing else than a real one before its first deletion."""
    google.load(multi_arch(1), tags="v1", age_days=40)
    google.load(image("young"), age_days=0)
    google.load(referrer(ABSENT), age_days=30)
    before = google.left

    report = google.prune(dry_run=True, **ALL)

    assert google.left == before
    costs(google, token=1, tags_list=1, manifest_get=2)
    assert {one["digest"] for one in logged("manifest would be deleted")} == before - {image("young").digest}
    assert logged("manifest deleted") == logged("tag deleted") == []
    assert (report.dry_run, report.deleted, report.kept) == (True, 4, 1)


def test_dry_run_tells_what_a_run_then_does(world: World, logged: Logged) -> None:
    """The same manifests, for the same reasons, and the same summary but for the requests."""
    for seed in range(6):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)
    world.load(referrer(ABSENT))
    world.load(image("lone"))
    facts = ["repository", "digest", "tags", "reason", "uploaded"]

    would = world.prune(dry_run=True, keep=2, delete_tags=[".*"])
    did = world.prune(keep=2, delete_tags=[".*"])

    def told(message: str) -> list[list[object]]:
        return sorted([record[fact] for fact in facts] for record in logged(message))

    assert told("manifest would be deleted") == told("manifest deleted")
    assert len(told("manifest deleted")) == did.deleted == would.deleted == 14
    assert (would.kept, would.size, would.reasons) == (did.kept, did.size, did.reasons)


RECORD = vars(logging.makeLogRecord({})).keys() | {"message"}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in RECORD}


def test_log_of_a_run(world: World, logged: Logged) -> None:
    """Exactly the lines and fields that dashboards rely on."""
    uploaded = datetime(2025, 12, 2, tzinfo=UTC)
    old = world.load(image("old", size=1000), tags=["v1", "a"])
    orphan = world.load(referrer(ABSENT))
    kept = world.load(image("kept"), tags="v2", age_days=0)
    sizes = {digest: one.size for digest, one in world.store.manifests(world.name).items()}

    world.prune(keep=1, delete_tags=[".*"])

    name = world.name
    assert [facts_of(one) for one in logged("tag deleted")] == [
        {"repository": name, "digest": old, "tag": tag} for tag in ("a", "v1")
    ]
    lines = {one["digest"]: one for one in logged("manifest deleted")}
    assert facts_of(lines[old]) == {
        "repository": name,
        "digest": old,
        "tags": ("a", "v1"),
        "reason": "expired",
        "uploaded": uploaded,
    }
    assert facts_of(lines[orphan]) == {
        "repository": name,
        "digest": orphan,
        "tags": (),
        "reason": "orphan",
        "uploaded": uploaded,
    }
    (line,) = logged("manifest kept")
    assert line["levelname"] == "DEBUG"
    assert facts_of(line) == {
        "repository": name,
        "digest": kept,
        "tags": ("v2",),
        "reason": "too-young",
        "uploaded": uploaded + timedelta(days=30),
    }
    (summary,) = logged("prune finished")
    assert facts_of(summary) == {
        "repository": name,
        "dry_run": False,
        "kept": 1,
        "deleted": 2,
        "refused": 0,
        "failed": 0,
        "bytes": sizes[old] + sizes[orphan],
        "requests": world.log.total,
        "seconds": 0.0,
        "reasons": {"expired": 1, "orphan": 1, "too-young": 1},
    }
    levels = {one["levelname"] for one in [*logged("tag deleted"), *lines.values(), summary]}
    assert levels == {"INFO"}


def test_log_of_a_dry_run(world: World, logged: Logged) -> None:
    """The same line in the subjunctive."""
    digest = world.load(image("old", size=1000), tags="v1")

    world.prune(dry_run=True, **ALL)

    (line,) = logged("manifest would be deleted")
    assert facts_of(line).keys() == {"repository", "digest", "tags", "reason", "uploaded"}
    assert (line["digest"], line["tags"], line["reason"]) == (digest, ("v1",), "expired")
    (summary,) = logged("prune finished")
    assert (summary["dry_run"], summary["deleted"], summary["kept"], summary["bytes"]) == (True, 1, 0, 1000)


def test_summary_of_what_was_refused_and_failed(world: World, logged: Logged) -> None:
    """Kept, deleted, refused and failed are all that there was; reasons tell of kept and deleted."""
    refused, failing = world.load(image("refused")), world.load(image("failing"))
    world.load(image("gone"))
    world.load(image("kept"), age_days=0)
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused)
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=failing)

    world.prune()

    (summary,) = logged("prune finished")
    counts = {key: summary[key] for key in ("kept", "deleted", "refused", "failed", "reasons")}
    assert counts == {
        "kept": 1,
        "deleted": 1,
        "refused": 1,
        "failed": 1,
        "reasons": {"expired": 1, "too-young": 1},
    }


# Several at once, and what cannot end by itself.


@pytest.mark.parametrize("seed", range(3))
def test_two_runs_at_once(world: World, seed: int) -> None:
    """Two deliveries of one push, in two processes: both end well, and all is whole."""
    chance = random.Random(seed)
    for number in range(12):
        top = multi_arch(number, attestations=True)
        world.load(top, tags=f"v{number}", age_days=number + 1)
        world.load(referrer(top), age_days=number + 1)
        world.load(cosign_signature(top), tags=cosign_tag(top), age_days=number + 1)
    for kind in ("manifest_delete", "tag_delete", "manifest_head"):
        world.faults.add(Delay(chance.random() / 50), kind=kind, probability=0.5)
    policy: dict[str, Any] = {"keep": 4, "delete_tags": [".*"]}
    kept = world.kept(**policy)
    barrier = threading.Barrier(2)

    def one(_: int) -> int:
        run = world.run(workers=5, **policy)
        barrier.wait()
        report = run.prune()
        return report.failed + report.refused

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [0, 0]

    kept.check(world)
    assert world.left == kept.digests
    assert len(world.left) == 4 * 7


def test_interrupted_run_leaves_nothing_that_the_next_cannot_finish(world: World) -> None:
    """Wherever a run is cut off, all that is kept is whole, and the next run goes on from there."""
    for number in range(6):
        top = multi_arch(number, attestations=True)
        world.load(top, tags=f"v{number}", age_days=number + 1)
        world.load(referrer(top), age_days=number + 1)
    policy: dict[str, Any] = {"keep": 2, "delete_tags": [".*"]}
    kept = world.kept(**policy)
    runs = 0
    while world.left != kept.digests:
        runs += 1
        # From some request on nothing is answered, later every time.
        rule = world.faults.add(DropBefore(), skip=2 * runs)
        with contextlib.suppress(TransientError):
            world.run(**policy).prune()
        world.faults.remove(rule)
        kept.check(world)
        assert runs < 40

    assert runs > 3


def test_loops_of_cosign_tags_end(world: World) -> None:
    """Signatures that name one another, or themselves, hang on nothing else: they stay, and nobody hangs."""
    first, second = cosign_signature(ABSENT, seed=1), cosign_signature(ABSENT, seed=2)
    world.load(first, tags=cosign_tag(second))
    world.load(second, tags=cosign_tag(first))
    own = cosign_signature(ABSENT, seed=3)
    world.load(own, tags=cosign_tag(own))
    world.load(image("lone"))

    report = world.prune(**ALL)

    assert world.left == {first.digest, second.digest, own.digest}
    assert report.reasons == {"needed": 3, "expired": 1}


def test_loop_that_hangs_on_an_image_goes_with_it(world: World) -> None:
    """A knot of signatures belongs to the image that they sign, and waits for it."""
    subject = world.load(image("subject"), tags="v1")
    first, second = cosign_signature(ABSENT, seed=1), cosign_signature(ABSENT, seed=2)
    world.load(first, tags=[cosign_tag(second), cosign_tag(subject)])
    world.load(second, tags=cosign_tag(first))

    world.prune(**ALL)

    assert world.left == frozenset()
    assert world.gone()[:2] == ["v1", subject]


def test_loop_through_an_index_and_a_subject_ends(world: World) -> None:
    """An index lists what signs it, and is signed by what it lists: whatever happens, it ends."""
    signature = cosign_signature(ABSENT, seed=1)
    top = index([signature, image(1)], media_type=OCI_INDEX)
    world.load(top, tags="v1")
    world.store.tag(world.name, cosign_tag(top), signature.digest)
    about = referrer(top)
    world.load(about)
    world.store.tag(world.name, cosign_tag(about, suffix="att"), top.digest)

    world.prune(**ALL)
    world.prune(**ALL)

    assert world.left in (frozenset(), {top.digest, *children(top), about.digest})


def test_nothing_of_an_unknown_type_goes(world: World) -> None:
    """What this program does not understand it does not judge."""
    unknown = world.load(raw(b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"))

    assert world.prune(**ALL).reasons == {"unknown-type": 1}
    assert world.left == {unknown}


# At random.

PROFILES: list[dict[str, Any]] = [
    {"keep": 1, "keep_untagged": 0, "delete_tags": [".*"]},
    {"keep": 2, "keep_untagged": 1, "delete_tags": ["v.*", "sha256.*"], "protect_tags": ["v1"]},
    {"keep": 1, "delete_tags": [".*"], "max_age": "20d", "max_deletions": 3},
    {"keep": 1, "delete_tags": [".*"], "group_by": "(.).*", "protect_tags": [".*3"]},
    {"keep": 3, "keep_untagged": 2},
]


def populate(world: World, chance: random.Random) -> None:
    """Fill the repository with what CI leaves, of every kind and age."""
    parts: list[Content] = []
    for number in range(chance.randint(3, 9)):
        kind = chance.choice(["image", "oci", "index", "nested", "shared"])
        content = image(number, media_type=OCI_MANIFEST if kind == "oci" else image(0).media_type)
        if kind == "index":
            platform = image(f"{number}/p", media_type=OCI_MANIFEST)
            content = index([platform, attestation(platform)])
        elif kind == "nested":
            content = index([index([image(f"{number}/a"), image(f"{number}/b")])])
        elif kind == "shared" and parts:
            content = index(chance.sample(parts, 1), seed=number)
        parts += content.children
        age_days = chance.choice([0.01, 1, 5, 10, 30, 60])
        tags = [f"{chance.choice('vwx')}{number}{letter}" for letter in "ab"[: chance.choice([0, 1, 1, 2])]]
        world.load(content, tags=tags, age_days=age_days)
        about: Content | str = content
        for depth in range(chance.choice([0, 0, 1, 1, 2])):
            about = referrer(about, seed=depth)
            world.load(about, age_days=age_days)
        if chance.random() < 0.4:
            signature = cosign_signature(content)
            world.load(signature, tags=cosign_tag(content), age_days=age_days)
    if chance.random() < 0.3:
        world.load(referrer(ABSENT), age_days=30)


class Pusher:
    """Somebody who works on the repository while it is pruned, and wants to find what was pushed."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.count = 0
        # CI uses its tags again, whether they are there or have just been deleted.
        self.tags = sorted({*world.tags, "latest"})
        self.pushed: set[str] = set()
        self.tagged: dict[str, str] = {}
        self.planned = world.tags

    def push(self) -> None:
        self.count += 1
        seed = f"new {self.count}"
        digests, tag = sorted(self.world.left), self.chance.choice(self.tags)
        old = self.chance.choice(digests) if digests else ABSENT
        match self.chance.randint(0, 6):
            case 0 | 5:
                self._load(multi_arch(seed), tag)
            case 1 if digests:
                self._load(referrer(old, seed=seed))
                self.pushed.add(old)
            case 2 if digests:
                self._load(index([], absent=[old], media_type=OCI_INDEX, seed=seed), "index")
                self.pushed.add(old)
            case 3 if digests:
                self._tag("new", old)
            case _ if digests:
                self._tag(tag, old)

    def check(self) -> None:
        """Find all of it, but for a tag that moved in the milliseconds between its look and its deletion."""
        assert self.pushed <= self.world.left
        assert all(gap.attempt == 1 for gap in self.world.emulator.gaps)
        lost = {gap.tag for gap in self.world.emulator.gaps if gap.kind == "tag-moved"}
        for tag, digest in self.tagged.items():
            # One that moved away and back again names what it was judged with.
            is_as_planned = self.planned.get(tag) == digest
            assert is_as_planned or tag in lost or self.world.tags.get(tag) == digest

    def forget(self) -> None:
        """From now on it is as old as anything."""
        self.pushed.clear()
        self.tagged.clear()
        self.planned = self.world.tags

    def _load(self, content: Content, *tags: str) -> None:
        self.world.load(content, tags=tags, age_days=0)
        self.pushed |= {content.digest, *children(content)}
        self.tagged |= dict.fromkeys(tags, content.digest)

    def _tag(self, tag: str, digest: str) -> None:
        if self.world.tags.get(tag) != digest:
            self.world.store.tag(self.world.name, tag, digest)
            self.tagged[tag] = digest


def prune_at_random(world: World, chance: random.Random) -> None:
    """Prune a repository that changes meanwhile, with what each plan has to keep looked after until the next."""
    policy = chance.choice(PROFILES)
    pusher = Pusher(world, chance)
    actions: list[Action] = [*(Status(code) for code in (403, 429, 503)), DropBefore(), DropAfter(), CutBody()]
    actions.append(Status(400, DANGLING_PARENT))
    for _ in range(chance.choice([0, 1, 3])):
        world.faults.add(chance.choice(actions), probability=chance.choice([0.1, 0.3]), path="manifests/")
    if chance.random() < 0.7:
        times = chance.choice([1, 2, 4, 8])
        world.faults.add(After(pusher.push), path="manifests/", skip=chance.randint(0, 8), times=times)
    if chance.random() < 0.3:
        world.faults.add(After(lambda: world.clock.turn(7)), path="manifests/")
    run = world.run(workers=chance.choice([1, 3, 8]), **policy)
    planning = run._prepare
    kept = world.kept(**policy)

    def prepare(each: Any) -> Any:
        nonlocal kept
        kept.check(world)
        pusher.check()
        pusher.forget()
        kept = world.kept(**policy)
        return planning(each)

    run._prepare = prepare  # type: ignore[method-assign]  # looks at the state, and calls the real one
    with contextlib.suppress(CleanerError):
        run.prune()
    kept.check(world)
    pusher.check()


@pytest.mark.parametrize("seed", range(150))
def test_at_random(world: World, seed: int) -> None:
    """Whatever is in the repository, goes wrong or is pushed meanwhile: what must stay stays, and runs end."""
    chance = random.Random(seed)
    world.faults.seed(seed)
    world.store.referrer_code = chance.choice([REFERRING_MANIFEST, DANGLING_PARENT])
    populate(world, chance)
    for _ in range(2):
        prune_at_random(world, chance)
        world.faults.clear()
