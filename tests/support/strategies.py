"""Random repositories and policies, drawn by Hypothesis."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Container, Mapping, Sequence

from hypothesis import HealthCheck, Phase, settings, strategies as st
from msgspec.structs import replace

from cleaner.core.history import History
from cleaner.core.manifest import IMAGE, NO_LINKS, OCI_INDEX, OCI_MANIFEST, Manifest
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
    named_tags: str = ""
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
            named_tags=self.named_tags,
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
AGES = (None, -1.0, 0.0, HOUR, HOUR - 1e-6, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0 - 1e-6, 4.0, 5.0, 5.0 - 1e-6, 6.0, 7.0, 8.0)
OLD = (2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
# The first are each image's own; of the others an image gets what no other has yet.
ORDINARY = ("v{}", "ci-{}", "main-{}", "pr-1-{}", "pr-2-{}")
VERSIONS = (
    "v1.2",
    "v1.10",
    "v1.10-rc.1",
    "v1.02",
    "v1.2.0",
    "v1.2a",
    "v2.0",
    "v2.0-rc.2",
    "v2.0-rc.10",
    "v2",
    "prod",
)
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"
CHART = "application/vnd.cncf.helm.config.v1+json"
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
CONTENTS = (IMAGE, IMAGE, CHART, SIGNATURE)


# Tags as they are compared with one another.
version_tags = st.one_of(st.sampled_from(VERSIONS), st.text("019aBz.-_", min_size=1, max_size=6))


def names(most: int, among: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(among), max_size=most, unique=True)


@st.composite
def contents(draw: st.DrawFn, *, is_expiring: bool = False) -> tuple[Manifest, ...]:
    """Draw up to eight manifests as a registry could hold them, each with all that its document names.

    Content refers to what was there before it, and referrer tags to anything.  What ``is_expiring`` is old and has
    few cycles, so that more of it is deleted.
    """
    held: list[Manifest] = []
    used: set[str] = set()
    kinds = [*KINDS, "oci", "oci-index", "docker", "oci-index", *([] if is_expiring else ["application/x", SCHEMA_1])]
    for name in NAMES[: draw(st.integers(6 if is_expiring else 1, len(NAMES)))]:
        earlier = tuple(name_of(each.digest) for each in held) + ABSENT[is_expiring:]
        kind = draw(st.sampled_from(kinds))
        is_index = kind.endswith("index")
        children = draw(_listed(held, earlier)) if is_index else []
        subjects = tuple(each for each in earlier if not (is_expiring and each in children)) or ABSENT
        tags = draw(_tags(name, subjects if is_expiring else NAMES + ABSENT))
        held.append(
            manifest(
                name,
                draw(st.sampled_from(OLD if is_expiring else AGES)),
                " ".join(tag for tag in tags if tag not in used),
                children=" ".join(children) if is_index else None,
                subject=draw(st.sampled_from(("", *subjects))) if kind in ("oci", "oci-index") else "",
                attests=f"{children[0]}:{children[1]}" if len(children) > 1 and draw(st.booleans()) else "",
                kind=kind,
                without_platform=" ".join(child for child in children if draw(st.booleans())),
                is_referrers_index=kind == "oci-index" and draw(st.booleans()),
                lists_absent=is_index and draw(st.sampled_from([False, False, False, True])),
                content=draw(st.sampled_from(CONTENTS)) if kind in ("oci", "oci-index") else IMAGE,
            )
        )
        used.update(tags)
    return tuple(draw(st.permutations(held)))


@st.composite
def _listed(draw: st.DrawFn, held: Sequence[Manifest], earlier: Sequence[str]) -> list[str]:
    """Draw what an index lists: anything, or what another index lists, or some of that, or more."""
    indexes = [each for each in held if each.links.children]
    if not indexes or draw(st.booleans()):
        return draw(names(3, earlier))
    like = [name_of(child) for child in draw(st.sampled_from(indexes)).links.children]
    return list(dict.fromkeys([*like[draw(st.sampled_from([0, 0, 0, 1])) :], *draw(names(1, earlier))]))


@st.composite
def _tags(draw: st.DrawFn, name: str, subjects: Sequence[str]) -> list[str]:
    """Draw the tags of a manifest: ordinary ones, referrer tags, both or none."""
    tags: list[str] = []
    if draw(st.integers(0, 2)):
        tags += [pattern.format(name) for pattern in draw(names(2, ORDINARY))] + draw(names(1, VERSIONS))
    if not draw(st.integers(0, 2)):
        suffix = draw(st.sampled_from(["", "", ".sig"]))
        tags += [cosign(subject, suffix) for subject in draw(names(2, subjects))]
    if not draw(st.integers(0, 11)):
        # imgpkg's tag of the image itself.
        tags.append(cosign(name, draw(st.sampled_from(["", ".imgpkg"]))))
    return list(dict.fromkeys(tags))


def as_read(held: Collection[Manifest], also: Container[Digest] = ()) -> tuple[Manifest, ...]:
    """Return ``held`` with what those documents alone say that the program reads, and those of ``also``.

    It reads all indexes, and of OCI manifests those that a referrers index lists, by its descriptors or by its tag;
    and the untagged ones that no index lists, or that an index lists without a platform.
    """
    listed = {child for each in held for child in each.links.children}
    without_platform = {child for each in held for child in each.links.without_platform}
    tags_of_subjects = {each.digest.replace(":", "-") for each in held}
    referrers = set[Digest]()
    for each in held:
        of_others = tags_of_subjects - {each.digest.replace(":", "-")}
        if each.media_type == OCI_INDEX and (each.links.is_referrers_index or of_others.intersection(each.tags)):
            referrers.update(each.links.children)

    def is_read(one: Manifest) -> bool:
        if one.media_type != OCI_MANIFEST:
            return one.is_index
        is_alone = not one.tags and (one.digest not in listed or one.digest in without_platform)
        return is_alone or one.digest in referrers or one.digest in also

    return tuple(each if is_read(each) else replace(each, links=NO_LINKS) for each in held)


# --- random policies

MATCHES: tuple[str | list[str], ...] = (
    "v.*",
    "(main|ci)-.*",
    "pr-([0-9])-.*",
    r"v([0-9]+)\..*",
    [r"v([0-9]+)\.[0-9]+", "v([0-9]+)(-rc.*|.[0-9])?.*", "prod"],
    ["ci-.*", "pr-.*", "prod"],
    "(sha256)-.*",
    "(.+)-[0-9a-f.]+.*",
    "(v)?[^v]+",
    "[^v].*",
)
ALL_TAGS = (".*", ".*", "(.*?)([a-z]|-.*|[.][0-9a-z]*)?")
# No ``delete_after`` is as short as the longest ``min_age``, or as ``keep_within`` beside it.
KEPT: tuple[dict[str, object], ...] = (
    {"keep": 1},
    {"keep": 1},
    {"keep": 2},
    {"keep": 3},
    {"keep": 0},
    {"keep": "all"},
    {"keep_within": "3d"},
    {"keep": 1, "keep_within": "3d"},
    {"delete_after": "5d"},
    {"keep": 1, "delete_after": "3d"},
    {"keep": 2, "delete_after": "25h"},
    {"keep": 1, "keep_within": "2d", "delete_after": "5d"},
    {"keep_within": "2d", "keep": "all", "delete_after": "4d"},
)
EXPIRING: tuple[dict[str, object], ...] = ({"keep": 0}, {"keep": 1}, {"keep": 1, "delete_after": "2h"}, {"keep": 2})
ORPHANS: tuple[dict[str, object], ...] = (
    {"keep": 0},
    {"keep": 0},
    {"keep": "all"},
    {"keep_within": "3d"},
    {"keep": "all", "delete_after": "5d"},
)


@st.composite
def rules(
    draw: st.DrawFn, matches: Sequence[str | list[str]], kept: Sequence[dict[str, object]]
) -> dict[str, object]:
    """Draw a rule for tags."""
    order = draw(st.sampled_from([{}, {}, {"order": "uploaded"}, {"order": "version"}]))
    return {"match": draw(st.sampled_from(matches)), **draw(st.sampled_from(kept)), **order}


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    """Draw the keys of a policy without ``max_deletions``; what is left out has its default."""
    tagged = draw(st.lists(rules(MATCHES, KEPT), max_size=2))
    if draw(st.integers(0, 3)):
        tagged.append(draw(rules(ALL_TAGS, KEPT)))
    keys: dict[str, object] = {
        "min_age": draw(st.sampled_from(["1h", "1d"])),
        "tagged": tagged,
        "untagged": draw(st.sampled_from(KEPT)),
        "orphans": draw(st.sampled_from(ORPHANS)),
    }
    for key in draw(names(1, [*keys, "", "", ""])):
        keys.pop(key, None)
    return keys


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a repository, as a listing has it, under a policy without ``max_deletions``."""
    rare: st.SearchStrategy[list[str]] = st.one_of(st.just([]), st.just([]), names(1, NAMES + ABSENT))
    return Case(
        as_read(draw(contents())),
        draw(policies()),
        just_pushed=" ".join(draw(rare)),
        named_tags=" ".join(f"main-{name}" for name in draw(rare)),
        running=" ".join(draw(rare)),
        running_tags=" ".join(f"v{name}" for name in draw(rare)),
    )


