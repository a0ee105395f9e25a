"""Policies: which one decides for a repository, and which rule for a tag."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cleaner.core.policy import Policy, find_policy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Repository, Tag, parse_repository
from tests.support.builders import NOW, policy


def with_rules(*rules: dict[str, object]) -> Policy:
    """Return a policy with these rules for tags, each of which keeps one image."""
    return policy(tagged=[{"keep": 1, **rule} for rule in rules])


# --- repositories


def test_first_policy_with_a_matching_glob_decides() -> None:
    """One matching glob is enough; later policies are ignored; without a match there is no policy."""
    policies = policies_from_document(
        [
            {"repositories": ["gcr.io/acme/api", "gcr.io/acme/web"]},
            {"repositories": ["gcr.io/acme/*"]},
            {"repositories": ["**"]},
        ]
    )

    def position(host: str, path: str) -> int | None:
        found = find_policy(policies, Repository(host, path))
        return None if found is None else policies.index(found)

    assert position("gcr.io", "acme/api") == 0
    assert position("gcr.io", "acme/web") == 0
    assert position("gcr.io", "acme/other") == 1
    assert position("eu.gcr.io", "acme/api") == 2
    assert position("us-docker.pkg.dev", "acme/gcf-artifacts/function") is None


def test_glob_of_a_gcr_name_matches_its_artifact_registry_name() -> None:
    """Both names of a repository are read as the same one."""
    policies = policies_from_document([{"repositories": ["gcr.io/acme/*"]}])

    assert find_policy(policies, parse_repository("us-docker.pkg.dev/acme/gcr.io/api")) is policies[0]


# --- rules


@pytest.mark.parametrize(
    ("tag", "decides"),
    [
        ("v1", (0, ())),
        ("main-1", (1, ("main",))),
        ("release-1-2", (1, ("release-1",))),
        ("prod", (2, ())),
        ("staging", (2, ())),
        ("va", None),
        ("my-prod", None),
        ("prod2", None),
    ],
)
def test_first_rule_that_matches_the_whole_tag_decides(tag: str, decides: object) -> None:
    """A tag that no rule matches has none."""
    rules = with_rules(
        {"match": "v[0-9]+"}, {"match": "(.+)-[0-9]+"}, {"match": ["prod", "staging"]}, {"match": "v1"}
    )

    assert rules.rule_of(Tag(tag)) == decides


def test_without_rules_no_tag_is_matched() -> None:
    """Every tagged image is kept."""
    assert policy().rule_of(Tag("x")) is None


@pytest.mark.parametrize(
    ("match", "tag", "captures"),
    [
        ("a.*", "ab", ()),
        ("(a)(.*)", "ab", ("a", "b")),
        ("(?:a)(.*)", "ab", ("b",)),
        ("(?P<branch>.+)-[0-9]+", "main-7", ("main",)),
        ("(a)|(b)", "b", (None, "b")),
        ("x(y)?", "x", (None,)),
        ("x(y+)?", "xyy", ("yy",)),
        ("(.*)", "", ("",)),
        (["(a).*", "a(.*)"], "ab", ("a",)),
        (["(c).*", "a(.*)"], "ab", ("b",)),
        (["c", "a.*"], "ab", ()),
    ],
)
def test_groups_of_the_first_pattern_that_matches_capture(
    match: str | list[str], tag: str, captures: tuple[str | None, ...]
) -> None:
    """A group that takes no part captures None."""
    rule = with_rules({"match": match}).tagged[0]

    assert rule.captures(Tag(tag)) == captures


def test_image_is_retired_at_delete_after() -> None:
    """What was uploaded that long ago or longer is not kept by the rule; without the key nothing is."""
    rule = with_rules({"match": "x", "delete_after": "2d"}).tagged[0]
    edge = NOW - timedelta(days=2)

    assert rule.is_retired(edge, NOW)
    assert not rule.is_retired(edge + timedelta(microseconds=1), NOW)
    assert not with_rules({"match": "x"}).tagged[0].is_retired(NOW - timedelta(days=9999), NOW)


def test_image_is_recent_below_keep_within() -> None:
    """What was uploaded less than that ago is kept; without the key nothing is recent."""
    rule = with_rules({"match": "x", "keep_within": "2d"}).tagged[0]
    edge = NOW - timedelta(days=2)

    assert not rule.is_recent(edge, NOW)
    assert rule.is_recent(edge + timedelta(microseconds=1), NOW)
    assert not with_rules({"match": "x"}).tagged[0].is_recent(NOW, NOW)


def test_image_is_young_below_min_age() -> None:
    """At that age it may be deleted."""
    parsed = policy(min_age="10m")
    edge = NOW - timedelta(minutes=10)

    assert not parsed.is_young(edge, NOW)
    assert parsed.is_young(edge + timedelta(microseconds=1), NOW)


def test_image_from_the_future_is_young_and_recent() -> None:
    """Clocks differ."""
    later = NOW + timedelta(days=1)
    rule = with_rules({"match": "x", "keep_within": "1s", "delete_after": "2h"}).tagged[0]

    assert policy().is_young(later, NOW)
    assert rule.is_recent(later, NOW)
    assert not rule.is_retired(later, NOW)
