"""Connections, retries and the rate of requests, over real sockets."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import AnswerTooLong, Unavailable
from cleaner.core.timing import TIMING, Timing
from cleaner.google.transport import RequestBudget, Response, Transport
from tests.emulator import Emulator
from tests.emulator.faults import CutBody, DropAfter, DropBefore, Quota, Stall, Status, too_many_requests
from tests.support.processes import DEADLINE_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator.faults import Action
    from tests.support.world import World

RETRIED = [408, 429, 500, 502, 503, 504]
LOST = [DropBefore(), DropAfter(), CutBody(), CutBody(0), Stall(2)]


def send(
    world: World, *, budget: RequestBudget | None = None, method: str = "GET", max_bytes: int = 1000
) -> Response:
    budget = budget or RequestBudget(world.clock() + 500)
    url = f"{world.emulator.registry.scheme}://{world.repository.host}/v2/"
    return world.transport.send(budget, method, url, {}, max_bytes=max_bytes)


def impatient(world: World, fault: Action) -> None:
    """Let the world's transport wait for an answer for a moment only, if it is one that would not come."""
    if not isinstance(fault, Stall):
        return
    world.close()
    world.transport = Transport(clock=world.clock, sleep=world.clock.sleep, timing=Timing(read_timeout=0.5))


@pytest.mark.parametrize(
    ("url", "verify", "said"),
    [
        (f"http://{'a' * 64}.test/v2/", None, "label empty or too long"),
        ("https://127.0.0.1:1/v2/", "/nonexistent.pem", "/nonexistent.pem"),
    ],
)
def test_request_that_cannot_be_sent_is_unavailable(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str, verify: str | None, said: str
) -> None:
    """A name that is none, or a file of CAs that is missing: what is wrong is said, and nothing else is raised."""
    if verify:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", verify)
    transport = Transport(clock=world.clock, sleep=world.clock.sleep)

    with pytest.raises(Unavailable, match=said):
        transport.send(RequestBudget(1e9), "GET", url, {}, max_bytes=10)


@pytest.mark.parametrize("status", RETRIED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_status_that_may_pass_is_asked_again(world: World, status: int, method: str) -> None:
    """408, 429 and the four of 5xx are no answer yet, whatever was asked."""
    world.faults.add(Status(status), times=2)
    budget = RequestBudget(1e9)

    response = send(world, budget=budget, method=method)

    assert response.status not in RETRIED
    assert world.log.total == budget.requests == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 501, 505])
def test_other_status_is_the_answer(world: World, status: int) -> None:
    """Nothing else is asked twice."""
    world.faults.add(Status(status, "WHY"))

    response = send(world)

    assert (response.status, world.log.total, world.clock.slept) == (status, 1, [])
    assert b"WHY" in response.body


@pytest.mark.parametrize("fault", LOST, ids=repr)
def test_lost_connection_is_made_again(world: World, fault: Action) -> None:
    """Before the work or after it, without an answer or with half of one."""
    impatient(world, fault)
    world.faults.add(fault, times=2)
    budget = RequestBudget(1e9)

    assert send(world, budget=budget).status == 200

    assert budget.requests == 3
    assert len(world.clock.slept) == 2


@pytest.mark.parametrize("fault", [*LOST, Status(503), too_many_requests(plain=True)], ids=repr)
def test_what_never_passes_is_unavailable(world: World, fault: Action) -> None:
    """After all attempts it is a transient error of ours, with growing pauses before each."""
    impatient(world, fault)
    world.faults.add(fault)
    budget = RequestBudget(1e9)

    with pytest.raises(Unavailable) as caught:
        send(world, budget=budget)

    assert caught.value.transient
    assert budget.requests == TIMING.attempts
    backoffs = [seconds for seconds in world.clock.slept if seconds < 30]
    assert len(backoffs) >= TIMING.attempts - 1
    for attempt in range(TIMING.attempts - 1):
        assert any(0.15 * 2**attempt <= seconds <= 0.3 * 2**attempt for seconds in backoffs)


def test_no_answer_is_waited_for_long_after_the_deadline(world: World) -> None:
    """Whoever stalls does not hold up a run until the platform ends it without a summary."""
    transport = Transport(clock=world.clock, sleep=world.clock.sleep, timing=Timing(read_timeout=3600))
    world.faults.add(Stall(3600))
    budget = RequestBudget(world.clock() - TIMING.grace)
    url = f"{world.emulator.registry.scheme}://{world.repository.host}/v2/"

    with pytest.raises(Unavailable):
        transport.send(budget, "DELETE", url, {}, max_bytes=10)

    assert budget.requests == 1
    transport.close()


