"""The command ``prune``: shows a plan, asks, and carries out what was shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain

from cleaner.cli.advice import advice
from cleaner.cli.interrupt import INTERRUPTED, interrupts
from cleaner.cli.options import Options
from cleaner.cli.plan import note_policies, show_nothing, show_plan
from cleaner.cli.planning import Planner
from cleaner.cli.progress import Bar, Follower, bars
from cleaner.cli.session import Session, pool_of
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import CleanerError, NoCredentials, RepositoryNotFound, TimeLimitReached
from cleaner.engine.executor import Outcome
from cleaner.engine.run import Run
from cleaner.google.tokens import DELETE_PERMISSION
from cleaner.inputs.names import parse_image
from cleaner.views import document, words
from cleaner.views.done import Done, done_lines
from cleaner.views.images import Planned
from cleaner.views.tables import summary_lines

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
      response, no time).  Its tags that were deleted are its "lost_tags".
"""


def prune(options: Options, session: Session, terminal: Terminal) -> int:
    """Show the plan, ask, and carry out what was shown and nothing else.

    Only what was shown is deleted; of that, what gets a tag or is needed in the meantime is kept, and with
    --running-scopes also what is deployed.  Without a terminal to ask on, --yes is required.  Ctrl-C lets deletions
    in progress finish and reports what was done; a second Ctrl-C ends at once; SIGTERM is handled like Ctrl-C.  An
    interrupted run does no harm: every kept image is complete.  An image's tags are deleted before the image; if the
    image is then not deleted, the lost tags are reported, and the next run judges it as an untagged image.
    """
    repository = parse_image(options.targets[0], options.insecure)
    policies = options.chosen_policies(is_required=True)
    policy = policies.choose(repository)
    dry_run = options.dry_run or (policy is not None and policy.dry_run)
    if not dry_run and is_unattended(options, terminal, "plan"):
        return 2
    note_policies(policies, terminal)
    with bars(terminal, lambda: session.waiting) as add_bar, pool_of(session.workers) as pool:
        result = Planner(session, policies, pool, datetime.now(UTC)).plan(repository, Follower(add_bar()))
    planned = result.planned
    if planned is None:
        return show_nothing(result, options, terminal, dry_run=dry_run)
    if dry_run:
        show_plan(planned, options, terminal, pages=False)
        why = "--dry-run" if options.dry_run else f"dry_run of {planned.where}"
        terminal.note(f"nothing was deleted: {why}")
        return 0
    if options.output == "table":
        show_plan(planned, options, terminal, pages=False)
    done = Done.not_begun(planned)
    if planned.plan.delete and _may(planned, options, terminal):
        done = next(iter(carry_out([planned], session, terminal)), done)
    if options.output != "table":
        terminal.report(*document.to_lines(done.document, options.output))
    elif done.seconds is not None:
        lines = [terminal.wrap(line, 4 if line.startswith(" ") else 8) for line in done_lines(done)]
        terminal.report("", *chain.from_iterable(lines))
    return _end(done, terminal)


class Pruner:
    """Carries out plans, one after the other; an interrupt calls ``stop``."""

    def __init__(self, session: Session, terminal: Terminal, bar: Bar) -> None:
        self._session = session
        self._terminal = terminal
        self._bar = bar
        self._current: tuple[Run, Follower] | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Begin no further deletion; those in progress are finished."""
        self._is_stopped = True
        if self._current:
            run, follower = self._current
            run.stop()
            follower.remark("finishing")
        if not self._terminal.shows_progress:
            self._terminal.note("finishing deletions in progress; Ctrl-C again ends at once")

    def prune(self, planned: Planned) -> Done | None:
        """Carry out a plan and nothing else; return how it ended, None if it was stopped before."""
        session, todo = self._session, planned.plan
        only = {verdict.manifest.digest for verdict in todo.delete}
        began, failure = session.clock(), None
        follower = Follower(self._bar, only)
        run = session.run(todo.repository, planned.policy, planned.now, dry_run=False, progress=follower)
        self._current = run, follower
        # Checked after the run is set, so that an interrupt stops one or the other.
        if self._is_stopped:
            return None
        try:
            run.prune(only, since=planned.listing)
        except CleanerError as error:
            failure = error
        is_gone = isinstance(failure, RepositoryNotFound)
        outcomes, listing = {}, follower.listing
        for digest in (verdict.manifest.digest for verdict in todo.delete):
            outcome = run.report.outcomes.get(digest)
            if outcome is None and (is_gone or (listing is not None and digest not in listing.manifests)):
                continue  # another process has deleted it
            if outcome is None:
                outcome = Outcome.LEFT if self._is_stopped or failure else Outcome.KEPT
            if outcome is not Outcome.DELETED:
                outcomes[digest] = outcome.value
        return Done(planned, outcomes, run.report, session.clock() - began, failure, self._is_stopped)


def carry_out(plans: Sequence[Planned], session: Session, terminal: Terminal) -> list[Done]:
    """Carry out one plan after the other; return how each that was begun ended."""
    session.begin()
    ended: list[Done] = []
    with bars(terminal, lambda: session.waiting) as add_bar:
        overall = add_bar() if len(plans) > 1 else None
        pruner = Pruner(session, terminal, add_bar())
        with interrupts(pruner.stop, terminal.restore):
            for at, planned in enumerate(plans):
                if overall:
                    overall.show("Pruning", at, len(plans), str(planned.plan.repository))
                done = pruner.prune(planned)
                if done is None:
                    break
                ended.append(done)
                if isinstance(done.error, NoCredentials | TimeLimitReached):
                    break
    return ended


def _may(planned: Planned, options: Options, terminal: Terminal) -> bool:
    count = words.counted(len(planned.plan.delete), "manifest")
    question = f"Delete {count} of {planned.plan.repository}, up to {words.size(planned.freed)}?"
    return agreed(question, summary_lines(planned), options, terminal)


def is_unattended(options: Options, terminal: Terminal, preview: str) -> bool:
    """Return whether nobody can be asked, and there is no ``--yes``; if so, say how to ``preview``."""
    if options.yes or terminal.is_attended:
        return False
    terminal.error(f"there is no terminal to ask on: use --yes to delete without a question, or {preview} to preview")
    return True


def agreed(question: str, summary: Iterable[str], options: Options, terminal: Terminal) -> bool:
    """Return whether to delete, by ``--yes`` or the answer; without a table the summary is shown before."""
    if options.yes:
        return True
    if options.output != "table":
        for line in summary:
            terminal.note(line)
    is_agreed = terminal.ask(question)
    if not is_agreed:
        terminal.note("nothing was deleted")
    return is_agreed


def _end(done: Done, terminal: Terminal) -> int:
    """Report what failed; return the exit code."""
    report_problems(done, terminal)
    if isinstance(done.error, RepositoryNotFound):
        return 0
    if done.interrupted:
        terminal.note("interrupted: deletions in progress were finished; run the same command again to continue")
        return INTERRUPTED
    return int(done.failed)


def report_problems(done: Done, terminal: Terminal) -> None:
    """Report what ended a run of one repository, and why nothing of a kind could be deleted."""
    repository = done.report.repository
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
