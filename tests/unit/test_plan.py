"""Deciding: every class, every reason and their order, every bound, and what has to go before what."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan, Reason, plan
from cleaner.core.policy import Policy
from tests.support.builders import (
    NOW,
    after,
    cosign,
    deleted,
    deletion,
    digest,
    kept,
    listing,
    manifest,
    name_of,
    needs,
    planned,
    policy,
    possible_order,
    reasons,
    retiring,
)

# One microsecond, in days: the resolution of a clock.
TICK = 1 / 86_400e6
# Everything that is a day old and that nothing else keeps goes.
RETIRING = retiring()


def named(*names: str) -> list[str]:
    """Return names by their digests, the smallest first."""
    return sorted(names, key=digest)


# --- classes: what goes, and why


def test_expired_image_goes_with_all_that_belongs_to_it() -> None:
    """Platforms, nested indexes, attestations, signatures and their signatures follow."""
    held = [
        manifest("image", 30, tags="v1", children="amd64 nested attestation"),
        manifest("amd64"),
        manifest("nested", children="arm64"),
        manifest("arm64", kind="docker"),
        manifest("attestation"),
        manifest("signature", tags=cosign("image")),
        manifest("signed-platform", tags=cosign("amd64", ".att")),
        manifest("sbom", subject="image"),
        manifest("sbom-signature", tags=cosign("sbom")),
    ]

    result = planned(held, RETIRING)

    assert kept(result) == {}
    assert deleted(result) == {name_of(each.digest): "follows" for each in held} | {"image": "expired"}


def test_kept_image_keeps_all_that_belongs_to_it() -> None:
    """However old that is."""
    held = [
        manifest("image", 1, tags="v1", children="amd64 nested"),
        manifest("amd64", 999),
        manifest("nested", 999, children="arm64"),
        manifest("arm64", 999, kind="docker"),
        manifest("signature", 999, tags=cosign("image")),
        manifest("platform-sbom", 999, subject="arm64"),
        manifest("sbom-signature", 999, tags=cosign("platform-sbom", "")),
    ]

    result = planned(held, policy(delete_tags=[".*"], keep_untagged=0))

    assert reasons(result) == {name_of(each.digest): "needed" for each in held} | {"image": "newest"}


def test_child_of_kept_index_is_kept() -> None:
    """A platform manifest as old as the hills stays while a kept index lists it."""
    held = [
        manifest("index", 1, tags="v1", children="amd64 arm64"),
        manifest("amd64", 90),
        manifest("arm64", 90),
    ]

    result = planned(held, policy(keep=1, delete_tags=[".*"]))

    assert reasons(result) == {"index": "newest", "amd64": "needed", "arm64": "needed"}


def test_shared_child_stays_with_the_index_that_stays() -> None:
    """Going, the other index takes with it what is its own alone."""
    held = [
        manifest("new", 1, tags="v2", children="shared base"),
        manifest("old", 9, tags="v1", children="shared own"),
        manifest("shared", 9),
        manifest("base", 9),
        manifest("own", 9),
    ]

    result = planned(held, policy(keep=1, delete_tags=[".*"]))

    assert deleted(result) == {"old": "expired", "own": "follows"}
    assert kept(result) == {"new": "newest", "shared": "needed", "base": "needed"}


def test_shared_child_goes_after_all_of_its_indexes() -> None:
    """The registry refuses a child while any index lists it."""
    result = planned(
        [
            manifest("a", 30, tags="v1", children="shared"),
            manifest("b", 20, tags="v2", children="nested"),
            manifest("nested", 40, children="shared"),
            manifest("shared", 50),
        ],
        RETIRING,
    )

    assert after(result, "shared") == {"a", "nested"}
    assert after(result, "nested") == {"b"}
    assert after(result, "a") == after(result, "b") == set()


def test_listed_manifest_that_is_not_there_is_ignored() -> None:
    """Sparse indexes and BuildKit's cache list what was never pushed."""
    held = [manifest("kept", 0.5, tags="v2", children="nowhere"), manifest("going", children="nowhere elsewhere")]

    assert reasons(planned(held, retiring(keep_untagged=0))) == {"kept": "newest", "going": "expired"}


