"""Steps carried out: in which order, how many at once, and what ends a plan."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection
from typing import Any

import pytest

from cleaner.core.errors import (
    CleanerError,
    KeptManifestGone,
    PermissionDenied,
    RequestRefused,
    Unanswered,
    Unavailable,
)
from cleaner.core.reference import Digest, Tag
from cleaner.engine.executor import Ending, Outcome, Result
from cleaner.google.registry.deletions import DELETED, NOT_FOUND, NOT_SENT, DeletionResponse
from tests.support.builders import digest, name_of
from tests.support.execution import FreeGuard, Gate, MemoryDeleter, Steps, carry_out, outcomes
from tests.support.processes import DEADLINE_S

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

REFUSAL = DeletionResponse(is_gone=False, was_sent=True, status=400, codes=("GOOGLE_MANIFEST_DANGLING_TAG",))
DENIAL = DeletionResponse(is_gone=False, was_sent=True, status=403, codes=("DENIED",))
MOVED = DeletionResponse(is_gone=False, current_digest=digest("another"))


# The order.


@pytest.mark.parametrize("workers", [1, 2, 20])
@pytest.mark.parametrize("seed", range(4))
def test_no_step_begins_before_those_before_it_have_ended(seed: int, workers: int) -> None:
    """However many workers there are, and however long each takes."""
    chance = random.Random(seed)
    steps = Steps()
    before: dict[str, list[str]] = {}
    for number in range(60):
        name = f"m{number}"
        before[name] = chance.sample(list(before), min(len(before), chance.randrange(4)))
        steps.add(name, after=" ".join(before[name]))
    deleter = MemoryDeleter()
    ended: set[str] = set()
    early: list[str] = []

    def begin(name: str) -> Callable[[], None]:
        pause = threading.Event()

        def check() -> None:
            early.extend(other for other in before[name] if other not in ended)
            pause.wait(chance.random() / 500)

        return check

    for name in before:
        deleter.before[name] = begin(name)

    result = carry_out(
        steps, deleter, workers=workers, on_ending=lambda one: ended.add(name_of(one.step.manifest.digest))
    )

    assert early == []
    assert sorted(deleter.requests) == sorted(before)
    assert (result.is_cut, result.is_contradicted, result.error) == (False, False, None)


def test_image_is_finished_before_the_next_is_begun() -> None:
    """What has become ready last is taken first; images are begun in the order of the steps."""
    steps = Steps()
    for image in "abc":
        steps.add(image, tags=f"{image}-tag")
    for image in "abc":
        steps.add(f"{image}1", after=image)
        steps.add(f"{image}2", after=image)
        steps.add(f"{image}3", after=f"{image}1")
    deleter = MemoryDeleter()

    carry_out(steps, deleter, workers=1)

    assert deleter.requests == [
        part for image in "abc" for part in (f"{image}-tag", image, f"{image}1", f"{image}3", f"{image}2")
    ]


def test_step_sends_its_requests_back_to_back() -> None:
    """One worker deletes an image's tags and the image, whatever else is ready."""
    steps = Steps()
    steps.add("image", tags="a b c")
    steps.add("other")
    deleter = MemoryDeleter()

    carry_out(steps, deleter, workers=1)

    assert deleter.requests == ["a", "b", "c", "image", "other"]


def test_step_that_deletes_tags_alone_leaves_the_manifest_to_a_later_one() -> None:
    """A subject's tags are deleted, then its OCI referrers, then itself."""
    steps = Steps()
    steps.add_referrers("subject", "r1", "r2")
    deleter = MemoryDeleter()

    result = carry_out(steps, deleter, workers=1)

    assert deleter.requests == ["subject-tag", "r1", "r2", "subject"]
    assert outcomes(result) == dict.fromkeys(["subject.tags", "r1", "r2", "subject"], Outcome.DELETED)


def test_image_that_takes_long_delays_its_own_parts_and_no_others() -> None:
    """There is no barrier between images."""
    steps = Steps()
    steps.add("slow")
    steps.add("slow child", after="slow")
    steps.add("other")
    steps.add("other child", after="other")
    go_on = Gate()
    deleter = MemoryDeleter(before={"slow": go_on.wait, "other child": go_on.open})

    carry_out(steps, deleter, workers=2)

    assert deleter.requests.index("other child") < deleter.requests.index("slow child")


