"""The measurements: each yields the rows of the table that it is for."""

from __future__ import annotations

import cProfile
import io
import json
import os
import pstats
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from cleaner.core.timing import TIMING
from tests.bench.processes import (
    LATENCY_MS,
    PATH,
    WORKERS,
    Emulator,
    command_line,
    first_answer,
    function,
    google_function,
    logging_nowhere,
    new_client,
    new_run,
    peak_mb,
    settings_for,
    timed,
)
from tests.support.builders import one_rule
from tests.support.deliveries import deliver, request_of

_EMPTY_FUNCTION = """
import functions_framework


@functions_framework.cloud_event
def prune(event):
    print("{}")
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``ratio`` is of the figure to its limit, where it has one."""

    what: str
    figure: str
    limit: str = ""
    ratio: float | None = None
    bound: str = ""


def deletions() -> Iterator[Row]:
    """Deleting with latency: how near it comes to what the requests alone take."""
    retiring = one_rule(untagged=0, delete_after="1d")
    cases: list[tuple[str, str, dict[str, object], float, float]] = [
        # What is deleted by count waits for a second listing.
        ("2,000 untagged, keep 5", "untagged=2000", {"untagged": {"keep": 5}}, TIMING.relist_delay, 1.15),
        ("300 indexes of 2 platforms, 100 kept", "indexes=300", {"untagged": {"keep": 0}}, 0.0, 1.2),
        ("1,000 tagged that are deleted", "tagged=1000", {**retiring}, 0.0, 1.15),
        ("200 tagged with an OCI referrer each", "referrers=200", {**retiring}, 0.0, 1.2),
    ]
    for what, scenario, policy, waiting_s, bound in cases:
        with Emulator(scenario, latency_ms=LATENCY_MS) as emulator:
            report, seconds, _ = timed(new_run(emulator.host, policy))
        limit = report.requests / WORKERS * LATENCY_MS / 1000 + waiting_s
        figure = f"{seconds:.2f} s, {report.requests:,} requests, {report.refused} refused"
        yield Row(what, figure, f"{limit:.2f} s", seconds / limit, f"{bound:.2f}")


def processor() -> Iterator[Row]:
    """Deleting without latency: the processor's time, and where it goes."""
    with Emulator("untagged=5000") as emulator:
        report, seconds, cpu = timed(new_run(emulator.host, {"untagged": {"keep": 5}}))
    figure = f"{cpu / report.deleted * 1000:.2f} ms a deletion, {report.deleted / seconds:,.0f} a second"
    yield Row("processor's time, no latency", figure)


def profile() -> str:
    """Return where the processor's time of a deletion goes, one worker, as a table of cProfile's."""
    with Emulator("untagged=1000") as emulator:
        client, text = new_client(emulator.host), io.StringIO()
        listing = client.list_manifests()
        profiler = cProfile.Profile()
        with logging_nowhere():
            profiler.enable()
            for digest in listing.manifests:
                client.delete_manifest(digest, lambda: True)
            profiler.disable()
        pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(12)
    return re.sub(r"\S*/(?=[^/]+/[^/]+:)", "", text.getvalue())


def warm_push() -> Iterator[Row]:
    """A push that changes nothing, to a process that has seen the repository."""
    data = json.dumps({"action": "INSERT", "tag": "HOST/acme/api:new"})
    with Emulator("mixed=60", latency_ms=LATENCY_MS) as emulator, function(emulator.host) as process:
        data = data.replace("HOST", emulator.host)
        deliver(process.url, data.encode())
        before, taken = emulator.counts(), []
        for _ in range(20):
            began = time.perf_counter()
            deliver(process.url, data.encode())
            taken.append(time.perf_counter() - began)
        spent = emulator.counts() - before
    above = statistics.median(taken) * 1000 - LATENCY_MS
    each = spent.total() / len(taken)
    yield Row(
        "a push that changes nothing, warm", f"{above:.1f} ms above its {each:g} request", "", None, "1 request"
    )


def listings() -> Iterator[Row]:
    """Listings of tagged manifests with nothing to delete, under a Google host's name, beside what the requests take.

    From 10,000 entries on they come from the REST API, page by page.
    """
    for count in (9_999, 10_000, 100_000):
        with (
            tempfile.TemporaryDirectory() as folder,
            Emulator(f"tagged={count}", latency_ms=LATENCY_MS, tls=Path(folder)) as emulator,
        ):
            emulator.spell_pages()
            yield from _pushes(emulator, count)
            if count == 100_000:
                yield _plan_on_the_command_line(emulator, count)


def _pushes(emulator: Emulator, count: int) -> Iterator[Row]:
    """The first message to a process, the second, and what memory ten take."""
    data = json.dumps({"action": "INSERT", "tag": f"{emulator.host}/{PATH}:new"}).encode()
    with google_function(emulator) as process:
        idle, peaks = peak_mb(process.pid), []
        for what in ("cold", "warm", *[""] * 8):
            before, began = emulator.counts(), time.perf_counter()
            deliver(process.url, data)
            seconds = time.perf_counter() - began
            requests_sent = (emulator.counts() - before).total()
            peaks.append(peak_mb(process.pid))
            if what:
                limit = requests_sent * LATENCY_MS / 1000
                figure = f"{seconds:.2f} s, {requests_sent} requests, {peaks[-1]:.0f} MB at most"
                bound = "1.20, 160 MB" if count == 100_000 else ""
                yield Row(f"a push to {count:,} manifests, {what}", figure, f"{limit:.2f} s", seconds / limit, bound)
    yield Row("... after ten pushes", f"{peaks[-1]:.0f} MB at most ({idle:.0f} MB idle)")


