"""When a repository is planned anew and when not, and what a run leaves to the next one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import TimeLimitReached, Unavailable
from cleaner.core.notification import Named
from cleaner.core.reference import Digest, Tag
from cleaner.core.timing import TIMING
from tests.emulator.faults import After, Before, Delay, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT
from tests.support.builders import one_rule
from tests.support.prune import ALL, children, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulator.images import Content
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def load_images(world: World, count: int) -> list[Digest]:
    """Load expired images without a tag, and return them, the oldest first."""
    return [world.load(image(number), age_days=90 - number) for number in range(count)]


def kinds(world: World) -> list[str]:
    """Return the kinds of the requests, in their order."""
    return [one.kind for one in world.log.entries]


class Messages:
    """The messages that have arrived."""

    def __init__(self) -> None:
        self._digests: set[Digest] = set()
        self._tags: set[Tag] = set()

    def name(self, digest: str = "", tag: str = "") -> None:
        self._digests.update([Digest(digest)] if digest else [])
        self._tags.update([Tag(tag)] if tag else [])

    def named(self) -> Named:
        return Named(frozenset(self._digests), frozenset(self._tags))


# One plan.


def test_plan_that_is_carried_out_whole_is_the_last(world: World) -> None:
    """Nothing is left, so nothing is listed again."""
    load_images(world, 5)
    world.load(multi_arch("top"), tags="v1")

    assert world.prune(**ALL).deleted == 8

    assert world.log.counts["tags_list"] == 1


def test_repository_that_has_nothing_to_delete_is_listed_once(world: World) -> None:
    """And nothing else is requested."""
    world.load(image(1), tags="v1")

    assert world.prune().kept == 1

    assert kinds(world) == ["tags_list"]


def test_message_that_names_nothing_of_the_plan_changes_nothing(world: World) -> None:
    """Another image was pushed; the plan knows nothing of it."""
    load_images(world, 4)
    world.load(image("kept"), tags="kept", age_days=0)
    messages = Messages()
    new = image("new")

    def push() -> None:
        world.load(new, tags="pushed", age_days=0)
        messages.name(new.digest, "pushed")
        messages.name(tag="kept")

    world.faults.add(After(push), kind="manifest_delete", nth=1)

    report = world.prune(workers=1, named=messages.named, **ALL)

    assert world.log.counts["tags_list"] == 1
    assert report.deleted == 4


# What has the repository planned anew.


@pytest.mark.parametrize("workers", [1, 4])
def test_tag_that_has_moved(world: World, workers: int) -> None:
    """The plan ends; the next one keeps what the tag names now, and deletes the rest."""
    old = world.load(image("old"), tags="latest", age_days=90)
    new = world.load(image("new"), age_days=20)
    others = load_images(world, 4)
    world.faults.add(Before(lambda: world.store.tag(world.name, "latest", new)), kind="manifest_head", nth=1)
    world.faults.add(Delay(0.1), kind="manifest_delete")

    report = world.prune(workers=workers, **ALL)

    assert world.log.counts["tags_list"] == 2
    assert world.left == {new}
    assert world.tags == {"latest": new}
    assert (report.kept, report.deleted) == (1, 1 + len(others))
    assert old in world.gone()
    assert "latest" not in world.gone()


@pytest.mark.parametrize("by", ["digest", "tag"])
@pytest.mark.parametrize("workers", [1, 4])
def test_message_that_names_something_of_the_plan(world: World, by: str, workers: int) -> None:
    """By its digest or by a tag that it has: it is kept whole, and what is left of the plan is planned anew."""
    load_images(world, 6)
    named = multi_arch("named")
    world.load(named, tags=["v1", "v2"], age_days=20)
    signature = world.load(cosign_signature(named), tags=cosign_tag(named), age_days=20)
    messages = Messages()
    what = {"digest": named.digest} if by == "digest" else {"tag": "v2"}
    world.faults.add(After(functools.partial(messages.name, **what)), kind="manifest_delete", nth=1)
    # With many workers the index would be begun before.
    world.faults.add(Delay(0.1), kind="manifest_delete")

    report = world.prune(workers=workers, named=messages.named, **ALL)

    assert world.log.counts["tags_list"] == 2
    assert world.left == {named.digest, *children(named), signature}
    assert world.tags == {"v1": named.digest, "v2": named.digest, cosign_tag(named): signature}
    assert report.deleted == 6
    assert report.reasons == {"just-pushed": 1, "needed": 3, "expired": 6}


def test_message_that_names_a_child_lets_its_index_be_deleted(world: World) -> None:
    """An index needs its children, and not the other way round."""
    top = multi_arch("top")
    world.load(top, tags="v1")
    child = Digest(top.children[0].digest)
    messages = Messages()
    world.faults.add(After(lambda: messages.name(child)), kind="tag_delete")

    world.prune(workers=1, named=messages.named, **ALL)

    assert world.left == {child}
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize("how", ["by tag", "by document"])
def test_message_that_names_a_referrer_keeps_its_subject_whole(world: World, how: str) -> None:
    """What is kept needs its subject, and the subject its tags and other referrers."""
    subject = world.load(image("subject"), tags="v1", age_days=20)
    others = [world.load(referrer(subject, seed=seed), age_days=20) for seed in range(3)]
    about = cosign_signature(subject) if how == "by tag" else referrer(subject, seed="named")
    named = world.load(about, tags=cosign_tag(subject) if how == "by tag" else (), age_days=20)
    tags = world.tags
    messages = Messages()
    # Another image is begun first, so that the subject has not been.
    world.load(image("first"), tags="a", age_days=30)
    world.load(referrer(image("first")), age_days=30)
    world.faults.add(Before(lambda: messages.name(named)), kind="manifest_head", nth=1)

    world.prune(workers=1, named=messages.named, **ALL)

    assert world.left == {subject, named, *others}
    assert world.tags == tags
    assert world.log.counts["tags_list"] == 2


def test_manifest_that_is_named_when_its_tag_was_deleted_is_kept(world: World) -> None:
    """The message has come between the two; the tag is lost, the manifest is not."""
    digest = world.load(image(1), tags="v1")
    messages = Messages()
    world.faults.add(Before(lambda: messages.name(digest)), kind="tag_delete")

    report = world.prune(named=messages.named, **ALL)

    assert world.left == {digest}
    assert world.log.counts["tags_list"] == 2
    assert (report.kept, report.deleted, report.refused, report.failed) == (1, 0, 0, 0)
    assert report.reasons == {"just-pushed": 1}
    assert report.lost_tags == {digest: ("v1",)}


@pytest.mark.parametrize("workers", [1, 2])
def test_plan_that_is_a_minute_old(world: World, workers: int) -> None:
    """What belongs to a begun image is deleted before the repository is listed again, everything else after that."""
    tops = [multi_arch(number) for number in range(4)]
    for number, top in enumerate(tops):
        world.load(top, tags=f"v{number}", age_days=90 - number)
    world.faults.add(After(lambda: world.clock.turn(60)), kind="manifest_delete", path=tops[0].digest)
    # With two workers the second index is begun before that.
    world.faults.add(Delay(0.1), kind="manifest_delete")

    report = world.prune(workers=workers, **ALL)

    assert world.log.counts["tags_list"] == 2
    until = kinds(world)[: kinds(world).index("tags_list", 1)]
    assert until.count("tag_delete") == workers
    assert until.count("manifest_delete") == 3 * workers
    assert report.deleted == 12


def test_plan_that_is_not_a_minute_old_is_carried_on(world: World) -> None:
    """One listing is enough."""
    load_images(world, 4)
    world.faults.add(After(lambda: world.clock.turn(19.9)), kind="manifest_delete")

    assert world.prune(workers=1, **ALL).deleted == 4

    assert world.log.counts["tags_list"] == 1


@pytest.mark.parametrize("is_stopped", [False, True])
def test_image_that_an_earlier_plan_has_begun_is_finished_first(world: World, is_stopped: bool) -> None:
    """Before older images; also in a run that was stopped meanwhile, which begins nothing else."""
    top = multi_arch("top")
    for child in top.children:
        world.load(child, age_days=20)
    world.load(top, tags="v1", age_days=90)
    others = [world.load(image(number), age_days=80 - number) for number in range(3)]
    messages = Messages()
    run = world.run(workers=1, named=messages.named, **ALL)
    # The plan ends between the index and its children.
    world.faults.add(After(lambda: messages.name(others[0])), kind="manifest_delete", path=top.digest)
    if is_stopped:
        world.faults.add(After(run.stop), kind="tags_list", nth=2)

    run.prune()

    assert world.gone()[:2] == ["v1", top.digest]
    assert {*world.gone()[2:4]} == children(top)
    assert world.gone()[4:] == ([] if is_stopped else others[1:])
    assert world.log.counts["tags_list"] == 2


@pytest.mark.parametrize(("seconds", "listings"), [(9.9, 1), (10, 2)])
def test_listing_that_is_too_old_for_referrers(world: World, seconds: float, listings: int) -> None:
    """The subject's tag was deleted in time; the next plan deletes its referrers and itself."""
    other = world.load(image("other"), age_days=90)
    subject = world.load(image("subject"), tags="v1", age_days=30)
    about = [world.load(referrer(subject, seed=seed), age_days=30) for seed in range(2)]
    world.faults.add(After(lambda: world.clock.turn(seconds)), kind="tag_delete")

    report = world.prune(workers=1, **ALL)

    assert world.log.counts["tags_list"] == listings
    assert world.gone()[0] == "v1"
    assert world.gone()[-1] == (other if listings == 1 else subject)
    assert report.deleted == 2 + len(about)