def test_long_chain_does_not_recurse() -> None:
    """Anyone can push a chain that is longer than a stack."""
    steps = Steps()
    steps.add("0")
    for number in range(1, 20_000):
        steps.add(str(number), after=str(number - 1))

    deleter, refusing = MemoryDeleter(), MemoryDeleter(responses={"0": REFUSAL})
    carry_out(steps, deleter)
    carry_out(steps, refusing)

    assert len(deleter.requests) == 20_000
    assert refusing.requests == ["0"]


# How many at once.


def test_never_more_steps_are_under_way_than_workers() -> None:
    """And as many as there are workers: each waits here until there are three."""
    together = threading.Barrier(3, timeout=DEADLINE_S)
    steps = Steps()
    for number in range(30):
        steps.add(str(number), tags=f"t{number}")
    deleter = MemoryDeleter(before={f"t{number}": together.wait for number in range(30)})

    carry_out(steps, deleter, workers=3)

    assert deleter.under_way_most == 3
    assert len(deleter.requests) == 60


def test_endings_are_told_in_the_calling_thread() -> None:
    """One thread owns all state; it has the context of the request that started the run, which the log shows."""
    threads: set[int] = set()
    steps = Steps()
    for number in range(8):
        steps.add(str(number))

    carry_out(steps, MemoryDeleter(), on_ending=lambda _: threads.add(threading.get_ident()))

    assert threads == {threading.get_ident()}


def test_empty_plan_sends_nothing() -> None:
    """It has no endings, and nothing has ended it."""
    deleter = MemoryDeleter()

    assert carry_out(Steps(), deleter) == Result()
    assert deleter.requests == []


# What is not carried out.

UNDONE: dict[str, tuple[DeletionResponse | Exception, Outcome]] = {
    "a tag, a parent or a referrer blocks it": (REFUSAL, Outcome.REFUSED),
    "another 4xx": (DENIAL, Outcome.FAILED),
    "a precondition that no longer holds": (NOT_SENT, Outcome.KEPT),
    "a 4xx before the deletion": (RequestRefused("no token", 400, ("NAME_INVALID",)), Outcome.FAILED),
}


@pytest.mark.parametrize("case", UNDONE)
@pytest.mark.parametrize("workers", [1, 4])
def test_steps_behind_one_that_deleted_nothing_never_begin(workers: int, case: str) -> None:
    """What belongs to what is kept is kept, at any depth; the rest is deleted."""
    response, outcome = UNDONE[case]
    steps = Steps()
    steps.add("image")
    steps.add("other")
    steps.add("child", after="image")
    steps.add("shared", after="other image")
    steps.add("signature", after="child")
    steps.add("other child", after="other")
    deleter = MemoryDeleter(responses={"image": response})

    result = carry_out(steps, deleter, workers=workers)

    assert outcomes(result) == {"image": outcome, "other": Outcome.DELETED, "other child": Outcome.DELETED}
    assert sorted(deleter.requests) == ["image", "other", "other child"]
    assert (result.is_cut, result.is_contradicted, result.error) == (False, False, None)


def test_manifest_whose_tag_is_not_deleted_is_kept_with_its_other_tags() -> None:
    """The ending has the tags that were deleted by then, and the response for the next one."""
    steps = Steps()
    steps.add("image", tags="a b c d")
    deleter = MemoryDeleter(responses={"a": NOT_FOUND, "c": DENIAL})

    (ending,) = carry_out(steps, deleter).endings

    assert deleter.requests == ["a", "b", "c"]
    # The tag ``a`` was not deleted by this step.
    assert (ending.tags, ending.failed_tag, ending.response) == (("b",), "c", DENIAL)
    assert ending.has_failed_tag
    assert not ending.has_moved_tag


def test_refused_manifest_tells_which_tags_it_has_lost() -> None:
    """All of its tags were deleted, and then it was refused."""
    steps = Steps()
    steps.add("image", tags="a b")
    deleter = MemoryDeleter(responses={"image": REFUSAL})

    (ending,) = carry_out(steps, deleter).endings

    assert (ending.outcome, ending.tags, ending.failed_tag) == (Outcome.REFUSED, ("a", "b"), None)
    assert not ending.has_failed_tag


