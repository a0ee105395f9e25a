"""A sweep: which repositories are found, what is published, and that every repository ends as its policy says."""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleaner.core.errors import PermanentError, PermissionDenied, RepositoryNotFound, TimeLimitReached, Unavailable
from cleaner.core.policy import policies_from_document
from cleaner.core.reference import Repository, parse_repository
from cleaner.engine.sweep import BATCH, find_repositories, prune_request, request_prunes
from cleaner.function import Function
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.credentials import GoogleCredentials
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.transport import RequestBudget, Transport
from cleaner.settings import Settings
from tests.emulator import Emulator
from tests.emulator.faults import Delay, Status
from tests.emulator.images import image, load
from tests.support.deliveries import envelope, topic_path
from tests.support.function import FunctionProcess
from tests.support.processes import ROOT, wait_for
from tests.support.pubsub import PubSub, pubsub_command

REQUESTS = "requests"
POLICY = {"keep": 2, "delete_tags": [".*"]}

_projects = itertools.count(1)


@pytest.fixture(scope="module")
def registry() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(registry: Emulator) -> Iterator[Emulator]:
    registry.reset()
    yield registry
    registry.reset()


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    command = pubsub_command()
    if command is None:
        reason = "the Cloud SDK's Pub/Sub emulator is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with PubSub(command) as started:
        yield started.wait_until_up()


def builds(emulator: Emulator, name: str, count: int = 4) -> None:
    """Fill a repository; ``build-0`` is the newest."""
    for at in range(count):
        uploaded = datetime.now(UTC) - timedelta(days=1 + at)
        load(emulator.store, name, image(at), tags=f"build-{at}", uploaded=uploaded)


def tags(emulator: Emulator, name: str) -> list[str]:
    return sorted(emulator.store.tags(name))


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
    ],
)
def test_repositories_of_google(emulator: Emulator, root: str, expected: list[str]) -> None:
    """By the REST API, under a project, a repository, or a path under one; by the one name that each has."""
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
        assert emulator.log.counts["rest_packages"] == 0
    finally:
        emulator.store.set_mode(root, "STANDARD_REPOSITORY")


def test_root_that_is_not_there(emulator: Emulator) -> None:
    """Google says so; a path of a local registry just holds nothing."""
    with pytest.raises(RepositoryNotFound):
        Searcher(emulator).found("us-docker.pkg.dev/acme/none")
    assert Searcher(emulator).found(emulator.name("none")) == []


def test_root_that_is_too_short(emulator: Emulator) -> None:
    """A project on pkg.dev names no repository; the error says what would."""
    with pytest.raises(PermanentError, match=r"LOCATION-docker\.pkg\.dev/PROJECT/REPOSITORY"):
        Searcher(emulator).found("us-docker.pkg.dev/acme")


def test_page_that_cannot_be_read(emulator: Emulator) -> None:
    """A sweep of some is none: the next one might leave out the same."""
    for at in range(1001):
        emulator.store.put_manifest(f"us-docker.pkg.dev/acme/apps/r{at:04}", b"{}", "application/x")
    emulator.faults.add(Status(403, "PERMISSION_DENIED"), kind="rest_packages", nth=2)

    with pytest.raises(PermissionDenied) as caught:
        Searcher(emulator).found("us-docker.pkg.dev/acme/apps")

    assert caught.value.permission == "artifactregistry.packages.list"


# --- what is published


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

    with pytest.raises(TimeLimitReached, match="2000 requests are published, not all"):
        request_prunes(repositories(2500), requests, lambda: next(clock), 7.0)

    assert requests.names == [str(one) for one in repositories(2000)]


def test_request_is_a_prune() -> None:
    """As the prune_command of Terraform's outputs spells it."""
    assert json.loads(prune_request(Repository("gcr.io", "acme/api"))) == {
        "action": "PRUNE",
        "repository": "gcr.io/acme/api",
    }


# --- the function


@dataclass(frozen=True)
class Event:
    """A message from the topic of requests."""

    data: object
    attributes: Mapping[str, str]

    def get(self, key: str) -> object:
        return self.attributes.get(key)


def sweep_event(root: str, published: datetime | None = None) -> Event:
    data = json.dumps({"action": "SWEEP", "repository": root}).encode()
    source = f"//pubsub.googleapis.com/projects/demo/topics/{REQUESTS}"
    return Event(envelope(data, published=published), {"source": source})


