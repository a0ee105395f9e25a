"""``make run``, and the commands of ``docs/local.md``."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from tests.support.processes import ROOT, Child, free_port, inherited, is_listening, wait_for
from tests.support.pubsub import PubSub

PAGE = (ROOT / "docs" / "local.md").read_text()


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
    page = PAGE.replace("127.0.0.1:5005", local.registry).replace("127.0.0.1:8080", local.function)

    assert re.findall(r"^curl -H .*$", page, re.MULTILINE) == local.commands("curl")


def test_function_that_the_page_starts_by_hand(local: Local) -> None:
    """Its settings are enough; a message to it is handled."""
    found = re.search(r"^(export POLICIES.*)\n(functions-framework .*)$", PAGE, re.MULTILINE)
    assert found is not None
    port = free_port()
    start = found[2].replace("8080", str(port))
    script = (
        f"{found[1].replace('127.0.0.1:5005', local.registry)}\nexec {sys.executable} -m {start.replace('-', '_', 1)}"
    )
    with Child("functions-framework", ["/bin/sh", "-c", script], inherited()) as child:
        child.wait_for_port(port)
        push = local.commands("curl")[0].replace(local.function, f"127.0.0.1:{port}")

        assert sh(push).stdout == "OK"

        wait_for(lambda: any("prune finished" in line for line in child.lines), "the push is handled")


def test_pubsubs_emulator_delivers_to_it(local: Local, pubsub: PubSub) -> None:
    """By the topic and the subscription that the page makes; functions-framework reads the topic from the path."""
    emulator = f"127.0.0.1:{pubsub.port}"
    script = re.search(r"```sh\n(for name in gcr requests; do\n.*?)```", PAGE, re.DOTALL)
    assert script is not None
    made = sh("set -e\n" + script[1].replace("localhost:8085", emulator).replace("127.0.0.1:8080", local.function))
    assert made.returncode == 0, made.stderr
    repository = f"{local.registry}/acme/jib-service"
    data = base64.b64encode(json.dumps({"action": "INSERT", "tag": f"{repository}:latest"}).encode()).decode()

    url = f"http://{emulator}/v1/projects/local/topics/gcr:publish"
    requests.post(url, json={"messages": [{"data": data}]}, timeout=30).raise_for_status()

    wait_for(lambda: local.logged("prune finished", repository), "the published push is handled")


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
