"""The emulator as a process of its own: ``python -m tests.emulator --scenario untagged=2000 --latency-ms 50``.

Its first line on stdout is its address, ``127.0.0.1:PORT``; SIGTERM and SIGINT end it with exit 0.
Other processes look into it and change it under ``/_emulator/``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
from pathlib import Path

from tests.emulator import Behaviour, Emulator, run, scenarios


def main() -> None:
    """Parse the command line and serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulator", description="An emulator of Google's registries."
    )
    parser.add_argument("--port", type=int, default=0, help="0, the default: one that is free")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--auth", action="store_true", help="want an access token, or one exchanged for it")
    parser.add_argument("--style", choices=("gcr", "ar"), default="gcr")
    parser.add_argument("--page-size", type=int)
    parser.add_argument("--cut-at", type=int, help="list only the first so many manifests")
    parser.add_argument("--seed", type=int, default=0, help="of the faults that happen by chance")
    parser.add_argument("--default-host", help="the host of the names, if not its own address")
    parser.add_argument("--load", type=Path, help="a JSON file as /_emulator/state?bodies writes it")
    parser.add_argument("--scenario", action="append", default=[], help="NAME or NAME=COUNT; may be repeated")
    parser.add_argument("--path", default="acme/api", help="the repository that a scenario fills")
    given = parser.parse_args()
    behaviour = Behaviour(style=given.style, page_size=given.page_size, cut_at=given.cut_at)
    emulator = Emulator(
        behaviour=behaviour,
        auth=given.auth,
        latency_ms=given.latency_ms,
        seed=given.seed,
        port=given.port,
        default_host=given.default_host,
    )

    def ready() -> None:
        if given.load is not None:
            emulator.store.load(json.loads(given.load.read_text()), emulator.registry.default_host)
        for scenario in given.scenario:
            for repository in scenarios.run(emulator.store, emulator.registry.default_host, scenario, given.path):
                # Spelled now, the first listing costs no more than the next.
                emulator.store.tags_list(repository, style=given.style, cut_at=given.cut_at)
        # What is loaded stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        print(emulator.host, flush=True)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, emulator.request_stop)
        await emulator.serve(ready)

    run(serve())


if __name__ == "__main__":
    main()
