"""What each end of a message means to Pub/Sub: 200 acknowledges it, 500 has it delivered again."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import functions_framework
import pytest
from cloudevents.http import CloudEvent

from cleaner.core.errors import TransientError
from tests.emulator import Emulator
from tests.emulator.faults import Before, Status
from tests.emulator.images import image, load, raw
from tests.emulator.store import OCI_INDEX
from tests.support.deliveries import Shape, cloudevent_headers, envelope, request_of
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import flask
    from flask.testing import FlaskClient

PATH = "acme/api"
REQUESTS_TOPIC = "projects/demo/topics/requests"
SETTINGS = ("DRY_RUN", "INSECURE_REGISTRIES", "LOG_LEVEL", "POLICIES", "REQUESTS_TOPIC", "TIME_LIMIT", "WORKERS")
OLD = timedelta(days=30)


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importing ``main`` sets logging up for the whole process and takes ``WORKERS`` out of the environment."""
    root, cleaner = logging.getLogger(), logging.getLogger("cleaner")
    handlers, levels = root.handlers[:], (root.level, cleaner.level)
    for name in list(os.environ):
        if name in SETTINGS or name.startswith(("GOOGLE_", "LOG_")):
            monkeypatch.delenv(name)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    cleaner.setLevel(levels[1])
    sys.modules.pop("main", None)


@dataclass(slots=True)
class Served:
    """The function behind a test client, and the registry that it prunes."""

    emulator: Emulator
    client: FlaskClient
    capture: pytest.CaptureFixture[str]
    call: Callable[[CloudEvent], None]
    log: list[dict[str, object]] = field(default_factory=list)

    @property
    def repository(self) -> str:
        return self.emulator.name(PATH)

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        status = self.client.post(path, headers=dict(headers), data=body).status_code
        self.log += [json.loads(line) for line in self.capture.readouterr().out.splitlines()]
        return status

    def send(
        self,
        document: object,
        shape: Shape = Shape.EVENTARC,
        *,
        topic: str = "gcr",
        published: datetime | None = None,
    ) -> int:
        """Deliver one message; return the status of the answer."""
        return self.post(*request_of(json.dumps(document).encode(), shape, topic=topic, published=published))

    def push(self, shape: Shape = Shape.EVENTARC) -> int:
        """Deliver the notification of a push."""
        return self.send({"action": "INSERT", "tag": f"{self.repository}:latest"}, shape)

    def logged(self, message: str, **facts: object) -> list[dict[str, object]]:
        wanted = {"message": message, **facts}
        return [one for one in self.log if all(one.get(key) == value for key, value in wanted.items())]

    def severities(self) -> set[object]:
        return {one["severity"] for one in self.log}

    def fill(self, *tags: str) -> list[str]:
        """One old image for each tag, without tag where it is empty; return their digests."""
        return [
            load(
                self.emulator.store,
                self.repository,
                image(f"{tag} {at}"),
                tags=[tag] if tag else (),
                uploaded=datetime.now(UTC) - OLD - timedelta(days=at),
            )
            for at, tag in enumerate(tags)
        ]

    def left(self) -> frozenset[str]:
        return self.emulator.store.digests(self.repository)

    @property
    def requests(self) -> int:
        return self.emulator.log.total


@dataclass(slots=True)
class Kitchen:
    """Makes functions with the settings that a test wants."""

    emulator: Emulator
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def serve(self, **settings: str) -> Served:
        policies = [
            {
                "repositories": [f"{self.emulator.host}/acme/*"],
                "keep": 1,
                "keep_untagged": 1,
                "delete_tags": ["build-[0-9]"],
            }
        ]
        made = {
            "POLICIES": json.dumps(policies),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": self.emulator.host,
            "LOG_LEVEL": "DEBUG",
        } | settings
        for name, value in made.items():
            self.monkeypatch.setenv(name, value)
        create_app: Callable[..., flask.Flask] = functions_framework.create_app
        app = create_app("prune", str(ROOT / "main.py"), "cloudevent")
        return Served(self.emulator, app.test_client(), self.capture, sys.modules["main"].prune)


@pytest.fixture
def kitchen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kitchen]:
    with Emulator() as emulator:
        yield Kitchen(emulator, capsys, monkeypatch)


@pytest.fixture
def served(kitchen: Kitchen) -> Served:
    return kitchen.serve()


