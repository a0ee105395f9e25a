"""Carries out the steps of one plan, several at a time.

One loop, in the calling thread, owns all state.  Workers send the requests of one step and return how it ended; they
share nothing with the loop.  A step begins only after those before it are done.  So what comes after a step that was
refused, or has not begun, is kept, and nothing has to be cancelled.

A step without predecessors begins an image, which takes a young plan and time.  The steps behind it finish the
image: they are taken next, also when the plan has become old.  Once something contradicts the plan, or an error ends
the run, nothing more begins.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor, Future
from enum import Enum
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import Protocol

import msgspec

from cleaner.core.errors import CleanerError, KeptManifestGone, RequestRefused, Unanswered
from cleaner.core.reference import Digest, Tag
from cleaner.core.steps import Step
from cleaner.core.walk import reachable
from cleaner.google.registry.deletions import DeletionResponse

# After so many tag deletions that failed alike, and none that succeeded, the tags are taken for immutable.
_IMMUTABLE_AFTER = 3


class Deleter(Protocol):
    """The requests that carry out steps; ``precondition`` is called before each attempt, and False sends nothing."""

    def exists(self, digest: Digest) -> bool:
        """Return whether the registry knows a manifest."""

    def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a tag if it names ``expected_digest`` immediately before."""

    def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a manifest."""


class Guard(Protocol):
    """What stands outside the registry: the time, and the messages that arrive."""

    def may_begin(self, step: Step) -> bool:
        """Return whether a step may begin, as far as time is concerned."""

    def is_late(self, step: Step) -> bool:
        """Return whether a step needs a more recent listing than the plan's.  Called by any thread."""

    def is_named(self, digest: Digest, tags: Collection[Tag]) -> bool:
        """Return whether a message names a manifest, or one of the ``tags`` that it has, by now.

        Called by any thread.
        """

    def is_contradicted(self) -> bool:
        """Return whether a message names anything that the plan deletes."""


class Outcome(Enum):
    """How a step ended."""

    DELETED = "deleted"
    REFUSED = "refused"
    """A tag, a parent or a referrer blocks the deletion."""
    FAILED = "failed"
    """The registry does not carry it out, or not that anybody knows."""
    KEPT = "kept"
    """An orphan's subject is there, or may be; a message names the manifest; or a tag of it has moved."""
    LEFT = "left"
    """Its retries outlasted the time in which its listing is recent enough: the next plan deletes it."""


class Ending(msgspec.Struct, frozen=True):
    """How a step ended.

    ``tags`` were deleted.  ``response`` is the one that ended the step, if one did; ``failed_tag`` the tag that it is
    about, None if it is about the manifest.  ``subject`` is the orphan's subject that is there, or may be.  ``error``
    ends the run.
    """

    step: Step
    outcome: Outcome
    tags: tuple[Tag, ...] = ()
    response: DeletionResponse | None = None
    failed_tag: Tag | None = None
    subject: Digest | None = None
    error: CleanerError | None = None

    @property
    def has_moved_tag(self) -> bool:
        """Whether a tag named another manifest than the plan says."""
        return self.response is not None and self.response.current_digest is not None

    @property
    def doubtful(self) -> str | None:
        """The tag or digest of which nobody knows whether the registry has deleted it; None if there is none."""
        if isinstance(self.error, Unanswered):
            return self.error.reference
        response = self.response
        if response and response.is_doubtful and response.current_digest is None:
            return self.failed_tag or self.step.manifest.digest
        return None

    @property
    def has_failed_tag(self) -> bool:
        """Whether the registry did not delete a tag."""
        return self.outcome is Outcome.FAILED and self.failed_tag is not None


class Result(msgspec.Struct):
    """How a plan ended.

    ``is_cut``: for want of time, or by a contradiction, steps have not begun that could have.
    """

    endings: list[Ending] = msgspec.field(default_factory=list)
    is_cut: bool = False
    is_contradicted: bool = False
    error: CleanerError | None = None


class TagDeletions:
    """How the tag deletions of a run have ended, over all its plans.

    ``immutable`` is how they failed once the tags are taken for immutable, None before.
    """

    def __init__(self) -> None:
        self.immutable: DeletionResponse | None = None
        self._failures: Counter[DeletionResponse] = Counter()
        self._has_deleted = False

    def note(self, ending: Ending) -> None:
        """Take note of how a step has ended."""
        self._has_deleted = self._has_deleted or bool(ending.tags)
        if ending.response and ending.has_failed_tag and not self._has_deleted:
            self._failures[ending.response] += 1
            if self._failures[ending.response] >= _IMMUTABLE_AFTER:
                self.immutable = ending.response


def execute(
    steps: Sequence[Step],
    deleter: Deleter,
    guard: Guard,
    pool: Executor,
    workers: int,
    *,
    on_ending: Callable[[Ending], None],
    tag_deletions: TagDeletions,
) -> Result:
    """Carry out ``steps`` on ``pool``, at most ``workers`` at once, and return how they ended.

    ``on_ending`` is called in this thread for each step that has ended.  ``tag_deletions`` are those of the run's
    earlier plans; this plan's are added.
    """
    execution = _Execution(steps, guard, tag_deletions)
    ended: SimpleQueue[Future[tuple[int, Ending]]] = SimpleQueue()
    in_flight = 0
    while True:
        while in_flight < workers and (at := execution.next()) is not None:
            pool.submit(_carry_out, at, steps[at], deleter, guard).add_done_callback(ended.put)
            in_flight += 1
        if not in_flight:
            return execution.result
        at, ending = ended.get().result()
        in_flight -= 1
        execution.note(at, ending)
        on_ending(ending)


