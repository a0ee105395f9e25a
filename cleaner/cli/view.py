"""A plan by images, each with what belongs to it, and several plans by repositories.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Literal

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Listing, Manifest, newest_first
from cleaner.core.plan import Plan, Verdict
from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Tag
from cleaner.core.times import END_OF_TIME
from cleaner.core.walk import reachable

# BuildKit's in-toto attestations are children of this platform.
_NO_PLATFORM = "unknown/unknown"
# cosign, "Storage specification": what is attached, by the suffix of its referrer tag.
_ATTACHED = {".sig": "signature", ".att": "attestation", ".sbom": "SBOM"}
_REFERRER = "referrer"
_REDUNDANT = "redundant index"


class Part(msgspec.Struct, frozen=True):
    """A manifest that belongs to an image, ``depth`` levels below it.

    ``what`` it is: a platform like ``linux/arm64``, ``signature``, ``attestation``, ``SBOM``, ``referrer``,
    ``redundant index``, or ``child`` if nothing more is known.  ``tags`` are its ordinary tags.
    """

    verdict: Verdict
    is_deleted: bool
    what: str
    depth: int
    is_attached: bool
    tags: tuple[Tag, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The manifest itself."""
        return self.verdict.manifest


class Row(msgspec.Struct, frozen=True):
    """An image or an orphan, with what belongs to it.

    ``what`` an orphan is, as in ``Part``; empty for an image.  ``tags`` are all tags, the ordinary ones first.
    ``size`` is in bytes, that of an index with its children.
    """

    verdict: Verdict
    is_deleted: bool
    kind: Kind
    what: str
    tags: tuple[Tag, ...]
    parts: tuple[Part, ...]
    size: int

    @property
    def manifest(self) -> Manifest:
        """The manifest itself."""
        return self.verdict.manifest

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of an index, without the children that are attestations; empty for a single image."""
        return tuple(part.what for part in self.parts if not part.is_attached and part.depth == 1)

    @property
    def attached(self) -> Mapping[str, int]:
        """The number of signatures, attestations and the like that belong to it."""
        return Counter(part.what for part in self.parts if part.is_attached)


class View(msgspec.Struct, frozen=True):
    """A plan in rows, newest first; each of its manifests is in at least one of them."""

    plan: Plan
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, plan: Plan, listing: Listing) -> View:
        """Return the rows of ``plan``, which rests on ``listing``."""
        graph = Graph.of(listing)
        verdicts = {verdict.manifest.digest: (verdict, False) for verdict in plan.keep}
        verdicts |= {verdict.manifest.digest: (verdict, True) for verdict in plan.delete}
        kinds = {digest: graph.kind(listing.manifests[digest]) for digest in verdicts}
        heads = [digest for digest, kind in kinds.items() if kind.is_judged]
        attached = reachable(heads, lambda digest: (*graph.parts(digest), *graph.referrers.get(digest, ())))
        # Manifests that belong only to one another are rows as well, or they would be in none.
        heads += [digest for digest in verdicts if digest not in attached]
        rows = []
        for manifest in newest_first(listing.manifests[digest] for digest in heads):
            verdict, is_deleted = verdicts[manifest.digest]
            kind = kinds[manifest.digest]
            parts = tuple(_parts(manifest, graph, verdicts))
            size = manifest.size + sum(part.manifest.size for part in parts if part.manifest.digest in graph.parents)
            tags = sorted(manifest.tags, key=lambda tag: graph.subject_of(manifest, tag) is not None)
            what = _attached_as(manifest, graph) if kind is Kind.ORPHAN else ""
            rows.append(Row(verdict, is_deleted, kind, what, tuple(tags), parts, size))
        return cls(plan, tuple(rows))

    @property
    def freed(self) -> int:
        """The sum of the sizes of what is deleted, in bytes: an upper bound, since images share layers."""
        return sum(verdict.manifest.size for verdict in self.plan.delete)

    @property
    def kept_size(self) -> int:
        """The same of what is kept."""
        return sum(verdict.manifest.size for verdict in self.plan.keep)


class Planned(msgspec.Struct, frozen=True, dict=True):
    """A plan, the listing and policy that it is made from, and its time; ``where`` is the policy's place."""

    plan: Plan
    listing: Listing
    policy: Policy
    where: str
    now: datetime

    @cached_property
    def view(self) -> View:
        """The plan in rows; the table, the totals, the hints and the page all read it."""
        return View.of(self.plan, self.listing)

    @property
    def tags(self) -> frozenset[Tag]:
        """The ordinary tags of the repository."""
        graph = Graph.of(self.listing)
        return frozenset(tag for one in self.listing.manifests.values() for tag in graph.ordinary_tags(one))


