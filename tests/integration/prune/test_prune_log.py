"""Dry runs, and what the log says of a run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.faults import Status
from tests.emulator.images import image, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT
from tests.support.builders import one_rule
from tests.support.prune import ABSENT, ALL, costs
from tests.support.world import World

if TYPE_CHECKING:
    from tests.support.prune import Logged

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_dry_run_deletes_nothing(google: World, logged: Logged) -> None:
    """It says what would go, and asks for nothing else than a real one before its first deletion."""
    google.load(multi_arch(1), tags="v1", age_days=40)
    google.load(image("young"), age_days=0)
    google.load(referrer(ABSENT), age_days=30)
    before = google.left

    report = google.prune(dry_run=True, **ALL)

    assert google.left == before
    costs(google, tags_list=1, manifest_get=2)
    assert {one["digest"] for one in logged("manifest would be deleted")} == before - {image("young").digest}
    assert logged("manifest deleted") == logged("tag deleted") == []
    assert (report.dry_run, report.deleted, report.kept) == (True, 4, 1)


def test_dry_run_tells_what_a_run_then_does(world: World, logged: Logged) -> None:
    """The same manifests, for the same reasons, and the same summary but for the requests."""
    for seed in range(6):
        world.load(multi_arch(seed), tags=f"v{seed}", age_days=50 - seed)
    world.load(referrer(ABSENT))
    world.load(image("lone"))
    facts = ["repository", "digest", "tags", "reason", "uploaded"]

    would = world.prune(dry_run=True, **one_rule(2, 0))
    did = world.prune(**one_rule(2, 0))

    def told(message: str) -> list[list[object]]:
        return sorted([record[fact] for fact in facts] for record in logged(message))

    assert told("manifest would be deleted") == told("manifest deleted")
    assert len(told("manifest deleted")) == did.deleted == would.deleted == 14
    assert (would.kept, would.size, would.reasons) == (did.kept, did.size, did.reasons)


RECORD = vars(logging.makeLogRecord({})).keys() | {"message"}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in RECORD}


def test_log_of_a_run(world: World, logged: Logged) -> None:
    """Exactly the lines and fields that dashboards rely on."""
    uploaded = datetime(2025, 12, 2, tzinfo=UTC)
    old = world.load(image("old", size=1000), tags=["v1", "a"])
    orphan = world.load(referrer(ABSENT))
    kept = world.load(image("kept"), tags="v2", age_days=0)
    sizes = {digest: one.size for digest, one in world.store.manifests(world.name).items()}

    world.prune(**one_rule(1, 0))

    name = world.name
    assert [facts_of(one) for one in logged("tag deleted")] == [
        {"repository": name, "digest": old, "tag": tag} for tag in ("a", "v1")
    ]
    lines = {one["digest"]: one for one in logged("manifest deleted")}
    assert facts_of(lines[old]) == {
        "repository": name,
        "digest": old,
        "tags": ("a", "v1"),
        "reason": "expired",
        "uploaded": uploaded,
    }
    assert facts_of(lines[orphan]) == {
        "repository": name,
        "digest": orphan,
        "tags": (),
        "reason": "orphaned",
        "uploaded": uploaded,
    }
    (line,) = logged("manifest kept")
    assert line["levelname"] == "DEBUG"
    assert facts_of(line) == {
        "repository": name,
        "digest": kept,
        "tags": ("v2",),
        "reason": "too-young",
        "uploaded": uploaded + timedelta(days=30),
    }
    (summary,) = logged("prune finished")
    assert facts_of(summary) == {
        "repository": name,
        "dry_run": False,
        "kept": 1,
        "deleted": 2,
        "refused": 0,
        "failed": 0,
        "bytes": sizes[old] + sizes[orphan],
        "requests": world.log.total,
        "seconds": 0.0,
        "reasons": {"expired": 1, "orphaned": 1, "too-young": 1},
    }
    levels = {one["levelname"] for one in [*logged("tag deleted"), *lines.values(), summary]}
    assert levels == {"INFO"}


def test_log_of_a_dry_run(world: World, logged: Logged) -> None:
    """The same line in the subjunctive."""
    digest = world.load(image("old", size=1000), tags="v1")

    world.prune(dry_run=True, **ALL)

    (line,) = logged("manifest would be deleted")
    assert facts_of(line).keys() == {"repository", "digest", "tags", "reason", "uploaded"}
    assert (line["digest"], line["tags"], line["reason"]) == (digest, ("v1",), "expired")
    (summary,) = logged("prune finished")
    assert (summary["dry_run"], summary["deleted"], summary["kept"], summary["bytes"]) == (True, 1, 0, 1000)


def test_summary_of_what_was_refused_and_failed(world: World, logged: Logged) -> None:
    """Kept, deleted, refused and failed are all that there was; reasons tell of kept and deleted."""
    refused, failing = world.load(image("refused")), world.load(image("failing"))
    world.load(image("gone"))
    world.load(image("kept"), age_days=0)
    world.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=refused)
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=failing)

    world.prune()

    (summary,) = logged("prune finished")
    counts = {key: summary[key] for key in ("kept", "deleted", "refused", "failed", "reasons")}
    assert counts == {
        "kept": 1,
        "deleted": 1,
        "refused": 1,
        "failed": 1,
        "reasons": {"expired": 1, "too-young": 1},
    }
