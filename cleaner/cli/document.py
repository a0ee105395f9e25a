"""A plan, or what became of it, as one JSON document.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import newest_first

_NOTHING_LOST: Mapping[Digest, Collection[Tag]] = MappingProxyType({})


def plan_document(plan: Plan) -> str:
    """Return what a plan keeps and would delete, newest first."""
    return _document(plan.repository, map(_entry, plan.keep), map(_entry, plan.delete), dry_run=True)


def done_document(
    plan: Plan, outcomes: Mapping[Digest, str], lost: Mapping[Digest, Collection[Tag]] = _NOTHING_LOST
) -> str:
    """Return what is left after ``plan`` was carried out, and what has gone, newest first.

    ``outcomes`` are those of the deletions that came to nothing: they are kept, with the plan's reason and the
    ``outcome``.  ``lost`` are tags of these that were deleted: no longer among their ``tags``, but ``lost_tags``.
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
    gone = [_entry(verdict) for verdict in plan.delete if verdict.manifest.digest not in undone]
    return _document(plan.repository, kept, gone, dry_run=False)


def empty_document(repository: Repository, *, dry_run: bool) -> str:
    """Return the document of a repository that holds nothing, or that nobody has looked at."""
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
    manifest = verdict.manifest
    entry: dict[str, object] = {
        "digest": manifest.digest,
        "tags": manifest.tags,
        "uploaded": manifest.uploaded.isoformat() if manifest.uploaded else None,
        "reason": verdict.reason.value,
    }
    return entry | {"running": verdict.detail} if verdict.detail else entry
