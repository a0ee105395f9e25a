"""Classes, what has to be read for them, and the order of deletion."""

from __future__ import annotations

import pytest

from cleaner.core.graph import Graph, Kind, may_have_subject, must_be_read
from cleaner.core.manifest import Manifest
from tests.support.builders import cosign, digest, listing, manifest, name_of


def kinds(*manifests: Manifest) -> dict[str, Kind]:
    graph = Graph.of(listing(*manifests))
    return {name_of(each.digest): graph.kind(each) for each in manifests}


def before(*manifests: Manifest) -> dict[str, set[str]]:
    """Return for each manifest, by name, what has to go before it when all go."""
    graph = Graph.of(listing(*manifests))
    found = graph.predecessors(graph.listing.manifests.keys())
    return {name_of(each): set(map(name_of, others)) for each, others in found.items()}


def waits(*manifests: Manifest) -> dict[str, set[str]]:
    """Return for each manifest, by name, all that goes before it, directly or not; fails on a loop."""
    found = before(*manifests)
    for _ in found:
        found = {name: others.union(*(found[other] for other in others)) for name, others in found.items()}
    assert not [name for name, others in found.items() if name in others]
    return found


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


@pytest.mark.parametrize("suffix", ["", ".sig", ".att"])
def test_manifest_with_a_cosign_tag_is_a_referrer_where_its_subject_is_there(suffix: str) -> None:
    """Without its subject it is an orphan."""
    signature = manifest("signature", tags=cosign("image", suffix))

    assert kinds(signature, manifest("image"))["signature"] is Kind.REFERRER
    assert kinds(signature, manifest("other"))["signature"] is Kind.ORPHAN


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


def test_child_that_refers_to_something_is_a_child() -> None:
    """Whether its subject is there or not."""
    held = (
        manifest("index", children="a b"),
        manifest("a", tags=cosign("image")),
        manifest("b", tags=cosign("gone")),
        manifest("image"),
    )

    assert kinds(*held)["a"] is Kind.CHILD
    assert kinds(*held)["b"] is Kind.CHILD


def test_docker_manifest_with_a_cosign_tag_is_an_image() -> None:
    """There its tag is an ordinary one."""
    signature = manifest("signature", tags=cosign("image"), kind="docker")

    assert kinds(signature, manifest("image")) == {"signature": Kind.TAGGED_IMAGE, "image": Kind.UNTAGGED_IMAGE}


def test_manifest_that_signs_itself_is_its_own_referrer() -> None:
    """A tag can name the manifest that it stands on."""
    assert kinds(manifest("x", tags=cosign("x"))) == {"x": Kind.REFERRER}


def test_entry_that_is_not_in_the_repository_has_no_edge() -> None:
    """A sparse index lists what was never pushed."""
    graph = Graph.of(listing(manifest("index", children="there absent"), manifest("there")))

    assert set(graph.closure([digest("index")])) == {digest("index"), digest("there")}
    assert digest("absent") not in graph.parents


# --- what has to be read


def test_every_index_has_to_be_read() -> None:
    """Whatever its tags and its age; nothing else."""
    held = listing(
        manifest("tagged", tags="v1", children=""),
        manifest("untagged", children="", kind="docker-index"),
        manifest("old", 999, children=""),
        manifest("oci"),
        manifest("docker", kind="docker"),
        manifest("odd", kind="text/plain"),
    )

    assert {name_of(each) for each in must_be_read(held)} == {"tagged", "untagged", "old"}


def test_untagged_oci_manifest_that_no_index_lists_has_to_be_read() -> None:
    """Only that can be a referrer and nothing else; each reading is a request."""
    held = listing(
        manifest("alone"),
        manifest("tagged", tags="v1"),
        manifest("signature", tags=cosign("alone")),
        manifest("docker", kind="docker"),
        manifest("odd", kind="text/plain"),
        manifest("index", children="child"),
        manifest("child"),
    )

    assert [name_of(each) for each in may_have_subject(held)] == ["alone"]


def test_what_has_just_arrived_may_have_a_subject_whatever_it_is() -> None:
    """Tagged or listed, if it is an OCI manifest."""
    held = listing(
        manifest("alone"),
        manifest("tagged", tags="v1"),
        manifest("new and tagged", tags="v2"),
        manifest("docker", kind="docker"),
        manifest("index", children="child, new child"),
        manifest("child"),
        manifest("new child"),
    )

    arrived = {digest(name) for name in ("new and tagged", "docker", "new child")}

    assert {name_of(each) for each in may_have_subject(held, arrived)} == {"alone", "new and tagged", "new child"}


