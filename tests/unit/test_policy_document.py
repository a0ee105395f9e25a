"""What a valid document of policies means: every key, its default, its bounds, and where null is a value."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cleaner.core.policy import Policy, Rule
from cleaner.core.policy_document import parse_policies, policies_from_document
from tests.support.policy_documents import ACCEPTED, one, rule


def parsed(document: object) -> Policy:
    """Return the one policy of a document."""
    (policy,) = policies_from_document(document)
    return policy


def first_rule(document: object) -> Rule:
    """Return the first rule for tags of a document."""
    return parsed(document).tagged[0]


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_valid_document_is_accepted(document: object) -> None:
    """Decoded, and as JSON."""
    assert len(policies_from_document(document)) == len(parse_policies(json.dumps(document)))


def test_policy_with_only_repositories_has_every_default() -> None:
    """Tags are all kept, five untagged images are, and orphans are."""
    policy = parsed(one())

    assert (policy.min_age.text, policy.min_age.value) == ("1h", timedelta(hours=1))
    assert policy.tagged == ()
    assert policy.untagged == Rule(match=(), keep=5, keep_within=None, delete_after=None, order="uploaded")
    assert policy.orphans == Rule(match=(), keep=None, keep_within=None, delete_after=None, order="uploaded")
    assert policy.max_deletions is None
    assert policy.dry_run is False


def test_every_key_is_read() -> None:
    """Each key sets its own field."""
    policy, other = policies_from_document(ACCEPTED["every key"])

    assert [glob.text for glob in policy.repositories] == ["gcr.io/acme/*", "us-docker.pkg.dev/acme/apps/api"]
    assert policy.min_age.value == timedelta(hours=2)
    assert [[pattern.pattern for pattern in rule.match] for rule in policy.tagged] == [["prod"], ["v(.*)", "w(.*)"]]
    assert [(rule.keep, str(rule.keep_within), str(rule.delete_after), rule.order) for rule in policy.tagged] == [
        (None, "None", "None", "uploaded"),
        (3, "7d", "30d", "version"),
    ]
    assert (policy.untagged.keep, str(policy.untagged.keep_within), str(policy.untagged.delete_after)) == (
        2,
        "3h",
        "14d",
    )
    assert (policy.orphans.keep, str(policy.orphans.delete_after)) == (None, "90d")
    assert (policy.max_deletions, policy.dry_run) == (100, True)
    assert (other.untagged.keep, other.dry_run) == (1, False)


@pytest.mark.parametrize(
    ("keys", "keep"),
    [
        ({"keep": 0}, 0),
        ({"keep": 7}, 7),
        ({"keep": "all"}, None),
        ({"keep": 7, "keep_within": "1d"}, 7),
        ({"keep": "all", "keep_within": "1d"}, None),
        ({"keep_within": "1d"}, 0),
        ({"keep_within": None, "delete_after": "2h"}, None),
        ({"delete_after": "2h"}, None),
    ],
)
def test_keep_is_all_by_default_and_0_with_keep_within(keys: dict[str, object], keep: int | None) -> None:
    """In rules for tags, for untagged images and for orphans; None keeps all."""
    assert first_rule(rule(**keys)).keep == keep
    assert parsed(one(untagged=keys)).untagged.keep == keep
    if keep in (0, None):
        assert parsed(one(orphans=keys)).orphans.keep == keep


@pytest.mark.parametrize("key", ["keep_within", "delete_after"])
def test_null_is_no_duration(key: str) -> None:
    """As if the key were absent."""
    assert first_rule(rule(keep=1, **{key: None})) == first_rule(rule(keep=1))


def test_null_for_max_deletions_is_no_limit() -> None:
    """As if the key were absent."""
    assert parsed(one(max_deletions=None)) == parsed(one())


def test_one_regex_is_a_list_of_one() -> None:
    """``match`` may be either."""
    assert first_rule(one(tagged=[{"match": "a", "keep": 1}])) == first_rule(
        one(tagged=[{"match": ["a"], "keep": 1}])
    )


def test_untagged_of_its_own_has_no_default_count() -> None:
    """The default ``{keep: 5}`` is of the whole rule: another one replaces it."""
    assert parsed(one(untagged={"delete_after": "7d"})).untagged.keep is None


@pytest.mark.parametrize(
    "document",
    [
        one(min_age="1h30m"),
        rule(keep_within="90m", keep=1),
        rule(delete_after="0d90m"),
    ],
)
def test_duration_is_shown_as_it_was_written(document: list[dict[str, object]]) -> None:
    """Not in a unit of ours."""
    policy = parsed(document)
    shown = {
        str(policy.min_age),
        *(str(value) for one in policy.tagged for value in (one.keep_within, one.delete_after)),
    }

    assert shown & {"1h30m", "90m", "0d90m"}
    assert shown <= {"1h30m", "90m", "0d90m", "1h", "None"}


def test_policies_are_in_the_order_of_the_document() -> None:
    """The first that matches decides."""
    document = [{"repositories": [f"gcr.io/acme/{name}"]} for name in "cab"]

    assert [policy.repositories[0].text for policy in policies_from_document(document)] == [
        "gcr.io/acme/c",
        "gcr.io/acme/a",
        "gcr.io/acme/b",
    ]
