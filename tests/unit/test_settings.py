"""Settings: every name of the README's table, its default, and what it refuses."""

from __future__ import annotations

import pytest

from cleaner.core.errors import ConfigurationError
from cleaner.settings import Settings

POLICIES = '[{"repositories": ["gcr.io/acme/*"], "keep": 3}]'


def read(**environment: str) -> Settings:
    return Settings.from_environment({"POLICIES": POLICIES, **environment})


def refusal(**environment: str) -> str:
    """Return why the environment is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read(**environment)
    return str(caught.value)


def test_policies_alone_leave_every_default() -> None:
    """Among them the dry run: nothing is deleted before somebody asks for it."""
    settings = read()

    assert settings.policies[0].keep == 3
    assert settings.dry_run is True
    assert (settings.workers, settings.time_limit_s, settings.log_level) == (20, 500.0, "INFO")
    assert (settings.insecure_registries, settings.running_scopes, settings.requests_topic) == (frozenset(), (), "")
    assert settings.artifact_registry_url == "https://artifactregistry.googleapis.com/"
    assert settings.cloud_asset_url == "https://cloudasset.googleapis.com/"


def test_variable_that_is_no_setting_is_ignored() -> None:
    """The environment is full of them."""
    assert read(PATH="/bin", KEEP="7", dry_run="false") == read()


@pytest.mark.parametrize("environment", [{}, {"POLICIES": ""}])
def test_missing_policies_are_refused(environment: dict[str, str]) -> None:
    """The one required setting."""
    with pytest.raises(ConfigurationError, match="POLICIES: required"):
        Settings.from_environment(environment)


def test_bad_policy_is_refused_by_its_own_message() -> None:
    """Position, key and what is wrong."""
    message = refusal(POLICIES='[{"repositories": ["gcr.io/acme/*"], "keep": 0}]')

    assert message == "POLICIES[0].keep: must be an integer of at least 1, not the number 0"


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
    """Into the field of its name; nothing else changes."""
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
    """With or without the version that Terraform's provider wants in some of them."""
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
def test_bad_setting_is_refused_by_name(name: str, text: str) -> None:
    """The function does not start; the message says which setting, and what is wrong."""
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
def test_topic_says_which_rule_is_broken(text: str, rule: str) -> None:
    """What looks like a topic's name and is none would else be told that it has to look like one."""
    assert refusal(REQUESTS_TOPIC=text) == f"REQUESTS_TOPIC: must be projects/P/topics/T{rule}, not {text!r}"


def test_google_host_is_never_spoken_to_in_the_clear() -> None:
    """Naming one as insecure is a mistake, not a wish."""
    assert "Google's" in refusal(INSECURE_REGISTRIES="gcr.io:443")
