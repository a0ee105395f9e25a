"""Fixtures: a client of the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from tests.emulator import Emulator
from tests.support.emulator_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    with requests.Session() as session:
        yield Client(emulator.url, session)
