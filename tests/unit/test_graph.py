"""Classes, what is kept together, and what blocks a deletion."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Manifest
from cleaner.core.reference import Digest
from tests.support.builders import cosign, digest, listing, manifest, name_of


def graph_of(*manifests: Manifest) -> Graph:
    """Return the graph of a repository of ``manifests``."""
    return Graph.of(listing(*manifests))


def kinds(*manifests: Manifest) -> dict[str, Kind]:
    """Return the class of each manifest, by name."""
    graph = graph_of(*manifests)
    return {name_of(each.digest): graph.kind(each) for each in manifests}


def names_of(digests: Iterable[Digest]) -> set[str]:
    """Return the names that digests were made from."""
    return set(map(name_of, digests))


# --- classes


def test_ordinary_tag_makes_an_image_of_anything() -> None:
    """A child, a referrer or a manifest without its subject: with an ordinary tag each is judged."""
    held = (
        manifest("index", children="child"),
        manifest("child", tags="v1"),
        manifest("signature", tags=f"{cosign('index')} v2"),
        manifest("lost", tags=f"{cosign('nowhere')} v3"),
    )

    assert kinds(*held) == {
        "index": Kind.UNTAGGED_IMAGE,
        "child": Kind.TAGGED_IMAGE,
        "signature": Kind.TAGGED_IMAGE,
        "lost": Kind.TAGGED_IMAGE,
    }
    assert [kind for kind in Kind if kind.is_image] == [Kind.TAGGED_IMAGE, Kind.UNTAGGED_IMAGE]


@pytest.mark.parametrize("kind", ["oci-index", "docker-index"])
def test_listed_manifest_is_a_child_at_any_depth(kind: str) -> None:
    """A nested index is a child and has children."""
    held = (
        manifest("top", tags="v1", children="middle", kind=kind),
        manifest("middle", children="bottom attestation", kind=kind),
        manifest("bottom", kind="docker"),
        manifest("attestation"),
    )

    assert kinds(*held) == {
        "top": Kind.TAGGED_IMAGE,
        "middle": Kind.CHILD,
        "bottom": Kind.CHILD,
        "attestation": Kind.CHILD,
    }


@pytest.mark.parametrize("kind", ["oci", "oci-index"])
def test_manifest_with_a_referrer_tag_is_a_referrer_where_its_subject_is_there(kind: str) -> None:
    """Without its subject it is an orphan."""
    signature = manifest("signature", tags=cosign("image"), kind=kind)

    assert kinds(signature, manifest("image"))["signature"] is Kind.REFERRER
    assert kinds(signature, manifest("other"))["signature"] is Kind.ORPHAN


def test_docker_manifest_with_a_referrer_tag_is_an_image_without_its_subject() -> None:
    """It cannot be told from a mirrored image."""
    signature = manifest("signature", tags=cosign("image"), kind="docker")

    assert kinds(signature, manifest("image"))["signature"] is Kind.REFERRER
    assert kinds(signature, manifest("other"))["signature"] is Kind.TAGGED_IMAGE


def test_manifest_that_is_mirrored_under_a_digest_is_an_image() -> None:
    """A platform of an upstream index, and that index itself."""
    held = (
        manifest("platform", tags=cosign("upstream", "")),
        manifest("mirrored", tags=cosign("other upstream", ""), children="platform"),
    )

    assert set(kinds(*held).values()) == {Kind.TAGGED_IMAGE}


def test_untagged_referrers_index_is_a_referrer_of_what_its_referrers_refer_to() -> None:
    """A client that replaced it has taken its tag."""
    index = manifest("index", children="sbom", is_referrers_index=True)
    sbom = manifest("sbom", subject="image")

    assert kinds(index, sbom, manifest("image"))["index"] is Kind.REFERRER
    assert kinds(index, sbom)["index"] is Kind.ORPHAN
    assert kinds(index, manifest("sbom"))["index"] is Kind.UNTAGGED_IMAGE


def test_redundant_index_is_a_child() -> None:
    """It follows the index that lists what it lists."""
    graph = graph_of(
        manifest("merged", tags="v1", children="amd64 arm64"),
        manifest("helper", children="amd64"),
        manifest("amd64"),
        manifest("arm64"),
    )

    assert graph.kind(graph.listing.manifests[digest("helper")]) is Kind.CHILD
    assert names_of(graph.needs(digest("merged"))) == {"amd64", "arm64", "helper"}
    assert names_of(graph.owners(digest("helper"))) == {"merged"}
    assert names_of(graph.parents.get(digest("helper"), ())) == set()


def test_index_whose_children_are_absent_is_told_from_one_that_lists_nothing() -> None:
    """Nobody can pull the first; the second may be what somebody wants."""
    held = (
        manifest("hollow", children="", lists_absent=True),
        manifest("empty", children=""),
        manifest("sparse", children="child", lists_absent=True),
        manifest("child"),
    )
    graph = graph_of(*held)

    assert [name_of(one.digest) for one in held if graph.lists_only_absent(one)] == ["hollow"]


@pytest.mark.parametrize("children", [None, ""])
def test_manifest_with_a_subject_is_a_referrer_where_it_is_there(children: str | None) -> None:
    """An OCI manifest and an OCI index; without it an orphan."""
    sbom = manifest("sbom", subject="image", children=children)

    assert kinds(sbom, manifest("image"))["sbom"] is Kind.REFERRER
    assert kinds(sbom, manifest("other"))["sbom"] is Kind.ORPHAN


def test_referrer_with_one_of_several_subjects_there_is_no_orphan() -> None:
    """One subject that it follows is enough."""
    signature = manifest("signature", tags=f"{cosign('gone')} {cosign('image')}")

    assert kinds(signature, manifest("image"))["signature"] is Kind.REFERRER


def test_child_that_is_an_orphan_too_is_an_orphan() -> None:
    """A child whose subject is there is a child."""
    held = (
        manifest("index", children="a b"),
        manifest("a", tags=cosign("image")),
        manifest("b", tags=cosign("gone")),
        manifest("image"),
    )

    assert kinds(*held)["a"] is Kind.CHILD
    assert kinds(*held)["b"] is Kind.ORPHAN


def test_manifest_that_is_tagged_with_its_own_digest_is_an_image() -> None:
    """imgpkg tags an image so."""
    assert kinds(manifest("x", tags=cosign("x"))) == {"x": Kind.TAGGED_IMAGE}


def test_entry_that_is_not_in_the_repository_has_no_edge() -> None:
    """A sparse index lists what was never pushed."""
    graph = graph_of(manifest("index", children="there absent"), manifest("there"))

    assert names_of(graph.closure([digest("index")])) == {"index", "there"}
    assert digest("absent") not in graph.parents


# --- what is kept together


def test_manifest_needs_its_children_its_referrers_and_its_subjects() -> None:
    """And so on from there; ``needed_by`` is the inverse."""
    graph = graph_of(
        manifest("image", tags="v1", children="child shared"),
        manifest("child"),
        manifest("shared"),
        manifest("signature", tags=cosign("image")),
        manifest("sbom of the child", subject="child"),
        manifest("other", tags="v2", children="shared"),
        manifest("elsewhere", tags="v3"),
    )

    assert names_of(graph.needs(digest("image"))) == {"child", "shared", "signature"}
    assert names_of(graph.needs(digest("sbom of the child"))) == {"child"}
    assert names_of(graph.needed_by(digest("shared"))) == {"image", "other"}
    assert names_of(graph.needed_by(digest("image"))) == {"signature"}
    assert names_of(graph.closure([digest("signature")])) == {
        "signature",
        "image",
        "child",
        "shared",
        "sbom of the child",
    }


def test_owners_are_indexes_and_subjects() -> None:
    """What a manifest belongs to; its referrers do not own it."""
    graph = graph_of(
        manifest("index", children="child"),
        manifest("child", tags=f"v1 {cosign('image')}"),
        manifest("image"),
        manifest("sbom", subject="child"),
    )

    assert names_of(graph.owners(digest("child"))) == {"index", "image"}
    assert names_of(graph.owners(digest("sbom"))) == {"child"}
    assert names_of(graph.owners(digest("image"))) == set()


def test_groups_are_what_is_kept_or_deleted_together() -> None:
    """A subject and its referrers need one another, an index and its children do not; owners come first."""
    graph = graph_of(
        manifest("index", children="child"),
        manifest("child"),
        manifest("sbom", subject="child"),
        manifest("signature", tags=cosign("sbom")),
    )

    groups = [names_of(group) for group in graph.groups(graph.listing.manifests.keys())]

    assert groups == [{"index"}, {"child", "sbom", "signature"}]


# --- what blocks the deletion of a subject


def test_registry_refuses_a_subject_for_the_manifests_whose_documents_name_it() -> None:
    """It does not know what referrer tags mean."""
    graph = graph_of(
        manifest("subject"),
        manifest("sbom", subject="subject"),
        manifest("index", tags="v1", subject="subject", children=""),
        manifest("signature", tags=cosign("subject")),
        manifest("both", tags=cosign("subject"), subject="subject", children=""),
        manifest("of the sbom", subject="sbom"),
    )

    assert names_of(graph.blocking.get(digest("subject"), ())) == {"sbom", "index", "both"}
    assert names_of(graph.blocking.get(digest("sbom"), ())) == {"of the sbom"}
    assert names_of(graph.blocking.get(digest("signature"), ())) == set()


@pytest.mark.parametrize(
    ("suffix", "kind", "is_blocking"),
    [("", "oci-index", True), (".sig", "oci-index", False), ("", "oci", False), ("", "docker-index", False)],
)
def test_referrers_index_blocks_its_subject(suffix: str, kind: str, *, is_blocking: bool) -> None:
    """An OCI index with exactly the tag of the referrers tag schema: what it lists names the subject."""
    tags = cosign("subject", suffix)
    graph = graph_of(
        manifest("subject"),
        manifest("referrers", tags=tags, kind=kind, children="" if kind.endswith("index") else None),
    )

    assert names_of(graph.blocking.get(digest("subject"), ())) == ({"referrers"} if is_blocking else set())


def test_untagged_referrers_index_blocks_the_subject_of_what_it_lists() -> None:
    """The registry wants it deleted before what it lists, and that before the subject."""
    graph = graph_of(
        manifest("subject"),
        manifest("index", children="sbom", is_referrers_index=True),
        manifest("sbom", subject="subject"),
    )

    assert names_of(graph.blocking[digest("subject")]) == {"index", "sbom"}


def attestations(*manifests: Manifest) -> dict[str, set[str]]:
    """Return for each attested manifest its attestations, by name."""
    graph = graph_of(*manifests)
    return {name_of(each): names_of(others) for each, others in graph.attestations().items()}


def test_attestations_are_known_by_the_annotation_of_buildkit() -> None:
    """A build that changes nothing pushes the same platforms again, each time with attestations of its own."""
    held = (
        manifest("first", tags="v1", children="amd64 arm64 a b", attests="a:amd64 b:arm64"),
        manifest("second", tags="v2", children="amd64 c", attests="c:amd64"),
        *map(manifest, ("amd64", "arm64", "a", "b", "c")),
    )

    assert attestations(*held) == {"amd64": {"a", "c"}, "arm64": {"b"}}


def test_attestation_that_two_indexes_list_with_what_it_attests() -> None:
    """A helper index of one platform is left behind beside the merged one."""
    held = (
        manifest("merged", tags="v1", children="amd64 arm64 a b", attests="a:amd64 b:arm64"),
        manifest("helper", children="amd64 a", attests="a:amd64"),
        *map(manifest, ("amd64", "arm64", "a", "b")),
    )

    assert attestations(*held) == {"amd64": {"a"}, "arm64": {"b"}}


def test_attestation_that_is_attested_itself_attests_nothing() -> None:
    """Of such a chain only the last pair counts, so that no index can close it to a cycle."""
    held = (
        manifest("index", children="amd64 a b", attests="a:amd64 b:a"),
        manifest("amd64"),
        manifest("a"),
        manifest("b"),
    )

    assert attestations(*held) == {"a": {"b"}}


# An index can claim anything.
FALSE_ATTESTATIONS = {
    "another index lists it": (
        manifest("index", children="amd64 a", attests="a:amd64"),
        manifest("other", children="a"),
        manifest("amd64"),
        manifest("a"),
    ),
    "it attests itself": (manifest("index", children="a", attests="a:a"), manifest("a")),
    "two attest each other": (
        manifest("index", children="a b", attests="a:b b:a"),
        manifest("a"),
        manifest("b"),
    ),
    "two attest each other in two indexes": (
        manifest("index", children="a b", attests="a:b"),
        manifest("other", children="a b", attests="b:a"),
        manifest("a"),
        manifest("b"),
    ),
    "it is an index": (
        manifest("index", children="amd64 a", attests="a:amd64"),
        manifest("amd64"),
        manifest("a", children="amd64"),
    ),
    "it has a subject": (
        manifest("index", children="amd64 a", attests="a:amd64"),
        manifest("amd64"),
        manifest("a", tags=cosign("image")),
        manifest("image"),
    ),
    "what it attests is no child": (
        manifest("index", children="a", attests="a:image"),
        manifest("image", tags="v1"),
        manifest("a"),
    ),
    "it attests its index": (manifest("index", children="a", attests="a:index"), manifest("a")),
    "one of the two is not there": (
        manifest("index", children="a", attests="a:absent absent:a"),
        manifest("a"),
    ),
}


@pytest.mark.parametrize("case", FALSE_ATTESTATIONS)
def test_attestation_that_belongs_to_more_than_its_index_is_none(case: str) -> None:
    """Whatever an index claims, its attestations alone can never make a cycle."""
    assert attestations(*FALSE_ATTESTATIONS[case]) == {}
