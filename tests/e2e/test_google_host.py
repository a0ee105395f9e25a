"""The function under Google's host names: HTTPS, application default credentials, and both ways of using them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.emulator import Behaviour, Emulator
from tests.emulator.authorization import PUSH
from tests.emulator.faults import Before
from tests.emulator.images import image, load
from tests.emulator.tls import Tls
from tests.support.builders import one_rule
from tests.support.deliveries import deliver
from tests.support.function import FunctionProcess

REPOSITORY = "gcr.io/acme/api"
LONG_AGO = datetime.now(UTC) - timedelta(days=30)


@dataclass(slots=True)
class Project:
    """A registry that answers for ``gcr.io``, and the function beside it."""

    registry: Emulator
    metadata: Emulator
    function: FunctionProcess

    def push(self) -> int:
        document = {"action": "INSERT", "tag": f"{REPOSITORY}:latest"}
        return deliver(self.function.url, json.dumps(document).encode())

    def authorizations(self) -> list[tuple[str, int, str]]:
        return [(one.kind, one.status, one.authorization) for one in self.registry.log.entries]


@pytest.fixture
def project(tls: Tls) -> Iterator[Project]:
    behaviour = Behaviour(auth=True)
    policies = [{"repositories": ["gcr.io/acme/*"], **one_rule(1, 1)}]
    # The metadata server speaks plain HTTP, as Google's does.
    with Emulator() as metadata, Emulator(tls=tls, default_host="gcr.io", behaviour=behaviour) as registry:
        settings = {
            "POLICIES": json.dumps(policies),
            "DRY_RUN": "false",
            "HTTPS_PROXY": registry.proxy_url,
            "REQUESTS_CA_BUNDLE": str(tls.ca_file),
            "GCE_METADATA_HOST": metadata.host,
            "GCE_METADATA_IP": metadata.host,
        }
        for age, tag in enumerate(("v3", "v2", "v1")):
            uploaded = LONG_AGO - timedelta(days=age)
            load(registry.store, REPOSITORY, image(tag), tags=tag, uploaded=uploaded)
        with FunctionProcess(settings) as function:
            yield Project(registry, metadata, function.wait_until_up())


def test_access_token_alone_prunes_without_the_right_to_upload(project: Project) -> None:
    """Where Google takes the access token, the role needs no more than reading and deleting."""
    project.registry.behaviour.lacking = {PUSH}

    assert project.push() == 200

    assert project.registry.store.tags(REPOSITORY).keys() == {"v3"}
    assert {authorization for _, _, authorization in project.authorizations()} == {"credential"}
    assert project.registry.log.counts == {"tags_list": 1, "manifest_head": 2, "tag_delete": 2, "manifest_delete": 2}


def test_access_token_that_ends_in_a_run_is_replaced(project: Project) -> None:
    """By the metadata server's next one, which the registry takes; the role still needs no right to upload."""
    project.registry.behaviour.lacking = {PUSH}

    def renew() -> None:
        for emulator in (project.registry, project.metadata):
            emulator.behaviour.access_token = "ya29.the-next"  # noqa: S105  # opens nothing

    project.registry.faults.add(Before(renew), kind="tag_delete", nth=1)

    assert project.push() == 200

    assert project.registry.store.tags(REPOSITORY).keys() == {"v3"}
    assert project.registry.log.statuses[401] >= 1
    assert project.registry.log.counts["token"] == 0


def test_host_that_challenges_gets_a_token_of_its_own(project: Project) -> None:
    """One 401 and one exchange, and the run goes on with what was exchanged; the next run has it already."""
    project.registry.behaviour.takes_access_token = False

    assert project.push() == 200
    assert project.push() == 200

    assert project.registry.store.tags(REPOSITORY).keys() == {"v3"}
    assert project.authorizations()[:3] == [
        ("tags_list", 401, "credential"),
        ("token", 200, "credential"),
        ("tags_list", 200, "token"),
    ]
    assert {authorization for _, _, authorization in project.authorizations()[2:]} == {"token"}
    assert project.registry.log.counts["token"] == 1


def test_exchange_without_the_right_to_upload_is_denied(project: Project) -> None:
    """The log names what the role lacks; the message is acknowledged, and nothing is lost."""
    project.registry.behaviour.takes_access_token = False
    project.registry.behaviour.lacking = {PUSH}

    assert project.push() == 200

    assert project.registry.store.tags(REPOSITORY).keys() == {"v1", "v2", "v3"}
    (denied,) = project.function.logged("permission denied", severity="ERROR", repository=REPOSITORY)
    assert PUSH in str(denied["permission"])


def test_tokens_are_not_logged(project: Project) -> None:
    """Neither Google's nor the registry's."""
    project.registry.behaviour.takes_access_token = False

    project.push()

    written = "\n".join(project.function.lines + project.function.errors)
    assert "emulator-token-" not in written
    assert project.registry.behaviour.access_token not in written
