"""What the tests of whole runs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cleaner.core.reference import Digest
from tests.support.builders import one_rule
from tests.support.world import World

if TYPE_CHECKING:
    from tests.emulator.images import Content

# What the fixture ``logged`` gives.
Logged = Callable[[str], list[dict[str, Any]]]

ABSENT = Digest("sha256:" + "0" * 64)
# Everything that is a day old is deleted.
ALL: dict[str, Any] = one_rule(untagged=0, delete_after="1d")

PUSHED_OUT: dict[str, Any] = one_rule(1, 1)


def protecting(match: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a policy with a first rule that keeps all tags that ``match`` matches."""
    return {**keys, "tagged": [{"match": match, "keep": "all"}, *keys["tagged"]]}


def children(content: Content) -> set[str]:
    return {child.digest for child in content.children}


def costs(world: World, **expected: int) -> None:
    """These requests, and no others."""
    assert world.log.counts == expected


class Peak:
    """How many of something have been under way at the same time, at most."""

    def __init__(self) -> None:
        self._now = self.most = 0

    def begin(self) -> None:
        self._now += 1
        self.most = max(self.most, self._now)

    def end(self) -> None:
        self._now -= 1
