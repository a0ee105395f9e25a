"""What must be there after a scene, and which of what is lost fell into a gap that no client can close.

What must be there is worked out from the contract's text, by the oracle: on the state before the run, and on what an
event brought.  A gap is recognised by when its event came, relative to the requests of the run.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cleaner.core.errors import PermissionDenied
from tests.support.direct import LIST, NAME
from tests.support.model import held, kept, left_to_go
from tests.support.oracle import ORPHAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.direct import Sent
    from tests.support.model import History
    from tests.support.model_events import Scene
    from tests.support.oracle import Held

# Contract, section 6: how old a listing may be when a deletion of a subject's OCI referrer begins.
REFERRERS_S: Final = 10
PLAN_S: Final = 60

# The gaps that the contract names.
TAG_MOVED: Final = "a tag moved between its check and its deletion"
UPLOAD_SKIPPED: Final = "a push skipped an upload, and what was there was deleted"
ATTACHED: Final = "attached to an expired subject within 10 s of the listing"
KILLED: Final = "parts of a killed process's image took a place in the next run"
# Those that it does not name.  The registry knows nothing of a subject by tag, and a request that is under way cannot
# be called back.
PUSHED_AGAIN: Final = "pushed again while it was being deleted"
SIGNED: Final = "attached by tag, after the listing, to what was then deleted"
RETURNED: Final = "pushed again before its signature was deleted"
SUBJECT_CAME: Final = "a subject came between its check and its orphan's deletion"
COVERED: Final = "a redundant index was deleted after an index that covers it had come"
LATER: Final = "parts of an image whose deletion failed for good took a place in another process's run"


class Judge:
    """What is wrong after a scene, in words, and the gaps that it fell into."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.history = scene.history
        self.wrong: list[str] = []
        self.gaps: Counter[str] = Counter()
        self.after = held(scene.store)
        self._happened = len(scene.wire.sent) if scene.happened_at is None else scene.happened_at

    def judge(self) -> None:
        scene = self.scene
        self._judge_end()
        self.gaps[UPLOAD_SKIPPED] += scene.skipped_uploads
        steady = self._steady()
        untagged = scene.untagged.keys() & kept(scene.judged_as)
        wanted = scene.brought.union(scene.covered, *(scene.untagged[digest] for digest in untagged))
        for digest in sorted((steady | wanted) - self.after.keys()):
            gap = None if digest in steady else self._gap(digest)
            if gap is None:
                self.wrong.append(f"{self._name(digest)} is lost")
            else:
                self.gaps[gap] += 1
        self._judge_tags(steady)
        self._judge_unfinished()
        self._judge_named()
        self._judge_ages()
        self._judge_replan()
        if scene.time.beside is not None and scene.time.beside.error is not None:
            self.wrong.append(f"the second process ends with {scene.time.beside.error!r}")
        self._judge_next_run(steady)

    def _name(self, digest: str) -> str:
        return self.history.names.get(digest, f"what came ({digest[7:13]})")

    def _judge_end(self) -> None:
        *before, end = self.scene.ends
        if end is not None and not (isinstance(end, PermissionDenied) and self._was_answered(403)):
            self.wrong.append(f"the message ends with {end!r}")
        if before and not (self.scene.is_cut or self._was_answered(503) or self.scene.at_kill is not None):
            self.wrong.append(f"the message has to come again, after {before!r}")

    def _was_answered(self, status: int) -> bool:
        return any(one.status == status for one in self.scene.wire.sent)

    def _steady(self) -> frozenset[str]:
        """What was kept before and is kept beside what has come; what a killed process left is judged as it is."""
        steady = self.history.kept & kept(self.scene.judged_as)
        if self.scene.at_kill is None:
            return steady
        crowded_out = steady - kept(self.scene.at_kill)
        self.gaps[KILLED] += len(crowded_out - self.after.keys())
        return steady - crowded_out

    def _gap(self, digest: str) -> str | None:
        """Return the gap that something fell into which an event made somebody want; None if it is a loss."""
        scene = self.scene
        if digest in self.history.kept:
            return None
        if digest in scene.covered - scene.brought:
            # Once a message names what covers it, only what is under way may be deleted.
            is_late = scene.first.named and self._began(digest) > self._happened
            return None if is_late or self._listed_before(digest) >= self._happened else COVERED
        if any(digest in needs for needs in scene.untagged.values()) and all(map(self._fell_between, scene.tags)):
            return TAG_MOVED
        for other in scene.needs.keys() - self.after.keys():
            if digest in scene.needs[other] and (gap := self._gap_of_deletion(other)):
                return gap
        return self._gap_of_deletion(digest)

    def _gap_of_deletion(self, digest: str) -> str | None:
        """Return the gap that a deletion fell into by itself, since it was planned before the event came."""
        scene, reading, sent, happened = self.scene, self.history.reading, self.scene.wire.sent, self._happened
        deleted, listed = self._deleted_at(digest), self._listed_before(digest)
        if listed >= happened:
            return None
        if scene.first.named:
            # The run knows, so only what is under way may be deleted.
            return PUSHED_AGAIN if self._began(digest) <= happened else None
        checked = [at for at, one in enumerate(sent[:deleted]) if one.reference in reading.names_subject[digest]]
        if reading.kinds[digest] == ORPHAN and checked and checked[-1] < happened <= deleted:
            return SUBJECT_CAME
        if digest in scene.needs:
            return SIGNED
        behind = reading.reach(scene.bound, reading.blockers) - scene.bound
        if digest in behind and self._seconds_since(deleted, LIST) < REFERRERS_S:
            return ATTACHED
        return RETURNED if reading.subjects[digest] & scene.returned else None

    def _deleted_at(self, digest: str) -> int:
        return max(at for at, one in enumerate(self.scene.wire.sent) if one[1:4] == ("DELETE", digest, 202))

    def _listed_before(self, digest: str) -> int:
        """Return the number of the last listing that the process had which deleted a manifest."""
        sent, deleted = self.scene.wire.sent, self._deleted_at(digest)
        process = sent[deleted].process
        return max(at for at, one in enumerate(sent[:deleted]) if one.process == process and one.reference == LIST)

    def _began(self, digest: str) -> int:
        """Return the number of the first request of those, back to back, by which a manifest was deleted."""
        sent, tags, at = self.scene.wire.sent, self.history.state[digest].tags, self._deleted_at(digest)
        while at and sent[at - 1].reference in tags:
            at -= 1
        return at

    def _judge_tags(self, steady: frozenset[str]) -> None:
        scene, now = self.scene, self.scene.store.tags(NAME)
        wanted = {tag: digest for digest in steady for tag in self.history.state[digest].tags}
        for tag, digest in {**wanted, **scene.tags}.items():
            if now.get(tag) == digest:
                continue
            if scene.event is not None and tag in scene.tags and self._fell_between(tag):
                self.gaps[TAG_MOVED] += 1
            else:
                self.wrong.append(f"the tag {tag} of {self._name(digest)} is lost")

    def _fell_between(self, tag: str) -> bool:
        """Whether the event came after the last check of the tag and before its deletion."""
        sent = self.scene.wire.sent
        deleted = max((at for at, one in enumerate(sent) if one[1:4] == ("DELETE", tag, 202)), default=0)
        checked = max((at for at, one in enumerate(sent[:deleted]) if one[1:3] == ("HEAD", tag)), default=deleted)
        return checked < self._happened <= deleted

    def _judge_unfinished(self) -> None:
        """What was begun is finished, but for one image per worker of a process that was ended from outside."""
        scene = self.scene
        if scene.at_kill is not None:
            left, bound = unfinished(self.history, scene.at_kill), scene.workers
        elif scene.at_cut is not None:
            left, bound = unfinished(self.history, scene.at_cut), scene.workers if scene.is_ended else 0
            # These wait for the next listing, if this one is more than 10 s old.
            left = [group for group in left if not group & (self.history.oci_subjects | self.history.oci_referrers)]
        else:
            return
        if len(left) > bound:
            names = [sorted(map(self._name, group)) for group in left]
            self.wrong.append(f"{names} are half deleted: more than {bound}")

    def _judge_named(self) -> None:
        """A message that names a tag which the run has deleted keeps nothing of the image that had it."""
        if not self.scene.first.named_tags:
            return
        sent, reading = self.scene.wire.sent[: self._happened], self.history.reading
        deleted = {one.reference for one in sent if one.method == "DELETE" and one.status == 202}
        for group in unfinished(self.history, self.after):
            if any(reading.owners(one) & deleted or self.history.state[one].tags & deleted for one in group):
                self.wrong.append(f"{sorted(map(self._name, group))} are left half deleted")

    def _judge_ages(self) -> None:
        """No OCI referrer is deleted 10 s after the listing or later, no image begun 60 s after the last reading.

        But for what other workers had begun as time passed.
        """
        history, sent = self.history, self.scene.wire.sent
        late: list[str] = []
        for deleted, (process, method, digest, status, _) in enumerate(sent):
            if method != "DELETE" or status != 202 or digest not in history.state:
                continue
            about = {digest, *history.state[digest].tags, *history.reading.names_subject[digest]}
            asked = (at for at, one in enumerate(sent) if one.process == process and one.method != "GET")
            began = next(at for at in asked if sent[at].reference in about)
            if digest in history.oci_referrers and self._seconds_since(deleted, LIST) >= REFERRERS_S:
                late.append(f"{self._name(digest)} is deleted too long after the listing")
            if not history.reading.owners(digest) and self._seconds_since(began) >= PLAN_S:
                late.append(f"{self._name(digest)} is begun too long after the plan")
            if not history.reading.owners(digest) and self._is_over_at(began):
                late.append(f"{self._name(digest)} is begun after the time limit")
        if len(late) >= self.scene.workers:
            self.wrong += late

    def _seconds_since(self, at: int, reference: str | None = None) -> float:
        """Return how long before a request its process last read; 0 for one that was under way as time passed."""
        sent = self.scene.wire.sent
        if at == self._happened:
            return 0.0
        read = [one for one in sent[:at] if one.process == sent[at].process and one.method == "GET"]
        return sent[at].at - next(one.at for one in reversed(read) if reference in (None, one.reference))

    def _is_over_at(self, at: int) -> bool:
        deadlines = (deadline for begin, deadline in self.scene.deadlines[::-1] if begin <= at)
        return at != self._happened and self.scene.wire.sent[at].at >= next(deadlines)

    def _judge_replan(self) -> None:
        """Once a tag is seen to have moved, the repository is listed anew, and nothing begun before that."""
        before = self.history.store.tags(NAME)
        sent = self.scene.wire.sent
        for at in range(self._happened, len(sent) - 1):
            is_check = sent[at].method == "HEAD" and sent[at].reference in before.keys() & self.scene.tags.keys()
            if is_check and self.scene.workers == 1 and sent[at + 1].reference != LIST:
                self.wrong.append(f"{sent[at].reference} is seen to have moved, and the plan goes on")

    def _judge_next_run(self, steady: frozenset[str]) -> None:
        """An undisturbed run leaves what the policy says of what it finds, and what the registry refuses.

        One of the same process knows what there was at the beginning.
        """
        is_same = self.scene.event is not None and self.scene.event.same_process
        going = left_to_go(self.history.state if is_same else self.after) & self.after.keys()
        end = self.scene.prune_again()
        if end is not None:
            self.wrong.append(f"the next run ends with {end!r}")
        left = self.scene.store.digests(NAME)
        for digest in sorted((self.after.keys() - going) - left):
            self.wrong.append(f"{self._name(digest)} is lost by the next run")
        crowded_out = (steady & self.after.keys()) - left
        if self._was_answered(403) and not is_same:
            self.gaps[LATER] += len(crowded_out)
        elif not self.scene.brought and not self.scene.tags:
            self.wrong += [f"{self._name(digest)} is crowded out by the next run" for digest in sorted(crowded_out)]
        for digest in sorted(going & left):
            self.wrong.append(f"{self._name(digest)} is left by the next run")