@pytest.mark.parametrize("when", ["before", "between", "retry"])
def test_manifest_that_a_message_names_is_kept(when: str) -> None:
    """Before its first request, between its tag and itself, or before an attempt is repeated."""
    steps = Steps()
    steps.add("image", tags="a")
    guard = FreeGuard(named={"image"} if when == "before" else set())
    deleter = MemoryDeleter(attempts={"image": 2 if when == "retry" else 1})
    deleter.before["image" if when == "retry" else "a"] = lambda: guard.named.add("image")

    (ending,) = carry_out(steps, deleter, guard).endings

    assert ending.outcome is Outcome.KEPT
    assert deleter.requests == {"before": [], "between": ["a"], "retry": ["a", "image"]}[when]
    assert ending.tags == (() if when == "before" else ("a",))
    # An attempt without a response may have deleted the manifest.
    assert ending.doubtful == (digest("image") if when == "retry" else None)


def test_no_referrer_begins_once_another_of_its_subject_was_refused() -> None:
    """Something belongs to that one by now, so the subject is kept, with what is still there."""
    steps = Steps()
    steps.add_referrers("subject", "r1", "r2", "r3", "r4")
    steps.add_referrers("other", "o1", "o2")
    deleter = MemoryDeleter(responses={"r2": REFUSAL})

    result = carry_out(steps, deleter, workers=1)

    assert deleter.requests == ["subject-tag", "r1", "r2", "other-tag", "o1", "o2", "other"]
    assert not result.is_cut


def test_no_referrer_begins_once_one_of_another_referrer_was_refused() -> None:
    """The referrer that this one is about is kept, and so is the subject of both."""
    steps = Steps()
    steps.add("subject", tags="v1", only_tags=True, needs_recent_listing=True)
    for name in ("nested", "r1", "r2"):
        steps.add(name, after="subject.tags" if name != "r2" else "subject.tags nested", needs_recent_listing=True)
    steps.add("subject", after="subject.tags r1 r2")
    deleter = MemoryDeleter(responses={"nested": REFUSAL})

    carry_out(steps, deleter, workers=1)

    assert deleter.requests == ["v1", "nested"]


# What ends a plan.


def test_begun_image_is_finished_when_nothing_more_may_begin() -> None:
    """The plan is old: steps without predecessors do not begin, the others do."""
    is_old = threading.Event()
    steps = Steps()
    steps.add("image")
    steps.add("other")
    steps.add("child", after="image")
    steps.add("signature", after="child")
    steps.add("other child", after="other")
    guard = FreeGuard(lets_begin=lambda step: bool(step.after) or not is_old.is_set())
    deleter = MemoryDeleter(before={"image": is_old.set})

    result = carry_out(steps, deleter, guard, workers=1)

    assert deleter.requests == ["image", "child", "signature"]
    assert (result.is_cut, result.is_contradicted, result.error) == (True, False, None)


def test_step_that_may_not_begin_leaves_the_others_to_begin() -> None:
    """Referrers need a recent listing; other steps go on, and the plan is cut."""
    steps = Steps()
    steps.add_referrers("subject", "r1")
    steps.add("image")
    guard = FreeGuard(lets_begin=lambda step: not (step.needs_recent_listing and step.deletes_manifest))
    deleter = MemoryDeleter()

    result = carry_out(steps, deleter, guard, workers=1)

    assert deleter.requests == ["subject-tag", "image"]
    assert result.is_cut


@pytest.mark.parametrize("attempts", [1, 2])
def test_referrer_is_not_sent_again_once_the_listing_is_old(attempts: int) -> None:
    """Its retry comes late: it is left to the next plan with its subject, and other images are deleted."""
    guard = FreeGuard()
    steps = Steps()
    steps.add_referrers("subject", "r1")
    steps.add("image")
    deleter = MemoryDeleter(before={"r1": guard.late.set}, attempts={"r1": attempts})
    endings: list[Ending] = []

    result = carry_out(steps, deleter, guard, workers=1, on_ending=endings.append)

    rest = ["subject", "image"] if attempts == 1 else ["image"]
    assert deleter.requests == ["subject-tag", "r1", *rest]
    left = [ending for ending in endings if ending.outcome is Outcome.LEFT]
    assert [ending.doubtful for ending in left] == [digest("r1")] * (attempts - 1)
    assert result.is_cut == bool(left)


def test_plan_that_was_carried_out_whole_is_not_cut_by_time() -> None:
    """Nothing is left that could have begun."""
    is_old = threading.Event()
    steps = Steps()
    steps.add("image")
    deleter = MemoryDeleter(before={"image": is_old.set})

    assert not carry_out(steps, deleter, FreeGuard(lambda _: not is_old.is_set())).is_cut


