"""The command ``sweep``: prunes every repository under a root, through the function or from here."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import msgspec

from cleaner.cli import words
from cleaner.cli.advice import advice
from cleaner.cli.interrupt import INTERRUPTED, interrupts
from cleaner.cli.policies import name_of, read_policies
from cleaner.cli.progress import Bar, Bars, Follower, bars
from cleaner.cli.session import Session
from cleaner.cli.terminal import Table, Terminal
from cleaner.core.errors import CleanerError, NoCredentials, RepositoryNotFound, TimeLimitReached
from cleaner.core.policy import Policy, find_policy
from cleaner.core.reference import Repository
from cleaner.engine.report import Report
from cleaner.engine.run import Run
from cleaner.engine.sweep import Publisher, find_repositories, request_prunes
from cleaner.google.pubsub import TopicPublisher
from cleaner.google.transport import RequestBudget

# Columns by number, the widest layout first.  The second END also has what is in the columns that are left out.
_LAYOUTS = ((0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 5, 7), (0, 2, 7))


def sweep(options: argparse.Namespace, session: Session, terminal: Terminal) -> int:
    """Find the repositories under a root, and ask for each to be pruned, or prune it; return the exit code.

    Raises:
        CleanerError: The repositories are not known completely, or the requests could not be published.
    """
    root = session.parse_root(options.repository)
    policies = read_policies(options.policies, options.insecure)
    if options.local and not (options.dry_run or options.yes or terminal.is_attended):
        terminal.note(
            "error: there is no terminal to ask on: use --yes to delete without a question, or --dry-run to preview"
        )
        return 2
    if options.yes and not options.local:
        terminal.note("--yes has no effect without --local")
    try:
        with bars(terminal) as drawn:
            drawn.add().show("Finding repositories")
            budget = RequestBudget(session.deadline)
            found = find_repositories(root, policies, session.registry, session.rest, budget)
    except RepositoryNotFound as error:
        terminal.note(str(error))
        return 0
    summary = f"{words.counted(len(found), 'repository', 'repositories')} under {root}"
    if not found:
        terminal.note(f"{summary} matched by {name_of(options.policies)}")
    elif options.local:
        return _local(found, summary, policies, options, session, terminal)
    elif options.dry_run:
        terminal.say(*map(str, found))
        terminal.note(f"{summary} matched by {name_of(options.policies)}; nothing was published")
    else:
        return _publish(found, summary, options, session, terminal)
    return 0


def _publish(
    found: tuple[Repository, ...], summary: str, options: argparse.Namespace, session: Session, terminal: Terminal
) -> int:
    with bars(terminal) as drawn:
        publisher = _Counting(TopicPublisher(options.topic), drawn.add(), len(found))
        try:
            request_prunes(found, publisher, session.clock, session.deadline)
        except KeyboardInterrupt:
            terminal.restore()
            terminal.note(
                f"interrupted: at least {publisher.published} requests were published; repeating them does no harm"
            )
            return INTERRUPTED
    count = words.counted(publisher.published, "request")
    terminal.report(f"{summary}: {count} published to {options.topic}")
    return 0


class _Counting:
    """Publishes, and shows the progress."""

    def __init__(self, publisher: Publisher, bar: Bar, total: int) -> None:
        self._publisher = publisher
        self._bar = bar
        self._total = total
        self.published = 0
        bar.show("Publishing", 0, total)

    def publish(self, messages: Iterable[bytes], timeout_s: float) -> None:
        """Publish all of ``messages``."""
        batch = list(messages)
        self._publisher.publish(batch, timeout_s)
        self.published += len(batch)
        self._bar.show("Publishing", self.published, self._total)


class _Ended(msgspec.Struct, frozen=True):
    """How one repository's run ended; ``error`` is None if it ended well."""

    report: Report
    error: CleanerError | None = None

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure; a repository that does not exist does not."""
        return bool(self.report.failed) or not isinstance(self.error, RepositoryNotFound | None)


def _local(
    repositories: tuple[Repository, ...],
    summary: str,
    policies: tuple[Policy, ...],
    options: argparse.Namespace,
    session: Session,
    terminal: Terminal,
) -> int:
    if not (options.dry_run or options.yes):
        terminal.say(*map(str, repositories), "")
        if not terminal.ask(f"Prune {summary}, by {name_of(options.policies)}?"):
            terminal.note("nothing was deleted")
            return 0
        session.begin()
    with bars(terminal) as drawn:
        pruning = _Pruning(repositories, policies, options, session, terminal, drawn)
        with interrupts(pruning.stop, terminal.restore) as interrupt:
            ended = pruning.ended()
    terminal.report(*_table(ended, terminal, dry_run=options.dry_run), *_lost_lines(ended, terminal))
    for one in ended:
        if isinstance(one.error, RepositoryNotFound):
            terminal.note(str(one.error))
        elif one.error is not None:
            terminal.note(f"error: {advice(one.error)}")
    if interrupt.came:
        left = words.counted(len(repositories) - len(ended), "repository", "repositories")
        terminal.note(f"interrupted: deletions in progress were finished, and {left} had not begun")
        return INTERRUPTED
    return 1 if any(one.failed for one in ended) else 0


class _Pruning:
    """Prunes one repository after the other; an interrupt calls ``stop``."""

    def __init__(
        self,
        repositories: tuple[Repository, ...],
        policies: tuple[Policy, ...],
        options: argparse.Namespace,
        session: Session,
        terminal: Terminal,
        drawn: Bars,
    ) -> None:
        self._repositories = repositories
        self._policies = policies
        self._options = options
        self._session = session
        self._terminal = terminal
        self._overall = drawn.add()
        self._current = drawn.add()
        self._running: Run | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Begin no further deletion; those in progress are finished."""
        self._is_stopped = True
        if self._running is not None:
            self._running.stop()
        if not self._terminal.shows_progress:
            self._terminal.note("finishing deletions in progress; Ctrl-C again ends at once")

    def ended(self) -> list[_Ended]:
        """Prune, and return how each run that was begun ended."""
        ended: list[_Ended] = []
        for at, repository in enumerate(self._repositories):
            self._overall.show("Pruning", at, len(self._repositories), str(repository))
            policy = find_policy(self._policies, repository)
            if policy is None:
                continue
            self._running = self._session.run(
                repository,
                policy,
                datetime.now(UTC),
                dry_run=self._options.dry_run or policy.dry_run,
                progress=Follower(self._current),
            )
            # Checked after the run is set, so that an interrupt stops one or the other.
            if self._is_stopped:
                break
            ended.append(_prune(self._running))
            if isinstance(ended[-1].error, NoCredentials | TimeLimitReached):
                break
        return ended


