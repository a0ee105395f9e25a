"""``make run``, and the commands of ``docs/local.md``."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.documentation import Block, names_in, page
from tests.support.processes import ROOT, Child, free_port, inherited, is_listening, wait_for
from tests.support.programs import required
from tests.support.pubsub import PubSub
from tests.support.reader import Reader

PAGE = page("docs/local.md")


@dataclass(frozen=True, slots=True)
class Local:
    """The program, and where its registry and its function listen."""

    child: Child
    registry: str
    function: str

    def commands(self, name: str) -> list[str]:
        return [line.strip() for line in self.child.lines if line.strip().startswith(name)]

    def logged(self, *texts: str) -> bool:
        return any(all(text in line for text in texts) for line in self.child.lines)


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    registry, function = free_port(), free_port()
    ports = ("--registry-port", str(registry), "--function-port", str(function))
    command = [sys.executable, "-m", "tests.local", *ports]
    with Child("tests.local", command, inherited() | {"PYTHONUNBUFFERED": "1"}) as child:
        child.wait_for(lambda: "Ctrl-C ends both." in child.lines, "it is up")
        yield Local(child, f"127.0.0.1:{registry}", f"127.0.0.1:{function}")


def sh(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)


def test_commands_that_it_prints_do_what_they_say(local: Local) -> None:
    """A plan, a push that prunes, and a request for another repository."""
    (plan,) = local.commands("python")
    push, prune = local.commands("curl")

    planned = sh(plan.replace("python", sys.executable, 1))
    answers = [sh(push).stdout, sh(prune).stdout]

    assert planned.returncode == 0, planned.stderr
    assert "delete" in planned.stdout
    assert answers == ["OK", "OK"]
    for path in ("acme/api", "acme/proxy-agent"):
        wait_for(partial(local.logged, "prune finished", f"{local.registry}/{path}"), f"{path} is pruned")
    assert local.logged("manifest deleted", "main-")


def test_page_has_the_commands_that_are_printed(local: Local) -> None:
    """With the ports that it uses where nothing else is said."""
    text = PAGE.text.replace("127.0.0.1:5005", local.registry).replace("127.0.0.1:8080", local.function)

    assert re.findall(r"^curl -H .*$", text, re.MULTILINE) == local.commands("curl")


def test_page_does_what_it_says(local: Local, pubsub: PubSub, tmp_path: Path) -> None:
    """Every block of it, each with what the page says that it needs."""
    blocks = iter(PAGE.blocks)

    def block(heading: str) -> Block:
        """Return the next block, which is under this heading."""
        found = next(blocks)
        assert found.headings[-1] == heading
        return found

    addresses = {"5005": local.registry, "8080": local.function, "8085": f":{pubsub.port}"}
    ports = {port: address.rpartition(":")[2] for port, address in addresses.items()}
    with Reader(tmp_path / "one", {}, ports) as one:
        one.do(block("With one command"))
        one.do(block("With one command"))
        one.do(block("The messages"))
        one.do(block("A CloudEvent by hand"))
        wait_for(
            partial(local.logged, "prune finished", f"{local.registry}/acme/jib-service"), "the event is handled"
        )

    with Reader(tmp_path / "two", {}, ports | {"8080": str(free_port())}) as two:
        function = block("The function by hand")
        two.do(block("With Pub/Sub's emulator"))
        two.do(block("With Pub/Sub's emulator"))
        two.do(function, goes_on=True)
        two.do(block("With Pub/Sub's emulator"))
        two.do(block("With Pub/Sub's emulator"))
        log = two.shell.logs[0]
        wait_for(lambda: '"prune finished"' in log.read_text(), "the push is handled")
        wait_for(lambda: '"sweep finished"' in log.read_text(), "the sweep is handled")

    with Reader(tmp_path / "three", {}, {"5005": str(free_port())}) as three:
        three.do(block("The registry emulator"), goes_on=True)
        clients = block("Real clients against the emulator")
        text = clients.text.replace("--tls /tmp", f"--tls {tmp_path}").replace("=/tmp", f"={tmp_path}")
        start, _, rest = text.partition("\n")
        three.do(replace(clients, text=start))
        wait_for(lambda: three.shell.logs[1].read_text().count("\n") == 2, "the emulator is up")
        _, proxy = three.shell.logs[1].read_text().splitlines()
        required("skopeo")
        assert "http://127.0.0.1:PORT" in rest
        three.do(replace(clients, text=rest.replace("http://127.0.0.1:PORT", proxy)))

    assert [*one.complaints, *two.complaints, *three.complaints] == []
    assert not list(blocks)
    assert_explained([*local.child.lines, *log.read_text().splitlines()])


def assert_explained(lines: Sequence[str]) -> None:
    """Every field of these lines of a log is one that the page of log lines has for the message."""
    (table,) = (table for table in page("docs/operations.md").tables if table.heading == "Log lines")
    explained = {name: set(re.findall("`([a-z_]+)`", row[2])) for row in table.rows[1:] for name in names_in(row[0])}
    logged = [json.loads(line) for line in lines if line.startswith("{")]

    assert len({line["message"] for line in logged}) >= 5
    for line in logged:
        assert line.keys() - {"severity", "message", "time"} <= explained[line["message"]], line


def test_port_that_is_in_use(local: Local) -> None:
    """Exit 2, and how to choose another."""
    port = local.registry.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.local", "--registry-port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert ended.stderr == f"error: port {port} is in use: choose another with --registry-port or --function-port\n"


def test_it_ends_with_all_that_it_has_started() -> None:
    """After Ctrl-C nobody listens on its ports."""
    registry, function = free_port(), free_port()
    ports = ("--registry-port", str(registry), "--function-port", str(function))
    with Child("tests.local", [sys.executable, "-m", "tests.local", *ports], inherited()) as child:
        child.wait_for_port(function)
        subprocess.run(["/bin/kill", f"-{int(signal.SIGINT)}", str(child.pid)], check=True)

        assert child.wait_for_end() == 128 + signal.SIGINT

    assert not is_listening(registry)
    assert not is_listening(function)