ENDS: dict[str, tuple[DeletionResponse | Exception, Outcome]] = {
    "a tag that has moved": (MOVED, Outcome.KEPT),
    "a tag that names an unknown manifest": (
        DeletionResponse(is_gone=False, current_digest=""),
        Outcome.KEPT,
    ),
    "a message": (DELETED, Outcome.DELETED),
    "an error": (Unavailable("after six attempts"), Outcome.FAILED),
}


@pytest.mark.parametrize("case", ENDS)
def test_nothing_begins_after_a_contradiction_or_an_error(case: str) -> None:
    """Not even what belongs to a begun image; what is in flight ends."""
    response, outcome = ENDS[case]
    steps = Steps()
    steps.add("image", tags="latest")
    steps.add("slow", tags="v1 v2")
    steps.add("other")
    steps.add("child", after="image")
    steps.add("slow child", after="slow")
    both, go_on = Gate(), Gate()
    guard = FreeGuard()
    deleter = MemoryDeleter(
        responses={"latest": response}, before={"latest": both.wait, "v1": both.open, "v2": go_on.wait}
    )
    if case == "a message":
        deleter.before["image"] = guard.contradicted.set

    result = carry_out(steps, deleter, guard, workers=2, on_ending=lambda _: go_on.open())

    assert outcomes(result) == {"image": outcome, "slow": Outcome.DELETED}
    assert {"other", "child", "slow child"}.isdisjoint(deleter.requests)
    assert (result.is_cut, result.is_contradicted) == (True, case != "an error")
    assert result.error is (response if case == "an error" else None)


def test_contradiction_before_the_first_step_lets_nothing_begin() -> None:
    """A message has come between the plan and its execution."""
    steps = Steps()
    steps.add("image")
    guard = FreeGuard()
    guard.contradicted.set()
    deleter = MemoryDeleter()

    result = carry_out(steps, deleter, guard)

    assert (deleter.requests, result.endings) == ([], [])
    assert (result.is_cut, result.is_contradicted) == (True, True)


@pytest.mark.parametrize(("others", "is_cut"), [(0, False), (3, True)])
@pytest.mark.parametrize("error", [Unavailable("503"), PermissionDenied("403", "push")])
def test_error_ends_the_run_and_tells_whether_something_is_left(
    error: CleanerError, others: int, is_cut: bool
) -> None:
    """The first error counts; whether the manifest was deleted is not known."""
    steps = Steps()
    steps.add("image", tags="a")
    steps.add("second", tags="b")
    steps.add("child", after="image")
    for number in range(others):
        steps.add(str(number))
    both, go_on = Gate(), Gate()
    deleter = MemoryDeleter(
        responses={"image": error, "second": Unavailable("later")},
        before={"image": both.wait, "b": both.open, "second": go_on.wait},
    )

    result = carry_out(steps, deleter, workers=2, on_ending=lambda _: go_on.open())

    first, second = result.endings
    assert result.error is error
    assert result.is_cut is is_cut
    assert sorted(deleter.requests) == ["a", "b", "image", "second"]
    assert (first.outcome, first.error, first.tags) == (Outcome.FAILED, error, ("a",))
    assert (first.doubtful, second.doubtful) == (None, None)


@pytest.mark.parametrize("where", ["deleter", "guard", "guard in a worker", "on_ending"])
def test_defect_surfaces_and_nothing_hangs(where: str) -> None:
    """An unexpected exception reaches the caller, although another step is in flight."""
    go_on = Gate()

    def fail(*_: object) -> bool:
        go_on.open()
        raise ZeroDivisionError

    class Defective(FreeGuard):
        def is_contradicted(self) -> bool:
            return bool(deleter.requests) and where == "guard" and fail()

        def is_named(self, digest: Digest, tags: Collection[Tag]) -> bool:  # noqa: ARG002
            return where == "guard in a worker" and name_of(digest) == "image" and fail()

    steps = Steps()
    for name in ("slow", "image"):
        steps.add(name)
    deleter = MemoryDeleter(before={"slow": go_on.wait})
    if where == "deleter":
        deleter.before["image"] = fail
    on_ending: Callable[[Ending], Any] = fail if where == "on_ending" else lambda _: None

    with pytest.raises(ZeroDivisionError):
        carry_out(steps, deleter, Defective(), workers=2, on_ending=on_ending)


# Manifests that are checked with HEAD.


