"""What a process of the command line needs to talk to registries, the same parts as the function's; the planner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from cleaner.cli.options import Options
from cleaner.cli.progress import Bar, Follower, bars
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import (
    CleanerError,
    NoCredentials,
    PermissionDenied,
    RepositoryNotFound,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.policy import Policy
from cleaner.core.reference import Repository
from cleaner.core.rules import Running
from cleaner.engine.report import Progress
from cleaner.engine.run import Run, make_histories
from cleaner.engine.sweep import find_repositories
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.inventory import Inventory
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget, Response, RetryableError, Transport
from cleaner.inputs.names import Target
from cleaner.inputs.policies import Policies
from cleaner.views.images import Planned, Result

_NOT_FOUND = "no such repository"
# A shorter wait is not worth a word.
_SHOWN_S = 1.0
# Others of requests' have a cause that says more: a certificate, a proxy.
_UNCONNECTED = (requests.ConnectionError, requests.ConnectTimeout)
_LISTINGS = ("/tags/list", "/versions")

_T = TypeVar("_T")
_R = TypeVar("_R")


class BoundedTransport(Transport):
    """Sends at most ``workers`` requests of all runs together.

    ``waiting`` says what is waited for: a further page of a listing, or a retry.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers, sleep=self._wait)
        self.waiting = ""
        self._slots = threading.BoundedSemaphore(workers)
        self._latest = threading.local()
        # By path: how a listing begins, and the number of its latest page.
        self._pages: dict[str, tuple[str, int]] = {}

    def once(
        self, budget: RequestBudget, method: str, url: str, headers: Mapping[str, str], *, max_bytes: int
    ) -> Response:
        """Send a request when there is room for it."""
        self._latest.failure = ""
        self.waiting = self._page(url)
        with self._slots:
            try:
                return super().once(budget, method, url, headers, max_bytes=max_bytes)
            except RetryableError as error:
                self._latest.failure = str(error).rpartition(": ")[2]
                raise

    def _page(self, url: str) -> str:
        """Return the page of a listing that ``url`` is; empty for the first one, and for anything else."""
        path, _, query = url.partition("?")
        if not path.endswith(_LISTINGS):
            return ""
        first, number = self._pages.get(path, (query, 0))
        number = 1 if query == first else number + 1
        self._pages[path] = first, number
        return f"page {number}" if number > 1 else ""

    def _wait(self, seconds: float) -> None:
        failure = getattr(self._latest, "failure", "")
        if failure and seconds >= _SHOWN_S:
            self.waiting = f"retrying after {failure} in {seconds:.0f} s"
        time.sleep(seconds)
        self.waiting = ""


class Session:
    """Connections, credentials and settings, by the options of a command."""

    def __init__(self, options: Options) -> None:
        self.workers = options.workers
        self._time_limit_s = options.time_limit
        self._insecure = options.insecure
        self._transport = BoundedTransport(self.workers)
        self.clock = self._transport.clock
        credentials = GoogleCredentials()
        self._rest = ArtifactRegistry(GoogleApi(self._transport, credentials, options.artifact_registry_url))
        self._registry = Registry(self._transport, credentials.access_token, self._insecure, lambda: self._rest)
        self._histories = make_histories()
        self._inventory = None
        if options.running_scopes:
            api = GoogleApi(self._transport, credentials, options.cloud_asset_url)
            self._inventory = Inventory(api, options.running_scopes, self.clock)
        # What is deployed, by repository; nothing where nobody was asked.
        self.asks_running = self._inventory is not None
        self.running: dict[Repository, Running] = {}
        # What cannot be a repository and was found under a root, by name: what is wrong with it.
        self.skipped: dict[str, str] = {}
        self.begin()

    @property
    def waiting(self) -> str:
        """What a retry waits for; empty if nothing does."""
        return self._transport.waiting

    def begin(self) -> None:
        """Let the time limit count from now."""
        self.deadline = self.clock() + self._time_limit_s

    def find(self, root: Repository, policies: Policies) -> tuple[Repository, ...]:
        """Return the repositories at or under ``root`` that a policy matches, sorted by name; add to ``skipped``.

        Raises:
            CleanerError: They are not known completely.
        """
        budget = RequestBudget(self.deadline)
        return find_repositories(
            root, policies.policies, self._registry, self._rest, budget, self.skipped.__setitem__
        )

    def has_manifests(self, repository: Repository) -> bool:
        """Return whether a repository has manifests.

        Raises:
            CleanerError: It cannot be known.
        """
        client = self._registry.open(repository, Access.READ, RequestBudget(self.deadline))
        try:
            return bool(client.list_manifests().manifests)
        except RepositoryNotFound:
            return False

    def run(
        self,
        repository: Repository,
        policy: Policy,
        now: datetime,
        *,
        dry_run: bool,
        progress: Progress | None = None,
    ) -> Run:
        """Return a run that judges as of ``now``, so that two of them agree."""
        return Run(
            self._registry,
            self._histories,
            repository,
            policy,
            dry_run=dry_run,
            workers=self.workers,
            deadline=self.deadline,
            ask_running=self._ask if self._inventory else None,
            progress=progress,
            now=lambda: now,
        )

    def _ask(self, repository: Repository, budget: RequestBudget) -> Running:
        assert self._inventory is not None  # noqa: S101  # nobody else hands this out
        self.running[repository] = self._inventory.ask(repository, budget)
        return self.running[repository]


