"""The question to Cloud Asset Inventory, over a real socket, and what becomes of a run whose question fails."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from cleaner.core.errors import (
    CleanerError,
    PermanentError,
    PermissionDenied,
    RequestRefused,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Repository, Tag
from cleaner.core.rules import Running
from cleaner.core.timing import TIMING, Timing
from cleaner.engine.run import Run
from cleaner.google.inventory import Inventory
from cleaner.google.lru_cache import LruCache
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.running import ASSET_TYPES
from cleaner.google.transport import RequestBudget, Response, Transport
from tests.emulator import Behaviour, Emulator
from tests.emulator.faults import Before, BrokenJson, CutBody, Delay, DropBefore, Status
from tests.emulator.images import image, load
from tests.emulator.tls import make_tls
from tests.support.builders import one_rule
from tests.support.processes import wait_for
from tests.support.world import NOW, Clock

DATA = Path(__file__).parent.parent / "data"
API = Repository("europe-west1-docker.pkg.dev", "acme/apps/api")
SHOP = Repository("europe-west1-docker.pkg.dev", "acme/apps/shop")
PROXY = Repository("gcr.io", "acme/proxy")
SCOPE = "projects/acme"
PATIENCE_S = 10


class Credentials:
    """Hands out ``token-1``, and the next whenever that one was refused."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []
        self._number = 1

    def headers(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    def access_token(self, refused: str | None = None) -> str:
        self.refused.append(refused)
        if refused == f"token-{self._number}":
            self._number += 1
        return f"token-{self._number}"


class NoCredentials:
    """Fails the test that asks for any."""

    def headers(self, token: str) -> dict[str, str]:
        raise AssertionError(f"asked for the headers of {token}")

    def access_token(self, refused: str | None = None) -> str:
        raise AssertionError(f"asked for a token other than {refused}")


class WatchedTransport(Transport):
    """Remembers what it was told to send."""

    sent: list[tuple[str, str | None]]

    def send(self, budget: RequestBudget, method: str, url: str, headers: object, *, max_bytes: int) -> Response:
        assert isinstance(headers, dict)
        self.sent.append((url, headers.get("Authorization")))
        return super().send(budget, method, url, headers, max_bytes=max_bytes)


class World:
    """An inventory that is asked over plain HTTP."""

    def __init__(self, emulator: Emulator, credentials: Credentials | NoCredentials, url: str) -> None:
        self.emulator = emulator
        self.log = emulator.log
        self.faults = emulator.faults
        self.assets = emulator.behaviour.assets
        self.clock = Clock()
        self.transport = WatchedTransport(
            clock=self.clock, sleep=self.clock.sleep, timing=Timing(read_timeout=PATIENCE_S)
        )
        self.transport.sent = []
        self.api = GoogleApi(self.transport, credentials, url)

    def inventory(self, *scopes: str) -> Inventory:
        return Inventory(self.api, scopes or (SCOPE,), self.clock)

    def budget(self, seconds: float = 500) -> RequestBudget:
        return RequestBudget(self.clock() + seconds)

    def ask(self, inventory: Inventory, repository: Repository = API) -> Running:
        return inventory.ask(repository, self.budget())

    @property
    def questions(self) -> int:
        return self.log.counts["assets"]


def recorded(name: str) -> list[dict[str, object]]:
    assets = json.loads((DATA / name).read_bytes())["assets"]
    assert isinstance(assets, list)
    return assets


def pod(number: int, *images: str) -> dict[str, object]:
    return {
        "name": f"//container.googleapis.com/projects/p/zones/z/clusters/c/k8s/namespaces/ns/pods/pod-{number}",
        "assetType": "k8s.io/Pod",
        "resource": {"data": {"spec": {"containers": [{"image": image} for image in images]}}},
    }


@pytest.fixture
def world() -> Iterator[World]:
    with Emulator() as emulator:
        world = World(emulator, NoCredentials(), f"{emulator.url}/")
        world.assets[SCOPE] = recorded("assets-kubernetes.json")
        yield world
        world.transport.close()


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> Iterator[World]:
    """The inventory at Google's own address: HTTPS, and nothing without a token."""
    tls = make_tls(["cloudasset.googleapis.com"], tmp_path)
    with Emulator(tls=tls, behaviour=Behaviour(auth=True, access_token="token-1")) as emulator:  # noqa: S106
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_file))
        monkeypatch.setenv("HTTPS_PROXY", emulator.proxy_url)
        monkeypatch.setenv("NO_PROXY", "")
        world = World(emulator, credentials, "https://cloudasset.googleapis.com/")
        world.assets[SCOPE] = recorded("assets-run-v1.json")
        yield world
        world.transport.close()


