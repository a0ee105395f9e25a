"""``python -m cleaner``: what an operator does by hand."""

from __future__ import annotations

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Do what the process's arguments say, and end it; an interrupt is one line, also while modules are imported."""
    try:
        from cleaner.cli.main import run as run_command

        run_command()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("interrupted\n")
        # 128 and the number of SIGINT, as shells say it.
        sys.exit(130)


if __name__ == "__main__":
    run()
