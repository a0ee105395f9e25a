"""A process that is played by hand, request by request, on a clock of its own: what the judge is tested with."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.chaos.cases import HOST, make_case
from tests.chaos.judge import Judge
from tests.chaos.records import Asked, Delivery, Message, Records, Version
from tests.emulator.images import load
from tests.emulator.store import Refusal, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.losses import Loss
    from tests.emulator.images import Content

REPOSITORY = "acme/app"


class Scene:
    """One repository, and processes that are asked to prune it; ``wait`` lets time pass.

    ``process`` is the one that the requests are of; ``open`` and ``close`` are a message's delivery to it.
    """

    def __init__(self, **policy: object) -> None:
        self.policy = {
            "repositories": ["**"],
            "tagged": [{"match": "old.*", "keep": 1}],
            "untagged": {"keep": 0},
            "orphans": {"keep": 0},
            **policy,
        }
        self.case = replace(
            make_case(0, "local"),
            repositories={REPOSITORY: self.policy},
            dry_run=False,
            auth=False,
            page_size=None,
            workers=1,
            time_limit_s=500.0,
            plan_age_s=60.0,
            referrers_age_s=10.0,
            relist_delay_s=1.0,
        )
        self.store = Store()
        self.records = Records(self.store)
        self.process = "function"
        self._name = f"{HOST}/{REPOSITORY}"
        self._now = time.time()
        self._open: dict[str, Delivery] = {}
        self._number = 0

    def load(self, content: Content, *tags: str, days: float = 30) -> str:
        uploaded = datetime.now(UTC) - timedelta(days=days)
        return load(self.store, self._name, content, tags=tags, uploaded=uploaded)

    def wait(self, seconds: float) -> None:
        self._now += seconds

    def tag(self, tag: str, digest: str) -> None:
        """Let a client set a tag."""
        self.store.tag(self._name, tag, digest)
        self._snapshot()

    def remove(self, digest: str) -> None:
        """Let a client delete a manifest with its tags."""
        self.store.force_delete(self._name, digest)
        self.records.client_deleted.add((REPOSITORY, digest))
        self._snapshot()

    def open(self, digest: str | None = None) -> None:
        """Let a message arrive that the process handles."""
        self._number += 1
        message = Message(self._number, REPOSITORY, digest, None, "INSERT", self._now - 0.001)
        self._open[self.process] = Delivery(message, self.process, self._now)
        self.records.deliveries.append(self._open[self.process])
        self._snapshot()
        self.wait(0.01)

    def also(self, digest: str | None = None) -> Delivery:
        """Let another message arrive, which waits for the run."""
        self._number += 1
        message = Message(self._number, REPOSITORY, digest, None, "INSERT", self._now - 0.001)
        delivery = Delivery(message, self.process, self._now, outcome="failed")
        self.records.deliveries.append(delivery)
        return delivery

    def end(self, delivery: Delivery, outcome: str = "failed") -> None:
        """Let a message that waits end now."""
        delivery.outcome, delivery.ended = outcome, self._now

    def kill(self) -> None:
        """Kill the process."""
        self.records.killed[self.process] = self._now
        self.close("gone")

    def close(self, outcome: str = "failed") -> None:
        """Let the run of the message end, well where the outcome is ``acked``."""
        self.wait(0.2)
        delivery = self._open.pop(self.process)
        delivery.outcome, delivery.ended = outcome, self._now
        # The next run begins well after, so that nobody takes the two for one.
        self.wait(0.2)

    def list(self, missing: str = "") -> None:
        """List the repository and read all documents, of which one may no longer exist."""
        self._ask("tags_list", "tags/list", 200)
        for digest in sorted(self.records.state(REPOSITORY)):
            self._ask("manifest_get", digest, 404 if digest == missing else 200)

    def head(self, reference: str) -> int:
        named = self.store.tags(self._name).get(reference, "")
        is_there = bool(named) or self.store.has(self._name, reference)
        return self._ask("manifest_head", reference, 200 if is_there else 404, named)

    def delete_tag(self, tag: str, *, checked: bool = True, answer: int | None = None) -> int:
        """Delete a tag; with ``answer`` the registry does not, and says so."""
        if checked:
            self.head(tag)
        named = self.store.tags(self._name).get(tag, "")
        return self._delete("tag_delete", tag, named, answer)

    def delete(self, digest: str, *, answer: int | None = None) -> int:
        return self._delete("manifest_delete", digest, "", answer)

    def losses(self) -> Sequence[Loss]:
        return self.judge().losses

    def judge(self) -> Judge:
        for process in list(self._open):
            self.process = process
            self.close()
        judge = Judge(self.case, self.records)
        judge.judge()
        return judge

    def _delete(self, kind: str, reference: str, named: str, answer: int | None) -> int:
        if answer is not None:
            return self._ask(kind, reference, answer, named)
        before = self._snapshot()
        delete = self.store.delete_tag if kind == "tag_delete" else self.store.delete_manifest
        try:
            delete(self._name, reference)
        except Refusal as refusal:
            status = refusal.status
        else:
            status = 202
        return self._ask(kind, reference, status, named, before)

    def _ask(self, kind: str, reference: str, status: int, named: str = "", before: int | None = None) -> int:
        arrived = self._now
        self.wait(0.001)
        after = self._snapshot()
        entry = Asked(self.process, kind, REPOSITORY, reference, arrived, self._now, status, status, named)
        entry.before, entry.after = after if before is None else before, after
        self.records.asked.append(entry)
        self.wait(0.001)
        return status

    def _snapshot(self) -> int:
        known = len(self.records.versions.get(REPOSITORY, ()))
        number = self.records.snapshot(REPOSITORY)
        versions = self.records.versions[REPOSITORY]
        if len(versions) > known:
            versions[-1] = Version(self._now, versions[-1].state)
        return number
