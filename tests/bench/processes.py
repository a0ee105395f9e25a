"""What is measured and what it is measured against: runs, the function, and the registry emulator as a process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import requests

from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import parse_repository
from cleaner.engine.report import Report
from cleaner.engine.run import Run, make_histories
from cleaner.google.registry.client import Registry, RepositoryClient
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator.credentials import ACCESS_TOKEN
from tests.support.deliveries import request_of
from tests.support.function import FunctionProcess
from tests.support.processes import free_port, inherited, wait_for

LATENCY_MS = 50
WORKERS = 20
PATH = "acme/api"
_EVERYTHING = [{"repositories": ["**"]}]


class Emulator:
    """The registry emulator as a process; with ``tls``, a folder for its certificates, it answers for ``gcr.io``.

    ``environment`` is what leads a program to it under that name.
    """

    def __init__(self, *scenarios: str, latency_ms: float = 0, tls: Path | None = None) -> None:
        given = [item for scenario in scenarios for item in ("--scenario", scenario)]
        if tls:
            # Google lists no more in one body.
            given += ["--tls", str(tls), "--cut-at", "10000"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.emulator", "--auth", "--latency-ms", str(latency_ms), *given],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.host = self._process.stdout.readline().strip()
        self.control = f"http://{self.host}/_emulator"
        self.environment: dict[str, str] = {}
        self._session = requests.Session()
        # The machine's own trust and proxies must not win over these.
        self._session.trust_env = False
        if tls:
            proxy = self._process.stdout.readline().strip()
            self.host, self.control = "gcr.io", "https://gcr.io/_emulator"
            self.environment = {"HTTPS_PROXY": proxy, "REQUESTS_CA_BUNDLE": str(tls / "ca.pem")}
            self._session.proxies, self._session.verify = {"https": proxy}, str(tls / "ca.pem")
        # A host that is not Google's gets no credential.
        behaviour = {"anonymous": ["pull", "push"]}
        self._session.post(f"{self.control}/behaviour", json=behaviour, timeout=60).raise_for_status()

    def spell_pages(self) -> None:
        """Have it spell the REST API's pages, which it keeps, so that they cost no more than their latency."""
        project = f"projects/{PATH.partition('/')[0]}/locations/us/repositories/gcr.io"
        url = f"https://artifactregistry.googleapis.com/v1/{project}/packages/{PATH.partition('/')[2]}/versions"
        headers, page = {"Authorization": f"Bearer {ACCESS_TOKEN}"}, {"nextPageToken": ""}
        while "nextPageToken" in page:
            asked = {"view": "FULL", "pageSize": "1000", "pageToken": page["nextPageToken"]}
            answer = self._session.get(url, params=asked, headers=headers, timeout=60)
            answer.raise_for_status()
            page = answer.json()

    def counts(self) -> Counter[str]:
        """Requests by kind."""
        return Counter(self._session.get(f"{self.control}/counters", timeout=60).json()["kinds"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


def new_run(host: str, policy: dict[str, object]) -> Run:
    """Return a run as the function makes it, in this process, cold."""
    transport = Transport(WORKERS)
    return Run(
        Registry(transport, lambda _: "", {host}),
        make_histories(),
        parse_repository(f"{host}/{PATH}", {host}),
        policies_from_document([{"repositories": ["**"], **policy}])[0],
        dry_run=False,
        workers=WORKERS,
        deadline=transport.clock() + 500,
    )


def new_client(host: str) -> RepositoryClient:
    """Return a client of the same repository."""
    transport = Transport(WORKERS)
    registry = Registry(transport, lambda _: "", {host})
    return registry.open(parse_repository(f"{host}/{PATH}", {host}), Access.DELETE, RequestBudget(math.inf))


@contextlib.contextmanager
def logging_nowhere() -> Iterator[None]:
    """Write the log as always, but nobody reads it."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def timed(run: Run) -> tuple[Report, float, float]:
    """Return the report, the seconds and the processor's seconds of a run."""
    with logging_nowhere():
        began, cpu = time.perf_counter(), time.process_time()
        report = run.prune()
        return report, time.perf_counter() - began, time.process_time() - cpu


def first_answer(source: Path, settings: dict[str, str], data: bytes) -> float:
    """Return how many seconds a new process takes until it has handled a message."""
    port = free_port()
    # As the platform starts it.
    command = [str(Path(sys.executable).with_name("functions-framework")), "--target", "prune"]
    path, headers, body = request_of(data)
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--signature-type", "cloudevent", "--source", f"{source}/main.py", "--port", str(port)],
        env=settings,
        stdout=subprocess.DEVNULL,
    ) as process:
        while True:
            try:
                requests.post(f"http://127.0.0.1:{port}{path}", body, headers=headers, timeout=60).raise_for_status()
                break
            except requests.ConnectionError:
                time.sleep(0.005)
        seconds = time.perf_counter() - began
        process.terminate()
    return seconds


def function(host: str, **more: str) -> FunctionProcess:
    """Return the function as a process that takes messages."""
    return FunctionProcess({**settings_for(host), **more}).wait_until_up()


@contextlib.contextmanager
def google_function(emulator: Emulator) -> Iterator[FunctionProcess]:
    """Start the function as a process that takes the emulator for Google's hosts."""
    with credentials() as found:
        settings = {"POLICIES": json.dumps(_EVERYTHING), "DRY_RUN": "false", **emulator.environment, **found}
        with FunctionProcess(settings).wait_until_up() as process:
            yield process


@contextlib.contextmanager
def credentials() -> Iterator[dict[str, str]]:
    """Serve application default credentials; yields the environment in which they are found."""
    # A metadata server speaks plain HTTP.
    with Emulator() as metadata:
        yield {"GCE_METADATA_HOST": metadata.host, "GCE_METADATA_IP": metadata.host}


def command_line(emulator: Emulator, *arguments: str) -> tuple[float, float]:
    """Run a command of the command line; return its seconds and the most memory that it has had, in MB."""
    with credentials() as found:
        environment = {**inherited(), **emulator.environment, **found}
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "cleaner", *arguments], env=environment, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return seconds, usage.ru_maxrss / 1024


def settings_for(host: str) -> dict[str, str]:
    """Return the function's settings for a registry of that host."""
    return {"POLICIES": json.dumps(_EVERYTHING), "DRY_RUN": "false", "INSECURE_REGISTRIES": host}


def peak_mb(pid: int) -> float:
    """Return the most memory that the worker below a gunicorn has had, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    # gunicorn listens before it has a worker.
    wait_for(children.read_text, "it has a worker")
    status = Path(f"/proc/{children.read_text().split()[0]}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024
