"""What functions-framework serves in a round: ``main.py`` with the shortened time constants."""

from __future__ import annotations

import os

import main
from cleaner.function import Function
from cleaner.settings import Settings
from tests.chaos.tuning import TIMING, timing_of

main._function = Function(Settings.from_environment(os.environ), timing_of(os.environ[TIMING]))

prune = main.prune
