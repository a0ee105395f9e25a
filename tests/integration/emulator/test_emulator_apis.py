"""The REST APIs that the emulator serves beside the registry's own."""

from __future__ import annotations

import pytest

from tests.emulator import Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.images import cosign_signature, image, load
from tests.emulator.store import OCI_MANIFEST
from tests.support.emulator_client import ABSENT, Client


@pytest.mark.parametrize(
    ("repository", "rest"),
    [
        ("us-docker.pkg.dev/acme/apps/api", "projects/acme/locations/us/repositories/apps/packages/api"),
        ("europe-west4-docker.pkg.dev/p/r/a/b", "projects/p/locations/europe-west4/repositories/r/packages/a%2Fb"),
        ("gcr.io/acme/api", "projects/acme/locations/us/repositories/gcr.io/packages/api"),
        ("us.gcr.io/acme/api", "projects/acme/locations/us/repositories/us.gcr.io/packages/api"),
        ("eu.gcr.io/acme/a/b", "projects/acme/locations/europe/repositories/eu.gcr.io/packages/a%2Fb"),
        ("asia.gcr.io/acme/api", "projects/acme/locations/asia/repositories/asia.gcr.io/packages/api"),
        ("gcr.io/example.com/p/api", "projects/example.com:p/locations/us/repositories/gcr.io/packages/api"),
    ],
)
def test_repository_is_found_by_its_rest_name(emulator: Emulator, client: Client, repository: str, rest: str) -> None:
    """``HOST/PATH`` and the REST name are one: its versions, its package, its repository.

    A slash in a package's name is ``%2F``, and gcloud's client encodes the per cent sign once more.
    """
    digest = load(emulator.store, repository, image(1), uploaded=1_597_194_959_140)
    above, _, package = rest.rpartition("/packages/")
    times = dict.fromkeys(("createTime", "updateTime"), "2020-08-12T01:15:59.140321Z")
    shown = {"name": f"{above}/packages/{package}", **times}

    assert client("GET", f"/v1/{rest}/versions").json()["versions"][0]["name"] == f"{rest}/versions/{digest}"
    assert client("GET", f"/v1/{above}/packages").json() == {"packages": [shown]}
    assert client("GET", f"/v1/{rest}").json() == shown
    assert client("GET", f"/v1/{rest.replace('%2F', '%252F')}").json() == shown
    assert client("GET", f"/v1/{above}").json() == {
        "name": above,
        "format": "DOCKER",
        "mode": "STANDARD_REPOSITORY",
        **times,
    }


@pytest.mark.parametrize(
    "rest",
    ["locations/anywhere/repositories/apps/packages/api", "locations/us/repositories/gcr.io/packages/apps%2Fapi"],
)
def test_own_host_has_a_rest_name_too(emulator: Emulator, client: Client, rest: str) -> None:
    """``127.0.0.1:PORT/P/R/PKG`` is in every location and in ``gcr.io``: a local registry can be asked by REST."""
    load(emulator.store, emulator.name("acme/apps/api"), image(1))

    answer = client("GET", f"/v1/projects/acme/{rest}/versions")

    assert len(answer.json()["versions"]) == 1


def test_version_says_what_the_listing_says(emulator: Emulator, client: Client) -> None:
    """View FULL, or 2: the upload as ``createTime``, tags, size, type and build time."""
    content = cosign_signature(ABSENT)
    digest = load(emulator.store, "gcr.io/acme/api", content, tags=["v1", "a"], uploaded=1_597_194_959_140)
    name = "projects/acme/locations/us/repositories/gcr.io/packages/api"

    full = client("GET", f"/v1/{name}/versions?view=FULL").json()["versions"][0]
    numbered = client("GET", f"/v1/{name}/versions?view=2").json()["versions"][0]
    basic = client("GET", f"/v1/{name}/versions").json()["versions"][0]
    basics = [client("GET", f"/v1/{name}/versions?view={view}").json()["versions"][0] for view in ("BASIC", "1")]

    assert full["createTime"] == "2020-08-12T01:15:59.140321Z"
    assert [tag["name"] for tag in full["relatedTags"]] == [f"{name}/tags/v1", f"{name}/tags/a"]
    assert full["metadata"]["imageSizeBytes"] == str(content.size)
    assert full["metadata"]["mediaType"] == OCI_MANIFEST
    assert full["metadata"]["buildTime"] == "0001-01-01T00:00:00.000000Z"
    assert full["name"] == f"{name}/versions/{digest}"
    assert numbered == full
    assert {"relatedTags", "metadata"}.isdisjoint(basic)
    assert basics == [basic, basic]


def test_related_tags_end_at_a_hundred(emulator: Emulator, client: Client) -> None:
    """A version with more tags than that does not say so."""
    load(emulator.store, "gcr.io/acme/api", image(1), tags=[f"t{n}" for n in range(150)])

    answer = client("GET", "/v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions?view=FULL")

    assert len(answer.json()["versions"][0]["relatedTags"]) == 100


