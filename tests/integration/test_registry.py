"""The client of the registry: complete listings, checked documents, and the outcome of each deletion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from cleaner.core.errors import (
    CleanerError,
    CutShort,
    IncompleteListing,
    InvalidManifest,
    PermanentError,
    PermissionDenied,
    RepositoryNotFound,
    RequestRefused,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.reference import Digest, Tag
from cleaner.google.registry.documents import make_links_cache
from cleaner.google.registry.endpoint import MANIFEST_MAX_BYTES
from tests.emulator import Emulator
from tests.emulator.faults import After, Before, BrokenJson, CutBody, DropAfter, DropBefore, Stall, Status
from tests.emulator.images import attestation, cosign_signature, cosign_tag, image, index, multi_arch, raw, referrer
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERRING_MANIFEST,
)

if TYPE_CHECKING:
    from tests.emulator.faults import Action
    from tests.support.world import World

ABSENT = Digest("sha256:" + "0" * 64)
TYPES = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX]


def listed(world: World) -> Listing:
    return world.client().list_manifests()


def read(world: World) -> Listing:
    """Return the listing with its links, but for the platforms, which decide nothing."""
    client = world.client()
    listing = client.read_documents(client.list_manifests(), map)
    held = (replace(one, links=replace(one.links, platforms=())) for one in listing.manifests.values())
    return Listing.of(listing.repository, held)


def refused_whole(world: World, error: type[CleanerError], **policy: object) -> None:
    """Nothing is deleted, however much the policy would."""
    before = world.left
    assert before
    with pytest.raises(error):
        world.prune(delete_tags=[".*"], max_age="1d", **policy)
    assert world.left == before
    assert world.log.counts["manifest_delete"] == world.log.counts["tag_delete"] == 0


def fill(world: World, count: int) -> set[str]:
    return {world.load(image(seed), tags=f"v{seed}") for seed in range(count)}


# Listing.


@pytest.mark.parametrize("style", ["gcr", "ar"])
@pytest.mark.parametrize("numbers", [False, True])
def test_listing_has_every_manifest(world: World, style: str, numbers: bool) -> None:
    """Both spellings of Google's listings say the same: type, tags, time and size."""
    world.emulator.behaviour.style, world.emulator.behaviour.numbers = style, numbers
    world.load(image(1, size=1_000_000), tags=["v1", "latest"])
    world.load(multi_arch(2, attestations=True), tags="v2", age_days=0.5)
    world.load(raw(b"{}", "application/vnd.unknown"))

    expected = world.listing()

    for digest, manifest in listed(world).manifests.items():
        held = expected.manifests[digest]
        assert manifest == Manifest(digest, held.media_type, held.tags, held.uploaded, held.size)
    assert listed(world).manifests.keys() == expected.manifests.keys()


def test_listing_asks_for_ten_thousand(world: World) -> None:
    """One request without a ping before it."""
    fill(world, 1)
    listed(world)

    assert [(one.method, one.path) for one in world.log.entries] == [("GET", "/v2/acme/api/tags/list?n=10000")]


@pytest.mark.parametrize("link", ['<{next}>; rel="next"', "<{next}>;rel=next", '<http://HOST{next}>; REL="next"'])
def test_pages_are_followed_to_the_end(world: World, link: str) -> None:
    """A link may be relative or whole."""
    digests = fill(world, 7)
    world.emulator.behaviour.page_size = 3
    world.emulator.behaviour.link = link.replace("HOST", world.emulator.host)

    listing = listed(world)

    assert listing.manifests.keys() == digests
    assert {tag for one in listing.manifests.values() for tag in one.tags} == {f"v{seed}" for seed in range(7)}
    assert world.log.counts == {"tags_list": 3}


@pytest.mark.parametrize(
    "link",
    [
        '<http://ELSEWHERE{next}>; rel="next"',
        '<//ELSEWHERE{next}>; rel="next"',
        '<http://HOST@ELSEWHERE{next}>; rel="next"',
        '<http://user@HOST{next}>; rel="next"',
        '<https://HOST{next}>; rel="next"',
        '<http://127.0.0.1{next}>; rel="next"',
        '</v2/acme/other/tags/list?n=2>; rel="next"',
        '</v2/acme/api/../other/tags/list?n=2>; rel="next"',
        '<../../other/tags/list?n=2>; rel="next"',
        '</v2/acme/api/tags/list;x?n=2>; rel="next"',
        '<{next}>; rel="prev"',
        "{next}",
        "<>",
        '<http://[>; rel="next"',
        '<http://[::1{next}>; rel="next"',
        '<{next}>; rel="next", <http://ELSEWHERE{next}>; rel="next"',
    ],
)
def test_link_that_leads_elsewhere_is_refused(world: World, link: str) -> None:
    """Or nowhere that is understood: nothing is asked there, and nothing is deleted."""
    fill(world, 3)
    world.emulator.behaviour.page_size = 2
    with Emulator() as elsewhere:
        world.emulator.behaviour.link = link.replace("HOST", world.emulator.host).replace("ELSEWHERE", elsewhere.host)

        refused_whole(world, IncompleteListing)

        assert elsewhere.log.total == 0
    assert world.log.counts == {"tags_list": 1}


