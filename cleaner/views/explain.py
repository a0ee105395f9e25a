"""Why one manifest is kept or deleted, rule by rule, in sentences.

A plan has one reason, the first that applies; here every rule gets a sentence.  The core decides what each rule says,
and in which place of a pool the manifest is.  Only the way by which it is needed is found again, since a plan does
not have it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from cleaner.core.errors import CleanerError
from cleaner.core.graph import Kind
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.plan import Verdict
from cleaner.core.policy import Rule
from cleaner.core.reference import Digest
from cleaner.core.rules import (
    NOTHING_RUNNING,
    ORPHANS,
    RULES,
    UNTAGGED,
    Facts,
    Place,
    Reason,
    find_places,
    rule_named,
    runners,
)
from cleaner.views import words
from cleaner.views.explain_class import class_sentence, names, plural, some
from cleaner.views.images import Planned

# Fewer digits are more likely a mistyped tag.
LEAST_HEX_DIGITS = 4
_HEX_DIGITS = frozenset("0123456789abcdef")
# How many tags are suggested for one that does not exist.
_NEAR_MAX = 3
# The column at which a rule's sentence begins.
RULE_INDENT = 22


class NothingToExplain(CleanerError):
    """No manifest of the repository has this name, or several have."""


class Finding(msgspec.Struct, frozen=True):
    """What one rule says: whether it keeps the manifest, or would if no rule before it did."""

    reason: Reason
    keeps: bool
    sentence: str


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
        hint = few if are_digits and len(digits) < LEAST_HEX_DIGITS else _near_misses(listing, name)
        raise NothingToExplain(f"{listing.repository}: no manifest has the tag or digest {name!r}{hint}")
    if len(found) > 1:
        raise NothingToExplain(
            f"{listing.repository}: {len(found)} digests begin with {name!r}: more digits are needed"
        )
    return found[0]


def _near_misses(listing: Listing, name: str) -> str:
    """Return the tags that are most like ``name``, as the end of a sentence; empty if none is like it."""
    # Only a mistyped name needs it.
    from difflib import get_close_matches

    tags = sorted(tag for manifest in listing.manifests.values() for tag in manifest.tags)
    near = [*get_close_matches(name, tags, n=_NEAR_MAX), *(tag for tag in tags if name and tag.startswith(name))]
    found = list(dict.fromkeys(near))[:_NEAR_MAX]
    return f"; did you mean {words.listed(map(words.short_tag, found), 'or')}?" if found else ""


def explain(planned: Planned, manifest: Manifest) -> list[str]:
    """Return the explanation as paragraphs; lines of a list begin with two spaces."""
    reader = _Reader(planned, manifest)
    lines = [reader.class_sentence(), reader.facts_sentence(), ""]
    lines.append("The reasons to keep it, in order; the first yes decides:")
    for finding in reader.findings():
        answer = "yes" if finding.keeps else "no"
        lines.append(f"  {answer:<4} {finding.reason.value:<14} {finding.sentence}")
    return [*lines, "", reader.verdict_sentence()]


def explanation_document(planned: Planned, manifest: Manifest) -> dict[str, object]:
    """Return the explanation as a JSON document."""
    reader = _Reader(planned, manifest)
    return {
        "repository": str(planned.plan.repository),
        "digest": manifest.digest,
        "tags": list(manifest.tags),
        "verdict": "keep" if manifest.digest in planned.plan.kept else "delete",
        "reason": reader.verdict.reason.value,
        "class": reader.class_sentence(),
        "facts": reader.facts_sentence(),
        "rules": [
            {"reason": one.reason.value, "keeps": one.keeps, "sentence": one.sentence} for one in reader.findings()
        ],
        "sentence": reader.verdict_sentence(),
    }


def findings(planned: Planned, manifest: Manifest) -> list[Finding]:
    """Return what each rule says of ``manifest``, in the order in which the first that keeps it is the reason."""
    return list(_Reader(planned, manifest).findings())


class _Reader:
    def __init__(self, planned: Planned, manifest: Manifest) -> None:
        self._planned = planned
        self._policy = planned.policy
        self._manifest = manifest
        self._digest = manifest.digest
        self._graph = planned.graph
        self._kept = planned.plan.kept
        deleted = (one for one in planned.plan.delete if one.manifest.digest == manifest.digest)
        self.verdict = self._kept.get(manifest.digest) or next(deleted)
        self._kind = self._graph.kind(manifest)
        places, unmatched = find_places(self._graph, self._graph.by_kind(), planned.policy, planned.now)
        self._facts = Facts(
            planned.policy,
            planned.now,
            places,
            unmatched,
            running=runners(self._graph, planned.running or NOTHING_RUNNING),
        )
        self._places = [
            (place, rule_named(planned.policy, place.rule)) for place in self._facts.places.get(manifest.digest, ())
        ]

    def findings(self) -> Iterator[Finding]:
        sentences: Mapping[Reason, Callable[[], str]] = {
            Reason.UNKNOWN_TYPE: self._unknown_type,
            Reason.UNKNOWN_AGE: self._unknown_age,
            Reason.TOO_YOUNG: self._too_young,
            Reason.JUST_PUSHED: lambda: "Applies only to runs that a push has started.",
            Reason.RUNNING: self._running,
            Reason.UNMATCHED: self._unmatched,
            Reason.PROTECTED: self._protected,
            Reason.NEWEST: self._newest,
            Reason.RECENT: self._recent,
        }
        for reason, keeps in RULES:
            is_kept = self._digest in keeps(self._facts, [self._manifest])
            yield Finding(reason, is_kept, sentences[reason]())
        yield self._needed()
        yield self._over_limit()

    def class_sentence(self) -> str:
        """Return which class the manifest has, and why."""
        return class_sentence(self._manifest, self._graph)

    def facts_sentence(self) -> str:
        """Return when it was uploaded, and its size."""
        manifest = self._manifest
        if manifest.uploaded is None:
            return f"The registry gives no usable upload time.  Its size is {words.size(manifest.size)}."
        when = f"{words.moment(manifest.uploaded)}, {self._age} ago"
        parts = self._graph.children.get(self._digest, ())
        also = f"; it lists {words.counted(len(parts), 'manifest')} of the repository" if manifest.is_index else ""
        return f"It was uploaded at {when}.  Its own size is {words.size(manifest.size)}{also}."

    def verdict_sentence(self) -> str:
        """Return the plan's verdict, with the place in the pool that decided, if one did."""
        verdict = self.verdict
        if self._digest in self._kept:
            place = f": {self._describe(verdict.place)}" if verdict.place else ""
            return f"It is kept, as {verdict.reason.value}{place}."
        sentence = f"It is deleted, as {verdict.reason.value}"
        if verdict.reason is Reason.FOLLOWS:
            owners = tuple(dict.fromkeys(self._graph.owners(self._digest)))
            after = plural(owners, "that", "those")
            return f"{sentence}: it belongs to {names(owners, self._graph)}, and is deleted after {after}."
        place = f"; {self._describe(verdict.place)}" if verdict.place else ""
        if verdict.reason is Reason.ORPHANED:
            return f"{sentence}, if the registry confirms that none of its subjects exists{place}."
        return f"{sentence}: no rule keeps it{place}."

    @property
    def _age(self) -> str:
        return words.age(self._manifest.uploaded, self._planned.now)

    def _unknown_type(self) -> str:
        media_type = self._manifest.media_type
        if not media_type:
            return "The registry gives no media type."
        return f"Its media type {media_type!a} is {'' if self._manifest.has_known_type else 'not '}supported."

    def _unknown_age(self) -> str:
        if self._manifest.uploaded is None:
            return "The registry gives no usable upload time."
        return "The registry gives its upload time."

    def _too_young(self) -> str:
        if self._manifest.uploaded is None:
            return "Its age is unknown."
        return f"It is {self._age} old; min_age is {self._policy.min_age}."

    def _running(self) -> str:
        if self._planned.running is None:
            if self._planned.asks_running:
                return "Not checked, as nothing would be deleted anyway."
            return "Not checked, without --running-scopes."
        who = self._facts.running.get(self._digest)
        if who is None:
            return "Nothing that is deployed names it."
        is_named = self._planned.running.runner_of(self._manifest) is not None
        return f"{who} runs {'it' if is_named else 'what it lists'}."

    def _unmatched(self) -> str:
        manifest = self._manifest
        if self._kind is not Kind.TAGGED_IMAGE:
            return "Applies to tagged images only."
        if manifest.has_unnamed_tags:
            return "It has more tags than the registry names."
        rules = {tag: self._policy.rule_of(tag) for tag in manifest.tags}
        unmatched = [words.short_tag(tag) for tag, found in rules.items() if found is None]
        if unmatched:
            return f"No rule matches {some(unmatched)}."
        matched = [f"{words.short_tag(tag)} by {self._rule(found[0])}" for tag, found in rules.items() if found]
        return f"A rule matches every tag: {some(matched)}."

    def _protected(self) -> str:
        def sentence(place: Place, rule: Rule) -> str:
            return f"the rule {self._rule(place.rule)} has keep all" if rule.keep is None else ""

        return self._of_places("keep all", sentence)

    def _newest(self) -> str:
        def sentence(place: Place, rule: Rule) -> str:
            if rule.keep is None:
                return ""
            order = f", by {rule.order}" if rule.order != "uploaded" else ""
            return f"its rank in {self._pool(place)} is {place.rank}{order}, and keep is {rule.keep}"

        return self._of_places("a number as keep", sentence)

    def _recent(self) -> str:
        def sentence(place: Place, rule: Rule) -> str:
            if rule.keep_within is None:
                return ""
            is_newest = place.reason in (Reason.PROTECTED, Reason.NEWEST)
            first = f", but {place.reason.value} comes first" if place.reason and is_newest else ""
            return f"it is {self._age} old, and keep_within of {self._rule(place.rule)} is {rule.keep_within}{first}"

        return self._of_places("keep_within", sentence)

    def _of_places(self, key: str, sentence: Callable[[Place, Rule], str]) -> str:
        """Return a clause for each place whose rule has ``key``; ``sentence`` returns nothing for the others."""
        if not self._places:
            return self._why_without_places()
        clauses = [f"{text}{self._retired(rule)}" for place, rule in self._places if (text := sentence(place, rule))]
        if not clauses:
            return f"No rule with {key} applies to it."
        text = "; ".join(dict.fromkeys(clauses))
        return f"{text[0].upper()}{text[1:]}."

    def _why_without_places(self) -> str:
        if not self._kind.is_judged:
            return "Applies to images and orphans only."
        if self._manifest.uploaded is None:
            return "Its age is unknown."
        if self._kind is Kind.UNTAGGED_IMAGE:
            return "It is younger than min_age: it may be a part of an index that is not uploaded yet."
        return "No rule matches a tag of it."

    def _retired(self, rule: Rule) -> str:
        uploaded = self._manifest.uploaded
        if rule.delete_after is None or uploaded is None or not rule.is_retired(uploaded, self._planned.now):
            return ""
        return f"; but it is {self._age} old, and delete_after is {rule.delete_after}"

    def _describe(self, place: Place) -> str:
        """Return the place in a pool, and what the rule keeps."""
        rule = rule_named(self._policy, place.rule)
        return f"its rank in {self._pool(place)} is {place.rank}, and the rule has {words.rule(rule)}"

    def _pool(self, place: Place) -> str:
        """Return the name of a pool: its rule, with what the groups captured, or with the kind of content."""
        rule = self._rule(place.rule)
        if place.rule == ORPHANS or not place.pool:
            return rule
        captured = ", ".join("(none)" if part is None else ascii(part) for part in place.pool)
        return f"the pool {f'of content {captured}' if place.rule == UNTAGGED else captured} of {rule}"

    def _rule(self, name: int | str) -> str:
        return words.rule_name(self._policy, name)

    def _needed(self) -> Finding:
        if self._kept_as(Reason.OVER_LIMIT):
            return Finding(Reason.NEEDED, keeps=False, sentence="Nothing that is kept for another reason needs it.")
        # By manifest, the neighbour through which it needs this one; the nearest come first.
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
        elif way in self._graph.covering.get(self._digest, ()):
            relation = "lists all of its children as well"
        elif way in self._graph.subjects.get(self._digest, ()):
            relation = "is its subject"
        else:
            relation = "is a referrer of it"
        reason = self._kept[root].reason.value
        if way == root:
            return f"{self._name(way)} {relation}, and is kept as {reason}."
        return f"{self._name(way)} {relation}, and {self._name(root)}, kept as {reason}, needs that."

    def _over_limit(self) -> Finding:
        limit = self._policy.max_deletions
        if limit is None:
            return Finding(Reason.OVER_LIMIT, keeps=False, sentence="max_deletions is not set.")
        over = self._kept_as(Reason.OVER_LIMIT)
        sentence = f"max_deletions is {limit}, the oldest first"
        return Finding(
            Reason.OVER_LIMIT, over, f"{sentence}; this one is left for a later run." if over else f"{sentence}."
        )

    def _kept_as(self, reason: Reason) -> bool:
        verdict: Verdict | None = self._kept.get(self._digest)
        return verdict is not None and verdict.reason is reason

    def _name(self, digest: Digest) -> str:
        return names([digest], self._graph)
