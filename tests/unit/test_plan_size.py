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
from tests.support.growth import assert_grows_evenly, seconds_of


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

    result = planned(held, policy(untagged={"keep": 0}))

    assert list(kept(result)) == ["unknown", "new", first, second, "old"]
    assert list(deleted(result)) == ["o1", "o2"]


def test_empty_repository_has_an_empty_plan() -> None:
    """Nothing to keep, nothing to delete."""
    assert planned([], RETIRING) == Plan(listing().repository, {}, ())


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

# Deeper than Python's recursion goes.
DEPTH = 4_800


def nested(depth: int, tags: str = "") -> list[Manifest]:
    """Return a nest of indexes, the innermost the oldest."""
    held = [
        manifest(f"i{n}", 30 + n, tags=tags and f"{tags}{n}", children=f"i{n + 1}" if n < depth else "")
        for n in range(depth + 1)
    ]
    return list(reversed(held))


def chain(depth: int) -> list[Manifest]:
    """Return signatures of signatures of one image."""
    return [manifest("s0", tags="v1"), *(manifest(f"s{n}", tags=cosign(f"s{n - 1}")) for n in range(1, depth))]


def ring(depth: int) -> list[Manifest]:
    """Return an image and signatures in a circle that belong to it."""
    return [*chain(depth)[:-1], manifest("s1", tags=f"{cosign('s0')} {cosign(f's{depth - 2}')}")]


def ring_of_many_images(depth: int) -> list[Manifest]:
    """Return images, and signatures in a circle, the last of which signs all the images."""
    half = depth // 2
    images = [manifest(f"o{n}", tags=f"v{n}") for n in range(half)]
    signatures = [manifest(f"k{n}", tags=cosign(f"k{(n - 1) % half}")) for n in range(half - 1)]
    all_of_them = " ".join(cosign(f"o{n}") for n in range(half))
    return [*images, *signatures, manifest(f"k{half - 1}", tags=f"{cosign(f'k{half - 2}')} {all_of_them}")]


def oci_referrers(depth: int) -> list[Manifest]:
    """Return an image with very many OCI referrers."""
    return [manifest("s", tags="v1"), *(manifest(f"r{n}", subject="s") for n in range(depth))]


def chain_of_oci_referrers(depth: int) -> list[Manifest]:
    """Return OCI referrers of OCI referrers of one image."""
    return [manifest("r0", tags="v1"), *(manifest(f"r{n}", subject=f"r{n - 1}") for n in range(1, depth))]


def chain_with_signatures(depth: int) -> list[Manifest]:
    """Return such a chain of half the length, and OCI referrers of its end each of which signs one of its members."""
    half = depth // 2
    signatures = (manifest(f"k{n}", tags=cosign(f"r{n}"), subject=f"r{half - 1}", children="") for n in range(half))
    return [*chain_of_oci_referrers(half), *signatures]


def chain_of_signatures_and_oci_referrers(depth: int) -> list[Manifest]:
    """Return a chain each member of which refers to the one before, and signs the one before that."""
    return [
        *(manifest(f"r{n}", tags=f"v{n}") for n in range(2)),
        *(manifest(f"r{n}", tags=cosign(f"r{n - 2}"), subject=f"r{n - 1}", children="") for n in range(2, depth)),
    ]


def referrers_index(depth: int) -> list[Manifest]:
    """Return an image whose referrers index lists very many OCI referrers."""
    names = [f"r{n}" for n in range(depth)]
    index = manifest("index", tags=cosign("s", ""), children=" ".join(names))
    return [manifest("s", tags="v1"), index, *(manifest(name, subject="s") for name in names)]


def referrers_index_of_many(depth: int) -> list[Manifest]:
    """Return very many images that have one referrers index, which signs as many others with OCI referrers."""
    half = depth // 2
    tags = [tag for n in range(half) for tag in (cosign(f"o{n}", ""), cosign(f"p{n}"))]
    return [
        manifest("index", tags=" ".join(tags), children=""),
        *(manifest(f"o{n}", tags=f"v{n}") for n in range(half)),
        *(manifest(f"p{n}") for n in range(half)),
        *(manifest(f"r{n}", subject=f"p{n}") for n in range(half)),
    ]


