"""What the emulator lists and serves, against what was captured from the wire."""

from __future__ import annotations

import json

import pytest

from tests.emulator import Emulator
from tests.emulator.images import image, load, load_listing, multi_arch, raw
from tests.emulator.store import DANGLING_PARENT, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.emulator_client import ABSENT, DATA, PATH, UPLOADED_MS, Client, captured, code_of


@pytest.mark.parametrize("name", ["gcr-multi-arch", "gcr-cosign", "artifact-registry"])
def test_captured_listing_is_served_as_it_was_spelled(emulator: Emulator, client: Client, name: str) -> None:
    """Field order, strings for numbers, ``layerId`` on GCR alone: the bytes are the captured ones but for blanks.

    The captured bodies are cut to a few manifests, so their ``tags`` say nothing about the order.
    """
    listing = captured(name)
    assert isinstance(listing["tags"], list)
    listing["tags"].sort()
    path = str(listing["name"])
    repository = emulator.name(path)
    load_listing(emulator.store, repository, listing)
    children = listing["child"]
    assert isinstance(children, list)
    for child in children:
        emulator.store.repository(f"{repository}/{child}")
    emulator.behaviour.style = "ar" if name == "artifact-registry" else "gcr"

    answer = client.listing(path)

    assert answer.text == json.dumps(listing, separators=(",", ":"))


def test_jib_listing_is_served_with_its_content(emulator: Emulator, client: Client) -> None:
    """Digests in digest order; all that was captured is there."""
    listing = captured("gcr-jib")
    load_listing(emulator.store, emulator.name("acme/jib-service"), listing)

    answer = client.listing("acme/jib-service")

    assert answer.json() == listing
    assert list(answer.json()["manifest"]) == sorted(answer.json()["manifest"])


def test_path_above_a_repository_lists_its_children_only(emulator: Emulator, client: Client) -> None:
    """A path that only has children has an empty ``manifest``."""
    parent = captured("gcr-parent")
    load_listing(
        emulator.store, emulator.name("k8s-staging-kas-network-proxy/proxy-agent"), captured("gcr-multi-arch")
    )

    answer = client.listing("k8s-staging-kas-network-proxy")

    assert answer.text == json.dumps(parent, separators=(",", ":"))


def test_index_is_listed_with_size_and_created_zero(emulator: Emulator, client: Client) -> None:
    """An index has ``imageSizeBytes`` ``"0"`` and ``timeCreatedMs`` ``"0"``."""
    digest = load(emulator.store, emulator.name(PATH), multi_arch(1), uploaded=UPLOADED_MS)

    entry = client.listing().json()["manifest"][digest]

    assert entry == {
        "imageSizeBytes": "0",
        "layerId": "",
        "mediaType": OCI_INDEX,
        "tag": [],
        "timeCreatedMs": "0",
        "timeUploadedMs": str(UPLOADED_MS),
    }


def test_numbers_are_listed_as_numbers_when_asked_for(emulator: Emulator, client: Client) -> None:
    """Artifact Registry once sent times and sizes as numbers."""
    digest = load(emulator.store, emulator.name(PATH), image(1, size=5000), uploaded=UPLOADED_MS)
    emulator.behaviour.style, emulator.behaviour.numbers = "ar", True

    entry = client.listing().json()["manifest"][digest]

    assert (entry["timeUploadedMs"], entry["timeCreatedMs"], entry["imageSizeBytes"]) == (UPLOADED_MS, 0, 5000)


@pytest.mark.parametrize("style", ["gcr", "ar"])
def test_time_of_none_is_left_out_and_text_is_spelled_as_given(
    emulator: Emulator, client: Client, style: str
) -> None:
    """``timeCreatedMs`` has been missing, and a client must survive what is no number at all."""
    emulator.behaviour.style = style
    missing = load(emulator.store, emulator.name(PATH), image(1), uploaded=None, created_ms=None)
    odd = load(emulator.store, emulator.name(PATH), image(2), uploaded="soon", created_ms=-6795364578871)

    entries = client.listing().json()["manifest"]

    assert {"timeUploadedMs", "timeCreatedMs"}.isdisjoint(entries[missing])
    assert (entries[odd]["timeUploadedMs"], entries[odd]["timeCreatedMs"]) == ("soon", "-6795364578871")


