"""Deciding: ``max_deletions``."""

from __future__ import annotations

import pytest

from tests.support.builders import (
    RETIRING,
    cosign,
    deleted,
    kept,
    manifest,
    name_of,
    named,
    one_rule,
    planned,
    policy,
    reasons,
    retiring,
)


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
        "orphan": "orphaned",
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


@pytest.mark.parametrize(("already", "going"), [(0, {"a", "b"}), (1, {"a"}), (2, set()), (3, set()), (1_000, set())])
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
    assert kept(planned(held, retiring(), already_deleted=1_000)) == {}


def test_of_equal_ages_the_greater_digest_is_the_older() -> None:
    """The limit goes by the same order as keep."""
    first, second, third = named("a", "b", "c")
    held = [manifest(name, 9) for name in (second, third, first)]

    assert set(deleted(planned(held, retiring(max_deletions=1)))) == {third}


def test_kept_image_takes_nothing_from_the_limit() -> None:
    """Only what would go is counted."""
    held = [manifest("release", 99, tags="v1"), manifest("a", 9, tags="ci-1"), manifest("b", 8, tags="ci-2")]

    assert set(deleted(planned(held, policy(**one_rule(match="ci-.*", delete_after="1d", max_deletions=1))))) == {"a"}


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


def test_what_was_deleted_is_not_chosen_again() -> None:
    """A later plan of the run lets the same go as the first: here the tagged child of a deleted index stays over."""
    index = manifest("index", 5, tags="v1", children="child")
    held = [manifest("child", 99, tags="v1-amd64"), manifest("x", 7)]
    by = retiring(max_deletions=2)

    assert deleted(planned([*held, index], by)) == {"x": "expired", "index": "expired"}
    assert deleted(planned(held, by, deleted=[index])) == {"x": "expired"}
    assert deleted(planned(held[:1], by, deleted=[index, held[1]])) == {}


def test_rest_of_a_group_is_deleted_within_the_limit() -> None:
    """What of it was deleted already counts, and takes no place a second time."""
    subject = manifest("subject", 9, tags="v1")
    sbom = manifest("sbom", 8, tags="v2", subject="subject", children="")
    by = retiring(max_deletions=2)

    assert deleted(planned([subject, sbom, manifest("x", 7)], by)) == {"subject": "expired", "sbom": "expired"}
    assert deleted(planned([subject, manifest("x", 7)], by, deleted=[sbom])) == {"subject": "expired"}


# --- what the registry does not delete


@pytest.mark.parametrize("limit", [None, 1, 2])
def test_what_cannot_be_deleted_is_kept_for_its_own_reason(limit: int | None) -> None:
    """With all that it needs; with a limit it takes no place, so the next oldest are deleted."""
    held = [
        manifest("a", 9, tags="v1", children="child"),
        manifest("child"),
        manifest("signature", tags=cosign("a")),
        manifest("b", 8),
        manifest("c", 7),
    ]

    result = planned(held, retiring(max_deletions=limit), undeletable="a")

    assert reasons(result) == {
        "a": "expired",
        "child": "needed",
        "signature": "needed",
        "b": "expired",
        "c": "over-limit" if limit == 1 else "expired",
    }
    assert list(deleted(result)) == (["b"] if limit == 1 else ["c", "b"])


@pytest.mark.parametrize(
    ("undeletable", "reason"),
    [("image", "expired"), ("child", "follows"), ("sbom", "follows"), ("orphan", "orphaned")],
)
def test_reason_of_what_cannot_be_deleted_is_that_of_its_class(undeletable: str, reason: str) -> None:
    """What it belongs to can still be deleted; its subject cannot."""
    held = [
        manifest("image", tags="v1", children="child"),
        manifest("child"),
        manifest("sbom", subject="image"),
        manifest("orphan", subject="gone"),
    ]

    result = planned(held, RETIRING, undeletable=undeletable)

    assert kept(result)[undeletable] == reason
    assert (
        set(kept(result))
        == {
            "image": {"image", "child", "sbom"},
            "child": {"child"},
            "sbom": {"image", "child", "sbom"},
            "orphan": {"orphan"},
        }[undeletable]
    )


def test_what_is_kept_anyway_is_not_undeletable() -> None:
    """It needs no other reason, and what was deleted has none."""
    held = [manifest("young", 0), manifest("index", 0, tags="v1", children="child"), manifest("child")]

    result = planned(held, RETIRING, undeletable="young child gone", deleted=[manifest("gone")])

    assert reasons(result) == {"young": "too-young", "index": "too-young", "child": "needed"}


def test_nothing_but_what_was_chosen_is_deleted() -> None:
    """The rest is kept for its own reason, with what it needs."""
    held = [
        manifest("a", 9, children="own shared"),
        manifest("own"),
        manifest("b", 8, tags="v1", children="shared"),
        manifest("shared"),
    ]

    result = planned(held, RETIRING, only="a own shared")

    assert deleted(result) == {"a": "expired", "own": "follows"}
    assert kept(result) == {"b": "expired", "shared": "needed"}
    assert deleted(planned(held, RETIRING, only="")) == {}


@pytest.mark.parametrize(("lost", "is_deleted"), [("v1 v2", True), ("v1", False), ("", False)])
def test_registry_without_tag_deletions_keeps_what_has_tags(lost: str, *, is_deleted: bool) -> None:
    """What never had one, or has lost all of them to this run, can be deleted."""
    held = [
        manifest("image", tags=" ".join({"v1", "v2"} - set(lost.split())), children="child"),
        manifest("child"),
        manifest("untagged"),
        manifest("signature", tags=cosign("untagged")),
        manifest("orphan", subject="gone"),
    ]

    result = planned(held, RETIRING, has_immutable_tags=True, lost_tags={"image": lost} if lost else {})

    # The signature cannot be deleted, and needs its subject.
    assert {name: reason for name, reason in kept(result).items() if name in ("untagged", "signature")} == {
        "untagged": "needed",
        "signature": "follows",
    }
    assert set(deleted(result)) == ({"image", "child", "orphan"} if is_deleted else {"orphan"})


@pytest.mark.parametrize("undeletable", ["", "index", "child", "index child"])
def test_what_another_over_the_limit_needs_is_needed(undeletable: str) -> None:
    """The first reason that applies; of two that need one another neither is kept for the other's sake."""
    held = [
        manifest("index", 5, tags="v1", children="inner"),
        manifest("inner", 9, children="child"),
        manifest("child", 9, tags="v1-amd64"),
        manifest("subject", 8, tags="v2"),
        manifest("sbom", 7, tags="v3", subject="subject", children=""),
    ]

    result = planned(held, retiring(max_deletions=1), already_deleted=1, undeletable=undeletable)

    names = undeletable.split()
    assert kept(result) == {
        "index": "expired" if "index" in names else "over-limit",
        "inner": "needed",
        "child": "expired" if "child" in names else "needed",
        "subject": "over-limit",
        "sbom": "over-limit",
    }


def test_what_cannot_be_deleted_keeps_what_it_needs_and_what_needs_it() -> None:
    """All of that takes no place in the limit."""
    held = [
        manifest("subject", 9, tags="v1"),
        manifest("sbom", 8, tags="v2", subject="subject", children=""),
        manifest("other", 7),
    ]

    result = planned(held, retiring(max_deletions=2), undeletable="sbom")

    assert set(deleted(result)) == {"other"}
    assert kept(result) == {"subject": "needed", "sbom": "expired"}
