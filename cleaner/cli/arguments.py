"""What may be said on the command line, and the help that explains it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, NoReturn, TypeVar

from cleaner.cli.policies import checked, flags_given
from cleaner.core.errors import ConfigurationError
from cleaner.core.policy import DEFAULT_KEEP, parse_duration
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

# The name that completions are for; without it installed, an alias does.
COMMAND: Final = "registry-cleaner"
_MODULE: Final = "python -m cleaner"
_SHELLS: Final = ("bash", "zsh", "tcsh")
_FILES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
# Nobody waits longer in front of a terminal, and a run has to end some day.
_TIME_LIMIT: Final = timedelta(days=1)

_T = TypeVar("_T")

_ABOUT = """\
Prunes old manifests of container repositories, by the policies of the Cloud
Function.

An image goes only if no rule keeps it: it is neither young, nor running, nor
among the newest, nor does it have a tag that a policy protects or does not
name.  What a kept image needs stays with it.
"""

_EXAMPLES = """\
examples:
  {prog} plan gcr.io/acme/api
      Show what the default policy would keep and delete.  Nothing is deleted.

  {prog} plan gcr.io/acme/api --policies policies.yaml
      The same by the function's policies.

  {prog} plan gcr.io/acme/api --policies policies.yaml --explain v1.4.2
      Tell rule by rule why one image stays or goes.

  {prog} prune gcr.io/acme/api --policies policies.yaml
      Show the plan, ask, and carry it out.

  {prog} sweep us-docker.pkg.dev/acme/apps --policies policies.yaml --dry-run
      List every repository under a root that a policy matches.

policies.yaml:
  - repositories: ["gcr.io/acme/*"]    # * within a segment, ** for several
    keep: 10                           # the newest tagged images
    delete_tags: ["main-.*", "pr-.*"]  # the only tags that may go
    protect_tags: ["v[0-9.]+"]         # tags that never go
    max_age: 90d                       # after that, not even the newest stay

exit codes:
  0    done, or nothing to do: no policy matches, no such repository
  1    something failed: permission denied, an incomplete listing, a deletion
       that failed, no answer, out of time, nothing that --explain names, a
       stdout that takes nothing
  2    a flag, a name, a setting or the policies file is invalid, or there is
       nobody to ask and no --yes: nothing was done
  130  interrupted, by Ctrl-C or SIGTERM; after a prune's first one what runs
       is finished
  141  nobody reads stdout any more, and nothing was deleted

environment:
  RUNNING_SCOPES, INSECURE_REGISTRIES, REQUESTS_TOPIC
      As for the function; --running-scopes, --insecure and --topic stand in
      for them.
  GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT, GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT
      Base URLs of the REST APIs, where they are not Google's.
  NO_COLOR, COLUMNS
      No colours; how wide a table may be.

Credentials are the application default credentials:
  gcloud auth application-default login

completion:
  eval "$({prog} --print-completion bash)"
      For the command {command}; without it installed:
      alias {command}='{module}'
"""

_PLAN = """\
Shows what would be kept and deleted, and why.  Never deletes.

An image a row, newest first.  What belongs to an image is folded under it: the
platforms of an index, signatures, attestations and other referrers; --all
unfolds them.  The reasons are those of the function's log.
"""

_PLAN_EXAMPLES = """\
examples:
  {prog} gcr.io/acme/api --keep 10 --delete-tags '.*' --protect-tags 'v[0-9.]+'
      What goes if all but the ten newest tagged images may go, and releases never.

  {prog} gcr.io/acme/api --delete-tags '.*' --group-by '(.+)-[0-9a-f]{{7}}'
      The five newest images of each branch stay, where tags are BRANCH-COMMIT.

  {prog} gcr.io/acme/api --explain 3f2a1bc0d4e5
      Why this one stays or goes, by its tag or the first four digits or more of
      its digest.

  {prog} gcr.io/acme/api --format json | jq -r '.delete[].digest'
      The digests that would go.
"""

_PRUNE = """\
Shows the plan, asks, and carries out what was shown and nothing else.

