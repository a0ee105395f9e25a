"""Random histories, policies, processes and faults, judged by the oracle: ``python -m tests.chaos --seconds 60``.

A round builds repositories, starts one to three function processes, and lets a registry answer them that fails at
random while clients push, move tags and attach things, mostly in the worst moment.  The registry writes down every
request and every state.  Afterwards the judge, who knows the contract and none of the product's code, goes through
the records:

* every deletion must be justified by a complete listing that the same process was given, no longer ago than a plan
  may be acted on, and the oracle must let the manifest go in it;
* a tag is deleted only if it was looked at immediately before, and still named what was judged;
* subjects go before their referrers, indexes before their children;
* what every state and every listing of the round keeps is there at the end, and so is everything pushed meanwhile;
* a message is acknowledged only when a listing that began after its publication was carried out;
* once faults stop, runs end in exactly what the policy says.

What falls into a gap that no client can close is counted apart (see ``Judge``).

All changes of the repositories are made in the registry's one thread, so the records are in order.  Time constants of
the product are shortened (see ``tuned``), or a round would take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import heapq
import itertools
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs

import requests
from aiohttp import web

import cleaner.prune
import cleaner.transport
from cleaner.errors import TransientError
from cleaner.function import Function
from cleaner.logs import LOGGER
from cleaner.settings import Settings
from tests import oracle
from tests.emulator import Emulator
from tests.emulator.faults import (
    Action,
    BrokenJson,
    CutBody,
    Delay,
    DropAfter,
    DropBefore,
    Quota,
    Rule,
    Stall,
    Status,
    too_many_requests,
)
from tests.emulator.images import (
    Content,
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    raw,
    referrer,
)
from tests.emulator.server import Registry, Route, _drop
from tests.emulator.store import DANGLING_PARENT, NOW, REFERRING_MANIFEST, Refusal, Store
from tests.oracle import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Held, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.emulator.answer import Answer

# The store's name for whatever address a process is told to ask.
HOST: Final = "registry"
ROOT: Final = Path(__file__).parent.parent
# The product's time constants, shortened alike; a round sets the age of a plan as well.
READ_TIMEOUT_S: Final = 0.7
FIRST_BACKOFF_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.3
# What threads, sockets and a busy machine may add to a bound.
SLACK_S: Final = 1.5
# A process that was told 429 once asks as slowly as one request a second for a while.
PACED_SLACK_S: Final = 20.0
# "Milliseconds" between a look at a tag and its deletion, on a busy machine.
LOOK_MAX_S: Final = 1.0
# How long a round may take to come to rest once nothing goes wrong any more.
REST_S: Final = 60.0
REFUSED: Final = 400

State = dict[str, Held]


@contextlib.contextmanager
def tuned(plan_age_s: float) -> Iterator[None]:
    """Shorten the product's time constants."""
    defaults = cleaner.transport.Transport.__init__.__kwdefaults__
    assert defaults is not None
    before = (
        cleaner.transport.FIRST_BACKOFF_S,
        cleaner.transport.BACKOFF_MAX_S,
        cleaner.prune.PLAN_MAX_AGE_S,
        defaults["read_timeout_s"],
    )
    cleaner.transport.FIRST_BACKOFF_S = FIRST_BACKOFF_S
    cleaner.transport.BACKOFF_MAX_S = BACKOFF_MAX_S
    cleaner.prune.PLAN_MAX_AGE_S = plan_age_s
    defaults["read_timeout_s"] = READ_TIMEOUT_S
    try:
        yield
    finally:
        (
            cleaner.transport.FIRST_BACKOFF_S,
            cleaner.transport.BACKOFF_MAX_S,
            cleaner.prune.PLAN_MAX_AGE_S,
            defaults["read_timeout_s"],
        ) = before


# What a round consists of.


@dataclass(slots=True)
class Case:
    """Everything that a seed decides."""

    seed: int
    mode: str
    policies: list[dict[str, object]]
    # Path -> its policy, or None where none matches.
    repositories: dict[str, dict[str, object] | None]
    processes: int
    workers: int
    time_limit_s: float
    plan_age_s: float
    dry_run: bool
    auth: bool
    expires_in: int
    style: str
    page_size: int | None
    latency_s: float
    referrer_code: str
    size: int
    actions: int
    strikes: float
    kills: int
    seconds: float
    faults: list[str]

    def is_dry(self, repository: str) -> bool:
        policy = self.repositories[repository]
        return self.dry_run or (policy is not None and policy.get("dry_run") is True)


FAULTS: Final = (
    "429",
    "quota",
    "500",
    "502",
    "503",
    "504",
    "408",
    "reset before",
    "reset after",
    "stall",
    "cut body",
    "broken JSON",
    "delay",
    "outage",
    "unreadable",
)


def make_case(seed: int, mode: str | None = None) -> Case:
    rng = random.Random(seed)
    # Always drawn, so that a seed means the same whether the mode is given or not.
    drawn = "framework" if rng.random() < 0.2 else "local"
    mode = mode or drawn
    repositories: dict[str, dict[str, object] | None] = {}
    policies = []
    for number in range(rng.choice((1, 1, 1, 2))):
        path = f"acme/app-{number}"
        repositories[path] = _policy(rng, path)
        policies.append(repositories[path])
    if rng.random() < 0.3:
        repositories["other/app"] = None
    # A plan that is not carried out before it is too old, or the time is over.
    slow = rng.random() < 0.1
    long = slow and rng.random() < 0.5
    if slow:
        for policy in policies:
            if policy is not None:
                policy |= {
                    "keep": 1,
                    "keep_untagged": 0,
                    "delete_tags": [".*"],
                    "max_deletions": None,
                    "dry_run": False,
                }
    return Case(
        seed=seed,
        mode=mode,
        policies=[one for one in policies if one is not None],
        repositories=repositories,
        processes=1 if slow else rng.choice((1, 2, 2, 3) if mode == "local" else (1, 2, 2)),
        workers=1 if slow else rng.choice((1, 2, 4, 8)),
        time_limit_s=rng.choice((1.0, 2.0)) if rng.random() < 0.1 or long else 30.0,
        plan_age_s=0.5 if slow and not long else rng.choice((1.5, 3.0, 60.0)),
        dry_run=rng.random() < 0.02 and not slow,
        auth=rng.random() < 0.5,
        expires_in=rng.choice((3600, 3600, 2)),
        style=rng.choice(("gcr", "ar")),
        page_size=rng.choice((None, None, 1, 3, 7, 20)) if not slow else None,
        latency_s=0.08 if slow else rng.choice((0, 0.002, 0.01, 0.03)),
        referrer_code=rng.choice((REFERRING_MANIFEST, DANGLING_PARENT)),
        size=rng.randint(35, 50) if slow else rng.randint(5, 40),
        actions=rng.randint(4, 30),
        strikes=rng.choice((0.1, 0.4, 0.8)),
        kills=0 if slow else rng.choice((0, 0, 1, 2, 3)),
        seconds=rng.uniform(0.5, 1.5) + (5.0 if slow else 0.0),
        faults=rng.sample(
            [one for one in FAULTS if not slow or one not in ("429", "quota")], rng.choice((0, 1, 2, 3, 5, 8))
        ),
    )


def _policy(rng: random.Random, path: str) -> dict[str, object]:
    policy: dict[str, object] = {"repositories": [f"127.0.0.1:*/{path}"]}
    optional: dict[str, Sequence[object]] = {
        "keep": (1, 1, 2, 3),
        "keep_untagged": (0, 0, 1, 2),
        "min_age": ("10m", "45m", "1h", "1h30m"),
        "max_age": (None, "2d", "30d", "1w"),
        "delete_tags": (
            [".*"],
            [".*"],
            ["main-[0-9a-f]+|pr-.*", "sha256-.*"],
            ["pr-[0-9]+-[0-9a-f]{7}", "dev.*", "latest"],
            ["main-.*|dev|latest|next-.*"],
            [],
        ),
        "protect_tags": ([], [], [r"v[0-9.]+"], ["latest"], [r"sha256-.*\.sbom"]),
        "group_by": (None, "(.+)-[0-9a-f]{7}", "(main|pr)-(?:([0-9]+)-)?[0-9a-f]{7}"),
        "max_deletions": (None, None, None, None, 1, 3, 8),
        "dry_run": (False,) * 15 + (True,),
    }
    for key, values in optional.items():
        if rng.random() < 0.75:
            policy[key] = rng.choice(values)
    return policy