class Planner:
    """Makes plans as of one moment, ``now``; ``pool`` reads documents, and ``bar`` shows the progress."""

    def __init__(
        self, session: Session, policies: Policies, pool: ThreadPoolExecutor, now: datetime, bar: Bar
    ) -> None:
        self._session = session
        self._policies = policies
        self._pool = pool
        self._now = now
        self._bar = bar

    def plan(self, repositories: Iterable[Repository]) -> list[Result]:
        """Return a result for each repository, planned side by side.

        Raises:
            NoCredentials: No repository can be read.
        """
        return self._side_by_side(tuple(repositories), self._plan, lambda repository: repository)

    def resolve(self, targets: Sequence[Target]) -> list[Result | tuple[Repository, ...]]:
        """Return for each target the plan for a name that has manifests, else the repositories under it.

        Raises:
            NoCredentials: No target can be read.
        """
        return self._side_by_side(targets, self._resolve, attrgetter("repository"))

    def _plan(self, repository: Repository, progress: Progress | None = None) -> Result:
        """Return the plan for a repository, or the note that there is no policy or no such repository.

        Raises:
            CleanerError: The plan cannot be made.
        """
        policy = self._policies.choose(repository)
        if policy is None:
            return Result(repository, note=self._policies.no_match)
        session, where = self._session, self._policies.where(policy)
        run = session.run(repository, policy, self._now, dry_run=True, progress=progress)
        try:
            todo, listing = run.plan(self._pool.map)
        except RepositoryNotFound:
            return Result(repository, note=_NOT_FOUND)
        running = session.running.get(repository)
        planned = Planned(todo, listing, policy, where, self._now, running, asks_running=session.asks_running)
        return Result(repository, planned)

    def _resolve(self, target: Target, progress: Progress) -> Result | tuple[Repository, ...]:
        """Return the plan for a name that has manifests, else the repositories under it, if there are any.

        Raises:
            CleanerError: Neither is known.
        """
        repository, result = target.repository, Result(target.repository, note=_NOT_FOUND)
        if not target.is_root:
            has_policy = self._policies.choose(repository) is not None
            result = self._plan(repository, progress)
            if result.planned and result.planned.listing.manifests:
                return result
            globs = [glob for policy in self._policies.policies for glob in policy.repositories]
            is_above = has_policy or any(glob.matches_below(str(repository)) for glob in globs)
            if not is_above or (not has_policy and self._session.has_manifests(repository)):
                return result
        try:
            found = self._session.find(repository, self._policies)
        except RepositoryNotFound:
            return result
        return found if found or target.is_root else result

    def _side_by_side(
        self, items: Sequence[_T], work: Callable[[_T, Progress], _R], name: Callable[[_T], Repository]
    ) -> list[_R | Result]:
        progress = Follower(self._bar, repositories=len(items) if len(items) > 1 else 0)

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


@contextmanager
def planning(session: Session, policies: Policies, terminal: Terminal) -> Iterator[Planner]:
    """Return a planner; an interrupt does not wait for its requests."""
    pool = ThreadPoolExecutor(session.workers, thread_name_prefix="reader")
    try:
        with bars(terminal, lambda: session.waiting) as add_bar:
            yield Planner(session, policies, pool, datetime.now(UTC), add_bar())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def advice(error: CleanerError) -> str:
    """Return an error, and what to do about it, in one sentence."""
    match error:
        case PermissionDenied():
            return f"{error}: the permission that is likely missing is {error.permission}"
        case NoCredentials():
            return f"{error}; run: gcloud auth application-default login"
        case TimeLimitReached():
            return f"{error}: run the same command again, or use a longer --time-limit"
        case Unavailable():
            return _without_response(error)
        case _:
            return str(error)


def _without_response(error: Unavailable) -> str:
    """Return an error after several attempts, and whether to check the connection or to wait."""
    text, check = f"{error}, after several attempts", "check the host's name and the network"
    match error.__cause__:
        case RetryableError(__cause__=requests.ConnectionError() as cause) if type(cause) in _UNCONNECTED:
            _, url, *_ = str(error).split(" ")
            host = urlsplit(url.removesuffix(":")).netloc
            return f"no connection to {host}, after several attempts: {check}"
        case TimeoutError() | RetryableError(__cause__=Exception()):
            return f"{text}: {check}, or try again later"
        case _:
            return f"{text}: try again later"