class _Execution:
    """The state of one plan that is carried out; steps are named by their positions."""

    def __init__(self, steps: Sequence[Step], guard: Guard, tag_deletions: TagDeletions) -> None:
        self.result = Result()
        self._steps = steps
        self._guard = guard
        self._tag_deletions = tag_deletions
        self._order = TopologicalSorter({at: step.after for at, step in enumerate(steps)})
        self._order.prepare()
        self._ready = deque(self._order.get_ready())
        self._later: dict[int, list[int]] = {}
        for at, step in enumerate(steps):
            for other in step.after:
                self._later.setdefault(other, []).append(at)
        # What comes after a step that was not carried out: it never becomes ready.
        self._never_ready: dict[int, None] = {}

    def next(self) -> int | None:
        """Return a step to begin, or None if there is none, now or for good."""
        result = self.result
        result.is_contradicted = result.is_contradicted or self._guard.is_contradicted()
        if result.error or result.is_contradicted:
            result.is_cut = result.is_cut or bool(self._ready)
            return None
        while self._ready:
            at = self._ready.popleft()
            if self._is_in_vain(at):
                continue
            step = self._steps[at]
            if self._guard.may_begin(step) and not self._guard.is_late(step):
                return at
            result.is_cut = True
        return None

    def note(self, at: int, ending: Ending) -> None:
        """Take note of how a step has ended."""
        result = self.result
        result.endings.append(ending)
        result.error = result.error or ending.error
        result.is_contradicted = result.is_contradicted or ending.has_moved_tag
        result.is_cut = result.is_cut or ending.outcome is Outcome.LEFT
        self._tag_deletions.note(ending)
        if ending.outcome is Outcome.DELETED:
            self._order.done(at)
            # Last in, first out: an image is finished before the next one is begun.
            self._ready.extendleft(reversed(self._order.get_ready()))
            return

        def unblocked(other: int) -> Iterator[int]:
            return (later for later in self._later.get(other, ()) if later not in self._never_ready)

        self._never_ready |= reachable(unblocked(at), unblocked)

    def _is_in_vain(self, at: int) -> bool:
        """Return whether a step cannot succeed, or deletes a referrer of a subject that is kept by now."""
        step = self._steps[at]
        is_kept = step.needs_recent_listing and any(other in self._never_ready for other in self._later.get(at, ()))
        return is_kept or (self._tag_deletions.immutable is not None and bool(step.tags))


def _carry_out(at: int, step: Step, deleter: Deleter, guard: Guard) -> tuple[int, Ending]:
    """Send the requests of a step, in a worker's thread; return its position and how it ended."""
    deleted: list[Tag] = []
    try:
        ending = _delete(step, deleter, guard, deleted)
    except RequestRefused as error:
        response = DeletionResponse(is_gone=False, status=error.status, codes=error.codes)
        return at, Ending(step, Outcome.FAILED, tuple(deleted), response)
    except CleanerError as error:
        return at, Ending(step, Outcome.FAILED, tuple(deleted), error=error)
    if ending.outcome is Outcome.DELETED and (problem := _check_kept_child(step, deleter)):
        return at, msgspec.structs.replace(ending, error=problem)
    return at, ending


def _delete(step: Step, deleter: Deleter, guard: Guard, deleted: list[Tag]) -> Ending:
    """Delete a step's tags, adding them to ``deleted``, and its manifest."""
    subject: Digest | None = None

    def is_orphaned() -> bool:
        nonlocal subject
        subject = next((one for one in step.must_be_missing if _may_exist(one, deleter)), None)
        return subject is None

    def ended(outcome: Outcome, response: DeletionResponse | None = None, tag: Tag | None = None) -> Ending:
        return Ending(step, outcome, tuple(deleted), response, tag, subject)

    def precondition(tags: Collection[Tag] = ()) -> Callable[[], bool]:
        digest, attempts = step.manifest.digest, itertools.count()
        # A retry may come minutes later, so the time counts anew, and an orphan's subjects are looked up again.
        return lambda: (
            not (guard.is_late(step) or guard.is_named(digest, tags)) and (next(attempts) == 0 or is_orphaned())
        )

    if not is_orphaned():
        return ended(Outcome.KEPT)
    for at, tag in enumerate(step.tags):
        response = deleter.delete_tag(tag, step.manifest.digest, precondition(step.tags[at:]))
        if not response.is_gone:
            return ended(_outcome(response, step, guard), response, tag)
        if response.was_sent:
            deleted.append(tag)
    if step.deletes_manifest:
        response = deleter.delete_manifest(step.manifest.digest, precondition())
        if not response.is_gone:
            return ended(_outcome(response, step, guard), response)
    return ended(Outcome.DELETED)


def _may_exist(digest: Digest, deleter: Deleter) -> bool:
    try:
        return deleter.exists(digest)
    except RequestRefused:
        # The registry does not say that it is missing.
        return True


def _outcome(response: DeletionResponse, step: Step, guard: Guard) -> Outcome:
    """Return what a response means that did not delete."""
    if response.status == 0:
        return Outcome.LEFT if guard.is_late(step) else Outcome.KEPT
    return Outcome.REFUSED if response.is_refused else Outcome.FAILED


def _check_kept_child(step: Step, deleter: Deleter) -> CleanerError | None:
    """Return an error if a registry has deleted, together with an index, a child that is kept."""
    if step.kept_child is None:
        return None
    try:
        if deleter.exists(step.kept_child):
            return None
    except CleanerError as error:
        return error
    return KeptManifestGone(step.manifest.digest, step.kept_child)
