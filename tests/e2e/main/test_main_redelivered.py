"""What each end of a message means to Pub/Sub: 500 has it delivered again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cloudevents.http import CloudEvent

from cleaner.core.errors import TransientError
from tests.emulator.faults import Status
from tests.support.deliveries import Shape, envelope
from tests.support.served import Kitchen


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
    served = kitchen.serve(TIME_LIMIT="2")
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
    served = kitchen.serve(TIME_LIMIT="2")
    digests = served.fill("", "")
    served.emulator.faults.add(Status(status), kind=kind)

    assert served.push() == 500

    assert served.left() == set(digests)
    assert len(served.logged("prune interrupted", severity="WARNING", repository=served.repository)) == 1
    assert "ERROR" not in served.severities()


def test_the_next_delivery_does_what_was_not_done(kitchen: Kitchen) -> None:
    """A failed run covers nothing: the same message is not taken for done."""
    served = kitchen.serve(TIME_LIMIT="2")
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
    served = kitchen.serve(TIME_LIMIT="2.5", WORKERS="1")
    served.fill(*[""] * 30)
    # The second listing comes a second after the first.
    served.emulator.faults.latency_s = 0.1

    assert served.push() == 500

    assert 1 < len(served.left()) < 30
    (finished,) = served.logged("prune finished")
    assert finished["deleted"] == 30 - len(served.left())
    assert len(served.logged("prune interrupted", severity="WARNING")) == 1


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize(
    ("attempt", "age", "severity"),
    [
        (4, timedelta(hours=2), "WARNING"),
        (5, timedelta(0), "ERROR"),
        (None, timedelta(minutes=59), "WARNING"),
        (None, timedelta(minutes=61), "ERROR"),
    ],
)
def test_the_fifth_failure_of_a_message_is_an_error(
    kitchen: Kitchen, shape: Shape, attempt: int | None, age: timedelta, severity: str
) -> None:
    """An alert looks for errors; what may pass with the next delivery is none yet."""
    served = kitchen.serve(TIME_LIMIT="0.1")
    served.emulator.faults.add(Status(503), kind="tags_list")
    document = {"action": "INSERT", "tag": f"{served.repository}:latest"}

    assert served.send(document, shape, published=datetime.now(UTC) - age, attempt=attempt) == 500

    assert len(served.logged("prune interrupted", severity=severity)) == 1


def test_a_sweep_that_fails_for_the_fifth_time_is_an_error(kitchen: Kitchen) -> None:
    """A sweep is told of as a run is."""
    served = kitchen.serve(TIME_LIMIT="0.1", REQUESTS_TOPIC="projects/demo/topics/requests")
    served.emulator.faults.add(Status(503), kind="tags_list")
    document = {"action": "SWEEP", "repository": served.emulator.name("acme")}

    assert served.send(document, Shape.PUSH, topic="requests", attempt=5) == 500

    assert len(served.logged("sweep interrupted", severity="ERROR")) == 1
