"""Fixtures: Pub/Sub's emulator and a registry that is Google, started once for a module."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.emulator import Emulator
from tests.emulator.images import image, load
from tests.emulator.tls import Tls
from tests.support.clients import Site
from tests.support.programs import absent
from tests.support.pubsub import PubSub, pubsub_command


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    command = pubsub_command()
    if command is None:
        absent("the Cloud SDK's Pub/Sub emulator is not installed")
    with PubSub(command) as started:
        yield started.wait_until_up()


@pytest.fixture(scope="module")
def cloud(tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What is Google for the commands of the documentation: two repositories, and credentials."""
    with Emulator() as metadata, Emulator(tls=tls, default_host="gcr.io", auth=True) as registry:
        for name in ("us-docker.pkg.dev/acme/apps/api", "us-docker.pkg.dev/acme-prod/apps/api"):
            for days, tag in enumerate(("main-3f2a1bc", "main-81fe2d0", "v1.4.2", "pr-41"), start=1):
                load(registry.store, name, image(days), tags=tag, uploaded=datetime.now(UTC) - timedelta(days=days))
        yield Site(registry, metadata, tls.ca_file, tmp_path_factory.mktemp("home"))
