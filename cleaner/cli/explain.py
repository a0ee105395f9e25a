"""Why one manifest stays or goes, rule by rule, in sentences.

A plan gives one reason, the first that applies.  Here every rule has its say: the core decides what each says, and
the sentences are worded here.  What is needed is found a second time, since a plan has no way to it; a test compares
the two.  Reads no clock, network, environment or log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from cleaner.cli import words
from cleaner.core.errors import CleanerError
from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.plan import Plan, Verdict
from cleaner.core.policy import Pattern, Policy
from cleaner.core.reference import Digest
from cleaner.core.rules import (
    NOTHING_RUNNING,
    RULES,
    Facts,
    Group,
    Reason,
    Running,
    groups,
    is_retired,
    newest_first,
    newest_of_pools,
    runners,
)

# Fewer digits are more likely a tag with a typing error.
LEAST_HEX_DIGITS = 4
_HEX_DIGITS = frozenset("0123456789abcdef")
# Where a rule's sentence begins.
RULE_INDENT = 22
# How many others are named before the rest is only counted.
_NAMED = 3


class NothingToExplain(CleanerError):
    """No manifest of the repository has this name, or several have."""


class Finding(msgspec.Struct, frozen=True):
    """What one rule says: whether it keeps the manifest, or would if no other rule came first."""

    reason: Reason
    keeps: bool
    sentence: str


class Case(msgspec.Struct, frozen=True):
    """A plan and what it rests on.  ``running`` is None where nobody was asked what is deployed."""

    plan: Plan
    listing: Listing
    policy: Policy
    now: datetime
    running: Running | None = None


def find(listing: Listing, name: str) -> Manifest:
    """Return the manifest with the tag or digest ``name``; of a digest, the first four digits or more are enough.

    Raises:
        NothingToExplain: There is none, or more than one.
    """
    tagged = next((one for one in listing.manifests.values() if name in one.tags), None)
    if tagged:
        return tagged
    digits = name.removeprefix("sha256:")
    are_digits = _HEX_DIGITS.issuperset(digits)
    found = []
    if len(digits) >= LEAST_HEX_DIGITS and are_digits:
        found = [one for one in listing.manifests.values() if one.digest.startswith(f"sha256:{digits}")]
    if not found:
        few = f": of a digest, {LEAST_HEX_DIGITS} digits or more are needed"
        hint = few if are_digits and len(digits) < LEAST_HEX_DIGITS else ""
        raise NothingToExplain(f"{listing.repository}: no manifest has the tag or digest {name!r}{hint}")
    if len(found) > 1:
        raise NothingToExplain(f"{listing.repository}: {len(found)} digests begin with {name!r}: give more of it")
    return found[0]


def explain(case: Case, manifest: Manifest) -> list[str]:
    """Return the explanation as paragraphs; lines of a list begin with two spaces."""
    reader = _Reader(case, manifest)
    lines = [reader.class_sentence(), reader.facts_sentence(), ""]
    lines.append("The rules, in their order; the first that says yes is the reason:")
    for finding in reader.findings():
        answer = "yes" if finding.keeps else "no"
        lines.append(f"  {answer:<4} {finding.reason.value:<14} {finding.sentence}")
    return [*lines, "", reader.verdict_sentence()]


def findings(case: Case, manifest: Manifest) -> list[Finding]:
    """Return what each rule says of ``manifest``, in the order in which the first that keeps it is the reason."""
    return list(_Reader(case, manifest).findings())


class _Reader:
    def __init__(self, case: Case, manifest: Manifest) -> None:
        self._case = case
        self._policy = case.policy
        self._manifest = manifest
        self._digest = manifest.digest
        self._graph = Graph.of(case.listing)
        self._kept = {verdict.manifest.digest: verdict for verdict in case.plan.keep}
        self._going = {verdict.manifest.digest: verdict for verdict in case.plan.delete}
        kinds = {digest: self._graph.kind(one) for digest, one in case.listing.manifests.items()}
        self._kind = kinds[manifest.digest]
        self._facts = Facts(
            case.policy,
            case.now,
            kinds,
            newest=newest_of_pools(self._graph, kinds, case.policy, case.now, kinds.keys()),
            running=runners(self._graph, case.running or NOTHING_RUNNING),
        )

    def findings(self) -> Iterator[Finding]:
        sentences = {
            Reason.UNKNOWN_TYPE: self._unknown_type,
            Reason.UNKNOWN_AGE: self._unknown_age,
            Reason.TOO_YOUNG: self._too_young,
            Reason.JUST_PUSHED: lambda: "Only the message of a push says so, and here is none.",
            Reason.RUNNING: self._running,
            Reason.PROTECTED_TAG: self._protected_tag,
            Reason.TAGGED: self._tagged,
            Reason.NEWEST: self._newest,
        }
        for reason, keeps in RULES:
            yield Finding(reason, keeps(self._facts, self._manifest), sentences[reason]())
        yield self._needed()
        yield self._over_limit()

    def class_sentence(self) -> str:
        manifest, graph = self._manifest, self._graph
        match self._kind:
            case Kind.TAGGED_IMAGE:
                tags = [tag for tag in manifest.tags if manifest.cosign_subject(tag) is None]
                named = f"it has the {_plural(tags, 'tag')} {words.listed(tags)}" if tags else "it has tags"
                also = (
                    f"; {self._names(graph.parents[self._digest])} lists it" if self._digest in graph.parents else ""
                )
                return f"It is a tagged image: {named}{also}."
            case Kind.UNTAGGED_IMAGE:
                return "It is an untagged image: it has no tag, no index lists it, and it is about no other manifest."
            case Kind.CHILD:
                return f"It is a child: {self._names(graph.parents[self._digest])} lists it."
            case Kind.REFERRER:
                return f"It is a referrer: it is about {self._names(graph.subjects[self._digest])}."
            case Kind.ORPHAN:
                missing = words.listed(words.short(subject) for subject in manifest.subjects)
                return f"It is an orphan: it is about {missing}, which is not in the repository."

    def facts_sentence(self) -> str:
        manifest = self._manifest
        if manifest.uploaded is None:
            return f"The registry does not say when it was uploaded.  Its size is {words.size(manifest.size)}."
        when = f"{words.moment(manifest.uploaded)}, {words.age(manifest.uploaded, self._case.now)} ago"
        parts = self._graph.children.get(self._digest, ())
        also = f"; it lists {words.counted(len(parts), 'manifest')} of the repository" if manifest.is_index else ""
        return f"It was uploaded at {when}.  Its own size is {words.size(manifest.size)}{also}."

    def verdict_sentence(self) -> str:
        if self._digest in self._kept:
            return f"It is kept, as {self._kept[self._digest].reason.value}."
        match self._going[self._digest].reason:
            case Reason.FOLLOWS:
                owners = self._names(self._graph.owners(self._digest))
                return f"It is deleted, as follows: it belongs to {owners}, and goes after that."
            case Reason.ORPHAN:
                return "It is deleted, as orphan, once the registry has confirmed that what it is about is gone."
            case reason:
                return f"It is deleted, as {reason.value}: no rule keeps it."

    def _unknown_type(self) -> str:
        media_type = self._manifest.media_type
        about = "one of the four" if self._manifest.has_known_type else "none of the four"
        return (
            f"{f'Its media type is {media_type!a}' if media_type else 'It has no type'}, {about} that are understood."
        )

    def _unknown_age(self) -> str:
        if self._manifest.uploaded is None:
            return "The registry gives no usable upload time."
        return "The registry gives its upload time."

    def _too_young(self) -> str:
        uploaded = self._manifest.uploaded
        if uploaded is None:
            return "Its age is unknown."
        age, min_age = words.age(uploaded, self._case.now), words.duration(self._policy.min_age)
        return f"It is {age} old; min_age is {min_age}."

    def _running(self) -> str:
        if self._case.running is None:
            return "Nobody was asked what is deployed."
        who = self._facts.running.get(self._digest)
        if who is None:
            return "Nothing that is deployed names it."
        is_named = self._case.running.runner_of(self._manifest) is not None
        return f"{who} runs {'it' if is_named else 'what it lists'}."

    def _protected_tag(self) -> str:
        patterns = self._policy.protect_tags
        if not patterns:
            return "protect_tags is empty."
        for tag in self._manifest.tags:
            if pattern := _matching(patterns, tag):
                return f"protect_tags has {pattern}, which matches {tag}."
        return "No tag of it matches protect_tags."

    def _tagged(self) -> str:
        manifest, patterns = self._manifest, self._policy.delete_tags
        if not self._kind.is_judged:
            return "This rule is about images."
        if manifest.has_unnamed_tags:
            return "It has more tags than the registry names."
        if not manifest.tags:
            return "It has no tag."
        if not patterns:
            return "delete_tags is empty, so whatever has a tag is kept."
        unmatched = [words.short_tag(tag) for tag in manifest.tags if not _matching(patterns, tag)]
        if unmatched:
            return f"delete_tags does not match {_some(unmatched)}."
        matched = [f"{words.short_tag(tag)} by {_matching(patterns, tag)}" for tag in manifest.tags]
        return f"delete_tags matches every tag: {_some(matched)}."

    def _newest(self) -> str:
        if not self._kind.is_image:
            return "This rule is about images."
        uploaded, policy = self._manifest.uploaded, self._policy
        if uploaded is None:
            return "It cannot be compared: its age is unknown."
        if self._kind is Kind.UNTAGGED_IMAGE and self._case.now - uploaded < policy.min_age:
            return "It does not count yet: it may be a part of an index that is still on its way."
        places = [self._place(group) for group in self._groups(self._manifest)]
        sentence = f"It is {words.listed(text for _, text in places)}"
        if policy.max_age is not None and any(is_among for is_among, _ in places):
            if is_retired(self._manifest, policy, self._case.now):
                sentence += f"; but it is {words.age(uploaded, self._case.now)} old"
            sentence += f", and max_age is {words.duration(policy.max_age)}"
        return f"{sentence}."

    def _place(self, group: Group | None) -> tuple[bool, str]:
        """Return whether the manifest is among the newest of a group, and where it stands, in words."""
        pool = [one for one in self._case.listing.manifests.values() if one.uploaded and group in self._groups(one)]
        before = total = 0
        is_before = True
        for one in newest_first(pool):
            is_before = is_before and one.digest != self._digest
            # A child with a tag of its own takes no other image's place.
            counts = one.digest not in self._graph.parents
            before += is_before and counts
            total += counts
        key, keep = ("keep_untagged", self._policy.keep_untagged) if group is None else ("keep", self._policy.keep)
        if group is None:
            pool_name = "untagged images"
        elif self._policy.group_by is None:
            pool_name = "tagged images"
        elif group:
            pool_name = f"in its group {' '.join(part or '' for part in group)!a}"
        else:
            pool_name = "tagged images that group_by does not match"
        where = f"number {before + 1} of {total} {pool_name}"
        if self._digest in self._graph.parents:
            where = f"a child, and as old as it were it number {before + 1} {pool_name}"
        return before < keep, f"{where}; {key} is {keep}"

    def _groups(self, manifest: Manifest) -> tuple[Group | None, ...]:
        """Return the pools of ``manifest``: its groups; None stands for the untagged."""
        kind = self._facts.kinds[manifest.digest]
        if kind is Kind.UNTAGGED_IMAGE and manifest.uploaded:
            return (None,) if self._case.now - manifest.uploaded >= self._policy.min_age else ()
        return groups(manifest, self._policy.group_by) if kind is Kind.TAGGED_IMAGE else ()

    def _needed(self) -> Finding:
        if self._kept_as(Reason.OVER_LIMIT):
            return Finding(Reason.NEEDED, keeps=False, sentence="Nothing that is kept for another reason needs it.")
        # Where each was reached from, nearest first: what is needed may be needed by what is needed itself.
        ways = {other: other for other in self._graph.needed_by(self._digest)}
        pending = list(ways)
        for other in pending:
            verdict = self._kept.get(other)
            if other == self._digest or verdict is None:
                continue
            if verdict.reason is not Reason.NEEDED:
                return Finding(Reason.NEEDED, keeps=True, sentence=self._need(ways[other], other))
            for further in self._graph.needed_by(other):
                if further not in ways:
                    ways[further] = ways[other]
                    pending.append(further)
        if self._kept_as(Reason.NEEDED):
            sentence = "It is part of a cycle, or comes after one, and no order deletes it."
            return Finding(Reason.NEEDED, keeps=True, sentence=sentence)
        return Finding(Reason.NEEDED, keeps=False, sentence="Nothing that is kept needs it.")

    def _need(self, way: Digest, root: Digest) -> str:
        if way in self._graph.parents.get(self._digest, ()):
            relation = "lists it"
        elif way in self._graph.subjects.get(self._digest, ()):
            relation = "has it attached"
        else:
            relation = "is about it"
        reason = self._kept[root].reason.value
        if way == root:
            return f"{self._named(way)} {relation}, and is kept as {reason}."
        return f"{self._named(way)} {relation}, and {self._named(root)}, kept as {reason}, needs that."

    def _over_limit(self) -> Finding:
        limit = self._policy.max_deletions
        if limit is None:
            return Finding(Reason.OVER_LIMIT, keeps=False, sentence="max_deletions is not set.")
        over = self._kept_as(Reason.OVER_LIMIT)
        sentence = f"max_deletions lets {limit} go at a time, the oldest first"
        return Finding(
            Reason.OVER_LIMIT, over, f"{sentence}; this one is left for later." if over else f"{sentence}."
        )

    def _kept_as(self, reason: Reason) -> bool:
        verdict: Verdict | None = self._kept.get(self._digest)
        return verdict is not None and verdict.reason is reason

    def _names(self, digests: Iterable[Digest]) -> str:
        return _some([self._named(digest) for digest in dict.fromkeys(digests)])

    def _named(self, digest: Digest) -> str:
        manifest = self._case.listing.manifests[digest]
        tags = [tag for tag in manifest.tags if manifest.cosign_subject(tag) is None]
        return f"{words.short(digest)} ({_some(tags)})" if tags else words.short(digest)


def _matching(patterns: Iterable[Pattern], tag: str) -> str:
    """Return the first of ``patterns`` that matches ``tag``, or an empty text."""
    return next((pattern.pattern for pattern in patterns if pattern.fullmatch(tag)), "")


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _NAMED
    return words.listed([*items[:_NAMED], f"{rest} more"] if rest > 0 else items)


def _plural(items: Sequence[str], thing: str) -> str:
    return thing if len(items) == 1 else f"{thing}s"
