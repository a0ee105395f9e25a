"""What a process of the command line needs to talk to registries: the same parts as the function's."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from cleaner.core.errors import HostNotAllowed, InvalidReference
from cleaner.core.manifest import Listing
from cleaner.core.plan import Plan
from cleaner.core.policy import Policy
from cleaner.core.reference import GCR_HOSTS, Repository, package_name, parse_repository
from cleaner.core.rules import Running
from cleaner.engine.report import Progress
from cleaner.engine.run import Run, make_histories
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.inventory import Inventory
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.transport import RequestBudget, Transport
from cleaner.settings import parse_insecure_registries


class Session:
    """Connections, credentials and settings, by the options of a command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._workers: int = options.workers
        self._time_limit_s: float = options.time_limit
        self._insecure: frozenset[str] = options.insecure
        transport = Transport(self._workers)
        self.clock = transport.clock
        credentials = GoogleCredentials()
        self.rest = ArtifactRegistry(GoogleApi(transport, credentials, options.artifact_registry_url))
        self.registry = Registry(transport, credentials.access_token, self._insecure, lambda: self.rest)
        self._histories = make_histories()
        self._inventory = None
        if options.running_scopes:
            api = GoogleApi(transport, credentials, options.cloud_asset_url)
            self._inventory = Inventory(api, options.running_scopes, self.clock)
        # The latest answer to what is deployed; None where nobody was asked.
        self.running: Running | None = None
        self.begin()

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
        package = package_name(repository)
        if repository.is_google and not (package and package.package):
            raise InvalidReference(f"{name!a}: names no image: that is {_spelled(repository, '/IMAGE')}")
        return repository

    def parse_root(self, name: str) -> Repository:
        """Return what ``name`` names, to look for repositories at and under it.

        Raises:
            InvalidReference: As ``parse``, but a name may end before the image.
        """
        root = self._parse(name)
        package = package_name(root)
        # Behind a domain that no project follows nothing stands.
        if root.is_google and (package is None or package.project.endswith(":")):
            raise InvalidReference(f"{name!a}: names no root: that is {_spelled(root)}, or a path under it")
        return root

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
            self.registry,
            self._histories,
            repository,
            policy,
            dry_run=dry_run,
            workers=self._workers,
            deadline=self.deadline,
            ask_running=self._ask if self._inventory else None,
            progress=progress,
            now=lambda: now,
        )

    def plan(self, run: Run) -> tuple[Plan, Listing]:
        """Return what ``run`` would do, and the listing it rests on.

        Raises:
            CleanerError: It cannot be known.
        """
        self.running = None
        with _pool(self._workers) as pool:
            return run.plan(pool.map)

    def _ask(self, repository: Repository, budget: RequestBudget) -> Running:
        assert self._inventory is not None  # noqa: S101  # nobody else hands this out
        self.running = self._inventory.ask(repository, budget)
        return self.running


def _spelled(repository: Repository, image: str = "") -> str:
    """Return how a whole name on the host of ``repository`` is spelled, up to the place of images and ``image``."""
    project = "DOMAIN/PROJECT" if "." in repository.path.partition("/")[0] else "PROJECT"
    place = "" if repository.host in GCR_HOSTS else "/REPOSITORY"
    return f"{repository.host}/{project}{place}{image}"


def _hint(name: str, error: InvalidReference) -> str:
    """Return what would be right in the place of ``name``."""
    if not isinstance(error, HostNotAllowed):
        return "it is HOST/PATH in lower case, without tag or digest"
    if scheme := re.match("[a-z]+://", name):
        return f"leave out {scheme[0]}"
    host, slash, _ = name.partition("/")
    local = f"{host}:PORT" if host == "localhost" else host
    # Without a slash what follows a colon is a tag.
    if slash and (host == "localhost" or _is_insecure(host)):
        return f"a registry that speaks plain HTTP is named with --insecure {local}"
    return "allowed are gcr.io, its siblings, LOCATION-docker.pkg.dev, and what --insecure names"


def _is_insecure(host: str) -> bool:
    """Whether ``--insecure`` would take it."""
    try:
        return parse_insecure_registries(host) == {host}
    except ValueError:
        return False


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Return a pool that an interrupt does not wait for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reader")
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