def sweeping(emulator: Emulator, requests: Requests, *, time_limit_s: float = 60) -> Function:
    """Return the function, with ``requests`` as its topic."""
    settings = Settings.from_environment(
        {
            "POLICIES": json.dumps([{"repositories": ["**"], **POLICY}]),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": emulator.host,
            "REQUESTS_TOPIC": f"projects/demo/topics/{REQUESTS}",
            "TIME_LIMIT": str(time_limit_s),
            "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": emulator.url,
        }
    )
    function = Function(settings)
    function._publisher = requests  # type: ignore[assignment]  # it publishes as well
    return function


def many(emulator: Emulator, count: int) -> list[str]:
    """Make many repositories; return their names, sorted."""
    names = [f"us-docker.pkg.dev/acme/apps/r{at:05}" for at in range(count)]
    for name in reversed(names):
        emulator.store.put_manifest(name, b"{}", "application/x")
    return names


def test_ten_thousand_repositories(emulator: Emulator) -> None:
    """Ten pages and ten batches, in order of name."""
    names = many(emulator, 10_000)
    requests = Requests()

    sweeping(emulator, requests).handle(sweep_event("us-docker.pkg.dev/acme/apps"))

    assert requests.names == names
    assert len(requests.batches) == 10
    assert emulator.log.counts["rest_packages"] == 10


