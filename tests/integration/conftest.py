"""Fixtures: a registry that is started once for a module, for tests that set the emulator itself up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator import Emulator


@pytest.fixture(scope="module")
def registry() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(registry: Emulator) -> Iterator[Emulator]:
    registry.reset()
    yield registry
    registry.reset()
