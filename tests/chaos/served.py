"""What functions-framework serves in a round: ``main.py`` with the shortened time constants."""

from __future__ import annotations

import os

import main
from cleaner.function import Function
from cleaner.settings import Settings
from tests.chaos.tuning import shortened

main._function = Function(Settings.from_environment(os.environ), shortened(float(os.environ["PLAN_MAX_AGE_S"])))

prune = main.prune
