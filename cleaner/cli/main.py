"""The main function of the command line: from the arguments to an exit code; an error is one line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from cleaner.cli import arguments
from cleaner.cli.advice import advice, mistake_lines
from cleaner.cli.commands import plan, prune
from cleaner.cli.interrupt import INTERRUPTED, interrupt_at_sigterm
from cleaner.cli.session import Session
from cleaner.cli.sweeping import sweep
from cleaner.cli.terminal import Terminal, hang_up, open_closed_streams
from cleaner.core.errors import CleanerError, ConfigurationError, InvalidPolicy, InvalidReference
from cleaner.logs import LOGGER, JsonFormatter

# 128 and the number of SIGPIPE, which ends other programs when they write to a closed pipe.
_STDOUT_CLOSED = 141

_COMMANDS = {"plan": plan, "prune": prune, "sweep": sweep}


def run() -> NoReturn:
    """Run the command that the process's arguments give, and exit.

    Raises:
        KeyboardInterrupt: An interrupt came before the command began, or after it ended.
    """
    code: int | str | None
    open_closed_streams()
    interrupt_at_sigterm()
    try:
        code = main(sys.argv[1:])
    except SystemExit as leaving:
        code = leaving.code
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _system_error(error)
    if code == INTERRUPTED:
        # A normal exit would wait for responses that are no longer needed.
        os._exit(INTERRUPTED)
    sys.exit(code)


def main(given: Sequence[str]) -> int:
    """Run the command that the arguments give; return the exit code.

    Raises:
        SystemExit: Help was printed, or an argument is invalid, which was reported.
    """
    terminal = Terminal(os.environ)
    try:
        options = arguments.parse(given, os.environ, Path(sys.argv[0]).name)
        with _log(options.log_level, terminal):
            code = _COMMANDS[options.command](options, Session(options), terminal)
        return code or int(terminal.has_lost)
    except KeyboardInterrupt:
        # While something is deleted, interrupts are handled elsewhere.
        terminal.restore()
        terminal.note("interrupted: nothing was deleted")
        return INTERRUPTED
    except OSError as error:
        return _system_error(error)
    except InvalidPolicy as error:
        for line in mistake_lines(error):
            terminal.note(f"error: {line}")
        return 2
    except CleanerError as error:
        terminal.note(f"error: {advice(error)}")
        return 2 if isinstance(error, ConfigurationError | InvalidReference) else 1


def _system_error(error: OSError) -> int:
    """Report an error of the operating system, unless stdout was closed; return the exit code.

    An error without a file name is one of stdout: those of the network are errors of this package.
    """
    hang_up(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return _STDOUT_CLOSED
    said = f"{error.filename or 'stdout'}: {error.strerror}" if error.strerror else str(error)
    Terminal(os.environ).note(f"error: {said}")
    return 1


@contextmanager
def _log(level: str | None, terminal: Terminal) -> Iterator[None]:
    """Write the log to stderr until the end of the context; discard it if ``level`` is None."""
    handler: logging.Handler = logging.NullHandler()
    logger, root = logging.getLogger(LOGGER), logging.getLogger()
    before = logger.level
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        handler.setLevel(level)
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
