"""Policies: every key with its type, default and bounds; globs; durations; patterns in linear time."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from cleaner.core.errors import ConfigurationError
from cleaner.core.policy import Glob, Policy, find_policy, parse_duration, parse_policies, policies_from_document
from cleaner.core.reference import Repository
from tests.support.builders import policy

HOUR = timedelta(hours=1)


def refusal(*policies: object) -> str:
    """Return why the document of these policies is refused."""
    with pytest.raises(ConfigurationError) as caught:
        parse_policies(json.dumps(policies))
    return str(caught.value)


def refusal_of(**keys: object) -> str:
    return refusal({"repositories": ["**"], **keys})


# --- a whole document


def test_policy_with_only_repositories_has_every_default() -> None:
    """The README's defaults."""
    parsed = policy()

    assert (parsed.keep, parsed.keep_untagged, parsed.min_age, parsed.max_age) == (5, 5, HOUR, None)
    assert (parsed.delete_tags, parsed.protect_tags, parsed.group_by) == ((), (), None)
    assert (parsed.max_deletions, parsed.dry_run) == (None, False)


def test_every_key_is_read() -> None:
    """Each key sets its own field."""
    parsed = parse_policies(
        json.dumps(
            [
                {
                    "repositories": ["gcr.io/acme/*", "gcr.io/other/api"],
                    "keep": 10,
                    "keep_untagged": 0,
                    "min_age": "2d",
                    "max_age": "30d",
                    "delete_tags": ["ci-.*", "pr-.*"],
                    "protect_tags": ["v.*"],
                    "group_by": "(.+)-[0-9a-f]{7}",
                    "max_deletions": 100,
                    "dry_run": True,
                }
            ]
        )
    )[0]

    assert [glob.text for glob in parsed.repositories] == ["gcr.io/acme/*", "gcr.io/other/api"]
    assert (parsed.keep, parsed.keep_untagged) == (10, 0)
    assert (parsed.min_age, parsed.max_age) == (timedelta(days=2), timedelta(days=30))
    assert [pattern.pattern for pattern in parsed.delete_tags] == ["ci-.*", "pr-.*"]
    assert [pattern.pattern for pattern in parsed.protect_tags] == ["v.*"]
    assert parsed.group_by is not None
    assert parsed.group_by.pattern == "(.+)-[0-9a-f]{7}"
    assert (parsed.max_deletions, parsed.dry_run) == (100, True)


def test_keep_untagged_defaults_to_keep() -> None:
    """Its default is the keep of the policy, not the default of keep."""
    assert policy(keep=9).keep_untagged == 9
    assert policy(keep=9, keep_untagged=2).keep_untagged == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "[",
        "{}",
        "null",
        "5",
        '"x"',
        "[]",
        "[]]",
        '{"repositories": ["**"]}',
        "\ufeff[]",
        "[" * 100_000,
        '[{"repositories": ["**"], "keep": ' + "9" * 5000 + "}]",
    ],
)
def test_document_that_is_not_an_array_of_policies_is_refused(text: str) -> None:
    """An empty array as well: a function without a policy would silently do nothing."""
    with pytest.raises(ConfigurationError, match="POLICIES"):
        parse_policies(text)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [(None, "null"), ([], "an array"), ("x", "a string"), (3, "the number 3"), (True, "a boolean")],
)
def test_policy_that_is_not_an_object_is_refused(entry: object, kind: str) -> None:
    """The message has its position and its type."""
    assert refusal({"repositories": ["**"]}, entry) == f"POLICIES[1]: must be an object, not {kind}"


def test_unknown_key_is_refused_by_name() -> None:
    """A misspelled key must not leave its default in force; the message names the known ones."""
    message = refusal({"repositories": ["**"]}, {"repositories": ["**"], "keeep": 3})

    assert message.startswith("POLICIES[1]: unknown key 'keeep'")
    assert all(key in message for key in ("repositories", "keep_untagged", "protect_tags", "dry_run"))


def test_key_that_is_not_a_string_is_refused() -> None:
    """YAML can have such keys."""
    with pytest.raises(ConfigurationError, match=r"POLICIES\[0\]: unknown key 5"):
        policies_from_document([{"repositories": ["**"], 5: 5}])


def test_key_that_occurs_twice_is_refused() -> None:
    """JSON decoders silently use the last one, which may not be the one that was meant."""
    with pytest.raises(ConfigurationError, match=r"^POLICIES\[1\]\.keep: occurs twice$"):
        parse_policies('[{"repositories": ["a/b"]}, {"repositories": ["**"], "keep": 5, "keep": 50}]')