# What is acknowledged.


@pytest.mark.parametrize("shape", Shape)
def test_a_push_prunes_whatever_the_delivery(served: Served, shape: Shape) -> None:
    """Eventarc, a plain push and Pub/Sub's emulator spell the same message in three ways."""
    digests = served.fill("build-0", "build-1", "", "")

    assert served.push(shape) == 200

    assert served.left() == {digests[0], digests[2]}
    (finished,) = served.logged("prune finished", severity="INFO")
    assert (finished["kept"], finished["deleted"], finished["dry_run"]) == (2, 2, False)


def test_a_structured_cloudevent_works_too(served: Served) -> None:
    """The event in one JSON document, attributes and data."""
    (kept, _) = served.fill("", "")
    attributes = {name.removeprefix("ce-"): value for name, value in cloudevent_headers().items()}
    data = json.dumps({"action": "INSERT", "tag": f"{served.repository}:latest"}).encode()
    event = {**attributes, "datacontenttype": "application/json", "data": envelope(data, Shape.EVENTARC)}

    status = served.post("/", {"Content-Type": "application/cloudevents+json"}, json.dumps(event).encode())

    assert status == 200
    assert served.left() == {kept}


def test_dry_run_is_acknowledged_and_deletes_nothing(kitchen: Kitchen) -> None:
    """``DRY_RUN`` is on unless it is turned off."""
    kitchen.monkeypatch.delenv("DRY_RUN", raising=False)
    served = kitchen.serve(DRY_RUN="true")
    digests = served.fill("", "")

    assert served.push() == 200

    assert served.left() == set(digests)
    assert len(served.logged("manifest would be deleted", severity="INFO", digest=digests[1])) == 1
    assert served.emulator.log.counts.keys() == {"tags_list"}


def test_a_covered_message_makes_no_request(served: Served) -> None:
    """A run whose listing began after a message was published has done what the message asks for."""
    served.fill("", "")
    published = datetime.now(UTC) - timedelta(seconds=1)
    assert served.push() == 200
    before = served.requests

    status = served.send({"action": "INSERT", "tag": f"{served.repository}:latest"}, published=published)

    assert status == 200
    assert served.requests == before
    assert len(served.logged("already covered")) == 1


def test_a_deletion_is_ignored(served: Served) -> None:
    """Our own deletions are announced as well."""
    served.fill("", "")

    assert served.send({"action": "DELETE", "tag": f"{served.repository}:build-1"}) == 200

    assert served.requests == 0
    assert served.severities() <= {"DEBUG", "INFO"}


def test_a_repository_without_policy_is_not_touched(served: Served) -> None:
    """One INFO line and no request."""
    assert served.send({"action": "INSERT", "tag": f"{served.emulator.host}/other/api:latest"}) == 200

    assert served.requests == 0
    assert served.severities() == {"INFO"}
    assert len(served.logged("no policy matches", repository=f"{served.emulator.host}/other/api")) == 1


BODIES = {
    "not JSON": b"\xff not JSON",
    "empty": b"",
    "null": b"null",
    "text": b'"INSERT"',
    "list": b"[]",
    "no message": b'{"subscription": "s"}',
    "message is text": b'{"message": "INSERT"}',
    "no data": b'{"message": {"messageId": "1", "attributes": {"a": "b"}}}',
    "data is a number": b'{"message": {"data": 7}}',
    "not base64": b'{"message": {"data": "*"}}',
    "nested beyond reason": b"[" * 100_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_cloudevent_without_a_message_is_rejected(served: Served, body: bytes) -> None:
    """Whatever its body is: acknowledged, or it would come again until retention ends."""
    status = served.post("/", {"Content-Type": "application/json", **cloudevent_headers()}, body)

    assert status == 200
    assert served.requests == 0
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")
    assert rejected["reason"]


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"specversion": "1.0"}', b"[" * 100_000])
def test_a_structured_cloudevent_that_is_none_is_rejected(served: Served, body: bytes) -> None:
    """functions-framework cannot make an event of it, and answers before the function is asked."""
    status = served.post("/", {"Content-Type": "application/cloudevents+json"}, body)

    assert status == 200
    assert served.requests == 0
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")


