"""Makes plans for the names that a command was given: of one repository, or of all that are under a root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from operator import attrgetter
from typing import TypeVar

from cleaner.cli.advice import advice
from cleaner.cli.progress import Bar, Follower, Survey
from cleaner.cli.session import Session
from cleaner.core.errors import CleanerError, NoCredentials, PermissionDenied, RepositoryNotFound
from cleaner.core.reference import Repository
from cleaner.engine.report import Progress
from cleaner.inputs.names import Target
from cleaner.inputs.policies import Policies
from cleaner.views.images import Planned, Result

_NOT_FOUND = "no such repository"

_T = TypeVar("_T")
_R = TypeVar("_R")


class Planner:
    """Makes plans as of one moment, ``now``; ``pool`` sends the requests for documents."""

    def __init__(self, session: Session, policies: Policies, pool: ThreadPoolExecutor, now: datetime) -> None:
        self._session = session
        self._policies = policies
        self._pool = pool
        self._now = now

    def plan(self, repository: Repository, progress: Progress | None = None) -> Result:
        """Return the plan for a repository, or the note that there is no policy or no such repository.

        Raises:
            CleanerError: The plan cannot be made.
        """
        policy = self._policies.choose(repository)
        if policy is None:
            return Result(repository, note=self._policies.no_match)
        run = self._session.run(repository, policy, self._now, dry_run=True, progress=progress)
        try:
            todo, listing = run.plan(self._pool.map)
        except RepositoryNotFound:
            return Result(repository, note=_NOT_FOUND)
        running = self._session.running.get(repository)
        return Result(repository, Planned(todo, listing, policy, self._policies.where(policy), self._now, running))

    def resolve(self, target: Target, progress: Progress) -> Result | tuple[Repository, ...]:
        """Return the plan for a name that has manifests, else the repositories under it, if there are any.

        Raises:
            CleanerError: Neither is known.
        """
        repository = target.repository
        if target.is_root:
            try:
                return self._session.find(repository, self._policies)
            except RepositoryNotFound:
                return Result(repository, note=_NOT_FOUND)
        if self._policies.choose(repository):
            result = self.plan(repository, progress)
            if result.planned and result.planned.listing.manifests:
                return result
        else:
            result = self.plan(repository)
            globs = [glob for policy in self._policies.policies for glob in policy.repositories]
            is_above = any(glob.matches_below(str(repository)) for glob in globs)
            if not is_above or self._session.has_manifests(repository):
                return result
        try:
            return self._session.find(repository, self._policies) or result
        except (RepositoryNotFound, PermissionDenied):
            # The name is a repository's as well, and has a result already.
            return result

    def resolve_all(self, targets: Sequence[Target], bar: Bar) -> list[Result | tuple[Repository, ...]]:
        """Return what ``resolve`` returns for each target; of several, an error is the result of its target.

        Raises:
            CleanerError: The only target cannot be resolved, or there are no credentials.
        """
        if len(targets) == 1:
            return [self.resolve(targets[0], Follower(bar))]
        return self._side_by_side(targets, self.resolve, attrgetter("repository"), bar)

    def survey(self, repositories: Iterable[Repository], bar: Bar) -> list[Result]:
        """Return a result for each repository, planned side by side.

        Raises:
            NoCredentials: No repository can be read.
        """
        return self._side_by_side(tuple(repositories), self.plan, lambda repository: repository, bar)

    def _side_by_side(
        self, items: Sequence[_T], work: Callable[[_T, Progress], _R], name: Callable[[_T], Repository], bar: Bar
    ) -> list[_R | Result]:
        progress = Survey(bar, len(items))

        def one(item: _T) -> _R | Result:
            try:
                return work(item, progress)
            except NoCredentials:
                raise
            except CleanerError as error:
                return Result(name(item), error=advice(error))
            finally:
                progress.planned()

        # Not the pool that reads documents: its threads may not wait for one another.
        pool = ThreadPoolExecutor(self._session.workers, thread_name_prefix="planner")
        try:
            return list(pool.map(one, items))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