# --- the order of deletion


def test_index_goes_before_its_children() -> None:
    """At every level, and a shared child after all of its indexes."""
    held = (
        manifest("shared"),
        manifest("top", children="middle shared"),
        manifest("middle", children="bottom"),
        manifest("other", children="shared"),
        manifest("bottom"),
    )

    assert before(*held) == {
        "shared": {"top", "other"},
        "top": set(),
        "middle": {"top"},
        "other": set(),
        "bottom": {"middle"},
    }


def test_subject_goes_before_its_referrers() -> None:
    """By document and by tag; a referrer of two after both."""
    held = (
        manifest("signature", tags=f"{cosign('a')} {cosign('b')}"),
        manifest("sbom", subject="a"),
        manifest("signed-sbom", tags=cosign("sbom")),
        manifest("a"),
        manifest("b"),
    )

    assert before(*held) == {
        "signature": {"a", "b"},
        "sbom": {"a"},
        "signed-sbom": {"sbom"},
        "a": set(),
        "b": set(),
    }


def test_what_stays_is_waited_for_by_nobody() -> None:
    """Only what goes can go before."""
    graph = Graph.of(listing(manifest("index", children="child"), manifest("child")))

    assert graph.predecessors({digest("child")}) == {digest("child"): ()}


def test_manifest_that_signs_itself_does_not_wait_for_itself() -> None:
    """It would wait for ever."""
    assert before(manifest("x", tags=f"{cosign('x')} v1")) == {"x": set()}


def test_loop_of_cosign_tags_orders_nothing_within_itself() -> None:
    """All of it waits for what any of it belongs to."""
    held = (
        manifest("image", tags="v1"),
        manifest("a", tags=f"{cosign('c')} {cosign('image')}"),
        manifest("b", tags=cosign("a")),
        manifest("c", tags=cosign("b")),
        manifest("behind", tags=cosign("b")),
    )

    found = waits(*held)

    assert found["image"] == set()
    assert all("image" in found[name] for name in ("a", "b", "c"))
    assert {"b", "image"} <= found["behind"]


def test_loops_within_a_loop_are_opened_too() -> None:
    """Three manifests each of which signs the other two, and one of them an image."""
    held = (
        manifest("image", tags="v1"),
        manifest("a", tags=f"{cosign('b')} {cosign('c')}"),
        manifest("b", tags=f"{cosign('a')} {cosign('c')} {cosign('image')}"),
        manifest("c", tags=f"{cosign('a')} {cosign('b')}"),
    )

    found = waits(*held)

    assert all("image" in found[name] for name in ("a", "b", "c"))


def test_indexes_order_what_is_in_a_loop() -> None:
    """The registry refuses a child before its index, in a loop as elsewhere."""
    held = (
        manifest("index", tags=cosign("child"), children="child"),
        manifest("child"),
        manifest("other", tags=cosign("index"), children="child"),
    )

    assert {"index", "other"} <= waits(*held)["child"]


def test_index_whose_subject_is_its_own_child_goes_first() -> None:
    """Documents alone can go round; only for the index's sake does the registry refuse."""
    held = (manifest("index", children="child", subject="child"), manifest("child"))
    tagged = (manifest("index", tags="v1", children="child", subject="child"), manifest("child", kind="docker"))

    assert waits(*held) == waits(*tagged) == {"index": set(), "child": {"index"}}
    assert waits(*reversed(held)) == waits(*held)


def test_longer_loop_of_documents_goes_by_its_indexes() -> None:
    """And all of it after what any of it belongs to."""
    held = (
        manifest("root", tags="v1", children="top"),
        manifest("top", children="middle", subject="bottom"),
        manifest("middle", children="bottom"),
        manifest("bottom"),
    )

    found = waits(*held)

    assert "top" in found["middle"]
    assert "middle" in found["bottom"]
    assert all("root" in found[name] for name in ("top", "middle", "bottom"))


def test_two_loops_one_behind_the_other_keep_their_order() -> None:
    """The one that hangs on the other goes after all of it that it names."""
    held = (
        manifest("a", tags=cosign("b")),
        manifest("b", tags=cosign("a")),
        manifest("c", tags=f"{cosign('d')} {cosign('a')}"),
        manifest("d", tags=cosign("c")),
    )

    for order in (held, held[::-1]):
        found = waits(*order)
        assert "a" in found["c"] & found["d"]
        assert not {"c", "d"} & (found["a"] | found["b"])


