"""The operator's policies, parsed from a document and validated before they are used.

Regexes are RE2's, which match in linear time: anybody who may push chooses the tags, and a backtracking engine could
take years for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, cast

import msgspec
import re2

from cleaner.core.errors import InvalidPolicy
from cleaner.core.reference import Repository

DEFAULT_KEEP = 5
DEFAULT_MIN_AGE = timedelta(hours=1)
# The children of an index are pushed before the index; a shorter age could delete them in between.
SHORTEST_MIN_AGE = timedelta(minutes=10)

# Cloud Functions stores the images of functions under this segment.
_FUNCTIONS_SEGMENT = "gcf-artifacts"

_DURATION = re.compile(r"(?:[0-9]+[smhdw])+")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# The characters of repository names, and the wildcard.
_GLOB_SEGMENT = re.compile(r"[a-z0-9._:*-]+")


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


class Glob(msgspec.Struct, frozen=True):
    """A pattern for a repository's whole name ``HOST/PATH``.

    ``*`` matches any characters within one segment, ``**`` one or more whole segments.  Neither matches the segment
    ``gcf-artifacts``, which must be named literally.
    """

    text: str
    _segments: tuple[Pattern | str | None, ...]

    @classmethod
    def parse(cls, text: str) -> Glob:
        """Return the glob with this text.

        Raises:
            ValueError: A segment is empty, has a character that no name has, or has ``**`` beside other characters.
        """
        return cls(text, tuple(_glob_segment(segment) for segment in text.split("/")))

    def matches(self, name: str) -> bool:
        """Return whether the glob matches the whole of ``name``."""
        names = name.split("/")
        reached = {0}
        for segment in self._segments:
            reached = {end for start in reached for end in _ends(segment, names, start)}
        return len(names) in reached


class Policy(msgspec.Struct, frozen=True):
    """One entry of ``POLICIES``, with the defaults of the keys that it does not have."""

    repositories: tuple[Glob, ...]
    keep: int = DEFAULT_KEEP
    keep_untagged: int = DEFAULT_KEEP
    min_age: timedelta = DEFAULT_MIN_AGE
    max_age: timedelta | None = None
    delete_tags: tuple[Pattern, ...] = ()
    protect_tags: tuple[Pattern, ...] = ()
    group_by: Pattern | None = None
    max_deletions: int | None = None
    dry_run: bool = False

    def matches(self, repository: Repository) -> bool:
        """Return whether one of the policy's globs matches ``repository``."""
        return any(glob.matches(str(repository)) for glob in self.repositories)


def find_policy(policies: Iterable[Policy], repository: Repository) -> Policy | None:
    """Return the first policy that matches ``repository``; None if none does, and nothing of it may be deleted."""
    return next((policy for policy in policies if policy.matches(repository)), None)


def parse_policies(text: str, where: str = "POLICIES") -> tuple[Policy, ...]:
    """Return the policies of a JSON document, in its order; ``where`` is its name in errors.

    Raises:
        InvalidPolicy: ``text`` is not JSON, or ``policies_from_document`` raises it.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidPolicy(where, f"not a JSON array of policies: {error}") from error
    return policies_from_document(document, where)


def policies_from_document(document: object, where: str = "POLICIES") -> tuple[Policy, ...]:
    """Return the policies of a decoded document, a list of objects; ``where`` is its name in errors.

    Raises:
        InvalidPolicy: A key is unknown, or a value has a wrong type or is invalid; the message has the policy's
            position, counted from 0, the key and the problem.
    """
    if not isinstance(document, list) or not document:
        raise InvalidPolicy(where, "must be an array of at least one policy")
    return tuple(policy_from_mapping(entry, f"{where}[{position}]") for position, entry in enumerate(document))


def policy_from_mapping(entry: object, where: str) -> Policy:
    """Return the policy of a decoded object; ``where`` is its name in errors.

    Raises:
        InvalidPolicy: As for ``policies_from_document``.
    """
    if not isinstance(entry, Mapping):
        raise InvalidPolicy(where, f"must be an object, not {_kind(entry)}")
    if isinstance(entry, _Repeating):
        raise InvalidPolicy(where, "occurs twice", entry.repeated)
    values: dict[str, Any] = {}
    for key, value in entry.items():
        parse = _PARSERS.get(key) if isinstance(key, str) else None
        if parse is None:
            raise InvalidPolicy(where, f"unknown key {key!r}; known are {', '.join(_PARSERS)}")
        try:
            values[key] = parse(value)
        except ValueError as error:
            raise InvalidPolicy(where, str(error), key) from error
    if "repositories" not in values:
        raise InvalidPolicy(where, "required", "repositories")
    values.setdefault("keep_untagged", values.get("keep", DEFAULT_KEEP))
    return Policy(**values)


def parse_duration(text: str) -> timedelta:
    """Return the sum of one or more ``N`` + ``s m h d w``: ``90m``, ``1h30m``, ``30d``.

    Raises:
        ValueError: ``text`` is anything else, or longer than Python's ``timedelta`` can hold.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration like 90m, 1h30m or 30d: {text!r}")
    try:
        parts = [timedelta(**{_UNITS[unit]: int(count)}) for count, unit in re.findall(r"([0-9]+)([smhdw])", text)]
        return sum(parts, timedelta())
    except (OverflowError, ValueError) as error:
        raise ValueError(f"duration is too long: {text[:40]!r}") from error


