"""Several faults in a row: nothing that the policy keeps is lost, in the run that meets them or in the next ones.

The model check lets one thing happen to a run.  Here up to six happen, to runs on the same histories, and four more
runs of the process follow.  A seed names a case.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from cleaner.core.errors import CleanerError
from cleaner.core.reference import Digest
from cleaner.core.rules import Running
from tests.support.direct import NAME, Lost, Process, Time, Wire
from tests.support.model import HISTORIES

if TYPE_CHECKING:
    from tests.support.model import History

SEEDS: Final = 1000
BATCH: Final = 50
RUNS: Final = 5
# A request that this comes before is not answered, is answered so, or comes after so many seconds.
FAULTS: Final = (Lost.BEFORE, Lost.AFTER, 503, 400, 403, 11, 61)


class Case:
    """A history, what happens before which of its requests, and the process that meets it."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.history: History = HISTORIES[self._rng.choice(list(HISTORIES))]
        count = self._rng.randint(2, 6)
        self._events = sorted((self._rng.randrange(30), self._rng.randrange(len(FAULTS) + 1)) for _ in range(count))
        self.told = [f"seed {seed}"]
        self.store = self.history.store.copy()
        self._time = Time()
        self.store.now_ms = self._time.wall_ms
        self._process = Process(Wire(self.store, self._intercept), 1, self._time)
        self._deployed: dict[Digest, str] = {}
        self._process.running = Running(self._deployed)
        # What goes on until the run ends: the registry is unavailable, or rejects requests for one thing.
        self._is_unavailable = False
        self._rejected: set[str] = set()
        self._asked = 0

    def lost(self) -> frozenset[str]:
        """Prune several times, and return what was kept at first and is not there any more."""
        for _ in range(RUNS):
            try:
                self._process.prune(self.history.policy, workers=self._rng.choice((1, 3)), time_limit_s=500)
            except CleanerError as error:
                self.told.append(f"ends with {error!r}")
            self._is_unavailable = False
            self._rejected.clear()
            self._time.turn(70)
        return self.history.kept - self.store.digests(NAME)

    def _intercept(self, _process: int, method: str, reference: str) -> int | Lost | None:
        answer: int | Lost | None = None
        while self._events and self._events[0][0] <= self._asked:
            answer = self._happen(self._events.pop(0)[1], method, reference) or answer
        self._asked += 1
        if answer is None and self._is_unavailable:
            answer = 503
        if answer is None and reference in self._rejected:
            answer = 403
        self.told.append(f"{method} {self.history.names.get(reference, reference)} {answer or ''}")
        return answer

    def _happen(self, kind: int, method: str, reference: str) -> int | Lost | None:
        if kind == len(FAULTS):
            part = self._rng.choice(list(self.history.parts.values()))
            self._deployed[Digest(part.content.digest)] = "service"
            self.told.append(f"{self.history.names[part.content.digest]} is deployed")
            return None
        fault = FAULTS[kind]
        if fault in (11, 61):
            self._time.turn(float(str(fault)))
            self.told.append(f"{fault} s pass")
            return None
        self._is_unavailable = self._is_unavailable or fault == 503
        if fault == 403:
            self._rejected.add(reference)
        return fault if fault != 400 or method == "DELETE" else None


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_that_is_kept_is_lost_however_faults_combine(first: int) -> None:
    """In any of the runs."""
    for seed in range(first, first + BATCH):
        case = Case(seed)
        lost = case.lost()
        assert not lost, "\n".join([f"{sorted(case.history.names[one] for one in lost)} are lost", *case.told])
