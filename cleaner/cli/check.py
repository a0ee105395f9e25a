"""The command ``check``: finds the mistakes of a file of policies, and shows what they would decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from cleaner.cli.options import Options
from cleaner.cli.plan import show
from cleaner.cli.session import Session
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import ConfigurationError, InvalidPolicy
from cleaner.core.manifest import Listing
from cleaner.core.plan import plan
from cleaner.inputs.mistakes import Located, mistakes_of, repeated_groups
from cleaner.inputs.policies import Policies, flag, name_of, parse_text, read_text
from cleaner.inputs.tags import Tags, read_tags
from cleaner.inputs.yaml_document import Position
from cleaner.views import document, words
from cleaner.views.images import Planned, Result, by_saving
from cleaner.views.tables import rule_table

EPILOG = """\
Examples:
  {prog} policies.yaml
      All mistakes, with line and column; exit code 2 if there is one.
  {prog} policies.yaml --tags tags.json
      What the policies decide for these tags.  To get them:
      gcloud artifacts docker images list us-docker.pkg.dev/acme/apps/api \\
        --include-tags --format=json > tags.json
"""

# A document of JSON may be one line.
_EXCERPT_CHARS = 100


def check(options: Options, session: Session, terminal: Terminal) -> int:
    """Find all mistakes in a policies file, without a registry.

    FILE is YAML or JSON; - is stdin.  If there are no mistakes, it shows the rules of each policy and the groups that
    split their pools; with --tags, what the policies would decide.
    """
    del session
    if options.file == options.tags == "-":
        raise click.UsageError("--tags and FILE cannot both be stdin")
    text, name = read_text(options.file), name_of(options.file)
    try:
        found = parse_text(text, options.file, options.insecure)
    except ConfigurationError as error:
        _refuse(error, text, name, options, terminal)
        return 2
    policies = Policies(name, found, is_file=True)
    warnings = [one.describe(name) for one in repeated_groups(found, text)]
    for warning in warnings:
        terminal.note(f"warning: {warning}")
    if options.tags is not None:
        return _show_tags(read_tags(options.tags, policies), policies, options, terminal)
    for given in ("only", "sort", "limit", "all"):
        if getattr(options, given):
            terminal.note(f"{flag(given)} has no effect without --tags")
    if options.output != "table":
        terminal.say(*document.to_lines(_checked(name, (), warnings), options.output))
        return 0
    terminal.say(f"{name}: {words.counted(len(found), 'policy', 'policies')}, no mistakes")
    for policy in found:
        globs = ", ".join(glob.text for glob in policy.repositories)
        heading = f"{policies.where(policy)}: {globs}"
        terminal.say("", *(terminal.paint(line, "bold") for line in terminal.wrap(heading)))
        terminal.say(*terminal.wrap(words.policy_settings(policy)))
        terminal.say(*rule_table(policy, terminal.width, terminal.paint))
    return 0


def _show_tags(tags: Tags, policies: Policies, options: Options, terminal: Terminal) -> int:
    """Show what the policies decide for a file of tags, as ``plan`` would; return the exit code."""
    for note in tags.notes:
        terminal.note(note)
    now = datetime.now(UTC)
    results = by_saving(_result(listing, policies, now) for listing in tags.listings)
    if not results:
        terminal.note(policies.nothing_under(name_of(options.tags or "")))
    return show(results, options, terminal, is_one=len(results) == 1)


def _result(listing: Listing, policies: Policies, now: datetime) -> Result:
    policy = policies.choose(listing.repository)
    if policy is None:
        return Result(listing.repository, note=policies.no_match)
    return Result(
        listing.repository, Planned(plan(listing, policy, now), listing, policy, policies.where(policy), now)
    )


def _refuse(error: ConfigurationError, text: str, name: str, options: Options, terminal: Terminal) -> None:
    """Report the mistakes of a file, each with its place."""
    found = mistakes_of(error, text)
    if options.output != "table":
        terminal.say(*document.to_lines(_checked(name, found, []), options.output))
    lines = text.splitlines()
    for one in found:
        terminal.error(one.describe(name))
        if one.position and one.position.line <= len(lines):
            terminal.excerpt(*_excerpt(lines[one.position.line - 1], one.position))
    count = len(error.mistakes) if isinstance(error, InvalidPolicy) else 1
    terminal.note(f"{name}: {words.counted(count, 'mistake')}")


def _excerpt(line: str, place: Position) -> tuple[str, str]:
    """Return a line of the document, or what of it is around the place, and one that points there."""
    start = max(min(place.column - 1, len(line)) - _EXCERPT_CHARS // 2, 0) if len(line) > _EXCERPT_CHARS else 0
    shown = "".join(one if one.isprintable() else " " for one in line[start : start + _EXCERPT_CHARS])
    before = f"{place.line:>6} | "
    at = place.column - 1 - start
    indent, length = words.cells(shown[:at].ljust(at)), words.cells(shown[at : at + place.length])
    return f"{before}{shown}", f"{' ' * (len(before) - 2)}| {' ' * indent}{'^' * max(length, 1)}"


def _checked(name: str, mistakes: Iterable[Located], warnings: Sequence[str]) -> document.Document:
    entries = [
        {
            "line": one.position.line if one.position else None,
            "column": one.position.column if one.position else None,
            "path": list(one.mistake.path),
            "problem": one.mistake.problem,
            "correction": one.mistake.correction,
        }
        for one in mistakes
    ]
    return {"file": name, "valid": not entries, "mistakes": entries, "warnings": list(warnings)}
