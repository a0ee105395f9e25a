"""What is deployed, and what it may do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cleaner.release import VERSION
from tests.support.sources import loaded_by
from tests.support.terraform import MINIMAL, make_plan, of_type, planned_resources, service_of

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)


def _account(expression: Mapping[str, Any]) -> str:
    """Return which of the function's accounts an argument refers to, if to any."""
    references = " ".join(expression.get("references", []))
    return "".join(set(re.findall(r"local\.(?:accounts|members)\.(\w+)", references)))


def _grants(plan: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Return every grant as (what it is on, role, whose it is); an account by what it does.

    The address of a service's agent and the condition have the project's number, which is not known before an apply.
    """
    written = {
        resource["address"]: resource["expressions"]
        for resource in plan["configuration"]["root_module"]["resources"]
        if "_iam_" in resource["type"] and "member" in resource["expressions"]
    }
    grants = set()
    for resource in planned_resources(plan):
        if not resource["type"].endswith(("_iam_member", "_iam_binding", "_iam_policy")):
            continue
        values = resource["values"]
        on = " ".join(
            str(values[key])
            for key in (
                "project",
                "folder",
                "org_id",
                "location",
                "repository",
                "topic",
                "subscription",
                "bucket",
                "name",
            )
            if values.get(key)
        )
        for condition in values.get("condition") or []:
            on += f" if {condition['title']}"
        expressions = written[f"{resource['type']}.{resource['name']}"]
        on += _account(expressions.get("service_account_id", {}))
        member = values.get("member") or _account(expressions["member"]) or "agent"
        grants.add((f"{resource['type']}: {on}", values["role"], member))
    return grants


# -- What is deployed, and what it may do ----------------------------------------------------------


def _archived(plan: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the archive's files: name -> text."""
    (archive,) = (
        change["change"]["after"] for change in plan["resource_changes"] if change["type"] == "archive_file"
    )
    return {source["filename"]: source["content"] for source in archive["source"]}


def test_only_what_runs_is_deployed(minimal: dict[str, Any]) -> None:
    """The archive holds the entry point, its requirements, and the modules that the function may ever import."""
    modules = {name.replace(".", "/") for name in loaded_by("main")}
    packages = {str(folder) for module in modules for folder in Path(module).parents} - {"."}
    assert set(_archived(minimal)) == {
        "requirements.txt",
        *(f"{module}.py" for module in modules),
        *(f"{package}/__init__.py" for package in packages),
    }


def test_function_carries_its_version(minimal: dict[str, Any]) -> None:
    """As a label, in which hyphens stand for the dots."""
    (function,) = of_type(minimal, "google_cloudfunctions2_function")

    assert function["labels"] == {"version": VERSION.replace(".", "-")}


def test_what_is_deployed_starts(everything: dict[str, Any], tmp_path: Path) -> None:
    """The archive's files are enough: each can be imported from them, with the environment of the plan."""
    files = _archived(everything)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = sorted(name.removesuffix(".py").replace("/", ".") for name in files if name.endswith(".py"))
    # An editable installation would help out with what is missing.
    script = f"""
        import sys, {", ".join(modules)}
        print(*(sys.modules[name].__file__ for name in sys.modules if name.split(".")[0] in ("main", "cleaner")))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=os.environ | service_of(everything)["environment_variables"],
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # The lines before are the function's log.
    *_, loaded = result.stdout.splitlines()
    assert {Path(file) for file in loaded.split()} == {tmp_path / name for name in files if name.endswith(".py")}


def test_new_code_has_a_new_name(module: Path, minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """A change of what is deployed, and of nothing else, changes the object's name: the function is built again."""
    (before,) = of_type(minimal, "google_storage_bucket_object")
    (same,) = of_type(everything, "google_storage_bucket_object")
    assert same["name"] == before["name"]

    main = module.parent / "main.py"
    code = main.read_text()
    try:
        main.write_text(code + "\n# changed\n")
        (after,) = of_type(make_plan(module, MINIMAL, "changed"), "google_storage_bucket_object")
    finally:
        main.write_text(code)
    assert after["name"] != before["name"]


def test_old_code_stays_until_the_function_has_the_new(module: Path, minimal: dict[str, Any]) -> None:
    """On an update the new archive is uploaded first; the old one goes when nothing names it any more."""
    address = "google_storage_bucket_object.source"
    (planned,) = (change for change in minimal["resource_changes"] if change["address"] == address)
    attributes = dict.fromkeys(planned["change"]["after_unknown"]) | planned["change"]["after"]
    resource = {
        "mode": "managed",
        "type": planned["type"],
        "name": planned["name"],
        "provider": f'provider["{planned["provider_name"]}"]',
        "instances": [{"schema_version": 0, "attributes": attributes | {"name": "old.zip"}}],
    }
    state = {"version": 4, "terraform_version": "1.9.0", "serial": 1, "lineage": "", "outputs": {}}
    before = module / "terraform.tfstate"
    before.write_text(json.dumps(state | {"resources": [resource]}))
    try:
        update = make_plan(module, MINIMAL, "update", "-refresh=false")
    finally:
        before.unlink()

    (change,) = (change for change in update["resource_changes"] if change["address"] == address)
    assert change["change"]["actions"] == ["create", "delete"]


def test_minimal_plan_grants_this_and_no_more(minimal: dict[str, Any]) -> None:
    """Each grant is one that is explained; none is on a project but those that exist nowhere else."""
    project = "google_project_iam_member: acme-prod"
    repository = "google_artifact_registry_repository_iam_member: acme-prod"
    (bucket,) = of_type(minimal, "google_storage_bucket")
    assert _grants(minimal) == {
        # run: prunes the one repository, asks for repositories to be pruned.
        (f"{repository} us apps", "projects/acme-prod/roles/registry_cleaner_run", "run"),
        ("google_pubsub_topic_iam_member: acme-prod registry-cleaner-requests", "roles/pubsub.publisher", "run"),
        # trigger: invokes the one service.
        (
            "google_cloud_run_v2_service_iam_member: acme-prod us-central1 registry-cleaner",
            "roles/run.invoker",
            "trigger",
        ),
        # Pub/Sub: makes the trigger's tokens, where its agent is too old to have that right by itself.
        ("google_service_account_iam_member: trigger", "roles/iam.serviceAccountOpenIdTokenCreator", "agent"),
        # Pub/Sub: moves dead letters out of each subscription and into the one topic.
        (
            "google_pubsub_topic_iam_member: acme-prod registry-cleaner-dead-letters",
            "roles/pubsub.publisher",
            "agent",
        ),
        ("google_pubsub_subscription_iam_member: acme-prod registry-cleaner-gcr", "roles/pubsub.subscriber", "agent"),
        (
            "google_pubsub_subscription_iam_member: acme-prod registry-cleaner-requests",
            "roles/pubsub.subscriber",
            "agent",
        ),
        # Artifact Registry: announces pushes.
        ("google_pubsub_topic_iam_member: acme-prod gcr", "roles/pubsub.publisher", "agent"),
        # build: writes its log and its image, reads the source.
        (project, "roles/logging.logWriter", "build"),
        (f"{repository} us-central1 registry-cleaner-image", "roles/artifactregistry.writer", "build"),
        (f"google_storage_bucket_iam_member: {bucket['name']}", "roles/storage.objectViewer", "build"),
        (f"{project} if function-source-only", "roles/storage.objectViewer", "build"),
    }


def test_nobody_is_everybody(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """Nothing is granted to the public."""
    assert not re.search("allUsers|allAuthenticatedUsers", json.dumps([minimal, everything]))


def test_running_scopes_give_listing_and_the_own_quota(everything: dict[str, Any]) -> None:
    """Listing on each scope, by the project's own role where it can have one; the quota of the own project."""
    own = "projects/example.com:legacy-app/roles/pruner_running"
    other = "projects/acme-prod/roles/pruner_running_" + sha256(b"example.com:legacy-app").hexdigest()[:8]
    scopes = ("google_project_iam_member:", "google_folder_iam_member:", "google_organization_iam_member:")
    assert {grant for grant in _grants(everything) if grant[0].startswith(scopes) and grant[2] == "run"} == {
        ("google_project_iam_member: example.com:legacy-app", own, "run"),
        ("google_project_iam_member: acme-prod", other, "run"),
        ("google_folder_iam_member: folders/123", "roles/cloudasset.viewer", "run"),
        ("google_organization_iam_member: 456", "roles/cloudasset.viewer", "run"),
    }
    roles = of_type(everything, "google_project_iam_custom_role")
    assert {role["project"]: role["permissions"] for role in roles if "_running" in role["role_id"]} == {
        "example.com:legacy-app": ["cloudasset.assets.listResource", "serviceusage.services.use"],
        "acme-prod": ["cloudasset.assets.listResource"],
    }


def test_dry_run_cannot_delete(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """The role of a dry run is for reading; turning it off adds what deleting needs, and no more."""
    (reading,) = of_type(minimal, "google_project_iam_custom_role")
    roles = of_type(everything, "google_project_iam_custom_role")
    for deleting in (role for role in roles if "_running" not in role["role_id"]):
        assert set(deleting["permissions"]) - set(reading["permissions"]) == {
            "artifactregistry.repositories.deleteArtifacts",
        }
    assert not [name for name in reading["permissions"] if re.search("delete|upload|update|create|setIam", name)]
