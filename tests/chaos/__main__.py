"""The command: round after round, several side by side, and one report."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.processes import serve
from tests.chaos.reports import failure, report
from tests.chaos.rounds import Outcome, play

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random histories and faults, judged by the oracle.")
    parser.add_argument("--rounds", type=int, default=None, help="how many; without it, as many as fit in --seconds")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next")
    parser.add_argument("--seconds", type=float, default=None, help="no round begins later; 60 without --rounds")
    parser.add_argument("--jobs", type=int, default=1, help="how many rounds run side by side, each in a process")
    parser.add_argument("--mode", choices=("local", "framework"), default=None)
    parser.add_argument("--keep-going", action="store_true", help="go on after a loss")
    parser.add_argument("--lines", type=int, default=150, help="of the trace that a loss prints")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="pickle the records of a lost round there")
    parser.add_argument("--serve", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return 0
    seed = random.randrange(10**6) if options.seed is None else options.seed
    seconds = 60.0 if options.rounds is None and options.seconds is None else options.seconds
    started = time.monotonic()
    outcomes: list[Outcome] = []
    print(f"seed {seed}", flush=True)
    seeds: Iterator[int] = itertools.count(seed)
    if options.rounds is not None:
        seeds = itertools.islice(seeds, options.rounds)
    if seconds is not None:
        seeds = itertools.takewhile(lambda _: time.monotonic() - started < seconds, seeds)
    for outcome in _played(seeds, options.jobs, options.mode, options.save):
        outcomes.append(outcome)
        if not outcome.is_well:
            print(failure(outcome, options.lines), flush=True)
            if not options.keep_going:
                break
    print(report(outcomes, time.monotonic() - started))
    return 0 if all(one.is_well for one in outcomes) else 1


def _played(seeds: Iterator[int], jobs: int, mode: str | None, folder: Path | None) -> Iterator[Outcome]:
    """Yield the outcomes of rounds, in the order in which they end."""
    if jobs == 1:
        for seed in seeds:
            yield play(seed, mode, folder)
        return
    # A forked process would have the threads' locks, and not the threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        running: set[Future[Outcome]] = set()
        try:
            while True:
                for seed in itertools.islice(seeds, jobs - len(running)):
                    running.add(pool.submit(play, seed, mode, folder))
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
