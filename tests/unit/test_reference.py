"""Names: the grammars of Google and of the distribution spec; allowed hosts; one canonical name for a repository."""

from __future__ import annotations

import pytest

from cleaner.core.errors import InvalidReference
from cleaner.core.reference import (
    PackageName,
    Repository,
    from_package_name,
    is_google_host,
    package_name,
    parse_digest,
    parse_digest_reference,
    parse_repository,
    parse_tag,
    parse_tag_reference,
)

HEX = "0123456789abcdef" * 4
INSECURE = frozenset({"localhost:5000"})


@pytest.mark.parametrize(
    "host",
    [
        "gcr.io",
        "us.gcr.io",
        "eu.gcr.io",
        "asia.gcr.io",
        "us-docker.pkg.dev",
        "europe-docker.pkg.dev",
        "us-central1-docker.pkg.dev",
        "northamerica-northeast1-docker.pkg.dev",
        "africa-south1-docker.pkg.dev",
    ],
)
def test_google_host_is_allowed(host: str) -> None:
    """Container Registry's four hosts and every location of Artifact Registry."""
    assert is_google_host(host)
    assert parse_repository(f"{host}/acme/repo/api") == Repository(host, "acme/repo/api")
    assert parse_repository(f"{host}/acme/repo/api").is_google


@pytest.mark.parametrize(
    "host",
    [
        "",
        "docker.io",
        "localhost:5000",
        "mirror.gcr.io",
        "gcr.io.evil.com",
        "evil.com.gcr.io",
        "evilgcr.io",
        "gcr.io:443",
        "gcr.io.",
        "GCR.IO",
        "gcr.io\n",
        " gcr.io",
        "user@gcr.io",
        "gcr.io@evil.com",
        "gcr.io:pw@evil.com",
        "gcr.io#evil.com",
        "gcr.io?evil.com",
        "gcr\u3002io",
        "g\u0441r.io",
        "xn--gcr.io",
        "docker.pkg.dev",
        "-docker.pkg.dev",
        "us--docker.pkg.dev",
        "us-docker.pkg.dev.evil.com",
        "us-docker.pkg.dev:443",
        "us.docker.pkg.dev",
        "usdocker.pkg.dev",
        "evil.com-docker.pkg.dev",
        "us-central-docker.pkg.dev",
        "us-docker-pkg.dev",
        "us-dockerxpkg.dev",
        "us-docker.pkgxdev",
        "gcrxio",
        "us\u2010docker.pkg.dev",
        "us-central\u0661-docker.pkg.dev",
        # A label of 64 characters, which no client can look up.
        f"{'a' * 57}-docker.pkg.dev",
    ],
)
def test_other_host_is_not_allowed(host: str) -> None:
    """A host is compared as a whole, with nothing before or after it."""
    assert not is_google_host(host)
    with pytest.raises(InvalidReference, match="host not allowed"):
        parse_repository(f"{host}/acme/api")


def test_insecure_host_is_allowed_if_it_is_passed() -> None:
    """It is not one of Google's, so it gets no credentials."""
    repository = parse_repository("localhost:5000/acme/api", INSECURE)

    assert repository == Repository("localhost:5000", "acme/api")
    assert not repository.is_google
    for other in ("localhost", "localhost:50000", "localhost:5000x", "localhost:500"):
        with pytest.raises(InvalidReference, match="host not allowed"):
            parse_repository(f"{other}/acme/api", INSECURE)


@pytest.mark.parametrize(
    "path", ["a", "0", "acme/api", "a.b/c_d/e__f/g-h/i---j", "acme/" + "/".join("abcdefgh"), "example.com/acme/api"]
)
@pytest.mark.parametrize("host", ["gcr.io", "us-docker.pkg.dev", "localhost:5000"])
def test_path_in_the_specs_grammar_is_accepted(host: str, path: str) -> None:
    """Components are of lower-case letters and digits, separated by a dot, one or two underscores or hyphens."""
    assert str(parse_repository(f"{host}/{path}", INSECURE)) == f"{host}/{path}"


