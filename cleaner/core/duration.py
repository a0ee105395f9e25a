"""Durations as a policy writes them: ``90m``, ``1h30m``, ``30d``."""

from __future__ import annotations

import re
from datetime import timedelta

import msgspec

# Ten digits of weeks are longer than any ``timedelta``; more digits would only take time to convert.
PATTERN = "([0-9]{1,10}[smhdw])+"

_TEXT = re.compile(PATTERN)
_PART = re.compile("([0-9]+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Duration(msgspec.Struct, frozen=True):
    """A length of time, and the text that gives it; ``str()`` returns the text."""

    text: str
    value: timedelta

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Return the sum of one or more ``N`` + ``s m h d w``.

        Raises:
            ValueError: ``text`` is anything else, or longer than a ``timedelta`` can hold.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError("not a duration")
        try:
            parts = (timedelta(**{_UNITS[unit]: int(count)}) for count, unit in _PART.findall(text))
            return cls(text, sum(parts, timedelta()))
        except OverflowError as error:
            raise ValueError("too long a duration") from error
