"""The emulator as a process of its own: ``python -m tests.emulator --scenario untagged=2000 --latency-ms 50``.

Its first line on stdout is its address, ``127.0.0.1:PORT``; SIGTERM and SIGINT end it with exit 0.
Other processes look into it and change it under ``/_emulator/``.

With ``--tls DIR`` it speaks HTTPS under Google's host names.  Its second line is then the address of a proxy that
leads every host to it, ``http://127.0.0.1:PORT``, and ``DIR/ca.pem`` is the authority that a client has to trust.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.emulator import Behaviour, Emulator, run, scenarios

if TYPE_CHECKING:
    from tests.emulator.tls import Tls

# What ``--tls`` has a certificate for.
GOOGLE_HOSTS: Final = (
    "gcr.io",
    "us.gcr.io",
    "eu.gcr.io",
    "asia.gcr.io",
    "us-docker.pkg.dev",
    "europe-docker.pkg.dev",
    "asia-docker.pkg.dev",
    "artifactregistry.googleapis.com",
    "cloudasset.googleapis.com",
    "containeranalysis.googleapis.com",
    "oauth2.googleapis.com",
    "serviceusage.googleapis.com",
)


def main() -> None:
    """Parse the command line and serve until a signal."""
    given = _parser().parse_args()
    behaviour = Behaviour(style=given.style, page_size=given.page_size, cut_at=given.cut_at)
    emulator = Emulator(
        behaviour=behaviour,
        auth=given.auth,
        latency_ms=given.latency_ms,
        seed=given.seed,
        port=given.port,
        default_host=given.default_host or (GOOGLE_HOSTS[0] if given.tls else None),
        tls=_tls(given.tls, [*GOOGLE_HOSTS, *given.host]) if given.tls else None,
    )
    run(_serve(emulator, given))


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--default-host", help="the host of the names; by default its own address, gcr.io with --tls")
    parser.add_argument("--load", type=Path, help="a JSON file as /_emulator/state?bodies writes it")
    parser.add_argument("--scenario", action="append", default=[], help="NAME or NAME=COUNT; may be repeated")
    parser.add_argument("--path", default="acme/api", help="the repository that a scenario fills")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="HTTPS as Google's hosts; writes DIR/ca.pem")
    parser.add_argument("--host", action="append", default=[], help="another host for --tls; may be repeated")
    return parser


def _tls(directory: Path, hosts: list[str]) -> Tls:
    from tests.emulator.tls import make_tls  # cryptography is slow to import and rarely needed

    directory.mkdir(parents=True, exist_ok=True)
    return make_tls(hosts, directory)


async def _serve(emulator: Emulator, given: argparse.Namespace) -> None:
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
        if given.tls:
            print(emulator.proxy_url, flush=True)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, emulator.request_stop)
    await emulator.serve(ready)


if __name__ == "__main__":
    main()