@pytest.mark.parametrize(("retry_after_s", "listings"), [(9, 1), (50, 2)])
def test_referrer_is_requested_again_only_while_the_listing_is_recent(
    world: World, retry_after_s: int, listings: int
) -> None:
    """A registry may put a retry off by a minute, in which more may have been attached: the next plan sees it."""
    subject = world.load(image("subject"), tags="v1", age_days=30)
    about = world.load(referrer(subject), age_days=30)
    world.faults.add(Status(503, retry_after=retry_after_s), kind="manifest_delete", path=about, times=1)
    more: list[str] = []
    world.faults.add(
        Before(lambda: more.append(world.load(referrer(subject, seed=1), age_days=0))), kind="tags_list", nth=2
    )

    report = world.prune(workers=1, **ALL)

    assert world.log.counts["tags_list"] == listings
    assert world.left == ({subject, about, *more} if more else set())
    assert (report.deleted, report.lost_tags) == ((0, {subject: ("v1",)}) if more else (2, {}))
    assert len(world.asked("manifest_delete")) == (1 if more else 3)


@pytest.mark.parametrize(("seconds", "left"), [(12, 0), (12 + TIMING.grace - 0.1, 0), (12 + TIMING.grace, 2)])
def test_time_limit_that_is_reached_within_an_image(world: World, seconds: float, left: int) -> None:
    """It is finished as long as there is time for that; then the next run finishes it."""
    top, other = multi_arch("top"), multi_arch("other")
    world.load(top, tags="v1", age_days=90)
    world.load(other, tags="v2", age_days=80)
    world.faults.add(After(lambda: world.clock.turn(seconds)), kind="manifest_delete", nth=1)

    with pytest.raises(TimeLimitReached):
        world.prune(workers=1, time_limit_s=12, **ALL)

    assert top.digest not in world.left
    assert len(world.left & children(top)) == left
    assert {other.digest, *children(other)} <= world.left
    assert world.log.counts["tags_list"] == 1
    assert world.prune(workers=1, **one_rule(delete_after="1d")).deleted == 3 + left


