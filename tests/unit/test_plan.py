"""Deciding: the classes of manifests, what goes and why."""

from __future__ import annotations

import pytest

from tests.support.builders import (
    RETIRING,
    after,
    cosign,
    deleted,
    deletion,
    digest,
    kept,
    manifest,
    name_of,
    needs,
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