@st.composite
def expiring_cases(draw: st.DrawFn) -> Case:
    """Draw a repository most of which is deleted, with all that its documents name."""
    protecting = draw(st.sampled_from([[], [], [], [], [{"match": "v[abc]", "keep": "all"}]]))
    keys: dict[str, object] = {
        "tagged": [*protecting, draw(rules([".*"], EXPIRING))],
        "untagged": draw(st.sampled_from(EXPIRING)),
        "orphans": draw(st.sampled_from([{"keep": 0}, {"keep": 0}, {"keep": 0}, {"keep": "all"}])),
    }
    return Case(draw(contents(is_expiring=True)), keys, just_pushed=draw(st.sampled_from([*" " * 8, *NAMES])))


@st.composite
def untagged_cases(draw: st.DrawFn) -> Case:
    """Draw a repository of untagged images of two kinds of content, some of which are deleted by count."""
    held = tuple(
        manifest(
            name,
            draw(st.sampled_from(AGES)),
            children=draw(st.sampled_from([None, None, None, "", "gone"])),
            content=draw(st.sampled_from((IMAGE, CHART))),
        )
        for name in NAMES[: draw(st.integers(3, len(NAMES)))]
    )
    return Case(held, {"untagged": draw(st.sampled_from([each for each in KEPT if each.get("keep") != "all"]))})


def listed_expiring_cases() -> st.SearchStrategy[Case]:
    """Draw such a repository as a listing has it."""
    return expiring_cases().map(lambda case: dataclasses.replace(case, held=as_read(case.held)))


def listed_cases() -> st.SearchStrategy[Case]:
    """Draw any repository as a listing has it."""
    return st.one_of(cases(), listed_expiring_cases())
