"""What a process was shown and what it had deleted by then: what a deletion of it may rest on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import requests

from tests.support import oracle
from tests.support.oracle import Held, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.chaos.records import Asked, State, Version

ACCEPTED = requests.codes.accepted
NOT_FOUND = requests.codes.not_found


@dataclass(slots=True)
class Known:
    """What was deleted of a repository, as somebody knows it: manifests as they were, and tags by manifest."""

    deleted: dict[str, Held] = field(default_factory=dict)
    tags: dict[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.deleted or self.tags)

    def copy(self) -> Known:
        return Known(dict(self.deleted), dict(self.tags))

    def joined(self, other: Known) -> Known:
        """What either knows."""
        tags = {
            digest: self.tags.get(digest, frozenset()) | other.tags.get(digest, frozenset())
            for digest in self.tags.keys() | other.tags.keys()
        }
        return Known({**self.deleted, **other.deleted}, tags)

    def add_manifest(self, held: Held) -> None:
        self.deleted[held.digest] = held

    def add_tag(self, digest: str, tag: str) -> None:
        self.tags[digest] = self.tags.get(digest, frozenset()) | {tag}

    def observe(self, raw: State) -> None:
        """Forget what is there again: it was pushed again, and is new."""
        for digest in self.deleted.keys() & raw.keys():
            del self.deleted[digest]
            self.tags.pop(digest, None)
        for digest, tags in list(self.tags.items()):
            if digest in raw:
                self.tags[digest] = tags - raw[digest].tags
            elif digest not in self.deleted:
                del self.tags[digest]

    def restore(self, raw: State) -> State:
        """``raw`` as if nothing of this had been deleted."""
        state = {**self.deleted, **raw}
        for digest, tags in self.tags.items():
            if digest in state:
                state[digest] = replace(state[digest], tags=state[digest].tags | tags)
        return state


class View:
    """One complete listing that a process was given, and what the process had deleted by then.

    ``end`` is when it knew all that it may have read for it.  ``is_whole``: no index of it was found missing.
    ``known`` is what makes it a listing as if the run had deleted nothing yet: all that the process has deleted, and
    what it has deleted since each moment at which a run of it may have ended, as a run that ends well leaves nothing
    to the next.  All are there without and with the deletions that were not answered.
    """

    def __init__(self, pages: Sequence[Asked], versions: Sequence[Version], policy: Mapping[str, object]) -> None:
        self.who = pages[0].who
        self.begin = pages[0].arrived
        self.listed = self.end = pages[-1].time
        self.policy = policy
        self.is_whole = True
        self.raw: State = {}
        for page in pages:
            state = versions[page.before].state
            shown = [digest for digest in sorted(state) if digest > page.last]
            self.raw |= {digest: state[digest] for digest in shown[: page.limit]}
        self.known: list[Known] = []
        self.documents: frozenset[str] = frozenset()
        """Whose documents the process has ever read."""
        self.moved_to: frozenset[str] = frozenset()
        """What has got a tag since an earlier listing of the same run."""
        self.may_be_moved_to: frozenset[str] = frozenset()
        """The same, of what may be the same run."""

    @cached_property
    def state(self) -> State:
        """The listing with all that the process has deleted."""
        return self.known[0].restore(self.raw)

    @cached_property
    def readings(self) -> list[Reading]:
        """What the process may have taken the listing for; the first is the one by the contract's letter.

        A run that was refused something, or sees something new, reads more documents than the classes need.  What is
        put back may take a place among the newest or not: it is no more, and what belongs to it follows it.
        """
        shown = Reading(self.raw.values()).read
        found: list[Reading] = []
        for known in self.known:
            state = known.restore(self.raw)
            gone = known.deleted.keys()
            for also in (shown, shown | self.documents):
                for placeless in (frozenset[str](), gone):
                    reading = Reading(state.values(), also, placeless)
                    if not any(_is_same(reading, one) for one in found):
                        found.append(reading)
        return found

    @property
    def reading(self) -> Reading:
        return self.readings[0]

    def going(self, reading: Reading, counted: Iterable[str] | None = None) -> frozenset[str]:
        now = int(self.listed * 1000)
        return oracle.may_go(reading, self.policy, now, just_pushed=self.moved_to, counted=counted)

    @cached_property
    def goings(self) -> list[frozenset[str]]:
        """For each of ``readings`` what is deleted."""
        return [self.going(reading) for reading in self.readings]

    @cached_property
    def may_go(self) -> frozenset[str]:
        return frozenset().union(*self.goings)

    @cached_property
    def must_go(self) -> frozenset[str]:
        return frozenset.intersection(*self.goings)

    @cached_property
    def untagged(self) -> frozenset[str]:
        """What it shows as untagged images."""
        return frozenset(
            digest for reading in self.readings for digest, kind in reading.kinds.items() if kind == oracle.UNTAGGED
        )

    def is_begun(self, digests: Iterable[str]) -> bool:
        """Whether the process had deleted something of ``digests`` by then."""
        return any(one in known.deleted or known.tags.get(one) for one in digests for known in self.known)


def views_of(
    entries: Sequence[Asked],
    versions: Sequence[Version],
    policy: Mapping[str, object],
    has_ended_well: Callable[[float, float], bool],
) -> list[View]:
    """The complete listings that one process was given of one repository.

    ``has_ended_well`` returns whether a run of it may have ended well between two moments.
    """
    follower = _Follower(versions, policy, has_ended_well)
    for entry in entries:
        follower.take(entry)
    follower.close()
    return follower.views


class _Follower:
    """Goes through the requests of one process and writes down what it knows."""

    def __init__(
        self,
        versions: Sequence[Version],
        policy: Mapping[str, object],
        has_ended_well: Callable[[float, float], bool],
    ) -> None:
        self.views: list[View] = []
        self._versions = versions
        self._policy = policy
        self._has_ended_well = has_ended_well
        self._pages: list[Asked] = []
        # All that it has deleted, and what it has deleted since each moment at which a run may have ended well.
        self._known = [Known()]
        # What was not answered: for all that the process knows, it has deleted it.
        self._doubtful = Known()
        self._documents: set[str] = set()
        self._open: View | None = None

    def take(self, entry: Asked) -> None:
        is_told = entry.status == entry.answered
        match entry.kind:
            # What did not arrive as it was sent told the process nothing.
            case "tags_list" if is_told and entry.status == requests.codes.ok:
                self.close()
                self._pages = [page for page in self._pages if page.last < entry.last] if entry.last else []
                self._pages.append(entry)
                if not entry.has_more:
                    self._open = View(self._pages, self._versions, self._policy)
                    self.views.append(self._open)
            case "manifest_get" if is_told:
                self._read(entry)
            case "manifest_head":
                self.close()
            case "manifest_delete" | "tag_delete":
                self.close()
                if entry.status in (ACCEPTED, NOT_FOUND):
                    self._delete(entry, self._known)
                elif entry.answered == 0 or entry.answered >= requests.codes.server_error:
                    self._delete(entry, (self._doubtful,))

    def _read(self, entry: Asked) -> None:
        if entry.status == requests.codes.ok:
            self._documents.add(entry.reference)
        if self._open is None:
            return
        self._open.end = entry.time
        if entry.status == NOT_FOUND and (held := self._open.raw.pop(entry.reference, None)):
            self._open.is_whole = self._open.is_whole and held.media_type not in oracle.INDEX_TYPES

    def close(self) -> None:
        """The listing is complete, with its documents, before the process does anything else."""
        view, self._open = self._open, None
        if view is None:
            return
        previous = self.views[-2].listed if len(self.views) > 1 else 0.0
        if self._has_ended_well(previous, view.begin):
            self._known.append(Known())
        for known in (*self._known, self._doubtful):
            known.observe(view.raw)
        self._known = _distinct(self._known)
        view.known = [known.copy() for known in self._known]
        if self._doubtful:
            view.known += [known.joined(self._doubtful) for known in self._known]
        view.documents = frozenset(self._documents)

    def _delete(self, entry: Asked, knowns: Sequence[Known]) -> None:
        judged = self.views[-1].state if self.views else {}
        before = self._versions[entry.before].state
        if entry.kind == "manifest_delete":
            held = judged.get(entry.reference) or before.get(entry.reference)
            for known in knowns:
                if held is not None:
                    known.add_manifest(held)
        elif entry.kind == "tag_delete":
            # A tag that moved in the last moment is missed where it was judged.
            owners = [digest for digest, held in judged.items() if entry.reference in held.tags]
            if entry.named in owners or not owners:
                owners = [entry.named]
            for known in knowns:
                for digest in filter(None, owners):
                    known.add_tag(digest, entry.reference)


def _distinct(knowns: Iterable[Known]) -> list[Known]:
    found: list[Known] = []
    for known in knowns:
        if known not in found:
            found.append(known)
    return found


def _is_same(one: Reading, other: Reading) -> bool:
    return one.read == other.read and one.gone == other.gone and one.held == other.held
