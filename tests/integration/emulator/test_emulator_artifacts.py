"""Artifact Registry's REST API, as ``gcloud artifacts`` uses it: images, tags, deletions and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator import Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.images import image, load, multi_arch, referrer
from tests.emulator.rest_names import LOCATIONS
from tests.emulator.store import OCI_INDEX
from tests.support.emulator_client import ABSENT, Client

if TYPE_CHECKING:
    import requests

HELD = "us-docker.pkg.dev/acme/apps/api"
REPOSITORY = "/v1/projects/acme/locations/us/repositories/apps"
NAME = f"{REPOSITORY.removeprefix('/v1/')}/packages/api"
PACKAGE = f"/v1/{NAME}"
UPLOADED_MS = 1_597_194_959_140
UPLOADED = "2020-08-12T01:15:59.140321Z"


def status_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["status"]


def names(answer: requests.Response, field: str) -> list[str]:
    return [one["name"].rpartition("/")[2] for one in answer.json().get(field, [])]


# What there is.


def test_locations_are_listed_in_pages(client: Client) -> None:
    """All that Artifact Registry has, by both versions of the API: gcloud still asks the older one."""
    first = client("GET", "/v1/projects/acme/locations?pageSize=40").json()
    second = client("GET", "/v1/projects/acme/locations", params={"pageToken": first["nextPageToken"]}).json()

    assert [one["locationId"] for one in first["locations"] + second["locations"]] == list(LOCATIONS)
    assert "nextPageToken" not in second
    assert client("GET", "/v1/projects/acme/locations/us").json() == {
        "name": "projects/acme/locations/us",
        "locationId": "us",
    }
    assert client("GET", "/v1beta2/projects/acme/locations?pageSize=40").json() == first
    assert status_of(client("GET", "/v1/projects/acme/locations/moon")) == (404, "NOT_FOUND")


def test_google_host_as_default_is_in_its_own_location_alone(client: Client, emulator: Emulator) -> None:
    """Another host is in every location, and a repository of its own."""
    emulator.registry.default_host, before = "gcr.io", emulator.registry.default_host
    try:
        load(emulator.store, "gcr.io/acme/nest/api", image(1))
        us = client("GET", "/v1/projects/acme/locations/us/repositories")
        europe = client("GET", "/v1/projects/acme/locations/europe/repositories")
        nest = client("GET", "/v1/projects/acme/locations/us/repositories/nest")
    finally:
        emulator.registry.default_host = before

    assert names(us, "repositories") == ["gcr.io"]
    assert europe.json() == {}
    assert status_of(nest) == (404, "NOT_FOUND")


def test_times_of_a_package_are_its_first_and_last_upload(emulator: Emulator, client: Client) -> None:
    """And of a repository; a deletion changes neither."""
    first = load(emulator.store, HELD, image(1), uploaded=UPLOADED_MS)
    load(emulator.store, HELD, image(2), uploaded=UPLOADED_MS + 2000)
    load(emulator.store, f"{HELD}/more", image(3), uploaded=UPLOADED_MS + 4000)

    emulator.store.delete_manifest(HELD, first)

    package, repository = client("GET", PACKAGE).json(), client("GET", REPOSITORY).json()
    assert (package["createTime"], package["updateTime"]) == (UPLOADED, "2020-08-12T01:16:01.140321Z")
    assert (repository["createTime"], repository["updateTime"]) == (UPLOADED, "2020-08-12T01:16:03.140321Z")


def test_docker_images_are_those_of_all_packages(emulator: Emulator, client: Client) -> None:
    """In pages; an index names its children."""
    top = multi_arch(1)
    load(emulator.store, HELD, top, tags=["v1", "latest"], uploaded=UPLOADED_MS)
    other = load(emulator.store, "us-docker.pkg.dev/acme/apps/a/b", image(2), uploaded=UPLOADED_MS, created_ms=0)

    found: list[dict[str, object]] = []
    token: str | None = None
    while token != "":
        params = {"pageSize": "2", **({"pageToken": token} if token else {})}
        page = client("GET", f"{REPOSITORY}/dockerImages", params=params).json()
        assert len(page["dockerImages"]) <= 2
        found += page["dockerImages"]
        token = page.get("nextPageToken", "")

    images = {str(one["uri"]): one for one in found}
    held = sorted([top.digest, *(child.digest for child in top.children)])
    assert list(images) == [f"us-docker.pkg.dev/acme/apps/a/b@{other}", *(f"{HELD}@{digest}" for digest in held)]
    assert images[f"{HELD}@{top.digest}"] == {
        "name": f"{REPOSITORY.removeprefix('/v1/')}/dockerImages/api@{top.digest}",
        "uri": f"{HELD}@{top.digest}",
        "tags": ["v1", "latest"],
        "imageSizeBytes": "0",
        "mediaType": OCI_INDEX,
        "uploadTime": UPLOADED,
        "updateTime": UPLOADED,
        "buildTime": "1970-01-01T00:00:00.000000Z",
        "imageManifests": [
            {"digest": child.digest, "mediaType": child.media_type, "architecture": platform, "os": "linux"}
            for child, platform in zip(top.children, ("amd64", "arm64"), strict=True)
        ],
    }
    plain = images[f"us-docker.pkg.dev/acme/apps/a/b@{other}"]
    assert {"tags", "imageManifests"}.isdisjoint(plain)
    for one in (f"a%2Fb@{other}", f"a%252Fb@{other}"):
        assert client("GET", f"{REPOSITORY}/dockerImages/{one}").json() == plain
    assert status_of(client("GET", f"{REPOSITORY}/dockerImages/api@{ABSENT}")) == (404, "NOT_FOUND")
    assert status_of(client("GET", f"{REPOSITORY}/dockerImages/none@{other}")) == (404, "NOT_FOUND")


def test_docker_images_of_gcr_io_are_named_as_artifact_registry_does(emulator: Emulator, client: Client) -> None:
    """By ``us-docker.pkg.dev``, also those of a domain's project."""
    digest = load(emulator.store, "gcr.io/example.com/p/api", image(1))

    answer = client("GET", "/v1/projects/example.com:p/locations/us/repositories/gcr.io/dockerImages")

    assert answer.json()["dockerImages"][0]["uri"] == f"us-docker.pkg.dev/example.com/p/gcr.io/api@{digest}"


