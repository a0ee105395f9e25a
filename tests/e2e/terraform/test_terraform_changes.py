"""What is applied on another machine than it was planned on, and what later plans change."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.terraform import apply_plan, changes, copy_module, initialise, terraform

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

FUNCTION = "module.cleaner.google_cloudfunctions2_function.this"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The minimal example, planned in one place and applied in another, as a pipeline of two jobs does."""
    planning, applying = tmp_path_factory.mktemp("planning"), tmp_path_factory.mktemp("applying") / "job"
    home = copy_module(planning) / "examples" / "minimal"
    initialise(home)
    planned = terraform(home, "plan", "-no-color", "-input=false", "-out=saved.plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Warning" not in planned.stdout
    assert re.search(r"Plan: [0-9]+ to add, 0 to change, 0 to destroy", planned.stdout)
    # Made by the plan, the archive would be on this machine only.
    assert "module.cleaner.data.archive_file.source will be read during apply" in planned.stdout
    assert len(planned.stdout.splitlines()) < 2000, "the plan prints the function's source"
    shutil.copytree(planning, applying, symlinks=True)
    shutil.rmtree(planning)

    home = applying / "terraform" / "examples" / "minimal"
    apply_plan(home, "saved.plan")
    return home


def test_second_plan_from_another_path_changes_nothing(applied: Path) -> None:
    """Also if the module has been moved meanwhile, and if whoever made the topic `gcr` has set more on it."""
    copy_module(applied.parents[2] / "vendored")
    main, state = applied / "main.tf", applied / "terraform.tfstate"
    main.write_text(main.read_text().replace('"../.."', '"../../../vendored/terraform"'))
    known = json.loads(state.read_text())
    (topic,) = (one for one in known["resources"] if (one["type"], one["name"]) == ("google_pubsub_topic", "gcr"))
    topic["instances"][0]["attributes"]["message_retention_duration"] = "86400s"
    state.write_text(json.dumps(known))
    initialise(applied)

    assert changes(applied) == {}


def test_what_is_replaced_gets_its_grants_again(applied: Path) -> None:
    """What is new has an empty policy; the grants that a build needs are waited for as the first ones were."""
    account = "module.cleaner.google_service_account.build[0]"
    # As a plan does by itself once the topic of the subscription has been deleted and created again.
    subscription = 'module.cleaner.google_pubsub_subscription.delivery["registry-cleaner-gcr"]'
    # As a plan does by itself when it gets another key.
    image = "module.cleaner.google_artifact_registry_repository.image"

    changed = changes(applied, *(f"-replace={one}" for one in (FUNCTION, subscription, image)))
    changed_account = changes(applied, f"-replace={account}")

    replaced = _replaced(changed)
    assert replaced >= {
        "google_cloud_run_v2_service_iam_member.trigger",
        'google_pubsub_subscription_iam_member.dead_letters["registry-cleaner-gcr"]',
        "google_artifact_registry_repository_iam_member.build",
        "time_sleep.build_rights",
    }
    assert 'google_pubsub_subscription_iam_member.dead_letters["registry-cleaner-requests"]' not in replaced
    assert "google_storage_bucket_object.source" not in replaced
    assert _replaced(changed_account) >= {"time_sleep.build_rights"}


def _replaced(changed: Mapping[str, str]) -> set[str]:
    """Return the addresses within the module of what a plan replaces."""
    return {address.removeprefix("module.cleaner.") for address, action in changed.items() if action == "replace"}