# The question.


def test_answer_is_what_concerns_the_repository(world: World) -> None:
    """Tags of the repository, digests of all."""
    inventory = world.inventory()
    api, proxy = world.ask(inventory, API), world.ask(inventory, PROXY)

    assert api.tags == {"v6": "ReplicaSet prod/api-5d8f7c6b9", "v7": "Deployment prod/api"}
    assert proxy.tags == {}
    assert api.digests == proxy.digests
    assert set(api.digests.values()) == {"Deployment prod/api", "Pod prod/api-7c9d6b5f4-x2x7q"}


def test_question_names_types_content_and_page_size(world: World) -> None:
    """Other assets of the scope, and resources that were not asked for, would not come."""
    world.ask(world.inventory())

    (entry,) = world.log.of("assets")
    parts = urlsplit(entry.path)
    assert (entry.method, parts.path) == ("GET", "/v1/projects/acme/assets")
    assert parse_qs(parts.query) == {
        "assetTypes": list(ASSET_TYPES),
        "contentType": ["RESOURCE"],
        "pageSize": ["1000"],
    }


def test_every_page_of_every_scope_is_read(world: World) -> None:
    """2001 pods and 1, in projects, folders and organizations; a request is counted for each page."""
    name = f"{API}:v"
    world.assets["folders/1"] = [pod(number, f"{name}{number}") for number in range(2001)]
    world.assets["organizations/2"] = [pod(1, f"{name}9999")]
    world.assets["projects/empty"] = []
    budget = world.budget()

    running = world.inventory("folders/1", "organizations/2", "projects/empty").ask(API, budget)

    assert running.tags.keys() == {f"v{number}" for number in (*range(2001), 9999)}
    assert world.questions == budget.requests == 5


def test_scope_of_a_domain_scoped_project_is_asked_for(world: World) -> None:
    """Its name has a colon."""
    world.assets["projects/example.com:acme"] = [pod(1, f"{API}:v1")]

    assert world.ask(world.inventory("projects/example.com:acme")).tags == {"v1": "Pod ns/pod-1"}


# Credentials.


def test_google_is_asked_with_the_access_token(google: World, credentials: Credentials) -> None:
    """Over HTTPS, in a header, at the configured address and nowhere else."""
    running = google.ask(google.inventory(), SHOP)

    assert running.tags == {"v42": "Cloud Run revision shop-00042-abc (europe-west1)"}
    assert [entry.authorization for entry in google.log.entries] == ["credential"]
    ((url, authorization),) = google.transport.sent
    assert url.startswith("https://cloudasset.googleapis.com/v1/projects/acme/assets?")
    assert authorization == "Bearer token-1"
    assert credentials.refused == [None]


def test_refused_token_is_replaced_once(google: World, credentials: Credentials) -> None:
    """A 401 gets one fresh token, and the page is asked for again."""
    google.emulator.behaviour.access_token = "token-2"  # noqa: S105  # opens nothing

    running = google.ask(google.inventory(), SHOP)

    assert running.tags
    assert [authorization for _, authorization in google.transport.sent] == ["Bearer token-1", "Bearer token-2"]
    assert credentials.refused == [None, "token-1"]


