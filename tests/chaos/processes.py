"""Who carries messages out, and Pub/Sub."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import requests

from cleaner.core.errors import CleanerError, TransientError
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Digest, Repository
from cleaner.engine.run import Run, make_histories
from cleaner.function import Function
from cleaner.google.registry.client import Registry
from cleaner.google.transport import Transport
from cleaner.settings import Settings
from tests.chaos.cases import Case
from tests.chaos.records import Delivery, Message, Records
from tests.chaos.tuning import REST_S, TIMING, shortened, timing_text
from tests.support.processes import ROOT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


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


class Event:
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
        self._function = Function(Settings.from_environment(environment(case, who)), shortened(case))

    def handle(self, message: Message, shape: int) -> str:
        envelope = message.envelope(self.who)
        if shape:
            del envelope["subscription"]
        try:
            self._function.handle(Event(envelope, ""))
        except TransientError:
            return "gone" if self.who in self._dead else "failed"
        except Exception:  # noqa: BLE001  # whatever it is, it is a finding
            return f"crashed: {traceback.format_exc()}"
        return "gone" if self.who in self._dead else "acked"

    def kill(self) -> None:
        self._dead.add(self.who)


class CommandLine(threading.Thread):
    """A command line that prunes one repository beside the function: it plans, then carries out what it has shown."""

    def __init__(self, case: Case, who: str, records: Records, repository: str) -> None:
        super().__init__(daemon=True)
        self._case = case
        self._who = who
        self._records = records
        self._repository = Repository(who, repository)

    def run(self) -> None:
        case = self._case
        transport = Transport(case.workers, timing=shortened(case))
        self._registry = Registry(transport, lambda _: "", frozenset({self._who}))
        self._histories = make_histories()
        self._now = datetime.now(UTC)
        doomed: set[Digest] = set()
        with self._recorded(), ThreadPoolExecutor(case.workers) as pool:
            planned, _ = self._make(dry_run=True).plan(pool.map)
            doomed = {one.manifest.digest for one in planned.delete}
        if doomed and not case.is_dry(self._repository.path):
            with self._recorded():
                self._make(dry_run=False).prune(doomed)

    def _make(self, *, dry_run: bool) -> Run:
        case, clock = self._case, self._registry.transport.clock
        return Run(
            self._registry,
            self._histories,
            self._repository,
            policies_from_document([case.repositories[self._repository.path]], insecure={self._who})[0],
            dry_run=dry_run,
            workers=case.workers,
            deadline=clock() + case.time_limit_s,
            now=lambda: self._now,
        )

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        """Write down a run, as if a message had asked for it."""
        message = Message(-1, self._repository.path, None, None, "COMMAND", time.time())
        delivery = Delivery(message, self._who, time.time())
        self._records.deliveries.append(delivery)
        outcome = "acked"
        try:
            yield
        except CleanerError as error:
            outcome = f"failed: {error}"
        except Exception:  # noqa: BLE001  # whatever it is, it is a finding
            outcome = f"crashed: {traceback.format_exc()}"
        delivery.outcome, delivery.ended = outcome, time.time()
        self._records.note(f"command line {self._who} on {self._repository}: {outcome}")


class FrameworkProcess:
    """functions-framework in a session of its own, ended with SIGKILL."""

    def __init__(self, case: Case, who: str, log: Path) -> None:
        self.who = who
        self.log = log
        self._port = free_port()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "tests.chaos", "--serve", str(self._port)),
                env=os.environ | environment(case, who) | {TIMING: timing_text(shortened(case))},
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


def serve(port: int) -> None:
    """Be one function process: functions-framework, but for the time constants, which the environment has."""
    from functions_framework._cli import _cli

    source = str(Path(__file__).with_name("served.py"))
    where = ("--source", source, "--host", "127.0.0.1", "--port", str(port))
    _cli(["--target", "prune", "--signature-type", "cloudevent", *where])


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
