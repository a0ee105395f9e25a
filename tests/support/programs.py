"""Programs that tests need and the virtual environment does not bring."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """Fail where everything must be there, skip on a machine of somebody who works on something else."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def required(*names: str) -> str:
    """The path of a program that tests cannot do without; its first name that is found."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        absent(f"{names[0]} is not installed")
    return found