def test_version_can_be_got_by_its_digest(emulator: Emulator, client: Client) -> None:
    """As the list has it, in either view; 404 for what is not there."""
    digest = load(emulator.store, HELD, image(1), tags="v1")
    for view in ("", "?view=2"):
        listed = client("GET", f"{PACKAGE}/versions{view}").json()["versions"]
        assert [client("GET", f"{PACKAGE}/versions/{digest}{view}").json()] == listed

    assert status_of(client("GET", f"{PACKAGE}/versions/{ABSENT}")) == (404, "NOT_FOUND")


# Tags.


def test_tags_are_listed_got_and_filtered_by_version(emulator: Emulator, client: Client) -> None:
    """In lexical order and in pages; a filter has a version's digest or its whole name."""
    one = load(emulator.store, HELD, image(1), tags=["b", "a"])
    two = load(emulator.store, HELD, image(2), tags="c")
    versions = f"{NAME}/versions"

    def filtered(text: str) -> requests.Response:
        return client("GET", f"{PACKAGE}/tags", params={"filter": text})

    assert names(client("GET", f"{PACKAGE}/tags"), "tags") == ["a", "b", "c"]
    assert names(client("GET", f"{PACKAGE}/tags?pageSize=2"), "tags") == ["a", "b"]
    assert client("GET", f"{PACKAGE}/tags/c").json() == {"name": f"{NAME}/tags/c", "version": f"{versions}/{two}"}
    assert names(filtered(f'version="{one}"'), "tags") == ["a", "b"]
    assert names(filtered(f'version="{versions}/{two}"'), "tags") == ["c"]
    assert filtered(f'version="{ABSENT}"').json() == {}
    assert status_of(filtered("size > 1")) == (400, "INVALID_ARGUMENT")
    assert status_of(client("GET", f"{PACKAGE}/tags/none")) == (404, "NOT_FOUND")


