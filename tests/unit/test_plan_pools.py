"""Deciding: ages and their bounds, and the pools in which ``keep`` counts."""

from __future__ import annotations

import pytest

from cleaner.core.manifest import Manifest
from tests.support.builders import (
    cosign,
    deleted,
    digest,
    kept,
    manifest,
    name_of,
    named,
    one_rule,
    planned,
    policy,
    reasons,
)

# One microsecond, in days: the resolution of a clock.
TICK = 1 / 86_400e6


# --- ages and their bounds


@pytest.mark.parametrize(
    ("age_days", "reason"),
    [(2 - TICK, "too-young"), (2, "expired"), (2 + TICK, "expired"), (0, "too-young"), (-400, "too-young")],
)
def test_exactly_min_age_may_be_deleted(age_days: float, reason: str) -> None:
    """Less may not, and what comes from the future is young."""
    by = policy(**one_rule(0, 0, min_age="2d"))

    assert reasons(planned([manifest("x", age_days)], by)) == {"x": reason}
    assert reasons(planned([manifest("x", age_days, tags="v1")], by)) == {"x": reason}
    orphan = manifest("x", age_days, subject="gone")
    assert reasons(planned([orphan], by)) == {"x": reason.replace("expired", "orphaned")}


def test_default_min_age_is_an_hour() -> None:
    """To the microsecond."""
    held = [manifest("young", 1 / 24 - TICK), manifest("old", 1 / 24)]

    assert reasons(planned(held, policy(untagged={"keep": 0}))) == {"young": "too-young", "old": "expired"}


@pytest.mark.parametrize(("age_days", "reason"), [(7 - TICK, "newest"), (7, "expired"), (7 + TICK, "expired")])
@pytest.mark.parametrize("tags", ["v1", ""])
def test_exactly_delete_after_is_no_longer_kept(age_days: float, reason: str, tags: str) -> None:
    """Even as the newest, tagged or not."""
    by = policy(**one_rule(delete_after="7d"))

    assert reasons(planned([manifest("x", age_days, tags)], by)) == {"x": reason}


@pytest.mark.parametrize(("age_days", "reason"), [(7 - TICK, "recent"), (7, "expired"), (7 + TICK, "expired")])
@pytest.mark.parametrize("tags", ["v1", ""])
def test_exactly_keep_within_is_no_longer_recent(age_days: float, reason: str, tags: str) -> None:
    """Without keep it alone decides."""
    rule = {"keep_within": "7d"}
    by = policy(tagged=[{"match": ".*", **rule}], untagged=rule)

    assert reasons(planned([manifest("x", age_days, tags)], by)) == {"x": reason}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"keep": "all"}, ["protected"] * 4),
        ({"keep": 2}, ["newest", "newest", "expired", "expired"]),
        ({"keep": 0}, ["expired"] * 4),
        ({"keep": 9}, ["newest"] * 4),
        ({"keep_within": "25d"}, ["recent", "recent", "expired", "expired"]),
        ({"keep": 1, "keep_within": "25d"}, ["newest", "recent", "expired", "expired"]),
        ({"keep": 3, "keep_within": "15d"}, ["newest", "newest", "newest", "expired"]),
        ({"delete_after": "25d"}, ["protected", "protected", "expired", "expired"]),
        ({"keep": 3, "delete_after": "25d"}, ["newest", "newest", "expired", "expired"]),
        ({"keep": 1, "delete_after": "25d"}, ["newest", "expired", "expired", "expired"]),
        ({"keep": 1, "keep_within": "15d", "delete_after": "25d"}, ["newest", "expired", "expired", "expired"]),
        ({"keep": 1, "keep_within": "20d", "delete_after": "25d"}, ["newest", "expired", "expired", "expired"]),
        ({"keep": 1, "keep_within": "24d", "delete_after": "25d"}, ["newest", "recent", "expired", "expired"]),
    ],
)
@pytest.mark.parametrize("tags", ["v{}", ""])
def test_rule_keeps_by_count_or_age_until_delete_after(
    rule: dict[str, object], expected: list[str], tags: str
) -> None:
    """The images are 10, 20, 30 and 40 days old."""
    held = [manifest(f"x{age}", age, tags.format(age)) for age in (10, 20, 30, 40)]

    result = planned(held, policy(tagged=[{"match": "v.*", **rule}], untagged=rule))

    assert [reasons(result)[name_of(one.digest)] for one in held] == expected


