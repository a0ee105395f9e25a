"""The options of the commands, and how they are parsed and shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

import click
import msgspec
from click.core import ParameterSource

from cleaner.core.duration import Duration
from cleaner.core.errors import ConfigurationError, InvalidPolicy
from cleaner.core.policy import DEFAULT_KEEP, DEFAULT_MIN_AGE, Policy
from cleaner.inputs.policies import FLAG_KEYS, Policies, flag, flag_problem, local_hosts, policies_of, policy_of_flags
from cleaner.settings import (
    ARTIFACT_REGISTRY_URL,
    CLOUD_ASSET_URL,
    DEFAULT_WORKERS,
    MAX_WORKERS,
    base_url,
    parse_insecure_registries,
    parse_scopes,
    parse_topic,
    parse_workers,
)

# Longer than anyone waits for a command; a run must end at some time.
_TIME_LIMIT = timedelta(days=1)
# No tag has a slash.
_TARGET_LIKE = re.compile(r"[a-z0-9.:-]+(/[a-z0-9._-]+)+/?|[a-z0-9.:-]+/")
# What an option, or one with this value, leaves no room for.
_EXCLUSIVE: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    ("policies", None, FLAG_KEYS),
    ("topic", None, ("local",)),
    ("explain", None, ("only", "sort", "limit", "all")),
    ("html", "-", ("explain", "output", "only", "sort", "limit", "all")),
)

_T = TypeVar("_T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a command was given; each field is the option of the same name, and what a command has not is empty.

    ``one_rule`` is the policy of the options for one rule; None without any.
    """

    targets: tuple[str, ...] = ()
    file: str = ""
    policies: str | None = None
    one_rule: Policy | None = None
    output: Literal["table", "json", "jsonl"] = "table"
    only: Literal["keep", "delete"] | None = None
    sort: Literal["age", "size", "name"] | None = None
    limit: int | None = None
    all: bool = False
    explain: str | None = None
    html: str | None = None
    tags: str | None = None
    yes: bool = False
    dry_run: bool = False
    topic: str = ""
    local: bool = False
    workers: int = DEFAULT_WORKERS
    time_limit: float = _TIME_LIMIT.total_seconds()
    insecure: frozenset[str] = frozenset()
    running_scopes: tuple[str, ...] = ()
    artifact_registry_url: str = ARTIFACT_REGISTRY_URL
    cloud_asset_url: str = CLOUD_ASSET_URL
    quiet: bool = False
    verbose: int = 0

    @classmethod
    def of(cls, context: click.Context, environment: Mapping[str, str]) -> Options:
        """Return what a command was given, and the settings in ``environment``.

        Raises:
            click.UsageError: A value is invalid, or options contradict each other.
            ConfigurationError: A setting in the environment is invalid.
        """

        def setting(name: str, read: Callable[[str], _T], default: _T) -> _T:
            try:
                return read(environment[name]) if name in environment else default
            except ValueError as error:
                raise ConfigurationError(f"{name}: {error}") from error

        _check_exclusive(context)
        given = {key: value for key, value in context.params.items() if value is not None}
        one_rule = _one_rule({key: given.pop(key) for key in FLAG_KEYS if key in given}, context)
        hosts = given.pop("insecure", ()) or [
            setting("INSECURE_REGISTRIES", parse_insecure_registries, frozenset[str]())
        ]
        named = local_hosts(" ".join(given.get("targets", ())))
        scopes = given.pop("running_scopes", ()) or [setting("RUNNING_SCOPES", parse_scopes, tuple[str, ...]())]
        if "topic" in context.params and "topic" not in given:
            given["topic"] = setting("REQUESTS_TOPIC", parse_topic, "")
        return cls(
            **given,
            one_rule=one_rule,
            insecure=named.union(*hosts),
            running_scopes=tuple(dict.fromkeys(scope for some in scopes for scope in some)),
            artifact_registry_url=setting(
                "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", base_url, ARTIFACT_REGISTRY_URL
            ),
            cloud_asset_url=setting("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", base_url, CLOUD_ASSET_URL),
        )

    def chosen_policies(self, *, is_required: bool = False) -> Policies:
        """Return the policies that decide.

        Raises:
            ConfigurationError: They cannot be read, or are invalid, or there are none and they are required.
        """
        policies = policies_of(self.policies, self.one_rule, self.insecure)
        if is_required and policies.is_default:
            raise ConfigurationError(
                "no policies: use --policies FILE or the options for one rule, or create policies.yaml"
            )
        return policies


