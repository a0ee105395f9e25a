"""What a run may repeat, and what ends it, by section 6 of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import requests

from tests.chaos.records import REFUSED, Asked
from tests.chaos.tuning import SLACK_S
from tests.chaos.views import ACCEPTED, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.losses import Findings
    from tests.chaos.timeline import Key, Timeline

# What is worth another try, and what a fresh token may mend.
_RETRIED: Final = frozenset({401, 403, 408, 429})
# How often a run asks for what was refused.
_REFUSALS_MAX: Final = 2
# After so many failures alike the tags are taken for immutable.
_IMMUTABLE_AFTER: Final = 3


class RunJudge:
    """Judges the deletions of one process in one repository as a sequence."""

    def __init__(self, timeline: Timeline, key: Key, found: Findings) -> None:
        self._timeline = timeline
        self._key = key
        self._who = key[0]
        self._found = found
        self._workers = timeline.case.workers
        self._deletions = [one for one in timeline.asked[key] if one.kind in ("manifest_delete", "tag_delete")]
        self._heads = [one for one in timeline.asked[key] if one.kind == "manifest_head"]

    def judge(self) -> None:
        for run in self._runs():
            self._judge_repeated(run)
            self._judge_immutable(run)
        self._judge_kept_children()

    def _runs(self) -> Iterator[Sequence[Asked]]:
        """Split the deletions where a run may have ended."""
        run: list[Asked] = []
        for entry in self._deletions:
            if run and not self._timeline.is_one_run(self._key, run[-1].time, entry.arrived):
                yield run
                run = []
            run.append(entry)
        if run:
            yield run

    def _judge_repeated(self, run: Sequence[Asked]) -> None:
        """What was refused is asked for at most once more, what failed for good not again."""
        refused: dict[str, int] = {}
        failed: dict[str, float] = {}
        for entry in run:
            name = self._label(entry.reference) if entry.kind == "manifest_delete" else f"the tag {entry.reference}"
            if entry.reference in failed and entry.arrived > failed[entry.reference]:
                self._found.lose(f"{self._who} asks again for {name}, which has failed in this run", entry.reference)
            if _is_refused(entry):
                refused[entry.reference] = refused.get(entry.reference, 0) + 1
                if refused[entry.reference] > _REFUSALS_MAX:
                    self._found.lose(
                        f"{self._who} is refused {name} {refused[entry.reference]} times in a run", entry.reference
                    )
            elif _is_failed(entry):
                failed[entry.reference] = entry.time

    def _judge_immutable(self, run: Sequence[Asked]) -> None:
        """Once three tags have failed alike and none was deleted, no further one is begun."""
        tags = [one for one in run if one.kind == "tag_delete"]
        failures: dict[int, set[str]] = {}
        until: float | None = None
        begun: dict[str, float] = {}
        for entry in tags:
            begun.setdefault(entry.reference, entry.arrived)
            if until is None and entry.status in (ACCEPTED, NOT_FOUND):
                return
            if until is None and _is_failed(entry):
                alike = failures.setdefault(entry.answered, set())
                alike.add(entry.reference)
                if len(alike) == _IMMUTABLE_AFTER:
                    until = entry.time
        if until is not None:
            later = [tag for tag, at in begun.items() if at > until]
            # At most so many were under way.
            if len(later) > self._workers:
                self._found.lose(f"{self._who} asks for {len(later)} more tags after three could not be deleted")

    def _judge_kept_children(self) -> None:
        """After an index is deleted that listed what is kept, one such child is asked for; 404 ends the run."""
        indexes = [(entry, kept) for entry in self._deletions if (kept := self._kept_children(entry))]
        for entry, kept in indexes:
            view = self._timeline.view_at(self._key, entry.arrived)
            # A child may be kept for another reason, too: a message that names it.
            children = view.reading.children[entry.reference] if view else kept
            names = " ".join(map(self._label, sorted(kept)))
            text = f"{self._who} deletes the index {self._label(entry.reference)}, and does not look whether {names}"
            head = next((one for one in self._heads if one.arrived > entry.time and one.reference in children), None)
            if head is None:
                if self._has_gone_on(entry):
                    self._found.lose(f"{text} are still there", entry.reference, *kept)
                continue
            others = sum(entry.time < one.arrived < head.arrived for one, _ in indexes)
            if others > self._workers:
                self._found.lose(f"{text} are still there before {others} more", entry.reference, *kept)
            if head.status == head.answered == NOT_FOUND:
                self._judge_stopped(head)

    def _kept_children(self, entry: Asked) -> frozenset[str]:
        """The children of an index that was deleted, if they are kept whatever the process has read."""
        is_deleted = entry.answered in (ACCEPTED, NOT_FOUND) and entry.status == entry.answered
        if entry.kind != "manifest_delete" or not is_deleted:
            return frozenset()
        view = self._timeline.view_at(self._key, entry.arrived)
        if view is None:
            return frozenset()
        kept = frozenset(view.reading.held) - view.may_go
        return frozenset(view.reading.children.get(entry.reference, ())) & kept & view.raw.keys()

    def _has_gone_on(self, entry: Asked) -> bool:
        """Whether the run went on after a deletion, or ended well."""
        handled = self._timeline.handled(self._key, entry.time)
        return bool(self._later(entry)) or (bool(handled) and all(one.outcome == "acked" for one in handled))

    def _later(self, entry: Asked) -> list[Asked]:
        """What the run asked to be deleted well after an entry."""
        return [
            one
            for one in self._deletions
            if one.arrived > entry.time + SLACK_S and self._timeline.is_one_run(self._key, entry.time, one.arrived)
        ]

    def _judge_stopped(self, head: Asked) -> None:
        for later in self._later(head)[:1]:
            self._found.lose(
                f"{self._who} finds that {self._label(head.reference)} is gone, and goes on to delete"
                f" {self._label(later.reference)}",
                head.reference,
                later.reference,
            )

    def _label(self, digest: str) -> str:
        return self._timeline.records.label(digest)


def _is_refused(entry: Asked) -> bool:
    """Whether the registry kept a manifest for what refers to it."""
    return entry.kind == "manifest_delete" and entry.status == entry.answered == REFUSED


def _is_failed(entry: Asked) -> bool:
    """Whether a deletion has failed for good."""
    is_client_error = requests.codes.bad_request <= entry.answered < requests.codes.server_error
    return is_client_error and not _is_refused(entry) and entry.answered not in {*_RETRIED, NOT_FOUND}
