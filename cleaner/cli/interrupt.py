"""Ctrl-C, or SIGTERM, which is taken for it.

While something is being deleted the first lets what runs finish, and the second ends it all at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import msgspec

# 128 and the number of SIGINT, as shells say it.
INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(msgspec.Struct):
    """Whether it came."""

    came: bool = False


def interrupt_at_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does, wherever it comes: left to itself it would leave a terminal without cursor."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def interrupts(stop: Callable[[], None], end: Callable[[], None]) -> Iterator[Interrupt]:
    """Call ``stop`` at the first interrupt of the context; at the second call ``end`` and leave the process."""
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if interrupt.came:
            end()
            os._exit(INTERRUPTED)
        interrupt.came = True
        stop()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
