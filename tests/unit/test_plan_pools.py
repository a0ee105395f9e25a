"""Deciding: ages and their bounds, and the pools in which ``keep`` counts."""

from __future__ import annotations

import pytest

from cleaner.core.manifest import Manifest
from tests.support.builders import cosign, deleted, digest, kept, manifest, named, planned, policy, reasons, retiring

# One microsecond, in days: the resolution of a clock.
TICK = 1 / 86_400e6


# --- ages and their bounds


@pytest.mark.parametrize(
    ("age_days", "reason"),
    [(2 - TICK, "too-young"), (2, "expired"), (2 + TICK, "expired"), (0, "too-young"), (-400, "too-young")],
)
def test_exactly_min_age_may_be_deleted(age_days: float, reason: str) -> None:
    """Less may not, and what comes from the future is young."""
    assert reasons(planned([manifest("x", age_days)], retiring(min_age="2d"))) == {"x": reason}
    orphan = manifest("x", age_days, subject="gone")
    assert reasons(planned([orphan], retiring(min_age="2d"))) == {"x": reason.replace("expired", "orphan")}


def test_default_min_age_is_an_hour() -> None:
    """To the microsecond."""
    held = [manifest("young", 1 / 24 - TICK), manifest("old", 1 / 24)]

    assert reasons(planned(held, policy(keep_untagged=0))) == {"young": "too-young", "old": "expired"}


@pytest.mark.parametrize(("age_days", "reason"), [(7 - TICK, "newest"), (7, "expired"), (7 + TICK, "expired")])
@pytest.mark.parametrize("tags", ["v1", ""])
def test_exactly_max_age_is_no_longer_kept_for_being_new(age_days: float, reason: str, tags: str) -> None:
    """In both pools."""
    assert reasons(planned([manifest("x", age_days, tags)], retiring(max_age="7d"))) == {"x": reason}


def test_max_age_takes_nothing_from_the_other_rules() -> None:
    """It only ends what keep and keep_untagged hold."""
    held = [manifest("release", 999, tags="v1"), manifest("ci", 999, tags="ci-1")]

    assert reasons(planned(held, policy(delete_tags=["ci-.*"], max_age="7d"))) == {
        "release": "tagged",
        "ci": "expired",
    }


def test_max_age_shorter_than_min_age_deletes_nothing_young() -> None:
    """min_age stands above."""
    assert reasons(planned([manifest("x", 0.5)], retiring(min_age="1d", max_age="1s"))) == {"x": "too-young"}


@pytest.mark.parametrize("tags", ["v", ""])
def test_of_equal_ages_the_smaller_digest_is_the_newer(tags: str) -> None:
    """So that a plan is never arbitrary."""
    first, second, third = named("a", "b", "c")
    held = [manifest(name, 3, tags and tags + name) for name in (third, first, second)]

    result = planned(held, policy(keep=2, delete_tags=[".*"]))

    assert reasons(result) == {first: "newest", second: "newest", third: "expired"}


def test_unknown_age_counts_in_no_pool() -> None:
    """It is kept, and takes nobody's place."""
    held = [
        manifest("unknown", None, tags="v9"),
        manifest("new", 1, tags="v2"),
        manifest("old", 2, tags="v1"),
        manifest("unknown-untagged", None),
        manifest("new-untagged", 1),
        manifest("old-untagged", 2),
    ]

    assert deleted(planned(held, policy(keep=1, delete_tags=[".*"]))) == {
        "old": "expired",
        "old-untagged": "expired",
    }


# --- pools


def test_newest_of_each_pool_are_kept() -> None:
    """Tagged and untagged images count apart."""
    held = [manifest(f"t{n}", n, tags=f"v{n}") for n in range(1, 5)]
    held += [manifest(f"u{n}", n + 0.5) for n in range(1, 5)]

    result = planned(held, policy(keep=3, keep_untagged=2, delete_tags=[".*"]))

    assert list(kept(result)) == ["t1", "u1", "t2", "u2", "t3"]
    assert set(kept(result).values()) == {"newest"}
    assert deleted(result) == {"t4": "expired", "u3": "expired", "u4": "expired"}


