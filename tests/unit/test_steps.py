"""The steps that delete what a plan deletes, and their order."""

from __future__ import annotations

import itertools

import pytest

from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan
from cleaner.core.steps import Step
from tests.support.builders import (
    RETIRING,
    cosign,
    digest,
    kept,
    manifest,
    name_of,
    named,
    planned,
    possible_order,
    reasons,
    steps_of,
)


def label(step: Step) -> str:
    """Return the name of a step's manifest, and whether the step deletes its tags alone."""
    name = name_of(step.manifest.digest)
    return name if step.deletes_manifest else f"tags of {name}"


def labels(steps: tuple[Step, ...]) -> list[str]:
    """Return steps by what they delete, in their order."""
    return list(map(label, steps))


def order(*manifests: Manifest) -> dict[str, set[str]]:
    """Return for each step those immediately before it, where all of ``manifests`` are deleted."""
    result = planned(manifests, RETIRING)
    assert kept(result) == {}
    return {label(step): {label(result.steps[at]) for at in step.after} for step in result.steps}


def marked(result: Plan, field: str) -> set[str]:
    """Return the steps of which ``field`` is true."""
    return {label(step) for step in result.steps if getattr(step, field)}


# --- which comes after which


def test_image_is_deleted_with_its_tags_in_one_step() -> None:
    """Nothing comes between the checks of its tags and its own deletion."""
    result = planned([manifest("image", tags="v1 v2")], RETIRING)

    (step,) = result.steps
    assert (step.tags, step.deletes_manifest, step.after) == (("v1", "v2"), True, ())
    assert step.must_be_missing == ()
    assert not any((step.needs_recent_listing, step.is_begun, step.kept_child))


def test_index_is_deleted_before_its_children() -> None:
    """At every level, and a shared child after all of its indexes."""
    assert order(
        manifest("shared"),
        manifest("top", tags="v1", children="middle shared"),
        manifest("middle", children="bottom"),
        manifest("other", tags="v2", children="shared"),
        manifest("bottom"),
    ) == {
        "shared": {"top", "other"},
        "top": set(),
        "middle": {"top"},
        "other": set(),
        "bottom": {"middle"},
    }


def test_subject_is_deleted_before_its_referrers_by_tag() -> None:
    """A signature is never deleted while its image is still there; one of two images after both."""
    assert order(
        manifest("signature", tags=f"{cosign('a')} {cosign('b')}"),
        manifest("of-it", tags=cosign("signature", ".att")),
        manifest("a", tags="v1"),
        manifest("b", tags="v2"),
    ) == {
        "signature": {"a", "b"},
        "of-it": {"signature"},
        "a": set(),
        "b": set(),
    }


def test_what_is_kept_comes_before_nothing() -> None:
    """An index that is kept keeps its children; one that was never there has no step."""
    held = [manifest("kept", 0, tags="v2", children="shared"), manifest("old", tags="v1", children="own absent")]
    result = planned([*held, manifest("shared"), manifest("own")], RETIRING)

    assert labels(result.steps) == ["old", "own"]
    assert [step.after for step in result.steps] == [(), (0,)]


def test_subject_with_an_oci_referrer_takes_two_steps() -> None:
    """Its tags, each of which is checked; then the referrer, before which the registry refuses it; then itself."""
    held = [manifest("image", tags="v1 v2"), manifest("sbom", subject="image")]

    assert order(*held) == {
        "tags of image": set(),
        "sbom": {"tags of image"},
        "image": {"tags of image", "sbom"},
    }
    tags, itself = steps_of(planned(held, RETIRING), "image")
    assert (tags.tags, itself.tags) == (("v1", "v2"), ())


@pytest.mark.parametrize("children", [None, ""])
def test_oci_referrer_is_a_manifest_or_an_index(children: str | None) -> None:
    """Their documents name the subject; the type does not matter."""
    held = [manifest("image", tags="v1"), manifest("sbom", subject="image", children=children)]

    assert order(*held)["image"] == {"tags of image", "sbom"}


def test_chain_of_oci_referrers_is_deleted_from_its_end() -> None:
    """But all of their tags go first, from the other end."""
    assert order(
        manifest("image", tags="v1"),
        manifest("sbom", tags=cosign("image", ".sbom"), subject="image", children=""),
        manifest("signature", subject="sbom"),
    ) == {
        "tags of image": set(),
        "tags of sbom": {"tags of image"},
        "signature": {"tags of sbom"},
        "sbom": {"tags of sbom", "signature"},
        "image": {"tags of image", "sbom"},
    }


