"""Fixtures: an emulator, started once for a module, and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from tests.emulator import Emulator
from tests.support.emulator_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def started() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(started: Emulator) -> Emulator:
    started.reset()
    return started


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    with requests.Session() as session:
        yield Client(emulator.url, session)
