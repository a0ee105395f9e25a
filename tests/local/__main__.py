"""``make run``: a registry and the function, and the commands that deliver messages to it by hand.

Both listen on ports of 127.0.0.1, and go on until Ctrl-C.  The function's log goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.demo.signals import Signals
from tests.emulator import Emulator, scenarios
from tests.support.function import FunctionProcess
from tests.support.processes import is_listening

PROJECT = "local"
REQUESTS = f"projects/{PROJECT}/topics/requests"
_POLICIES = [
    {
        "repositories": ["{host}/acme/**"],
        "tagged": [
            {"match": r"v[0-9]+\.[0-9]+\.[0-9]+|latest", "keep": "all"},
            {"match": "(main)-[0-9a-f]{7}", "keep": 2},
            {"match": "pr-([0-9]+)-[0-9a-f]{7}", "keep": 1, "delete_after": "14d"},
        ],
    }
]


def main() -> int:
    """Start both, print the commands, and wait; the exit code is 2 if a port is not free."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.local", description="A registry and the function, locally."
    )
    parser.add_argument("--registry-port", type=int, default=5005, metavar="PORT")
    parser.add_argument("--function-port", type=int, default=8080, metavar="PORT")
    parser.add_argument("--policies", type=Path, metavar="FILE", help="a JSON array; by default three rules for tags")
    given = parser.parse_args()
    for port in (given.registry_port, given.function_port):
        if is_listening(port):
            print(
                f"error: port {port} is in use: choose another with --registry-port or --function-port",
                file=sys.stderr,
            )
            return 2
    signals = Signals()
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(port=given.registry_port))
        scenarios.run(emulator.store, emulator.host, "demo", "acme/api")
        text = given.policies.read_text() if given.policies else json.dumps(_POLICIES)
        settings = {
            "POLICIES": text.replace("{host}", emulator.host),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": emulator.host,
            "REQUESTS_TOPIC": REQUESTS,
        }
        with signals.held():
            function = FunctionProcess(settings, port=given.function_port, shows=True)
            stack.callback(function.stop)
        function.wait_until_up()
        print(_help(emulator.host, function.url), flush=True)
        signal.pause()
    return 0


def _help(registry: str, function: str) -> str:
    repository = f"{registry}/acme/api"
    push = curl(function, f"projects/{PROJECT}/topics/gcr", {"action": "INSERT", "tag": f"{repository}:latest"})
    prune = curl(function, REQUESTS, {"action": "PRUNE", "repository": f"{registry}/acme/proxy-agent"})
    return f"""
registry  http://{registry}, with {repository}, /acme/jib-service and /acme/proxy-agent
function  {function}, target prune; its log follows here

See what would be deleted:

  python -m cleaner plan {repository} --insecure {registry} --match 'main-.*' --keep 2

Deliver the message of a push, as the topic gcr does:

  {push}

Request that a repository is pruned, as the topic {REQUESTS} does:

  {prune}

Ctrl-C ends both.
"""


def curl(function: str, topic: str, document: dict[str, str]) -> str:
    """Return the command that delivers ``document`` to the function as a message of ``topic``."""
    data = f"$(printf %s '{json.dumps(document)}' | base64 | tr -d '\\n')"
    body = f'{{"message": {{"data": "\'"{data}"\'", "messageId": "1"}}, "subscription": "by-hand"}}'
    return f"curl -H 'Content-Type: application/json' -d '{body}' {function}/{topic}"


if __name__ == "__main__":
    sys.exit(main())
