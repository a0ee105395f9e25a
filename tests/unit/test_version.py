"""The order of tags under ``order: version``."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, strategies as st

from cleaner.core.version import version_key

# Lower, higher.
PAIRS = [
    # Runs of digits are numbers.
    ("1.4.9", "1.4.10"),
    ("v1.9.0", "v1.10.0"),
    ("2", "10"),
    ("1.09", "1.10"),
    ("build-9", "build-10"),
    ("prod-20260918", "prod-20260919"),
    ("1.0-9", "1.0-10"),
    ("9" * 60, "1" + "0" * 60),
    # Other characters are text.
    ("alpha", "beta"),
    ("1.0a", "1.0b"),
    ("a", "ab"),
    ("A", "a"),
    ("Z", "a"),
    ("1.0-alpha", "1.0-beta"),
    ("1.0-alpha.2", "1.0-beta.1"),
    ("1.0-rc.1", "1.0-rc.2"),
    ("1.0-rc.9", "1.0-rc.10"),
    # A number is lower than text.
    ("1", "a"),
    ("1.2", "1.x"),
    ("v9", "va"),
    ("1.9", "1.latest"),
    ("1.1", "1.."),
    ("a1", "ab1"),
    ("9", "_"),
    # A tag that continues with - where the other ends is lower; one that continues otherwise is higher.
    ("1.5.0-rc.1", "1.5.0"),
    ("1.5.0-1", "1.5.0"),
    ("1.5-", "1.5"),
    ("v1.5.0-alpine", "v1.5.0"),
    ("1.5.0", "1.5.0.1"),
    ("1.5", "1.5.0"),
    ("v", "v1"),
    ("1.", "1.5"),
    ("1.5", "1.5rc1"),
    ("1.5", "1.5_1"),
    ("1.5.0--", "1.5.0-"),
    # So - is the lowest of all, also where the other tag has a number or text.
    ("1.5-rc", "1.5.0"),
    ("1.5.0-rc", "1.5.01-rc"),
    ("a-1", "a1"),
    ("a-b", "a.b"),
    ("a-z", "aa"),
    ("1-9", "10"),
]
EQUAL = [("1.0", "1.0"), ("1.01", "1.1"), ("v007", "v7"), ("0", "000"), ("1.0-rc.01", "1.0-rc.1")]

# Higher and higher, as a team might push them.
RELEASES = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-rc.1",
    "1.0.1",
    "1.0.2",
    "1.0.10",
    "1.2.0",
    "1.10.0",
    "2.0.0-rc.1",
    "2.0.0",
    "10.0.0",
]

TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,11}", fullmatch=True)
LIKE_VERSIONS = st.lists(st.sampled_from(["0", "1", "01", "10", ".", "-", "_", "rc", "a"]), min_size=1).map("".join)


@pytest.mark.parametrize(("lower", "higher"), PAIRS)
def test_version_is_lower_than_the_other(lower: str, higher: str) -> None:
    """Numbers by their value, other characters by their code points, and ``-`` before the end of a tag."""
    assert version_key(lower) < version_key(higher)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_versions_that_differ_in_leading_zeros_are_equal(one: str, other: str) -> None:
    """The newer upload then comes first."""
    assert version_key(one) == version_key(other)


@pytest.mark.parametrize(("lower", "higher"), [*pairwise(RELEASES)])
def test_release_is_higher_than_the_one_before(lower: str, higher: str) -> None:
    """Candidates are lower than their release."""
    assert version_key(lower) < version_key(higher)


@given(st.permutations(RELEASES))
def test_releases_in_any_order_are_sorted_alike(tags: list[str]) -> None:
    """The order of the listing does not matter."""
    assert sorted(tags, key=version_key) == RELEASES


@given(st.lists(TAGS | LIKE_VERSIONS, max_size=12), st.randoms())
def test_permutations_are_sorted_to_the_same_versions(tags: list[str], random: Random) -> None:
    """Any two tags can be compared."""
    shuffled = [*tags]
    random.shuffle(shuffled)

    assert [version_key(tag) for tag in sorted(tags, key=version_key)] == [
        version_key(tag) for tag in sorted(shuffled, key=version_key)
    ]


@given(LIKE_VERSIONS | TAGS, LIKE_VERSIONS | TAGS)
def test_tag_that_continues_with_a_hyphen_is_lower(tag: str, rest: str) -> None:
    """And one that continues with anything else is higher, unless that prolongs its last number."""
    assert version_key(f"{tag}-{rest}") < version_key(tag)
    assert version_key(f"{tag}.{rest}") > version_key(tag)


@given(st.text(alphabet="abz._", max_size=3), st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_in_the_same_place_decide_by_their_value(text: str, one: int, other: int) -> None:
    """Whatever precedes and follows them alike."""
    keys = version_key(f"{text}{one}.x"), version_key(f"{text}{other}.x")

    assert (keys[0] < keys[1]) == (one < other)
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize("tag", ["\u00b2", "\u0661", "v\u0661.\u00b2", "\ud800", "", "\n"])
def test_characters_that_no_tag_has_have_a_key(tag: str) -> None:
    """Digits other than ASCII's are text."""
    assert version_key(tag)
