"""Steps by name, and a registry in memory that carries them out as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cleaner.core.reference import Digest, Tag
from cleaner.core.steps import Step
from cleaner.engine.executor import Ending, Outcome, Result, TagDeletions, execute
from cleaner.google.registry.deletions import DELETED, NOT_SENT, DeletionResponse
from tests.support.builders import digest, manifest, name_of
from tests.support.processes import DEADLINE_S


class Steps(list[Step]):
    """Steps in the order of their addition."""

    def __init__(self) -> None:
        super().__init__()
        self._positions: dict[str, int] = {}

    def add(
        self,
        name: str,
        after: str = "",
        *,
        tags: str = "",
        only_tags: bool = False,
        needs_recent_listing: bool = False,
        must_be_missing: str = "",
        kept_child: str = "",
    ) -> None:
        """Add the step that deletes the manifest ``name``; ``after`` names steps, separated by spaces.

        With ``only_tags`` it deletes nothing else, and its name is ``NAME.tags``.
        """
        one = manifest(name, tags=tags)
        self._positions[f"{name}.tags" if only_tags else name] = len(self)
        self.append(
            Step(
                one,
                tags=one.tags,
                deletes_manifest=not only_tags,
                after=tuple(self._positions[other] for other in after.split()),
                must_be_missing=tuple(digest(other) for other in must_be_missing.split()),
                needs_recent_listing=needs_recent_listing,
                is_begun=False,
                kept_child=digest(kept_child) if kept_child else None,
            )
        )

    def add_referrers(self, subject: str, *names: str) -> None:
        """Add the steps that delete a tagged subject's tags, its OCI referrers ``names``, and itself."""
        self.add(subject, tags=f"{subject}-tag", only_tags=True, needs_recent_listing=True)
        for name in names:
            self.add(name, after=f"{subject}.tags", needs_recent_listing=True)
        self.add(subject, after=" ".join([f"{subject}.tags", *names]))


@dataclass
class MemoryDeleter:
    """Answers for a registry, and records what it was sent, by the names of tags and manifests.

    ``responses`` are those that are not ``DELETED``, or are raised.  ``before`` is called in the worker's thread
    before the answer: it may wait.  ``attempts`` is how often a deletion is attempted.  ``present`` are the manifests
    that exist.
    """

    responses: dict[str, DeletionResponse | Exception] = field(default_factory=dict)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    under_way_most: int = 0
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def exists(self, digest: Digest) -> bool:
        name = name_of(digest)
        self._answer(f"HEAD {name}", lambda: True)
        return name in self.present

    def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        assert expected_digest.startswith("sha256:")
        return self._answer(tag, precondition)

    def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        return self._answer(name_of(digest), precondition)

    def _answer(self, what: str, precondition: Callable[[], bool]) -> DeletionResponse:
        with self._lock:
            self._under_way += 1
            self.under_way_most = max(self.under_way_most, self._under_way)
        try:
            for attempt in range(self.attempts.get(what, 1)):
                if not precondition():
                    return (
                        NOT_SENT if attempt == 0 else DeletionResponse(is_gone=False, was_sent=True, is_doubtful=True)
                    )
                self.requests.append(what)
                self.before.get(what, lambda: None)()
            response = self.responses.get(what, DELETED)
            if isinstance(response, Exception):
                raise response
            return response
        finally:
            with self._lock:
                self._under_way -= 1


@dataclass
class FreeGuard:
    """Lets everything begin but what ``lets_begin`` denies, and names what is in ``named``.

    Once it is ``late``, no step has a listing that is recent enough.
    """

    lets_begin: Callable[[Step], bool] = lambda _: True
    named: set[str] = field(default_factory=set)
    late: threading.Event = field(default_factory=threading.Event)
    contradicted: threading.Event = field(default_factory=threading.Event)

    def may_begin(self, step: Step) -> bool:
        return self.lets_begin(step)

    def is_late(self, step: Step) -> bool:
        return step.needs_recent_listing and self.late.is_set()

    def is_named(self, digest: Digest, tags: Collection[Tag]) -> bool:  # noqa: ARG002
        return name_of(digest) in self.named

    def is_contradicted(self) -> bool:
        return self.contradicted.is_set()


def carry_out(
    steps: Steps,
    deleter: MemoryDeleter,
    guard: FreeGuard | None = None,
    *,
    workers: int = 4,
    on_ending: Callable[[Ending], None] = lambda _: None,
    tag_deletions: TagDeletions | None = None,
) -> Result:
    """Execute ``steps`` on a pool that has more threads than ``workers``."""
    endings: list[Ending] = []

    def note(ending: Ending) -> None:
        endings.append(ending)
        on_ending(ending)

    with ThreadPoolExecutor(workers + 4) as pool:
        result = execute(
            steps,
            deleter,
            guard or FreeGuard(),
            pool,
            workers,
            on_ending=note,
            tag_deletions=tag_deletions or TagDeletions(),
        )
    assert endings == result.endings
    assert len({id(ending.step) for ending in endings}) == len(endings)
    return result


def outcomes(result: Result) -> dict[str, Outcome]:
    """Return how the steps have ended that have begun, by the names that ``Steps.add`` gave them."""
    return {
        name_of(one.step.manifest.digest) + ("" if one.step.deletes_manifest else ".tags"): one.outcome
        for one in result.endings
    }


class Gate:
    """Is closed until a test opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(DEADLINE_S)
