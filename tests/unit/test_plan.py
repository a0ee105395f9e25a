"""Deciding: the classes of manifests, what is deleted and why."""

from __future__ import annotations

import pytest

from cleaner.core.manifest import Manifest
from tests.support.builders import (
    RETIRING,
    after,
    cosign,
    deleted,
    digest,
    kept,
    manifest,
    name_of,
    one_rule,
    planned,
    policy,
    possible_order,
    reasons,
    retiring,
)


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
        manifest("sbom-signature", 999, tags=cosign("platform-sbom")),
    ]

    result = planned(held, policy(**one_rule(untagged=0)))

    assert reasons(result) == {name_of(each.digest): "needed" for each in held} | {"image": "newest"}


def test_child_of_kept_index_is_kept() -> None:
    """A platform manifest as old as the hills stays while a kept index lists it."""
    held = [
        manifest("index", 1, tags="v1", children="amd64 arm64"),
        manifest("amd64", 90),
        manifest("arm64", 90),
    ]

    result = planned(held, policy(**one_rule(1)))

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

    result = planned(held, policy(**one_rule(1)))

    assert deleted(result) == {"old": "expired", "own": "follows"}
    assert kept(result) == {"new": "newest", "shared": "needed", "base": "needed"}


def test_shared_child_goes_after_all_of_its_indexes() -> None:
    """The registry refuses a child while any index lists it."""
    result = planned(
        [
            manifest("a", 30, tags="v1", children="shared"),
            manifest("b", 20, tags="v2", children="nested"),
            manifest("nested", 40, children="shared own"),
            manifest("shared", 50),
            manifest("own", 50),
        ],
        RETIRING,
    )

    assert after(result, "shared") == {"a", "nested"}
    assert after(result, "nested") == {"b"}
    assert after(result, "a") == after(result, "b") == set()


def test_listed_manifest_that_is_not_there_is_ignored() -> None:
    """Sparse indexes and BuildKit's cache list what was never pushed."""
    held = [manifest("kept", 0.5, tags="v2", children="nowhere"), manifest("going", children="nowhere elsewhere")]

    assert reasons(planned(held, RETIRING)) == {"kept": "newest", "going": "expired"}


def test_untagged_image_goes_by_its_own_age() -> None:
    """What no index lists and what names no subject is an image, of whatever type."""
    held = [manifest("docker", kind="docker"), manifest("oci"), manifest("index", children="")]

    assert reasons(planned(held, RETIRING)) == {"docker": "expired", "oci": "expired", "index": "expired"}


def test_child_with_a_tag_of_its_own_is_judged() -> None:
    """Its index may go without it; it may not go without its index."""
    index = manifest("index", 30, tags="ci-1", children="child")
    by = policy(**one_rule(match="ci-.*", delete_after="1d"))

    assert reasons(planned([index, manifest("child", tags="v1")], by)) == {"index": "expired", "child": "unmatched"}

    both = planned([index, manifest("child", tags="ci-2")], by)
    assert reasons(both) == {"index": "expired", "child": "expired"}
    assert after(both, "child") == {"index"}

    keeping = planned([manifest("index", 30, tags="v1", children="child"), manifest("child", tags="ci-2")], by)
    assert reasons(keeping) == {"index": "unmatched", "child": "needed"}


def test_child_with_a_tag_takes_no_place_in_keep() -> None:
    """Per-platform tags beside an index do not push other images out."""
    held = [
        manifest("new", 1, tags="v2", children="new-amd64 new-arm64"),
        manifest("new-amd64", 1, tags="v2-amd64"),
        manifest("new-arm64", 1, tags="v2-arm64"),
        manifest("old", 2, tags="v1"),
        manifest("older", 3, tags="v0"),
    ]

    result = planned(held, policy(**one_rule(2)))

    assert deleted(result) == {"older": "expired"}


@pytest.mark.parametrize("suffix", [".sig", ".att", ".sbom"])
@pytest.mark.parametrize("kind", ["oci", "oci-index", "docker"])
def test_signature_follows_its_image(suffix: str, kind: str) -> None:
    """Its tag does not make it an image, so no rule is for it."""
    held = [manifest("image", 30, tags="ci-1"), manifest("signature", 1, tags=cosign("image", suffix), kind=kind)]

    result = planned(held, policy(**one_rule(match="ci-.*", delete_after="1d")))

    assert reasons(result) == {"image": "expired", "signature": "follows"}
    assert after(result, "signature") == {"image"}


