"""What a run of several plans counts, reports and logs: each manifest once, by the last plan that it is in."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import CleanerError, Unavailable
from cleaner.core.notification import Named
from cleaner.engine.executor import Outcome
from cleaner.engine.report import Undone
from tests.emulator.faults import After, Before, Status
from tests.emulator.images import image, index, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT, DANGLING_TAG, OCI_INDEX, REFERRING_MANIFEST
from tests.support.prune import ABSENT, ALL, children, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from cleaner.core.reference import Digest
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

REFUSED = Status(400, DANGLING_PARENT)
DENIED = Status(403, "DENIED")


def load_images(world: World, count: int) -> list[Digest]:
    """Load expired images without a tag, and return them, the oldest first."""
    return [world.load(image(number), age_days=90 - number) for number in range(count)]


def grow_old(world: World, deletions: int) -> None:
    """Let each plan grow old by so many deletions."""
    world.faults.add(After(lambda: world.clock.turn(60 / deletions)), kind="manifest_delete")


def deletion_messages(logged: Logged) -> dict[str, list[str]]:
    """Return the messages that were logged of each manifest about its deletion, by digest."""
    found: dict[str, list[str]] = {}
    for message in ("manifest deleted", "deletion refused", "deletion failed"):
        for record in logged(message):
            found.setdefault(record["digest"], []).append(message)
    return found


# The counts.


def test_counts_over_several_plans(world: World, logged: Logged) -> None:
    """Kept, deleted, refused and failed are every manifest that was listed, each once."""
    images = load_images(world, 8)
    refused, kept = multi_arch("refused"), multi_arch("kept")
    world.load(refused, age_days=95)
    world.load(kept, tags="keep")
    young = {world.load(image("young"), age_days=0), image("new").digest}
    world.faults.add(REFUSED, kind="manifest_delete", path=refused.digest)
    world.faults.add(DENIED, kind="manifest_delete", path=images[0])
    world.faults.add(After(lambda: world.load(image("new"), tags="new", age_days=0)), kind="tags_list", nth=2)
    grow_old(world, 3)

    report = world.prune(workers=1, **protecting("keep", ALL))

    assert world.log.counts["tags_list"] >= 3
    assert world.left == {kept.digest, *children(kept), *young, refused.digest, *children(refused), images[0]}
    # The kept index, its children, the two young ones, and the children of the refused one.
    assert (report.kept, report.deleted, report.refused, report.failed) == (7, 7, 1, 1)
    assert report.reasons == {"protected": 1, "needed": 4, "too-young": 2, "expired": 7}
    (summary,) = logged("prune finished")
    assert {key: summary[key] for key in ("kept", "deleted", "refused", "failed", "reasons")} == {
        "kept": 7,
        "deleted": 7,
        "refused": 1,
        "failed": 1,
        "reasons": dict(report.reasons),
    }
    assert (summary["requests"], summary["bytes"]) == (world.log.total, report.size)


def test_bytes_and_requests_are_those_of_all_plans(world: World) -> None:
    """What was refused or has failed frees nothing."""
    images = load_images(world, 6)
    sizes = {digest: one.size for digest, one in world.store.manifests(world.name).items()}
    world.faults.add(DENIED, kind="manifest_delete", path=images[5])
    grow_old(world, 2)

    report = world.prune(workers=1, **ALL)

    assert world.log.counts["tags_list"] == 4
    assert report.size == sum(sizes[one] for one in images[:5])
    assert report.requests == world.log.total == 10
    assert report.seconds == pytest.approx(150)


def test_reason_of_a_kept_manifest_is_the_last_plans(world: World) -> None:
    """It was to be deleted, and got a tag before the second listing."""
    images = load_images(world, 4)
    grow_old(world, 2)
    world.faults.add(Before(lambda: world.store.tag(world.name, "keep", images[3])), kind="tags_list", nth=2)

    report = world.prune(workers=1, **protecting("keep", ALL))

    assert report.reasons == {"expired": 3, "just-pushed": 1}
    assert (report.kept, report.deleted) == (1, 3)


def test_reason_of_a_deleted_manifest_is_that_of_the_plan_that_deleted_it(world: World, logged: Logged) -> None:
    """Children that the second plan deletes follow an index that the first has deleted."""
    top = multi_arch("top")
    world.load(top, tags="v1", age_days=90)
    (other,) = load_images(world, 1)
    named: set[Digest] = set()
    world.faults.add(After(lambda: named.add(other)), kind="manifest_delete", path=top.digest)

    report = world.prune(workers=1, named=lambda: Named(frozenset(named)), **ALL)

    assert world.log.counts["tags_list"] == 2
    assert report.reasons == {"expired": 1, "follows": 2, "just-pushed": 1}
    assert {one["digest"] for one in logged("manifest deleted") if one["reason"] == "follows"} == children(top)


def test_manifest_that_was_pushed_again_after_its_deletion_is_counted_once(world: World) -> None:
    """It was deleted, and is there again."""
    images = load_images(world, 4)
    grow_old(world, 2)
    world.faults.add(Before(lambda: world.load(image(0), age_days=0)), kind="tags_list", nth=2)

    report = world.prune(workers=1, **ALL)

    assert world.left == {images[0]}
    assert report.kept + report.deleted == report.reasons.total() == 4


def test_run_that_ends_badly_counts_what_is_left_as_kept(world: World, logged: Logged) -> None:
    """It is not known whether the manifest at which it ended was deleted, so it has no outcome."""
    images = load_images(world, 6)
    world.faults.add(Status(503), kind="manifest_delete", skip=3)
    run = world.run(workers=1, **ALL)

    with pytest.raises(Unavailable):
        run.prune()

    (summary,) = logged("prune finished")
    assert (summary["kept"], summary["deleted"], summary["refused"], summary["failed"]) == (3, 3, 0, 0)
    assert summary["reasons"] == {"expired": 6}
    assert run.report.outcomes == dict.fromkeys(images[:3], Outcome.DELETED)
    assert logged("deletion failed") == []


# The report.


def test_report_has_the_outcome_of_each_deletion(world: World) -> None:
    """Of what was begun; what was not begun, or kept from the start, is not in it."""
    deleted = multi_arch("deleted")
    world.load(deleted, tags="v1", age_days=90)
    refused = multi_arch("refused")
    world.load(refused, age_days=80)
    failed = world.load(image("failed"), age_days=70)
    orphan = world.load(referrer(ABSENT), age_days=60)
    world.load(image("kept"), tags="keep")
    world.faults.add(REFUSED, kind="manifest_delete", path=refused.digest)
    world.faults.add(DENIED, kind="manifest_delete", path=failed)
    world.faults.add(Status(200), kind="manifest_head", path=ABSENT)

    report = world.prune(workers=1, **protecting("keep", ALL))

    assert report.outcomes == {
        deleted.digest: Outcome.DELETED,
        **dict.fromkeys(children(deleted), Outcome.DELETED),
        refused.digest: Outcome.REFUSED,
        failed: Outcome.FAILED,
        # Its subject is there, so it is none.
        orphan: Outcome.KEPT,
    }
    assert report.undone == {
        refused.digest: Undone(Outcome.REFUSED, 400, (DANGLING_PARENT,)),
        failed: Undone(Outcome.FAILED, 403, ("DENIED",)),
    }
    assert report.lost_tags == {}
    assert (report.kept, report.deleted, report.refused, report.failed) == (4, 3, 1, 1)


@pytest.mark.parametrize("fault", [REFUSED, DENIED], ids=["refused", "failed"])
def test_report_has_the_tags_that_an_image_has_lost(world: World, fault: Status) -> None:
    """They were deleted before the image itself was requested; those of a deleted image are not lost."""
    undone = world.load(image("undone"), tags=["a", "b"], age_days=90)
    world.load(image("deleted"), tags="c", age_days=80)
    world.faults.add(fault, kind="manifest_delete", path=undone)

    report = world.prune(workers=1, **ALL)

    assert report.lost_tags == {undone: ("a", "b")}
    assert world.tags == {}
    assert report.undone.keys() == {undone}


def test_report_has_the_tags_that_were_deleted_before_another_failed(world: World) -> None:
    """The image keeps its other tags."""
    undone = world.load(image("undone"), tags=["a", "b", "c"])
    world.faults.add(DENIED, kind="tag_delete", path="/b$")

    report = world.prune(**ALL)

    assert report.lost_tags == {undone: ("a",)}
    assert world.tags == {"b": undone, "c": undone}
    assert report.undone == {undone: Undone(Outcome.FAILED, 403, ("DENIED",))}


def test_deletion_that_succeeds_later_is_in_the_report_as_deleted_alone(world: World) -> None:
    """It has lost nothing, and nothing of it is undone."""
    digest = world.load(image(1), tags=["a", "b"])
    world.faults.add(REFUSED, kind="manifest_delete", path=digest, nth=1)

    report = world.prune(**ALL)

    assert (report.outcomes, report.undone, report.lost_tags) == ({digest: Outcome.DELETED}, {}, {})
    assert (report.deleted, report.refused) == (1, 0)


def test_image_whose_tag_has_moved_is_kept_and_not_undone(world: World, logged: Logged) -> None:
    """The registry has refused nothing; the next plan deletes it, or keeps it."""
    old = world.load(image("old"), tags=["keep-1", "latest"], age_days=90)
    world.faults.add(Before(lambda: world.load(image("new"), tags="latest", age_days=0)), kind="manifest_head", nth=2)
    world.faults.add(Before(lambda: world.store.tag(world.name, "keep-2", old)), kind="tags_list", nth=2)

    report = world.run(workers=1, **protecting("keep-2", ALL)).prune()

    assert report.outcomes == {old: Outcome.KEPT}
    assert report.undone == {}
    assert report.lost_tags == {old: ("keep-1",)}
    assert (report.kept, report.deleted, report.refused, report.failed) == (2, 0, 0, 0)
    (record,) = logged("tag moved")
    assert (record["levelname"], record["repository"], record["digest"]) == ("INFO", world.name, old)
    assert (record["tag"], record["now"]) == ("latest", image("new").digest)
    assert deletion_messages(logged) == {}


# The log.


@pytest.mark.parametrize("tags", ["", "a b"])
@pytest.mark.parametrize("code", [DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST])
def test_refusal_is_a_warning_unless_tags_were_lost(world: World, logged: Logged, code: str, tags: str) -> None:
    """An image without its tags is no longer what it was: ERROR, with the tags that it had."""
    digest = world.load(image(1), tags=tags.split())
    world.faults.add(Status(400, code), kind="manifest_delete", path=digest)

    world.prune(**ALL)

    (record,) = logged("deletion refused")
    assert record["levelname"] == ("ERROR" if tags else "WARNING")
    assert record.get("lost_tags") == (["a", "b"] if tags else None)
    assert (record["repository"], record["digest"], record["reason"]) == (world.name, digest, "expired")
    assert (record["status"], record["codes"], record["tags"]) == (400, (code,), tuple(tags.split()))
    # It was requested twice, and is logged once.
    assert world.log.counts["manifest_delete"] == 2
    assert deletion_messages(logged) == {digest: ["deletion refused"]}


@pytest.mark.parametrize("tags", ["", "a b"])
def test_failure_is_an_error(world: World, logged: Logged, tags: str) -> None:
    """With the tags that were lost, if there are any; it is requested once."""
    digest = world.load(image(1), tags=tags.split())
    world.faults.add(DENIED, kind="manifest_delete")

    world.prune(**ALL)

    (record,) = logged("deletion failed")
    assert record["levelname"] == "ERROR"
    assert record.get("lost_tags") == (["a", "b"] if tags else None)
    assert (record["repository"], record["digest"], record["reason"]) == (world.name, digest, "expired")
    assert (record["status"], record["codes"], record["tags"]) == (403, ("DENIED",), tuple(tags.split()))
    assert world.log.counts["manifest_delete"] == 1
    assert deletion_messages(logged) == {digest: ["deletion failed"]}


@pytest.mark.parametrize("how", ["referrer", "parent", "tag"])
def test_subject_that_is_refused_after_its_tags_and_referrers_were_deleted(
    world: World, logged: Logged, how: str
) -> None:
    """What blocks it came within ten seconds of the listing; it is kept, and the log has its tags."""
    subject = world.load(image("subject"), tags=["v1", "latest"], age_days=30)
    about = world.load(referrer(subject), age_days=30)

    def attach() -> None:
        if how == "tag":
            world.store.tag(world.name, "keep", subject)
        elif how == "parent":
            world.load(index([], absent=[subject], media_type=OCI_INDEX), tags="keep", age_days=0)
        else:
            world.load(referrer(subject, seed="new"), tags="keep", age_days=0)

    world.faults.add(Before(attach), kind="manifest_delete", path=about, nth=1)

    report = world.prune(workers=1, **protecting("keep", ALL))

    assert subject in world.left
    (record,) = logged("deletion refused")
    assert (record["levelname"], record["digest"]) == ("ERROR", subject)
    assert record["lost_tags"] == ["latest", "v1"]
    assert report.lost_tags == {subject: ("latest", "v1")}
    assert [one["tag"] for one in logged("tag deleted")] == ["latest", "v1"]
    assert deletion_messages(logged) == {subject: ["deletion refused"], about: ["manifest deleted"]}


def test_tags_that_an_earlier_run_has_deleted_are_lost_too(world: World, logged: Logged) -> None:
    """The run that deleted them ended badly; the next one of the process is refused the image."""
    digest = world.load(image(1), tags=["a", "b"])
    world.faults.add(Status(503), kind="manifest_delete", times=6)
    with pytest.raises(Unavailable):
        world.prune(**ALL)
    world.faults.add(REFUSED, kind="manifest_delete")

    report = world.prune(**ALL)

    (record,) = logged("deletion refused")
    assert (record["levelname"], record["digest"], record["lost_tags"]) == ("ERROR", digest, ["a", "b"])
    # This run has deleted none.
    assert report.lost_tags == {}


def test_refused_manifest_that_a_later_plan_deletes_is_logged_as_deleted_alone(world: World, logged: Logged) -> None:
    """What blocked it is deleted by then."""
    images = load_images(world, 3)
    tagged = world.load(image("tagged"), tags="v1", age_days=99)
    for one in (images[1], tagged):
        world.faults.add(REFUSED, kind="manifest_delete", path=one, nth=1)

    world.prune(workers=1, **ALL)

    assert deletion_messages(logged) == {one: ["manifest deleted"] for one in [*images, tagged]}


@pytest.mark.parametrize("plans", [2, 3])
def test_refused_manifest_is_logged_once_in_however_many_plans(world: World, logged: Logged, plans: int) -> None:
    """The second plan keeps it, as a new index lists it; the third one has no such index, and requests it again."""
    refused = world.load(image("refused"), age_days=99)
    images = load_images(world, 8)
    new = index([], absent=[refused], media_type=OCI_INDEX)
    world.faults.add(REFUSED, kind="manifest_delete", path=refused)
    grow_old(world, 3)
    world.faults.add(Before(lambda: world.load(new, tags="new", age_days=0)), kind="tags_list", nth=2)
    if plans == 3:
        world.faults.add(Before(lambda: world.store.force_delete(world.name, new.digest)), kind="tags_list", nth=3)

    report = world.run(workers=1, **ALL).prune()

    asked = [digest for _, digest, _ in world.asked("manifest_delete")]
    assert asked.count(refused) == plans - 1
    assert deletion_messages(logged) == {one: ["manifest deleted"] for one in images} | {
        refused: ["deletion refused"]
    }
    assert (report.deleted, report.refused) == (8, 1)


def test_manifest_that_is_refused_and_then_fails_is_logged_as_failed_alone(world: World, logged: Logged) -> None:
    """The second answer is the one that stands."""
    (digest,) = load_images(world, 1)
    world.faults.add(REFUSED, kind="manifest_delete", nth=1)
    world.faults.add(DENIED, kind="manifest_delete", nth=2)

    report = world.prune(**ALL)

    assert deletion_messages(logged) == {digest: ["deletion failed"]}
    assert (report.refused, report.failed) == (0, 1)
    assert report.undone == {digest: Undone(Outcome.FAILED, 403, ("DENIED",))}


def test_refused_manifest_is_logged_when_the_run_ends_badly(world: World, logged: Logged) -> None:
    """Before another plan could request it once more."""
    images = load_images(world, 4)
    world.faults.add(REFUSED, kind="manifest_delete", path=images[0])
    world.faults.add(Status(503), kind="manifest_delete", path=images[2])

    with pytest.raises(Unavailable):
        world.prune(workers=1, **ALL)

    assert deletion_messages(logged) == {images[0]: ["deletion refused"], images[1]: ["manifest deleted"]}
    (summary,) = logged("prune finished")
    assert (summary["refused"], summary["deleted"], summary["kept"]) == (1, 1, 2)


@pytest.mark.parametrize("workers", [1, 8])
def test_log_and_report_agree_whatever_happens(world: World, logged: Logged, workers: int) -> None:
    """Each manifest of which a deletion ended is logged once, and counted as it is logged."""
    for number in range(12):
        top = multi_arch(number)
        world.load(top, tags=f"v{number}", age_days=90 - number)
        world.load(referrer(top), age_days=90 - number)
    faults: list[Any] = [REFUSED, DENIED, Status(429), REFUSED]
    for number, fault in enumerate(faults):
        world.faults.add(fault, kind="manifest_delete", skip=number, every=5, times=4)
    grow_old(world, 7)

    with contextlib.suppress(CleanerError):
        world.run(workers=workers, **ALL).prune()

    lines = deletion_messages(logged)
    assert {len(messages) for messages in lines.values()} == {1}
    counts = Counter(messages[0] for messages in lines.values())
    (summary,) = logged("prune finished")
    assert [summary["deleted"], summary["refused"], summary["failed"]] == [
        counts["manifest deleted"],
        counts["deletion refused"],
        counts["deletion failed"],
    ]
    assert summary["deleted"] + len(world.left) == 48