def test_missing_repositories_is_refused() -> None:
    """It is the only required key."""
    assert refusal({"repositories": ["**"]}, {"keep": 3}) == "POLICIES[1].repositories: required"


BAD_VALUES: dict[str, list[Any]] = {
    "repositories": [None, "gcr.io/acme/*", [], [1], [None], [["**"]], [True], {"a": 1}],
    "keep": [None, 0, -1, 1.0, 1.5, "5", True, [], {}, float("nan")],
    "keep_untagged": [None, -1, 0.0, "0", False, []],
    "min_age": [None, 0, 600, 3600.0, "", "10", "9m", "599s", "0s", "1y", "1H", "-1h", " 1h", "1h ", "1h\n", "1.5h"],
    "max_age": [0, 30, "", "0s", "0d0h", "30", "d", "1mo", "\u0661d", True, []],
    "delete_tags": [None, "x", [None], [1], ["("], [["x"]], {}],
    "protect_tags": [None, "v.*", [True], ["["]],
    "group_by": [".+", "(?:.+)", "", "(", 5, True, [], ["(.+)"]],
    "max_deletions": [0, -1, 1.0, "1", True, False, []],
    "dry_run": [None, 0, 1, "true", "", []],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD_VALUES.items() for value in values])
def test_invalid_value_is_refused(key: str, value: object) -> None:
    """The message has the policy's position, the key and the problem."""
    message = refusal({"repositories": ["**"]}, {"repositories": ["**"], key: value})

    assert message.startswith(f"POLICIES[1].{key}: ")
    assert len(message) > len(f"POLICIES[1].{key}: ")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"keep": 0}, "POLICIES[0].keep: must be an integer of at least 1, not the number 0"),
        ({"keep_untagged": True}, "POLICIES[0].keep_untagged: must be an integer of at least 0, not a boolean"),
        ({"min_age": "9m"}, "POLICIES[0].min_age: must be 10m or longer, not 9m"),
        ({"max_age": 5}, "POLICIES[0].max_age: must be a duration like 90m, 1h30m or 30d, not the number 5"),
        ({"delete_tags": "x"}, "POLICIES[0].delete_tags: must be an array of strings, not a string"),
        ({"protect_tags": [{}]}, "POLICIES[0].protect_tags: must be an array of strings, but holds an object"),
        ({"group_by": ".+"}, "POLICIES[0].group_by: must have at least one group in parentheses: '.+'"),
        ({"group_by": []}, "POLICIES[0].group_by: must be a regex or null, not an array"),
        ({"dry_run": "true"}, "POLICIES[0].dry_run: must be true or false, not a string"),
        ({"repositories": []}, "POLICIES[0].repositories: must have at least one glob"),
    ],
)
def test_refusal_says_what_is_wrong(keys: dict[str, object], message: str) -> None:
    """The operator reads the message in the log of a deployment that failed."""
    assert refusal_of(**keys) == message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("keep", 1, 1),
        ("keep_untagged", 0, 0),
        ("min_age", "10m", timedelta(minutes=10)),
        ("min_age", "600s", timedelta(minutes=10)),
        ("max_age", "1s", timedelta(seconds=1)),
        ("max_age", None, None),
        ("group_by", None, None),
        ("max_deletions", 1, 1),
        ("max_deletions", None, None),
        ("dry_run", False, False),
        ("delete_tags", [], ()),
    ],
)
def test_value_at_its_bound_is_accepted(key: str, value: object, expected: object) -> None:
    """Bounds are inclusive; null is a value where the README says so."""
    assert getattr(policy(**{key: value}), key) == expected


# --- durations


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90m", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("30m1h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("1w1d1h1m1s", timedelta(weeks=1, days=1, hours=1, minutes=1, seconds=1)),
        ("1h1h", timedelta(hours=2)),
        ("007s", timedelta(seconds=7)),
        ("0s", timedelta()),
    ],
)
def test_duration_is_a_sum(text: str, duration: timedelta) -> None:
    """One or more numbers with a unit each, in any order."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", "1", "h", "1 h", "1h 30m", "1h30", "-1h", "+1h", "1.5h", "1y", "1M", "1ms", "\u0661h", "1h\n", "PT1H"],
)
def test_other_text_is_not_a_duration(text: str) -> None:
    """The text is matched as a whole, and only ASCII digits count."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999999999w", "999999999d1d", "9" * 5000 + "s", "9" * 400 + "w"])
def test_duration_that_is_too_long_is_refused(text: str) -> None:
    """Python's timedelta cannot hold it; the message is short."""
    with pytest.raises(ValueError, match="duration is too long") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 100
    assert refusal_of(max_age=text).startswith("POLICIES[0].max_age: duration is too long")


