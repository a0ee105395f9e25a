"""What a document of policies is refused for: each refusal's whole message, and all mistakes at once."""

from __future__ import annotations

import json

import pytest

from cleaner.core.errors import InvalidPolicy, Mistake
from cleaner.core.policy_document import MAX_DOCUMENT_CHARS, parse_policies, policies_from_document
from tests.support.policy_documents import APPS, MISTAKES_OF_EVERY_KIND, REFUSED, Refused, globs, one, rule


def refusal(document: object, where: str = "POLICIES") -> InvalidPolicy:
    """Return the refusal of a document."""
    with pytest.raises(InvalidPolicy) as caught:
        policies_from_document(document, where)
    return caught.value


def refusal_of_text(text: str) -> str:
    """Return why the text of a document is refused."""
    with pytest.raises(InvalidPolicy) as caught:
        parse_policies(text)
    return str(caught.value)


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_document_with_one_mistake_is_refused_with_its_message(case: Refused) -> None:
    """It has the policy's position, the rule, the key, what is wrong, and the correction where one is evident."""
    error = refusal(case.document)

    assert str(error) == case.message
    assert len(error.mistakes) == 1


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_text_is_refused_as_its_document_is(case: Refused) -> None:
    """``POLICIES`` is JSON."""
    assert refusal_of_text(json.dumps(case.document)) == case.message


def test_all_mistakes_of_a_document_are_reported_at_once() -> None:
    """An operator corrects them in one pass; an invalid value hides no mistake in another one."""
    assert [
        (mistake.path, mistake.problem.split(":")[0]) for mistake in refusal(MISTAKES_OF_EVERY_KIND).mistakes
    ] == [
        ((0, "repositories", 1), "must be a glob of 1 to 255 characters, not the number 5"),
        ((0, "max_deletions"), "must be an integer of at least 1, or null, not the number 0"),
        ((0, "dry_run"), "must be true or false, not 'no'"),
        ((0, "min_age"), "must be 10m or more, not 1m"),
        ((0, "repositories", 0), "'gcr.io/acme/api"),
        (
            (0, "repositories", 2),
            "'acme/*' has no host; a glob is for HOST/PATH, like us-docker.pkg.dev/acme/apps/**",
        ),
        ((0, "tagged", 0), "unknown key 'oder'"),
        ((0, "tagged", 0, "keep"), 'must be an integer of at least 0 or "all", not the number -1'),
        (
            (0, "tagged", 0, "keep_within"),
            "must be a duration like 90m, 1h30m or 30d, or null, not 'soon'",
        ),
        ((0, "tagged", 0, "match", 1), "must be a regex of 1 to 1000 characters, not null"),
        ((0, "tagged", 0, "match", 0), "'v*' looks like a glob"),
        ((0, "tagged", 0, "match", 2), "'(' is not a regex in RE2's syntax"),
        ((0, "tagged", 1, "match"), "is required"),
        ((0, "tagged", 1, "delete_after"), "has no effect where keep is 0"),
        ((0, "tagged", 1, "delete_after"), "1d must be longer than keep_within, which is 7d"),
        ((0, "tagged", 2), "has no effect"),
        ((0, "tagged", 3), "is never reached, since tagged[2] matches every tag"),
        ((0, "tagged", 3), "must be an object, not the number 7"),
        ((0, "untagged"), "has no effect"),
        ((0, "orphans", "keep"), 'must be "all" or 0, not the number 3'),
        ((1,), "must be an object, not 'x'"),
        ((2, "tagged"), "must be an array of rules, not an object"),
    ]


def test_message_has_one_line_for_each_mistake() -> None:
    """The name of the document is that of its file or setting."""
    error = refusal([{"repositories": [APPS], "dry_run": 1, "max_deletions": 0}], where="policies.yaml")

    assert str(error).splitlines() == [
        "policies.yaml[0].max_deletions: must be an integer of at least 1, or null, not the number 0",
        "policies.yaml[0].dry_run: must be true or false, not the number 1",
    ]
    assert error.where == "policies.yaml"


def test_message_shows_the_first_hundred_mistakes() -> None:
    """The rest is counted; the error has all of them."""
    error = refusal([{"repositories": [APPS], "tagged": [1] * 250}])

    assert len(error.mistakes) == 250
    assert str(error).splitlines()[99:] == [
        "POLICIES[0].tagged[99]: must be an object, not the number 1",
        "POLICIES: 150 more mistakes",
    ]


