"""The command ``plan``: shows what would be kept and deleted; deletes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import click

from cleaner.cli.options import Options
from cleaner.cli.planning import Planner
from cleaner.cli.progress import bars
from cleaner.cli.session import Session, pool_of
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import ConfigurationError, InvalidReference
from cleaner.inputs.names import Target, parse_target
from cleaner.inputs.policies import Policies
from cleaner.release import VERSION
from cleaner.views import document, words
from cleaner.views.explain import RULE_INDENT, explain, explanation_document, find
from cleaner.views.hints import hints
from cleaner.views.images import Planned, Result, Row, by_saving, selected, selected_results
from cleaner.views.tables import overview_table, plan_table, summary_lines, total_line

EPILOG = """\
Examples:
  {prog} gcr.io/acme/api --keep 10
      What is deleted if only the ten newest tagged images are kept.
  {prog} gcr.io/acme/api -p policies.yaml
      What is deleted by the function's policies.
  {prog} us-docker.pkg.dev/acme gcr.io/acme -p policies.yaml
      How much each repository of a project would free.
  {prog} gcr.io/acme/api --match '(.+)-[0-9a-f]{7}' --keep 5 --delete-after 90d
      The five newest of each branch, for 90 days, where tags are BRANCH-COMMIT;
      all other tags are kept.
  {prog} gcr.io/acme/api --explain v1.4.2
      Why this image is kept or deleted.
  {prog} gcr.io/acme/api -o json | jq -r '.delete[].digest'
      The digests that would be deleted.
