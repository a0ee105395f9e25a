"""The command ``sweep``: prunes every repository under a root, through the function or from here."""

from __future__ import annotations

from collections.abc import Iterable

import click

from cleaner.cli.options import Options
from cleaner.cli.plan import note_policies, say_errors
from cleaner.cli.progress import Bar, bars
from cleaner.cli.prune import INTERRUPTED, check_attended, show_and_delete
from cleaner.cli.session import Session, planning
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import CleanerError
from cleaner.core.reference import Repository
from cleaner.engine.sweep import Publisher, request_prunes
from cleaner.google.pubsub import TopicPublisher
from cleaner.inputs.names import Target, parse_target
from cleaner.views import document, words
from cleaner.views.images import Result, by_saving

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
    """Ask the function to prune every repository under ROOT.  With --local, prune them from here.

    Repositories that no policy matches are skipped, and so are remote and virtual ones.  ROOT is gcr.io/PROJECT,
    LOCATION-docker.pkg.dev/PROJECT[/REPOSITORY], or a path under one.  The requests are published to the topic that
    the function listens to; it decides by its own policies and its own DRY_RUN.  With --local the overview is shown,
    and the repositories are pruned from this machine, one after the other.
    """
    if not (options.topic or options.local or options.dry_run):
        raise click.UsageError("specify --topic projects/P/topics/T, or --local to prune from here")
    if options.one_rule and not options.local:
        raise click.UsageError("the function has policies of its own; options for one rule need --local")
    root = parse_target(options.targets[0], options.insecure).repository
    policies = options.chosen_policies(is_required=True)
    dry_run = options.dry_run or all(policy.dry_run for policy in policies.policies)
    if options.local:
        check_attended(options, terminal, dry_run=dry_run)
    elif options.yes:
        terminal.note("--yes has no effect without --local")
    note_policies(policies, terminal)
    with planning(session, policies, terminal) as planner:
        (found,) = planner.resolve([Target(root, is_root=True)])
        results = by_saving(planner.plan(found)) if options.local and not isinstance(found, Result) else []
    if isinstance(found, Result):
        if found.note:
            terminal.say(*_names((), options))
            terminal.note(f"{root}: {found.note}")
        return say_errors([found], terminal)
    summary = f"{words.counted(len(found), 'repository', 'repositories')} under {root}"
    if not found:
        terminal.say(*_names(found, options))
        terminal.note(policies.nothing_under(str(root)))
    elif options.local:
        return show_and_delete(results, options, session, terminal, is_one=False, dry_run=dry_run)
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
        except (KeyboardInterrupt, CleanerError) as error:
            is_interrupted = isinstance(error, KeyboardInterrupt)
            if is_interrupted:
                terminal.restore()
            if is_interrupted or publisher.published:
                why = "interrupted: " if is_interrupted else ""
                count = words.counted(publisher.published, "request")
                terminal.note(f"{why}at least {count} published; repeating them does no harm")
            if is_interrupted:
                return INTERRUPTED
            raise
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
