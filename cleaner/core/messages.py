"""How the values of a document are shown in messages about its mistakes."""

from __future__ import annotations

_MAX_CHARS = 60
_MAX_BITS = 64


def show(value: object) -> str:
    """Return a value as a message shows it: a text in quotation marks, cut where it is long, else its kind."""
    return quote(cut_short(value)) if isinstance(value, str) else _kind(value)


def quote(text: str) -> str:
    """Return a text in quotation marks."""
    return f"'{_printable(text)}'"


def cut_short(text: str) -> str:
    """Return a text without quotation marks, cut where it is long."""
    return _printable(text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}...")


def _printable(text: str) -> str:
    # Unlike repr(), it shows a backslash as it was written.
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > _MAX_BITS:
            return "a number of many digits"
        case int() | float():
            return f"the number {value}"
        case list():
            return "an array" if value else "an empty array"
        case dict():
            return "an object"
    return type(value).__name__
