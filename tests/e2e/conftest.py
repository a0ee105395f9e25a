"""Fixtures: Pub/Sub's emulator, started once for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.programs import absent
from tests.support.pubsub import PubSub, pubsub_command


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    command = pubsub_command()
    if command is None:
        absent("the Cloud SDK's Pub/Sub emulator is not installed")
    with PubSub(command) as started:
        yield started.wait_until_up()
