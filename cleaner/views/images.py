"""What is known of repositories: a plan by images, each with what belongs to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Literal

import msgspec

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Listing, Manifest, newest_first
from cleaner.core.plan import Plan, Verdict
from cleaner.core.policy import Policy
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import Running
from cleaner.core.times import END_OF_TIME
from cleaner.core.walk import reachable

Only = Literal["keep", "delete"] | None

# BuildKit's in-toto attestations are children of this platform.
_NO_PLATFORM = "unknown/unknown"
# cosign, "Storage specification": what is attached, by the suffix of its referrer tag.
_ATTACHED = {".sig": "signature", ".att": "attestation", ".sbom": "SBOM"}


class Row(msgspec.Struct, frozen=True, gc=False):
    """An image or an orphan with its ``parts``, or such a part, ``depth`` levels below what it belongs to.

    ``what`` a part or an orphan is: a platform like ``linux/arm64``, ``signature``, ``attestation``, ``SBOM``,
    ``referrer``, ``redundant index``, or ``child`` if nothing more is known; empty for an image.  ``tags``: the
    ordinary ones first; of a part they are all.  ``size`` is in bytes, that of an index with its children.
    """

    verdict: Verdict
    is_deleted: bool
    kind: Kind
    what: str
    tags: tuple[Tag, ...]
    size: int
    depth: int = 0
    is_attached: bool = False
    parts: tuple[Row, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The manifest itself."""
        return self.verdict.manifest

    @property
    def decision(self) -> Only:
        """What the plan decides for it."""
        return "delete" if self.is_deleted else "keep"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of an index, without the children that are attestations; empty for a single image."""
        # Most images of most repositories have no parts.
        if not self.parts:
            return ()
        return tuple([part.what for part in self.parts if not part.is_attached and part.depth == 1])

    @property
    def attached(self) -> Mapping[str, int]:
        """The number of signatures, attestations and the like that belong to it, by what they are."""
        return Counter(sorted(part.what for part in self.parts if part.is_attached)) if self.parts else {}


class Planned(msgspec.Struct, frozen=True, dict=True):
    """A plan, and the listing, policy and time that it is made from; ``where`` is the policy's place.

    ``running`` is what is deployed; None if that is not known.  ``asks_running``: it is asked if anything is deleted.
    """

    plan: Plan
    listing: Listing
    policy: Policy
    where: str
    now: datetime
    running: Running | None = None
    asks_running: bool = False

    @cached_property
    def graph(self) -> Graph:
        """The graph of the listing."""
        return Graph.of(self.listing)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The images and orphans, newest first; each manifest of the plan is in a row, or a part of one."""
        return tuple(_Rows(self).all())

    @cached_property
    def freed(self) -> int:
        """The sum of the sizes of what is deleted, in bytes: an upper bound, since images share layers."""
        return sum(verdict.manifest.size for verdict in self.plan.delete)

    @cached_property
    def kept_size(self) -> int:
        """The same of what is kept."""
        return sum(verdict.manifest.size for verdict in self.plan.kept.values())

    @property
    def tags(self) -> frozenset[Tag]:
        """The ordinary tags of the repository."""
        return frozenset(tag for one in self.listing.manifests.values() for tag in self.graph.ordinary_tags(one))


class Result(msgspec.Struct, frozen=True, dict=True):
    """The plan for one repository, or a ``note`` why there is none, or the ``error`` for which there is none."""

    repository: Repository
    planned: Planned | None = None
    note: str = ""
    error: str = ""

    @cached_property
    def deleted(self) -> int:
        """The number of images and orphans that are deleted; 0 without a plan."""
        return sum(row.is_deleted for row in self.planned.rows) if self.planned else 0

    @property
    def kept(self) -> int:
        """The same of what is kept."""
        return len(self.planned.rows) - self.deleted if self.planned else 0

    @property
    def freed(self) -> int:
        """The number of bytes that are freed, at most."""
        return self.planned.freed if self.planned else 0

    @property
    def remark(self) -> str:
        """What else is to be known; empty if nothing is."""
        return self.error or self.note or ("dry run" if self.planned and self.planned.policy.dry_run else "")


def by_saving(results: Iterable[Result]) -> list[Result]:
    """Return results with the largest saving first, and those that failed last."""
    return sorted(results, key=lambda one: (bool(one.error), -one.freed, -one.deleted, str(one.repository)))


