"""The settings of the function, read from the environment and validated before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import ascii_letters, ascii_lowercase, digits
from typing import TypeVar

import msgspec

from cleaner.core.errors import ConfigurationError
from cleaner.core.policy import Policy
from cleaner.core.policy_document import parse_policies
from cleaner.core.reference import is_google_host

DEFAULT_WORKERS = 20
MAX_WORKERS = 100
DEFAULT_TIME_LIMIT_S = 500.0
# A day, which is more than any platform gives to one message.
MAX_TIME_LIMIT_S = 86_400
ARTIFACT_REGISTRY_URL = "https://artifactregistry.googleapis.com/"
CLOUD_ASSET_URL = "https://cloudasset.googleapis.com/"

# RFC 1035: labels of at most 63 characters.
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_AND_PORT = re.compile(rf"{_LABEL}(?:\.{_LABEL})*:[0-9]{{1,5}}")
_SCOPE = re.compile(r"projects/[a-z0-9][a-z0-9.:-]*|folders/[0-9]+|organizations/[0-9]+")
_TOPIC = re.compile(r"projects/([^/]+)/topics/([^/]+)")
_PROJECT_CHARS = frozenset(f"{ascii_lowercase}{digits}.:-")
_TOPIC_CHARS = frozenset(f"{ascii_letters}{digits}._~+%-")
_URL = re.compile(r"(https?://(?:\[[0-9a-fA-F:.]+\]|[^][:/?#@\s]+)(?::([0-9]{1,5}))?(?:/[^?#\s]+?)??)(?:/v1)?/?")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_T = TypeVar("_T")


class Settings(msgspec.Struct, frozen=True):
    """The operator's settings; each field is the setting of the same name.

    The two URLs are base URLs of REST APIs: they end with a slash and have no version.
    """

    policies: tuple[Policy, ...]
    dry_run: bool = True
    workers: int = DEFAULT_WORKERS
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    insecure_registries: frozenset[str] = frozenset()
    running_scopes: tuple[str, ...] = ()
    requests_topic: str = ""
    log_level: str = "INFO"
    artifact_registry_url: str = ARTIFACT_REGISTRY_URL
    cloud_asset_url: str = CLOUD_ASSET_URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings in ``environment``.

        Raises:
            ConfigurationError: A setting is missing or invalid; the message names it.
        """
        if not environment.get("POLICIES"):
            raise ConfigurationError("POLICIES: required; set it to a JSON array of policies")

        def read(name: str, parse: Callable[[str], _T], default: _T) -> _T:
            text = environment.get(name)
            if text is None:
                return default
            try:
                return parse(text)
            except ValueError as error:
                raise ConfigurationError(f"{name}: {error}") from error

        insecure = read("INSECURE_REGISTRIES", parse_insecure_registries, frozenset[str]())
        return cls(
            policies=parse_policies(environment["POLICIES"], insecure=insecure),
            dry_run=read("DRY_RUN", _boolean, default=True),
            workers=read("WORKERS", parse_workers, DEFAULT_WORKERS),
            time_limit_s=read("TIME_LIMIT", _seconds, DEFAULT_TIME_LIMIT_S),
            insecure_registries=insecure,
            running_scopes=read("RUNNING_SCOPES", parse_scopes, ()),
            requests_topic=read("REQUESTS_TOPIC", parse_topic, ""),
            log_level=read("LOG_LEVEL", _level, "INFO"),
            artifact_registry_url=read("GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", base_url, ARTIFACT_REGISTRY_URL),
            cloud_asset_url=read("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", base_url, CLOUD_ASSET_URL),
        )


def parse_workers(text: str) -> int:
    """Return the number of concurrent requests of one run.

    Raises:
        ValueError: ``text`` is not a number from 1 to 100.
    """
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"must be a number from 1 to {MAX_WORKERS}, not {text!r}")
    return int(text)


def parse_insecure_registries(text: str) -> frozenset[str]:
    """Return the ``HOST:PORT`` of a comma-separated list.

    Raises:
        ValueError: An entry is malformed, or its host is Google's, which must get no plain HTTP requests.
    """
    hosts = _items(text)
    for host in hosts:
        if not _HOST_AND_PORT.fullmatch(host) or not _is_port(host.rpartition(":")[2]):
            raise ValueError(f"must be HOST:PORT, comma separated, not {host!r}")
        if is_google_host(host.partition(":")[0]):
            raise ValueError(f"{host!r} is Google's, which is always allowed, over HTTPS: remove it")
    return frozenset(hosts)


def parse_scopes(text: str) -> tuple[str, ...]:
    """Return the Cloud Asset Inventory scopes of a comma-separated list.

    Raises:
        ValueError: An entry is not ``projects/P``, ``folders/N`` or ``organizations/N``.
    """
    scopes = _items(text)
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"must be projects/P, folders/N or organizations/N, comma separated, not {scope!r}")
    return tuple(dict.fromkeys(scopes))


def parse_topic(text: str) -> str:
    """Return ``text``, which is the full name of a topic, or empty for no topic.

    Raises:
        ValueError: ``text`` is not ``projects/P/topics/T``; the message names the rule that it breaks.
    """
    if not text:
        return text
    match = _TOPIC.fullmatch(text)
    if match is None:
        raise ValueError(f"must be projects/P/topics/T, not {text!r}")
    project, topic = match.groups()
    # Pub/Sub, "Guidelines to name a topic".
    rules = (
        (_PROJECT_CHARS.issuperset(project), "P of a-z, 0-9 and .:-"),
        (topic[0] in ascii_letters, "T that begins with a letter"),
        (_TOPIC_CHARS.issuperset(topic), "T of letters, digits and ._~+%-"),
        (3 <= len(topic) <= 255, "T of 3 to 255 characters"),
    )
    for holds, rule in rules:
        if not holds:
            raise ValueError(f"must be projects/P/topics/T with a {rule}, not {text!r}")
    return text


def base_url(text: str) -> str:
    """Return the base URL of a REST API, with a slash at its end and without a version.

    Terraform's provider has the version in some of its custom endpoints, so ``text`` may have it as well.

    Raises:
        ValueError: ``text`` is not an ``http://`` or ``https://`` URL, or has a user or password, which errors would
            then show.
    """
    match = _URL.fullmatch(text)
    if not match or not _is_port(match[2] or "443"):
        raise ValueError(f"must be a URL like https://HOST/, not {text!r}")
    return match[1].removesuffix("/") + "/"


def _is_port(text: str) -> bool:
    return 0 < int(text) < 65_536


def _items(text: str) -> list[str]:
    """Return the items of a comma-separated list; raise ValueError if it has commas and no item."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if text.strip() and not items:
        raise ValueError(f"has no entry: {text!r}")
    return items


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, not {text!r}")
    return text == "true"


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text) or not 0 < float(text) <= MAX_TIME_LIMIT_S:
        raise ValueError(f"must be a number of seconds above 0 and up to {MAX_TIME_LIMIT_S}, not {text!r}")
    return float(text)


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}, not {text!r}")
    return text