def test_untagged_image_goes_by_its_own_age() -> None:
    """What no index lists and what names no subject is an image, of whatever type."""
    held = [manifest("docker", kind="docker"), manifest("oci"), manifest("index", children="")]

    assert reasons(planned(held, RETIRING)) == {"docker": "expired", "oci": "expired", "index": "expired"}


def test_child_with_a_tag_of_its_own_is_judged() -> None:
    """Its index may go without it; it may not go without its index."""
    index = manifest("index", 30, tags="ci-1", children="child")
    by = retiring(delete_tags=["ci-.*"])

    assert reasons(planned([index, manifest("child", tags="v1")], by)) == {"index": "expired", "child": "tagged"}

    both = planned([index, manifest("child", tags="ci-2")], by)
    assert reasons(both) == {"index": "expired", "child": "expired"}
    assert after(both, "child") == {"index"}

    keeping = planned([manifest("index", 30, tags="v1", children="child"), manifest("child", tags="ci-2")], by)
    assert reasons(keeping) == {"index": "tagged", "child": "needed"}


def test_child_with_a_tag_takes_no_place_in_keep() -> None:
    """Per-platform tags beside an index do not push other images out."""
    held = [
        manifest("new", 1, tags="v2", children="new-amd64 new-arm64"),
        manifest("new-amd64", 1, tags="v2-amd64"),
        manifest("new-arm64", 1, tags="v2-arm64"),
        manifest("old", 2, tags="v1"),
        manifest("older", 3, tags="v0"),
    ]

    result = planned(held, policy(keep=2, delete_tags=[".*"]))

    assert deleted(result) == {"older": "expired"}


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_signature_follows_its_image(suffix: str) -> None:
    """Its tag does not make it an image, and delete_tags has no say."""
    held = [manifest("image", 30, tags="ci-1"), manifest("signature", 1, tags=cosign("image", suffix))]

    result = planned(held, retiring(delete_tags=["ci-.*"]))

    assert reasons(result) == {"image": "expired", "signature": "follows"}
    assert after(result, "signature") == {"image"}


def test_signature_of_a_docker_type_is_an_ordinary_image() -> None:
    """There its tag is judged like any other, and protects nothing."""
    held = [manifest("image", 30, tags="ci-1"), manifest("signature", tags=cosign("image"), kind="docker")]

    assert reasons(planned(held, retiring(delete_tags=["ci-.*"]))) == {"image": "expired", "signature": "tagged"}


def test_signature_of_two_images_stays_with_either() -> None:
    """And what it signs stays with it: a kept manifest needs its subject."""
    held = [
        manifest("new", 1, tags="v2"),
        manifest("old", 30, tags="v1"),
        manifest("signature", 30, tags=f"{cosign('new')} {cosign('old')}"),
    ]

    assert reasons(planned(held, policy(keep=1, delete_tags=[".*"]))) == {
        "new": "newest",
        "old": "needed",
        "signature": "needed",
    }


@pytest.mark.parametrize("children", [None, ""])
def test_referrer_by_document_follows_its_subject(children: str | None) -> None:
    """An OCI manifest or an OCI index; the registry may refuse the subject for its sake."""
    held = [manifest("image", 30, tags="v1"), manifest("sbom", 30, subject="image", children=children)]

    result = planned(held, RETIRING)

    assert reasons(result) == {"image": "expired", "sbom": "follows"}
    assert after(result, "sbom") == {"image"}
    assert deletion(result, "image").may_be_subject


def test_subject_of_a_cosign_tag_is_one() -> None:
    """What the tag is on may list what the registry refuses the subject for."""
    result = planned([manifest("image", tags="v1"), manifest("signature", tags=cosign("image"))], RETIRING)

    assert deletion(result, "image").may_be_subject
    assert not deletion(result, "signature").may_be_subject


def test_tagged_referrer_is_judged_and_needs_its_subject() -> None:
    """An index with a tag is read anyway, so that its subject is known."""
    held = [manifest("image", 30, tags="ci-1"), manifest("sbom", 30, tags="v1", subject="image", children="")]

    assert reasons(planned(held, retiring(delete_tags=["ci-.*"]))) == {"image": "needed", "sbom": "tagged"}


