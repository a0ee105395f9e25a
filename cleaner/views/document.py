"""Plans, or what a run did of one, as JSON documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from cleaner.core.manifest import newest_first
from cleaner.core.plan import Verdict
from cleaner.core.policy import Policy, Rule
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.views.images import Only, Planned, Row

Document = dict[str, object]

# How the deletion of a manifest ended that did not exist any more, without this run.
GONE = "gone"
_NOTHING_LOST: Mapping[Digest, Collection[Tag]] = MappingProxyType({})


def to_lines(documents: Document | Sequence[Document | str], output: str) -> list[str]:
    """Return a document, or several, as ``json``, or one a line as ``jsonl``, of which no document is no line."""
    if output == "jsonl":
        lines = [json.dumps(one) for one in ([documents] if isinstance(documents, dict) else documents)]
    else:
        lines = json.dumps(documents, indent=2).split("\n")
    # The only character of ASCII that is not printable and that JSON may have.
    return [line.replace("\x7f", "\\u007f") for line in lines]


def plan_document(
    planned: Planned, rows: Iterable[Row] | None = None, only: Only = None, *, in_order: bool = False
) -> Document:
    """Return what a plan keeps and would delete, newest first.

    With ``rows`` only those images with what belongs to them, if ``in_order`` in that of the rows; of those ``only``
    one kind.
    """
    keep: Iterable[Verdict] = planned.plan.keep
    delete: Iterable[Verdict] = planned.plan.delete
    if rows is not None:
        kept, deleted = _of_rows(rows)
        keep = kept.values() if in_order else (one for one in keep if one.manifest.digest in kept)
        delete = deleted.values() if in_order else (one for one in delete if one.manifest.digest in deleted)
    keep = keep if only != "delete" else ()
    delete = delete if only != "keep" else ()
    return _document(planned, map(_entry, keep), map(_entry, delete), dry_run=True)


def done_document(
    planned: Planned, outcomes: Mapping[Digest, str], lost: Mapping[Digest, Collection[Tag]] = _NOTHING_LOST
) -> Document:
    """Return what is kept after a plan was carried out, and what was deleted, newest first.

    ``outcomes`` are those of the manifests that were to be deleted and were not: they are kept, with the plan's
    reason and the ``outcome``; the summary does not count those that were ``GONE``.  ``lost`` are their tags that
    were deleted: ``lost_tags`` has them, ``tags`` does not.
    """
    plan = planned.plan
    undone = {one.manifest.digest: one for one in plan.delete if one.manifest.digest in outcomes}
    verdicts = {**plan.kept, **undone}
    kept = []
    for manifest in newest_first(verdict.manifest for verdict in verdicts.values()):
        entry = _entry(verdicts[manifest.digest])
        if manifest.digest in undone:
            entry["outcome"] = outcomes[manifest.digest]
        if tags := lost.get(manifest.digest):
            entry |= {"tags": [tag for tag in manifest.tags if tag not in tags], "lost_tags": sorted(tags)}
        kept.append(entry)
    deleted = [verdict for verdict in plan.delete if verdict.manifest.digest not in undone]
    document = _document(planned, kept, map(_entry, deleted), dry_run=False)
    left = [one for digest, one in undone.items() if outcomes[digest] != GONE]
    return document | {"summary": _summary((*plan.keep, *left), deleted)}


def empty_document(repository: Repository, *, dry_run: bool, error: str = "") -> Document:
    """Return the document of a repository that does not exist, was not listed, or of which nothing is known."""
    document: Document = {
        "repository": str(repository),
        "dry_run": dry_run,
        "policy": None,
        "keep": [],
        "delete": [],
        "summary": _summary((), ()),
    }
    return document | {"error": error} if error else document


def policy_document(policy: Policy) -> Document:
    """Return a policy as an entry of a document of policies, with its defaults written out."""
    return {
        "repositories": [glob.text for glob in policy.repositories],
        "min_age": str(policy.min_age),
        "tagged": [
            {"match": [pattern.pattern for pattern in rule.match], **_rule(rule), "order": rule.order}
            for rule in policy.tagged
        ],
        "untagged": _rule(policy.untagged),
        "orphans": _rule(policy.orphans),
        "max_deletions": policy.max_deletions,
        "dry_run": policy.dry_run,
    }


def _document(planned: Planned, keep: Iterable[Document], delete: Iterable[Document], *, dry_run: bool) -> Document:
    return {
        "repository": str(planned.plan.repository),
        "dry_run": dry_run,
        "policy": policy_document(planned.policy),
        "keep": list(keep),
        "delete": list(delete),
        "summary": _summary(planned.plan.keep, planned.plan.delete),
    }


def _summary(keep: Collection[Verdict], delete: Collection[Verdict]) -> Document:
    """Return the numbers of manifests, and the bytes of what is deleted, an upper bound: layers are shared."""
    return {
        "kept": len(keep),
        "deleted": len(delete),
        "bytes": sum(verdict.manifest.size for verdict in delete),
        "kept_bytes": sum(verdict.manifest.size for verdict in keep),
        "reasons": dict(Counter(verdict.reason.value for verdict in (*keep, *delete))),
    }


def _of_rows(rows: Iterable[Row]) -> tuple[Mapping[Digest, Verdict], Mapping[Digest, Verdict]]:
    """Return what is kept and what is deleted of some rows, in their order."""
    kept: dict[Digest, Verdict] = {}
    deleted: dict[Digest, Verdict] = {}
    for row in rows:
        (deleted if row.is_deleted else kept)[row.manifest.digest] = row.verdict
        for part in row.parts:
            (deleted if part.is_deleted else kept)[part.manifest.digest] = part.verdict
    return kept, deleted


def _rule(rule: Rule) -> Document:
    return {
        "keep": "all" if rule.keep is None else rule.keep,
        "keep_within": None if rule.keep_within is None else str(rule.keep_within),
        "delete_after": None if rule.delete_after is None else str(rule.delete_after),
    }


def _entry(verdict: Verdict) -> Document:
    manifest, place = verdict.manifest, verdict.place
    entry: Document = {
        "digest": manifest.digest,
        "tags": manifest.tags,
        "uploaded": manifest.uploaded.isoformat() if manifest.uploaded else None,
        "size": manifest.size,
        "media_type": manifest.media_type,
        "reason": verdict.reason.value,
        "rule": place.rule if place else None,
        "rank": place.rank if place else None,
        # Only rules for tags capture anything.
        "pool": list(place.pool) if place and isinstance(place.rule, int) else None,
    }
    return entry | {"running": verdict.detail} if verdict.detail else entry
