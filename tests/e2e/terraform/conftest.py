"""Fixtures: a copy of the module, and its plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.terraform import EVERYTHING, MINIMAL, copy_module, initialise, make_plan


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the module and of what it deploys, with its providers."""
    home = copy_module(tmp_path_factory.mktemp("copy"))
    initialise(home)
    return home


@pytest.fixture(scope="session")
def minimal(module: Path) -> dict[str, Any]:
    """The plan with the variables that have no default."""
    return make_plan(module, MINIMAL, "minimal")


@pytest.fixture(scope="session")
def everything(module: Path) -> dict[str, Any]:
    """The plan with everything turned on."""
    return make_plan(module, EVERYTHING, "everything")
