"""The registry's tokens: whose, for how long, for what, and where they never show."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from cleaner.core.errors import CleanerError, PermissionDenied, RequestRefused, Unavailable
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.google.registry.client import Registry
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator import Behaviour, Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.faults import Before, CutBody, DropBefore, Status
from tests.emulator.images import image
from tests.support.prune import ALL
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UPLOAD = "artifactregistry.repositories.uploadArtifacts"
ABSENT = Digest("sha256:" + "0" * 64)


def no_credentials(_refused: str | None) -> str:
    raise AssertionError("Google's credentials were asked for")


@pytest.fixture
def exchanging(google: World) -> World:
    """A host of Google's that takes only a token of its own."""
    google.emulator.behaviour.takes_access_token = False
    return google


@pytest.fixture
def wary() -> Iterator[World]:
    """A registry that is not Google's, and wants a token."""
    behaviour = Behaviour(auth=True, anonymous=frozenset({"pull", "push"}))
    with Emulator(behaviour=behaviour) as emulator:
        made = World(emulator)
        made.registry = Registry(made.transport, no_credentials, frozenset({emulator.host}))
        yield made
        made.close()


class AccessTokens:
    """Google's access tokens: a new one for each that is refused, and the registry takes the new one alone."""

    def __init__(self, world: World) -> None:
        self.refused: list[str] = []
        self._lock = threading.Lock()
        self._behaviour = world.emulator.behaviour
        self._token = self._behaviour.access_token
        world.registry = Registry(world.transport, self)

    def __call__(self, refused: str | None) -> str:
        with self._lock:
            if refused == self._token:
                self.refused.append(refused)
                self._token = self._behaviour.access_token = f"ya29.fresh-{len(self.refused)}"
            return self._token

    def revoke(self) -> None:
        """The present token is good for nothing from now on."""
        self._behaviour.access_token = "ya29.nobody-has-it"  # noqa: S105  # opens nothing


# Google's access token.


@pytest.mark.parametrize("dry_run", [True, False])
def test_access_token_goes_to_the_registry_as_it_is(google: World, dry_run: bool) -> None:
    """No token is exchanged where the host takes this one, and no right to upload is needed."""
    google.emulator.behaviour.lacking = {UPLOAD}
    google.load(image(1))
    google.load(image(2), tags="v1")

    assert google.prune(dry_run=dry_run, **ALL).deleted == 2

    assert {one.authorization for one in google.log.entries} == {"credential"}
    deletions = {} if dry_run else {"manifest_head": 1, "tag_delete": 1, "manifest_delete": 2}
    assert google.log.counts == {"tags_list": 1, **deletions}


def test_access_token_as_gcr_cleaner_sends_it(google: World) -> None:
    """Its documented way: ``-token "$(gcloud auth print-access-token)"``, sent as the bearer of every request."""
    digest = google.load(image(1), tags="v1")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {ACCESS_TOKEN}"
    url = "https://gcr.io/v2/acme/api"

    assert session.get(f"{url}/tags/list?n=10000", timeout=5).json()["tags"] == ["v1"]
    assert session.delete(f"{url}/manifests/v1", timeout=5).status_code == 202
    assert session.delete(f"{url}/manifests/{digest}", timeout=5).status_code == 202
    assert google.left == frozenset()


def test_refused_access_token_is_replaced_once(google: World) -> None:
    """A 401 that names no token service gets a fresh access token."""
    tokens = AccessTokens(google)
    google.faults.add(Status(401), kind="tags_list", nth=1)
    google.store.repository(google.name)

    google.client().list_manifests()

    assert tokens.refused == [ACCESS_TOKEN]
    assert [(one.kind, one.status) for one in google.log.entries] == [("tags_list", 401), ("tags_list", 200)]


def test_access_token_that_is_refused_again(google: World) -> None:
    """After a fresh one the permission is missing."""
    tokens = AccessTokens(google)
    google.faults.add(Status(401), kind="tags_list")

    with pytest.raises(PermissionDenied):
        google.client().list_manifests()

    assert len(tokens.refused) == 1
    assert google.log.counts == {"tags_list": 2}


@pytest.mark.parametrize("workers", [1, 20])
def test_access_token_that_ends_in_a_run(google: World, workers: int) -> None:
    """A host that has accepted one gets a fresh one, challenge or not: the role may not allow an exchange."""
    tokens = AccessTokens(google)
    google.emulator.behaviour.lacking = {UPLOAD}
    for number in range(40):
        google.load(image(number), tags=f"v{number}")
    google.faults.add(Before(tokens.revoke), kind="tag_delete", nth=10)

    assert google.prune(workers=workers, **ALL).deleted == 40

    assert tokens.refused == [ACCESS_TOKEN]
    assert google.log.counts["token"] == 0
    assert google.log.statuses[403] == 0


