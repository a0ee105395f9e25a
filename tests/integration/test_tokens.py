"""The registry's tokens: whose, for how long, for what, and where they never show."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import CleanerError, PermissionDenied, RequestRefused, Unavailable
from cleaner.core.reference import Digest, Repository
from cleaner.google.registry.client import Registry
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator import Emulator
from tests.emulator.faults import Before, CutBody, DropBefore, Status
from tests.emulator.images import image
from tests.support.prune import ALL
from tests.support.world import GOOGLE_TOKEN, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ABSENT = Digest("sha256:" + "0" * 64)


def no_credentials(_refused: str | None) -> str:
    raise AssertionError("Google's credentials were asked for")


@pytest.fixture
def wary() -> Iterator[World]:
    """A registry that is not Google's, and wants a token."""
    with Emulator(auth=True) as emulator:
        made = World(emulator)
        made.registry = Registry(made.transport, no_credentials, frozenset({emulator.host}))
        yield made
        made.close()


def test_one_token_is_kept_for_all_requests_of_a_repository(google: World) -> None:
    """However many runs and requests, the repository's token is asked for once."""
    google.load(image(1))
    for _ in range(3):
        client = google.client()
        client.list_manifests()
        client.exists(ABSENT)

    assert google.log.counts == {"token": 1, "tags_list": 3, "manifest_head": 3}


def test_each_repository_has_its_own_token(google: World) -> None:
    """A token opens the one repository that it was asked for."""
    for path in ("acme/api", "acme/web", "acme/api"):
        google.store.repository(google.emulator.name(path))
        repository = Repository("gcr.io", path)
        google.registry.open(repository, Access.READ, RequestBudget(1e9)).list_manifests()

    assert google.log.counts == {"token": 2, "tags_list": 3}
    assert google.log.statuses == {200: 5}


def test_googles_credential_goes_to_the_token_service_alone(google: World) -> None:
    """Everybody else sees the registry's token."""
    google.load(image(1))
    google.prune()

    assert [one.kind for one in google.log.credentials()] == ["token"]
    assert {one.authorization for one in google.log.entries if one.kind != "token"} == {"token"}


@pytest.mark.parametrize(("dry_run", "actions"), [(True, "pull"), (False, "push,pull")])
def test_scope_is_what_the_run_may_do(google: World, dry_run: bool, actions: str) -> None:
    """A preview's token could not delete even by mistake."""
    google.load(image(1))

    google.prune(dry_run=dry_run)

    assert [one.path for one in google.log.of("token")] == [
        f"/v2/token?service=gcr.io&scope=repository:acme/api:{actions}"
    ]


def test_preview_and_run_have_two_tokens(google: World) -> None:
    """A run does not go with a preview's token, nor a preview with a run's."""
    google.load(image(1))
    google.prune(dry_run=True)
    google.prune()
    google.prune(dry_run=True)

    assert google.log.counts["token"] == 2
    assert google.log.statuses[401] == 0
    assert google.left == frozenset()


@pytest.mark.parametrize(
    ("expires_in", "good_s", "over_s"), [(3600, 3500, 3541), (600, 539, 541), (50, 44, 46), (None, 53, 55), (1, 0, 1)]
)
def test_token_is_kept_until_shortly_before_its_end(
    google: World, expires_in: int | None, good_s: float, over_s: float
) -> None:
    """A minute before, or a tenth of a short life; without a word it lives a minute."""
    google.emulator.behaviour.expires_in = expires_in
    client = google.client()
    client.exists(ABSENT)
    google.clock.turn(good_s)
    client.exists(ABSENT)
    assert google.log.counts["token"] == 1

    google.clock.turn(over_s - good_s)
    client.exists(ABSENT)
    assert google.log.counts["token"] == 2
    assert google.log.statuses[401] == 0


def test_refused_token_is_replaced_once(google: World) -> None:
    """A 401 gets one fresh token, and the request goes again."""
    google.load(image(1))
    client = google.client()
    client.list_manifests()
    google.emulator.expire_tokens()

    client.list_manifests()

    assert [(one.kind, one.status) for one in google.log.entries[2:]] == [
        ("tags_list", 401),
        ("token", 200),
        ("tags_list", 200),
    ]


def test_deletion_is_repeated_with_a_fresh_token(google: World) -> None:
    """The same for a deletion that is refused in mid-run."""
    digest = google.load(image(1))
    google.faults.add(Before(google.emulator.expire_tokens), kind="manifest_delete", nth=1)

    assert google.prune().deleted == 1

    assert digest not in google.left
    assert google.log.counts == {"token": 2, "tags_list": 1, "manifest_delete": 2}


def test_many_threads_share_a_fresh_token(google: World) -> None:
    """Twenty workers are refused at once, and one token is asked for."""
    client = google.client()
    client.exists(ABSENT)
    google.emulator.expire_tokens()
    barrier = threading.Barrier(20)

    def ask(_: int) -> bool:
        barrier.wait()
        return client.exists(ABSENT)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(20))) == {False}

    assert google.log.counts["token"] == 2


def test_many_threads_share_the_first_token(google: World) -> None:
    """Nor is it asked for twenty times at the start."""
    client = google.client()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: client.exists(ABSENT), range(40)))

    assert google.log.counts == {"token": 1, "manifest_head": 40}


