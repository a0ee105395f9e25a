"""Messages as Pub/Sub delivers them to a function."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

import requests

from tests.support.processes import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC: Final = "gcr"


@dataclass(frozen=True)
class Event:
    """A CloudEvent as the framework passes it to the function."""

    data: object
    attributes: Mapping[str, object] = field(default_factory=dict)

    def get(self, key: str) -> object:
        return self.attributes.get(key)


class Shape(Enum):
    """The ways in which a message reaches a function."""

    EVENTARC = "eventarc"
    PUSH = "push"
    EMULATOR = "emulator"


def topic_path(topic: str, project: str = "demo") -> str:
    return f"/projects/{project}/topics/{topic}"


_ids = itertools.count(1)


def envelope(
    data: bytes,
    shape: Shape = Shape.EMULATOR,
    *,
    project: str = "demo",
    published: datetime | None = None,
    attempt: int | None = None,
) -> dict[str, object]:
    """The push request's body for one message, spelled as the sender of ``shape`` does.

    ``attempt`` is the number of the delivery, which Pub/Sub counts if the subscription has a dead-letter topic.
    """
    number = str(next(_ids))
    time_ = (published or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message: dict[str, object] = {"data": base64.b64encode(data).decode(), "messageId": number, "publishTime": time_}
    if shape is Shape.EMULATOR:
        message["attributes"] = {}
    if shape is not Shape.EVENTARC:
        message |= {"message_id": number, "publish_time": time_}
    document: dict[str, object] = {"message": message, "subscription": f"projects/{project}/subscriptions/push"}
    if attempt is not None:
        document["deliveryAttempt"] = attempt
    return document


def request_of(
    data: bytes,
    shape: Shape = Shape.EMULATOR,
    *,
    topic: str = TOPIC,
    project: str = "demo",
    published: datetime | None = None,
    attempt: int | None = None,
) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of the POST that delivers one message."""
    document = envelope(data, shape, project=project, published=published, attempt=attempt)
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
