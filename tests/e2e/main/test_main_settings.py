"""What the function's settings do: requests of the operator, what does not start, traces, what is running."""

from __future__ import annotations

import json
import os

import pytest

from cleaner.release import VERSION
from tests.emulator.faults import Status
from tests.support.deliveries import Shape, request_of
from tests.support.served import Kitchen

REQUESTS_TOPIC = "projects/demo/topics/requests"


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


def test_start_logs_the_version_and_what_is_configured(kitchen: Kitchen) -> None:
    """So that the log says which version did what."""
    (ready,) = kitchen.serve(RUNNING_SCOPES="projects/acme,folders/1").started

    assert (ready["severity"], ready["message"]) == ("INFO", "ready")
    assert (ready["version"], ready["policies"]) == (VERSION, 1)
    assert (ready["dry_run"], ready["running_scopes"]) == (False, ["projects/acme", "folders/1"])


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
