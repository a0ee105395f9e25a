"""The registry's two kinds of documents, decoded: captured bodies, upload times, malformed bodies."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cleaner.core.errors import IncompleteListing, InvalidManifest, TooManyEntries, Unavailable
from cleaner.core.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MEDIA_TYPES,
    NO_DESCRIPTORS,
    NO_LINKS,
    OCI_INDEX,
    OCI_MANIFEST,
    Links,
    Manifest,
    TagsPage,
    decode_links,
    decode_tags_page,
    newest_first,
    parse_upload_time,
)
from cleaner.core.reference import Digest
from cleaner.core.relations import tag_subject
from tests.support.builders import digest

DATA = Path(__file__).parent.parent / "data"
UPLOADED = datetime(2020, 8, 12, 1, 15, 59, 140_000, tzinfo=UTC)
UPLOADED_MS = 1597194959140


def captured(name: str) -> bytes:
    return (DATA / name).read_bytes()


def page(**fields: object) -> TagsPage:
    return decode_tags_page(json.dumps({"name": "acme/api", **fields}).encode())


def entry(**fields: object) -> Manifest:
    """Return the manifest of a listing that has one entry with these fields."""
    (decoded,) = page(manifest={digest("x"): fields}, tags=[]).manifests
    return decoded


# --- captured listings


def test_captured_jib_listing_is_read() -> None:
    """Jib's created times are all 0; the upload times differ."""
    decoded = decode_tags_page(captured("gcr-jib.tags-list.json"))
    by_age = newest_first(decoded.manifests)

    assert [(each.digest[7:13], each.tags, each.size) for each in by_age] == [
        ("3e23e8", ("latest",), 114529934),
        ("2e7d2c", (), 114529896),
        ("ca9781", (), 114683291),
    ]
    assert by_age[2].uploaded == UPLOADED
    assert {each.media_type for each in by_age} == {DOCKER_MANIFEST}
    assert decoded.tags == frozenset({"latest"})


def test_captured_multi_arch_listing_is_read() -> None:
    """The index is recognised by its media type; its size is 0, its upload time is not."""
    decoded = decode_tags_page(captured("gcr-multi-arch.tags-list.json"))
    (index,) = (each for each in decoded.manifests if each.is_index)

    assert (index.media_type, index.size) == (DOCKER_INDEX, 0)
    assert index.uploaded is not None
    assert len(decoded.manifests) == 6
    assert decoded.tags == frozenset(tag for each in decoded.manifests for tag in each.tags)


def test_captured_cosign_listing_is_read() -> None:
    """Created times below zero are ignored; the signature's subject is not in the listing."""
    decoded = decode_tags_page(captured("gcr-cosign.tags-list.json"))
    present = {each.digest for each in decoded.manifests}
    subjects = (tag_subject(each, tag, present) for each in decoded.manifests for tag in each.tags)
    signed = [*filter(None, subjects)]

    assert len(decoded.manifests) == 4
    assert all(each.uploaded for each in decoded.manifests)
    assert len(signed) == 1
    assert signed[0] not in present


def test_captured_artifact_registry_listing_is_read() -> None:
    """Several tags of one manifest are sorted; there is no layerId."""
    decoded = decode_tags_page(captured("artifact-registry.tags-list.json"))

    assert newest_first(decoded.manifests)[0].tags == (
        "98682a1f81cf155fb2df167176b5a767f3b09b20",
        "dependabot-composer-drupal-core-recommended-9-5-7",
    )


def test_captured_parent_has_children_and_no_manifest() -> None:
    """A path that has only sub-repositories has a complete, empty listing."""
    decoded = decode_tags_page(captured("gcr-parent.tags-list.json"))

    assert (decoded.manifests, decoded.tags) == ((), frozenset())


# --- a page


def test_page_without_tags_has_none() -> None:
    """A page without a list of tags differs from one with an empty list."""
    assert page(manifest={}).tags is None
    assert page(manifest={}, tags=None).tags is None
    assert page(manifest={}, tags=[]).tags == frozenset()