def test_listing_shows_each_change_at_once(emulator: Emulator, client: Client) -> None:
    """What is kept of a listing ends with every push, tag, deletion and new repository below."""
    repository = emulator.name(PATH)
    digest = load(emulator.store, repository, image(1), uploaded=1)
    assert client.listing().json()["tags"] == []

    emulator.store.tag(repository, "v1", digest)
    assert client.listing().json()["tags"] == ["v1"]
    emulator.store.repository(f"{repository}/below")
    assert client.listing().json()["child"] == ["below"]
    emulator.store.delete_tag(repository, "v1")
    assert client.listing().json()["tags"] == []
    emulator.store.delete_manifest(repository, digest)
    assert client.listing().json()["manifest"] == {}
    load(emulator.store, repository, image(2))
    assert list(client.listing().json()["manifest"]) == [image(2).digest]


def test_unknown_repository_is_404_name_unknown(client: Client) -> None:
    """A repository that is gone has no listing."""
    assert code_of(client.listing("acme/nothing")) == (404, "NAME_UNKNOWN")


def test_foreign_listing_has_neither_manifest_nor_child(emulator: Emulator, client: Client) -> None:
    """Other registries know names and tags only."""
    load(emulator.store, emulator.name(PATH), image(1), tags="v1")
    emulator.behaviour.foreign = True

    assert client.listing().json() == {"name": PATH, "tags": ["v1"]}


def test_pages_together_are_the_whole_listing(emulator: Emulator, client: Client) -> None:
    """Each page names the next in a relative ``Link``; the last has none; no manifest is in two."""
    digests = {load(emulator.store, emulator.name(PATH), image(n), tags=f"v{n}") for n in range(7)}
    emulator.behaviour.page_size = 3
    seen: list[str] = []
    tags: list[str] = []
    path: str | None = f"/v2/{PATH}/tags/list?n=10000"

    pages = 0
    while path:
        answer = client("GET", path)
        pages += 1
        seen += answer.json()["manifest"]
        tags += answer.json()["tags"]
        link = answer.links.get("next")
        assert link is None or link["url"].startswith(f"/v2/{PATH}/tags/list?")
        path = link["url"] if link else None

    assert (pages, len(seen), set(seen)) == (3, 7, digests)
    assert sorted(tags) == sorted(f"v{n}" for n in range(7))


def test_smaller_n_makes_smaller_pages(emulator: Emulator, client: Client) -> None:
    """Artifact Registry honours ``n``."""
    for n in range(4):
        load(emulator.store, emulator.name(PATH), image(n))
    emulator.behaviour.page_size = 100

    answer = client.listing(query="n=2")

    assert len(answer.json()["manifest"]) == 2
    assert "next" in answer.links


def test_link_can_point_elsewhere(emulator: Emulator, client: Client) -> None:
    """A hostile registry names another host as the next page."""
    for n in range(2):
        load(emulator.store, emulator.name(PATH), image(n))
    emulator.behaviour.page_size = 1
    emulator.behaviour.link = '<http://elsewhere.example{next}>; rel="next"'

    assert client.listing().links["next"]["url"].startswith(f"http://elsewhere.example/v2/{PATH}/tags/list?n=1&last=")


def test_tags_are_listed_in_lexical_order(emulator: Emulator, client: Client) -> None:
    """As the specification wants them, also in a page; ``manifest`` is in digest order."""
    digests = [load(emulator.store, emulator.name(PATH), image(n), tags=[f"v{n}", f"a{9 - n}"]) for n in range(6)]

    whole = client.listing().json()
    emulator.behaviour.page_size = 4
    page = client.listing().json()

    assert whole["tags"] == [f"a{n}" for n in range(4, 10)] + [f"v{n}" for n in range(6)]
    assert list(whole["manifest"]) == sorted(digests)
    assert page["tags"] == sorted(tag for one in page["manifest"].values() for tag in one["tag"])
    assert len(page["tags"]) == 8


def test_client_that_pages_by_the_last_tag_gets_the_tags_after_it(emulator: Emulator, client: Client) -> None:
    """``n`` of them and what they name, whatever else the manifests are; the next page is named by its tag."""
    digests = {f"v{n}": load(emulator.store, emulator.name(PATH), image(n), tags=f"v{n}") for n in range(6)}
    load(emulator.store, emulator.name(PATH), image("untagged"))
    emulator.behaviour.page_size = 100

    first = client.listing(query="n=2&last=v1")
    second = client("GET", first.links["next"]["url"])
    nothing = client.listing(query="n=2&last=v5")

    assert first.json()["tags"] == ["v2", "v3"]
    assert list(first.json()["manifest"]) == sorted([digests["v2"], digests["v3"]])
    assert first.links["next"]["url"] == f"/v2/{PATH}/tags/list?n=2&last=v3"
    assert second.json()["tags"] == ["v4", "v5"]
    assert "Link" not in second.headers
    assert (nothing.json()["tags"], nothing.json()["manifest"]) == ([], {})


