"""Random documents of policies near valid ones, of a seed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.support.policy_documents import ACCEPTED, REFUSED

COUNT = 1000

_KEYS = ["repositories", "min_age", "tagged", "untagged", "orphans", "max_deletions", "dry_run"]
_KEYS += ["match", "keep", "keep_within", "delete_after", "order", "keeep", "", "\ud800", "x" * 300, "Keep", "keep\n"]
_REGEXES = [
    "v*",
    "(",
    ".*",
    "(?i)v*",
    "[*",
    "\\",
    r"\Q*",
    r"\p",
    "a{1000}",
    "(" * 900,
    "[" * 900,
    "[[:a" * 200,
    "|",
    "^*",
]
_GLOBS = [
    "**",
    "*",
    "",
    "/",
    "***",
    "gcr.io",
    "a:b",
    "@",
    "://",
    "GCR.IO/a/b",
    "us-docker.pkg.dev/a/gcr.io",
    "**/" * 80 + "x",
]
_DURATIONS = ["10m", "0s", "1h\n", "9999999999w", "1d" * 500, "-1h", "1", "\u0661h", "1m"]
_OTHERS = ["all", "ALL", "version", "uploaded", "\ud800", "\x00", "\u202e", "\U0001f600", "x" * 5000]
_NUMBERS = [0, 1, -1, 5, 10**30, 2**63, 2**64, -(2**63), 1e308, 0.0, 1.5, float("inf"), float("nan"), 10**4000]
_SOUND: dict[Any, list[Any]] = {
    "repositories": [["**"], ["gcr.io/acme/*", "us-docker.pkg.dev/acme/**"], ["*/**"]],
    "min_age": ["10m", "1h", "1w"],
    "tagged": [[], [{"match": "x", "keep": 1}], [{"match": ["a", "(b).*"], "delete_after": "99d"}]],
    "untagged": [{"keep": 3}, {"keep_within": "9d"}, {"delete_after": "99d"}],
    "orphans": [{"keep": 0}, {"keep": "all"}, {"delete_after": "99d"}],
    "max_deletions": [None, 1, 10**30],
    "dry_run": [True, False],
    "match": ["v.*", ["(a|b)-[0-9]+"], r"[^\-]+", "a{2,3}", r"\Qv*\E", "\u00e9"],
    "keep": [0, 1, "all"],
    "keep_within": [None, "1m", "30d"],
    "delete_after": [None, "8d", "60d"],
    "order": ["version", "uploaded"],
}
_SCALARS: list[Any] = [*_REGEXES, *_GLOBS, *_DURATIONS, *_OTHERS, *_NUMBERS, None, True, False]


def mutated_documents(seed: int, count: int = COUNT) -> Iterator[Any]:
    """Yield documents, each a valid or nearly valid one with up to three mutations."""
    random = Random(seed)
    bases = [*ACCEPTED.values(), *(case.document for case in REFUSED.values())]
    for _ in range(count):
        # In a list, so that the document as a whole can be replaced, too.
        document = [copy.deepcopy(random.choice(bases[: len(ACCEPTED)] if random.random() < 0.7 else bases))]
        for _ in range(random.randint(1, 3)):
            _mutate(document, random)
        yield document[0]


def _mutate(root: list[Any], random: Random) -> None:
    container, at = random.choice(list(_places(root)))
    change = random.randrange(12)
    if change >= 6 and at in _SOUND:
        container[at] = copy.deepcopy(random.choice(_SOUND[at]))
    elif change == 0 and isinstance(container, dict):
        container[random.choice(_KEYS)] = container.pop(at)
    elif change == 1 and container is not root:
        del container[at]
    elif change == 2 and isinstance(container, dict):
        container[random.choice(_KEYS)] = _value(random)
    elif change == 3 and isinstance(container, list) and container is not root:
        container.insert(at, copy.deepcopy(random.choice([container[at], _value(random)])))
    elif change == 4:
        container[at] = _nested(random.choice([5, 50, 200]), random)
    else:
        container[at] = _value(random)


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each value within a list or an object, as the container and the index or key."""
    pending = [container]
    while pending:
        one = pending.pop()
        for at in list(one) if isinstance(one, dict) else range(len(one)):
            yield one, at
            if isinstance(one[at], dict | list) and one[at]:
                pending.append(one[at])


def _value(random: Random) -> Any:
    kind = random.randrange(8)
    if kind == 0:
        return [random.choice(_SCALARS) for _ in range(random.randrange(4))]
    if kind == 1:
        return {random.choice(_KEYS): random.choice(_SCALARS) for _ in range(random.randrange(4))}
    if kind == 2:
        return "".join(random.choice("v1.*+?()[]|\\^$-QEdx{}/:@ \u00e9\ud800\n") for _ in range(random.randrange(40)))
    return random.choice(_SCALARS)


def _nested(depth: int, random: Random) -> Any:
    value: Any = random.choice(_SCALARS)
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {random.choice(_KEYS): value}
    return value