@pytest.mark.parametrize("fields", [{"manifest": {}}, {"manifest": {}, "child": []}, {"child": ["sub"]}])
def test_empty_repository_is_a_complete_listing(fields: dict[str, object]) -> None:
    """An empty manifest map, or only children."""
    assert page(**fields).manifests == ()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tags": ["v1"]},
        {"tags": ["v1"], "manifest": None},
        {"child": []},
        {"child": None},
        {"manifest": []},
        {"manifest": {"sha256:abc": {}}},
        {"manifest": {"": {}}},
        {"manifest": {"sha256:" + "a" * 64 + "\n": {}}},
        {"manifest": {"sha512:" + "a" * 128: {}}},
        {"manifest": {digest("x"): None}},
        {"manifest": {digest("x"): []}},
        {"manifest": {digest("x"): {"tag": "v1"}}},
        {"manifest": {digest("x"): {"tag": [1]}}},
        {"manifest": {digest("x"): {"tag": [None]}}},
        {"manifest": {digest("x"): {"tag": ["../../x"]}}},
        {"manifest": {digest("x"): {"tag": [""]}}},
        {"manifest": {digest("x"): {"tag": ["v1\n"]}}},
        {"manifest": {}, "tags": "v1"},
        {"manifest": {}, "tags": [1]},
        {"manifest": {}, "child": "sub"},
    ],
)
def test_json_that_is_no_listing_is_incomplete(fields: dict[str, object]) -> None:
    """Other registries send neither a manifest map nor child names; that is not an empty repository."""
    with pytest.raises(IncompleteListing):
        page(**fields)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'{"manifest": ' + b"[" * 100_000])
def test_other_json_is_incomplete(body: bytes) -> None:
    """Also if it is nested too deeply; reading it again cannot help."""
    with pytest.raises((IncompleteListing, Unavailable)):
        decode_tags_page(body)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"manifest": {}', b'{"tags": ["\xff"], "manifest": {}}'])
def test_body_that_is_not_json_can_be_retried(body: bytes) -> None:
    """It was damaged in transit."""
    with pytest.raises(Unavailable):
        decode_tags_page(body)


def test_too_many_entries_are_not_decoded() -> None:
    """Another API lists them all, so a malformed one is not even noticed."""
    body = json.dumps({"manifest": {digest("a"): {}, digest("b"): {"tag": 5}}}).encode()

    with pytest.raises(TooManyEntries):
        decode_tags_page(body, 2)
    with pytest.raises(IncompleteListing):
        decode_tags_page(body, 3)


def test_absent_fields_of_an_entry_have_defaults() -> None:
    """No tags, no type, an unknown age, no size: such a manifest is never deleted."""
    assert entry() == Manifest(digest("x"), "")
    assert entry(tag=None, mediaType=None, timeUploadedMs=None, imageSizeBytes=None) == Manifest(digest("x"), "")


def test_tags_of_an_entry_are_sorted_and_each_once() -> None:
    """The registry's order does not matter."""
    assert entry(tag=["b", "a", "b"]).tags == ("a", "b")


@pytest.mark.parametrize("media_type", [5, ["x"], {"a": 1}, True])
def test_media_type_that_is_not_a_string_is_unknown(media_type: object) -> None:
    """The manifest is kept, and the run goes on."""
    decoded = entry(mediaType=media_type)

    assert decoded.media_type == ""
    assert not decoded.has_known_type


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("1146", 1146),
        (1146, 1146),
        ("0", 0),
        (None, 0),
        ("-5", 0),
        (-5, 0),
        ("1.5", 0),
        (1.5, 0),
        ("x", 0),
        (True, 0),
    ],
)
def test_size_is_a_number_or_its_decimal_string(size: object, expected: int) -> None:
    """It is only summed up, so a malformed size is 0."""
    assert entry(imageSizeBytes=size).size == expected


# --- upload times


