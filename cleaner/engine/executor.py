"""Carries a plan out with several workers and no barrier between them.

It decides nothing but what came in between: whatever was judged is asked again immediately before it goes, and what
the registry refuses stays, with all that belongs to it.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
from concurrent.futures import Executor
from enum import Enum
from typing import Literal, Protocol

import msgspec

from cleaner.core.errors import CleanerError, RequestRefused
from cleaner.core.graph import reach
from cleaner.core.plan import Deletion, Plan
from cleaner.core.reference import Digest, Tag
from cleaner.google.registry.deletions import DELETED, NOT_SENT, DeletionResponse
from cleaner.google.registry.errors import REFUSAL_CODES

logger = logging.getLogger(__name__)


class Deleter(Protocol):
    """What the executor asks of a repository."""

    def digest_of(self, reference: Tag | Digest) -> str | None:
        """Return the digest that a tag or digest names now, or None where it names nothing."""

    def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a tag if it names ``expected_digest`` and ``precondition`` returns True, before each attempt."""

    def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        """Delete a manifest if, before each attempt ``precondition`` returns True."""


class Conditions(Protocol):
    """What has to be asked again while a plan is carried out."""

    def may_begin(self) -> bool:
        """Whether another deletion may begin: the plan is not too old, and there is time."""

    def may_repeat(self) -> bool:
        """Whether a deletion that has begun may send another request: the plan is not too old, and there is time."""

    def wanted(self) -> AbstractSet[str]:
        """Return the digests that somebody has asked for by now."""

    def ended(self, deletion: Deletion, end: End) -> None:
        """Take note of how ``deletion`` ended."""

    def standing_against(
        self, subjects: AbstractSet[Digest], going: AbstractSet[Digest], stripped: AbstractSet[Digest]
    ) -> Mapping[Digest, AbstractSet[Digest]]:
        """Return for each of ``subjects``, which the registry refused, the referrers that have to go before it.

        And for each of those, and so on.  What is not among the keys stays: not only those ``going`` stand against
        it, or maybe not.  ``stripped`` have had all their tags deleted.
        """


class End(Enum):
    """How one deletion of a plan ended."""

    DELETED = "deleted"
    REFUSED = "refused"
    FAILED = "failed"
    STAYED = "stayed"
    """Something stood against it without a refusal of its own."""


class Result(msgspec.Struct):
    """How a plan ended.

    Every deletion of the plan is in one list: ``stayed`` holds those that something stood against without a refusal
    of their own, ``left`` those that did not begin, or not end, before there was no more time.  Those of these
    that have lost their tags are ``stripped``, too.  ``error`` is what ended the whole early.
    """

    error: CleanerError | None = None
    deleted: list[Deletion] = msgspec.field(default_factory=list)
    refused: list[Deletion] = msgspec.field(default_factory=list)
    failed: list[Deletion] = msgspec.field(default_factory=list)
    stayed: list[Deletion] = msgspec.field(default_factory=list)
    left: list[Deletion] = msgspec.field(default_factory=list)
    stripped: list[Deletion] = msgspec.field(default_factory=list)


def execute(
    plan: Plan,
    deleter: Deleter,
    conditions: Conditions,
    pool: Executor,
    workers: int,
    *,
    spared: AbstractSet[Digest] = frozenset(),
) -> Result:
    """Delete what ``plan`` says, oldest first, and return how it ended.

    ``spared`` are manifests that an earlier plan of the same run failed to delete: they stay, with what belongs to
    them.  An error of one worker lets the others finish what they do and begins nothing more.
    """
    execution = _Execution(plan, deleter, conditions, workers)
    execution.spare(spared)
    count = min(workers, len(plan.delete))
    for future in [pool.submit(contextvars.copy_context().run, execution.work) for _ in range(count)]:
        future.result()
    return execution.result()


# An orphan waits for a look at each subject of all that hangs together with it: nobody may make that ever so many.
_ABSENT_MAX = 16


class _Look(Enum):
    """In the place of a deletion: to look why subjects were refused."""

    LOOK = "look"


class _Pause(Enum):
    """Why a deletion that was begun has not ended."""

    UNCLEAR = "unclear"
    """It was refused, and may be for what goes as well."""
    TOO_LATE = "too late"
    """The plan has grown too old, or an error has ended it."""


# The codes do not tell referrers from a parent.
_MAYBE_FOR_REFERRERS = REFUSAL_CODES - {"GOOGLE_MANIFEST_DANGLING_TAG"}


