"""From the arguments to an exit code; what goes wrong is said in one line."""

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
from cleaner.cli.advice import advice
from cleaner.cli.commands import plan, prune
from cleaner.cli.interrupt import INTERRUPTED, interrupt_at_sigterm
from cleaner.cli.session import Session
from cleaner.cli.sweeping import sweep
from cleaner.cli.terminal import Terminal, hang_up, open_closed_streams
from cleaner.core.errors import CleanerError, ConfigurationError, InvalidReference
from cleaner.logs import LOGGER, JsonFormatter

# 128 and the number of SIGPIPE: what shells expect of whoever wrote to `head`.
_NOBODY_READS = 141

_COMMANDS = {"plan": plan, "prune": prune, "sweep": sweep}


def run() -> NoReturn:
    """Do what the process's arguments say, and end it.

    Raises:
        KeyboardInterrupt: It came before anything was begun, or behind all of it.
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
        # Leaving by the front door would wait for answers that nobody wants any more.
        os._exit(INTERRUPTED)
    sys.exit(code)


def main(given: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code.

    Raises:
        SystemExit: Help was asked for, or an argument is invalid, which has been said.
    """
    terminal = Terminal(os.environ)
    try:
        options = arguments.parse(given, os.environ, Path(sys.argv[0]).name)
        with _log(options.log_level, terminal):
            code = _COMMANDS[options.command](options, Session(options), terminal)
        return code or int(terminal.has_lost)
    except KeyboardInterrupt:
        # While something is deleted, an interrupt does not come this way.
        terminal.restore()
        terminal.note("interrupted: nothing was deleted")
        return INTERRUPTED
    except OSError as error:
        return _system_error(error)
    except CleanerError as error:
        terminal.note(f"error: {advice(error)}")
        return 2 if isinstance(error, ConfigurationError | InvalidReference) else 1


def _system_error(error: OSError) -> int:
    """Say what the system says no to, unless it is that nobody reads; return the exit code.

    Where no file is named it is stdout: of the network, this package has errors of its own.
    """
    hang_up(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return _NOBODY_READS
    said = f"{error.filename or 'stdout'}: {error.strerror}" if error.strerror else str(error)
    Terminal(os.environ).note(f"error: {said}")
    return 1


@contextmanager
def _log(level: str | None, terminal: Terminal) -> Iterator[None]:
    """Write the log to stderr until the end of the context, if ``level`` is given; else to nowhere."""
    handler: logging.Handler = logging.NullHandler()
    logger, root = logging.getLogger(LOGGER), logging.getLogger()
    before = logger.level
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        handler.setLevel(level)
        # Two that draw on one terminal spoil each other's lines.
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
