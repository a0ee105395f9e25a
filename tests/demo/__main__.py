"""``make demo``: pushes to a few repositories, locally and on their own, and what the function makes of it.

Starts a registry, the function and, where the Cloud SDK has it, Pub/Sub's emulator; ends by itself.  Begins with a
plan, and ends with a sweep, for a repository that nobody pushes to.  What must be left stands in :func:`histories`,
written by hand: the demo fails if the function thinks otherwise.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol

import requests
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tests.emulator import Emulator
from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    load_listing,
    multi_arch,
    referrer,
)
from tests.emulator.store import DOCKER_MANIFEST, INDEXES, OCI_MANIFEST, Manifest
from tests.emulator.wire import Pusher
from tests.support.processes import (
    ROOT,
    TOPIC,
    Child,
    FunctionProcess,
    Held,
    PubSub,
    deliver,
    inherited,
    pubsub_command,
    topic_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.emulator.images import Content
    from tests.emulator.store import Store

DATA: Final = Path(__file__).parent.parent / "data"
PROJECT: Final = "demo"
# The topic for requests; who may push images cannot publish there.
REQUESTS: Final = "requests"
POLICIES: Final = "policies.json"
# About what a registry in the same region takes.
LATENCY_MS: Final = 15
# Each message comes to exactly one of these.
OUTCOMES: Final = (
    "already covered",
    "deletion announced",
    "message rejected",
    "no policy matches",
    "permission denied",
    "prune failed",
    "prune finished",
    "repository not found",
)
IN_WORDS: Final = {
    "unknown-type": "nobody knows what it is",
    "unknown-age": "nobody knows how old it is",
    "too-young": "younger than min_age, which is an hour here",
    "just-pushed": "somebody has just pushed it again",
    "protected-tag": "protect_tags matches its tag",
    "tagged": "delete_tags does not match its tag",
    "newest": "among the newest that keep counts",
    "needed": "something that stays needs it",
    "over-limit": "max_deletions is reached",
    "expired": "an image that no rule keeps",
    "follows": "belongs to an image that goes",
    "orphan": "what it belongs to is gone",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a person who reads the policy expects of one image, with all that belongs to it."""

    stays: bool
    reason: str
    why: str


def stays(reason: str, why: str) -> Expected:
    return Expected(stays=True, reason=reason, why=why)


def goes(reason: str, why: str) -> Expected:
    return Expected(stays=False, reason=reason, why=why)


@dataclass(slots=True)
class History:
    """One repository: what CI has left there, what is pushed to it, and what has to become of each image.

    Nothing is pushed to what a sweep is for.  ``planned``, if any, is what there is to say about the plan before.
    """

    path: str
    about: str
    policy: dict[str, object] | None
    push: list[tuple[Content, list[str]]] = field(default_factory=list)
    expected: dict[str, Expected] = field(default_factory=dict)
    builds: list[tuple[Content, list[str], datetime]] = field(default_factory=list)
    captured: str = ""
    planned: str = ""

    def build(self, content: Content, tags: str, uploaded: datetime, expected: Expected | None) -> Content:
        """Add something that CI pushed at ``uploaded``; None for what belongs to another build."""
        self.builds.append((content, tags.split(), uploaded))
        if expected is not None:
            self.expected[content.digest] = expected
        return content

    def sign(self, content: Content, uploaded: datetime) -> None:
        self.build(cosign_signature(content), cosign_tag(content), uploaded, None)

    def load(self, store: Store, host: str) -> None:
        repository = f"{host}/{self.path}"
        if self.captured:
            load_listing(store, repository, json.loads((DATA / self.captured).read_text()))
        for content, tags, uploaded in self.builds:
            load(store, repository, content, tags=tags, uploaded=uploaded)


def histories(host: str, now: datetime) -> list[History]:
    """The repositories of the demo, each with what must stay and what must go.  Nothing here asks the product."""
    return [_branches(host, now), _jib(host), _multi_arch(host, now), _vendor(now), _attic(host, now)]