def test_signature_of_a_docker_type_without_its_image_is_an_image() -> None:
    """It cannot be told from an image that is mirrored under a digest."""
    held = [manifest("signature", tags=cosign("image"), kind="docker")]

    assert reasons(planned(held, policy(**one_rule(match="ci-.*")))) == {"signature": "unmatched"}
    assert reasons(planned(held, RETIRING)) == {"signature": "expired"}


def test_referrer_tag_binds_a_tagged_image_to_its_subject() -> None:
    """It is judged by all its tags, and is also needed by that subject."""
    held = [manifest("image", 30, tags="v1"), manifest("both", 30, tags=f"ci-1 {cosign('image')}")]
    by = {"tagged": [{"match": "v.*", "keep": "all"}, {"match": ".*", "delete_after": "1d"}]}

    assert reasons(planned(held, policy(**by))) == {"image": "protected", "both": "needed"}
    assert reasons(planned(held, RETIRING)) == {"image": "expired", "both": "expired"}
    unmatched = policy(**one_rule(match="ci-.*|v1", delete_after="1d"))
    assert reasons(planned(held, unmatched)) == {"image": "needed", "both": "unmatched"}


def test_signature_of_two_images_stays_with_either() -> None:
    """And what it signs stays with it: a kept manifest needs its subject."""
    held = [
        manifest("new", 1, tags="v2"),
        manifest("old", 30, tags="v1"),
        manifest("signature", 30, tags=f"{cosign('new')} {cosign('old')}"),
    ]

    assert reasons(planned(held, policy(**one_rule(1)))) == {
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
    assert possible_order(result) == ["sbom", "image"]


def test_tagged_referrer_is_judged_and_needs_its_subject() -> None:
    """An index with a tag is read anyway, so that its subject is known."""
    held = [manifest("image", 30, tags="ci-1"), manifest("sbom", 30, tags="v1", subject="image", children="")]

    assert reasons(planned(held, policy(**one_rule(match="ci-.*", delete_after="1d")))) == {
        "image": "needed",
        "sbom": "unmatched",
    }


def test_orphan_is_deleted_if_the_rule_lets_it() -> None:
    """Before that, the registry has to say that its subject does not exist."""
    held = [manifest("by-document", subject="gone"), manifest("by-tag", tags=cosign("gone"))]

    result = planned(held, RETIRING)

    assert reasons(result) == {"by-document": "orphaned", "by-tag": "orphaned"}
    assert [step.must_be_missing for step in result.steps] == [(digest("gone"),)] * 2


def test_orphan_of_several_subjects_needs_all_of_them_to_be_gone() -> None:
    """Those of its tags and that of its document."""
    tags = f"{cosign('gone')} {cosign('lost', '.att')}"

    result = planned([manifest("orphan", tags=tags, subject="missing", children="")], RETIRING)

    assert set(result.steps[0].must_be_missing) == {digest("gone"), digest("lost"), digest("missing")}


def test_orphan_takes_no_place_among_untagged_images() -> None:
    """Nor is it deleted by their rule."""
    held = [manifest("orphan", 1, subject="gone"), manifest("untagged", 2), manifest("older", 3)]

    assert reasons(planned(held, policy(untagged={"keep": 1}))) == {
        "orphan": "protected",
        "untagged": "newest",
        "older": "expired",
    }


ORPHANS = [
    manifest("new", 1, subject="gone"),
    manifest("signature", 30, tags=cosign("gone")),
    manifest("index", 30, children="sbom", is_referrers_index=True),
    manifest("sbom", 30, subject="lost"),
]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, dict.fromkeys(("new", "signature", "index", "sbom"), "protected")),
        ({"orphans": {"keep": "all"}}, dict.fromkeys(("new", "signature", "index", "sbom"), "protected")),
        ({"orphans": {"keep": 0}}, dict.fromkeys(("new", "signature", "index", "sbom"), "orphaned")),
        (
            {"orphans": {"delete_after": "7d"}},
            {"new": "protected", "signature": "orphaned", "index": "orphaned", "sbom": "orphaned"},
        ),
        (
            {"orphans": {"keep_within": "7d"}},
            {"new": "recent", "signature": "orphaned", "index": "orphaned", "sbom": "orphaned"},
        ),
    ],
)
def test_orphans_are_judged_by_their_own_rule(rule: dict[str, object], expected: dict[str, str]) -> None:
    """By default they are kept: their subjects may be elsewhere.  No rule for tags is for them."""
    by = policy(tagged=[{"match": ".*", "delete_after": "1d"}], untagged={"keep": 0}, **rule)

    assert reasons(planned(ORPHANS, by)) == expected