def _plan_on_the_command_line(emulator: Emulator, count: int) -> Row:
    seconds, peak = command_line(emulator, "plan", f"{emulator.host}/{PATH}")
    limit = (count / 1000 + 1) * LATENCY_MS / 1000
    figure = f"{seconds:.2f} s, {peak:.0f} MB at most"
    return Row(f"a plan of {count:,} on the command line", figure, f"{limit:.2f} s", seconds / limit)


def cold_start(times: int = 7) -> Iterator[Row]:
    """From starting functions-framework to the first message handled, beside a function that does nothing."""
    with Emulator("untagged=5") as emulator, tempfile.TemporaryDirectory() as folder:
        Path(folder, "main.py").write_text(_EMPTY_FUNCTION)
        data = json.dumps({"action": "INSERT", "tag": f"{emulator.host}/{PATH}:new"}).encode()
        settings = {**os.environ, **settings_for(emulator.host)}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        ours, empty = [], []
        for _ in range(times + 1):
            ours.append(first_answer(Path.cwd(), settings, data))
            empty.append(first_answer(Path(folder), settings, data))
    # The first of each compiles its bytecode.
    seconds, limit = statistics.median(ours[1:]), statistics.median(empty[1:])
    yield Row(
        "cold start to the first message handled", f"{seconds:.3f} s", f"{limit:.3f} s", seconds / limit, "1.40"
    )


def burst() -> Iterator[Row]:
    """500 messages over 50 repositories, ten each, all published before the first is delivered."""
    with Emulator("burst=50", latency_ms=LATENCY_MS) as emulator, function(emulator.host, THREADS="80") as process:
        names = [f"{emulator.host}/acme/service-{at % 50}" for at in range(500)]
        made = [request_of(json.dumps({"action": "INSERT", "tag": f"{name}:new"}).encode()) for name in names]

        def post(request: tuple[str, dict[str, str], bytes]) -> int:
            path, headers, body = request
            return requests.post(process.url + path, body, headers=headers, timeout=60).status_code

        began = time.perf_counter()
        with ThreadPoolExecutor(80) as pool:
            statuses = Counter(pool.map(post, made))
        seconds = time.perf_counter() - began
        log = requests.get(f"{emulator.control}/log", timeout=60).json()
        lists = Counter(entry["path"].partition("?")[0] for entry in log if entry["kind"] == "tags_list")
    # A first listing without a token is answered 401; what counts is what was listed.
    answered = Counter(entry["path"] for entry in log if entry["kind"] == "tags_list" and entry["status"] == 200)
    figure = f"{seconds:.1f} s, at most {max(answered.values())} listings a repository, {statuses[200]} acknowledged"
    assert len(lists) == 50
    yield Row("a burst: 500 messages, 50 repositories", figure, "", None, "2 listings")


def quota() -> Iterator[Row]:
    """A registry that bears 300 deletions a second, and then any number."""
    with Emulator("untagged=9000") as emulator:
        limit = {"per_second": 300, "methods": ["DELETE"]}
        requests.post(f"{emulator.control}/quota", json=limit, timeout=60).raise_for_status()
        run = new_run(emulator.host, {"untagged": {"keep": 5}})
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(timed, run)
            time.sleep(20)
            counted = requests.get(f"{emulator.control}/counters", timeout=60).json()["quota"]
            requests.delete(f"{emulator.control}/quota", timeout=60).raise_for_status()
            lifted = time.perf_counter()
            running.result()
            recovered = time.perf_counter() - lifted
    windows = [counts for _, counts in sorted(counted["windows"].items(), key=lambda item: float(item[0]))][1:-1]
    accepted = [first(counts) for counts in windows]
    share = counted["refused"] / (counted["accepted"] + counted["refused"])
    left = 8995 - counted["accepted"]
    yield Row(
        "a quota of 300 deletions a second",
        f"{statistics.mean(accepted):.0f} a second, {share:.1%} refused",
        "300",
        statistics.mean(accepted) / 300,
        "0.80 to 1.00, 5 %",
    )
    yield Row("... lifted", f"{left:,} more in {recovered:.1f} s, {left / recovered:,.0f} a second")


def first(counts: object) -> int:
    """Return how many requests a window of the emulator's quota accepted."""
    return int(counts[0]) if isinstance(counts, list) else int(counts)  # type: ignore[call-overload]


MEASURES: dict[str, Callable[[], Iterator[Row]]] = {
    "deletions": deletions,
    "processor": processor,
    "push": warm_push,
    "listings": listings,
    "start": cold_start,
    "burst": burst,
    "quota": quota,
}
