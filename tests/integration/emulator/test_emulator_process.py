"""The emulator as a process of its own, and its control."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from tests.emulator import Emulator
from tests.emulator.faults import rule_from_json
from tests.emulator.images import image, load, multi_arch
from tests.emulator.store import Store
from tests.support.emulator_client import ABSENT, PATH, Client
from tests.support.processes import DEADLINE_S, ROOT


def test_process_serves_is_controlled_and_ends_cleanly() -> None:
    """Its first line is its address; ``/_emulator/`` looks into it and changes it; SIGTERM ends it with 0."""
    command = [sys.executable, "-m", "tests.emulator", "--scenario", "untagged=3", "--scenario", "demo", "--auth"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process, requests.Session() as session:
        host = process.stdout.readline().strip()
        client = Client(f"http://{host}", session)
        try:
            control = "/_emulator"
            bearer = {"Authorization": f"Bearer {client.token()}"}
            assert client("GET", f"/v2/{PATH}/tags/list", headers=bearer).status_code == 200
            client("POST", f"{control}/tokens/expire")
            assert client("GET", f"/v2/{PATH}/tags/list", headers=bearer).status_code == 401
            client("POST", f"{control}/behaviour", json={"auth": False, "denied": ["x"]})
            assert client.listing().status_code == 200
            client("POST", f"{control}/counters/reset")
            rule = {"action": "status", "status": 429, "retry_after": 1, "where": {"kind": "tags_list", "times": 1}}
            assert client("POST", f"{control}/rules", json=rule).status_code == 200
            assert client("POST", f"{control}/rules", json={"action": "nonsense"}).status_code == 400
            assert [client.listing().status_code for _ in range(2)] == [429, 200]
            counters = client("GET", f"{control}/counters").json()
            assert (counters["requests"], counters["kinds"], counters["faults"]) == (
                2,
                {"tags_list": 2},
                {"Status": 1},
            )
            client("POST", f"{control}/quota", json={"per_second": 1, "burst": 1, "methods": ["DELETE"]})
            assert [client.delete(ABSENT).status_code for _ in range(2)] == [404, 429]
            state = client("GET", f"{control}/state?bodies").json()
            assert {f"{host}/acme/jib-service", f"{host}/acme/proxy-agent"} <= set(state["repositories"])
            client("POST", f"{control}/clear")
            client("POST", f"{control}/load", json=state)
            assert client("GET", f"{control}/state?bodies").json() == state
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_process_with_tls_poses_as_google_for_clients_that_use_its_proxy(tmp_path: Path) -> None:
    """Its second line is the proxy; ``ca.pem`` vouches for Google's hosts and for each ``--host``, and no other."""
    directory = tmp_path / "made" / "tls"
    command = [sys.executable, "-m", "tests.emulator", "--scenario", "demo", "--tls", str(directory)]
    command += ["--host", "eu.pkg.example", "--host", "other.example"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process, requests.Session() as session:
        try:
            address, proxy = process.stdout.readline().strip(), process.stdout.readline().strip()
            assert address.startswith("127.0.0.1:")
            assert proxy.startswith("http://127.0.0.1:")
            session.trust_env = False
            session.verify = str(directory / "ca.pem")
            session.proxies = {"https": proxy}

            def get(url: str) -> requests.Response:
                return session.get(url, timeout=10)

            assert "jib-service" in get("https://gcr.io/v2/acme/tags/list").json()["child"]
            assert get("https://us-docker.pkg.dev/v2/acme/gcr.io/jib-service/tags/list").json()["manifest"]
            assert get("https://artifactregistry.googleapis.com/v1/projects/acme/locations/us/repositories").ok
            assert session.post("https://oauth2.googleapis.com/token", timeout=10).json()["access_token"]
            for host in ("us.gcr.io", "eu.gcr.io", "asia.gcr.io", "europe-docker.pkg.dev", "asia-docker.pkg.dev"):
                assert get(f"https://{host}/v2/").ok
            for host in ("cloudasset.googleapis.com", "eu.pkg.example", "other.example"):
                assert get(f"https://{host}/v2/").ok
            with pytest.raises(requests.exceptions.SSLError):
                get("https://docker.io/v2/")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_load_of_a_dump_gives_the_same_state() -> None:
    """With ``{host}`` in a name for the emulator's own."""
    store, copy = Store(), Store()
    for repository in ("{host}/acme/api", "gcr.io/acme/api"):
        load(store, repository, multi_arch(1, attestations=True), tags="v1", uploaded=datetime.now(tz=UTC))
    store.repository("gcr.io/acme/api", immutable_tags=True)
    store.set_mode("gcr.io/acme", "VIRTUAL_REPOSITORY")

    copy.load(json.loads(json.dumps(store.dump())), host="here:1")

    expected = json.loads(json.dumps(store.dump()).replace("{host}", "here:1"))
    assert copy.dump() == expected


def test_copy_of_a_store_changes_on_its_own() -> None:
    """It begins with the same state."""
    store = Store()
    digest = load(store, "gcr.io/acme/api", image(1), tags="v1")
    before, copy = store.dump(), store.copy()
    assert copy.dump() == before

    copy.delete_tag("gcr.io/acme/api", "v1")
    copy.delete_manifest("gcr.io/acme/api", digest)

    assert store.dump() == before
    assert not copy.digests("gcr.io/acme/api")


def test_rule_from_json_refuses_what_it_does_not_know() -> None:
    """A misspelt rule must not pass as no rule."""
    assert rule_from_json({"action": "delay", "seconds": 1, "where": {"nth": 2}}).times == 1
    with pytest.raises(KeyError):
        rule_from_json({"action": "explode"})
    with pytest.raises(TypeError):
        rule_from_json({"action": "status", "status": 500, "where": {"often": True}})


def test_stop_ends_requests_that_are_still_waiting() -> None:
    """A stalled request does not hold the emulator up, and the client sees its connection end."""
    emulator = Emulator(latency_ms=3_600_000).start()
    with requests.Session() as session:
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{emulator.url}/v2/", timeout=0.05)
        stop = threading.Thread(target=emulator.stop, daemon=True)
        stop.start()
        stop.join(DEADLINE_S)
    assert not stop.is_alive()
