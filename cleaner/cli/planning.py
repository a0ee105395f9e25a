"""Makes plans for the names that a command was given: of one repository, or of all that are under a root."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from cleaner.cli.advice import advice
from cleaner.cli.policies import Policies
from cleaner.cli.progress import Bar, Follower, Survey
from cleaner.cli.session import Session, Target
from cleaner.cli.view import Planned, Result
from cleaner.core.errors import CleanerError, NoCredentials, PermissionDenied, RepositoryNotFound
from cleaner.core.reference import Repository
from cleaner.engine.report import Progress


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
            note = f"no policy of {self._policies.name} matches; nothing is deleted"
            return Result(repository, note=note)
        run = self._session.run(repository, policy, self._now, dry_run=True, progress=progress)
        try:
            todo, listing = run.plan(self._pool.map)
        except RepositoryNotFound:
            return Result(repository, note="no such repository")
        running = self._session.running.get(repository)
        return Result(repository, Planned(todo, listing, policy, self._policies.where(policy), self._now, running))

    def resolve(self, target: Target, bar: Bar) -> Result | tuple[Repository, ...]:
        """Return the plan for a name that has manifests, else the repositories under it, if there are any.

        Raises:
            CleanerError: Neither is known.
        """
        if target.is_root:
            return self._session.find(target.repository, self._policies)
        repository = target.repository
        if self._policies.choose(repository):
            result = self.plan(repository, Follower(bar))
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

    def survey(self, repositories: Iterable[Repository], bar: Bar) -> list[Result]:
        """Return a result for each repository, planned side by side.

        Raises:
            NoCredentials: No repository can be read.
        """
        names = tuple(repositories)
        progress = Survey(bar, len(names))

        def one(repository: Repository) -> Result:
            try:
                return self.plan(repository, progress)
            except NoCredentials:
                raise
            except CleanerError as error:
                return Result(repository, error=advice(error))
            finally:
                progress.planned()

        # Not the pool that reads documents: its threads may not wait for one another.
        pool = ThreadPoolExecutor(self._session.workers, thread_name_prefix="planner")
        try:
            return list(pool.map(one, names))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
