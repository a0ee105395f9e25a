"""How fast it is and how much it takes: ``python -m tests.bench``, or ``make bench``.

Every figure is measured against the registry emulator in a process of its own, over sockets; nothing is asserted.
Where there is a limit, it is what the requests alone take: ``requests / workers x latency``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys

from rich.console import Console
from rich.table import Table

from cleaner import logs
from tests.bench.measures import MEASURES, profile
from tests.bench.processes import LATENCY_MS, WORKERS


def main() -> None:
    """Measure what is named, or everything, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="How fast it is and what it takes.")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--profile", action="store_true", help="also where the processor's time of a deletion goes")
    given = parser.parse_args()
    logs.configure("INFO")
    machine = f"{os.cpu_count()} processors, Python {platform.python_version()}"
    title = f"{LATENCY_MS} ms of latency, {WORKERS} workers; {machine}"
    table = Table("what", "measured", "limit", "ratio", "bound", title=title)
    for name in given.measures or MEASURES:
        for row in MEASURES[name]():
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            table.add_row(row.what, row.figure, row.limit, ratio, row.bound)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if given.profile or not given.measures:
        console.print(profile(), highlight=False)


if __name__ == "__main__":
    main()
