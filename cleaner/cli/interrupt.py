"""Ctrl-C while something is being deleted: the first lets what runs finish, the second ends it all at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import msgspec

# 128 and the number of the signal, as shells say it.
INTERRUPTED = 130


class Interrupt(msgspec.Struct):
    """Whether it came."""

    came: bool = False


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

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
