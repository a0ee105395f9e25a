"""Everything that can happen to a small repository while it is pruned.

``EVENTS`` are the kinds of event; a ``Scene`` is one run with one event before one of its requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cleaner.core.errors import CleanerError, TimeLimitReached, Unavailable
from cleaner.core.reference import Digest, Tag
from tests.emulator.images import Content, cosign_signature, cosign_tag, image, index, referrer, referrers_index
from tests.support import oracle
from tests.support.direct import LIST, NAME, NOW_MS, Beside, Lost, Process, Time, Wire
from tests.support.model import held, known_subject
from tests.support.oracle import Held, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.model import History

TIME_LIMIT_S: Final = 500
# How long after the time limit what was begun is finished.
GRACE_S: Final = 20
# How long after an end that asks for it a message is delivered again.
REDELIVERY_S: Final = 10


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens before a request is answered, once; ``target`` is what it happens to.

    ``only_before`` is the one request, as method and reference, that it makes a difference before.  ``same_process``:
    the next run is one of the same process.  ``time_limit_s`` is the time limit of the run.
    """

    target: str
    happen: Callable[[Scene], None]
    only_before: tuple[str, str] | None = None
    same_process: bool = False
    time_limit_s: float = TIME_LIMIT_S


@dataclass
class Scene:
    """One run on a history with an event before the request number ``boundary``, and what is known of it.

    ``judged_as`` is what later listings are to be judged as: the first state and what has come since, as if the run
    had deleted nothing.  ``brought`` is what an event made somebody want, with all that it needed and that was there;
    of that, ``bound`` is what the registry keeps together by itself.  ``covered`` is what was there and follows what
    was brought, without being a part of it: redundant indexes, and what these need.  ``needs`` is, by manifest, what
    it needs: of those that a message names, and of subjects by tag alone, of which the registry knows nothing.
    ``returned`` had been deleted and was pushed again.  ``untagged`` is what a tag was moved away from, with what
    that needed.
    """

    history: History
    event: Event | None
    boundary: int = 0
    workers: int = 1
    time: Time = field(default_factory=Time)
    judged_as: dict[str, Held] = field(default_factory=dict)
    brought: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    covered: set[str] = field(default_factory=set)
    needs: dict[str, set[str]] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)
    untagged: dict[str, set[str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    skipped_uploads: int = 0
    # The number of the request that the event came before, and that request.
    happened_at: int | None = None
    next_request: tuple[str, str] = ("", "")
    # What goes wrong with requests, and with which; all of them if that is None.
    fault: int | Lost | None = None
    is_fault_of: tuple[str, str] | None = None
    next_fault: int | None = None
    at_kill: dict[str, Held] | None = None
    # What was there when the run was cut: as it listed once more after time had passed, or ended.
    at_cut: dict[str, Held] | None = None
    is_cut: bool = False
    is_ended: bool = False
    ends: list[CleanerError | None] = field(default_factory=list)
    # For each delivery of the message the number of its first request, and until when it may begin images.
    deadlines: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.history.store.copy()
        self.store.now_ms = self.time.wall_ms
        self.wire = Wire(self.store, self._intercept)
        self.first = Process(self.wire, 1, self.time)
        self.judged_as = dict(self.history.state)
        self._later: Callable[[Scene], None] | None = None
        self._asked = 0

    def play(self) -> None:
        """Handle the message until it is acknowledged, at most three times."""
        process = self.first
        while True:
            end = self._deliver(process)
            self.ends.append(end)
            self.fault = None
            self._note_cut()
            if end is None or len(self.ends) == 3 or not isinstance(end, (Unavailable, TimeLimitReached)):
                return
            self.time.turn(REDELIVERY_S)
            if self.at_kill is not None and process is self.first:
                process = Process(self.wire, 2, self.time)

    def _deliver(self, process: Process) -> CleanerError | None:
        time_limit_s = self.event.time_limit_s if self.event is not None else TIME_LIMIT_S
        self.deadlines.append((len(self.wire.sent), self.time() + time_limit_s))
        try:
            process.prune(self.history.policy, workers=self.workers, time_limit_s=time_limit_s)
        except CleanerError as error:
            return error
        finally:
            self._do_later()
            self.time.finish()
        return None

    def prune_again(self) -> CleanerError | None:
        """Prune what is left, and let nothing happen meanwhile."""
        is_same = self.event is not None and self.event.same_process
        return self._deliver(self.first if is_same else Process(self.wire, 9, self.time))

    def _intercept(self, process: int, method: str, reference: str) -> int | Lost | None:
        if process != self.first.number:
            return None
        self._do_later()
        if reference == LIST:
            self._note_cut()
        if self._asked == self.boundary and self.event is not None and self.happened_at is None:
            self.next_request = (method, reference)
            self.happened_at = len(self.wire.sent)
            self._do(self.event.happen)
        self._asked += 1
        is_hit = self.fault is not None and self.is_fault_of in (None, (method, reference))
        fault = self.fault if is_hit else None
        if fault is Lost.AFTER:
            self.fault = self.next_fault
        return fault

    def _note_cut(self) -> None:
        if self.is_cut and self.at_cut is None:
            self.at_cut = held(self.store)

    def _do_later(self) -> None:
        if self._later is not None:
            act, self._later = self._later, None
            self._do(act)

    def _do(self, act: Callable[[Scene], None]) -> None:
        """Let something happen, and take down what has come, what it needs, and which tags have moved."""
        before, tags_before = self.store.digests(NAME), self.store.tags(NAME)
        wanted_before, self.brought = self.brought, set()
        act(self)
        after, tags = held(self.store), self.store.tags(NAME)
        for digest in after.keys() - before:
            # An upload's moment is rounded, so that the same state is judged once.
            one = after[digest]
            self.judged_as[digest] = Held(digest, one.media_type, frozenset(), NOW_MS, one.body)
            if digest in self.history.state:
                self.returned.add(digest)
        # An index whose tags this run has deleted is still judged by them, so it is not redundant.
        reading = Reading(
            replace(one, tags=self.judged_as[digest].tags) if one.media_type in oracle.INDEX_TYPES else one
            for digest, one in after.items()
        )
        for tag, digest in tags.items():
            moved_from = tags_before.get(tag)
            if moved_from != digest:
                self._move(tag, moved_from, digest)
                if moved_from is not None:
                    self.untagged[moved_from] = reading.closure([moved_from])
        if self.brought:
            self.bound |= reading.reach(
                self.brought, lambda one: reading.children[one] | known_subject(after[one]) & after.keys()
            )
            whole = reading.reach(
                self.brought, lambda one: reading.children[one] | reading.referrers[one] | reading.subjects[one]
            )
            self.covered |= reading.closure(self.brought) - whole
            self.brought = whole
            by_tag = [reading.subjects[digest] - known_subject(after[digest]) for digest in self.brought]
            for digest in self.first.named.union(*by_tag):
                self.needs[digest] = reading.closure([digest])
        self.brought |= wanted_before

    def _move(self, tag: str, before: str | None, after: str) -> None:
        for digest, change in ((before, frozenset.difference), (after, frozenset.union)):
            if digest is not None:
                one = self.judged_as[digest]
                self.judged_as[digest] = Held(digest, one.media_type, change(one.tags, {tag}), one.uploaded, one.body)
        self.tags[tag] = after

    # What events do.

    def has(self, target: str) -> bool:
        return self.store.has(NAME, self.digest(target))

    def digest(self, target: str) -> str:
        return self.history.all[target].content.digest

    def put(self, content: Content, *tags: str) -> None:
        """Push a manifest, and first what it lists and is not there; it is wanted from here on."""
        for child in content.children:
            if not self.store.has(NAME, child.digest):
                self.put(child)
        self.store.put_manifest(NAME, content.body, content.media_type, tags=tags, size=content.size)
        self.brought.add(content.digest)

    def later(self, act: Callable[[Scene], None]) -> None:
        """Do something before the next request but one, or at the run's end."""
        self._later = act


# What happens.


def _new_tag(target: str) -> Event:
    def happen(scene: Scene) -> None:
        if scene.has(target):
            scene.store.tag(NAME, "fresh", scene.digest(target))
            scene.brought.add(scene.digest(target))

    return Event(target, happen)


def _moved_tag(target: str, tag: str) -> Event:
    def happen(scene: Scene) -> None:
        scene.put(_next_of(tag), tag)

    return Event(f"{tag} of {target}", happen)


def _next_build(target: str, tag: str) -> Event:
    """The next build gets the tag, and the message of it arrives at once."""

    def happen(scene: Scene) -> None:
        content = _next_of(tag)
        scene.put(content, tag)
        scene.first.named.add(Digest(content.digest))
        scene.first.named_tags.add(Tag(tag))

    return Event(f"{tag} of {target}", happen)


def _next_of(tag: str) -> Content:
    """Return what a client moves a tag to: another image, signature or referrers index."""
    match = re.fullmatch(r"sha256-([0-9a-f]{64})(\..+)?", tag)
    if match is None:
        return image("moved to")
    subject = f"sha256:{match[1]}"
    return cosign_signature(subject, seed="again") if match[2] else referrers_index([referrer(subject, seed="again")])


def _over(scene: Scene, target: str) -> Content:
    return index([scene.history.all[target].content], seed="new")


def _new_index(target: str) -> Event:
    def happen(scene: Scene) -> None:
        scene.put(_over(scene, target))

    return Event(target, happen)


def _late_index(history: History, target: str) -> Event:
    """The client finds the child there and uploads nothing; the index comes a request later."""

    def put(scene: Scene) -> None:
        if scene.has(target):
            scene.put(_over(scene, target))
        else:
            scene.skipped_uploads += 1

    def happen(scene: Scene) -> None:
        if scene.has(target):
            scene.later(put)

    return Event(target, happen, ("DELETE", history.all[target].content.digest))


def _new_referrer(target: str) -> Event:
    def happen(scene: Scene) -> None:
        scene.put(referrer(scene.history.all[target].content, seed="new"))

    return Event(target, happen)


def _new_signature(target: str) -> Event:
    def happen(scene: Scene) -> None:
        subject = scene.history.all[target].content
        scene.put(cosign_signature(subject, seed="new"), cosign_tag(subject, "new"))

    return Event(target, happen)


def _pushed_again(target: str) -> Event:
    """It is pushed as it is, with what it lists, and the message of it arrives at once."""

    def happen(scene: Scene) -> None:
        content = scene.history.all[target].content
        scene.put(content)
        scene.first.named.add(Digest(content.digest))

    return Event(target, happen)


def _subject_pushed(content: Content) -> Event:
    return Event(content.digest, lambda scene: scene.put(content))


def _second_process(latency_s: float) -> Event:
    def happen(scene: Scene) -> None:
        def sleep(seconds: float) -> None:
            beside.sleep(seconds)

        second = Process(scene.wire, 5, scene.time, sleep=sleep, latency_s=latency_s)
        beside = Beside(
            scene.time,
            lambda: second.prune(scene.history.policy, workers=1, time_limit_s=TIME_LIMIT_S),
        )
        scene.time.beside = beside
        beside.go_on()

    return Event(f"{latency_s} s a request", happen)


def _time_passes(seconds: float, time_limit_s: float = TIME_LIMIT_S) -> Event:
    def happen(scene: Scene) -> None:
        scene.time.turn(seconds)
        scene.is_cut = True
        # Beyond that the platform would end the process.
        scene.is_ended = seconds >= time_limit_s + GRACE_S

    return Event(f"{seconds} s", happen, time_limit_s=time_limit_s)


def _fails(fault: int | Lost, *, same_process: bool = False) -> Event:
    def happen(scene: Scene) -> None:
        scene.fault, scene.is_fault_of = fault, scene.next_request

    return Event(str(fault), happen, same_process=same_process)


def _fails_once_done() -> Event:
    """The request has its effect, and neither it nor any repetition is answered."""

    def happen(scene: Scene) -> None:
        scene.fault, scene.is_fault_of, scene.next_fault = Lost.AFTER, scene.next_request, 503

    return Event("503, once done", happen)


def _killed() -> Event:
    def happen(scene: Scene) -> None:
        scene.fault, scene.at_kill = Lost.BEFORE, held(scene.store)

    return Event("", happen)


def _each(event: Callable[[str], Event]) -> Callable[[History], list[Event]]:
    return lambda history: [event(name) for name in history.parts]


EVENTS: Final[Mapping[str, Callable[[History], list[Event]]]] = {
    "new-tag": _each(_new_tag),
    "tag-moved-away": lambda history: [
        _moved_tag(name, tag) for name, part in history.all.items() for tag in part.tags
    ],
    "tag-moved-away-and-named": lambda history: [
        _next_build(name, tag) for name, part in history.all.items() for tag in part.tags if "sha256-" not in tag
    ],
    "new-index": _each(_new_index),
    "index-after-its-child-was-found": lambda history: [_late_index(history, name) for name in history.parts],
    "new-referrer": _each(_new_referrer),
    "new-signature": _each(_new_signature),
    "pushed-again": _each(_pushed_again),
    "subject-pushed": lambda history: [_subject_pushed(content) for content in history.absent],
    "second-process": lambda _: [_second_process(0.0), _second_process(0.05)],
    "plan-too-old": lambda _: [_time_passes(11), _time_passes(61)],
    # What was begun can be finished after the one, and not after the other.
    "time-limit": lambda _: [_time_passes(31, 30), _time_passes(600)],
    "request-unavailable": lambda _: [_fails(503), _fails_once_done()],
    "request-forbidden": lambda _: [_fails(403, same_process=True)],
    "request-forbidden-before-another-process": lambda _: [_fails(403)],
    "answer-lost": lambda _: [_fails(Lost.AFTER)],
    "killed": lambda _: [_killed()],
}