def test_sweeps_that_wait_together_are_one(emulator: Emulator) -> None:
    """Five orders that arrive while one is at work cost one more sweep, not five."""
    names = many(emulator, 20)
    requests = Requests()
    function = sweeping(emulator, requests)
    emulator.faults.add(Delay(0.5), kind="rest_packages", times=1)

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps"))
        wait_for(lambda: emulator.log.counts["rest_repository"] == 1, "the first is at work")
        others = [pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps")) for _ in range(5)]
        for future in (first, *others):
            future.result()

    assert requests.names == names * 2
    assert emulator.log.counts["rest_packages"] == 2


def test_sweeps_of_different_roots_do_not_wait(emulator: Emulator) -> None:
    """One that is slow holds up no other."""
    many(emulator, 3)
    builds(emulator, "gcr.io/acme/api", 1)
    requests = Requests()
    function = sweeping(emulator, requests)
    emulator.faults.add(Delay(1.5), kind="rest_packages", path="/apps/")
    done = threading.Event()

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps"))
        slow.add_done_callback(lambda _: done.set())
        wait_for(lambda: emulator.log.counts["rest_repository"] == 1, "the slow one is at work")
        function.handle(sweep_event("gcr.io/acme"))
        assert requests.names == ["gcr.io/acme/api"]
        assert not done.is_set()
        slow.result()


def test_sweep_published_before_the_last_one_is_covered(emulator: Emulator) -> None:
    """A redelivery of what has been done costs nothing; a later order is another one."""
    names = many(emulator, 5)
    requests = Requests()
    function = sweeping(emulator, requests)
    root = "us-docker.pkg.dev/acme/apps"
    now = datetime.now(UTC)

    for published in (now - timedelta(seconds=9), now - timedelta(seconds=9), now + timedelta(seconds=9)):
        function.handle(sweep_event(root, published))

    assert requests.names == names * 2


def test_interrupted_sweep_is_delivered_again(emulator: Emulator) -> None:
    """What was published before is published again, which does no harm; nothing is left out."""
    names = many(emulator, 2500)
    requests = Requests(broken=1)
    function = sweeping(emulator, requests)
    event = sweep_event("us-docker.pkg.dev/acme/apps")

    with pytest.raises(Unavailable):
        function.handle(event)
    assert requests.names == names[:BATCH]
    requests.broken = None
    function.handle(event)

    assert requests.names == names[:BATCH] + names


def test_sweep_of_nothing_publishes_nothing(emulator: Emulator) -> None:
    """No repository, no request, no error: the message is acknowledged."""
    requests = Requests()
    function = sweeping(emulator, requests)

    function.handle(sweep_event("us-docker.pkg.dev/acme/none"))
    function.handle(sweep_event(emulator.name("none")))

    assert requests.batches == []


# --- the command line


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


@pytest.fixture
def policies(emulator: Emulator, tmp_path: Path) -> str:
    """A file whose policies report on ``web`` and leave ``legacy`` alone."""
    document: list[dict[str, Any]] = [
        {"repositories": [emulator.name("acme/web")], **POLICY, "dry_run": True},
        {"repositories": [emulator.name("acme/a*"), "us-docker.pkg.dev/**"], **POLICY},
    ]
    path = tmp_path / "policies.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture
def acme(emulator: Emulator) -> str:
    """The root of four repositories."""
    for path in ("acme/api", "acme/app", "acme/web", "acme/legacy"):
        builds(emulator, emulator.name(path))
    return emulator.name("acme")


def test_command_lists_what_it_would_ask_for(emulator: Emulator, acme: str, policies: str) -> None:
    """A name a line on stdout, for other programs; the rest on stderr."""
    ended = call(emulator, acme, "--policies", policies, "--dry-run")

    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [f"{acme}/api", f"{acme}/app", f"{acme}/web"]
    assert ended.stderr == f"3 repositories under {acme} matched by {policies}; nothing was published\n"


def test_command_is_told_that_nobody_asks(emulator: Emulator, acme: str, policies: str) -> None:
    """``--yes`` answers a question of ``--local``; elsewhere that is said, and nothing else changes."""
    without, given = (call(emulator, acme, "--policies", policies, "--dry-run", *yes) for yes in ((), ("--yes",)))

    assert (given.returncode, given.stdout) == (0, without.stdout)
    assert given.stderr == f"--yes says nothing here: only --local asks\n{without.stderr}"


def test_command_prunes_from_here(emulator: Emulator, acme: str, policies: str) -> None:
    """Each by its policy: one only reports, one is left alone."""
    ended = call(emulator, acme, "--policies", policies, "--local", "--yes")

    assert (ended.returncode, ended.stderr) == (0, "")
    kept, all_of_them = ["build-0", "build-1"], [f"build-{at}" for at in range(4)]
    assert [tags(emulator, f"{acme}/{one}") for one in ("api", "app")] == [kept, kept]
    assert [tags(emulator, f"{acme}/{one}") for one in ("web", "legacy")] == [all_of_them, all_of_them]
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert [row[:5] for row in rows[1:4]] == [[f"{acme}/{one}", "2", "2", "0", "0"] for one in ("api", "app", "web")]
    assert rows[3][-2:] == ["dry", "run"]
    assert ended.stdout.splitlines()[-1].startswith("4 manifests of 3 repositories were deleted, ")


def test_command_tells_how_much_would_go(emulator: Emulator, acme: str, policies: str) -> None:
    """For each repository, without a question and without a deletion."""
    ended = call(emulator, acme, "--policies", policies, "--local", "--dry-run")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("dry run") == 3
    assert ended.stdout.splitlines()[-1].startswith("6 manifests of 3 repositories would be deleted, ")
    assert {one.method for one in emulator.log.entries} == {"GET"}


@pytest.mark.parametrize("width", [40, 60, 80])
def test_command_on_a_narrow_terminal(emulator: Emulator, policies: str, width: int) -> None:
    """No line is wider, names are broken behind a slash, and what failed is told however few columns there are."""
    acme = emulator.name("acme")
    builds(emulator, f"{acme}/a-service-of-the-platform")
    emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", COLUMNS=str(width))

    assert ended.returncode == 1
    assert max(map(len, ended.stdout.splitlines())) <= width
    (first, *numbers), (second, *_) = (line.split() for line in ended.stdout.splitlines()[1:3])
    assert "2" in numbers
    if width >= 60:
        assert (first, second) == (f"{acme}/", "a-service-of-the-platform")
    else:
        assert " ".join(numbers) == "0 2 failed"


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("us-docker.pkg.dev/acme", "that is us-docker.pkg.dev/PROJECT/REPOSITORY, or a path under it"),
        ("us-docker.pkg.dev/acme.com/p", "that is us-docker.pkg.dev/DOMAIN/PROJECT/REPOSITORY, or a path under it"),
        ("gcr.io/acme.com", "that is gcr.io/DOMAIN/PROJECT, or a path under it"),
    ],
)
def test_command_with_a_root_that_is_none(emulator: Emulator, policies: str, root: str, said: str) -> None:
    """A name that is invalid, so exit code 2 before anybody is asked for anything."""
    for more in (("--dry-run",), ("--local", "--yes"), ("--topic", "projects/demo/topics/requests")):
        ended = call(emulator, root, "--policies", policies, *more)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"error: {root!r}: names no root: {said}\n"
    assert emulator.log.total == 0


def test_command_needs_yes_to_prune_from_here(emulator: Emulator, acme: str, policies: str) -> None:
    """There is nobody to ask; nobody is asked for anything."""
    ended = call(emulator, acme, "--policies", policies, "--local")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--yes prunes without a question" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert emulator.log.total == 0