def _branches(host: str, now: datetime) -> History:
    history = History(
        "acme/api",
        "one image per build, tagged by branch",
        {
            "repositories": [f"{host}/acme/api"],
            "keep": 2,
            "group_by": "(.+)-[0-9a-f]{7}",
            "delete_tags": ["(main|pr-[0-9]+)-[0-9a-f]{7}"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
            "max_age": "30d",
        },
    )
    for tags, days, expected in (
        ("main-3f2a1bc", 1, stays("newest", "2nd newest of main")),
        ("main-81fe2d0", 3, goes("expired", "3rd newest of main")),
        ("main-5b0c7aa v1.4.2", 6, stays("protected-tag", "a release")),
        ("main-0d9f3c1", 9, goes("expired", "5th newest of main")),
        ("pr-52-a77e310", 2, stays("newest", "newest of pr-52")),
        ("pr-52-1c9b0f4", 3, stays("newest", "2nd newest of pr-52")),
        ("pr-52-7f00d1e", 4, goes("expired", "3rd newest of pr-52")),
        ("pr-41-9d0c77e", 45, goes("expired", "newest of pr-41, but 30 days old")),
        ("pr-41-2b6e11f", 46, goes("expired", "2nd newest of pr-41, but 30 days old")),
        ("v1.4.1", 60, stays("protected-tag", "a release")),
        ("v1.4.0", 120, stays("protected-tag", "a release")),
    ):
        history.build(image(tags, size=48_000_000 + days), tags, now - timedelta(days=days), expected)
    pushed = image("api/main-e4d909c", with_blobs=True)
    history.push = [(pushed, ["main-e4d909c"])]
    history.expected[pushed.digest] = stays("too-young", "the push")
    return history


def _jib(host: str) -> History:
    """The captured body: created 0 everywhere, so only the upload time tells old from new."""
    pushed = image("jib-service/latest", with_blobs=True)
    history = History(
        "acme/jib-service",
        "built by Jib, which says 1970 for every creation",
        {"repositories": [f"{host}/acme/jib-service"], "keep_untagged": 2},
        push=[(pushed, ["latest"])],
        captured="gcr-jib.tags-list.json",
    )
    history.expected = {
        pushed.digest: stays("too-young", "the push; latest names it now"),
        "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d": stays(
            "newest", "newest without a tag, since the push took latest"
        ),
        "sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6": stays(
            "newest", "2nd newest without a tag"
        ),
        "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb": goes(
            "expired", "3rd newest without a tag"
        ),
    }
    return history


def _multi_arch(host: str, now: datetime) -> History:
    history = History(
        "acme/proxy",
        "multi-arch, attested by BuildKit, signed by cosign",
        {
            "repositories": [f"{host}/acme/proxy"],
            "keep": 2,
            "keep_untagged": 0,
            "group_by": "(.+)-[0-9a-f]{7}",
            "delete_tags": ["main-[0-9a-f]{7}", "sha256-[0-9a-f]{64}\\.sig"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
        },
        planned="As of now; the push makes main-2ab4e90 the 3rd newest of main, and it goes too.",
    )
    arm64 = image("proxy/arm64/unchanged", media_type=OCI_MANIFEST, platform="arm64", size=39_000_000)

    def built(name: str, arm: Content | None = None) -> Content:
        images = [
            image(f"proxy/{name}/amd64", media_type=OCI_MANIFEST, platform="amd64", size=41_000_000),
            arm or image(f"proxy/{name}/arm64", media_type=OCI_MANIFEST, platform="arm64", size=39_500_000),
        ]
        return index([*images, *map(attestation, images)])

    for name, days, arm, expected in (
        ("main-8d3b5f6", 2, None, stays("newest", "2nd newest of main")),
        ("main-2ab4e90", 5, arm64, goes("expired", "3rd newest of main")),
        ("v1.4.2", 8, arm64, stays("protected-tag", "a release")),
    ):
        uploaded = now - timedelta(days=days)
        content = history.build(built(name, arm), name, uploaded, expected)
        history.sign(content, uploaded)
    history.build(referrer(content), "", now - timedelta(days=7), None)
    lost = multi_arch("proxy/untagged", media_type=DOCKER_MANIFEST)
    history.build(lost, "", now - timedelta(days=20), goes("expired", "no tag names it any more"))
    gone = image("proxy/gone")
    history.build(
        cosign_signature(gone), cosign_tag(gone), now - timedelta(days=33), goes("orphan", "what it signed is gone")
    )
    pushed = multi_arch("proxy/main-c0ffee1", attestations=True, with_blobs=True)
    history.push = [(pushed, ["main-c0ffee1"]), (cosign_signature(pushed), [cosign_tag(pushed)])]
    history.expected[pushed.digest] = stays("too-young", "the push")
    return history


def _vendor(now: datetime) -> History:
    history = History("acme/vendor", "somebody else's; no policy names it", None)
    for tag, days in (("2.0", 400), ("", 700)):
        expected = stays("", "no policy names this repository")
        history.build(image(f"vendor/{tag}", size=90_000_000), tag, now - timedelta(days=days), expected)
    pushed = image("vendor/2.1", with_blobs=True)
    history.push = [(pushed, ["2.1"])]
    history.expected[pushed.digest] = stays("", "the push")
    return history


def _attic(host: str, now: datetime) -> History:
    history = History(
        "acme/attic",
        "nobody pushes here any more",
        {
            "repositories": [f"{host}/acme/attic"],
            "keep": 2,
            "keep_untagged": 0,
            "delete_tags": ["nightly-[0-9]+"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
        },
    )
    for tags, days, expected in (
        ("nightly-412", 190, stays("newest", "newest with a tag")),
        ("nightly-411", 191, stays("newest", "2nd newest with a tag")),
        ("nightly-410", 192, goes("expired", "3rd newest with a tag")),
        ("nightly-409 v0.9.0", 193, stays("protected-tag", "a release")),
        ("nightly-408", 194, goes("expired", "5th newest with a tag")),
        ("", 260, goes("expired", "no tag names it any more")),
    ):
        history.build(image(f"attic/{tags}", size=75_000_000 + days), tags, now - timedelta(days=days), expected)
    return history


# Publishing.


class Publisher(Protocol):
    """Takes notifications to the function, again and again until they are acknowledged."""

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        """Publish; it does not wait for anything to come of it."""


class ByPubSub:
    """Pub/Sub's emulator with two topics, ``gcr`` and one for requests, that push to the function."""

    def __init__(self, pubsub: PubSub, function: FunctionProcess) -> None:
        self._pubsub = pubsub
        for topic in (TOPIC, REQUESTS):
            pubsub.create_topic(PROJECT, topic)
            pubsub.subscribe(PROJECT, function.url + topic_path(topic, PROJECT), topic, name=topic)

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        self._pubsub.publish(PROJECT, [json.dumps(one).encode() for one in notifications])

    def order(self, request: str) -> None:
        """Publish to the topic for requests."""
        self._pubsub.publish(PROJECT, [request.encode()], REQUESTS)


class ByItself:
    """Sends the requests that Pub/Sub would."""

    def __init__(self, function: FunctionProcess, stack: ExitStack) -> None:
        self._url = function.url
        self._over = threading.Event()
        self._pool = stack.enter_context(ThreadPoolExecutor(8))
        # What is under way ends with the function, so it goes before the pool waits.
        stack.callback(function.stop)
        stack.callback(self._over.set)

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        for one in notifications:
            self._pool.submit(self._deliver, json.dumps(one).encode())

    def _deliver(self, data: bytes) -> None:
        while not self._over.is_set():
            try:
                if deliver(self._url, data) == requests.codes.ok:
                    return
            except requests.RequestException:
                pass
            # As often as Pub/Sub's emulator.
            self._over.wait(1)


# What came of it.


@dataclass(frozen=True, slots=True)
class Outcome:
    """One repository before and after the function, and what the function's log says about it."""

    history: History
    before: dict[str, Manifest]
    held: Held
    after: dict[str, Manifest]
    reasons: dict[str, str]
    messages: int
    runs: int
    requests: int
    seconds: float
    size: int

    @property
    def went(self) -> list[str]:
        return [digest for digest in self.before if digest not in self.after]

    def differences(self) -> list[str]:
        """In what this is not what the policy says; empty if it is."""
        found = [
            self._difference(digest, expected, f"{_names(self.before[digest])} ({_short(digest)}, {expected.why})")
            for digest, expected in self.history.expected.items()
        ]
        part_of_staying = {
            part for digest, one in self.history.expected.items() if one.stays for part in self.held.whole(digest)
        }
        known = {part for digest in self.history.expected for part in self.held.whole(digest)}
        for digest in self.before:
            should = digest in part_of_staying
            if digest not in known:
                found.append(f"{_short(digest)}: the demo does not say what should become of it")
            elif digest not in self.history.expected and should != (digest in self.after):
                found.append(f"{_short(digest)}: a part that should {_fate(should)}, and does not")
        return [f"{self.history.path}: {one}" for one in found if one]

    def _difference(self, digest: str, expected: Expected, name: str) -> str:
        if expected.stays != (digest in self.after):
            return f"{name}: should {_fate(expected.stays)}, and does not"
        if expected.stays and not set(self.before[digest].tags) <= set(self.after[digest].tags):
            return f"{name}: has lost a tag"
        if self.reasons.get(digest, "") != expected.reason:
            return f"{name}: the reason should be {expected.reason!r}, and is {self.reasons.get(digest, '')!r}"
        return ""


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep.

    ``outcome`` is that of the repository which it is for, ``pruned`` are the paths of all that it asked for, and
    ``differences`` is in what the others are not as they should be.
    """

    outcome: Outcome
    pruned: frozenset[str]
    differences: list[str]


def _fate(stays_: bool) -> str:
    return "stay" if stays_ else "go"


class Stage:
    """Everything the demo starts, and the steps of its main job."""

    def __init__(self, console: Console, stack: ExitStack, signals: Signals) -> None:
        self._console = console
        self._stack = stack
        self._signals = signals
        self._emulator = stack.enter_context(Emulator(latency_ms=LATENCY_MS))
        self._host = host = self._emulator.host
        self._histories = histories(host, datetime.now(UTC))
        for history in self._histories:
            history.load(self._emulator.store, host)
        self._say("registry", f"{host}, with {len(self._histories)} repositories as a CI leaves them")
        policies = json.dumps([history.policy for history in self._histories if history.policy])
        self._directory = Path(stack.enter_context(TemporaryDirectory(prefix="demo-")))
        (self._directory / POLICIES).write_text(policies)
        settings = {
            "POLICIES": policies,
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": host,
            # Why a manifest stays is told at this level.
            "LOG_LEVEL": "DEBUG",
        }
        command = pubsub_command()
        self._pubsub: PubSub | None = None
        with signals.held():
            if command is not None:
                self._pubsub = PubSub(command)
                stack.callback(self._pubsub.stop)
                # Where a sweep publishes.
                settings["PUBSUB_EMULATOR_HOST"] = f"127.0.0.1:{self._pubsub.port}"
                settings["REQUESTS_TOPIC"] = f"projects/{PROJECT}/topics/{REQUESTS}"
            self._function = FunctionProcess(settings)
            stack.callback(self._function.stop)
        # What a command has logged that did the function's work.
        self._logged: list[dict[str, object]] = []

    def plan(self) -> None:
        """Show what would go, by the command line.

        Raises:
            AssertionError: It has changed something.
        """
        before = self._contents()
        for history in self._histories:
            if history.planned:
                self._run(["plan", f"{self._host}/{history.path}"], self._by_policies())
                self._console.print(f"\n{history.planned}")
        assert self._contents() == before, "the plan has changed what is in the registry"

    def wait_until_up(self) -> None:
        """Wait for what was started."""
        self._publisher = self._reach_publisher()
        self._function.wait_until_up()
        self._say("function", f"functions-framework at 127.0.0.1:{self._function.port}, target prune")

    def push(self) -> list[Outcome]:
        """Push to every repository, publish what Google would, and return what came of it."""
        published: list[dict[str, str]] = []
        pushed_to = [history for history in self._histories if history.push]
        with Pusher(self._emulator.url) as pusher:
            for history in pushed_to:
                for content, tags in history.push:
                    published += pusher.push(history.path, content, tags)
        messages = Counter(_repository_of(one) for one in published)
        before = {name: self._manifests(name) for name in messages}
        held = {name: Held.now(self._emulator.store, name) for name in messages}
        notifications = f"{len(published)} notifications, as Google publishes them"
        self._say("pushed", f"an image to {len(pushed_to)} of them; {notifications}")
        began = time.monotonic()
        self._publisher.publish(published)
        self._wait_for_outcomes(len(published))
        self._say("done", f"in {time.monotonic() - began:.1f} s")
        return [
            self._outcome(history, name, messages[name], before[name], held[name])
            for history in pushed_to
            for name in [f"{self._host}/{history.path}"]
        ]

    def sweep(self) -> Swept:
        """Have the repository pruned that nobody pushes to, and return what came of it."""
        (history,) = (history for history in self._histories if not history.push)
        name = f"{self._host}/{history.path}"
        root = name.rpartition("/")[0]
        contents = self._contents()
        before = self._manifests(name)
        told = len(self._records())
        began = time.monotonic()
        if isinstance(self._publisher, ByPubSub):
            messages = 1
            self._order_sweep(self._publisher, root)
        else:
            messages = 0
            self._sweep_from_here(root)
        self._say("done", f"in {time.monotonic() - began:.1f} s")
        pruned = {str(one["repository"]) for one in self._records()[told:] if one["message"] == "prune finished"}
        paths = frozenset(one.removeprefix(f"{self._host}/") for one in pruned)
        with_policy = {one.path for one in self._histories if one.policy is not None}
        differences = [f"{one}: the sweep has left it out" for one in sorted(with_policy - paths)]
        differences += [f"{one}: the sweep had no business there" for one in sorted(paths - with_policy)]
        now = self._contents()
        differences += [
            f"{one.removeprefix(f'{self._host}/')}: the sweep has changed it, and had no reason to"
            for one in sorted(contents.keys() - {name})
            if now.get(one) != contents[one]
        ]
        outcome = self._outcome(history, name, messages, before, contents[name])
        return Swept(outcome, paths, differences)

    def announce_deletions(self) -> tuple[int, int]:
        """Publish what Google does about the function's own deletions; return how many, and what they cost."""
        published = []
        for record in self._records():
            if record["message"] == "tag deleted":
                published.append({"action": "DELETE", "tag": f"{record['repository']}:{record['tag']}"})
            elif record["message"] == "manifest deleted":
                published.append({"action": "DELETE", "digest": f"{record['repository']}@{record['digest']}"})
        asked, outcomes = self._emulator.log.total, len(self._outcomes())
        self._publisher.publish(published)
        self._wait_for_outcomes(outcomes + len(published))
        return len(published), self._emulator.log.total - asked

    def complaints(self) -> list[str]:
        """What was logged that nobody wants to see."""
        return [json.dumps(record) for record in self._records() if record.get("severity") not in ("DEBUG", "INFO")]

    def _reach_publisher(self) -> Publisher:
        if self._pubsub is None:
            self._say("pub/sub", "no Cloud SDK emulator here: the demo sends the same requests itself")
            return ByItself(self._function, self._stack)
        try:
            self._pubsub.wait_for_port(self._pubsub.port, timeout_s=10)
        except AssertionError:
            self._say("pub/sub", "the emulator does not start: the demo sends the same requests itself")
            return ByItself(self._function, self._stack)
        topics = f"topics {TOPIC} and {REQUESTS}"
        self._say("pub/sub", f"the Cloud SDK's emulator at 127.0.0.1:{self._pubsub.port}, {topics}")
        return ByPubSub(self._pubsub, self._function)

    def _order_sweep(self, publisher: ByPubSub, root: str) -> None:
        request = json.dumps({"action": "SWEEP", "repository": root}, separators=(",", ":"))
        done = len(self._outcomes())
        self._say("sweep", f"{request} published")
        publisher.order(request)

        def finished() -> list[dict[str, object]]:
            return self._function.logged("sweep finished", root=root)

        self._function.wait_for(finished, f"{root} is swept", timeout_s=15)
        self._wait_for_outcomes(done + int(str(finished()[0]["repositories"])))

    def _sweep_from_here(self, root: str) -> None:
        self._say("sweep", "no Pub/Sub: the command line does the same, with its log on stderr")
        errors = self._run(["sweep", root], self._by_policies(), ["--local", "--yes", "--log-level", "DEBUG"])
        self._logged += [json.loads(line) for line in errors]
        self._console.print()

    def _by_policies(self) -> list[str]:
        return ["--policies", POLICIES, "--insecure", self._host]

    def _run(self, *arguments: list[str]) -> list[str]:
        """Show a command, with ``arguments`` line by line, and what it writes to stdout; return stderr's lines.

        Raises:
            AssertionError: It fails.
        """
        lines = [" ".join(some) for some in arguments]
        self._console.print(Text("$ python -m cleaner " + " \\\n    ".join(lines), style="bold"))
        environment = inherited("NO_COLOR", "TERM")
        environment |= {"COLUMNS": str(self._console.width), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "cleaner", *(one for some in arguments for one in some)]
        with self._signals.held():
            child = Child(arguments[0][0], command, environment, directory=self._directory, shows=True)
            self._stack.callback(child.stop)
        child.wait_for(lambda: child.returncode is not None, "its end", timeout_s=15)
        code = child.wait_for_end()
        assert code == 0, f"{child.name} ended with {code}:\n{child.tail()}"
        return child.errors

    def _records(self) -> list[dict[str, object]]:
        return [*self._function.records, *self._logged]

    def _contents(self) -> dict[str, Held]:
        store = self._emulator.store
        return {name: Held.now(store, name) for name in store.repositories()}

    def _manifests(self, name: str) -> dict[str, Manifest]:
        # The store changes its manifests' tags in place.
        return {digest: _copy(one) for digest, one in self._emulator.store.manifests(name).items()}

    def _outcomes(self) -> list[dict[str, object]]:
        return [record for record in self._function.records if record.get("message") in OUTCOMES]

    def _wait_for_outcomes(self, count: int) -> None:
        self._function.wait_for(lambda: len(self._outcomes()) >= count, f"{count} messages are done", timeout_s=15)

    def _outcome(
        self, history: History, name: str, messages: int, before: dict[str, Manifest], held: Held
    ) -> Outcome:
        told = [record for record in self._records() if record.get("repository") == name]
        runs = [record for record in told if record["message"] == "prune finished"]
        judged = [record for record in told if record["message"] in ("manifest kept", "manifest deleted")]
        # Of several runs the first one judged with everything still there.
        reasons = {str(record["digest"]): str(record["reason"]) for record in reversed(judged)}
        return Outcome(
            history,
            before,
            held,
            self._manifests(name),
            reasons,
            messages,
            len(runs),
            int(_sum(runs, "requests")),
            _sum(runs, "seconds"),
            int(_sum(runs, "bytes")),
        )

    def _say(self, what: str, text: str) -> None:
        self._console.print(Text.assemble((f"{what:>9}  ", "bold"), text))


def _sum(records: Iterable[dict[str, object]], field_: str) -> float:
    return sum(float(str(record[field_])) for record in records)


def _repository_of(notification: dict[str, str]) -> str:
    return notification["digest"].partition("@")[0]


def _copy(manifest: Manifest) -> Manifest:
    return Manifest(
        manifest.digest,
        manifest.media_type,
        manifest.body,
        manifest.size,
        manifest.uploaded_ms,
        manifest.created_ms,
        manifest.children,
        manifest.subject,
        dict(manifest.tags),
    )


# The picture.


def chapter(console: Console, text: str, about: str = "") -> None:
    console.print()
    title = Text.assemble((text, "bold"), about)
    console.print(Rule(title, align="left", characters="─", style="dim"))


class Picture:
    """Prints outcomes for a person."""

    def __init__(self, console: Console, now: datetime) -> None:
        self._console = console
        self._now = now

    def repository(self, outcome: Outcome) -> None:
        history = outcome.history
        chapter(self._console, history.path, f": {history.about}")
        if history.policy is not None:
            policy = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
            for key, value in history.policy.items():
                policy.add_row(Text(key, style="dim"), Text(json.dumps(value, ensure_ascii=False)))
            self._console.print(policy)
        self._console.print(Text("\nBefore, with the push" if history.push else "\nBefore", style="bold"))
        self._console.print(self._before(outcome))
        self._console.print(Text("\nAfter", style="bold"))
        self._console.print(self._after(outcome))
        if outcome.runs:
            self._console.print(
                f"\n{len(outcome.went)} of {len(outcome.before)} manifests went, {_megabytes(outcome.size)}:"
                f" {_counted(outcome.messages, 'message')}, {_counted(outcome.runs, 'run')},"
                f" {_counted(outcome.requests, 'request')}, {outcome.seconds:.2f} s"
            )
        else:
            self._console.print(f"\nuntouched: {_counted(outcome.messages, 'message')}, no request")

    def sweep(self, swept: Swept) -> None:
        self.repository(swept.outcome)
        self._console.print(
            f"The sweep asked for {_counted(len(swept.pruned), 'repository', 'repositories')}, this one among them;"
            f" the other {len(swept.pruned) - 1} had nothing more to lose."
        )

    def totals(self, outcomes: Sequence[Outcome], announced: int, asked: int) -> None:
        chapter(self._console, "All in all")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("repository")
        for heading in ("messages", "runs", "requests", "seconds", "stay", "went", "size"):
            table.add_column(heading, justify="right")
        for one in outcomes:
            table.add_row(
                one.history.path,
                str(one.messages),
                str(one.runs),
                str(one.requests),
                f"{one.seconds:.2f}" if one.runs else "",
                str(len(one.after)),
                str(len(one.went)),
                _megabytes(one.size) if one.size else "",
            )
        self._console.print(table)
        reasons = Counter(
            reason for one in outcomes for digest, reason in one.reasons.items() if digest in one.before
        )
        self._console.print()
        words = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for reason, meaning in IN_WORDS.items():
            if reasons[reason]:
                gone = reason in ("expired", "follows", "orphan")
                fate = Text("went" if gone else "stays", style="red" if gone else "green")
                words.add_row(str(reasons[reason]), fate, reason, meaning)
        self._console.print(words)
        self._console.print(
            f"\nGoogle announces those deletions too: {_counted(announced, 'message')},"
            f" acknowledged with {_counted(asked, 'request')} to the registry."
        )

    def _before(self, outcome: Outcome) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("image, digest", no_wrap=True, overflow="ellipsis")
        table.add_column("age", justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column("reason", no_wrap=True)
        table.add_column("that is", overflow="fold", ratio=1)
        root = ""
        for line in _tree(outcome.before, outcome.held):
            digest = line.manifest.digest
            left = digest in outcome.after
            root = root if line.depth else digest
            why = outcome.history.expected[digest].why if digest in outcome.history.expected else ""
            if line.depth and left and root not in outcome.after:
                why = f"{' and '.join(_owners(digest, outcome.after))} needs it"
            table.add_row(
                Text.assemble((line.branch, "dim"), line.label, (f" {_short(digest)}", "dim")),
                _age(line.manifest, self._now),
                Text("stays", style="green") if left else Text("goes", style="red"),
                outcome.reasons.get(digest, ""),
                Text(why, style="dim"),
            )
        return table

    def _after(self, outcome: Outcome) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        lines = list(_tree(outcome.after, outcome.held))
        for at, line in enumerate(lines):
            if line.depth:
                continue
            table.add_row(
                Text.assemble(line.label, (f" {_short(line.manifest.digest)}", "dim")), _age(line.manifest, self._now)
            )
            parts = _parts(lines[at + 1 :])
            if parts:
                table.add_row(Text.assemble(("└─ ", "dim"), parts), "")
        return table


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a repository's tree."""

    branch: str
    label: str
    depth: int
    manifest: Manifest
    kind: str


def _tree(manifests: dict[str, Manifest], held: Held) -> Iterator[Line]:
    """The lines of a repository: images, newest first, with their parts below them."""
    children = {child for one in manifests.values() for child in one.children}
    roots = [
        one
        for one in manifests.values()
        if one.digest not in children and not any(subject in manifests for subject in held.subjects[one.digest])
    ]
    for root in sorted(roots, key=lambda one: (-int(str(one.uploaded_ms)), one.digest)):
        yield Line("", _names(root) + _suffix(root), 0, root, "")
        yield from _below(root, manifests, held, "", 1)


def _below(manifest: Manifest, manifests: dict[str, Manifest], held: Held, indent: str, depth: int) -> Iterator[Line]:
    described = _children(manifest)
    parts = [(described[child], manifests[child]) for child in manifest.children if child in manifests]
    attached = [one for one in manifests.values() if manifest.digest in held.subjects[one.digest]]
    parts += [("SBOM" if one.subject else "signature", one) for one in attached]
    for at, (kind, part) in enumerate(parts):
        last = at + 1 == len(parts)
        yield Line(f"{indent}{'└─ ' if last else '├─ '}", kind, depth, part, kind)
        yield from _below(part, manifests, held, indent + ("   " if last else "│  "), depth + 1)


def _owners(digest: str, manifests: dict[str, Manifest]) -> list[str]:
    """What lists a manifest, or has it attached to what it lists, by name."""
    return sorted({_names(one) for one in manifests.values() if digest in one.children})


def _children(manifest: Manifest) -> dict[str, str]:
    """What each child of an index is: a platform, or the attestation of one."""
    if manifest.media_type not in INDEXES:
        return {}
    entries = json.loads(manifest.body)["manifests"]
    platforms = {one["digest"]: "/".join((one["platform"]["os"], one["platform"]["architecture"])) for one in entries}
    found = {}
    for one in entries:
        of = one.get("annotations", {}).get("vnd.docker.reference.digest")
        found[one["digest"]] = f"attestation {platforms[of]}" if of else platforms[one["digest"]]
    return found


def _parts(lines: Sequence[Line]) -> str:
    """The parts below an image in a few words."""
    kinds: Counter[str] = Counter()
    for line in lines:
        if not line.depth:
            break
        kinds[line.kind.partition(" ")[0]] += 1
    return ", ".join(kind if count == 1 else f"{count} {kind}s" for kind, count in kinds.items())


def _names(manifest: Manifest) -> str:
    tags = [tag if not tag.startswith("sha256-") else "signature" for tag in manifest.tags]
    return ", ".join(tags) or "(no tag)"


def _suffix(manifest: Manifest) -> str:
    return " index" if manifest.media_type in INDEXES else ""


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]


def _age(manifest: Manifest, now: datetime) -> str:
    age = now - datetime.fromtimestamp(int(str(manifest.uploaded_ms)) / 1000, UTC)
    if age < timedelta(minutes=5):
        return "now"
    return f"{age.days} d" if age < timedelta(days=1000) else f"{age.days / 365.25:.0f} y"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _counted(count: int, what: str, whats: str = "") -> str:
    return f"{count or 'no'} {what if count == 1 else whats or what + 's'}"


# The whole.


def show(console: Console, signals: Signals) -> int:
    """Show the main job; return the exit code: 0, or 1 if what is left is not what the policies say."""
    with ExitStack() as stack:
        console.print(Text("A push prunes its repository\n", style="bold"))
        stage = Stage(console, stack, signals)
        chapter(console, "Before anything happens: what would go")
        stage.plan()
        chapter(console, "The pushes")
        stage.wait_until_up()
        outcomes = stage.push()
        picture = Picture(console, datetime.now(UTC))
        for outcome in outcomes:
            picture.repository(outcome)
        chapter(console, "And a sweep, for what nobody pushes to")
        swept = stage.sweep()
        picture.sweep(swept)
        outcomes.append(swept.outcome)
        announced, asked = stage.announce_deletions()
        picture.totals(outcomes, announced, asked)
        differences = [one for outcome in outcomes for one in outcome.differences()] + swept.differences
        if asked:
            differences.append(f"the announced deletions cost {_counted(asked, 'request')}")
        if differences:
            console.print(Text("\nWhat is left is not what the policies say:", style="bold red"))
            for text in [*differences, *stage.complaints()]:
                console.print(Text(f"  {text}"))
            return 1
        console.print(Text("\nWhat is left is what the policies say.", style="bold green"))
        return 0


class Signals:
    """Lets SIGINT, SIGTERM and SIGHUP end the program by way of every ``finally``, but not while it is held."""

    ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._held = False
        self._came: int | None = None
        for number in self.ENDING:
            signal.signal(number, lambda number, _: self._arrived(number))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold what comes until the end: a process that is just being started could not be stopped."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came is not None:
            self._end(self._came)

    def _arrived(self, number: int) -> None:
        if self._held:
            self._came = number
        else:
            self._end(number)

    def _end(self, number: int) -> None:
        # Whoever is impatient must not leave a process behind.
        for one in self.ENDING:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)


def main() -> int:
    """Run the demo; the exit code is 1 if anything is not as it should be."""
    console = Console(highlight=False)
    try:
        return show(console, Signals())
    except AssertionError as error:
        console.print(Text(f"\nThe demo failed: {error}", style="bold red"))
        return 1


if __name__ == "__main__":
    sys.exit(main())
