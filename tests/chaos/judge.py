"""Goes through the records of a round; knows the contract's promises, and none of the product's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.judge_deletions import DeletionJudge
from tests.chaos.judge_rest import RestJudge
from tests.chaos.judge_runs import RunJudge
from tests.chaos.losses import Findings, Loss
from tests.chaos.timeline import Timeline

if TYPE_CHECKING:
    from collections import Counter

    from tests.chaos.cases import Case
    from tests.chaos.records import Records


class Judge:
    """Judges the records of a round.

    Gaps, which no client can close because nothing in the registry is deleted on a condition:

    * ``tag moved``: a tag moved between its check and its deletion, within ``LOOK_MAX_S`` and at the first try;
    * ``child gone``: a push skipped what was there, and found it gone when it put the index (see ``Clients``);
    * ``attached``: something was attached to a subject after the listing that its referrers' deletion rests on;
    * ``pushed again``: what was deleted since the listing was pushed again, and the digest says no difference;
    * ``half deleted by a killed process`` and ``… by another process``: parts of an image that such a one had begun
      took the places of untagged images.
    """

    def __init__(self, case: Case, records: Records) -> None:
        self._case = case
        self._timeline = Timeline(case, records)
        self._found = Findings()
        self._rest = RestJudge(self._timeline, self._found)

    @property
    def losses(self) -> list[Loss]:
        return self._found.losses

    @property
    def gaps(self) -> Counter[str]:
        return self._found.gaps

    def judge(self) -> None:
        for key, entries in self._timeline.asked.items():
            repository = key[1]
            if repository not in self._case.repositories:
                continue
            DeletionJudge(self._timeline, key, self._found).judge()
            RunJudge(self._timeline, key, self._found).judge()
            if self._case.repositories[repository] is None:
                self._found.lose(f"{repository} has no policy and was asked for {entries[0].kind}")
        self._rest.judge()

    def judge_rest(self) -> None:
        """Once nothing goes wrong any more, what is left is what the policy says."""
        self._rest.judge_at_rest()