def test_refused_fresh_token_is_a_missing_permission(google: World) -> None:
    """It is not tried a third time."""
    google.faults.add(Status(401, "UNAUTHENTICATED"), kind="assets")

    with pytest.raises(PermissionDenied) as caught:
        google.ask(google.inventory(), SHOP)

    assert caught.value.permission == "cloudasset.assets.listResource"
    assert google.questions == 2


def test_plain_http_gets_no_credential(world: World) -> None:
    """A local replacement is requested anonymously, and no credential is looked up."""
    world.ask(world.inventory())

    assert [authorization for _, authorization in world.transport.sent] == [None]


def test_redirect_is_not_followed(google: World) -> None:
    """A credential goes where it was meant to go."""
    with Emulator() as other:
        other.behaviour.assets[SCOPE] = []
        location = f"{other.url}/v1/{SCOPE}/assets"
        google.faults.add(Status(302, headers=(("Location", location),)), kind="assets")

        with pytest.raises(PermanentError):
            google.ask(google.inventory(), SHOP)

        assert other.log.total == 0


# Failures: each ends the question, and none is an answer.


def test_denied_scope_names_the_permission(world: World) -> None:
    """The operator reads what to grant, and on what."""
    world.emulator.behaviour.denied_scopes.add(SCOPE)

    with pytest.raises(PermissionDenied, match=SCOPE) as caught:
        world.ask(world.inventory())

    assert caught.value.permission == "cloudasset.assets.listResource"
    assert not caught.value.transient


@pytest.mark.parametrize("scopes", [("projects/gone",), (SCOPE, "projects/gone"), ("projects/gone", SCOPE)])
def test_scope_that_does_not_exist_fails_the_question(world: World, scopes: tuple[str, ...]) -> None:
    """However good the others' answers are."""
    with pytest.raises(RequestRefused, match="projects/gone: no such project") as caught:
        world.ask(world.inventory(*scopes))

    assert caught.value.status == 404
    assert not caught.value.transient


def test_invalid_argument_fails_for_good(world: World) -> None:
    """A scope that the API does not take."""
    world.faults.add(Status(400, "INVALID_ARGUMENT"), kind="assets")

    with pytest.raises(RequestRefused) as caught:
        world.ask(world.inventory())

    assert caught.value.status == 400


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_status_that_may_pass_is_tried_again(world: World, status: int) -> None:
    """Twice, and then the page comes."""
    rule = world.faults.add(Status(status), kind="assets", times=2)

    assert world.ask(world.inventory()).tags
    assert rule.hits == 2


@pytest.mark.parametrize("fault", [Status(503), DropBefore(), CutBody()], ids=lambda fault: type(fault).__name__)
def test_page_that_keeps_failing_is_a_transient_failure(world: World, fault: Status | DropBefore | CutBody) -> None:
    """After all attempts the message is to be delivered again."""
    world.assets[SCOPE] = [pod(number, f"{API}:v{number}") for number in range(1500)]
    world.faults.add(fault, kind="assets", path="pageToken=")

    with pytest.raises(Unavailable):
        world.ask(world.inventory())

    assert world.questions == 1 + TIMING.attempts


def test_broken_json_is_a_transient_failure(world: World) -> None:
    """It was damaged on its way."""
    world.faults.add(BrokenJson(b'{"assets":[{"name"'), kind="assets")

    with pytest.raises(Unavailable):
        world.ask(world.inventory())


@pytest.mark.parametrize("text", [b"{}", b"[]", b'{"assets":{}}', b'{"assets":[{"name":"n","assetType":"t"}]}'])
def test_page_that_is_malformed_fails_for_good(world: World, text: bytes) -> None:
    """JSON that is no page of assets, or an asset without its data, will be the same next time."""
    world.faults.add(BrokenJson(text), kind="assets")

    with pytest.raises(PermanentError):
        world.ask(world.inventory())


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"]])
def test_pages_that_form_a_cycle_end_the_query(world: World, tokens: list[str]) -> None:
    """A token that comes again would come for ever."""
    for number, token in enumerate(tokens, start=1):
        answer = json.dumps({"assets": [], "nextPageToken": token}).encode()
        world.faults.add(BrokenJson(answer), kind="assets", nth=number)

    with pytest.raises(PermanentError, match="cycle"):
        world.ask(world.inventory())

    assert world.questions == len(tokens)


