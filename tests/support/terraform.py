"""Terraform's plans of the module, and what is read from them.

Everything runs in a copy, so that the working tree stays clean.  No test reaches Google.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.programs import absent, required

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "terraform"
POLICIES = SOURCE / "modules" / "policies"

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
            "min_age": "1h30m",
            "tagged": [
                {"match": [r"v\d+(\.\d+)+", "<&>", "naïve"], "keep": "all"},
                {"match": ["pr-([0-9]+)", "(?i)tmp.*"], "keep": 0, "keep_within": "7d"},
                {"match": "(?P<branch>.+)-[0-9a-f]{7}", "keep": 10, "delete_after": "90d", "order": "version"},
            ],
            "untagged": {"keep": 0},
            "orphans": {"keep": "all", "delete_after": "30d"},
            "max_deletions": 1000,
            "dry_run": True,
        },
        {
            "repositories": ["gcr.io/example.com/legacy-app/api"],
            "min_age": None,
            "tagged": [{"match": "latest", "keep": 3, "keep_within": None, "order": None}],
            "untagged": None,
            "max_deletions": None,
        },
    ],
    "dry_run": False,
    "other_gcr_projects": ["acme-data"],
    "running_scopes": ["organizations/456", "projects/acme-prod", "projects/example.com:legacy-app", "folders/123"],
    "sweep_roots": ["all"],
    "request_publishers": ["group:platform@example.com"],
    "workers": 7,
    "concurrency": 11,
    "timeout_seconds": 300,
    "time_limit_seconds": 240,
    "log_level": "DEBUG",
    "notification_channels": ["projects/acme-ops/notificationChannels/1"],
    "notification_emails": ["ops@example.com"],
    "alert_deletions_per_hour": 500,
}

# Terraform's time grows faster than the number of modules.
_TOGETHER = 50
_HEADING = "Mistakes in policies:"


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


def copy_module(home: Path) -> Path:
    """Copy the module and what it deploys to ``home``, as a checkout has them; return the module's place."""
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*", "__pycache__")
    for folder in ("terraform", "cleaner"):
        shutil.copytree(ROOT / folder, home / folder, ignore=ignored)
    for file in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / file, home)
    # Google is not asked for the repositories, which do not exist.
    override = 'variable "check_repositories" {\n  default = false\n}\n'
    (home / "terraform" / "unchecked_override.tf").write_text(override)
    return home / "terraform"


def initialise(home: Path) -> None:
    required("terraform")
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


def apply_with_mocks(home: Path, file: str) -> dict[str, dict[str, Any]]:
    """Return every resource that a file of tests applies in its one run, with mocked providers: address -> values."""
    result = terraform(home, "test", "-json", "-verbose", f"-filter=tests/{file}")
    assert result.returncode == 0, result.stdout + result.stderr
    (state,) = (line["test_state"] for line in map(json.loads, result.stdout.splitlines()) if "test_state" in line)
    return {resource["address"]: resource["values"] for resource in state["root_module"]["resources"]}


def apply_plan(home: Path, name: str) -> None:
    """Carry out a saved plan where the providers create nothing; skip the test where they ask Google."""
    applied = terraform(home, "apply", "-no-color", "-input=false", name)
    if re.search("401|oauth2|credentials|dial tcp", applied.stderr):
        pytest.skip("the providers ask Google, where a test creates nothing")
    assert applied.returncode == 0, applied.stdout + applied.stderr


def changes(home: Path, *options: str) -> dict[str, str]:
    """Return what a plan would do to each resource that it would change: address -> action."""
    planned = terraform(home, "plan", "-json", "-input=false", *options)
    assert planned.returncode == 0, planned.stdout
    messages = map(json.loads, planned.stdout.splitlines())
    found = [message["change"] for message in messages if message["type"] == "planned_change"]
    return {change["resource"]["addr"]: change["action"] for change in found}


def without_nulls(document: object) -> object:
    """Return a document of policies without the keys whose value is null, as the module reads it."""
    match document:
        case dict():
            return {key: without_nulls(value) for key, value in document.items() if value is not None}
        case list():
            return [without_nulls(value) for value in document]
    return document


class PlannedPolicies(NamedTuple):
    """What a plan makes of a document of policies: its mistakes, and what is deployed if it has none."""

    mistakes: Sequence[str]
    deployed: object = None


def plan_policies(home: Path, texts: Sequence[str], decoder: str = "jsondecode") -> list[PlannedPolicies]:
    """Return what plans make of documents of policies, which ``decoder``, a function of Terraform's, decodes.

    A plan has many of them: each start of Terraform takes longer than several documents.
    """
    planned: list[PlannedPolicies] = []
    for start in range(0, len(texts), _TOGETHER):
        planned += _plan_together(home / str(start), texts[start : start + _TOGETHER], decoder)
    return planned


def _plan_together(home: Path, texts: Sequence[str], decoder: str) -> list[PlannedPolicies]:
    calls = []
    for position, text in enumerate(texts):
        name = f"case{position}"
        # A copy for each: an error names the file that it is in, and not the call.
        shutil.copytree(POLICIES, home / name)
        (home / f"{name}.text").write_text(text)
        calls.append(f'module "{name}" {{\n  source = "./{name}"\n  policies = {decoder}(file("{name}.text"))\n}}')
        calls.append(f'output "{name}" {{\n  value = jsonencode(module.{name}.policies)\n}}')
    (home / "main.tf").write_text("\n".join(calls))
    initialise(home)

    result = terraform(home, "plan", "-json", "-input=false", "-out=cases.plan")
    messages = map(json.loads, result.stdout.splitlines())
    errors = [message["diagnostic"] for message in messages if message["@level"] == "error"]
    # An expression that cannot be evaluated would refuse a document, too, but not say why.
    assert {error["summary"] for error in errors} <= {"Module output value precondition failed"}, errors
    assert (result.returncode != 0) == bool(errors)
    mistakes = {error["range"]["filename"].split("/")[0]: error["detail"].splitlines() for error in errors}
    # A plan with errors has the outputs of the valid documents.
    shown = terraform(home, "show", "-json", "cases.plan")
    outputs = json.loads(shown.stdout)["planned_values"].get("outputs", {})
    planned = []
    for name in (f"case{position}" for position in range(len(texts))):
        assert (name in mistakes) != (name in outputs)
        heading, *lines = mistakes.get(name, [_HEADING])
        assert heading == _HEADING
        deployed = json.loads(outputs[name]["value"]) if name in outputs else None
        planned.append(PlannedPolicies([line.strip() for line in lines], deployed))
    return planned


def planned_resources(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan["planned_values"]["root_module"]["resources"]


def of_type(plan: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [resource["values"] for resource in planned_resources(plan) if resource["type"] == kind]


def service_of(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    (function,) = of_type(plan, "google_cloudfunctions2_function")
    service: Mapping[str, Any] = function["service_config"][0]
    return service