def test_tag_is_created_moved_and_deleted(emulator: Emulator, client: Client) -> None:
    """POST makes it and never moves it, PATCH moves it and never makes it, DELETE leaves the version."""
    one, two = load(emulator.store, HELD, image(1)), load(emulator.store, HELD, image(2))
    tag = f"{PACKAGE}/tags/v1"

    def body(digest: str) -> dict[str, str]:
        return {"version": f"{NAME}/versions/{digest}"}

    shown = {"name": f"{NAME}/tags/v1", **body(one)}
    assert status_of(client("PATCH", f"{tag}?updateMask=version", json=body(one))) == (404, "NOT_FOUND")
    assert client("POST", f"{PACKAGE}/tags?tagId=v1", json=body(one)).json() == shown
    assert emulator.store.tags(HELD) == {"v1": one}
    assert status_of(client("POST", f"{PACKAGE}/tags?tagId=v1", json=body(two))) == (409, "ALREADY_EXISTS")
    assert client("PATCH", f"{tag}?updateMask=version", json=body(two)).json() == {**shown, **body(two)}
    assert emulator.store.tags(HELD) == {"v1": two}
    assert client("DELETE", tag).json() == {}
    assert emulator.store.tags(HELD) == {}
    assert emulator.store.digests(HELD) == {one, two}
    assert status_of(client("DELETE", tag)) == (404, "NOT_FOUND")


def test_tag_that_cannot_be_made_is_refused(emulator: Emulator, client: Client) -> None:
    """Without a name, without a version, for a version that is not there, and moved where tags are immutable."""
    one, two = load(emulator.store, HELD, image(1), tags="v1"), load(emulator.store, HELD, image(2))
    url, version = f"{PACKAGE}/tags", f"{NAME}/versions"

    assert status_of(client("POST", url, json={"version": f"{version}/{one}"})) == (400, "INVALID_ARGUMENT")
    assert status_of(client("POST", f"{url}?tagId=x", data=b"{")) == (400, "INVALID_ARGUMENT")
    assert status_of(client("POST", f"{url}?tagId=x", json={})) == (400, "INVALID_ARGUMENT")
    absent = client("POST", f"{url}?tagId=x", json={"version": f"{version}/{ABSENT}"})
    assert status_of(absent) == (404, "NOT_FOUND")
    emulator.store.repository(HELD, immutable_tags=True)
    moved = client("PATCH", f"{url}/v1", json={"version": f"{version}/{two}"})
    assert status_of(moved) == (400, "FAILED_PRECONDITION")
    assert status_of(client("DELETE", f"{url}/v1")) == (400, "FAILED_PRECONDITION")
    assert emulator.store.tags(HELD) == {"v1": one}


# Deletions.


def test_deletion_is_an_operation_that_has_ended(emulator: Emulator, client: Client) -> None:
    """gcloud looks it up all the same; one that never was is not found."""
    digest = load(emulator.store, HELD, image(1))

    answer = client("DELETE", f"{PACKAGE}/versions/{digest}").json()

    empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert answer == {"name": answer["name"], "done": True, "response": empty}
    assert answer["name"].startswith("projects/acme/locations/us/operations/")
    assert client("GET", f"/v1/{answer['name']}").json() == answer
    assert emulator.store.digests(HELD) == frozenset()
    assert status_of(client("GET", f"/v1/{answer['name']}x")) == (404, "NOT_FOUND")
    assert status_of(client("DELETE", f"{PACKAGE}/versions/{digest}")) == (404, "NOT_FOUND")


def test_tagged_version_is_deleted_by_force_alone(emulator: Emulator, client: Client) -> None:
    """Then with its tags; where these are immutable, not at all."""
    one = load(emulator.store, HELD, image(1), tags=["v1", "latest"])
    two = load(emulator.store, HELD, image(2), tags="v2")

    assert status_of(client("DELETE", f"{PACKAGE}/versions/{one}")) == (400, "FAILED_PRECONDITION")
    assert status_of(client("DELETE", f"{PACKAGE}/versions/{one}?force=false")) == (400, "FAILED_PRECONDITION")
    assert client("DELETE", f"{PACKAGE}/versions/{one}?force=true").json()["done"]
    assert emulator.store.digests(HELD) == {two}
    assert emulator.store.tags(HELD) == {"v2": two}
    emulator.store.repository(HELD, immutable_tags=True)
    assert status_of(client("DELETE", f"{PACKAGE}/versions/{two}?force=true")) == (400, "FAILED_PRECONDITION")
    assert emulator.store.tags(HELD) == {"v2": two}