def test_question_ends_at_the_deadline(world: World) -> None:
    """No further page is asked for when nothing may be deleted any more."""
    world.assets[SCOPE] = [pod(number, f"{API}:v{number}") for number in range(3500)]
    world.faults.add(Before(lambda: world.clock.turn(200)), kind="assets")

    with pytest.raises(TimeLimitReached):
        world.ask(world.inventory())

    assert world.questions == 3


@pytest.mark.parametrize("seconds", [-5, math.inf])
def test_answer_at_hand_is_given_whatever_the_deadline(world: World, seconds: float) -> None:
    """Nobody waits for it; the command line has no deadline at all."""
    inventory = world.inventory()
    world.ask(inventory)

    assert inventory.ask(API, world.budget(seconds)).tags


# One question for all.


def test_answer_is_reused_for_60_seconds_from_the_beginning_of_its_question(world: World) -> None:
    """Whatever the repository; the time that the question took counts."""
    inventory = world.inventory()
    world.faults.add(Before(lambda: world.clock.turn(20)), kind="assets", nth=1)

    world.ask(inventory, API)
    world.clock.turn(39.9)
    world.ask(inventory, SHOP)
    assert world.questions == 1

    world.clock.turn(0.1)
    world.assets[SCOPE] = [pod(1, f"{API}:v1")]
    assert world.ask(inventory).tags == {Tag("v1"): "Pod ns/pod-1"}
    assert world.questions == 2


@pytest.mark.parametrize("status", [403, 404, 503])
def test_failure_is_not_remembered(world: World, status: int) -> None:
    """The next one to ask gets an answer."""
    inventory = world.inventory()
    rule = world.faults.add(Status(status), kind="assets")
    with pytest.raises(CleanerError):
        world.ask(inventory)
    world.faults.remove(rule)

    assert world.ask(inventory).tags


def test_answer_of_before_does_not_stand_in_for_a_failed_question(world: World) -> None:
    """What was running a minute ago is no answer."""
    inventory = world.inventory()
    world.ask(inventory)
    world.clock.turn(60)
    world.faults.add(Status(503), kind="assets")

    for _ in range(2):
        with pytest.raises(Unavailable):
            world.ask(inventory)


def side_by_side(world: World, inventory: Inventory, count: int = 20) -> list[Running | CleanerError]:
    """Ask ``count`` times at once for different repositories, by a clock that goes on by itself."""
    barrier = threading.Barrier(count)

    def ask(number: int) -> Running | CleanerError:
        repository = replace(API, path=f"acme/apps/app-{number}")
        barrier.wait(PATIENCE_S)
        try:
            return inventory.ask(repository, world.budget())
        except CleanerError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


@pytest.mark.parametrize("takes_s", [1, 100])
def test_runs_side_by_side_share_one_question(world: World, takes_s: float) -> None:
    """Also where it takes longer than its answer would be kept."""
    world.assets[SCOPE] = [pod(number, f"{API.host}/acme/apps/app-{number}:v1") for number in range(20)]
    world.faults.add(Delay(0.3), kind="assets")
    world.faults.add(Before(lambda: world.clock.turn(takes_s)), kind="assets")

    answers = side_by_side(world, world.inventory())

    assert [answer.tags for answer in answers if isinstance(answer, Running)] == [
        {"v1": f"Pod ns/pod-{number}"} for number in range(20)
    ]
    assert world.questions == 1


