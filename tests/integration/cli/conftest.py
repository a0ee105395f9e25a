"""Fixtures: calls of the command line for a registry."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.emulator import Emulator
from tests.support.command_line import Operator


@pytest.fixture
def operator(
    registry: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Operator]:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "CLOUDSDK_")) or name in ("INSECURE_REGISTRIES", "RUNNING_SCOPES"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    registry.reset()
    yield Operator(registry, capsys, monkeypatch)
    registry.reset()