@pytest.mark.parametrize("link", ["/v2/acme/api/tags/list?n=10000", "?n=10000", "?n=10000#x"])
def test_pages_in_a_circle_are_refused(world: World, link: str) -> None:
    """A page that was there already ends the listing, and the run."""
    fill(world, 3)
    world.emulator.behaviour.page_size = 2
    world.emulator.behaviour.link = f'<{link}>; rel="next"'

    refused_whole(world, IncompleteListing)

    assert world.log.counts["tags_list"] <= 2


def test_page_that_fails_fails_the_listing(world: World) -> None:
    """Half a listing is none."""
    fill(world, 5)
    world.emulator.behaviour.page_size = 2
    world.faults.add(Status(503), kind="tags_list", skip=2)

    refused_whole(world, Unavailable)


@pytest.mark.parametrize("cut_at", [0, 1, 3])
def test_listing_whose_tags_differ_is_cut_short(google: World, cut_at: int) -> None:
    """Tags of manifests that are not listed tell that the list was cut."""
    fill(google, 4)
    google.emulator.behaviour.cut_at = cut_at

    refused_whole(google, IncompleteListing)


@pytest.mark.parametrize("tags", [["v1"], ["v1", "v2", "v3"], [], None])
def test_listing_of_google_whose_tags_are_others_is_refused(google: World, tags: list[str] | None) -> None:
    """One too many or too few, or no word of them at all."""
    fill(google, 1)
    entry = {"mediaType": DOCKER_MANIFEST, "tag": ["v1", "v2"], "timeUploadedMs": "1", "imageSizeBytes": "1"}
    body = {"child": [], "manifest": {ABSENT: entry}, **({} if tags is None else {"tags": tags})}
    google.faults.add(Status(200, body=json.dumps(body).encode()), kind="tags_list")

    refused_whole(google, IncompleteListing)


def many(manifests: int, tags: int) -> bytes:
    """A listing of so many manifests, with so many tags in all."""
    entries: dict[str, dict[str, object]] = {
        f"sha256:{number:064x}": {"mediaType": DOCKER_MANIFEST, "tag": [], "timeUploadedMs": "1"}
        for number in range(manifests)
    }
    names = [f"v{number}" for number in range(tags)]
    entries[f"sha256:{0:064x}"]["tag"] = names
    return json.dumps({"child": [], "manifest": entries, "tags": names}).encode()


@pytest.mark.parametrize(("manifests", "tags"), [(10_000, 0), (10_001, 0), (1, 10_000), (12_000, 12_000)])
def test_listing_of_ten_thousand_without_a_further_page_is_cut_short(
    google: World, manifests: int, tags: int
) -> None:
    """Artifact Registry shortens silently: ten thousand of anything may be more."""
    fill(google, 1)
    google.faults.add(Status(200, body=many(manifests, tags)), kind="tags_list")

    refused_whole(google, IncompleteListing)


def test_listing_just_below_the_cut_is_whole(google: World) -> None:
    """One entry less was not cut."""
    google.faults.add(Status(200, body=many(9_999, 9_999)), kind="tags_list")

    assert len(listed(google).manifests) == 9_999


def test_listing_of_ten_thousand_in_several_pages_is_cut_short(google: World) -> None:
    """Whoever pages and stops at ten thousand may have stopped there for good."""
    google.load(image("last"))
    link = (("Link", '</v2/acme/api/tags/list?n=10000&last=x>; rel="next"'),)
    google.faults.add(Status(200, body=many(9_999, 0), headers=link), kind="tags_list", nth=1)

    refused_whole(google, CutShort)


def test_only_googles_registries_cut_at_ten_thousand(world: World) -> None:
    """Another registry's long listing is long."""
    world.faults.add(Status(200, body=many(10_000, 0)), kind="tags_list")

    assert len(listed(world).manifests) == 10_000


