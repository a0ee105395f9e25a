"""The function behind a test client, as functions-framework serves it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import functions_framework
import pytest
from cloudevents.http import CloudEvent

from tests.emulator import Emulator
from tests.emulator.images import image, load
from tests.support.builders import one_rule
from tests.support.deliveries import Shape, request_of
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import flask
    from flask.testing import FlaskClient

PATH = "acme/api"

SETTINGS = ("DRY_RUN", "INSECURE_REGISTRIES", "LOG_LEVEL", "POLICIES", "REQUESTS_TOPIC", "TIME_LIMIT", "WORKERS")
OLD = timedelta(days=30)


@dataclass(slots=True)
class Served:
    """The function behind a test client, and the registry that it prunes."""

    emulator: Emulator
    client: FlaskClient
    capture: pytest.CaptureFixture[str]
    call: Callable[[CloudEvent], None]
    # What was logged at the start, and since then.
    started: list[dict[str, object]]
    log: list[dict[str, object]] = field(default_factory=list)

    @property
    def repository(self) -> str:
        return self.emulator.name(PATH)

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        status = self.client.post(path, headers=dict(headers), data=body).status_code
        self.log += _records(self.capture)
        return status

    def send(
        self,
        document: object,
        shape: Shape = Shape.EVENTARC,
        *,
        topic: str = "gcr",
        published: datetime | None = None,
        attempt: int | None = None,
    ) -> int:
        """Deliver one message; return the status of the answer."""
        data = json.dumps(document).encode()
        return self.post(*request_of(data, shape, topic=topic, published=published, attempt=attempt))

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
        policies = [{"repositories": [f"{self.emulator.host}/acme/*"], **one_rule(1, 1, match="build-[0-9]")}]
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
        call = sys.modules["main"].prune
        return Served(self.emulator, app.test_client(), self.capture, call, _records(self.capture))


def _records(capture: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]
