"""Signals that end the demo and everything that it has started."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


class Signals:
    """Lets SIGINT, SIGTERM and SIGHUP end the program by way of every ``finally``, but not while it is held."""

    ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._held = False
        self._came: int | None = None
        for number in self.ENDING:
            signal.signal(number, lambda number, _: self._arrived(number))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold what comes until the end: a process that is just being started could not be stopped."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came is not None:
            self._end(self._came)

    def _arrived(self, number: int) -> None:
        if self._held:
            self._came = number
        else:
            self._end(number)

    def _end(self, number: int) -> None:
        # Whoever is impatient must not leave a process behind.
        for one in self.ENDING:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)