def test_five_of_each_are_kept_by_default() -> None:
    """keep is 5, and keep_untagged is as keep."""
    held = [manifest(f"t{n}", n, tags=f"v{n}") for n in range(1, 8)] + [manifest(f"u{n}", n) for n in range(1, 8)]

    assert set(deleted(planned(held, policy(delete_tags=[".*"])))) == {"t6", "t7", "u6", "u7"}
    assert set(deleted(planned(held, policy(delete_tags=[".*"], keep=6)))) == {"t7", "u7"}


def test_keep_untagged_may_be_nothing() -> None:
    """Then every untagged image goes that is old enough."""
    held = [manifest("untagged", 1), manifest("young", 0.01)]

    assert reasons(planned(held, policy(keep_untagged=0))) == {"untagged": "expired", "young": "too-young"}


def test_image_that_another_rule_keeps_counts_in_its_pool() -> None:
    """keep is how many there are, not how many more."""
    held = [
        manifest("young", 0.01, tags="v9"),
        manifest("protected", 1, tags="release"),
        manifest("running", 2, tags="v8"),
        manifest("pushed", 3, tags="v7"),
        manifest("odd", 4, tags="v6", kind="application/x"),
        manifest("fifth", 5, tags="v5"),
        manifest("sixth", 6, tags="v4"),
    ]
    by = policy(keep=6, delete_tags=["v.*"], protect_tags=["release"])

    result = planned(held, by, just_pushed="pushed", running="running")

    assert reasons(result) == {
        "young": "too-young",
        "protected": "protected-tag",
        "running": "running",
        "pushed": "just-pushed",
        "odd": "unknown-type",
        "fifth": "newest",
        "sixth": "expired",
    }


def test_young_untagged_image_takes_no_place() -> None:
    """It may be part of an index that is still on its way; a young tagged image does take one."""
    held = [manifest("young", 0.01), manifest("new", 1), manifest("old", 2)]

    assert reasons(planned(held, policy(keep_untagged=1))) == {
        "young": "too-young",
        "new": "newest",
        "old": "expired",
    }

    held = [manifest("young", 0.01, tags="v3"), manifest("new", 1, tags="v2")]
    assert reasons(planned(held, policy(keep=1, delete_tags=[".*"]))) == {"young": "too-young", "new": "expired"}


def test_children_and_referrers_take_no_place() -> None:
    """Only images are in a pool."""
    held = [
        manifest("index", 1, tags="v1", children="child"),
        manifest("child", 1),
        manifest("signature", 1, tags=cosign("index")),
        manifest("orphan", 1, subject="gone"),
        manifest("untagged", 3),
        manifest("tagged", 3, tags="v0"),
    ]

    assert deleted(planned(held, policy(keep=2, keep_untagged=1, delete_tags=[".*"]))) == {"orphan": "orphan"}


# --- groups

BY_BRANCH = "(.+)-[0-9a-f]{7}"


def branch(name: str, age_days: float) -> Manifest:
    return manifest(f"{name}@{age_days}", age_days, tags=f"{name}-{digest(f'{name}{age_days}')[7:14]}")


def test_keep_counts_in_each_group() -> None:
    """A busy branch pushes nothing of another out."""
    held = [branch("main", n) for n in (1, 2, 3)] + [branch("quiet", 400), branch("quiet", 401)]

    result = planned(held, policy(keep=1, group_by=BY_BRANCH, delete_tags=[".*"]))

    assert kept(result) == {"main@1": "newest", "quiet@400": "newest"}


def test_tagged_images_that_match_no_group_share_one() -> None:
    """Untagged images are none of them."""
    held = [
        branch("main", 9),
        manifest("a", 1, tags="latest"),
        manifest("b", 2, tags="v1"),
        manifest("c", 3, tags="main-1234"),
        manifest("untagged", 4),
    ]

    result = planned(held, policy(keep=2, keep_untagged=0, group_by=BY_BRANCH, delete_tags=[".*"]))

    assert deleted(result) == {"c": "expired", "untagged": "expired"}


