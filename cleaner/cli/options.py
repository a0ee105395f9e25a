"""The options of the commands, and how they are parsed and shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar

import click
import msgspec

from cleaner.core.duration import Duration
from cleaner.core.errors import ConfigurationError, InvalidPolicy
from cleaner.core.policy import DEFAULT_KEEP, DEFAULT_MIN_AGE
from cleaner.inputs.policies import FLAG_KEYS, Policies, flag, flag_of, local_hosts, policies_of, policy_of_flags
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

_T = TypeVar("_T")
Decorated = Callable[..., Any]
Decorator = Callable[[Decorated], Decorated]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a command was given; each field is the option of the same name, and what a command has not is empty."""

    targets: tuple[str, ...] = ()
    file: str = ""
    policies: str | None = None
    match: tuple[str, ...] = ()
    keep: str | None = None
    keep_within: str | None = None
    delete_after: str | None = None
    keep_untagged: str | None = None
    min_age: str | None = None
    max_deletions: str | None = None
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

        given = {key: value for key, value in context.params.items() if value is not None}
        no_hosts: frozenset[str] = frozenset()
        hosts = given.pop("insecure", ()) or [setting("INSECURE_REGISTRIES", parse_insecure_registries, no_hosts)]
        named = local_hosts(" ".join(given.get("targets", ())))
        no_scopes: tuple[str, ...] = ()
        scopes = given.pop("running_scopes", ()) or [setting("RUNNING_SCOPES", parse_scopes, no_scopes)]
        if "topic" in context.params and "topic" not in given:
            given["topic"] = setting("REQUESTS_TOPIC", parse_topic, "")
        options = cls(
            **given,
            insecure=named.union(*hosts),
            running_scopes=tuple(dict.fromkeys(scope for some in scopes for scope in some)),
            artifact_registry_url=setting(
                "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", base_url, ARTIFACT_REGISTRY_URL
            ),
            cloud_asset_url=setting("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", base_url, CLOUD_ASSET_URL),
        )
        options._check_flags(context)
        return options

    @property
    def flags(self) -> dict[str, object]:
        """The options for one rule that were given, by key."""
        values = {key: getattr(self, key) for key in FLAG_KEYS}
        return {
            key: list(value) if key == "match" else value for key, value in values.items() if value not in (None, ())
        }

    def chosen_policies(self, *, is_required: bool = False) -> Policies:
        """Return the policies that decide.

        Raises:
            ConfigurationError: They cannot be read, or are invalid, or there are none and they are required.
        """
        policies = policies_of(self.policies, self.flags, self.insecure)
        if is_required and policies.is_default:
            raise ConfigurationError(
                "no policies: use --policies FILE or the options for one rule, or create policies.yaml"
            )
        return policies

    def _check_flags(self, context: click.Context) -> None:
        """Refuse options for one rule that are invalid, or given beside a file."""
        flags = self.flags
        if flags and self.policies is not None:
            raise click.UsageError(f"--policies cannot be combined with {', '.join(map(flag, flags))}", context)
        try:
            policy_of_flags(flags)
        except InvalidPolicy as error:
            lines = (f"{flag_of(one)}: {one.text}" for one in error.mistakes)
            raise click.UsageError("\n".join(lines), context) from error