# --- attestations


def test_attestation_goes_before_what_it_attests() -> None:
    """It may name it as its subject, for which the registry would refuse it; nobody has read it."""
    held = (
        manifest("index", tags="v1", children="amd64 arm64 a b", attests="a:amd64 b:arm64"),
        manifest("amd64"),
        manifest("arm64"),
        manifest("a"),
        manifest("b"),
    )

    assert before(*held) == {
        "index": set(),
        "a": {"index"},
        "b": {"index"},
        "amd64": {"index", "a"},
        "arm64": {"index", "b"},
    }


def test_attestations_go_before_what_several_indexes_share() -> None:
    """A build that changes nothing pushes the same platforms again, each time with an attestation of its own."""
    held = (
        manifest("first", children="amd64 a", attests="a:amd64"),
        manifest("second", children="amd64 b", attests="b:amd64"),
        manifest("amd64"),
        manifest("a"),
        manifest("b"),
    )

    assert before(*held) == {
        "first": set(),
        "second": set(),
        "a": {"first"},
        "b": {"second"},
        "amd64": {"first", "second", "a", "b"},
    }


@pytest.mark.parametrize(
    "held",
    [
        # Another index lists it.
        (
            manifest("index", children="amd64 a", attests="a:amd64"),
            manifest("other", children="a"),
            manifest("amd64"),
            manifest("a"),
        ),
        # One attests itself, two each other.
        (manifest("index", children="a", attests="a:a"), manifest("a")),
        (manifest("index", children="a b", attests="a:b b:a"), manifest("a"), manifest("b")),
        # The index refers to something.
        (
            manifest("index", children="amd64 a", attests="a:amd64", subject="subject"),
            manifest("amd64"),
            manifest("a"),
            manifest("subject"),
        ),
        # What is attested is no child of the index, or not there.
        (manifest("index", children="a", attests="a:image"), manifest("image", tags="v1"), manifest("a")),
        (manifest("index", children="a", attests="a:index"), manifest("a")),
        (manifest("index", children="a", attests="a:absent absent:a"), manifest("a")),
    ],
)
def test_attestation_that_hangs_on_more_than_its_index_orders_nothing(held: tuple[Manifest, ...]) -> None:
    """An index can claim anything; whatever it does, it goes before its children, and there is no loop."""
    found = waits(*held)

    for each in held:
        for child in each.links.children:
            assert name_of(each.digest) in found[name_of(child)]
    assert not [name for name, others in found.items() if "a" in others]


def test_attestation_of_what_stays_orders_nothing() -> None:
    """Only what goes can go before."""
    held = (manifest("index", children="amd64 a", attests="a:amd64"), manifest("amd64"), manifest("a"))
    graph = Graph.of(listing(*held))

    assert graph.predecessors({digest("index"), digest("a")}) == {
        digest("index"): (),
        digest("a"): (digest("index"),),
    }


# --- what hangs together


def test_what_hangs_together_with_a_subject_may_name_it() -> None:
    """What a plan has not read of that: signatures, theirs too, what an index lists, and what stands beside it."""
    graph = Graph.of(
        listing(
            manifest("index", children="subject beside nested"),
            manifest("nested", children="cousin"),
            manifest("cousin"),
            manifest("subject"),
            manifest("beside"),
            manifest("fallback", tags=cosign("subject"), children="listed"),
            manifest("listed"),
            manifest("signature", tags=cosign("subject")),
            manifest("signature of it", tags=cosign("signature")),
            manifest("elsewhere", tags="v1"),
        )
    )

    found = graph.maybe_referring({digest("subject")})
    expected = {"beside", "nested", "fallback", "listed", "signature", "signature of it"}

    assert {name_of(each) for each in found} == expected
    both = graph.maybe_referring({digest("subject"), digest("beside")})
    assert {name_of(each) for each in both} == {*expected, "subject"}


def test_who_names_a_subject_is_told_from_its_signatures() -> None:
    """The registry knows the one and not the other."""
    graph = Graph.of(
        listing(
            manifest("subject"),
            manifest("sbom", subject="subject"),
            manifest("signature", tags=cosign("subject")),
        )
    )

    assert {name_of(each) for each in graph.referring(digest("subject"))} == {"sbom"}