def test_delete_after_is_of_its_own_rule() -> None:
    """A tag of another rule keeps the image all the same."""
    held = [manifest("both", 99, tags="ci-1 v1"), manifest("ci", 99, tags="ci-2")]
    rules = [{"match": "ci-.*", "delete_after": "7d"}, {"match": "v.*", "keep": "all"}]

    assert reasons(planned(held, policy(tagged=rules))) == {"both": "protected", "ci": "expired"}


@pytest.mark.parametrize("tags", ["v", ""])
def test_of_equal_ages_the_smaller_digest_is_the_newer(tags: str) -> None:
    """So that a plan is never arbitrary."""
    first, second, third = named("a", "b", "c")
    held = [manifest(name, 3, tags and tags + name) for name in (third, first, second)]

    result = planned(held, policy(**one_rule(2, 2)))

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

    assert deleted(planned(held, policy(**one_rule(1, 1)))) == {"old": "expired", "old-untagged": "expired"}


# --- pools


def test_newest_of_each_pool_are_kept() -> None:
    """Tagged and untagged images count apart."""
    held = [manifest(f"t{n}", n, tags=f"v{n}") for n in range(1, 5)]
    held += [manifest(f"u{n}", n + 0.5) for n in range(1, 5)]

    result = planned(held, policy(**one_rule(3, 2)))

    assert list(kept(result)) == ["t1", "u1", "t2", "u2", "t3"]
    assert set(kept(result).values()) == {"newest"}
    assert deleted(result) == {"t4": "expired", "u3": "expired", "u4": "expired"}


def test_five_untagged_images_are_kept_by_default() -> None:
    """And every tagged one."""
    held = [manifest(f"t{n}", n, tags=f"v{n}") for n in range(1, 8)] + [manifest(f"u{n}", n) for n in range(1, 8)]

    assert set(deleted(planned(held, policy()))) == {"u6", "u7"}


def test_all_untagged_images_may_be_deleted() -> None:
    """If they are old enough."""
    held = [manifest("untagged", 1), manifest("young", 0.01)]

    assert reasons(planned(held, policy(untagged={"keep": 0}))) == {"untagged": "expired", "young": "too-young"}


def test_image_that_another_rule_keeps_counts_in_its_pool() -> None:
    """keep is how many there are, not how many more."""
    held = [
        manifest("young", 0.01, tags="v9"),
        manifest("protected", 1, tags="v7 release"),
        manifest("running", 2, tags="v8"),
        manifest("pushed", 3, tags="v6"),
        manifest("odd", 4, tags="v6 v5", kind="application/x"),
        manifest("fifth", 5, tags="v5"),
        manifest("sixth", 6, tags="v4"),
    ]
    by = policy(tagged=[{"match": "v.*", "keep": 5}, {"match": "release", "keep": "all"}])

    result = planned(held, by, just_pushed="pushed", running="running")

    assert reasons(result) == {
        "young": "too-young",
        "protected": "protected",
        "running": "running",
        "pushed": "just-pushed",
        "odd": "unknown-type",
        "fifth": "newest",
        "sixth": "expired",
    }


def test_young_untagged_image_takes_no_place() -> None:
    """It may be part of an index that is still on its way; a young tagged image does take one."""
    held = [manifest("young", 0.01), manifest("new", 1), manifest("old", 2)]

    assert reasons(planned(held, policy(untagged={"keep": 1}))) == {
        "young": "too-young",
        "new": "newest",
        "old": "expired",
    }

    held = [manifest("young", 0.01, tags="v3"), manifest("new", 1, tags="v2")]
    assert reasons(planned(held, policy(**one_rule(1)))) == {"young": "too-young", "new": "expired"}