def test_command_goes_on_behind_a_failure(emulator: Emulator, acme: str, policies: str) -> None:
    """One repository that cannot be read keeps no other from being pruned; the exit code is 1."""
    emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/api/tags", skip=1)

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes")

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {acme}/api: the listing: denied: ")
    assert ended.stderr.count("\n") == 1
    assert tags(emulator, f"{acme}/app") == ["build-0", "build-1"]
    assert ended.stdout.splitlines()[1].split() == [f"{acme}/api", "error"]


def test_command_names_tags_that_went_for_nothing(emulator: Emulator, acme: str, policies: str) -> None:
    """Behind the table, by repository and image, with what it means for the next run."""
    digests = {tag: emulator.store.tags(f"{acme}/api")[tag] for tag in ("build-2", "build-3")}
    emulator.faults.add(Status(405, "UNSUPPORTED"), method="DELETE", path="acme/api/manifests/sha256:")

    ended = call(emulator, acme, "--policies", policies, "--local", "--yes", COLUMNS="200")

    assert ended.returncode == 1
    assert tags(emulator, f"{acme}/api") == ["build-0", "build-1"]
    heading, *named = ended.stdout.splitlines()[-3:]
    assert heading == (
        f"{acme}/api: lost 2 tags of 2 manifests still there: one without tags is judged as untagged the next time,"
        " by keep_untagged"
    )
    assert sorted(named) == sorted(f"  {digest[7:19]} without {tag}" for tag, digest in digests.items())