class RepositoryRow(msgspec.Struct, frozen=True):
    """What one repository keeps and deletes, in images and orphans; ``freed`` is in bytes, at most.

    ``error`` says why nothing is known of it, and ``note`` what else is to be known; both may be empty.
    """

    name: str
    kept: int = 0
    deleted: int = 0
    freed: int = 0
    kept_bytes: int = 0
    policy: str = ""
    note: str = ""
    error: str = ""


class DoneRow(msgspec.Struct, frozen=True):
    """What was done in one repository, in manifests; ``end`` says how it ended if not well."""

    name: str
    kept: int
    deleted: int
    refused: int
    failed: int
    freed: int
    end: str


class Overview(msgspec.Struct, frozen=True):
    """Several repositories, one row each."""

    rows: tuple[RepositoryRow, ...]

    @classmethod
    def of(cls, planned: Iterable[Planned], others: Iterable[RepositoryRow] = ()) -> Overview:
        """Return the rows of ``planned`` and the ``others``, which have no plan; the largest saving first."""
        rows = [*map(_repository_row, planned), *others]
        return cls(tuple(sorted(rows, key=lambda row: (bool(row.error), -row.freed, -row.deleted, row.name))))


def selected(
    rows: Iterable[Row], only: Literal["keep", "delete"] | None, sort: str | None, limit: int | None
) -> tuple[Row, ...]:
    """Return the rows, ``only`` those that are kept or deleted, by ``age``, ``size`` or ``name``, up to a limit."""
    found = [row for row in rows if only is None or row.is_deleted == (only == "delete")]
    if sort == "size":
        found.sort(key=lambda row: -row.size)
    elif sort == "name":
        found.sort(key=lambda row: (not row.tags, row.tags))
    elif sort == "age":
        found.sort(key=lambda row: row.manifest.uploaded or END_OF_TIME)
    return tuple(found[:limit])


def selected_repositories(
    overview: Overview, only: Literal["keep", "delete"] | None, sort: str | None, limit: int | None
) -> tuple[RepositoryRow, ...]:
    """Return the rows of repositories in which ``only`` something is kept or deleted, up to a limit."""
    found = [
        row for row in overview.rows if row.error or only is None or (row.deleted if only == "delete" else row.kept)
    ]
    if sort == "name":
        found.sort(key=lambda row: row.name)
    return tuple(found[:limit])


def _repository_row(planned: Planned) -> RepositoryRow:
    view = planned.view
    judged = Counter(row.is_deleted for row in view.rows)
    return RepositoryRow(
        str(planned.plan.repository),
        judged[False],
        judged[True],
        view.freed,
        view.kept_size,
        planned.where,
        "dry run" if planned.policy.dry_run else "",
    )


def _parts(head: Manifest, graph: Graph, verdicts: Mapping[Digest, tuple[Verdict, bool]]) -> Iterator[Part]:
    """Yield what belongs to ``head``, each once and after what it belongs to: children, then referrers."""
    seen = {head.digest}
    stack: list[Iterator[Part]] = [_below(head, graph, verdicts, 1)]
    while stack:
        part = next(stack[-1], None)
        if part is None:
            stack.pop()
        elif part.manifest.digest not in seen:
            seen.add(part.manifest.digest)
            yield part
            stack.append(_below(part.manifest, graph, verdicts, part.depth + 1))


def _below(
    owner: Manifest, graph: Graph, verdicts: Mapping[Digest, tuple[Verdict, bool]], depth: int
) -> Iterator[Part]:
    children: Iterable[Digest] = graph.children.get(owner.digest, ())
    if children:
        links = owner.links
        platforms = dict(zip(links.children, links.platforms, strict=bool(links.platforms)))
        for digest in children:
            platform = platforms.get(digest, "")
            is_attestation = platform == _NO_PLATFORM
            yield _part(digest, graph, verdicts, "attestation" if is_attestation else platform, depth, is_attestation)
    for digest in graph.redundant.get(owner.digest, ()):
        yield _part(digest, graph, verdicts, _REDUNDANT, depth, is_attached=True)
    for digest in graph.referrers.get(owner.digest, ()):
        what = _attached_as(verdicts[digest][0].manifest, graph)
        yield _part(digest, graph, verdicts, what, depth, is_attached=True)


def _part(
    digest: Digest,
    graph: Graph,
    verdicts: Mapping[Digest, tuple[Verdict, bool]],
    what: str,
    depth: int,
    is_attached: bool,
) -> Part:
    verdict, is_deleted = verdicts[digest]
    return Part(verdict, is_deleted, what or "child", depth, is_attached, graph.ordinary_tags(verdict.manifest))


def _attached_as(manifest: Manifest, graph: Graph) -> str:
    """Return what a referrer or an orphan is to its subject, as far as its referrer tags say."""
    for tag in manifest.tags:
        if graph.subject_of(manifest, tag) is not None:
            suffix = tag[len("sha256-") + 64 :]
            return _ATTACHED.get(suffix, _REFERRER)
    return _REFERRER