def test_tags_of_one_manifest_on_two_pages_are_put_together(world: World) -> None:
    """A manifest that two pages name has the tags of both."""
    entry = {"mediaType": DOCKER_MANIFEST, "timeUploadedMs": "1"}
    for number, link in ((1, (("Link", '<?n=10000&last=x>; rel="next"'),)), (2, ())):
        tags = [f"v{number}"]
        body = json.dumps({"child": [], "manifest": {ABSENT: {**entry, "tag": tags}}, "tags": tags}).encode()
        world.faults.add(Status(200, body=body, headers=link), kind="tags_list", nth=number)

    assert [manifest.tags for manifest in listed(world).manifests.values()] == [("v1", "v2")]


def test_registry_that_lists_no_manifests_is_not_pruned(world: World) -> None:
    """Neither a map nor child names: that is no word about what is there."""
    fill(world, 2)
    world.emulator.behaviour.foreign = True

    refused_whole(world, IncompleteListing)


@pytest.mark.parametrize(
    "body", [b'{"child":["sub"],"manifest":{},"tags":[]}', b'{"child":["sub"]}', b'{"manifest":{}}']
)
def test_path_above_repositories_is_empty(world: World, body: bytes) -> None:
    """With child names alone, or with an empty map, there is nothing, and that is certain."""
    world.faults.add(Status(200, body=body), kind="tags_list")

    assert listed(world).manifests == {}
    assert world.prune().kept == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b"[]", b"null", b'"text"', b"1", b'{"child":[]}', b'{"child":null,"manifest":null}'),
        *(b'{"manifest":[]}', b'{"manifest":{"sha256:1":{}}}', b'{"manifest":{"":{}}}', b'{"manifest":{"x":null}}'),
        b'{"manifest":{"sha256:' + b"0" * 64 + b'":{"tag":"v1"}},"tags":["v1"]}',
        b'{"manifest":{"sha256:' + b"0" * 64 + b'":{"tag":[1]}},"tags":[]}',
        b'{"manifest":{"sha256:' + b"0" * 64 + b'":{"tag":["../x"]}},"tags":["../x"]}',
        b'{"manifest":{"sha256:' + b"0" * 64 + b'\\n":{"tag":[]}},"tags":[]}',
        b'{"manifest":{},"tags":"v1"}',
    ],
)
def test_listing_that_makes_no_sense_is_final(world: World, body: bytes) -> None:
    """JSON of another shape will not get better."""
    fill(world, 2)
    world.faults.add(Status(200, body=body), kind="tags_list")

    refused_whole(world, IncompleteListing)


@pytest.mark.parametrize("body", [b"", b"{", b'{"manifest":{"sha256:', b"<html>", b"\xff\xfe", b'{"child":["\xff"]}'])
def test_listing_that_is_no_json_is_transient(world: World, body: bytes) -> None:
    """It was damaged on its way."""
    fill(world, 2)
    world.faults.add(Status(200, body=body), kind="tags_list")

    refused_whole(world, Unavailable)


def test_listing_nested_beyond_reason(world: World) -> None:
    """Depth is an error like others."""
    fill(world, 1)
    world.faults.add(Status(200, body=b'{"manifest":{},"x":' + b"[" * 200_000), kind="tags_list")

    refused_whole(world, CleanerError)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, RepositoryNotFound), (401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused)],
)
def test_listing_that_is_refused(world: World, status: int, error: type[CleanerError]) -> None:
    """Each refusal has its own name, and none is worth a retry."""
    fill(world, 1)
    world.faults.add(Status(status, "CODE"), kind="tags_list")

    refused_whole(world, error)
    with pytest.raises(error) as caught:
        listed(world)

    assert not caught.value.transient
    if isinstance(caught.value, PermissionDenied):
        assert "artifactregistry.repositories.downloadArtifacts" in caught.value.permission
    if isinstance(caught.value, RequestRefused):
        assert (caught.value.status, caught.value.codes) == (400, ("CODE",))


def test_unknown_repository(world: World) -> None:
    """It is not there, and the registry says so."""
    with pytest.raises(RepositoryNotFound):
        listed(world)


FLEETING = [DropBefore(), DropAfter(), CutBody(), Status(500), Status(502), Status(429, plain=True)]


@pytest.mark.parametrize("kind", ["tags_list", "manifest_get"])
@pytest.mark.parametrize("fault", FLEETING, ids=repr)
def test_what_passes_is_read_all_the_same(world: World, fault: Action, kind: str) -> None:
    """A fault now and then costs a request, and no information."""
    for seed in range(3):
        world.load(multi_arch(seed), tags=f"v{seed}")
    world.faults.add(fault, kind=kind, every=2)

    assert read(world) == world.listing()


