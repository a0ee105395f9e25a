"""The main function of the command line: from the arguments to an exit code; an error is one line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from click.shell_completion import shell_complete

from cleaner.cli import check, options as given, plan, prune, sweep
from cleaner.cli.options import Command, Help, Options
from cleaner.cli.prune import INTERRUPTED, interrupt_at_sigterm
from cleaner.cli.session import Session, advice
from cleaner.cli.terminal import Terminal, hang_up, open_closed_streams
from cleaner.core.errors import CleanerError, ConfigurationError, InvalidPolicy, InvalidReference
from cleaner.logs import LOGGER, JsonFormatter
from cleaner.release import VERSION
from cleaner.views import words

NAME = "registry-cleaner"
_COMPLETE = "_REGISTRY_CLEANER_COMPLETE"
# 128 and the number of SIGPIPE, which ends other programs when they write to a closed pipe.
_STDOUT_CLOSED = 141
_HELP = {"help_option_names": ["-h", "--help"]}

_EPILOG = """\
Examples:
  registry-cleaner plan gcr.io/acme/api
      Show what the default policy keeps and deletes.  Nothing is deleted.
  registry-cleaner check policies.yaml
      Find all mistakes in a policies file.
  registry-cleaner plan gcr.io/acme -p policies.yaml
      How much each repository of a project would free.
  registry-cleaner plan gcr.io/acme/api -p policies.yaml --explain v1.4.2
      Why one image is kept or deleted, rule by rule.
  registry-cleaner prune gcr.io/acme/api -p policies.yaml
      Show the plan, ask, and carry it out.

policies.yaml:
  - repositories: ["gcr.io/acme/*"]    # * within a segment, ** for several
    tagged:                            # for each tag the first rule that matches
      - match: 'v[0-9.]+'              # a regex for the whole tag
        keep: all
      - match: '(main|pr-[0-9]+)-.*'   # the newest 10 of each branch,
        keep: 10                       # for 90 days
        delete_after: 90d
    untagged:
      keep: 5

Exit codes:
  0    done, or nothing to do: no policy matches, no such repository
  1    something failed: permission denied, an incomplete listing, a failed
       deletion, no response, the time limit, an --explain that matches nothing,
       an error while writing to stdout
  2    an option, a name, a setting or the policies are invalid, or --yes is
       missing and stdin or stderr is not a terminal: nothing was done
  130  interrupted by Ctrl-C or SIGTERM; the first one lets a prune finish what
       it has begun
  141  stdout was closed, and nothing was deleted

Environment:
  RUNNING_SCOPES, INSECURE_REGISTRIES, REQUESTS_TOPIC
      As for the function; --running-scopes, --insecure and --topic override
      them.
  GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT, GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT
      Base URLs of the REST APIs, if they are not Google's.
  NO_COLOR, FORCE_COLOR, COLUMNS, PAGER
      No colours, or colours also through a pipe; the width of the terminal; what
      shows a table that is longer than the screen.

Credentials are the application default credentials:
  gcloud auth application-default login

Completion, for bash (for zsh write zsh_source; in fish, pipe the output of
fish_source to source):
  eval "$(_REGISTRY_CLEANER_COMPLETE=bash_source registry-cleaner)"
"""


def run() -> NoReturn:
    """Run the command that the process's arguments give, and exit.

    Raises:
        KeyboardInterrupt: An interrupt came before the command began, or after it ended.
    """
    open_closed_streams()
    interrupt_at_sigterm()
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _system_error(error)
    if code == INTERRUPTED:
        # A normal exit would wait for responses that are no longer needed.
        os._exit(INTERRUPTED)
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments give; return the exit code."""
    terminal = Terminal(os.environ)
    try:
        if instruction := os.environ.get(_COMPLETE):
            return shell_complete(cli, {}, NAME, _COMPLETE, instruction)
        with cli.make_context(NAME, list(arguments), obj=terminal) as context:
            code: int = cli.invoke(context)
        return code or int(terminal.has_lost)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path if error.ctx else NAME} --help)"
        *lines, last = _message(error).split("\n")
        for line in (*lines, last + where):
            terminal.error(line)
        return 2
    except KeyboardInterrupt:
        # While something is deleted, interrupts are handled elsewhere.
        terminal.restore()
        terminal.note("interrupted: nothing was deleted")
        return INTERRUPTED
    except OSError as error:
        return _system_error(error)
    except InvalidPolicy as error:
        for line in str(error).split("\n"):
            terminal.error(line)
        return 2
    except CleanerError as error:
        terminal.error(advice(error))
        return 2 if isinstance(error, ConfigurationError | InvalidReference) else 1


