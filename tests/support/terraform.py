"""Terraform's plans of the module, and what is read from them.

Everything runs in a copy, so that the working tree stays clean.  No test reaches Google.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "terraform"

MINIMAL: Mapping[str, Any] = {
    "project_id": "acme-prod",
    "region": "us-central1",
    "repositories": ["us-docker.pkg.dev/acme-prod/apps"],
    "policies": [{"repositories": ["us-docker.pkg.dev/acme-prod/apps/**"]}],
}
# Every variable that reaches the function, none at its default.
EVERYTHING: Mapping[str, Any] = {
    "project_id": "example.com:legacy-app",
    "region": "europe-west3",
    "name": "pruner",
    "repositories": ["gcr.io/example.com/legacy-app", "europe-docker.pkg.dev/acme-data/jobs"],
    "policies": [
        {
            "repositories": ["gcr.io/example.com/legacy-app/*/**", "europe-docker.pkg.dev/acme-data/**"],
            "keep": 10,
            "keep_untagged": 0,
            "min_age": "1h30m",
            "max_age": "90d",
            "delete_tags": ["pr-[0-9]+", "(?i)tmp.*"],
            "protect_tags": [r"v\d+(\.\d+)*", "<&>", "naïve"],
            "group_by": "(?P<branch>.+)-[0-9a-f]{7}",
            "max_deletions": 1000,
            "dry_run": True,
        },
        {"repositories": ["gcr.io/example.com/legacy-app/api"], "max_age": None, "group_by": None},
    ],
    "dry_run": False,
    "other_gcr_projects": ["acme-data"],
    "running_scopes": ["organizations/456", "projects/acme-prod", "projects/example.com:legacy-app", "folders/123"],
    "sweep_roots": ["gcr.io/example.com/legacy-app"],
    "request_publishers": ["group:platform@example.com"],
    "workers": 7,
    "concurrency": 11,
    "timeout_seconds": 300,
    "time_limit_seconds": 240,
    "log_level": "DEBUG",
}


def absent(what: str) -> NoReturn:
    """Fail where everything must be there, skip on a machine of somebody who works on something else."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def environment_of(home: Path) -> dict[str, str]:
    return os.environ | {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_DATA_DIR": str(home / ".terraform"),
        # The provider wants some credential before it plans; a plan that only creates asks nobody.
        "GOOGLE_OAUTH_ACCESS_TOKEN": "unused",
    }


def terraform(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform") or "terraform"
    return subprocess.run(
        [program, *arguments], cwd=home, env=environment_of(home), text=True, capture_output=True, check=False
    )


def initialise(home: Path) -> None:
    result = terraform(home, "init", "-backend=false", "-input=false", "-no-color")
    if result.returncode:
        absent(f"terraform init found no providers: {result.stderr}")


def make_plan(home: Path, variables: Mapping[str, Any], name: str, *options: str) -> dict[str, Any]:
    """Return the plan as ``terraform show -json`` gives it."""
    (home / f"{name}.tfvars.json").write_text(json.dumps(variables))
    planned = terraform(
        home, "plan", "-no-color", "-input=false", f"-var-file={name}.tfvars.json", f"-out={name}.plan", *options
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Warning" not in planned.stdout, planned.stdout
    shown = terraform(home, "show", "-json", f"{name}.plan")
    assert shown.returncode == 0, shown.stderr
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def planned_resources(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan["planned_values"]["root_module"]["resources"]


def of_type(plan: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [resource["values"] for resource in planned_resources(plan) if resource["type"] == kind]


def service_of(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    (function,) = of_type(plan, "google_cloudfunctions2_function")
    service: Mapping[str, Any] = function["service_config"][0]
    return service
