"""Fixtures: the function with the settings that a test wants, and what importing it changes put back."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.emulator import Emulator
from tests.support.served import SETTINGS, Kitchen, Served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importing ``main`` sets logging up for the whole process and takes ``WORKERS`` out of the environment."""
    root, cleaner = logging.getLogger(), logging.getLogger("cleaner")
    handlers, levels = root.handlers[:], (root.level, cleaner.level)
    for name in list(os.environ):
        if name in SETTINGS or name.startswith(("GOOGLE_", "LOG_")):
            monkeypatch.delenv(name)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    cleaner.setLevel(levels[1])
    sys.modules.pop("main", None)


@pytest.fixture
def kitchen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kitchen]:
    with Emulator() as emulator:
        yield Kitchen(emulator, capsys, monkeypatch)


@pytest.fixture
def served(kitchen: Kitchen) -> Served:
    return kitchen.serve()
