"""Referrer tags, subjects, redundant indexes, and the documents that are read for them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from cleaner.core.manifest import Manifest
from cleaner.core.reference import Digest, Tag
from cleaner.core.relations import covering_indexes, may_have_subject, must_be_read, named_subjects, tag_subject
from cleaner.core.walk import reverse_edges
from tests.support.builders import cosign, digest, listing, manifest, name_of

HEX = "a" * 64

# --- referrer tags

REFERRER_TAGS: Mapping[str, tuple[Manifest, str, bool, bool]] = {
    # The manifest, the tag's suffix, whether it names its subject if that is present, and if it is absent.
    "signature": (manifest("x"), ".sig", True, True),
    "signature that is an index": (manifest("x", children="y"), ".sig", True, True),
    "attestation": (manifest("x"), ".att", True, True),
    "any suffix": (manifest("x"), ".x.y", True, True),
    "signature of Docker's type": (manifest("x", kind="docker"), ".sig", True, False),
    "Docker index": (manifest("x", kind="docker-index", children="y"), ".sig", False, False),
    "schema 1": (
        manifest("x", kind="application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ".sig",
        False,
        False,
    ),
    "unknown type": (manifest("x", kind="text/plain"), ".sig", False, False),
    "referrers index": (manifest("x", children="y", is_referrers_index=True), "", True, True),
    "OCI index without descriptors": (manifest("x", children=""), "", True, True),
    "other OCI index": (manifest("x", children="y"), "", True, False),
    "mirrored OCI manifest": (manifest("x"), "", False, False),
    "mirrored Docker manifest": (manifest("x", kind="docker"), "", False, False),
    "mirrored Docker index": (manifest("x", kind="docker-index", children="y"), "", False, False),
}


@pytest.mark.parametrize("case", REFERRER_TAGS)
def test_tag_with_a_digest_names_a_subject_or_is_ordinary(case: str) -> None:
    """By the media type, the suffix, and whether the subject is in the repository."""
    one, suffix, if_present, if_absent = REFERRER_TAGS[case]
    tag = Tag(cosign("subject", suffix))

    assert tag_subject(one, tag, {digest("subject")}) == (digest("subject") if if_present else None)
    assert tag_subject(one, tag, set()) == (digest("subject") if if_absent else None)


@pytest.mark.parametrize("suffix", ["", ".sig", ".imgpkg"])
@pytest.mark.parametrize("kind", ["oci", "oci-index", "docker"])
def test_tag_with_the_manifests_own_digest_is_ordinary(suffix: str, kind: str) -> None:
    """imgpkg tags an image so."""
    one = manifest("x", kind=kind, is_referrers_index=kind == "oci-index")

    assert tag_subject(one, Tag(cosign("x", suffix)), {digest("x")}) is None


@pytest.mark.parametrize(
    "tag",
    [
        f"sha256-{HEX[:-1]}.sig",
        f"sha256-{HEX}a.sig",
        f"sha256-{HEX}.",
        f"sha256-{HEX}-sig",
        f"sha256-{HEX}_sig",
        f"sha256-{'g' * 64}.sig",
        f"sha256-{HEX.upper()}.sig",
        f"sha512-{HEX * 2}.sig",
        f"xsha256-{HEX}.sig",
        f"sha256_{HEX}.sig",
        "v1",
    ],
)
def test_other_tag_is_ordinary(tag: str) -> None:
    """Anything but a digest of 64 digits, and a dot and a suffix behind it."""
    for one in (manifest("x"), manifest("x", children="", kind="oci-index")):
        assert tag_subject(one, Tag(tag), {Digest(f"sha256:{HEX}")}) is None


# --- subjects


def subjects(*manifests: Manifest) -> dict[str, list[str]]:
    """Return the subjects that each manifest names, by name."""
    held = listing(*manifests).manifests
    found = {name_of(key): [*map(name_of, named_subjects(one, held))] for key, one in held.items()}
    return {name: named for name, named in found.items() if named}


def test_subjects_are_each_named_once() -> None:
    """The subject of the document first, then those of the tags."""
    tags = f"{cosign('a')} {cosign('a', '.att')} {cosign('b')} v1"

    (first, *rest) = subjects(manifest("x", tags=tags, subject="s"))["x"]

    assert first == "s"
    assert sorted(rest) == ["a", "b"]
    assert subjects(manifest("x", tags=cosign("s"), subject="s")) == {"x": ["s"]}
    assert subjects(manifest("x", subject="s")) == {"x": ["s"]}
    assert subjects(manifest("x"), manifest("y", tags="v1")) == {}


def test_untagged_referrers_index_names_the_subjects_of_what_it_lists() -> None:
    """As far as that is in the repository; each once."""
    held = (
        manifest("index", children="a b c absent", is_referrers_index=True),
        manifest("a", subject="s"),
        manifest("b", subject="s"),
        manifest("c", subject="t"),
    )

    assert subjects(*held)["index"] == ["s", "t"]


@pytest.mark.parametrize(("tags", "is_referrers_index"), [("v1", True), ("", False)])
def test_other_index_does_not_name_the_subjects_of_what_it_lists(tags: str, *, is_referrers_index: bool) -> None:
    """One with a tag is judged by that; one without artifact types lists images."""
    index = manifest("index", tags=tags, children="a", is_referrers_index=is_referrers_index)

    assert "index" not in subjects(index, manifest("a", subject="s"))


# --- redundant indexes

INDEX = manifest("index", 5, children="a b")
PARTS = tuple(map(manifest, "abc"))

COVERED: Mapping[str, tuple[tuple[Manifest, ...], set[str]]] = {
    # The other manifests beside ``index``, which lists a and b, and the indexes that it follows.
    "nothing lists its children": ((), set()),
    "another lists one of them": ((manifest("other", 1, tags="v1", children="a"),), set()),
    "another lists more": ((manifest("other", 9, children="a b c"),), {"other"}),
    "another with a tag lists more": ((manifest("other", 9, tags="v1", children="a b c"),), {"other"}),
    "another with a tag lists the same": ((manifest("other", 9, tags="v1", children="b a"),), {"other"}),
    "a newer one lists the same": ((manifest("other", 4, children="b a"),), {"other"}),
    "an older one lists the same": ((manifest("other", 6, children="b a"),), set()),
    "one of unknown age lists the same": ((manifest("other", None, children="b a"),), {"other"}),
    "two list more": (
        (manifest("other", 1, children="a b c"), manifest("third", 1, tags="v1", children="a b")),
        {"other", "third"},
    ),
    "two together list more": (
        (manifest("other", 1, tags="v1", children="a c"), manifest("third", 1, tags="v2", children="b c")),
        set(),
    ),
    "a Docker index lists more": ((manifest("other", children="a b c", kind="docker-index"),), {"other"}),
}


def covered(*manifests: Manifest) -> dict[str, set[str]]:
    """Return by redundant index the indexes that it follows, by name."""
    held = listing(*manifests).manifests
    children = {
        key: present
        for key, one in held.items()
        if (present := tuple(child for child in one.links.children if child in held))
    }
    found = covering_indexes(held, children, reverse_edges(children))
    return {name_of(index): set(map(name_of, others)) for index, others in found.items()}


@pytest.mark.parametrize("case", COVERED)
def test_untagged_index_is_redundant_if_another_index_covers_it(case: str) -> None:
    """The other one has a tag, lists more, or lists the same and is newer."""
    others, expected = COVERED[case]

    assert covered(INDEX, *PARTS, *others).get("index", set()) == expected


def test_index_with_a_tag_is_never_redundant() -> None:
    """Neither with a tag that is known, nor with one that is not."""
    other = manifest("other", 1, tags="v2", children="a b c")
    unnamed = replace(INDEX, has_unnamed_tags=True)

    assert covered(manifest("index", 5, tags="v1", children="a b"), other, *PARTS) == {}
    assert covered(unnamed, other, *PARTS) == {}


def test_only_children_that_are_there_count() -> None:
    """An index all of whose children are absent is covered by none."""
    other = manifest("other", 1, tags="v1", children="a")

    assert covered(manifest("index", children="a absent"), other, manifest("a")) == {"index": {"other"}}
    assert covered(manifest("index", children="absent"), other, manifest("a")) == {}


def test_of_equal_ages_the_smaller_digest_counts_as_newer() -> None:
    """So exactly one of two indexes that list the same is redundant."""
    smaller, greater = sorted(("one", "two"), key=digest)
    held = [manifest(name, 5, children="a b") for name in (greater, smaller)]

    assert covered(*held, *PARTS) == {greater: {smaller}}


def test_of_indexes_that_list_the_same_one_is_not_redundant() -> None:
    """Without a tag on any, the newest; each other one follows the next newer.  Of nested ones the largest."""
    same = [manifest(f"same {age}", age, children="a b") for age in (3, 4, 5)]
    nested = [manifest("small", 1, children="a"), manifest("large", 9, children="a b c")]

    assert covered(*same, *PARTS) == {"same 4": {"same 3"}, "same 5": {"same 4"}}
    assert covered(*nested, *PARTS) == {"small": {"large"}}


# --- documents that are read


def test_every_index_is_read() -> None:
    """Whatever its tags and its age; nothing else."""
    held = listing(
        manifest("tagged", tags="v1", children=""),
        manifest("untagged", children="", kind="docker-index"),
        manifest("old", 999, children=""),
        manifest("oci"),
        manifest("docker", kind="docker"),
        manifest("schema 1", kind="application/vnd.docker.distribution.manifest.v1+json"),
        manifest("odd", kind="text/plain"),
    )

    assert set(map(name_of, must_be_read(held))) == {"tagged", "untagged", "old"}


READ: Mapping[str, tuple[tuple[Manifest, ...], bool]] = {
    # The indexes beside the untagged OCI manifest ``x``, and whether that is read.
    "no index": ((), True),
    "an index that lists it with a platform": ((manifest("i", children="x"),), False),
    "an index that lists it without a platform": ((manifest("i", children="x", without_platform="x"),), True),
    "an index of each kind": (
        (manifest("i", children="x"), manifest("j", children="x", without_platform="x")),
        True,
    ),
    "a Docker index that lists it without a platform": (
        (manifest("i", children="x", without_platform="x", kind="docker-index"),),
        True,
    ),
    "a referrers index": ((manifest("i", children="x", is_referrers_index=True),), True),
}


@pytest.mark.parametrize("case", READ)
def test_untagged_manifest_is_read_for_a_subject(case: str) -> None:
    """Unless an index lists it as a platform."""
    indexes, is_read = READ[case]

    assert may_have_subject(listing(manifest("x"), *indexes)) == ((digest("x"),) if is_read else ())


def test_tagged_manifest_is_read_only_if_a_referrers_index_lists_it() -> None:
    """Whatever tags it has."""
    held = listing(
        manifest("alone", tags="v1"),
        manifest("signature", tags=cosign("alone")),
        manifest("listed", tags="v2"),
        manifest("index", tags="v3", children="listed", without_platform="listed"),
        manifest("referrers", children="sbom docker", is_referrers_index=True),
        manifest("sbom", tags="v4"),
        manifest("docker", kind="docker"),
    )

    assert may_have_subject(held) == (digest("sbom"),)


@pytest.mark.parametrize(("subject", "is_read"), [("alone", True), ("absent", False), ("referrers", False)])
def test_what_an_index_with_the_tag_of_a_present_subject_lists_is_read(subject: str, *, is_read: bool) -> None:
    """Though its descriptors have no artifact types: clients find the referrers there."""
    held = listing(
        manifest("alone", tags="v1"),
        manifest("referrers", tags=cosign(subject, ""), children="sbom"),
        manifest("sbom", tags="v2"),
    )

    assert may_have_subject(held) == ((digest("sbom"),) if is_read else ())


def test_what_is_asked_for_is_read_if_it_can_have_a_subject() -> None:
    """Tagged or listed, if it is an OCI manifest."""
    held = listing(
        manifest("tagged", tags="v1"),
        manifest("new-tagged", tags="v2"),
        manifest("docker", kind="docker"),
        manifest("index", children="child new-child"),
        manifest("child"),
        manifest("new-child"),
    )
    asked_for = {digest(name) for name in ("new-tagged", "docker", "new-child", "absent")}

    assert set(map(name_of, may_have_subject(held, asked_for))) == {"new-tagged", "new-child"}
