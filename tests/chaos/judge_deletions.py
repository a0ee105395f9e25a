"""Whether each deletion was allowed, by section 6 of the contract.

A deletion rests on the latest complete listing that its process was given before.  That listing is judged as if the
run had deleted nothing yet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.chaos.records import Asked, State, now_ms
from tests.chaos.tuning import LOOK_MAX_S
from tests.chaos.views import ACCEPTED, NOT_FOUND, View
from tests.support import oracle
from tests.support.oracle import Held, Reading

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.chaos.losses import Findings
    from tests.chaos.timeline import Key, Timeline


class DeletionJudge:
    """Judges what one process asked to be deleted in one repository."""

    def __init__(self, timeline: Timeline, key: Key, found: Findings) -> None:
        self._timeline = timeline
        self._case = timeline.case
        self._records = timeline.records
        self._key = key
        self._who, self._repository = key
        self._found = found
        self._entries = timeline.asked[key]
        self._counted: Counter[str] = Counter()
        self._deletions: dict[str, list[Asked]] = {}
        for entry in self._entries:
            if entry.kind in ("manifest_head", "manifest_delete", "tag_delete"):
                self._deletions.setdefault(entry.reference, []).append(entry)

    def judge(self) -> None:
        policy = self._case.repositories[self._repository]
        for entry in self._entries:
            if entry.kind not in ("manifest_delete", "tag_delete"):
                continue
            if policy is None or self._case.is_dry(self._repository):
                self._lose(f"{entry.kind} of {entry.reference} in {self._repository}, where nothing may be deleted")
                continue
            view = self._timeline.view_at(self._key, entry.arrived)
            if view is None:
                self._lose(f"{self._who} asks for {self._label(entry.reference)} to be deleted without a listing")
            elif entry.kind == "tag_delete":
                self._judge_tag(entry, view)
            else:
                self._judge_manifest(entry, view)

    def _lose(self, what: str, *digests: str) -> None:
        self._found.lose(what, *digests)

    def _label(self, digest: str) -> str:
        return self._records.label(digest)

    def _reasons(self, view: View, digests: Collection[str]) -> str:
        """Why a listing keeps manifests, for each of its readings."""
        now = int(view.listed * 1000)
        found = [
            f"{self._label(digest)} {oracle.decide(reading, view.policy, now, just_pushed=view.moved_to)[digest]}"
            for reading in view.readings
            for digest in sorted(digests)
            if digest in reading.held
        ]
        return ", ".join(dict.fromkeys(found)) or "it does not show it"

    # Manifests.

    def _judge_manifest(self, entry: Asked, view: View) -> None:
        digest, label = entry.reference, self._label(entry.reference)
        if digest not in view.may_go:
            why = self._reasons(view, {digest})
            self._lose(f"{self._who} asks for {label} to be deleted, which its listing keeps: {why}", digest)
            return
        before = self._records.versions[self._repository][entry.before].state
        held = before.get(digest)
        if held is not None and view.state[digest].uploaded != held.uploaded:
            if entry.status == ACCEPTED:
                self._found.gaps["pushed again"] += 1
                self._found.excused.add((self._repository, digest))
            return
        problems = []
        for reading, going in zip(view.readings, view.goings, strict=True):
            if digest in going:
                problem = self._problem(entry, view, reading, going, before)
                if problem is None:
                    break
                problems.append(problem)
        else:
            self._lose(problems[0], digest)
            return
        if held is not None and entry.status == ACCEPTED:
            self._note_attached(entry, view, reading, before)
            self._judge_limit(entry, view)

    def _problem(
        self, entry: Asked, view: View, reading: Reading, going: frozenset[str], before: State
    ) -> str | None:
        """What was wrong with a deletion, if the process took the listing for ``reading``."""
        return (
            self._late(entry, view, reading, going)
            or self._by_count(entry, view, reading)
            or self._out_of_order(entry, view, reading, before)
            or self._orphan_not_checked(entry, view, reading)
            or self._named(entry, view, reading)
        )

    def _asked_about(self, digests: Collection[str], view: View, reading: Reading, until: float) -> float | None:
        """When the process first asked for anything about ``digests`` after it was given ``view``."""
        wanted = {(digest, "manifest_delete") for digest in digests}
        for digest in digests:
            wanted |= {(tag, kind) for tag in reading.held[digest].tags for kind in ("manifest_head", "tag_delete")}
            if reading.kinds[digest] == oracle.ORPHAN:
                wanted |= {(subject, "manifest_head") for subject in reading.names_subject[digest]}
        return min(
            (
                one.arrived
                for reference, kind in wanted
                for one in self._deletions.get(reference, ())
                if one.kind == kind and view.listed < one.arrived <= until
            ),
            default=None,
        )

    def _late(self, entry: Asked, view: View, reading: Reading, going: frozenset[str]) -> str | None:
        """Nothing of an image is begun once the plan is old or the time is over; what was begun is finished."""
        digest, label = entry.reference, self._label(entry.reference)
        slack = self._timeline.slack(self._who, entry.arrived)
        began = self._asked_about({digest}, view, reading, entry.arrived)
        began = entry.arrived if began is None else began
        handled = self._timeline.handled(self._key, began)
        if not handled:
            return f"{self._who} deletes {label} while it handles no message of this"
        limit = max(one.sent for one in handled) + self._case.time_limit_s
        if began > limit + self._case.grace_s + slack:
            return f"{self._who} goes on with {label} {began - limit:.1f} s after its time was over"
        oldest = view.begin + self._case.referrers_age_s
        if began > oldest + slack and any(digest in reading.before(one) for one in reading.subjects[digest] & going):
            return f"{self._who} begins to delete the referrer {label} {began - view.begin:.1f} s after it listed"
        image = self._image(digest, reading, going)
        if view.is_begun(image):
            return None
        begun = self._asked_about(image, view, reading, entry.arrived) or began
        if begun - view.end > self._case.plan_age_s + slack:
            return f"{self._who} begins to delete {label} {begun - view.end:.1f} s after its plan"
        if begun > limit + slack:
            return f"{self._who} begins to delete {label} {begun - limit:.1f} s after its time was over"
        return None

    def _image(self, digest: str, reading: Reading, going: frozenset[str]) -> set[str]:
        """What is deleted before ``digest`` as a part of the same image: its owners, and referrers that block it."""

        def earlier(one: str) -> set[str]:
            return (reading.owners(one) | reading.before(one)) & going

        return reading.reach({digest}, earlier)

    def _by_count(self, entry: Asked, view: View, reading: Reading) -> str | None:
        """Before an untagged image is deleted because others are newer, two listings agree that they are."""
        digest = entry.reference
        going = view.goings[view.readings.index(reading)]
        if digest in view.going(reading, ()) or view.is_begun(self._image(digest, reading, going)):
            return None
        label = self._label(digest)
        if not view.is_whole:
            return f"{label} is deleted by count, and an index of the listing could not be read"
        firsts = [
            one
            for one in self._timeline.views[self._key]
            if one.is_whole
            and one.listed + self._case.relist_delay_s <= view.begin
            and self._timeline.may_be_one_run(self._key, one.begin, view.begin)
        ]
        if any(digest in view.going(reading, one.untagged & view.untagged) for one in firsts):
            return None
        return f"{label} is deleted by count, and no two listings of {len(firsts) + 1} agree on it"

    def _out_of_order(self, entry: Asked, view: View, reading: Reading, before: State) -> str | None:
        """An index before its children; a subject before its referrers by tag, and after those that block it.

        What blocks a subject is deleted after the subject's tags.
        """
        digest, label = entry.reference, self._label(entry.reference)

        def still(other: str) -> bool:
            return _is_same(before.get(other), reading.held[other])

        if any(still(index) for index in reading.indexes(digest) - {digest}):
            return f"{label} is asked to go before an index that it follows"
        for subject in sorted(filter(still, reading.subjects[digest] - {digest})):
            name = self._label(subject)
            if digest not in reading.before(subject):
                return f"{label} is asked to go before its subject {name}"
            left = [
                tag for tag in sorted(before[subject].tags & view.raw[subject].tags) if not self._asked(tag, view)
            ]
            if left:
                return f"{label} is asked to go before the tag {left[0]} of its subject {name}"
        left = sorted(self._label(one) for one in reading.before(digest) & before.keys() if still(one))
        if left:
            return f"{label} is asked to go before its referrers {' '.join(left)}"
        return None

    def _asked(self, tag: str, view: View) -> bool:
        """Whether the process has deleted a tag since it listed it, which somebody may have set again."""
        return any(
            one.kind == "tag_delete" and one.arrived > view.listed and one.status in (ACCEPTED, NOT_FOUND)
            for one in self._deletions.get(tag, ())
        )

    def _orphan_not_checked(self, entry: Asked, view: View, reading: Reading) -> str | None:
        """Before an orphan goes, its subject was looked for once more, and was not there."""
        digest = entry.reference
        if reading.kinds[digest] != oracle.ORPHAN:
            return None
        for subject in sorted(reading.names_subject[digest]):
            looks = [
                one
                for one in self._deletions.get(subject, ())
                if one.kind == "manifest_head"
                and one.status == one.answered
                and view.listed < one.time < entry.arrived
            ]
            if not looks or looks[-1].status != NOT_FOUND:
                return f"{self._label(digest)} goes, and nobody looked for {self._label(subject)}"
        return None

    def _named(self, entry: Asked, view: View, reading: Reading) -> str | None:
        """A run deletes nothing that a message of it names: its own, and those that wait meanwhile."""
        digest = entry.reference
        began = self._asked_about({digest}, view, reading, entry.arrived) or entry.arrived
        # The same message may be delivered again while an earlier delivery of it is handled.
        known = began - self._timeline.slack(self._who, began)
        for one in self._timeline.deliveries(self._key):
            message = one.message
            is_waiting = one.sent < known and one.ended > entry.time
            is_named = message.digest == digest or message.tag in reading.held[digest].tags
            if is_waiting and message.action == "INSERT" and is_named:
                return f"message {message.number} of {self._who}'s run names {self._label(digest)}, and it is deleted"
        return None

    def _judge_limit(self, entry: Asked, view: View) -> None:
        """A process has deleted no more images and orphans than all runs may that it can have begun."""
        policy = self._case.repositories[self._repository]
        limit = policy.get("max_deletions") if policy else None
        counts = {*oracle.IMAGES, oracle.ORPHAN}
        if isinstance(limit, int) and all(one.kinds[entry.reference] in counts for one in view.readings):
            self._counted["images"] += 1
            count, runs = self._counted["images"], self._timeline.runs(self._key, entry.time)
            if count > limit * runs:
                self._lose(f"{self._who} deletes {count} images in {runs} runs of at most {limit}", entry.reference)

    def _note_attached(self, entry: Asked, view: View, reading: Reading, before: State) -> None:
        """A referrer went whose subject is needed again by something that came since the listing."""
        digest = entry.reference
        subjects = {one for one in reading.subjects[digest] if digest in reading.before(one) and one in before}
        if not subjects:
            return
        policy = self._case.repositories[self._repository] or {}
        now = Reading(before.values())
        kept = before.keys() - oracle.may_go(now, policy, now_ms())
        new = {other for other in kept if other not in view.state or not before[other].tags <= view.state[other].tags}
        if subjects & now.closure(new):
            self._found.gaps["attached"] += 1
            self._found.excused.add((self._repository, digest))

    # Tags.

    def _judge_tag(self, entry: Asked, view: View) -> None:
        tag = entry.reference
        judged = {
            digest
            for reading, going in zip(view.readings, view.goings, strict=True)
            for digest in going
            if tag in reading.held[digest].tags
        }
        names = " ".join(self._label(one) for one in sorted({*judged, entry.named} - {""}))
        if not judged:
            why = self._reasons(view, {digest for digest, held in view.state.items() if tag in held.tags})
            self._lose(
                f"{self._who} asks for the tag {tag} to be deleted, which its listing keeps: {why}", entry.named
            )
            return
        history = [one for one in self._deletions[tag] if view.listed < one.arrived < entry.arrived]
        looks = [one for one in history if one.kind == "manifest_head" and one.status == one.answered]
        tries = [one for one in history if one.kind == "tag_delete" and looks and one.arrived > looks[-1].time]
        if not looks or tries:
            again = f", which is the try number {len(tries) + 1}" if looks else ""
            self._lose(f"{self._who} asks for the tag {tag} to be deleted without a look{again} ({names})", *judged)
            return
        problems = [self._tag_problem(entry, view, digest) for digest in sorted(judged)]
        if all(problems):
            self._lose(f"the tag {tag} is deleted, and {problems[0]}", *judged)
            return
        if entry.status == ACCEPTED:
            self._judge_moved(entry, looks[-1], judged, names)

    def _tag_problem(self, entry: Asked, view: View, digest: str) -> str | None:
        """What was wrong with the deletion of a tag of ``digest``: it is deleted with it, or not at all."""
        problem: str | None = ""
        for reading, going in zip(view.readings, view.goings, strict=True):
            if digest not in going:
                continue
            # Judged like the request for its manifest, which comes next.
            manifest = replace(entry, kind="manifest_delete", reference=digest)
            problem = self._late(manifest, view, reading, going) or self._by_count(manifest, view, reading)
            before = self._records.versions[self._repository][entry.before].state
            owners = reading.owners(digest) - {digest} if not self._is_between(digest, reading) else set()
            left = [one for one in sorted(owners & going) if _is_same(before.get(one), view.raw.get(one))]
            if problem is None and left:
                problem = f"{self._label(digest)} loses it before {self._label(left[0])}, which it belongs to"
            if problem is None:
                return None
        return problem

    def _is_between(self, digest: str, reading: Reading) -> bool:
        """Whether it is deleted between the tags of a subject and that subject."""
        return any(digest in reading.before(subject) for subject in reading.subjects[digest])

    def _judge_moved(self, entry: Asked, look: Asked, judged: set[str], names: str) -> None:
        """A tag is deleted only if, immediately before, it named the manifest that it was judged with."""
        tag = entry.reference
        self._found.excused_tags.add((self._repository, tag))
        if entry.named in judged:
            return
        late = entry.arrived - look.time
        if look.named in judged and late <= LOOK_MAX_S:
            self._found.gaps["tag moved"] += 1
            # What has lost its tag so may be deleted as an untagged image, and with it what it needs.
            state = self._records.versions[self._repository][entry.before].state
            self._found.excused |= {(self._repository, one) for one in Reading(state.values()).closure({entry.named})}
            return
        showed = self._label(look.named) if look.named else "nothing"
        self._lose(
            f"{self._who} deletes the tag {tag} of {self._label(entry.named)}, judged with {names},"
            f" {late:.3f} s after the last look, which showed {showed}",
            entry.named,
            *judged,
        )


def _is_same(one: Held | None, other: Held | None) -> bool:
    """Whether both are there, and neither was pushed again since."""
    return one is not None and other is not None and one.uploaded == other.uploaded
