"""The function's requirements are pinned and used, and it loads no other packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.sources import SOURCES, imports, loaded_by

ROOT = Path(__file__).parent.parent.parent
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# A package that shares its top-level name with others.
IMPORTED_AS = {
    "google-auth": "google.auth",
    "google-cloud-artifact-registry": "google.cloud.artifactregistry_v1",
    "google-cloud-monitoring-dashboards": "google.cloud.monitoring_dashboard_v1",
    "google-cloud-pubsub": "google.cloud.pubsub_v1",
}
# Flask loads it for itself.
FLASKS = {"jinja2"}
# What only few messages or deployments need.
SELDOM = {
    "cleaner.engine.sweep",
    "cleaner.google.artifact_registry",
    "cleaner.google.inventory",
    "cleaner.google.rest",
    "cleaner.google.running",
}


def name_of(line: str) -> str:
    """Return the package of a line, normalised as package indexes do."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[; ]", line)[0]).lower()


def imported_as(package: str) -> set[str]:
    """Return the top-level modules of a package."""
    if package in IMPORTED_AS:
        return {IMPORTED_AS[package]}
    return {name for name, owners in packages_distributions().items() if package in map(name_of, owners)}


@pytest.mark.parametrize("line", LINES)
def test_requirement_is_pinned(line: str) -> None:
    """The deployed versions are the tested ones."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==[0-9]+(?:\.[0-9]+)*", line)


@pytest.mark.parametrize("line", [line for lines in EXTRAS.values() for line in lines])
def test_extra_is_pinned(line: str) -> None:
    """A new version of a package must not make tests fail."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==[0-9]+(?:\.[0-9]+)*", line)


def test_requirements_are_sorted_and_each_once() -> None:
    """A change is then a change of one line."""
    assert [name_of(line) for line in LINES] == sorted({name_of(line) for line in LINES})


@pytest.mark.parametrize("package", [name_of(line) for line in LINES])
def test_requirement_is_imported_by_what_the_function_loads(package: str) -> None:
    """An unused package only adds risk."""
    imported = {name for module in loaded_by("main") for name in imports(SOURCES[module])}

    assert imported & imported_as(package)


def test_packages_of_the_command_line_are_not_requirements() -> None:
    """They are extras; no package is both."""
    needed = {name_of(line) for line in LINES}

    for lines in EXTRAS.values():
        assert needed.isdisjoint(map(name_of, lines))


def test_importing_the_function_loads_no_extra() -> None:
    """Nor a package that only few messages or deployments need; it is imported in a process of its own."""
    code = "import json, sys, main; print(json.dumps(sorted(sys.modules)))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
    environment["POLICIES"] = '[{"repositories": ["gcr.io/acme/*"]}]'

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)

    loaded = set(json.loads(done.stdout))
    assert {"main", "cleaner.function", "requests", "re2"} <= loaded
    assert not {module for module in loaded if module.startswith("cleaner.cli")}
    assert SOURCES.keys() >= SELDOM
    assert loaded & SELDOM == set()
    assert not loaded & {"google.auth", "google.cloud.pubsub_v1"}
    packages = {name_of(line) for lines in EXTRAS.values() for line in lines}
    forbidden = {name for package in packages for name in imported_as(package)}
    assert {"rich", "yaml", "shtab", "hypothesis", "jsonschema", *FLASKS} <= forbidden
    assert loaded & forbidden == FLASKS
