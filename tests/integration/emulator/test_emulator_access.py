"""Who may speak to the emulator, and by which name: tokens, credentials, hosts, TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import requests

from tests.emulator import Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.images import image, load
from tests.emulator.names import canonical
from tests.emulator.tls import make_tls
from tests.emulator.wire import ACCEPT
from tests.support.emulator_client import PATH, Client, code_of

GOOGLE = {"Authorization": f"Bearer {ACCESS_TOKEN}"}


def test_without_a_token_everything_is_challenged(emulator: Emulator, client: Client) -> None:
    """401 with a ``WWW-Authenticate`` that names the token endpoint and the repository's scope."""
    emulator.behaviour.auth = True

    answer = client.delete("v1")

    assert code_of(answer) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="{emulator.url}/v2/token",service="{emulator.host}",scope="repository:{PATH}:push,pull"'
    )
    assert client("GET", "/v2/").status_code == 401


def test_token_opens_the_repository_it_was_asked_for_and_no_other(emulator: Emulator, client: Client) -> None:
    """One token, one scope; ``push`` is what deleting needs."""
    emulator.behaviour.auth = True
    digest = load(emulator.store, emulator.name(PATH), image(1))
    emulator.store.repository(emulator.name("acme/other"))
    token = client.token()
    reading = client.token(actions="pull")

    def ask(method: str, path: str, bearer: str) -> int:
        return client(method, path, headers={"Authorization": f"Bearer {bearer}", "Accept": ACCEPT}).status_code

    assert ask("GET", f"/v2/{PATH}/tags/list", token) == 200
    assert ask("GET", "/v2/acme/other/tags/list", token) == 401
    assert ask("GET", f"/v2/{PATH}/tags/list", reading) == 200
    assert ask("DELETE", f"/v2/{PATH}/manifests/{digest}", reading) == 401
    assert ask("DELETE", f"/v2/{PATH}/manifests/{digest}", token) == 202
    assert ask("GET", "/v2/", token) == 200


def test_token_ends_when_it_says_and_when_told(emulator: Emulator, client: Client) -> None:
    """``expires_in`` is what it lives; tokens can also be ended at will."""
    emulator.behaviour.auth, emulator.behaviour.expires_in = True, 0
    emulator.store.repository(emulator.name(PATH))
    ended = client.token()
    emulator.behaviour.expires_in = 300
    answer = client("GET", f"/v2/token?service=x&scope=repository:{PATH}:pull")
    living = answer.json()["token"]

    def ask(token: str) -> int:
        return client("GET", f"/v2/{PATH}/tags/list", headers={"Authorization": f"Bearer {token}"}).status_code

    assert answer.json()["expires_in"] == 300
    assert datetime.fromisoformat(answer.json()["issued_at"]).tzinfo is not None
    assert ask(ended) == 401
    assert ask(living) == 200
    emulator.expire_tokens()
    assert ask(living) == 401


def test_denied_repository_fails_at_the_token(emulator: Emulator, client: Client) -> None:
    """A permission that is missing can already fail there, as ``DENIED``."""
    emulator.behaviour.auth, emulator.behaviour.denied = True, {PATH}

    assert code_of(client("GET", f"/v2/token?scope=repository:{PATH}:pull")) == (403, "DENIED")
    assert client.token("acme/other")


def test_denied_repository_fails_with_the_access_token(emulator: Emulator, client: Client) -> None:
    """The same without an exchange: ``DENIED``, with the permission that is missing."""
    emulator.behaviour.auth, emulator.behaviour.denied = True, {PATH}

    for method, reference, permission in (
        ("GET", "tags/list", "downloadArtifacts"),
        ("DELETE", "manifests/v1", "deleteArtifacts"),
        ("PUT", "manifests/v1", "uploadArtifacts"),
    ):
        answer = client(method, f"/v2/{PATH}/{reference}", headers=GOOGLE)
        assert code_of(answer) == (403, "DENIED")
        message = answer.json()["errors"][0]["message"]
        assert message.startswith(f'Permission "artifactregistry.repositories.{permission}" denied')


