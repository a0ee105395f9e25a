"""Fixtures: four repositories, and policies for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.support.sweeping import fill_acme, write_policies


@pytest.fixture
def policies(emulator: Emulator, tmp_path: Path) -> str:
    return write_policies(emulator, tmp_path)


@pytest.fixture
def acme(emulator: Emulator) -> str:
    return fill_acme(emulator)
