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
from cleaner.cli.interrupt import INTERRUPTED
from cleaner.cli.session import Session
from cleaner.cli.sweeping import sweep
from cleaner.cli.terminal import Terminal, hang_up
from cleaner.errors import CleanerError, ConfigurationError, InvalidReference
from cleaner.logs import LOGGER, JsonFormatter

# 128 and the number of SIGPIPE: what shells expect of whoever wrote to `head`.
_NOBODY_READS = 141

_COMMANDS = {"plan": plan, "prune": prune, "sweep": sweep}


def run() -> NoReturn:
    """Do what the process's arguments say, and end it."""
    code: int | str | None
    try:
        code = main(sys.argv[1:])
    except SystemExit as leaving:
        code = leaving.code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        hang_up()
        code = _NOBODY_READS
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
            return _COMMANDS[options.command](options, Session(options), terminal)
    except KeyboardInterrupt:
        # While something is deleted, an interrupt does not come this way.
        terminal.restore()
        terminal.note("interrupted: nothing was deleted")
        return INTERRUPTED
    except BrokenPipeError:
        hang_up()
        return _NOBODY_READS
    except CleanerError as error:
        terminal.note(f"error: {advice(error)}")
        return 2 if isinstance(error, ConfigurationError | InvalidReference) else 1


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
        # Refusals are told in the end, whatever the log leaves out.
        logger.setLevel(min(handler.level, logging.WARNING))
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            # Advice on quota projects, several lines long, on every call.
            warnings.filterwarnings("ignore", module="google.auth")
            yield
    finally:
        root.removeHandler(handler)
        logger.setLevel(before)