What came up after the question stays for the next time; what somebody tags,
runs or needs meanwhile stays too.  Without a terminal to ask on, --yes is
needed.  Ctrl-C lets what runs finish and says what was done; a second one ends
at once; SIGTERM is taken for Ctrl-C.  An interrupted run does no harm: whatever
is kept is whole.  An image's tags go before the image, so one that does not go
may have lost them: that is told, and the next time it is an untagged image.
"""

_PRUNE_EXAMPLES = """\
examples:
  {prog} gcr.io/acme/api --policies policies.yaml
      Show, ask, delete.

  {prog} gcr.io/acme/api --policies policies.yaml --yes --format json > done.json
      Without a question.  "delete" is what was deleted.  What was to be deleted
      and was not is in "keep", with an "outcome": refused (something needs it by
      now), failed (the registry did not delete it), kept (it, or what it belongs
      to, is kept after all), left (not begun, or not ended: no answer, no time).
      Its tags that were deleted are its "lost_tags".
"""

_SWEEP = """\
Finds every repository under a root that a policy matches, and asks for each to be pruned.

ROOT is gcr.io/PROJECT, LOCATION-docker.pkg.dev/PROJECT/REPOSITORY, or a path
under one.  The requests go to the topic that the function listens to; it
decides by its own policies and its own DRY_RUN.  Remote and virtual
repositories are left out.  With --local they are pruned from here, one after
the other.
"""

_SWEEP_EXAMPLES = """\
examples:
  {prog} gcr.io/acme --policies policies.yaml --dry-run
      List the repositories that would be asked for.

  {prog} gcr.io/acme --policies policies.yaml --topic projects/P/topics/T
      Ask the function to prune them.

  {prog} gcr.io/acme --policies policies.yaml --local --dry-run
      Tell for each how much would go.

  {prog} gcr.io/acme --policies policies.yaml --local
      Ask once, and prune them all from here.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"error: {' '.join(message.split())} ({self.prog} --help tells more)\n")


def parse(arguments: Sequence[str], environment: Mapping[str, str], program: str) -> argparse.Namespace:
    """Return the options that ``arguments`` and ``environment`` give.

    Raises:
        SystemExit: Help was asked for, or something is invalid, which has been said.
        ConfigurationError: A setting in the environment is invalid.
    """
    parser = make_parser(_MODULE if program == "__main__.py" else program)
    options, unknown = parser.parse_known_args(arguments)
    # That of the command: its help has the flags.
    refuse: Callable[[str], NoReturn] = options.refuse
    if unknown:
        refuse(f"unrecognized arguments: {' '.join(unknown)}")

    def setting(name: str, read: Callable[[str], _T], default: _T) -> _T:
        try:
            return read(environment[name]) if name in environment else default
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from error

    if options.policies is not None and flags_given(options):
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in flags_given(options))
        refuse(f"--policies and {flags} exclude one another: a policy is read from one place")
    if options.command == "plan" and options.explain is not None and options.format == "json":
        refuse("--explain tells in sentences, so --format json is nothing for it")
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
            refuse("where do the requests go: --topic projects/P/topics/T, or --local to prune from here?")
    return options


