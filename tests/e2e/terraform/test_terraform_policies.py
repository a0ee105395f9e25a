"""The plan and the function refuse the same policies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from cleaner.core.errors import ConfigurationError
from cleaner.core.policy import policies_from_document
from tests.support.terraform import SOURCE, absent, terraform

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

ACCEPTED: Sequence[object] = (
    {"repositories": ["a"]},
    {"repositories": ["**"]},
    {"repositories": ["*gcr.io/**/api-*", "localhost:5000/a_b/c..d/*"]},
    {"keep": 1},
    {"keep": 10**30},
    {"keep_untagged": 0},
    {"min_age": "10m"},
    {"min_age": "600s"},
    {"min_age": "5m5m"},
    {"min_age": "0010m"},
    {"min_age": "1h30m"},
    {"min_age": "86399999999999s"},
    {"max_age": None},
    {"max_age": "1s"},
    {"max_age": "0d1s"},
    {"max_age": "999999999d"},
    {"delete_tags": []},
    {"delete_tags": [""]},
    {"delete_tags": [r"v\d+", "(?i)x", r"\pL+", "[[:alpha:]]", "a{1000}", r"\Qa", "a/b", "/", "#", "${a}", "%{if}"]},
    {"delete_tags": ["(?P<a>x)|(y)", "(?<a>x)", "(?:a|b)*?", r"a\/", "a|", "|", "()", r"\x{10FFFF}", "ü+"]},
    {"delete_tags": ["(?P<a>x)(?P<a>y)"]},
    {"protect_tags": ["v.*"]},
    {"group_by": None},
    {"group_by": "(.+)-[0-9a-f]{7}"},
    {"group_by": "()"},
    {"group_by": "(?P<branch>.+)-.*"},
    {"group_by": "(?P<branch>.+)-(.*)"},
    {"group_by": "a|(b)"},
    {"group_by": r"(a)\Qb"},
    {"group_by": "(?i)(a)|b"},
    {"max_deletions": None},
    {"max_deletions": 1},
    {"dry_run": True},
    {"dry_run": False},
)

REFUSED: Sequence[object] = (
    None,
    5,
    "us-docker.pkg.dev/acme/apps",
    ["us-docker.pkg.dev/acme/apps"],
    {"protect_tag": ["v.*"]},
    {"Keep": 5},
    {"": 5},
    {"repositories": None},
    {"repositories": []},
    {"repositories": "a"},
    {"repositories": {"a": "a"}},
    {"repositories": [5]},
    {"repositories": [None]},
    {"repositories": ["a", ["b"]]},
    {"repositories": [""]},
    {"repositories": ["a//b"]},
    {"repositories": ["a/"]},
    {"repositories": ["/a"]},
    {"repositories": ["A"]},
    {"repositories": ["a b"]},
    {"repositories": ["a\n"]},
    {"repositories": ["a?"]},
    {"repositories": ["a/x**"]},
    {"repositories": ["a/***"]},
    {"keep": 0},
    {"keep": -1},
    {"keep": 1.5},
    {"keep": "5"},
    {"keep": True},
    {"keep": None},
    {"keep": [5]},
    {"keep_untagged": -1},
    {"keep_untagged": "0"},
    {"keep_untagged": None},
    {"min_age": None},
    {"min_age": 600},
    {"min_age": ""},
    {"min_age": "0s"},
    {"min_age": "599s"},
    {"min_age": "9m59s"},
    {"min_age": "10"},
    {"min_age": "10M"},
    {"min_age": "1y"},
    {"min_age": "-10m"},
    {"min_age": "1.5h"},
    {"min_age": "1h 30m"},
    {"min_age": "1h\n"},
    {"min_age": "86400000000000s"},
    {"min_age": "999999999d1d"},
    {"min_age": "9" * 400 + "d"},
    {"min_age": "0" * 5000 + "10m"},
    {"max_age": "0" * 5000 + "10m"},
    {"min_age": ["1h"]},
    {"max_age": "0s"},
    {"max_age": ""},
    {"max_age": 5},
    {"max_age": False},
    {"max_age": "1000000000d"},
    {"delete_tags": None},
    {"delete_tags": "x"},
    {"delete_tags": {"a": "x"}},
    {"delete_tags": [5]},
    {"delete_tags": [None]},
    {"delete_tags": ["("]},
    {"delete_tags": [")"]},
    {"delete_tags": ["a)(b"]},
    {"delete_tags": ["["]},
    {"delete_tags": ["*"]},
    {"delete_tags": ["a**"]},
    {"delete_tags": ["a{1001}"]},
    {"delete_tags": ["(a{100}){100}"]},
    {"delete_tags": ["\\"]},
    {"delete_tags": [r"\1"]},
    {"delete_tags": ["(?=a)"]},
    {"delete_tags": ["(?<!a)b"]},
    {"delete_tags": [r"\Z"]},
    {"protect_tags": ["ok", "(?!v)"]},
    {"protect_tags": "v.*"},
    {"group_by": ""},
    {"group_by": ".+"},
    {"group_by": "(?:.+)"},
    {"group_by": r"\(a\)"},
    {"group_by": "[(]a[)]"},
    {"group_by": "("},
    {"group_by": 5},
    {"group_by": ["(a)"]},
    {"group_by": False},
    {"max_deletions": 0},
    {"max_deletions": "10"},
    {"max_deletions": False},
    {"dry_run": "true"},
    {"dry_run": 1},
    {"dry_run": None},
)


def _as_policies(entry: object) -> object:
    """Return ``entry`` as the second of two policies, with a pattern where it is about another key."""
    if isinstance(entry, dict) and "repositories" not in entry:
        entry = {"repositories": ["gcr.io/acme/**"]} | entry
    return [{"repositories": ["gcr.io/acme/api"]}, entry]


# Go's RE2, which Terraform has, knows no single bytes, and wants the names of groups to be ASCII.  A number of
# thousands of digits is more than Python reads, whatever it is worth.
REFUSED_BY_THE_PLAN_ALONE = (
    {"delete_tags": [r"\C"]},
    {"delete_tags": ["(?<é>x)"]},
    {"min_age": "0" * 30 + "10m"},
    {"max_age": "0" * 30 + "10m"},
)
# The function's RE2 has a limit of memory, which the plan's has not.
REFUSED_BY_THE_FUNCTION_ALONE = ({"delete_tags": [r"\pL{600}"]},)

# Whole documents, which _as_policies would make right.
REFUSED_DOCUMENTS: Sequence[object] = ([], {}, "policies", {"repositories": ["a"]}, [[]], [{}], [{"keep": 5}], 5)


@pytest.fixture(scope="session")
def policies_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variable ``policies`` by itself: it needs no provider, so a plan takes no time."""
    if not shutil.which("terraform"):
        absent("terraform is not installed")
    home = tmp_path_factory.mktemp("policies")
    shutil.copy(SOURCE / "policies.tf", home)
    return home


