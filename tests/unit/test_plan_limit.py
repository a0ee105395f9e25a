"""Deciding: ``max_deletions``."""

from __future__ import annotations

import pytest

from tests.support.builders import RETIRING, deleted, kept, manifest, name_of, named, planned, retiring


def test_oldest_go_first_up_to_the_limit() -> None:
    """Images and orphans count; what follows them does not."""
    held = [
        manifest("a", 40, tags="v1", children="a1 a2 a3"),
        manifest("a1"),
        manifest("a2"),
        manifest("a3"),
        manifest("orphan", 39, subject="gone"),
        manifest("b", 38),
        manifest("c", 37, tags="v3", children="c1"),
        manifest("c1", 99),
    ]

    result = planned(held, retiring(max_deletions=3))

    assert deleted(result) == {
        "a": "expired",
        "a1": "follows",
        "a2": "follows",
        "a3": "follows",
        "orphan": "orphan",
        "b": "expired",
    }
    assert kept(result) == {"c": "over-limit", "c1": "needed"}
    assert {name_of(each.manifest.digest): each.counts for each in result.delete} == {
        "a": True,
        "a1": False,
        "a2": False,
        "a3": False,
        "orphan": True,
        "b": True,
    }


@pytest.mark.parametrize(
    ("already", "going"), [(0, {"a", "b"}), (1, {"a"}), (2, set()), (3, set()), (1_000_000, set())]
)
def test_what_this_run_has_deleted_counts_in_the_limit(already: int, going: set[str]) -> None:
    """A run plans several times; the limit is the run's."""
    held = [manifest("a", 9), manifest("b", 8), manifest("c", 7)]

    result = planned(held, retiring(max_deletions=2), already_deleted=already)

    assert set(deleted(result)) == going
    assert set(kept(result).values()) <= {"over-limit"}


def test_limit_that_is_not_reached_keeps_nothing() -> None:
    """Exactly as many as it allows."""
    held = [manifest("a", 9), manifest("b", 8)]

    assert kept(planned(held, retiring(max_deletions=2))) == {}
    assert kept(planned(held, retiring(max_deletions=3))) == {}
    assert kept(planned(held, retiring(), already_deleted=1_000_000)) == {}


def test_of_equal_ages_the_greater_digest_is_the_older() -> None:
    """The limit goes by the same order as keep."""
    first, second, third = named("a", "b", "c")
    held = [manifest(name, 9) for name in (second, third, first)]

    assert set(deleted(planned(held, retiring(max_deletions=1)))) == {third}


def test_kept_image_takes_nothing_from_the_limit() -> None:
    """Only what would go is counted."""
    held = [manifest("release", 99, tags="v1"), manifest("a", 9, tags="ci-1"), manifest("b", 8, tags="ci-2")]

    assert set(deleted(planned(held, retiring(delete_tags=["ci-.*"], max_deletions=1)))) == {"a"}


def test_child_of_an_image_over_the_limit_stays() -> None:
    """Though it has a tag of its own and is the oldest of all: it can go only together with its index."""
    held = [
        manifest("index", 5, tags="v1", children="child"),
        manifest("child", 99, tags="v1-amd64"),
        manifest("x", 7),
    ]

    one = planned(held, retiring(max_deletions=1))
    assert set(deleted(one)) == {"x"}
    assert kept(one) == {"index": "over-limit", "child": "needed"}

    two = set(deleted(planned(held, retiring(max_deletions=2))))
    assert "index" in two
    assert len(two) == 2
    assert set(deleted(planned(held[:2], retiring(max_deletions=1)))) == {"index"}
    assert kept(planned(held, retiring(max_deletions=3))) == {}


def test_subject_goes_only_together_with_the_image_that_refers_to_it() -> None:
    """A kept manifest needs its subject, so the older one waits."""
    held = [manifest("subject", 99, tags="v1"), manifest("sbom", 5, tags="v2", subject="subject", children="")]

    assert deleted(planned(held, retiring(max_deletions=1))) == {}
    assert set(deleted(planned(held, retiring(max_deletions=2)))) == {"subject", "sbom"}


def test_what_could_not_be_deleted_takes_nobodys_place() -> None:
    """What the registry refused in this run stays, and the next oldest go."""
    held = [manifest("a", 9, tags="v1", children="child"), manifest("child"), manifest("b", 8), manifest("c", 7)]

    result = planned(held, retiring(max_deletions=1), passed_over="a")

    assert deleted(result) == {"b": "expired"}
    assert kept(result) == {"a": "over-limit", "child": "needed", "c": "over-limit"}


@pytest.mark.parametrize("passed_over", ["", "index", "child", "index child"])
def test_what_another_over_the_limit_needs_is_needed(passed_over: str) -> None:
    """The first reason that applies; of two that need one another neither is kept for the other's sake."""
    held = [
        manifest("index", 5, tags="v1", children="inner"),
        manifest("inner", 9, children="child"),
        manifest("child", 9, tags="v1-amd64"),
        manifest("subject", 8, tags="v2"),
        manifest("sbom", 7, tags="v3", subject="subject", children=""),
    ]

    result = planned(held, retiring(max_deletions=1), already_deleted=1, passed_over=passed_over)

    assert kept(result) == {
        "index": "over-limit",
        "inner": "needed",
        "child": "needed",
        "subject": "over-limit",
        "sbom": "over-limit",
    }


def test_what_could_not_be_deleted_keeps_what_it_needs() -> None:
    """And what needs it: all of that stays within the limit."""
    held = [
        manifest("subject", 9, tags="v1"),
        manifest("sbom", 8, tags="v2", subject="subject", children=""),
        manifest("other", 7),
    ]

    result = planned(held, retiring(max_deletions=2), passed_over="sbom")

    assert set(deleted(result)) == {"other"}


def test_without_a_limit_nothing_is_passed_over() -> None:
    """There is no place to take; whoever carries the plan out knows what to spare."""
    assert deleted(planned([manifest("a", 9)], RETIRING, passed_over="a")) == {"a": "expired"}
