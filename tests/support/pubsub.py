"""Pub/Sub's emulator, and what stands between it and the function."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import requests

from tests.support.deliveries import TOPIC, topic_path
from tests.support.processes import DEADLINE_S, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The default, 10 minutes for a push subscription's handler: the emulator would deliver again what is still at work.
_ACK_DEADLINE_S: Final = 600


def pubsub_command() -> Path | None:
    """The Cloud SDK's Pub/Sub emulator, or None where it is not installed.

    The SDK is where ``CLOUDSDK_ROOT_DIR`` says; without it, around ``gcloud`` on the path or where packages put it.
    """
    roots = [Path("/usr/lib/google-cloud-sdk"), Path("/usr/share/google-cloud-sdk")]
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        roots.insert(0, Path(gcloud).resolve().parent.parent)
    if "CLOUDSDK_ROOT_DIR" in os.environ:
        roots = [Path(os.environ["CLOUDSDK_ROOT_DIR"])]
    found = (root / "platform" / "pubsub-emulator" / "bin" / "cloud-pubsub-emulator" for root in roots)
    return next((path for path in found if path.is_file()), None)


class PubSub(Server):
    """Pub/Sub's emulator.  Each user takes a project of its own."""

    def __init__(self, command: Path) -> None:
        self.port = free_port()
        # It lives for seconds: what the compiler could gain would cost more.
        environment = {**os.environ, "JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
        super().__init__("Pub/Sub's emulator", [str(command), "--host=127.0.0.1", f"--port={self.port}"], environment)
        self._session = requests.Session()
        self._session.trust_env = False

    def create_topic(self, project: str, topic: str = TOPIC) -> None:
        self._ask("PUT", f"projects/{project}/topics/{topic}", {})

    def subscribe(self, project: str, endpoint: str | None, topic: str = TOPIC, name: str = "push") -> None:
        """Push the topic's messages to ``endpoint``; without one they wait to be pulled."""
        document = {
            "topic": f"projects/{project}/topics/{topic}",
            "ackDeadlineSeconds": _ACK_DEADLINE_S,
            "pushConfig": {"pushEndpoint": endpoint} if endpoint else {},
        }
        self._ask("PUT", f"projects/{project}/subscriptions/{name}", document)

    def unsubscribe(self, project: str, name: str = "push") -> None:
        self._ask("DELETE", f"projects/{project}/subscriptions/{name}", None)

    def publish(
        self,
        project: str,
        messages: Iterable[bytes],
        topic: str = TOPIC,
        attributes: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Publish messages with these data, each with ``attributes``; return their ids."""
        more = {"attributes": dict(attributes)} if attributes else {}
        document = {"messages": [{"data": base64.b64encode(data).decode(), **more} for data in messages]}
        answer = self._ask("POST", f"projects/{project}/topics/{topic}:publish", document)
        ids = answer["messageIds"]
        assert isinstance(ids, list)
        return ids

    def pull(self, project: str, name: str) -> list[bytes]:
        """The data of the messages that wait to be pulled; they are acknowledged."""
        path = f"projects/{project}/subscriptions/{name}"
        received = self._ask("POST", f"{path}:pull", {"maxMessages": 1000, "returnImmediately": True})
        messages = received.get("receivedMessages", [])
        assert isinstance(messages, list)
        if messages:
            self._ask("POST", f"{path}:acknowledge", {"ackIds": [one["ackId"] for one in messages]})
        return [base64.b64decode(one["message"]["data"]) for one in messages]

    def stop(self) -> None:
        self._session.close()
        super().stop()

    def _ask(self, method: str, path: str, document: object) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.port}/v1/{path}"
        answer = self._session.request(method, url, json=document, timeout=DEADLINE_S)
        answer.raise_for_status()
        decoded = answer.json()
        assert isinstance(decoded, dict)
        return decoded


@dataclass(slots=True)
class Delivered:
    """One request of Pub/Sub's; ``status`` is the function's answer, 0 where there was none, None before it."""

    message_id: str
    path: str
    body: bytes
    status: int | None = None

    @property
    def acknowledged(self) -> bool:
        # Pub/Sub's documentation, "Receive push messages".
        return self.status in (102, 200, 201, 202, 204)


@dataclass(slots=True)
class Gateway:
    """Stands between Pub/Sub and the function, hands everything on as it is, and keeps record of it.

    It tells what was acknowledged, which Pub/Sub's emulator does not.
    """

    port: int
    deliveries: list[Delivered] = field(default_factory=list)
    _server: http.server.ThreadingHTTPServer = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{topic_path(TOPIC)}"

    def of(self, message_id: str) -> list[Delivered]:
        """How often and how a message was delivered."""
        return [one for one in list(self.deliveries) if one.message_id == message_id]

    def acknowledged(self, message_ids: Iterable[str]) -> bool:
        """Whether each of the messages has been."""
        return {one.message_id for one in list(self.deliveries) if one.acknowledged} >= set(message_ids)

    def forward(self, delivered: Delivered) -> int:
        """Hand one delivery on to the function; return its answer's status, 0 if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("POST", delivered.path, delivered.body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(gateway: Gateway) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            delivered = Delivered(json.loads(body)["message"]["messageId"], self.path, body)
            gateway.deliveries.append(delivered)
            delivered.status = gateway.forward(delivered)
            if not delivered.status:
                self.close_connection = True
                return
            self.send_response(delivered.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
