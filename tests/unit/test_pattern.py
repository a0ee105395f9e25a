"""Regexes for tags: what matches, which look like globs, match every tag, or have white space."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cleaner.core.pattern import (
    capturing_groups,
    compile_pattern,
    has_white_space,
    matches_every_tag,
    without_glob_stars,
)

# Not all are valid.
PARTS = [
    "a",
    "b",
    "1",
    "-",
    "*",
    "*",
    ".",
    ".*",
    ".+",
    "?",
    "+",
    "|",
    "(",
    ")",
    "(?:",
    "(?i)",
    "^",
    "$",
    "[ab]",
    "[^/]",
    "{2}",
]
ESCAPES = [r"\w", r"\d", r"\b", r"\.", r"\*", r"\x61", r"\Qa\E", r"\Qab\E", r"\Q", r"\E", "[", "]", "\\"]
REGEXES = st.lists(st.sampled_from(PARTS) | st.sampled_from(PARTS + ESCAPES), max_size=9).map("".join)


@pytest.mark.parametrize(
    ("regex", "tag", "matches"),
    [
        ("ci", "ci", True),
        ("ci", "ci-1", False),
        ("ci", "my-ci", False),
        ("a|b", "b", True),
        ("a|ab", "ab", True),
        ("^ci-.*$", "ci-1", True),
        ("v1.2", "v1x2", True),
        ("(?i)ci", "CI", True),
        (r"[0-9]+\.[0-9]+", "1.2", True),
        (r"[0-9]+\.[0-9]+", "1x2", False),
        (r"\d+", "\u0661", False),
        ("(?P<name>ci)", "ci", True),
        (r"\Qv1.2\E", "v1.2", True),
        (r"\Qv1.2\E", "v1x2", False),
    ],
)
def test_regex_matches_the_whole_tag(regex: str, tag: str, matches: bool) -> None:
    """A match of a part of a tag is not enough."""
    assert (compile_pattern(regex).fullmatch(tag) is not None) is matches


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
        "(?P=x)",
        "(?#x)",
        "\\",
        r"\E",
        "a{1001}",
        r"\pL{999}",
        "\ud800",
    ],
)
def test_regex_outside_re2_is_refused(regex: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Back-references and look-around need a backtracking engine; the error has a reason, and RE2 writes nothing."""
    with pytest.raises(ValueError, match=r".") as caught:
        compile_pattern(regex)

    assert not isinstance(caught.value, UnicodeEncodeError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("regex", ["(a+)+b", "(a|a)*b", "(a*)*b", "(a|aa)+b", ".*.*.*.*=.*b", "(.*a){20}b"])
def test_catastrophic_regex_is_matched_fast(regex: str) -> None:
    """A backtracking engine would take years."""
    assert not compile_pattern(regex).fullmatch("a" * 128)


# --- regexes that look like globs


@pytest.mark.parametrize(
    ("regex", "as_glob", "as_regex"),
    [
        # Behind a letter, a digit, - or _.
        ("v*", "v.*", "(?:v)*"),
        ("V*", "V.*", "(?:V)*"),
        ("v1*", "v1.*", "v(?:1)*"),
        ("main-*", "main-.*", "main(?:-)*"),
        ("main_*", "main_.*", "main(?:_)*"),
        ("a*b*", "a.*b.*", "(?:a)*(?:b)*"),
        ("v*.*", "v.*.*", "(?:v)*.*"),
        ("*", ".*", ""),
        ("*-rc", ".*-rc", ""),
        ("*v*", ".*v.*", ""),
        ("*.*", ".*.*", ""),
        # Behind an escaped character.
        (r"v1\.*", r"v1\..*", r"v1(?:\.)*"),
        (r"v1\-*", r"v1\-.*", r"v1(?:\-)*"),
        (r"v1\_*", r"v1\_.*", r"v1(?:\_)*"),
        (r"\\*", r"\\.*", r"(?:\\)*"),
        (r"\**", r"\*.*", r"(?:\*)*"),
        (r"\x76*", r"\x76.*", r"(?:\x76)*"),
        (r"\x{76}*", r"\x{76}.*", r"(?:\x{76})*"),
        (r"\166*", r"\166.*", r"(?:\166)*"),
        (r"\Qv\E*", r"\Qv\E.*", r"(?:\Qv\E)*"),
        # The star repeats only the last character.
        (r"\Qv1.\E*", r"\Qv1.\E.*", ""),
        # At the beginning of a part.
        ("^*-rc", "^.*-rc", ""),
        ("a|*b", "a|.*b", ""),
        ("(*)-rc", "(.*)-rc", ""),
        ("(?:*|x)", "(?:.*|x)", ""),
        ("(?i)*rc", "(?i).*rc", ""),
        ("a*|*b", "a.*|.*b", ""),
        # Within groups, alternatives and behind flags.
        ("(?i)v*", "(?i)v.*", "(?i)(?:v)*"),
        ("v*|x", "v.*|x", "(?:v)*|x"),
        ("x|v*", "x|v.*", "x|(?:v)*"),
        ("(v*)", "(v.*)", "((?:v)*)"),
        ("(?:v*)", "(?:v.*)", "(?:(?:v)*)"),
        ("((a|b*)c)", "((a|b.*)c)", "((a|(?:b)*)c)"),
        ("(?P<x>v*)", "(?P<x>v.*)", "(?P<x>(?:v)*)"),
        ("^v*$", "^v.*$", "^(?:v)*$"),
        ("[ab]c*", "[ab]c.*", "[ab](?:c)*"),
        ("a{2}b*", "a{2}b.*", "a{2}(?:b)*"),
        # Several stars, and what stands behind them.
        ("v**", "v.*", "(?:v)*"),
        ("v***x", "v.*x", "(?:v)*x"),
        ("**", ".*", ""),
        ("**/v1", ".*/v1", ""),
        ("v*?", "v.*?", "(?:v)*?"),
    ],
)
def test_regex_that_looks_like_a_glob_is_corrected(regex: str, as_glob: str, as_regex: str) -> None:
    """The first is what a glob would mean, the second what the regex means, where that is evident."""
    assert without_glob_stars(regex) == (as_glob, as_regex)


@pytest.mark.parametrize(
    "regex",
    [
        "v.*",
        ".*",
        ".*.*",
        "^.*$",
        "v.*|.*-rc",
        "(v)*",
        "(?:v)*",
        "(?:v1)*",
        "[v]*",
        "[a-z]*",
        "[0-9]*-[a-f]*",
        "v[0-9]+",
        "[*]",
        "[v*]",
        "[]*]x",
        "[^]*]",
        "[^v*]",
        "[[:alpha:]*]",
        "[[:alpha:]]*",
        "[[:^alpha:]v*]",
        r"[\]v*]",
        r"[v\\*]",
        r"v\*",
        r"\*",
        r"\d*",
        r"\w*",
        r"\S*",
        r"\pN*",
        r"\p{Greek}*",
        r"\PN*",
        r"\Qv*\E",
        r"\Qv*",
        r"\Qv*\E.*",
        "v{0,}",
        "v+",
        "v?",
        "v.*?",
        "",
    ],
)
def test_other_regex_does_not_look_like_a_glob(regex: str) -> None:
    """The star repeats any character, a class or a group, or is quoted or in a class."""
    assert without_glob_stars(regex) is None


@given(REGEXES)
def test_corrected_regex_no_longer_looks_like_a_glob(regex: str) -> None:
    """A correction can be used as it is."""
    for correction in without_glob_stars(regex) or ():
        assert without_glob_stars(correction) is None


@given(REGEXES)
def test_second_correction_means_what_the_regex_means(regex: str) -> None:
    """Where both are valid, they match the same tags."""
    corrections = without_glob_stars(regex)
    if not corrections or not corrections[1]:
        return
    try:
        patterns = [compile_pattern(one) for one in (regex, corrections[1])]
    except ValueError:
        return
    for tag in ("", "a", "b", "aa", "ab", "ba", "aab", "1", "a1", "-", "a-", "x", "aQ", "E"):
        assert (patterns[0].fullmatch(tag) is None) == (patterns[1].fullmatch(tag) is None)


# --- regexes for every tag


@pytest.mark.parametrize(
    "regex",
    [
        ".*",
        ".+",
        ".*?",
        ".+?",
        ".*.*",
        ".+.*",
        "^.*$",
        "^.*",
        ".*$",
        "(.*)",
        "(.+)",
        "(?:.*)",
        "(?:.+)",
        "((.*))",
        "(((((((.*)))))))",
        "^(.*)$",
        "(^.*$)",
        "(?P<all>.*)",
        "(?<all>.*)",
        "(?s).*",
        "(?i).+",
        "(?s:.*)",
    ],
)
def test_regex_that_matches_every_tag_is_known(regex: str) -> None:
    """Also in groups, and between anchors."""
    pattern = compile_pattern(regex)

    assert matches_every_tag(pattern)
    assert all(pattern.fullmatch(tag) for tag in ("a", "_", "9", "a.b-c_D", "x" * 128))


@pytest.mark.parametrize(
    "regex",
    [
        "v.*",
        ".*v",
        ".*-.*",
        ".",
        ".?",
        "..+",
        ".+.+",
        "(.+)(.+)",
        "(.*)-(.*)",
        "(x|.*)v",
        "(a)|(b)",
        "(a|b).*",
        "(x|y).*(z|.*)v",
        "[a-z]+",
        r"\w+",
        r"\w*",
        r"[\w.]+",
        "[^v].*",
        "[^v]*",
        "[^p].*|p[^r].*|pr[^o].*",
        r"\.*",
        r"\Q.*\E",
        r".*\Qx\E",
        r"x\Q|.*",
        "[.*]",
        "[|.*|]+",
        r"\|.*",
        r".*\b",
        r"\B.*",
        r"\d*",
        "",
        "x|",
        "(?i)",
        "()",
        "$.*",
        ".*^",
        ".{1,3}",
        "(.+.)*",
        "(.+.)+",
        r"\(.*",
        r".*\)",
        r"(\.*)",
        r"\Q\E.*",
        r"\Q\E",
        r".*\Q\E",
        # These match every tag, and do not show it at once.
        ".*|x",
        "[^/]*",
        r"\S+",
        "v?.*",
        "(.*)?",
    ],
)
def test_other_regex_is_not_taken_for_one_that_matches_every_tag(regex: str) -> None:
    """A rule after it can be reached, or it is not evident that it cannot."""
    assert not matches_every_tag(compile_pattern(regex))


@given(REGEXES, st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True))
def test_what_is_said_to_match_every_tag_does(regex: str, tag: str) -> None:
    """A rule that can be reached is never refused."""
    try:
        pattern = compile_pattern(regex)
    except ValueError:
        return
    if matches_every_tag(pattern):
        assert pattern.fullmatch(tag)