def flat(depth: int) -> list[Manifest]:
    return [manifest(f"m{n}", 30 + n, tags=f"v{n}") for n in range(2 * depth)]


def shared(depth: int) -> list[Manifest]:
    """Return one old tagged child of very many indexes."""
    return [*(manifest(f"x{n}", 30, tags=f"v{n}", children="c") for n in range(depth)), manifest("c", 99, tags="c")]


def attested(depth: int) -> list[Manifest]:
    """Return an index with very many attestations of one child."""
    names = [f"t{n}" for n in range(depth)]
    pairs = " ".join(f"{name}:c" for name in names)
    # Among the last of all that list the child, in case these are searched.
    name = max((f"index{n}" for n in range(1000)), key=digest)
    index = manifest(name, tags="v", children=f"c {' '.join(names)}", attests=pairs)
    return [index, *map(manifest, names), manifest("c")]


def attested_and_shared(depth: int) -> list[Manifest]:
    """Return the same where very many other indexes list that child too."""
    return [*attested(depth), *(manifest(f"x{n}", tags=f"v{n}", children="c") for n in range(3 * depth))]


def redundant(depth: int) -> list[Manifest]:
    """Return very many untagged indexes that list the same, and tagged ones that list a part of it and more."""
    return [
        *(manifest(f"u{n}", 30 + n, children="c d") for n in range(depth)),
        *(manifest(f"w{n}", 30 + n, children="c") for n in range(depth)),
        *(manifest(f"x{n}", 30, tags=f"v{n}", children=f"c p{n}") for n in range(depth)),
        *map(manifest, ("c", "d")),
        *(manifest(f"p{n}") for n in range(depth)),
    ]


def tagged_often(depth: int) -> list[Manifest]:
    """Return images with long versions as tags, one of which has very many."""
    many = " ".join(f"v{n}{'9' * 100}-rc.1" for n in range(4 * depth))
    return [manifest("many", tags=many), *(manifest(f"m{n}", tags=f"v{'9' * 100}{n}") for n in range(depth))]


def by_rules(rule: dict[str, object]) -> Callable[[int], Policy]:
    """Return the policy of three rules, of which only the last matches."""
    rules = [{"match": f"{other}.*", "keep": 1} for other in "wx"]
    made = policy(tagged=[*rules, {"keep": 1, **rule}], untagged={"keep": 0})
    return lambda _: made


def limit(most: Callable[[int], int]) -> Callable[[int], Policy]:
    """Return the policy that deletes everything, but no more than this at a time, by the depth."""
    return lambda depth: retiring(max_deletions=most(depth))


def everything(_: int) -> Policy:
    return RETIRING


def nothing(_: int) -> str:
    return ""


