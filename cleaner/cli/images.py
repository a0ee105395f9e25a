"""A plan as a person thinks of it: an image, and folded under it what belongs to it.

Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from cleaner.core.graph import Graph, Kind, reachable
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.plan import Plan, Verdict
from cleaner.core.reference import Digest
from cleaner.core.rules import newest_first

# BuildKit's in-toto attestations are children of this platform.
_NO_PLATFORM = "unknown/unknown"
# cosign, "Storage specification": the suffix of the tag says what is attached.
_ATTACHED = {".sig": "signature", ".att": "attestation", ".sbom": "SBOM"}
_REFERRER = "referrer"


class Part(msgspec.Struct, frozen=True):
    """What belongs to an image, ``depth`` levels below it.

    ``what`` it is: a platform like ``linux/arm64``, ``signature``, ``attestation``, ``SBOM``, ``referrer``, or
    ``child`` where nothing more is known.
    """

    verdict: Verdict
    goes: bool
    what: str
    depth: int
    is_attached: bool

    @property
    def manifest(self) -> Manifest:
        """The manifest itself."""
        return self.verdict.manifest


class Row(msgspec.Struct, frozen=True):
    """An image or an orphan, with what belongs to it; ``size`` is in bytes, that of an index with its children."""

    verdict: Verdict
    goes: bool
    kind: Kind
    parts: tuple[Part, ...]
    size: int

    @property
    def manifest(self) -> Manifest:
        """The manifest itself."""
        return self.verdict.manifest

    @property
    def platforms(self) -> tuple[str, ...]:
        """What an index is for, without the children that are attestations; empty for a single image."""
        return tuple(part.what for part in self.parts if not part.is_attached and part.depth == 1)

    @property
    def attached(self) -> Mapping[str, int]:
        """How many signatures, attestations and the like belong to it."""
        return Counter(part.what for part in self.parts if part.is_attached)


class View(msgspec.Struct, frozen=True):
    """A plan in rows, newest first, each of its manifests in at least one of them."""

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
        attached = reachable(
            heads, lambda digest: (*graph.children.get(digest, ()), *graph.referrers.get(digest, ()))
        )
        # What hangs on nothing but itself is a row too, or it would be in none.
        heads += [digest for digest in verdicts if digest not in attached]
        rows = []
        for manifest in newest_first(listing.manifests[digest] for digest in heads):
            verdict, goes = verdicts[manifest.digest]
            parts = tuple(_parts(manifest, graph, verdicts))
            size = manifest.size + sum(part.manifest.size for part in parts if part.manifest.digest in graph.parents)
            rows.append(Row(verdict, goes, kinds[manifest.digest], parts, size))
        return cls(plan, tuple(rows))

    @property
    def freed(self) -> int:
        """The sum of the sizes of what goes, in bytes: an upper bound, since images share layers."""
        return sum(verdict.manifest.size for verdict in self.plan.delete)


def _parts(head: Manifest, graph: Graph, verdicts: Mapping[Digest, tuple[Verdict, bool]]) -> Iterator[Part]:
    """Yield what belongs to ``head``, each once and behind what it belongs to: children, then referrers."""
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
            verdict, goes = verdicts[digest]
            platform = platforms.get(digest, "")
            is_attestation = platform == _NO_PLATFORM
            yield Part(verdict, goes, "attestation" if is_attestation else platform or "child", depth, is_attestation)
    for digest in graph.referrers.get(owner.digest, ()):
        verdict, goes = verdicts[digest]
        yield Part(verdict, goes, attached_as(verdict.manifest), depth, is_attached=True)


def attached_as(manifest: Manifest) -> str:
    """Return what a referrer or an orphan is to its subject, as far as its tags tell."""
    for tag in manifest.tags:
        if manifest.cosign_subject(tag) is not None:
            suffix = tag[len("sha256-") + 64 :]
            return _ATTACHED.get(suffix, _REFERRER)
    return _REFERRER