def make_parser(program: str) -> Parser:
    """Return the parser of a command that is called by the name ``program``."""
    names = {"command": COMMAND, "module": _MODULE}
    parser = Parser(
        prog=program,
        description=_ABOUT,
        epilog=_EXAMPLES.format(prog=program, **names),
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        metavar="SHELL",
        help=f"print what completes the command {COMMAND} in bash, zsh or tcsh, and leave",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def add(name: str, short: str, description: str, examples: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=short,
            description=description,
            epilog=examples.format(prog=f"{program} {name}"),
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        command.set_defaults(refuse=command.error)
        return command

    plan = add("plan", "show what would be kept and deleted, and why", _PLAN, _PLAN_EXAMPLES)
    plan.add_argument("repository", metavar="REPOSITORY", help="HOST/PATH, like gcr.io/acme/api")
    _add_policy(plan)
    what = plan.add_argument_group("what is shown")
    _add_format(what)
    what.add_argument("--all", action="store_true", help="unfold what belongs to each image")
    what.add_argument(
        "--explain",
        metavar="DIGEST|TAG",
        help="tell rule by rule why one manifest stays or goes; of a digest, the first four digits or more are"
        " enough",
    )
    _add_registry(plan)

    prune = add("prune", "show the plan, ask, and carry it out", _PRUNE, _PRUNE_EXAMPLES)
    prune.add_argument("repository", metavar="REPOSITORY", help="HOST/PATH, like gcr.io/acme/api")
    _add_policy(prune)
    what = prune.add_argument_group("what is done and shown")
    prune_yes = "do not ask; needed where there is no terminal to ask on"
    what.add_argument("--yes", "-y", action="store_true", help=prune_yes)
    what.add_argument("--dry-run", action="store_true", help="only report, as a policy with dry_run does")
    _add_format(what)
    what.add_argument("--all", action="store_true", help="unfold what belongs to each image")
    _add_registry(prune)

    sweep = add("sweep", "have every repository under a root pruned", _SWEEP, _SWEEP_EXAMPLES)
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
        help="only list the repositories; with --local, only tell how much would go",
    )
    _add_registry(sweep)
    return parser


_POLICIES_HELP = (
    "the function's policies, an array in JSON or YAML (- is stdin); the first that matches a repository decides, and"
    " what none matches is left alone"
)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "policy", "From a file, or from flags named as its keys.  Without either, the defaults."
    )
    _add_policies(group)
    group.add_argument(
        "--keep",
        type=_key("keep", _integer),
        metavar="N",
        help=f"the N newest tagged images stay, of each group, 1 or more (default: {DEFAULT_KEEP})",
    )
    group.add_argument(
        "--keep-untagged",
        type=_key("keep_untagged", _integer),
        metavar="N",
        help="the N newest untagged images stay, 0 or more (default: as --keep)",
    )
    group.add_argument(
        "--min-age",
        type=_key("min_age", str),
        metavar="DURATION",
        help="what was uploaded less than this ago stays, 10m or more, in s, m, h, d, w: 1h30m (default: 1h)",
    )
    group.add_argument(
        "--max-age",
        type=_key("max_age", str),
        metavar="DURATION",
        help="what was uploaded this long ago no longer stays for being among the newest (default: off)",
    )
    group.add_argument(
        "--delete-tags",
        type=_key("delete_tags", lambda text: [text]),
        action="extend",
        metavar="REGEX",
        help="a tagged image may go only if each of its tags matches one of these whole, in RE2's syntax; may be"
        " given more than once (default: none, tagged images stay)",
    )
    group.add_argument(
        "--protect-tags",
        type=_key("protect_tags", lambda text: [text]),
        action="extend",
        metavar="REGEX",
        help="what has a tag that matches one of these stays; may be given more than once (default: none)",
    )
    group.add_argument(
        "--group-by",
        type=_key("group_by", str),
        metavar="REGEX",
        help="--keep counts for each value of this one's groups in parentheses (default: all tagged images are one)",
    )
    group.add_argument(
        "--max-deletions",
        type=_key("max_deletions", _integer),
        metavar="N",
        help="at most N images and orphans go, oldest first, 1 or more (default: no limit)",
    )


def _add_policies(container: argparse._ActionsContainer, *, required: bool = False) -> None:
    action = container.add_argument(
        "--policies", type=_valid(_file), metavar="FILE", required=required, help=_POLICIES_HELP
    )
    # What shtab looks for, spelled as its constant FILE, which is there only where shtab is.
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
        help="after this long no further deletion begins; seconds, or 90m, 1h30m (default: 1d)",
    )
    group.add_argument(
        "--insecure",
        type=_valid(parse_insecure_registries),
        action="append",
        metavar="HOST:PORT",
        help="registries that are spoken to over plain HTTP and without credentials; comma separated, or given more"
        " than once (default: INSECURE_REGISTRIES)",
    )
    group.add_argument(
        "--running-scopes",
        type=_valid(parse_scopes),
        action="append",
        metavar="SCOPE",
        help="projects/P, folders/N or organizations/N, comma separated: what is deployed there stays, as Cloud Asset"
        " Inventory knows it (default: RUNNING_SCOPES, or nobody is asked)",
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
        # Square brackets are meant as they stand.
        text_markup = help_markup = usage_markup = False
        group_name_formatter = str.capitalize

    return Formatter(prog)


def _valid(parse_value: Callable[[str], _T]) -> Callable[[str], _T]:
    """Return a parser of settings as one of flags: argparse shows only its own error's text."""

    def parse_flag(text: str) -> _T:
        try:
            return parse_value(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_flag


def _key(key: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Return a parser of the flag named as a policy's key, as strict as the policy's own."""
    return lambda text: checked(key, read(text))


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be an integer, not {text!r}")
    return int(text)


def _file(text: str) -> str:
    # A shell's variable that is not set, and to Python the name of the folder.
    if not text:
        raise ValueError("must be the name of a file, or - for stdin")
    return text


def _time_limit(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]{1,9}", text) else parse_duration(text).total_seconds()
    # A wait of more than some centuries is none that Python could begin.
    if not 0 < seconds <= timedelta(days=3650).total_seconds():
        raise ValueError(f"must be longer than nothing and at most ten years, not {text!r}")
    return seconds
