"""Deciding: the plan as a whole, and what a large repository costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan, plan
from cleaner.core.policy import Policy
from tests.support.builders import (
    NOW,
    RETIRING,
    cosign,
    deleted,
    digest,
    kept,
    listing,
    manifest,
    named,
    planned,
    policy,
    reasons,
    retiring,
)


def test_both_parts_are_newest_first() -> None:
    """An unknown age before all, the smaller digest first among equals."""
    first, second = named("x", "y")
    held = [
        manifest("old", 9, tags="v1"),
        manifest(second, 5, tags="v2"),
        manifest(first, 5, tags="v3"),
        manifest("new", 1, tags="v4"),
        manifest("unknown", None, tags="v5"),
        manifest("o2", 8),
        manifest("o1", 7),
    ]

    result = planned(held, policy(keep_untagged=0))

    assert list(kept(result)) == ["unknown", "new", first, second, "old"]
    assert list(deleted(result)) == ["o1", "o2"]


def test_empty_repository_has_an_empty_plan() -> None:
    """Nothing to keep, nothing to delete."""
    assert planned([], RETIRING) == Plan(listing().repository, (), ())


def test_order_of_the_listing_changes_nothing() -> None:
    """Not in the verdicts, nor in their order."""
    held = [
        manifest("a", 5, tags="v1", children="c d"),
        manifest("b", 5, tags="v2", children="d"),
        manifest("c", 5),
        manifest("d", 5, tags="v3"),
        manifest("e", 5, tags=cosign("a")),
    ]
    by = retiring(max_deletions=2)
    expected = planned(held, by)

    for order in itertools.permutations(held):
        result = planned(order, by)
        assert list(reasons(result).items()) == list(reasons(expected).items())
        assert result.steps == expected.steps


# --- size

DEPTH = 20_000


def nested(tags: str = "") -> list[Manifest]:
    """Return a nest of indexes, the innermost the oldest."""
    held = [
        manifest(f"i{n}", 30 + n, tags=tags and f"{tags}{n}", children=f"i{n + 1}" if n < DEPTH else "")
        for n in range(DEPTH + 1)
    ]
    return list(reversed(held))


def chain() -> list[Manifest]:
    """Return signatures of signatures of one image."""
    return [manifest("s0", tags="v1"), *(manifest(f"s{n}", tags=cosign(f"s{n - 1}")) for n in range(1, DEPTH))]


def ring() -> list[Manifest]:
    """Return an image and signatures in a circle that hang on it."""
    return [*chain()[:-1], manifest("s1", tags=f"{cosign('s0')} {cosign(f's{DEPTH - 2}')}")]


def knot_of_many_images() -> list[Manifest]:
    """Return images, and signatures in a circle, the last of which signs all the images."""
    half = DEPTH // 2
    images = [manifest(f"o{n}", tags=f"v{n}") for n in range(half)]
    signatures = [manifest(f"k{n}", tags=cosign(f"k{(n - 1) % half}")) for n in range(half - 1)]
    all_of_them = " ".join(cosign(f"o{n}") for n in range(half))
    return [*images, *signatures, manifest(f"k{half - 1}", tags=f"{cosign(f'k{half - 2}')} {all_of_them}")]


def flat() -> list[Manifest]:
    return [manifest(f"m{n}", 30 + n, tags=f"v{n}") for n in range(2 * DEPTH)]


def shared() -> list[Manifest]:
    """Return one old tagged child of very many indexes."""
    return [*(manifest(f"x{n}", 30, tags=f"v{n}", children="c") for n in range(DEPTH)), manifest("c", 99, tags="c")]


def attested() -> list[Manifest]:
    """Return an index with very many attestations of one child."""
    names = [f"t{n}" for n in range(DEPTH)]
    pairs = " ".join(f"{name}:c" for name in names)
    # Among the last of all that list the child, wherever somebody goes through those.
    name = max((f"index{n}" for n in range(1000)), key=digest)
    index = manifest(name, tags="v", children=f"c {' '.join(names)}", attests=pairs)
    return [index, *map(manifest, names), manifest("c")]


def attested_and_shared() -> list[Manifest]:
    """Return the same where very many other indexes list that child too."""
    return [*attested(), *(manifest(f"x{n}", tags=f"v{n}", children="c") for n in range(3 * DEPTH))]


@pytest.mark.parametrize(
    ("held", "by", "running"),
    [
        pytest.param(nested, RETIRING, "", id="nest"),
        pytest.param(lambda: nested("v"), retiring(max_deletions=10), "", id="tagged nest, low limit"),
        pytest.param(lambda: nested("v"), retiring(max_deletions=DEPTH // 2), "", id="tagged nest, high limit"),
        pytest.param(lambda: nested("v"), RETIRING, " ".join(f"i{n}" for n in range(DEPTH)), id="running nest"),
        pytest.param(chain, RETIRING, "", id="chain of signatures"),
        pytest.param(ring, RETIRING, "", id="ring of signatures"),
        pytest.param(knot_of_many_images, RETIRING, "", id="ring on many images"),
        pytest.param(attested, RETIRING, "", id="attestations of one child"),
        pytest.param(attested_and_shared, RETIRING, "", id="attestations of a shared child"),
        pytest.param(flat, retiring(max_deletions=2 * DEPTH - 1), "", id="limit on many images"),
        pytest.param(shared, retiring(max_deletions=DEPTH), "", id="limit on a shared child"),
    ],
)
def test_size_of_a_repository_costs_no_more_than_itself(
    held: Callable[[], list[Manifest]], by: Policy, running: str
) -> None:
    """Anyone who may push can build these: no recursion, nothing that grows with the square."""
    manifests = held()

    # What grew with the square would be at it for minutes.
    result = planned(manifests, by, running=running)

    assert len(result.keep) + len(result.delete) == len(listing(*manifests).manifests)


def test_plan_can_be_asked_for_a_listing_alone() -> None:
    """Nothing was pushed, nothing runs, nothing was deleted before."""
    held = listing(manifest("a", 5), manifest("b", 6))

    assert reasons(plan(held, RETIRING, NOW)) == {"a": "expired", "b": "expired"}
