"""Goes through the records of a round; knows the README's promises, and none of the product's code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import requests

from tests.chaos.cases import Case
from tests.chaos.records import REFUSED, Asked, Delivery, Records, State, Version, now_ms
from tests.chaos.tuning import LOOK_MAX_S, PACED_SLACK_S, SLACK_S
from tests.support import oracle
from tests.support.oracle import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that must not have happened, and the manifests that it is about."""

    what: str
    digests: frozenset[str] = frozenset()


class View:
    """One complete listing that a process was given.  ``end`` is when it knew all that it may have read for it."""

    def __init__(self, pages: Sequence[Asked], versions: Sequence[Version], policy: Mapping[str, object]) -> None:
        self.begin = pages[0].arrived
        self.listed = self.end = pages[-1].time
        self.policy = policy
        self.state: State = {}
        for page in pages:
            state = versions[page.before].state
            shown = [digest for digest in sorted(state) if digest > page.last]
            self.state |= {digest: state[digest] for digest in shown[: page.limit]}

    @cached_property
    def going(self) -> frozenset[str]:
        return oracle.may_go(self.state.values(), self.policy, int(self.listed * 1000))

    def going_but(self, just_pushed: frozenset[str]) -> frozenset[str]:
        return oracle.may_go(self.state.values(), self.policy, int(self.listed * 1000), just_pushed=just_pushed)

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.state.values())


