"""What the tests of the registry client share: how they list and read, and what a refused listing deletes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import (
    CleanerError,
)
from cleaner.core.manifest import Listing
from cleaner.core.reference import Digest
from tests.emulator.faults import CutBody, DropAfter, DropBefore, Status
from tests.emulator.images import image
from tests.emulator.store import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
)
from tests.support.prune import ALL

if TYPE_CHECKING:
    from tests.support.world import World

ABSENT = Digest("sha256:" + "0" * 64)
TRANSIENT_FAULTS = [DropBefore(), DropAfter(), CutBody(), Status(500), Status(502), Status(429, plain=True)]
TYPES = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX]


def listed(world: World) -> Listing:
    return world.client().list_manifests()


def read(world: World) -> Listing:
    """Return the listing with its links."""
    client = world.client()
    return client.read_documents(client.list_manifests(), map)


def deletes_nothing(world: World, error: type[CleanerError]) -> None:
    """Nothing is deleted, however much the policy would."""
    before = world.left
    assert before
    with pytest.raises(error):
        world.run(**ALL).prune()
    assert world.left == before
    assert world.log.counts["manifest_delete"] == world.log.counts["tag_delete"] == 0


def fill(world: World, count: int) -> set[str]:
    return {world.load(image(seed), tags=f"v{seed}") for seed in range(count)}
