"""Which repositories a sweep finds, and what is published for them."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import PermanentError, PermissionDenied, RepositoryNotFound, TimeLimitReached
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Repository, parse_repository
from cleaner.engine.sweep import BATCH, find_repositories, prune_request, request_prunes
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator import Emulator
from tests.emulator.faults import Status
from tests.support.sweeping import Requests, builds

if TYPE_CHECKING:
    from tests.support.prune import Logged


class Searcher:
    """What finds repositories, with Google's REST API played by the emulator."""

    def __init__(self, emulator: Emulator) -> None:
        transport = Transport()
        self.exchange = RequestBudget(transport.clock() + 60)
        self._insecure = frozenset({emulator.host})
        self._rest = ArtifactRegistry(GoogleApi(transport, GoogleCredentials(), f"{emulator.url}/"))
        self._registry = Registry(transport, lambda _: "", self._insecure, lambda: self._rest)

    def found(self, root: str, *globs: str) -> list[str]:
        """The names of what is found under ``root`` for a policy about ``globs``."""
        policies = policies_from_document([{"repositories": list(globs or ["**"])}])
        where = parse_repository(root, self._insecure)
        found = find_repositories(where, policies, self._registry, self._rest, self.exchange)
        return [str(one) for one in found]


# --- what is found


def test_repositories_of_a_local_registry(emulator: Emulator) -> None:
    """By the child names of the listings, at every depth; a path that only has children is none."""
    for path in ("acme/b", "acme/a/deep/er", "acme/a", "other/c"):
        builds(emulator, emulator.name(path), 1)

    assert Searcher(emulator).found(emulator.name("acme")) == [
        emulator.name(path) for path in ("acme/a", "acme/a/deep/er", "acme/b")
    ]
    assert Searcher(emulator).found(emulator.name("acme/a")) == [
        emulator.name(path) for path in ("acme/a", "acme/a/deep/er")
    ]


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("gcr.io/acme", ["gcr.io/acme/api", "gcr.io/acme/team/web"]),
        ("us-docker.pkg.dev/acme/gcr.io", ["gcr.io/acme/api", "gcr.io/acme/team/web"]),
        ("gcr.io/acme/team", ["gcr.io/acme/team/web"]),
        ("gcr.io/acme/api", ["gcr.io/acme/api"]),
        ("gcr.io/acme/ap", []),
        ("eu.gcr.io/acme", ["eu.gcr.io/acme/api"]),
        ("gcr.io/example.com/project", ["gcr.io/example.com/project/x"]),
        ("us-docker.pkg.dev/acme/apps", ["us-docker.pkg.dev/acme/apps/a", "us-docker.pkg.dev/acme/apps/b/c"]),
        ("us-docker.pkg.dev/acme/apps/b", ["us-docker.pkg.dev/acme/apps/b/c"]),
        (
            "us-docker.pkg.dev/acme",
            [
                *("gcr.io/acme/api", "gcr.io/acme/team/web", "us-docker.pkg.dev/acme/apps-too/a"),
                *("us-docker.pkg.dev/acme/apps/a", "us-docker.pkg.dev/acme/apps/b/c"),
            ],
        ),
        ("us-docker.pkg.dev/example.com/project", ["gcr.io/example.com/project/x"]),
        ("europe-docker.pkg.dev/acme", ["eu.gcr.io/acme/api"]),
    ],
)
def test_repositories_of_google(emulator: Emulator, root: str, expected: list[str]) -> None:
    """By the REST API, in a location of a project, a repository, or a path under one; by the name that each has."""
    for name in (
        "gcr.io/acme/api",
        "gcr.io/acme/team/web",
        "eu.gcr.io/acme/api",
        "gcr.io/example.com/project/x",
        "us-docker.pkg.dev/acme/apps/a",
        "us-docker.pkg.dev/acme/apps/b/c",
        "us-docker.pkg.dev/acme/apps-too/a",
        "us-docker.pkg.dev/other/apps/a",
    ):
        builds(emulator, name, 1)

    assert Searcher(emulator).found(root) == expected


def skipped(logged: Logged) -> dict[str, str]:
    """Return the names that were skipped, each with what is wrong with it; each has a line of its own."""
    records = logged("repository skipped")
    found = {record["repository"]: record["error"] for record in records if record["levelname"] == "WARNING"}
    assert len(found) == len(records)
    return found


def test_name_that_cannot_be_read_is_skipped_on_a_google_host(emulator: Emulator, logged: Logged) -> None:
    """Each is logged once, and the others are found; Google's names have more characters than the spec's."""
    root = "us-docker.pkg.dev/acme/apps"
    unreadable = {f"{root}/{path}": "not a repository name" for path in ("Upper", "-x", "a/_b", "a b")}
    unreadable[f"{root}/{'x' * 250}"] = "longer than 255 characters"
    for name in (*unreadable, f"{root}/api", f"{root}/my___func", f"{root}/a..b", f"{root}/c-"):
        builds(emulator, name, 1)

    found = Searcher(emulator).found(root)

    assert found == [f"{root}/a..b", f"{root}/api", f"{root}/c-", f"{root}/my___func"]
    assert skipped(logged) == unreadable


def test_name_that_cannot_be_read_is_skipped_on_another_host(emulator: Emulator, logged: Logged) -> None:
    """The spec's grammar holds, and nothing is requested for such a name or what is below it."""
    root = emulator.name("acme")
    for path in ("b", "my___func", "c/Upper/d", "c/e"):
        builds(emulator, f"{root}/{path}", 1)

    found = Searcher(emulator).found(root)

    assert found == [f"{root}/b", f"{root}/c/e"]
    assert skipped(logged) == dict.fromkeys((f"{root}/c/Upper", f"{root}/my___func"), "not a repository name")
    assert {one.path.split("?")[0] for one in emulator.log.entries} == {
        f"/v2/{path}/tags/list" for path in ("acme", "acme/b", "acme/c", "acme/c/e")
    }