@pytest.mark.parametrize(
    "path",
    [
        "acme/gcf-artifacts/my___func",
        "acme/apps/a..b",
        "acme/apps/api.",
        "acme/apps/a-",
        "acme/apps/a_",
        "acme/apps/a._b",
        "acme/apps/a-_.-b",
        "acme-/apps/api",
        "0./0_",
        "a..",
    ],
)
def test_path_outside_the_specs_grammar_is_accepted_on_a_google_host(path: str) -> None:
    """Google stores such names: each component begins with a letter or digit, then dots, underscores and hyphens."""
    for host in ("gcr.io", "eu.gcr.io", "us-docker.pkg.dev"):
        assert str(parse_repository(f"{host}/{path}")) == f"{host}/{path}"
    with pytest.raises(InvalidReference, match="not a repository name"):
        parse_repository(f"localhost:5000/{path}", INSECURE)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/acme",
        "acme/",
        "acme//api",
        "..",
        "acme/..",
        "acme/../other",
        "acme/./api",
        "acme/.",
        "acme/...",
        "acme/.api",
        "acme/_a",
        "acme/-a",
        ".acme/api",
        "Acme/api",
        "acme/api\n",
        "acme/api ",
        "acme/\u0430pi",
        "acme/api\u0661",
        "acme/%2e%2e/api",
        "acme/api%2Fother",
        "acme\\api",
        "acme/api?n=1",
        "acme/api#x",
        "acme/api:v1",
        "acme/api@sha256",
        "acme/a\x00pi",
    ],
)
@pytest.mark.parametrize("host", ["gcr.io", "us-docker.pkg.dev", "localhost:5000"])
def test_path_outside_both_grammars_is_refused(host: str, path: str) -> None:
    """Some of these would change the URL of a request."""
    with pytest.raises(InvalidReference, match="not a repository name"):
        parse_repository(f"{host}/{path}", INSECURE)


def test_host_without_a_path_is_not_a_repository() -> None:
    """A name needs a path."""
    with pytest.raises(InvalidReference, match="not a repository name"):
        parse_repository("gcr.io")


def test_name_has_at_most_255_characters() -> None:
    """The distribution spec counts the host and the slash."""
    longest = "gcr.io/" + "a" * 248

    assert len(str(parse_repository(longest))) == 255
    with pytest.raises(InvalidReference, match="longer than 255 characters"):
        parse_repository(longest + "a")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("us-docker.pkg.dev/acme/gcr.io/api", "gcr.io/acme/api"),
        ("us-docker.pkg.dev/acme/us.gcr.io/api", "us.gcr.io/acme/api"),
        ("europe-docker.pkg.dev/acme/eu.gcr.io/api", "eu.gcr.io/acme/api"),
        ("asia-docker.pkg.dev/acme/asia.gcr.io/api", "asia.gcr.io/acme/api"),
        ("us-docker.pkg.dev/acme/gcr.io/team/api", "gcr.io/acme/team/api"),
        ("us-docker.pkg.dev/example.com/acme/gcr.io/api", "gcr.io/example.com/acme/api"),
        ("asia-docker.pkg.dev/example.com/acme/asia.gcr.io/a/b", "asia.gcr.io/example.com/acme/a/b"),
        ("us-docker.pkg.dev/acme/gcr.io/my___func", "gcr.io/acme/my___func"),
        ("us-docker.pkg.dev/acme/gcr.io", "gcr.io/acme"),
        # The repository of that name elsewhere is not the one behind the host.
        ("europe-docker.pkg.dev/acme/gcr.io/api", "europe-docker.pkg.dev/acme/gcr.io/api"),
        ("us-docker.pkg.dev/acme/eu.gcr.io/api", "us-docker.pkg.dev/acme/eu.gcr.io/api"),
        ("us-west1-docker.pkg.dev/acme/gcr.io/api", "us-west1-docker.pkg.dev/acme/gcr.io/api"),
        ("us-docker.pkg.dev/acme/apps/gcr.io/api", "us-docker.pkg.dev/acme/apps/gcr.io/api"),
        ("us-docker.pkg.dev/acme/apps/api", "us-docker.pkg.dev/acme/apps/api"),
        ("gcr.io/acme/gcr.io/api", "gcr.io/acme/gcr.io/api"),
    ],
)
def test_artifact_registry_name_is_read_as_the_gcr_name(text: str, canonical: str) -> None:
    """Both names of a repository are read as the same one."""
    assert str(parse_repository(text)) == canonical
    assert parse_repository(text) == parse_repository(canonical)


def test_digest_reference_is_split() -> None:
    """A notification names a pushed manifest as HOST/PATH@sha256:HEX."""
    repository, digest = parse_digest_reference(f"us-docker.pkg.dev/acme/apps/api@sha256:{HEX}")

    assert (str(repository), digest) == ("us-docker.pkg.dev/acme/apps/api", f"sha256:{HEX}")


