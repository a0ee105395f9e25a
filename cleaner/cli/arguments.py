"""The commands and flags of the command line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, NoReturn, TypeVar

from cleaner.cli import help_text
from cleaner.cli.policies import flag_of, flags_given, policy_of_flags
from cleaner.core.duration import Duration
from cleaner.core.errors import ConfigurationError, InvalidPolicy, Mistake
from cleaner.core.policy import DEFAULT_KEEP, DEFAULT_MIN_AGE
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

# The command that completions are for.
COMMAND: Final = "registry-cleaner"
_MODULE: Final = "python -m cleaner"
_SHELLS: Final = ("bash", "zsh", "tcsh")
_FILES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
# Longer than anyone waits for a command; a run must end at some time.
_TIME_LIMIT: Final = timedelta(days=1)

# No tag has a slash.
_REPOSITORY_LIKE: Final = re.compile(r"[a-z0-9.:-]+(/[a-z0-9._-]+)+")

_T = TypeVar("_T")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Report one error and exit with code 2."""
        self.refuse([message])

    def refuse(self, messages: Sequence[str]) -> NoReturn:
        """Report errors, one a line, and exit with code 2."""
        lines = "\n".join(f"error: {' '.join(message.split())}" for message in messages)
        self.exit(2, f"{lines} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str], environment: Mapping[str, str], program: str) -> argparse.Namespace:
    """Return the options that ``arguments`` and ``environment`` give.

    Raises:
        SystemExit: Help was printed, or an argument is invalid, which was reported.
        ConfigurationError: A setting in the environment is invalid.
    """
    parser = make_parser(_MODULE if program == "__main__.py" else program)
    options, unknown = parser.parse_known_args(arguments)
    # The parser of the command: its help has the flags.
    command: Parser = options.parser
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")

    def setting(name: str, read: Callable[[str], _T], default: _T) -> _T:
        try:
            return read(environment[name]) if name in environment else default
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from error

    _check_policy(options, command)
    if options.command == "plan" and options.explain is not None and options.format == "json":
        command.error("--explain does not support --format json")
    insecure: list[frozenset[str]] = options.insecure or [
        setting("INSECURE_REGISTRIES", parse_insecure_registries, frozenset[str]())
    ]
    options.insecure = frozenset().union(*insecure)
    no_scopes: tuple[str, ...] = ()
    scopes: list[tuple[str, ...]] = options.running_scopes or [setting("RUNNING_SCOPES", parse_scopes, no_scopes)]
    options.running_scopes = tuple(dict.fromkeys(scope for some in scopes for scope in some))
    options.artifact_registry_url = setting(
        "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", base_url, ARTIFACT_REGISTRY_URL
    )
    options.cloud_asset_url = setting("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", base_url, CLOUD_ASSET_URL)
    if options.command == "sweep":
        if options.topic is None:
            options.topic = setting("REQUESTS_TOPIC", parse_topic, "")
        if not (options.topic or options.local or options.dry_run):
            command.error("specify --topic projects/P/topics/T, or --local to prune from here")
    return options


def _check_policy(options: argparse.Namespace, command: Parser) -> None:
    """Refuse flags for one rule that are invalid, or given beside a file."""
    flags = flags_given(options)
    if flags and options.policies is not None:
        command.error(f"--policies cannot be combined with {', '.join(flags)}")
    if flags:
        try:
            policy_of_flags(options)
        except InvalidPolicy as error:
            command.refuse([f"argument {flag_of(one)}: {_sentence(one)}" for one in error.mistakes])


def make_parser(program: str) -> Parser:
    """Return the parser of a command that is called by the name ``program``."""
    names = {"command": COMMAND, "module": _MODULE}
    parser = Parser(
        prog=program,
        description=help_text.ABOUT,
        epilog=help_text.EXAMPLES.format(prog=program, **names),
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        metavar="SHELL",
        help=f"print the completion script of the command {COMMAND} for bash, zsh or tcsh",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def add(name: str, short: str, description: str, examples: str) -> Parser:
        command = commands.add_parser(
            name,
            help=short,
            description=description,
            epilog=examples.format(prog=f"{program} {name}"),
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        command.set_defaults(parser=command)
        return command

    plan = add("plan", "show what would be kept and deleted, and why", help_text.PLAN, help_text.PLAN_EXAMPLES)
    plan.add_argument("repository", metavar="REPOSITORY", help="HOST/PATH, like gcr.io/acme/api")
    _add_policy(plan)
    what = plan.add_argument_group("what is shown")
    _add_format(what)
    what.add_argument("--all", action="store_true", help="unfold what belongs to each image")
    what.add_argument(
        "--explain",
        metavar="DIGEST|TAG",
        help="explain rule by rule why one manifest is kept or deleted; of a digest, the first four digits or more"
        " are enough",
    )
    _add_registry(plan)

    prune = add("prune", "show the plan, ask, and carry it out", help_text.PRUNE, help_text.PRUNE_EXAMPLES)
    prune.add_argument("repository", metavar="REPOSITORY", help="HOST/PATH, like gcr.io/acme/api")
    _add_policy(prune)
    what = prune.add_argument_group("what is done and shown")
    prune_yes = "do not ask; required without a terminal"
    what.add_argument("--yes", "-y", action="store_true", help=prune_yes)
    what.add_argument("--dry-run", action="store_true", help="only report, as a policy with dry_run does")
    _add_format(what)
    what.add_argument("--all", action="store_true", help="unfold what belongs to each image")
    _add_registry(prune)

    sweep = add(
        "sweep", "request that every repository under a root is pruned", help_text.SWEEP, help_text.SWEEP_EXAMPLES
    )
    sweep.add_argument("repository", metavar="ROOT", help="like gcr.io/acme or us-docker.pkg.dev/acme/apps")
    _add_policies(sweep, required=True)
    how = sweep.add_argument_group("what is done")
    where = how.add_mutually_exclusive_group()
    topic_help = "where the requests are published (default: REQUESTS_TOPIC)"
    where.add_argument("--topic", type=_valid(parse_topic), metavar="projects/P/topics/T", help=topic_help)
    where.add_argument("--local", action="store_true", help="prune them from here, one after the other")
    how.add_argument("--yes", "-y", action="store_true", help=f"with --local: {prune_yes}")
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="only list the repositories; with --local, only show how much would be deleted",
    )
    _add_registry(sweep)
    return parser


def _add_policy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "policy",
        "From a file, or one rule for tags from flags named as its keys.\nWithout either, the default policy.",
    )
    _add_policies(group)
    group.add_argument(
        "--match",
        nargs="+",
        type=_valid(_regex),
        action="extend",
        metavar="REGEX",
        help="the tags that the rule is for; each regex, in RE2's syntax, is matched against the whole tag, and"
        " --keep counts for each value of its groups; tags that none matches are kept (default: .* with --keep,"
        " --keep-within or --delete-after)",
    )
    group.add_argument(
        "--keep",
        metavar="N|all",
        help="the newest N images are kept (default: 0 with --keep-within, else all)",
    )
    group.add_argument(
        "--keep-within",
        metavar="DURATION",
        help="images uploaded less than this ago are kept as well; like 90m, 1h30m, 30d, 4w (default: off)",
    )
    group.add_argument(
        "--delete-after",
        metavar="DURATION",
        help="images uploaded this long ago or longer are not kept by the rule, even as the newest (default: off)",
    )
    group.add_argument(
        "--keep-untagged",
        metavar="N|all",
        help=f"the newest N images without a tag are kept (default: {DEFAULT_KEEP})",
    )
    group.add_argument(
        "--min-age",
        metavar="DURATION",
        help=f"what was uploaded less than this ago is never deleted, 10m or more (default: {DEFAULT_MIN_AGE})",
    )
    group.add_argument(
        "--max-deletions",
        metavar="N",
        help="at most N images and orphans are deleted, the oldest first, 1 or more (default: no limit)",
    )


def _add_policies(container: argparse._ActionsContainer, *, required: bool = False) -> None:
    action = container.add_argument(
        "--policies", type=_valid(_file), metavar="FILE", required=required, help=help_text.POLICIES
    )
    # The value of shtab.FILE, without an import of shtab, which may not be installed.
    action.complete = _FILES  # type: ignore[attr-defined]


def _add_format(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="a table, or one JSON document on stdout (default: table)",
    )


def _add_registry(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is done")
    group.add_argument(
        "--workers",
        type=_valid(parse_workers),
        default=DEFAULT_WORKERS,
        metavar="N",
        help=f"requests at the same time, 1 to {MAX_WORKERS} (default: {DEFAULT_WORKERS})",
    )
    group.add_argument(
        "--time-limit",
        type=_valid(_time_limit),
        default=_TIME_LIMIT.total_seconds(),
        metavar="DURATION",
        help="no further deletion begins after this long; seconds, or 90m, 1h30m (default: 1d)",
    )
    group.add_argument(
        "--insecure",
        type=_valid(parse_insecure_registries),
        action="append",
        metavar="HOST:PORT",
        help="registries that get plain HTTP requests without credentials; comma separated, or given more than once"
        " (default: INSECURE_REGISTRIES)",
    )
    group.add_argument(
        "--running-scopes",
        type=_valid(parse_scopes),
        action="append",
        metavar="SCOPE",
        help="projects/P, folders/N or organizations/N, comma separated: what Cloud Asset Inventory lists as deployed"
        " there is kept (default: RUNNING_SCOPES, or not checked)",
    )
    group.add_argument(
        "--log-level",
        choices=_LEVELS,
        help="write the function's log to stderr, a JSON object a line, instead of a progress bar; a prune that"
        " deletes and sweep --local have one, plan and a prune's --dry-run none (default: no log)",
    )


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        del namespace, option_string
        try:
            import shtab
        except ImportError:
            parser.error("completion needs shtab: pip install shtab")
        sys.stdout.write(f"{shtab.complete(make_parser(COMMAND), str(values))}\n")
        parser.exit()


def _formatter(prog: str) -> argparse.HelpFormatter:
    try:
        from rich_argparse import RawDescriptionRichHelpFormatter
    except ImportError:
        return argparse.RawDescriptionHelpFormatter(prog)

    class Formatter(RawDescriptionRichHelpFormatter):
        # Square brackets are no markup here.
        text_markup = help_markup = usage_markup = False
        group_name_formatter = str.capitalize

    return Formatter(prog)


def _valid(parse_value: Callable[[str], _T]) -> Callable[[str], _T]:
    """Return a parser of settings as one of flags: argparse shows the text of its own errors only."""

    def parse_flag(text: str) -> _T:
        try:
            return parse_value(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_flag


def _sentence(mistake: Mistake) -> str:
    return f"{mistake.problem}{f'; {mistake.correction}' if mistake.correction else ''}"


def _regex(text: str) -> str:
    # --match takes all values up to the next flag.
    if _REPOSITORY_LIKE.fullmatch(text):
        raise ValueError(f"{text!a} looks like a REPOSITORY; write that before --match")
    return text


def _file(text: str) -> str:
    # An unset variable of a shell; Python takes it for the working directory.
    if not text:
        raise ValueError("must be the name of a file, or - for stdin")
    return text


def _time_limit(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]{1,9}", text) else Duration.parse(text).value.total_seconds()
    # Python cannot wait for some centuries.
    if not 0 < seconds <= timedelta(days=3650).total_seconds():
        raise ValueError(f"must be more than 0 seconds and at most ten years, not {text!r}")
    return seconds
