"""What the tests of the edge share: a registry over a real socket, a clock to turn, and what must be left."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from cleaner.core.graph import Graph
from cleaner.core.history import History
from cleaner.core.manifest import Listing, Manifest, decode_links, parse_upload_time
from cleaner.core.notification import NOTHING_NAMED, Named
from cleaner.core.plan import plan
from cleaner.core.policy import Policy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.relations import may_have_subject, must_be_read
from cleaner.core.timing import Timing
from cleaner.engine.report import Report
from cleaner.engine.run import AskRunning, Run, make_histories
from cleaner.google.registry.client import Registry, RepositoryClient
from cleaner.google.tokens import Access
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator import Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.images import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

    from tests.emulator.images import Content

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A monotonic clock that goes on only while somebody sleeps, or a test turns it."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.turn(seconds)
        self.slept.append(seconds)

    def turn(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


@dataclass(frozen=True)
class Kept:
    """What a plan kept before anything happened, with all that the registry knows to belong to it."""

    tags: Mapping[str, str]
    digests: AbstractSet[str]

    def check(self, world: World) -> None:
        left = world.store.digests(world.name)
        assert self.digests <= left, f"gone: {sorted(self.digests - left)}"
        lost = self.tags.keys() - world.store.tags(world.name).keys()
        assert not lost, f"tags gone: {sorted(lost)}"


class World:
    """One repository of an emulator, and the client of a process that asks it."""

    def __init__(
        self, emulator: Emulator, *, insecure: bool = True, read_timeout_s: float = 5.0, is_real_time: bool = False
    ) -> None:
        self.emulator = emulator
        self.store = emulator.store
        self.log = emulator.log
        self.faults = emulator.faults
        self.clock = Clock()
        self.name = emulator.name("acme/api")
        self.repository = Repository(*self.name.split("/", 1))
        timing = Timing(read_timeout=read_timeout_s)
        self.transport = Transport(timing=timing)
        if not is_real_time:
            self.transport = Transport(clock=self.clock, sleep=self.clock.sleep, timing=timing)
        insecure_hosts = frozenset({self.repository.host} if insecure else ())
        self.histories = make_histories()
        self.registry = Registry(self.transport, lambda _refused: ACCESS_TOKEN, insecure_hosts)

    def load(self, content: Content, *, tags: Iterable[str] | str = (), age_days: float = 30) -> Digest:
        """Put ``content`` and what it lists into the repository."""
        uploaded = NOW - timedelta(days=age_days)
        return Digest(load(self.store, self.name, content, tags=tags, uploaded=uploaded))

    def client(self, access: Access = Access.DELETE, deadline: float = 1e9) -> RepositoryClient:
        return self.registry.open(self.repository, access, RequestBudget(deadline))

    def run(
        self,
        *,
        dry_run: bool = False,
        workers: int = 4,
        time_limit_s: float = 500,
        named: Callable[[], Named] = lambda: NOTHING_NAMED,
        ask_running: AskRunning | None = None,
        **policy: object,
    ) -> Run:
        return Run(
            self.registry,
            self.histories,
            self.repository,
            _policy(**policy),
            dry_run=dry_run,
            workers=workers,
            deadline=self.transport.clock() + time_limit_s,
            named=named,
            ask_running=ask_running,
            now=lambda: NOW,
        )

    def prune(self, **options: Any) -> Report:
        """Run, and look whether all is whole that was kept before, however the run ended."""
        kept = self.kept(**options)
        try:
            return self.run(**options).prune()
        finally:
            kept.check(self)

    def kept(self, **options: Any) -> Kept:
        """Return what the options' policy keeps of the repository as it is now, and what that needs.

        What ``max_deletions`` alone keeps may be deleted in the place of what the registry refuses; what an earlier
        run has begun to delete is judged as it was before.
        """
        policy = {key: value for key, value in options.items() if key not in (*_RUN_OPTIONS, "max_deletions")}
        listing = self.listing()
        history = (self.histories.get(self.repository) or History()).for_next_run()
        history.observe(listing)
        restored = history.restore(listing)
        todo = plan(restored, _policy(**policy), NOW, history=history)
        needed = Graph.of(restored).closure(one.manifest.digest for one in todo.keep)
        digests = {str(digest) for digest in needed if digest in listing.manifests}
        tags = {tag: digest for tag, digest in self.store.tags(self.name).items() if digest in digests}
        return Kept(tags, digests)

    def listing(self) -> Listing:
        """Return what the repository holds, straight from the emulator's memory."""
        held = self.store.manifests(self.name)
        unread = Listing.of(
            self.repository,
            (
                Manifest(
                    Digest(digest),
                    one.media_type,
                    tuple(sorted(Tag(tag) for tag in one.tags)),
                    parse_upload_time(one.uploaded_ms),
                    one.size,
                )
                for digest, one in held.items()
            ),
        )

        def read(listing: Listing, digests: Iterable[Digest]) -> Listing:
            manifests = dict(listing.manifests)
            for digest in digests:
                links = decode_links(held[digest].body, digest, held[digest].media_type)
                manifests[digest] = msgspec.structs.replace(manifests[digest], links=links.within(manifests))
            return Listing(listing.repository, manifests)

        with_children = read(unread, must_be_read(unread))
        return read(with_children, may_have_subject(with_children))

    @property
    def left(self) -> frozenset[str]:
        """The digests that are in the repository."""
        return self.store.digests(self.name)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the repository, with what they name."""
        return self.store.tags(self.name)

    def asked(self, *kinds: str) -> list[tuple[str, str, int]]:
        """Return method, reference and status of the requests of these kinds, in their order."""
        return [
            (one.method, one.path.rpartition("/")[2], one.status) for one in self.log.entries if one.kind in kinds
        ]

    def gone(self) -> list[str]:
        """Return the tags and digests that were deleted, in their order."""
        return [what for _, what, status in self.asked("tag_delete", "manifest_delete") if status == 202]

    def close(self) -> None:
        self.transport.close()


_RUN_OPTIONS = ("dry_run", "workers", "time_limit_s", "named", "ask_running")


def _policy(**keys: object) -> Policy:
    return policies_from_document(
        [{"repositories": ["**"], "untagged": {"keep": 0}, "orphans": {"keep": 0}, **keys}]
    )[0]
