"""What the documents of manifests name: checked against their digest, and read once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from cleaner.core.errors import (
    CleanerError,
    InvalidManifest,
    PermanentError,
    PermissionDenied,
    RequestRefused,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.manifest import IMAGE, NO_DESCRIPTORS, Links, Listing
from cleaner.core.reference import Digest, Tag
from cleaner.google.registry.deletions import DELETED
from cleaner.google.registry.documents import make_links_cache
from cleaner.google.registry.endpoint import MANIFEST_MAX_BYTES
from tests.emulator.faults import After, Before, Status
from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    multi_arch,
    raw,
    referrer,
    referrers_index,
)
from tests.emulator.store import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
)
from tests.support.prune import costs
from tests.support.readings import ABSENT, TYPES, deletes_nothing, listed, read

if TYPE_CHECKING:
    from tests.emulator.images import Content
    from tests.support.world import World


def test_every_known_type_is_accepted(world: World) -> None:
    """A type that the Accept header left out would be answered 404, and pass for vanished."""
    for media_type in TYPES:
        content = image(1, media_type=media_type) if "manifest.v" in media_type else index([], media_type=media_type)
        world.load(content, tags=f"t{len(world.tags)}")
    client = world.client()

    assert len(read(world).manifests) == len(TYPES)
    for tag, digest in world.tags.items():
        assert client.delete_tag(Tag(tag), Digest(digest), lambda: True) == DELETED


def test_documents_that_are_read(world: World) -> None:
    """Indexes, and untagged OCI manifests that no index lists: one request each, the indexes' first."""
    indexes = [world.load(multi_arch(1, attestations=True), tags="v1"), world.load(multi_arch(2))]
    world.load(image("docker"))
    world.load(image("tagged", media_type=OCI_MANIFEST), tags="v2")
    subject = world.load(image("untagged", media_type=OCI_MANIFEST))
    about = world.load(referrer(subject))
    world.load(cosign_signature(subject), tags=cosign_tag(subject))
    world.load(raw(b"{}", "application/vnd.unknown"))

    assert read(world) == world.listing()
    asked = documents_asked_for(world)
    assert sorted(asked[:2]) == sorted(indexes)
    assert sorted(asked[2:]) == sorted([subject, about])


OCI = image("listed", media_type=OCI_MANIFEST)
WITH_PLATFORM = image("listed", media_type=OCI_MANIFEST, platform="amd64")
DOCKER = image("listed")
SUBJECT = image("subject")


@pytest.mark.parametrize(
    ("listed", "tags", "parent", "parent_tags", "is_read"),
    [
        pytest.param(WITH_PLATFORM, "", index([WITH_PLATFORM]), "v1", False, id="with a platform"),
        pytest.param(OCI, "", index([OCI]), "v1", True, id="without a platform"),
        pytest.param(OCI, "", index([OCI], media_type=DOCKER_LIST), "v1", True, id="in a Docker index"),
        pytest.param(OCI, "v2", index([OCI]), "v1", False, id="tagged, without a platform"),
        pytest.param(DOCKER, "", index([DOCKER], media_type=OCI_INDEX), "v1", False, id="Docker, without a platform"),
        pytest.param(OCI, "", referrers_index([OCI]), "", True, id="in an untagged referrers index"),
        pytest.param(OCI, "v2", referrers_index([OCI]), "", True, id="tagged, in an untagged referrers index"),
        pytest.param(OCI, "v2", referrers_index([OCI]), "v1", True, id="tagged, in a referrers index with a tag"),
        pytest.param(
            WITH_PLATFORM, "", referrers_index([WITH_PLATFORM]), "", True, id="with a platform, in a referrers index"
        ),
        pytest.param(OCI, "v2", index([OCI]), cosign_tag(SUBJECT, ""), True, id="in an index tagged as one"),
        pytest.param(OCI, "v2", index([OCI]), cosign_tag(ABSENT, ""), False, id="in an index tagged for nobody"),
        pytest.param(OCI, "v2", index([OCI]), cosign_tag(SUBJECT), False, id="in an index tagged as a signature"),
        pytest.param(DOCKER, "", referrers_index([DOCKER]), "", False, id="Docker, in a referrers index"),
    ],
)
def test_child_is_read_if_it_may_be_a_referrer(
    world: World, listed: Content, tags: str, parent: Content, parent_tags: str, is_read: bool
) -> None:
    """A referrers index, or an index that gives no platform, may list referrers."""
    world.load(SUBJECT, tags="subject")
    world.load(listed, tags=tags.split())
    world.load(parent, tags=parent_tags.split())

    assert read(world) == world.listing()

    assert documents_asked_for(world) == [parent.digest, listed.digest][: 1 + is_read]


