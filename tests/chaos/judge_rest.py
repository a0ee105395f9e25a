"""Whether everything is there that was kept, and whether each message's work was done."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING

import requests

from tests.chaos.records import REFUSED, Asked, Delivery, now_ms
from tests.chaos.views import ACCEPTED, NOT_FOUND, Known, View
from tests.support import oracle
from tests.support.oracle import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.chaos.losses import Findings
    from tests.chaos.records import State
    from tests.chaos.timeline import Key, Timeline


class RestJudge:
    """Judges what is left of the repositories, and how messages ended.

    Nothing that the clients' changes alone would have kept may be lost: each state is judged as if no process had
    deleted anything yet.
    """

    def __init__(self, timeline: Timeline, found: Findings) -> None:
        self._timeline = timeline
        self._case = timeline.case
        self._records = timeline.records
        self._found = found
        self._lose = found.lose

    def judge(self) -> None:
        for delivery in self._records.deliveries:
            self._judge_delivery(delivery)
        for repository, policy in self._case.repositories.items():
            self._judge_kept(repository, policy)
        self._judge_pushes()

    def _label(self, digest: str) -> str:
        return self._records.label(digest)

    # What was kept.

    def _judge_kept(self, repository: str, policy: Mapping[str, object] | None) -> None:
        """What every state and every listing keeps, if no run had deleted anything of it, must be there."""
        versions = self._records.versions[repository]
        must = set(versions[0].state)
        if policy is not None and not self._case.is_dry(repository):
            for time, raw in self._states(repository):
                must &= _kept(raw, self._known(repository, time, raw), policy, time)
            for (who, name), views in self._timeline.views.items():
                for view in views if name == repository else ():
                    others = self._known(repository, view.listed, view.raw, but=who)
                    for known in view.known:
                        must &= _kept(view.raw, others.joined(known), policy, view.listed)
        must -= {digest for name, digest in self._records.client_deleted if name == repository}
        for digest in sorted(must - versions[-1].state.keys()):
            gap = self._gap(repository, digest)
            if gap:
                self._found.gaps[gap] += 1
            elif (repository, digest) not in self._found.excused:
                self._lose(f"{self._label(digest)} was kept all the time, and is gone", digest)

    def _states(self, repository: str) -> Iterator[tuple[float, State]]:
        """The states after each change by a client or end of a run."""
        versions = self._records.versions[repository]
        by_processes = {one.after for one in self._timeline.changes(repository)}
        moments = {(version.time, number) for number, version in enumerate(versions) if number not in by_processes}
        for _, ended in self._timeline.ends(repository):
            number = bisect(versions, ended, key=lambda version: version.time) - 1
            moments.add((ended, max(number, 0)))
        for time, number in sorted(moments):
            yield time, versions[number].state

    def _known(self, repository: str, until: float, raw: State, but: str = "") -> Known:
        """What the runs under way at a moment, but those of one process, had deleted, and is not there again.

        A run that has ended well leaves nothing to later ones; one that was killed or failed leaves all of it.
        """
        versions = self._records.versions[repository]
        since = {who: ended for who, ended in self._timeline.ends(repository) if ended <= until}
        known = Known()
        for entry in self._timeline.changes(repository):
            if entry.time <= until and entry.who != but and entry.time > since.get(entry.who, 0.0):
                _note(known, entry, versions[entry.before].state)
        known.observe(raw)
        return known

    def _gap(self, repository: str, digest: str) -> str:
        """The gap in which a manifest was lost: another process had deleted an image by half.

        Its parts then looked like untagged images.  They took the place of ``digest``, which is kept if they take
        none, and if they are put together again.
        """
        for entry in self._records.asked:
            is_it = entry.repository == repository and entry.reference == digest
            if not (is_it and entry.kind == "manifest_delete" and entry.status == ACCEPTED):
                continue
            view = self._timeline.view_at((entry.who, repository), entry.arrived)
            if view is None or digest not in view.may_go:
                continue
            others = self._known(repository, view.listed, view.raw, but=entry.who)
            whole = Reading(others.restore(view.state).values())
            parts = {
                one for one in view.raw if others.tags.get(one) or whole.owners(one) & others.deleted.keys()
            } & view.untagged
            counted = view.untagged - parts
            if not parts or any(digest in view.going(reading, counted) for reading in view.readings):
                continue
            owners = frozenset().union(*(whole.owners(one) for one in parts)) & others.deleted.keys()
            makers = {
                one.who
                for one in self._records.asked
                if one.status == ACCEPTED and one.time <= view.listed and one.reference in owners
            }
            is_killed = makers and all(self._records.killed.get(one, view.end) < view.end for one in makers)
            return "half deleted by a killed process" if is_killed else "half deleted by another process"
        return ""

    def _judge_pushes(self) -> None:
        excused = self._records.client_deleted | self._found.excused
        for pushed in self._records.pushed:
            state = self._records.versions[pushed.repository][-1].state
            # Its children may have followed it.
            if (pushed.repository, pushed.digest) in excused:
                continue
            for digest in (pushed.digest, *sorted(pushed.children)):
                if digest not in state and (pushed.repository, digest) not in excused:
                    self._lose(f"{self._label(digest)} was pushed meanwhile, and is gone", digest, pushed.digest)
        new = {(one.repository, one.digest) for one in self._records.pushed}
        for (repository, tag), wanted in self._records.client_tags.items():
            if wanted is None or (repository, wanted) not in new or (repository, tag) in self._found.excused_tags:
                continue
            state = self._records.versions[repository][-1].state
            if wanted in state and tag not in state[wanted].tags:
                self._lose(f"the tag {tag} of {self._label(wanted)} was set meanwhile, and is gone", wanted)

    # What was done.

    def _judge_delivery(self, delivery: Delivery) -> None:
        message = delivery.message
        number, key = message.number, (delivery.who, message.repository)
        if delivery.outcome.startswith("crashed"):
            self._lose(f"message {number}: {delivery.outcome}")
        if message.poison or message.action == "DELETE":
            if delivery.outcome == "failed":
                self._lose(f"message {number} is not acknowledged: {message.poison or message.action}")
            return
        policy = self._case.repositories[message.repository]
        if delivery.outcome != "acked" or policy is None or message.action != "INSERT":
            return
        asked = self._timeline.asked.get(key, [])
        during = [one for one in asked if delivery.sent <= one.time <= delivery.ended]
        # Two may be the same request's: refused with a fresh token, which is for good.
        if sum(one.answered == 401 for one in during) > 1:
            return
        views = [
            view
            for view in self._timeline.views.get(key, [])
            if view.begin > message.published - 0.001 and view.listed < delivery.ended
        ]
        if not views:
            self._lose(
                f"message {number} is acknowledged, and {delivery.who} has listed nothing since it was published"
            )
        elif policy.get("max_deletions") is None and not self._case.is_dry(message.repository):
            left = [self._left_by(view, delivery, asked) for view in views]
            if all(left):
                names = " ".join(self._label(one) for one in sorted(left[-1]))
                self._lose(f"message {number} is acknowledged by {delivery.who}, and {names} left alone", *left[-1])

    def _left_by(self, view: View, delivery: Delivery, asked: Sequence[Asked]) -> frozenset[str]:
        """What the run of ``view`` had to delete and did not, with nothing that excuses it."""
        during = [one for one in asked if view.listed <= one.time <= delivery.ended]
        if any("delete" in one.kind and _is_refused(one) for one in during):
            return frozenset()
        if any(self._has_surprised(view, one) for one in during if one.kind == "manifest_head"):
            return frozenset()
        messages = [
            one.message
            for one in self._records.deliveries
            if one.who == delivery.who and one.sent <= delivery.ended and one.ended >= view.begin
        ]
        digests, tags = {one.digest for one in messages}, {one.tag for one in messages}
        named = {digest for digest, held in view.state.items() if digest in digests or held.tags & tags}
        views = self._timeline.views[delivery.who, delivery.message.repository]
        expected = self._expected(view, (delivery.who, delivery.message.repository))
        # An attestation waits for what it attests, and stays with it if that is kept, in a cycle for instance.
        left = {digest for digest in expected if view.reading.attests(digest) <= expected}
        wanted = named | view.may_be_moved_to | self._crossed(view, views, asked) | _set_again(view, asked)
        # A run knows a subject once it has read it, also of what has got a tag since.
        left = left.difference(*(reading.closure(wanted) for reading in view.readings))
        # An attestation stays with what it attests, which stands beside it in their index, if a message names that.
        reading = view.reading
        left -= {
            digest for digest in left if any(named & reading.children[index] for index in reading.parents[digest])
        }
        versions = self._records.versions[delivery.message.repository]
        for number, version in enumerate(versions):
            until = versions[number + 1].time if number + 1 < len(versions) else float("inf")
            if until >= view.listed and version.time <= delivery.ended:
                left &= version.state.keys()
        return frozenset(left)

    def _has_surprised(self, view: View, head: Asked) -> bool:
        """Whether a run found another tag, subject or child than it had listed."""
        if head.status not in (requests.codes.ok, NOT_FOUND):
            return False
        if not head.reference.startswith("sha256:"):
            # While pages were read a tag may have moved from one to another, and stand on both.
            return {digest for digest, held in view.raw.items() if head.reference in held.tags} != {head.named}
        if head.status == NOT_FOUND:
            return head.reference in view.raw
        reading = view.reading
        return any(
            head.reference in reading.names_subject[digest]
            for digest, kind in reading.kinds.items()
            if kind == oracle.ORPHAN
        )

    def _crossed(self, view: View, views: Sequence[View], asked: Sequence[Asked]) -> set[str]:
        """What a process may take for tagged: somebody else deleted a tag that it was about to delete."""
        missed = {
            one.reference
            for one in asked
            if one.kind == "manifest_head" and one.status == NOT_FOUND and one.time < view.begin
        }
        return {
            digest
            for one in views
            if one.begin < view.begin
            for digest, held in one.raw.items()
            if held.tags & missed
        }

    def _expected(self, view: View, key: Key) -> set[str]:
        """What has to be deleted of ``view``, whatever the run has read, and whatever listings it counts by."""
        left = set(view.must_go)
        counted = view.untagged
        for other in self._timeline.views[key]:
            if self._timeline.may_be_one_run(key, *sorted((other.begin, view.begin))):
                counted &= other.untagged
        for reading in view.readings:
            left &= view.going(reading, counted)
        return left

    def judge_at_rest(self) -> None:
        """Once nothing goes wrong any more, what is left is what the policy says."""
        for repository, policy in self._case.repositories.items():
            if policy is None or self._case.is_dry(repository):
                continue
            raw = self._records.versions[repository][-1].state
            left = oracle.left_to_go(raw.values(), policy, now_ms())
            # What has lost its tags to a process, and is refused, is still the tagged image that it was.
            for key, views in self._timeline.views.items():
                if key[1] == repository and views:
                    left &= oracle.left_to_go(views[-1].known[0].restore(raw).values(), policy, now_ms())
            if left:
                names = " ".join(self._label(one) for one in sorted(left))
                self._lose(f"{repository} has come to rest, and {names} should have gone", *left)


def _kept(raw: State, known: Known, policy: Mapping[str, object], time: float) -> set[str]:
    """What is kept of a state, put together again with what is known, whatever documents are read of it."""
    state = known.restore(raw)
    kept = set(state)
    for also in ((), state):
        for gone in ((), known.deleted):
            kept -= oracle.may_go(Reading(state.values(), also, gone), policy, int(time * 1000))
    return kept


def _note(known: Known, entry: Asked, before: State) -> None:
    """Note what a request has deleted."""
    if entry.kind == "manifest_delete":
        if entry.reference in before:
            known.add_manifest(before[entry.reference])
    elif entry.kind == "tag_delete":
        known.add_tag(entry.named, entry.reference)


def _is_refused(entry: Asked) -> bool:
    """Whether the registry did not delete what it was asked for, and will not."""
    return entry.status == REFUSED or (400 <= entry.answered < 500 and entry.answered not in (401, 404, 408, 429))


def _set_again(view: View, asked: Sequence[Asked]) -> set[str]:
    """What has a tag again that the process had deleted: somebody pushed it, and that has a message of its own."""
    deleted = {
        one.reference
        for one in asked
        if one.kind == "tag_delete" and one.status == ACCEPTED and one.time < view.begin
    }
    return {digest for digest, held in view.raw.items() if held.tags & deleted}
