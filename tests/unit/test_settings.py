"""Settings: each name in the table of docs/operations.md, its default, and the values that it refuses."""

from __future__ import annotations

import json

import pytest

from cleaner.core.errors import ConfigurationError
from cleaner.settings import Settings

POLICIES = '[{"repositories": ["gcr.io/acme/*"], "untagged": {"keep": 3}}]'


def read(**environment: str) -> Settings:
    return Settings.from_environment({"POLICIES": POLICIES, **environment})


def refusal(**environment: str) -> str:
    """Return why the environment is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read(**environment)
    return str(caught.value)


def test_settings_other_than_policies_have_defaults() -> None:
    """A dry run is the default: nothing is deleted before the operator turns it off."""
    settings = read()

    assert settings.policies[0].untagged.keep == 3
    assert settings.dry_run is True
    assert (settings.workers, settings.time_limit_s, settings.log_level) == (20, 500.0, "INFO")
    assert (settings.insecure_registries, settings.running_scopes, settings.requests_topic) == (frozenset(), (), "")
    assert settings.artifact_registry_url == "https://artifactregistry.googleapis.com/"
    assert settings.cloud_asset_url == "https://cloudasset.googleapis.com/"


def test_variable_that_is_no_setting_is_ignored() -> None:
    """The environment has many others."""
    assert read(PATH="/bin", KEEP="7", dry_run="false") == read()


@pytest.mark.parametrize("environment", [{}, {"POLICIES": ""}])
def test_missing_policies_are_refused(environment: dict[str, str]) -> None:
    """It is the only required setting; the message says what to set."""
    with pytest.raises(ConfigurationError, match=r"^POLICIES: required; set it to a JSON array of policies$"):
        Settings.from_environment(environment)


def test_invalid_policies_are_refused_with_all_their_mistakes() -> None:
    """The function does not start; each line has the position, the key and the problem."""
    policies = [
        {"repositories": ["gcr.io/acme/*"], "untagged": {"keep": -1}, "dry_run": "true"},
        {"repositories": ["gcr.io/acme"], "tagged": [{"match": "*", "keep": "all"}]},
    ]

    assert refusal(POLICIES=json.dumps(policies)).splitlines() == [
        "POLICIES[0].dry_run: must be true or false, not 'true'",
        'POLICIES[0].untagged.keep: must be an integer of at least 0 or "all", not the number -1',
        "POLICIES[1].repositories[0]: 'gcr.io/acme' has too few segments for an image's name; write gcr.io/acme/**",
        "POLICIES[1].tagged[0].match: '*' looks like a glob; as a regex write '.*'",
    ]


def test_insecure_registries_are_allowed_in_globs() -> None:
    """Other hosts than those and Google's are a mistake: nothing is ever deleted there."""
    policies = '[{"repositories": ["localhost:5000/**", "registry.test:80/acme/*"]}]'

    settings = read(POLICIES=policies, INSECURE_REGISTRIES="localhost:5000,registry.test:80")
    assert [glob.text for glob in settings.policies[0].repositories] == [
        "localhost:5000/**",
        "registry.test:80/acme/*",
    ]
    assert refusal(POLICIES=policies, INSECURE_REGISTRIES="localhost:5000") == (
        "POLICIES[0].repositories[1]: 'registry.test:80/acme/*' is on the host registry.test:80, which is not allowed"
    )
    assert refusal(POLICIES=policies).splitlines()[0] == (
        "POLICIES[0].repositories[0]: 'localhost:5000/**' is on the host localhost:5000, which is not allowed"
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("DRY_RUN", "true", "dry_run", True),
        ("DRY_RUN", "false", "dry_run", False),
        ("WORKERS", "1", "workers", 1),
        ("WORKERS", "100", "workers", 100),
        ("TIME_LIMIT", "30", "time_limit_s", 30.0),
        ("TIME_LIMIT", "0.5", "time_limit_s", 0.5),
        ("INSECURE_REGISTRIES", "", "insecure_registries", frozenset()),
        ("INSECURE_REGISTRIES", "localhost:65535", "insecure_registries", frozenset({"localhost:65535"})),
        ("INSECURE_REGISTRIES", "localhost:5000", "insecure_registries", frozenset({"localhost:5000"})),
        (
            "INSECURE_REGISTRIES",
            " localhost:5000, registry.test:80 ,10.0.0.1:5001,",
            "insecure_registries",
            frozenset({"localhost:5000", "registry.test:80", "10.0.0.1:5001"}),
        ),
        ("RUNNING_SCOPES", "", "running_scopes", ()),
        ("RUNNING_SCOPES", "projects/acme", "running_scopes", ("projects/acme",)),
        (
            "RUNNING_SCOPES",
            "projects/example.com:acme, folders/12,organizations/34,folders/12",
            "running_scopes",
            ("projects/example.com:acme", "folders/12", "organizations/34"),
        ),
        ("REQUESTS_TOPIC", "", "requests_topic", ""),
        (
            "REQUESTS_TOPIC",
            "projects/acme/topics/prune-requests",
            "requests_topic",
            "projects/acme/topics/prune-requests",
        ),
        ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
        ("LOG_LEVEL", "ERROR", "log_level", "ERROR"),
    ],
)
def test_setting_is_read(name: str, text: str, field: str, value: object) -> None:
    """It sets the field of its name, and no other."""
    settings = read(**{name: text})

    assert getattr(settings, field) == value
    assert type(getattr(settings, field)) is type(value)
    others = {key for key in Settings.__struct_fields__ if key not in (field, "policies")}
    assert all(getattr(settings, key) == getattr(read(), key) for key in others)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", "artifact_registry_url"),
        ("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", "cloud_asset_url"),
    ],
)
@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://artifactregistry.example/", "https://artifactregistry.example/"),
        ("https://artifactregistry.example", "https://artifactregistry.example/"),
        ("https://artifactregistry.example/v1", "https://artifactregistry.example/"),
        ("https://artifactregistry.example/v1/", "https://artifactregistry.example/"),
        ("http://localhost:8080/base", "http://localhost:8080/base/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        ("http://localhost:8080/base/v1/", "http://localhost:8080/base/"),
        ("http://localhost:8080/v1beta/", "http://localhost:8080/v1beta/"),
    ],
)
def test_endpoint_is_a_base_url(name: str, field: str, text: str, url: str) -> None:
    """With or without the version, which some of the Terraform provider's custom endpoints have."""
    assert getattr(read(**{name: text}), field) == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("DRY_RUN", text) for text in ("", "True", "yes", "1", "0", "false ", "no")),
        *(("WORKERS", text) for text in ("", "0", "101", "-1", "1.5", "x", "1e1", " 5", "\u0661", "9" * 5000)),
        *(("TIME_LIMIT", text) for text in ("", "0", "0.0", "-5", "inf", "nan", "1e3", "5s", "\u0661", "9" * 5000)),
        *(
            ("INSECURE_REGISTRIES", text)
            for text in (
                "localhost",
                "localhost:",
                ":5000",
                "http://localhost:5000",
                "localhost:5000/x",
                "localhost:500000",
                "localhost:65536",
                "localhost:0",
                "a..b:5000",
                f"{'a' * 64}:5000",
                "user@localhost:5000",
                "LOCALHOST:5000",
                "localhost:5000 registry:80",
                "ok:80,bad",
                ",",
                " , ,",
                "gcr.io:443",
                "eu.gcr.io:80",
                "us-docker.pkg.dev:443",
                "gcr.io",
            )
        ),
        *(
            ("RUNNING_SCOPES", text)
            for text in (
                ",",
                "acme",
                "projects/",
                "projects/a/b",
                "folders/x",
                "organizations/acme",
                "project/acme",
                "folders/1\n2",
                "projects/..",
            )
        ),
        *(
            ("REQUESTS_TOPIC", text)
            for text in (
                "requests",
                "projects/acme",
                "projects/acme/topics/",
                "projects/acme/topics/ab",
                "projects/acme/topics/1ab",
                "projects/acme/subscriptions/abc",
                "projects/acme/topics/abc\n",
                "//pubsub.googleapis.com/projects/acme/topics/abc",
            )
        ),
        *(("LOG_LEVEL", text) for text in ("", "info", "TRACE", "20", "INFO ", "NOTSET")),
        *(
            (name, text)
            for name in ("GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", "GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT")
            for text in (
                "",
                "example.com",
                "ftp://example.com/",
                "https://",
                "https://x/?a=b",
                "https://x/#a",
                "https://x/ y",
                "https://user:secret@x/",
                "https://x:65536/",
                "https://x:0/",
                "https://x:/",
            )
        ),
    ],
)
def test_invalid_setting_is_refused_by_name(name: str, text: str) -> None:
    """The function does not start; the message names the setting and the problem."""
    message = refusal(**{name: text})

    assert message.startswith(f"{name}: ")
    assert len(message) > len(name) + 10


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("requests", ""),
        ("projects/p/topics/", ""),
        ("projects/p/topics/t/u", ""),
        ("projects/p/topics/t", " with a T of 3 to 255 characters"),
        (f"projects/p/topics/t{'o' * 255}", " with a T of 3 to 255 characters"),
        ("projects/p/topics/1st", " with a T that begins with a letter"),
        ("projects/p/topics/to pic", " with a T of letters, digits and ._~+%-"),
        ("projects/p/topics/topic\n", " with a T of letters, digits and ._~+%-"),
        ("projects/P/topics/topic", " with a P of a-z, 0-9 and .:-"),
    ],
)
def test_refusal_of_a_topic_names_the_broken_rule(text: str, rule: str) -> None:
    """A name that has the form projects/P/topics/T can still be invalid."""
    assert refusal(REQUESTS_TOPIC=text) == f"REQUESTS_TOPIC: must be projects/P/topics/T{rule}, not {text!r}"


def test_google_host_is_refused_as_an_insecure_registry() -> None:
    """No request with credentials may be sent over plain HTTP."""
    assert "Google's" in refusal(INSECURE_REGISTRIES="gcr.io:443")