def test_referrer_by_tag_waits_for_a_subject_with_oci_referrers() -> None:
    """For the subject itself, not only for its tags."""
    assert order(
        manifest("image", tags="v1"),
        manifest("sbom", subject="image"),
        manifest("signature", tags=cosign("image")),
        manifest("of-the-sbom", tags=cosign("sbom")),
    ) == {
        "tags of image": set(),
        "sbom": {"tags of image"},
        "image": {"tags of image", "sbom"},
        "signature": {"image"},
        "of-the-sbom": {"sbom"},
    }


def test_children_wait_for_an_index_with_oci_referrers() -> None:
    """For the index itself: until then the registry refuses them."""
    assert order(
        manifest("index", tags="v1", children="child"), manifest("child"), manifest("sbom", subject="index")
    ) == {
        "tags of index": set(),
        "sbom": {"tags of index"},
        "index": {"tags of index", "sbom"},
        "child": {"index"},
    }


def test_referrers_index_is_deleted_between_the_tags_and_the_subject() -> None:
    """What it lists names the subject, and comes after the index that lists it."""
    assert order(
        manifest("image", tags="v1"),
        manifest("referrers", tags=cosign("image", ""), children="sbom signature"),
        manifest("sbom", subject="image"),
        manifest("signature", subject="image"),
    ) == {
        "tags of image": set(),
        "referrers": {"tags of image"},
        "sbom": {"tags of image", "referrers"},
        "signature": {"tags of image", "referrers"},
        "image": {"tags of image", "referrers", "sbom", "signature"},
    }


def test_referrers_index_of_two_subjects_comes_after_the_tags_of_both() -> None:
    """And before both."""
    assert order(
        manifest("a", tags="v1"),
        manifest("b", tags="v2"),
        manifest("referrers", tags=f"{cosign('a', '')} {cosign('b', '')}", children=""),
    ) == {
        "tags of a": set(),
        "tags of b": set(),
        "referrers": {"tags of a", "tags of b"},
        "a": {"tags of a", "referrers"},
        "b": {"tags of b", "referrers"},
    }


def test_referrer_by_tag_that_blocks_an_oci_referrer_is_deleted_with_these() -> None:
    """It would wait for the subject, which waits for what it blocks."""
    held = [
        manifest("image", tags="v1"),
        manifest("sbom", subject="image"),
        manifest("both", tags=cosign("image"), subject="sbom", children=""),
        manifest("signature", tags=cosign("image", ".att")),
    ]

    assert order(*held) == {
        "tags of image": set(),
        "tags of sbom": {"tags of image"},
        "both": {"tags of image", "tags of sbom"},
        "sbom": {"tags of sbom", "both"},
        "image": {"tags of image", "sbom", "both"},
        "signature": {"image"},
    }


def test_referrer_by_tag_may_block_the_subject_over_several_others() -> None:
    """The whole chain of OCI referrers decides, and one of a referrers index too."""
    held = [
        manifest("image", tags="v1"),
        manifest("referrers", tags=cosign("image", ""), children=""),
        manifest("sbom", subject="referrers"),
        manifest("both", tags=f"{cosign('image')} {cosign('sbom', '')}", children=""),
    ]

    found = order(*held)

    assert found["both"] == {"tags of image", "tags of sbom"}
    assert found["image"] == {"tags of image", "referrers", "both"}


@pytest.mark.parametrize(("length", "reasons_given"), [(19, {"expired", "follows"}), (20, {"needed"})])
def test_referrer_by_tag_at_the_end_of_a_long_chain_makes_a_cycle(length: int, reasons_given: set[str]) -> None:
    """To follow every such chain would take too long, so what it blocks is kept."""
    chain = [manifest("0", tags="v1"), *(manifest(f"{n}", subject=f"{n - 1}") for n in range(1, length + 1))]
    both = manifest("both", tags=cosign("0"), subject=f"{length}", children="")

    assert {*reasons(planned([*chain, both], RETIRING)).values()} == reasons_given


def test_oci_referrer_of_another_image_waits_for_its_subject_by_tag() -> None:
    """It blocks nothing that the subject waits for."""
    assert order(
        manifest("image", tags="v1"),
        manifest("sbom", subject="image"),
        manifest("other", tags="v2"),
        manifest("both", tags=cosign("image"), subject="other", children=""),
    ) == {
        "tags of image": set(),
        "sbom": {"tags of image"},
        "image": {"tags of image", "sbom"},
        "tags of other": set(),
        "both": {"image", "tags of other"},
        "other": {"tags of other", "both"},
    }


def test_attestation_is_deleted_before_what_it_attests() -> None:
    """It may name it as its subject; its document is not read, because it is a child."""
    assert order(
        manifest("index", tags="v1", children="amd64 arm64 a b", attests="a:amd64 b:arm64"),
        manifest("amd64"),
        manifest("arm64", tags="v1-arm64"),
        manifest("a"),
        manifest("b"),
    ) == {
        "index": set(),
        "tags of amd64": {"index"},
        "a": {"index", "tags of amd64"},
        "amd64": {"tags of amd64", "a"},
        "tags of arm64": {"index"},
        "b": {"index", "tags of arm64"},
        "arm64": {"tags of arm64", "b"},
    }


