"""The hints beside a plan: rules that match nothing, and images that no rule is for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from cleaner.core.graph import Kind
from cleaner.core.messages import cut_short
from cleaner.core.pattern import compile_pattern
from cleaner.core.policy import Policy, Rule
from cleaner.core.reference import Tag
from cleaner.core.rules import Reason
from cleaner.views import words
from cleaner.views.images import Planned

# What a regex that matches no tag may have been meant as, the nearest first.
_READINGS = ("(?:{})[-.].*", "(?:{}).*", ".*(?:{})", ".*(?:{}).*", "(?i)(?:{})", "(?i)(?:{}).*", "(?i).*(?:{}).*")


def hints(planned: Iterable[Planned]) -> list[str]:
    """Return the warnings about several plans, and the next step if no rule matches anything."""
    plans = [one for one in planned if one.listing.manifests]
    by_policy: dict[str, list[Planned]] = {}
    for one in plans:
        by_policy.setdefault(one.where, []).append(one)
    lines: list[str] = []
    for where, some in by_policy.items():
        lines += _unused(where, some[0].policy, some)
        lines += _next_step(some)
    return lines


def _unused(where: str, policy: Policy, plans: Iterable[Planned]) -> Iterator[str]:
    """Yield a warning for each rule that decides for none of the tags."""
    tags = sorted(frozenset[Tag]().union(*(one.tags for one in plans))) if policy.tagged else []
    if not tags:
        return
    deciding = {found[0] for found in map(policy.rule_of, tags) if found}
    for position, rule in enumerate(policy.tagged):
        if position in deciding:
            continue
        name = f"warning: {where}: {words.rule_name(policy, position)}"
        matches = f"matches none of the {len(tags):,} tags" if len(tags) > 1 else "does not match the only tag"
        if any(rule.captures(tag) is not None for tag in tags):
            yield f"{name} decides for no tag: earlier rules match all of its tags"
        else:
            yield f"{name} {matches}{_nearest(rule, tags)}"


def _nearest(rule: Rule, tags: Collection[Tag]) -> str:
    """Return the nearest reading of a rule's regexes that matches a tag, as the end of a sentence."""
    for pattern in rule.match:
        for reading in _READINGS:
            text = reading.format(pattern.pattern)
            try:
                read = compile_pattern(text)
            except ValueError:
                continue
            matched = sum(read.fullmatch(tag) is not None for tag in tags)
            if matched:
                return f"; {cut_short(_simple(text, pattern.pattern))!r} would match {matched:,}"
    return ": a regex is matched against the whole tag"


def _simple(text: str, regex: str) -> str:
    """Return a reading without the group, if it reads the same without."""
    return text if "|" in regex else text.replace(f"(?:{regex})", regex)


def _next_step(plans: Iterable[Planned]) -> Iterator[str]:
    tagged = [row for one in plans for row in one.rows if row.kind is Kind.TAGGED_IMAGE]
    if tagged and all(row.verdict.reason is Reason.UNMATCHED for row in tagged):
        images = f"all {len(tagged):,} tagged images are" if len(tagged) > 1 else "the only tagged image is"
        how = "add a rule under tagged, or try --match REGEX --keep N"
        yield f"hint: {images} kept, since no rule matches a tag: {how}"