def test_mistake_has_its_correction_apart() -> None:
    """The command line shows it on its own."""
    assert refusal(globs("gcr.io/acme")).mistakes == (
        Mistake(
            (0, "repositories", 0),
            "'gcr.io/acme' has too few segments for an image's name",
            "write gcr.io/acme/**",
        ),
    )


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("repository", "repositories"),
        ("min-age", "min_age"),
        ("tags", "tagged"),
        ("untaged", "untagged"),
        ("orphan", "orphans"),
        ("max_deletion", "max_deletions"),
        ("dryrun", "dry_run"),
    ],
)
def test_misspelled_key_is_corrected_to_the_nearest(key: str, nearest: str) -> None:
    """A misspelled key must not leave its default in force."""
    assert str(refusal(one(**{key: 1}))) == f"POLICIES[0]: unknown key '{key}'; did you mean {nearest}?"


@pytest.mark.parametrize("key", ["keep", "keep_untagged", "max_age", "delete_tags", "protect_tags", "group_by"])
def test_key_of_another_language_is_unknown(key: str) -> None:
    """Keys of version 1 are not read."""
    assert str(refusal(one(**{key: 1}))).startswith(f"POLICIES[0]: unknown key '{key}'; ")


def test_key_that_is_not_a_string_is_unknown() -> None:
    """A decoded document can have one."""
    assert str(refusal([{"repositories": [APPS], 5: 5}])).startswith(
        "POLICIES[0]: unknown key the number 5; known are "
    )


@pytest.mark.parametrize(
    ("rule_text", "message"),
    [
        ('{"match": "x", "keep": 1, "keep": 1}', "POLICIES[0].tagged[0].keep: occurs twice"),
        (
            '{"match": "x", "keep": 1, "keep": 2, "order": "version", "order": "uploaded", "keep": 3}',
            "POLICIES[0].tagged[0].keep: occurs twice\nPOLICIES[0].tagged[0].order: occurs twice",
        ),
        (
            r'{"match": "x", "keep": 1, "\ud800": 1, "\ud800": 1}',
            r"POLICIES[0].tagged[0]: unknown key '\ud800'; known are keep, keep_within, delete_after, order, match",
        ),
    ],
)
def test_key_that_occurs_twice_is_refused(rule_text: str, message: str) -> None:
    """JSON decoders silently use the last value, which may not be the one that was meant."""
    assert refusal_of_text(f'[{{"repositories": ["{APPS}"], "tagged": [{rule_text}]}}]') == message


@pytest.mark.parametrize("text", ["", " ", "[", "[]]", "\ufeff[]", "{'a': 1}", "[1,]", "nul"])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    """The message has the decoder's reason."""
    message = refusal_of_text(text)

    assert message.startswith("POLICIES: not a JSON array of policies: ")
    assert len(message) > len("POLICIES: not a JSON array of policies: ")


def test_text_that_is_too_long_is_refused() -> None:
    """It is not decoded."""
    spaces = " " * (MAX_DOCUMENT_CHARS - len(json.dumps(one())))

    assert len(parse_policies(json.dumps(one()) + spaces)) == 1
    assert refusal_of_text(json.dumps(one()) + spaces + " ") == "POLICIES: has more than 262,144 characters"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\ud800", r"'\ud800'"),
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
        ("\u202e", r"'\u202e'"),
        ("x" * 61, f"'{'x' * 60}...'"),
        (float("nan"), "the number nan"),
        (-(16**5000), "a number of many digits"),
        ({"x"}, "set"),
    ],
    ids=["surrogate", "control", "direction", "long", "nan", "number", "set"],
)
def test_odd_value_is_shown_in_one_short_line(value: object, shown: str) -> None:
    """It can be printed wherever the log or the terminal is."""
    assert str(refusal(rule(keep=value))).endswith(f", not {shown}")


def test_insecure_host_is_allowed_in_globs() -> None:
    """Only those that are named."""
    document = json.dumps(globs("localhost:5000/**", "localhost:5000/api", "registry.test:80/acme/*"))

    parsed = parse_policies(document, insecure=frozenset({"localhost:5000", "registry.test:80"}))
    assert [glob.text for glob in parsed[0].repositories] == [
        "localhost:5000/**",
        "localhost:5000/api",
        "registry.test:80/acme/*",
    ]
    with pytest.raises(InvalidPolicy) as caught:
        parse_policies(document, insecure=frozenset({"localhost:5000"}))
    assert str(caught.value) == (
        "POLICIES[0].repositories[2]: 'registry.test:80/acme/*' is on the host registry.test:80, which is not allowed"
    )
