"""What a laptop stands in with for Google's side: functions-framework, Pub/Sub's emulator, and their deliveries.

Every process is started in a session of its own and ended with all that it has started.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.emulator.store import Manifest, Store

ROOT: Final = Path(__file__).parent.parent.parent
TOPIC: Final = "gcr"
# Long enough for a machine that is busy with something else; nothing waits for it to pass.
DEADLINE_S: Final = 30.0
_PATIENCE_S: Final = 0.01
# How long a process that was asked to end gets.  gunicorn would wait half a minute for its requests.
_GRACE_S: Final = 1.0
# The default, 10 minutes for a push subscription's handler: the emulator would deliver again what is still at work.
_ACK_DEADLINE_S: Final = 600
_COSIGN: Final = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?")


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until ``condition()`` holds.

    Raises:
        AssertionError: It did not within ``timeout_s``.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(_PATIENCE_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Died(AssertionError):
    """A process ended that should be running; the text is what it wrote last."""


class Written:
    """A file that a process writes to, which stays readable when it is closed."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        """The whole lines so far."""
        if self.file.closed:
            return self._lines
        # The process writes where the file's position is, so it must not be moved.
        content = os.pread(self.file.fileno(), os.fstat(self.file.fileno()).st_size, 0)
        return content.decode(errors="replace").split("\n")[:-1]

    def close(self) -> None:
        self._lines = self.lines()
        self.file.close()


class Child:
    """A process, in a session of its own.

    With ``shows`` its stdout is ours, and ``lines`` stay empty.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: Path = ROOT,
        shows: bool = False,
    ) -> None:
        self.name = name
        # Files and not pipes: what was written before an answer is there when the answer is.
        self._out = Written()
        self._err = Written()
        # Once it is gone, its number may be another's.
        self._gone = False
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=None if shows else self._out.file,
            stderr=self._err.file,
            start_new_session=True,
        )

    @property
    def lines(self) -> list[str]:
        """The whole lines on stdout so far."""
        return self._out.lines()

    @property
    def errors(self) -> list[str]:
        """The whole lines on stderr so far."""
        return self._err.lines()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until ``condition()`` holds.

        Raises:
            Died: The process ended first.
            AssertionError: It did not within ``timeout_s``.
        """

        def holds() -> bool:
            if condition():
                return True
            if self.returncode is not None:
                raise Died(f"{self.name} ended with {self.returncode}, before {what}:\n{self.tail()}")
            return False

        try:
            wait_for(holds, what, timeout_s)
        except Died:
            raise
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.name} wrote:\n{self.tail()}") from None

    def wait_for_port(self, port: int, timeout_s: float = DEADLINE_S) -> None:
        self.wait_for(lambda: is_listening(port), f"it listens on port {port}", timeout_s)

    def wait_for_end(self, timeout_s: float = DEADLINE_S) -> int:
        """Return the exit code of a process that ends by itself."""
        return self._process.wait(timeout_s)

    def tail(self) -> str:
        return "\n".join([*self.lines[-20:], *self.errors[-20:]])

    def stop(self) -> None:
        """End the process and whatever it has started; it is gone when this returns."""
        if not self._gone and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """``kill -9`` for the process and whatever it has started."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self._gone = True
            self._out.close()
            self._err.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class FunctionProcess(Child):
    """The function, served by functions-framework as Google does, with these settings and no others."""

    def __init__(self, settings: Mapping[str, str], *, port: int | None = None) -> None:
        self.port = port or free_port()
        environment = inherited() | {"PYTHONUNBUFFERED": "1", **settings}
        options = ["--target", "prune", "--signature-type", "cloudevent", "--host", "127.0.0.1"]
        command = [sys.executable, "-m", "functions_framework", *options, "--port", str(self.port)]
        super().__init__("functions-framework", command, environment)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def push_url(self) -> str:
        """Where a push subscription of the topic ``gcr`` pushes to."""
        return self.url + topic_path(TOPIC)

    @property
    def records(self) -> list[dict[str, object]]:
        """The log so far.

        Raises:
            AssertionError: A line on stdout is no JSON object.
        """
        return [_record(line) for line in self.lines]

    def logged(self, message: str, **facts: object) -> list[dict[str, object]]:
        """The records with this message and these fields."""
        wanted = {"message": message, **facts}
        return [one for one in self.records if all(one.get(key) == value for key, value in wanted.items())]

    def wait_until_up(self) -> Self:
        """Wait until it takes requests; ended, if it never does."""
        try:
            self.wait_for_port(self.port)
        except BaseException:
            self.stop()
            raise
        return self

    def workers(self) -> int:
        """How many processes serve requests."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return len(children.split())


# The settings of whoever runs the tests must not leak in; credentials must not either.
_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


def inherited(*more: str) -> dict[str, str]:
    """What a process of the product may know of our environment; ``more`` are further names."""
    return {name: value for name, value in os.environ.items() if name in (*_PASSED_ON, *more)}


def _record(line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    assert isinstance(record, dict), f"not a JSON object on a line of the log: {line!r}"
    return record


# Pub/Sub's emulator.


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


class PubSub(Child):
    """Pub/Sub's emulator.  Each user takes a project of its own."""

    def __init__(self, command: Path) -> None:
        self.port = free_port()
        # It lives for seconds: what the compiler could gain would cost more.
        environment = {**os.environ, "JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
        super().__init__("Pub/Sub's emulator", [str(command), "--host=127.0.0.1", f"--port={self.port}"], environment)
        self._session = requests.Session()
        self._session.trust_env = False

    def wait_until_up(self) -> Self:
        try:
            self.wait_for_port(self.port)
        except BaseException:
            self.stop()
            raise
        return self

    def create_topic(self, project: str, topic: str = TOPIC) -> None:
        self._ask("PUT", f"projects/{project}/topics/{topic}", {})

    def subscribe(self, project: str, endpoint: str, topic: str = TOPIC, name: str = "push") -> None:
        """Push the topic's messages to ``endpoint``."""
        document = {
            "topic": f"projects/{project}/topics/{topic}",
            "ackDeadlineSeconds": _ACK_DEADLINE_S,
            "pushConfig": {"pushEndpoint": endpoint},
        }
        self._ask("PUT", f"projects/{project}/subscriptions/{name}", document)

    def unsubscribe(self, project: str, name: str = "push") -> None:
        self._ask("DELETE", f"projects/{project}/subscriptions/{name}", None)

    def publish(self, project: str, messages: Iterable[bytes], topic: str = TOPIC) -> list[str]:
        """Publish messages with these data; return their ids."""
        document = {"messages": [{"data": base64.b64encode(data).decode()} for data in messages]}
        answer = self._ask("POST", f"projects/{project}/topics/{topic}:publish", document)
        ids = answer["messageIds"]
        assert isinstance(ids, list)
        return ids

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


# Deliveries.


class Shape(Enum):
    """The ways in which a message reaches a function."""

    EVENTARC = "eventarc"
    PUSH = "push"
    EMULATOR = "emulator"


def topic_path(topic: str, project: str = "demo") -> str:
    return f"/projects/{project}/topics/{topic}"


_ids = itertools.count(1)


def envelope(
    data: bytes, shape: Shape = Shape.EMULATOR, *, project: str = "demo", published: datetime | None = None
) -> dict[str, object]:
    """The push request's body for one message, spelled as the sender of ``shape`` does."""
    number = str(next(_ids))
    time_ = (published or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message: dict[str, object] = {"data": base64.b64encode(data).decode(), "messageId": number, "publishTime": time_}
    if shape is Shape.EMULATOR:
        message["attributes"] = {}
    if shape is not Shape.EVENTARC:
        message |= {"message_id": number, "publish_time": time_}
    document: dict[str, object] = {"message": message, "subscription": f"projects/{project}/subscriptions/push"}
    if shape is Shape.PUSH:
        document["deliveryAttempt"] = 1
    return document


def request_of(
    data: bytes,
    shape: Shape = Shape.EMULATOR,
    *,
    topic: str = TOPIC,
    project: str = "demo",
    published: datetime | None = None,
) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of the POST that delivers one message."""
    document = envelope(data, shape, project=project, published=published)
    headers = {"Content-Type": "application/json"}
    if shape is Shape.EVENTARC:
        headers |= cloudevent_headers(topic, project)
    path = "/" if shape is Shape.EVENTARC else topic_path(topic, project)
    return path, headers, json.dumps(document).encode()


def cloudevent_headers(topic: str = TOPIC, project: str = "demo") -> dict[str, str]:
    """The attributes of an event as Eventarc sends them in binary mode."""
    return {
        "ce-id": str(next(_ids)),
        "ce-source": f"//pubsub.googleapis.com/projects/{project}/topics/{topic}",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }


def deliver(
    url: str,
    data: bytes,
    shape: Shape = Shape.EMULATOR,
    *,
    topic: str = TOPIC,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Deliver one message to the function at ``url`` as ``shape`` does; return the status of the answer."""
    path, made, body = request_of(data, shape, topic=topic)
    answer = requests.post(url + path, data=body, headers={**made, **(headers or {})}, timeout=DEADLINE_S)
    return answer.status_code


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


# What has to hold after whatever happened.


@dataclass(frozen=True, slots=True)
class Held:
    """What a repository held at a moment: each manifest with its parts and its tags."""

    children: Mapping[str, tuple[str, ...]]
    subjects: Mapping[str, frozenset[str]]
    tags: Mapping[str, frozenset[str]]

    @classmethod
    def now(cls, store: Store, repository: str) -> Held:
        manifests = store.manifests(repository)
        return cls(
            {digest: manifest.children for digest, manifest in manifests.items()},
            {digest: _subjects(manifest) for digest, manifest in manifests.items()},
            {digest: frozenset(manifest.tags) for digest, manifest in manifests.items()},
        )

    def whole(self, digest: str) -> set[str]:
        """``digest``, and what belongs to it: children, and what is attached to any of them by subject or tag."""
        found: set[str] = set()
        pending = [digest]
        while pending:
            one = pending.pop()
            if one in found or one not in self.children:
                continue
            found.add(one)
            pending += self.children[one]
            pending += [other for other, subjects in self.subjects.items() if one in subjects]
        return found


def _subjects(manifest: Manifest) -> frozenset[str]:
    by_tag = {f"sha256:{match[1]}" for tag in manifest.tags if (match := _COSIGN.fullmatch(tag))}
    return frozenset(by_tag | ({manifest.subject} if manifest.subject else set()))


def assert_whole(before: Held, store: Store, repository: str, kept: Iterable[str]) -> None:
    """Every image of ``kept`` is as it was ``before``, with its tags and all that belongs to it.

    Besides, nothing that is left has lost a part.
    """
    now = Held.now(store, repository)
    for digest, children in now.children.items():
        lost = [child for child in children if child in before.children and child not in now.children]
        assert not lost, f"{repository}: {digest} has lost {lost}"
    for digest in kept:
        lost = sorted(before.whole(digest) - now.children.keys())
        assert not lost, f"{repository}: {digest} should be whole, and has lost {lost}"
        for part in before.whole(digest):
            assert now.tags[part] >= before.tags[part], f"{repository}: {part} has lost tags"
