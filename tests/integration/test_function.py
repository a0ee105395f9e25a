"""The function, called with messages: what it protects for them, and what it logs and acknowledges."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cleaner.core.reference import Digest
from cleaner.function import Function
from cleaner.settings import Settings
from tests.emulator.faults import Before, Delay
from tests.emulator.images import image, index, load
from tests.support.builders import one_rule
from tests.support.deliveries import Event, envelope

if TYPE_CHECKING:
    from tests.emulator import Emulator
    from tests.emulator.images import Content
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

NAME = "acme/api"


def function(emulator: Emulator) -> Function:
    """Return the function with a policy that deletes everything that is a day old."""
    policy = {"repositories": [f"{emulator.host}/**"], **one_rule(delete_after="1d")}
    return Function(
        Settings.from_environment(
            {"POLICIES": json.dumps([policy]), "DRY_RUN": "false", "INSECURE_REGISTRIES": emulator.host}
        )
    )


def push(emulator: Emulator, **names: str) -> Event:
    """Return the message of a push that names ``digest``, ``tag`` or both."""
    spelled = {"digest": "{}@{}", "tag": "{}:{}"}
    fields = {key: spelled[key].format(emulator.name(NAME), value) for key, value in names.items()}
    return Event(envelope(json.dumps({"action": "INSERT", **fields}).encode()))


def load_old(emulator: Emulator, content: Content, tags: tuple[str, ...] = ()) -> Digest:
    """Put ``content`` and what it lists into the repository, uploaded a month ago."""
    uploaded = datetime.now(UTC) - timedelta(days=30)
    return Digest(load(emulator.store, emulator.name(NAME), content, tags=tags, uploaded=uploaded))


def left(emulator: Emulator) -> set[str]:
    return set(emulator.store.digests(emulator.name(NAME)))


@pytest.mark.parametrize("names", ["digest", "tag"])
def test_manifest_that_the_message_names_is_kept_as_just_pushed(
    emulator: Emulator, logged: Logged, names: str
) -> None:
    """By its digest, or by a tag that it has; another image with the same age is deleted."""
    pushed = load_old(emulator, image("pushed"), ("v1",))
    load_old(emulator, image("other"), ("v2",))

    function(emulator).handle(push(emulator, **{names: {"digest": pushed, "tag": "v1"}[names]}))

    assert left(emulator) == {pushed}
    (finished,) = logged("prune finished")
    assert finished["reasons"] == {"just-pushed": 1, "expired": 1}


def test_tag_that_a_waiting_message_names_is_kept(emulator: Emulator, logged: Logged) -> None:
    """It is delivered while the run of another message lists the repository; that run covers it."""
    pushed = load_old(emulator, image("pushed"), ("v1",))
    load_old(emulator, image("other"), ("v2",))
    under_test = function(emulator)
    waiting = threading.Thread(target=under_test.handle, args=(push(emulator, tag="v1"),))
    emulator.faults.add(Before(waiting.start), kind="tags_list", nth=1)
    emulator.faults.add(Delay(0.5, after=True), kind="tags_list", nth=1)

    under_test.handle(push(emulator, tag="v3"))
    waiting.join()

    assert left(emulator) == {pushed}
    (finished,) = logged("prune finished")
    assert finished["reasons"] == {"just-pushed": 1, "expired": 1}
    assert len(logged("already covered")) == 1


def test_registry_that_deletes_a_kept_child_is_logged_and_acknowledged(emulator: Emulator, logged: Logged) -> None:
    """The run stops for good: another delivery would only delete more."""
    child = image("child")
    parent = load_old(emulator, index([child]))
    emulator.behaviour.index_takes_children = True
    under_test = function(emulator)

    under_test.handle(push(emulator, digest=child.digest))

    (record,) = logged("kept manifest is gone")
    assert record["levelno"] == logging.ERROR
    assert record["repository"] == emulator.name(NAME)
    assert (record["digest"], record["index"]) == (child.digest, parent)
    assert logged("prune failed") == []
