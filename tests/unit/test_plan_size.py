"""Deciding: the plan as a whole, and what a large repository costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from cleaner.core.history import History
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
    possible_order,
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
    """Not in the verdicts, nor in the steps, nor in their order."""
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
    """Return an image and signatures in a circle that belong to it."""
    return [*chain()[:-1], manifest("s1", tags=f"{cosign('s0')} {cosign(f's{DEPTH - 2}')}")]


def ring_of_many_images() -> list[Manifest]:
    """Return images, and signatures in a circle, the last of which signs all the images."""
    half = DEPTH // 2
    images = [manifest(f"o{n}", tags=f"v{n}") for n in range(half)]
    signatures = [manifest(f"k{n}", tags=cosign(f"k{(n - 1) % half}")) for n in range(half - 1)]
    all_of_them = " ".join(cosign(f"o{n}") for n in range(half))
    return [*images, *signatures, manifest(f"k{half - 1}", tags=f"{cosign(f'k{half - 2}')} {all_of_them}")]


def oci_referrers() -> list[Manifest]:
    """Return an image with very many OCI referrers."""
    return [manifest("s", tags="v1"), *(manifest(f"r{n}", subject="s") for n in range(DEPTH))]


def chain_of_oci_referrers() -> list[Manifest]:
    """Return OCI referrers of OCI referrers of one image."""
    return [manifest("r0", tags="v1"), *(manifest(f"r{n}", subject=f"r{n - 1}") for n in range(1, DEPTH))]


def chain_with_signatures() -> list[Manifest]:
    """Return such a chain of half the length, and OCI referrers of its end each of which signs one of its members."""
    half = DEPTH // 2
    signatures = (manifest(f"k{n}", tags=cosign(f"r{n}"), subject=f"r{half - 1}", children="") for n in range(half))
    return [*chain_of_oci_referrers()[:half], *signatures]


def chain_of_signatures_and_oci_referrers() -> list[Manifest]:
    """Return a chain each member of which refers to the one before, and signs the one before that."""
    return [
        *(manifest(f"r{n}", tags=f"v{n}") for n in range(2)),
        *(manifest(f"r{n}", tags=cosign(f"r{n - 2}"), subject=f"r{n - 1}", children="") for n in range(2, DEPTH)),
    ]


def referrers_index() -> list[Manifest]:
    """Return an image whose referrers index lists very many OCI referrers."""
    names = [f"r{n}" for n in range(DEPTH)]
    index = manifest("index", tags=cosign("s", ""), children=" ".join(names))
    return [manifest("s", tags="v1"), index, *(manifest(name, subject="s") for name in names)]


def referrers_index_of_many() -> list[Manifest]:
    """Return very many images that have one referrers index, which signs as many others with OCI referrers."""
    half = DEPTH // 2
    tags = [tag for n in range(half) for tag in (cosign(f"o{n}", ""), cosign(f"p{n}"))]
    return [
        manifest("index", tags=" ".join(tags), children=""),
        *(manifest(f"o{n}", tags=f"v{n}") for n in range(half)),
        *(manifest(f"p{n}") for n in range(half)),
        *(manifest(f"r{n}", subject=f"p{n}") for n in range(half)),
    ]


def flat() -> list[Manifest]:
    return [manifest(f"m{n}", 30 + n, tags=f"v{n}") for n in range(2 * DEPTH)]


def shared() -> list[Manifest]:
    """Return one old tagged child of very many indexes."""
    return [*(manifest(f"x{n}", 30, tags=f"v{n}", children="c") for n in range(DEPTH)), manifest("c", 99, tags="c")]


def attested() -> list[Manifest]:
    """Return an index with very many attestations of one child."""
    names = [f"t{n}" for n in range(DEPTH)]
    pairs = " ".join(f"{name}:c" for name in names)
    # Among the last of all that list the child, in case these are searched.
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
        pytest.param(ring_of_many_images, RETIRING, "", id="ring on many images"),
        pytest.param(oci_referrers, RETIRING, "", id="OCI referrers of one image"),
        pytest.param(chain_of_oci_referrers, RETIRING, "", id="chain of OCI referrers"),
        pytest.param(chain_with_signatures, RETIRING, "", id="signatures at the end of such a chain"),
        pytest.param(chain_of_signatures_and_oci_referrers, RETIRING, "", id="chain of both"),
        pytest.param(referrers_index, RETIRING, "", id="referrers index"),
        pytest.param(referrers_index_of_many, RETIRING, "", id="referrers index of many"),
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
    assert len(possible_order(result)) == len(result.delete)


@pytest.mark.parametrize(
    ("held", "by"),
    [
        pytest.param(lambda: nested()[::-1], RETIRING, id="nest"),
        pytest.param(lambda: nested("v")[::-1], retiring(max_deletions=DEPTH - 1), id="tagged nest, limit"),
        pytest.param(chain, RETIRING, id="chain of signatures"),
        pytest.param(lambda: oci_referrers()[::-1], RETIRING, id="OCI referrers of one image"),
        pytest.param(lambda: chain_of_oci_referrers()[::-1], RETIRING, id="chain of OCI referrers"),
        pytest.param(lambda: [*referrers_index()[1:], manifest("s", tags="v1")], RETIRING, id="referrers index"),
        pytest.param(attested, RETIRING, id="attestations of one child"),
        pytest.param(lambda: flat()[::-1], retiring(max_deletions=2 * DEPTH - 1), id="limit on many images"),
    ],
)
def test_size_of_a_history_costs_no_more_than_itself(held: Callable[[], list[Manifest]], by: Policy) -> None:
    """A run that is cut in the middle of them is planned anew with what it has deleted."""
    manifests = held()
    half = len(manifests) // 2
    history = History()
    for one in manifests[:half]:
        history.add_deleted(one, counts=by.max_deletions is not None)
    for one in manifests[half:]:
        history.add_lost_tags(one.digest, {*one.tags})
    there = [replace(one, tags=()) for one in manifests[half:]]
    history.before = listing(*manifests)
    history.observe(listing(*there))

    result = planned(there, by, history=history)

    assert len(result.keep) + len(result.delete) == len(there)
    assert len(possible_order(result)) == len(result.delete) >= half - 1


def test_plan_can_be_asked_for_a_listing_alone() -> None:
    """Nothing was pushed, nothing runs, nothing was deleted before."""
    held = listing(manifest("a", 5), manifest("b", 6))

    assert reasons(plan(held, RETIRING, NOW)) == {"a": "expired", "b": "expired"}