def _prune(run: Run) -> _Ended:
    try:
        return _Ended(run.prune())
    except CleanerError as error:
        return _Ended(run.report, error)


def _table(ended: Collection[_Ended], terminal: Terminal, *, dry_run: bool) -> list[str]:
    deleted = ">TO DELETE" if dry_run else ">DELETED"
    headings = ["REPOSITORY", ">KEPT", deleted, ">REFUSED", ">FAILED", ">SIZE", "END", "END"]
    rows = [_row(one) for one in ended]
    for layout in _LAYOUTS:
        table = Table([headings[at] for at in layout], {0: 24, len(layout) - 1: 10})
        for cells, styles in rows:
            table.add([cells[at] for at in layout], [styles[at] for at in layout])
        if table.fits(terminal.width):
            break
    reports = [one.report for one in ended if dry_run or not one.report.dry_run]
    count = words.counted(sum(report.deleted for report in reports), "manifest")
    size = words.size(sum(report.size for report in reports))
    where = words.counted(len(ended), "repository", "repositories")
    total = f"{count} of {where} {'would be' if dry_run else 'were'} deleted, {size} at most"
    return [*table.lines(terminal), "", *terminal.wrap(total)]


def _lost_lines(ended: Iterable[_Ended], terminal: Terminal) -> list[str]:
    lines = []
    for one in ended:
        lost = one.report.lost_tags
        if lost:
            lines += terminal.wrap(f"{one.report.repository}: lost {words.lost(lost)}", 2)
        # Nothing else has a record of these tags.
        for digest, tags in sorted(lost.items()):
            lines += terminal.wrap(f"  {words.short(digest)} without {', '.join(sorted(tags))}", 4)
    return lines


def _row(one: _Ended) -> tuple[list[str], list[str]]:
    """Return the texts of one repository in every column, and their styles."""
    report = one.report
    end, style = "", ""
    if isinstance(one.error, RepositoryNotFound):
        end = "not found"
    elif one.error is not None:
        end, style = "error", "red"
    elif report.dry_run:
        end = "dry run"
    numbers = (report.kept, report.deleted, report.refused, report.failed)
    # Nothing is known of a repository that could not be read.
    counts = [str(number) if any(numbers) or one.error is None else "" for number in numbers]
    size = words.size(report.size) if report.size else ""
    failed = "red" if report.failed else ""
    said = [f"{number} {what}" for number, what in ((report.refused, "refused"), (report.failed, "failed")) if number]
    whole_end = ", ".join([*said, end] if end else said)
    cells = [str(report.repository), *counts, size, end, whole_end]
    return cells, ["", "", "", "", failed, "", style, failed or style]
