"""``make demo``: pushes to a few repositories, locally and on their own, and what the function makes of it.

Starts a registry, the function and, where the Cloud SDK has it, Pub/Sub's emulator; ends by itself.  What must be
left stands in :func:`histories`, written by hand: the demo fails if the function thinks otherwise.
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
from tests.local import FunctionProcess, Held, PubSub, deliver, pubsub_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.emulator.images import Content
    from tests.emulator.store import Store

DATA: Final = Path(__file__).parent / "data"
PROJECT: Final = "demo"
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
    """One repository: what CI has left there, what is pushed to it, and what has to become of each image."""

    path: str
    about: str
    policy: dict[str, object] | None
    push: list[tuple[Content, list[str]]] = field(default_factory=list)
    expected: dict[str, Expected] = field(default_factory=dict)
    builds: list[tuple[Content, list[str], datetime]] = field(default_factory=list)
    captured: str = ""

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
    return [_branches(host, now), _jib(host), _multi_arch(host, now), _vendor(now)]


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


# Publishing.


class Publisher(Protocol):
    """Takes notifications to the function, again and again until they are acknowledged."""

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        """Publish; it does not wait for anything to come of it."""


class ByPubSub:
    """Pub/Sub's emulator with a topic ``gcr`` that pushes to the function."""

    def __init__(self, pubsub: PubSub, push_url: str) -> None:
        self._pubsub = pubsub
        pubsub.create_topic(PROJECT)
        pubsub.subscribe(PROJECT, push_url)

    def publish(self, notifications: Sequence[dict[str, str]]) -> None:
        self._pubsub.publish(PROJECT, [json.dumps(one).encode() for one in notifications])


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


def _fate(stays_: bool) -> str:
    return "stay" if stays_ else "go"