def selected(rows: Iterable[Row], only: Only, sort: str | None, limit: int | None) -> Sequence[Row]:
    """Return the rows, ``only`` those that are kept or deleted, by ``age``, ``size`` or ``name``, up to a limit."""
    found = [row for row in rows if only is None or row.is_deleted == (only == "delete")]
    if sort == "size":
        found.sort(key=lambda row: -row.size)
    elif sort == "name":
        found.sort(key=lambda row: (not row.tags, row.tags))
    elif sort == "age":
        found.sort(key=lambda row: row.manifest.uploaded or END_OF_TIME)
    return found[:limit]


def selected_results(results: Iterable[Result], only: Only, sort: str | None, limit: int | None) -> Sequence[Result]:
    """Return the results in which ``only`` something is kept or deleted, or that failed, up to a limit."""
    found = [one for one in results if one.error or only is None or (one.deleted if only == "delete" else one.kept)]
    if sort == "name":
        found.sort(key=lambda one: str(one.repository))
    return found[:limit]


class _Rows:
    """Makes the rows of a plan."""

    def __init__(self, planned: Planned) -> None:
        self._manifests = planned.listing.manifests
        self._graph = graph = planned.graph
        self._verdicts = {digest: (verdict, False) for digest, verdict in planned.plan.kept.items()}
        self._verdicts |= {verdict.manifest.digest: (verdict, True) for verdict in planned.plan.delete}
        self._kinds = {digest: graph.kind(self._manifests[digest]) for digest in self._verdicts}

    def all(self) -> Iterator[Row]:
        """Yield the images and orphans, newest first.

        Manifests that belong only to one another are rows as well, or they would be in none.
        """
        graph = self._graph
        heads = {digest for digest, kind in self._kinds.items() if kind.is_judged}
        if len(heads) < len(self._kinds):
            parts = reachable(heads, lambda digest: (*graph.parts(digest), *graph.referrers.get(digest, ())))
            heads |= self._kinds.keys() - parts
        in_need = graph.in_need()
        for manifest in newest_first(self._manifests[digest] for digest in heads):
            digest, tags = manifest.digest, manifest.tags
            parts_of = tuple(self._parts(digest)) if digest in in_need else ()
            size = manifest.size + sum(
                part.manifest.size for part in parts_of if part.manifest.digest in graph.parents
            )
            if len(tags) > 1:
                tags = tuple(sorted(tags, key=lambda tag: graph.subject_of(manifest, tag) is not None))
            kind = self._kinds[digest]
            what = self._attached_as(manifest) if kind is Kind.ORPHAN else ""
            yield Row(*self._verdicts[digest], kind, what, tags, size, parts=parts_of)

    def _parts(self, head: Digest) -> Iterator[Row]:
        """Yield what belongs to ``head``, each once and after what it belongs to: children, then referrers."""
        seen = {head}
        stack = [self._below(head, 1)]
        while stack:
            part = next(stack[-1], None)
            if part is None:
                stack.pop()
            elif part.manifest.digest not in seen:
                seen.add(part.manifest.digest)
                yield part
                stack.append(self._below(part.manifest.digest, part.depth + 1))

    def _below(self, owner: Digest, depth: int) -> Iterator[Row]:
        graph, links = self._graph, self._manifests[owner].links
        platforms = dict(zip(links.children, links.platforms, strict=bool(links.platforms)))
        for digest in graph.children.get(owner, ()):
            platform = platforms.get(digest, "")
            is_attestation = platform == _NO_PLATFORM
            yield self._part(digest, "attestation" if is_attestation else platform or "child", depth, is_attestation)
        for digest in graph.redundant.get(owner, ()):
            yield self._part(digest, "redundant index", depth)
        for digest in graph.referrers.get(owner, ()):
            yield self._part(digest, self._attached_as(self._manifests[digest]), depth)

    def _part(self, digest: Digest, what: str, depth: int, is_attached: bool = True) -> Row:
        manifest = self._manifests[digest]
        tags = self._graph.ordinary_tags(manifest)
        return Row(*self._verdicts[digest], self._kinds[digest], what, tags, manifest.size, depth, is_attached)

    def _attached_as(self, manifest: Manifest) -> str:
        """Return what a referrer or an orphan is to its subject, as far as its referrer tags say."""
        for tag in manifest.tags:
            if self._graph.subject_of(manifest, tag) is not None:
                return _ATTACHED.get(tag[len("sha256-") + 64 :], "referrer")
        return "referrer"