@pytest.mark.parametrize("kind", ["tags_list", "manifest_get"])
@pytest.mark.parametrize("fault", [*FLEETING, BrokenJson(), Stall(0.01)], ids=repr)
def test_what_does_not_pass_deletes_nothing(world: World, fault: Action, kind: str) -> None:
    """A reading that stays impossible ends the run for a retry."""
    fill(world, 3)
    world.load(multi_arch(1))
    world.faults.add(fault, kind=kind)

    refused_whole(world, Unavailable)


# Reading.


def test_every_known_type_is_accepted(world: World) -> None:
    """A type that the Accept header left out would be answered 404, and pass for vanished."""
    for media_type in TYPES:
        content = image(1, media_type=media_type) if "manifest.v" in media_type else index([], media_type=media_type)
        world.load(content, tags=f"t{len(world.tags)}")
    client = world.client()

    assert len(read(world).manifests) == len(TYPES)
    for tag, digest in world.tags.items():
        assert client.digest_of(Tag(tag)) == digest


def test_documents_that_are_read(world: World) -> None:
    """Indexes, and untagged OCI manifests that no index lists: one request each, the indexes' first."""
    indexes = [world.load(multi_arch(1, attestations=True), tags="v1"), world.load(multi_arch(2))]
    world.load(image("docker"))
    world.load(image("tagged", media_type=OCI_MANIFEST), tags="v2")
    subject = world.load(image("untagged", media_type=OCI_MANIFEST))
    about = world.load(referrer(subject))
    world.load(cosign_signature(subject), tags=cosign_tag(subject))
    world.load(raw(b"{}", "application/vnd.unknown"))

    listing = read(world)

    known = {digest: replace(one.links, attestations=()) for digest, one in listing.manifests.items()}
    assert known == {digest: one.links for digest, one in world.listing().manifests.items()}
    asked = [reference for _, reference, _ in world.asked("manifest_get")]
    assert sorted(asked[:2]) == sorted(indexes)
    assert sorted(asked[2:]) == sorted([subject, about])


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

    refused_whole(world, RequestRefused if status == 400 else PermissionDenied)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"manifests":[]}', b"<html>"])
def test_document_that_does_not_match_its_digest_is_transient(world: World, body: bytes) -> None:
    """It was damaged on its way, whatever it says, and is not remembered."""
    world.load(multi_arch(1), tags="v1")
    rule = world.faults.add(Status(200, body=body), kind="manifest_get")

    refused_whole(world, Unavailable)

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
def test_document_that_makes_no_sense_is_final(world: World, body: bytes, media_type: str) -> None:
    """It matches its digest, so it will never be another."""
    world.load(raw(body, media_type))

    refused_whole(world, InvalidManifest)


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

    refused_whole(world, InvalidManifest)

    assert {one.kind for one in world.log.entries} == {"tags_list", "manifest_get"}
    assert all(one.path.startswith("/v2/acme/api/") for one in world.log.entries)


def test_document_of_the_greatest_size_is_read(world: World) -> None:
    """Four megabytes, as the specification wants it; one byte more is refused."""
    frame, most = b'{"manifests":[],"x":"%s"}', 4 * 1024 * 1024
    world.load(raw(frame % (b"x" * (most - len(frame) + 2)), OCI_INDEX))
    assert read(world) == world.listing()

    world.load(raw(frame % (b"x" * (most - len(frame) + 3)), OCI_INDEX))
    refused_whole(world, CleanerError)


def test_children_that_are_no_digests_are_never_asked_for(world: World) -> None:
    """What an index lists is looked up in the listing and nowhere else, and forgotten where it is not there."""
    body = json.dumps({"manifests": [{"digest": "../../other/manifests/v1"}, {"digest": ABSENT}]}).encode()
    digest = world.load(raw(body, OCI_INDEX))

    assert read(world).manifests[digest].links.children == ()
    assert world.log.counts == {"tags_list": 1, "manifest_get": 1}


def test_attestation_in_an_index_is_not_read(world: World) -> None:
    """A child follows its index, whatever it is about."""
    platform = image("amd64", media_type=OCI_MANIFEST)
    world.load(index([platform, attestation(platform)]), tags="v1")
    read(world)

    assert world.log.counts["manifest_get"] == 1


# What is asked and deleted one by one.


def test_digest_of_a_tag(world: World) -> None:
    """What a tag names now, or nothing."""
    digest = world.load(image(1), tags="v1")
    client = world.client()

    assert client.digest_of(Tag("v1")) == digest
    assert client.digest_of(digest) == digest
    assert client.digest_of(Tag("v2")) is None
    assert client.digest_of(ABSENT) is None


