"""The records of a round by who asked and where, and which runs there can have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import requests

from tests.chaos.tuning import PACED_SLACK_S, SLACK_S
from tests.chaos.views import View, views_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.chaos.cases import Case
    from tests.chaos.records import Asked, Delivery, Records

# A process, and a repository.
Key = tuple[str, str]

# How long after a run's end it may be written down that its message was handled.
_NOTED_S: Final = 0.1
# What a process is asked that makes it prune.
_PRUNES: Final = frozenset({"INSERT", "COMMAND"})


class Timeline:
    """The requests of each process in each repository, in order, with the listings that it was given.

    Nobody tells the judge where one run ends and the next begins.  But each run belongs to a delivery, and the runs
    of a process on one repository follow one another: a delivery lasts from before its run until after it, and
    between two runs a delivery ends.
    """

    def __init__(self, case: Case, records: Records) -> None:
        self.case = case
        self.records = records
        self.asked: dict[Key, list[Asked]] = {}
        self._changes: dict[str, list[Asked]] = {}
        # When each process was first told to slow down.
        self._paced: dict[str, float] = {}
        for entry in sorted(records.asked, key=lambda entry: entry.time):
            self.asked.setdefault((entry.who, entry.repository), []).append(entry)
            if entry.answered == requests.codes.too_many_requests:
                self._paced.setdefault(entry.who, entry.time)
            if entry.status == requests.codes.accepted and entry.before < entry.after:
                self._changes.setdefault(entry.repository, []).append(entry)
        self._deliveries: dict[Key, list[Delivery]] = {}
        for delivery in records.deliveries:
            message = delivery.message
            if message.repository and message.action in _PRUNES:
                self._deliveries.setdefault((delivery.who, message.repository), []).append(delivery)
        self._ends: dict[str, list[tuple[str, float]]] = {}
        for (who, repository), found in self._deliveries.items():
            ended = [(who, one.ended) for one in found if one.outcome == "acked"]
            self._ends[repository] = sorted([*self._ends.get(repository, ()), *ended], key=lambda end: end[1])
        self.views: Mapping[Key, list[View]] = {key: self._views_of(key) for key in self.asked}

    def _views_of(self, key: Key) -> list[View]:
        policy = self.case.repositories.get(key[1])
        if policy is None:
            return []

        def has_ended_well(since: float, until: float) -> bool:
            return any(
                one.outcome == "acked" and since < one.ended <= until + _NOTED_S for one in self.deliveries(key)
            )

        views = views_of(self.asked[key], self.records.versions[key[1]], policy, has_ended_well)
        for at, view in enumerate(views):
            for one in views[:at]:
                if self.is_one_run(key, one.listed, view.begin):
                    view.moved_to |= _tagged_since(one, view)
                if self.may_be_one_run(key, one.begin, view.begin):
                    view.may_be_moved_to |= _tagged_since(one, view)
        return views

    def deliveries(self, key: Key) -> Sequence[Delivery]:
        """The deliveries that made a process prune a repository, or may have."""
        return self._deliveries.get(key, ())

    def changes(self, repository: str) -> Sequence[Asked]:
        """The requests that have deleted something of a repository."""
        return self._changes.get(repository, ())

    def ends(self, repository: str) -> Sequence[tuple[str, float]]:
        """Which processes may have ended a run well, and when, in order."""
        return self._ends.get(repository, ())

    def handled(self, key: Key, at: float) -> list[Delivery]:
        """Those that were being handled at a moment."""
        return [one for one in self.deliveries(key) if one.sent <= at <= one.ended]

    def is_one_run(self, key: Key, first: float, last: float) -> bool:
        """Whether two requests were certainly of one run."""
        return not any(first < one.ended <= last + _NOTED_S for one in self.deliveries(key))

    def may_be_one_run(self, key: Key, first: float, last: float) -> bool:
        """Whether two requests may have been of one run."""
        return any(one.sent <= first and last <= one.ended for one in self.deliveries(key))

    def runs(self, key: Key, until: float) -> int:
        """How many runs can have begun by then."""
        return sum(one.sent < until for one in self.deliveries(key))

    def view_at(self, key: Key, at: float) -> View | None:
        """The listing that what a process does at a moment rests on: the latest."""
        return next((view for view in reversed(self.views[key]) if view.listed <= at), None)

    def slack(self, who: str, at: float) -> float:
        # Where tokens end soon, a request may wait for a new one.
        is_slow = self._paced.get(who, at) < at or (self.case.auth and self.case.expires_in < PACED_SLACK_S)
        return PACED_SLACK_S if is_slow else SLACK_S


def _tagged_since(before: View, view: View) -> set[str]:
    """What ``view`` shows with a tag that it had not in ``before``."""
    return {
        digest
        for digest, held in view.raw.items()
        if held.tags - (before.raw[digest].tags if digest in before.raw else set())
    }
