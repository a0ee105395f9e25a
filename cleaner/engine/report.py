"""The log, the report and the progress of a run.  Only the run's own thread calls them; they decide nothing."""

from __future__ import annotations

import logging
from collections import Counter

import msgspec

from cleaner.core.history import History
from cleaner.core.manifest import Listing
from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import Reason
from cleaner.engine.executor import Ending, Outcome
from cleaner.google.registry.deletions import DeletionResponse

logger = logging.getLogger(__name__)

_MESSAGES = {Outcome.REFUSED: "deletion refused", Outcome.FAILED: "deletion failed"}


class Undone(msgspec.Struct, frozen=True):
    """A deletion that was refused or failed, and the registry's answer; ``status`` is 0 where there was none."""

    outcome: Outcome
    status: int = 0
    codes: tuple[str, ...] = ()


class Report(msgspec.Struct):
    """What a run did, or in a dry run would have done; ``size`` is in bytes.

    ``outcomes`` has each manifest of which a deletion ended, ``undone`` those of them that the registry did not
    delete, ``lost_tags`` the tags that were deleted of manifests that were not.  ``has_immutable_tags``: the tags are
    taken for immutable.
    """

    repository: Repository
    dry_run: bool
    kept: int = 0
    deleted: int = 0
    refused: int = 0
    failed: int = 0
    size: int = 0
    requests: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    outcomes: dict[Digest, Outcome] = msgspec.field(default_factory=dict)
    undone: dict[Digest, Undone] = msgspec.field(default_factory=dict)
    lost_tags: dict[Digest, tuple[Tag, ...]] = msgspec.field(default_factory=dict)
    has_immutable_tags: bool = False

    def facts(self) -> dict[str, object]:
        """Return it as the fields of a log line."""
        return {
            "repository": str(self.repository),
            "dry_run": self.dry_run,
            "kept": self.kept,
            "deleted": self.deleted,
            "refused": self.refused,
            "failed": self.failed,
            "bytes": self.size,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "reasons": dict(self.reasons),
        }


class Progress:
    """Receives the progress of a run, and ignores it.  Any thread calls ``read``."""

    def reading(self, total: int) -> None:
        """``total`` documents have to be read."""

    def read(self) -> None:
        """One more has been read."""

    def listed(self, listing: Listing) -> None:
        """The repository has been listed, and what had to be read has been."""

    def deleting(self, total: int) -> None:
        """A plan of ``total`` deletions is carried out."""

    def ended(self, digest: Digest, outcome: Outcome) -> None:
        """The deletion of a manifest has ended; one that was refused may end again."""


