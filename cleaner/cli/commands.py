"""The commands ``plan`` and ``prune``: each returns the exit code."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from cleaner.cli import words
from cleaner.cli.advice import advice
from cleaner.cli.document import done_document, empty_document, plan_document
from cleaner.cli.explain import RULE_INDENT, Case, explain, find
from cleaner.cli.images import View
from cleaner.cli.interrupt import INTERRUPTED, interrupts
from cleaner.cli.policies import Chosen, choose, name_of
from cleaner.cli.progress import Follower, bars
from cleaner.cli.session import Session
from cleaner.cli.table import plan_lines, summary_lines
from cleaner.cli.terminal import Terminal, wrapped
from cleaner.core.errors import CleanerError, RepositoryNotFound
from cleaner.core.manifest import Listing
from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.engine.executor import Outcome
from cleaner.engine.report import Report
from cleaner.google.tokens import DELETE_PERMISSION

# How many manifests that were not deleted are listed.
_NAMED = 10
_LEFT = "left"
_DENIED = 403


def plan(options: argparse.Namespace, session: Session, terminal: Terminal) -> int:
    """Show what would be kept and deleted; delete nothing.

    Raises:
        CleanerError: The plan cannot be made.
    """
    repository = session.parse(options.repository)
    planned = _plan(options, session, terminal, repository)
    if planned is None:
        return _nothing(options, terminal, repository, dry_run=True)
    if options.explain is None:
        _show(planned, options, terminal)
        return 0
    manifest = find(planned.listing, options.explain)
    case = Case(planned.plan, planned.listing, planned.chosen.policy, planned.now, session.running)
    names = [f"{repository}@{manifest.digest}"]
    if len(names[0]) > terminal.width:
        # The digest is not wrapped, so that it can be copied.
        names = [*wrapped(f"{repository}@", terminal.width), manifest.digest]
    terminal.say(*_heading(names, planned, terminal))
    for text in explain(case, manifest):
        terminal.say(*terminal.wrap(text, RULE_INDENT if text.startswith(" ") else 0))
    return 0


def prune(options: argparse.Namespace, session: Session, terminal: Terminal) -> int:
    """Show the plan, ask, and carry out what was shown.

    Raises:
        CleanerError: The plan cannot be made; nothing was deleted.
    """
    repository = session.parse(options.repository)
    chosen = choose(options, repository)
    dry_run = options.dry_run or (chosen is not None and chosen.policy.dry_run)
    if not (dry_run or options.yes or terminal.is_attended):
        terminal.note(
            "error: there is no terminal to ask on: use --yes to delete without a question, or plan to preview"
        )
        return 2
    planned = _plan(options, session, terminal, repository)
    if planned is None:
        return _nothing(options, terminal, repository, dry_run=dry_run)
    todo = planned.plan
    if dry_run:
        _show(planned, options, terminal)
        why = "--dry-run" if options.dry_run else f"dry_run of {planned.chosen.where}"
        terminal.note(f"nothing was deleted: {why}")
        return 0
    if options.format == "table":
        _show(planned, options, terminal)
    if todo.delete and (options.yes or _may(planned, options, terminal)):
        session.begin()
        done = _carry_out(planned, session, terminal)
    else:
        nothing = Report(repository, dry_run=False)
        done = _Done({one.manifest.digest: _LEFT for one in todo.delete}, nothing)
    if options.format == "json":
        terminal.report(done_document(todo, done.outcomes, done.lost_tags))
    elif done.seconds is not None:
        terminal.report("", *_done_lines(todo, done, terminal))
    return _end(todo, done, terminal)


class _Planned(msgspec.Struct, frozen=True):
    """A plan, the listing and policy that it is made from, and its time."""

    plan: Plan
    listing: Listing
    chosen: Chosen
    now: datetime


class _Done(msgspec.Struct, frozen=True):
    """How the deletions of a plan ended.

    ``outcomes`` are those of the manifests that were to be deleted and were not.
    """

    outcomes: Mapping[Digest, str]
    report: Report
    seconds: float | None = None
    error: CleanerError | None = None
    interrupted: bool = False

    @property
    def lost_tags(self) -> Mapping[Digest, Sequence[Tag]]:
        """The tags that were deleted of manifests that were not."""
        return {digest: sorted(tags) for digest, tags in self.report.lost_tags.items() if digest in self.outcomes}

    @property
    def is_denied(self) -> bool:
        """Whether a deletion was refused because a permission is missing."""
        return any(undone.status == _DENIED for undone in self.report.undone.values())


def _plan(
    options: argparse.Namespace, session: Session, terminal: Terminal, repository: Repository
) -> _Planned | None:
    """Return the plan; None if there is no policy or no such repository, which is then reported."""
    chosen = choose(options, repository)
    if chosen is None:
        terminal.note(f"{repository}: no policy of {name_of(options.policies)} matches; nothing is deleted")
        return None
    now = datetime.now(UTC)
    try:
        with bars(terminal) as drawn:
            run = session.run(repository, chosen.policy, now, dry_run=True, progress=Follower(drawn.add()))
            todo, listing = session.plan(run)
    except RepositoryNotFound as error:
        terminal.note(str(error))
        return None
    return _Planned(todo, listing, chosen, now)


def _nothing(options: argparse.Namespace, terminal: Terminal, repository: Repository, *, dry_run: bool) -> int:
    if options.format == "json":
        terminal.say(empty_document(repository, dry_run=dry_run))
    return 0


def _show(planned: _Planned, options: argparse.Namespace, terminal: Terminal) -> None:
    if options.format == "json":
        terminal.say(plan_document(planned.plan))
        return
    view = View.of(planned.plan, planned.listing)
    lines = plan_lines(view, terminal, planned.now, unfold=options.all)
    gap = [""] if lines else []
    heading = _heading(wrapped(str(planned.plan.repository), terminal.width), planned, terminal)
    terminal.say(*heading, *lines, *gap, *summary_lines(view, terminal))


def _heading(names: Iterable[str], planned: _Planned, terminal: Terminal) -> list[str]:
    policy = f"{planned.chosen.where}: {words.policy(planned.chosen.policy)}"
    return [*(terminal.paint(name, "bold") for name in names), *terminal.wrap(policy), ""]


def _may(planned: _Planned, options: argparse.Namespace, terminal: Terminal) -> bool:
    """Ask whether to delete; return whether the answer is yes."""
    view = View.of(planned.plan, planned.listing)
    if options.format == "json":
        for line in summary_lines(view, terminal):
            terminal.note(line)
    count = words.counted(len(planned.plan.delete), "manifest")
    agreed = terminal.ask(f"Delete {count} of {planned.plan.repository}, {words.size(view.freed)} at most?")
    if not agreed:
        terminal.note("nothing was deleted")
    return agreed


def _carry_out(planned: _Planned, session: Session, terminal: Terminal) -> _Done:
    todo = planned.plan
    only = {verdict.manifest.digest for verdict in todo.delete}
    began = session.clock()
    failure = None
    with bars(terminal) as drawn:
        follower = Follower(drawn.add(), only)
        run = session.run(todo.repository, planned.chosen.policy, planned.now, dry_run=False, progress=follower)

        def stop() -> None:
            run.stop()
            follower.remark("finishing")
            if not terminal.shows_progress:
                terminal.note("finishing deletions in progress; Ctrl-C again ends at once")

        with interrupts(stop, terminal.restore) as interrupt:
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
            outcomes[digest] = _LEFT if interrupt.came or failure else Outcome.KEPT.value
        elif outcome is not Outcome.DELETED:
            outcomes[digest] = outcome.value
    return _Done(outcomes, run.report, session.clock() - began, failure, interrupt.came)


def _end(todo: Plan, done: _Done, terminal: Terminal) -> int:
    """Report what failed; return the exit code."""
    if isinstance(done.error, RepositoryNotFound):
        terminal.note(str(done.error))
        return 0
    if done.error is not None:
        terminal.note(f"error: {advice(done.error)}")
    if done.is_denied:
        missing = f"the permission that is likely missing is {DELETE_PERMISSION}"
        terminal.note(f"error: {todo.repository}: deletions denied: {missing}")
    if done.interrupted:
        terminal.note("interrupted: deletions in progress were finished; run the same command again to continue")
        return INTERRUPTED
    return 1 if done.error is not None or Outcome.FAILED.value in done.outcomes.values() else 0


def _done_lines(todo: Plan, done: _Done, terminal: Terminal) -> list[str]:
    deleted = [one for one in todo.delete if one.manifest.digest not in done.outcomes]
    size = sum(verdict.manifest.size for verdict in deleted)
    lines = [
        f"deleted {words.counted(len(deleted), 'manifest')}, {words.size(size)} at most, in {done.seconds:.1f} s"
    ]
    counts = Counter(done.outcomes.values())
    if counts:
        lines.append(f"kept    {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(counts.items()))}")
    # What the registry refused comes first.
    undone = [one for one in todo.delete if done.outcomes.get(one.manifest.digest, _LEFT) != _LEFT]
    undone.sort(key=lambda one: one.manifest.digest not in done.report.undone)
    for verdict in undone[:_NAMED]:
        lines += terminal.wrap(f"  {_undone(verdict, done)}", 4)
    if len(undone) > _NAMED:
        lines.append(f"  and {len(undone) - _NAMED:,} more")
    lost = done.lost_tags
    if lost:
        lines += terminal.wrap(f"lost    {words.lost(lost)}", 8)
    # Nothing else has a record of these tags.
    for digest, tags in lost.items():
        lines += terminal.wrap(f"  {done.outcomes[digest]:<8} {words.short(digest)} without {', '.join(tags)}", 4)
    return lines


def _undone(verdict: Verdict, done: _Done) -> str:
    manifest = verdict.manifest
    tags = f" ({', '.join(map(words.short_tag, manifest.tags))})" if manifest.tags else ""
    undone = done.report.undone.get(manifest.digest)
    answer = " ".join([str(undone.status), *undone.codes]) if undone else ""
    outcome = done.outcomes[manifest.digest]
    return f"{outcome:<8} {words.short(manifest.digest)}{tags}{f': {answer}' if answer else ''}"
