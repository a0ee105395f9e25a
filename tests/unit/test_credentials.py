"""Google's application default credentials, from a service account's key, against a token endpoint on a socket."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cleaner.core.errors import CleanerError, NoCredentials, PermanentError, Unavailable
from cleaner.google.credentials import GoogleCredentials
from tests.emulator.faults import CutBody, Delay, DropBefore, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.emulator.faults import Action
    from tests.support.world import World

# Google's libraries wait this often and longer between attempts of their own.
_SLEEP = "google.auth._exponential_backoff.time.sleep"


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, kind, serialization.NoEncryption()).decode()


@pytest.fixture
def account(
    world: World, private_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., GoogleCredentials]:
    """Returns credentials of a key file, whose fields can be changed."""

    def make(**changes: object) -> GoogleCredentials:
        document = {
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "cleaner@acme.iam.gserviceaccount.com",
            "token_uri": f"{world.emulator.url}/oauth/token",
        }
        file = tmp_path / "key.json"
        file.write_text(json.dumps({**document, **changes}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        return GoogleCredentials()

    return make


def answer(world: World, *, expires_in: int = 3600, times: int | None = None) -> None:
    body = json.dumps({"access_token": "ya29.mine", "expires_in": expires_in, "token_type": "Bearer"})
    world.faults.add(Status(200, body=body.encode()), kind="oauth", times=times)


def test_token_is_kept(world: World, account: Callable[..., GoogleCredentials]) -> None:
    """A token of an hour is asked for once."""
    answer(world)
    credentials = account()

    assert {credentials.access_token() for _ in range(5)} == {"ya29.mine"}
    assert world.log.counts == {"oauth": 1}


def test_token_is_refreshed_near_its_end(world: World, account: Callable[..., GoogleCredentials]) -> None:
    """What ends within three minutes is not handed out."""
    answer(world, expires_in=180, times=1)
    answer(world)
    credentials = account()

    for _ in range(3):
        credentials.access_token()

    assert world.log.counts == {"oauth": 2}


def test_many_threads_ask_once(world: World, account: Callable[..., GoogleCredentials]) -> None:
    """Twenty workers wait for one request."""
    answer(world)
    world.faults.add(Delay(0.05))
    credentials = account()

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: credentials.access_token(), range(20))) == {"ya29.mine"}

    assert world.log.counts == {"oauth": 1}


@pytest.mark.parametrize("project", [None, "acme-billing"])
def test_headers_name_the_quota_project(
    world: World, account: Callable[..., GoogleCredentials], monkeypatch: pytest.MonkeyPatch, project: str | None
) -> None:
    """A service account has none of its own; Google refuses to charge the project of gcloud's credentials."""
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    if project:
        monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", project)
    answer(world)
    credentials = account()

    token = credentials.access_token()

    assert credentials.headers(token) == {
        "authorization": "Bearer ya29.mine",
        **({"x-goog-user-project": project} if project else {}),
    }


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_credentials_are_permanent(
    world: World, account: Callable[..., GoogleCredentials], status: int
) -> None:
    """A key that was revoked stays so."""
    body = b'{"error":"invalid_grant","error_description":"Invalid JWT Signature: secret"}'
    world.faults.add(Status(status, body=body), kind="oauth")

    with pytest.raises(PermanentError) as caught:
        account().access_token()

    assert world.log.counts == {"oauth": 1}
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("fault", [DropBefore(), CutBody(), Status(500), Status(503)], ids=repr)
def test_token_endpoint_out_of_order_is_transient(
    world: World, account: Callable[..., GoogleCredentials], monkeypatch: pytest.MonkeyPatch, fault: Action
) -> None:
    """Whatever it does while it is ill, the next delivery may find it well, with the same credentials."""
    monkeypatch.setattr(_SLEEP, lambda _: None)
    rule = world.faults.add(fault, kind="oauth")
    credentials = account()
    with pytest.raises(Unavailable):
        credentials.access_token()

    world.faults.remove(rule)
    answer(world)

    assert credentials.access_token() == "ya29.mine"


def test_token_endpoint_that_is_not_there_is_transient(account: Callable[..., GoogleCredentials]) -> None:
    """Nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # It stays bound, so that nobody else comes to listen there.
        port = free.getsockname()[1]

        with pytest.raises(Unavailable):
            account(token_uri=f"http://127.0.0.1:{port}/").access_token()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"<html>secret</html>", b"null", b"[]", b"{}", b'{"access_token":null}', b'{"expires_in":1}']
)
def test_answer_without_a_token_is_an_error_of_ours(
    world: World, account: Callable[..., GoogleCredentials], body: bytes
) -> None:
    """Never google-auth's own TypeError, and never the text None as a token."""
    world.faults.add(Status(200, body=body), kind="oauth")

    with pytest.raises(CleanerError) as caught:
        account().access_token()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"private_key": "nonsense"}, {"private_key": None}, {"type": "wrong"}, {"type": None}],
    ids=str,
)
def test_broken_key_file_is_permanent(
    world: World, account: Callable[..., GoogleCredentials], changes: dict[str, object]
) -> None:
    """A person has to mend it; no request is made."""
    with pytest.raises(PermanentError):
        account(**changes).access_token()

    assert world.log.total == 0


@pytest.mark.parametrize("text", [None, "", "{"])
def test_no_key_file_is_permanent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Nor is there anything to read in a file that is missing or no JSON object."""
    file = tmp_path / "key.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

    with pytest.raises(PermanentError):
        GoogleCredentials().access_token()


def test_key_file_that_cannot_be_read_is_permanent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a directory in its place it is said what is wrong."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))

    with pytest.raises(NoCredentials, match="Is a directory"):
        GoogleCredentials().access_token()


@pytest.mark.parametrize("fault", [Status(503), Status(500), DropBefore(), CutBody()], ids=repr)
def test_metadata_server_out_of_order_is_transient(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Action
) -> None:
    """On Google's platform the token comes from there, and google-auth says of its errors that they do not pass."""
    monkeypatch.setattr(_SLEEP, lambda _: None)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, world.emulator.host)
    world.faults.add(fault, kind="metadata", path="/token")

    with pytest.raises(Unavailable):
        GoogleCredentials().access_token()