@pytest.mark.parametrize("host", ["us-docker.pkg.dev", ""])
def test_name_that_is_listed_twice_is_skipped_or_found_once(emulator: Emulator, logged: Logged, host: str) -> None:
    """In one page or in two, by whatever path a registry comes to it."""
    root = f"{host}/acme/apps" if host else emulator.name("acme")
    builds(emulator, f"{root}/api", 1)
    if host:
        package = "projects/acme/locations/us/repositories/apps/packages/"
        body = {"packages": [{"name": f"{package}{one}"} for one in ("api", "Up", "api", "Up")]}
        emulator.faults.add(Status(200, body=json.dumps(body).encode()), kind="rest_packages")
    else:
        children = json.dumps({"child": ["api", "Up", "api", "x", "Up", "x/Up"], "manifest": {}}).encode()
        emulator.faults.add(Status(200, body=children), kind="tags_list", path="/acme/tags", times=1)
        below = json.dumps({"child": ["Up"], "manifest": {}}).encode()
        emulator.faults.add(Status(200, body=below), kind="tags_list", path="/acme/x/tags", times=1)

    found = Searcher(emulator).found(root)

    assert found == [f"{root}/api"]
    assert skipped(logged).keys() == {f"{root}/{path}" for path in (["Up"] if host else ["Up", "x/Up"])}
    assert emulator.log.counts["tags_list"] == (0 if host else 3)


def test_only_what_a_policy_is_about(emulator: Emulator) -> None:
    """A repository that no policy matches is never touched; functions' own images least of all."""
    for path in ("api", "web", "web-old", "gcf-artifacts/f"):
        builds(emulator, f"us-docker.pkg.dev/acme/apps/{path}", 1)

    searcher = Searcher(emulator)
    root = "us-docker.pkg.dev/acme/apps"

    assert searcher.found(root, f"{root}/web*") == [f"{root}/web", f"{root}/web-old"]
    assert searcher.found(root, "**") == [f"{root}/api", f"{root}/web", f"{root}/web-old"]
    assert searcher.found(root, "gcr.io/**") == []


@pytest.mark.parametrize("mode", ["REMOTE_REPOSITORY", "VIRTUAL_REPOSITORY"])
def test_remote_and_virtual_repositories_are_left_out(emulator: Emulator, mode: str) -> None:
    """They are not for deleting; nobody asks what they hold."""
    root = "us-docker.pkg.dev/acme/mirror"
    builds(emulator, f"{root}/a", 1)
    emulator.store.set_mode(root, mode)
    try:
        assert Searcher(emulator).found(root) == []
        assert Searcher(emulator).found("us-docker.pkg.dev/acme") == []
        assert emulator.log.counts["rest_packages"] == 0
    finally:
        emulator.store.set_mode(root, "STANDARD_REPOSITORY")


def test_root_that_is_not_there(emulator: Emulator) -> None:
    """Google says so; a path of a local registry just holds nothing."""
    with pytest.raises(RepositoryNotFound):
        Searcher(emulator).found("us-docker.pkg.dev/acme/none")
    assert Searcher(emulator).found(emulator.name("none")) == []


def test_root_that_is_too_short(emulator: Emulator) -> None:
    """A domain names no project; the error says what would."""
    with pytest.raises(PermanentError, match=r"LOCATION-docker\.pkg\.dev/PROJECT"):
        Searcher(emulator).found("us-docker.pkg.dev/example.com")


def test_page_that_cannot_be_read(emulator: Emulator) -> None:
    """A sweep of some is none: the next one might leave out the same."""
    for at in range(1001):
        emulator.store.put_manifest(f"us-docker.pkg.dev/acme/apps/r{at:04}", b"{}", "application/x")
    emulator.faults.add(Status(403, "PERMISSION_DENIED"), kind="rest_packages", nth=2)

    with pytest.raises(PermissionDenied) as caught:
        Searcher(emulator).found("us-docker.pkg.dev/acme/apps")

    assert caught.value.permission == "artifactregistry.packages.list"


def repositories(count: int) -> tuple[Repository, ...]:
    return tuple(Repository("gcr.io", f"acme/r{at:05}") for at in range(count))


def test_requests_go_in_batches_in_order_of_name() -> None:
    """Whatever the API's order was: a sweep that is interrupted has done the first ones."""
    requests = Requests()

    count = request_prunes(repositories(2500), requests, lambda: 10.0, 15.0)

    assert count == 2500
    assert [len(batch) for batch in requests.batches] == [BATCH, BATCH, 500]
    assert requests.names == sorted(requests.names)
    assert requests.timeouts == [5.0] * 3


def test_sweep_out_of_time_publishes_no_further_batch() -> None:
    """The rest is asked for by the redelivery."""
    requests = Requests()
    clock = itertools.count(0, 4)

    with pytest.raises(TimeLimitReached, match="only 2000 of the prune requests were published"):
        request_prunes(repositories(2500), requests, lambda: next(clock), 7.0)

    assert requests.names == [str(one) for one in repositories(2000)]


def test_request_is_a_prune() -> None:
    """As the prune_command of Terraform's outputs spells it."""
    assert json.loads(prune_request(Repository("gcr.io", "acme/api"))) == {
        "action": "PRUNE",
        "repository": "gcr.io/acme/api",
    }