def test_image_in_several_groups_stays_if_any_keeps_it() -> None:
    """A commit that two branches share."""
    held = [
        branch("main", 1),
        manifest("both", 2, tags="main-aaaaaaa feature-aaaaaaa"),
        manifest("old", 3, tags="main-bbbbbbb feature-bbbbbbb"),
        manifest("one", 4, tags="main-ccccccc"),
    ]

    result = planned(held, policy(keep=1, group_by=BY_BRANCH, delete_tags=[".*"]))

    assert kept(result) == {"main@1": "newest", "both": "newest"}


def test_all_of_what_the_groups_captured_tells_groups_apart() -> None:
    """Two groups in the pattern, one of which may have no part in the match."""
    by = policy(keep=1, group_by="(?:pr-([0-9]+)|(main))-([a-z]+)-.*", delete_tags=[".*"])
    held = [
        manifest("a", 1, tags="pr-1-web-x"),
        manifest("b", 2, tags="pr-1-api-x"),
        manifest("c", 3, tags="pr-2-web-x"),
        manifest("d", 4, tags="main-web-x"),
        manifest("e", 5, tags="main-web-y"),
        manifest("f", 6, tags="pr-2-web-y"),
    ]

    assert set(kept(planned(held, by))) == {"a", "b", "c", "d"}


def test_group_is_matched_whole() -> None:
    """Else the tag is one of those that match no group."""
    held = [manifest("a", 1, tags="x-main-aaaaaaa-y"), manifest("b", 2, tags="other")]

    assert set(kept(planned(held, policy(keep=1, group_by="(main)-[0-9a-f]{7}", delete_tags=[".*"])))) == {"a"}


def test_max_age_retires_a_branch() -> None:
    """Nobody pushes to it, so nothing of it is kept for being new."""
    held = [branch("main", 1), branch("gone", 31), branch("gone", 30)]

    result = planned(held, policy(keep=1, group_by=BY_BRANCH, delete_tags=[".*"], max_age="30d"))

    assert kept(result) == {"main@1": "newest"}


# --- what another process may be deleting


def test_untagged_image_is_deleted_by_count_only_if_it_was_untagged_before() -> None:
    """What was not may be a part of an image that another process is deleting, and takes no place either."""
    held = [manifest("part", 1), manifest("a", 2), manifest("b", 3), manifest("c", 4), manifest("other-part", 5)]
    by = policy(keep_untagged=2)

    assert deleted(planned(held, by)) == {"b": "expired", "c": "expired", "other-part": "expired"}
    assert reasons(planned(held, by, untagged_before="a b c gone")) == {
        "part": "newest",
        "a": "newest",
        "b": "newest",
        "c": "expired",
        "other-part": "newest",
    }
    assert deleted(planned(held, by, untagged_before="")) == {}


def test_what_is_not_deleted_by_count_needs_no_second_listing() -> None:
    """Its age alone decides, or there is nothing to count."""
    held = [manifest("part", 8), manifest("a", 9)]

    for by in (policy(keep_untagged=0), policy(max_age="7d")):
        assert deleted(planned(held, by, untagged_before="")) == {"part": "expired", "a": "expired"}
        assert not planned(held, by).is_by_count


@pytest.mark.parametrize(("keep_untagged", "is_by_count"), [(1, True), (2, False)])
def test_plan_says_whether_it_deletes_an_untagged_image_by_count(keep_untagged: int, *, is_by_count: bool) -> None:
    """What is tagged, or belongs to something, is not such an image; nor is what is over the limit."""
    held = [
        manifest("a", 2),
        manifest("b", 3, children="child"),
        manifest("child", 3),
        manifest("tagged", 9, tags="v1"),
        manifest("orphan", 9, subject="gone"),
    ]
    by = retiring(max_age=None, keep=1, keep_untagged=keep_untagged)
    newer = manifest("newer", 1, tags="v2")

    result = planned([*held, newer], by)

    assert result.is_by_count is is_by_count
    assert result.untagged == {digest("a"), digest("b")}
    limited = retiring(max_age=None, keep=1, keep_untagged=keep_untagged, max_deletions=1)
    assert not planned([*held, newer], limited).is_by_count