@pytest.mark.parametrize("value", [str(UPLOADED_MS), UPLOADED_MS])
def test_upload_time_is_milliseconds_as_string_or_number(value: object) -> None:
    """Artifact Registry sends both."""
    assert parse_upload_time(value) == UPLOADED
    assert entry(timeUploadedMs=value).uploaded == UPLOADED


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "0",
        "00",
        -1,
        "-62135596800000",
        "-6795364578871",
        "",
        " ",
        "1597194959140 ",
        " 1597194959140",
        "1597194959140\n",
        "+1597194959140",
        "1_597_194_959_140",
        "1597194959140.0",
        1597194959140.0,
        1.5,
        "1e12",
        "0x1",
        "2020-08-12T01:15:59Z",
        "nonsense",
        "\u0661\u0662\u0663",
        True,
        False,
        [],
        [1597194959140],
        {},
        10**14,
        "100000000000000",
        10**30,
        "9" * 5000,
        float("inf"),
    ],
)
def test_unusable_upload_time_is_unknown(value: object) -> None:
    """Missing, zero, negative or malformed: the age is unknown, so the manifest is kept."""
    assert parse_upload_time(value) is None


def test_upload_time_is_never_the_created_time() -> None:
    """An entry that has only a created time has no age."""
    assert entry(timeCreatedMs=str(UPLOADED_MS)).uploaded is None
    assert entry(timeCreatedMs="1", timeUploadedMs=str(UPLOADED_MS)).uploaded == UPLOADED


def test_largest_upload_time_is_read() -> None:
    """It has fourteen digits, and is in the year 5138."""
    latest = parse_upload_time(10**14 - 1)

    assert latest is not None
    assert latest.year == 5138
    assert parse_upload_time(1) == datetime(1970, 1, 1, microsecond=1000, tzinfo=UTC)


@pytest.mark.parametrize("raw", [b"1e300", b"1" + b"0" * 400, b"-0", b"0.0", b'"\\u0031"'])
def test_malformed_number_leaves_the_listing_complete(raw: bytes) -> None:
    """Only the manifest that has the number is affected."""
    body = b'{"manifest": {"%s": {"timeUploadedMs": %s}}}' % (digest("x").encode(), raw)

    (decoded,) = decode_tags_page(body).manifests

    assert decoded.uploaded is None or raw == b'"\\u0031"'


def test_number_too_large_for_a_float_leaves_the_listing_complete() -> None:
    """Only the age of its own manifest is unknown."""
    body = b'{"manifest": {"%s": {"timeUploadedMs": 1e400, "imageSizeBytes": -1e400}}}' % digest("x").encode()

    assert decode_tags_page(body).manifests == (Manifest(digest("x"), ""),)


# --- a manifest's document


def body_of(document: object) -> tuple[bytes, Digest]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return body, Digest("sha256:" + hashlib.sha256(body).hexdigest())


def links_of(document: object, media_type: str) -> Links:
    return decode_links(*body_of(document), media_type)


def test_captured_index_lists_its_platforms() -> None:
    """The children have the document's order."""
    body = captured("gcr-multi-arch.index.json")
    children = [descriptor["digest"] for descriptor in json.loads(body)["manifests"]]

    decoded = decode_links(body, Digest("sha256:" + hashlib.sha256(body).hexdigest()), DOCKER_INDEX)

    assert len(children) == 5
    assert decoded.children == tuple(children)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_body_that_does_not_match_its_digest_can_be_retried(media_type: str) -> None:
    """One byte differs: it was damaged in transit, or is another document."""
    body, name = body_of({"manifests": []})

    for other in (body + b" ", body[:-1], b""):
        with pytest.raises(Unavailable, match="does not match its digest"):
            decode_links(other, name, media_type)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_child_that_is_listed_twice_is_one_child(media_type: str) -> None:
    """BuildKit lists a manifest twice if two platforms have the same content."""
    document = {"manifests": [{"digest": digest("a")}, {"digest": digest("b")}, {"digest": digest("a")}]}

    assert links_of(document, media_type).children == (digest("a"), digest("b"))