def test_host_that_no_longer_takes_access_tokens(google: World) -> None:
    """What it has accepted before counts no more once it refuses a fresh one as well."""
    AccessTokens(google)
    google.store.repository(google.name)
    google.client().list_manifests()
    google.emulator.behaviour.takes_access_token = False

    with pytest.raises(PermissionDenied):
        google.client().list_manifests()
    google.client().list_manifests()

    assert google.log.counts["token"] == 1


@pytest.mark.parametrize(
    ("challenge", "is_one"),
    [
        ('Bearer realm="https://gcr.io/v2/token"', True),
        ('bearer\trealm="https://gcr.io/v2/token"', True),
        ('Basic realm="gcr", Bearer realm="https://gcr.io/v2/token",service="gcr.io"', True),
        ("Bearer", True),
        ('Basic realm="Bearer"', False),
        ("Bearers", False),
        ("", False),
    ],
)
def test_challenge_in_every_form(google: World, challenge: str, is_one: bool) -> None:
    """A response may have several, and only one for bearer tokens leads to the token service."""
    AccessTokens(google)
    google.store.repository(google.name)
    google.faults.add(Status(401, headers=(("WWW-Authenticate", challenge),)), kind="tags_list", nth=1)

    google.client().list_manifests()

    assert google.log.counts == {"tags_list": 2, **({"token": 1} if is_one else {})}


# The registry's own token.


def test_exchanged_token_that_is_refused_without_a_challenge(exchanging: World) -> None:
    """The host does not take the access token, so another one is exchanged."""
    exchanging.store.repository(exchanging.name)
    exchanging.client().list_manifests()
    exchanging.faults.add(Status(401), kind="tags_list", nth=1)

    exchanging.client().list_manifests()

    assert exchanging.log.counts == {"token": 2, "tags_list": 4}


def test_challenge_to_the_look_at_a_tag_leads_to_an_exchange(google: World) -> None:
    """Also where that is the first request with this access."""
    google.emulator.behaviour.takes_access_token = False
    digest = google.load(image(1), tags="v1")

    assert google.client().delete_tag(Tag("v1"), digest, lambda: True).is_gone

    assert google.log.counts == {"manifest_head": 2, "token": 1, "tag_delete": 1}


def test_token_is_exchanged_where_the_host_asks_for_it(exchanging: World) -> None:
    """One request shows it, the repository's token is asked for once, and serves all runs and requests."""
    exchanging.load(image(1))
    for _ in range(3):
        client = exchanging.client()
        client.list_manifests()
        client.exists(ABSENT)

    assert exchanging.log.counts == {"token": 1, "tags_list": 4, "manifest_head": 3}
    assert [(one.kind, one.status, one.authorization) for one in exchanging.log.entries[:3]] == [
        ("tags_list", 401, "credential"),
        ("token", 200, "credential"),
        ("tags_list", 200, "token"),
    ]
    assert {one.authorization for one in exchanging.log.entries[2:]} == {"token"}


def test_each_repository_has_its_own_token(exchanging: World) -> None:
    """A token opens the one repository that it was asked for."""
    for path in ("acme/api", "acme/web", "acme/api"):
        exchanging.store.repository(exchanging.emulator.name(path))
        repository = Repository("gcr.io", path)
        exchanging.registry.open(repository, Access.READ, RequestBudget(1e9)).list_manifests()

    assert exchanging.log.counts == {"token": 2, "tags_list": 5}
    assert exchanging.log.statuses == {401: 2, 200: 5}


@pytest.mark.parametrize(("dry_run", "actions"), [(True, "pull"), (False, "push,pull")])
def test_scope_is_what_the_run_may_do(exchanging: World, dry_run: bool, actions: str) -> None:
    """A preview's exchanged token could not delete even by mistake."""
    exchanging.load(image(1))

    exchanging.prune(dry_run=dry_run)

    assert [one.path for one in exchanging.log.of("token")] == [
        f"/v2/token?service=gcr.io&scope=repository:acme/api:{actions}"
    ]


def test_preview_and_run_have_two_tokens(exchanging: World) -> None:
    """A run does not go with a preview's token, nor a preview with a run's."""
    exchanging.load(image(1))
    exchanging.prune(dry_run=True)
    exchanging.prune()
    exchanging.prune(dry_run=True)

    assert exchanging.log.counts["token"] == 2
    assert exchanging.log.statuses[401] == 2
    assert exchanging.left == frozenset()


@pytest.mark.parametrize(
    ("expires_in", "good_s", "over_s"), [(3600, 3500, 3541), (600, 539, 541), (50, 44, 46), (None, 53, 55), (1, 0, 1)]
)
def test_token_is_kept_until_shortly_before_its_end(
    exchanging: World, expires_in: int | None, good_s: float, over_s: float
) -> None:
    """A minute before, or a tenth of a short life; without a word it lives a minute."""
    exchanging.emulator.behaviour.expires_in = expires_in
    client = exchanging.client()
    client.exists(ABSENT)
    exchanging.clock.turn(good_s)
    client.exists(ABSENT)
    assert exchanging.log.counts["token"] == 1

    exchanging.clock.turn(over_s - good_s)
    client.exists(ABSENT)
    assert exchanging.log.counts["token"] == 2
    assert exchanging.log.statuses[401] == 1


