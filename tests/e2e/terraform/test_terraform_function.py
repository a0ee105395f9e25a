"""The module and the function that it deploys: of one mind about settings, messages and topics."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import functions_framework
import pytest

from cleaner.core.policy_document import policies_from_document
from cleaner.settings import Settings
from tests.support.terraform import EVERYTHING, MINIMAL, service_of, without_nulls

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)


def test_function_accepts_the_least_environment(minimal: dict[str, Any]) -> None:
    """What Terraform sets by default are the function's own defaults, and the topic for requests."""
    settings = Settings.from_environment(service_of(minimal)["environment_variables"])

    expected = Settings(
        policies=policies_from_document(MINIMAL["policies"]),
        requests_topic="projects/acme-prod/topics/registry-cleaner-requests",
    )
    assert settings == expected


def test_function_accepts_every_setting(everything: dict[str, Any]) -> None:
    """What Terraform sets reaches the function as it was written, without nulls."""
    settings = Settings.from_environment(service_of(everything)["environment_variables"])

    assert settings.policies == policies_from_document(without_nulls(EVERYTHING["policies"]))
    assert settings.dry_run is False
    assert settings.workers == 7
    assert settings.time_limit_s == 240
    assert sorted(settings.running_scopes) == sorted(EVERYTHING["running_scopes"])
    assert settings.requests_topic == "projects/example.com:legacy-app/topics/pruner-requests"
    assert settings.log_level == "DEBUG"


def test_environment_has_no_setting_for_local_work_only(everything: dict[str, Any]) -> None:
    """No insecure registry and no other endpoint can be set in production."""
    assert set(service_of(everything)["environment_variables"]) == {
        "POLICIES", "DRY_RUN", "WORKERS", "TIME_LIMIT", "RUNNING_SCOPES", "REQUESTS_TOPIC", "LOG_LEVEL",
        "GOOGLE_CLOUD_PROJECT", "THREADS",
    }  # fmt: skip


def test_messages_of_one_push_meet_in_one_instance(everything: dict[str, Any]) -> None:
    """An instance has a thread for each message that the platform sends it."""
    function = service_of(everything)
    assert function["environment_variables"]["THREADS"] == str(function["max_instance_request_concurrency"]) == "11"


def test_push_to_the_topics_path_is_an_event_of_the_topic(tmp_path: Path) -> None:
    """The path at which requests are delivered is what the function tells them by."""
    source = tmp_path / "main.py"
    source.write_text(
        textwrap.dedent("""
            import functions_framework

            @functions_framework.cloud_event
            def prune(event):
                print(event["source"])
        """)
    )
    # The package ships no types.
    app = functions_framework.create_app("prune", str(source), "cloudevent")  # type: ignore[no-untyped-call]
    client = app.test_client()
    body = {
        "message": {"data": "e30=", "messageId": "1", "publishTime": "2026-01-01T00:00:00Z"},
        "subscription": "projects/acme-prod/subscriptions/registry-cleaner-requests",
    }
    seen: list[str] = []
    for topic in (
        "projects/acme-prod/topics/registry-cleaner-requests",
        "projects/example.com:legacy-app/topics/gcr",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.print", seen.append)
            assert client.post(f"/{topic}", json=body).status_code == 200
    assert seen == [
        "//pubsub.googleapis.com/projects/acme-prod/topics/registry-cleaner-requests",
        "//pubsub.googleapis.com/projects/example.com:legacy-app/topics/gcr",
    ]
