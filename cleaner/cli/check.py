"""The command ``check``: finds the mistakes of a file of policies, and shows what they would decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from json import JSONDecodeError
from typing import Any

import msgspec

from cleaner.cli.options import Options
from cleaner.cli.plan import show_nothing, show_overview, show_plan
from cleaner.cli.policies import Policies, name_of, parse_text, read_text
from cleaner.cli.session import Session
from cleaner.cli.terminal import Terminal
from cleaner.cli.yaml_document import InvalidYaml, Position, locate
from cleaner.core.errors import CleanerError, ConfigurationError, InvalidPolicy, InvalidReference, Mistake
from cleaner.core.manifest import OCI_MANIFEST, Listing, Manifest, decode_tags_page, parse_number
from cleaner.core.pattern import capturing_groups
from cleaner.core.plan import plan
from cleaner.core.reference import Repository, parse_digest, parse_repository, parse_tag
from cleaner.core.times import parse_time
from cleaner.views import document, words
from cleaner.views.images import Planned, Result
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

# A listing of a hundred thousand images has some thirty megabytes.
_TAGS_MAX_CHARS = 256 * 1024 * 1024
# A document of JSON may be one line.
_EXCERPT_CHARS = 100


def check(options: Options, session: Session, terminal: Terminal) -> int:
    """Find all mistakes in a policies file, without a registry.

    FILE is YAML or JSON; - is stdin.  If there are no mistakes, it shows the rules of each policy and the groups that
    split their pools; with --tags, what the policies would decide.
    """
    del session
    text, name = read_text(options.file), name_of(options.file)
    try:
        found = parse_text(text, options.file, options.insecure)
    except ConfigurationError as error:
        _refuse(error, text, name, options, terminal)
        return 2
    policies = Policies(name, found, is_file=True)
    warnings = list(_warnings(policies, text))
    for warning in warnings:
        terminal.note(f"warning: {warning}")
    if options.tags is not None:
        results = list(_results(options.tags, policies, terminal))
        if len(results) != 1:
            return show_overview(results, name_of(options.tags), policies, options, terminal)
        if results[0].planned is None:
            return show_nothing(results[0], options, terminal, dry_run=True)
        show_plan(results[0].planned, options, terminal)
    elif options.output != "table":
        terminal.say(*document.to_lines(_checked(name, (), warnings), options.output))
    else:
        terminal.say(f"{name}: {words.counted(len(found), 'policy', 'policies')}, no mistakes")
        for policy in found:
            globs = ", ".join(glob.text for glob in policy.repositories)
            heading = f"{policies.where(policy)}: {globs}"
            terminal.say("", *(terminal.paint(line, "bold") for line in terminal.wrap(heading)))
            terminal.say(*terminal.wrap(words.policy_settings(policy)))
            terminal.say(*rule_table(policy, terminal.width, terminal.paint))
    return 0


def _refuse(error: ConfigurationError, text: str, name: str, options: Options, terminal: Terminal) -> None:
    """Report the mistakes of a file, each with its place."""
    mistakes: Sequence[Mistake]
    places: list[Position | None]
    cause = error.__cause__
    if isinstance(error, InvalidPolicy):
        mistakes = error.mistakes[: error.SHOWN_MAX]
        places = (
            [Position(cause.lineno, cause.colno)] if isinstance(cause, JSONDecodeError) else locate(text, mistakes)
        )
    elif isinstance(cause, InvalidYaml):
        mistakes, places = [Mistake((), f"neither JSON nor YAML: {cause.problem}")], [cause.position]
    else:
        raise error
    found = sorted(
        zip(mistakes, places, strict=True), key=lambda one: (one[1].line, one[1].column) if one[1] else (0, 0)
    )
    if options.output != "table":
        terminal.say(*document.to_lines(_checked(name, found, []), options.output))
    lines = text.splitlines()
    for mistake, place in found:
        where = f"{name}:{place.line}:{place.column}" if place else name
        steps = mistake.describe("").partition(": ")[0]
        problem = f"{mistake.problem}{f'; {mistake.correction}' if mistake.correction else ''}"
        terminal.error(f"{where}: {f'{steps}: ' if steps else ''}{problem}")
        if place and place.line <= len(lines):
            terminal.excerpt(*_excerpt(lines[place.line - 1], place))
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


def _checked(
    name: str, mistakes: Iterable[tuple[Mistake, Position | None]], warnings: Sequence[str]
) -> document.Document:
    entries = [
        {
            "line": place.line if place else None,
            "column": place.column if place else None,
            "path": list(mistake.path),
            "problem": mistake.problem,
            "correction": mistake.correction,
        }
        for mistake, place in mistakes
    ]
    return {"file": name, "valid": not entries, "mistakes": entries, "warnings": list(warnings)}


def _warnings(policies: Policies, text: str) -> Iterator[str]:
    """Yield the groups inside a repetition: they capture the last repetition only, which makes pools of that."""
    found = [
        (Mistake((at, "tagged", position, "match"), ""), pattern.pattern, group.text)
        for at, policy in enumerate(policies.policies)
        for position, rule in enumerate(policy.tagged)
        for pattern in rule.match
        for group in capturing_groups(pattern.pattern)
        if group.is_repeated
    ]
    for (mistake, regex, group), place in zip(found, locate(text, [one[0] for one in found]), strict=True):
        where = f"{policies.name}:{place.line}:{place.column}" if place else policies.name
        yield (
            f"{where}: {mistake.describe('').partition(':')[0]}: the group {group} of {regex} is inside a repetition,"
            " and pools go by its last match alone"
        )


def _results(path: str, policies: Policies, terminal: Terminal) -> Iterator[Result]:
    """Yield what the policies decide for each repository of a file of tags.

    Raises:
        ConfigurationError: The file is neither of the two kinds.
    """
    now = datetime.now(UTC)
    for listing in _listings(path, policies, terminal):
        repository = listing.repository
        policy = policies.choose(repository)
        if policy is None:
            yield Result(repository, note=f"no policy of {policies.name} matches; nothing is deleted")
        else:
            todo = plan(listing, policy, now)
            yield Result(repository, Planned(todo, listing, policy, policies.where(policy), now))


def _listings(path: str, policies: Policies, terminal: Terminal) -> list[Listing]:
    name, text = name_of(path), read_text(path, _TAGS_MAX_CHARS)
    try:
        body = json.loads(text)
        if isinstance(body, list):
            by_package: dict[str, list[Manifest]] = {}
            for entry in body:
                by_package.setdefault(entry["package"], []).append(_of_gcloud(entry))
            return [Listing.of(_repository(package), manifests) for package, manifests in by_package.items()]
        return [_of_tags_list(body, text, policies, terminal)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, CleanerError) as error:
        raise ConfigurationError(
            f"{name}: neither the body of a tags/list nor what gcloud artifacts docker images list"
            f" --include-tags --format=json prints: {type(error).__name__}: {error}"
        ) from error


def _of_gcloud(entry: dict[str, Any]) -> Manifest:
    tags = entry.get("tags") or []
    names = [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else tags
    created = entry.get("createTime")
    metadata = entry.get("metadata") or {}
    return Manifest(
        parse_digest(entry["version"]),
        OCI_MANIFEST,
        tuple(sorted({parse_tag(tag) for tag in names})),
        parse_time(created) or parse_time(f"{created}Z"),
        parse_number(metadata.get("imageSizeBytes")),
    )


def _of_tags_list(body: dict[str, Any], text: str, policies: Policies, terminal: Terminal) -> Listing:
    repository = _place(str(body["name"]), policies, terminal)
    if body.get("manifest"):
        manifests = decode_tags_page(text.encode()).manifests
        return Listing.of(
            repository,
            # What an index lists is not known, so it is judged as an image.
            (msgspec.structs.replace(one, media_type=OCI_MANIFEST) if one.is_index else one for one in manifests),
        )
    terminal.note("no upload times are known: every tag is shown as an image of unknown age, which is kept")
    given = body["tags"] or []
    if not isinstance(given, list):
        raise TypeError("tags is not an array")
    tags = list(map(parse_tag, given))
    digests = {tag: parse_digest(f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}") for tag in tags}
    return Listing.of(repository, (Manifest(digest, OCI_MANIFEST, (tag,)) for tag, digest in digests.items()))


def _place(name: str, policies: Policies, terminal: Terminal) -> Repository:
    """Return the repository of a tags/list, whose ``name`` has no host: on the first host for which a policy is."""
    hosts = [glob.text.partition("/")[0] for policy in policies.policies for glob in policy.repositories]
    places = [
        _repository(f"{host}/{name}") for host in dict.fromkeys([*hosts, "us-docker.pkg.dev"]) if "*" not in host
    ]
    for repository in places:
        if policies.choose(repository):
            return repository
    terminal.note(f"no policy of {policies.name} matches {name} on any host")
    return places[0]


def _repository(package: str) -> Repository:
    host = package.partition("/")[0]
    try:
        return parse_repository(package, {host})
    except InvalidReference as error:
        raise ValueError(f"{package!a}: {error}") from error
