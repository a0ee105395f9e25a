"""Cuts a run between two deletions of one image, which is where a listing shows parts of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import requests

from tests.chaos.cases import Case
from tests.emulator.faults import DropBefore, Status
from tests.support.oracle import Reading

if TYPE_CHECKING:
    import random

    from tests.chaos.records import Asked, Records
    from tests.emulator.faults import Faults

# How often a request is sent, and how many times that a cut may last.
_ATTEMPTS = 6
_LASTS = (1, 1, 2, 5)


class Cuts:
    """After some of the deletions what is next of the image cannot be deleted, or the process is killed."""

    def __init__(self, rng: random.Random, case: Case, records: Records, faults: Faults, dead: set[str]) -> None:
        self._rng = rng
        self._records = records
        self._faults = faults
        self._dead = dead
        self._left = case.cuts
        self._may_kill = case.kills > 0
        self.killed: list[str] = []
        """Processes that are to be ended: no request of theirs reaches the registry any more."""

    def after(self, entry: Asked) -> None:
        """Cut the run that ``entry`` is of, now and then; called after its work, before the answer."""
        is_deletion = entry.kind in ("manifest_delete", "tag_delete") and entry.status == requests.codes.accepted
        if not (self._left and is_deletion):
            return
        parts = self._parts(entry)
        if not parts or self._rng.random() < 0.5:
            return
        self._left -= 1
        if self._may_kill and self._rng.random() < 0.3:
            self._records.note(f"cut: kill -9 {entry.who}")
            self._records.killed.setdefault(entry.who, time.time())
            self._dead.add(entry.who)
            self.killed.append(entry.who)
            return
        times = _ATTEMPTS * self._rng.choice(_LASTS)
        names = " ".join(self._records.label(one) for one in sorted(parts))
        self._records.note(f"cut: {times} deletions of {names} fail")
        path = "|".join(map(re.escape, sorted(parts)))
        self._faults.add(self._rng.choice((Status(503), DropBefore())), method="DELETE", path=path, times=times)

    def _parts(self, entry: Asked) -> set[str]:
        """What is left of the image that a deletion has begun."""
        state = self._records.versions[entry.repository][entry.before].state
        reading = Reading(state.values())
        digest = entry.named if entry.kind == "tag_delete" else entry.reference
        if digest not in state:
            return set()
        if entry.kind == "tag_delete":
            return {digest} | reading.blocking(digest)
        subjects = {one for one in reading.subjects[digest] if digest in reading.blocking(one)}
        return (reading.belonging(digest) | subjects) - {digest}