class Stage:
    """Everything the demo starts, and the steps of its main job."""

    def __init__(self, console: Console, stack: ExitStack, signals: Signals) -> None:
        self._console = console
        self._emulator = stack.enter_context(Emulator(latency_ms=LATENCY_MS))
        host = self._emulator.host
        self._histories = histories(host, datetime.now(UTC))
        for history in self._histories:
            history.load(self._emulator.store, host)
        self._say("registry", f"{host}, with {len(self._histories)} repositories as a CI leaves them")
        settings = {
            "POLICIES": json.dumps([history.policy for history in self._histories if history.policy]),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": host,
            # Why a manifest stays is told at this level.
            "LOG_LEVEL": "DEBUG",
        }
        with signals.held():
            self._function = FunctionProcess(settings)
            stack.callback(self._function.stop)
        self._publisher = self._start_publisher(stack, signals)
        self._function.wait_until_up()
        self._say("function", f"functions-framework at 127.0.0.1:{self._function.port}, target prune")

    def push(self) -> list[Outcome]:
        """Push to every repository, publish what Google would, and return what came of it."""
        published: list[dict[str, str]] = []
        with Pusher(self._emulator.url) as pusher:
            for history in self._histories:
                for content, tags in history.push:
                    published += pusher.push(history.path, content, tags)
        messages = Counter(_repository_of(one) for one in published)
        before = {name: self._emulator.store.manifests(name) for name in messages}
        # The store changes its manifests' tags in place.
        before = {name: {digest: _copy(one) for digest, one in held.items()} for name, held in before.items()}
        held = {name: Held.now(self._emulator.store, name) for name in messages}
        self._say("pushed", f"an image to each; {len(published)} notifications, as Google publishes them")
        began = time.monotonic()
        self._publisher.publish(published)
        self._wait_for_outcomes(len(published))
        self._say("done", f"in {time.monotonic() - began:.1f} s")
        return [
            self._outcome(history, name, messages[name], before[name], held[name])
            for history in self._histories
            for name in [f"{self._emulator.host}/{history.path}"]
        ]

    def announce_deletions(self) -> tuple[int, int]:
        """Publish what Google does about the function's own deletions; return how many, and what they cost."""
        published = []
        for record in self._function.records:
            if record["message"] == "tag deleted":
                published.append({"action": "DELETE", "tag": f"{record['repository']}:{record['tag']}"})
            elif record["message"] == "manifest deleted":
                published.append({"action": "DELETE", "digest": f"{record['repository']}@{record['digest']}"})
        asked, outcomes = self._emulator.log.total, len(self._outcomes())
        self._publisher.publish(published)
        self._wait_for_outcomes(outcomes + len(published))
        return len(published), self._emulator.log.total - asked

    def complaints(self) -> list[str]:
        """What the function has logged that nobody wants to see."""
        return [
            json.dumps(record) for record in self._function.records if record.get("severity") not in ("DEBUG", "INFO")
        ]

    def _start_publisher(self, stack: ExitStack, signals: Signals) -> Publisher:
        command = pubsub_command()
        if command is not None:
            with signals.held():
                pubsub = PubSub(command)
                stack.callback(pubsub.stop)
            try:
                pubsub.wait_for_port(pubsub.port, timeout_s=10)
            except AssertionError:
                self._say("pub/sub", "the Cloud SDK's emulator does not start: the demo sends the requests itself")
            else:
                self._say("pub/sub", f"the Cloud SDK's emulator at 127.0.0.1:{pubsub.port}, topic gcr")
                return ByPubSub(pubsub, self._function.push_url)
        else:
            self._say("pub/sub", "the Cloud SDK's emulator is not here: the demo sends the same requests itself")
        return ByItself(self._function, stack)

    def _outcomes(self) -> list[dict[str, object]]:
        return [record for record in self._function.records if record.get("message") in OUTCOMES]

    def _wait_for_outcomes(self, count: int) -> None:
        self._function.wait_for(lambda: len(self._outcomes()) >= count, f"{count} messages are done", timeout_s=15)

    def _outcome(
        self, history: History, name: str, messages: int, before: dict[str, Manifest], held: Held
    ) -> Outcome:
        told = [record for record in self._function.records if record.get("repository") == name]
        runs = [record for record in told if record["message"] == "prune finished"]
        judged = [record for record in told if record["message"] in ("manifest kept", "manifest deleted")]
        # Of several runs the first one judged with everything still there.
        reasons = {str(record["digest"]): str(record["reason"]) for record in reversed(judged)}
        return Outcome(
            history,
            before,
            held,
            {digest: _copy(one) for digest, one in self._emulator.store.manifests(name).items()},
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


class Picture:
    """Prints outcomes for a person."""

    def __init__(self, console: Console, now: datetime) -> None:
        self._console = console
        self._now = now

    def repository(self, outcome: Outcome) -> None:
        history = outcome.history
        self._console.print()
        title = Text.assemble((history.path, "bold"), f": {history.about}")
        self._console.print(Rule(title, align="left", characters="─", style="dim"))
        if history.policy is not None:
            policy = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
            for key, value in history.policy.items():
                policy.add_row(Text(key, style="dim"), Text(json.dumps(value, ensure_ascii=False)))
            self._console.print(policy)
        self._console.print(Text("\nBefore, with the push", style="bold"))
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

    def totals(self, outcomes: Sequence[Outcome], announced: int, asked: int) -> None:
        self._console.print()
        self._console.print(Rule(Text("All in all", style="bold"), align="left", characters="─", style="dim"))
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


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


# The whole.


def show(console: Console, signals: Signals) -> int:
    """Show the main job; return the exit code: 0, or 1 if what is left is not what the policies say."""
    with ExitStack() as stack:
        console.print(Text("A push prunes its repository\n", style="bold"))
        stage = Stage(console, stack, signals)
        outcomes = stage.push()
        announced, asked = stage.announce_deletions()
        picture = Picture(console, datetime.now(UTC))
        for outcome in outcomes:
            picture.repository(outcome)
        picture.totals(outcomes, announced, asked)
        differences = [one for outcome in outcomes for one in outcome.differences()]
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
