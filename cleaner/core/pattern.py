"""Regexes for tags, in RE2's syntax.

RE2 matches in linear time: anybody who may push chooses the tags, and a backtracking engine could take years for one.
"""

from __future__ import annotations

import re
from typing import Protocol, cast

import msgspec
import re2

# A tag has 128 characters at most.
MAX_CHARS = 1000
# White space and control characters, for Python's regexes and those of a JSON Schema.
WHITE_SPACE = r"[\s\x00-\x1f\x7f-\x9f]"

# One step through a regex: a quotation, an escape, a class, the beginning of a group, flags, or any other character.
# Possessive quantifiers make it take linear time.
_PIECE = re.compile(
    r"""
      \\Q .*? (?: \\E | \Z )
    | \\ (?: x\{ [0-9A-Fa-f]*+ \} | x.. | [0-7]{2,3} | [pP]\{ \^?\w*+ \} | [pP]. | . )
    | \[ \^? \]? (?: \\. | \[:\^?\w++:\] | [^\]\\] )*+ (?: \] | \\?\Z )
    | \( (?: \?P?<\w++> | \?[A-Za-z-]*+[:)] )?
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
# A character that stands for itself, also written by its code.
_IS_LITERAL = re.compile(r"[A-Za-z0-9_-]|\\(?:[^A-Za-z0-9]|x.+|[0-7]{2,3})|\\Q.\\E", re.DOTALL)
_IS_QUOTATION = re.compile(r"\\Q(?!\\E).*", re.DOTALL)
# Behind these, nothing precedes a ``*`` that it could repeat.
_IS_BEGINNING = re.compile(r"|\^|\||\(.*", re.DOTALL)

# `.*` or `.+` and nothing else but more of `.*`, also in groups that begin and end with the regex.
_EVERY_TAG = re.compile(r"(?:\^|\((?:\?P?<\w+>|\?[A-Za-z-]*[:)])?)*\.[*+]\??(?:\.\*\??)*[$)]*")
# More than one repetition, up to the brace that ends it.
_IS_REPETITION = re.compile(r"[*+].*|\{(?:[2-9]|[1-9][0-9]+|[0-9]+,(?:[2-9]|[1-9][0-9]+)?)", re.DOTALL)


class Pattern(Protocol):
    """The part of a compiled RE2 pattern that is used here."""

    @property
    def pattern(self) -> str:
        """The regex."""

    @property
    def groups(self) -> int:
        """The number of its groups."""

    def fullmatch(self, text: str) -> Match | None:
        """Return the match with the whole of ``text``; None if there is none."""


class Match(Protocol):
    """The part of an RE2 match that is used here."""

    def groups(self) -> tuple[str | None, ...]:
        """Return what each group captured; None for a group that took no part in the match."""


def compile_pattern(regex: str) -> Pattern:
    """Return ``regex`` compiled.

    Raises:
        ValueError: It is not in RE2's syntax; the text says why.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return cast(Pattern, re2.compile(regex, options))
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode(errors="replace")
        raise ValueError(str(reason)) from error


def without_glob_stars(regex: str) -> tuple[str, str] | None:
    """Return what a regex that looks like a glob should be: as a glob's meaning, and as a regex's.

    It looks like one if a ``*`` stands at a beginning or directly behind a literal character: ``v*`` is ``v.*`` or
    ``(?:v)*``.  The second is empty if there is none that is evident.  None if it does not look like a glob.
    """
    as_glob: list[str] = []
    as_regex: list[str] = []
    is_glob = False
    can_be_regex = True
    before = ""
    for piece in _PIECE.findall(regex):
        is_literal = _IS_LITERAL.fullmatch(before) is not None
        if piece == "*" and (is_literal or _IS_QUOTATION.fullmatch(before) or _IS_BEGINNING.fullmatch(before)):
            is_glob = True
            can_be_regex = can_be_regex and is_literal
            as_glob.append(".*")
            as_regex[-1:] = [f"(?:{before})", "*"]
        elif piece != "*" or as_glob[-1] != ".*":
            as_glob.append(piece)
            as_regex.append(piece)
        before = piece
    if not is_glob:
        return None
    return "".join(as_glob), "".join(as_regex) if can_be_regex else ""


def matches_every_tag(pattern: Pattern) -> bool:
    """Return whether a pattern evidently matches every tag, like ``.*``, ``(.+)`` or ``^.*$``.

    False if it is written in another way.
    """
    return _EVERY_TAG.fullmatch(pattern.pattern) is not None


class Group(msgspec.Struct, frozen=True):
    """A capturing group of a regex; ``is_repeated``: a repetition is behind it, or behind a group that it is in."""

    text: str
    is_repeated: bool


def capturing_groups(regex: str) -> tuple[Group, ...]:
    """Return the capturing groups of a valid regex, in their order."""
    groups: list[Group] = []
    # Of each group that is open: where it begins, how many groups come before it, and whether it captures.
    begun: list[tuple[int, int, bool]] = []
    at = 0
    for piece in _PIECE.findall(regex):
        start, at = at, at + len(piece)
        if piece.startswith("(") and not piece.endswith(")"):
            captures = piece == "(" or piece.endswith(">")
            begun.append((start, len(groups), captures))
            if captures:
                groups.append(Group("", is_repeated=False))
        elif piece == ")" and begun:
            start, first, captures = begun.pop()
            if captures:
                groups[first] = Group(regex[start:at], is_repeated=False)
            if _IS_REPETITION.fullmatch(regex[at:].partition("}")[0]):
                groups[first:] = [Group(group.text, is_repeated=True) for group in groups[first:]]
    return tuple(groups)


def has_white_space(regex: str) -> bool:
    """Return whether white space or a control character stands in a regex; no tag has any."""
    return bool(re.findall(WHITE_SPACE, regex))
