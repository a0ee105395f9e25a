"""After a run exactly those manifests of a case are left that are expected, with all their tags."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.emulator.faults import Status
from tests.support.cases import CASES, Case
from tests.support.world import NOW

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_what_is_expected_is_left(world: World, case: Case) -> None:
    names, bodies = case.names(), case.bodies()
    for one in sorted(case.manifests, key=lambda one: -one["age_seconds"]):
        uploaded = NOW - timedelta(seconds=one["age_seconds"])
        world.store.put_manifest(
            world.name,
            bodies[one["digest"]],
            one["media_type"],
            tags=one["tags"],
            uploaded_ms=round(uploaded.timestamp() * 1000),
        )
    if case.immutable_tags:
        world.faults.add(Status(400), kind="tag_delete")
    tags = {tag: digest for tag, digest in world.tags.items() if _is_kept(case, names[digest])}

    (policy,) = case.policy
    # A key that the policy does not have must have the product's default, not that of the tests.
    world.run(**{"untagged": {"keep": 5}, "orphans": {"keep": "all"}, **policy, "repositories": ["**"]}).prune()

    left = {names[digest] for digest in world.left}
    expected = set(case.left) or {name for name, fate in case.expect.items() if fate == "keep"}
    assert left & case.expect.keys() == expected
    assert world.tags.items() >= tags.items()


def _is_kept(case: Case, name: str) -> bool:
    return name in case.left or (not case.left and case.expect.get(name) == "keep")
