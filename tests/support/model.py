"""Small repositories on which everything can be tried out that may happen while they are pruned.

A ``History`` is a repository with up to four manifests of interest, beside an image that a tag keeps and two untagged
images that the policy keeps, and that anything newer could push out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cleaner.core.policy_document import policies_from_document
from tests.emulator.images import (
    Content,
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    referrer,
    referrers_index,
)
from tests.emulator.store import Store
from tests.support import oracle
from tests.support.direct import NAME, NOW, NOW_MS
from tests.support.oracle import OCI_MANIFEST, Held, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cleaner.core.policy import Policy

_OLD: Final = 20
# Older than the untagged images that are kept.
_OLDEST: Final = 40
_POLICY: Final = {
    "repositories": ["**"],
    "tagged": [{"match": "old.*", "keep": 0}],
    "untagged": {"keep": 2},
    "orphans": {"keep": 0},
}


@dataclass(frozen=True, slots=True)
class Part:
    """One manifest of a history, with its tags and its age."""

    content: Content
    tags: tuple[str, ...] = ()
    age_days: float = _OLD


@dataclass(frozen=True, eq=False)
class History:
    """What a repository holds before the run, by names; what an index lists stands before it.

    ``absent`` are subjects of orphans.
    """

    name: str
    parts: Mapping[str, Part]
    absent: tuple[Content, ...] = ()

    @cached_property
    def all(self) -> Mapping[str, Part]:
        beside = {
            "new": Part(image("new"), ("new",), 1),
            "untagged-1": Part(image("untagged 1"), (), 30),
            "untagged-2": Part(image("untagged 2"), (), 31),
        }
        return {**beside, **self.parts}

    @cached_property
    def store(self) -> Store:
        store = Store()
        for part in self.all.values():
            load(store, NAME, part.content, tags=part.tags, uploaded=NOW - timedelta(days=part.age_days))
        return store

    @cached_property
    def names(self) -> Mapping[str, str]:
        return {part.content.digest: name for name, part in self.all.items()}

    @cached_property
    def state(self) -> Mapping[str, Held]:
        return held(self.store)

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.state.values())

    @cached_property
    def oci_referrers(self) -> frozenset[str]:
        """What the registry wants to be deleted before its subject, which is here."""
        return frozenset(digest for digest, one in self.state.items() if known_subject(one) & self.state.keys())

    @cached_property
    def oci_subjects(self) -> frozenset[str]:
        return frozenset().union(*(known_subject(self.state[digest]) for digest in self.oci_referrers))

    @cached_property
    def kept(self) -> frozenset[str]:
        return kept(self.state)

    @cached_property
    def policy(self) -> Policy:
        return policies_from_document([_POLICY])[0]


def held(store: Store) -> dict[str, Held]:
    """What the oracle reads of a store."""
    return {digest: Held.of(one) for digest, one in store.manifests(NAME).items()}


def known_subject(one: Held) -> set[str]:
    """The subject that the registry knows of."""
    subject = oracle.document_subject(one.media_type, one.body)
    return {subject} if subject else set()


_judged: dict[frozenset[tuple[str, frozenset[str], object]], frozenset[str]] = {}


def kept(state: Mapping[str, Held]) -> frozenset[str]:
    """What the policy keeps of a state, and what that needs."""
    key = frozenset((one.digest, one.tags, one.uploaded) for one in state.values())
    if key not in _judged:
        reasons = oracle.decide(state.values(), _POLICY, NOW_MS)
        _judged[key] = frozenset(digest for digest, reason in reasons.items() if reason not in oracle.GOING)
    return _judged[key]


def left_to_go(state: Mapping[str, Held]) -> frozenset[str]:
    """What a run on this state deletes, if nothing comes in between."""
    return oracle.left_to_go(state.values(), _POLICY, NOW_MS)


# What there is.


def _histories() -> Iterator[History]:
    a, b, s = (image(name, media_type=OCI_MANIFEST, platform=name) for name in ("amd64", "arm64", "arm"))
    x, y = image("x", media_type=OCI_MANIFEST), image("y", media_type=OCI_MANIFEST)
    r, over_a = referrer(x), index([a])
    tagged_x = {"x": Part(x, ("old-1",))}
    yield History("untagged", {"x": Part(x, (), _OLDEST)})
    yield History("tagged", {"x": Part(x, ("old-1", "old-2")), "y": Part(y, ("old-3",))})
    yield History("index", {"a": Part(a), "b": Part(b), "top": Part(index([a, b]), ("old-1",))})
    yield History(
        "untagged-index",
        {"a": Part(a, (), _OLDEST), "b": Part(b, (), _OLDEST), "top": Part(index([a, b]), (), _OLDEST)},
    )
    yield History(
        "two-indexes",
        {
            "a": Part(a),
            "top": Part(over_a, ("old-1",)),
            "b": Part(b),
            "other": Part(index([b]), ("old-2",)),
        },
    )
    shared = {"a": Part(a), "s": Part(s), "top": Part(index([a, s]), ("old-1",))}
    yield History("indexes-sharing-a-child", {**shared, "other": Part(index([s]), ("old-2",))})
    yield History("child-of-a-kept-index", {**shared, "other": Part(index([s]), ("stays",))})
    yield History("child-with-a-kept-tag", {**shared, "s": Part(s, ("stays",))})
    yield History("nested-index", {"a": Part(a), "mid": Part(over_a), "top": Part(index([over_a]), ("old-1",))})
    attests = attestation(a)
    yield History("attestation", {"a": Part(a), "att": Part(attests), "top": Part(index([a, attests]), ("old-1",))})
    yield History("referrer", {**tagged_x, "r": Part(r)})
    yield History("two-referrers", {**tagged_x, "r": Part(r), "q": Part(referrer(x, seed=1))})
    yield History("referrer-of-a-referrer", {**tagged_x, "r": Part(r), "rr": Part(referrer(r))})
    yield History("two-subjects", {**tagged_x, "r": Part(r), "y": Part(y, ("old-2",)), "q": Part(referrer(y))})
    yield History(
        "referrers-of-index-and-child",
        {"a": Part(a), "top": Part(over_a, ("old-1",)), "r": Part(referrer(over_a)), "q": Part(referrer(a))},
    )
    refs = Part(referrers_index([r], seed="current"), (cosign_tag(x, ""),))
    stale = Part(referrers_index([r], seed="stale"))
    yield History("referrers-index", {**tagged_x, "r": Part(r), "refs": refs})
    yield History(
        "index-tagged-as-referrers-index", {**tagged_x, "r": Part(r), "refs": replace(refs, content=index([r]))}
    )
    yield History("untagged-referrers-index", {**tagged_x, "r": Part(r), "stale": stale})
    yield History("stale-referrers-index", {**tagged_x, "r": Part(r), "refs": refs, "stale": stale})
    yield History(
        "redundant-index",
        {"a": Part(a), "b": Part(b), "single": Part(over_a), "top": Part(index([a, b]), ("old-1",))},
    )
    yield History("signature", {**tagged_x, "sig": Part(cosign_signature(x), (cosign_tag(x),))})
    yield History(
        "signatures-of-index-and-child",
        {
            "a": Part(a),
            "top": Part(over_a, ("old-1",)),
            "sig": Part(cosign_signature(over_a), (cosign_tag(over_a),)),
            "sig-a": Part(cosign_signature(a), (cosign_tag(a),)),
        },
    )
    yield History(
        "tag-moved-before",
        {"x": Part(x, (), _OLDEST), "sig": Part(cosign_signature(x), (cosign_tag(x),), _OLDEST)},
    )
    orphans = {"sig": Part(cosign_signature(s), (cosign_tag(s),)), "r": Part(referrer(b))}
    yield History("orphans", orphans, absent=(s, b))


HISTORIES: Final = {history.name: history for history in _histories()}