def test_child_that_is_an_orphan_too_is_judged_as_an_orphan() -> None:
    """A kept index needs it all the same."""
    held = [
        manifest("index", 30, tags="v1", children="sbom", without_platform="sbom"),
        manifest("sbom", 30, subject="gone"),
    ]

    assert reasons(planned(held, RETIRING)) == {"index": "expired", "sbom": "orphaned"}
    assert reasons(planned(held, retiring(orphans={"keep": "all"}))) == {"index": "expired", "sbom": "protected"}
    assert reasons(planned(held, policy(orphans={"keep": 0}))) == {"index": "unmatched", "sbom": "needed"}


# --- referrers indexes and redundant indexes


def test_replaced_referrers_index_follows_the_subject_of_what_it_lists() -> None:
    """It is no image: it takes no place, and does not keep its subject."""
    held = [
        manifest("image", 30, tags="ci-1"),
        manifest("sbom", 30, subject="image"),
        manifest("old index", 30, children="sbom", is_referrers_index=True),
        manifest("index", 30, tags=cosign("image", ""), children="sbom later", is_referrers_index=True),
        manifest("later", 30, subject="image"),
        manifest("untagged", 40),
    ]

    result = planned(held, policy(tagged=[{"match": ".*", "delete_after": "1d"}], untagged={"keep": 1}))

    assert reasons(result) == {
        "image": "expired",
        "sbom": "follows",
        "old index": "follows",
        "index": "follows",
        "later": "follows",
        "untagged": "newest",
    }
    order = possible_order(result)
    assert order[-1] == "image"
    assert order.index("index") < order.index("sbom")
    assert order.index("old index") < order.index("sbom")


def test_redundant_index_follows_the_index_that_lists_what_it_lists() -> None:
    """It takes no untagged image's place, and is deleted between that index and their children."""
    held = [
        manifest("merged", 3, tags="v1", children="amd64 arm64"),
        manifest("helper", 3, children="amd64"),
        manifest("amd64", 3),
        manifest("arm64", 3),
        manifest("untagged", 9),
    ]
    by = policy(**one_rule(0, 1))

    assert reasons(planned(held, policy(untagged={"keep": 1}))) == {
        "merged": "unmatched",
        "helper": "needed",
        "amd64": "needed",
        "arm64": "needed",
        "untagged": "newest",
    }
    result = planned(held, by)
    assert deleted(result) == {"merged": "expired", "helper": "follows", "amd64": "follows", "arm64": "follows"}
    assert after(result, "helper") == {"merged"}
    assert after(result, "amd64") == {"merged", "helper"}


def test_running_helper_index_does_not_keep_the_merged_one() -> None:
    """It does not need it; what lists a child that runs is kept."""
    held = [
        manifest("merged", 30, tags="v1", children="amd64 arm64"),
        manifest("helper", 30, children="amd64"),
        manifest("amd64", 30),
        manifest("arm64", 30),
    ]

    assert reasons(planned(held, RETIRING, running="helper")) == {
        "merged": "expired",
        "helper": "running",
        "amd64": "needed",
        "arm64": "follows",
    }
    assert reasons(planned(held, RETIRING, running="amd64"))["merged"] == "running"


def test_orphan_takes_along_what_belongs_to_it() -> None:
    """An index whose subject is gone, with its children, and what refers to the orphan."""
    held = [
        manifest("orphan", subject="gone", children="child"),
        manifest("child"),
        manifest("signature", tags=cosign("orphan")),
    ]

    result = planned(held, RETIRING)

    assert reasons(result) == {"orphan": "orphaned", "child": "follows", "signature": "follows"}
    assert after(result, "child") == after(result, "signature") == {"orphan"}


def test_orphan_that_something_kept_needs_stays() -> None:
    """Here its own signature has only just been made."""
    held = [manifest("orphan", subject="gone"), manifest("signature", 0, tags=cosign("orphan"))]

    assert reasons(planned(held, RETIRING)) == {"orphan": "needed", "signature": "too-young"}


