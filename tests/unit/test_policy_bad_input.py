"""Whatever document is given: policies or mistakes, never another exception, and no work that explodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy_document import MAX_DOCUMENT_CHARS, parse_policies, policies_from_document
from tests.support.policy_documents import APPS, one
from tests.support.policy_mutations import COUNT, mutated_documents


def outcome(document: object) -> int:
    """Return the number of mistakes of a document; 0 if it is accepted.  Its messages are one printable line each."""
    try:
        policies = policies_from_document(document)
    except InvalidPolicy as error:
        refusal = error
    else:
        assert policies
        return 0
    lines = str(refusal).split("\n")
    assert len(lines) == min(len(refusal.mistakes), InvalidPolicy.SHOWN_MAX + 1) > 0
    assert all(line.startswith("POLICIES") and line.isprintable() for line in lines)
    return len(refusal.mistakes)


def outcome_of_text(text: str) -> str:
    """Return why a text is refused; empty if it is accepted."""
    try:
        policies = parse_policies(text)
    except InvalidPolicy as error:
        return str(error)
    assert policies
    return ""


def test_random_documents_are_accepted_or_have_mistakes() -> None:
    """A thousand near valid ones: changed types, renamed keys, nulls, deep values, odd regexes and huge numbers."""
    counts = [outcome(document) for document in mutated_documents(seed=1)]

    assert len(counts) == COUNT == 1000
    assert 50 < counts.count(0) < 950
    assert max(counts) > 3


def test_random_texts_are_accepted_or_have_mistakes() -> None:
    """As JSON, with a part of the text removed, repeated or replaced."""
    refused = 0
    for number, document in enumerate(mutated_documents(seed=3)):
        text = json.dumps(document)
        at = number * 7919 % len(text)
        changed = [text, text[:at], text[:at] + text[at + 1 :], text[:at] + '"' + text[at:], text[at:] + text[:at]]
        refused += bool(outcome_of_text(changed[number % len(changed)]))

    assert refused > 500


@pytest.mark.parametrize(
    "text",
    ["[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, '[{"repositories":' * 10_000],
    ids=["open", "arrays", "objects", "policies"],
)
def test_text_that_is_nested_deeply_is_refused(text: str) -> None:
    """The decoder gives up; the process does not."""
    assert outcome_of_text(text).startswith("POLICIES: not a JSON array of policies: ")


def test_deep_values_in_a_document_are_refused() -> None:
    """In place of every value."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    for document in (
        deep,
        [deep],
        one(min_age=deep, tagged=deep, untagged=deep, orphans=deep, max_deletions=deep, dry_run=deep),
        one(tagged=[{"match": deep, "keep": deep, "keep_within": deep, "delete_after": deep, "order": deep}]),
        one(tagged=[{"match": [deep], "keep": 1}]),
        [{"repositories": deep}],
        [{"repositories": [deep], "unknown": deep}],
    ):
        assert outcome(document) > 0


@pytest.mark.parametrize("length", [1_000_000, MAX_DOCUMENT_CHARS + 1])
def test_text_of_a_megabyte_is_refused(length: int) -> None:
    """It is not decoded."""
    assert outcome_of_text("[" + " " * (length - 2) + "]") == "POLICIES: has more than 262,144 characters"


@pytest.mark.parametrize(
    "regex",
    ["x" * 10_000, "(" * 10_000, "[" * 10_000, ".*" * 5000, "a*" * 5000, r"\Q" * 5000, "(a|" * 3000 + ")" * 3000],
    ids=["literals", "groups", "classes", "any", "stars", "quotes", "alternatives"],
)
def test_regex_of_ten_thousand_characters_is_refused(regex: str) -> None:
    """It is not compiled, and the message is short."""
    message = outcome_of_text(json.dumps(one(tagged=[{"match": regex, "keep": 1}])))

    assert message.startswith(
        "POLICIES[0].tagged[0].match: must be a regex of 1 to 1000 characters, or an array of at"
    )
    assert len(message) < 250