def _maybe_for_referrers(outcome: DeletionResponse) -> bool:
    return not outcome.is_gone and not _MAYBE_FOR_REFERRERS.isdisjoint(outcome.codes)


class _Refused:
    """The subjects of one plan that have to go behind their referrers; not safe from many threads.

    One is taken in when the registry refuses it.  Until somebody has looked why, it is unclear; then it stays, or is
    put behind referrers, which may have to go behind others themselves.
    """

    def __init__(self) -> None:
        self._facts: dict[Digest, dict[str, object]] = {}
        self._unclear: list[Digest] = []
        self._looked_at: list[Digest] = []
        self._doubtful: AbstractSet[Digest] = frozenset()
        self._referrers: dict[Digest, set[Digest]] = {}
        self._subjects: dict[Digest, list[Digest]] = {}
        self._absent: dict[Digest, AbstractSet[Digest]] = {}

    def __contains__(self, digest: object) -> bool:
        """Whether it has been put behind referrers: the next refusal is the last."""
        return digest in self._referrers

    @property
    def unclear(self) -> int:
        """How many there are of which nobody has begun to look why they were refused."""
        return len(self._unclear)

    def note(self, subject: Digest, facts: dict[str, object]) -> None:
        """Keep ``facts`` of a refusal, to tell them if ``subject`` stays."""
        self._facts[subject] = facts

    def add(self, subject: Digest) -> None:
        """Take in a subject that was refused, and of which nobody knows why."""
        self._unclear.append(subject)
        self._doubt()

    def is_unclear(self, digest: Digest) -> bool:
        """Whether it was refused, and nobody has begun to look why."""
        return digest in self._unclear

    def begin_to_look(self) -> Sequence[Digest]:
        """Return those of which nobody knows why they were refused; they are unclear until ``have_looked``."""
        self._looked_at, self._unclear = self._unclear, []
        return self._looked_at

    def have_looked(self) -> None:
        """Take note that it is known why those were refused that ``begin_to_look`` has returned."""
        self._looked_at = []
        self._doubt()

    def put_behind(self, subject: Digest, referrers: Iterable[Digest]) -> None:
        """Let ``subject`` be asked, for the last time, behind ``referrers``."""
        self._referrers[subject] = set(referrers)
        for referrer in self._referrers[subject]:
            self._subjects.setdefault(referrer, []).append(subject)

    def demand_absence(self, digest: Digest, absent: AbstractSet[Digest]) -> None:
        """Let ``digest`` go only while ``absent`` are not there, for the sake of a subject that goes behind it."""
        self._absent[digest] = self.absent(digest) | absent

    def absent(self, digest: Digest) -> AbstractSet[Digest]:
        """Return what must not be there when ``digest`` goes."""
        return self._absent.get(digest, frozenset())

    def subjects(self, referrer: Digest) -> Sequence[Digest]:
        """Return those that are to be asked behind ``referrer``."""
        return self._subjects.get(referrer, ())

    def referrers(self, subject: Digest) -> AbstractSet[Digest]:
        """Return those that ``subject`` still waits for."""
        return self._referrers.get(subject, frozenset())

    def is_in_doubt(self, referrer: Digest) -> bool:
        """Whether a subject that is behind ``referrer`` is behind one that is unclear, too, directly or not."""
        return not self._doubtful.isdisjoint(self.subjects(referrer))

    def went(self, referrer: Digest) -> Sequence[Digest]:
        """Note that ``referrer`` is gone, and return the subjects that it was behind it."""
        for subject in self.subjects(referrer):
            self._referrers[subject].discard(referrer)
        return self.subjects(referrer)

    def _doubt(self) -> None:
        self._doubtful = reach((*self._unclear, *self._looked_at), self.subjects).keys()

    def tell(self, digest: Digest) -> bool:
        """Say that ``digest`` stays, if the registry has refused it; return whether it has."""
        if digest not in self._facts:
            return False
        logger.warning("deletion refused", extra=self._facts[digest])
        return True


