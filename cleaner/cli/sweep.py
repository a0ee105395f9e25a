"""The command ``sweep``: prunes every repository under a root, through the function or from here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import click

from cleaner.cli.interrupt import INTERRUPTED
from cleaner.cli.options import Options
from cleaner.cli.plan import note_policies, result_document, show_overview
from cleaner.cli.planning import Planner
from cleaner.cli.progress import Bar, bars
from cleaner.cli.prune import agreed, carry_out, is_unattended, report_problems
from cleaner.cli.session import Session, pool_of
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import RepositoryNotFound
from cleaner.core.reference import Repository
from cleaner.engine.sweep import Publisher, request_prunes
from cleaner.google.pubsub import TopicPublisher
from cleaner.inputs.names import parse_target
from cleaner.inputs.policies import Policies
from cleaner.views import document, words
from cleaner.views.done import Done, done_table, done_total
from cleaner.views.images import Planned, Result, by_saving
from cleaner.views.tables import total_line

EPILOG = """\
Examples:
  {prog} gcr.io/acme -p policies.yaml --dry-run
      List the repositories that would be requested.
  {prog} us-docker.pkg.dev/acme -p policies.yaml --topic projects/P/topics/T
      Request that the function prunes them.
  {prog} gcr.io/acme -p policies.yaml --local --dry-run
      Show for each how much would be deleted, as plan does.
  {prog} gcr.io/acme -p policies.yaml --local
      Show that, ask once, and prune them all from here.
"""


def sweep(options: Options, session: Session, terminal: Terminal) -> int:
    """Request that every repository under a root is pruned.

    Repositories that no policy matches are skipped, and so are remote and virtual ones.  ROOT is gcr.io/PROJECT,
    LOCATION-docker.pkg.dev/PROJECT[/REPOSITORY], or a path under one.  The requests are published to the topic that
    the function listens to; it decides by its own policies and its own DRY_RUN.  With --local the overview is shown,
    and the repositories are pruned from this machine, one after the other.
    """
    if options.local and click.get_current_context().params["topic"]:
        raise click.UsageError("--topic cannot be combined with --local")
    if not (options.topic or options.local or options.dry_run):
        raise click.UsageError("specify --topic projects/P/topics/T, or --local to prune from here")
    if options.flags and not options.local:
        raise click.UsageError("the function has policies of its own; options for one rule need --local")
    root = parse_target(options.targets[0], options.insecure).repository
    policies = options.chosen_policies(is_required=True)
    if options.local and not options.dry_run and is_unattended(options, terminal, "--dry-run"):
        return 2
    if options.yes and not options.local:
        terminal.note("--yes has no effect without --local")
    note_policies(policies, terminal)
    try:
        with bars(terminal, lambda: session.waiting) as add_bar:
            add_bar().show("Finding repositories")
            found = session.find(root, policies)
    except RepositoryNotFound as error:
        terminal.note(str(error))
        terminal.say(*_names((), options))
        return 0
    summary = f"{words.counted(len(found), 'repository', 'repositories')} under {root}"
    if not found:
        terminal.say(*_names(found, options))
        terminal.note(f"no repository under {root} is matched by {policies.name}")
    elif options.local:
        return _local(found, root, policies, options, session, terminal)
    elif options.dry_run:
        terminal.say(*_names(found, options))
        terminal.note(f"{policies.name} matches {summary}; nothing was published")
    else:
        return _publish(found, summary, options, session, terminal)
    return 0


def _publish(
    found: tuple[Repository, ...], summary: str, options: Options, session: Session, terminal: Terminal
) -> int:
    with bars(terminal) as add_bar:
        publisher = _Counting(TopicPublisher(options.topic), add_bar(), len(found))
        try:
            request_prunes(found, publisher, session.clock, session.deadline)
        except KeyboardInterrupt:
            terminal.restore()
            terminal.note(
                f"interrupted: at least {publisher.published} requests were published; repeating them does no harm"
            )
            return INTERRUPTED
    published = f"{summary}: {words.counted(publisher.published, 'request')} published to {options.topic}"
    if options.output == "table":
        terminal.report(published)
    else:
        terminal.report(*_names(found, options))
        terminal.note(published)
    return 0


def _names(repositories: Iterable[Repository], options: Options) -> list[str]:
    """Return names, one a line or as a document."""
    names = list(map(str, repositories))
    return names if options.output == "table" else document.to_lines(names, options.output)


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


def _local(
    repositories: tuple[Repository, ...],
    root: Repository,
    policies: Policies,
    options: Options,
    session: Session,
    terminal: Terminal,
) -> int:
    """Show the overview, ask, and prune what was shown from here."""
    with bars(terminal, lambda: session.waiting) as add_bar, pool_of(session.workers) as pool:
        planner = Planner(session, policies, pool, datetime.now(UTC))
        results = by_saving(planner.survey(repositories, add_bar()))
    is_table = options.output == "table"
    code = int(any(one.error for one in results))
    if is_table or options.dry_run:
        show_overview(results, str(root), policies, options, terminal)
    plans = [one.planned for one in results if one.planned]
    todo = [planned for planned in plans if planned.plan.delete and not planned.policy.dry_run]
    ended: list[Done] = []
    if options.dry_run:
        return code
    if todo and _may(todo, root, results, options, terminal):
        ended = carry_out(todo, session, terminal)
    if not is_table:
        done = {one.report.repository: one for one in ended}
        documents = [_document(one, done.get(one.repository), options) for one in results]
        terminal.report(*document.to_lines(documents, options.output))
    elif ended:
        lost = [line for one in ended for line in one.lost(f"{one.report.repository}: lost ")]
        lines = done_table(ended, terminal.width, terminal.paint)
        terminal.report("", *lines, "", done_total(ended), *lost)
    for one in ended:
        report_problems(one, terminal)
    if ended and ended[-1].interrupted:
        left = words.counted(len(todo) - len(ended), "repository", "repositories")
        terminal.note(f"interrupted: deletions in progress were finished, and {left} had not begun")
        return INTERRUPTED
    return 1 if any(one.failed for one in ended) else code


def _document(result: Result, done: Done | None, options: Options) -> document.Document:
    """Return the document of one repository, of which nothing may have been carried out."""
    planned = result.planned
    if planned is None or planned.policy.dry_run:
        return result_document(result, options)
    return (done or Done.not_begun(planned)).document


def _may(todo: list[Planned], root: Repository, results: list[Result], options: Options, terminal: Terminal) -> bool:
    count = words.counted(sum(len(planned.plan.delete) for planned in todo), "manifest")
    where = words.counted(len(todo), "repository", "repositories")
    return agreed(f"Delete {count} of {where} under {root}?", [total_line(results)], options, terminal)
