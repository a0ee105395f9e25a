"""The globs and the repositories that a plan warns of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cleaner.core.glob import Glob
from tests.support.terraform import MINIMAL, terraform

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

REPOSITORIES = (
    "us-docker.pkg.dev/acme-prod/apps",
    "us-docker.pkg.dev/example.com/legacy-app/apps",
    "us-docker.pkg.dev/acme-prod/gcf-artifacts",
    "gcr.io/acme-prod",
    "eu.gcr.io/example.com/legacy-app",
)
GLOBS = (
    "**",
    "*/**",
    "*/*/*",
    "*/*/*/*/*/*",
    "**/api",
    "**/apps/**",
    "*gcr.io/**",
    "*-docker.pkg.dev/**",
    "us-docker.pkg.dev/**",
    "us-docker.pkg.dev/acme-prod/**",
    "us-docker.pkg.dev/acme-prod/apps/*",
    "us-docker.pkg.dev/acme-prod/apps/team/**",
    "us-docker.pkg.dev/acme-prod/app/**",
    "us-docker.pkg.dev/acme-prod/app*/**",
    "us-docker.pkg.dev/acme-prod/*s/api-*",
    "us-docker.pkg.dev/acme-prod/foo*/**",
    "us-docker.pkg.dev/acme-prod/gcf-artifacts/**",
    "us-docker.pkg.dev/acme-prod/gcf-*/**",
    "us-docker.pkg.dev/*/gcf-artifacts/*",
    "us-docker.pkg.dev/**/gcf-artifacts/*",
    "us-docker.pkg.dev/*/legacy-app/apps",
    "us-docker.pkg.dev/*/legacy-app/apps/**",
    "us-docker.pkg.dev/example.com/legacy-app/apps/**",
    "us-docker.pkg.dev/example.com/*/**",
    "us-docker.pkg.dev/examplexcom/**",
    "europe-docker.pkg.dev/acme-prod/**",
    "europe-docker.pkg.dev/acme-prod/gcr.io/**",
    "gcr.io/acme-prod/api",
    "gcr.io/acme-prod/*",
    "gcr.io/acme-prod/**",
    "gcr.io/acme-*/**",
    "gcr.io/other-prod/**",
    "eu.gcr.io/*/legacy-app",
    "eu.gcr.io/example.com/legacy-app/api",
    "eu.gcr.io/example.com/**",
    "eu.gcr.io/**/legacy-app",
    "us.gcr.io/**",
)


def _warnings(home: Path, variables: Mapping[str, Any]) -> list[str]:
    """Return what a plan warns of."""
    (home / "warned.tfvars.json").write_text(json.dumps(variables))
    result = terraform(home, "plan", "-json", "-input=false", "-var-file=warned.tfvars.json")
    assert result.returncode == 0, result.stdout
    messages = map(json.loads, result.stdout.splitlines())
    return [message["diagnostic"]["detail"] for message in messages if message["@level"] == "warn"]


def _images(glob: str, repository: str) -> Iterator[str]:
    """Yield names of images in ``repository``, among them one that ``glob`` matches if any does."""
    segments = re.sub(r"[*]+", "x", glob).split("/")
    for start in range(len(segments)):
        yield "/".join([repository, *segments[start:]])
    # As many segments as the glob has.
    yield "/".join([repository, *"xxxxxx"[: max(1, len(segments) - repository.count("/") - 1)]])


def test_plan_warns_of_the_globs_that_match_nothing(module: Path) -> None:
    """The plan names those by which the function matches no image in any repository, and no others."""
    dead = [
        f"policies[1].repositories[{position}] ({glob})"
        for position, glob in enumerate(GLOBS)
        if not any(Glob.parse(glob).matches(image) for place in REPOSITORIES for image in _images(glob, place))
    ]
    assert {"us-docker.pkg.dev/acme-prod/foo*/**", "us-docker.pkg.dev/*/legacy-app/apps"} < {
        GLOBS[int(re.findall(r"\d+", one)[1])] for one in dead
    }

    policies = [{"repositories": ["gcr.io/acme-prod/api/**"]}, {"repositories": GLOBS}]
    (warning,) = _warnings(module, {**MINIMAL, "repositories": REPOSITORIES, "policies": policies})

    named = re.search(r"of `repositories`: (.*)\.  ", warning)
    assert named
    assert sorted(named[1].split(", ")) == sorted(dead)


def test_plan_warns_of_the_repositories_in_which_nothing_matches(module: Path) -> None:
    """A wildcard matches no images of functions."""
    policies = [{"repositories": ["gcr.io/**", "us-docker.pkg.dev/*/gcf*/**"]}]
    *_, warning = _warnings(module, {**MINIMAL, "repositories": REPOSITORIES, "policies": policies})

    named = re.search(r"an image in (.*?): ", warning)
    assert named
    assert set(named[1].split(", ")) == set(REPOSITORIES) - {"gcr.io/acme-prod"}
