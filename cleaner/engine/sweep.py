"""Finds every repository under a root that a policy is about, and asks for each to be pruned.

For what pushes alone never reach: a first clean-up, repositories that nobody pushes to, a changed policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from cleaner.core.errors import RepositoryNotFound, TimeLimitReached
from cleaner.core.policy import Policy, find_policy
from cleaner.core.reference import Repository
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.registry.client import Registry
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget

# How many requests are on their way to Pub/Sub before their receipt is waited for.
BATCH = 1000


class Publisher(Protocol):
    """What takes messages to the requests topic."""

    def publish(self, messages: Iterable[bytes], timeout_s: float) -> None:
        """Publish all of ``messages``, and return when the topic has them."""


def find_repositories(
    root: Repository,
    policies: Iterable[Policy],
    registry: Registry,
    rest: ArtifactRegistry,
    exchange: RequestBudget,
) -> tuple[Repository, ...]:
    """Return the repositories at or under ``root`` that a policy is about, in order of name.

    A Google host is asked by Artifact Registry's REST API, any other by the ``child`` names of its listings.

    Raises:
        CleanerError: The repositories are not known completely.
    """
    policies = tuple(policies)
    found = rest.list_repositories(root, exchange) if root.is_google else _walk(root, registry, exchange)
    return tuple(sorted({repository for repository in found if find_policy(policies, repository)}))


def request_prunes(
    repositories: Iterable[Repository], publisher: Publisher, clock: Callable[[], float], deadline: float
) -> int:
    """Publish a ``PRUNE`` request for each of ``repositories``, batch by batch, and return how many.

    Raises:
        TimeLimitReached: ``deadline`` came first; the batches until then are published, and may be again.
    """
    pending = iter(repositories)
    count = 0
    while batch := list(islice(pending, BATCH)):
        left_s = deadline - clock()
        if left_s <= 0:
            raise TimeLimitReached(f"{count} requests are published, not all")
        publisher.publish((prune_request(repository) for repository in batch), left_s)
        count += len(batch)
    return count


def prune_request(repository: Repository) -> bytes:
    """Return the data of a message that asks for ``repository`` to be pruned."""
    return json.dumps({"action": "PRUNE", "repository": str(repository)}).encode()


def _walk(root: Repository, registry: Registry, exchange: RequestBudget) -> Iterator[Repository]:
    """Yield every repository at or under ``root`` that holds manifests, by the ``child`` names of the listings."""
    pending = [root]
    while pending:
        registry.transport.check_time(exchange)
        repository = pending.pop()
        try:
            holds_manifests, below = registry.open(repository, Access.READ, exchange).list_children()
        except RepositoryNotFound:
            continue
        if holds_manifests:
            yield repository
        pending += below