class History:
    """What a repository holds before the round: what CI leaves, and what somebody who wants to confuse us pushes."""

    def __init__(self, rng: random.Random, store: Store, repository: str, now_ms: int) -> None:
        self._rng = rng
        self._store = store
        self._repository = repository
        self._now_ms = now_ms
        self._made: list[Content] = []
        self._age_ms = 0
        # Subjects that are not there, and might come.
        self.absent: list[Content] = []

    def fill(self, size: int) -> None:
        makers: dict[Callable[[], None], int] = {
            self._image: 6,
            self._index: 7,
            self._sign: 4,
            self._refer: 5,
            self._tag_again: 2,
            self._lone: 3,
            self._strange: 2,
            self._loop: 1,
        }
        self._image()
        for _ in range(size):
            self._rng.choices(list(makers), list(makers.values()))[0]()

    def _add(self, content: Content, tags: Sequence[str] = ()) -> Content:
        load(self._store, self._repository, content, tags=tags, uploaded=self._uploaded())
        self._made.append(content)
        return content

    def _uploaded(self) -> int | str | None:
        """Never near a boundary of a policy: what is young stays so for the whole round, and what is old is old."""
        rng = self._rng
        if rng.random() < 0.03:
            return rng.choice((None, 0, "-5", "soon"))
        if not self._age_ms or rng.random() > 0.15:
            minutes = rng.choice((3, 25)) if rng.random() < 0.12 else 20 + 60 * rng.randint(2, 24 * 60)
            self._age_ms = minutes * 60_000
        return self._now_ms - self._age_ms

    def _seed(self) -> str:
        return f"{self._repository} {self._rng.random()}"

    def _type(self) -> str:
        return self._rng.choice((DOCKER_MANIFEST, OCI_MANIFEST))

    def _tags(self, most: int = 2) -> list[str]:
        return [some_tag(self._rng) for _ in range(self._rng.randint(0, most))]

    def _any(self) -> Content:
        return self._rng.choice(self._made)

    def _image(self) -> None:
        self._add(image(self._seed(), media_type=self._type()), self._tags())

    def _index(self) -> None:
        rng = self._rng
        children: list[Content] = []
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.25:
                child = self._any()
            else:
                child = image(self._seed(), media_type=self._type(), platform=rng.choice(("amd64", "arm64")))
                if rng.random() < 0.15:
                    self._add(child, self._tags(1))
            children.append(child)
        if rng.random() < 0.3:
            children += [attestation(child) for child in children]
        absent = [image(self._seed()).digest] if rng.random() < 0.1 else []
        subject = None
        media_type = None
        if rng.random() < 0.08:
            # It may even be one of its own children.
            subject, media_type = rng.choice([*children, self._any()]), OCI_INDEX
        self._add(
            index(children, absent=absent, subject=subject, media_type=media_type, seed=self._seed()), self._tags()
        )

    def _sign(self) -> None:
        of = self._any()
        suffix = self._rng.choice(("sig", "sig", "att", "sbom", ""))
        self._add(cosign_signature(of, seed=self._seed()), [cosign_tag(of, suffix)])

    def _refer(self) -> None:
        made = referrer(self._any(), seed=self._seed())
        self._add(made, self._tags(1) if self._rng.random() < 0.1 else ())

    def _tag_again(self) -> None:
        digest = self._any().digest
        if self._store.has(self._repository, digest):
            self._store.tag(self._repository, some_tag(self._rng), digest)

    def _lone(self) -> None:
        absent = image(self._seed())
        self.absent.append(absent)
        if self._rng.random() < 0.5:
            self._add(referrer(absent, seed=self._seed()))
        else:
            self._add(cosign_signature(absent, seed=self._seed()), [cosign_tag(absent)])

    def _strange(self) -> None:
        if self._rng.random() < 0.04:
            # An index that lists nothing: the whole repository has to be left alone.
            self._add(raw(b'{"schemaVersion":2}' + b" " * self._rng.randint(0, 99), OCI_INDEX))
        else:
            media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
            self._add(raw(self._seed().encode(), media_type), self._tags(1))

    def _loop(self) -> None:
        first = self._add(image(self._seed(), media_type=OCI_MANIFEST))
        if self._rng.random() < 0.4:
            self._store.tag(self._repository, cosign_tag(first), first.digest)
            return
        second = self._add(image(self._seed(), media_type=OCI_MANIFEST))
        self._store.tag(self._repository, cosign_tag(first), second.digest)
        self._store.tag(self._repository, cosign_tag(second), first.digest)


def some_tag(rng: random.Random) -> str:
    commit = f"{rng.randrange(16**7):07x}"
    spelled = (
        f"main-{commit}",
        f"main-{commit}",
        f"pr-{rng.randint(1, 3)}-{commit}",
        f"pr-{rng.randint(1, 3)}-{commit}",
        f"v1.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
        "latest",
        "dev",
        f"dev-{rng.randint(1, 5)}",
        f"next-{commit}",
    )
    return rng.choice(spelled)


# What is written down.


@dataclass(slots=True)
class Asked:
    """One request of a process, as the registry saw it; ``before`` and ``after`` are versions of the repository.

    ``status`` is what the work came to, 0 where it was not done; ``answered`` what the process was told, 0 where it
    was told nothing.  ``named`` is what a tag named: before its deletion, or when it was looked at.
    """

    who: str
    kind: str
    repository: str
    reference: str
    arrived: float
    time: float = 0.0
    status: int = 0
    answered: int = 0
    named: str = ""
    before: int = 0
    after: int = 0
    last: str = ""
    limit: int | None = None
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """A repository's state from ``time`` until the next version."""

    time: float
    state: State


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a client pushed, and which of its children were there then."""

    repository: str
    digest: str
    uploaded: int | str | None
    children: frozenset[str]


@dataclass(slots=True)
class Message:
    """One message; ``repository`` is empty where it is none that could be carried out."""

    number: int
    repository: str
    digest: str | None
    tag: str | None
    action: str
    published: float
    poison: str = ""

    def data(self, host: str) -> bytes:
        """As the topic spells it for the process that knows the registry as ``host``."""
        if self.poison:
            return self.poison.replace("{host}", host).encode()
        document = {"action": self.action}
        if self.digest:
            document["digest"] = f"{host}/{self.repository}@{self.digest}"
        if self.tag:
            document["tag"] = f"{host}/{self.repository}:{self.tag}"
        return json.dumps(document).encode()

    def envelope(self, host: str) -> dict[str, object]:
        return {
            "message": {
                "data": base64.b64encode(self.data(host)).decode(),
                "messageId": str(self.number),
                "publishTime": datetime.fromtimestamp(self.published, UTC).isoformat().replace("+00:00", "Z"),
            },
            "subscription": "projects/acme/subscriptions/prune",
        }


@dataclass(slots=True)
class Delivery:
    """One attempt to have a message handled; ``ended`` and ``outcome`` follow."""

    message: Message
    who: str
    sent: float
    ended: float = float("inf")
    outcome: str = ""


class Records:
    """All that happened in a round; ``trace`` is for people, the rest for the judge."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trace: list[tuple[float, str]] = []
        self.asked: list[Asked] = []
        self.versions: dict[str, list[Version]] = {}
        self.pushed: list[Pushed] = []
        # (repository, tag) -> digest, of the tags that clients set last; None where they deleted it.
        self.client_tags: dict[tuple[str, str], str | None] = {}
        self.client_deleted: set[tuple[str, str]] = set()
        self.deliveries: list[Delivery] = []
        self.gaps: Counter[str] = Counter()
        self.expired = 0
        self.broken: list[str] = []
        self.labels: dict[str, str] = {}
        self.absent: dict[str, list[Content]] = {}

    def note(self, text: str) -> None:
        self.trace.append((time.time(), text))

    def label(self, digest: str) -> str:
        """A short name for a digest, the same in the whole trace."""
        return self.labels.setdefault(digest, f"m{len(self.labels)}:{digest[7:13]}")

    def state(self, repository: str) -> State:
        return self.versions[repository][-1].state

    def snapshot(self, repository: str) -> int:
        """Write the repository's state down if it has changed; return the number of its version."""
        manifests = self.store.manifests(f"{HOST}/{repository}")
        versions = self.versions.setdefault(repository, [])
        before = versions[-1].state if versions else {}
        state: State = {}
        for digest, manifest in manifests.items():
            known = before.get(digest)
            if known and known.tags == manifest.tags.keys() and known.uploaded == manifest.uploaded_ms:
                state[digest] = known
            else:
                state[digest] = Held.of(manifest)
        if not versions or state != before:
            versions.append(Version(time.time(), state))
        return len(versions) - 1


class Watched(Registry):
    """The registry, with an eye on who asks: every process is told an address of its own."""

    records: Records
    clients: Clients | None = None
    dead: set[str]
    case: Case

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Host", "") in self.dead:
            return _drop(request)
        request["arrived"] = time.time()
        return await super().handle(request)

    async def _outcome(
        self,
        request: web.BaseRequest,
        route: Route,
        query: str,
        deciding: Action | None,
        actions: Sequence[Action],
    ) -> Answer | None:
        if request.headers.get("Host", "") in self.dead:
            return None
        entry = Asked(request.headers.get("Host", ""), route.kind, route.name, route.reference, request["arrived"])
        request["entry"] = entry
        answer = await super()._outcome(request, route, query, deciding, actions)
        if answer is not None and not isinstance(deciding, BrokenJson):
            sent = len(answer.body) if isinstance(deciding, CutBody) and request.method != "HEAD" else 0
            entry.answered = answer.status if sent == 0 else 0
        if not entry.time:
            entry.time = time.time()
            entry.before = entry.after = len(self.records.versions.get(route.name, ())) - 1
            self.records.asked.append(entry)
        what = f"{entry.who} {entry.kind} {self._spell(entry)} -> {entry.status}"
        told = "" if entry.answered == entry.status else f", told {entry.answered} ({type(deciding).__name__})"
        self.records.note(what + told)
        if self.clients is not None and deciding is not None and entry.kind == "tag_delete":
            self._guarded(self.clients.answer_lost, entry)
        return answer

    def _work(self, request: web.BaseRequest, route: Route, query: str, body: bytes) -> Answer:
        entry: Asked = request["entry"]
        name = f"{HOST}/{route.name}"
        known = route.name in self.records.versions
        if known:
            entry.before = entry.after = self.records.snapshot(route.name)
            entry.named = self.store.tags(name).get(route.reference, "")
        answer = super()._work(request, route, query, body)
        entry.time, entry.status = time.time(), answer.status
        if route.kind == "tags_list":
            asked = parse_qs(query)
            entry.last = asked.get("last", [""])[0]
            entry.limit, entry.has_more = self.case.page_size, "Link" in answer.headers
        if known:
            entry.after = self.records.snapshot(route.name)
        self.records.asked.append(entry)
        if known and self.clients is not None:
            self._guarded(self.clients.after, entry)
        return answer

    def _guarded(self, react: Callable[[Asked], None], entry: Asked) -> None:
        try:
            react(entry)
        except BaseException:
            self.records.broken.append(traceback.format_exc())
            raise

    def _spell(self, entry: Asked) -> str:
        if entry.reference.startswith("sha256:"):
            return self.records.label(entry.reference)
        named = f" ({self.records.label(entry.named)})" if entry.named else ""
        return re.sub(r"[0-9a-f]{58}(?=\.|$)", "", entry.reference) + named


