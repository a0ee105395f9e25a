"""The order of tags that are versions, for rules with ``order: version``."""

from __future__ import annotations

import re
from string import digits

_TOKEN = re.compile(r"[0-9]+|[^0-9]")

# A tag that ends is lower than one that continues, unless that continues with ``-``.  So ``-`` is the lowest of all,
# also where the other tag has a number: any other place for it would leave tags that no order sorts.
_DASH, _END, _NUMBER, _CHARACTER = range(4)

VersionKey = tuple[tuple[int, int], ...]


def version_key(tag: str) -> VersionKey:
    """Return the key by which ``tag`` is compared with others; a higher version has a greater key.

    Runs of digits are compared as numbers, other characters by their code points, and a number is lower than a
    character.  A tag that continues with ``-`` where the other ends is lower: ``1.5.0-rc.1`` < ``1.5.0`` <
    ``1.5.0.1``.
    """
    return (*map(_token, _TOKEN.findall(tag)), (_END, 0))


def _token(text: str) -> tuple[int, int]:
    if text == "-":
        return _DASH, 0
    return (_NUMBER, int(text)) if text[0] in digits else (_CHARACTER, ord(text))
