"""The function's packages are pinned with hashes and used, and it loads no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.support.sources import SOURCES, imports, loaded_by

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the function imports.
DIRECT: list[str] = PROJECT["dependencies"]
# What is deployed: each pin and its hashes.
PINNED = (ROOT / "requirements.txt").read_text().replace("\\\n", "").splitlines()
PINNED = [line for line in PINNED if line and not line.lstrip().startswith("#")]
DEPLOYED_PYTHON = "3.13"
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# A package that shares its top-level name with others.
IMPORTED_AS = {
    "google-auth": "google.auth",
    "google-cloud-artifact-registry": "google.cloud.artifactregistry_v1",
    "google-cloud-monitoring-dashboards": "google.cloud.monitoring_dashboard_v1",
    "google-cloud-pubsub": "google.cloud.pubsub_v1",
}
# Flask loads them for itself.
FLASKS = {"click", "jinja2"}
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


def needed_by(requirement: Requirement) -> Iterator[Requirement]:
    """Yield what an installed package needs where the function runs, with the extras that are asked for."""
    there = {name: str(value) for name, value in default_environment().items()}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    there |= {"python_version": DEPLOYED_PYTHON, "python_full_version": f"{DEPLOYED_PYTHON}.0"}
    for line in requires(requirement.name) or []:
        needed = Requirement(line)
        marker = needed.marker
        if marker is None or any(marker.evaluate({**there, "extra": extra}) for extra in ("", *requirement.extras)):
            yield needed


@pytest.mark.parametrize("line", DIRECT)
def test_requirement_is_pinned(line: str) -> None:
    """The deployed versions are the tested ones."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==[0-9]+(?:\.[0-9]+)*", line)


@pytest.mark.parametrize("line", PINNED)
def test_deployed_package_is_pinned_with_hashes(line: str) -> None:
    """The build installs these files or fails; pip refuses a file without a hash as soon as one package has one."""
    assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+( +--hash=sha256:[0-9a-f]{64})+", line)


@pytest.mark.parametrize("line", PINNED)
def test_deployed_version_is_the_tested_one(line: str) -> None:
    """What is installed here is what is deployed."""
    pin = Requirement(line.split(" ")[0])

    assert str(pin.specifier) == f"=={version(pin.name)}"


def test_deployed_packages_are_those_that_are_needed() -> None:
    """What the function imports, what that needs in turn, and nothing else."""
    needed, pending = set[str](), [Requirement(line) for line in DIRECT]
    seen = set[str]()
    while pending:
        requirement = pending.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            needed.add(name_of(requirement.name))
            pending.extend(needed_by(requirement))

    assert [name_of(line) for line in PINNED] == sorted(needed)
    assert set(DIRECT) <= {line.split(" ")[0] for line in PINNED}


def test_packages_are_pinned_for_the_python_of_the_function() -> None:
    """Another Python may need other packages."""
    runtime = f"python{DEPLOYED_PYTHON.replace('.', '')}"

    assert f'runtime           = "{runtime}"' in (ROOT / "terraform" / "function.tf").read_text()
    assert f"--python-version {DEPLOYED_PYTHON} " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("line", [line for lines in EXTRAS.values() for line in lines])
def test_extra_is_pinned(line: str) -> None:
    """A new version of a package must not make tests fail."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==[0-9]+(?:\.[0-9]+)*", line)


def test_requirements_are_sorted_and_each_once() -> None:
    """A change is then a change of one line."""
    assert [name_of(line) for line in DIRECT] == sorted({name_of(line) for line in DIRECT})


@pytest.mark.parametrize("package", [name_of(line) for line in DIRECT])
def test_requirement_is_imported_by_what_the_function_loads(package: str) -> None:
    """An unused package only adds risk."""
    imported = {name for module in loaded_by("main") for name in imports(SOURCES[module])}

    assert imported & imported_as(package)


def test_packages_of_the_command_line_are_not_requirements() -> None:
    """They are extras; no package is both."""
    needed = {name_of(line) for line in DIRECT}

    for lines in EXTRAS.values():
        assert needed.isdisjoint(map(name_of, lines))


def test_importing_the_function_loads_no_extra() -> None:
    """Nor a package that only few messages or deployments need; it is imported in a process of its own."""
    code = "import json, sys, main; print(json.dumps(sorted(sys.modules)))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
    environment |= {"POLICIES": '[{"repositories": ["gcr.io/acme/*"]}]', "LOG_LEVEL": "WARNING"}

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)

    loaded = set(json.loads(done.stdout))
    assert {"main", "cleaner.function", "requests", "re2"} <= loaded
    assert not {module for module in loaded if module.startswith(("cleaner.cli", "cleaner.inputs", "cleaner.views"))}
    assert SOURCES.keys() >= SELDOM
    assert loaded & SELDOM == set()
    assert not loaded & {"google.auth", "google.cloud.pubsub_v1"}
    packages = {name_of(line) for lines in EXTRAS.values() for line in lines}
    forbidden = {name for package in packages for name in imported_as(package)}
    assert {"rich", "yaml", "hypothesis", "jsonschema", *FLASKS} <= forbidden
    assert loaded & forbidden == FLASKS