@pytest.mark.parametrize(
    "text",
    [
        "gcr.io/acme/api",
        "gcr.io/acme/api@",
        f"gcr.io/acme/api@{HEX}",
        f"gcr.io/acme/api@sha512:{HEX}",
        f"gcr.io/acme/api@sha256:{HEX[:-1]}",
        f"gcr.io/acme/api@sha256:{HEX}0",
        f"gcr.io/acme/api@sha256:{HEX}\n",
        f"gcr.io/acme/api@sha256:{HEX.upper()}",
        f"gcr.io/acme/api@@sha256:{HEX}",
        f"gcr.io/acme/api@sha256:{HEX}@sha256:{HEX}",
        f"gcr.io/acme/api:v1@sha256:{HEX}",
        f"user@gcr.io/acme/api@sha256:{HEX}",
        f"@sha256:{HEX}",
        "",
    ],
)
def test_bad_digest_reference_is_refused(text: str) -> None:
    """Both parts are matched as a whole."""
    with pytest.raises(InvalidReference):
        parse_digest_reference(text)


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("gcr.io/acme/api:v1", "gcr.io/acme/api", "v1"),
        ("localhost:5000/api:v1", "localhost:5000/api", "v1"),
        ("gcr.io/acme/api:_A.b-c", "gcr.io/acme/api", "_A.b-c"),
        ("gcr.io/acme/api:" + "t" * 128, "gcr.io/acme/api", "t" * 128),
    ],
)
def test_tag_reference_is_split(text: str, repository: str, tag: str) -> None:
    """A colon before the last slash belongs to the port."""
    name, found = parse_tag_reference(text, INSECURE)

    assert (str(name), found) == (repository, tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gcr.io/acme/api",
        "gcr.io/acme/api:",
        "gcr.io/acme/api:.v1",
        "gcr.io/acme/api:-v1",
        "gcr.io/acme/api:v1\n",
        "gcr.io/acme/api:v 1",
        "gcr.io/acme/api:v\u0661",
        "gcr.io/acme/api:v1:v2",
        "gcr.io/acme/api:v1/x",
        "gcr.io/acme/api:" + "t" * 129,
        "localhost:5000",
        "gcr.io:5000/acme/api:v1",
    ],
)
def test_bad_tag_reference_is_refused(text: str) -> None:
    """A tag is a letter, digit or underscore, then at most 127 of those, dots and hyphens."""
    with pytest.raises(InvalidReference):
        parse_tag_reference(text, INSECURE)


def test_parsed_digest_and_tag_are_unchanged() -> None:
    """Parsing only validates them."""
    assert parse_digest(f"sha256:{HEX}") == f"sha256:{HEX}"
    assert parse_tag("v1") == "v1"


PACKAGES = [
    ("us-central1-docker.pkg.dev/acme/apps/api", PackageName("acme", "us-central1", "apps", "api")),
    ("us-docker.pkg.dev/acme/apps/team/api", PackageName("acme", "us", "apps", "team/api")),
    ("us-docker.pkg.dev/example.com/acme/apps/api", PackageName("example.com:acme", "us", "apps", "api")),
    ("gcr.io/acme/api", PackageName("acme", "us", "gcr.io", "api")),
    ("us.gcr.io/acme/api", PackageName("acme", "us", "us.gcr.io", "api")),
    ("eu.gcr.io/acme/team/api", PackageName("acme", "europe", "eu.gcr.io", "team/api")),
    ("asia.gcr.io/example.com/acme/api", PackageName("example.com:acme", "asia", "asia.gcr.io", "api")),
    ("gcr.io/acme", PackageName("acme", "us", "gcr.io", "")),
    ("us-docker.pkg.dev/acme/apps", PackageName("acme", "us", "apps", "")),
]


@pytest.mark.parametrize(("text", "package"), PACKAGES)
def test_rest_name_and_repository_are_each_others_inverse(text: str, package: PackageName) -> None:
    """Each name converts to the other and back."""
    repository = parse_repository(text)

    assert package_name(repository) == package
    assert from_package_name(package) == repository


def test_repository_without_a_rest_name_has_none() -> None:
    """A project without a repository, and a registry that is not Google's."""
    assert package_name(Repository("us-docker.pkg.dev", "acme")) is None
    assert package_name(Repository("localhost:5000", "acme/apps/api")) is None