def _refusal(home: Path, document: object) -> str | None:
    """Return what a plan says of ``document``; None where it accepts it."""
    (home / "case.tfvars.json").write_text(json.dumps({"policies": document}))
    result = terraform(home, "plan", "-json", "-input=false", "-var-file=case.tfvars.json")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    errors = [message["diagnostic"] for message in messages if message["@level"] == "error"]
    # A condition that cannot be evaluated would refuse too, but not say why.
    assert {error["summary"] for error in errors} <= {"Invalid value for variable"}, errors
    assert (result.returncode != 0) == bool(errors)
    return "\n".join(error["detail"] for error in errors) or None


@pytest.mark.parametrize("entry", ACCEPTED, ids=json.dumps)
def test_plan_and_function_accept_the_same_policies(policies_alone: Path, entry: object) -> None:
    """What the function takes, the plan takes."""
    document = _as_policies(entry)
    policies_from_document(document)
    assert _refusal(policies_alone, document) is None


@pytest.mark.parametrize(
    "document", [*map(_as_policies, REFUSED), *REFUSED_DOCUMENTS], ids=lambda document: json.dumps(document)[-60:]
)
def test_plan_and_function_refuse_the_same_policies(policies_alone: Path, document: object) -> None:
    """What the function would not start with does not get as far as an apply."""
    with pytest.raises(ConfigurationError):
        policies_from_document(document)
    assert _refusal(policies_alone, document)


@pytest.mark.parametrize("entry", REFUSED_BY_THE_PLAN_ALONE, ids=json.dumps)
def test_plan_refuses_what_the_function_takes(policies_alone: Path, entry: object) -> None:
    """The README of the module names each."""
    document = _as_policies(entry)
    policies_from_document(document)
    assert _refusal(policies_alone, document)


@pytest.mark.parametrize("entry", REFUSED_BY_THE_FUNCTION_ALONE, ids=json.dumps)
def test_plan_takes_what_the_function_refuses(policies_alone: Path, entry: object) -> None:
    """It is one thing alone, and the README of the module says so."""
    document = _as_policies(entry)
    with pytest.raises(ConfigurationError, match="too large"):
        policies_from_document(document)
    assert _refusal(policies_alone, document) is None


def test_refused_policy_is_named_by_position_and_key(policies_alone: Path) -> None:
    """The plan says which policy, which key and what is wrong."""
    refusal = _refusal(policies_alone, _as_policies({"keep": "5"}))
    assert refusal
    assert 'keep: must be a whole number of at least 1; given: policies[1].keep = "5"' in refusal

    misspelled = _refusal(policies_alone, _as_policies({"protect_tag": []}))
    assert misspelled
    assert "unknown key policies[1].protect_tag; known are repositories, keep" in misspelled


def test_refused_policy_that_is_no_object_is_told_so(policies_alone: Path) -> None:
    """A pattern where a policy belongs is not taken for a policy without patterns alone."""
    refusal = _refusal(policies_alone, ["us-docker.pkg.dev/acme-prod/apps/**"])
    assert refusal
    assert "policies: each must be an object" in refusal