def test_children_referrers_and_orphans_take_no_place() -> None:
    """Only images are in a pool."""
    held = [
        manifest("index", 1, tags="v1", children="child"),
        manifest("child", 1),
        manifest("signature", 1, tags=cosign("index")),
        manifest("orphan", 1, subject="gone"),
        manifest("untagged", 3),
        manifest("tagged", 3, tags="v0"),
    ]

    assert deleted(planned(held, policy(**one_rule(2, 1)))) == {"orphan": "orphaned"}


NO_PLACE = {
    "unknown age": manifest("x", None, tags="v9"),
    "unknown type": manifest("x", 1, tags="v9", kind="application/x"),
    "delete_after old": manifest("x", 99, tags="v9"),
    "index that lists only absent manifests": manifest("x", 1, tags="v9", children="", lists_absent=True),
    "child with a tag": manifest("x", 1, tags="v9"),
}


@pytest.mark.parametrize("case", NO_PLACE)
@pytest.mark.parametrize("order", ["uploaded", "version"])
def test_what_takes_no_place_pushes_nothing_out(case: str, order: str) -> None:
    """Though it stands before the others."""
    held = [NO_PLACE[case], manifest("new", 2, tags="v2"), manifest("old", 3, tags="v1")]
    if case == "child with a tag":
        held.append(manifest("index", 1, tags="other", children="x"))
    by = policy(tagged=[{"match": "v.*", "keep": 1, "delete_after": "90d", "order": order}])

    found = reasons(planned(held, by))

    assert (found["new"], found["old"]) == ("newest", "expired")


def test_untagged_index_of_absent_manifests_takes_no_place() -> None:
    """Another tool has deleted its platforms; it is kept among the newest all the same."""
    held = [
        manifest("hollow", 1, children="", lists_absent=True),
        manifest("new", 2),
        manifest("old", 3),
        manifest("old hollow", 4, children="", lists_absent=True),
    ]

    assert reasons(planned(held, policy(untagged={"keep": 1}))) == {
        "hollow": "newest",
        "new": "newest",
        "old": "expired",
        "old hollow": "expired",
    }


def test_untagged_images_form_a_pool_for_each_kind_of_content() -> None:
    """So replaced signatures and charts never push an image out."""
    kinds = ("image", "text/chart", "text/signature")
    held = [manifest(f"{kind} {age}", age, content=kind) for kind in kinds for age in (2, 3)]
    held += [manifest(f"empty {age}", age, children="") for age in (2, 3)]
    held += [manifest("index 1", 1, children="part"), manifest("part", 1), manifest("docker 4", 4, kind="docker")]

    result = planned(held, policy(untagged={"keep": 1}))

    newest = {"index 1", "text/chart 2", "text/signature 2", "empty 2"}
    assert {name for name, reason in kept(result).items() if reason == "newest"} == newest


# --- pools by what the groups capture

BY_BRANCH = "(.+)-[0-9a-f]{7}"


def branch(name: str, age_days: float) -> Manifest:
    return manifest(f"{name}@{age_days}", age_days, tags=f"{name}-{digest(f'{name}{age_days}')[7:14]}")


def test_keep_counts_in_each_pool() -> None:
    """A busy branch pushes nothing of another out."""
    held = [branch("main", n) for n in (1, 2, 3)] + [branch("quiet", 400), branch("quiet", 401)]

    assert kept(planned(held, policy(**one_rule(1, match=BY_BRANCH)))) == {"main@1": "newest", "quiet@400": "newest"}


def test_rule_without_a_group_has_one_pool() -> None:
    """Several patterns of one rule share it."""
    held = [manifest("a", 1, tags="dev-1"), manifest("b", 2, tags="latest"), manifest("c", 3, tags="dev-2")]

    assert set(kept(planned(held, policy(**one_rule(2, match=["dev-.*", "latest"]))))) == {"a", "b"}


