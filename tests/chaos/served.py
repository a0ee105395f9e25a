"""What functions-framework serves in a round: ``main.py`` with the shortened time constants."""

from __future__ import annotations

import os

from cleaner.function import Function
from cleaner.settings import Settings
from tests.chaos.tuning import TIMING, timing_of

# ``main`` takes ``WORKERS`` out of the environment.
_function = Function(Settings.from_environment(os.environ), timing_of(os.environ[TIMING]))

import main  # noqa: E402

main._function = _function

prune = main.prune
