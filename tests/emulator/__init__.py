"""A registry that behaves as Google's do, over a real socket, for tests, demo and benchmarks::

with Emulator() as emulator:
    load(emulator.store, emulator.name("acme/api"), image(1), tags="v1", uploaded=0)
    requests.get(f"{emulator.url}/v2/acme/api/tags/list")
    assert emulator.log.counts["tags_list"] == 1
"""

from __future__ import annotations

import asyncio
import copy
import selectors
import threading
from typing import TYPE_CHECKING, Self

from aiohttp import web

from tests.emulator.faults import Faults
from tests.emulator.server import Behaviour, Log, Registry
from tests.emulator.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.emulator.store import Gap
    from tests.emulator.tls import Proxy, Tls

__all__ = ["Behaviour", "Emulator", "Faults", "Log", "Store", "run"]

# How long a handler that is still waiting gets before it is cancelled.
_SHUTDOWN_S = 0.02
_BACKLOG = 1024


class Emulator:
    """A registry on 127.0.0.1, served by a thread of its own while the ``with`` block runs.

    ``default_host`` is the host of the store's names that requests go to unless their ``Host`` is an alias of
    ``behaviour.aliases``; by default its own address.  With ``tls`` (:func:`tests.emulator.tls.make_tls`) it speaks
    HTTPS, answers for the certificate's hosts, and has a proxy at ``proxy_url`` that leads every host to it.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        behaviour: Behaviour | None = None,
        auth: bool = False,
        latency_ms: float = 0,
        seed: int = 0,
        port: int = 0,
        default_host: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.store = store or Store()
        self.faults = Faults(seed)
        self.faults.latency_s = latency_ms / 1000
        self.log = Log()
        self.behaviour = behaviour or Behaviour()
        self.behaviour.auth = self.behaviour.auth or auth
        if tls is not None:
            self.behaviour.aliases |= {host: host for host in tls.hosts}
        self.registry = Registry(self.store, self.faults, self.log, self.behaviour, default_host or "")
        self.host = ""
        self.proxy: Proxy | None = None
        self.proxy_url = ""
        self._as_started = copy.deepcopy(self.behaviour)
        self._latency_s = self.faults.latency_s
        self._store_as_started = (self.store.now_ms, self.store.referrer_code, self.store.strict)
        self._default_host = default_host
        self._port = port
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        return f"{self.registry.scheme}://{self.host}"

    @property
    def gaps(self) -> list[Gap]:
        """What fell into the two gaps that no client can close, in order."""
        return self.store.gaps

    def name(self, path: str) -> str:
        """The full name of a repository on the default host."""
        return f"{self.registry.default_host}/{path}"

    def expire_tokens(self) -> None:
        self.registry.expire_tokens()

    def reset(self) -> None:
        """Back to an empty registry that behaves as it did at the start."""
        self.store.clear()
        self.store.now_ms, self.store.referrer_code, self.store.strict = self._store_as_started
        self.faults.clear()
        self.faults.latency_s = self._latency_s
        self.log.clear()
        self.registry.reset()
        for name in Behaviour.__slots__:
            setattr(self.behaviour, name, copy.deepcopy(getattr(self._as_started, name)))

    def start(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="registry-emulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise RuntimeError("the emulator did not start") from self._failure
        return self

    def stop(self) -> None:
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            run(self.serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def serve(self, on_ready: Callable[[], object] | None = None) -> None:
        """Serve until :meth:`stop`; what the thread runs, and a process of its own."""
        loop = self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        context = self._tls.context if self._tls else None
        handler = web.Server(self.registry.handle, access_log=None)
        server = await loop.create_server(handler, "127.0.0.1", self._port, ssl=context, backlog=_BACKLOG)
        self.host = _address(server)
        self.registry.scheme = "https" if self._tls else "http"
        self.registry.default_host = self._default_host or self.host
        proxy_server = await self._serve_proxy() if self._tls else None
        if on_ready is not None:
            on_ready()
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            if proxy_server is not None and self.proxy is not None:
                proxy_server.close()
                await self.proxy.close()
            server.close()
            handler.pre_shutdown()
            await handler.shutdown(_SHUTDOWN_S)

    def request_stop(self) -> None:
        """End :meth:`serve`, from its own thread."""
        if self._stop is not None:
            self._stop.set()

    async def _serve_proxy(self) -> asyncio.Server:
        from tests.emulator.tls import Proxy  # cryptography is slow to import and rarely needed

        self.proxy = Proxy(int(self.host.rpartition(":")[2]))
        server = await asyncio.start_server(self.proxy, "127.0.0.1", 0, backlog=_BACKLOG)
        self.proxy_url = f"http://{_address(server)}"
        return server


def run(main: Coroutine[object, object, None]) -> None:
    """Run ``main`` in an event loop whose timers are exact.

    asyncio's default waits with epoll, in whole milliseconds, rounded up twice: 50 ms of latency would be 52.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main)


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"
