"""How far a command has come: counted always, drawn on stderr if that is a terminal."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set as AbstractSet
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Drawing,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cleaner.cli.terminal import Terminal
from cleaner.core.manifest import Listing
from cleaner.core.reference import Digest
from cleaner.engine.executor import Outcome
from cleaner.engine.report import Progress


class Bar:
    """One line that says how far something has come."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._task = drawing.add_task("", total=None, remark="", visible=False)

    def show(self, what: str, done: int = 0, total: int | None = None, remark: str = "") -> None:
        """Show ``done`` of ``total``, which is None if it is not known, and a remark behind it."""
        self._drawing.update(self._task, description=what, completed=done, total=total, remark=remark, visible=True)


@contextmanager
def bars(terminal: Terminal, waiting: Callable[[], str] = lambda: "") -> Iterator[Callable[[], Bar]]:
    """Return a function that adds one more bar below the others; they are removed at the end of the context.

    ``waiting`` returns what is waited for, to be shown as well.  Without a terminal nothing is drawn.
    """

    class Waiting(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(waiting() if task.visible else "", style="yellow")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
        Waiting(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # A terminal shows Ctrl-C as two characters behind the bar, which must not begin another line.
    console = Console(stderr=True, width=terminal.bar_width - 3)
    with Drawing(
        *columns,
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not terminal.shows_progress,
    ) as drawing:
        yield lambda: Bar(drawing)


class Follower(Progress):
    """Follows a run, or the plans of several ``repositories``; any thread calls its methods.

    ``listing`` is the latest one.  With ``only`` the deletions of a plan are counted as out of all of these.
    ``is_stopping`` returns whether no further deletion is begun.
    """

    def __init__(
        self,
        bar: Bar,
        *,
        repositories: int = 0,
        only: AbstractSet[Digest] = frozenset(),
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.listing: Listing | None = None
        self._bar = bar
        self._repositories = repositories
        self._only = only
        self._is_stopping = is_stopping
        # Protects what is counted.
        self._lock = threading.Lock()
        self._planned = self._read = self._unread = 0
        self._ends: dict[Digest, Outcome] = {}
        self._counts: Counter[Outcome] = Counter()
        self._began = 0.0
        bar.show("Listing")

    def reading(self, total: int) -> None:
        """Show how many documents have to be read."""
        with self._lock:
            self._unread += total
            self._show_plans()

    def read(self) -> None:
        """Count one of them."""
        with self._lock:
            self._read += 1
            self._show_plans()

    def planned(self) -> None:
        """Count one repository."""
        with self._lock:
            self._planned += 1
            self._show_plans()

    def listed(self, listing: Listing) -> None:
        """Remember the latest listing."""
        self.listing = listing

    def deleting(self, total: int) -> None:
        """Begin to count deletions; a plan that is made anew on the way has only those that are left."""
        del total
        with self._lock:
            self._began = self._began or time.monotonic()
            self._show_deletions()

    def ended(self, digest: Digest, outcome: Outcome) -> None:
        """Count one deletion; of one that is planned again, the last outcome is the one that counts."""
        with self._lock:
            if before := self._ends.get(digest):
                self._counts[before] -= 1
            self._ends[digest] = outcome
            self._counts[outcome] += 1
            self._show_deletions()

    def _show_plans(self) -> None:
        if self._repositories:
            documents = f"documents {self._read:,}/{self._unread:,}" if self._unread else ""
            self._bar.show("Planning", self._planned, self._repositories, documents)
        elif self._unread:
            self._bar.show("Reading manifests", self._read, self._unread)

    def _show_deletions(self) -> None:
        ends, seconds = self._counts, time.monotonic() - self._began
        said = [f"{ends[Outcome.DELETED] / seconds:,.0f}/s"] if seconds > 0 and ends[Outcome.DELETED] else []
        said += [f"{ends[end]} {end.value}" for end in (Outcome.REFUSED, Outcome.FAILED) if ends[end]]
        said += ["finishing"] if self._is_stopping() else []
        self._bar.show("Deleting", len(self._ends), len(self._only), ", ".join(said))