def test_permission_that_is_lacking_is_asked_for_the_access_token_and_the_exchange(
    emulator: Emulator, client: Client
) -> None:
    """Who may delete and not upload deletes with the access token, and gets no token for ``push``."""
    emulator.behaviour.auth = True
    emulator.behaviour.lacking = {"artifactregistry.repositories.uploadArtifacts"}
    digest = load(emulator.store, emulator.name(PATH), image(1))

    exchanged = client("GET", f"/v2/token?scope=repository:{PATH}:push,pull", headers=GOOGLE)

    assert code_of(exchanged) == (403, "DENIED")
    assert client.token(actions="pull")
    assert client("DELETE", f"/v2/{PATH}/manifests/{digest}", headers=GOOGLE).status_code == 202


def test_access_token_opens_everything_where_it_is_taken(emulator: Emulator, client: Client) -> None:
    """Google's own clients send it as it is.  The switch is for the other way."""
    emulator.behaviour.auth = True
    emulator.store.repository(emulator.name(PATH))

    def ask(headers: dict[str, str]) -> int:
        return client("GET", f"/v2/{PATH}/tags/list", headers=headers).status_code

    assert ask(GOOGLE) == 200
    assert ask({"Authorization": "Bearer ya29.of-somebody-else"}) == 401
    emulator.behaviour.takes_access_token = False
    assert ask(GOOGLE) == 401
    assert ask({"Authorization": f"Bearer {client.token()}"}) == 200


def test_anonymous_caller_may_pull_at_most(emulator: Emulator, client: Client) -> None:
    """A client that forgot its credential cannot push or delete, whatever it asks for."""
    emulator.behaviour.auth = True
    digest = load(emulator.store, emulator.name(PATH), image(1))
    token = client("GET", f"/v2/token?scope=repository:{PATH}:push,pull").json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    assert client("GET", f"/v2/{PATH}/tags/list", headers=headers).status_code == 200
    answer = client("DELETE", f"/v2/{PATH}/manifests/{digest}", headers=headers)
    assert code_of(answer) == (401, "UNAUTHORIZED")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_credential_that_is_not_good_gets_no_token(client: Client) -> None:
    """Docker's ways of sending one are understood: basic authorisation, and a form."""
    secret = {"Authorization": "Bearer ya29.of-somebody-else"}
    path = f"/v2/token?scope=repository:{PATH}:push,pull"

    assert code_of(client("GET", path, headers=secret)) == (401, "UNAUTHORIZED")
    assert client("GET", path, headers={}, auth=("oauth2accesstoken", "wrong")).status_code == 401
    assert client("GET", path, headers={}, auth=("oauth2accesstoken", ACCESS_TOKEN)).status_code == 200
    form = {"grant_type": "password", "username": "oauth2accesstoken", "scope": f"repository:{PATH}:pull"}
    assert client("POST", "/v2/token", data={**form, "password": "wrong"}).status_code == 401
    assert client("POST", "/v2/token", data={**form, "password": ACCESS_TOKEN}).status_code == 200


def test_log_tells_a_google_credential_from_a_token(emulator: Emulator, client: Client) -> None:
    """A test can say that no credential was sent, and where one was."""
    emulator.store.repository(emulator.name(PATH))
    token = client.token()

    for header in ("", f"Bearer {token}", "Bearer ya29.secret", "Basic dTpw"):
        client("GET", f"/v2/{PATH}/tags/list", headers={"Authorization": header} if header else {})

    assert [entry.authorization for entry in emulator.log.of("tags_list")] == ["", "token", "credential", "basic"]
    assert [entry.kind for entry in emulator.log.credentials()] == ["token", "tags_list"]
    assert emulator.log.counts == {"token": 1, "tags_list": 4}
    assert "ya29" not in repr(emulator.log.entries)


# Credentials.


def test_google_library_finds_its_credentials_here(emulator: Emulator) -> None:
    """As on a machine of Google's: a metadata server that the environment names."""
    emulator.behaviour.auth = True
    script = (
        "import google.auth, google.auth.transport.requests as transport\n"
        "credentials, project = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])\n"
        "credentials.refresh(transport.Request())\n"
        "print(credentials.token, project)\n"
    )
    machine = {"GCE_METADATA_HOST": emulator.host, "GCE_METADATA_IP": emulator.host}
    # No key, home or proxy of whoever runs the test.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **machine}

    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert found.stdout.split() == [ACCESS_TOKEN, "acme"], found.stderr


def test_service_account_key_is_exchanged_here(client: Client) -> None:
    """The ``token_uri`` of a key may name the emulator."""
    assert client("POST", "/oauth/token", data={"assertion": "x"}).json()["access_token"] == ACCESS_TOKEN
    assert code_of(client("GET", "/computeMetadata/v1/nothing")) == (404, "NOT_FOUND")