def test_attestations_of_a_shared_child_are_deleted_before_it() -> None:
    """Those of each index that lists it."""
    found = order(
        manifest("first", tags="v1", children="amd64 a", attests="a:amd64"),
        manifest("second", tags="v2", children="amd64 b", attests="b:amd64"),
        manifest("amd64"),
        manifest("a"),
        manifest("b"),
    )

    assert found["amd64"] == {"tags of amd64", "a", "b"}
    assert found["tags of amd64"] == {"first", "second"}
    assert (found["a"], found["b"]) == ({"first", "tags of amd64"}, {"second", "tags of amd64"})


def test_attestation_of_what_is_kept_is_deleted_after_its_index() -> None:
    """Here two indexes share the platform."""
    held = [
        manifest("new", 0, tags="v2", children="amd64"),
        manifest("old", tags="v1", children="amd64 a", attests="a:amd64"),
        manifest("amd64"),
        manifest("a"),
    ]

    assert labels(planned(held, RETIRING).steps) == ["old", "a"]


def test_attestation_is_deleted_before_what_it_attests_after_its_index_has_gone() -> None:
    """A later plan of the run keeps to the order of the first."""
    index = manifest("index", tags="v1", children="amd64 a", attests="a:amd64")
    result = planned([manifest("amd64"), manifest("a")], RETIRING, deleted=[index])

    assert possible_order(result) == ["a", "amd64"]
    assert steps_of(result, "amd64")[-1].after


# --- steps that need a recent listing


def test_what_comes_before_an_oci_referrer_needs_a_recent_listing() -> None:
    """And the referrer itself, so that what was attached meanwhile is seen; its subject does not."""
    held = [
        manifest("index", tags="v1", children="image other"),
        manifest("image"),
        manifest("other"),
        manifest("sbom", subject="image"),
        manifest("of-the-sbom", tags=cosign("sbom")),
        manifest("signature", tags=cosign("image")),
        manifest("elsewhere", tags="v2"),
    ]

    assert marked(planned(held, RETIRING), "needs_recent_listing") == {"index", "tags of image", "sbom"}


def test_what_a_referrers_index_lists_needs_a_recent_listing() -> None:
    """It and the index are OCI referrers."""
    held = [
        manifest("image", tags="v1"),
        manifest("referrers", tags=cosign("image", ""), children="sbom"),
        manifest("sbom", subject="image"),
    ]

    found = marked(planned(held, RETIRING), "needs_recent_listing")

    assert found == {"tags of image", "referrers", "sbom"}


def test_attestation_needs_no_recent_listing() -> None:
    """Nothing can be attached as it was: its index is deleted."""
    held = [
        manifest("index", tags="v1", children="amd64 a", attests="a:amd64"),
        manifest("amd64"),
        manifest("a"),
    ]

    assert marked(planned(held, RETIRING), "needs_recent_listing") == set()


# --- orphans


def test_both_steps_of_an_orphan_require_its_subjects_to_be_missing() -> None:
    """Nothing of it is deleted before the registry has confirmed that; nobody else's subjects are looked up."""
    held = [
        manifest("orphan", tags=f"{cosign('gone')} {cosign('lost')}", subject="missing", children="child"),
        manifest("child"),
        manifest("sbom", subject="orphan"),
        manifest("image", tags="v1"),
        manifest("signature", tags=cosign("image")),
    ]

    result = planned(held, RETIRING)

    missing = {digest("gone"), digest("lost"), digest("missing")}
    assert [set(step.must_be_missing) for step in steps_of(result, "orphan")] == [missing, missing]
    assert marked(result, "must_be_missing") == {"tags of orphan", "orphan"}


# --- what an earlier plan has begun


@pytest.mark.parametrize(
    ("gone", "lost_tags", "begun"),
    [
        pytest.param("", {}, set(), id="nothing"),
        pytest.param("", {"tagged": "v1"}, {"tagged"}, id="a tag"),
        pytest.param("tagged", {}, {"child", "signature"}, id="its index or its subject by tag"),
        pytest.param("signature", {}, set(), id="its referrer by tag"),
        pytest.param("sbom of-the-sbom", {}, {"untagged"}, id="its OCI referrer"),
        pytest.param(
            "of-the-sbom", {}, {"tags of untagged", "untagged", "sbom"}, id="a referrer of its OCI referrer"
        ),
    ],
)
def test_image_is_begun_once_a_part_of_it_is_deleted(gone: str, lost_tags: dict[str, str], begun: set[str]) -> None:
    """Then it is finished, also when the time limit is reached; what comes after that is finished with it."""
    held = [
        manifest("tagged", tags="v2 v3", children="child"),
        manifest("child"),
        manifest("signature", tags=cosign("tagged")),
        manifest("untagged"),
        manifest("sbom", subject="untagged"),
        manifest("of-the-sbom", subject="sbom"),
    ]
    there = [one for one in held if name_of(one.digest) not in gone.split()]
    result = planned(there, RETIRING, deleted=[one for one in held if one not in there], lost_tags=lost_tags)

    assert marked(result, "is_begun") == begun


