"""Everything the demo starts, and the steps of its main job."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from tests.demo.histories import History, histories
from tests.demo.outcome import Outcome, Swept
from tests.demo.picture import in_yaml
from tests.demo.publisher import PROJECT, REQUESTS, ByItself, ByPubSub, Publisher
from tests.demo.signals import Signals
from tests.emulator import Emulator
from tests.emulator.store import Manifest
from tests.emulator.wire import Pusher
from tests.support.deliveries import TOPIC
from tests.support.function import FunctionProcess
from tests.support.held import Held
from tests.support.processes import ROOT, Child, inherited
from tests.support.pubsub import PubSub, pubsub_command

if TYPE_CHECKING:
    from collections.abc import Iterable

POLICIES: Final = "policies.yaml"
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
        policies = [history.policy for history in self._histories if history.policy]
        self._directory = Path(stack.enter_context(TemporaryDirectory(prefix="demo-")))
        (self._directory / POLICIES).write_text(in_yaml(policies))
        settings = {
            "POLICIES": json.dumps(policies),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": host,
            # The reasons to keep a manifest are logged at this level.
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
        """Show what would be deleted, by the command line.

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
        planned: set[str] = set()
        if isinstance(self._publisher, ByPubSub):
            messages = 1
            self._order_sweep(self._publisher, root)
        else:
            messages = 0
            planned = self._sweep_from_here(root)
        self._say("done", f"in {time.monotonic() - began:.1f} s")
        pruned = {str(one["repository"]) for one in self._records()[told:] if one["message"] == "prune finished"}
        pruned |= planned
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

    def _sweep_from_here(self, root: str) -> set[str]:
        """Sweep by the command line; return the repositories of which it has made a plan."""
        self._say("sweep", "no Pub/Sub: the command line does the same, with its log on stderr")
        last = ["--local", "--yes", "--quiet", "-vv"]
        child = self._run(["sweep", root], self._by_policies(), last, shows=False)
        for line in child.lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._logged += [json.loads(line) for line in child.errors]
        self._console.print()
        return {line.split()[0] for line in child.lines if line.startswith(f"{root}/")}

    def _by_policies(self) -> list[str]:
        return ["--policies", POLICIES, "--insecure", self._host]

    def _run(self, *arguments: list[str], shows: bool = True) -> Child:
        """Show a command, with ``arguments`` line by line; return its process.

        What it writes to stdout is shown as well, or with ``shows=False`` returned in its ``lines``.

        Raises:
            AssertionError: It fails.
        """
        lines = [" ".join(some) for some in arguments]
        self._console.print(Text("$ registry-cleaner " + " \\\n    ".join(lines), style="bold"))
        environment = inherited("NO_COLOR", "TERM")
        environment |= {"COLUMNS": str(self._console.width), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "cleaner", *(one for some in arguments for one in some)]
        with self._signals.held():
            child = Child(arguments[0][0], command, environment, directory=self._directory, shows=shows)
            self._stack.callback(child.stop)
        child.wait_for(lambda: child.returncode is not None, "its end", timeout_s=15)
        code = child.wait_for_end()
        assert code == 0, f"{child.name} ended with {code}:\n{child.tail()}"
        return child

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
