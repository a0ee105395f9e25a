"""Random repositories and policies, drawn by Hypothesis."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Container, Mapping

from hypothesis import HealthCheck, Phase, settings, strategies as st
from msgspec.structs import replace

from cleaner.core.history import History
from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan
from cleaner.core.reference import Digest
from tests.support.builders import (
    KINDS,
    cosign,
    manifest,
    name_of,
    planned,
    policy,
)

# The same examples each time, so that a red test is red for everybody; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    # How long it takes to draw the examples is the machine's affair.
    suppress_health_check=[HealthCheck.too_slow],
    # To explain a failure takes longer than a test may.
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@dataclasses.dataclass(frozen=True)
class Case:
    """A repository, a policy and what a run knows beside them."""

    held: tuple[Manifest, ...]
    keys: Mapping[str, object]
    just_pushed: str = ""
    running: str = ""
    running_tags: str = ""

    def plan(
        self,
        *,
        already_deleted: int = 0,
        history: History | None = None,
        untagged_before: str | None = None,
        **keys: object,
    ) -> Plan:
        """Return the plan for it under the policy with ``keys`` in place of its own."""
        return planned(
            self.held,
            policy(**{**self.keys, **keys}),
            just_pushed=self.just_pushed,
            running=self.running,
            running_tags=self.running_tags,
            already_deleted=already_deleted,
            history=history,
            untagged_before=untagged_before,
        )


# --- random repositories

NAMES = tuple("abcdefgh")
ABSENT = ("gone", "lost")
HOUR = 1 / 24
AGES = (None, -1.0, 0.0, HOUR, HOUR - 1e-6, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0 - 1e-6, 4.0, 5.0, 6.0, 7.0, 8.0)
OLD = (2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
ORDINARY = ("v{}", "ci-{}", "main-{}", "pr-1-{}")


def names(most: int, among: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(among), max_size=most, unique=True)


@st.composite
def contents(draw: st.DrawFn, *, is_expiring: bool = False) -> tuple[Manifest, ...]:
    """Draw up to eight manifests as a registry could hold them, each with all that its document names.

    Content refers to what was there before it, and cosign tags to anything.  What ``is_expiring`` is old and has
    few cycles, so that more of it is deleted.
    """
    held: list[Manifest] = []
    kinds = [*KINDS, "oci", "oci-index", "docker", "oci-index" if is_expiring else "application/x"]
    for name in NAMES[: draw(st.integers(6 if is_expiring else 1, len(NAMES)))]:
        earlier = tuple(name_of(each.digest) for each in held) + ABSENT[is_expiring:]
        kind = draw(st.sampled_from(kinds))
        children = draw(names(3, earlier)) if kind.endswith("index") else []
        subjects = tuple(each for each in earlier if not (is_expiring and each in children)) or ABSENT
        tags = [pattern.format(name) for pattern in draw(names(2, ORDINARY))]
        if draw(st.integers(0, 2)) == 0:
            tags = []
        if draw(st.integers(0, 2)) == 0:
            suffix = draw(st.sampled_from(["", ".sig"]))
            signed = subjects if is_expiring else NAMES + ABSENT
            tags += [cosign(subject, suffix) for subject in draw(names(2, signed))]
        held.append(
            manifest(
                name,
                draw(st.sampled_from(OLD if is_expiring else AGES)),
                " ".join(tags),
                children=" ".join(children) if kind.endswith("index") else None,
                subject=draw(st.sampled_from(("", *subjects))) if kind in ("oci", "oci-index") else "",
                attests=f"{children[0]}:{children[1]}" if len(children) > 1 and draw(st.booleans()) else "",
                kind=kind,
            )
        )
    return tuple(draw(st.permutations(held)))


def as_read(held: Collection[Manifest], also: Container[Digest] = ()) -> tuple[Manifest, ...]:
    """Return ``held`` with the subjects of those documents alone that the program reads, and of ``also``.

    Those of OCI indexes, of untagged OCI manifests that no index lists, and of OCI manifests that a referrers index
    of a present subject lists.
    """
    listed = {child for each in held for child in each.links.children}
    tags_of_subjects = {each.digest.replace(":", "-") for each in held}
    referrers = {
        child
        for each in held
        if each.media_type == KINDS["oci-index"] and not tags_of_subjects.isdisjoint(each.tags)
        for child in each.links.children
    }

    def is_read(one: Manifest) -> bool:
        is_alone = not (one.tags or one.digest in listed)
        return one.media_type == KINDS["oci-index"] or is_alone or one.digest in referrers or one.digest in also

    return tuple(each if is_read(each) else replace(each, links=replace(each.links, subject=None)) for each in held)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a repository, as a listing has it, under a policy without ``max_deletions``."""
    keys: dict[str, object] = {
        "keep": draw(st.sampled_from([1, 1, 2, 3])),
        "keep_untagged": draw(st.integers(0, 3)),
        "min_age": draw(st.sampled_from(["1h", "1d"])),
        "max_age": draw(st.sampled_from([None, None, "3d", "1h"])),
        "delete_tags": draw(st.sampled_from([[".*"], [".*"], [".*"], ["ci-.*", "main-.*", "pr-.*"], ["[^v].*"], []])),
        "protect_tags": draw(st.sampled_from([[], [], [], ["v[abc]"], ["sha256-.*"]])),
        "group_by": draw(st.sampled_from([None, None, "(.+)-[a-z]", "(pr-[0-9]+|main)-(?:.*)", "(.+)-[0-9a-f.]+.*"])),
    }
    rare: st.SearchStrategy[list[str]] = st.one_of(st.just([]), st.just([]), names(1, NAMES + ABSENT))
    return Case(
        as_read(draw(contents())),
        keys,
        just_pushed=" ".join(draw(rare)),
        running=" ".join(draw(rare)),
        running_tags=" ".join(f"v{name}" for name in draw(rare)),
    )


@st.composite
def expiring_cases(draw: st.DrawFn) -> Case:
    """Draw a repository most of which is deleted, with all that its documents name."""
    keys = {
        "keep": 1,
        "keep_untagged": draw(st.sampled_from([0, 0, 1, 2])),
        "min_age": "1h",
        "max_age": draw(st.sampled_from(["1h", "1h", "5d", None])),
        "delete_tags": [".*"],
        "protect_tags": draw(st.sampled_from([[], [], [], [], ["v[abc]"]])),
        "group_by": None,
    }
    return Case(draw(contents(is_expiring=True)), keys, just_pushed=draw(st.sampled_from([*" " * 8, *NAMES])))


def listed_expiring_cases() -> st.SearchStrategy[Case]:
    """Draw such a repository as a listing has it."""
    return expiring_cases().map(lambda case: dataclasses.replace(case, held=as_read(case.held)))


def listed_cases() -> st.SearchStrategy[Case]:
    """Draw any repository as a listing has it."""
    return st.one_of(cases(), listed_expiring_cases())