# What clients do meanwhile.


class Clients:
    """Everybody who pushes, tags, signs and deletes during a round.  Runs in the registry's thread only.

    A script does one step at a time; the steps of several scripts mix, and what the processes ask comes in between.
    """

    def __init__(
        self, rng: random.Random, case: Case, records: Records, registry: Watched, publish: Callable[..., None]
    ) -> None:
        self._rng = rng
        self._case = case
        self._records = records
        self._registry = registry
        self._store = records.store
        self._publish = publish
        self._scripts: list[Iterator[None]] = []
        self._contents: dict[str, Content] = {}
        # After how many requests something happens, what, and where.
        self._planned: list[tuple[int, Callable[[str], None], str]] = []
        self._passed = 0
        self._actions = case.actions
        self._expired = 0.0
        # What each process was refused last.
        self._refused: dict[str, str] = {}
        self.is_over = False

    # When.

    def after(self, entry: Asked) -> None:
        """React to a request whose work is done and whose answer is not out yet."""
        if self.is_over or self._case.repositories.get(entry.repository) is None:
            return
        self._passed += 1
        self._do_planned()
        if entry.kind == "tags_list" and entry.status == requests.codes.ok and not entry.has_more:
            self._after_listing(entry)
        else:
            self._after_change(entry)
        if self._rng.random() < 0.1:
            self.step()
        if self._case.auth and self._rng.random() < 0.02 and time.time() - self._expired > 1.5:
            self._expired = time.time()
            self._records.expired += 1
            self._records.note("every token expires")
            self._registry.expire_tokens()

    def _after_listing(self, entry: Asked) -> None:
        rng, strikes = self._rng, self._case.strikes
        if entry.who in self._refused and rng.random() < strikes:
            # It was just looked whether anything new belongs to what was refused.
            self._attach(entry.repository, self._refused.pop(entry.who))
        elif rng.random() < strikes:
            for _ in range(rng.randint(1, 3)):
                after = self._passed + rng.choice((0, 0, 1, 2, 3, 5, 8, 13))
                self._planned.append((after, self._strike, entry.repository))
            self._do_planned()

    def _after_change(self, entry: Asked) -> None:
        rng, strikes = self._rng, self._case.strikes
        match entry.kind, entry.status:
            case "manifest_head", 200 if entry.named and rng.random() < strikes / 12:
                self._move(entry.repository, entry.reference, "just looked at")
            case "tag_delete", 202 if rng.random() < strikes / 6:
                self._set_tag(entry.repository, entry.reference, entry.named, "put back")
            case "manifest_delete", 400 if rng.random() < 0.5:
                self._refused[entry.who] = entry.reference
            case "manifest_delete", 400 if rng.random() < strikes:
                self._attach(entry.repository, entry.reference)
            case "manifest_delete", 202 if rng.random() < strikes / 6:
                self._start(self._push_again(entry.repository, entry.reference))

    def answer_lost(self, entry: Asked) -> None:
        """React to the deletion of a tag whose answer does not reach who asked: it will be asked for again."""
        if not self.is_over and self._rng.random() < self._case.strikes / 2:
            self._move(entry.repository, entry.reference, "while its deletion is asked again")

    def _do_planned(self) -> None:
        due = [one for one in self._planned if one[0] <= self._passed]
        self._planned = [one for one in self._planned if one[0] > self._passed]
        for _, act, repository in due:
            act(repository)

    def tick(self) -> None:
        try:
            if self._rng.random() < 0.5:
                self.step()
        except BaseException:
            self._records.broken.append(traceback.format_exc())
            raise

    def step(self) -> None:
        """Let one script do its next step, or a new one its first."""
        if self.is_over:
            return
        if self._actions > 0 and (not self._scripts or self._rng.random() < 0.3):
            self._actions -= 1
            self._start(self._some_script())
        elif self._scripts:
            script = self._rng.choice(self._scripts)
            if next(script, self) is self:
                self._scripts.remove(script)

    def finish(self) -> None:
        """Do no more from here on, but what pushes under way have to do to be complete."""
        for script in self._scripts:
            for _ in script:
                pass
        self._scripts = []
        self.is_over = True

    def _start(self, script: Iterator[None]) -> None:
        if next(script, self) is not self:
            self._scripts.append(script)

    # What.

    def _some_script(self) -> Iterator[None]:
        rng = self._rng
        repository = rng.choice([name for name, policy in self._case.repositories.items() if policy is not None])
        scripts = {
            self._push_image: 4,
            self._push_index: 6,
            self._push_old_index: 3,
            self._move_some: 3,
            self._promote: 2,
            self._attach_some: 4,
            self._delete_some: 2,
            self._repeat_some: 2,
            self._push_absent: 1,
        }
        return rng.choices(list(scripts), list(scripts.values()))[0](repository)

    def _seed(self) -> str:
        return f"pushed {self._rng.random()}"

    def _digests(self, repository: str) -> list[str]:
        return sorted(self._store.digests(f"{HOST}/{repository}"))

    def _content(self, repository: str, digest: str) -> Content:
        """A manifest of the store as something to push, or to list."""
        if digest not in self._contents:
            found = self._store.get_manifest(f"{HOST}/{repository}", digest)
            self._contents[digest] = Content(digest, found.media_type, found.body, found.size, 0)
        return self._contents[digest]

    def _put(self, repository: str, content: Content, tags: Sequence[str] = (), *, says_digest: bool = True) -> None:
        """Push one manifest, as one request, and let Google publish it."""
        name = f"{HOST}/{repository}"
        self._contents[content.digest] = content
        is_new = not self._store.has(name, content.digest)
        kept = self._store.put_manifest(
            name, content.body, content.media_type, tags=tags, size=content.size, uploaded_ms=NOW
        )
        version = self._records.snapshot(repository)
        label = self._records.label(content.digest)
        if is_new:
            children = frozenset(kept.children) & self._store.digests(name)
            self._records.pushed.append(Pushed(repository, content.digest, kept.uploaded_ms, children))
        listed = " ".join(self._records.label(child) for child in kept.children)
        self._records.note(
            f"client puts {label} {list(tags)} {'' if is_new else '(again)'} lists [{listed}]"
            f" subject {kept.subject and self._records.label(kept.subject)} in {repository} (version {version})"
        )
        for tag in tags:
            self._records.client_tags[repository, tag] = content.digest
        self._publish(repository, content.digest if says_digest or not tags else None, tags)

    def _set_tag(self, repository: str, tag: str, digest: str, why: str = "") -> None:
        name = f"{HOST}/{repository}"
        if self._store.has(name, digest) and self._store.tags(name).get(tag) != digest:
            self._records.note(f"client tags {self._records.label(digest)} as {tag} in {repository} {why}")
            self._put(repository, self._content(repository, digest), [tag], says_digest=self._rng.random() < 0.8)

    def _move(self, repository: str, tag: str, why: str) -> None:
        if tag.startswith("sha256-"):
            return
        now = self._store.tags(f"{HOST}/{repository}").get(tag)
        others = [digest for digest in self._digests(repository) if digest != now]
        if self._rng.random() < 0.5 or not others:
            self._records.note(f"client pushes anew as {tag}, {why}")
            self._put(repository, image(self._seed(), media_type=OCI_MANIFEST), [tag])
        else:
            self._set_tag(repository, tag, self._rng.choice(others), why)

    def _push_image(self, repository: str) -> Iterator[None]:
        rng = self._rng
        media_type = rng.choice((DOCKER_MANIFEST, OCI_MANIFEST))
        tags = [some_tag(rng) for _ in range(rng.randint(0, 2))]
        content = image(self._seed(), media_type=media_type)
        self._put(repository, content)
        for tag in tags:
            yield
            self._put(repository, content, [tag])

    def _push_index(self, repository: str) -> Iterator[None]:
        """Children first, some of which are there already; sometimes the index never comes."""
        rng = self._rng
        children: list[Content] = []
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.4 and (digests := self._digests(repository)):
                children.append(self._content(repository, rng.choice(digests)))
            else:
                children.append(image(self._seed(), media_type=OCI_MANIFEST, platform="amd64"))
        yield from self._complete(repository, index(children, seed=self._seed()), abandon=rng.random() < 0.2)

    def _push_old_index(self, repository: str) -> Iterator[None]:
        """An index over what is old, as somebody does who assembles platforms built before."""
        digests = self._digests(repository)
        chosen = self._rng.sample(digests, min(len(digests), self._rng.randint(1, 3)))
        children = [self._content(repository, digest) for digest in chosen]
        yield from self._complete(repository, index(children, seed=self._seed()))

    def _push_again(self, repository: str, digest: str) -> Iterator[None]:
        """What was just deleted is pushed once more, as a part of something new."""
        if digest in self._contents:
            content = self._contents[digest]
        else:
            held = next(v.state[digest] for v in reversed(self._records.versions[repository]) if digest in v.state)
            content = Content(digest, held.media_type, held.body, 0, 0)
        yield from self._complete(repository, index([content], seed=self._seed()))

    def _complete(self, repository: str, whole: Content, *, abandon: bool = False) -> Iterator[None]:
        name = f"{HOST}/{repository}"
        for child in whole.children:
            if self._store.has(name, child.digest):
                self._records.note(f"client finds {self._records.label(child.digest)} there and skips it")
            else:
                self._put(repository, child)
            yield
        if abandon:
            return
        missing = [child for child in whole.children if not self._store.has(name, child.digest)]
        for child in missing:
            # The push fails, and what was there or had been pushed is pushed once more.
            self._records.gaps["child gone"] += 1
            self._records.note(f"client misses {self._records.label(child.digest)} and repeats its push")
            self._put(repository, child)
        tags = [some_tag(self._rng) for _ in range(self._rng.randint(0, 2))]
        self._put(repository, whole, tags[:1])
        for tag in tags[1:]:
            yield
            self._put(repository, whole, [tag])

    def _move_some(self, repository: str) -> Iterator[None]:
        tags = sorted(self._store.tags(f"{HOST}/{repository}"))
        if tags:
            self._move(repository, self._rng.choice(tags), "because it is time")
        yield

    def _promote(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._set_tag(repository, some_tag(self._rng), self._rng.choice(digests), "(promoted)")
        yield

    def _attach_some(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._attach(repository, self._rng.choice(digests))
        yield

    def _attach(self, repository: str, digest: str) -> None:
        """Let something new belong to ``digest``, or ``digest`` to something new."""
        rng = self._rng
        if not self._store.has(f"{HOST}/{repository}", digest):
            return
        content = self._content(repository, digest)
        match rng.randint(0, 4):
            case 0:
                self._put(repository, referrer(content, seed=self._seed()))
            case 1:
                signature = cosign_signature(content, seed=self._seed())
                self._put(repository, signature, [cosign_tag(content, rng.choice(("sig", "att", "new")))])
            case 2:
                self._put(repository, index([content], seed=self._seed()))
            case 3:
                subject = index([image(self._seed())], seed=self._seed(), subject=content, media_type=OCI_INDEX)
                self._put(repository, subject.children[0])
                self._put(repository, subject)
            case 4:
                self._set_tag(repository, some_tag(rng), digest)

    def _strike(self, repository: str) -> None:
        """Touch something that a run is just about to delete."""
        policy = self._case.repositories[repository]
        if policy is None or self.is_over:
            return
        state = self._records.state(repository)
        doomed = sorted(oracle.may_go(state.values(), policy, now_ms()))
        if not doomed:
            return
        rng = self._rng
        victim = rng.choice(doomed)
        subjects = [one for one in doomed if self._store.referrers(f"{HOST}/{repository}", one)]
        if subjects and rng.random() < 0.5:
            victim = rng.choice(subjects)
        tags = [tag for tag in sorted(state[victim].tags) if not tag.startswith("sha256-")]
        match rng.randint(0, 6):
            case 0 if tags:
                self._move(repository, rng.choice(tags), "just when it was to go")
            case 1:
                self._start(self._push_old_index(repository))
            case 2:
                content = self._content(repository, victim)
                self._start(self._complete(repository, index([content], seed=self._seed())))
            case 3:
                # Pushed once more: nothing changes but that a message names it.
                self._put(repository, self._content(repository, victim))
            case 4 if self._records.absent[repository]:
                self._start(self._push_absent(repository))
            case _:
                self._attach(repository, victim)

    def _repeat_some(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._put(repository, self._content(repository, self._rng.choice(digests)))
        yield

    def _push_absent(self, repository: str) -> Iterator[None]:
        """The subject of an orphan comes after all."""
        if self._records.absent[repository]:
            self._put(repository, self._records.absent[repository].pop())
        yield

    def _delete_some(self, repository: str) -> Iterator[None]:
        name = f"{HOST}/{repository}"
        tags = sorted(self._store.tags(name))
        if tags:
            tag = self._rng.choice(tags)
            self._records.note(f"client deletes the tag {tag} in {repository}")
            self._store.delete_tag(name, tag)
            self._records.client_tags[repository, tag] = None
            self._records.snapshot(repository)
        yield
        digests = self._digests(repository)
        if digests:
            digest = self._rng.choice(digests)
            with contextlib.suppress(Refusal):
                self._content(repository, digest)
                self._store.delete_manifest(name, digest)
                self._records.client_deleted.add((repository, digest))
                self._records.note(f"client deletes {self._records.label(digest)} in {repository}")
                self._records.snapshot(repository)
        yield


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# Who carries the messages out.


class Process(Protocol):
    """One function process.  ``who`` is the registry's address as it knows it; no two have the same."""

    who: str

    def handle(self, message: Message, shape: int) -> str:
        """Return ``acked`` or ``failed``, ``gone`` if it died meanwhile, or what else went wrong."""

    def kill(self) -> None:
        """End it at once, whatever it does."""


def environment(case: Case, who: str) -> dict[str, str]:
    return {
        "POLICIES": json.dumps(case.policies),
        "DRY_RUN": json.dumps(case.dry_run),
        "WORKERS": str(case.workers),
        "TIME_LIMIT": str(case.time_limit_s),
        "INSECURE_REGISTRIES": who,
    }


class _Event:
    """The part of a CloudEvent that the function looks at."""

    def __init__(self, data: object, published: str) -> None:
        self.data = data
        self._attributes = {"source": "//pubsub.googleapis.com/projects/acme/topics/gcr", "time": published}

    def get(self, key: str) -> object:
        return self._attributes.get(key)


class LocalProcess:
    """A process that is none: killed, it goes on, but no request of it reaches the registry any more."""

    def __init__(self, case: Case, who: str, dead: set[str]) -> None:
        self.who = who
        self._dead = dead
        self._function = Function(Settings.from_environment(environment(case, who)))

    def handle(self, message: Message, shape: int) -> str:
        envelope = message.envelope(self.who)
        if shape:
            del envelope["subscription"]
        try:
            self._function.handle(_Event(envelope, ""))
        except TransientError:
            return "gone" if self.who in self._dead else "failed"
        except Exception:  # noqa: BLE001  # whatever it is, it is a finding
            return f"crashed: {traceback.format_exc()}"
        return "gone" if self.who in self._dead else "acked"

    def kill(self) -> None:
        self._dead.add(self.who)


class FrameworkProcess:
    """functions-framework in a session of its own, ended with SIGKILL."""

    def __init__(self, case: Case, who: str, log: Path) -> None:
        self.who = who
        self.log = log
        self._port = _free_port()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "tests.chaos", "--serve", str(self._port), str(case.plan_age_s)),
                env=os.environ | environment(case, who),
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it listens."""
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{self._port}/", timeout=10)
                return
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"the function did not start: {self.log.read_text()}")
            time.sleep(0.05)

    def handle(self, message: Message, shape: int) -> str:
        headers = {"Content-Type": "application/json"}
        path = "/projects/acme/topics/gcr"
        if shape:
            path = "/"
            headers |= {
                "ce-id": str(message.number),
                "ce-source": "//pubsub.googleapis.com/projects/acme/topics/gcr",
                "ce-specversion": "1.0",
                "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
            }
        body = json.dumps(message.envelope(self.who))
        try:
            answer = requests.post(f"http://127.0.0.1:{self._port}{path}", body, headers=headers, timeout=300)
        except requests.RequestException:
            return "gone"
        return "acked" if answer.status_code in (200, 204) else "failed"

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(port: int, plan_age_s: float) -> None:
    """Be one function process: functions-framework, but for the time constants."""
    from functions_framework._cli import _cli

    where = ("--source", str(ROOT / "main.py"), "--host", "127.0.0.1", "--port", str(port))
    with tuned(plan_age_s):
        _cli(["--target", "prune", "--signature-type", "cloudevent", *where])


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Pubsub:
    """Delivers at least once, in no order: late, twice, and again until it is acknowledged."""

    _THREADS = 6
    # One process takes eight requests at once; more would wait where nobody sees them.
    _AT_ONCE = 5

    def __init__(self, rng: random.Random, records: Records) -> None:
        self._rng = rng
        self._records = records
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Message]] = []
        self._numbers = itertools.count()
        self._busy: Counter[str] = Counter()
        self._is_over = False
        self.is_calm = False
        self.processes: list[Process] = []
        self.redelivered = 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._THREADS)]
        for thread in self._threads:
            thread.start()

    def publish(self, repository: str, digest: str | None, tag: str | None, *, action: str = "INSERT") -> Message:
        message = Message(next(self._numbers), repository, digest, tag, action, time.time())
        rng = self._rng
        copies = 1 if self.is_calm or rng.random() < 0.7 else rng.randint(2, 3)
        for _ in range(copies):
            self._add(message, 0.0 if self.is_calm else rng.choice((0.0, 0.0, rng.random() * 0.3, rng.random())))
        return message

    def poison(self, text: str) -> None:
        self._add(Message(next(self._numbers), "", None, None, "", time.time(), poison=text), self._rng.random() / 2)

    def is_idle(self) -> bool:
        with self._changed:
            return not self._due and not self._busy.total()

    def stop(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(REST_S)

    def _add(self, message: Message, delay: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.time() + delay, next(self._numbers), message))
            self._changed.notify()

    def _next(self) -> tuple[Message, Process] | None:
        with self._changed:
            while not self._is_over:
                wait = self._due[0][0] - time.time() if self._due else None
                free = [one for one in self.processes if self._busy[one.who] < self._AT_ONCE]
                if wait is not None and wait <= 0 and free:
                    process = self._rng.choice(free)
                    self._busy[process.who] += 1
                    return heapq.heappop(self._due)[2], process
                self._changed.wait(0.02 if wait is None or wait <= 0 else min(wait, 0.02))
            return None

    def _work(self) -> None:
        while (work := self._next()) is not None:
            message, process = work
            delivery = Delivery(message, process.who, time.time())
            self._records.deliveries.append(delivery)
            outcome = process.handle(message, self._rng.randint(0, 1))
            delivery.outcome, delivery.ended = outcome, time.time()
            text = message.poison or f"{message.action} {message.repository} {message.tag or ''}"
            digest = f" {self._records.label(message.digest)}" if message.digest else ""
            self._records.note(
                f"message {message.number} ({text}{digest}, published {message.published:.3f}) sent to {process.who}"
                f" at {delivery.sent:.3f}: {outcome.partition(':')[0]}"
            )
            with self._changed:
                self._busy[process.who] -= 1
                self._busy += Counter()
                if outcome != "acked" and not self._is_over:
                    self.redelivered += 1
                    heapq.heappush(
                        self._due, (time.time() + self._rng.uniform(0.02, 0.2), next(self._numbers), message)
                    )


# What the judge says of it.


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that must not have happened, and the manifests that it is about."""

    what: str
    digests: frozenset[str] = frozenset()


class View:
    """One complete listing that a process was given.  ``end`` is when it knew all that it may have read for it."""

    def __init__(self, pages: Sequence[Asked], versions: Sequence[Version], policy: Mapping[str, object]) -> None:
        self.begin = pages[0].arrived
        self.listed = self.end = pages[-1].time
        self._policy = policy
        self.state: State = {}
        for page in pages:
            state = versions[page.before].state
            shown = [digest for digest in sorted(state) if digest > page.last]
            self.state |= {digest: state[digest] for digest in shown[: page.limit]}

    @cached_property
    def going(self) -> frozenset[str]:
        return oracle.may_go(self.state.values(), self._policy, int(self.listed * 1000))

    def going_but(self, just_pushed: frozenset[str]) -> frozenset[str]:
        return oracle.may_go(self.state.values(), self._policy, int(self.listed * 1000), just_pushed=just_pushed)

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.state.values())


class Judge:
    """Goes through the records of a round.

    Gaps, which no client can close because nothing in the registry is deleted on a condition:

    * ``tag moved``: a tag moved between the look at it and its deletion, within ``LOOK_MAX_S`` and at the first try;
    * ``child gone``: a push skipped what was there, and found it gone when it put the index (see ``Clients``);
    * ``attached``: a subject was refused, a listing showed nothing new, then something was attached, and the
      subject's referrers, which the registry wants gone first, had been asked to go;
    * ``pushed again``: what was deleted since the listing was pushed again, and the digest says no difference.
    """

    def __init__(self, case: Case, records: Records) -> None:
        self._case = case
        self._records = records
        self.losses: list[Loss] = []
        self.gaps: Counter[str] = Counter()
        self._asked: dict[tuple[str, str], list[Asked]] = {}
        for entry in records.asked:
            self._asked.setdefault((entry.who, entry.repository), []).append(entry)
        for entries in self._asked.values():
            entries.sort(key=lambda entry: entry.time)
        self._views = {key: self._views_of(key[1], entries) for key, entries in self._asked.items()}
        # When each process was first told to slow down.
        self._paced: dict[str, float] = {}
        for entry in sorted(records.asked, key=lambda entry: entry.time):
            if entry.answered == requests.codes.too_many_requests:
                self._paced.setdefault(entry.who, entry.time)
        self._counted: Counter[tuple[str, str]] = Counter()
        # Whose deletion has been judged already.
        self._lost_tags: set[tuple[str, str]] = set()
        self._lost_digests: set[tuple[str, str]] = set()

    def judge(self) -> None:
        for (who, repository), entries in self._asked.items():
            if repository not in self._case.repositories:
                continue
            for entry in entries:
                if entry.kind in ("manifest_delete", "tag_delete"):
                    self._judge_deletion(entry, entries, self._views[who, repository])
            if self._case.repositories[repository] is None:
                self._lose(f"{repository} has no policy and was asked for {entries[0].kind}")
        for delivery in self._records.deliveries:
            self._judge_delivery(delivery)
        for repository, policy in self._case.repositories.items():
            self._judge_states(repository, policy)
        self._judge_pushes()

    def _lose(self, what: str, *digests: str) -> None:
        self.losses.append(Loss(what, frozenset(digests)))

    def _label(self, digest: str) -> str:
        return self._records.label(digest)

    def _views_of(self, repository: str, entries: Sequence[Asked]) -> list[View]:
        policy = self._case.repositories.get(repository)
        if policy is None:
            return []
        views: list[View] = []
        pages: list[Asked] = []
        is_reading = False
        for entry in entries:
            # What did not arrive as it was sent told the process nothing.
            if entry.kind == "tags_list" and entry.status == entry.answered == requests.codes.ok:
                pages = [page for page in pages if page.last < entry.last] if entry.last else []
                pages.append(entry)
                if not entry.has_more:
                    views.append(View(pages, self._records.versions[repository], policy))
                    is_reading = True
            elif entry.kind == "manifest_get" and views:
                if entry.status == entry.answered == requests.codes.not_found:
                    views[-1].state.pop(entry.reference, None)
                if is_reading:
                    views[-1].end = entry.time
            elif entry.kind in ("manifest_head", "manifest_delete", "tag_delete"):
                is_reading = False
        return views

    def _slack(self, who: str, at: float) -> float:
        return PACED_SLACK_S if self._paced.get(who, at) < at else SLACK_S

    def _began(self, view: View, digest: str, entries: Sequence[Asked]) -> float:
        """When the process first asked for anything about ``digest`` after it had listed it."""
        about = {digest, *view.state[digest].tags, *view.reading.names_subject[digest]}
        return min(
            (
                entry.arrived
                for entry in entries
                if entry.arrived > view.listed
                and entry.reference in about
                and entry.kind in ("manifest_head", "manifest_delete", "tag_delete")
            ),
            default=view.listed,
        )

    def _judge_deletion(self, entry: Asked, entries: Sequence[Asked], views: Sequence[View]) -> None:
        if self._case.repositories[entry.repository] is None or self._case.is_dry(entry.repository):
            self._lose(f"{entry.kind} of {entry.reference} in {entry.repository}, where nothing may be deleted")
            return
        before = self._records.versions[entry.repository][entry.before].state
        if entry.kind == "tag_delete":
            self._judge_tag(entry, entries, views)
            return
        digest = entry.reference
        held = before.get(digest)
        listed = [view for view in views if view.listed <= entry.arrived and digest in view.going]
        label = self._label(digest)
        if not listed:
            self._lose(f"{entry.who} asks for {label} to be deleted, which no listing of it lets go", digest)
            return
        bound = self._case.plan_age_s + self._slack(entry.who, entry.arrived)
        plans = [view for view in listed if self._began(view, digest, entries) - view.end <= bound]
        if not plans:
            late = min(self._began(view, digest, entries) - view.end for view in listed)
            self._lose(f"{entry.who} begins to delete {label} {late:.1f} s after its plan", digest)
            return
        self._judge_deadline(entry, min(self._began(view, digest, entries) for view in plans))
        if held is None:
            return
        same = [view for view in plans if view.state[digest].uploaded == held.uploaded]
        if not same:
            if entry.status == requests.codes.accepted:
                self.gaps["pushed again"] += 1
                self._lost_digests.add((entry.repository, digest))
            return
        self._judge_order(entry, entries, before, same)
        self._judge_orphan(entry, entries, same)
        if entry.status == requests.codes.accepted:
            self._judge_wanted(entry, same)
            self._judge_limit(entry, same)

    def _judge_deadline(self, entry: Asked, began: float) -> None:
        """``TIME_LIMIT`` after a message's arrival its run begins no further deletion."""
        sent = [
            one.sent
            for one in self._records.deliveries
            if one.who == entry.who and one.message.repository == entry.repository and one.sent <= began <= one.ended
        ]
        if not sent:
            self._lose(f"{entry.who} deletes {self._label(entry.reference)} while it handles no message of this")
            return
        late = began - max(sent) - self._case.time_limit_s
        if late > self._slack(entry.who, began):
            self._lose(f"{entry.who} begins to delete {late:.1f} s after its time was over", entry.reference)

    def _judge_limit(self, entry: Asked, plans: Sequence[View]) -> None:
        """A process has deleted no more images and orphans than all runs may that it can have begun."""
        policy = self._case.repositories[entry.repository]
        limit = policy.get("max_deletions") if policy else None
        counts = {*oracle.IMAGES, oracle.ORPHAN}
        if isinstance(limit, int) and all(view.reading.kinds[entry.reference] in counts for view in plans):
            key = (entry.who, entry.repository)
            self._counted[key] += 1
            runs = sum(
                one.who == entry.who and one.message.repository == entry.repository and one.sent < entry.time
                for one in self._records.deliveries
            )
            if self._counted[key] > limit * runs:
                self._lose(f"{entry.who} deletes {self._counted[key]} images in {runs} runs of at most {limit}")

    def _judge_wanted(self, entry: Asked, plans: Sequence[View]) -> None:
        """A run deletes nothing that its own message names: the only one that was handled when its listing began."""
        for view in plans:
            handled = [
                one
                for one in self._records.deliveries
                if one.who == entry.who
                and one.message.repository == entry.repository
                and one.sent <= view.begin <= one.ended
            ]
            named = [one.message for one in handled if one.message.action == "INSERT" and one.ended > entry.time]
            if len(handled) != 1 or not named or named[0].digest != entry.reference:
                return
        number = named[0].number
        label = self._label(entry.reference)
        self._lose(f"message {number} of {entry.who}'s run names {label}, and it is deleted", entry.reference)

    def _judge_order(self, entry: Asked, entries: Sequence[Asked], before: State, plans: Sequence[View]) -> None:
        """Indexes before children, subjects before referrers; those of a refused subject only after a new look."""
        digest = entry.reference

        def still(other: str, view: View) -> bool:
            return other in before and before[other].uploaded == view.state[other].uploaded

        if all(any(still(parent, view) for parent in view.reading.parents[digest]) for view in plans):
            self._lose(f"{self._label(digest)} is asked to go before an index that lists it", digest)
        first = plans[-1]
        for subject in sorted(first.reading.subjects[digest] - {digest}):
            if not all(subject in view.reading.subjects[digest] and still(subject, view) for view in plans):
                continue
            # Within a loop of cosign tags nothing is first.
            if any(subject in view.reading.reach({digest}, view.reading.belonging) for view in plans):
                continue
            refused = [
                one
                for one in entries
                if one.kind == "manifest_delete"
                and one.reference == subject
                and one.status == one.answered == REFUSED
                and plans[0].listed < one.time < entry.arrived
            ]
            held = first.state[digest]
            if not refused or oracle.document_subject(held.media_type, held.body) != subject:
                self._lose(
                    f"{self._label(digest)} is asked to go before its subject {self._label(subject)}", digest, subject
                )
            elif entry.status == requests.codes.accepted:
                self._judge_attached(entry, before, plans, refused[0], subject)

    def _judge_orphan(self, entry: Asked, entries: Sequence[Asked], plans: Sequence[View]) -> None:
        """Before an orphan goes, its subject was looked for once more, and was not there."""
        digest = entry.reference
        for subject in sorted(plans[-1].reading.names_subject[digest]):
            if any(view.reading.kinds[digest] != oracle.ORPHAN for view in plans):
                continue
            looks = [
                one
                for one in entries
                if one.kind == "manifest_head"
                and one.reference == subject
                and one.status == one.answered
                and plans[0].listed < one.time < entry.arrived
            ]
            if not looks or looks[-1].status != requests.codes.not_found:
                self._lose(
                    f"{self._label(digest)} goes, and nobody looked for {self._label(subject)}", digest, subject
                )

    def _judge_attached(
        self, entry: Asked, before: State, plans: Sequence[View], refused: Asked, subject: str
    ) -> None:
        """Whether a referrer went whose subject, refused, is needed by something new."""
        if not self._newly_needed(entry.repository, entry.reference, before, plans):
            return
        versions = self._records.versions[entry.repository]
        seen = [
            view
            for view in self._views[entry.who, entry.repository]
            if refused.time <= view.begin and view.listed <= entry.arrived
        ]
        blind = [
            view for view in seen if not self._newly_needed(entry.repository, entry.reference, view.state, plans)
        ]
        texts = f"{self._label(entry.reference)} goes, and its subject {self._label(subject)} is needed again"
        if blind:
            self.gaps["attached"] += 1
            self._lost_digests.add((entry.repository, entry.reference))
        else:
            when = next(
                v.time for v in versions if self._newly_needed(entry.repository, entry.reference, v.state, plans)
            )
            why = "though a listing says so" if seen else "and nobody looked since it was refused"
            self._lose(f"{texts} since {entry.time - when:.3f} s, {why}", entry.reference, subject)

    def _newly_needed(self, repository: str, digest: str, state: State, plans: Sequence[View]) -> bool:
        """Whether something that is new to every one of ``plans`` is kept, and needs ``digest``."""
        if digest not in state:
            return False
        policy = self._case.repositories[repository] or {}
        kept = state.keys() - oracle.may_go(state.values(), policy, now_ms())
        new = {
            other
            for other, held in state.items()
            if all(
                other not in view.state
                or view.state[other].uploaded != held.uploaded
                or (other in kept and not held.tags <= view.state[other].tags)
                for view in plans
            )
        }
        return digest in Reading(state.values()).closure(new)

    def _judge_tag(self, entry: Asked, entries: Sequence[Asked], views: Sequence[View]) -> None:
        tag = entry.reference
        listed = [view for view in views if view.listed <= entry.arrived]
        judged = {digest for view in listed for digest in view.going if tag in view.state[digest].tags}
        names = " ".join(self._label(one) for one in sorted({*judged, entry.named} - {""}))
        if not judged:
            self._lose(f"{entry.who} asks for the tag {tag} to be deleted, which no listing lets go", entry.named)
            return
        history = [one for one in entries if one.reference == tag and one.arrived < entry.arrived]
        looks = [
            one
            for one in history
            if one.kind == "manifest_head" and one.status == one.answered and one.arrived > listed[0].listed
        ]
        tries = [one for one in history if one.kind == "tag_delete" and looks and one.arrived > looks[-1].time]
        if not looks or tries:
            again = f", which is the try number {len(tries) + 1}" if looks else ""
            self._lose(f"{entry.who} asks for the tag {tag} to be deleted without a look{again} ({names})", *judged)
            return
        if entry.status == requests.codes.accepted:
            self._lost_tags.add((entry.repository, tag))
        if entry.status != requests.codes.accepted or entry.named in judged:
            return
        look = looks[-1]
        late = entry.arrived - look.time
        if look.named in judged and late <= LOOK_MAX_S:
            self.gaps["tag moved"] += 1
            return
        showed = self._label(look.named) if look.named else "nothing"
        self._lose(
            f"{entry.who} deletes the tag {tag} of {self._label(entry.named)}, judged with {names},"
            f" {late:.3f} s after the last look, which showed {showed}",
            entry.named,
            *judged,
        )

    def _judge_delivery(self, delivery: Delivery) -> None:
        message = delivery.message
        number = message.number
        if delivery.outcome.startswith("crashed"):
            self._lose(f"message {number}: {delivery.outcome}")
        if message.poison or message.action == "DELETE":
            if delivery.outcome == "failed":
                self._lose(f"message {number} is not acknowledged: {message.poison or message.action}")
            return
        policy = self._case.repositories[message.repository]
        if delivery.outcome != "acked" or policy is None:
            return
        asked = self._asked.get((delivery.who, message.repository), [])
        during = [one for one in asked if delivery.sent <= one.time <= delivery.ended]
        # Two may be the same request's: refused with a fresh token, which is for good.
        if sum(one.answered == 401 for one in during) > 1:
            return
        views = [
            view
            for view in self._views.get((delivery.who, message.repository), [])
            if view.begin > message.published - 0.001 and view.listed < delivery.ended
        ]
        if not views:
            self._lose(
                f"message {number} is acknowledged, and {delivery.who} has listed nothing since it was published"
            )
        elif policy.get("max_deletions") is None and not self._case.is_dry(message.repository):
            left = [self._left_by(view, delivery, asked) for view in views]
            if all(left):
                names = " ".join(self._label(one) for one in sorted(left[-1]))
                self._lose(f"message {number} is acknowledged by {delivery.who}, and {names} left alone", *left[-1])

    def _left_by(self, view: View, delivery: Delivery, asked: Sequence[Asked]) -> frozenset[str]:
        """What the run of ``view`` had to delete and did not, with nothing that excuses it."""
        during = [one for one in asked if view.listed <= one.time <= delivery.ended]
        if any(one.status == REFUSED and "delete" in one.kind for one in during):
            return frozenset()
        # While pages were read a tag may have moved from one to another, and stand on both.
        listed = {(tag, digest) for digest, held in view.state.items() for tag in held.tags}
        for one in during:
            # A tag that has moved, or an orphan's subject that has come.
            looked = one.kind == "manifest_head" and one.status == requests.codes.ok
            if looked and {digest for tag, digest in listed if tag == one.reference} != {one.named}:
                return frozenset()
        named = frozenset(
            one.message.digest
            for one in self._records.deliveries
            if one.who == delivery.who
            and one.message.digest
            and one.sent <= delivery.ended
            and one.ended >= view.begin
        )
        left = set(view.going_but(named))
        versions = self._records.versions[delivery.message.repository]
        for number, version in enumerate(versions):
            until = versions[number + 1].time if number + 1 < len(versions) else float("inf")
            if until >= view.listed and version.time <= delivery.ended:
                left &= version.state.keys()
        return frozenset(left)

    def _judge_states(self, repository: str, policy: Mapping[str, object] | None) -> None:
        """What every state, and every listing that anybody was given, keeps must be there."""
        versions = self._records.versions[repository]
        must = set(versions[0].state)
        if policy is not None and not self._case.is_dry(repository):
            for version in versions:
                must &= version.state.keys() - oracle.may_go(version.state.values(), policy, int(version.time * 1000))
            for (_, name), views in self._views.items():
                for view in views if name == repository else ():
                    must &= view.state.keys() - view.going
        must -= {digest for name, digest in self._records.client_deleted if name == repository}
        for digest in sorted(must - versions[-1].state.keys()):
            self._lose(f"{self._label(digest)} was kept all the time, and is gone", digest)

    def _judge_pushes(self) -> None:
        for pushed in self._records.pushed:
            state = self._records.versions[pushed.repository][-1].state
            # Its children may have followed it.
            if (pushed.repository, pushed.digest) in self._records.client_deleted | self._lost_digests:
                continue
            for digest in (pushed.digest, *sorted(pushed.children)):
                key = (pushed.repository, digest)
                if digest in state or key in self._records.client_deleted or key in self._lost_digests:
                    continue
                self._lose(f"{self._label(digest)} was pushed meanwhile, and is gone", digest, pushed.digest)
        new = {(one.repository, one.digest) for one in self._records.pushed}
        for (repository, tag), wanted in self._records.client_tags.items():
            if wanted is None or (repository, wanted) not in new or (repository, tag) in self._lost_tags:
                continue
            state = self._records.versions[repository][-1].state
            if wanted in state and tag not in state[wanted].tags:
                self._lose(f"the tag {tag} of {self._label(wanted)} was set meanwhile, and is gone", wanted)

    def judge_rest(self) -> None:
        """Once nothing goes wrong any more, what is left is what the policy says."""
        for repository, policy in self._case.repositories.items():
            if policy is None or self._case.is_dry(repository):
                continue
            state = self._records.versions[repository][-1].state
            left = oracle.left_to_go(state.values(), policy, now_ms())
            if left:
                names = " ".join(self._label(one) for one in sorted(left))
                self._lose(f"{repository} has come to rest, and {names} should have gone", *left)


# A round.


@dataclass(slots=True)
class Outcome:
    """What a round came to; ``broken`` is what went wrong in this program."""

    case: Case
    losses: list[Loss] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return not self.losses and not self.broken


class Round:
    """One round, from its case to its outcome."""

    def __init__(self, case: Case, *, make_local: Callable[[Case, str, set[str]], Process] = LocalProcess) -> None:
        self._case = case
        self._rng = random.Random(case.seed + 1)
        self._make_local = make_local
        self._outcome = Outcome(case)
        self._rules: list[tuple[str, Rule]] = []
        self._servers: list[tuple[asyncio.Server, web.Server]] = []
        self._processes: list[Process] = []
        self._ended: list[Process] = []

    def run(self) -> Outcome:
        case, started = self._case, time.monotonic()
        with (
            tempfile.TemporaryDirectory() as folder,
            tuned(case.plan_age_s),
            _logged() as records_logged,
            Emulator(seed=case.seed, default_host=HOST) as emulator,
        ):
            self._folder = Path(folder)
            self._emulator = emulator
            self._build()
            records_logged.append(self._records)
            try:
                self._play()
            finally:
                self._close()
        self._judge()
        self._outcome.seconds = time.monotonic() - started
        return self._outcome

    # Before.

    def _build(self) -> None:
        case, emulator = self._case, self._emulator
        emulator.store.referrer_code = case.referrer_code
        behaviour = emulator.behaviour
        behaviour.auth, behaviour.expires_in = case.auth, case.expires_in
        behaviour.style, behaviour.page_size = case.style, case.page_size
        self._records = Records(emulator.store)
        for repository in case.repositories:
            history = History(self._rng, emulator.store, f"{HOST}/{repository}", now_ms())
            history.fill(case.size)
            self._records.absent[repository] = history.absent
            self._records.snapshot(repository)
        self._watched = Watched(emulator.store, emulator.faults, emulator.log, behaviour, HOST)
        self._watched.records, self._watched.case, self._watched.dead = self._records, case, set()
        self._pubsub = Pubsub(self._rng, self._records)

    def _listen(self) -> str:
        """Give the registry one more address."""
        loop = self._emulator._loop
        assert loop is not None

        async def listen() -> str:
            handler = web.Server(self._watched.handle, access_log=None)
            server = await loop.create_server(handler, "127.0.0.1", 0)
            self._servers.append((server, handler))
            return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

        who = asyncio.run_coroutine_threadsafe(listen(), loop).result()
        self._emulator.behaviour.aliases[who] = HOST
        return who

    def _start(self, count: int) -> None:
        started: list[Process] = []
        for _ in range(count):
            who = self._listen()
            if self._case.mode == "local":
                started.append(self._make_local(self._case, who, self._watched.dead))
            else:
                started.append(FrameworkProcess(self._case, who, self._folder / who))
        for process in started:
            if isinstance(process, FrameworkProcess):
                process.wait()
        self._pubsub.processes += started

    def _kill(self) -> None:
        processes = self._pubsub.processes
        if processes:
            process = self._rng.choice(processes)
            self._pubsub.processes = [one for one in processes if one is not process]
            self._records.note(f"kill -9 {process.who}")
            process.kill()
            self._ended.append(process)
            self._outcome.counts["kills"] += 1

    # Meanwhile.

    def _play(self) -> None:
        case, rng = self._case, self._rng
        self._start(case.processes)
        loop = self._emulator._loop
        assert loop is not None
        clients = Clients(random.Random(case.seed + 2), case, self._records, self._watched, self._publish)
        self._watched.clients = clients
        self._emulator.faults.latency_s = case.latency_s
        self._add_faults()
        self._name_doomed()
        for repository in case.repositories:
            for digest in rng.choices(sorted(self._records.state(repository)), k=rng.choice((1, 3))):
                self._pubsub.publish(repository, None if rng.random() < 0.5 else digest, "pushed-before")
        self._poison()
        end = time.monotonic() + case.seconds
        kills = sorted((end - rng.uniform(0.1, 0.95) * case.seconds for _ in range(case.kills)), reverse=True)
        while time.monotonic() < end:
            time.sleep(0.015)
            loop.call_soon_threadsafe(clients.tick)
            if kills and time.monotonic() > kills[-1]:
                kills.pop()
                self._kill()
                if rng.random() < 0.7 or not self._pubsub.processes:
                    self._start(1)
        asyncio.run_coroutine_threadsafe(self._finish(clients), loop).result()
        self._count_faults()
        self._rest()

    def _name_doomed(self) -> None:
        """Now and then the first message names something old: whoever pushed it again wants it."""
        for repository, policy in self._case.repositories.items():
            doomed = sorted(oracle.may_go(self._records.state(repository).values(), policy or {}, now_ms()))
            if policy is not None and doomed and self._rng.random() < 0.4:
                self._pubsub.publish(repository, self._rng.choice(doomed), None)
                time.sleep(0.05)

    async def _finish(self, clients: Clients) -> None:
        clients.finish()
        self._records.note("nothing goes wrong from here on")

    def _publish(self, repository: str, digest: str | None, tags: Sequence[str]) -> None:
        if digest is not None and (not tags or self._rng.random() < 0.5):
            self._pubsub.publish(repository, digest, None)
        for tag in tags:
            self._pubsub.publish(repository, digest, tag)
        if self._rng.random() < 0.1:
            self._pubsub.publish(repository, digest, tags[0] if tags else "gone", action="DELETE")

    def _poison(self) -> None:
        digest = "sha256:" + "a" * 64
        texts = (
            "not JSON",
            "[]",
            '{"action":"INSERT"}',
            '{"action":"PRUNE","repository":"{host}/acme/app-0"}',
            '{"action":"INSERT","digest":"registry.example/acme/app-0@{digest}"}',
            '{"action":"INSERT","digest":"{host}/acme/../app-0@{digest}"}',
            '{"action":"INSERT","digest":"{host}/acme/app-0@{digest}","tag":"{host}/acme/app-1:v1"}',
        )
        for text in self._rng.sample(texts, self._rng.randint(0, 3)):
            self._pubsub.poison(text.replace("{digest}", digest))

    def _add_faults(self) -> None:
        rng, faults = self._rng, self._emulator.faults
        for name in self._case.faults:
            action, where = self._fault(name)
            if name == "quota":
                faults.quota = Quota(rng.choice((100, 300)))
            else:
                self._rules.append((name, faults.add(action, **where)))

    def _fault(self, name: str) -> tuple[Action, dict[str, object]]:
        """A fault, and which requests it happens to."""
        rng = self._rng
        often: dict[str, object] = {"probability": rng.choice((0.02, 0.05, 0.1))}
        seldom = often | {"times": rng.randint(1, 4)}
        # Longer than the product tries again, once in a while.
        kind = rng.choice(("", "tags_list", "manifest_get", "manifest_head", "tag_delete", "manifest_delete"))
        outage: dict[str, object] = {"skip": rng.randint(0, 20), "times": rng.randint(6, 25), "kind": kind}
        if rng.random() < 0.5 and kind in ("manifest_get", "manifest_delete"):
            # Of a few manifests only, so that the others go on.
            outage |= {"path": f"sha256:[{rng.randrange(16):x}{rng.randrange(16):x}]", "skip": 0}
        known: dict[str, tuple[Action, dict[str, object]]] = {
            "429": (
                too_many_requests(retry_after=rng.choice((None, None, 0, 1)), plain=rng.random() < 0.5),
                seldom,
            ),
            "reset before": (DropBefore(), often),
            "reset after": (DropAfter(), often),
            "stall": (Stall(rng.choice((0.2, 1.0))), seldom),
            "cut body": (CutBody(rng.choice((0.0, 0.3, 0.9))), often),
            "broken JSON": (BrokenJson(), often | {"method": "GET"}),
            "delay": (Delay(rng.choice((0.01, 0.05)), after=rng.random() < 0.5), often),
            "outage": (rng.choice((Status(503), DropBefore(), DropAfter())), outage),
            "unreadable": (Status(503), self._unreadable()),
        }
        return known[name] if name in known else (Status(int(name) if name.isdecimal() else 503), often)

    def _unreadable(self) -> dict[str, object]:
        """The requests for one index, while all others can be read."""
        state = self._records.state(next(iter(self._case.repositories)))
        indexes = sorted(digest for digest, held in state.items() if held.media_type in oracle.INDEX_TYPES)
        path = self._rng.choice(indexes) if indexes else "no index"
        return {"kind": "manifest_get", "path": path, "times": self._rng.randint(6, 20)}

    def _count_faults(self) -> None:
        faults, counted = self._emulator.faults, self._outcome.faults
        for name, rule in self._rules:
            counted[name] += rule.hits
        if faults.quota is not None:
            counted["quota"] += faults.quota.refused
        faults.clear()

    # Afterwards.

    def _rest(self) -> None:
        """Let every message be acknowledged, then send more until a run changes nothing."""
        pubsub, case = self._pubsub, self._case
        pubsub.is_calm = True
        if not pubsub.processes:
            self._start(1)
        end = time.monotonic() + REST_S
        self._wait(end)
        for repository, policy in case.repositories.items():
            if policy is None:
                continue
            while time.monotonic() < end:
                before = len(self._records.versions[repository])
                pubsub.publish(repository, None, "the-last-one")
                self._wait(end)
                if len(self._records.versions[repository]) == before:
                    break
            else:
                self._outcome.losses.append(Loss(f"{repository} does not come to rest"))

    def _wait(self, end: float) -> None:
        while not self._pubsub.is_idle():
            if time.monotonic() > end:
                self._outcome.losses.append(Loss(f"messages are not acknowledged {REST_S:g} s after the last fault"))
                return
            time.sleep(0.005)

    def _close(self) -> None:
        self._pubsub.stop()
        for process in self._pubsub.processes:
            process.kill()
        loop = self._emulator._loop
        assert loop is not None

        async def close() -> None:
            for server, handler in self._servers:
                server.close()
                handler.pre_shutdown()
                await handler.shutdown(0.02)

        asyncio.run_coroutine_threadsafe(close(), loop).result()

    def _judge(self) -> None:
        outcome, records = self._outcome, self._records
        outcome.broken += records.broken
        judge = Judge(self._case, records)
        judge.judge()
        if not outcome.losses:
            judge.judge_rest()
        outcome.losses += judge.losses
        outcome.gaps += judge.gaps
        outcome.faults["expired tokens"] += records.expired
        outcome.gaps += records.gaps
        outcome.faults["kill -9"] += outcome.counts["kills"]
        accepted = Counter(one.kind for one in records.asked if one.status == requests.codes.accepted)
        outcome.counts += Counter(
            {
                "requests": len(records.asked),
                "manifests deleted": accepted["manifest_delete"],
                "tags deleted": accepted["tag_delete"],
                "refused": sum(one.status == REFUSED for one in records.asked),
                "deliveries": len(records.deliveries),
                "redelivered": self._pubsub.redelivered,
                "pushes": len(records.pushed),
            }
        )
        if not outcome.is_well:
            outcome.trace = self._trace()

    def _trace(self) -> list[str]:
        """What led to the losses: all that is about the lost manifests and what belongs to them."""
        records = self._records
        about = frozenset().union(*(loss.digests for loss in self._outcome.losses))
        near = set(about)
        tags: set[str] = set()
        for versions in records.versions.values():
            for version in versions:
                if here := about & version.state.keys():
                    reading = Reading(version.state.values())
                    near |= {other for one in here for other in reading.needs(one) | reading.owners(one)}
                    tags |= {tag for one in here for tag in version.state[one].tags}
        names = {records.labels[digest] for digest in near if digest in records.labels} | tags
        names |= {f"{found} (" for loss in self._outcome.losses for found in re.findall(r"message \d+", loss.what)}
        lines = self._first_lines(near)
        start = records.trace[0][0]
        for at, whole in sorted(records.trace, key=lambda one: one[0]):
            text = whole.replace("tags_list tags/list", "tags_list")
            is_listing = "tags_list" in text
            if is_listing and lines[-1:] and lines[-1].endswith(text):
                continue
            if is_listing or any(
                name in text for name in {*names, "kill -9", "from here on", "log: prune", "log: already"}
            ):
                lines.append(f"{at - start:8.3f} {text}")
        return lines

    def _first_lines(self, near: set[str]) -> list[str]:
        """What there was at the start."""
        records, lines = self._records, []
        for repository, versions in records.versions.items():
            reading = Reading(versions[0].state.values())
            for digest in sorted(near & versions[0].state.keys()):
                held = reading.held[digest]
                uploaded = oracle.upload_time(held.uploaded)
                age = "of unknown age" if uploaded is None else f"{(now_ms() - uploaded) / 3_600_000:.1f} h old"
                children, about = reading.children[digest], reading.names_subject[digest]
                lines.append(
                    f"at the start {repository} {records.label(digest)} {reading.kinds[digest]}"
                    f" {held.media_type.removeprefix('application/vnd.')} {sorted(held.tags)} {age}"
                    f" lists {sorted(map(records.label, children))} is about {sorted(map(records.label, about))}"
                )
        return lines


@contextlib.contextmanager
def _logged() -> Iterator[list[Records]]:
    """Take the product's log lines of this process into the trace, and keep them from the terminal."""
    into: list[Records] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for records in into:
                facts = {key: vars(record).get(key) for key in ("digest", "tag", "now", "reason", "error", "codes")}
                known = {key: value for key, value in facts.items() if value}
                for key in ("digest", "now"):
                    if key in known:
                        known[key] = records.label(str(known[key]))
                records.note(f"    log: {record.getMessage()} {known}")

    logger, handler = logging.getLogger(LOGGER), Handler()
    before = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield into
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


# The command.


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    faults: Counter[str] = sum((one.faults for one in outcomes), Counter())
    gaps: Counter[str] = sum((one.gaps for one in outcomes), Counter())
    counts: Counter[str] = sum((one.counts for one in outcomes), Counter())
    modes = Counter(one.case.mode for one in outcomes)
    rows = [
        ("rounds", f"{len(outcomes)}  ({', '.join(f'{count} {mode}' for mode, count in sorted(modes.items()))})"),
        ("requests", str(counts["requests"])),
        ("messages delivered", f"{counts['deliveries']}  ({counts['redelivered']} redelivered)"),
        ("manifests pushed", str(counts["pushes"])),
        ("deletions", f"{counts['manifests deleted']} manifests, {counts['tags deleted']} tags"),
        ("refused by the registry", str(counts["refused"])),
        ("faults", str(faults.total())),
        *((f"  {name}", str(count)) for name, count in sorted(faults.items()) if count),
        ("gap cases", str(gaps.total())),
        *((f"  {name}", str(count)) for name, count in sorted(gaps.items())),
        ("losses", str(sum(len(one.losses) for one in outcomes))),
        ("seconds", f"{seconds:.0f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def failure(outcome: Outcome, most: int = 120) -> str:
    """What is printed of a round that did not go well."""
    case = outcome.case
    lines = [
        f"seed {case.seed} ({case.mode}): python -m tests.chaos --seed {case.seed} --rounds 1 --mode {case.mode}",
        *(f"LOSS: {loss.what}" for loss in outcome.losses),
        *(f"BROKEN: {text}" for text in outcome.broken),
        f"{case}",
        *outcome.trace[:most],
    ]
    if len(outcome.trace) > most:
        lines.append(f"… {len(outcome.trace) - most} lines more")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next")
    parser.add_argument("--seconds", type=float, default=60.0, help="no round begins later")
    parser.add_argument("--mode", choices=("local", "framework"), default=None)
    parser.add_argument("--keep-going", action="store_true", help="go on after a loss")
    parser.add_argument("--lines", type=int, default=150, help="of the trace that a loss prints")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "PLAN_AGE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(int(options.serve[0]), float(options.serve[1]))
        return 0
    seed = random.randrange(10**6) if options.seed is None else options.seed
    started = time.monotonic()
    outcomes: list[Outcome] = []
    print(f"seed {seed}", flush=True)
    for number in range(options.rounds):
        if outcomes and time.monotonic() - started > options.seconds:
            break
        outcome = Round(make_case(seed + number, options.mode)).run()
        outcomes.append(outcome)
        if not outcome.is_well:
            print(failure(outcome, options.lines), flush=True)
            if not options.keep_going:
                break
    print(report(outcomes, time.monotonic() - started))
    return 0 if all(one.is_well for one in outcomes) else 1


if __name__ == "__main__":
    # Imported by its name, so that there is one of everything.
    from tests.chaos import main as _main

    sys.exit(_main())