def test_number_of_many_digits_is_refused() -> None:
    """Python refuses to convert more than 4,300."""
    assert outcome_of_text(f'[{{"repositories": ["{APPS}"], "max_deletions": -{"9" * 4300}}}]') == (
        "POLICIES[0].max_deletions: must be an integer of at least 1, or null, not a number of many digits"
    )
    assert outcome_of_text(f'[{{"repositories": ["{APPS}"], "max_deletions": {"9" * 4301}}}]').startswith(
        "POLICIES: not a JSON array of policies: "
    )


def filled(part: str, before: str, after: str) -> str:
    """Return a text of the greatest length that is decoded, of as many of one part as it can have."""
    room = MAX_DOCUMENT_CHARS - len(before) - len(after)
    return f"{before}{','.join([part] * (room // (len(part) + 1)))}{after}"


RULES = f'[{{"repositories":["{APPS}"],"tagged":['
KEYS = f'[{{"repositories":["{APPS}"],'
MATCH = f'[{{"repositories":["{APPS}"],"tagged":[{{"keep":1,"match":['


@pytest.mark.parametrize(
    ("part", "before", "after"),
    [
        ("{}", "[", "]"),
        ("{}", RULES, "]}]"),
        ('{"match":"v*","kep":1,"order":0}', RULES, "]}]"),
        ('"("', MATCH, "]}]}]"),
        ('"v*"', MATCH, "]}]}]"),
        (json.dumps("[" * 900), MATCH, "]}]}]"),
        (json.dumps("[" * 899 + "\\"), MATCH, "]}]}]"),
        (json.dumps("[[:a" * 240), MATCH, "]}]}]"),
        (json.dumps("a*" * 490), MATCH, "]}]}]"),
        (json.dumps(r"\Qa\E*" * 160), MATCH, "]}]}]"),
        (json.dumps("(" * 900), MATCH, "]}]}]"),
        ('"a/"', '[{"repositories":[', "]}]"),
        ('"docker.io/*a*/**"', '[{"repositories":[', "]}]"),
        (json.dumps("gcr.io" + "/" * 200 + ":"), '[{"repositories":[', "]}]"),
        ('"keeep":1', KEYS, "}]"),
    ],
)
def test_document_of_many_mistakes_is_refused(part: str, before: str, after: str) -> None:
    """As long as a document may be."""
    message = outcome_of_text(filled(part, before, after))

    assert message
    assert len(message.splitlines()) <= InvalidPolicy.SHOWN_MAX + 1


def test_document_of_many_unknown_keys_is_refused() -> None:
    """The nearest known key is searched for those that are shown."""
    with pytest.raises(InvalidPolicy) as caught:
        policies_from_document(one(untagged={"keep": 1, **{f"kep{number}": 1 for number in range(15_000)}}))

    corrections = [mistake.correction for mistake in caught.value.mistakes]
    assert corrections[:100] == ["did you mean keep?"] * 100
    assert corrections[100:] == ["known are keep, keep_within, delete_after, order"] * 14_900


@pytest.mark.parametrize(
    ("part", "before", "after"),
    [
        (json.dumps("gcr.io/" + "/".join(["*a"] * 80)), '[{"repositories":[', "]}]"),
        (json.dumps("/".join(["**"] * 80)), '[{"repositories":[', "]}]"),
        ('{"match":"x","keep":1}', RULES, "]}]"),
        (json.dumps(".*" * 490 + "(x|.*)?x?"), MATCH, "]}]}]"),
        (json.dumps("[^/]?" * 190 + ".*x?"), MATCH, "]}]}]"),
        (json.dumps("(?:" * 240 + ".*" + ")" * 240), MATCH, "]}]}]"),
    ],
)
def test_document_of_many_valid_parts_is_accepted(part: str, before: str, after: str) -> None:
    """As long as a document may be."""
    assert outcome_of_text(filled(part, before, after)) == ""
