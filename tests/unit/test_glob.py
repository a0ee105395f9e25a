"""Globs for names of repositories: what they match, and which are refused."""

from __future__ import annotations

import pytest

from cleaner.core.glob import Glob, InvalidGlob
from cleaner.core.messages import quote

INSECURE = frozenset({"localhost:5000", "registry.test:80"})
FUNCTION = "us-docker.pkg.dev/acme/gcf-artifacts/function"


def matches(glob: str, name: str) -> bool:
    """Return whether a glob matches a name."""
    return Glob.parse(glob, INSECURE).matches(name)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("gcr.io/acme/*", "gcr.io/acme", True),
        ("gcr.io/acme/*", "gcr.io", True),
        ("gcr.io/acme/*", "gcr.io/acme/api", False),
        ("gcr.io/acme/**", "gcr.io/acme/api/web", True),
        ("gcr.io/acme/**/x", "gcr.io/acme/api", True),
        ("gcr.io/acme/api", "gcr.io/acme/ap", False),
        ("gcr.io/acme/api", "gcr.io/acme/api", False),
        ("**", "localhost:5000/acme", True),
        ("us.gcr.io/**", "gcr.io/acme", False),
        ("**", "us-docker.pkg.dev/acme/gcf-artifacts", False),
    ],
)
def test_what_is_below_a_name(glob: str, name: str, expected: bool) -> None:
    """Whether a longer name can match that begins with this one and a slash."""
    assert Glob.parse(glob, INSECURE).matches_below(name) is expected


def refusal(glob: str) -> tuple[str, str]:
    """Return why a glob is refused, and the correction."""
    with pytest.raises(InvalidGlob) as caught:
        Glob.parse(glob, INSECURE)
    return str(caught.value), caught.value.correction


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("gcr.io/acme/api", "gcr.io/acme/api", True),
        ("gcr.io/acme/api", "gcr.io/acme/api2", False),
        ("gcr.io/acme/api", "gcr.io/acme/api/sub", False),
        ("gcr.io/acme/api", "us.gcr.io/acme/api", False),
        ("gcr.io/acme/a.i", "gcr.io/acme/api", False),
        ("gcr.io/acme/*", "gcr.io/acme/api", True),
        ("gcr.io/acme/*", "gcr.io/acme", False),
        ("gcr.io/acme/*", "gcr.io/acme/team/api", False),
        ("gcr.io/acme/*/*", "gcr.io/acme/team/api", True),
        ("gcr.io/acme/*/*", "gcr.io/acme/api", False),
        ("gcr.io/*/api", "gcr.io/acme/api", True),
        ("*/acme/apps/api", "us-docker.pkg.dev/acme/apps/api", True),
        ("*.gcr.io/acme/api", "eu.gcr.io/acme/api", True),
        ("*.gcr.io/acme/api", "gcr.io/acme/api", False),
        ("*gcr.io/acme/api", "gcr.io/acme/api", True),
        ("gcr.io/acme/api-*", "gcr.io/acme/api-web", True),
        ("gcr.io/acme/api-*", "gcr.io/acme/api-", True),
        ("gcr.io/acme/api-*", "gcr.io/acme/api", False),
        ("gcr.io/acme/*api*", "gcr.io/acme/api", True),
        ("gcr.io/acme/a*i", "gcr.io/acme/a.p_i", True),
        ("gcr.io/acme/a.*i", "gcr.io/acme/abpi", False),
        ("gcr.io/acme/a-*_b.*", "gcr.io/acme/a-x_b.y", True),
        ("gcr.io/acme/a*b*c", "gcr.io/acme/axxbyyc", True),
        ("gcr.io/acme/a*b*c", "gcr.io/acme/axxcyyb", False),
        ("**", "gcr.io/acme/team/api", True),
        ("**", "gcr.io", True),
        ("gcr.io/**", "gcr.io/acme/team/api", True),
        ("gcr.io/**", "gcr.io/acme", True),
        ("gcr.io/**", "gcr.io", False),
        ("gcr.io/acme/**", "gcr.io/acme", False),
        ("gcr.io/acme/**/api", "gcr.io/acme/team/api", True),
        ("gcr.io/acme/**/api", "gcr.io/acme/a/b/c/api", True),
        ("gcr.io/acme/**/api", "gcr.io/acme/api", False),
        ("gcr.io/acme/**/api", "gcr.io/acme/api/api/other", False),
        ("gcr.io/**/**", "gcr.io/acme", False),
        ("gcr.io/**/**", "gcr.io/acme/api", True),
        ("**/api", "gcr.io/acme/api", True),
        ("**/api", "gcr.io/acme/api/sub", False),
        ("**/api/**", "gcr.io/acme/api/sub", True),
        ("localhost:5000/**", "localhost:5000/api", True),
        ("localhost:*/**", "localhost:5000/acme/api", True),
    ],
)
def test_glob_matches_whole_names(glob: str, name: str, expected: bool) -> None:
    """``*`` matches within one segment, also nothing; ``**`` matches one or more whole segments."""
    assert matches(glob, name) is expected


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("**", FUNCTION, False),
        ("us-docker.pkg.dev/acme/**", FUNCTION, False),
        ("us-docker.pkg.dev/**/function", FUNCTION, False),
        ("us-docker.pkg.dev/*/*/*", FUNCTION, False),
        ("us-docker.pkg.dev/acme/gcf-*/function", FUNCTION, False),
        ("us-docker.pkg.dev/acme/*gcf-artifacts*/**", FUNCTION, False),
        ("gcr.io/acme/*", "gcr.io/acme/gcf-artifacts", False),
        ("gcr.io/**", "gcr.io/gcf-artifacts/acme", False),
        ("gcr.io/acme/**", "gcr.io/acme/a/gcf-artifacts/b", False),
        ("us-docker.pkg.dev/acme/gcf-artifacts/**", FUNCTION, True),
        ("us-docker.pkg.dev/*/gcf-artifacts/*", FUNCTION, True),
        ("**/gcf-artifacts/**", FUNCTION, True),
        ("us-docker.pkg.dev/acme/**", "us-docker.pkg.dev/acme/gcf-artifacts2/function", True),
        ("us-docker.pkg.dev/acme/*/*", "us-docker.pkg.dev/acme/my-gcf-artifacts/function", True),
    ],
)
def test_wildcard_never_matches_the_images_of_functions(glob: str, name: str, expected: bool) -> None:
    """The segment gcf-artifacts has to be named literally."""
    assert matches(glob, name) is expected


