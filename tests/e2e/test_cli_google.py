"""The command line against what is Google for it: repositories and roots, with credentials, over HTTPS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.emulator import Emulator
from tests.emulator.images import image, load
from tests.emulator.tls import Tls
from tests.support.clients import Site
from tests.support.command_line import run


@pytest.fixture(scope="module", autouse=True)
def google(tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A registry that is Google for every process that is started, with repositories in two places of a project."""
    with (
        Emulator() as metadata,
        Emulator(tls=tls, default_host="gcr.io", auth=True) as registry,
        pytest.MonkeyPatch.context() as patch,
    ):
        made = Site(registry, metadata, tls.ca_file, tmp_path_factory.mktemp("home"))
        for name, value in made.environment.items():
            patch.setenv(name, value)
        for at, name in enumerate(("gcr.io/acme/web", "us-docker.pkg.dev/acme/apps/api")):
            for build in range(3 + at):
                uploaded = datetime.now(UTC) - timedelta(days=1 + build)
                load(registry.store, name, image(build), tags=f"build-{build}", uploaded=uploaded)
        yield


@pytest.mark.parametrize(
    ("root", "names"),
    [
        ("us-docker.pkg.dev/acme", ["us-docker.pkg.dev/acme/apps/api", "gcr.io/acme/web"]),
        ("us-docker.pkg.dev/acme/apps", ["us-docker.pkg.dev/acme/apps/api"]),
        ("gcr.io/acme", ["gcr.io/acme/web"]),
        ("us-docker.pkg.dev/acme/apps/api/", ["us-docker.pkg.dev/acme/apps/api"]),
    ],
)
def test_root(root: str, names: list[str]) -> None:
    """A project of a location, a repository of Artifact Registry, or a path: one document a repository."""
    ended = run("plan", root, "--keep", "2", "-o", "json")

    documents = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(one["repository"] for one in documents) == sorted(names)
    assert all(one["delete"] and len(one["keep"]) == 2 for one in documents)


def test_repository() -> None:
    """By whichever of its two names."""
    for name in ("gcr.io/acme/web", "us-docker.pkg.dev/acme/gcr.io/web"):
        ended = run("plan", name, "--keep", "2", "-o", "json")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert json.loads(ended.stdout)["repository"] == "gcr.io/acme/web"


def test_name_of_nothing() -> None:
    """Neither a repository nor a root; that is no failure."""
    ended = run("plan", "us-docker.pkg.dev/acme/apps/none", "gcr.io/acme/none", "--keep", "2")

    assert ended.returncode == 0
    assert ended.stdout.count("no such repository") == 2


@pytest.mark.parametrize("output", ["table", "json"])
def test_root_that_does_not_exist(output: str) -> None:
    """A repository of Artifact Registry that is not there is no failure, and is told as of several targets."""
    ended = run("plan", "us-docker.pkg.dev/acme/none", "--keep", "2", "-o", output)

    assert (ended.returncode, ended.stderr) == (0, "")
    if output == "table":
        assert ended.stdout.splitlines()[1].split(maxsplit=1) == ["us-docker.pkg.dev/acme/none", "no such repository"]
    else:
        assert [(one["repository"], one["policy"]) for one in json.loads(ended.stdout)] == [
            ("us-docker.pkg.dev/acme/none", None)
        ]
