"""``make demo``: pushes to a few repositories, locally and on their own, and what the function makes of it.

Starts a registry, the function and, where the Cloud SDK has it, Pub/Sub's emulator; ends by itself.  Begins with a
plan, and ends with a sweep, for a repository that nobody pushes to.  What must be left stands in
:mod:`tests.demo.histories`, written by hand: the demo fails if the function thinks otherwise.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from tests.demo.picture import Picture, chapter, counted
from tests.demo.signals import Signals
from tests.demo.stage import Stage


def show(console: Console, signals: Signals) -> int:
    """Show the main job; return the exit code: 0, or 1 if what is left is not what the policies say."""
    with ExitStack() as stack:
        console.print(Text("A push prunes its repository\n", style="bold"))
        stage = Stage(console, stack, signals)
        chapter(console, "Before anything happens: what would be deleted")
        stage.plan()
        chapter(console, "The pushes")
        stage.wait_until_up()
        outcomes = stage.push()
        picture = Picture(console, datetime.now(UTC))
        for outcome in outcomes:
            picture.repository(outcome)
        chapter(console, "And a sweep, for what nobody pushes to")
        swept = stage.sweep()
        picture.sweep(swept)
        outcomes.append(swept.outcome)
        announced, asked = stage.announce_deletions()
        picture.totals(outcomes, announced, asked)
        differences = [one for outcome in outcomes for one in outcome.differences()] + swept.differences
        if asked:
            differences.append(f"the announced deletions cost {counted(asked, 'request')}")
        if differences:
            console.print(Text("\nWhat is left is not what the policies say:", style="bold red"))
            for text in [*differences, *stage.complaints()]:
                console.print(Text(f"  {text}"))
            return 1
        console.print(Text("\nWhat is left is what the policies say.", style="bold green"))
        return 0


def main() -> int:
    """Run the demo; the exit code is 1 if anything is not as it should be."""
    console = Console(highlight=False)
    try:
        return show(console, Signals())
    except AssertionError as error:
        console.print(Text(f"\nThe demo failed: {error}", style="bold red"))
        return 1


if __name__ == "__main__":
    sys.exit(main())
