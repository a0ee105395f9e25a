"""The names of repositories and roots, as a person gives them."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

import msgspec

from cleaner.core.errors import HostNotAllowed, InvalidReference
from cleaner.core.reference import GCR_HOSTS, Repository, package_name, parse_repository, project_and_location
from cleaner.settings import parse_insecure_registries


class Target(msgspec.Struct, frozen=True):
    """A name that was given: a repository, or if ``is_root`` that of a root; else it may be either."""

    repository: Repository
    is_root: bool


def parse_image(name: str, insecure: AbstractSet[str]) -> Repository:
    """Return the repository of images that ``name`` names.

    Raises:
        InvalidReference: It is outside the grammar, its host is not allowed, or it is too short to name an image;
            the message says what would be right.
    """
    repository = _parse(name, insecure)
    if _ends_before_image(repository):
        raise InvalidReference(
            f"{name!a} is not an image; an image is {_spelled(repository, '/IMAGE')}; plan and sweep accept a root"
        )
    return repository


def parse_target(name: str, insecure: AbstractSet[str]) -> Target:
    """Return what ``name`` names: with a slash at its end, or if it ends before the image, a root.

    Raises:
        InvalidReference: As ``parse_image``, but a name may end before the image.
    """
    root = _parse(name.removesuffix("/"), insecure)
    # Behind a domain that no project follows nothing stands.
    package = package_name(root)
    if root.is_google and not (project_and_location(root) if package is None else not package.project.endswith(":")):
        raise InvalidReference(
            f"{name!a} is not a root; a root is {_spelled(root, is_root=True)}, or a path under it"
        )
    return Target(root, name.endswith("/") or _ends_before_image(root))


def _parse(name: str, insecure: AbstractSet[str]) -> Repository:
    try:
        return parse_repository(name, insecure)
    except InvalidReference as error:
        raise InvalidReference(f"{name!a}: {error}: {_hint(name, error)}") from error


def _ends_before_image(repository: Repository) -> bool:
    package = package_name(repository)
    return repository.is_google and not (package and package.package)


def _spelled(repository: Repository, image: str = "", *, is_root: bool = False) -> str:
    """Return how a whole name on the host of ``repository`` is spelled, up to the place of images and ``image``."""
    project = "DOMAIN/PROJECT" if "." in repository.path.partition("/")[0] else "PROJECT"
    place = "" if repository.host in GCR_HOSTS else "[/REPOSITORY]" if is_root else "/REPOSITORY"
    return f"{repository.host}/{project}{place}{image}"


def _hint(name: str, error: InvalidReference) -> str:
    """Return what would be right in the place of ``name``."""
    if not isinstance(error, HostNotAllowed):
        return (
            "leave out the / at its end"
            if name.endswith("/")
            else "write HOST/PATH in lower case, without tag or digest"
        )
    scheme, is_url, _ = name.partition("://")
    if is_url and re.fullmatch("[a-z]+", scheme):
        return f"leave out {scheme}://"
    host, slash, _ = name.partition("/")
    # Without a slash what follows a colon is a tag.
    if slash and host in ("localhost", "127.0.0.1"):
        return f"write {host}:PORT"
    if slash and _is_insecure(host):
        return f"for a registry over plain HTTP add --insecure {host}"
    return "use gcr.io, us.gcr.io, eu.gcr.io, asia.gcr.io, LOCATION-docker.pkg.dev, or a host of --insecure"


def _is_insecure(host: str) -> bool:
    """Whether ``--insecure`` would take it."""
    try:
        return parse_insecure_registries(host) == {host}
    except ValueError:
        return False