class Judge:
    """Goes through the records of a round.

    Gaps, which no client can close because nothing in the registry is deleted on a condition:

    * ``tag moved``: a tag moved between the look at it and its deletion, within ``LOOK_MAX_S`` and at the first try;
    * ``child gone``: a push skipped what was there, and found it gone when it put the index (see ``Clients``);
    * ``attached``: a subject was refused, a listing showed nothing new, then something was attached, and the
      subject's referrers, which the registry wants gone first, had been asked to go;
    * ``pushed again``: what was deleted since the listing was pushed again, and the digest says no difference.
    """

    def __init__(self, case: Case, records: Records) -> None:
        self._case = case
        self._records = records
        self.losses: list[Loss] = []
        self.gaps: Counter[str] = Counter()
        self._asked: dict[tuple[str, str], list[Asked]] = {}
        for entry in records.asked:
            self._asked.setdefault((entry.who, entry.repository), []).append(entry)
        for entries in self._asked.values():
            entries.sort(key=lambda entry: entry.time)
        self._views = {key: self._views_of(key[1], entries) for key, entries in self._asked.items()}
        # When each process was first told to slow down.
        self._paced: dict[str, float] = {}
        for entry in sorted(records.asked, key=lambda entry: entry.time):
            if entry.answered == requests.codes.too_many_requests:
                self._paced.setdefault(entry.who, entry.time)
        # By repository, the manifests that a tag was taken from.
        self._untagged: dict[str, set[str]] = {}
        for entry in records.asked:
            if entry.kind == "tag_delete" and entry.status == requests.codes.accepted:
                self._untagged.setdefault(entry.repository, set()).add(entry.named)
        self._counted: Counter[tuple[str, str]] = Counter()
        # Whose deletion has been judged already.
        self._lost_tags: set[tuple[str, str]] = set()
        self._lost_digests: set[tuple[str, str]] = set()

    def judge(self) -> None:
        for (who, repository), entries in self._asked.items():
            if repository not in self._case.repositories:
                continue
            for entry in entries:
                if entry.kind in ("manifest_delete", "tag_delete"):
                    self._judge_deletion(entry, entries, self._views[who, repository])
            if self._case.repositories[repository] is None:
                self._lose(f"{repository} has no policy and was asked for {entries[0].kind}")
        for delivery in self._records.deliveries:
            self._judge_delivery(delivery)
        for repository, policy in self._case.repositories.items():
            self._judge_states(repository, policy)
        self._judge_pushes()

    def _lose(self, what: str, *digests: str) -> None:
        self.losses.append(Loss(what, frozenset(digests)))

    def _label(self, digest: str) -> str:
        return self._records.label(digest)

    def _views_of(self, repository: str, entries: Sequence[Asked]) -> list[View]:
        policy = self._case.repositories.get(repository)
        if policy is None:
            return []
        views: list[View] = []
        pages: list[Asked] = []
        is_reading = False
        for entry in entries:
            # What did not arrive as it was sent told the process nothing.
            if entry.kind == "tags_list" and entry.status == entry.answered == requests.codes.ok:
                pages = [page for page in pages if page.last < entry.last] if entry.last else []
                pages.append(entry)
                if not entry.has_more:
                    views.append(View(pages, self._records.versions[repository], policy))
                    is_reading = True
            elif entry.kind == "manifest_get" and views:
                if entry.status == entry.answered == requests.codes.not_found:
                    views[-1].state.pop(entry.reference, None)
                if is_reading:
                    views[-1].end = entry.time
            elif entry.kind in ("manifest_head", "manifest_delete", "tag_delete"):
                is_reading = False
        return views

    def _slack(self, who: str, at: float) -> float:
        return PACED_SLACK_S if self._paced.get(who, at) < at else SLACK_S

    def _began(self, view: View, digest: str, entries: Sequence[Asked]) -> float:
        """When the process first asked for anything about ``digest`` after it had listed it."""
        about = {digest, *view.state[digest].tags, *view.reading.names_subject[digest]}
        return min(
            (
                entry.arrived
                for entry in entries
                if entry.arrived > view.listed
                and entry.reference in about
                and entry.kind in ("manifest_head", "manifest_delete", "tag_delete")
            ),
            default=view.listed,
        )

    def _judge_deletion(self, entry: Asked, entries: Sequence[Asked], views: Sequence[View]) -> None:
        if self._case.repositories[entry.repository] is None or self._case.is_dry(entry.repository):
            self._lose(f"{entry.kind} of {entry.reference} in {entry.repository}, where nothing may be deleted")
            return
        before = self._records.versions[entry.repository][entry.before].state
        if entry.kind == "tag_delete":
            self._judge_tag(entry, entries, views)
            return
        digest = entry.reference
        held = before.get(digest)
        listed = [view for view in views if view.listed <= entry.arrived and digest in view.going]
        label = self._label(digest)
        if not listed:
            self._lose(f"{entry.who} asks for {label} to be deleted, which no listing of it lets go", digest)
            return
        bound = self._case.plan_age_s + self._slack(entry.who, entry.arrived)
        plans = [view for view in listed if self._began(view, digest, entries) - view.end <= bound]
        if not plans:
            late = min(self._began(view, digest, entries) - view.end for view in listed)
            self._lose(f"{entry.who} begins to delete {label} {late:.1f} s after its plan", digest)
            return
        self._judge_deadline(entry, min(self._began(view, digest, entries) for view in plans))
        if held is None:
            return
        same = [view for view in plans if view.state[digest].uploaded == held.uploaded]
        if not same:
            if entry.status == requests.codes.accepted:
                self.gaps["pushed again"] += 1
                self._lost_digests.add((entry.repository, digest))
            return
        self._judge_order(entry, entries, before, same)
        self._judge_orphan(entry, entries, same)
        if entry.status == requests.codes.accepted:
            self._judge_wanted(entry, same)
            self._judge_limit(entry, same)

    def _judge_deadline(self, entry: Asked, began: float) -> None:
        """``TIME_LIMIT`` after a message's arrival its run begins no further deletion."""
        sent = [
            one.sent
            for one in self._records.deliveries
            if one.who == entry.who and one.message.repository == entry.repository and one.sent <= began <= one.ended
        ]
        if not sent:
            self._lose(f"{entry.who} deletes {self._label(entry.reference)} while it handles no message of this")
            return
        late = began - max(sent) - self._case.time_limit_s
        if late > self._slack(entry.who, began):
            self._lose(f"{entry.who} begins to delete {late:.1f} s after its time was over", entry.reference)

    def _judge_limit(self, entry: Asked, plans: Sequence[View]) -> None:
        """A process has deleted no more images and orphans than all runs may that it can have begun."""
        policy = self._case.repositories[entry.repository]
        limit = policy.get("max_deletions") if policy else None
        counts = {*oracle.IMAGES, oracle.ORPHAN}
        if isinstance(limit, int) and all(view.reading.kinds[entry.reference] in counts for view in plans):
            key = (entry.who, entry.repository)
            self._counted[key] += 1
            runs = sum(
                one.who == entry.who and one.message.repository == entry.repository and one.sent < entry.time
                for one in self._records.deliveries
            )
            if self._counted[key] > limit * runs:
                self._lose(f"{entry.who} deletes {self._counted[key]} images in {runs} runs of at most {limit}")

    def _judge_wanted(self, entry: Asked, plans: Sequence[View]) -> None:
        """A run deletes nothing that its own message names: the only one that was handled when its listing began."""
        for view in plans:
            handled = [
                one
                for one in self._records.deliveries
                if one.who == entry.who
                and one.message.repository == entry.repository
                and one.sent <= view.begin <= one.ended
            ]
            named = [one.message for one in handled if one.message.action == "INSERT" and one.ended > entry.time]
            if len(handled) != 1 or not named or named[0].digest != entry.reference:
                return
        number = named[0].number
        label = self._label(entry.reference)
        self._lose(f"message {number} of {entry.who}'s run names {label}, and it is deleted", entry.reference)

    def _judge_order(self, entry: Asked, entries: Sequence[Asked], before: State, plans: Sequence[View]) -> None:
        """Indexes before children, subjects before referrers; those of a refused subject only after a new look."""
        digest = entry.reference

        def still(other: str, view: View) -> bool:
            return other in before and before[other].uploaded == view.state[other].uploaded

        if all(any(still(parent, view) for parent in view.reading.parents[digest]) for view in plans):
            self._lose(f"{self._label(digest)} is asked to go before an index that lists it", digest)
        first = plans[-1]
        for subject in sorted(first.reading.subjects[digest] - {digest}):
            if not all(subject in view.reading.subjects[digest] and still(subject, view) for view in plans):
                continue
            # Within a loop of cosign tags nothing is first.
            if any(subject in view.reading.reach({digest}, view.reading.belonging) for view in plans):
                continue
            blocked = first.reading.blocked_behind(digest, subject)
            refused = [
                one
                for one in entries
                if one.kind == "manifest_delete"
                and one.reference in blocked
                and one.status == one.answered == REFUSED
                and plans[0].listed < one.time < entry.arrived
            ]
            if not refused:
                self._lose(
                    f"{self._label(digest)} is asked to go before its subject {self._label(subject)}", digest, subject
                )
            elif entry.status == requests.codes.accepted:
                self._judge_attached(entry, before, plans, refused[0], subject)

    def _judge_orphan(self, entry: Asked, entries: Sequence[Asked], plans: Sequence[View]) -> None:
        """Before an orphan goes, its subject was looked for once more, and was not there."""
        digest = entry.reference
        for subject in sorted(plans[-1].reading.names_subject[digest]):
            if any(view.reading.kinds[digest] != oracle.ORPHAN for view in plans):
                continue
            looks = [
                one
                for one in entries
                if one.kind == "manifest_head"
                and one.reference == subject
                and one.status == one.answered
                and plans[0].listed < one.time < entry.arrived
            ]
            if not looks or looks[-1].status != requests.codes.not_found:
                self._lose(
                    f"{self._label(digest)} goes, and nobody looked for {self._label(subject)}", digest, subject
                )

    def _judge_attached(
        self, entry: Asked, before: State, plans: Sequence[View], refused: Asked, subject: str
    ) -> None:
        """Whether a referrer went whose subject, refused, is needed by something new."""
        if not self._newly_needed(entry.repository, entry.reference, before, plans):
            return
        versions = self._records.versions[entry.repository]
        seen = [
            view
            for view in self._views[entry.who, entry.repository]
            if refused.time <= view.begin and view.listed <= entry.arrived
        ]
        blind = [
            view for view in seen if not self._newly_needed(entry.repository, entry.reference, view.state, plans)
        ]
        texts = f"{self._label(entry.reference)} goes, and its subject {self._label(subject)} is needed again"
        if blind:
            self.gaps["attached"] += 1
            self._lost_digests.add((entry.repository, entry.reference))
        else:
            when = next(
                v.time for v in versions if self._newly_needed(entry.repository, entry.reference, v.state, plans)
            )
            why = "though a listing says so" if seen else "and nobody looked since it was refused"
            self._lose(f"{texts} since {entry.time - when:.3f} s, {why}", entry.reference, subject)

    def _newly_needed(self, repository: str, digest: str, state: State, plans: Sequence[View]) -> bool:
        """Whether something that is new to every one of ``plans`` is kept, and needs ``digest``."""
        if digest not in state:
            return False
        policy = self._case.repositories[repository] or {}
        kept = state.keys() - oracle.may_go(state.values(), policy, now_ms())
        new = {
            other
            for other, held in state.items()
            if all(
                other not in view.state
                or view.state[other].uploaded != held.uploaded
                or (other in kept and not held.tags <= view.state[other].tags)
                for view in plans
            )
        }
        return digest in Reading(state.values()).closure(new)

    def _judge_tag(self, entry: Asked, entries: Sequence[Asked], views: Sequence[View]) -> None:
        tag = entry.reference
        listed = [view for view in views if view.listed <= entry.arrived]
        judged = {digest for view in listed for digest in view.going if tag in view.state[digest].tags}
        names = " ".join(self._label(one) for one in sorted({*judged, entry.named} - {""}))
        if not judged:
            self._lose(f"{entry.who} asks for the tag {tag} to be deleted, which no listing lets go", entry.named)
            return
        history = [one for one in entries if one.reference == tag and one.arrived < entry.arrived]
        looks = [
            one
            for one in history
            if one.kind == "manifest_head" and one.status == one.answered and one.arrived > listed[0].listed
        ]
        tries = [one for one in history if one.kind == "tag_delete" and looks and one.arrived > looks[-1].time]
        if not looks or tries:
            again = f", which is the try number {len(tries) + 1}" if looks else ""
            self._lose(f"{entry.who} asks for the tag {tag} to be deleted without a look{again} ({names})", *judged)
            return
        if entry.status == requests.codes.accepted:
            self._lost_tags.add((entry.repository, tag))
        if entry.status != requests.codes.accepted or entry.named in judged:
            return
        look = looks[-1]
        late = entry.arrived - look.time
        if look.named in judged and late <= LOOK_MAX_S:
            self.gaps["tag moved"] += 1
            return
        showed = self._label(look.named) if look.named else "nothing"
        self._lose(
            f"{entry.who} deletes the tag {tag} of {self._label(entry.named)}, judged with {names},"
            f" {late:.3f} s after the last look, which showed {showed}",
            entry.named,
            *judged,
        )

    def _judge_delivery(self, delivery: Delivery) -> None:
        message = delivery.message
        number = message.number
        if delivery.outcome.startswith("crashed"):
            self._lose(f"message {number}: {delivery.outcome}")
        if message.poison or message.action == "DELETE":
            if delivery.outcome == "failed":
                self._lose(f"message {number} is not acknowledged: {message.poison or message.action}")
            return
        policy = self._case.repositories[message.repository]
        if delivery.outcome != "acked" or policy is None:
            return
        asked = self._asked.get((delivery.who, message.repository), [])
        during = [one for one in asked if delivery.sent <= one.time <= delivery.ended]
        # Two may be the same request's: refused with a fresh token, which is for good.
        if sum(one.answered == 401 for one in during) > 1:
            return
        views = [
            view
            for view in self._views.get((delivery.who, message.repository), [])
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
        if any(one.status == REFUSED and "delete" in one.kind for one in during):
            return frozenset()
        # While pages were read a tag may have moved from one to another, and stand on both.
        listed = {(tag, digest) for digest, held in view.state.items() for tag in held.tags}
        for one in during:
            # A tag that has moved, or an orphan's subject that has come.
            looked = one.kind == "manifest_head" and one.status == requests.codes.ok
            if looked and {digest for tag, digest in listed if tag == one.reference} != {one.named}:
                return frozenset()
        named = frozenset(
            one.message.digest
            for one in self._records.deliveries
            if one.who == delivery.who
            and one.message.digest
            and one.sent <= delivery.ended
            and one.ended >= view.begin
        )
        left = set(view.going_but(named))
        stripped = self._stripped(delivery.message.repository, view.state)
        now = int(view.listed * 1000)
        left &= oracle.may_go(view.state.values(), view.policy, now, just_pushed=named, placeless=stripped)
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

    def _stripped(self, repository: str, state: State) -> set[str]:
        """What processes have left without tags: those that know let it take nobody's place among the newest."""
        untagged = self._untagged.get(repository, set())
        return {digest for digest in untagged if digest in state and not state[digest].tags}

    def _judge_states(self, repository: str, policy: Mapping[str, object] | None) -> None:
        """What every state, and every listing that anybody was given, keeps must be there."""
        versions = self._records.versions[repository]
        must = set(versions[0].state)
        if policy is not None and not self._case.is_dry(repository):
            for version in versions:
                must &= version.state.keys() - oracle.may_go(version.state.values(), policy, int(version.time * 1000))
            for (_, name), views in self._views.items():
                for view in views if name == repository else ():
                    must &= view.state.keys() - view.going
        must -= {digest for name, digest in self._records.client_deleted if name == repository}
        for digest in sorted(must - versions[-1].state.keys()):
            self._lose(f"{self._label(digest)} was kept all the time, and is gone", digest)

    def _judge_pushes(self) -> None:
        for pushed in self._records.pushed:
            state = self._records.versions[pushed.repository][-1].state
            # Its children may have followed it.
            if (pushed.repository, pushed.digest) in self._records.client_deleted | self._lost_digests:
                continue
            for digest in (pushed.digest, *sorted(pushed.children)):
                key = (pushed.repository, digest)
                if digest in state or key in self._records.client_deleted or key in self._lost_digests:
                    continue
                self._lose(f"{self._label(digest)} was pushed meanwhile, and is gone", digest, pushed.digest)
        new = {(one.repository, one.digest) for one in self._records.pushed}
        for (repository, tag), wanted in self._records.client_tags.items():
            if wanted is None or (repository, wanted) not in new or (repository, tag) in self._lost_tags:
                continue
            state = self._records.versions[repository][-1].state
            if wanted in state and tag not in state[wanted].tags:
                self._lose(f"the tag {tag} of {self._label(wanted)} was set meanwhile, and is gone", wanted)

    def judge_rest(self) -> None:
        """Once nothing goes wrong any more, what is left is what the policy says."""
        for repository, policy in self._case.repositories.items():
            if policy is None or self._case.is_dry(repository):
                continue
            state = self._records.versions[repository][-1].state
            left = oracle.left_to_go(state.values(), policy, now_ms())
            stripped = self._stripped(repository, state)
            left &= oracle.left_to_go(state.values(), policy, now_ms(), placeless=stripped)
            if left:
                names = " ".join(self._label(one) for one in sorted(left))
                self._lose(f"{repository} has come to rest, and {names} should have gone", *left)