class Option(click.Option):
    """An option that the help shows in a section."""

    def __init__(self, *args: Any, section: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class Command(click.Command):
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

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, at the margin and as they are."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog.replace("{prog}", ctx.command_path).removesuffix("\n"))


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


class File(click.ParamType[str]):
    """The name of a file, which a shell completes; ``-`` is stdin or stdout."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        # An unset variable of a shell; Python takes it for the working directory.
        if not value:
            self.fail("must be the name of a file, or -", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Let the shell complete it."""
        del ctx, param
        return [click.shell_completion.CompletionItem(incomplete, type="file")]


def options(*decorators: Decorator) -> Decorator:
    """Return the decorators as one, so that the first one's options are the first in the help."""

    def decorate(function: Decorated) -> Decorated:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def option(section: str, names: str, metavar: str | None, text: str, **settings: Any) -> Decorator:
    """Return a decorator that adds an option to a section of the help; a flag has no ``metavar``."""
    settings |= {"is_flag": True} if metavar is None else {"metavar": metavar}
    return click.option(*names.split(), cls=Option, section=section, help=text, **settings)


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


_policy = partial(option, "policy")
_shown = partial(option, "what is shown")
_done = partial(option, "what is done")
_how = partial(option, "how it is done")

POLICY = options(
    _policy(
        "-p --policies",
        "FILE",
        "The policies, an array in YAML or JSON; - is stdin.  Default: policies.yaml, if there is one here.",
        type=File(),
    ),
    _policy(
        "--match",
        "REGEX...",
        "One rule instead of a file: an RE2 regex for the whole tag, or several.  Other tags are kept.  Default: .*"
        " with --keep, --keep-within or --delete-after.",
        multiple=True,
    ),
    _policy(
        "--keep",
        "N|all",
        "Keep the newest N images, separately for each text that the regex's groups capture.  Default: 0 with"
        " --keep-within, else all.",
    ),
    _policy(
        "--keep-within",
        "DURATION",
        "Also keep images uploaded less than this ago: 90m, 1h30m, 30d, 4w.  Default: off.",
    ),
    _policy(
        "--delete-after",
        "DURATION",
        "Do not keep images uploaded this long ago or longer, even as the newest.  Default: off.",
    ),
    _policy("--keep-untagged", "N|all", f"Keep the newest N images without a tag.  Default: {DEFAULT_KEEP}."),
    _policy(
        "--min-age",
        "DURATION",
        f"Never delete what was uploaded less than this ago, 10m or more.  Default: {DEFAULT_MIN_AGE}.",
    ),
    _policy("--max-deletions", "N", "Delete at most N images and orphans, the oldest first.  Default: no limit."),
)

OUTPUT = _shown(
    "-o --output",
    "table|json|jsonl",
    "A table, one JSON document, or one document a line.  Default: table.",
    type=click.Choice(("table", "json", "jsonl")),
    default="table",
)
ALL = _shown("-a --all", None, "Also show what belongs to each image.")
SHOWN = options(
    OUTPUT,
    ALL,
    _shown("--only", "keep|delete", "Only images that are kept, or deleted.", type=click.Choice(("keep", "delete"))),
    _shown(
        "--sort",
        "age|size|name",
        "The oldest, the largest, or by tag.  Default: the newest first; repositories: the largest saving.",
        type=click.Choice(("age", "size", "name")),
    ),
    _shown("--limit", "N", "Only the first N rows.  Default: all.", type=Parsed("N", _positive)),
)
HTML = _shown(
    "--html",
    "FILE",
    "Also write a self-contained HTML page; - writes it to stdout instead of the table.",
    type=File(),
)
EXPLAIN = _shown(
    "--explain",
    "DIGEST|TAG",
    "Explain rule by rule why one manifest is kept or deleted; of a digest, the first four digits or more are"
    " enough.",
)
TAGS = _shown(
    "--tags",
    "FILE",
    "Show what the policies decide for the tags in FILE: the body of a tags/list, or what gcloud artifacts docker"
    " images list --include-tags --format=json prints.  Each entry is an image.",
    type=File(),
)

YES = _done("-y --yes", None, "Do not ask; required without a terminal.")
DRY_RUN = _done("--dry-run", None, "Only show what would be done.")
WHERE = options(
    _done(
        "--topic",
        "projects/P/topics/T",
        "Where the requests are published.  Default: REQUESTS_TOPIC.",
        type=Parsed("TOPIC", parse_topic),
    ),
    _done("--local", None, "Prune them from here, one after the other."),
)

INSECURE = _how(
    "--insecure",
    "HOST:PORT",
    "Registries to contact over plain HTTP without credentials; comma separated, or repeated.  localhost and"
    " 127.0.0.1 need no option.  Default: INSECURE_REGISTRIES.",
    type=Parsed("HOST:PORT", parse_insecure_registries),
    multiple=True,
)
VERBOSITY = options(
    _how("-q --quiet", None, "Only results, errors and the question."),
    _how(
        "-v --verbose",
        "",
        "Write the log to stderr, a JSON object a line, instead of progress; -vv: also what is kept.",
        count=True,
    ),
)
CONNECTION = options(
    _how(
        "--workers",
        "N",
        f"Requests at the same time, 1 to {MAX_WORKERS}.  Default: {DEFAULT_WORKERS}.",
        type=Parsed("N", parse_workers),
        default=str(DEFAULT_WORKERS),
    ),
    _how(
        "--time-limit",
        "DURATION",
        "Begin no further deletion after this long: seconds, 90m, 1h30m.  Default: 1d.",
        type=Parsed("DURATION", _time_limit),
        default=str(int(_TIME_LIMIT.total_seconds())),
    ),
    INSECURE,
    _how(
        "--running-scopes",
        "SCOPE",
        "projects/P, folders/N or organizations/N, comma separated: keep what Cloud Asset Inventory lists as deployed"
        " there.  Default: RUNNING_SCOPES, or not checked.",
        type=Parsed("SCOPE", parse_scopes),
        multiple=True,
    ),
    VERBOSITY,
)