def _check_exclusive(context: click.Context) -> None:
    """Refuse options of which one would have no effect."""
    given = {key for key in context.params if context.get_parameter_source(key) is ParameterSource.COMMANDLINE}
    for key, value, others in _EXCLUSIVE:
        useless = [flag(other) for other in others if other in given]
        if key in given and value in (None, context.params[key]) and useless:
            name = flag(key) if value is None else f"{flag(key)} {value}"
            raise click.UsageError(f"{name} cannot be combined with {', '.join(useless)}", context)


def _one_rule(flags: Mapping[str, object], context: click.Context) -> Policy | None:
    """Return the policy of the options for one rule that were given."""
    flags = {key: [*value] if isinstance(value, tuple) else value for key, value in flags.items() if value != ()}
    try:
        return policy_of_flags(flags) if flags else None
    except InvalidPolicy as error:
        raise click.UsageError("\n".join(map(flag_problem, error.mistakes)), context) from error


class Option(click.Option):
    """An option that the help shows in a section; one without a metavar behind its names is a flag, or counted."""

    def __init__(self, section: str, usage: str, text: str, **settings: Any) -> None:
        names = [word for word in usage.split() if word.startswith("-")]
        metavar = usage.removeprefix(" ".join(names)).strip()
        is_flag = None if metavar or settings.get("count") else True
        super().__init__(names, metavar=metavar, help=text, is_flag=is_flag, **settings)
        self.section = section


class Help(click.Command):
    """A command whose help ends with examples, at the margin and as they are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        formatter.write_paragraph()
        formatter.write((self.epilog or "").replace("{prog}", ctx.command_path).removesuffix("\n"))


class Command(Help):
    """A command whose help has the options in sections, and in which ``--match`` takes several values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, list(_with_match_repeated(args)))
        except click.UsageError as error:
            # Click leaves it out of an option without its value.
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # The text explains the arguments.
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", ""), []).append(record)
        for section in sections:
            with formatter.section(click.style(section.capitalize() or "Help", bold=True)):
                formatter.write_dl(sections[section])


def _with_match_repeated(args: Sequence[str]) -> Iterable[str]:
    """Write ``--match A B`` as ``--match A --match B``: all values up to an option, or to what names a target."""
    is_open, is_first = False, False
    for at, arg in enumerate(args):
        if arg == "--":
            yield from args[at:]
            return
        if is_open and not is_first:
            if (arg.startswith("-") and arg != "-") or _TARGET_LIKE.fullmatch(arg):
                is_open = False
            else:
                yield "--match"
        is_first = arg == "--match"
        is_open = is_open or is_first
        yield arg


class Parsed(click.ParamType[Any]):
    """A value that a function parses; the text of its ``ValueError`` says what is wrong."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class File(click.Path):
    """The name of a file, which a shell completes; ``-`` is stdin or stdout."""

    def __init__(self) -> None:
        super().__init__(allow_dash=True, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name."""
        # An unset variable of a shell; Python takes it for the working directory.
        if not value:
            self.fail("must be the name of a file, or -", param, ctx)
        return super().convert(value, param, ctx)


