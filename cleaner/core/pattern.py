"""Regexes for tags, in RE2's syntax.

RE2 matches in linear time: anybody who may push chooses the tags, and a backtracking engine could take years for one.
"""

from __future__ import annotations

import re
from string import ascii_letters, digits
from typing import Protocol, cast

import re2

# A tag has 128 characters at most.
MAX_CHARS = 1000

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

# What a tag may begin with, and each character that it may have.
_FIRST_CHARS = f"{ascii_letters}{digits}_"
_CHARS = f"{_FIRST_CHARS}.-"
# One of several characters, or an assertion.
_IS_SET = re.compile(r"\\[A-Za-z].*|\[.+|\.", re.DOTALL)
# An alternative that matches every tag, simplified by ``_simplified``.  What else is in it may match nothing.
_EVERY_TAG = re.compile(r"\^?(?:[.wx][*?]\??)*(?:\.[*+]|[.w]\.\*)[*+?]*(?:[.wx][*?]\??)*\$?")


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
    """Return whether a pattern evidently matches every tag, like ``.*``, ``(.+)`` or ``main|[^/]*``.

    False if its form does not show that.
    """
    if not pattern.fullmatch(_CHARS):
        return False
    # The alternatives of each group that is open.
    groups = [[""]]
    for piece in _PIECE.findall(pattern.pattern):
        if piece.startswith("(") and not piece.endswith(")"):
            groups.append([""])
        elif piece == "|":
            groups[-1].append("")
        elif piece == ")":
            is_every = any(map(_EVERY_TAG.fullmatch, groups.pop()))
            groups[-1][-1] += ".+" if is_every else "x"
        else:
            groups[-1][-1] += _simplified(piece)
    return any(map(_EVERY_TAG.fullmatch, groups[0]))


def _simplified(piece: str) -> str:
    """Return ``.`` for what matches any character of a tag, ``w`` for any first one, and ``x`` for anything else."""
    if _IS_QUOTATION.fullmatch(piece) and not _IS_LITERAL.fullmatch(piece):
        # A repetition behind it repeats its last character alone.
        return "xx"
    if piece.startswith("("):
        return ""
    if piece in "*+?^$":
        return piece
    if piece == r"\A":
        return "^"
    if piece == r"\z":
        return "$"
    if not _IS_SET.fullmatch(piece):
        return "x"
    some = compile_pattern(f"{piece}*")
    if some.fullmatch(_CHARS):
        return "."
    return "w" if some.fullmatch(_FIRST_CHARS) else "x"