def unfinished(history: History, state: Mapping[str, Held]) -> list[set[str]]:
    """Return the images whose deletion was begun and not finished, each as what is left of it."""
    reading = history.reading
    roots = [one for one in history.state if not reading.owners(one) - {one} and one not in history.kept]
    begun = [
        root
        for root in roots
        if root not in state
        or state[root].tags != history.state[root].tags
        or not reading.blockers(root) - reading.parents[root] <= state.keys()
    ]
    staying = reading.reach({*history.kept, *(root for root in roots if root not in begun)}, reading.belonging)
    groups: list[set[str]] = []
    for root in begun:
        left = {one for one in reading.reach({root}, reading.belonging) if one in state} - staying
        for group in [group for group in groups if group & left]:
            groups.remove(group)
            left |= group
        if left:
            groups.append(left)
    return groups


def told(judge: Judge) -> str:
    """What a failure shows: what is wrong, where the event came, and every request."""
    scene, history = judge.scene, judge.history
    event = scene.event.target if scene.event is not None else "nothing"
    lines = [f"boundary {scene.boundary}, {event}: " + "; ".join(judge.wrong)]
    for at, one in enumerate(scene.wire.sent):
        mark = ">" if at == scene.happened_at else " "
        lines.append(f" {mark}{at:3} {show(history, one)}")
    return "\n".join(lines)


def show(history: History, one: Sent) -> str:
    reference = history.names.get(one.reference, one.reference)
    return f"{one.at:8.2f} process {one.process}: {one.method} {reference} {one.status}"