def test_patterns_of_one_rule_share_the_pool_of_equal_captures() -> None:
    """The rule and the captures make a pool, and not the pattern."""
    held = [manifest("a", 1, tags="x-1"), manifest("b", 2, tags="1-x"), manifest("c", 3, tags="2-x")]

    assert set(kept(planned(held, policy(**one_rule(1, match=["x-([0-9])", "([0-9])-x"]))))) == {"a", "c"}


def test_of_several_patterns_the_first_that_matches_captures() -> None:
    """Though another would make other pools."""
    held = [manifest("a", 1, tags="main-1"), manifest("b", 2, tags="dev-1")]

    assert set(kept(planned(held, policy(**one_rule(1, match=[".+-([0-9])", "(.+)-[0-9]"]))))) == {"a"}
    assert set(kept(planned(held, policy(**one_rule(1, match=["(.+)-[0-9]", ".+-([0-9])"]))))) == {"a", "b"}


def test_rules_with_equal_captures_have_pools_of_their_own() -> None:
    """What one keeps takes no place in another."""
    held = [manifest("a", 1, tags="main-1"), manifest("b", 2, tags="main_1")]
    rules = [{"match": "(main)-.*", "keep": 1}, {"match": "(main)_.*", "keep": 1}]

    assert reasons(planned(held, policy(tagged=rules))) == {"a": "newest", "b": "newest"}


def test_image_in_several_pools_is_kept_if_any_keeps_it() -> None:
    """A commit that two branches share."""
    held = [
        branch("main", 1),
        manifest("both", 2, tags="main-aaaaaaa feature-aaaaaaa"),
        manifest("old", 3, tags="main-bbbbbbb feature-bbbbbbb"),
        manifest("one", 4, tags="main-ccccccc"),
    ]

    assert kept(planned(held, policy(**one_rule(1, match=BY_BRANCH)))) == {"main@1": "newest", "both": "newest"}


def test_image_counts_once_in_a_pool() -> None:
    """However many of its tags are in it."""
    held = [manifest("a", 1, tags="v1 v2 v3"), manifest("b", 2, tags="v0"), manifest("c", 3, tags="v4")]

    assert reasons(planned(held, policy(**one_rule(2)))) == {"a": "newest", "b": "newest", "c": "expired"}


def test_all_of_what_the_groups_captured_tells_pools_apart() -> None:
    """Two groups in the pattern, one of which may have no part in the match."""
    by = policy(**one_rule(1, match="(?:pr-([0-9]+)|(main))-([a-z]+)-.*"))
    held = [
        manifest("a", 1, tags="pr-1-web-x"),
        manifest("b", 2, tags="pr-1-api-x"),
        manifest("c", 3, tags="pr-2-web-x"),
        manifest("d", 4, tags="main-web-x"),
        manifest("e", 5, tags="main-web-y"),
        manifest("f", 6, tags="pr-2-web-y"),
    ]

    assert set(kept(planned(held, by))) == {"a", "b", "c", "d"}


def test_tag_is_matched_whole() -> None:
    """One that only has a part that matches is unmatched."""
    held = [manifest("a", 1, tags="x-main-aaaaaaa-y"), manifest("b", 2, tags="main-aaaaaaa")]

    assert reasons(planned(held, policy(**one_rule(0, match="(main)-[0-9a-f]{7}")))) == {
        "a": "unmatched",
        "b": "expired",
    }


# --- order: version


def by_version(keep: int, match: str = "v.*") -> dict[str, object]:
    return {"tagged": [{"match": match, "keep": keep, "order": "version"}]}


def test_highest_version_is_the_newest() -> None:
    """Though a lower one was uploaded later."""
    held = [manifest(tag, age, tags=tag) for tag, age in (("v1.9", 1), ("v1.10", 3), ("v1.10-rc", 2))]

    assert reasons(planned(held, policy(**by_version(1)))) == {
        "v1.9": "expired",
        "v1.10": "newest",
        "v1.10-rc": "expired",
    }
    assert set(kept(planned(held, policy(**by_version(2))))) == {"v1.10", "v1.10-rc"}