# --- globs


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("gcr.io/acme/api", "gcr.io/acme/api", True),
        ("gcr.io/acme/api", "gcr.io/acme/api2", False),
        ("gcr.io/acme/api", "gcr.io/acme/api/sub", False),
        ("gcr.io/acme/api", "us.gcr.io/acme/api", False),
        ("gcr.io/acme/api", "gcrxio/acme/api", False),
        ("gcr.io/acme/*", "gcr.io/acme/api", True),
        ("gcr.io/acme/*", "gcr.io/acme", False),
        ("gcr.io/acme/*", "gcr.io/acme/team/api", False),
        ("gcr.io/*/api", "gcr.io/acme/api", True),
        ("*/acme/api", "us-docker.pkg.dev/acme/api", True),
        ("*.gcr.io/acme/api", "eu.gcr.io/acme/api", True),
        ("*.gcr.io/acme/api", "gcr.io/acme/api", False),
        ("gcr.io/acme/api-*", "gcr.io/acme/api-web", True),
        ("gcr.io/acme/api-*", "gcr.io/acme/api", False),
        ("gcr.io/acme/*api*", "gcr.io/acme/api", True),
        ("gcr.io/acme/a*i", "gcr.io/acme/a.p_i", True),
        ("gcr.io/acme/a*b*c", "gcr.io/acme/axxbyyc", True),
        ("gcr.io/acme/a*b*c", "gcr.io/acme/axxcyyb", False),
        ("*", "gcr.io/acme", False),
        ("**", "gcr.io/acme/team/api", True),
        ("gcr.io/**", "gcr.io/acme/team/api", True),
        ("gcr.io/**", "gcr.io/acme", True),
        ("gcr.io/**", "gcr.io", False),
        ("gcr.io/acme/**", "gcr.io/acme", False),
        ("gcr.io/acme/**/api", "gcr.io/acme/team/api", True),
        ("gcr.io/acme/**/api", "gcr.io/acme/a/b/c/api", True),
        ("gcr.io/acme/**/api", "gcr.io/acme/api", False),
        ("gcr.io/**/**", "gcr.io/acme", False),
        ("gcr.io/**/**", "gcr.io/acme/api", True),
        ("**/api", "gcr.io/acme/api", True),
        ("**/api", "gcr.io/acme/api/sub", False),
        ("**/api/**", "gcr.io/acme/api/sub", True),
        ("localhost:5000/**", "localhost:5000/acme/api", True),
        ("localhost:*/**", "localhost:5000/acme/api", True),
    ],
)
def test_glob_matches_whole_names(glob: str, name: str, matches: bool) -> None:
    """``*`` matches within one segment, ``**`` one or more whole segments."""
    assert Glob.parse(glob).matches(name) is matches


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("**", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("us-docker.pkg.dev/acme/**", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("us-docker.pkg.dev/**/function", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("us-docker.pkg.dev/*/*/*", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("us-docker.pkg.dev/acme/gcf-*/function", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("us-docker.pkg.dev/acme/*gcf-artifacts*/**", "us-docker.pkg.dev/acme/gcf-artifacts/function", False),
        ("gcr.io/acme/*", "gcr.io/acme/gcf-artifacts", False),
        ("gcr.io/**", "gcr.io/gcf-artifacts/acme", False),
        ("us-docker.pkg.dev/acme/gcf-artifacts/**", "us-docker.pkg.dev/acme/gcf-artifacts/function", True),
        ("us-docker.pkg.dev/*/gcf-artifacts/*", "us-docker.pkg.dev/acme/gcf-artifacts/function", True),
        ("**/gcf-artifacts/**", "us-docker.pkg.dev/acme/gcf-artifacts/function", True),
        ("us-docker.pkg.dev/acme/**", "us-docker.pkg.dev/acme/gcf-artifacts2/function", True),
        ("us-docker.pkg.dev/acme/*/*", "us-docker.pkg.dev/acme/my-gcf-artifacts/function", True),
    ],
)
def test_wildcard_never_matches_the_functions_own_images(glob: str, name: str, matches: bool) -> None:
    """The segment gcf-artifacts has to be named literally."""
    assert Glob.parse(glob).matches(name) is matches


@pytest.mark.parametrize(
    "glob",
    [
        "",
        "/",
        "gcr.io/",
        "/acme",
        "gcr.io//api",
        "gcr.io/acme/a**",
        "gcr.io/acme/**a",
        "gcr.io/acme/***",
        "gcr.io/acme/[ab]",
        "gcr.io/acme/a?",
        "gcr.io/acme/{a,b}",
        "gcr.io/acme/Api",
        "https://gcr.io/acme",
        "gcr.io/acme/a\n",
        "gcr.io/acme/api@sha256",
        "gcr.io/acme/\u0430pi",
        "!gcr.io/acme",
    ],
)
def test_invalid_glob_is_refused(glob: str) -> None:
    """A pattern that can never match, or that means something else in other tools, is a mistake."""
    assert refusal_of(repositories=["gcr.io/acme/*", glob]).startswith("POLICIES[0].repositories: invalid glob: ")


def test_first_policy_with_a_matching_pattern_decides() -> None:
    """One matching pattern is enough; later policies are ignored; without a match there is no policy."""
    policies = policies_from_document(
        [
            {"repositories": ["gcr.io/acme/api", "gcr.io/acme/web"], "keep": 1},
            {"repositories": ["gcr.io/acme/*"], "keep": 2},
            {"repositories": ["**"], "keep": 3},
        ]
    )

    def keep(host: str, path: str) -> int | None:
        found = find_policy(policies, Repository(host, path))
        return found.keep if found else None

    assert keep("gcr.io", "acme/api") == 1
    assert keep("gcr.io", "acme/web") == 1
    assert keep("gcr.io", "acme/other") == 2
    assert keep("eu.gcr.io", "acme/api") == 3
    assert keep("us-docker.pkg.dev", "acme/gcf-artifacts/function") is None


# --- patterns


@pytest.mark.parametrize("key", ["delete_tags", "protect_tags", "group_by"])
@pytest.mark.parametrize(
    "regex",
    [
        "(",
        ")",
        "[",
        "*",
        "a**",
        r"(a)\1",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?>a)",
        "a++",
        r"(?P=x)",
        "(?#x)",
        "\\",
    ],
)
def test_regex_outside_re2_is_refused(key: str, regex: str) -> None:
    """Back-references and look-around need a backtracking engine; the message has the pattern."""
    message = refusal_of(**{key: regex if key == "group_by" else ["ok", regex]})

    assert message.startswith(f"POLICIES[0].{key}: invalid regex {regex!r}: ")
    assert not message.endswith(": ")


def test_regex_with_a_lone_surrogate_is_refused() -> None:
    """JSON can encode it, UTF-8 cannot."""
    with pytest.raises(ConfigurationError, match=r"POLICIES\[0\]\.delete_tags: invalid regex"):
        parse_policies(r'[{"repositories": ["**"], "delete_tags": ["\ud800"]}]')


def test_oversized_regex_is_refused() -> None:
    """RE2 limits the memory of a pattern."""
    assert "POLICIES[0].delete_tags: invalid regex" in refusal_of(delete_tags=["((((a{30}){30}){30}){30}){30}"])


def test_invalid_regex_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """By default RE2 writes to stderr as well, which is not in the log's format."""
    refusal_of(delete_tags=["("])

    assert capfd.readouterr() == ("", "")


def matching(tag: str, parsed: Policy) -> bool:
    return any(pattern.fullmatch(tag) for pattern in parsed.delete_tags)


@pytest.mark.parametrize(
    ("regex", "tag", "matches"),
    [
        ("ci", "ci", True),
        ("ci", "ci-1", False),
        ("ci", "my-ci", False),
        ("a|b", "b", True),
        ("a|ab", "ab", True),
        ("^ci-.*$", "ci-1", True),
        ("", "", True),
        ("", "x", False),
        ("v1.2", "v1x2", True),
        ("(?i)ci", "CI", True),
        (r"[0-9]+\.[0-9]+", "1.2", True),
        (r"\d+", "\u0661", False),
        ("(?P<name>ci)", "ci", True),
    ],
)
def test_regex_matches_the_whole_tag(regex: str, tag: str, matches: bool) -> None:
    """A match of a part of a tag is not enough."""
    assert matching(tag, policy(delete_tags=[regex])) is matches


@pytest.mark.parametrize("regex", ["(a+)+b", "(a|a)*b", "(a*)*b", "(a|aa)+b", ".*.*.*.*=.*b", "(.*a){20}b"])
def test_catastrophic_regex_is_matched_fast(regex: str) -> None:
    """A backtracking engine would take years."""
    assert not matching("a" * 128, policy(delete_tags=[regex]))


def test_glob_with_many_wildcards_is_matched_fast() -> None:
    """Anybody who may publish chooses the names; trying every way to split one would take years."""
    name = "gcr.io/" + "/".join(["a"] * 124)
    glob = Glob.parse("/".join(["**"] * 60) + "/b")
    stars = Glob.parse("gcr.io/" + "*a" * 60 + "*b")

    assert not glob.matches(name)
    assert not stars.matches("gcr.io/" + "a" * 240)
