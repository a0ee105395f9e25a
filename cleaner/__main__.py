"""``python -m cleaner``: what an operator does by hand."""

from __future__ import annotations

from cleaner.cli.main import run

if __name__ == "__main__":
    run()
