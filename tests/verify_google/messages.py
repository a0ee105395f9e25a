"""What the topic ``gcr`` announces: the messages of a subscription about what was pushed and deleted here."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from tests.verify_google.google import Failed, check
from tests.verify_google.question import question
from tests.verify_google.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable

_PUSHES: Final = ("docs/design.md", "Google publishes each push on the Pub/Sub topic `gcr`")
_PULL_TIMEOUT_S: Final = 5
_MESSAGES_MAX: Final = 100
# Of the time that messages may take: how long nothing has to come after the last one.
_QUIET_SHARE: Final = 0.5


class Subscription:
    """A subscription of the topic ``gcr``; messages about other repositories are left to others."""

    def __init__(self, name: str) -> None:
        from google.cloud import pubsub_v1

        self._name = name
        self._client = pubsub_v1.SubscriberClient()

    def collect(self, is_ours: Callable[[dict[str, Any]], bool], wait_s: float) -> list[Any]:
        """Return the messages for whose data ``is_ours`` holds, and acknowledge those.

        Returns when none came for half of ``wait_s``, after ``wait_s`` at the latest if none came at all.

        Raises:
            Failed: Pub/Sub refuses.
        """
        import google.api_core.exceptions
        import google.auth.exceptions

        try:
            return self._collect(is_ours, wait_s)
        except (google.api_core.exceptions.GoogleAPIError, google.auth.exceptions.GoogleAuthError) as error:
            raise Failed(f"{self._name}: {type(error).__name__}") from error

    def _collect(self, is_ours: Callable[[dict[str, Any]], bool], wait_s: float) -> list[Any]:
        found = []
        others: list[list[str]] = []
        end = time.monotonic() + wait_s
        try:
            while time.monotonic() < end:
                pulled = self._pull()
                ours = [one for one in pulled if is_ours(_data(one.message))]
                others.append([one.ack_id for one in pulled if one not in ours])
                if ours:
                    self._client.acknowledge(subscription=self._name, ack_ids=[one.ack_id for one in ours])
                    end = time.monotonic() + wait_s * _QUIET_SHARE
                found += [one.message for one in ours]
        finally:
            for ack_ids in filter(None, others):
                # They are delivered again at once.
                self._client.modify_ack_deadline(subscription=self._name, ack_ids=ack_ids, ack_deadline_seconds=0)
        return found

    def _pull(self) -> list[Any]:
        import google.api_core.exceptions

        try:
            pulled = self._client.pull(
                subscription=self._name, max_messages=_MESSAGES_MAX, timeout=_PULL_TIMEOUT_S, retry=None
            )
        except google.api_core.exceptions.DeadlineExceeded:
            return []
        return list(pulled.received_messages)


def _data(message: Any) -> dict[str, Any]:
    """Return the JSON object in a message; an empty one if there is none."""
    try:
        data = json.loads(message.data)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _announced(scratch: Scratch, digest: str, tag: str, is_wanted: Callable[[dict[str, Any]], bool]) -> str:
    """Return what the wanted messages about ``scratch`` say: action and fields of each, and attributes if it has any.

    A field that does not name ``digest`` or ``tag`` as expected is followed by its value.
    """
    right = {"digest": f"{scratch.repository}@{digest}", "tag": f"{scratch.repository}:{tag}"}
    # Without the host and the project: a gcr.io repository has two names.
    name = "/".join(scratch.repository.path.split("/")[-2:])

    def is_ours(data: dict[str, Any]) -> bool:
        named = f"{data.get('digest', '')} {data.get('tag', '')}"
        return f"/{name}@" in named or f"/{name}:" in named

    found = set()
    assert scratch.subscription is not None, "without one it is not asked"
    for message in scratch.subscription.collect(is_ours, scratch.wait_s):
        data = _data(message)
        if not is_wanted(data):
            continue
        fields = [
            key if data[key] == right.get(key) else f"{key}={data[key]}" for key in sorted(data.keys() - {"action"})
        ]
        attributes = f" (attributes: {', '.join(sorted(message.attributes))})" if message.attributes else ""
        found.add(f"{data.get('action')} {' '.join(fields)}{attributes}")
    return ", ".join(sorted(found)) or f"nothing within {scratch.wait_s:g} s"


@question(
    "What does topic gcr say of a push by tag?",
    expects="INSERT digest, INSERT digest tag",
    place=_PUSHES,
    needs_subscription=True,
)
def announced_push(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content, "v1")
    return _announced(scratch, content.digest, "v1", lambda _: True)


@question(
    "What does topic gcr say of a new tag of a known digest?",
    expects="INSERT digest tag",
    place=_PUSHES,
    needs_subscription=True,
)
def announced_tag(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content, "v1")
    scratch.push(content, "v2")
    return _announced(scratch, content.digest, "v2", lambda data: str(data.get("tag", "")).endswith(":v2"))


@question(
    "What does topic gcr say of the deletion of a tag and of a digest?",
    expects="DELETE digest, DELETE tag",
    place=("docs/operations.md", "`deletion announced` | DEBUG"),
    needs_subscription=True,
)
def announced_deletion(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content, "v1")
    for reference in ("v1", content.digest):
        check(scratch.delete(reference))
    return _announced(scratch, content.digest, "v1", lambda data: data.get("action") != "INSERT")


QUESTIONS: Final = (announced_push, announced_tag, announced_deletion)
