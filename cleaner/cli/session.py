"""What a process of the command line needs to talk to registries: the same parts as the function's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from cleaner.cli.options import Options
from cleaner.core.errors import RepositoryNotFound
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
from cleaner.inputs.policies import Policies

# A shorter wait is not worth a word.
_SHOWN_S = 1.0
_LISTINGS = ("/tags/list", "/versions")


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


@contextmanager
def pool_of(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Return a pool that an interrupt does not wait for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reader")
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