def test_versions_pages_are_complete_though_some_go_in_between(emulator: Emulator, client: Client) -> None:
    """A page's token says where to go on, not how many were seen; a listing that is cut elsewhere is whole here."""
    digests = sorted(load(emulator.store, "gcr.io/acme/api", image(n)) for n in range(7))
    emulator.behaviour.cut_at = 1
    path = "/v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions"

    first = client("GET", f"{path}?pageSize=3").json()
    emulator.store.delete_manifest("gcr.io/acme/api", digests[0])
    second = client("GET", path, params={"pageSize": "3", "pageToken": first["nextPageToken"]}).json()
    third = client("GET", path, params={"pageSize": "3", "pageToken": second["nextPageToken"]}).json()

    seen = [one["name"].rpartition("/")[2] for page in (first, second, third) for one in page["versions"]]
    assert seen == digests
    assert "nextPageToken" not in third


@pytest.mark.parametrize(
    "path", ["", "/packages", "/packages/other/versions"], ids=["repository", "packages", "versions"]
)
def test_unknown_rest_resource_is_404(client: Client, path: str) -> None:
    """In the shape of Google's REST errors."""
    answer = client("GET", f"/v1/projects/acme/locations/us/repositories/none{path}")

    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


def test_repositories_are_listed_with_their_modes(emulator: Emulator, client: Client) -> None:
    """Standard, remote and virtual ones of a project's location, ``gcr.io``'s among them."""
    load(emulator.store, "us-docker.pkg.dev/acme/apps/api", image(1))
    load(emulator.store, "us-docker.pkg.dev/acme/cache/library/nginx", image(1))
    load(emulator.store, "gcr.io/acme/api", image(1))
    load(emulator.store, "europe-docker.pkg.dev/acme/elsewhere/api", image(1))
    emulator.store.set_mode("us-docker.pkg.dev/acme/cache", "REMOTE_REPOSITORY")

    answer = client("GET", "/v1/projects/acme/locations/us/repositories").json()

    assert [(one["name"].rpartition("/")[2], one["mode"]) for one in answer["repositories"]] == [
        ("apps", "STANDARD_REPOSITORY"),
        ("cache", "REMOTE_REPOSITORY"),
        ("gcr.io", "STANDARD_REPOSITORY"),
    ]


def test_rest_wants_a_google_credential_and_no_token(emulator: Emulator, client: Client) -> None:
    """With authorisation on: Google's access token, and not the registry's own."""
    load(emulator.store, "gcr.io/acme/api", image(1))
    emulator.behaviour.auth = True
    path = "/v1/projects/acme/locations/us/repositories/gcr.io/packages"

    def ask(header: dict[str, str]) -> int:
        return client("GET", path, headers=header).status_code

    assert ask({}) == 401
    assert ask({"Authorization": f"Bearer {client.token()}"}) == 401
    assert ask({"Authorization": "Bearer ya29.of-somebody-else"}) == 401
    assert ask({"Authorization": f"Bearer {ACCESS_TOKEN}"}) == 200


# Cloud Asset Inventory.


@pytest.mark.parametrize("scope", ["projects/acme", "folders/1", "organizations/2"])
def test_inventory_is_filtered_by_type_and_paged(emulator: Emulator, client: Client, scope: str) -> None:
    """Every page has its ``readTime``; a type that was not asked for is on none."""
    pod, job, other = "k8s.io/Pod", "run.googleapis.com/Job", "storage.googleapis.com/Bucket"
    emulator.behaviour.assets[scope] = [
        {"name": f"//{kind}/{n}", "assetType": kind, "resource": {"data": {"n": n}}}
        for n in range(3)
        for kind in (pod, job, other)
    ]
    names: list[str] = []
    token: str | None = ""

    while token is not None:
        params = {"assetTypes": [pod, job], "contentType": "RESOURCE", "pageSize": "4", "pageToken": token or None}
        page = client("GET", f"/v1/{scope}/assets", params=params).json()
        assert page["readTime"]
        assert all(one["resource"]["data"] for one in page["assets"])
        names += [one["name"] for one in page["assets"]]
        token = page.get("nextPageToken")

    assert len(names) == 6
    assert not any(other in name for name in names)
    assert emulator.log.counts["assets"] == 2


@pytest.mark.parametrize("unknown", ["k8s.io/pod", "run.googleapis.com/Workerpool"])
def test_inventory_refuses_an_asset_type_that_it_does_not_know(
    emulator: Emulator, client: Client, unknown: str
) -> None:
    """However many others the query has."""
    emulator.behaviour.assets["projects/acme"] = []

    refused = client("GET", "/v1/projects/acme/assets", params={"assetTypes": ["k8s.io/Pod", unknown]})

    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_inventory_of_an_unknown_or_forbidden_scope_fails(emulator: Emulator, client: Client) -> None:
    """404 for a scope that does not exist, 403 where the permission is missing."""
    emulator.behaviour.denied_scopes.add("folders/1")

    assert client("GET", "/v1/projects/none/assets").json()["error"]["status"] == "NOT_FOUND"
    denied = client("GET", "/v1/folders/1/assets")
    assert (denied.status_code, denied.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
