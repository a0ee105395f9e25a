"""Reads the document of policies, ``POLICIES``, and finds every mistake in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set as AbstractSet
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import FieldInfo

from cleaner.core.duration import Duration
from cleaner.core.errors import InvalidPolicy, Mistake
from cleaner.core.glob import Glob, InvalidGlob
from cleaner.core.messages import cut_short, quote, show
from cleaner.core.pattern import Pattern, compile_pattern, has_white_space, matches_every_tag, without_glob_stars
from cleaner.core.policy import (
    DEFAULT_MIN_AGE,
    DEFAULT_ORPHANS,
    DEFAULT_UNTAGGED,
    SHORTEST_MIN_AGE,
    Policy,
    Rule,
)
from cleaner.core.policy_language import (
    DECIDING_KEYS,
    ITEMS,
    OrphanRuleDocument,
    PolicyDocument,
    RuleDocument,
    TagRuleDocument,
    expected_value,
)

# Eight times what Cloud Run takes for all of a function's environment.
MAX_DOCUMENT_CHARS = 256 * 1024

_Document = TypeVar("_Document", bound=msgspec.Struct)
_Path = tuple[int | str, ...]


def parse_policies(
    text: str, where: str = "POLICIES", insecure: AbstractSet[str] = frozenset()
) -> tuple[Policy, ...]:
    """Return the policies of a JSON document, in its order; ``where`` is its name in errors.

    ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's.

    Raises:
        InvalidPolicy: ``text`` is not JSON, or ``policies_from_document`` raises it.
    """
    if len(text) > MAX_DOCUMENT_CHARS:
        raise InvalidPolicy(where, [Mistake((), f"has more than {MAX_DOCUMENT_CHARS:,} characters")])
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidPolicy(where, [Mistake((), f"not a JSON array of policies: {error}")]) from error
    return policies_from_document(document, where, insecure)


def policies_from_document(
    document: object, where: str = "POLICIES", insecure: AbstractSet[str] = frozenset()
) -> tuple[Policy, ...]:
    """Return the policies of a decoded document, a list of objects; ``where`` is its name in errors.

    ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's.

    Raises:
        InvalidPolicy: It has mistakes; the error has all of them.
    """
    reader = _Reader(insecure)
    policies = reader.policies(document)
    if reader.mistakes:
        raise InvalidPolicy(where, reader.mistakes)
    return policies


class _Reader:
    """Reads one document; ``mistakes`` are those that were found so far.

    What is returned for an invalid value is not used, except to find more mistakes.
    """

    def __init__(self, insecure: AbstractSet[str]) -> None:
        self.mistakes: list[Mistake] = []
        self._insecure = insecure

    def policies(self, document: object) -> tuple[Policy, ...]:
        if not isinstance(document, list) or not document:
            self._add((), "must be an array of at least one policy")
            return ()
        policies = []
        earlier: set[str] = set()
        for position, entry in enumerate(document):
            policy = self._policy(entry, (position,))
            globs = {glob.text for glob in policy.repositories}
            if globs and globs <= earlier:
                self._add((position, "repositories"), "never applies: earlier policies have all of its globs")
            earlier |= globs
            policies.append(policy)
        return tuple(policies)

    def _policy(self, entry: object, path: _Path) -> Policy:
        keys = self._keys(PolicyDocument, entry, path, nested=("tagged", "untagged", "orphans"))
        # None if it is invalid.
        min_age = self._duration(keys, "min_age", path)
        if min_age and min_age.value < SHORTEST_MIN_AGE:
            self._add((*path, "min_age"), f"must be 10m or more, not {cut_short(min_age.text)}")
        return Policy(
            self._globs(keys.get("repositories", ()), (*path, "repositories")),
            min_age or DEFAULT_MIN_AGE,
            self._tagged(keys.get("tagged", []), (*path, "tagged"), min_age),
            self._rule(RuleDocument, keys["untagged"], (*path, "untagged"), min_age)
            if "untagged" in keys
            else DEFAULT_UNTAGGED,
            self._rule(OrphanRuleDocument, keys["orphans"], (*path, "orphans"), min_age)
            if "orphans" in keys
            else DEFAULT_ORPHANS,
            keys.get("max_deletions"),
            keys.get("dry_run", False),
        )

    def _globs(self, texts: Sequence[str | None], path: _Path) -> tuple[Glob, ...]:
        globs = []
        for position, text in enumerate(texts):
            if text is None:
                continue
            try:
                globs.append(Glob.parse(text, self._insecure))
            except InvalidGlob as error:
                correction = f"write {error.correction}" if error.correction else ""
                self._add((*path, position), f"{show(text)} {error}", correction)
        return tuple(globs)

    def _tagged(self, entries: object, path: _Path, min_age: Duration | None) -> tuple[Rule, ...]:
        if not isinstance(entries, list):
            self._add(path, f"must be an array of rules, not {show(entries)}")
            return ()
        rules = []
        catch_all: int | None = None
        for position, entry in enumerate(entries):
            if catch_all is not None:
                self._add((*path, position), f"is never reached, since tagged[{catch_all}] matches every tag")
            rule = self._rule(TagRuleDocument, entry, (*path, position), min_age)
            if catch_all is None and any(map(matches_every_tag, rule.match)):
                catch_all = position
            rules.append(rule)
        return tuple(rules)

    def _rule(self, document: type[RuleDocument], entry: object, path: _Path, min_age: Duration | None) -> Rule:
        keys = self._keys(document, entry, path)
        match = keys.get("match", ())
        keep_within = self._duration(keys, "keep_within", path)
        delete_after = self._duration(keys, "delete_after", path)
        if isinstance(entry, Mapping) and not any(entry.get(key) is not None for key in DECIDING_KEYS):
            self._add(path, f"has no effect: it needs {', '.join(DECIDING_KEYS[:-1])} or {DECIDING_KEYS[-1]}")
        keep = keys.get("keep")
        is_default = keep is UNSET
        if is_default:
            keep = "all" if keep_within is None else 0
        if delete_after:
            if keep == 0:
                default = ", its default with keep_within" if is_default else ""
                self._add(
                    (*path, "delete_after"), f"has no effect where keep is 0{default}", "remove it, or set keep"
                )
            self._check_is_longer(delete_after, {"keep_within": keep_within, "min_age": min_age}, path)
        return Rule(
            self._patterns(match, (*path, "match")),
            None if keep == "all" else keep,
            keep_within,
            delete_after,
            keys.get("order", "uploaded"),
        )

    def _check_is_longer(self, delete_after: Duration, others: Mapping[str, Duration | None], path: _Path) -> None:
        text = cut_short(delete_after.text)
        for key, other in others.items():
            if other and delete_after.value <= other.value:
                problem = f"{text} must be longer than {key}, which is {cut_short(other.text)}"
                self._add((*path, "delete_after"), problem)

    def _patterns(self, match: str | Sequence[str | None], path: _Path) -> tuple[Pattern, ...]:
        if isinstance(match, str):
            return self._pattern(match, path)
        return tuple(
            pattern
            for position, text in enumerate(match)
            if text is not None
            for pattern in self._pattern(text, (*path, position))
        )

    def _pattern(self, regex: str, path: _Path) -> tuple[Pattern, ...]:
        """Return the pattern; none if the regex is invalid."""
        if has_white_space(regex):
            problem = f"{show(regex)} has white space or a control character, which no tag has"
            self._add(path, problem, "write a long regex as a list of several, each in single quotation marks")
            return ()
        if corrections := without_glob_stars(regex):
            as_glob, as_regex = (quote(text) if _compiles(text) else "" for text in corrections)
            correction = f"as a regex write {as_glob}" if as_glob else ""
            if as_glob and as_regex:
                correction += f", or {as_regex} for what {show(regex)} means"
            self._add(path, f"{show(regex)} looks like a glob", correction)
            return ()
        try:
            return (compile_pattern(regex),)
        except ValueError as error:
            self._add(path, f"{show(regex)} is not a regex in RE2's syntax: {cut_short(str(error))}")
            return ()

    def _duration(self, keys: Mapping[str, Any], key: str, path: _Path) -> Duration | None:
        text = keys.get(key)
        if text is None:
            return None
        try:
            return Duration.parse(text)
        except ValueError as error:
            self._add((*path, key), f"{show(text)} is {error}")
            return None

    def _keys(
        self, document: type[_Document], entry: object, path: _Path, nested: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the valid values of an object, and the defaults of keys that it does not have.

        Those of ``nested`` are not read, and have no default here.
        """
        if not isinstance(entry, Mapping):
            self._add(path, f"must be an object, not {show(entry)}")
            return {}
        fields = _fields(document)
        self._check_keys(entry, fields, path)
        valid: dict[str, Any] = {}
        for key, field in fields.items():
            if key not in entry:
                if field.required:
                    self._add((*path, key), f"is required: {expected_value(field.type)}")
                elif key not in nested:
                    valid[key] = field.default
            elif key in nested:
                valid[key] = entry[key]
            else:
                value = self._value(field.type, entry[key], (*path, key), ITEMS.get(key))
                if value is not UNSET:
                    valid[key] = value
        return valid

    def _value(self, described: Any, value: object, path: _Path, item: Any = None) -> Any:
        """Return a value of a described type; UNSET if it is invalid.

        ``item`` is what the items of an array are, in which those that are invalid become None.
        """
        try:
            return msgspec.convert(value, described)
        # msgspec encodes the text in its message, and a surrogate cannot be encoded.
        except (msgspec.ValidationError, UnicodeEncodeError):
            if item is not None and isinstance(value, list) and value:
                items = (self._value(item, one, (*path, position)) for position, one in enumerate(value))
                return [None if one is UNSET else one for one in items]
            self._add(path, f"must be {expected_value(described)}, not {show(value)}")
            return UNSET

    def _check_keys(self, entry: Mapping[object, object], known: Collection[str], path: _Path) -> None:
        for key in entry:
            if key not in known:
                self._add_unknown(key, known, path)
        for key in entry.repeated if isinstance(entry, Repeating) else ():
            if key in known:
                self._add((*path, key), "occurs twice")

    def _add_unknown(self, key: object, known: Collection[str], path: _Path) -> None:
        # Only a document with a mistake needs it.
        from difflib import get_close_matches

        # It is slow, and later mistakes are not shown.
        is_shown = len(self.mistakes) < InvalidPolicy.SHOWN_MAX
        nearest = get_close_matches(key, known, n=1) if is_shown and isinstance(key, str) else ()
        correction = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
        self._add(path, f"unknown key {show(key)}", correction, key=str(key))

    def _add(self, path: _Path, problem: str, correction: str = "", *, key: str = "") -> None:
        self.mistakes.append(Mistake(path, problem, correction, key))


class Repeating(dict[str, object]):
    """An object in which the keys ``repeated`` occur twice; their first values would be lost silently."""

    def __init__(self, pairs: Iterable[tuple[str, object]], *repeated: str) -> None:
        super().__init__(pairs)
        self.repeated = repeated


@cache
def _fields(document: type[_Document]) -> Mapping[str, FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(document)}


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    decoded = dict(pairs)
    if len(decoded) == len(pairs):
        return decoded
    counts = Counter(key for key, _ in pairs)
    return Repeating(pairs, *(key for key, count in counts.items() if count > 1))


def _compiles(regex: str) -> bool:
    try:
        compile_pattern(regex)
    except ValueError:
        return False
    return bool(regex)