# --- cycles


# By what makes the cycle: its members, and what has to be kept with them.
CYCLES: dict[str, tuple[list[Manifest], str]] = {
    "images that sign each other": (
        [manifest("x", tags=f"v1 {cosign('y')}"), manifest("y", tags=f"v2 {cosign('x')}", children="child")],
        "child",
    ),
    "images and referrers indexes of each other": (
        [
            manifest("x", tags=f"v1 {cosign('y', '')}", children=""),
            manifest("y", tags=f"v2 {cosign('x', '')}", children=""),
        ],
        "",
    ),
    "index that signs its child": (
        [manifest("x", tags=f"v1 {cosign('y')}", children="y child"), manifest("y")],
        "child",
    ),
    "circle of signatures": (
        [
            manifest("x", tags=cosign("z")),
            manifest("y", tags=cosign("x")),
            manifest("z", tags=cosign("y"), children="child image"),
        ],
        "child image",
    ),
    "circle of signatures that belongs to an image": (
        [manifest("x", tags=f"{cosign('y')} {cosign('image')}"), manifest("y", tags=cosign("x"))],
        "image",
    ),
    "index whose subject is its child": (
        [manifest("x", tags="v1", children="y", subject="y"), manifest("y")],
        "",
    ),
    "index whose subject is its child's child": (
        [manifest("x", tags="v1", children="y", subject="z"), manifest("y", children="z"), manifest("z")],
        "",
    ),
    "circle over an OCI referrer": (
        [
            manifest("x", tags=f"v1 {cosign('z')}"),
            manifest("y", subject="x"),
            manifest("z", tags=cosign("y")),
        ],
        "",
    ),
}
BESIDE = [manifest("child"), manifest("image", tags="v3"), manifest("elsewhere", tags="v4")]


@pytest.mark.parametrize("kind", CYCLES)
def test_what_takes_part_in_a_cycle_is_kept_with_what_it_needs(kind: str) -> None:
    """Nothing of it can be deleted first; anyone who may push can build one."""
    members, needed = CYCLES[kind]
    names = {name_of(each.digest) for each in members} | set(needed.split())
    held = [*members, *(each for each in BESIDE if name_of(each.digest) in names), BESIDE[-1]]

    result = planned(held, RETIRING)

    assert kept(result) == dict.fromkeys(names, "needed")
    assert [name_of(step.manifest.digest) for step in result.steps] == ["elsewhere"]


def test_what_comes_after_a_cycle_is_kept_with_what_it_needs() -> None:
    """Referrers of its members, their referrers, and what these belong to."""
    held = [
        manifest("x", tags=cosign("y")),
        manifest("y", tags=cosign("x"), children="child"),
        manifest("child"),
        manifest("of-the-child", tags=f"{cosign('child')} {cosign('other')}"),
        manifest("further", tags=cosign("of-the-child")),
        manifest("other", tags="v1"),
        manifest("elsewhere", tags="v2"),
    ]

    result = planned(held, RETIRING)

    assert deleted(result) == {"elsewhere": "expired"}
    assert set(kept(result).values()) == {"needed"}


def test_what_comes_before_a_cycle_and_is_not_needed_by_it_is_deleted() -> None:
    """An index that lists a member: that needs no index."""
    held = [
        manifest("index", tags="v1", children="x own"),
        manifest("own"),
        manifest("x", tags=cosign("y")),
        manifest("y", tags=cosign("x")),
    ]

    assert reasons(planned(held, RETIRING)) == {"index": "expired", "own": "follows", "x": "needed", "y": "needed"}


def test_cycle_of_a_kept_image_is_kept() -> None:
    """It is needed like any referrer."""
    held = [
        manifest("image", 0, tags="v1"),
        manifest("a", tags=f"{cosign('b')} {cosign('image')}"),
        manifest("b", tags=cosign("a")),
    ]

    assert reasons(planned(held, RETIRING)) == {"image": "too-young", "a": "needed", "b": "needed"}


def test_index_that_is_said_to_attest_its_own_child_makes_no_cycle() -> None:
    """An annotation can say anything; no attestation is an index."""
    held = [
        manifest("index", children="amd64 inner", attests="inner:amd64"),
        manifest("inner", children="amd64"),
        manifest("amd64"),
    ]

    assert possible_order(planned(held, RETIRING)) == ["index", "inner", "amd64"]