def test_what_several_referrers_indexes_list_is_read_once(world: World) -> None:
    """A client replaces the index with each referrer that it adds; the process remembers all documents."""
    subject = world.load(image("subject"), tags="v1")
    listed = [referrer(subject, seed=seed) for seed in range(3)]
    for count in (1, 2, 3):
        world.load(referrers_index(listed[:count]), tags=[cosign_tag(subject, "")] if count == 3 else [])

    first = read(world)

    assert first == world.listing()
    assert [first.manifests[Digest(one.digest)].links.subject for one in listed] == [subject] * 3
    costs(world, tags_list=1, manifest_get=6)
    world.log.clear()

    assert read(world) == first
    costs(world, tags_list=1)

    fourth = referrer(subject, seed=3)
    world.load(referrers_index([*listed, fourth]), tags=cosign_tag(subject, ""))
    world.log.clear()

    assert read(world) == world.listing()
    costs(world, tags_list=1, manifest_get=2)


def test_kind_of_content_is_read(world: World) -> None:
    """Of untagged OCI manifests and of indexes; what is not read counts as an image."""
    untagged, empty = world.load(chart("untagged")), world.load(index([]))
    others = [image("docker"), image("oci", media_type=OCI_MANIFEST), chart("tagged")]
    images = [world.load(one, tags=tags) for one, tags in zip(others, [(), (), "v1"], strict=True)]

    contents = {digest: one.links.content for digest, one in read(world).manifests.items()}

    assert contents.pop(untagged) == "application/vnd.cncf.helm.config.v1+json"
    assert contents.pop(empty) == NO_DESCRIPTORS
    assert contents == dict.fromkeys(images, IMAGE)


def chart(seed: str) -> Content:
    """Return an OCI manifest whose config is a Helm chart's."""
    body = image(seed, media_type=OCI_MANIFEST).body.replace(b"oci.image.config.v1", b"cncf.helm.config.v1")
    return raw(body, OCI_MANIFEST)


def documents_asked_for(world: World) -> list[str]:
    return [reference for _, reference, _ in world.asked("manifest_get")]


def test_documents_are_remembered(world: World) -> None:
    """A digest's content never changes, so a process reads it once."""
    world.load(multi_arch(1), tags="v1")
    world.load(referrer(ABSENT))
    first = read(world)
    world.log.clear()

    assert read(world) == first
    assert world.log.counts == {"tags_list": 1}

    world.load(multi_arch(2), tags="v2")
    assert read(world) == world.listing()
    assert world.log.counts == {"tags_list": 2, "manifest_get": 1}


def test_nested_indexes_are_read(world: World) -> None:
    """An index may list an index."""
    world.load(index([index([image(1), image(2)]), image(3)]), tags="v1")

    assert read(world) == world.listing()
    assert world.log.counts["manifest_get"] == 2


def test_vanished_manifest_is_left_out(world: World) -> None:
    """Another run was faster: what is 404 is not there."""
    kept = world.load(image("kept"), tags="v1")
    gone = world.load(multi_arch(1), tags="v2")
    world.faults.add(Before(lambda: world.store.force_delete(world.name, gone)), kind="manifest_get", times=1)

    listing = read(world)

    assert gone not in listing.manifests
    assert kept in listing.manifests
    assert len(listing.manifests) == 3