@pytest.mark.parametrize(
    ("platform", "shown"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"architecture": "amd64", "os": "linux", "os.version": "10.0"}, "linux/amd64"),
        ({"os": "unknown", "architecture": "unknown"}, "unknown/unknown"),
        ({"os": "linux"}, ""),
        ({"os": "linux", "architecture": ""}, ""),
        ({"os": "linux", "architecture": "amd64\n"}, ""),
        ({"os": "linux", "architecture": "\x1b[31m"}, ""),
        ({"os": "a/b", "architecture": "c", "variant": "d"}, ""),
        ({"os": "x" * 33, "architecture": "amd64"}, ""),
        ({}, ""),
        (None, ""),
        ("linux/amd64", ""),
        ([], ""),
    ],
)
def test_platform_of_a_child_is_read_if_it_is_well_formed(platform: object, shown: str) -> None:
    """It is only displayed, so a malformed one is empty."""
    document = {"manifests": [{"digest": digest("a"), "platform": platform}, {"digest": digest("b")}]}

    decoded = links_of(document, OCI_INDEX)

    assert (decoded.children, decoded.platforms) == ((digest("a"), digest("b")), (shown, ""))


ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


def test_attestation_of_a_child_is_recognised_by_its_annotations() -> None:
    """BuildKit writes these annotations into the index."""
    notes = ATTESTATION | {"vnd.docker.reference.digest": digest("a")}
    document = {"manifests": [{"digest": digest("a")}, {"digest": digest("b"), "annotations": notes}]}

    links = links_of(document, OCI_INDEX)
    assert links.children == (digest("a"), digest("b"))
    assert links.attestations == ((digest("b"), digest("a")),)


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        5,
        "x",
        [],
        {},
        ATTESTATION,
        ATTESTATION | {"vnd.docker.reference.digest": None},
        ATTESTATION | {"vnd.docker.reference.digest": 5},
        {"vnd.docker.reference.digest": digest("a")},
        {"vnd.docker.reference.type": "other", "vnd.docker.reference.digest": digest("a")},
        {"vnd.docker.reference.type": ["attestation-manifest"], "vnd.docker.reference.digest": digest("a")},
    ],
)
def test_other_annotations_are_ignored(annotations: object) -> None:
    """The index is not malformed because of them."""
    document = {"manifests": [{"digest": digest("a")}, {"digest": digest("b"), "annotations": annotations}]}

    links = links_of(document, OCI_INDEX)
    assert (links.children, links.attestations) == ((digest("a"), digest("b")), ())


def test_attestation_that_is_listed_a_thousand_times_is_one() -> None:
    """An attestation of what the index does not list is ignored.  Both bound the memory that links take."""
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest("a")}
    other = {**notes, "vnd.docker.reference.digest": digest("elsewhere")}
    attesting = [{"digest": digest("b"), "annotations": notes}] * 1000
    document = {"manifests": [{"digest": digest("a")}, *attesting, {"digest": digest("c"), "annotations": other}]}

    assert links_of(document, OCI_INDEX).attestations == ((digest("b"), digest("a")),)


def test_links_within_a_listing_lack_absent_children() -> None:
    """Their platforms and attestations are removed as well; links whose children are all present are unchanged."""
    a, b, c = digest("a"), digest("b"), digest("c")
    whole = Links((a, b, c), digest("s"), ((b, a), (c, a)), ("linux/amd64", "", "x/y"), (b, c), has_descriptors=True)

    assert whole.within({a, b, c, digest("d")}) is whole
    assert whole.within({a, c}) == Links(
        (a, c), digest("s"), ((c, a),), ("linux/amd64", "x/y"), (c,), has_descriptors=True
    )
    assert whole.within({c}) == Links((c,), digest("s"), (), ("x/y",), (c,), has_descriptors=True)
    assert whole.within(set()) == Links((), digest("s"), has_descriptors=True)
    assert Links((a, b)).within({b}) == Links((b,))
    assert Links((a,), digest("s")).within(set()) == Links((), digest("s"))