class Reporter:
    """Turns what happens in a run into log lines and the report."""

    def __init__(self, report: Report, history: History, progress: Progress) -> None:
        self.report = report
        self._history = history
        self._progress = progress
        self._deleted: dict[Digest, Verdict] = {}
        self._planned: dict[Digest, Verdict] = {}
        # Refused once, and not logged: a later plan may delete them.
        self._pending: set[Digest] = set()
        # Requested to be deleted, without an answer; the last listing shows whether they were.
        self._doubtful: set[Digest] = set()

    def begin(self, todo: Plan) -> None:
        """Take note of a plan that is to be carried out, or leaves nothing to do."""
        self._planned |= {verdict.manifest.digest: verdict for verdict in todo.delete}
        if todo.steps:
            self._progress.deleting(len(todo.delete))

    def add(self, ending: Ending) -> None:
        """Log how a step ended, and note it."""
        digest = ending.step.manifest.digest
        for tag in ending.tags:
            logger.info("tag deleted", extra=self._facts(digest=digest, tag=tag))
        if ending.tags:
            self.report.lost_tags[digest] = (*self.report.lost_tags.get(digest, ()), *ending.tags)
        if ending.has_moved_tag and ending.response:
            now = ending.response.current_digest
            logger.info("tag moved", extra=self._facts(digest=digest, tag=ending.failed_tag, now=now))
        if ending.subject:
            logger.info("subject exists", extra=self._facts(digest=digest, subject=ending.subject))
        if ending.doubtful == digest:
            self._doubtful.add(digest)
        is_half = ending.outcome is Outcome.DELETED and not ending.step.deletes_manifest
        is_left = ending.outcome is Outcome.LEFT or (ending.error and ending.outcome is not Outcome.DELETED)
        if is_half or is_left:
            return
        self.report.outcomes[digest] = ending.outcome
        if ending.outcome is Outcome.DELETED:
            self._add_deleted(digest)
        elif ending.response and ending.outcome is not Outcome.KEPT:
            self._add_undone(digest, Undone(ending.outcome, ending.response.status, ending.response.codes))
        self._progress.ended(digest, ending.outcome)

    def add_immutable_tags(self, response: DeletionResponse) -> None:
        """Log that the tags are taken for immutable, and how the registry responds to their deletion."""
        self.report.has_immutable_tags = True
        facts = self._facts(status=response.status, codes=response.codes)
        logger.error("tags cannot be deleted", extra=facts)

    def preview(self, todo: Plan) -> None:
        """Log what a plan would delete, oldest first, and report it as deleted."""
        for verdict in reversed(todo.delete):
            logger.info("manifest would be deleted", extra=self._facts(**verdict.facts()))
            self._deleted[verdict.manifest.digest] = verdict

    def finish(self, todo: Plan, requests: int, seconds: float) -> Report:
        """Complete the report with what the last plan kept, and log it."""
        due = {verdict.manifest.digest for verdict in todo.delete}
        for digest in sorted(self._doubtful - self._deleted.keys() - due):
            # What the last listing does not have was deleted.
            if digest not in todo.kept:
                self.report.outcomes[digest] = Outcome.DELETED
                self._add_deleted(digest)
        for digest in sorted(self._pending):
            self._log_undone(digest)
        report = self.report
        ended = self._deleted.keys() | report.undone.keys()
        is_displayed = logger.isEnabledFor(logging.DEBUG)
        keep = todo.keep if is_displayed else todo.kept.values()
        kept = [one for one in (*keep, *todo.delete) if one.manifest.digest not in ended]
        if is_displayed:
            for verdict in kept:
                logger.debug("manifest kept", extra=self._facts(**verdict.facts()))
        counts = Counter(undone.outcome for undone in report.undone.values())
        report.kept = len(kept)
        report.deleted = len(self._deleted)
        report.refused, report.failed = counts[Outcome.REFUSED], counts[Outcome.FAILED]
        report.size = sum(verdict.manifest.size for verdict in self._deleted.values())
        reasons = Counter(verdict.reason for verdict in (*self._deleted.values(), *kept))
        report.reasons = Counter({reason.value: reasons[reason] for reason in Reason if reason in reasons})
        report.requests, report.seconds = requests, seconds
        logger.info("prune finished", extra=report.facts())
        return report

    def _add_deleted(self, digest: Digest) -> None:
        self._deleted[digest] = verdict = self._planned[digest]
        self.report.undone.pop(digest, None)
        self.report.lost_tags.pop(digest, None)
        self._pending.discard(digest)
        logger.info("manifest deleted", extra=self._facts(**verdict.facts()))

    def _add_undone(self, digest: Digest, undone: Undone) -> None:
        is_first_refusal = undone.outcome is Outcome.REFUSED and digest not in self._pending
        self.report.undone[digest] = undone
        if is_first_refusal:
            self._pending.add(digest)
        else:
            self._log_undone(digest)

    def _log_undone(self, digest: Digest) -> None:
        self._pending.discard(digest)
        undone, lost = self.report.undone[digest], self._history.lost_tags.get(digest)
        facts = self._facts(**self._planned[digest].facts(), status=undone.status, codes=undone.codes)
        if lost:
            facts["lost_tags"] = sorted(lost)
        is_error = lost or undone.outcome is Outcome.FAILED
        level = logging.ERROR if is_error else logging.WARNING
        logger.log(level, _MESSAGES[undone.outcome], extra=facts)

    def _facts(self, **facts: object) -> dict[str, object]:
        return {"repository": str(self.report.repository), **facts}
