"""Finds every repository under a root that a policy matches, and requests that each is pruned.

Pushes alone do not prune a repository that existed before, that nobody pushes to, or whose policy has changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from cleaner.core.errors import InvalidReference, RepositoryNotFound, TimeLimitReached
from cleaner.core.policy import Policy, find_policy
from cleaner.core.reference import Repository, parse_repository
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.registry.client import Registry
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget

logger = logging.getLogger(__name__)

# How many messages are published before the publisher waits for Pub/Sub's response.
BATCH = 1000


Skip = Callable[[str, str], None]


class Publisher(Protocol):
    """Publishes messages to the topic ``REQUESTS_TOPIC``."""

    def publish(self, messages: Iterable[bytes], timeout_s: float) -> None:
        """Publish all of ``messages``, and return when Pub/Sub has confirmed them."""


def _log_skipped(name: str, problem: str) -> None:
    logger.warning("repository skipped", extra={"repository": name, "error": problem})


def find_repositories(
    root: Repository,
    policies: Iterable[Policy],
    registry: Registry,
    rest: ArtifactRegistry,
    budget: RequestBudget,
    skip: Skip = _log_skipped,
) -> tuple[Repository, ...]:
    """Return the repositories at or under ``root`` that a policy matches, sorted by name.

    On a Google host they are listed by Artifact Registry's REST API, on any other by the ``child`` names of listings.
    ``skip`` is called with each name outside the grammar, for which nothing can be requested, and what is wrong.

    Raises:
        CleanerError: The list would not be complete.
    """
    policies = tuple(policies)
    if root.is_google:
        found = _parsed(rest.list_repositories(root, budget), root.host, set(), skip)
    else:
        found = _walk(root, registry, budget, skip)
    return tuple(sorted({repository for repository in found if find_policy(policies, repository)}))


def request_prunes(
    repositories: Iterable[Repository], publisher: Publisher, clock: Callable[[], float], deadline: float
) -> int:
    """Publish a ``PRUNE`` request for each of ``repositories``, in batches, and return how many were published.

    ``deadline`` is in seconds of ``clock``.

    Raises:
        TimeLimitReached: The deadline came before the last batch.  The earlier batches are published, and are
            published once more after another delivery.
    """
    pending = iter(repositories)
    count = 0
    while batch := list(islice(pending, BATCH)):
        left_s = deadline - clock()
        if left_s <= 0:
            raise TimeLimitReached(f"only {count} of the prune requests were published before the time limit")
        publisher.publish((prune_request(repository) for repository in batch), left_s)
        count += len(batch)
    return count


def prune_request(repository: Repository) -> bytes:
    """Return the data of a message that requests that ``repository`` is pruned."""
    return json.dumps({"action": "PRUNE", "repository": str(repository)}).encode()


def _walk(root: Repository, registry: Registry, budget: RequestBudget, skip: Skip) -> Iterator[Repository]:
    """Yield every repository at or under ``root`` that has manifests; they are found by ``child`` names."""
    pending, seen = [root], {str(root)}
    while pending:
        registry.transport.check_time(budget)
        repository = pending.pop()
        try:
            has_manifests, below = registry.open(repository, Access.READ, budget).list_children()
        except RepositoryNotFound:
            continue
        if has_manifests:
            yield repository
        pending += _parsed(below, root.host, seen, skip)


def _parsed(names: Iterable[str], host: str, seen: set[str], skip: Skip) -> Iterator[Repository]:
    """Yield the repositories with these names that are not in ``seen`` yet, and add all names to it."""
    for name in names:
        if name in seen:
            continue
        seen.add(name)
        try:
            yield parse_repository(name, {host})
        except InvalidReference as error:
            skip(name, str(error))