def test_repository_that_vanishes_while_it_is_read_is_empty(world: World) -> None:
    """Nothing that had to be read is left."""
    for seed in range(3):
        world.load(index([], seed=seed))
    vanish = Before(lambda: world.store.remove_repository(world.name))
    world.faults.add(vanish, kind="manifest_get", times=1)

    assert read(world).manifests == {}


@pytest.mark.parametrize("status", [401, 403, 400])
def test_document_that_is_refused(world: World, status: int) -> None:
    """One document that may not be read ends the run."""
    world.load(multi_arch(1), tags="v1")
    world.load(multi_arch(2), tags="v2")
    world.faults.add(Status(status), kind="manifest_get", skip=1)

    deletes_nothing(world, RequestRefused if status == 400 else PermissionDenied)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"manifests":[]}', b"<html>"])
def test_document_that_does_not_match_its_digest_is_transient(world: World, body: bytes) -> None:
    """It was damaged on its way, whatever it says, and is not remembered."""
    world.load(multi_arch(1), tags="v1")
    rule = world.faults.add(Status(200, body=body), kind="manifest_get")

    deletes_nothing(world, Unavailable)

    world.faults.remove(rule)
    assert read(world) == world.listing()


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", OCI_INDEX),
        (b"{", OCI_INDEX),
        (b"{}", OCI_INDEX),
        (b"[]", DOCKER_LIST),
        (b'{"manifests":{}}', DOCKER_LIST),
        (b'{"manifests":[1]}', OCI_INDEX),
        (b'{"manifests":[{"digest":1}]}', OCI_INDEX),
        (b'{"manifests":[{}]}', OCI_INDEX),
        (b'{"manifests":[],"subject":{}}', OCI_INDEX),
        (b'{"subject":"sha256:1"}', OCI_MANIFEST),
        (b'{"subject":{"digest":null}}', OCI_MANIFEST),
        (b"\xff", OCI_MANIFEST),
        (b'{"x":' + b"[" * 100_000, OCI_MANIFEST),
    ],
)
def test_document_that_is_malformed_is_final(world: World, body: bytes, media_type: str) -> None:
    """It matches its digest, so it will never be another."""
    world.load(raw(body, media_type))

    deletes_nothing(world, InvalidManifest)


@pytest.mark.parametrize(
    "subject",
    [
        "sha256:../../../other/manifests/latest",
        "../other/manifests/v1",
        "sha256:" + "0" * 64 + "/../../x",
        "sha256:" + "0" * 64 + "?x=y",
        "sha256:" + "0" * 64 + "#x",
        "sha256:" + "0" * 64 + "\n",
        "sha256:%2e%2e%2fx",
        "latest",
        "",
        "http://127.0.0.1/",
        "sha256:\u0660",
    ],
)
def test_subject_that_is_no_digest_leads_nowhere(world: World, subject: str) -> None:
    """Whoever may push cannot make us ask for another path."""
    world.load(raw(json.dumps({"subject": {"digest": subject}}).encode(), OCI_MANIFEST))

    deletes_nothing(world, InvalidManifest)

    assert {one.kind for one in world.log.entries} == {"tags_list", "manifest_get"}
    assert all(one.path.startswith("/v2/acme/api/") for one in world.log.entries)


def test_document_of_the_greatest_size_is_read(world: World) -> None:
    """Four megabytes, as the specification wants it; one byte more is refused."""
    frame, most = b'{"manifests":[],"x":"%s"}', 4 * 1024 * 1024
    world.load(raw(frame % (b"x" * (most - len(frame) + 2)), OCI_INDEX))
    assert read(world) == world.listing()

    world.load(raw(frame % (b"x" * (most - len(frame) + 3)), OCI_INDEX))
    deletes_nothing(world, CleanerError)