def test_command_finds_nothing(emulator: Emulator, policies: str) -> None:
    """No error, one line."""
    ended = call(emulator, "us-docker.pkg.dev/acme/none", "--policies", policies, "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "us-docker.pkg.dev/acme/none: no such repository\n"

    ended = call(emulator, emulator.name("none"), "--policies", policies, "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"0 repositories under {emulator.name('none')} matched by {policies}\n"


def test_command_without_credentials_for_the_topic(
    emulator: Emulator, acme: str, policies: str, tmp_path: Path
) -> None:
    """One line, which says how to get some."""
    missing = str(tmp_path / "none.json")
    topic = "projects/demo/topics/requests"

    ended = call(emulator, acme, "--policies", policies, "--topic", topic, GOOGLE_APPLICATION_CREDENTIALS=missing)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: no usable application default credentials: run gcloud auth application-default login\n"
    )


def test_command_without_an_answer_of_the_topic(emulator: Emulator, acme: str, policies: str) -> None:
    """Pub/Sub is out of reach: one line says so, and what to check."""
    topic = "projects/demo/topics/requests"
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

    ended = call(
        emulator, acme, "--policies", policies, "--topic", topic, "--time-limit", "2", PUBSUB_EMULATOR_HOST=host
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"error: {topic}: no answer of Pub/Sub in time, at the last attempt:"
        " check the host's name and the network, or try again later\n"
    )


def test_command_without_a_place_for_the_requests(emulator: Emulator, policies: str) -> None:
    """Exit code 2, and what could be meant."""
    for given, said in (
        ((), "where do the requests go"),
        (("--topic", "requests"), "must be projects/P/topics/T"),
        (("--topic", "projects/p/topics/ttt", "--local"), "not allowed with argument"),
    ):
        ended = call(emulator, "gcr.io/acme", "--policies", policies, *given)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert ended.stderr.endswith(" sweep --help tells more)\n")
        assert ended.stderr.count("\n") == 1
    ended = call(emulator, "gcr.io/acme", "--policies", policies, REQUESTS_TOPIC="requests")
    assert ended.stderr == "error: REQUESTS_TOPIC: must be projects/P/topics/T, not 'requests'\n"


# --- end to end


@dataclass(slots=True)
class Chain:
    """Two topics, both pushed to one process of the function."""

    pubsub: PubSub
    project: str
    function: FunctionProcess

    def order(self, document: Mapping[str, str], topic: str = REQUESTS) -> None:
        self.pubsub.publish(self.project, [json.dumps(document).encode()], topic)

    def pruned(self) -> set[str]:
        return {str(record["repository"]) for record in self.function.logged("prune finished")}


@pytest.fixture
def chain(emulator: Emulator, pubsub: PubSub, policies: str) -> Iterator[Chain]:
    project = f"sweep-{next(_projects)}"
    settings = {
        "POLICIES": Path(policies).read_text(),
        "DRY_RUN": "false",
        "INSECURE_REGISTRIES": emulator.host,
        "REQUESTS_TOPIC": f"projects/{project}/topics/{REQUESTS}",
        "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": emulator.url,
        "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{pubsub.port}",
    }
    with ExitStack() as stack:
        function = FunctionProcess(settings)
        stack.callback(function.stop)
        function.wait_until_up()
        for topic in (REQUESTS, "gcr"):
            pubsub.create_topic(project, topic)
            pubsub.subscribe(project, function.url + topic_path(topic, project), topic, name=topic)
            stack.callback(pubsub.unsubscribe, project, name=topic)
        yield Chain(pubsub, project, function)


def assert_swept(emulator: Emulator, acme: str) -> None:
    """Every repository is as its policy says."""
    for one, count in (("api", 2), ("app", 2), ("web", 4), ("legacy", 4)):
        assert tags(emulator, f"{acme}/{one}") == [f"build-{at}" for at in range(count)]


def test_message_sweeps(chain: Chain, emulator: Emulator, acme: str) -> None:
    """A SWEEP arrives, its requests are published and delivered, and every repository ends as its policy says."""
    chain.order({"action": "SWEEP", "repository": acme})

    wait_for(lambda: len(chain.pruned()) == 3, "three are pruned")
    assert chain.pruned() == {f"{acme}/{one}" for one in ("api", "app", "web")}
    assert [record["repositories"] for record in chain.function.logged("sweep finished")] == [3]
    assert_swept(emulator, acme)


def test_command_has_the_function_prune(chain: Chain, emulator: Emulator, acme: str, policies: str) -> None:
    """The command publishes, the function prunes; and again, which changes nothing."""
    topic = f"projects/{chain.project}/topics/{REQUESTS}"
    host = f"127.0.0.1:{chain.pubsub.port}"
    for runs in (3, 6):
        ended = call(emulator, acme, "--policies", policies, PUBSUB_EMULATOR_HOST=host, REQUESTS_TOPIC=topic)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == f"3 repositories under {acme}: 3 requests published to {topic}\n"
        wait_for(lambda count=runs: len(chain.function.logged("prune finished")) == count, f"{runs} runs")  # type: ignore[misc]
        assert_swept(emulator, acme)


def test_orders_only_from_the_topic_of_requests(chain: Chain, emulator: Emulator, acme: str) -> None:
    """Who may push images must not be able to order a sweep."""
    chain.order({"action": "SWEEP", "repository": acme}, topic="gcr")

    wait_for(lambda: chain.function.logged("message rejected"), "it is rejected")
    assert chain.pruned() == set()
    assert tags(emulator, f"{acme}/api") == [f"build-{at}" for at in range(4)]


def test_topic_that_is_not_there(pubsub: PubSub, emulator: Emulator, acme: str, policies: str) -> None:
    """One line names it."""
    topic = "projects/nobody/topics/requests"

    ended = call(
        emulator, acme, "--policies", policies, "--topic", topic, PUBSUB_EMULATOR_HOST=f"127.0.0.1:{pubsub.port}"
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {topic}: no such topic\n"


def test_ten_thousand_requests_reach_pubsub(pubsub: PubSub, emulator: Emulator, policies: str) -> None:
    """With Google's library and a real topic."""
    names = many(emulator, 10_000)
    project = f"sweep-{next(_projects)}"
    pubsub.create_topic(project, REQUESTS)
    pubsub._ask("PUT", f"projects/{project}/subscriptions/all", {"topic": f"projects/{project}/topics/{REQUESTS}"})
    topic = f"projects/{project}/topics/{REQUESTS}"

    ended = call(
        emulator,
        "us-docker.pkg.dev/acme/apps",
        *("--policies", policies, "--topic", topic),
        PUBSUB_EMULATOR_HOST=f"127.0.0.1:{pubsub.port}",
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "10,000 requests published" in ended.stdout
    received: list[str] = []
    while len(received) < len(names):
        answer: Any = pubsub._ask("POST", f"projects/{project}/subscriptions/all:pull", {"maxMessages": 1000})
        messages = answer["receivedMessages"]
        received += [json.loads(_data(one))["repository"] for one in messages]
        pubsub._ask(
            "POST",
            f"projects/{project}/subscriptions/all:acknowledge",
            {"ackIds": [one["ackId"] for one in messages]},
        )
    assert sorted(received) == names


def _data(received: Mapping[str, Any]) -> bytes:
    return base64.b64decode(received["message"]["data"])