@pytest.mark.parametrize(
    ("held", "by", "running"),
    [
        pytest.param(nested, everything, nothing, id="nest"),
        pytest.param(lambda depth: nested(depth, "v"), limit(lambda _: 10), nothing, id="tagged nest, low limit"),
        pytest.param(
            lambda depth: nested(depth, "v"), limit(lambda depth: depth // 2), nothing, id="tagged nest, high limit"
        ),
        pytest.param(
            lambda depth: nested(depth, "v"),
            everything,
            lambda depth: " ".join(f"i{n}" for n in range(depth)),
            id="running nest",
        ),
        pytest.param(chain, everything, nothing, id="chain of signatures"),
        pytest.param(ring, everything, nothing, id="ring of signatures"),
        pytest.param(ring_of_many_images, everything, nothing, id="ring on many images"),
        pytest.param(oci_referrers, everything, nothing, id="OCI referrers of one image"),
        pytest.param(chain_of_oci_referrers, everything, nothing, id="chain of OCI referrers"),
        pytest.param(chain_with_signatures, everything, nothing, id="signatures at the end of such a chain"),
        pytest.param(chain_of_signatures_and_oci_referrers, everything, nothing, id="chain of both"),
        pytest.param(referrers_index, everything, nothing, id="referrers index"),
        pytest.param(referrers_index_of_many, everything, nothing, id="referrers index of many"),
        pytest.param(attested, everything, nothing, id="attestations of one child"),
        pytest.param(attested_and_shared, everything, nothing, id="attestations of a shared child"),
        pytest.param(flat, limit(lambda depth: 2 * depth - 1), nothing, id="limit on many images"),
        pytest.param(shared, limit(lambda depth: depth), nothing, id="limit on a shared child"),
        pytest.param(redundant, everything, nothing, id="redundant indexes"),
        pytest.param(tagged_often, by_rules({"match": "(v).*", "order": "version"}), nothing, id="long versions"),
        pytest.param(tagged_often, by_rules({"match": "(v.*)"}), nothing, id="many pools"),
    ],
)
def test_size_of_a_repository_costs_no_more_than_itself(
    held: Callable[[int], list[Manifest]], by: Callable[[int], Policy], running: Callable[[int], str]
) -> None:
    """Anyone who may push can build these: no recursion, nothing that grows with the square."""

    def seconds(depth: int) -> float:
        manifests = held(depth)
        results: list[Plan] = []
        took = seconds_of(lambda: results.append(planned(manifests, by(depth), running=running(depth))))
        (result,) = results
        assert len(result.keep) + len(result.delete) == len(listing(*manifests).manifests)
        assert len(possible_order(result)) == len(result.delete)
        return took

    assert_grows_evenly(seconds, DEPTH)


@pytest.mark.parametrize(
    ("held", "by"),
    [
        pytest.param(lambda depth: nested(depth)[::-1], everything, id="nest"),
        pytest.param(lambda depth: nested(depth, "v")[::-1], limit(lambda depth: depth - 1), id="tagged nest, limit"),
        pytest.param(chain, everything, id="chain of signatures"),
        pytest.param(lambda depth: oci_referrers(depth)[::-1], everything, id="OCI referrers of one image"),
        pytest.param(lambda depth: chain_of_oci_referrers(depth)[::-1], everything, id="chain of OCI referrers"),
        pytest.param(
            lambda depth: [*referrers_index(depth)[1:], manifest("s", tags="v1")], everything, id="referrers index"
        ),
        pytest.param(attested, everything, id="attestations of one child"),
        pytest.param(lambda depth: flat(depth)[::-1], limit(lambda depth: 2 * depth - 1), id="limit on many images"),
    ],
)
def test_size_of_a_history_costs_no_more_than_itself(
    held: Callable[[int], list[Manifest]], by: Callable[[int], Policy]
) -> None:
    """A run that is cut in the middle of them is planned anew with what it has deleted."""

    def seconds(depth: int) -> float:
        manifests = held(depth)
        half = len(manifests) // 2
        there = [replace(one, tags=()) for one in manifests[half:]]
        results: list[Plan] = []

        def remember_and_plan() -> None:
            history = History()
            for one in manifests[:half]:
                history.add_deleted(one, counts=by(depth).max_deletions is not None)
            for one in manifests[half:]:
                history.add_lost_tags(one.digest, {*one.tags})
            history.before = listing(*manifests)
            history.observe(listing(*there))
            results.append(planned(there, by(depth), history=history))

        took = seconds_of(remember_and_plan)
        (result,) = results
        assert len(result.keep) + len(result.delete) == len(there)
        assert len(possible_order(result)) == len(result.delete) >= half - 1
        return took

    assert_grows_evenly(seconds, DEPTH)


def test_plan_can_be_asked_for_a_listing_alone() -> None:
    """Nothing was pushed, nothing runs, nothing was deleted before."""
    held = listing(manifest("a", 5), manifest("b", 6))

    assert reasons(plan(held, RETIRING, NOW)) == {"a": "expired", "b": "expired"}
