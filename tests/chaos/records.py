"""What a registry is asked and what it holds, written down in order."""

from __future__ import annotations

import base64
import json
import re
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from aiohttp import web

from tests.chaos.cases import HOST, Case
from tests.emulator.faults import Action, BrokenJson, CutBody
from tests.emulator.images import Content
from tests.emulator.server import Registry, Route, _drop
from tests.emulator.store import Store
from tests.support.oracle import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.clients import Clients
    from tests.chaos.cuts import Cuts
    from tests.emulator.answer import Answer

REFUSED: Final = 400
State = dict[str, Held]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


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
        # When each killed process was killed.
        self.killed: dict[str, float] = {}
        self.gaps: Counter[str] = Counter()
        self.expired = 0
        self.broken: list[str] = []
        self.labels: dict[str, str] = {}
        self.absent: dict[str, list[Content]] = {}

    def __getstate__(self) -> dict[str, object]:
        """All but the store, which has a lock."""
        return {**vars(self), "store": None}

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
    cuts: Cuts | None = None
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
        if known and self.cuts is not None:
            self._guarded(self.cuts.after, entry)
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
