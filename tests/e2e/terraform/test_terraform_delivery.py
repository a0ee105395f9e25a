"""A message is delivered to the function as the module's subscriptions deliver it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.emulator import Behaviour, Emulator
from tests.emulator.images import image, load
from tests.emulator.tls import Tls
from tests.support.deliveries import Shape, envelope
from tests.support.function import FunctionProcess
from tests.support.processes import DEADLINE_S
from tests.support.terraform import apply_with_mocks

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

REPOSITORY = "us-docker.pkg.dev/acme-prod/apps/api"

State = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def applied(module: Path) -> State:
    """Every resource after ``tests/delivery.tftest.hcl`` has applied the module, by its address."""
    return apply_with_mocks(module, "delivery.tftest.hcl")


@pytest.fixture
def function(applied: State, tls: Tls) -> Iterator[tuple[FunctionProcess, Emulator]]:
    """The function with the environment that Terraform gives it, and the registry that it prunes."""
    (service,) = applied["google_cloudfunctions2_function.this"]["service_config"]
    with Emulator() as metadata, Emulator(tls=tls, behaviour=Behaviour(auth=True)) as registry:
        local = {
            "HTTPS_PROXY": registry.proxy_url,
            "REQUESTS_CA_BUNDLE": str(tls.ca_file),
            "GCE_METADATA_HOST": metadata.host,
            "GCE_METADATA_IP": metadata.host,
        }
        # A function without an event trigger is served as one for HTTP.
        with FunctionProcess(service["environment_variables"] | local, signature="http") as process:
            yield process.wait_until_up(), registry


def _deliver(function: FunctionProcess, subscription: Mapping[str, Any], message: Mapping[str, str]) -> int:
    """Push one message as Pub/Sub does for ``subscription``; return the status of the response."""
    (push,) = subscription["push_config"]
    assert not push["no_wrapper"], "the message would arrive without its envelope"
    document = envelope(json.dumps(message).encode(), Shape.PUSH, attempt=1)
    document["subscription"] = f"projects/{subscription['project']}/subscriptions/{subscription['name']}"
    path = urlsplit(push["push_endpoint"]).path
    return requests.post(function.url + path, json=document, timeout=DEADLINE_S).status_code


def _fill(registry: Emulator) -> list[str]:
    """Load two old images without a tag, and return their digests, the newest first."""
    now = datetime.now(UTC)
    return [
        load(registry.store, REPOSITORY, image(str(age)), uploaded=now - timedelta(days=30 + age)) for age in range(2)
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gcr", {"action": "INSERT", "tag": f"{REPOSITORY}:latest"}),
        ("requests", {"action": "PRUNE", "repository": REPOSITORY}),
    ],
)
def test_delivered_message_prunes(
    applied: State, function: tuple[FunctionProcess, Emulator], name: str, message: Mapping[str, str]
) -> None:
    """A push, and a request, reach the function through the path that Terraform configures."""
    process, registry = function
    newest, _ = _fill(registry)

    subscription = applied[f'google_pubsub_subscription.delivery["registry-cleaner-{name}"]']
    assert _deliver(process, subscription, message) == 200

    assert registry.store.digests(REPOSITORY) == {newest}
    assert process.logged("prune finished", deleted=1, dry_run=False)


def test_request_from_the_topic_of_pushes_is_rejected(
    applied: State, function: tuple[FunctionProcess, Emulator]
) -> None:
    """Who may only push images cannot request anything: the path names the topic that a message comes from."""
    process, registry = function
    digests = _fill(registry)

    subscription = applied['google_pubsub_subscription.delivery["registry-cleaner-gcr"]']
    assert _deliver(process, subscription, {"action": "PRUNE", "repository": REPOSITORY}) == 200

    assert registry.store.digests(REPOSITORY) == set(digests)
    assert process.logged("message rejected", severity="ERROR")


def test_metrics_read_fields_that_the_lines_have(applied: State, function: tuple[FunctionProcess, Emulator]) -> None:
    """What a metric compares and extracts is in the lines that it is made from, under this name."""
    process, registry = function
    _fill(registry)
    subscription = applied['google_pubsub_subscription.delivery["registry-cleaner-requests"]']
    assert _deliver(process, subscription, {"action": "PRUNE", "repository": REPOSITORY}) == 200

    read = set()
    for address, metric in applied.items():
        if not address.startswith("google_logging_metric."):
            continue
        texts = [metric["filter"], metric["value_extractor"] or "", *(metric["label_extractors"] or {}).values()]
        fields = set(re.findall(r"jsonPayload\.(\w+)", " ".join(texts)))
        for message in re.findall(r'jsonPayload\.message="(.*?)"', metric["filter"]):
            for line in process.logged(message):
                assert fields <= line.keys(), address
                read.add(metric["name"].partition("/")[2])
    assert read == {"deleted", "would_delete", "freed_bytes", "refused", "failed", "run_seconds"}
