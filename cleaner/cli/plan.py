"""The command ``plan``: shows what would be kept and deleted; deletes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import click

from cleaner.cli.options import Options
from cleaner.cli.session import Session, planning
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import ConfigurationError, InvalidReference
from cleaner.inputs.names import Target, parse_target
from cleaner.inputs.policies import Policies
from cleaner.release import VERSION
from cleaner.views import document, words
from cleaner.views.done import Done
from cleaner.views.explain import RULE_INDENT, explain, explanation_document, find
from cleaner.views.hints import hints
from cleaner.views.images import Only, Planned, Result, Row, by_saving, selected, selected_results
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
    if options.explain is not None and len(targets) > 1:
        raise click.UsageError("--explain needs one repository, not several")
    _check_explained(targets[0], options, is_one=not targets[0].is_root)
    _check_page(options.html)
    note_policies(policies, terminal)
    results, is_one = _planned(targets, policies, session, terminal)
    _check_explained(targets[0], options, is_one=is_one)
    if options.html is not None and not (is_one and results[0].error):
        _write_page(results, options.html, terminal)
        if options.html == "-":
            say_hints(results, terminal)
            return say_errors(results, terminal)
    if options.explain is not None and results[0].planned is not None:
        _explain(results[0].planned, options.explain, options, terminal)
        return 0
    if not results:
        terminal.note(policies.nothing_under(", ".join(str(target.repository) for target in targets)))
    return show(results, options, terminal, is_one=is_one)


def _check_explained(target: Target, options: Options, *, is_one: bool) -> None:
    if options.explain is not None and not is_one:
        raise InvalidReference(f"{target.repository} is a root; name one repository with --explain")


def _planned(
    targets: Sequence[Target], policies: Policies, session: Session, terminal: Terminal
) -> tuple[list[Result], bool]:
    """Return the results for all targets, and whether they are one repository that was named."""
    with planning(session, policies, terminal) as planner:
        found = planner.resolve(targets)
        known = {one.repository: one for one in found if isinstance(one, Result)}
        is_one = len(found) == len(known) == 1 and not targets[0].is_root
        names = [name for one in found if not isinstance(one, Result) for name in one if name not in known]
        return by_saving([*known.values(), *planner.plan(dict.fromkeys(names))]), is_one


def note_policies(policies: Policies, terminal: Terminal) -> None:
    """Say which policies decide, if nobody has said which."""
    if policies.is_found:
        terminal.note(f"policies: {policies.name} in the working directory")


def show(
    results: Sequence[Result],
    options: Options,
    terminal: Terminal,
    *,
    is_one: bool,
    dry_run: bool = True,
    pages: bool = True,
) -> int:
    """Show the one repository that was named, or several, and what is to be said about them; return the exit code."""
    if is_one and results[0].error:
        return say_errors(results, terminal)
    if not is_one and options.sort == "age":
        terminal.note("--sort age has no effect on several repositories")
    planned = results[0].planned if is_one else None
    if options.output != "table":
        documents = _documents(results, options, is_one=is_one, dry_run=dry_run)
        terminal.say(*document.to_lines(documents, options.output))
    elif planned is not None:
        rows = selected(planned.rows, options.only, options.sort, options.limit)
        names = terminal.wrap(str(planned.plan.repository))
        text = chain(_heading(names, planned, terminal), _table(rows, planned, options, terminal))
        terminal.show(text, pages=pages)
    elif results and not is_one:
        shown = selected_results(results, options.only, options.sort, options.limit)
        lines = overview_table(shown, terminal.width, terminal.paint)
        total = terminal.wrap(total_line(results))
        terminal.show(chain(lines, [""] if shown else [], total), pages=pages)
    if is_one and results[0].note:
        terminal.note(f"{results[0].repository}: {results[0].note}")
    say_hints(results, terminal)
    return say_errors(results, terminal)


def _documents(
    results: Sequence[Result], options: Options, *, is_one: bool, dry_run: bool
) -> document.Document | list[document.Document]:
    if not is_one:
        shown = selected_results(results, options.only, options.sort, options.limit)
        return [document_of(one, dry_run=dry_run, only=options.only) for one in shown]
    planned = results[0].planned
    if planned is None:
        return document_of(results[0], dry_run=dry_run)
    rows = selected(planned.rows, options.only, options.sort, options.limit)
    some = rows if options.sort or options.limit else None
    return document.plan_document(planned, some, options.only, in_order=options.sort is not None)


def document_of(result: Result, *, dry_run: bool, done: Done | None = None, only: Only = None) -> document.Document:
    """Return the document of a repository: of its plan, of what was done of it, or the one without a plan."""
    if result.planned is None:
        return document.empty_document(result.repository, dry_run=dry_run, error=result.error)
    return done.document if done else document.plan_document(result.planned, None, only)


def say_hints(results: Iterable[Result], terminal: Terminal) -> None:
    """Say what is noteworthy about plans."""
    for line in hints(one.planned for one in results if one.planned):
        terminal.note(line)


def say_errors(results: Iterable[Result], terminal: Terminal) -> int:
    """Say for which repositories there is no plan, and why; return the exit code."""
    errors = [words.error_of(one.repository, one.error) for one in results if one.error]
    for error in errors:
        terminal.error(error)
    return int(bool(errors))


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


def _check_page(file: str | None) -> None:
    """Open the file of the page, which is written in the end: after minutes of listing.

    Raises:
        ConfigurationError: It cannot be written.
    """
    if file in (None, "-"):
        return
    path = Path(file)
    is_new = not path.exists()
    # Whoever reads from a pipe would take its closing for the end.
    if not path.is_fifo():
        _write(path, "", "a")
    if is_new:
        path.resolve().unlink()


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error


def _write_page(results: Iterable[Result], file: str, terminal: Terminal) -> None:
    """Write what was planned as a page; ``-`` is stdout."""
    # Few calls need it, and the template engine takes a while to load.
    from cleaner.views.page import page

    html = page(results, datetime.now(UTC), VERSION)
    if file == "-":
        terminal.write(html)
        return
    _write(Path(file), html, "w")
    terminal.note(f"page written to {file}")


def _explain(planned: Planned, which: str, options: Options, terminal: Terminal) -> None:
    manifest = find(planned.listing, which)
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
