"""Pages of dry runs, made of builders' manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cleaner.core.reference import Repository
from cleaner.views.images import Planned, Result
from cleaner.views.page import page
from tests.support.builders import NOW, cosign, listing, manifest, planned, policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cleaner.core.manifest import Manifest
    from cleaner.core.policy import Policy

# A branch's newest two; whatever a release's tag is on.
BY = policy(
    tagged=[
        {"match": "v[0-9.]+", "keep": "all"},
        {"match": "(main|dev)-[0-9]+", "keep": 2, "keep_within": "3d", "delete_after": "90d"},
        {"match": "chart-[0-9.]+", "keep": 1, "order": "version"},
    ],
    untagged={"keep": 1},
    orphans={"keep": 0},
)


def reported(held: Iterable[Manifest], name: str = "gcr.io/acme/api", by: Policy = BY, running: str = "") -> Result:
    """Return the plan of a repository of ``held``."""
    held = tuple(held)
    plan = planned(held, by, running=running)
    return Result(_named(name), Planned(plan, listing(*held), by, "policies.yaml[0]", NOW))


def failed(error: str, name: str = "gcr.io/acme/broken") -> Result:
    return Result(_named(name), error=error)


def _named(name: str) -> Repository:
    host, _, path = name.partition("/")
    return Repository(host, path)


def branch(count: int, prefix: str = "main") -> list[Manifest]:
    """Return images of one branch, a day apart; each third is an index with a signature."""
    held: list[Manifest] = []
    for at in range(count):
        name, age = f"{prefix}-{at:05}", 1 + at
        parts = [f"{name}-amd64", f"{name}-arm64"] if at % 3 == 0 else []
        held.append(manifest(name, age, name, children=" ".join(parts) if parts else None, size=50_000_000))
        held += [manifest(part, age, size=60_000_000) for part in parts]
        held += [manifest(f"{name}-signature", age, cosign(name), size=500)] if parts else []
    return held


def made(*repositories: Result) -> str:
    return page(repositories, NOW, "1.2.3")
