"""The examples beside the minimal one, which test_terraform_changes.py plans and applies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.terraform import SOURCE, copy_module, initialise, make_plan

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

EXAMPLES = sorted(folder.name for folder in (SOURCE / "examples").iterdir() if folder.is_dir())
OTHERS = [name for name in EXAMPLES if name != "minimal"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Mapping[str, Any]]]:
    """What each example would create; one plan for all, since each takes long to begin."""
    home = tmp_path_factory.mktemp("examples")
    copy_module(home)
    calls = [f'module "{name}" {{\n  source = "./terraform/examples/{name}"\n}}\n' for name in OTHERS]
    (home / "main.tf").write_text("\n".join(calls))
    initialise(home)
    examples = make_plan(home, {}, "examples")["planned_values"]["root_module"]["child_modules"]
    return {
        example["address"].removeprefix("module."): [
            resource
            for module in (example, *example["child_modules"])
            for resource in module.get("resources", [])
            if resource["mode"] == "managed"
        ]
        for example in examples
    }


@pytest.mark.parametrize("name", OTHERS)
def test_example_plans(planned: Mapping[str, list[Mapping[str, Any]]], name: str) -> None:
    """Without a warning, and as a dry run."""
    (function,) = (one["values"] for one in planned[name] if one["type"] == "google_cloudfunctions2_function")

    assert function["service_config"][0]["environment_variables"]["DRY_RUN"] == "true"


def test_repositories_may_be_made_of_resources_of_the_same_configuration(
    planned: Mapping[str, list[Mapping[str, Any]]],
) -> None:
    """Their names are known to the plan, so they are granted on, swept and matched like the others."""
    several = planned["several-projects"]
    made = "europe-docker.pkg.dev/acme-data/jobs"
    indexes = {resource["type"]: set[str]() for resource in several}
    for resource in several:
        indexes[resource["type"]].add(str(resource.get("index")))

    assert made in indexes["google_artifact_registry_repository_iam_member"]
    assert made in indexes["google_cloud_scheduler_job"]


def test_organization_policies_are_met(planned: Mapping[str, list[Mapping[str, Any]]]) -> None:
    """No account is created, and whatever can have a key has it."""
    resources = planned["organization-policies"]
    keys = {one["values"]["kms_key_name"] for one in resources if "kms_key_name" in one["values"]}

    assert not [one["address"] for one in resources if one["type"] == "google_service_account"]
    assert keys == {"projects/acme-keys/locations/us-central1/keyRings/cleaner/cryptoKeys/cleaner"}


def test_readme_names_every_example() -> None:
    """With a link to each."""
    readme = (SOURCE / "README.md").read_text()

    assert [name for name in EXAMPLES if f"(examples/{name}/" not in readme] == []


def test_example_calls_the_module_beside_it() -> None:
    """As it does for whoever copies a folder of examples."""
    assert [name for name in EXAMPLES if 'source = "../.."' not in _text(SOURCE / "examples" / name)] == []


def _text(folder: Path) -> str:
    return (folder / "main.tf").read_text()