def test_highest_tag_of_an_image_in_the_pool_counts() -> None:
    """Not one that is in another pool, or in none."""
    held = [
        manifest("a", 1, tags="v1.1 v1.5"),
        manifest("b", 2, tags="v1.4"),
        manifest("c", 3, tags="v1.2 w9"),
    ]
    rules = [{"match": "v.*", "keep": 1, "order": "version"}, {"match": "w.*", "keep": 0}]

    assert reasons(planned(held, policy(tagged=rules))) == {"a": "newest", "b": "expired", "c": "expired"}


def test_of_equal_versions_the_newer_upload_is_the_newer() -> None:
    """Then the smaller digest."""
    held = [manifest("a", 3, tags="v1.01"), manifest("b", 2, tags="v1.1"), manifest("c", 4, tags="v1.001")]
    first, second = named("x", "y")
    same = [manifest(second, 2, tags="v2"), manifest(first, 2, tags="v02")]

    assert set(kept(planned(held, policy(**by_version(1))))) == {"b"}
    assert set(kept(planned(same, policy(**by_version(1))))) == {first}


def test_each_pool_has_its_own_highest_versions() -> None:
    """The highest patch of each minor version."""
    tags = ("v1.4.2", "v1.4.10", "v1.5.0", "v1.5.1")
    held = [manifest(tag, age, tags=tag) for age, tag in enumerate(tags, 1)]

    result = planned(held, policy(**by_version(1, r"v([0-9]+\.[0-9]+)\.[0-9]+")))

    assert set(kept(result)) == {"v1.4.10", "v1.5.1"}


# --- the place that decided


def test_verdict_has_the_place_that_decided() -> None:
    """The rule, what its groups captured, and the rank; whatever the order of the listing."""
    held = [
        manifest("a", 1, tags="main-1"),
        manifest("b", 2, tags="main-2 x"),
        manifest("c", 3, tags="main-3 dev-3"),
        manifest("u", 2, content="text/x"),
        manifest("o", 2, subject="gone"),
        manifest("young", 0, tags="main-4"),
        manifest("release", 9, tags="v1"),
    ]
    rules = [
        {"match": "v.*", "keep": "all"},
        {"match": "(main|dev)-.*", "keep": 2},
        {"match": "x", "keep_within": "7d"},
    ]
    by = policy(tagged=rules, untagged={"keep": 1})

    for listed in (held, held[::-1]):
        result = planned(listed, by)
        places = {name_of(one.manifest.digest): one.place for one in (*result.keep, *result.delete)}
        found = {name: place and (place.rule, place.pool, place.rank) for name, place in places.items()}
        assert found == {
            "a": (1, ("main",), 2),
            "b": (2, (), 1),
            "c": (1, ("dev",), 1),
            "u": ("untagged", ("text/x",), 1),
            "o": ("orphans", (), 1),
            "young": None,
            "release": (0, (), 1),
        }


# --- what another process may be deleting


def test_untagged_image_is_deleted_by_count_only_if_it_was_untagged_before() -> None:
    """What was not may be a part of an image that another process is deleting, and takes no place either."""
    held = [manifest("part", 1), manifest("a", 2), manifest("b", 3), manifest("c", 4), manifest("other-part", 5)]
    by = policy(untagged={"keep": 2})

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

    rules = ({"keep": 0}, {"keep_within": "7d"}, {"delete_after": "7d"}, {"keep": 5, "delete_after": "7d"})
    for by in (policy(untagged=rule) for rule in rules):
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
    by = policy(**one_rule(1, keep_untagged))
    newer = manifest("newer", 1, tags="v2")

    result = planned([*held, newer], by)

    assert result.is_by_count is is_by_count
    assert result.untagged == {digest("a"), digest("b")}
    limited = policy(**one_rule(1, keep_untagged, max_deletions=1))
    assert not planned([*held, newer], limited).is_by_count
