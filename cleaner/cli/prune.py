"""The command ``prune``: shows plans, asks, and carries out what was shown; ``sweep --local`` is one of several."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from types import FrameType

from cleaner.cli.options import Options
from cleaner.cli.plan import document_of, note_policies, say_errors, show
from cleaner.cli.progress import Bar, Follower, bars
from cleaner.cli.session import Session, advice, planning
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import CleanerError, ConfigurationError, NoCredentials, RepositoryNotFound, TimeLimitReached
from cleaner.engine.executor import Outcome
from cleaner.engine.run import Run
from cleaner.google.tokens import DELETE_PERMISSION
from cleaner.inputs.names import parse_image
from cleaner.views import document, words
from cleaner.views.document import GONE
from cleaner.views.done import Done, done_lines, done_table, done_total
from cleaner.views.images import Planned, Result
from cleaner.views.tables import summary_lines, total_line

# 128 and the number of SIGINT, as shells say it.
INTERRUPTED = 130
_DENIED = 403

EPILOG = """\
Examples:
  {prog} gcr.io/acme/api -p policies.yaml
      Show, ask, delete.
  {prog} gcr.io/acme/api -p policies.yaml --yes -o json > done.json
      Without a question.  "delete" is what was deleted.  What was planned and
      not deleted is in "keep", with an "outcome": refused (something needs it
      by now), failed (the registry did not delete it), kept (it, or what it
      belongs to, is kept after all), left (not begun, or not ended: no
      response, no time), gone (it did not exist any more).  Its tags that were
      deleted are its "lost_tags".