def test_refused_token_is_replaced_once(exchanging: World) -> None:
    """A 401 gets one fresh token, and the request goes again."""
    exchanging.load(image(1))
    client = exchanging.client()
    client.list_manifests()
    exchanging.emulator.expire_tokens()

    client.list_manifests()

    assert [(one.kind, one.status) for one in exchanging.log.entries[3:]] == [
        ("tags_list", 401),
        ("token", 200),
        ("tags_list", 200),
    ]


def test_deletion_is_repeated_with_a_fresh_token(exchanging: World) -> None:
    """The same for a deletion that is refused in mid-run."""
    digest = exchanging.load(image(1))
    exchanging.faults.add(Before(exchanging.emulator.expire_tokens), kind="manifest_delete", nth=1)

    assert exchanging.prune().deleted == 1

    assert digest not in exchanging.left
    assert exchanging.log.counts == {"token": 2, "tags_list": 2, "manifest_delete": 2}


def test_many_threads_share_a_fresh_token(exchanging: World) -> None:
    """Twenty workers are refused at once, and one token is asked for."""
    client = exchanging.client()
    client.exists(ABSENT)
    exchanging.emulator.expire_tokens()
    barrier = threading.Barrier(20)

    def ask(_: int) -> bool:
        barrier.wait()
        return client.exists(ABSENT)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(20))) == {False}

    assert exchanging.log.counts["token"] == 2


def test_many_threads_share_the_first_token(exchanging: World) -> None:
    """Nor is it asked for twenty times at the start."""
    client = exchanging.client()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: client.exists(ABSENT), range(40)))

    assert exchanging.log.counts["token"] == 1
    assert exchanging.log.statuses[401] <= 20


@pytest.mark.parametrize(
    ("access", "permission"),
    [
        (Access.READ, "artifactregistry.repositories.downloadArtifacts"),
        (Access.DELETE, "artifactregistry.repositories.deleteArtifacts"),
    ],
)
def test_denied_token_names_the_missing_permission(exchanging: World, access: Access, permission: str) -> None:
    """DENIED at the token service is final."""
    exchanging.emulator.behaviour.denied = {"acme/api"}

    with pytest.raises(PermissionDenied) as caught:
        exchanging.client(access).list_manifests()

    assert permission in caught.value.permission
    assert exchanging.log.counts == {"token": 1, "tags_list": 1}


@pytest.mark.parametrize("status", [401, 403])
def test_reading_denied_in_spite_of_a_fresh_token(exchanging: World, status: int) -> None:
    """One fresh token, for a 401 alone, and then no more."""
    challenge = (("WWW-Authenticate", 'Bearer realm="https://gcr.io/v2/token",service="gcr.io"'),)
    exchanging.faults.add(Status(status, "DENIED", headers=challenge), kind="tags_list")

    with pytest.raises(PermissionDenied) as caught:
        exchanging.client().list_manifests()

    assert "artifactregistry.repositories.downloadArtifacts" in caught.value.permission
    again = status == 401
    assert exchanging.log.counts == ({"token": 1, "tags_list": 2} if again else {"tags_list": 1})


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
def test_answer_that_is_no_token(exchanging: World, body: bytes) -> None:
    """It is a transient error of the service, without the answer's text in it."""
    exchanging.faults.add(Status(200, body=body), kind="token")

    with pytest.raises(Unavailable) as caught:
        exchanging.client().list_manifests()

    assert "secret" not in str(caught.value)
    assert exchanging.log.counts["tags_list"] == 1


@pytest.mark.parametrize("fault", [Status(503), DropBefore(), CutBody()], ids=repr)
def test_token_service_that_does_not_answer(exchanging: World, fault: Status | DropBefore | CutBody) -> None:
    """It is asked again like everything, and then transient."""
    rule = exchanging.faults.add(fault, kind="token")

    with pytest.raises(Unavailable):
        exchanging.client().list_manifests()

    assert exchanging.log.counts == {"token": 6, "tags_list": 1}
    exchanging.faults.remove(rule)
    exchanging.client().exists(ABSENT)


def test_token_service_that_refuses_otherwise(exchanging: World) -> None:
    """Another 4xx is final."""
    exchanging.faults.add(Status(404), kind="token")

    with pytest.raises(RequestRefused) as caught:
        exchanging.client().list_manifests()

    assert caught.value.status == 404


def test_certificate_of_another_authority_is_refused(google: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential goes to whoever cannot prove to be Google."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    transport = Transport(clock=google.clock, sleep=google.clock.sleep)
    registry = Registry(transport, lambda _refused: ACCESS_TOKEN)

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
        assert ACCESS_TOKEN not in text
        assert "Bearer" not in text
