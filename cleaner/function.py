"""Handles one CloudEvent: returns to acknowledge its message, or raises to have it delivered again.

``Function`` owns what a process keeps between messages; several threads use it, one for each message.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from cleaner.coalescing import Coalescing
from cleaner.core.errors import (
    InvalidNotification,
    KeptManifestGone,
    PermanentError,
    PermissionDenied,
    RepositoryNotFound,
    TransientError,
)
from cleaner.core.notification import (
    NOTHING_NAMED,
    Named,
    PruneRequest,
    Pushed,
    Removed,
    SweepRequest,
    parse_delivery,
)
from cleaner.core.policy import find_policy
from cleaner.core.reference import Repository
from cleaner.core.times import parse_time
from cleaner.core.timing import TIMING, Timing
from cleaner.engine.run import AskRunning, Run, make_histories
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.pubsub import TopicPublisher
from cleaner.google.registry.client import Registry
from cleaner.google.transport import RequestBudget, Transport
from cleaner.settings import Settings

if TYPE_CHECKING:
    from cleaner.google.artifact_registry import ArtifactRegistry

logger = logging.getLogger(__name__)


class Event(Protocol):
    """The part of a CloudEvent that is used here."""

    @property
    def data(self) -> object:
        """The body: decoded JSON, or bytes, or None."""

    def get(self, key: str) -> object:
        """Return an attribute; None if there is none."""


class Function:
    """What a process keeps from one message to the next, and what it does with each message."""

    def __init__(self, settings: Settings, timing: Timing = TIMING) -> None:
        self._settings = settings
        self._transport = transport = Transport(settings.workers, timing=timing)
        self._clock = transport.clock
        self._credentials = credentials = GoogleCredentials()
        self._registry = Registry(
            transport, credentials.access_token, settings.insecure_registries, self._artifact_registry
        )
        self._publisher = TopicPublisher(settings.requests_topic)
        self._ask_running: AskRunning | None = None
        if settings.running_scopes:
            # Only some deployments need it, and each import makes a cold start longer.
            from cleaner.google.inventory import Inventory
            from cleaner.google.rest import GoogleApi

            api = GoogleApi(transport, credentials, settings.cloud_asset_url)
            self._ask_running = Inventory(api, settings.running_scopes, self._clock).ask
        self._histories = make_histories()
        self._prunes = Coalescing(self._clock)
        self._sweeps = Coalescing(self._clock)

    def handle(self, event: Event) -> None:
        """Do what the event's message requests; return when that has succeeded, or when no retry can help.

        Raises:
            TransientError: The message has to be delivered again.
        """
        deadline = self._clock() + self._settings.time_limit_s
        arrived = datetime.now(UTC)
        source = event.get("source")
        try:
            delivery = parse_delivery(
                event.data,
                source if isinstance(source, str) else "",
                insecure=self._settings.insecure_registries,
                requests_topic=self._settings.requests_topic,
            )
        except InvalidNotification as error:
            logger.error("message rejected", extra={"reason": str(error)})
            return
        published = delivery.published or parse_time(event.get("time")) or arrived
        severity = logging.ERROR if delivery.is_overdue(arrived) else logging.WARNING
        match delivery.notification:
            case Removed():
                logger.debug("deletion announced")
            case SweepRequest(root):
                self._sweep(root, published, deadline, severity)
            case Pushed(repository, named):
                self._prune(repository, named, published, deadline, severity)
            case PruneRequest(repository):
                self._prune(repository, NOTHING_NAMED, published, deadline, severity)

    def _prune(
        self, repository: Repository, named: Named, published: datetime, deadline: float, severity: int
    ) -> None:
        facts = {"repository": str(repository)}
        policy = find_policy(self._settings.policies, repository)
        if policy is None:
            logger.info("no policy matches", extra=facts)
            return
        with (
            _log_outcome("prune failed", "prune interrupted", severity, facts),
            self._prunes.lease(repository, named, deadline) as lease,
        ):
            if lease.is_covered(published):
                logger.info("already covered", extra=facts)
                return
            began = datetime.now(UTC)
            run = Run(
                self._registry,
                self._histories,
                repository,
                policy,
                dry_run=self._settings.dry_run or policy.dry_run,
                workers=self._settings.workers,
                deadline=deadline,
                named=lease.named,
                ask_running=self._ask_running,
            )
            try:
                run.prune()
            except RepositoryNotFound:
                # The other messages of a repository that no longer exists need no listing of their own.
                lease.record_success(began)
                raise
            lease.record_success(began)

    def _sweep(self, root: Repository, published: datetime, deadline: float, severity: int) -> None:
        from cleaner.engine.sweep import find_repositories, request_prunes

        facts = {"root": str(root)}
        with (
            _log_outcome("sweep failed", "sweep interrupted", severity, facts),
            self._sweeps.lease(root, NOTHING_NAMED, deadline) as lease,
        ):
            if lease.is_covered(published):
                logger.info("already covered", extra=facts)
                return
            began = datetime.now(UTC)
            budget = RequestBudget(deadline)
            rest = self._artifact_registry()
            found = find_repositories(root, self._settings.policies, self._registry, rest, budget)
            count = request_prunes(found, self._publisher, self._clock, deadline)
            logger.info("sweep finished", extra=facts | {"repositories": count, "requests": budget.requests})
            lease.record_success(began)

    def _artifact_registry(self) -> ArtifactRegistry:
        """Return the client of the REST API, which lists what the registry lists incompletely."""
        from cleaner.google.artifact_registry import ArtifactRegistry
        from cleaner.google.rest import GoogleApi

        return ArtifactRegistry(GoogleApi(self._transport, self._credentials, self._settings.artifact_registry_url))


@contextmanager
def _log_outcome(failed: str, interrupted: str, severity: int, facts: Mapping[str, object]) -> Iterator[None]:
    """Log the error that ends the context, and raise it again only if another delivery may succeed.

    ``failed`` is the message for a permanent error, ``interrupted`` for a transient one, which has ``severity``.
    """
    try:
        yield
    except RepositoryNotFound:
        logger.info("repository not found", extra=facts)
    except PermissionDenied as error:
        logger.error("permission denied", extra={**facts, "permission": error.permission, "error": str(error)})
    except KeptManifestGone as error:
        logger.error("kept manifest is gone", extra={**facts, "digest": error.child, "index": error.index})
    except PermanentError as error:
        logger.error(failed, extra={**facts, "error": str(error)})
    except TransientError as error:
        logger.log(severity, interrupted, extra={**facts, "error": str(error)})
        raise