@pytest.mark.parametrize(
    ("status", "error"), [(401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused)]
)
def test_digest_of_a_tag_that_may_not_be_asked(world: World, status: int, error: type[CleanerError]) -> None:
    """Not to know is not to be free."""
    world.load(image(1), tags="v1")
    world.faults.add(Status(status), kind="manifest_head")

    with pytest.raises(error):
        world.client().digest_of(Tag("v1"))


def test_registry_that_does_not_say_what_a_tag_names(world: World) -> None:
    """An answer without the header is no digest at all, and not 'nothing there'."""
    world.load(image(1), tags="v1")
    world.faults.add(Status(200, body=b""), kind="manifest_head")

    assert world.client().digest_of(Tag("v1")) == ""


@pytest.mark.parametrize("media_type", [*TYPES, "application/vnd.unknown"])
def test_manifest_of_any_type_exists(world: World, media_type: str) -> None:
    """A registry answers 404 for a manifest of a type that is not accepted, so any type is."""
    digest = world.load(raw(b"{}", media_type))
    client = world.client()

    assert client.exists(digest)
    assert not client.exists(ABSENT)
    assert (client.digest_of(digest) is not None) == (media_type in TYPES)


@pytest.mark.parametrize(
    ("status", "error"), [(401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused), (503, Unavailable)]
)
def test_existence_that_cannot_be_read_is_an_error(world: World, status: int, error: type[CleanerError]) -> None:
    """Only 404 says that a manifest does not exist."""
    digest = world.load(image(1))
    world.faults.add(Status(status), kind="manifest_head")

    with pytest.raises(error):
        world.client().exists(digest)


@pytest.mark.parametrize("style", ["gcr", "ar"])
def test_deletion_of_a_tag_leaves_the_manifest(world: World, style: str) -> None:
    """Only the tag goes."""
    world.emulator.behaviour.style = style
    digest = world.load(image(1), tags=["v1", "v2"])

    assert world.client().delete_tag(Tag("v1"), digest, lambda: True).is_gone

    assert world.tags == {"v2": digest}
    assert world.left == {digest}


def test_deletion_of_what_is_not_there_is_a_success(world: World) -> None:
    """Another delivery got there first."""
    world.load(image(1))
    client = world.client()

    assert client.delete_manifest(ABSENT, lambda: True).is_gone
    assert client.delete_tag(Tag("v1"), ABSENT, lambda: True).is_gone


@pytest.mark.parametrize("code", [DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST])
def test_refused_deletion(world: World, code: str) -> None:
    """Google's three codes say that somebody needs it."""
    digest = world.load(image(1))
    world.faults.add(Status(400, code))

    outcome = world.client().delete_manifest(digest, lambda: True)

    assert (outcome.is_gone, outcome.is_refused, outcome.status, outcome.codes) == (False, True, 400, (code,))


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405, 409, 501])
@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b'{"errors":[{"code":"A"},{"code":"B"},{"message":"x"},{"code":""}]}', ("A", "B")),
        (b'{"errors":[]}', ()),
        (b'{"errors":null}', ()),
        (b'{"errors":{"code":"A"}}', ()),
        (b"Denied.", ()),
        (b"\xff", ()),
        (b"", ()),
        (b"[" * 100_000, ()),
    ],
)
def test_failed_deletion(world: World, status: int, body: bytes, codes: tuple[str, ...]) -> None:
    """Any other refusal is told with the codes that there are."""
    digest = world.load(image(1))
    world.faults.add(Status(status, body=body), kind="manifest_delete")

    outcome = world.client().delete_manifest(digest, lambda: True)

    assert (outcome.is_gone, outcome.is_refused, outcome.status, outcome.codes) == (False, False, status, codes)
    assert digest in world.left


# The links cache.


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


# What a registry or a pusher could make endless.


def test_manifest_that_is_too_long_ends_the_run_for_good(world: World) -> None:
    """A digest's content never changes: another delivery would find it as long."""
    world.load(raw(b'{"a": "' + b"x" * MANIFEST_MAX_BYTES + b'"}', OCI_MANIFEST))

    with pytest.raises(PermanentError):
        read(world)


def test_pages_without_end_end_at_the_deadline(world: World) -> None:
    """Each page names another: there are a thousand, and time for some."""
    for seed in range(20):
        world.load(image(seed))
    world.emulator.behaviour.page_size = 1
    world.faults.add(After(lambda: world.clock.turn(10)), kind="tags_list")

    with pytest.raises(TimeLimitReached):
        world.client(deadline=world.clock() + 55).list_manifests()

    assert world.log.counts["tags_list"] == 6


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