class _Execution:
    """One plan under way; ``_changed`` guards everything but the deletion in a worker's hands."""

    def __init__(self, plan: Plan, deleter: Deleter, conditions: Conditions, workers: int) -> None:
        self._workers = workers
        self._repository = str(plan.repository)
        self._deleter = deleter
        self._conditions = conditions
        self._changed = threading.Condition()
        self._deletions = {deletion.manifest.digest: deletion for deletion in reversed(plan.delete)}
        self._ends: dict[Digest, End] = {}
        self._busy: set[Digest] = set()
        self._error: CleanerError | None = None
        self._over = False
        self._waits_for = {digest: set(deletion.after) for digest, deletion in self._deletions.items()}
        self._waited_for_by: dict[Digest, list[Digest]] = {}
        for digest, deletion in self._deletions.items():
            for other in deletion.after:
                self._waited_for_by.setdefault(other, []).append(digest)
        ready = [digest for digest, others in self._waits_for.items() if not others]
        # What others may only seem to have crowded out goes last, and not where another process is seen at work.
        self._ready = deque(sorted(ready, key=lambda digest: self._deletions[digest].is_crowded_out))
        self._held_back: list[Digest] = []
        # What is in one of the two; nothing is twice.
        self._queued = set(ready)
        self._is_crossed = False
        self._is_put_off = False
        self._refused = _Refused()
        self._is_looking = False
        self._spared: set[str] = set()
        self._stripped: set[Digest] = set()

    def spare(self, digests: Iterable[str]) -> None:
        """Let ``digests`` stay, and what they need: what has begun stays only if its worker asks again in time."""
        with self._changed:
            pending = [digest for digest in digests if digest not in self._spared]
            self._spared.update(pending)
            while pending:
                deletion = self._deletions.get(Digest(pending.pop()))
                if deletion is None:
                    continue
                digest = deletion.manifest.digest
                if digest not in self._ends and digest not in self._busy:
                    self._stop(digest, End.STAYED)
                fresh = [other for other in deletion.needs if other not in self._spared]
                self._spared.update(fresh)
                pending += fresh

    def work(self) -> None:
        """Carry out one deletion after another until none may begin any more."""
        while (task := self._begin()) is not None:
            end: End | _Pause = _Pause.TOO_LATE
            is_broken = True
            try:
                if task is _Look.LOOK:
                    self._look()
                else:
                    end = self._carry_out(self._deletions[task])
                is_broken = False
            except CleanerError as error:
                with self._changed:
                    self._error = self._error or error
            finally:
                with self._changed:
                    self._over = self._over or is_broken
                    # Whatever happens, nobody waits for this worker for ever.
                    try:
                        self._settle(task, end)
                    finally:
                        self._changed.notify_all()

    def result(self) -> Result:
        """Return what became of each deletion, oldest first."""
        result = Result(error=self._error)
        lists = {
            End.DELETED: result.deleted,
            End.REFUSED: result.refused,
            End.FAILED: result.failed,
            End.STAYED: result.stayed,
        }
        for digest, deletion in self._deletions.items():
            if digest not in self._ends and self._over:
                result.left.append(deletion)
                continue
            if digest not in self._ends:
                # Although there was time: it waits for something that waits for it.
                self._note_staying(digest)
            lists[self._ends[digest]].append(deletion)
        remaining = (*result.refused, *result.failed, *result.stayed, *result.left)
        result.stripped += (one for one in remaining if one.manifest.digest in self._stripped)
        return result

    def _begin(self) -> Digest | Literal[_Look.LOOK] | None:
        """Wait for a deletion that may begin, or a look that is due; None when there will be none."""
        with self._changed:
            while not self._over:
                self._skip_what_waits()
                is_due = self._is_look_due()
                if (self._ready or is_due) and not self._conditions.may_begin():
                    self._over = True
                    self._changed.notify_all()
                elif is_due:
                    self._is_looking = True
                    return _Look.LOOK
                elif self._ready:
                    digest = self._ready.popleft()
                    self._queued.remove(digest)
                    self._busy.add(digest)
                    return digest
                elif self._busy or self._is_looking:
                    self._changed.wait()
                elif self._is_put_off:
                    self._over = True
                else:
                    return None
            return None

    def _skip_what_waits(self) -> None:
        """Take from the head of the queue what has ended or may not begin now."""
        while self._ready:
            digest = self._ready[0]
            if self._is_free(digest):
                if self._refused.is_in_doubt(digest):
                    self._held_back.append(self._ready.popleft())
                    continue
                if not self._is_crossed or not self._deletions[digest].is_crowded_out:
                    break
                self._is_put_off = True
            self._queued.remove(self._ready.popleft())

    def _is_look_due(self) -> bool:
        """Whether to look why subjects were refused: at as many as there are workers, or all that there will be."""
        if not self._refused.unclear or self._is_looking:
            return False
        may_be_refused = (digest for digest in self._busy if self._deletions[digest].may_be_subject)
        are_all = not self._ready and all(digest in self._refused for digest in may_be_refused)
        return are_all or self._refused.unclear >= self._workers

    def _settle(self, task: Digest | Literal[_Look.LOOK], end: End | _Pause) -> None:
        """Note how a deletion, or a look, has ended or why it has not, and let begin what waited for it."""
        if task is _Look.LOOK:
            self._is_looking = False
            self._refused.have_looked()
            self._ready.extendleft(reversed(self._held_back))
            self._held_back.clear()
            return
        digest = task
        self._busy.remove(digest)
        if end is End.DELETED:
            self._note(digest, end)
            for other in self._waited_for_by.get(digest, ()):
                self._went_before(other, digest)
            for subject in self._refused.went(digest):
                self._let_begin(subject, is_next=True)
        elif end is _Pause.UNCLEAR:
            self._refused.add(digest)
        elif end is _Pause.TOO_LATE:
            self._over = True
        else:
            self._stop(digest, end)

    def _went_before(self, digest: Digest, other: Digest, *, is_next: bool = False) -> None:
        if other not in self._waits_for[digest]:
            return
        self._waits_for[digest].remove(other)
        self._let_begin(digest, is_next=is_next)

    def _let_begin(self, digest: Digest, *, is_next: bool) -> None:
        """Put ``digest`` into the queue if it waits for nothing any more, before or behind all others."""
        if not self._is_free(digest) or digest in self._queued:
            return
        self._queued.add(digest)
        if is_next:
            self._ready.appendleft(digest)
        else:
            self._ready.append(digest)

    def _is_free(self, digest: Digest) -> bool:
        """Whether ``digest`` waits for nothing any more."""
        return not self._waits_for[digest] and not self._refused.referrers(digest) and digest not in self._ends

    def _stop(self, digest: Digest, end: End) -> None:
        """Let ``digest`` stay, and all that belongs to it: what another worker is deleting, if it asks again."""
        self._note(digest, end)
        pending = [digest]
        while pending:
            stopped = pending.pop()
            for subject in self._refused.subjects(stopped):
                if subject not in self._ends:
                    self._note_staying(subject)
                    pending.append(subject)
            for other in (*self._waited_for_by.get(stopped, ()), *self._refused.referrers(stopped)):
                if other in self._busy:
                    self.spare((other,))
                elif other not in self._ends:
                    self._note(other, End.STAYED)
                    pending.append(other)

    def _note_staying(self, digest: Digest) -> None:
        """Note that ``digest`` stays for the sake of others, or for want of them."""
        self._note(digest, End.REFUSED if self._refused.tell(digest) else End.STAYED)

    def _note(self, digest: Digest, end: End) -> None:
        self._ends[digest] = end
        self._conditions.ended(self._deletions[digest], end)

    def _carry_out(self, deletion: Deletion) -> End | _Pause:
        """Delete one manifest and its tags, and return how that ended, or why it has not."""
        digest = deletion.manifest.digest
        is_last = digest in self._refused
        try:
            if not self._is_orphaned(deletion):
                return End.STAYED
            outcome = DELETED if digest in self._stripped else self._delete_tags(deletion)
            if outcome.is_gone:
                if deletion.manifest.tags:
                    with self._changed:
                        self._stripped.add(digest)
                may_go = self._asking(deletion, is_stripped=bool(deletion.manifest.tags))
                outcome = self._deleter.delete_manifest(digest, may_go)
        except RequestRefused as error:
            outcome = DeletionResponse(is_gone=False, was_sent=True, status=error.status, codes=error.codes)
        facts = self._facts(deletion)
        if outcome.is_gone:
            logger.info("manifest deleted", extra=facts)
            return End.DELETED
        if outcome == NOT_SENT and not self._is_spared(digest):
            return _Pause.TOO_LATE
        if outcome == NOT_SENT or outcome.current_digest is not None:
            return End.STAYED
        facts |= {"status": outcome.status, "codes": outcome.codes}
        if _maybe_for_referrers(outcome) and not is_last and deletion.may_be_subject:
            with self._changed:
                self._refused.note(digest, facts)
            return _Pause.UNCLEAR
        if outcome.is_refused:
            logger.warning("deletion refused", extra=facts)
            return End.REFUSED
        logger.error("deletion failed", extra=facts)
        return End.FAILED

    def _is_orphaned(self, deletion: Deletion) -> bool:
        """Whether the subjects of an orphan, or of the one whose referrer this is, are still not there."""
        with self._changed:
            subjects = {*deletion.absent, *self._refused.absent(deletion.manifest.digest)}
        return all(self._deleter.digest_of(subject) is None for subject in subjects)

    def _asking(self, deletion: Deletion, *, is_stripped: bool = False) -> Callable[[], bool]:
        """Return what says, each time a request of ``deletion`` is tried, whether it may go.

        It may have waited for its turn for minutes.  What has lost its tags is not left without them once for that.
        """
        tries = itertools.count()

        def may_go() -> bool:
            if self._is_spared(deletion.manifest.digest):
                return False
            is_first = next(tries) == 0
            return (is_first and is_stripped) or (
                self._conditions.may_repeat() and (is_first or self._is_orphaned(deletion))
            )

        return may_go

    def _delete_tags(self, deletion: Deletion) -> DeletionResponse:
        """Delete a manifest's tags.  Where one has moved, the manifest is not what was judged any more."""
        manifest = deletion.manifest
        for at, tag in enumerate(manifest.tags):
            # One image may have more tags than there is time; without tags it goes at once.
            if at and not self._conditions.may_repeat():
                return NOT_SENT
            outcome = self._deleter.delete_tag(tag, manifest.digest, self._asking(deletion))
            facts = {"repository": self._repository, "digest": manifest.digest, "tag": tag}
            if outcome.current_digest is not None:
                self.spare((outcome.current_digest,))
                logger.info("tag moved", extra=facts | {"now": outcome.current_digest})
            if not outcome.is_gone:
                return outcome
            if outcome.was_sent:
                logger.info("tag deleted", extra=facts)
            else:
                with self._changed:
                    self._is_crossed = True
        return DELETED

    def _look(self) -> None:
        """Look why subjects were refused, all at once, and ask those again whose own referrers alone are why."""
        with self._changed:
            subjects = [digest for digest in self._refused.begin_to_look() if digest not in self._ends]
            going = {digest for digest in self._deletions if self._has_not_stayed(digest)}
            stripped = set(self._stripped)
        if not subjects:
            return
        referrers = self._conditions.standing_against(frozenset(subjects), going, stripped)
        with self._changed:
            for digest in subjects:
                # One may have been put behind others as the referrer of another.
                if digest not in self._ends and digest not in self._refused:
                    self._ask_again(digest, referrers)

    def _ask_again(self, subject: Digest, referrers: Mapping[Digest, AbstractSet[Digest]]) -> None:
        """Arrange for a refused subject to be asked again behind its ``referrers``, if they go; else it stays."""
        chain = reach([subject], lambda digest: referrers.get(digest, ()))
        absent = self._refused.absent(subject) | {*self._deletions[subject].absent}
        if subject not in referrers or not all(map(self._has_not_stayed, chain)) or len(absent) > _ABSENT_MAX:
            self._refused.tell(subject)
            self._stop(subject, End.REFUSED)
            return
        if any(map(self._refused.is_unclear, chain)):
            # What has been refused since the listing may have been for what has come since.
            self._refused.add(subject)
            return
        behind = {subject}
        for digest in chain:
            waiting = [other for other in referrers.get(digest, ()) if other not in self._ends]
            if digest == subject or (waiting and self._has_not_begun(digest)):
                self._refused.put_behind(digest, waiting)
                behind.add(digest)
        first = reach(chain, lambda digest: self._waits_for[digest]).keys() - {subject}
        # That nothing else hangs on them has just been seen, and is not looked at again: they are next.
        for digest in first:
            self._refused.demand_absence(digest, absent)
            for other in behind.intersection(self._deletions[digest].subjects):
                self._went_before(digest, other, is_next=True)
        self._let_begin(subject, is_next=True)

    def _has_not_begun(self, digest: Digest) -> bool:
        return digest not in self._ends and digest not in self._busy and digest not in self._refused

    def _has_not_stayed(self, digest: Digest) -> bool:
        return self._ends.get(digest, End.DELETED) is End.DELETED

    def _is_spared(self, digest: Digest) -> bool:
        """Whether ``digest`` has to stay: somebody asks for it by now, or for what needs it."""
        self.spare(self._conditions.wanted())
        with self._changed:
            return digest in self._spared

    def _facts(self, deletion: Deletion) -> dict[str, object]:
        return {"repository": self._repository, **deletion.verdict.facts()}
