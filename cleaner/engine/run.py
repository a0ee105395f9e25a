"""One run on one repository: list, plan, execute, and again until a plan leaves nothing to do.

A plan is short-lived.  What contradicts it, or outlives it, ends it, and the repository is listed and planned again.
The run's history lets that listing count as if nothing had been deleted yet, so a plan may end between any two
requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from cleaner.core.errors import CleanerError, IncompleteListing, KeptManifestGone, TimeLimitReached, Unavailable
from cleaner.core.graph import Graph, Kind
from cleaner.core.history import History
from cleaner.core.manifest import Links, Listing, Manifest
from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.plan import Plan, Verdict, plan
from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import NOTHING_RUNNING, Reason, Running
from cleaner.core.steps import Step
from cleaner.core.walk import reachable
from cleaner.engine.executor import Ending, Outcome, Result, TagDeletions, execute
from cleaner.engine.report import Progress, Report, Reporter
from cleaner.google.lru_cache import LruCache
from cleaner.google.registry.client import Registry
from cleaner.google.registry.documents import Map
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget

# By repository, what runs that ended early leave to the next.
Histories = LruCache[Repository, History]
# How many manifests a process remembers so.
_HISTORIES_MAX = 100_000

# Returns what is deployed, as far as it concerns a repository.
AskRunning = Callable[[Repository, RequestBudget], Running]


def make_histories() -> Histories:
    """Return what a process keeps for its later runs."""
    return LruCache(_HISTORIES_MAX, lambda history: 1 + len(history) + len(history.referrers))


class _Listed(msgspec.Struct, frozen=True):
    """A listing as the registry gives it, and as it is judged.

    ``began`` and ``ended`` are when it was made, in seconds of the transport's clock.
    """

    given: Listing
    listing: Listing
    began: float
    ended: float


class Run:
    """One run on one repository; made for it and used once.

    ``deadline`` is in seconds of the registry's transport clock: after it no image is begun.  ``named`` returns what
    messages name, those that arrive during the run too.  ``ask_running`` is None where what is
    deployed is not checked.  ``now`` returns the time, aware UTC.
    """

    def __init__(
        self,
        registry: Registry,
        histories: Histories,
        repository: Repository,
        policy: Policy,
        *,
        dry_run: bool,
        workers: int,
        deadline: float,
        named: Callable[[], Named] = lambda: NOTHING_NAMED,
        ask_running: AskRunning | None = None,
        progress: Progress | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._budget = RequestBudget(deadline)
        self._client = registry.open(repository, Access.READ if dry_run else Access.DELETE, self._budget)
        self._transport = registry.transport
        self._clock = registry.transport.clock
        self._timing = registry.transport.timing
        self._histories = histories
        self._history = (histories.get(repository) or History()).for_next_run()
        self._policy = policy
        self._workers = workers
        self._named = named
        self._ask_running = ask_running
        self._progress = progress or Progress()
        self._now = now
        self._reporter = Reporter(Report(repository, dry_run), self._history, self._progress)
        self._started = self._clock()
        # The end of the run's first listing, and the untagged images in it.
        self._first: tuple[float, AbstractSet[Digest]] | None = None
        self._tag_deletions = TagDeletions()
        self._fruitless_plans = 0
        self._is_stopped = False

    @property
    def report(self) -> Report:
        """What was done so far; complete once ``prune`` has ended."""
        return self._reporter.report

    def stop(self) -> None:
        """Let no further image be begun; what was begun is finished."""
        self._is_stopped = True

    def prune(self, only: AbstractSet[Digest] | None = None, since: Listing | None = None) -> Report:
        """Carry out plans until there is nothing left to do, and return what was done; the log has it too.

        With ``only`` nothing else is deleted, whatever a plan says.  What has got a tag since the listing ``since``
        was made is kept.

        Raises:
            TimeLimitReached: The deadline came first; what was done has been logged.
            KeptManifestGone: The registry deleted a kept child with its index, in this run or an earlier one of the
                process.
            CleanerError: A reading failed, and nothing was deleted on its account; or a deletion did.
        """
        todo = listed = None
        if self._history.fault and not self.report.dry_run:
            raise self._history.fault
        self._history.before = since
        with ThreadPoolExecutor(self._workers, thread_name_prefix="worker") as pool:
            try:
                while True:
                    todo, listed = self._prepare(pool.map, only)
                    if self.report.dry_run or not todo.steps:
                        break
                    if not self._is_to_go_on(todo, self._execute(todo, listed, pool)):
                        break
            except CleanerError:
                if todo is not None:
                    self._finish(todo)
                raise
        self._hand_on(todo, listed.listing)
        return self._finish(todo)

    def plan(self, each: Map) -> tuple[Plan, Listing]:
        """Return a plan for the repository as it is now, and the listing it rests on; documents are read by ``each``.

        Raises:
            CleanerError: The listing, or what is deployed, is not known completely.
        """
        listed = self._list(each)
        return self._plan(listed, None, None), listed.listing

    def _prepare(self, each: Map, only: AbstractSet[Digest] | None) -> tuple[Plan, _Listed]:
        """Return a plan that can be carried out, and the listing it rests on.

        Another process may be between the parts of an image, which then look like untagged images.  So two listings
        have to agree on what is untagged before an image is deleted because others are newer.
        """
        while True:
            listed = self._list(each)
            untagged: AbstractSet[Digest] | None = None
            if self._first and listed.began >= self._first[0] + self._timing.relist_delay:
                untagged = self._first[1]
            todo = self._plan(listed, untagged, only)
            self._history.before = listed.given if todo.steps else None
            self._first = self._first or (listed.ended, todo.untagged)
            if self.report.dry_run or untagged is not None or not todo.is_by_count:
                return todo, listed
            self._wait_until(self._first[0] + self._timing.relist_delay)

    def _list(self, each: Map) -> _Listed:
        """Return the repository's listing with its documents; list again if an index no longer exists once read.

        Raises:
            IncompleteListing: The registry goes on listing an index that it does not have, so that nobody knows what
                its children are.
            CleanerError: The listing or a document cannot be read.
        """
        missing: AbstractSet[Digest] = frozenset()
        for _ in range(self._timing.attempts):
            began = self._clock()
            found = self._client.list_manifests()
            ended = self._clock()
            also = self._history.referrers | self._history.arrived(found)
            deleted = self._history.deleted.keys()
            listing = self._client.read_documents(found, self._counted(each), also=also, absent=deleted)
            vanished = found.manifests.keys() - listing.manifests.keys()
            before, missing = missing, {digest for digest in vanished if found.manifests[digest].is_index}
            self._history.observe(listing)
            if not missing:
                self._progress.listed(listing)
                return _Listed(listing, self._history.restore(listing), began, ended)
            self._history.before = listing
            if not missing.isdisjoint(before):
                self._wait_until(ended + self._timing.relist_delay)
        raise IncompleteListing(f"{found.repository}: {min(missing)} is listed, and the registry does not have it")

    def _plan(self, listed: _Listed, untagged: AbstractSet[Digest] | None, only: AbstractSet[Digest] | None) -> Plan:
        now = self._now()

        def decide(running: Running) -> Plan:
            return plan(
                listed.listing,
                self._policy,
                now,
                named=self._named(),
                running=running,
                history=self._history,
                untagged_before=untagged,
                only=only,
            )

        todo = decide(NOTHING_RUNNING)
        if todo.delete and self._ask_running:
            todo = decide(self._ask_running(todo.repository, self._budget))
        return todo

    def _execute(self, todo: Plan, listed: _Listed, pool: ThreadPoolExecutor) -> Result:
        verdicts = {verdict.manifest.digest: verdict for verdict in todo.delete}

        def note(ending: Ending) -> None:
            self._remember(ending, verdicts[ending.step.manifest.digest])
            self._reporter.add(ending)

        planned_at = self._clock()
        self._reporter.begin(todo)
        try:
            result = execute(
                todo.steps,
                self._client,
                _Guard(
                    todo,
                    self._history,
                    self._named,
                    lambda step: self._may_begin(step, planned_at),
                    lambda step: self._is_late(step, listed),
                ),
                pool,
                self._workers,
                on_ending=note,
                tag_deletions=self._tag_deletions,
            )
            if isinstance(result.error, KeptManifestGone):
                self._history.fault = result.error
        finally:
            # The registry may have refused one for a referrer by tag, whose document was not read.
            self._history.referrers |= _referrers_by_tag(listed.listing, self._history.refused)
            # However it ended, the next run of this process has to know.
            self._histories.put(todo.repository, self._history.for_next_run())
        immutable = self._tag_deletions.immutable
        if immutable and not self._history.has_immutable_tags:
            self._history.has_immutable_tags = True
            self._reporter.add_immutable_tags(immutable)
        return result

    def _remember(self, ending: Ending, verdict: Verdict) -> None:
        """Note in the history how a step ended."""
        history, step, digest = self._history, ending.step, ending.step.manifest.digest
        history.add_lost_tags(digest, {*ending.tags} | {tag for tag in step.tags if tag == ending.doubtful})
        is_deleted = step.deletes_manifest and ending.outcome is Outcome.DELETED
        if is_deleted or ending.doubtful == digest:
            history.add_deleted(step.manifest, counts=verdict.counts, is_doubtful=not is_deleted)
        if ending.outcome is Outcome.REFUSED and digest not in history.refused:
            history.refused.add(digest)
        elif ending.outcome not in (Outcome.DELETED, Outcome.LEFT) and not ending.has_moved_tag:
            history.undeletable.add(digest)

    def _is_to_go_on(self, todo: Plan, result: Result) -> bool:
        """Return whether the repository is to be planned again after a plan that ended with ``result``.

        Raises:
            CleanerError: The run cannot continue, and another one is needed.
        """
        if result.error:
            raise result.error
        if self._is_stopped:
            return False
        left = f"{todo.repository}: {len(todo.steps) - len(result.endings)} deletions are left"
        is_interrupted = result.is_cut or result.is_contradicted
        if is_interrupted and self._clock() >= self._budget.deadline:
            raise TimeLimitReached(f"{left}, and the time limit is reached")
        if is_interrupted and not (result.endings or result.is_contradicted):
            raise TimeLimitReached(f"{left}, and none could begin in time")
        has_deleted = any(ending.outcome is Outcome.DELETED for ending in result.endings)
        self._fruitless_plans = 0 if has_deleted else self._fruitless_plans + 1
        if self._fruitless_plans == self._timing.attempts:
            raise Unavailable(f"{left}, and {self._fruitless_plans} plans in a row deleted nothing")
        is_undone = any(ending.outcome in (Outcome.REFUSED, Outcome.FAILED) for ending in result.endings)
        return is_interrupted or (is_undone and self._clock() < self._budget.deadline)

    def _is_late(self, step: Step, listed: _Listed) -> bool:
        return step.needs_recent_listing and self._clock() >= listed.began + self._timing.referrers_max_age

    def _may_begin(self, step: Step, planned_at: float) -> bool:
        now = self._clock()
        if step.after or step.is_begun:
            # Soon after, the platform ends the process.
            return now < self._budget.deadline + self._timing.grace
        end = min(planned_at + self._timing.plan_max_age, self._budget.deadline)
        return now < end and not self._is_stopped

    def _hand_on(self, todo: Plan, listing: Listing) -> None:
        """Leave to the next run to what the parts belonged that are left of begun images, and nothing else.

        What was pushed meanwhile, or has a tag, is judged by itself.
        """
        history = self._history
        if history:
            graph = Graph.of(listing)
            begun = history.deleted.keys() | history.lost_tags.keys()
            parts = reachable(begun, lambda digest: (*graph.parts(digest), *graph.referrers.get(digest, ())))
            there = [listing.manifests[digest] for digest in parts if digest not in history.deleted]
            left = [
                one.digest
                for one in there
                if history.tags_left(one).isdisjoint(graph.ordinary_tags(one))
                and not (one.digest in todo.kept and todo.kept[one.digest].reason is Reason.JUST_PUSHED)
            ]
            history = history.about(reachable(left, graph.owners))
        if history:
            self._histories.put(listing.repository, history)
        else:
            self._histories.pop(listing.repository)

    def _counted(self, each: Map) -> Map:
        """Return ``each``, with the documents that it reads counted as progress."""

        def counted(read: Callable[[Manifest], Links | None], unread: Iterable[Manifest]) -> Iterable[Links | None]:
            def one(manifest: Manifest) -> Links | None:
                links = read(manifest)
                self._progress.read()
                return links

            manifests = tuple(unread)
            self._progress.reading(len(manifests))
            return each(one, manifests)

        return counted

    def _wait_until(self, moment: float) -> None:
        while self._clock() < min(moment, self._budget.deadline):
            self._transport.pause(max(moment - self._clock(), 0.001), self._budget)

    def _finish(self, todo: Plan) -> Report:
        if self.report.dry_run:
            self._reporter.preview(todo)
        return self._reporter.finish(todo, self._budget.requests, self._clock() - self._started)


class _Guard:
    """What contradicts a plan from outside the registry, or ends it."""

    def __init__(
        self,
        todo: Plan,
        history: History,
        named: Callable[[], Named],
        may_begin: Callable[[Step], bool],
        is_late: Callable[[Step], bool],
    ) -> None:
        self._named = named
        manifests = [verdict.manifest for verdict in todo.delete]
        self._digests = {manifest.digest for manifest in manifests}
        # What has a tag by now that was deleted before is another manifest.
        self._tags = {tag for manifest in manifests for tag in history.tags_left(manifest)}
        self.may_begin = may_begin
        self.is_late = is_late

    def is_named(self, digest: Digest, tags: Collection[Tag]) -> bool:
        """Return whether a message names a manifest, or one of the ``tags`` that it has, by now."""
        named = self._named()
        return digest in named.digests or not named.tags.isdisjoint(tags)

    def is_contradicted(self) -> bool:
        """Return whether a message names anything that the plan deletes."""
        named = self._named()
        return not (named.digests.isdisjoint(self._digests) and named.tags.isdisjoint(self._tags))


def _referrers_by_tag(listing: Listing, refused: AbstractSet[Digest]) -> set[Digest]:
    """Return the referrers by tag of ``refused`` and of what these belong to, and so on."""
    if not refused:
        return set()
    graph = Graph.of(listing)
    connected = (listing.manifests[digest] for digest in graph.closure(refused & listing.manifests.keys()))
    return {one.digest for one in connected if one.tags and graph.kind(one) is not Kind.TAGGED_IMAGE}