def test_nobody_there_is_unavailable(world: World) -> None:
    """A refused connection is tried again, and then transient."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # It stays bound, so that nobody else comes to listen there.
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v2/"
        budget = RequestBudget(1e9)

        with pytest.raises(Unavailable):
            world.transport.send(budget, "GET", url, {}, max_bytes=10)

    assert budget.requests == TIMING.attempts


@pytest.mark.parametrize("status", RETRIED)
@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("7", 7, 7), (0, 0, 0.3), ("60", 60, 60), ("61", 60, 60), ("21600", 60, 60), ("9" * 400, 60, 60)],
)
def test_retry_after_in_seconds_is_honoured_to_a_minute(
    world: World, status: int, value: str, least: float, most: float
) -> None:
    """A registry that asks for six hours is asked again in a minute."""
    world.faults.add(Status(status, retry_after=value), times=1)

    send(world)

    assert least <= world.clock.slept[0] <= most


@pytest.mark.parametrize(("ahead_s", "least", "most"), [(30, 28, 30), (7200, 60, 60), (-7200, 0, 0.3)])
def test_retry_after_as_a_date_is_honoured_to_a_minute(
    world: World, ahead_s: float, least: float, most: float
) -> None:
    """RFC 9110's other form; one in the past asks for nothing."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
    world.faults.add(Status(503, retry_after=email.utils.format_datetime(moment, usegmt=True)), times=1)

    send(world)

    assert least <= world.clock.slept[0] <= most


@pytest.mark.parametrize(
    "value",
    [
        *("", "-5", "5.5", "1e3", "soon", "nan", "inf", "+7", "0x10", "7;8", "Wed", "Wed, 99 Xxx 2026 99:99:99 GMT"),
        *("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "1 Jan 99999 00:00:00 GMT"),
    ],
)
def test_retry_after_that_is_malformed_leaves_the_backoff(world: World, value: str) -> None:
    """It costs no time and raises nothing."""
    world.faults.add(Status(429, retry_after=value), times=1)

    assert send(world).status == 200
    assert world.clock.slept[0] <= 0.3 or value.endswith("-2359")


def test_no_waiting_beyond_the_deadline(world: World) -> None:
    """A pause that would end after the deadline is not begun."""
    world.faults.add(Status(503, retry_after=30))
    budget = RequestBudget(world.clock() + 29)

    with pytest.raises(Unavailable):
        send(world, budget=budget)

    assert (budget.requests, world.clock.slept) == (1, [])


def test_after_the_deadline_a_request_is_sent_once(world: World) -> None:
    """What runs is finished, but not repeated."""
    budget = RequestBudget(world.clock() - 1)
    assert send(world, budget=budget).status == 200

    world.faults.add(DropBefore())
    with pytest.raises(Unavailable):
        send(world, budget=budget)

    assert (budget.requests, world.clock.slept) == (2, [])


def test_rate_limit_delays_at_most_to_the_deadline(world: World) -> None:
    """After it nothing waits for its turn."""
    world.faults.add(too_many_requests(), times=1)
    budget = RequestBudget(world.clock() + 3)
    for _ in range(3):
        send(world, budget=budget)
    world.clock.slept.clear()

    for _ in range(5):
        send(world, budget=RequestBudget(world.clock()))

    assert sum(world.clock.slept) == 0


def test_body_of_the_greatest_size_is_taken(world: World) -> None:
    """The bound is the first size that is still right."""
    world.faults.add(Status(200, body=b"x" * 5000))

    assert send(world, max_bytes=5000).body == b"x" * 5000
    with pytest.raises(AnswerTooLong):
        send(world, max_bytes=4999)


def test_redirect_is_not_followed(world: World) -> None:
    """A credential goes where it was meant to go: a redirect is an answer like another."""
    with Emulator() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            world.faults.add(Status(status, headers=(("Location", f"{elsewhere.url}/v2/"),)), times=1)

            assert send(world).status == status

        assert elsewhere.log.total == 0


def test_no_credentials_of_the_machine(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A ``.netrc`` says nothing here."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    send(world)

    assert [one.authorization for one in world.log.entries] == [""]


def test_connection_is_kept(google: World) -> None:
    """Many requests, one connection."""
    for _ in range(10):
        send(google)

    assert google.emulator.proxy
    assert google.emulator.proxy.connects == ["gcr.io:443"]


def test_429_slows_every_worker_down(world: World) -> None:
    """One is throttled, and all of them wait for their turn, at less than the rate that was throttled."""
    budget = RequestBudget(1e9)
    for _ in range(20):
        send(world, budget=budget)
        world.clock.turn(0.05)
    assert world.clock.slept == []
    world.faults.add(too_many_requests(), times=1)
    send(world, budget=budget)
    world.clock.slept.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: send(world, budget=budget), range(16)))

    held = [seconds for seconds in world.clock.slept if seconds > 0]
    assert len(held) >= 12


def test_quota_is_kept_to_after_a_few_refusals() -> None:
    """Twenty workers settle at what the registry bears: all is answered, few of them after a refusal."""
    with Emulator() as emulator:
        transport = Transport()
        quota = emulator.faults.quota = Quota(200, methods=frozenset({"GET"}))
        budget = RequestBudget(time.monotonic() + 60)

        def get(_: int) -> int:
            return transport.send(budget, "GET", f"{emulator.url}/v2/", {}, max_bytes=1000).status

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(get, range(300))) == [200] * 300
        transport.close()

    assert quota.accepted == 300
    assert quota.refused < 150


def test_latency_is_not_added_up() -> None:
    """Requests of many threads are under way at the same time: here nobody is answered before all have asked."""
    together = threading.Barrier(10, timeout=DEADLINE_S)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            together.wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    transport = Transport()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor(10) as pool:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        budget = RequestBudget(time.monotonic() + 2 * DEADLINE_S)
        asked = pool.map(lambda _: transport.send(budget, "GET", url, {}, max_bytes=10).status, range(20))
        assert list(asked) == [200] * 20
        transport.close()
        server.shutdown()

    assert budget.requests == 20
