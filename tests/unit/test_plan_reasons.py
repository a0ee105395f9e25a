"""Deciding: every reason, and which of two is given."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from cleaner.core.manifest import Manifest
from cleaner.core.rules import Reason
from tests.support.builders import (
    NOW,
    RETIRING,
    cosign,
    digest,
    kept,
    manifest,
    name_of,
    one_rule,
    planned,
    policy,
    reasons,
)

EARLIER_FIRST = (
    "unknown-type",
    "unknown-age",
    "too-young",
    "just-pushed",
    "running",
    "unmatched",
    "protected",
    "newest",
    "recent",
    "needed",
    "over-limit",
)

# No manifest can have both: one of unknown age is neither young nor in a pool.
IMPOSSIBLE = {("unknown-age", reason) for reason in ("too-young", "protected", "newest", "recent")}


def reason_of_one(*holding: str) -> str:
    """Return the reason of a tagged image for which exactly these rules hold."""
    age_days: float | None = 30
    if "too-young" in holding:
        age_days = 0.01
    if "unknown-age" in holding:
        age_days = None
    tags = {"unmatched": "other", "protected": "release", "newest": "new", "recent": "fresh", "": "v1"}
    given = " ".join(tags[reason] for reason in tags if not reason or reason in holding)
    one = manifest("one", age_days, given, kind="application/x" if "unknown-type" in holding else "docker")
    held = [one]
    if "needed" in holding:
        held.append(manifest("index", None, tags="latest", children="one"))
    by = policy(
        min_age="1h",
        tagged=[
            {"match": "release", "keep": "all"},
            {"match": "new", "keep": 1},
            {"match": "fresh", "keep_within": "60d"},
            {"match": "v1", "keep": 0},
        ],
        max_deletions=1 if "over-limit" in holding else None,
    )
    result = planned(
        held,
        by,
        just_pushed="one" if "just-pushed" in holding else "",
        running="one" if "running" in holding else "",
        already_deleted=1 if "over-limit" in holding else 0,
    )
    return reasons(result)["one"]


def test_reasons_are_those_of_the_readme_in_its_order() -> None:
    """Users and dashboards rely on the names."""
    assert [reason.value for reason in Reason] == [*EARLIER_FIRST, "expired", "follows", "orphaned"]


@pytest.mark.parametrize("reason", EARLIER_FIRST)
def test_each_rule_keeps_an_image_on_its_own(reason: str) -> None:
    """Without any of them it goes."""
    assert reason_of_one(reason) == reason
    assert reason_of_one() == "expired"


@pytest.mark.parametrize(
    ("earlier", "later"), [pair for pair in itertools.combinations(EARLIER_FIRST, 2) if pair not in IMPOSSIBLE]
)
def test_earlier_reason_is_given(earlier: str, later: str) -> None:
    """Of two rules that hold, the first in the order of docs/operations.md."""
    assert reason_of_one(earlier, later) == earlier


def test_every_rule_at_once_gives_the_first() -> None:
    """And so on down, one rule less each time."""
    for first in range(len(EARLIER_FIRST)):
        assert reason_of_one(*EARLIER_FIRST[first:]) == EARLIER_FIRST[first]


ROLES: dict[str, Callable[..., list[Manifest]]] = {
    "child": lambda **one: [manifest("root", 30, tags="v0", children="one"), manifest("one", **one)],
    "referrer": lambda **one: [
        manifest("root", 30, tags="v0"),
        manifest("one", **{**one, "tags": f"{one.get('tags', '')} {cosign('root')}"}),
    ],
    "orphan": lambda **one: [manifest("one", **one, subject="gone", children="")],
    "untagged image": lambda **one: [manifest("one", **one)],
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("reason", "one", "options"),
    [
        ("unknown-age", {"age_days": None}, {}),
        ("too-young", {"age_days": 0.01}, {}),
        ("just-pushed", {}, {"just_pushed": "one"}),
        ("running", {}, {"running": "one"}),
    ],
)
def test_rule_for_all_holds_for_every_class(
    role: str, reason: str, one: dict[str, float | None], options: dict[str, str]
) -> None:
    """Not only for images."""
    assert reasons(planned(ROLES[role](**one), RETIRING, **options))["one"] == reason  # type: ignore[arg-type]  # a table


def test_unknown_type_is_kept_in_every_class() -> None:
    """What is not understood is not deleted; its index is judged without it."""
    held = [
        manifest("index", tags="v1", children="child"),
        manifest("child", kind="application/vnd.oci.artifact.manifest.v1+json"),
        manifest("untagged", kind="application/vnd.docker.distribution.manifest.v3+json"),
        manifest("typeless", kind="?"),
    ]

    assert reasons(planned(held, RETIRING)) == {
        "index": "expired",
        "child": "unknown-type",
        "untagged": "unknown-type",
        "typeless": "unknown-type",
    }


@pytest.mark.parametrize("suffix", ["json", "prettyjws"])
def test_manifest_of_schema_1_is_an_image(suffix: str) -> None:
    """It is understood, and has neither children nor a subject."""
    held = [manifest("x", kind=f"application/vnd.docker.distribution.manifest.v1+{suffix}")]

    assert reasons(planned(held, RETIRING)) == {"x": "expired"}


def test_one_protected_tag_of_many_is_enough() -> None:
    """Any of its tags, any of the patterns, matched whole."""
    held = [manifest("release", tags="ci-1 v1.4.2"), manifest("other", tags="ci-2 my-v1.4.2")]
    rules = [
        {"match": ["prod", r"v\d+\.\d+\.\d+"], "keep": "all"},
        {"match": ".*", "keep": 0},
    ]

    assert reasons(planned(held, policy(tagged=rules))) == {"release": "protected", "other": "expired"}


def test_every_tag_has_to_be_matched() -> None:
    """One other tag keeps the image; by default every tagged image is kept."""
    held = [manifest("ci", tags="ci-1 pr-1"), manifest("latest", tags="ci-2 latest"), manifest("untagged")]
    by = policy(**one_rule(match=["ci-.*", "pr-.*"], delete_after="1d"))

    assert kept(planned(held, by)) == {"latest": "unmatched"}
    assert kept(planned(held, policy(untagged={"keep": 0}))) == {"ci": "unmatched", "latest": "unmatched"}


def test_referrer_tag_of_an_image_counts_among_its_tags() -> None:
    """Every tag of a tagged image has to match, whatever its spelling."""
    held = [manifest("image", tags=f"ci-1 {cosign('gone')}")]

    assert reasons(planned(held, policy(**one_rule(0, match="ci-.*")))) == {"image": "unmatched"}
    assert reasons(planned(held, policy(**one_rule(0, match=["ci-.*", "sha256-.*"])))) == {"image": "expired"}


def test_first_rule_that_matches_a_tag_decides() -> None:
    """A later one has no say, whatever it would keep."""
    held = [manifest("x", tags="v1")]
    delete, keep = {"match": "v1", "keep": 0}, {"match": "v.*", "keep": "all"}

    assert reasons(planned(held, policy(tagged=[delete, keep]))) == {"x": "expired"}
    assert reasons(planned(held, policy(tagged=[keep, delete]))) == {"x": "protected"}


def test_rule_that_keeps_all_protects_until_delete_after() -> None:
    """Tagged and untagged images, and orphans."""
    held = [
        manifest("tagged", 8, tags="v1"),
        manifest("untagged", 8),
        manifest("orphan", 8, subject="gone"),
        manifest("older", 9, tags="v1"),
    ]
    rule = {"keep": "all", "delete_after": "9d"}

    assert reasons(planned(held, policy(tagged=[{"match": "v1", **rule}], untagged=rule, orphans=rule))) == {
        "tagged": "protected",
        "untagged": "protected",
        "orphan": "protected",
        "older": "expired",
    }


@pytest.mark.parametrize("tags", ["", "ci-1"])
def test_image_whose_tags_are_not_all_known_is_tagged(tags: str) -> None:
    """Artifact Registry's REST API names a hundred; one of the others may be a release."""
    held = [replace(manifest("image", tags=tags), has_unnamed_tags=True)]

    assert reasons(planned(held, RETIRING)) == {"image": "unmatched"}


