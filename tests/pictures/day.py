"""An emulated day of the function, as Cloud Monitoring and the log show it; the same each time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from tests.pictures.registry import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUCKETS: Final = 48
BUCKET_MINUTES: Final = 24 * 60 // BUCKETS

# A repository, the pushes on a day, and the bytes of an image.
_PUSHED_TO: Final = (
    (f"{PROJECT}/apps/web", 90, 131e6),
    (f"{PROJECT}/apps/api", 60, 98e6),
    (f"{PROJECT}/apps/worker", 40, 96e6),
)
_DRY: Final = f"{PROJECT}/ml/trainer"

# The values of the labels by which a series is told from the others of its metric, and a value for each bucket.
Series = tuple[tuple[str, ...], list[float]]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the function, after a push."""

    minute: int
    repository: str
    deleted: int
    freed: float
    seconds: float
    is_dry: bool = False

    @property
    def bucket(self) -> int:
        return self.minute // BUCKET_MINUTES


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log."""

    minute: int
    severity: str
    message: str
    about: str


@cache
def runs() -> tuple[Run, ...]:
    """Return the runs of a working day, in their order."""
    chance = random.Random(20)
    found = []
    for repository, pushes, size in (*_PUSHED_TO, (_DRY, 8, 0.0)):
        for _ in range(pushes):
            minute = _working_minute(chance)
            # Few runs delete much: those after a pull request was closed.
            deleted = int(chance.expovariate(0.45))
            seconds = 0.7 + 0.11 * deleted + chance.expovariate(2.2)
            found.append(Run(minute, repository, deleted, deleted * size, seconds, repository == _DRY))
    return tuple(sorted(found, key=lambda run: run.minute))


def _working_minute(chance: random.Random) -> int:
    """Return a minute of the day, most of them before and after noon."""
    while True:
        hour = chance.gauss(*chance.choice(((10.5, 1.6), (15.0, 2.1))))
        if 0 <= hour < 24:
            return int(hour * 60)


def series(metric: str, percentile: int, names: Sequence[str]) -> list[Series]:
    """Return the series of a metric, by the last part of its name.

    ``percentile`` is that of a distribution, and ``names`` the resources that are filtered for, if there are any.
    A metric that is not known has one series.
    """
    if metric == "run_seconds":
        return [((), _percentiles(percentile))]
    if metric == "oldest_unacked_message_age":
        return [((name,), _waiting(name)) for name in names]
    if metric in _COUNTED:
        return _COUNTED[metric]()
    chance = random.Random(metric)
    level, found = 0.46, []
    for bucket in range(BUCKETS):
        # Instances end at night.
        level += (0.32 + 0.26 * _activity(bucket) - level) * 0.5 + chance.uniform(-0.02, 0.02)
        found.append(level)
    return [((), found)]


def lines() -> list[Line]:
    """Return the newest lines of the log that the dashboard shows, the newest first."""
    found = [
        Line(19 * 60 + 14, "WARNING", "deletion refused", f"{_PUSHED_TO[0][0]}@sha256:5b0c7aa19f3e"),
        Line(18 * 60 + 32, "ERROR", "deletion failed", f"{_PUSHED_TO[2][0]}@sha256:81fe2d06c2b9"),
    ]
    chance = random.Random(7)
    for run in runs():
        for _ in range(0 if run.is_dry else run.deleted):
            digest = f"{chance.getrandbits(48):012x}"
            reason = chance.choice(("expired", "expired", "follows"))
            found.append(Line(run.minute, "INFO", "manifest deleted", f"{run.repository}@sha256:{digest}  {reason}"))
    return sorted(found, key=lambda line: -line.minute)


def _summed(value: Callable[[Run], float], *, is_dry: bool = False) -> list[Series]:
    sums: dict[str, list[float]] = {}
    for run in runs():
        if run.is_dry == is_dry:
            sums.setdefault(run.repository, [0.0] * BUCKETS)[run.bucket] += value(run)
    return [((repository,), values) for repository, values in sorted(sums.items())]


def _percentiles(percentile: int) -> list[float]:
    """Return a percentile of the seconds; NaN where nothing ran."""
    found = []
    for bucket in range(BUCKETS):
        seconds = [run.seconds for run in runs() if run.bucket == bucket]
        ordered = quantiles(seconds * 2, n=100, method="inclusive") if seconds else [math.nan] * 99
        found.append(ordered[percentile - 1])
    return found


def _at(labels: Sequence[str], **values: float) -> Series:
    """Return a series that is 0 but for a few hours, named ``h14``."""
    counts = [0.0] * BUCKETS
    for hour, value in values.items():
        counts[int(hour[1:]) * 60 // BUCKET_MINUTES] = value
    return tuple(labels), counts


def _delivered() -> list[Series]:
    counts = [0.0] * BUCKETS
    for run in runs():
        # An image of two platforms is announced by some messages.
        counts[run.bucket] += 3
    return [(("ack", "success"), counts), _at(("remote_server_5xx", "internal"), h10=1)]


def _waiting(name: str) -> list[float]:
    chance = random.Random(name)
    is_used = name.endswith("gcr")
    return [
        (chance.uniform(2, 7) + 14 * _activity(bucket) * chance.random() + 40 * (bucket == 30)) if is_used else 0.0
        for bucket in range(BUCKETS)
    ]


def _activity(bucket: int) -> float:
    """Return how busy a time of the day is, from 0 to 1."""
    return math.exp(-(((bucket - 25) / 9) ** 2))


_COUNTED: Final[dict[str, Callable[[], list[Series]]]] = {
    "deleted": lambda: _summed(lambda run: run.deleted),
    "freed_bytes": lambda: _summed(lambda run: run.freed),
    "would_delete": lambda: _summed(lambda run: 14 + run.deleted, is_dry=True),
    "refused": lambda: [_at([_PUSHED_TO[0][0]], h11=1, h19=1)],
    "failed": lambda: [_at([_PUSHED_TO[2][0]], h18=1)],
    "interrupted": lambda: [_at([_PUSHED_TO[0][0], ""], h10=1)],
    "errors": lambda: [_at(["deletion failed"], h18=1)],
    "push_request_count": _delivered,
}