@pytest.mark.parametrize("force", ["", "?force=true"])
def test_version_that_a_living_one_needs_is_refused(emulator: Emulator, client: Client, force: str) -> None:
    """A child of an index, and a subject; ``force`` is about tags only."""
    top, subject = multi_arch(1), image("subject")
    load(emulator.store, HELD, top)
    load(emulator.store, HELD, subject)
    load(emulator.store, HELD, referrer(subject))
    before = emulator.store.digests(HELD)

    for digest in (top.children[0].digest, subject.digest):
        assert status_of(client("DELETE", f"{PACKAGE}/versions/{digest}{force}")) == (400, "FAILED_PRECONDITION")

    assert emulator.store.digests(HELD) == before


def test_package_is_deleted_with_all_that_is_in_it(emulator: Emulator, client: Client) -> None:
    """Tags, indexes and children, and nothing of the package below it."""
    load(emulator.store, HELD, multi_arch(1), tags="v1")
    below = load(emulator.store, f"{HELD}/below", image(2), tags="v2")

    assert client("DELETE", PACKAGE).json()["done"]

    assert names(client("GET", f"{REPOSITORY}/packages"), "packages") == ["api%2Fbelow"]
    assert emulator.store.digests(f"{HELD}/below") == {below}
    assert status_of(client("GET", PACKAGE)) == (404, "NOT_FOUND")
    assert status_of(client("DELETE", PACKAGE)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("mode", ["REMOTE_REPOSITORY", "VIRTUAL_REPOSITORY", "immutable"])
def test_package_is_not_deleted_where_deletions_are_refused(emulator: Emulator, client: Client, mode: str) -> None:
    """In a repository of another mode, and with tags that are immutable."""
    digest = load(emulator.store, HELD, image(1), tags="v1")
    if mode == "immutable":
        emulator.store.repository(HELD, immutable_tags=True)
    else:
        emulator.store.set_mode("us-docker.pkg.dev/acme/apps", mode)

    assert status_of(client("DELETE", PACKAGE)) == (400, "FAILED_PRECONDITION")
    assert emulator.store.tags(HELD) == {"v1": digest}


# What is not there.


@pytest.mark.parametrize("auth", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", f"{REPOSITORY}/files", (404, "NOT_FOUND")),
        ("GET", "/v1/nonsense", (404, "NOT_FOUND")),
        ("POST", f"{PACKAGE}/versions:batchDelete", (501, "UNIMPLEMENTED")),
        ("DELETE", "/v1/nonsense", (501, "UNIMPLEMENTED")),
        ("DELETE", REPOSITORY, (405, "UNIMPLEMENTED")),
    ],
)
def test_unknown_route_is_answered_as_google_does(
    emulator: Emulator, client: Client, auth: bool, method: str, path: str, expected: tuple[int, str]
) -> None:
    """In the shape of Google's REST errors, with authorisation too: never with a registry's challenge."""
    load(emulator.store, HELD, image(1))
    emulator.behaviour.auth = auth
    bearer = {"Authorization": f"Bearer {ACCESS_TOKEN}"}

    answer = client(method, path, headers=bearer)

    assert status_of(answer) == expected
    assert "WWW-Authenticate" not in answer.headers
    if auth:
        assert status_of(client(method, path, headers={})) == (401, "UNAUTHENTICATED")
        assert "WWW-Authenticate" not in client(method, path, headers={}).headers


def test_image_is_described_without_other_services(client: Client) -> None:
    """gcloud asks for the project's settings, whether analysis is on, and what it has found."""
    settings = client("GET", "/v1/projects/acme/projectSettings").json()
    service = client("GET", "/v1/projects/acme/services/containeranalysis.googleapis.com").json()

    assert settings["legacyRedirectionState"] == "REDIRECTION_FROM_GCR_IO_ENABLED"
    assert service["state"] == "DISABLED"
    assert client("GET", "/v1/projects/acme/occurrences?filter=x").json() == {}