def test_child_or_orphan_whose_tags_are_not_all_known_is_an_image() -> None:
    """One of them may be an ordinary tag."""
    held = [
        manifest("index", tags="v1", children="child"),
        replace(manifest("child"), has_unnamed_tags=True),
        replace(manifest("orphan", tags=cosign("gone")), has_unnamed_tags=True),
    ]

    assert reasons(planned(held, RETIRING)) == {"index": "expired", "child": "unmatched", "orphan": "unmatched"}


# --- just pushed, running


def test_pushed_child_stays_without_its_index() -> None:
    """A child needs no index."""
    held = [manifest("index", tags="v1", children="child"), manifest("child")]

    assert reasons(planned(held, RETIRING, just_pushed="child elsewhere")) == {
        "index": "expired",
        "child": "just-pushed",
    }


def test_pushed_signature_keeps_its_image() -> None:
    """A kept manifest needs its subject."""
    held = [manifest("image", tags="v1"), manifest("signature", tags=cosign("image"))]

    assert reasons(planned(held, RETIRING, just_pushed="signature")) == {
        "image": "needed",
        "signature": "just-pushed",
    }


def test_running_platform_keeps_its_indexes() -> None:
    """An index with a child that is named counts as named, at any depth; its other children are needed."""
    held = [
        manifest("top", tags="v1", children="middle other"),
        manifest("middle", children="amd64 arm64"),
        manifest("amd64"),
        manifest("arm64"),
        manifest("other"),
        manifest("signature", tags=cosign("top")),
        manifest("unrelated", tags="v0"),
    ]

    result = planned(held, RETIRING, running="amd64")

    assert reasons(result) == {
        "amd64": "running",
        "middle": "running",
        "top": "running",
        "arm64": "needed",
        "other": "needed",
        "signature": "needed",
        "unrelated": "expired",
    }


def test_running_tag_keeps_what_it_names() -> None:
    """A tag that nothing has keeps nothing."""
    held = [manifest("a", tags="v1 latest", children="child"), manifest("child"), manifest("b", tags="v2")]

    assert reasons(planned(held, RETIRING, running_tags="latest v3")) == {
        "a": "running",
        "child": "needed",
        "b": "expired",
    }


def test_who_runs_it_is_told() -> None:
    """Where that is the reason, and only there."""
    held = [
        manifest("index", tags="v1", children="child"),
        manifest("child"),
        manifest("young", 0, tags="v2"),
    ]

    result = planned(held, RETIRING, running="child young")
    details = {name_of(each.manifest.digest): each.detail for each in result.keep}

    assert details == {"index": "runner of child", "child": "runner of child", "young": ""}
    facts = {name_of(each.manifest.digest): each.facts() for each in result.keep}
    assert facts["child"]["running"] == "runner of child"
    assert "running" not in facts["young"]


def test_verdict_is_told_in_the_logs_words() -> None:
    """The fields of the log line for a manifest."""
    result = planned([manifest("x", 30, tags="b a")], RETIRING)

    assert result.delete[0].facts() == {
        "digest": digest("x"),
        "tags": ("a", "b"),
        "reason": "expired",
        "uploaded": NOW - timedelta(days=30),
    }