def _positive(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ValueError(f"must be a number of at least 1, not {text!r}")
    return int(text)


def _time_limit(text: str) -> float:
    try:
        seconds = float(text) if re.fullmatch(r"[0-9]+", text) else Duration.parse(text).value.total_seconds()
    except ValueError as error:
        raise ValueError(f"must be seconds, or a duration like 90m or 1h30m, not {text!r}") from error
    # Python cannot wait for some centuries.
    if not 0 < seconds <= timedelta(days=3650).total_seconds():
        raise ValueError(f"must be more than 0 seconds and at most ten years, not {text!r}")
    return seconds


POLICY = [
    Option(
        "policy",
        "-p --policies FILE",
        "The policies, an array in YAML or JSON; - is stdin.  Default: policies.yaml, if there is one here.",
        type=File(),
    ),
    Option(
        "policy",
        "--match REGEX...",
        "One rule instead of a file: an RE2 regex for the whole tag, or several.  Other tags are kept.  Default: .*"
        " with --keep, --keep-within or --delete-after.",
        multiple=True,
    ),
    Option(
        "policy",
        "--keep N|all",
        "Keep the newest N images in each pool: images with the same captured groups.  Default: all,"
        " or 0 with --keep-within.",
    ),
    Option(
        "policy",
        "--keep-within DURATION",
        "Also keep images uploaded less than this ago: 90m, 1h30m, 30d, 4w.  Default: off.",
    ),
    Option(
        "policy",
        "--delete-after DURATION",
        "Delete matching images of this age or older, also the newest.  Default: off.",
    ),
    Option("policy", "--keep-untagged N|all", f"Keep the newest N images without a tag.  Default: {DEFAULT_KEEP}."),
    Option(
        "policy",
        "--min-age DURATION",
        f"Never delete what was uploaded less than this ago, 10m or more.  Default: {DEFAULT_MIN_AGE}.",
    ),
    Option(
        "policy", "--max-deletions N", "Delete at most N images and orphans, the oldest first.  Default: no limit."
    ),
]

OUTPUT = Option(
    "what is shown",
    "-o --output table|json|jsonl",
    "A table, one JSON document, or one document a line.  Default: table.",
    type=click.Choice(("table", "json", "jsonl")),
    default="table",
)
ALL = Option("what is shown", "-a --all", "Also show what belongs to each image.")
SHOWN = [
    OUTPUT,
    ALL,
    Option(
        "what is shown",
        "--only keep|delete",
        "Only images that are kept, or deleted.",
        type=click.Choice(("keep", "delete")),
    ),
    Option(
        "what is shown",
        "--sort age|size|name",
        "The oldest, the largest, or by tag.  Default: the newest first; repositories: the largest saving.",
        type=click.Choice(("age", "size", "name")),
    ),
    Option("what is shown", "--limit N", "Only the first N rows.  Default: all.", type=Parsed("N", _positive)),
]
HTML = Option(
    "what is shown",
    "--html FILE",
    "Also write a self-contained HTML page; - writes it to stdout instead of the table.",
    type=File(),
)
EXPLAIN = Option(
    "what is shown",
    "--explain DIGEST|TAG",
    "Explain rule by rule why one manifest is kept or deleted; of a digest, the first four digits or more are"
    " enough.",
)
TAGS = Option(
    "what is shown",
    "--tags FILE",
    "Show what the policies decide for the tags in FILE: the body of a tags/list, or what gcloud artifacts docker"
    " images list --include-tags --format=json prints.  Each entry is an image.",
    type=File(),
)

YES = Option("what is done", "-y --yes", "Do not ask; required without a terminal.")
DRY_RUN = Option("what is done", "--dry-run", "Only show what would be done.")
WHERE = [
    Option(
        "what is done",
        "--topic projects/P/topics/T",
        "Where the requests are published.  Default: REQUESTS_TOPIC.",
        type=Parsed("TOPIC", parse_topic),
    ),
    Option("what is done", "--local", "Prune them from here, one after the other."),
]

INSECURE = Option(
    "how it is done",
    "--insecure HOST:PORT",
    "Registries to contact over plain HTTP without credentials; comma separated, or repeated.  localhost and"
    " 127.0.0.1 need no option.  Default: INSECURE_REGISTRIES.",
    type=Parsed("HOST:PORT", parse_insecure_registries),
    multiple=True,
)
VERBOSITY = [
    Option("how it is done", "-q --quiet", "Only results, errors and the question."),
    Option(
        "how it is done",
        "-v --verbose",
        "Write the log to stderr, a JSON object a line, instead of progress; -vv: also what is kept.",
        count=True,
    ),
]
CONNECTION = [
    Option(
        "how it is done",
        "--workers N",
        f"Requests at the same time, 1 to {MAX_WORKERS}.  Default: {DEFAULT_WORKERS}.",
        type=Parsed("N", parse_workers),
        default=str(DEFAULT_WORKERS),
    ),
    Option(
        "how it is done",
        "--time-limit DURATION",
        "Begin no further deletion after this long: seconds, 90m, 1h30m.  Default: 1d.",
        type=Parsed("DURATION", _time_limit),
        default=str(int(_TIME_LIMIT.total_seconds())),
    ),
    INSECURE,
    Option(
        "how it is done",
        "--running-scopes SCOPE",
        "projects/P, folders/N or organizations/N, comma separated: keep what Cloud Asset Inventory lists as deployed"
        " there.  Default: RUNNING_SCOPES, or not checked.",
        type=Parsed("SCOPE", parse_scopes),
        multiple=True,
    ),
    *VERBOSITY,
]