@pytest.mark.parametrize(
    "glob",
    [
        "**",
        "**/**",
        "*/**",
        "*/*/*",
        "**/apps/**",
        "gcr.io/**",
        "gcr.io/acme/api",
        "*.gcr.io/acme/api",
        "us-docker.pkg.dev/**",
        "us-docker.pkg.dev/acme/apps/*",
        "us-docker.pkg.dev/acme/**/api",
        "us-central1-docker.pkg.dev/acme/apps/**",
        "*-docker.pkg.dev/acme/**",
        "us-*-docker.pkg.dev/acme/**",
        "us-*.pkg.dev/acme/**",
        "*.pkg.dev/acme/**",
        "*.dev/acme/**",
        "*/acme/api",
        "gcr.*/acme/api",
        "localhost:5000/api",
        "localhost:5000/*",
        "local*/api",
        "registry.*/**",
        "gcr.io/example.com/acme/api",
        "us-docker.pkg.dev/example.com/acme/apps/api",
        # Google stores such names.
        "us-docker.pkg.dev/acme/gcf-artifacts/my___func",
        # The repository of that name elsewhere is not the one behind the host.
        "europe-docker.pkg.dev/acme/gcr.io/**",
        "us-west1-docker.pkg.dev/acme/gcr.io/**",
        "us-docker.pkg.dev/**/gcr.io/api",
        "us-docker.pkg.dev/example.com/**/gcr.io/api",
        "us-docker.pkg.dev/acme/apps/gcr.io",
        "gcr.io/acme/gcr.io",
    ],
)
def test_glob_that_can_match_an_image_is_accepted(glob: str) -> None:
    """A wildcard may stand for the host, or for a part of it."""
    assert Glob.parse(glob, INSECURE).text == glob


NO_HOST = "has no host; a glob is for HOST/PATH, like us-docker.pkg.dev/acme/apps/**"
TAG = "has a tag or digest, and names of repositories have none"
FEW = "has too few segments for an image's name"
ALIAS = "is an alias, which is read as another name"


