"""A dry run as one HTML page, to be sent to those whose images it is about.

Of files it reads only those beside it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.resources import files

import jinja2

from cleaner.core.rules import Reason
from cleaner.views import words
from cleaner.views.images import Result, by_saving

# The images of a longer repository are folded at first.
LONGEST_OPEN = 25
# A heading names no more targets than this.
_NAMED_TARGETS = 3

MEANINGS = {
    Reason.UNKNOWN_TYPE: "The media type is not supported.",
    Reason.UNKNOWN_AGE: "The registry gives no usable upload time.",
    Reason.TOO_YOUNG: "It is younger than min_age.",
    Reason.JUST_PUSHED: "It was just pushed.",
    Reason.RUNNING: "It is deployed, or lists what is.",
    Reason.UNMATCHED: "No rule matches a tag of it.",
    Reason.PROTECTED: "A rule keeps all.",
    Reason.NEWEST: "It is among the newest of its pool.",
    Reason.RECENT: "It is younger than keep_within.",
    Reason.NEEDED: "Something that is kept needs it.",
    Reason.OVER_LIMIT: "max_deletions is reached; a later run deletes it.",
    Reason.EXPIRED: "No rule keeps it.",
    Reason.FOLLOWS: "It belongs to an image that is deleted.",
    Reason.ORPHANED: "Its subject does not exist.",
}


def page(results: Iterable[Result], now: datetime, version: str) -> str:
    """Return the page of a dry run at ``now``: HTML that loads nothing else, and is complete without scripts.

    The repository that frees most comes first; those without a plan come last.
    """
    results = by_saving(results)
    plans = [one.planned for one in results if one.planned]
    reasons = {row.verdict.reason for one in plans for row in one.rows}
    style, script = _text("page.css"), _text("page.js")
    html = _template().render(
        targets=_targets(str(one.repository) for one in results),
        now=now,
        version=version,
        planned=[one for one in results if one.planned],
        others=[one for one in results if not one.planned],
        meanings=[(reason.value, text) for reason, text in MEANINGS.items() if reason in reasons],
        longest_open=LONGEST_OPEN,
        # Bars of different repositories are compared by their lengths.
        largest=max((one.kept_size + one.freed for one in plans), default=0) or 1,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    # A registry's error text may have lone surrogates, which no file takes.
    return html.encode(errors="backslashreplace").decode()


def _targets(names: Iterable[str]) -> str:
    """Return the name of the only repository, or the hosts and projects of several."""
    names = sorted(set(names))
    if len(names) == 1:
        return names[0]
    roots = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in names))
    if len(roots) > _NAMED_TARGETS:
        roots[_NAMED_TARGETS:] = [f"{len(roots) - _NAMED_TARGETS:,} more"]
    return words.listed(roots) if roots else "no repositories"


def _counts(attached: dict[str, int]) -> str:
    """Return how many of each there are; a number is not parted from what it counts at the end of a line."""
    counts = (words.counted(count, what) for what, count in attached.items())
    return ", ".join(text.replace(" ", "\N{NO-BREAK SPACE}") for text in counts)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"counts": _counts, "number": "{:,}".format}
    environment.globals["words"] = words
    return environment.from_string(_text("page.html"))


@cache
def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression with which a content security policy allows ``text`` inline."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
