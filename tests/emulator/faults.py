"""Faults on demand, deterministic: which request goes wrong, and how.

A :class:`Rule` says which requests; an action says what happens to them.  Actions, in the order of the rules:
delays add up, callbacks are called, and the first of the others decides.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Status:
    """Answer this status without doing the work.  ``plain`` is Google's other 429: text, no JSON."""

    status: int
    code: str = ""
    message: str = ""
    retry_after: int | str | None = None
    plain: bool = False
    body: bytes | None = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before doing the work; with ``after``, between the work and the answer."""

    seconds: float
    after: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing for so long, then close the connection without having done the work."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DropBefore:
    """Reset the connection before doing the work."""


@dataclass(frozen=True, slots=True)
class DropAfter:
    """Do the work, then reset the connection: a deletion done whose answer is lost."""


@dataclass(frozen=True, slots=True)
class CutBody:
    """Do the work, announce the whole body, send ``fraction`` of it and close."""

    fraction: float = 0.5


@dataclass(frozen=True, slots=True)
class BrokenJson:
    """Do the work and answer 200 with text that is no JSON."""

    body: bytes = b'{"child":[],"manifest":{"sha256:'


@dataclass(frozen=True, slots=True)
class Before:
    """Call something right before the work: a tag that moves, a push that arrives.  It must not block."""

    callback: Callable[[], object]


@dataclass(frozen=True, slots=True)
class After:
    """Call something right after the work, before the answer is sent.  It must not block."""

    callback: Callable[[], object]


Action: TypeAlias = Status | Delay | Stall | DropBefore | DropAfter | CutBody | BrokenJson | Before | After


@dataclass(slots=True)
class Rule:
    """Which requests an action happens to.

    A request matches by ``method`` (``"GET|HEAD"``; empty: any), ``path`` (a regex searched in path and query)
    and ``kind`` (as the log names it).  Of the matching ones, the first ``skip`` pass; of the rest every
    ``every``-th is hit, with ``probability``, at most ``times`` times.  ``nth`` hits only the n-th match, from 1.
    """

    action: Action
    method: str = ""
    path: str = ""
    kind: str = ""
    nth: int | None = None
    skip: int = 0
    every: int = 1
    times: int | None = None
    probability: float = 1.0
    seen: int = 0
    hits: int = 0
    _methods: frozenset[str] = field(init=False, repr=False)
    _pattern: re.Pattern[str] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._methods = frozenset(self.method.upper().split("|")) if self.method else frozenset()
        self._pattern = re.compile(self.path) if self.path else None
        if self.nth is not None:
            self.skip, self.times = self.nth - 1, 1

    def matches(self, method: str, path: str, kind: str) -> bool:
        return (
            (not self._methods or method in self._methods)
            and (not self.kind or kind == self.kind)
            and (self._pattern is None or self._pattern.search(path) is not None)
        )


@dataclass(slots=True)
class Quota:
    """At most ``per_second`` requests of ``methods`` a second; beyond, 429.

    A token bucket that holds ``burst`` (default: a tenth of a second's worth, at least 1), or with ``fixed`` whole
    seconds' windows.  ``windows`` counts accepted and refused per second since the quota was set.
    """

    per_second: float
    methods: frozenset[str] = frozenset({"DELETE"})
    burst: float | None = None
    fixed: bool = False
    plain: bool = False
    retry_after: int | str | None = None
    accepted: int = 0
    refused: int = 0
    windows: dict[int, list[int]] = field(default_factory=dict)
    _tokens: float = field(init=False, repr=False, default=0.0)
    _since: float = field(init=False, repr=False, default=0.0)
    _start: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        if self.burst is None:
            self.burst = max(1.0, self.per_second / 10)
        self._tokens = self.burst
        self._start = self._since = time.monotonic()

    def take(self, now: float) -> bool:
        """Whether one more request is within the quota."""
        window = self.windows.setdefault(int(now - self._start), [0, 0])
        if self.fixed:
            fits = window[0] < self.per_second
        else:
            self._tokens = min(self.burst or 1.0, self._tokens + (now - self._since) * self.per_second)
            self._since = now
            fits = self._tokens >= 1
            if fits:
                self._tokens -= 1
        if fits:
            self.accepted += 1
            window[0] += 1
        else:
            self.refused += 1
            window[1] += 1
        return fits

    def refusal(self) -> Status:
        return too_many_requests(retry_after=self.retry_after, plain=self.plain)


def too_many_requests(*, retry_after: int | str | None = None, plain: bool = False) -> Status:
    """Google's 429: JSON ``TOOMANYREQUESTS``, or the plain text ``Quota Exceeded.``."""
    return Status(429, "TOOMANYREQUESTS", "Quota exceeded.", retry_after=retry_after, plain=plain)


class Faults:
    """All that goes wrong.  ``counts`` tells how often each kind of fault happened."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self.rules: list[Rule] = []
        self.latency_s = 0.0
        self.quota: Quota | None = None
        self.counts: Counter[str] = Counter()

    def add(self, action: Action, **where: object) -> Rule:
        """Add ``Rule(action, **where)`` and return it; its ``hits`` tells whether it happened."""
        rule = Rule(action, **where)  # type: ignore[arg-type]  # the dataclass checks the names itself
        with self._lock:
            self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        with self._lock:
            self.rules = [one for one in self.rules if one is not rule]

    def clear(self) -> None:
        """No faults, no quota and no latency from here on."""
        with self._lock:
            self.rules = []
            self.latency_s = 0.0
            self.quota = None
            self.counts.clear()

    def seed(self, seed: int) -> None:
        with self._lock:
            self._random.seed(seed)

    def choose(self, method: str, path: str, kind: str) -> Sequence[Action]:
        """What happens to this request.  Counts it, so ask once per request."""
        if not self.rules:
            return ()
        chosen: list[Action] = []
        with self._lock:
            for rule in self.rules:
                if not rule.matches(method, path, kind):
                    continue
                rule.seen += 1
                at = rule.seen - rule.skip
                if at < 1 or at % rule.every or (rule.times is not None and rule.hits >= rule.times):
                    continue
                if rule.probability < 1 and self._random.random() >= rule.probability:
                    continue
                rule.hits += 1
                chosen.append(rule.action)
                self.counts[type(rule.action).__name__] += 1
        return chosen


_ACTIONS = {
    "status": Status,
    "delay": Delay,
    "stall": Stall,
    "drop_before": DropBefore,
    "drop_after": DropAfter,
    "cut_body": CutBody,
    "broken_json": BrokenJson,
}


def rule_from_json(document: Mapping[str, object]) -> Rule:
    """``{"action": "status", "status": 429, "retry_after": 1, "where": {"method": "DELETE", "nth": 3}}`` as a rule.

    Raises:
        KeyError: An unknown action.
        TypeError: A key that neither the action nor the rule has.
    """
    where = document.get("where", {})
    if not isinstance(where, dict):
        raise TypeError("where must be an object")
    given = {key: value for key, value in document.items() if key not in ("action", "where")}
    for key in ("body",):
        if isinstance(given.get(key), str):
            given[key] = str(given[key]).encode()
    return Rule(_ACTIONS[str(document["action"])](**given), **where)
