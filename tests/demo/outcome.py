"""What came of one repository, and how it differs from what the policy says."""

from __future__ import annotations

from dataclasses import dataclass

from tests.demo.histories import Expected, History
from tests.demo.tree import names_of, short
from tests.emulator.store import Manifest
from tests.support.held import Held


@dataclass(frozen=True, slots=True)
class Outcome:
    """One repository before and after the function, and what the function's log says about it."""

    history: History
    before: dict[str, Manifest]
    held: Held
    after: dict[str, Manifest]
    reasons: dict[str, str]
    messages: int
    runs: int
    requests: int
    seconds: float
    size: int

    @property
    def deleted(self) -> list[str]:
        return [digest for digest in self.before if digest not in self.after]

    def differences(self) -> list[str]:
        """In what this is not what the policy says; empty if it is."""
        found = [
            self._difference(digest, expected, f"{names_of(self.before[digest])} ({short(digest)}, {expected.why})")
            for digest, expected in self.history.expected.items()
        ]
        part_of_kept = {
            part for digest, one in self.history.expected.items() if one.is_kept for part in self.held.whole(digest)
        }
        known = {part for digest in self.history.expected for part in self.held.whole(digest)}
        for digest in self.before:
            should = digest in part_of_kept
            if digest not in known:
                found.append(f"{short(digest)}: the demo does not say what should become of it")
            elif digest not in self.history.expected and should != (digest in self.after):
                found.append(f"{short(digest)}: a part that should be {_fate(should)}, and is not")
        return [f"{self.history.path}: {one}" for one in found if one]

    def _difference(self, digest: str, expected: Expected, name: str) -> str:
        if expected.is_kept != (digest in self.after):
            return f"{name}: should be {_fate(expected.is_kept)}, and is not"
        if expected.is_kept and not set(self.before[digest].tags) <= set(self.after[digest].tags):
            return f"{name}: has lost a tag"
        if self.reasons.get(digest, "") != expected.reason:
            return f"{name}: the reason should be {expected.reason!r}, and is {self.reasons.get(digest, '')!r}"
        return ""


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep.

    ``outcome`` is that of the repository which it is for, ``pruned`` are the paths of all that it asked for, and
    ``differences`` is in what the others are not as they should be.
    """

    outcome: Outcome
    pruned: frozenset[str]
    differences: list[str]


def _fate(is_kept: bool) -> str:
    return "kept" if is_kept else "deleted"