@pytest.mark.parametrize("manifests", [[], None])
@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_index_may_be_empty(manifests: object, media_type: str) -> None:
    """Go writes an empty list as null."""
    links = links_of({"manifests": manifests}, media_type)

    assert (links.children, links.has_descriptors, links.content) == ((), False, NO_DESCRIPTORS)


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_oci_document_names_its_subject(media_type: str) -> None:
    """Both of a manifest and of an index."""
    document = {"manifests": [], "subject": {"digest": digest("s")}}

    assert links_of(document, media_type).subject == digest("s")
    assert links_of(document | {"subject": None}, media_type).subject is None


TYPED = {"digest": digest("a"), "artifactType": "application/spdx+json"}


@pytest.mark.parametrize(
    ("descriptors", "media_type", "is_referrers_index"),
    [
        ([TYPED], OCI_INDEX, True),
        ([TYPED, {**TYPED, "digest": digest("b")}], OCI_INDEX, True),
        ([], OCI_INDEX, True),
        ([TYPED, {"digest": digest("b")}], OCI_INDEX, False),
        ([{**TYPED, "artifactType": ""}], OCI_INDEX, False),
        ([{**TYPED, "artifactType": 5}], OCI_INDEX, False),
        ([TYPED], DOCKER_INDEX, False),
    ],
)
def test_index_in_which_every_descriptor_has_an_artifact_type_is_a_referrers_index(
    descriptors: list[object], media_type: str, *, is_referrers_index: bool
) -> None:
    """Only an OCI index can be one; one without descriptors is."""
    assert links_of({"manifests": descriptors}, media_type).is_referrers_index is is_referrers_index


@pytest.mark.parametrize("platform", [{}, {"os": "unknown", "architecture": "unknown"}, "malformed"])
def test_child_that_is_listed_without_a_platform_is_told_from_one_with_any(platform: object) -> None:
    """One that is listed both ways is one without."""
    listed = [{"digest": digest("a"), "platform": platform}, {"digest": digest("b")}]
    document = {"manifests": [*listed, {"digest": digest("c"), "platform": platform}, {"digest": digest("c")}]}

    assert links_of(document, OCI_INDEX).without_platform == (digest("b"), digest("c"))


OCI_CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json"}
DOCKER_CONFIG = {"mediaType": "application/vnd.docker.container.image.v1+json"}
OCI_LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
DOCKER_LAYER = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
SIGNATURE = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}
CHART = {"mediaType": "application/vnd.cncf.helm.config.v1+json"}


@pytest.mark.parametrize(
    ("document", "content"),
    [
        ({}, "image"),
        ({"config": OCI_CONFIG, "layers": [OCI_LAYER]}, "image"),
        ({"config": DOCKER_CONFIG, "layers": [DOCKER_LAYER]}, "image"),
        ({"artifactType": "text/x", "config": CHART, "layers": [SIGNATURE]}, "text/x"),
        ({"artifactType": "", "config": CHART, "layers": [SIGNATURE]}, CHART["mediaType"]),
        ({"config": OCI_CONFIG, "layers": [OCI_LAYER, SIGNATURE, CHART]}, SIGNATURE["mediaType"]),
        ({"config": OCI_CONFIG, "layers": [{"mediaType": ""}, {}, SIGNATURE]}, SIGNATURE["mediaType"]),
        ({"artifactType": 5, "config": [], "layers": {"mediaType": "x"}}, "image"),
        ({"artifactType": None, "config": {"mediaType": 5}, "layers": [5, {"mediaType": 5}]}, "image"),
    ],
)
def test_kind_of_content_is_the_first_media_type_that_is_no_images(document: object, content: str) -> None:
    """The artifact type, else the config's, else the first layer's; what is malformed says nothing."""
    assert links_of(document, OCI_MANIFEST).content == content


