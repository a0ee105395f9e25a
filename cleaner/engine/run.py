"""One run: list, plan, execute, and again while there is something left and time to do it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from cleaner.core.errors import CleanerError, TimeLimitReached, Unavailable
from cleaner.core.manifest import Links, Listing, Manifest
from cleaner.core.plan import NOTHING_RUNNING, Deletion, Plan, Reason, Running, Verdict, plan
from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Repository
from cleaner.engine.executor import End, Result, execute
from cleaner.engine.refusals import Refusals
from cleaner.google.registry.client import Registry
from cleaner.google.registry.documents import Map
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget

logger = logging.getLogger(__name__)

# Between an image's last tag and the image itself another process takes less than this, a request or two.
SETTLING_S = 0.25


class Report(msgspec.Struct):
    """What a run did, or in a dry run would have done; ``size`` is in bytes."""

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


# Says what is deployed, as far as it concerns a repository.
AskRunning = Callable[[Repository, RequestBudget], Running]


class Progress:
    """Is told how far a run has come, from any thread; does nothing with it."""

    def reading(self, total: int) -> None:
        """``total`` documents have to be read."""

    def read(self) -> None:
        """One more has been read."""

    def listed(self, listing: Listing) -> None:
        """The repository has been listed, and what had to be read has been."""

    def deleting(self, total: int) -> None:
        """A plan of ``total`` deletions is carried out."""

    def ended(self, deletion: Deletion, end: End) -> None:
        """One of them has ended."""


def _nothing_wanted() -> AbstractSet[Digest]:
    return frozenset()


class _Basis(msgspec.Struct, frozen=True):
    """What a plan rests on."""

    listing: Listing
    now: datetime
    running: Running = NOTHING_RUNNING


class Run:
    """One run on one repository; made for it and used once.

    ``deadline`` is in seconds of the registry's transport clock: after it no further deletion begins.  ``wanted``
    gives the digests that messages name, those that arrive during the run too.  ``ask_running`` is None where
    nobody is to be asked what is deployed.  ``now`` tells the time, aware UTC.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        policy: Policy,
        *,
        dry_run: bool,
        workers: int,
        deadline: float,
        wanted: Callable[[], AbstractSet[Digest]] = _nothing_wanted,
        ask_running: AskRunning | None = None,
        progress: Progress | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.exchange = RequestBudget(deadline)
        self._stripped = registry.stripped(repository)
        self.client = registry.open(repository, Access.READ if dry_run else Access.DELETE, self.exchange)
        self.report = Report(repository, dry_run)
        self._policy = policy
        self.workers = workers
        self.wanted = wanted
        self._ask_running = ask_running
        self.progress = progress or Progress()
        self._now = now
        self._transport = registry.transport
        self.clock = registry.transport.clock
        self.plan_max_age_s = registry.transport.timing.plan_max_age
        self._started = self.clock()
        # What stays for this run; of that, what the registry would not delete.
        self._staying: set[Digest] = set()
        self._undeletable: set[Digest] = set()
        # Images and orphans, which `max_deletions` counts; and plans on end of which nothing came through.
        self._images_gone = 0
        self._fruitless = 0
        self.is_stopped = False

    def stop(self) -> None:
        """Let no further deletion begin; what runs is finished."""
        self.is_stopped = True

    def prune(self, only: AbstractSet[Digest] | None = None) -> Report:
        """Carry out plans until there is nothing left to do, and return what was done; the log has it too.

        With ``only`` nothing else is deleted, whatever a plan says.

        Raises:
            TimeLimitReached: The deadline came first; what was done has been logged.
            CleanerError: A reading failed, on whose account nothing was deleted; or a deletion, and no other began.
        """
        with ThreadPoolExecutor(self.workers, thread_name_prefix="worker") as pool:
            while True:
                try:
                    todo, basis = self._prepare(pool.map)
                    if self._may_be_misled(todo):
                        todo, basis = self._look_twice(todo, pool.map)
                except CleanerError:
                    if self._has_acted:
                        self._finish(())
                    raise
                # One that was refused may have gone since.
                self.report.kept = len(basis.listing.manifests.keys() - self._undeletable)
                if self.report.dry_run:
                    self._preview(todo)
                    return self._finish(todo.keep)
                todo, result = self._carry_out(todo, basis, pool, only)
                if error := result.error or self._why_not_again(result):
                    self._finish(todo.keep)
                    raise error
                if self.is_stopped or not result.left:
                    return self._finish(todo.keep)

    def plan(self, each: Map) -> tuple[Plan, Listing]:
        """Return a plan for the repository as it is now, and the listing it rests on; documents are read by ``each``.

        Raises:
            CleanerError: The listing, or what is deployed, is not known completely.
        """
        todo, basis = self._prepare(each)
        return todo, basis.listing

    def _prepare(self, each: Map) -> tuple[Plan, _Basis]:
        now = self._now()
        listing = self.client.read_documents(self.client.list_manifests(), self._reported_by(each))
        self.progress.listed(listing)
        self._stripped.difference_update(
            digest
            for digest in tuple(self._stripped)
            if digest not in listing.manifests or listing.manifests[digest].tags
        )
        basis = _Basis(listing, now)
        todo = self._decide(basis)
        if todo.delete and self._ask_running:
            basis = msgspec.structs.replace(basis, running=self._ask_running(todo.repository, self.exchange))
            todo = self._decide(basis)
        return todo, basis

    def _may_be_misled(self, todo: Plan) -> bool:
        """Whether another process may be why something goes, and nothing else that goes would show it."""
        if self.report.dry_run or any(one.manifest.tags for one in todo.delete):
            return False
        return any(one.is_crowded_out for one in todo.delete)

    def _look_twice(self, todo: Plan, each: Map) -> tuple[Plan, _Basis]:
        """Return a later plan; of those that are crowded out, only what ``todo`` lets go as well goes in this run."""
        self._transport.pause(min(SETTLING_S, (self.exchange.deadline - self.clock()) / 10), self.exchange)
        again, basis = self._prepare(each)
        before = {deletion.manifest.digest for deletion in todo.delete}
        crowded_out = {deletion.manifest.digest for deletion in again.delete if deletion.is_crowded_out}
        self._staying |= crowded_out - before
        return again, basis

    def _decide(self, basis: _Basis) -> Plan:
        return plan(
            basis.listing,
            self._policy,
            basis.now,
            just_pushed=self.wanted(),
            running=basis.running,
            already_deleted=self._images_gone,
            passed_over=self._staying,
            stripped=self._stripped,
        )

    def _carry_out(
        self, todo: Plan, basis: _Basis, pool: ThreadPoolExecutor, only: AbstractSet[Digest] | None
    ) -> tuple[Plan, Result]:
        """Execute a plan, and return the last plan and how it ended.

        Where ``max_deletions`` let some go that did not, others take their places, as long as the listing is good:
        those that the limit alone kept.  What has lost its reason to stay since, a place among the newest say, is for
        the next listing.
        """
        conditions = _Conditions(self, basis.listing)
        over = {verdict.manifest.digest for verdict in todo.keep if verdict.reason is Reason.OVER_LIMIT}
        may_go = over | {deletion.manifest.digest for deletion in todo.delete}
        while True:
            going = {deletion.manifest.digest for deletion in todo.delete}
            judged = {deletion.manifest.digest for deletion in todo.delete if deletion.counts}
            spared = self._staying | (judged - may_go) | (set() if only is None else going - only)
            self.progress.deleting(len(todo.delete))
            result = execute(todo, self.client, conditions, pool, self.workers, spared=spared)
            self._add(result)
            is_over = result.error or result.left or only is not None or not self._may_pass_over(result)
            if is_over or not conditions.may_begin():
                return todo, result
            gone = {deletion.manifest.digest for deletion in result.deleted}
            left = (manifest for manifest in basis.listing.manifests.values() if manifest.digest not in gone)
            basis = msgspec.structs.replace(basis, listing=Listing.of(todo.repository, left))
            todo = self._decide(basis)

    @property
    def _has_acted(self) -> bool:
        return bool(self.report.deleted or self.report.refused or self.report.failed)

    def _facts(self, verdict: Verdict) -> dict[str, object]:
        return {"repository": str(self.report.repository), **verdict.facts()}

    def _why_not_again(self, result: Result) -> CleanerError | None:
        """Return what stands against another plan for what is left of this one."""
        left = f"{self.report.repository}: {len(result.left)} deletions are left"
        if result.left and self.clock() >= self.exchange.deadline:
            return TimeLimitReached(f"{left}, and time is over")
        came_through = result.deleted or result.refused or result.failed or not result.left
        self._fruitless = 0 if came_through else self._fruitless + 1
        # Somebody who always asks for more patience than a plan has would be asked for ever.
        return (
            Unavailable(f"{left}, and none comes through")
            if self._fruitless == self._transport.timing.attempts
            else None
        )

    def _may_pass_over(self, result: Result) -> bool:
        """Whether others may take the places of those that ``max_deletions`` let go, and that did not go."""
        limit = self._policy.max_deletions
        is_short = bool(result.refused or result.failed or result.stayed)
        return limit is not None and is_short and self._images_gone < limit

    def _reported_by(self, each: Map) -> Map:
        def reporting(read: Callable[[Manifest], Links | None], unread: Iterable[Manifest]) -> Iterable[Links | None]:
            def one(manifest: Manifest) -> Links | None:
                links = read(manifest)
                self.progress.read()
                return links

            manifests = tuple(unread)
            self.progress.reading(len(manifests))
            return each(one, manifests)

        return reporting

    def _preview(self, todo: Plan) -> None:
        for deletion in reversed(todo.delete):
            logger.info("manifest would be deleted", extra=self._facts(deletion.verdict))
            self._went(deletion)

    def _add(self, result: Result) -> None:
        for deletion in result.deleted:
            self._went(deletion)
        # They must not push others out in the next plan, of this message delivered again for one.
        self._stripped.update(one.manifest.digest for one in result.stripped)
        self._undeletable.update(one.manifest.digest for one in (*result.refused, *result.failed))
        self.report.refused += len(result.refused)
        self.report.failed += len(result.failed)
        self.report.kept -= len(result.refused) + len(result.failed)
        # They stay for this run, or it would ask for them again and again.
        self._staying.update(d.manifest.digest for d in (*result.refused, *result.failed, *result.stayed))

    def _went(self, deletion: Deletion) -> None:
        self.report.deleted += 1
        self.report.kept -= 1
        self.report.size += deletion.manifest.size
        self.report.reasons[deletion.verdict.reason.value] += 1
        self._images_gone += deletion.counts

    def _finish(self, keep: Collection[Verdict]) -> Report:
        """Complete the report with what the last plan keeps, and log it."""
        self.report.reasons.update(
            verdict.reason.value for verdict in keep if verdict.manifest.digest not in self._undeletable
        )
        if logger.isEnabledFor(logging.DEBUG):
            for verdict in keep:
                logger.debug("manifest kept", extra=self._facts(verdict))
        self.report.requests = self.exchange.requests
        self.report.seconds = self.clock() - self._started
        logger.info("prune finished", extra=self.report.facts())
        return self.report


class _Conditions:
    """What the executor asks again while the plan of ``listing`` is carried out."""

    def __init__(self, run: Run, listing: Listing) -> None:
        self._run = run
        self._refusals = Refusals(run.client, listing, run.workers)
        self._clock = run.clock
        self._until = min(run.clock() + run.plan_max_age_s, run.exchange.deadline)

    def may_begin(self) -> bool:
        """Whether the plan is young enough, and there is time."""
        return self._clock() < self._until and not self._run.is_stopped

    def may_repeat(self) -> bool:
        """Whether the plan is young enough, and there is time."""
        return self._clock() < self._until

    def ended(self, deletion: Deletion, end: End) -> None:
        """Pass on how ``deletion`` ended."""
        self._run.progress.ended(deletion, end)

    def wanted(self) -> AbstractSet[Digest]:
        """Return the digests that messages have named by now."""
        return self._run.wanted()

    def standing_against(
        self, subjects: AbstractSet[Digest], going: AbstractSet[Digest], stripped: AbstractSet[Digest]
    ) -> Mapping[Digest, AbstractSet[Digest]]:
        """Return the referrers that go before each of ``subjects``, if nothing else stands against it."""
        return self._refusals.standing_against(subjects, going, stripped)