def _message(error: click.UsageError) -> str:
    """Return what is wrong, with the nearest option or command if there is one."""
    match error:
        case click.NoSuchOption():
            text, near = f"no such option: {error.option_name}", error.possibilities
        case click.exceptions.NoSuchCommand():
            text, near = f"no such command: {error.command_name}", error.possibilities
        case click.MissingParameter() if error.param:
            return f"{error.param.make_metavar(error.ctx or click.Context(cli)).removesuffix('...')} is missing"
        case click.BadParameter() if error.param:
            return f"{error.param.opts[-1]}: {error.message[:1].lower()}{error.message[1:].removesuffix('.')}"
        case _:
            text = error.format_message().removesuffix(".")
            return f"{text[:1].lower()}{text[1:]}"
    # The option for help is near to much.
    near = [one for one in near or () if one != "--help"]
    return f"{text}; did you mean {words.listed(near, 'or')}?" if near else text


def _system_error(error: OSError) -> int:
    """Report an error of the operating system, unless stdout was closed; return the exit code.

    An error without a file name is one of stdout: those of the network are errors of this package.
    """
    hang_up(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return _STDOUT_CLOSED
    said = f"{error.filename or 'stdout'}: {error.strerror}" if error.strerror else str(error)
    Terminal(os.environ).error(said)
    return 1


class _Group(Help, click.Group):
    """The commands; without one it shows the help."""


@click.group(
    cls=_Group, epilog=_EPILOG, invoke_without_command=True, context_settings={**_HELP, "max_content_width": 100}
)
@click.version_option(VERSION, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Delete old images of container registries, by the same policies as the function.

    An image is deleted only if every tag of it matches a rule, no rule keeps it, it is not younger than min_age, and
    with --running-scopes it is not deployed there.  What a kept image needs is kept as well.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


def _add(
    run_command: Callable[[Options, Session, Terminal], int], epilog: str, params: list[click.Parameter]
) -> None:
    """Add a command to the group: its name and help are those of the function."""

    def callback(**_: Any) -> int:
        context = click.get_current_context()
        options = Options.of(context, os.environ)
        terminal: Terminal = context.obj
        terminal.is_quiet = options.quiet
        if options.quiet:
            terminal.shows_progress = False
        session = Session(options)
        with _log(options.verbose, terminal):
            code = run_command(options, session, terminal)
        for name, problem in session.skipped.items():
            terminal.note(f"{name!a} is left out: {problem}")
        return code

    name, text = run_command.__name__, run_command.__doc__
    cli.add_command(Command(name, _HELP, callback, params, text, epilog))


def _one(metavar: str) -> click.Argument:
    """Return the argument of a command for one name."""
    return click.Argument(["targets"], metavar=metavar, type=given.Parsed(metavar, lambda name: (name,)))


_TARGETS = click.Argument(["targets"], metavar="TARGET...", nargs=-1, required=True)
_FILE = click.Argument(["file"], metavar="FILE", type=given.File())
_DONE = [given.YES, given.DRY_RUN, given.OUTPUT, *given.CONNECTION]
_add(plan.plan, plan.EPILOG, [_TARGETS, *given.POLICY, *given.SHOWN, given.HTML, given.EXPLAIN, *given.CONNECTION])
_add(prune.prune, prune.EPILOG, [_one("REPOSITORY"), *given.POLICY, *_DONE, given.ALL])
_add(sweep.sweep, sweep.EPILOG, [_one("ROOT"), *given.POLICY, *given.WHERE, *_DONE])
_add(check.check, check.EPILOG, [_FILE, given.TAGS, *given.SHOWN, given.INSECURE, *given.VERBOSITY])


@contextmanager
def _log(verbose: int, terminal: Terminal) -> Iterator[None]:
    """Write the log to stderr until the end of the context; discard it unless it is wanted."""
    handler: logging.Handler = logging.NullHandler()
    logger, root = logging.getLogger(LOGGER), logging.getLogger()
    before = logger.level
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        handler.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
        # A progress bar and a log would overwrite each other's lines.
        terminal.shows_progress = False
        logger.setLevel(handler.level)
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            # Advice on quota projects, several lines long, on every call.
            warnings.filterwarnings("ignore", module="google.auth")
            yield
    finally:
        root.removeHandler(handler)
        logger.setLevel(before)