@pytest.mark.parametrize(
    ("fault", "listings", "requests"),
    [
        # What was refused is requested once more, what has failed is not.
        (Status(400, DANGLING_PARENT), 3, 2),
        (Status(403, "DENIED"), 2, 1),
    ],
)
def test_deletion_that_was_refused_or_has_failed(world: World, fault: Status, listings: int, requests: int) -> None:
    """At the end of the plan, and until nothing is left to do."""
    first = load_images(world, 4)[0]
    rule = world.faults.add(fault, kind="manifest_delete", path=first)

    report = world.prune(workers=1, **ALL)

    assert world.left == {first}
    assert kinds(world) == [
        "tags_list",
        *["manifest_delete"] * 4,
        *["tags_list", "manifest_delete"] * (requests - 1),
        "tags_list",
    ]
    assert (world.log.counts["tags_list"], rule.hits) == (listings, requests)
    assert report.refused + report.failed == 1


def test_deletion_that_was_refused_once_is_requested_again_and_succeeds(world: World) -> None:
    """What blocked it has been deleted meanwhile; then nothing is left, and nothing is listed."""
    first = load_images(world, 3)[0]
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=first, nth=1)

    report = world.prune(**ALL)

    assert world.left == frozenset()
    assert world.log.counts["tags_list"] == 2
    assert (report.deleted, report.refused) == (3, 0)