@pytest.mark.parametrize("cut_tags", [False, True])
def test_cut_listing_lacks_the_last_digests_without_a_word(
    emulator: Emulator, client: Client, cut_tags: bool
) -> None:
    """Google cuts a long list in digest order and sends no ``Link``."""
    digests = sorted(load(emulator.store, emulator.name(PATH), image(n), tags=f"v{n}") for n in range(5))
    emulator.behaviour.cut_at, emulator.behaviour.cut_tags = 3, cut_tags

    answer = client.listing()

    assert list(answer.json()["manifest"]) == digests[:3]
    assert len(answer.json()["tags"]) == (3 if cut_tags else 5)
    assert "Link" not in answer.headers


@pytest.mark.parametrize("path", [f"/v2/{PATH}/tags/list", "/v1/projects/acme/locations/us/repositories"])
def test_what_is_only_for_reading_refuses_other_methods(client: Client, path: str) -> None:
    """A client that deletes where nothing can be deleted is told so."""
    assert client("DELETE", path).status_code == 405


# Manifests.


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_manifest_is_found_only_when_its_type_is_accepted(
    emulator: Emulator, client: Client, media_type: str, method: str
) -> None:
    """A type that is left out of ``Accept`` is answered 404 ``MANIFEST_UNKNOWN``."""
    content = raw(b'{"schemaVersion":2}', media_type)
    load(emulator.store, emulator.name(PATH), content, tags="v1")
    url = f"/v2/{PATH}/manifests/v1"
    others = ", ".join({DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX} - {media_type})

    found = client(method, url, headers={"Accept": f"{others}, {media_type};q=0.5"})
    left_out = client(method, url, headers={"Accept": others})

    assert found.status_code == 200
    assert found.headers["Content-Type"] == media_type
    assert found.headers["Docker-Content-Digest"] == content.digest
    assert found.headers["Content-Length"] == str(len(content.body))
    assert found.content == (content.body if method == "GET" else b"")
    assert left_out.status_code == 404
    assert method == "HEAD" or code_of(left_out) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept", ["*/*", f"{OCI_INDEX}, */*;q=0.5", "application/*", "text/html, application/*"])
def test_manifest_of_any_type_is_found_when_any_is_accepted(
    emulator: Emulator, client: Client, accept: str, method: str
) -> None:
    """Also one of a type that the registry does not know."""
    content = raw(b"{}", "application/vnd.unknown")
    load(emulator.store, emulator.name(PATH), content, tags="v1")

    found = client(method, f"/v2/{PATH}/manifests/v1", headers={"Accept": accept})

    assert (found.status_code, found.headers["Docker-Content-Digest"]) == (200, content.digest)


def test_wildcard_of_another_type_finds_nothing(emulator: Emulator, client: Client) -> None:
    """``text/*`` accepts no manifest."""
    load(emulator.store, emulator.name(PATH), image(1), tags="v1")

    answer = client("GET", f"/v2/{PATH}/manifests/v1", headers={"Accept": "text/*"})

    assert code_of(answer) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("reference", ["v9", ABSENT])
def test_unknown_manifest_is_404(emulator: Emulator, client: Client, reference: str) -> None:
    """Tag or digest, read or deleted: 404 ``MANIFEST_UNKNOWN``."""
    load(emulator.store, emulator.name(PATH), image(1))

    assert code_of(client("GET", f"/v2/{PATH}/manifests/{reference}")) == (404, "MANIFEST_UNKNOWN")
    assert code_of(client.delete(reference)) == (404, "MANIFEST_UNKNOWN")


def test_captured_index_is_served_with_its_body(emulator: Emulator, client: Client) -> None:
    """Its digest is the listing's, its five platforms are its children."""
    listing, body = captured("gcr-multi-arch"), (DATA / "gcr-multi-arch.index.json").read_bytes()
    digest = "sha256:c419394f3fa40c32352be5a6ec5865270376d4351a3756bb1893be3f28fcba32"
    load_listing(emulator.store, emulator.name(PATH), listing, {digest: body})

    answer = client("GET", f"/v2/{PATH}/manifests/v0.0.8")

    assert answer.content == body
    assert answer.headers["Docker-Content-Digest"] == digest
    assert code_of(client.delete(answer.json()["manifests"][0]["digest"])) == (400, DANGLING_PARENT)