"""


def plan(options: Options, session: Session, terminal: Terminal) -> int:
    """Show what would be kept and deleted, and why.  Never deletes.

    TARGET is a repository (an image's name) or a root: gcr.io/PROJECT,
    LOCATION-docker.pkg.dev/PROJECT[/REPOSITORY], or a path under one.  With a slash at its end it is always a root.
    One repository is shown image by image, the newest first; a root, or several targets, one row a repository.
    """
    policies = options.chosen_policies()
    targets = list(dict.fromkeys(parse_target(name, options.insecure) for name in options.targets))
    if options.explain is not None and (len(targets) > 1 or targets[0].is_root):
        raise click.UsageError("--explain needs one repository")
    note_policies(policies, terminal)
    results, is_one = _planned(targets, policies, session, terminal)
    if options.html is not None:
        _write_page(results, options.html, terminal)
    if options.html == "-":
        return _end(results, terminal)
    if not is_one:
        if options.explain is not None:
            raise InvalidReference(f"{targets[0].repository}: a root; --explain needs one repository")
        under = ", ".join(str(target.repository) for target in targets)
        return show_overview(results, under, policies, options, terminal)
    planned = results[0].planned
    if planned is None:
        return show_nothing(results[0], options, terminal, dry_run=True)
    if options.explain is not None:
        _explain(planned, options, terminal)
    else:
        show_plan(planned, options, terminal)
    return 0


def _planned(
    targets: Sequence[Target], policies: Policies, session: Session, terminal: Terminal
) -> tuple[list[Result], bool]:
    """Return the results for all targets, and whether they are one repository that was named."""
    with bars(terminal, lambda: session.waiting) as add_bar, pool_of(session.workers) as pool:
        planner = Planner(session, policies, pool, datetime.now(UTC))
        bar = add_bar()
        bar.show("Listing")
        found = planner.resolve_all(targets, bar)
        known = {one.repository: one for one in found if isinstance(one, Result)}
        if len(found) == len(known) == 1 and not targets[0].is_root:
            return [*known.values()], True
        names = [name for one in found if not isinstance(one, Result) for name in one if name not in known]
        return [*known.values(), *planner.survey(dict.fromkeys(names), bar)], False


def note_policies(policies: Policies, terminal: Terminal) -> None:
    """Say which policies decide, if nobody has said which."""
    if policies.is_found:
        terminal.note(f"policies: {policies.name} in the working directory")


def show_nothing(result: Result, options: Options, terminal: Terminal, *, dry_run: bool) -> int:
    """Say why there is no plan of a repository; return the exit code."""
    terminal.note(f"{result.repository}: {result.note}")
    if options.output != "table":
        empty = document.empty_document(result.repository, dry_run=dry_run)
        terminal.say(*document.to_lines(empty, options.output))
    return 0


def show_plan(planned: Planned, options: Options, terminal: Terminal, *, pages: bool = True) -> None:
    """Show the plan of one repository, and what is to be said about it."""
    rows = selected(planned.rows, options.only, options.sort, options.limit)
    if options.output == "table":
        names = terminal.wrap(str(planned.plan.repository))
        text = chain(_heading(names, planned, terminal), _table(rows, planned, options, terminal))
        terminal.show(text, pages=pages)
    else:
        some = rows if options.sort or options.limit else None
        shown = document.plan_document(planned, some, options.only, in_order=options.sort is not None)
        terminal.say(*document.to_lines(shown, options.output))
    for line in hints([planned]):
        terminal.note(line)


def _table(rows: Sequence[Row], planned: Planned, options: Options, terminal: Terminal) -> Iterator[str]:
    """Yield the table of some of the rows, and the summary of all."""
    yield from plan_table(rows, planned, terminal.width, terminal.paint, unfold=options.all)
    left_out = len(planned.rows) - len(rows)
    if left_out:
        yield f"{left_out:,} more are not shown"
    if planned.rows:
        yield ""
    for text in summary_lines(planned):
        yield from terminal.wrap(text, 8)


def show_overview(
    results: Iterable[Result], under: str, policies: Policies, options: Options, terminal: Terminal
) -> int:
    """Show several repositories, the largest saving first; return the exit code."""
    results = by_saving(results)
    if options.sort == "age":
        terminal.note("--sort age has no effect on several repositories")
    rows = selected_results(results, options.only, options.sort, options.limit)
    if options.output != "table":
        terminal.say(*document.to_lines([result_document(one, options) for one in rows], options.output))
    elif results:
        lines = overview_table(rows, terminal.width, terminal.paint)
        total = terminal.wrap(total_line(results))
        terminal.show(chain(lines, [""] if rows else [], total))
    else:
        terminal.note(f"no repository under {under} is matched by {policies.name}")
    return _end(results, terminal)


def _end(results: Collection[Result], terminal: Terminal) -> int:
    """Say what is to be said about several repositories, and the errors; return the exit code."""
    for line in hints(one.planned for one in results if one.planned):
        terminal.note(line)
    errors = [words.error_of(one.repository, one.error) for one in results if one.error]
    for error in errors:
        terminal.error(error)
    return int(bool(errors))


def _write_page(results: Iterable[Result], file: str, terminal: Terminal) -> None:
    """Write what was planned as a page; ``-`` is stdout."""
    # Few calls need it, and the template engine takes a while to load.
    from cleaner.views.page import page

    html = page(results, datetime.now(UTC), VERSION)
    if file == "-":
        terminal.say(html)
        return
    try:
        Path(file).write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror or error}") from error
    terminal.note(f"page written to {file}")


def result_document(result: Result, options: Options) -> document.Document:
    """Return the document of one of several repositories."""
    if result.planned is None:
        return document.empty_document(result.repository, dry_run=True, error=result.error)
    return document.plan_document(result.planned, None, options.only)


def _explain(planned: Planned, options: Options, terminal: Terminal) -> None:
    manifest = find(planned.listing, options.explain or "")
    if options.output != "table":
        terminal.say(*document.to_lines(explanation_document(planned, manifest), options.output))
        return
    names = [f"{planned.plan.repository}@{manifest.digest}"]
    if len(terminal.wrap(names[0])) > 1:
        # The digest is not wrapped, so that it can be copied.
        names = [*terminal.wrap(f"{planned.plan.repository}@"), manifest.digest]
    lines = _heading(names, planned, terminal)
    for text in explain(planned, manifest):
        lines += terminal.wrap(text, RULE_INDENT if text.startswith(" ") else 0)
    terminal.show(lines)


def _heading(names: Iterable[str], planned: Planned, terminal: Terminal) -> list[str]:
    policy = f"{planned.where}: {words.policy(planned.policy)}"
    return [*(terminal.paint(name, "bold") for name in names), *terminal.wrap(policy), ""]