# What ends a run.


def test_plan_that_begins_nothing_ends_the_run(world: World, logged: Logged) -> None:
    """As the time limit does: listings are too slow for the referrers, so another one would change nothing."""
    subject = world.load(image("subject"), tags="v1")
    about = world.load(referrer(subject))
    other = world.load(image("other"))
    world.faults.add(After(lambda: world.clock.turn(10)), kind="tags_list")

    with pytest.raises(TimeLimitReached):
        world.prune(**ALL)

    assert world.left == {subject, about}
    assert world.tags == {"v1": subject}
    assert other not in world.left
    assert world.log.counts["tags_list"] == 2
    (summary,) = logged("prune finished")
    assert (summary["deleted"], summary["kept"]) == (1, 2)


def test_tags_that_have_moved_whenever_they_are_checked_end_the_run(world: World, logged: Logged) -> None:
    """The registry's listing and its manifests never agree; plan after plan deletes nothing."""
    digest = world.load(image(1), tags="latest")
    other = world.load(image("young"), tags="other", age_days=0)
    headers = (("Docker-Content-Digest", other),)
    world.faults.add(Status(200, headers=headers), kind="manifest_head")

    with pytest.raises(Unavailable) as caught:
        world.prune(**ALL)

    assert caught.value.transient
    assert world.log.counts["tags_list"] == world.log.counts["manifest_head"] == TIMING.attempts
    assert digest in world.left
    assert len(logged("prune finished")) == 1


def test_run_of_many_plans_ends_well_if_each_deletes_something(world: World) -> None:
    """Only those that delete nothing, one after the other, are a reason to give up."""
    load_images(world, 2 * TIMING.attempts)
    world.faults.add(After(lambda: world.clock.turn(60)), kind="manifest_delete")

    report = world.prune(workers=1, time_limit_s=5000, **ALL)

    assert world.left == frozenset()
    assert report.deleted == world.log.counts["tags_list"] == 2 * TIMING.attempts


@pytest.mark.parametrize("workers", [1, 3])
def test_run_that_is_stopped_finishes_what_it_has_begun(world: World, logged: Logged, workers: int) -> None:
    """No image is half deleted, and the repository is not listed again."""
    tops = [multi_arch(number, attestations=True) for number in range(6)]
    for number, top in enumerate(tops):
        world.load(top, tags=[f"a{number}", f"b{number}"], age_days=90 - number)
        world.load(cosign_signature(top), tags=cosign_tag(top), age_days=90 - number)
    run = world.run(workers=workers, **ALL)
    world.faults.add(Before(run.stop), kind="tag_delete", nth=1)
    world.faults.add(Delay(0.1), kind="tag_delete")

    report = run.prune()

    kept = [top for top in tops if top.digest in world.left]
    assert len(kept) >= 6 - workers
    assert len(kept) < 6
    assert world.left == {part for top in kept for part in whole(top)}
    assert len(world.tags) == 3 * len(kept)
    assert (report.kept, report.deleted) == (6 * len(kept), 6 * (6 - len(kept)))
    assert world.log.counts["tags_list"] == 1
    assert len(logged("prune finished")) == 1


def whole(top: Content) -> set[str]:
    return {top.digest, *children(top), cosign_signature(top).digest}


def test_run_that_is_stopped_before_it_begins_deletes_nothing(world: World) -> None:
    """It was stopped while it listed."""
    load_images(world, 3)
    run = world.run(**ALL)
    world.faults.add(After(run.stop), kind="tags_list")

    report = run.prune()

    assert (report.kept, report.deleted) == (3, 0)
    assert kinds(world) == ["tags_list"]


# What holds over several plans, and several runs.


def test_nothing_but_what_was_agreed_to_is_deleted_by_any_plan(world: World) -> None:
    """Not even what has become untagged, or was pushed, between two plans."""
    images = load_images(world, 6)
    other = world.load(image("tagged"), tags="keep", age_days=50)
    world.faults.add(After(lambda: world.clock.turn(30)), kind="manifest_delete")
    world.faults.add(After(lambda: world.store.delete_tag(world.name, "keep")), kind="tags_list", nth=1)
    world.faults.add(After(lambda: world.load(image("new"), age_days=40)), kind="tags_list", nth=1)

    report = world.run(workers=1, **protecting("keep", ALL)).prune(only={*images[1:5]})

    assert world.left == {images[0], images[5], other, image("new").digest}
    assert report.deleted == 4
    assert world.log.counts["tags_list"] == 2