@pytest.mark.parametrize(
    ("access", "permission"),
    [
        (Access.READ, "artifactregistry.repositories.downloadArtifacts"),
        (Access.DELETE, "artifactregistry.repositories.deleteArtifacts"),
    ],
)
def test_denied_token_names_the_missing_permission(google: World, access: Access, permission: str) -> None:
    """DENIED at the token service is final."""
    google.emulator.behaviour.denied = {"acme/api"}

    with pytest.raises(PermissionDenied) as caught:
        google.client(access).list_manifests()

    assert permission in caught.value.permission
    assert google.log.counts == {"token": 1}


@pytest.mark.parametrize("status", [401, 403])
def test_reading_denied_in_spite_of_a_fresh_token(google: World, status: int) -> None:
    """One fresh token, for a 401 alone, and then no more."""
    google.faults.add(Status(status, "DENIED"), kind="tags_list")

    with pytest.raises(PermissionDenied) as caught:
        google.client().list_manifests()

    assert "artifactregistry.repositories.downloadArtifacts" in caught.value.permission
    again = status == 401
    assert google.log.counts == {"token": 1 + again, "tags_list": 1 + again}


def test_anonymous_host_is_sent_nothing(world: World) -> None:
    """No token is asked for and no header sent where nobody wants one."""
    world.registry = Registry(world.transport, no_credentials, frozenset({world.emulator.host}))
    world.load(image(1), tags="v1")

    world.prune(**ALL)

    assert world.left == frozenset()
    assert {one.authorization for one in world.log.entries} == {""}
    assert world.log.counts["token"] == 0


def test_anonymous_host_that_wants_a_token_gives_one(wary: World) -> None:
    """It is asked anonymously too, once, and only after a 401."""
    wary.load(image(1))
    wary.load(image(2))

    assert wary.prune().deleted == 2

    assert wary.log.counts == {"tags_list": 2, "token": 1, "manifest_delete": 2}
    assert wary.log.entries[0].status == 401
    assert {one.authorization for one in wary.log.entries} == {"", "token"}
    assert wary.log.credentials() == []


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"{}",
            b"[]",
            b"null",
            b'{"token":1}',
            b'{"token":null}',
            b'{"token":"a","expires_in":"x"}',
            b"<html>",
        ),
        *(b'{"token":"\xff"}', b'{"token":"a","x":' + b"[" * 100_000),
        # What no header can carry: its text must not come to light in somebody's exception either.
        *(b'{"token":"secret\\n"}', b'{"token":"secret\\r\\nX-Evil: 1"}', '{"token":"secret\u0416"}'.encode()),
    ],
)
def test_answer_that_is_no_token(google: World, body: bytes) -> None:
    """It is a transient error of the service, without the answer's text in it."""
    google.faults.add(Status(200, body=body), kind="token")

    with pytest.raises(Unavailable) as caught:
        google.client().list_manifests()

    assert "secret" not in str(caught.value)
    assert google.log.counts["tags_list"] == 0


@pytest.mark.parametrize("fault", [Status(503), DropBefore(), CutBody()], ids=repr)
def test_token_service_that_does_not_answer(google: World, fault: Status | DropBefore | CutBody) -> None:
    """It is asked again like everything, and then transient."""
    rule = google.faults.add(fault, kind="token")

    with pytest.raises(Unavailable):
        google.client().list_manifests()

    assert google.log.counts == {"token": 6}
    google.faults.remove(rule)
    google.client().exists(ABSENT)


def test_token_service_that_refuses_otherwise(google: World) -> None:
    """Another 4xx is final."""
    google.faults.add(Status(404), kind="token")

    with pytest.raises(RequestRefused) as caught:
        google.client().list_manifests()

    assert caught.value.status == 404


def test_certificate_of_another_authority_is_refused(google: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential goes to whoever cannot prove to be Google."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    transport = Transport(clock=google.clock, sleep=google.clock.sleep)
    registry = Registry(transport, lambda _refused: GOOGLE_TOKEN)

    with pytest.raises(Unavailable):
        registry.open(google.repository, Access.READ, RequestBudget(1e9)).list_manifests()

    transport.close()
    assert google.log.total == 0


@pytest.mark.parametrize(
    "fault",
    [Status(503), Status(401), Status(403), Status(400, "CODE"), DropBefore(), CutBody(), Status(200, body=b"{")],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["token", "tags_list", "manifest_get", "manifest_head", "manifest_delete"])
def test_tokens_are_in_no_log_and_no_exception(
    google: World,
    logged: Callable[[str], list[dict[str, object]]],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    fault: Status | DropBefore | CutBody,
) -> None:
    """Whatever goes wrong, and at whatever level every library logs."""
    google.load(image("tagged"), tags="old")
    google.load(image("oci", media_type="application/vnd.oci.image.manifest.v1+json"))
    google.faults.add(fault, kind=kind)
    texts = []
    try:
        google.prune(**ALL)
    except CleanerError as error:
        cause: BaseException | None = error
        while cause is not None:
            texts += [str(cause), repr(cause)]
            cause = cause.__cause__ or cause.__context__

    assert logged("prune finished") or texts
    texts += [repr(vars(record)) for record in caplog.records]
    for text in texts:
        assert "emulator-token-" not in text
        assert GOOGLE_TOKEN not in text
        assert "Bearer" not in text