@pytest.mark.parametrize("is_there", [True, False])
def test_kept_child_is_checked_after_its_index_is_deleted(is_there: bool) -> None:
    """If it no longer exists, the registry has deleted it with the index: nothing more begins."""
    steps = Steps()
    steps.add("index", tags="v1", kept_child="kept")
    steps.add("other index", kept_child="kept")
    steps.add("child", after="index")
    deleter = MemoryDeleter(present={"kept"} if is_there else set())

    result = carry_out(steps, deleter, workers=1)

    asked = ["v1", "index", "HEAD kept"]
    assert deleter.requests == ([*asked, "child", "other index", "HEAD kept"] if is_there else asked)
    assert result.endings[0].outcome is Outcome.DELETED
    assert result.is_cut is not is_there
    if not is_there:
        assert isinstance(result.error, KeptManifestGone)
        assert (result.error.index, result.error.child) == (digest("index"), digest("kept"))
        assert result.endings[0].doubtful is None


def test_kept_child_of_an_index_that_is_not_deleted_is_not_checked() -> None:
    """There is nothing to check."""
    steps = Steps()
    steps.add("index", kept_child="kept")
    deleter = MemoryDeleter(responses={"index": REFUSAL})

    assert carry_out(steps, deleter).error is None
    assert deleter.requests == ["index"]


def test_kept_child_that_cannot_be_checked_ends_the_run() -> None:
    """The index was deleted all the same."""
    steps = Steps()
    steps.add("index", kept_child="kept")
    steps.add("child", after="index")
    error = Unavailable("503")
    deleter = MemoryDeleter(responses={"HEAD kept": error})

    result = carry_out(steps, deleter)

    assert (result.error, result.is_cut) == (error, True)
    assert outcomes(result) == {"index": Outcome.DELETED}


@pytest.mark.parametrize("present", ["", "s1", "s2"])
def test_orphan_is_deleted_if_none_of_its_subjects_exists(present: str) -> None:
    """One that is there keeps it, whichever it is; what comes after it is kept too."""
    steps = Steps()
    steps.add("orphan", tags="t", must_be_missing="s1 s2")
    steps.add("signature", after="orphan")
    deleter = MemoryDeleter(present={present})

    result = carry_out(steps, deleter, workers=1)

    asked = ["HEAD s1"] if present == "s1" else ["HEAD s1", "HEAD s2"]
    assert deleter.requests == (asked if present else [*asked, "t", "orphan", "signature"])
    assert outcomes(result)["orphan"] is (Outcome.KEPT if present else Outcome.DELETED)
    assert result.endings[0].subject == (digest(present) if present else None)
    assert not result.is_cut


@pytest.mark.parametrize("what", ["t", "orphan"])
def test_orphans_subject_is_checked_before_each_attempt(what: str) -> None:
    """A retry may come minutes later; a subject that was pushed meanwhile keeps the orphan."""
    steps = Steps()
    steps.add("orphan", tags="t", must_be_missing="subject")
    deleter = MemoryDeleter(attempts={what: 4})
    attempts = iter(range(4))
    deleter.before[what] = lambda: deleter.present.update(["subject"] if next(attempts) == 2 else [])

    (ending,) = carry_out(steps, deleter).endings

    repeated = [what, "HEAD subject"] * 3
    assert deleter.requests == ["HEAD subject", *(["t"] if what == "orphan" else []), *repeated]
    assert (ending.outcome, ending.subject) == (Outcome.KEPT, digest("subject"))
    assert ending.tags == (("t",) if what == "orphan" else ())


def test_orphan_whose_subject_cannot_be_checked_ends_the_run() -> None:
    """Nothing of it is deleted."""
    steps = Steps()
    steps.add("orphan", tags="t", must_be_missing="subject")
    error = PermissionDenied("403", "pull")
    deleter = MemoryDeleter(responses={"HEAD subject": error})

    result = carry_out(steps, deleter)

    assert (result.error, result.is_cut) == (error, False)
    assert deleter.requests == ["HEAD subject"]


@pytest.mark.parametrize("what", ["a", "image"])
def test_deletion_without_an_answer_is_doubtful(what: str) -> None:
    """Of the tag or manifest that it is about, and of nothing that was not requested."""
    steps = Steps()
    steps.add("image", tags="a b")
    reference = digest("image") if what == "image" else what
    deleter = MemoryDeleter(responses={what: Unanswered("no answer", reference)})

    (ending,) = carry_out(steps, deleter).endings

    assert ending.doubtful == reference
