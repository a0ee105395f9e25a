"""Fixtures: Pub/Sub's emulator, started once for a module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.pubsub import PubSub, pubsub_command


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    command = pubsub_command()
    if command is None:
        reason = "the Cloud SDK's Pub/Sub emulator is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with PubSub(command) as started:
        yield started.wait_until_up()