"""


def prune(options: Options, session: Session, terminal: Terminal) -> int:
    """Show the plan, ask, and carry out what was shown and nothing else.

    Of what was shown, what is needed by now is kept.  Without a terminal to ask on, --yes is required.  Ctrl-C lets
    deletions in progress finish; a second one ends at once.  In all cases every kept image is complete.
    """
    repository = parse_image(options.targets[0], options.insecure)
    policies = options.chosen_policies(is_required=True)
    policy = policies.choose(repository)
    dry_run = options.dry_run or (policy is not None and policy.dry_run)
    check_attended(options, terminal, dry_run=dry_run)
    note_policies(policies, terminal)
    with planning(session, policies, terminal) as planner:
        results = planner.plan([repository])
    return show_and_delete(results, options, session, terminal, is_one=True, dry_run=dry_run)


def check_attended(options: Options, terminal: Terminal, *, dry_run: bool) -> None:
    """Refuse to delete without ``--yes`` where nobody can be asked.

    Raises:
        ConfigurationError: There is nobody.
    """
    if not (options.yes or dry_run or terminal.is_attended):
        raise ConfigurationError(
            "cannot ask: stdin and stderr must both be a terminal; use --yes, or run plan for a preview"
        )


def show_and_delete(
    results: Sequence[Result], options: Options, session: Session, terminal: Terminal, *, is_one: bool, dry_run: bool
) -> int:
    """Show plans, ask once, carry out what was shown, and report how it ended; return the exit code."""
    plans = [one.planned for one in results if one.planned]
    todo = [one for one in plans if one.plan.delete and not (dry_run or one.policy.dry_run)]
    is_table = options.output == "table"
    if is_preview := dry_run or not plans or is_table:
        code = show(results, options, terminal, is_one=is_one, dry_run=dry_run, pages=False)
    else:
        code = say_errors(results, terminal)
    if not todo and (why := _why_nothing(plans, options)):
        terminal.note(f"nothing was deleted: {why}")
    if is_preview and not todo:
        return code
    ended, is_stopped = [Done.not_begun(one) for one in todo], False
    if todo and _is_agreed(todo, results, options, terminal, is_one=is_one):
        ended, is_stopped = carry_out(todo, session, terminal)
    _report(results, ended, options, terminal, is_one=is_one)
    return _end(ended, terminal, is_stopped=is_stopped) or code


def _why_nothing(plans: Iterable[Planned], options: Options) -> str:
    places = dict.fromkeys(one.where for one in plans if one.policy.dry_run or options.dry_run)
    if places and options.dry_run:
        return "--dry-run"
    return f"dry_run of {words.listed(places)}" if places else ""


def _is_agreed(
    todo: Sequence[Planned], results: Sequence[Result], options: Options, terminal: Terminal, *, is_one: bool
) -> bool:
    """Return whether to delete, by ``--yes`` or the answer; without a table the summary is shown before."""
    if options.yes:
        return True
    if options.output != "table":
        for line in summary_lines(todo[0]) if is_one else [total_line(results)]:
            terminal.note(line)
    count = words.counted(sum(len(one.plan.delete) for one in todo), "manifest")
    where = todo[0].plan.repository if is_one else words.counted(len(todo), "repository", "repositories")
    is_agreed = terminal.ask(f"Delete {count} of {where}, up to {words.size(sum(one.freed for one in todo))}?")
    if not is_agreed:
        terminal.note("nothing was deleted")
    return is_agreed


def carry_out(plans: Sequence[Planned], session: Session, terminal: Terminal) -> tuple[list[Done], bool]:
    """Carry out one plan after the other; return how each ended, and whether an interrupt came."""
    session.begin()
    ended: list[Done] = []
    stop = threading.Event()
    runs: list[Run] = []
    with bars(terminal, lambda: session.waiting) as add_bar, _interrupts(stop, runs, terminal):
        overall, bar = add_bar() if len(plans) > 1 else None, add_bar()
        for at, planned in enumerate(plans):
            if overall:
                overall.show("Pruning", at, len(plans), str(planned.plan.repository))
            done = _carry_out(planned, session, bar, stop, runs)
            ended.append(done)
            if not done.is_begun or isinstance(done.error, NoCredentials | TimeLimitReached):
                break
    return [*ended, *map(Done.not_begun, plans[len(ended) :])], stop.is_set()


def _carry_out(planned: Planned, session: Session, bar: Bar, stop: threading.Event, runs: list[Run]) -> Done:
    """Carry out a plan and nothing else; return how it ended."""
    todo, failure, began = planned.plan, None, session.clock()
    only = {verdict.manifest.digest for verdict in todo.delete}
    follower = Follower(bar, only=only, is_stopping=stop.is_set)
    run = session.run(todo.repository, planned.policy, planned.now, dry_run=False, progress=follower)
    runs[:] = [run]
    # Checked after the run is set, so that an interrupt stops one or the other.
    if stop.is_set():
        return Done.not_begun(planned)
    try:
        run.prune(only, since=planned.listing)
    except CleanerError as error:
        failure = error
    is_gone, listing = isinstance(failure, RepositoryNotFound), follower.listing
    outcomes = {}
    for digest in (verdict.manifest.digest for verdict in todo.delete):
        outcome = run.report.outcomes.get(digest)
        if outcome is None and (is_gone or (listing is not None and digest not in listing.manifests)):
            outcomes[digest] = GONE
        elif outcome is None:
            outcomes[digest] = (Outcome.LEFT if stop.is_set() or failure else Outcome.KEPT).value
        elif outcome is not Outcome.DELETED:
            outcomes[digest] = outcome.value
    return Done(planned, outcomes, run.report, session.clock() - began, failure)


def interrupt_at_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does, wherever it comes: left to itself it would leave a terminal without cursor."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def _interrupts(stop: threading.Event, runs: Iterable[Run], terminal: Terminal) -> Iterator[None]:
    """Let the first interrupt of the context stop the runs, and the second one end the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        # The interrupted thread may be in the middle of writing to the same stream, which is then refused.
        with suppress(RuntimeError):
            if stop.is_set():
                terminal.restore()
                terminal.note("interrupted again: what was begun may be unfinished; run the same command again")
            elif not terminal.shows_progress:
                terminal.note("finishing deletions in progress; Ctrl-C again ends at once")
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()
        for run in runs:
            run.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(
    results: Sequence[Result], ended: Sequence[Done], options: Options, terminal: Terminal, *, is_one: bool
) -> None:
    """Write what was done, as documents or, if anything was begun, as a table."""
    if options.output != "table":
        plans = [one.planned for one in results if one.planned and not one.planned.policy.dry_run]
        done = {one.planned.plan.repository: one for one in (*map(Done.not_begun, plans), *ended)}
        documents = [document_of(one, dry_run=False, done=done.get(one.repository)) for one in results]
        terminal.report(*document.to_lines(documents[0] if is_one else documents, options.output))
    elif is_one and ended[0].is_begun:
        lines = [terminal.wrap(line, 4 if line.startswith(" ") else 2) for line in done_lines(ended[0])]
        terminal.report("", *chain.from_iterable(lines))
    elif any(one.is_begun for one in ended):
        lost = [line for one in ended for line in one.lost(f"{one.planned.plan.repository}: lost ")]
        table = done_table(ended, terminal.width, terminal.paint)
        terminal.report("", *table, "", done_total(ended), *lost)


def _end(ended: Sequence[Done], terminal: Terminal, *, is_stopped: bool) -> int:
    """Report what failed, and what was not begun; return the exit code."""
    begun = [one for one in ended if one.is_begun]
    for one in begun:
        _report_problems(one, terminal)
    count = len(ended) - len(begun)
    left = f"not begun: {words.counted(count, 'repository', 'repositories')}"
    if is_stopped:
        others = f"; {left}" if count else ""
        terminal.note(
            f"interrupted: deletions in progress were finished{others}; run the same command again to continue"
        )
        return INTERRUPTED
    if count and begun:
        terminal.note(left)
    return int(any(one.failed for one in ended))


def _report_problems(done: Done, terminal: Terminal) -> None:
    """Report what ended a run of one repository, and why nothing of a kind could be deleted."""
    repository = done.planned.plan.repository
    if isinstance(done.error, RepositoryNotFound):
        terminal.note(str(done.error))
    elif done.error is not None:
        terminal.error(words.error_of(repository, advice(done.error)))
    if any(undone.status == _DENIED for undone in done.report.undone.values()):
        missing = f"the permission that is likely missing is {DELETE_PERMISSION}"
        terminal.error(f"{repository}: deletions denied: {missing}")
    elif done.report.has_immutable_tags:
        terminal.error(
            f"{repository}: tags cannot be deleted, probably since they are immutable: images with tags are kept"
        )