def test_orphan_goes() -> None:
    """Its subject is gone; before it goes, the registry has to say so."""
    held = [manifest("by-document", subject="gone"), manifest("by-tag", tags=cosign("gone"))]

    result = planned(held, RETIRING)

    assert reasons(result) == {"by-document": "orphan", "by-tag": "orphan"}
    assert deletion(result, "by-document").absent == (digest("gone"),)
    assert deletion(result, "by-tag").absent == (digest("gone"),)


def test_orphan_of_several_subjects_needs_all_of_them_to_be_gone() -> None:
    """Those of its tags and that of its document."""
    tags = f"{cosign('gone')} {cosign('lost', '.att')}"

    result = planned([manifest("orphan", tags=tags, subject="missing", children="")], RETIRING)

    assert set(deletion(result, "orphan").absent) == {digest("gone"), digest("lost"), digest("missing")}
    assert deletion(planned([manifest("image")], RETIRING), "image").absent == ()


def test_orphan_goes_whatever_keep_says() -> None:
    """It takes no place in a pool, and has none."""
    held = [manifest("orphan", 1, subject="gone"), manifest("untagged", 2), manifest("older", 3)]

    assert reasons(planned(held, policy(keep_untagged=1))) == {
        "orphan": "orphan",
        "untagged": "newest",
        "older": "expired",
    }


def test_orphan_with_a_cosign_tag_goes_only_if_delete_tags_match_it() -> None:
    """Every one of its tags; without a tag it just goes."""
    held = [
        manifest("untagged", subject="gone"),
        manifest("signature", tags=cosign("gone")),
        manifest("both", tags=f"{cosign('gone')} {cosign('lost', '.att')}"),
    ]

    assert set(kept(planned(held, policy()))) == {"signature", "both"}
    assert set(kept(planned(held, policy(delete_tags=[r"sha256-[0-9a-f]{64}\.sig"])))) == {"both"}
    assert kept(planned(held, policy(delete_tags=["sha256-.*"]))) == {}


def test_orphan_takes_along_what_belongs_to_it() -> None:
    """An index whose subject is gone, with its children, and what refers to the orphan."""
    held = [
        manifest("orphan", subject="gone", children="child"),
        manifest("child"),
        manifest("signature", tags=cosign("orphan")),
    ]

    result = planned(held, RETIRING)

    assert reasons(result) == {"orphan": "orphan", "child": "follows", "signature": "follows"}
    assert after(result, "child") == after(result, "signature") == {"orphan"}
    assert deletion(result, "signature").absent == ()


def test_orphan_that_something_kept_needs_stays() -> None:
    """Here its own signature has only just been made."""
    held = [manifest("orphan", subject="gone"), manifest("signature", 0, tags=cosign("orphan"))]

    assert reasons(planned(held, RETIRING)) == {"orphan": "needed", "signature": "too-young"}


# --- reasons: each alone, and which of two is given

EARLIER_FIRST = (
    "unknown-type",
    "unknown-age",
    "too-young",
    "just-pushed",
    "running",
    "protected-tag",
    "tagged",
    "newest",
    "needed",
    "over-limit",
)
# No manifest can have both: one of unknown age is neither young nor in a pool.
IMPOSSIBLE = {("unknown-age", "too-young"), ("unknown-age", "newest")}


def reason_of_one(*holding: str) -> str:
    """Return the reason of a tagged image for which exactly these rules hold."""
    age_days: float | None = 30
    if "too-young" in holding:
        age_days = 0.01
    if "unknown-age" in holding:
        age_days = None
    one = manifest("one", age_days, tags="v1", kind="application/x" if "unknown-type" in holding else "docker")
    held = [one]
    if "needed" in holding:
        held.append(manifest("index", None, tags="latest", children="one"))
    by = policy(
        delete_tags=[] if "tagged" in holding else [".*"],
        protect_tags=["v1"] if "protected-tag" in holding else [],
        max_age=None if "newest" in holding else "2h",
        max_deletions=1 if "over-limit" in holding else None,
    )
    result = planned(
        held,
        by,
        just_pushed="one" if "just-pushed" in holding else "",
        running="one" if "running" in holding else "",
        already_deleted=1 if "over-limit" in holding else 0,
    )
    return reasons(result)["one"]


