"""Repositories, tags and digests, parsed by the distribution spec's grammar, or Google's for names on its hosts.

A ``gcr.io`` repository has an Artifact Registry name as well.  Both names are read as the ``gcr.io`` one, so that no
repository has two policies, two locks or two names in the log.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import NewType

import msgspec

from cleaner.core.errors import HostNotAllowed, InvalidReference

Digest = NewType("Digest", str)
Tag = NewType("Tag", str)

# Google stores names outside the distribution spec's grammar: gcf-artifacts/my___func.
_GOOGLE_PATH = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")
# distribution-spec, "Pulling manifests": <name>, <reference> as a tag.  Always matched with fullmatch: `$` also
# matches before a trailing newline.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# image-spec, "Digests": Google's registries compute sha256 only.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
# distribution-spec: "the length of the concatenation of the registry hostname (and optional port), /, and <name>".
_NAME_MAX_CHARS = 255

GCR_HOSTS = frozenset({"gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"})
# us, europe, us-central1, northamerica-northeast1: Google's multi-regions and regions.
# RFC 1035: a label of a host name has at most 63 characters, or no client can look it up.
_ARTIFACT_REGISTRY_HOST = re.compile(r"(?=[^.]{1,63}\.)([a-z]+(?:-[a-z]+[0-9]+)?)-docker\.pkg\.dev")

# The Artifact Registry location of the repositories of each gcr.io host.
GCR_LOCATIONS = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}


class Repository(msgspec.Struct, frozen=True, order=True):
    """A repository by its canonical name; ``str()`` returns ``HOST/PATH``."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def is_google(self) -> bool:
        """Whether the host is one of Google's, which get HTTPS requests with credentials."""
        return is_google_host(self.host)


class PackageName(msgspec.Struct, frozen=True):
    """A repository's name in Artifact Registry's REST API.

    A domain-scoped ``project`` is ``example.com:project``.  ``package`` is empty if the name ends with its Artifact
    Registry repository.
    """

    project: str
    location: str
    repository: str
    package: str


def is_google_host(host: str) -> bool:
    """Return whether ``host`` is one of ``GCR_HOSTS`` or ``LOCATION-docker.pkg.dev``."""
    return host in GCR_HOSTS or _ARTIFACT_REGISTRY_HOST.fullmatch(host) is not None


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a digest.

    Raises:
        InvalidReference: It is not ``sha256:`` and 64 lower-case hexadecimal digits.
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidReference("not a sha256 digest")
    return Digest(text)


def parse_tag(text: str) -> Tag:
    """Return ``text`` as a tag.

    Raises:
        InvalidReference: It is outside the distribution spec's grammar.
    """
    if not _TAG.fullmatch(text):
        raise InvalidReference("not a tag")
    return Tag(text)


def parse_repository(text: str, insecure: AbstractSet[str] = frozenset()) -> Repository:
    """Return the repository that ``HOST/PATH`` names.

    ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's.

    Raises:
        HostNotAllowed: The host is not allowed.
        InvalidReference: The name is outside the grammar, or too long.
    """
    host, slash, path = text.partition("/")
    if not (is_google_host(host) or host in insecure):
        raise HostNotAllowed
    grammar = _GOOGLE_PATH if is_google_host(host) else _PATH
    if len(text) > _NAME_MAX_CHARS:
        raise InvalidReference(f"longer than {_NAME_MAX_CHARS} characters")
    if not slash or not grammar.fullmatch(path):
        raise InvalidReference("not a repository name")
    return _canonical(host, path)


def parse_digest_reference(text: str, insecure: AbstractSet[str] = frozenset()) -> tuple[Repository, Digest]:
    """Return the repository and the digest of ``HOST/PATH@sha256:HEX``.

    Raises:
        InvalidReference: Either part is invalid.
    """
    name, _, digest = text.partition("@")
    return parse_repository(name, insecure), parse_digest(digest)


def parse_tag_reference(text: str, insecure: AbstractSet[str] = frozenset()) -> tuple[Repository, Tag]:
    """Return the repository and the tag of ``HOST/PATH:TAG``; a colon before the last slash is the port's.

    Raises:
        InvalidReference: Either part is invalid.
    """
    folder, slash, last = text.rpartition("/")
    name, _, tag = last.partition(":")
    return parse_repository(f"{folder}{slash}{name}", insecure), parse_tag(tag)


def package_name(repository: Repository) -> PackageName | None:
    """Return the REST name of a repository on a Google host; None if there is none.

    A path that is shorter than a project and a repository has none, nor has a repository on another host.
    """
    project, rest = _split_project(repository.path)
    if repository.host in GCR_HOSTS:
        return PackageName(project, GCR_LOCATIONS[repository.host], repository.host, rest)
    location = _ARTIFACT_REGISTRY_HOST.fullmatch(repository.host)
    if location is None or not rest:
        return None
    name, _, package = rest.partition("/")
    return PackageName(project, location[1], name, package)


def project_and_location(root: Repository) -> tuple[str, str] | None:
    """Return the project and location of a name that ends with its project on a host of Artifact Registry.

    None if it is any other name.
    """
    project, rest = _split_project(root.path)
    location = _ARTIFACT_REGISTRY_HOST.fullmatch(root.host)
    return (project, location[1]) if location and not rest and not project.endswith(":") else None


def from_package_name(name: PackageName) -> Repository:
    """Return the repository with this REST name; the inverse of ``package_name``."""
    project = name.project.replace(":", "/", 1)
    return _canonical(
        f"{name.location}-docker.pkg.dev", "/".join(filter(None, (project, name.repository, name.package)))
    )


def _canonical(host: str, path: str) -> Repository:
    location = _ARTIFACT_REGISTRY_HOST.fullmatch(host)
    if location:
        project, rest = _split_project(path)
        gcr_host, _, package = rest.partition("/")
        if GCR_LOCATIONS.get(gcr_host) == location[1]:
            return Repository(gcr_host, "/".join(filter(None, (project.replace(":", "/"), package))))
    return Repository(host, path)


def _split_project(path: str) -> tuple[str, str]:
    """Return a path's project and the rest of the path; a first segment with a dot is the project's domain."""
    first, _, rest = path.partition("/")
    if "." in first:
        second, _, rest = rest.partition("/")
        return f"{first}:{second}", rest
    return first, rest