def test_redundant_index_is_begun_with_the_index_that_it_follows() -> None:
    """Like a child."""
    merged = manifest("merged", 30, tags="v1", children="amd64 arm64")
    held = [manifest("helper", 30, children="amd64"), manifest("amd64", 30), manifest("arm64", 30)]

    assert marked(planned(held, RETIRING, deleted=[merged]), "is_begun") == {"helper", "amd64", "arm64"}


def test_tag_that_was_deleted_is_not_deleted_again() -> None:
    """The manifest is judged with it; the step deletes the others."""
    result = planned([manifest("image", tags="v2")], RETIRING, lost_tags={"image": "v1"})

    (step,) = result.steps
    assert (step.manifest.tags, step.tags) == (("v1", "v2"), ("v2",))


def test_deleted_manifest_has_no_step_and_comes_before_nothing() -> None:
    """What belongs to it is ready."""
    held = [manifest("index", tags="v1", children="child"), manifest("image", tags="v2")]
    result = planned(
        [manifest("child"), manifest("sbom", subject="image"), held[1]],
        RETIRING,
        deleted=[held[0]],
        lost_tags={"image": "v2"},
    )

    assert {label(step): len(step.after) for step in result.steps} == {
        "child": 0,
        "tags of image": 0,
        "sbom": 1,
        "image": 2,
    }
    assert not any(step.tags for step in result.steps)


# --- a child that is kept


def test_index_names_a_child_that_is_kept() -> None:
    """By it a registry is caught that deletes more than it is asked to."""
    held = [
        manifest("new", 0, tags="v2", children="shared"),
        manifest("old", tags="v1", children="own shared"),
        manifest("older", tags="v0", children="own"),
        manifest("own"),
        manifest("shared"),
        manifest("sbom", subject="old"),
    ]

    result = planned(held, RETIRING)

    assert {label(step): step.kept_child and name_of(step.kept_child) for step in result.steps} == {
        "tags of old": None,
        "sbom": None,
        "old": "shared",
        "older": None,
        "own": None,
    }


def test_child_that_was_deleted_is_not_expected() -> None:
    """Somebody names it now, so it would be kept; it cannot be looked up."""
    held = [manifest("old", tags="v1", children="child")]
    by = planned(held, RETIRING, deleted=[manifest("child")], just_pushed="child")

    assert labels(by.steps) == ["old"]
    assert marked(by, "kept_child") == set()


# --- which is begun first


def test_steps_are_sorted_oldest_first() -> None:
    """Of equal ages the greater digest first, as in every other order."""
    first, second = named("a", "b")
    held = [manifest("new", 2), manifest(first, 5), manifest(second, 5), manifest("old", 9)]

    for shuffled in itertools.permutations(held):
        assert labels(planned(shuffled, RETIRING).steps) == ["old", second, first, "new"]


def test_what_is_begun_comes_first_then_what_needs_a_recent_listing() -> None:
    """In each of the two, and of the rest, the oldest first."""
    held = [
        manifest("old", 99),
        manifest("older", 100),
        manifest("subject", 2, tags="v1"),
        manifest("sbom", 2.5, subject="subject"),
        manifest("begun", 3, tags="v2"),
        manifest("begun-subject", 4, tags="v3"),
        manifest("begun-sbom", 5, subject="begun-subject"),
    ]

    result = planned(held, RETIRING, lost_tags={"begun": "v4", "begun-subject": "v5"})

    assert labels(result.steps) == [
        "tags of begun-subject",
        "begun-subject",
        "begun",
        "begun-sbom",
        "sbom",
        "tags of subject",
        "older",
        "old",
        "subject",
    ]


def test_what_was_refused_comes_before_its_like() -> None:
    """If it is refused again, what comes after it is kept."""
    held = [
        manifest("a", 9, tags="v1"),
        manifest("of-a", 9.5, subject="a"),
        manifest("b", 8, tags="v2"),
        manifest("of-b", 8.5, subject="b"),
        manifest("old", 99),
        manifest("new", 1.5),
    ]

    result = planned(held, RETIRING, refused="of-b new")

    assert labels(result.steps)[:4] == ["of-b", "of-a", "tags of a", "tags of b"]
    assert labels(result.steps)[4:] == ["new", "old", "a", "b"]
