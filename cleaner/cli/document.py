"""A plan, or what a run did of it, as one JSON document.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from cleaner.core.manifest import newest_first
from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest, Repository, Tag

_NOTHING_LOST: Mapping[Digest, Collection[Tag]] = MappingProxyType({})


def plan_document(plan: Plan) -> str:
    """Return what a plan keeps and would delete, newest first."""
    return _document(plan.repository, map(_entry, plan.keep), map(_entry, plan.delete), dry_run=True)


def done_document(
    plan: Plan, outcomes: Mapping[Digest, str], lost: Mapping[Digest, Collection[Tag]] = _NOTHING_LOST
) -> str:
    """Return what is kept after ``plan`` was carried out, and what was deleted, newest first.

    ``outcomes`` are those of the manifests that were to be deleted and were not: they are kept, with the plan's
    reason and the ``outcome``.  ``lost`` are their tags that were deleted: ``lost_tags`` has them, ``tags`` does not.
    """
    undone = {one.manifest.digest: one for one in plan.delete if one.manifest.digest in outcomes}
    verdicts = {verdict.manifest.digest: verdict for verdict in plan.keep} | undone
    kept = []
    for manifest in newest_first(verdict.manifest for verdict in verdicts.values()):
        entry = _entry(verdicts[manifest.digest])
        if manifest.digest in undone:
            entry["outcome"] = outcomes[manifest.digest]
        if tags := lost.get(manifest.digest):
            entry |= {"tags": [tag for tag in manifest.tags if tag not in tags], "lost_tags": sorted(tags)}
        kept.append(entry)
    deleted = [_entry(verdict) for verdict in plan.delete if verdict.manifest.digest not in undone]
    return _document(plan.repository, kept, deleted, dry_run=False)


def empty_document(repository: Repository, *, dry_run: bool) -> str:
    """Return the document of a repository that does not exist, or was not listed."""
    return _document(repository, (), (), dry_run=dry_run)


def _document(
    repository: Repository,
    keep: Iterable[Mapping[str, object]],
    delete: Iterable[Mapping[str, object]],
    *,
    dry_run: bool,
) -> str:
    document = {"repository": str(repository), "dry_run": dry_run, "keep": list(keep), "delete": list(delete)}
    return json.dumps(document, indent=2)


def _entry(verdict: Verdict) -> dict[str, object]:
    manifest, place = verdict.manifest, verdict.place
    entry: dict[str, object] = {
        "digest": manifest.digest,
        "tags": manifest.tags,
        "uploaded": manifest.uploaded.isoformat() if manifest.uploaded else None,
        "reason": verdict.reason.value,
        "rule": place.rule if place else None,
        "rank": place.rank if place else None,
        # Only rules for tags capture anything.
        "pool": list(place.pool) if place and isinstance(place.rule, int) else None,
    }
    return entry | {"running": verdict.detail} if verdict.detail else entry
