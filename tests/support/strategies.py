"""Random repositories and policies, drawn by Hypothesis."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, settings, strategies as st
from msgspec.structs import replace

from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan
from tests.support.builders import (
    KINDS,
    cosign,
    manifest,
    name_of,
    planned,
    policy,
)

# The same examples each time, so that a red test is red for everybody; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=100)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@dataclass(frozen=True)
class Case:
    """A repository, a policy and what a run knows beside them."""

    held: tuple[Manifest, ...]
    keys: Mapping[str, object]
    just_pushed: str = ""
    running: str = ""
    running_tags: str = ""

    def plan(self, *, already_deleted: int = 0, **keys: object) -> Plan:
        return planned(
            self.held,
            policy(**{**self.keys, **keys}),
            just_pushed=self.just_pushed,
            running=self.running,
            running_tags=self.running_tags,
            already_deleted=already_deleted,
        )


# --- random repositories

NAMES = tuple("abcdefgh")
ABSENT = ("gone", "lost")
HOUR = 1 / 24
AGES = (None, -1.0, 0.0, HOUR, HOUR - 1e-6, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0 - 1e-6, 4.0, 5.0, 6.0, 7.0, 8.0)
ORDINARY = ("v{}", "ci-{}", "main-{}", "pr-1-{}")


def names(most: int, among: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(among), max_size=most, unique=True)


@st.composite
def repositories(draw: st.DrawFn) -> tuple[Manifest, ...]:
    """Draw up to eight manifests as a registry could hold them.

    Content refers to what was there before it, and cosign tags to anything.  A subject is known where the program
    would have read it: of an OCI index, and of an untagged OCI manifest that no index lists.
    """
    held: list[Manifest] = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        earlier = tuple(name_of(each.digest) for each in held) + ABSENT
        kind = draw(st.sampled_from([*KINDS, "oci", "oci-index", "docker", "application/x"]))
        tags = [pattern.format(name) for pattern in draw(names(2, ORDINARY))]
        if draw(st.integers(0, 2)) == 0:
            tags = []
        if draw(st.integers(0, 2)) == 0:
            tags += [cosign(subject) for subject in draw(names(2, NAMES + ABSENT))]
        held.append(
            manifest(
                name,
                draw(st.sampled_from(AGES)),
                " ".join(tags),
                children=" ".join(draw(names(3, earlier))) if kind.endswith("index") else None,
                subject=draw(st.sampled_from(("", *earlier))) if kind in ("oci", "oci-index") else "",
                kind=kind,
            )
        )
    listed = {child for each in held for child in each.links.children}
    read = [
        each
        if each.media_type == KINDS["oci-index"] or not (each.tags or each.digest in listed)
        else replace(each, links=replace(each.links, subject=None))
        for each in held
    ]
    return tuple(draw(st.permutations(read)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a repository under a policy without ``max_deletions``."""
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
        draw(repositories()),
        keys,
        just_pushed=" ".join(draw(rare)),
        running=" ".join(draw(rare)),
        running_tags=" ".join(f"v{name}" for name in draw(rare)),
    )