STRUCTURED = {"Content-Type": "application/cloudevents+json"}
JSON = {"Content-Type": "application/json"}
NO_EVENTS: dict[str, tuple[Mapping[str, str], bytes]] = {
    "structured, a list as version": (STRUCTURED, b'{"specversion": ["1.0"], "id": "1", "source": "s", "type": "t"}'),
    "a batch": ({"Content-Type": "application/cloudevents-batch+json"}, b"[{}]"),
    "a push, no type": ({}, b'{"message": {"data": "e30="}}'),
    "a push, as text": ({"Content-Type": "text/plain"}, b'{"message": {"data": "e30="}}'),
    "a push, as a form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"message=e30="),
    "a list": (JSON, b"[1]"),
    "a string": (JSON, b'"x"'),
    "no UTF-8": (JSON, b"\xff{"),
    "a long number": (JSON, b'{"message": {"data": ' + b"1" * 5_000 + b"}}"),
    "background, a string as context": (JSON, b'{"context": "x", "data": "y"}'),
    "background, a list as context": (JSON, b'{"context": [1], "data": {}}'),
    "background, null": (JSON, b'{"context": {"eventType": "x"}, "data": null}'),
    "a header of an extension that is none": ({**JSON, **cloudevent_headers(), "ce-extensions": "zzz"}, b"{}"),
}


@pytest.mark.parametrize(("headers", "body"), NO_EVENTS.values(), ids=NO_EVENTS.keys())
def test_a_request_that_never_becomes_an_event_is_rejected(
    served: Served, headers: Mapping[str, str], body: bytes
) -> None:
    """Whatever functions-framework's parsers make of it: nobody can do better with it the next time."""
    trace = {"X-Cloud-Trace-Context": f"{'a' * 32}/7;o=1"}

    assert served.post("/projects/demo/topics/gcr", {**headers, **trace}, body) == 200

    assert served.requests == 0
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")
    assert str(rejected["logging.googleapis.com/trace"]).endswith("a" * 32)


def test_other_requests_are_answered_as_ever(served: Served) -> None:
    """Whoever waits for the port asks ``GET /``."""
    assert served.client.get("/").status_code == 405
    assert served.capture.readouterr().out == ""


@pytest.mark.parametrize("shape", [Shape.PUSH, Shape.EMULATOR])
@pytest.mark.parametrize("data", [None, "", "*", "e30="], ids=["none", "empty", "not base64", "no action"])
def test_a_push_without_a_notification_is_rejected(served: Served, shape: Shape, data: str | None) -> None:
    """A message of attributes alone has no data, and is a push as good as any."""
    document = envelope(b"", shape)
    message = document["message"]
    assert isinstance(message, dict)
    if data is None:
        del message["data"]
    else:
        message["data"] = data

    status = served.post(
        "/projects/demo/topics/gcr", {"Content-Type": "application/json"}, json.dumps(document).encode()
    )

    assert status == 200
    assert served.requests == 0
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")


@pytest.mark.parametrize(
    "document",
    [
        {"action": "INSERT", "tag": "registry.example.com/acme/api:latest"},
        {"action": "INSERT", "digest": "gcr.io.example.com/acme/api@sha256:" + "0" * 64},
        {"action": "INSERT", "tag": "{repository}:latest\n"},
        {"action": "INSERT", "tag": "{repository}/../../v2/token:latest"},
        {"action": "UPSERT", "tag": "{repository}:latest"},
        {"tag": "{repository}:latest"},
    ],
    ids=lambda document: " ".join(document.values()).strip(),
)
def test_a_hostile_notification_is_rejected(served: Served, document: dict[str, str]) -> None:
    """No request, no second delivery, and the reason on one ERROR line."""
    filled = {key: value.replace("{repository}", served.repository) for key, value in document.items()}

    assert served.send(filled) == 200

    assert served.requests == 0
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")
    assert rejected["reason"]


def test_a_repository_that_is_gone_is_acknowledged(served: Served) -> None:
    """404 on the listing: there is nothing to prune, and nothing to complain about."""
    assert served.push() == 200

    assert served.severities() == {"INFO"}
    assert len(served.logged("repository not found", repository=served.repository)) == 1


