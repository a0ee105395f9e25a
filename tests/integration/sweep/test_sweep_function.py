"""The function that sweeps: what it publishes, and which messages wait for one another."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import Unavailable
from cleaner.engine.sweep import BATCH
from cleaner.function import Function
from cleaner.settings import Settings
from tests.emulator import Emulator
from tests.emulator.faults import Delay
from tests.support.deliveries import Event, envelope
from tests.support.processes import wait_for
from tests.support.sweeping import POLICY, REQUESTS, Requests, builds, many

if TYPE_CHECKING:
    from tests.support.prune import Logged


def sweep_event(root: str, published: datetime | None = None) -> Event:
    data = json.dumps({"action": "SWEEP", "repository": root}).encode()
    source = f"//pubsub.googleapis.com/projects/demo/topics/{REQUESTS}"
    return Event(envelope(data, published=published), {"source": source})


def sweeping(emulator: Emulator, requests: Requests, *, time_limit_s: float = 60) -> Function:
    """Return the function, with ``requests`` as its topic."""
    settings = Settings.from_environment(
        {
            "POLICIES": json.dumps([{"repositories": ["**"], **POLICY}]),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": emulator.host,
            "REQUESTS_TOPIC": f"projects/demo/topics/{REQUESTS}",
            "TIME_LIMIT": str(time_limit_s),
            "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": emulator.url,
        }
    )
    function = Function(settings)
    function._publisher = requests  # type: ignore[assignment]  # it publishes as well
    return function


def test_ten_thousand_repositories(emulator: Emulator) -> None:
    """Ten pages and ten batches, in order of name."""
    names = many(emulator, 10_000)
    requests = Requests()

    sweeping(emulator, requests).handle(sweep_event("us-docker.pkg.dev/acme/apps"))

    assert requests.names == names
    assert len(requests.batches) == 10
    assert emulator.log.counts["rest_packages"] == 10


def test_name_that_cannot_be_read_is_logged_and_the_others_are_requested(emulator: Emulator, logged: Logged) -> None:
    """Once in each sweep; the message is acknowledged."""
    root = "us-docker.pkg.dev/acme/apps"
    for path in ("api", "Upper", "my___func"):
        builds(emulator, f"{root}/{path}", 1)
    requests = Requests()
    function = sweeping(emulator, requests)

    for sweeps in (1, 2):
        function.handle(sweep_event(root, datetime.now(UTC) + timedelta(seconds=sweeps)))

        assert requests.names == [f"{root}/api", f"{root}/my___func"] * sweeps
        records = logged("repository skipped")
        assert [(one["levelname"], one["repository"]) for one in records] == [("WARNING", f"{root}/Upper")] * sweeps
        assert [one["repositories"] for one in logged("sweep finished")] == [2] * sweeps


def test_sweeps_that_wait_together_are_one(emulator: Emulator) -> None:
    """Five orders that arrive while one is at work cost one more sweep, not five."""
    names = many(emulator, 20)
    requests = Requests()
    function = sweeping(emulator, requests)
    emulator.faults.add(Delay(0.5), kind="rest_packages", times=1)

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps"))
        wait_for(lambda: emulator.log.counts["rest_repository"] == 1, "the first is at work")
        others = [pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps")) for _ in range(5)]
        for future in (first, *others):
            future.result()

    assert requests.names == names * 2
    assert emulator.log.counts["rest_packages"] == 2


def test_sweeps_of_different_roots_do_not_wait(emulator: Emulator) -> None:
    """One that is slow holds up no other."""
    many(emulator, 3)
    builds(emulator, "gcr.io/acme/api", 1)
    requests = Requests()
    function = sweeping(emulator, requests)
    emulator.faults.add(Delay(1.5), kind="rest_packages", path="/apps/")
    done = threading.Event()

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(function.handle, sweep_event("us-docker.pkg.dev/acme/apps"))
        slow.add_done_callback(lambda _: done.set())
        wait_for(lambda: emulator.log.counts["rest_repository"] == 1, "the slow one is at work")
        function.handle(sweep_event("gcr.io/acme"))
        assert requests.names == ["gcr.io/acme/api"]
        assert not done.is_set()
        slow.result()


def test_sweep_published_before_the_last_one_is_covered(emulator: Emulator) -> None:
    """A redelivery of what has been done costs nothing; a later order is another one."""
    names = many(emulator, 5)
    requests = Requests()
    function = sweeping(emulator, requests)
    root = "us-docker.pkg.dev/acme/apps"
    now = datetime.now(UTC)

    for published in (now - timedelta(seconds=9), now - timedelta(seconds=9), now + timedelta(seconds=9)):
        function.handle(sweep_event(root, published))

    assert requests.names == names * 2


def test_interrupted_sweep_is_delivered_again(emulator: Emulator) -> None:
    """What was published before is published again, which does no harm; nothing is left out."""
    names = many(emulator, 2500)
    requests = Requests(broken=1)
    function = sweeping(emulator, requests)
    event = sweep_event("us-docker.pkg.dev/acme/apps")

    with pytest.raises(Unavailable):
        function.handle(event)
    assert requests.names == names[:BATCH]
    requests.broken = None
    function.handle(event)

    assert requests.names == names[:BATCH] + names


def test_sweep_of_nothing_publishes_nothing(emulator: Emulator) -> None:
    """No repository, no request, no error: the message is acknowledged."""
    requests = Requests()
    function = sweeping(emulator, requests)

    function.handle(sweep_event("us-docker.pkg.dev/acme/none"))
    function.handle(sweep_event(emulator.name("none")))

    assert requests.batches == []
