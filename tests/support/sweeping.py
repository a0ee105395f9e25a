"""What the tests of sweeps share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cleaner.core.errors import Unavailable
from tests.emulator import Emulator
from tests.emulator.images import image, load
from tests.support.builders import one_rule
from tests.support.processes import ROOT

REQUESTS = "requests"
POLICY = one_rule(2)


def builds(emulator: Emulator, name: str, count: int = 4) -> None:
    """Fill a repository; ``build-0`` is the newest."""
    for at in range(count):
        uploaded = datetime.now(UTC) - timedelta(days=1 + at)
        load(emulator.store, name, image(at), tags=f"build-{at}", uploaded=uploaded)


def tags(emulator: Emulator, name: str) -> list[str]:
    return sorted(emulator.store.tags(name))


def many(emulator: Emulator, count: int) -> list[str]:
    """Make many repositories; return their names, sorted."""
    names = [f"us-docker.pkg.dev/acme/apps/r{at:05}" for at in range(count)]
    for name in reversed(names):
        emulator.store.put_manifest(name, b"{}", "application/x")
    return names


class Requests:
    """Takes what is published; from the ``broken``-th batch on it takes none."""

    def __init__(self, broken: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self.timeouts: list[float] = []
        self.broken = broken

    def publish(self, messages: Iterable[bytes], timeout_s: float) -> None:
        batch = [json.loads(message) for message in messages]
        self.timeouts.append(timeout_s)
        if len(self.batches) == self.broken:
            raise Unavailable("the topic is away")
        assert {one["action"] for one in batch} == {"PRUNE"}
        self.batches.append([one["repository"] for one in batch])

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


def call(emulator: Emulator, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "PUBSUB_"))}
    settings = {
        "INSECURE_REGISTRIES": emulator.host,
        "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": emulator.url,
        "COLUMNS": "120",
    }
    return subprocess.run(
        [sys.executable, "-m", "cleaner", "sweep", *arguments],
        cwd=ROOT,
        env={**kept, **settings, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_policies(emulator: Emulator, folder: Path) -> str:
    """Write a file whose policies report on ``web`` and leave ``legacy`` alone; return its path."""
    document: list[dict[str, Any]] = [
        {"repositories": [emulator.name("acme/web")], **POLICY, "dry_run": True},
        {"repositories": [emulator.name("acme/a*"), "us-docker.pkg.dev/**"], **POLICY},
    ]
    path = folder / "policies.json"
    path.write_text(json.dumps(document))
    return str(path)


def fill_acme(emulator: Emulator) -> str:
    """Fill four repositories; return their root."""
    for path in ("acme/api", "acme/app", "acme/web", "acme/legacy"):
        builds(emulator, emulator.name(path))
    return emulator.name("acme")