# Names.


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ("us-docker.pkg.dev/p/gcr.io/x", "gcr.io/p/x"),
        ("us-docker.pkg.dev/p/us.gcr.io/x/y", "us.gcr.io/p/x/y"),
        ("europe-docker.pkg.dev/p/eu.gcr.io/x", "eu.gcr.io/p/x"),
        ("asia-docker.pkg.dev/p/asia.gcr.io/x", "asia.gcr.io/p/x"),
        ("us-docker.pkg.dev/example.com/p/gcr.io/x", "gcr.io/example.com/p/x"),
        ("europe-docker.pkg.dev/p/gcr.io/x", "europe-docker.pkg.dev/p/gcr.io/x"),
        ("us-docker.pkg.dev/p/apps/x", "us-docker.pkg.dev/p/apps/x"),
    ],
)
def test_repository_with_two_names_is_one(given: str, one: str) -> None:
    """A ``gcr.io`` repository also answers to an Artifact Registry name, in its own location only."""
    assert canonical(given) == one


def test_host_header_chooses_among_hosts(emulator: Emulator, client: Client) -> None:
    """Several registries at once; what is no alias is the emulator's own host."""
    emulator.behaviour.aliases["gcr.io"] = "gcr.io"
    emulator.behaviour.aliases["us-docker.pkg.dev"] = "us-docker.pkg.dev"
    load(emulator.store, "gcr.io/acme/api", image(1), tags="there")
    load(emulator.store, emulator.name("acme/api"), image(1), tags="here")

    def tags(host: str, path: str) -> object:
        return client("GET", f"/v2/{path}/tags/list", headers={"Host": host}).json()["tags"]

    assert tags("gcr.io", PATH) == ["there"]
    assert tags("us-docker.pkg.dev", "acme/gcr.io/api") == ["there"]
    assert tags(emulator.host, PATH) == ["here"]


@pytest.mark.parametrize("auth", [False, True])
def test_ping_names_the_protocol(emulator: Emulator, client: Client, auth: bool) -> None:
    """``Docker-Distribution-Api-Version``, with the challenge too: some clients tell a registry by it."""
    emulator.behaviour.auth = auth

    answer = client("GET", "/v2/")

    assert answer.status_code == (401 if auth else 200)
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_catalog_is_denied(emulator: Emulator, client: Client) -> None:
    """A token for it is given, and grants nothing: neither the catalog nor a repository."""
    load(emulator.store, emulator.name(PATH), image(1))
    assert code_of(client("GET", "/v2/_catalog?n=100")) == (403, "DENIED")
    emulator.behaviour.auth = True

    token = client("GET", "/v2/token?service=here&scope=registry:catalog:*").json()["token"]
    bearer = {"Authorization": f"Bearer {token}"}

    assert code_of(client("GET", "/v2/_catalog", headers=bearer)) == (403, "DENIED")
    assert client("GET", f"/v2/{PATH}/tags/list", headers=bearer).status_code == 401


# TLS.


def test_emulator_poses_as_gcr_io_through_its_proxy(tmp_path: Path) -> None:
    """A client that trusts the test's authority and uses its proxy talks HTTPS to ``gcr.io``, and gets here."""
    tls = make_tls(["gcr.io", "artifactregistry.googleapis.com"], tmp_path)
    with Emulator(tls=tls) as emulator, requests.Session() as session:
        load(emulator.store, "gcr.io/acme/api", image(1), tags="v1")
        # The machine's own trust and proxies must not win over the test's.
        session.trust_env = False
        session.verify = str(tls.ca_file)
        session.proxies = {"https": emulator.proxy_url}

        listing = session.get("https://gcr.io/v2/acme/api/tags/list", timeout=5)
        rest = session.get(
            "https://artifactregistry.googleapis.com/v1/projects/acme/locations/us/repositories/gcr.io/packages",
            timeout=5,
        )
        with pytest.raises(requests.exceptions.SSLError):
            session.get("https://example.com/", timeout=5)

        assert listing.json()["tags"] == ["v1"]
        assert len(rest.json()["packages"]) == 1
        assert emulator.proxy is not None
        assert emulator.proxy.connects == ["gcr.io:443", "artifactregistry.googleapis.com:443", "example.com:443"]