@pytest.mark.parametrize(
    ("glob", "problem", "correction"),
    [
        ("acme/apps/**", NO_HOST, ""),
        ("api", NO_HOST, ""),
        ("apps/*", NO_HOST, ""),
        *(
            (f"{host}/acme/apps/**", f"is on the host {host}, which is not allowed", "")
            for host in (
                "docker.io",
                "quay.io",
                "localhost",
                "localhost:5001",
                "mirror.gcr.io",
                "gcr.io:443",
                "us-docker.pkg.dev:443",
                "docker.pkg.dev",
                "us.pkg.dev",
                "us-docker-pkg.dev",
                "*.docker.io",
                "us-*.gcr.io",
                "*.com",
                "*:443",
            )
        ),
        ("us-docker.pkg.dev/acme/gcr.io/api", ALIAS, "gcr.io/acme/api"),
        ("us-docker.pkg.dev/acme/us.gcr.io/**", ALIAS, "us.gcr.io/acme/**"),
        ("europe-docker.pkg.dev/*/eu.gcr.io/a/*", ALIAS, "eu.gcr.io/*/a/*"),
        ("asia-docker.pkg.dev/acme/asia.gcr.io/a", ALIAS, "asia.gcr.io/acme/a"),
        ("us-docker.pkg.dev/example.com/acme/gcr.io/a", ALIAS, "gcr.io/example.com/acme/a"),
        ("us-docker.pkg.dev/acme/gcr.io", ALIAS, "gcr.io/acme/**"),
        ("us-docker.pkg.dev/acme/gcr.io/api:v1", TAG, "gcr.io/acme/api"),
        ("gcr.io/acme/api:v1", TAG, "gcr.io/acme/api"),
        ("gcr.io/acme/*:v1", TAG, "gcr.io/acme/*"),
        ("localhost:5000/api:v1", TAG, "localhost:5000/api"),
        (f"gcr.io/acme/api@sha256:{'0' * 64}", TAG, "gcr.io/acme/api"),
        (f"gcr.io/acme/api:v1@sha256:{'0' * 64}", TAG, "gcr.io/acme/api"),
        ("gcr.io/acme@sha256:0", TAG, "gcr.io/acme/**"),
        ("gcr.io/acme:5/api", TAG, ""),
        ("acme/api:v1", TAG, ""),
        ("api@sha256:0", TAG, ""),
        ("us-docker.pkg.dev/acme/apps", FEW, "us-docker.pkg.dev/acme/apps/**"),
        ("us-docker.pkg.dev/acme", FEW, "us-docker.pkg.dev/acme/**"),
        ("us-docker.pkg.dev/*/*", FEW, "us-docker.pkg.dev/*/*/**"),
        ("us-docker.pkg.dev", FEW, "us-docker.pkg.dev/**"),
        ("us-docker.pkg.dev/example.com/acme/apps", FEW, "us-docker.pkg.dev/example.com/acme/apps/**"),
        ("*-docker.pkg.dev/acme/apps", FEW, "*-docker.pkg.dev/acme/apps/**"),
        ("gcr.io/acme", FEW, "gcr.io/acme/**"),
        ("gcr.io/*.com/acme", FEW, "gcr.io/*.com/acme/**"),
        ("gcr.io", FEW, "gcr.io/**"),
        ("*", FEW, "*/**"),
        ("localhost:5000", FEW, "localhost:5000/**"),
        ("https://gcr.io/acme/api", "is a URL; a glob is for HOST/PATH", "gcr.io/acme/api"),
        ("docker://gcr.io/acme", "is a URL; a glob is for HOST/PATH", "gcr.io/acme/**"),
        ("", "has an empty segment", ""),
        ("/", "has an empty segment", ""),
        ("gcr.io/acme/", "has an empty segment", "gcr.io/acme/**"),
        ("gcr.io/acme/api/", "has an empty segment", "gcr.io/acme/api"),
        ("/gcr.io/acme/api", "has an empty segment", "gcr.io/acme/api"),
        ("gcr.io//acme//api", "has an empty segment", "gcr.io/acme/api"),
        *(
            (
                f"gcr.io/acme/{part}",
                f"has ** in the segment '{part}', which must be ** alone",
                "",
            )
            for part in ("a**", "**a", "***", "a**b")
        ),
        *(
            (f"gcr.io/acme/{part}", f"has characters that no name has in the segment {quote(part)}", "")
            for part in (
                "[ab]",
                "a?",
                "{a,b}",
                "a b",
                "a\n",
                "\u0430pi",
                "\u0661",
                "\ud800",
                "a\\b",
                "a%2fb",
                "^a$",
                "a+",
            )
        ),
        ("gcr.io/Acme/Api", "has characters that no name has in the segment 'Acme'", "gcr.io/acme/api"),
        ("GCR.io/acme", "has characters that no name has in the segment 'GCR.io'", "gcr.io/acme/**"),
        ("!gcr.io/acme/api", "has characters that no name has in the segment '!gcr.io'", ""),
    ],
)
def test_glob_that_can_match_no_image_is_refused(glob: str, problem: str, correction: str) -> None:
    """Or one that means something else in other tools; a correction is a valid glob."""
    assert refusal(glob) == (problem, correction)
    if correction:
        assert Glob.parse(correction, INSECURE).text == correction


def test_insecure_host_is_allowed_only_if_it_is_passed() -> None:
    """Google's hosts always are."""
    assert Glob.parse("localhost:5000/api", frozenset({"localhost:5000"}))
    with pytest.raises(InvalidGlob, match="is on the host localhost:5000, which is not allowed"):
        Glob.parse("localhost:5000/api")
    assert Glob.parse("*/api", frozenset({"localhost:5000"}))
    with pytest.raises(InvalidGlob, match="has too few segments"):
        Glob.parse("*/api")


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("/".join(["**"] * 60) + "/b", "gcr.io/" + "/".join(["a"] * 124)),
        ("/".join(["**", "*"] * 42) + "/b", "gcr.io/" + "/".join(["a"] * 124)),
        ("/".join(["**", "a"] * 42) + "/b", "gcr.io/" + "/".join(["a"] * 124)),
        ("gcr.io/acme/" + "*a" * 100 + "*b", "gcr.io/acme/" + "a" * 243),
        ("gcr.io/**/" + "*a" * 40 + "*b", "gcr.io/" + "a/" * 100 + "a" * 48),
    ],
)
def test_glob_with_many_wildcards_is_matched_fast(glob: str, name: str) -> None:
    """Anybody who may publish chooses the names; trying every way to split one would take years."""
    assert not matches(glob, name)
    assert matches(glob, name + "b") or matches(glob, name + "/b")
