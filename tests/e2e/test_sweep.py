"""A sweep by way of Pub/Sub's emulator: every repository ends as its policy says."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.emulator import Emulator
from tests.support.deliveries import topic_path
from tests.support.function import FunctionProcess
from tests.support.processes import wait_for
from tests.support.pubsub import PubSub
from tests.support.sweeping import REQUESTS, call, fill_acme, many, tags, write_policies

_projects = itertools.count(1)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as started:
        yield started


@pytest.fixture
def policies(emulator: Emulator, tmp_path: Path) -> str:
    return write_policies(emulator, tmp_path)


@pytest.fixture
def acme(emulator: Emulator) -> str:
    return fill_acme(emulator)


@dataclass(slots=True)
class Chain:
    """Two topics, both pushed to one process of the function."""

    pubsub: PubSub
    project: str
    function: FunctionProcess

    def order(self, document: Mapping[str, str], topic: str = REQUESTS) -> None:
        self.pubsub.publish(self.project, [json.dumps(document).encode()], topic)

    def pruned(self) -> set[str]:
        return {str(record["repository"]) for record in self.function.logged("prune finished")}


@pytest.fixture
def chain(emulator: Emulator, pubsub: PubSub, policies: str) -> Iterator[Chain]:
    project = f"sweep-{next(_projects)}"
    settings = {
        "POLICIES": Path(policies).read_text(),
        "DRY_RUN": "false",
        "INSECURE_REGISTRIES": emulator.host,
        "REQUESTS_TOPIC": f"projects/{project}/topics/{REQUESTS}",
        "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": emulator.url,
        "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{pubsub.port}",
    }
    with ExitStack() as stack:
        function = FunctionProcess(settings)
        stack.callback(function.stop)
        function.wait_until_up()
        for topic in (REQUESTS, "gcr"):
            pubsub.create_topic(project, topic)
            pubsub.subscribe(project, function.url + topic_path(topic, project), topic, name=topic)
            stack.callback(pubsub.unsubscribe, project, name=topic)
        yield Chain(pubsub, project, function)


def assert_swept(emulator: Emulator, acme: str) -> None:
    """Every repository is as its policy says."""
    for one, count in (("api", 2), ("app", 2), ("web", 4), ("legacy", 4)):
        assert tags(emulator, f"{acme}/{one}") == [f"build-{at}" for at in range(count)]


def test_message_sweeps(chain: Chain, emulator: Emulator, acme: str) -> None:
    """A SWEEP arrives, its requests are published and delivered, and every repository ends as its policy says."""
    chain.order({"action": "SWEEP", "repository": acme})

    wait_for(lambda: len(chain.pruned()) == 3, "three are pruned")
    assert chain.pruned() == {f"{acme}/{one}" for one in ("api", "app", "web")}
    assert [record["repositories"] for record in chain.function.logged("sweep finished")] == [3]
    assert_swept(emulator, acme)


def test_command_has_the_function_prune(chain: Chain, emulator: Emulator, acme: str, policies: str) -> None:
    """The command publishes, the function prunes; and again, which changes nothing."""
    topic = f"projects/{chain.project}/topics/{REQUESTS}"
    host = f"127.0.0.1:{chain.pubsub.port}"
    for runs in (3, 6):
        ended = call(emulator, acme, "--policies", policies, PUBSUB_EMULATOR_HOST=host, REQUESTS_TOPIC=topic)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == f"3 repositories under {acme}: 3 requests published to {topic}\n"
        wait_for(lambda count=runs: len(chain.function.logged("prune finished")) == count, f"{runs} runs")  # type: ignore[misc]
        assert_swept(emulator, acme)


def test_document_of_what_was_requested(pubsub: PubSub, emulator: Emulator, acme: str, policies: str) -> None:
    """The names, as of a dry run; the sentence is on stderr."""
    project, host = f"sweep-{next(_projects)}", f"127.0.0.1:{pubsub.port}"
    pubsub.create_topic(project, REQUESTS)
    topic = f"projects/{project}/topics/{REQUESTS}"

    ended = call(emulator, acme, "--policies", policies, "--topic", topic, "-o", "json", PUBSUB_EMULATOR_HOST=host)

    assert (ended.returncode, json.loads(ended.stdout)) == (0, [f"{acme}/{one}" for one in ("api", "app", "web")])
    assert ended.stderr == f"3 repositories under {acme}: 3 requests published to {topic}\n"


def test_orders_only_from_the_topic_of_requests(chain: Chain, emulator: Emulator, acme: str) -> None:
    """Who may push images must not be able to order a sweep."""
    chain.order({"action": "SWEEP", "repository": acme}, topic="gcr")

    wait_for(lambda: chain.function.logged("message rejected"), "it is rejected")
    assert chain.pruned() == set()
    assert tags(emulator, f"{acme}/api") == [f"build-{at}" for at in range(4)]


def test_topic_that_is_not_there(pubsub: PubSub, emulator: Emulator, acme: str, policies: str) -> None:
    """One line names it."""
    topic = "projects/nobody/topics/requests"

    ended = call(
        emulator, acme, "--policies", policies, "--topic", topic, PUBSUB_EMULATOR_HOST=f"127.0.0.1:{pubsub.port}"
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {topic}: no such topic\n"


def test_ten_thousand_requests_reach_pubsub(pubsub: PubSub, emulator: Emulator, policies: str) -> None:
    """With Google's library and a real topic."""
    names = many(emulator, 10_000)
    project = f"sweep-{next(_projects)}"
    pubsub.create_topic(project, REQUESTS)
    pubsub._ask("PUT", f"projects/{project}/subscriptions/all", {"topic": f"projects/{project}/topics/{REQUESTS}"})
    topic = f"projects/{project}/topics/{REQUESTS}"

    ended = call(
        emulator,
        "us-docker.pkg.dev/acme/apps",
        *("--policies", policies, "--topic", topic),
        PUBSUB_EMULATOR_HOST=f"127.0.0.1:{pubsub.port}",
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "10,000 requests published" in ended.stdout
    received: list[str] = []
    while len(received) < len(names):
        answer: Any = pubsub._ask("POST", f"projects/{project}/subscriptions/all:pull", {"maxMessages": 1000})
        messages = answer["receivedMessages"]
        received += [json.loads(_data(one))["repository"] for one in messages]
        pubsub._ask(
            "POST",
            f"projects/{project}/subscriptions/all:acknowledge",
            {"ackIds": [one["ackId"] for one in messages]},
        )
    assert sorted(received) == names


def _data(received: Mapping[str, Any]) -> bytes:
    return base64.b64decode(received["message"]["data"])