def _ends(segment: Pattern | str | None, names: Sequence[str], start: int) -> Iterable[int]:
    """Yield each index at which a match of ``segment`` that begins at ``names[start]`` can end."""
    if segment is None:
        for end in range(start, len(names)):
            if names[end] == _FUNCTIONS_SEGMENT:
                return
            yield end + 1
    elif start < len(names):
        name = names[start]
        if isinstance(segment, str):
            if segment == name:
                yield start + 1
        elif name != _FUNCTIONS_SEGMENT and segment.fullmatch(name):
            yield start + 1


def _glob_segment(segment: str) -> Pattern | str | None:
    """Compile a segment of a glob: None for ``**``, a string for a segment without a wildcard."""
    if segment == "**":
        return None
    if not _GLOB_SEGMENT.fullmatch(segment):
        raise ValueError(f"invalid glob: segment {segment!r} is empty or has characters that no name has")
    if "**" in segment:
        raise ValueError(f"invalid glob: ** must be a whole segment, not {segment!r}")
    if "*" not in segment:
        return segment
    return _compile("[^/]*".join(cast(str, re2.escape(part)) for part in segment.split("*")))


def _compile(pattern: str) -> Pattern:
    options = re2.Options()
    options.log_errors = False
    try:
        return cast(Pattern, re2.compile(pattern, options))
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode(errors="replace")
        raise ValueError(f"invalid regex {pattern!r}: {reason}") from error


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"the number {value}" if isinstance(value, int | float) else type(value).__name__)


class _Repeating(dict[str, object]):
    """An object in which a key occurs twice; its first value would be lost silently."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.repeated = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entry = dict(pairs)
    return entry if len(entry) == len(pairs) else _Repeating(pairs)


def _integer(minimum: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"must be an integer of at least {minimum}, not {_kind(value)}")
        return value

    return parse


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"must be an array of strings, not {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"must be an array of strings, but holds {_kind(item)}")
    return value


def _globs(value: object) -> tuple[Glob, ...]:
    texts = _strings(value)
    if not texts:
        raise ValueError("must have at least one glob")
    return tuple(Glob.parse(text) for text in texts)


def _regexes(value: object) -> tuple[Pattern, ...]:
    return tuple(_compile(text) for text in _strings(value))


def _duration(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError(f"must be a duration like 90m, 1h30m or 30d, not {_kind(value)}")
    return parse_duration(value)


def _min_age(value: object) -> timedelta:
    age = _duration(value)
    if age < SHORTEST_MIN_AGE:
        raise ValueError(f"must be 10m or longer, not {value}")
    return age


def _max_age(value: object) -> timedelta | None:
    if value is None:
        return None
    age = _duration(value)
    if not age:
        raise ValueError("must be longer than 0s; null turns it off")
    return age


def _group_by(value: object) -> Pattern | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"must be a regex or null, not {_kind(value)}")
    pattern = _compile(value)
    if not pattern.groups:
        raise ValueError(f"must have at least one group in parentheses: {value!r}")
    return pattern


def _optional_count(value: object) -> int | None:
    return None if value is None else _integer(1)(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "repositories": _globs,
    "keep": _integer(1),
    "keep_untagged": _integer(0),
    "min_age": _min_age,
    "max_age": _max_age,
    "delete_tags": _regexes,
    "protect_tags": _regexes,
    "group_by": _group_by,
    "max_deletions": _optional_count,
    "dry_run": _boolean,
}