def test_reasons_are_those_of_the_readme_in_its_order() -> None:
    """Users and dashboards rely on the names."""
    assert [reason.value for reason in Reason] == [*EARLIER_FIRST, "expired", "follows", "orphan"]


@pytest.mark.parametrize("reason", EARLIER_FIRST)
def test_each_rule_keeps_an_image_on_its_own(reason: str) -> None:
    """Without any of them it goes."""
    assert reason_of_one(reason) == reason
    assert reason_of_one() == "expired"


@pytest.mark.parametrize(
    ("earlier", "later"), [pair for pair in itertools.combinations(EARLIER_FIRST, 2) if pair not in IMPOSSIBLE]
)
def test_earlier_reason_is_given(earlier: str, later: str) -> None:
    """Of two rules that hold, the first in the order of the README."""
    assert reason_of_one(earlier, later) == earlier


def test_every_rule_at_once_gives_the_first() -> None:
    """And so on down, one rule less each time."""
    for first in range(len(EARLIER_FIRST)):
        assert reason_of_one(*EARLIER_FIRST[first:]) == EARLIER_FIRST[first]


ROLES: dict[str, Callable[..., list[Manifest]]] = {
    "child": lambda **one: [manifest("root", 30, tags="v0", children="one"), manifest("one", **one)],
    "referrer": lambda **one: [
        manifest("root", 30, tags="v0"),
        manifest("one", **{**one, "tags": f"{one.get('tags', '')} {cosign('root')}"}),
    ],
    "orphan": lambda **one: [manifest("one", **one, subject="gone", children="")],
    "untagged image": lambda **one: [manifest("one", **one)],
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("reason", "one", "options"),
    [
        ("unknown-age", {"age_days": None}, {}),
        ("too-young", {"age_days": 0.01}, {}),
        ("just-pushed", {}, {"just_pushed": "one"}),
        ("running", {}, {"running": "one"}),
    ],
)
def test_rule_for_all_holds_for_every_class(
    role: str, reason: str, one: dict[str, float | None], options: dict[str, str]
) -> None:
    """Not only for images."""
    assert reasons(planned(ROLES[role](**one), RETIRING, **options))["one"] == reason  # type: ignore[arg-type]  # a table


def test_unknown_type_is_kept_in_every_class() -> None:
    """What is not understood is not deleted; what it hangs on is judged without it."""
    held = [
        manifest("index", tags="v1", children="child"),
        manifest("child", kind="application/vnd.oci.artifact.manifest.v1+json"),
        manifest("untagged", kind="application/vnd.docker.distribution.manifest.v1+json"),
        manifest("typeless", kind="?"),
    ]

    assert reasons(planned(held, RETIRING)) == {
        "index": "expired",
        "child": "unknown-type",
        "untagged": "unknown-type",
        "typeless": "unknown-type",
    }


def test_protected_tag_may_be_a_cosign_tag() -> None:
    """It wins over everything that would let the manifest go, and keeps the subject with it."""
    held = [manifest("image", 30, tags="ci-1"), manifest("signature", tags=cosign("image"))]

    result = planned(held, retiring(protect_tags=[r"sha256-.*\.sig"]))

    assert reasons(result) == {"image": "needed", "signature": "protected-tag"}


def test_one_protected_tag_of_many_is_enough() -> None:
    """Any of its tags, any of the patterns, matched whole."""
    held = [manifest("release", tags="ci-1 v1.4.2"), manifest("other", tags="ci-2 my-v1.4.2")]

    assert reasons(planned(held, retiring(protect_tags=["prod", r"v\d+\.\d+\.\d+"]))) == {
        "release": "protected-tag",
        "other": "expired",
    }


def test_every_tag_has_to_match_delete_tags() -> None:
    """One other tag keeps the image; by default every tagged image stays."""
    held = [manifest("ci", tags="ci-1 pr-1"), manifest("latest", tags="ci-2 latest"), manifest("untagged")]

    assert kept(planned(held, retiring(delete_tags=["ci-.*", "pr-.*"]))) == {"latest": "tagged"}
    assert kept(planned(held, policy(max_age="1d"))) == {"ci": "tagged", "latest": "tagged"}


