"""How notifications reach the function: by Pub/Sub's emulator, or by requests like its own."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

import requests

from tests.support.deliveries import TOPIC, deliver, topic_path
from tests.support.function import FunctionProcess
from tests.support.pubsub import PubSub

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT: Final = "demo"
# The topic for requests; who may push images cannot publish there.
REQUESTS: Final = "requests"


class Publisher(Protocol):
    """Takes notifications to the function, again and again until they are acknowledged."""

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        """Publish; it does not wait for anything to come of it."""


class ByPubSub:
    """Pub/Sub's emulator with two topics, ``gcr`` and one for requests, that push to the function."""

    def __init__(self, pubsub: PubSub, function: FunctionProcess) -> None:
        self._pubsub = pubsub
        for topic in (TOPIC, REQUESTS):
            pubsub.create_topic(PROJECT, topic)
            pubsub.subscribe(PROJECT, function.url + topic_path(topic, PROJECT), topic, name=topic)

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        self._pubsub.publish(PROJECT, [json.dumps(one).encode() for one in notifications])

    def order(self, request: str) -> None:
        """Publish to the topic for requests."""
        self._pubsub.publish(PROJECT, [request.encode()], REQUESTS)


class ByItself:
    """Sends the requests that Pub/Sub would."""

    def __init__(self, function: FunctionProcess, stack: ExitStack) -> None:
        self._url = function.url
        self._over = threading.Event()
        self._pool = stack.enter_context(ThreadPoolExecutor(8))
        # What is under way ends with the function, so it goes before the pool waits.
        stack.callback(function.stop)
        stack.callback(self._over.set)

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        for one in notifications:
            self._pool.submit(self._deliver, json.dumps(one).encode())

    def _deliver(self, data: bytes) -> None:
        while not self._over.is_set():
            try:
                if deliver(self._url, data) == requests.codes.ok:
                    return
            except requests.RequestException:
                pass
            # As often as Pub/Sub's emulator.
            self._over.wait(1)
