"""What each end of a message means to Pub/Sub: 200 acknowledges it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.emulator.faults import Before, Status
from tests.emulator.images import load, raw
from tests.emulator.store import OCI_INDEX
from tests.support.deliveries import Shape, cloudevent_headers, envelope
from tests.support.served import OLD, PATH, Kitchen, Served

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    assert 'expected a CloudEvent, or {"message": {"data": BASE64' in str(rejected["reason"])


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
