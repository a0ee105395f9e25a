"""Fixtures: a registry over a real socket, and what was logged."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator import Emulator
from tests.emulator.tls import Tls, make_tls
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def world() -> Iterator[World]:
    """A registry that is spoken to over plain HTTP, anonymously."""
    with Emulator() as emulator:
        made = World(emulator)
        yield made
        made.close()


def pytest_configure() -> None:
    # What a script starts in the background ignores Ctrl-C, and so would every program that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    hosts = ["gcr.io", "us-docker.pkg.dev", "artifactregistry.googleapis.com", "serviceusage.googleapis.com"]
    return make_tls(hosts, tmp_path_factory.mktemp("tls"))


@pytest.fixture
def google(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A registry that poses as ``gcr.io``: HTTPS, and nothing without a token."""
    with Emulator(tls=tls, default_host="gcr.io", auth=True) as emulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_file))
        monkeypatch.setenv("HTTPS_PROXY", emulator.proxy_url)
        monkeypatch.setenv("NO_PROXY", "")
        made = World(emulator, insecure=False)
        yield made
        made.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    """Returns the records of one message as dictionaries, in their order; every logger and level is captured."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="cleaner")
    return lambda message: [vars(record) for record in caplog.records if record.getMessage() == message]
