"""Pub/Sub's emulator delivers to functions-framework, which prunes the registry emulator, over sockets all the way.

Whatever happens on the way, every image that should stay is whole in the end.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import requests

from tests.emulator import Emulator
from tests.emulator.faults import Delay, Stall, Status
from tests.emulator.images import attestation, cosign_signature, cosign_tag, image, index, load, multi_arch, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.emulator.wire import Pusher, notifications
from tests.support.deliveries import Shape, deliver
from tests.support.function import FunctionProcess
from tests.support.held import Held, assert_whole
from tests.support.processes import DEADLINE_S, free_port, wait_for
from tests.support.pubsub import Gateway, PubSub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.emulator.images import Content

PATH = "acme/api"
KEEP = 2
# A process that is killed leaves signatures whose subject it has deleted.
POLICY = {
    "tagged": [{"match": "v[0-9]+", "keep": "all"}, {"match": "build-[0-9]+", "keep": KEEP}],
    "untagged": {"keep": 1},
    "orphans": {"keep": 0},
}
ABSENT = "sha256:" + "0" * 64

_projects = itertools.count(1)


@dataclass(slots=True)
class Chain:
    """Topic, push subscription, gateway, function, registry; each test has its own."""

    pubsub: PubSub
    emulator: Emulator
    stack: ExitStack
    project: str = field(default_factory=lambda: f"project-{next(_projects)}")
    subscriptions: int = 0

    def repository(self, path: str = PATH) -> str:
        return self.emulator.name(path)

    def settings(self, **settings: str) -> dict[str, str]:
        policies = [{"repositories": [f"{self.emulator.host}/**"], **POLICY}]
        return {
            "POLICIES": json.dumps(policies),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": self.emulator.host,
            "LOG_LEVEL": "DEBUG",
        } | settings

    def function(self, *, port: int | None = None, **settings: str) -> FunctionProcess:
        """A process of the function that is up; nobody pushes to it yet."""
        process = FunctionProcess(self.settings(**settings), port=port)
        self.stack.callback(process.kill)
        return process.wait_until_up()

    def push_to(self, function: FunctionProcess | int) -> Gateway:
        """Let the topic push to the function, or its port, by way of a gateway that keeps record."""
        port = function if isinstance(function, int) else function.port
        gateway = self.stack.enter_context(Gateway(port))
        self.subscriptions += 1
        name = f"push-{self.subscriptions}"
        if self.subscriptions == 1:
            self.pubsub.create_topic(self.project)
        self.pubsub.subscribe(self.project, gateway.url, name=name)
        self.stack.callback(self.pubsub.unsubscribe, self.project, name=name)
        return gateway

    def publish(self, messages: Sequence[dict[str, str] | bytes] | Sequence[dict[str, str]]) -> list[str]:
        data = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
        return self.pubsub.publish(self.project, data)

    def push(self, content: Content, *tags: str, path: str = PATH) -> list[dict[str, str]]:
        """Push as a client does; return what Google would publish."""
        with Pusher(self.emulator.url) as pusher:
            return pusher.push(path, content, tags)

    def left(self, path: str = PATH) -> frozenset[str]:
        return self.emulator.store.digests(self.repository(path))


@pytest.fixture
def chain(pubsub: PubSub) -> Iterator[Chain]:
    with Emulator() as emulator, ExitStack() as stack:
        yield Chain(pubsub, emulator, stack)


@dataclass(frozen=True, slots=True)
class History:
    """A repository as CI leaves it, and which of its images stay; ``before`` is what it held."""

    chain: Chain
    path: str
    kept: frozenset[str]
    before: Held

    @property
    def staying(self) -> frozenset[str]:
        """What stays, with all that belongs to it."""
        return frozenset(part for digest in self.kept for part in self.before.whole(digest))

    def without(self, tag: str) -> History:
        """The same, but that the image with this tag goes too."""
        kept = frozenset(digest for digest in self.kept if tag not in self.before.tags[digest])
        return History(self.chain, self.path, kept, self.before)

    def assert_whole(self) -> None:
        assert_whole(self.before, self.chain.emulator.store, self.chain.repository(self.path), self.kept)

    def assert_pruned(self, pushed: Iterable[str] = ()) -> None:
        """Exactly what should stay is left, beside what was pushed since."""
        self.assert_whole()
        left = self.chain.left(self.path)
        assert left - set(pushed) == self.staying
        assert left >= set(pushed)


def fill(chain: Chain, path: str = PATH, *, builds: int = 6, untagged: int = 6) -> History:
    """Attested and signed multi-arch builds with tags, images without, a release with an SBOM; some share parts."""
    store, repository, now = chain.emulator.store, chain.repository(path), datetime.now(UTC)
    kept = set()
    shared = image(f"{path}/shared", media_type=OCI_MANIFEST, platform="arm64")
    for at in range(builds):
        own = image(f"{path}/{at}/amd64", media_type=OCI_MANIFEST, platform="amd64")
        # Each third build has the same arm64 image: the first stays and the others go.
        other = image(f"{path}/{at}/arm64", media_type=OCI_MANIFEST, platform="arm64") if at % 3 else shared
        built = index([own, other, attestation(own), attestation(other)])
        uploaded = now - timedelta(days=1 + at)
        load(store, repository, built, tags=f"build-{at}", uploaded=uploaded)
        load(store, repository, cosign_signature(built), tags=cosign_tag(built), uploaded=uploaded)
        if at < KEEP:
            kept.add(built.digest)
    for at in range(untagged):
        one = load(store, repository, image(f"{path}/untagged/{at}"), uploaded=now - timedelta(days=1 + at))
        if at == 0:
            kept.add(one)
    release = multi_arch(f"{path}/release")
    kept.add(load(store, repository, release, tags="v1", uploaded=now - timedelta(days=300)))
    load(store, repository, referrer(release), uploaded=now - timedelta(days=300))
    return History(chain, path, frozenset(kept), Held.now(store, repository))


def insert(chain: Chain, path: str = PATH, digest: str = ABSENT) -> dict[str, str]:
    return notifications(chain.repository(path), digest)[0]


# Messages.


def test_duplicates_and_reordered_messages_are_harmless(chain: Chain) -> None:
    """Each message of a push twice, in no order; and all of them once more, to a process that knows of nothing."""
    history = fill(chain)
    # Of the two builds that are kept the one that is pushed now takes the place of the older.
    published = chain.push(image("pushed", with_blobs=True), "build-99")
    published += chain.push(multi_arch("parts", attestations=True, with_blobs=True))
    pushed = chain.left() - history.before.children.keys()
    function = chain.function()
    gateway = chain.push_to(function)
    twice = published * 2
    random.Random(2).shuffle(twice)

    ids = chain.publish(twice)

    wait_for(lambda: gateway.acknowledged(ids), "all is acknowledged")
    rest = history.without("build-1")
    rest.assert_pruned(pushed)
    second = chain.function()
    with Gateway(second.port) as again:
        replayed = list(gateway.deliveries)
        random.Random(3).shuffle(replayed)
        assert {again.forward(one) for one in replayed} == {200}
    rest.assert_pruned(pushed)
    assert {one["deleted"] for one in second.logged("prune finished")} == {0}


def test_messages_of_one_push_cost_one_or_two_listings(chain: Chain) -> None:
    """A multi-arch push announces itself ten times and more; that is one repository to look at, not ten."""
    history = fill(chain)
    published = chain.push(multi_arch("push", platforms=("amd64", "arm64", "arm", "s390x"), attestations=True))
    published += [insert(chain, digest=digest) for digest in list(history.staying)[:3]]
    assert len(published) > 10
    chain.emulator.log.clear()
    function = chain.function()
    gateway = chain.push_to(function)

    ids = chain.publish(published)

    wait_for(lambda: gateway.acknowledged(ids), "all is acknowledged")
    assert 1 <= chain.emulator.log.counts["tags_list"] <= 2
    runs, covered = function.logged("prune finished"), function.logged("already covered")
    assert len(runs) + len(covered) == len(ids)
    assert chain.left() >= history.staying
    history.assert_whole()


def poison(chain: Chain) -> list[bytes]:
    """Messages that can never be carried out."""
    ours, digest = chain.repository(), f"{chain.repository()}@{ABSENT}"
    documents: list[object] = [
        [],
        "INSERT",
        None,
        {"action": "INSERT"},
        {"action": "EXPLODE", "digest": digest},
        {"action": ["INSERT"], "digest": digest},
        {"action": "INSERT", "digest": 7},
        {"action": "INSERT", "digest": f"{ours}@sha256:{'0' * 63}"},
        {"action": "INSERT", "digest": f"{ours}/../other@{ABSENT}"},
        {"action": "INSERT", "digest": f"{digest}\n"},
        {"action": "INSERT", "digest": digest, "tag": f"{ours}-other:latest"},
        {"action": "INSERT", "tag": f"{ours}:latest?n=1"},
        {"action": "INSERT", "digest": f"registry.example.com/{PATH}@{ABSENT}"},
        {"action": "INSERT", "digest": f"{chain.emulator.host}@gcr.io/{PATH}@{ABSENT}"},
        {"action": "PRUNE", "repository": ours},
        {"action": "SWEEP", "repository": ours},
    ]
    texts = [json.dumps(one).encode() for one in documents]
    return [*texts, b"\xff\xfe\x00", b"{", b"[" * 5000, b'{"a":' * 5000, b"\0" * 100_000]


def test_poisoned_messages_among_good_ones(chain: Chain) -> None:
    """What can never be carried out is acknowledged at once, with its reason, and never comes again."""
    history = fill(chain)
    gateway = chain.push_to(function := chain.function())
    bad, good = poison(chain), [insert(chain), insert(chain)]
    messages: list[dict[str, str] | bytes] = [*bad[:10], good[0], *bad[10:], good[1]]

    ids = chain.publish(messages)

    wait_for(lambda: gateway.acknowledged(ids), "all is acknowledged")
    assert [[one.status for one in gateway.of(number)] for number in ids] == [[200]] * len(ids)
    rejected = function.logged("message rejected", severity="ERROR")
    assert len(rejected) == len(bad)
    assert all(isinstance(one["reason"], str) and one["reason"] for one in rejected)
    assert function.records == [one for one in function.records if one["severity"] not in ("CRITICAL", "WARNING")]
    history.assert_pruned()


def test_a_storm_of_deletions_makes_no_request(chain: Chain) -> None:
    """Google announces our own deletions: were they to start a run, each run would start the next."""
    history = fill(chain)
    before = chain.left()
    gateway = chain.push_to(function := chain.function())
    tags = [{"action": "DELETE", "tag": f"{chain.repository()}:build-{at}"} for at in range(50)]
    digests = [{"action": "DELETE", "digest": f"{chain.repository()}@{digest}"} for digest in before]

    ids = chain.publish([*tags, *digests])

    wait_for(lambda: gateway.acknowledged(ids), "all is acknowledged")
    assert chain.emulator.log.entries == []
    assert chain.left() == before
    assert len(function.logged("deletion announced")) == len(ids)
    history.assert_whole()


def test_a_child_announced_before_its_index_stays(chain: Chain) -> None:
    """The parts of an index arrive first and look like untagged images; ``min_age`` is what saves them."""
    history = fill(chain)
    gateway = chain.push_to(chain.function())
    pushed = multi_arch("on-its-way", with_blobs=True)
    first, *_ = [one for child in pushed.children for one in chain.push(child)]

    # The other's message has not come yet, so nothing but its age speaks for it.
    ids = chain.publish([first])
    wait_for(lambda: gateway.acknowledged(ids), "the child is acknowledged")
    assert chain.left() >= {child.digest for child in pushed.children}
    ids = chain.publish(chain.push(pushed, "v2"))

    wait_for(lambda: gateway.acknowledged(ids), "the index is acknowledged")
    history.assert_pruned([pushed.digest, *(child.digest for child in pushed.children)])


# Processes.


def test_two_processes_on_one_repository(chain: Chain) -> None:
    """Two instances get the same push at once; one has a listing that grows old while the other deletes."""
    history = fill(chain, builds=10, untagged=20)
    chain.emulator.faults.latency_s = 0.005
    # What the first listing says is true when it is made, and not when it arrives.
    late = chain.emulator.faults.add(Delay(0.1, after=True), kind="tags_list", nth=1)
    functions = [chain.function(WORKERS="4"), chain.function(WORKERS="4")]
    gateways = [chain.push_to(function) for function in functions]

    ids = chain.publish([insert(chain)])

    for gateway in gateways:
        wait_for(lambda gateway=gateway: gateway.acknowledged(ids), "both have acknowledged")  # type: ignore[misc]
    history.assert_pruned()
    assert late.hits == 1
    for function in functions:
        (finished,) = function.logged("prune finished")
        assert finished["failed"] == 0
        assert function.logged("prune failed") == []
    assert chain.emulator.log.counts["tags_list"] >= 2


def test_killed_in_mid_run_the_next_delivery_goes_on(chain: Chain) -> None:
    """``kill -9`` twice while it deletes; what is left is whole each time, and redelivery ends what was begun."""
    history = fill(chain, builds=8, untagged=12)
    faults = chain.emulator.faults
    gateway = chain.push_to(port := free_port())

    ids: list[str] = []
    for _ in range(2):
        # The sixth deletion gets no answer, so that is where it stands when it is killed.
        stuck = faults.add(Stall(600), kind="manifest_delete", skip=5)
        function = chain.function(port=port, WORKERS="2")
        ids = ids or chain.publish([insert(chain)])
        wait_for(lambda stuck=stuck: stuck.hits, "it is in the middle of it")  # type: ignore[misc]
        function.kill()
        faults.remove(stuck)
        history.assert_whole()
        assert history.staying < chain.left() < history.before.children.keys()
    chain.function(port=port, WORKERS="2")

    wait_for(lambda: gateway.acknowledged(ids), "it is acknowledged")
    # To a process that knows of nothing a part without its owner is an image, and may be the newest of its kind.
    held = chain.emulator.store.manifests(chain.repository())
    kinds = [json.loads(held[digest].body)["layers"][0]["mediaType"] for digest in chain.left() - history.staying]
    assert len(kinds) == len({*kinds})
    assert {*kinds} <= {"application/vnd.in-toto+json", "application/vnd.dev.cosign.simplesigning.v1+json"}
    history.assert_whole()
    statuses = [one.status for one in gateway.of(ids[0])]
    assert statuses.count(0) >= 2
    assert statuses[-1] == 200


def test_time_limit_fails_the_message_and_redelivery_goes_on(chain: Chain) -> None:
    """A run that has no more time says what it did and raises; the next delivery does the rest."""
    history = fill(chain, builds=3, untagged=30)
    chain.emulator.faults.latency_s = 0.05
    function = chain.function(WORKERS="1", TIME_LIMIT="2")
    gateway = chain.push_to(function)

    ids = chain.publish([insert(chain)])

    wait_for(lambda: gateway.acknowledged(ids), "it is acknowledged")
    statuses = [one.status for one in gateway.of(ids[0])]
    assert len(statuses) >= 2
    assert statuses == [500] * (len(statuses) - 1) + [200]
    runs = function.logged("prune finished", repository=chain.repository())
    went = [int(str(one["deleted"])) for one in runs]
    assert sum(went) == len(history.before.children) - len(history.staying)
    assert len(function.logged("prune interrupted", severity="WARNING")) == len(statuses) - 1
    history.assert_pruned()


def test_repositories_side_by_side(chain: Chain) -> None:
    """One that has to wait for the registry holds up no other."""
    slow, quick = fill(chain, "acme/slow"), fill(chain, "acme/quick")
    # The registry asks for patience, again and again.
    busy = chain.emulator.faults.add(Status(503, retry_after=1), kind="tags_list", path="/acme/slow/")
    function = chain.function()
    gateway = chain.push_to(function)

    first = chain.publish([insert(chain, "acme/slow")])
    wait_for(lambda: busy.hits, "the slow one is under way")
    second = chain.publish([insert(chain, "acme/quick")])

    wait_for(lambda: gateway.acknowledged(second), "the quick one is acknowledged")
    assert not gateway.acknowledged(first)
    quick.assert_pruned()
    chain.emulator.faults.remove(busy)
    wait_for(lambda: gateway.acknowledged(first), "the slow one is acknowledged")
    slow.assert_pruned()


def test_workers_are_threads_and_not_processes(chain: Chain) -> None:
    """functions-framework reads ``WORKERS`` too, for its number of processes, each of which would list for itself."""
    function = chain.function(WORKERS="20")
    if not Path("/proc/self/task").exists():
        pytest.skip("processes are counted in /proc")

    # An answer tells that the first has been started; a second would follow within 0.1 s, gunicorn says.
    assert requests.get(function.url, timeout=DEADLINE_S).status_code == 405
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert function.workers() == 1
        time.sleep(0.05)


def test_invalid_policy_does_not_start() -> None:
    """Exit code 2, and one line of the log with every mistake by the policy's position, the rule and the key."""
    rules = [{"match": "v*", "keep": 1}, {"match": "main-.*", "keep": -1}]
    policies = [{"repositories": ["gcr.io/acme/*"]}, {"repositories": ["gcr.io/acme/**"], "tagged": rules}]

    with FunctionProcess({"POLICIES": json.dumps(policies)}) as function:
        code = function.wait_for_end()

    assert code == 2
    (record,) = function.records
    assert record["severity"] == "CRITICAL"
    mistakes = str(record["error"]).splitlines()
    assert [one.split(":")[0] for one in mistakes] == ["POLICIES[1].tagged[0].match", "POLICIES[1].tagged[1].keep"]
    assert function.errors == []