def test_children_that_are_no_digests_are_never_asked_for(world: World) -> None:
    """What an index lists is looked up in the listing and nowhere else, and forgotten where it is not there."""
    body = json.dumps({"manifests": [{"digest": "../../other/manifests/v1"}, {"digest": ABSENT}]}).encode()
    digest = world.load(raw(body, OCI_INDEX))

    assert read(world).manifests[digest].links.children == ()
    assert world.log.counts == {"tags_list": 1, "manifest_get": 1}


def test_attestation_in_an_index_is_not_read(world: World) -> None:
    """Its platform is ``unknown/unknown``, which is one: a child follows its index, whatever it is about."""
    platform = image("amd64", media_type=OCI_MANIFEST, platform="amd64")
    world.load(index([platform, attestation(platform)]), tags="v1")
    read(world)

    assert world.log.counts["manifest_get"] == 1


def test_same_digest_of_another_type_is_another_document(world: World) -> None:
    """What a body names depends on the type that the listing gives it."""
    digest = world.load(multi_arch(1), tags="v1")
    listing = listed(world)
    other = replace(listing.manifests[digest], media_type=DOCKER_LIST)
    client = world.client()

    client.read_documents(listing, map)
    client.read_documents(Listing.of(listing.repository, [other]), map)
    client.read_documents(listing, map)

    assert world.log.counts["manifest_get"] == 2


def test_size_in_the_cache_grows_with_the_descriptors(world: World) -> None:
    """A manifest counts 1, and 1 more for each descriptor and attestation."""
    digest = world.load(multi_arch(1, attestations=True), tags="v1")
    links = read(world).manifests[digest].links
    size = 1 + len(links.children) + len(links.attestations)
    assert size > 4

    for max_size, is_kept in ((size - 1, False), (size, True)):
        cache = make_links_cache(max_size)
        cache.put((digest, "type"), links)
        assert (cache.get((digest, "type")) is not None) == is_kept


def test_manifest_that_is_too_long_ends_the_run_for_good(world: World) -> None:
    """A digest's content never changes: another delivery would find it as long."""
    world.load(raw(b'{"a": "' + b"x" * MANIFEST_MAX_BYTES + b'"}', OCI_MANIFEST))

    with pytest.raises(PermanentError):
        read(world)


def test_reading_ends_at_the_deadline_and_is_not_in_vain(world: World) -> None:
    """The next delivery goes on from there, or a great repository would never be pruned."""
    for seed in range(10):
        world.load(multi_arch(seed))
    world.faults.add(After(lambda: world.clock.turn(10)), kind="manifest_get")

    client = world.client(deadline=world.clock() + 35)
    listing = client.list_manifests()
    with pytest.raises(TimeLimitReached):
        client.read_documents(listing, map)
    read_before = world.log.counts["manifest_get"]
    read(world)

    assert read_before == 4
    assert world.log.counts["manifest_get"] == 10


def test_what_an_index_lists_and_nobody_has_is_not_held(world: World) -> None:
    """An index of 4 MiB has room for forty thousand entries."""
    absent = [f"sha256:{number:064x}" for number in range(20_000)]
    top = world.load(index([image("child")], absent=absent, media_type=OCI_INDEX))

    listing = read(world)

    assert len(listing.manifests[top].links.children) == 1
    assert world.registry.links_cache.get((top, OCI_INDEX)) is None


def test_what_an_index_lists_and_this_run_has_deleted_is_held(world: World) -> None:
    """A new index over it belongs to what the run's history restores."""
    child = image("deleted")
    digest = world.load(index([], absent=[child.digest]))
    client = world.client()

    found = client.read_documents(client.list_manifests(), map, absent={Digest(child.digest)})

    assert found.manifests[digest].links.children == (child.digest,)


def test_malformed_document_that_is_read_beside_the_others_names_nothing(world: World) -> None:
    """It decides no class, so it ends no run."""
    malformed = world.load(raw(b"[]", OCI_MANIFEST), tags="v1")
    client = world.client()

    found = client.read_documents(client.list_manifests(), map, also={malformed})

    assert found.manifests[malformed].links == Links()
