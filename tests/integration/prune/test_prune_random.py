"""Random repositories, faults and pushes: what must be kept is kept, and runs end."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from cleaner.core.errors import CleanerError
from cleaner.core.manifest import Listing
from tests.emulator.faults import After, CutBody, DropAfter, DropBefore, Status
from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    multi_arch,
    referrer,
    referrers_index,
)
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX, OCI_MANIFEST, REFERRING_MANIFEST
from tests.support.builders import one_rule
from tests.support.prune import ABSENT, children, protecting
from tests.support.world import World

if TYPE_CHECKING:
    from tests.emulator.faults import Action
    from tests.emulator.images import Content

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

PROFILES: list[dict[str, Any]] = [
    one_rule(1, 0),
    protecting("v1.", one_rule(2, 1, match=["v.*", "sha256.*"])),
    one_rule(1, 5, delete_after="20d", max_deletions=3),
    protecting(".*3.", one_rule(1, 5, match=["(v|w|x).*", ".*"])),
    {"tagged": [{"match": "(v).*", "keep": 1, "order": "version"}, {"match": ".*", "keep_within": "20d"}]},
    {"untagged": {"keep": 2}},
]


def populate(world: World, chance: random.Random) -> None:
    """Fill the repository with what CI leaves, of every kind and age."""
    parts: list[Content] = []
    for number in range(chance.randint(3, 9)):
        content = _content(world, chance, number, parts)
        parts += content.children
        age_days = chance.choice([0.01, 1, 5, 10, 30, 60])
        tags = [f"{chance.choice('vwx')}{number}{letter}" for letter in "ab"[: chance.choice([0, 1, 1, 2])]]
        world.load(content, tags=tags, age_days=age_days)
        about: Content | str = content
        for depth in range(chance.choice([0, 0, 1, 1, 2])):
            about = referrer(about, seed=depth)
            world.load(about, age_days=age_days)
        if chance.random() < 0.4:
            signature = cosign_signature(content)
            world.load(signature, tags=cosign_tag(content), age_days=age_days)
        if chance.random() < 0.2:
            listed = [referrer(content, seed=seed) for seed in ("first", "second")]
            world.load(referrers_index(listed[:1]), age_days=age_days)
            world.load(referrers_index(listed), tags=cosign_tag(content, ""), age_days=age_days)
    if chance.random() < 0.3:
        world.load(referrer(ABSENT), age_days=30)


def _content(world: World, chance: random.Random, number: int, parts: list[Content]) -> Content:
    """Return something of any kind, maybe with some of the ``parts`` of others; its helper indexes are loaded."""
    kind = chance.choice(["image", "oci", "index", "nested", "shared", "merged"])
    if kind == "index":
        platform = image(f"{number}/p", media_type=OCI_MANIFEST)
        return index([platform, attestation(platform)])
    if kind == "nested":
        return index([index([image(f"{number}/a"), image(f"{number}/b")])])
    if kind == "merged":
        merged = multi_arch(number)
        for platform in merged.children:
            world.load(index([platform], seed=number), age_days=chance.choice([5, 30]))
        return merged
    if kind == "shared" and parts:
        return index(chance.sample(parts, 1), seed=number)
    return image(number, media_type=OCI_MANIFEST if kind == "oci" else image(0).media_type)


class Pusher:
    """Somebody who works on the repository while it is pruned, and wants to find what was pushed."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.count = 0
        # CI uses its tags again, whether they are there or have just been deleted.
        self.tags = sorted({*world.tags, "latest"})
        self.pushed: set[str] = set()
        self.tagged: dict[str, str] = {}
        self.planned = world.tags

    def push(self) -> None:
        self.count += 1
        seed = f"new {self.count}"
        digests, tag = sorted(self.world.left), self.chance.choice(self.tags)
        old = self.chance.choice(digests) if digests else ABSENT
        match self.chance.randint(0, 6):
            case 0 | 5:
                self._load(multi_arch(seed), tag)
            case 1 if digests:
                self._load(referrer(old, seed=seed))
                self.pushed.add(old)
            case 2 if digests:
                self._load(index([], absent=[old], media_type=OCI_INDEX, seed=seed), "index")
                self.pushed.add(old)
            case 3 if digests:
                self._tag("new", old)
            case _ if digests:
                self._tag(tag, old)

    def check(self) -> None:
        """Find all of it, but for a tag that moved in the milliseconds between its look and its deletion."""
        assert self.pushed <= self.world.left
        assert all(gap.attempt == 1 for gap in self.world.emulator.gaps)
        lost = {gap.tag for gap in self.world.emulator.gaps if gap.kind == "tag-moved"}
        for tag, digest in self.tagged.items():
            # One that moved away and back again names what it was judged with.
            is_as_planned = self.planned.get(tag) == digest
            assert is_as_planned or tag in lost or self.world.tags.get(tag) == digest

    def forget(self) -> None:
        """From now on it is as old as anything."""
        self.pushed.clear()
        self.tagged.clear()
        self.planned = self.world.tags

    def _load(self, content: Content, *tags: str) -> None:
        self.world.load(content, tags=tags, age_days=0)
        self.pushed |= {content.digest, *children(content)}
        self.tagged |= dict.fromkeys(tags, content.digest)

    def _tag(self, tag: str, digest: str) -> None:
        if self.world.tags.get(tag) != digest:
            self.world.store.tag(self.world.name, tag, digest)
            self.tagged[tag] = digest


def prune_at_random(world: World, chance: random.Random) -> None:
    """Prune a repository that changes meanwhile; what each listing has to keep must be there at the next."""
    policy = chance.choice(PROFILES)
    pusher = Pusher(world, chance)
    actions: list[Action] = [*(Status(code) for code in (403, 429, 503)), DropBefore(), DropAfter(), CutBody()]
    actions.append(Status(400, DANGLING_PARENT))
    for _ in range(chance.choice([0, 1, 3])):
        world.faults.add(chance.choice(actions), probability=chance.choice([0.1, 0.3]), path="manifests/")
    if chance.random() < 0.7:
        times = chance.choice([1, 2, 4, 8])
        world.faults.add(After(pusher.push), path="manifests/", skip=chance.randint(0, 8), times=times)
    if chance.random() < 0.3:
        world.faults.add(After(lambda: world.clock.turn(7)), path="manifests/")
    run = world.run(workers=chance.choice([1, 3, 8]), **policy)
    list_manifests = run._client.list_manifests
    kept = world.kept(**policy)

    def list_and_check() -> Listing:
        nonlocal kept
        kept.check(world)
        pusher.check()
        pusher.forget()
        # What has been pushed while documents were read takes places in the plan of the next listing.
        kept = world.kept(**policy)
        return list_manifests()

    run._client.list_manifests = list_and_check  # type: ignore[method-assign]  # checks, and calls the real one
    with contextlib.suppress(CleanerError):
        run.prune()
    kept.check(world)
    pusher.check()


@pytest.mark.parametrize("seed", range(150))
def test_at_random(world: World, seed: int) -> None:
    """Whatever is in the repository, fails or is pushed meanwhile: what must be kept is kept, and runs end."""
    chance = random.Random(seed)
    world.faults.seed(seed)
    world.store.referrer_code = chance.choice([REFERRING_MANIFEST, DANGLING_PARENT])
    populate(world, chance)
    for _ in range(2):
        prune_at_random(world, chance)
        world.faults.clear()