def test_no_credential_goes_to_an_insecure_host(chain: Chain, tmp_path: Path) -> None:
    """A registry of ``INSECURE_REGISTRIES`` that wants a token gives it to anybody; Google's is not even fetched."""
    chain.emulator.behaviour.auth, chain.emulator.behaviour.anonymous = True, frozenset({"pull", "push"})
    history = fill(chain)
    credentials = tmp_path / "credentials.json"
    secret = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "token",
        "token_uri": f"{chain.emulator.url}/credentials",
    }
    credentials.write_text(json.dumps(secret))
    function = chain.function(GOOGLE_APPLICATION_CREDENTIALS=str(credentials))
    gateway = chain.push_to(function)

    ids = chain.publish([insert(chain)])

    wait_for(lambda: gateway.acknowledged(ids), "it is acknowledged")
    history.assert_pruned()
    log = chain.emulator.log
    assert log.counts["token"] == 1
    assert log.counts["other"] == 0
    assert {one.authorization for one in log.entries} == {"", "token"}
    assert {one.authorization for one in log.of("token")} == {""}
    assert "emulator-token-" not in "\n".join(function.lines + function.errors)


# Logs.


def test_log_lines_belong_to_their_request(chain: Chain) -> None:
    """``LOG_EXECUTION_ID``, two requests at once: severity, label and trace are right in workers' lines too."""
    first, second = fill(chain, "acme/first"), fill(chain, "acme/second")
    gone = chain.emulator.faults.add(Delay(0.5), kind="tags_list", path="/acme/first/")
    function = chain.function(LOG_EXECUTION_ID="true")
    statuses: list[int] = []

    def send(path: str, number: int) -> None:
        headers = {
            "Function-Execution-Id": f"execution-{number}",
            "X-Cloud-Trace-Context": f"{number:032x}/{number};o=1",
        }
        data = json.dumps(insert(chain, path)).encode()
        statuses.append(deliver(function.url, data, Shape.EVENTARC, headers=headers))

    thread = Thread(target=send, args=("acme/first", 1))
    thread.start()
    wait_for(lambda: gone.hits, "the first request is under way")
    send("acme/second", 2)
    thread.join()

    assert statuses == [200, 200]
    assert function.errors == []
    for number, history in ((1, first), (2, second)):
        repository = chain.repository(history.path)
        records = [one for one in function.records if one.get("repository") == repository]
        assert {one["message"] for one in records} >= {"manifest deleted", "tag deleted", "prune finished"}
        for record in records:
            assert record["logging.googleapis.com/trace"] == f"projects/demo/traces/{number:032x}", record
            assert record["logging.googleapis.com/labels"] == {"execution_id": f"execution-{number}"}, record
        history.assert_pruned()
    assert all(record["severity"] in ("DEBUG", "INFO") for record in function.records)


@pytest.mark.parametrize("execution_id", ["true", "false"])
def test_a_failed_message_logs_json_too(chain: Chain, execution_id: str) -> None:
    """What functions-framework makes of an exception is a line like the others."""
    fill(chain)
    chain.emulator.faults.add(Delay(0.3), kind="tags_list")
    function = chain.function(LOG_EXECUTION_ID=execution_id, TIME_LIMIT="0.1")

    status = deliver(function.url, json.dumps(insert(chain)).encode())

    assert status == 500
    function.wait_for(lambda: function.logged("prune interrupted"), "the failure is logged")
    assert all(isinstance(record.get("severity"), str) for record in function.records)
    assert all(line.isascii() for line in function.lines)
    assert function.errors == []