def test_runs_side_by_side_share_a_transient_failure(world: World) -> None:
    """A service in trouble is not asked by twenty runs in turn."""
    world.faults.add(Delay(0.1), kind="assets")
    world.faults.add(Status(503), kind="assets")

    answers = side_by_side(world, world.inventory())

    assert {type(answer) for answer in answers} == {Unavailable}
    assert world.questions == TIMING.attempts


def test_runs_side_by_side_each_learn_of_a_missing_permission(world: World) -> None:
    """Each of their messages ends with the permission that is missing, and is not delivered again."""
    world.faults.add(Delay(0.01), kind="assets")
    world.faults.add(Before(lambda: world.clock.turn(1)), kind="assets")
    world.emulator.behaviour.denied_scopes.add(SCOPE)

    answers = side_by_side(world, world.inventory())

    assert {type(answer) for answer in answers} == {PermissionDenied}


def test_who_waits_for_another_s_question_leaves_at_the_deadline(world: World) -> None:
    """A run does not outlive its time because another's question takes long."""
    inventory = world.inventory()
    world.faults.add(Delay(0.5), kind="assets")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.ask, inventory)
        wait_for(inventory._lock.locked, "the first has asked")
        with pytest.raises(TimeLimitReached):
            inventory.ask(API, world.budget(0.01))
        assert first.result(PATIENCE_S).tags


# A run.

FAILURES: dict[str, Callable[[World], object]] = {
    "denied": lambda world: world.emulator.behaviour.denied_scopes.add(SCOPE),
    "scope gone": lambda world: world.assets.pop(SCOPE),
    "unavailable": lambda world: world.faults.add(Status(503), kind="assets"),
    "second page": lambda world: world.faults.add(Status(500), kind="assets", path="pageToken="),
    "broken": lambda world: world.faults.add(BrokenJson(), kind="assets"),
    "no data": lambda world: world.faults.add(
        BrokenJson(b'{"assets":[{"name":"n","assetType":"t"}]}'), kind="assets"
    ),
}


def prune(world: World, delete_after: str | None = "1d") -> tuple[Run, Repository]:
    """Return a run that would delete all that is old, on a repository with one old tagged and one old image."""
    name = world.emulator.name("acme/api")
    load(world.emulator.store, name, image(1), tags="v1", uploaded=NOW - timedelta(days=30))
    load(world.emulator.store, name, image(2), tags="v2", uploaded=NOW - timedelta(days=30))
    repository = Repository(*name.split("/", 1))
    keys = {"repositories": ["**"], **one_rule(delete_after=delete_after)}
    run = Run(
        Registry(world.transport, NoCredentials().access_token, frozenset({repository.host})),
        LruCache(1),
        repository,
        policies_from_document([keys])[0],
        dry_run=False,
        workers=2,
        deadline=world.clock() + 500,
        ask_running=world.inventory().ask,
        now=lambda: NOW,
    )
    return run, repository


def test_run_keeps_what_is_running(world: World) -> None:
    """The other is deleted."""
    run, repository = prune(world)
    world.assets[SCOPE] = [pod(1, f"{repository}:v1")]

    report = run.prune()

    assert world.emulator.store.tags(str(repository)).keys() == {"v1"}
    assert report.reasons == {"running": 1, "expired": 1}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_run_whose_question_fails_deletes_nothing(world: World, fail: Callable[[World], object]) -> None:
    """Whatever the failure; the error ends the run."""
    world.assets[SCOPE] = [pod(number, "gcr.io/p/i") for number in range(1500)]
    run, repository = prune(world)
    fail(world)

    with pytest.raises(CleanerError):
        run.prune()

    assert world.emulator.store.tags(str(repository)).keys() == {"v1", "v2"}
    assert not world.log.counts["tag_delete"] + world.log.counts["manifest_delete"]


def test_run_that_deletes_nothing_does_not_ask(world: World) -> None:
    """A push to a repository with nothing old costs no question."""
    run, _ = prune(world, delete_after=None)

    run.prune()

    assert world.questions == 0
