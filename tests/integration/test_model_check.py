"""The model check: every event before every request of a run on every small history loses nothing that must stay.

The histories are in ``tests.support.model``, the events in ``model_events``; ``model_judge`` says what must be there,
and recognises the gaps that no client can close.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.direct import NAME
from tests.support.model import HISTORIES, left_to_go
from tests.support.model_events import EVENTS, Event, Scene
from tests.support.model_judge import (
    ATTACHED,
    COVERED,
    KILLED,
    LATER,
    PUSHED_AGAIN,
    RETURNED,
    SIGNED,
    SUBJECT_CAME,
    TAG_MOVED,
    UPLOAD_SKIPPED,
    Judge,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.model import History

# By history, how many manifests and tags each kind of event loses in each gap, over all its targets and requests.
# What makes a gap wider, or leads into another one, changes a number; so does another order of the requests.
_COLUMNS: Final = (
    ("new-tag", ATTACHED),
    ("tag-moved-away", ATTACHED),
    ("new-index", ATTACHED),
    ("new-referrer", ATTACHED),
    ("new-tag", SIGNED),
    ("tag-moved-away", SIGNED),
    ("new-index", SIGNED),
    ("new-referrer", SIGNED),
    ("new-signature", SIGNED),
    ("tag-moved-away", TAG_MOVED),
    ("tag-moved-away-and-named", TAG_MOVED),
    ("new-index", RETURNED),
    ("new-index", COVERED),
    ("new-signature", COVERED),
    ("pushed-again", COVERED),
    ("index-after-its-child-was-found", UPLOAD_SKIPPED),
    ("new-signature", SUBJECT_CAME),
    ("subject-pushed", SUBJECT_CAME),
    ("pushed-again", PUSHED_AGAIN),
    ("request-forbidden-before-another-process", LATER),
    ("killed", KILLED),
)
# fmt: off
_ROWS: Final[Mapping[str, tuple[int, ...]]] = {
    "untagged":                        ( 0, 0,  0,  0,  0,  0,  0,  0,   1, 0, 0, 0, 0, 0, 0, 1, 0, 0,  1, 0, 0),
    "tagged":                          ( 0, 0,  0,  0,  0,  0,  0,  0,  11, 4, 4, 0, 0, 0, 0, 2, 0, 0,  2, 2, 2),
    "index":                           ( 0, 0,  0,  0,  0,  0,  0,  0,  23, 4, 4, 0, 0, 0, 0, 3, 0, 0,  3, 3, 4),
    "untagged-index":                  ( 0, 0,  0,  0,  0,  0,  0,  0,   8, 0, 0, 0, 0, 0, 0, 3, 0, 0,  3, 0, 0),
    "two-indexes":                     ( 0, 0,  0,  0,  0,  0,  0,  0,  44, 6, 6, 0, 0, 0, 0, 4, 0, 0,  4, 4, 4),
    "indexes-sharing-a-child":         ( 0, 0,  0,  0,  0,  0,  0,  0,  49, 5, 5, 0, 0, 0, 0, 4, 0, 0,  4, 4, 4),
    "child-of-a-kept-index":           ( 0, 0,  0,  0,  0,  0,  0,  0,  17, 3, 3, 0, 0, 0, 0, 2, 0, 0,  2, 3, 3),
    "child-with-a-kept-tag":           ( 0, 0,  0,  0,  0,  0,  0,  0,  14, 3, 3, 0, 0, 0, 0, 2, 0, 0,  2, 3, 3),
    "nested-index":                    ( 0, 0,  0,  0,  0,  0,  0,  0,  34, 4, 4, 0, 6, 0, 0, 3, 0, 0,  3, 3, 3),
    "attestation":                     ( 0, 0,  0,  0,  0,  0,  0,  0,  23, 4, 4, 0, 0, 0, 0, 3, 0, 0,  3, 2, 3),
    "referrer":                        ( 4, 0,  4,  4,  0,  0,  0,  0,  17, 3, 3, 0, 0, 0, 0, 2, 0, 0,  3, 2, 2),
    "two-referrers":                   (11, 0, 17, 16,  0,  0,  0,  0,  50, 4, 4, 0, 0, 0, 0, 3, 0, 0,  7, 3, 3),
    "referrer-of-a-referrer":          (16, 0, 16, 16,  0,  0,  0,  0,  50, 4, 4, 0, 0, 0, 0, 3, 0, 0,  6, 3, 3),
    "two-subjects":                    (14, 0, 14, 14,  0,  0,  0,  0,  58, 6, 6, 0, 0, 0, 0, 4, 0, 0,  6, 4, 4),
    "referrers-of-index-and-child":    (14, 0, 15, 14,  0,  0,  0,  0,  84, 5, 5, 0, 0, 0, 0, 4, 0, 0,  7, 4, 4),
    "referrers-index":                 (22, 3, 22, 22,  0,  0,  0,  0,  68, 7, 4, 0, 0, 0, 0, 3, 0, 0, 10, 5, 5),
    "index-tagged-as-referrers-index": (22, 3, 22, 22,  0,  0,  0,  0,  68, 7, 4, 0, 0, 0, 0, 3, 0, 0, 10, 6, 6),
    "untagged-referrers-index":        (16, 0, 16, 16,  0,  0,  0,  0,  50, 4, 4, 0, 0, 0, 0, 3, 0, 0,  6, 3, 3),
    "stale-referrers-index":           (52, 6, 53, 52,  0,  0,  0,  0, 142, 9, 5, 0, 0, 0, 0, 4, 0, 0, 17, 6, 6),
    "redundant-index":                 ( 0, 0,  0,  0,  0,  0,  0,  0,  43, 5, 5, 0, 9, 5, 1, 4, 0, 0,  4, 4, 5),
    "signature":                       ( 0, 0,  0,  0,  3,  3,  3,  3,  15, 5, 3, 2, 0, 0, 0, 2, 0, 0,  7, 1, 1),
    "signatures-of-index-and-child":   ( 0, 0,  0,  0, 20, 12, 20, 20,  70, 9, 5, 6, 0, 0, 0, 4, 0, 0, 14, 3, 5),
    "tag-moved-before":                ( 0, 0,  0,  0,  1,  1,  1,  1,   7, 2, 0, 2, 0, 0, 0, 2, 0, 0,  5, 0, 0),
    "orphans":                         ( 0, 0,  0,  0,  0,  0,  0,  0,   6, 2, 0, 0, 0, 0, 0, 2, 4, 3,  2, 0, 0),
}
# fmt: on
GAPS: Final = {
    (name, kind): {gap: count for (other, gap), count in zip(_COLUMNS, row, strict=True) if other == kind and count}
    for name, row in _ROWS.items()
    for kind in EVENTS
}


def scenes(history: History, kind: str, workers: int = 1) -> Iterator[Scene]:
    """Every event of a kind before every request of the run, played."""
    for event in EVENTS[kind](history):
        for boundary, request in enumerate(undisturbed_requests(history)):
            if event.only_before in (None, request):
                yield played(Scene(history, event, boundary, workers))


@cache
def undisturbed_requests(history: History) -> tuple[tuple[str, str], ...]:
    return tuple((one.method, one.reference) for one in played(Scene(history, None)).wire.sent)


def played(scene: Scene) -> Scene:
    scene.play()
    return scene


def judged(scene: Scene) -> Judge:
    judge = Judge(scene)
    judge.judge()
    return judge


def wrong(judges: Iterable[Judge]) -> str:
    """What a failure shows; empty if nothing is wrong."""
    failures = [told(judge) for judge in judges if judge.wrong]
    return f"{len(failures)} failures, the first of them: " + "\n".join(failures[:2]) if failures else ""


CASES: Final = [(name, kind) for name in HISTORIES for kind in EVENTS if EVENTS[kind](HISTORIES[name])]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_no_event_before_any_request_loses_what_must_be_there(name: str, kind: str) -> None:
    """But for what falls into the gaps that no client can close."""
    judges = [judged(scene) for scene in scenes(HISTORIES[name], kind)]
    assert not wrong(judges), wrong(judges)
    assert sum((judge.gaps for judge in judges), Counter()) == GAPS[name, kind]


@pytest.mark.parametrize("kind", [kind for kind in EVENTS if kind not in ("pushed-again", "second-process")])
@pytest.mark.parametrize("name", ["tagged", "two-indexes", "two-subjects", "signatures-of-index-and-child"])
def test_no_event_loses_what_must_be_there_while_three_workers_are_busy(name: str, kind: str) -> None:
    """What is under way as a message arrives may be deleted, and with three workers that is not only the next."""
    judges = [judged(scene) for scene in scenes(HISTORIES[name], kind, workers=3)]
    assert not wrong(judges), wrong(judges)


@pytest.mark.parametrize("name", HISTORIES)
def test_an_undisturbed_run_leaves_what_the_policy_says_and_is_refused_nothing(name: str) -> None:
    history = HISTORIES[name]
    scene = played(Scene(history, None))
    assert scene.ends == [None]
    assert scene.store.digests(NAME) == history.state.keys() - left_to_go(history.state)
    assert {one.status for one in scene.wire.sent if one.method == "DELETE"} == {202}
    assert not judged(scene).wrong


@pytest.mark.parametrize("lost", ["new", "untagged-2", "other", "s"])
def test_a_manifest_that_somebody_else_deletes_is_seen_to_be_lost(lost: str) -> None:
    history = HISTORIES["child-of-a-kept-index"]
    digest = history.all[lost].content.digest
    event = Event(lost, lambda scene: scene.store.force_delete(NAME, digest))
    assert f"{lost} is lost" in judged(played(Scene(history, event, boundary=3))).wrong
