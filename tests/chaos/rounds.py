"""One round, from its case to its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import random
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from aiohttp import web

from cleaner.logs import LOGGER
from tests.chaos.cases import HOST, Case, History, make_case
from tests.chaos.clients import Clients
from tests.chaos.cuts import Cuts
from tests.chaos.judge import Judge
from tests.chaos.losses import Loss
from tests.chaos.processes import CommandLine, FrameworkProcess, LocalProcess, Process, Pubsub
from tests.chaos.records import REFUSED, Records, Watched, now_ms
from tests.chaos.tuning import REST_S
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
from tests.support import oracle
from tests.support.oracle import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


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
        self._ended: list[Process] = []
        self._commands: list[CommandLine] = []

    @property
    def records(self) -> Records:
        return self._records

    def run(self) -> Outcome:
        case, started = self._case, time.monotonic()
        with (
            tempfile.TemporaryDirectory() as folder,
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
        behaviour.anonymous = frozenset({"pull", "push"})
        behaviour.style, behaviour.page_size = case.style, case.page_size
        self._records = Records(emulator.store)
        for repository in case.repositories:
            history = History(self._rng, emulator.store, f"{HOST}/{repository}", now_ms())
            history.fill(case.size)
            self._records.absent[repository] = history.absent
            self._records.snapshot(repository)
        self._watched = Watched(emulator.store, emulator.faults, emulator.log, behaviour, HOST)
        self._watched.records, self._watched.case, self._watched.dead = self._records, case, set()
        self._cuts = Cuts(random.Random(case.seed + 3), case, self._records, emulator.faults, self._watched.dead)
        self._watched.cuts = self._cuts
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

    def _kill(self, who: str = "") -> None:
        processes = [one for one in self._pubsub.processes if who in ("", one.who)]
        if processes:
            process = self._rng.choice(processes)
            self._pubsub.processes = [one for one in self._pubsub.processes if one is not process]
            self._records.note(f"kill -9 {process.who}")
            self._records.killed.setdefault(process.who, time.time())
            process.kill()
            self._ended.append(process)
            self._outcome.counts["kills"] += 1

    def _bury(self) -> None:
        """End the processes that were cut off, and start others."""
        while self._cuts.killed:
            who = self._cuts.killed.pop()
            if any(one.who == who for one in self._pubsub.processes):
                self._kill(who)
                self._start(1)

    def _command(self) -> None:
        """Let somebody prune a repository from the command line."""
        repository = self._rng.choice([name for name, one in self._case.repositories.items() if one is not None])
        command = CommandLine(self._case, self._listen(), self._records, repository)
        command.start()
        self._commands.append(command)

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
        commands = sorted((end - rng.uniform(0.1, 1) * case.seconds for _ in range(case.commands)), reverse=True)
        while time.monotonic() < end:
            time.sleep(0.015)
            loop.call_soon_threadsafe(clients.tick)
            if kills and time.monotonic() > kills[-1]:
                kills.pop()
                self._kill()
                if rng.random() < 0.7 or not self._pubsub.processes:
                    self._start(1)
            self._bury()
            if commands and time.monotonic() > commands[-1]:
                commands.pop()
                self._command()
        asyncio.run_coroutine_threadsafe(self._finish(clients), loop).result()
        self._watched.cuts = None
        self._bury()
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
        for command in self._commands:
            command.join(max(end - time.monotonic(), 0.0))
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
                "cuts": sum("cut: " in text for _, text in records.trace),
                "commands": len(self._commands),
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
                name in text for name in {*names, "kill -9", "cut: ", "from here on", "log: prune", "-> 404"}
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


def play(seed: int, mode: str | None, folder: Path | None = None) -> Outcome:
    """Play the round of a seed; with ``folder`` the records of a lost one are pickled there, by seed."""
    round_ = Round(make_case(seed, mode))
    outcome = round_.run()
    if folder is not None and not outcome.is_well:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(seed)).write_bytes(pickle.dumps((outcome.case, round_.records)))
    return outcome


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
