"""The command: round after round, and a report."""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING

from tests.chaos.cases import make_case
from tests.chaos.processes import serve
from tests.chaos.reports import failure, report
from tests.chaos.rounds import Outcome, Round

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random histories and faults, judged by the oracle.")
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next")
    parser.add_argument("--seconds", type=float, default=60.0, help="no round begins later")
    parser.add_argument("--mode", choices=("local", "framework"), default=None)
    parser.add_argument("--keep-going", action="store_true", help="go on after a loss")
    parser.add_argument("--lines", type=int, default=150, help="of the trace that a loss prints")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "PLAN_AGE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(int(options.serve[0]), float(options.serve[1]))
        return 0
    seed = random.randrange(10**6) if options.seed is None else options.seed
    started = time.monotonic()
    outcomes: list[Outcome] = []
    print(f"seed {seed}", flush=True)
    for number in range(options.rounds):
        if outcomes and time.monotonic() - started > options.seconds:
            break
        outcome = Round(make_case(seed + number, options.mode)).run()
        outcomes.append(outcome)
        if not outcome.is_well:
            print(failure(outcome, options.lines), flush=True)
            if not options.keep_going:
                break
    print(report(outcomes, time.monotonic() - started))
    return 0 if all(one.is_well for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