def test_cosign_tag_of_an_image_counts_among_its_tags() -> None:
    """Every tag of a tagged image has to match, whatever its spelling."""
    held = [manifest("image", tags=f"ci-1 {cosign('gone')}")]

    assert reasons(planned(held, retiring(delete_tags=["ci-.*"]))) == {"image": "tagged"}
    assert reasons(planned(held, retiring(delete_tags=["ci-.*", "sha256-.*"]))) == {"image": "expired"}


@pytest.mark.parametrize("tags", ["", "ci-1"])
def test_image_whose_tags_are_not_all_known_is_tagged(tags: str) -> None:
    """Artifact Registry's REST API names a hundred; one of the others may be a release."""
    held = [replace(manifest("image", tags=tags), has_unnamed_tags=True)]

    assert reasons(planned(held, RETIRING)) == {"image": "tagged"}


def test_child_or_orphan_whose_tags_are_not_all_known_is_an_image() -> None:
    """One of them may be an ordinary tag."""
    held = [
        manifest("index", tags="v1", children="child"),
        replace(manifest("child"), has_unnamed_tags=True),
        replace(manifest("orphan", tags=cosign("gone")), has_unnamed_tags=True),
    ]

    assert reasons(planned(held, RETIRING)) == {"index": "expired", "child": "tagged", "orphan": "tagged"}


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


# --- just pushed, running


def test_pushed_child_stays_without_its_index() -> None:
    """A child needs no index."""
    held = [manifest("index", tags="v1", children="child"), manifest("child")]

    assert reasons(planned(held, RETIRING, just_pushed="child elsewhere")) == {
        "index": "expired",
        "child": "just-pushed",
    }


def test_pushed_signature_keeps_its_image() -> None:
    """A kept manifest needs its subject."""
    held = [manifest("image", tags="v1"), manifest("signature", tags=cosign("image"))]

    assert reasons(planned(held, RETIRING, just_pushed="signature")) == {
        "image": "needed",
        "signature": "just-pushed",
    }


def test_running_platform_keeps_its_indexes() -> None:
    """An index with a child that is named counts as named, at any depth; its other children are needed."""
    held = [
        manifest("top", tags="v1", children="middle other"),
        manifest("middle", children="amd64 arm64"),
        manifest("amd64"),
        manifest("arm64"),
        manifest("other"),
        manifest("signature", tags=cosign("top")),
        manifest("unrelated", tags="v0"),
    ]

    result = planned(held, RETIRING, running="amd64")

    assert reasons(result) == {
        "amd64": "running",
        "middle": "running",
        "top": "running",
        "arm64": "needed",
        "other": "needed",
        "signature": "needed",
        "unrelated": "expired",
    }


def test_running_tag_keeps_what_it_names() -> None:
    """A tag that nothing has keeps nothing."""
    held = [manifest("a", tags="v1 latest", children="child"), manifest("child"), manifest("b", tags="v2")]

    assert reasons(planned(held, RETIRING, running_tags="latest v3")) == {
        "a": "running",
        "child": "needed",
        "b": "expired",
    }


def test_who_runs_it_is_told() -> None:
    """Where that is the reason, and only there."""
    held = [
        manifest("index", tags="v1", children="child"),
        manifest("child"),
        manifest("young", 0, tags="v2"),
    ]

    result = planned(held, RETIRING, running="child young")
    details = {name_of(each.manifest.digest): each.detail for each in result.keep}

    assert details == {"index": "runner of child", "child": "runner of child", "young": ""}
    facts = {name_of(each.manifest.digest): each.facts() for each in result.keep}
    assert facts["child"]["running"] == "runner of child"
    assert "running" not in facts["young"]


def test_verdict_is_told_in_the_logs_words() -> None:
    """The fields of the log line for a manifest."""
    result = planned([manifest("x", 30, tags="b a")], RETIRING)

    assert result.delete[0].verdict.facts() == {
        "digest": digest("x"),
        "tags": ("a", "b"),
        "reason": "expired",
        "uploaded": NOW - timedelta(days=30),
    }


# --- loops


def test_manifest_that_hangs_on_itself_is_kept() -> None:
    """A cosign tag can name its own manifest; anyone can push one."""
    assert reasons(planned([manifest("x", tags=cosign("x"))], RETIRING)) == {"x": "needed"}