# --- white space and control characters


@pytest.mark.parametrize("char", [*" \t\n\r\f\v\b\0\x1b\x7f\x85\xa0\u2003\u2028\u3000"])
def test_white_space_in_a_regex_is_found(char: str) -> None:
    """Wherever it stands: no tag has any."""
    for regex in (char, f"a|{char}b", f"a{char}", f"[{char}]", f"\\{char}"):
        assert has_white_space(regex)


@pytest.mark.parametrize("regex", [r"\s", r"\t", r"\x20", r"[^\s]+", r"\bv1\b", "v1", "\u00e9", "[[:space:]]"])
def test_escape_for_white_space_is_none(regex: str) -> None:
    """What is written with a backslash is no mistake of YAML's."""
    assert not has_white_space(regex)


@pytest.mark.parametrize(
    ("regex", "groups"),
    [
        ("v.*", []),
        ("(?:a|b)-.*", []),
        ("(main|pr-[0-9]+)-(.*)", [("(main|pr-[0-9]+)", False), ("(.*)", False)]),
        ("(?P<branch>[(]a)-x", [("(?P<branch>[(]a)", False)]),
        ("(a)*-x", [("(a)", True)]),
        ("(a)+(b)?(c){1}", [("(a)", True), ("(b)", False), ("(c)", False)]),
        ("(a){2}(b){0,1}(c){1,}(d){0,3}", [("(a)", True), ("(b)", False), ("(c)", True), ("(d)", True)]),
        ("(?:(a)-((b)c))+(d)", [("(a)", True), ("((b)c)", True), ("(b)", True), ("(d)", False)]),
        (r"\((a)\)*(?i)(b)", [("(a)", False), ("(b)", False)]),
    ],
)
def test_capturing_groups(regex: str, groups: list[tuple[str, bool]]) -> None:
    """Their texts, and whether a repetition is behind them or behind a group that they are in."""
    found = [(group.text, group.is_repeated) for group in capturing_groups(regex)]

    assert found == groups
    assert compile_pattern(regex).groups == len(groups)
