"""What the judge finds: losses, and gaps that no client can close."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that must not have happened, and the manifests that it is about."""

    what: str
    digests: frozenset[str] = frozenset()


@dataclass(slots=True)
class Findings:
    """What was found so far; ``excused`` are manifests, and ``excused_tags`` tags, that were lost in a gap."""

    losses: list[Loss] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    excused: set[tuple[str, str]] = field(default_factory=set)
    excused_tags: set[tuple[str, str]] = field(default_factory=set)

    def lose(self, what: str, *digests: str) -> None:
        self.losses.append(Loss(what, frozenset(digests)))