def test_loop_that_hangs_on_nothing_is_kept() -> None:
    """With all that hangs on it, and all that it needs."""
    held = [
        manifest("a", tags=cosign("c")),
        manifest("b", tags=cosign("a")),
        manifest("c", tags=cosign("b"), children="child image"),
        manifest("child"),
        manifest("image", tags="v1"),
        manifest("behind", tags=cosign("child")),
        manifest("further", subject="behind"),
        manifest("elsewhere", tags="v2"),
    ]

    result = planned(held, RETIRING)

    assert deleted(result) == {"elsewhere": "expired"}
    assert set(kept(result).values()) == {"needed"}


def test_index_that_signs_its_own_child_is_kept() -> None:
    """Each hangs on the other."""
    held = [manifest("index", tags=cosign("child"), children="child"), manifest("child")]

    assert reasons(planned(held, RETIRING)) == {"index": "needed", "child": "needed"}


def test_loop_that_hangs_on_an_image_goes_with_it() -> None:
    """All of it goes after the image."""
    held = [
        manifest("image", tags="v1"),
        manifest("a", tags=f"{cosign('b')} {cosign('image')}"),
        manifest("b", tags=cosign("a")),
        manifest("behind", tags=cosign("b")),
    ]

    result = planned(held, RETIRING)

    assert reasons(result) == {"image": "expired", "a": "follows", "b": "follows", "behind": "follows"}
    assert possible_order(result)[0] == "image"


def test_loop_that_hangs_on_a_kept_image_is_kept() -> None:
    """It is needed like any referrer."""
    held = [
        manifest("image", 0, tags="v1"),
        manifest("a", tags=f"{cosign('b')} {cosign('image')}"),
        manifest("b", tags=cosign("a")),
    ]

    assert reasons(planned(held, RETIRING)) == {"image": "too-young", "a": "needed", "b": "needed"}


def test_image_that_signs_itself_is_judged() -> None:
    """It has an ordinary tag, so it hangs on nothing."""
    result = planned([manifest("image", tags=f"v1 {cosign('image')}")], RETIRING)

    assert reasons(result) == {"image": "expired"}
    assert after(result, "image") == set()


def test_images_that_sign_each_other_go_together() -> None:
    """Neither waits for the other."""
    held = [manifest("a", tags=f"v1 {cosign('b')}"), manifest("b", tags=f"v2 {cosign('a')}")]

    result = planned(held, RETIRING)

    assert reasons(result) == {"a": "expired", "b": "expired"}
    assert sorted(possible_order(result)) == ["a", "b"]
    assert reasons(planned([*held[:1], manifest("b", 0, tags="v2")], RETIRING))["a"] == "needed"


# --- the limit


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


# --- what an earlier plan has left half deleted


def test_image_that_has_lost_its_tags_to_us_takes_no_untagged_images_place() -> None:
    """What was to stay untagged beside it stays; and it too, as long as it is as new as those."""
    held = [manifest("stripped", 4), manifest("untagged", 9), manifest("old", 10)]
    by = retiring(max_age=None, keep_untagged=1)

    assert deleted(planned(held, by)) == {"untagged": "expired", "old": "expired"}
    assert deleted(planned(held, by, stripped=held[:1])) == {"old": "expired"}
    assert deleted(planned(held, by, stripped=held[1:2])) == {"untagged": "expired", "old": "expired"}
    assert deleted(planned(held, retiring(keep_untagged=1), stripped=held[:1])).keys() == {
        "stripped",
        "untagged",
        "old",
    }


# --- what a deletion says beside its reason


def test_deletion_names_what_would_have_to_stay_with_it() -> None:
    """Its children, its referrers and its subject, as far as they go."""
    held = [
        manifest("new", 0, tags="v2", children="shared"),
        manifest("image", tags="v1", children="shared own absent"),
        manifest("shared"),
        manifest("own"),
        manifest("signature", tags=cosign("image")),
        manifest("sbom", subject="image"),
    ]

    result = planned(held, RETIRING)

    assert needs(result, "image") == {"own", "signature", "sbom"}
    assert needs(result, "own") == set()
    assert needs(result, "signature") == needs(result, "sbom") == {"image"}


# --- the whole


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
        assert {name_of(each.manifest.digest): set(each.after) for each in result.delete} == {
            name_of(each.manifest.digest): set(each.after) for each in expected.delete
        }


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
