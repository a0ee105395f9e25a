"""What the tests of whole runs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cleaner.core.reference import Digest
from tests.support.world import World

if TYPE_CHECKING:
    from tests.emulator.images import Content

# What the fixture ``logged`` gives.
Logged = Callable[[str], list[dict[str, Any]]]

ABSENT = Digest("sha256:" + "0" * 64)
# Everything goes that is a day old.
ALL: dict[str, Any] = {"delete_tags": [".*"], "max_age": "1d"}

PUSHED_OUT: dict[str, Any] = {"keep": 1, "keep_untagged": 1, "delete_tags": [".*"]}


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