def test_a_repository_that_is_gone_covers_what_was_published_before(served: Served) -> None:
    """The messages of its last push are answered by one listing."""
    published = datetime.now(UTC) - timedelta(seconds=5)

    for _ in range(3):
        document = {"action": "INSERT", "tag": f"{served.repository}:latest"}
        assert served.send(document, published=published) == 200

    assert served.emulator.log.counts["tags_list"] == 1
    assert len(served.logged("already covered")) == 2


def test_a_refused_deletion_is_acknowledged(served: Served) -> None:
    """A tag that came in between stands against it: WARNING, and the image stays."""
    _, digest = served.fill("", "")
    served.emulator.faults.add(
        Before(lambda: served.emulator.store.tag(served.repository, "since", digest)), kind="manifest_delete"
    )

    assert served.push() == 200

    assert digest in served.left()
    assert len(served.logged("deletion refused", severity="WARNING", digest=digest)) == 1
    (finished,) = served.logged("prune finished")
    assert (finished["refused"], finished["failed"], finished["deleted"]) == (1, 0, 0)
    assert "ERROR" not in served.severities()


def test_a_deletion_that_fails_for_good_is_acknowledged(served: Served) -> None:
    """An immutable tag: ERROR with the registry's codes; that image stays, the rest goes."""
    served.emulator.store.repository(served.repository, immutable_tags=True)
    first, immutable, second, untagged = served.fill("build-0", "build-1", "", "")

    assert served.push() == 200

    assert served.left() == {first, immutable, second}
    (failed,) = served.logged("deletion failed", severity="ERROR", digest=immutable)
    assert failed["codes"] == ["FAILED_PRECONDITION"]
    (finished,) = served.logged("prune finished")
    assert (finished["failed"], finished["deleted"]) == (1, 1)
    assert len(served.logged("manifest deleted", digest=untagged)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_denied_reading_is_acknowledged(served: Served, status: int) -> None:
    """403, or 401 after a fresh token: ERROR that names the permission that is likely missing."""
    digests = served.fill("", "")
    served.emulator.faults.add(Status(status, "DENIED"), kind="tags_list")

    assert served.push() == 200

    assert served.left() == set(digests)
    (denied,) = served.logged("permission denied", severity="ERROR", repository=served.repository)
    assert str(denied["permission"]).startswith("artifactregistry.")


def test_a_denied_token_is_acknowledged(served: Served) -> None:
    """A permission can already be missing where the token is given."""
    digests = served.fill("", "")
    served.emulator.behaviour.auth = True
    served.emulator.behaviour.denied = {PATH}

    assert served.push() == 200

    assert served.left() == set(digests)
    (denied,) = served.logged("permission denied", severity="ERROR", repository=served.repository)
    assert str(denied["permission"]).startswith("artifactregistry.")


def test_an_incomplete_listing_is_acknowledged(served: Served) -> None:
    """Neither ``manifest`` nor ``child``: that is "cannot tell", and nothing is deleted."""
    digests = served.fill("", "")
    served.emulator.behaviour.foreign = True

    assert served.push() == 200

    assert served.left() == set(digests)
    assert len(served.logged("prune failed", severity="ERROR", repository=served.repository)) == 1


def test_a_manifest_that_makes_no_sense_is_acknowledged(served: Served) -> None:
    """It matches its digest, so it will never make any: nothing is deleted, and no retry helps."""
    digests = served.fill("", "")
    nonsense = load(
        served.emulator.store,
        served.repository,
        raw(b'{"manifests": 7}', OCI_INDEX),
        uploaded=datetime.now(UTC) - OLD,
    )

    assert served.push() == 200

    assert served.left() == {*digests, nonsense}
    assert len(served.logged("prune failed", severity="ERROR", repository=served.repository)) == 1


# What is delivered again.


def test_a_defect_is_told_with_its_stack(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's message that is at fault, so it comes again."""
    served = kitchen.serve()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("cleaner.function.parse_delivery", broken)

    assert served.push() == 500

    (told,) = served.log
    assert told["severity"] == "ERROR"
    assert "ZeroDivisionError: a defect" in str(told["stack_trace"])


def test_a_call_without_a_server_raises(kitchen: Kitchen) -> None:
    """Whoever calls the function itself gets what functions-framework would."""
    served = kitchen.serve(TIME_LIMIT="0.5")
    served.fill("", "")
    served.emulator.faults.add(Status(503), kind="tags_list")
    data = json.dumps({"action": "INSERT", "tag": f"{served.repository}:latest"}).encode()
    event = CloudEvent({"source": "//pubsub.googleapis.com/projects/demo/topics/gcr", "type": "x"}, envelope(data))

    with pytest.raises(TransientError):
        served.call(event)


@pytest.mark.parametrize("kind", ["tags_list", "manifest_delete"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_transient_failure_is_delivered_again(kitchen: Kitchen, kind: str, status: int) -> None:
    """Still failing when the time is over: 500, and a WARNING."""
    served = kitchen.serve(TIME_LIMIT="0.5")
    digests = served.fill("", "")
    served.emulator.faults.add(Status(status), kind=kind)

    assert served.push() == 500

    assert served.left() == set(digests)
    assert len(served.logged("prune interrupted", severity="WARNING", repository=served.repository)) == 1
    assert "ERROR" not in served.severities()


def test_the_next_delivery_does_what_was_not_done(kitchen: Kitchen) -> None:
    """A failed run covers nothing: the same message is not taken for done."""
    served = kitchen.serve(TIME_LIMIT="0.5")
    kept, _ = served.fill("", "")
    fault = served.emulator.faults.add(Status(503), kind="tags_list")
    published = datetime.now(UTC)
    document = {"action": "INSERT", "tag": f"{served.repository}:latest"}
    assert served.send(document, published=published) == 500
    served.emulator.faults.remove(fault)

    assert served.send(document, published=published) == 200

    assert served.left() == {kept}


def test_a_time_limit_is_delivered_again(kitchen: Kitchen) -> None:
    """No further deletion begins, the summary is written, and the message fails."""
    served = kitchen.serve(TIME_LIMIT="0.4", WORKERS="1")
    served.fill(*[""] * 30)
    served.emulator.faults.latency_s = 0.05

    assert served.push() == 500

    assert 1 < len(served.left()) < 30
    (finished,) = served.logged("prune finished")
    assert finished["deleted"] == 30 - len(served.left())
    assert len(served.logged("prune interrupted", severity="WARNING")) == 1


# Requests of the operator.


@pytest.mark.parametrize("shape", Shape)
def test_prune_from_the_requests_topic(kitchen: Kitchen, shape: Shape) -> None:
    """The operator asks for one repository, without any push."""
    served = kitchen.serve(REQUESTS_TOPIC=REQUESTS_TOPIC)
    kept, _ = served.fill("", "")

    status = served.send({"action": "PRUNE", "repository": served.repository}, shape, topic="requests")

    assert status == 200
    assert served.left() == {kept}


@pytest.mark.parametrize("action", ["PRUNE", "SWEEP"])
@pytest.mark.parametrize(
    ("setting", "topic"),
    [(REQUESTS_TOPIC, "gcr"), (REQUESTS_TOPIC, "requests2"), ("", "requests"), ("", "gcr"), ("", "")],
)
def test_requests_from_elsewhere_are_rejected(kitchen: Kitchen, action: str, setting: str, topic: str) -> None:
    """Who may push images must not be able to order a prune, let alone a sweep."""
    served = kitchen.serve(REQUESTS_TOPIC=setting)
    digests = served.fill("", "")

    assert served.send({"action": action, "repository": served.repository}, topic=topic) == 200

    assert served.requests == 0
    assert served.left() == set(digests)
    (rejected,) = served.log
    assert (rejected["severity"], rejected["message"]) == ("ERROR", "message rejected")


# What does not start, and what is logged.


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("POLICIES", "", "POLICIES"),
        ("POLICIES", "[]", "POLICIES"),
        ("POLICIES", '[{"repositories": ["gcr.io/**"], "kepp": 3}]', "POLICIES[0]: unknown key 'kepp'"),
        ("POLICIES", '[{"repositories": ["gcr.io/**"]}, {"repositories": 1}]', "POLICIES[1].repositories"),
        ("DRY_RUN", "no", "DRY_RUN"),
        ("WORKERS", "0", "WORKERS"),
        ("TIME_LIMIT", "soon", "TIME_LIMIT"),
        ("INSECURE_REGISTRIES", "gcr.io:80", "INSECURE_REGISTRIES"),
        ("REQUESTS_TOPIC", "requests", "REQUESTS_TOPIC"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
    ],
)
def test_an_invalid_setting_does_not_start(kitchen: Kitchen, name: str, value: str, named: str) -> None:
    """Exit code 2 when the module is imported, and one line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        kitchen.serve(**{name: value})

    assert ended.value.code == 2
    (line,) = kitchen.capture.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["severity"] == "CRITICAL"
    assert named in record["error"]


def test_workers_is_not_for_the_web_server(kitchen: Kitchen) -> None:
    """functions-framework would start that many processes, each of which would list for itself."""
    kitchen.serve(WORKERS="7")

    assert "WORKERS" not in os.environ


@pytest.mark.parametrize(
    ("headers", "project", "trace"),
    [
        ({"X-Cloud-Trace-Context": f"{'a' * 32}/7;o=1"}, None, f"projects/demo/traces/{'a' * 32}"),
        ({"X-Cloud-Trace-Context": f"{'a' * 32}/7;o=1"}, "mine", f"projects/mine/traces/{'a' * 32}"),
        ({"traceparent": f"00-{'b' * 32}-{'0' * 15}1-01"}, None, f"projects/demo/traces/{'b' * 32}"),
        ({"X-Cloud-Trace-Context": 'nonsense" }'}, None, None),
        (
            {"X-Cloud-Trace-Context": "nonsense", "traceparent": f"00-{'b' * 32}-{'0' * 15}1-01"},
            None,
            f"projects/demo/traces/{'b' * 32}",
        ),
        ({}, None, None),
    ],
)
def test_each_line_names_the_trace_of_its_request(
    kitchen: Kitchen, headers: dict[str, str], project: str | None, trace: str | None
) -> None:
    """Those of the worker threads too; the project is the topic's unless the environment says another."""
    served = kitchen.serve(**({"GOOGLE_CLOUD_PROJECT": project} if project else {}))
    served.fill("build-0", "build-1")
    path, made, body = request_of(json.dumps({"action": "INSERT", "tag": f"{served.repository}:latest"}).encode())

    assert served.post(path, {**made, **headers}, body) == 200

    assert {one["message"] for one in served.log} >= {"tag deleted", "manifest deleted", "prune finished"}
    assert {one.get("logging.googleapis.com/trace") for one in served.log} == {trace}


# What is running.


def _deployment(image: str) -> dict[str, object]:
    return {
        "name": "//container.googleapis.com/projects/p/locations/us/clusters/c/k8s/namespaces/prod/deployments/api",
        "assetType": "apps.k8s.io/Deployment",
        "resource": {"data": {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}},
    }


def test_what_is_deployed_stays(kitchen: Kitchen) -> None:
    """Asked once, when something would be deleted; the log says who runs it."""
    served = kitchen.serve(RUNNING_SCOPES="projects/acme", GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT=served_url(kitchen))
    newest, deployed, old = served.fill("", "", "")
    kitchen.emulator.behaviour.assets = {"projects/acme": [_deployment(f"mirror.example/api@{deployed}")]}

    assert served.push() == 200
    assert served.push() == 200

    assert served.left() == {newest, deployed}
    assert old not in served.left()
    assert kitchen.emulator.log.counts["assets"] == 1
    kept = served.logged("manifest kept", digest=deployed, reason="running")
    assert {record["running"] for record in kept} == {"Deployment prod/api"}


@pytest.mark.parametrize(("status", "answer"), [(403, 200), (404, 200), (503, 500)])
def test_question_that_fails_deletes_nothing(kitchen: Kitchen, status: int, answer: int) -> None:
    """Who does not know what runs deletes nothing: for good, or until the next delivery."""
    served = kitchen.serve(RUNNING_SCOPES="projects/acme", GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT=served_url(kitchen))
    digests = served.fill("", "", "")
    kitchen.emulator.faults.add(Status(status), kind="assets")

    assert served.push() == answer

    assert served.left() == set(digests)
    assert kitchen.emulator.log.counts["manifest_delete"] == 0


def test_nobody_is_asked_what_runs_when_nothing_would_go(kitchen: Kitchen) -> None:
    """A push that changes nothing costs no question."""
    served = kitchen.serve(RUNNING_SCOPES="projects/acme", GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT=served_url(kitchen))
    served.fill("")

    assert served.push() == 200

    assert kitchen.emulator.log.counts["assets"] == 0


def served_url(kitchen: Kitchen) -> str:
    return f"{kitchen.emulator.url}/"