def test_kind_of_content_of_an_index() -> None:
    """An index without descriptors is a kind of its own; Docker's have no artifact type."""
    listed = {"manifests": [{"digest": digest("a")}]}

    assert links_of(listed, OCI_INDEX).content == "image"
    assert links_of({**listed, "artifactType": "text/x"}, OCI_INDEX).content == "text/x"
    assert links_of({**listed, "artifactType": "text/x"}, DOCKER_INDEX).content == "image"
    assert links_of({"manifests": [], "artifactType": "text/x"}, OCI_INDEX).content == NO_DESCRIPTORS


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, DOCKER_INDEX])
def test_docker_document_has_no_subject(media_type: str) -> None:
    """A ``subject`` in it is ignored."""
    assert links_of({"manifests": [], "subject": {"digest": digest("s")}}, media_type).subject is None


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, OCI_MANIFEST])
def test_manifest_that_is_not_an_index_has_no_children(media_type: str) -> None:
    """The media type decides, not a key in the document."""
    assert links_of({"manifests": [{"digest": digest("a")}]}, media_type) == NO_LINKS
    assert links_of({"layers": []}, media_type) == NO_LINKS


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"manifests": ' + b'[{"x":' * 100_000,
        {},
        {"layers": []},
        {"manifests": {}},
        {"manifests": "x"},
        {"manifests": [None]},
        {"manifests": ["sha256:abc"]},
        {"manifests": [{}]},
        {"manifests": [{"digest": None}]},
        {"manifests": [{"digest": 5}]},
    ],
)
def test_malformed_index_is_a_permanent_error(document: object, media_type: str) -> None:
    """Its digest matches, so reading it again cannot help; without its children nothing may be deleted."""
    with pytest.raises(InvalidManifest) as caught:
        links_of(document, media_type)
    assert not caught.value.transient


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST])
@pytest.mark.parametrize(
    "subject",
    [
        5,
        "sha256:abc",
        [],
        {},
        {"digest": None},
        {"digest": ""},
        {"digest": "latest"},
        {"digest": "../../v2/other/manifests/x"},
        {"digest": "sha256:a/b"},
        {"digest": "sha256:a?x"},
        {"digest": "sha256:" + "a" * 64 + "\n"},
        {"digest": "sha256:\u0661"},
    ],
)
def test_subject_that_is_not_a_digest_is_malformed(subject: object, media_type: str) -> None:
    """A subject becomes part of a request's path."""
    with pytest.raises(InvalidManifest):
        links_of({"manifests": [], "subject": subject}, media_type)


def test_subject_may_be_of_another_algorithm() -> None:
    """It cannot be in the repository, but the registry can be asked for it."""
    subject = "sha512:" + "a" * 128

    assert links_of({"subject": {"digest": subject}}, OCI_MANIFEST).subject == subject


# --- what a manifest is


def test_four_media_types_are_known() -> None:
    """Docker's and OCI's manifest and index."""
    assert MEDIA_TYPES == (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )


def test_media_type_says_what_a_manifest_is() -> None:
    """Six are understood; two of them are indexes, two can have a subject."""
    schema_1 = [f"application/vnd.docker.distribution.manifest.v1+{suffix}" for suffix in ("json", "prettyjws")]
    unknown = ("", "application/vnd.oci.artifact.manifest.v1+json", OCI_INDEX + ";charset=utf-8")
    kinds = (*MEDIA_TYPES, *schema_1, *unknown)
    told = {kind: Manifest(digest("x"), kind) for kind in kinds}

    assert [kind for kind, each in told.items() if each.has_known_type] == [*MEDIA_TYPES, *schema_1]
    assert [kind for kind, each in told.items() if each.is_index] == [DOCKER_INDEX, OCI_INDEX]
    assert [kind for kind, each in told.items() if each.is_oci] == [OCI_MANIFEST, OCI_INDEX]
