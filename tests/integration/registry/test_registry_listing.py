"""Listings of a repository: complete, or nothing is deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import (
    CleanerError,
    CutShort,
    IncompleteListing,
    PermissionDenied,
    RepositoryNotFound,
    RequestRefused,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.manifest import Manifest
from tests.emulator import Emulator
from tests.emulator.faults import After, BrokenJson, Stall, Status
from tests.emulator.images import image, multi_arch, raw
from tests.emulator.store import (
    DOCKER_MANIFEST,
)
from tests.support.readings import ABSENT, TRANSIENT_FAULTS, deletes_nothing, fill, listed, read

if TYPE_CHECKING:
    from tests.emulator.faults import Action
    from tests.support.world import World


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

        deletes_nothing(world, IncompleteListing)

        assert elsewhere.log.total == 0
    assert world.log.counts == {"tags_list": 1}


@pytest.mark.parametrize("link", ["/v2/acme/api/tags/list?n=10000", "?n=10000", "?n=10000#x"])
def test_pages_that_form_a_cycle_are_refused(world: World, link: str) -> None:
    """A page that was there already ends the listing, and the run."""
    fill(world, 3)
    world.emulator.behaviour.page_size = 2
    world.emulator.behaviour.link = f'<{link}>; rel="next"'

    deletes_nothing(world, IncompleteListing)

    assert world.log.counts["tags_list"] <= 2


def test_page_that_fails_fails_the_listing(world: World) -> None:
    """Half a listing is none."""
    fill(world, 5)
    world.emulator.behaviour.page_size = 2
    world.faults.add(Status(503), kind="tags_list", skip=2)

    deletes_nothing(world, Unavailable)


@pytest.mark.parametrize("cut_at", [0, 1, 3])
def test_listing_whose_tags_differ_is_cut_short(google: World, cut_at: int) -> None:
    """Tags of manifests that are not listed tell that the list was cut."""
    fill(google, 4)
    google.emulator.behaviour.cut_at = cut_at

    deletes_nothing(google, IncompleteListing)


@pytest.mark.parametrize("tags", [["v1"], ["v1", "v2", "v3"], [], None])
def test_listing_of_google_whose_tags_are_others_is_refused(google: World, tags: list[str] | None) -> None:
    """One too many or too few, or no word of them at all."""
    fill(google, 1)
    entry = {"mediaType": DOCKER_MANIFEST, "tag": ["v1", "v2"], "timeUploadedMs": "1", "imageSizeBytes": "1"}
    body = {"child": [], "manifest": {ABSENT: entry}, **({} if tags is None else {"tags": tags})}
    google.faults.add(Status(200, body=json.dumps(body).encode()), kind="tags_list")

    deletes_nothing(google, IncompleteListing)


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

    deletes_nothing(google, IncompleteListing)


def test_listing_just_below_the_cut_is_whole(google: World) -> None:
    """One entry less was not cut."""
    google.faults.add(Status(200, body=many(9_999, 9_999)), kind="tags_list")

    assert len(listed(google).manifests) == 9_999


def test_listing_of_ten_thousand_in_several_pages_is_cut_short(google: World) -> None:
    """Whoever pages and stops at ten thousand may have stopped there for good."""
    google.load(image("last"))
    link = (("Link", '</v2/acme/api/tags/list?n=10000&last=x>; rel="next"'),)
    google.faults.add(Status(200, body=many(9_999, 0), headers=link), kind="tags_list", nth=1)

    deletes_nothing(google, CutShort)


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

    deletes_nothing(world, IncompleteListing)


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
def test_listing_that_is_malformed_is_final(world: World, body: bytes) -> None:
    """JSON of another shape will not get better."""
    fill(world, 2)
    world.faults.add(Status(200, body=body), kind="tags_list")

    deletes_nothing(world, IncompleteListing)


@pytest.mark.parametrize("body", [b"", b"{", b'{"manifest":{"sha256:', b"<html>", b"\xff\xfe", b'{"child":["\xff"]}'])
def test_listing_that_is_no_json_is_transient(world: World, body: bytes) -> None:
    """It was damaged on its way."""
    fill(world, 2)
    world.faults.add(Status(200, body=body), kind="tags_list")

    deletes_nothing(world, Unavailable)


def test_listing_nested_beyond_reason(world: World) -> None:
    """Depth is an error like others."""
    fill(world, 1)
    world.faults.add(Status(200, body=b'{"manifest":{},"x":' + b"[" * 200_000), kind="tags_list")

    deletes_nothing(world, CleanerError)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, RepositoryNotFound), (401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused)],
)
def test_listing_that_is_refused(world: World, status: int, error: type[CleanerError]) -> None:
    """Each refusal has its own name, and none is worth a retry."""
    fill(world, 1)
    world.faults.add(Status(status, "CODE"), kind="tags_list")

    deletes_nothing(world, error)
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


@pytest.mark.parametrize("kind", ["tags_list", "manifest_get"])
@pytest.mark.parametrize("fault", TRANSIENT_FAULTS, ids=repr)
def test_what_passes_is_read_all_the_same(world: World, fault: Action, kind: str) -> None:
    """A fault now and then costs a request, and no information."""
    for seed in range(3):
        world.load(multi_arch(seed), tags=f"v{seed}")
    world.faults.add(fault, kind=kind, every=2)

    assert read(world) == world.listing()


@pytest.mark.parametrize("kind", ["tags_list", "manifest_get"])
@pytest.mark.parametrize("fault", [*TRANSIENT_FAULTS, BrokenJson(), Stall(0.01)], ids=repr)
def test_what_does_not_pass_deletes_nothing(world: World, fault: Action, kind: str) -> None:
    """A reading that stays impossible ends the run for a retry."""
    fill(world, 3)
    world.load(multi_arch(1))
    world.faults.add(fault, kind=kind)

    deletes_nothing(world, Unavailable)


def test_pages_without_end_end_at_the_deadline(world: World) -> None:
    """Each page names another: there are a thousand, and time for some."""
    for seed in range(20):
        world.load(image(seed))
    world.emulator.behaviour.page_size = 1
    world.faults.add(After(lambda: world.clock.turn(10)), kind="tags_list")

    with pytest.raises(TimeLimitReached):
        world.client(deadline=world.clock() + 55).list_manifests()

    assert world.log.counts["tags_list"] == 6
