"""What a process of the command line needs to talk to registries: the same parts as the function's."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import msgspec

from cleaner.cli.options import Options
from cleaner.cli.policies import Policies
from cleaner.core.errors import HostNotAllowed, InvalidReference, RepositoryNotFound
from cleaner.core.policy import Policy
from cleaner.core.reference import GCR_HOSTS, Repository, package_name, parse_repository, project_and_location
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
from cleaner.settings import parse_insecure_registries

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


class Target(msgspec.Struct, frozen=True):
    """A name that was given: a repository, or if ``is_root`` that of a root; else it may be either."""

    repository: Repository
    is_root: bool


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
        self.begin()

    @property
    def waiting(self) -> str:
        """What a retry waits for; empty if nothing does."""
        return self._transport.waiting

    def begin(self) -> None:
        """Let the time limit count from now."""
        self.deadline = self.clock() + self._time_limit_s

    def parse(self, name: str) -> Repository:
        """Return the repository of images that ``name`` names.

        Raises:
            InvalidReference: It is outside the grammar, its host is not allowed, or it is too short to name an image;
                the message says what would be right.
        """
        repository = self._parse(name)
        if _ends_before_image(repository):
            raise InvalidReference(
                f"{name!a} is not an image; an image is {_spelled(repository, '/IMAGE')};"
                " plan and sweep accept a root"
            )
        return repository

    def target(self, name: str) -> Target:
        """Return what ``name`` names: with a slash at its end, or if it ends before the image, a root.

        Raises:
            InvalidReference: As ``parse``, but a name may end before the image.
        """
        root = self._parse(name.removesuffix("/"))
        # Behind a domain that no project follows nothing stands.
        package = package_name(root)
        if root.is_google and not (
            project_and_location(root) if package is None else not package.project.endswith(":")
        ):
            raise InvalidReference(
                f"{name!a} is not a root; a root is {_spelled(root, is_root=True)}, or a path under it"
            )
        return Target(root, name.endswith("/") or _ends_before_image(root))

    def find(self, root: Repository, policies: Policies) -> tuple[Repository, ...]:
        """Return the repositories at or under ``root`` that a policy matches, sorted by name.

        Raises:
            CleanerError: They are not known completely.
        """
        budget = RequestBudget(self.deadline)
        return find_repositories(root, policies.policies, self._registry, self._rest, budget)

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

    def _parse(self, name: str) -> Repository:
        try:
            return parse_repository(name, self._insecure)
        except InvalidReference as error:
            raise InvalidReference(f"{name!a}: {error}: {_hint(name, error)}") from error

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


def _ends_before_image(repository: Repository) -> bool:
    package = package_name(repository)
    return repository.is_google and not (package and package.package)


def _spelled(repository: Repository, image: str = "", *, is_root: bool = False) -> str:
    """Return how a whole name on the host of ``repository`` is spelled, up to the place of images and ``image``."""
    project = "DOMAIN/PROJECT" if "." in repository.path.partition("/")[0] else "PROJECT"
    place = "" if repository.host in GCR_HOSTS else "[/REPOSITORY]" if is_root else "/REPOSITORY"
    return f"{repository.host}/{project}{place}{image}"


def _hint(name: str, error: InvalidReference) -> str:
    """Return what would be right in the place of ``name``."""
    if not isinstance(error, HostNotAllowed):
        return "write HOST/PATH in lower case, without tag or digest"
    if scheme := re.match("[a-z]+://", name):
        return f"leave out {scheme[0]}"
    host, slash, _ = name.partition("/")
    # Without a slash what follows a colon is a tag.
    if slash and host in ("localhost", "127.0.0.1"):
        return f"write {host}:PORT"
    if slash and _is_insecure(host):
        return f"for a registry over plain HTTP add --insecure {host}"
    return "use gcr.io, us.gcr.io, eu.gcr.io, asia.gcr.io, LOCATION-docker.pkg.dev, or a host of --insecure"


def _is_insecure(host: str) -> bool:
    """Whether ``--insecure`` would take it."""
    try:
        return parse_insecure_registries(host) == {host}
    except ValueError:
        return False


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