def test_limit_holds_over_the_plans_of_a_run(world: World) -> None:
    """However many plans; what the registry refuses does not count."""
    images = load_images(world, 12)
    world.faults.add(After(lambda: world.clock.turn(30)), kind="manifest_delete")
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=images[2])

    report = world.prune(workers=1, max_deletions=6, **ALL)

    assert world.left == {images[2], *images[7:]}
    assert (report.deleted, report.refused) == (6, 1)
    assert world.log.counts["tags_list"] >= 3


def fail_after(world: World, deletions: int) -> Callable[[], None]:
    """Let the registry fail after so many deletions; return what repairs it."""
    rule = world.faults.add(Status(503), kind="manifest_delete", skip=deletions)
    return functools.partial(world.faults.remove, rule)


def test_limit_holds_over_a_run_that_ended_badly_and_the_next(world: World) -> None:
    """The next run of the process counts what the first one has deleted; the one after that begins anew."""
    images = load_images(world, 12)
    policy: dict[str, Any] = {"workers": 1, "max_deletions": 5, **ALL}
    repair = fail_after(world, 3)
    with pytest.raises(Unavailable):
        world.prune(**policy)
    repair()
    assert world.left == {*images[3:]}

    assert world.prune(**policy).deleted == 2
    assert world.left == {*images[5:]}

    assert world.prune(**policy).deleted == 5
    assert world.left == {*images[10:]}


def test_another_process_does_not_know_what_the_first_has_deleted(world: World) -> None:
    """It counts its own deletions alone."""
    images = load_images(world, 12)
    policy: dict[str, Any] = {"workers": 1, "max_deletions": 5, **ALL}
    repair = fail_after(world, 3)
    with pytest.raises(Unavailable):
        world.prune(**policy)
    repair()
    other = World(world.emulator)

    report = other.run(**policy).prune()
    other.close()

    assert report.deleted == 5
    assert world.left == {*images[8:]}


@pytest.mark.parametrize("end", ["well", "badly"])
def test_history_is_kept_of_a_run_that_ended_badly_alone(world: World, end: str) -> None:
    """After a run that ended well the repository is judged by its listing alone."""
    load_images(world, 3)
    world.load(multi_arch("top"), tags="v1")
    repair = fail_after(world, 100 if end == "well" else 2)
    if end == "well":
        world.prune(workers=1, **ALL)
    else:
        with pytest.raises(Unavailable):
            world.prune(workers=1, **ALL)

    history = world.histories.get(world.repository)

    assert (history is None) == (end == "well")
    if history is not None:
        assert len(history.deleted) >= 2
        repair()
        world.prune(workers=1, **ALL)
        assert world.histories.get(world.repository) is None


@pytest.mark.parametrize("fault", [Status(403, "DENIED"), Status(400, DANGLING_PARENT)], ids=["failed", "refused"])
def test_history_is_kept_of_what_a_run_has_left_undone(world: World, fault: Status) -> None:
    """A child whose index was deleted is still its child in the next run: it takes no untagged image's place."""
    untagged = {world.load(image(f"untagged {seed}"), age_days=30 + seed) for seed in range(2)}
    top, other = multi_arch("top"), multi_arch("other")
    world.load(top, tags="old-1", age_days=20)
    world.load(other, tags="old-2", age_days=21)
    newest = world.load(image("newest"), tags="new", age_days=1)
    undone = top.children[0].digest
    rule = world.faults.add(fault, kind="manifest_delete", path=undone)
    policy: dict[str, Any] = one_rule(0, 2, match="old.*")

    report = world.run(**policy).prune()
    assert world.left == {undone, newest, *untagged}
    assert report.refused + report.failed == 1
    history = world.histories.get(world.repository)
    assert history is not None
    # Nothing else is remembered.
    assert history.deleted.keys() == {top.digest}

    world.run(**policy).prune()
    assert world.left == {undone, newest, *untagged}

    world.faults.remove(rule)
    world.run(**policy).prune()
    assert world.left == {newest, *untagged}
    assert world.histories.get(world.repository) is None
