"""Artifact Registry's REST API: listings without the limit of ``tags/list``, and the repositories under a root.

It has no state, so any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, unquote

import msgspec

from cleaner.core.errors import (
    IncompleteListing,
    InvalidReference,
    PermanentError,
    RepositoryNotFound,
    RequestRefused,
    Unavailable,
)
from cleaner.core.manifest import Listing, Manifest, parse_media_type, parse_number
from cleaner.core.reference import (
    Digest,
    PackageName,
    Repository,
    from_package_name,
    package_name,
    parse_digest,
    parse_tag,
    project_and_location,
)
from cleaner.core.times import EPOCH, parse_time
from cleaner.google.rest import GoogleApi
from cleaner.google.transport import RequestBudget

_PAGE_SIZE = "1000"
# A version names at most this many tags; one that names as many may have others.
RELATED_TAGS_MAX = 100


class _Tag(msgspec.Struct):
    name: str


class _Metadata(msgspec.Struct, rename="camel"):
    media_type: str = ""
    image_size_bytes: str | int = 0


class _Version(msgspec.Struct, rename="camel"):
    name: str
    create_time: str | None = None
    related_tags: list[_Tag] = []
    metadata: _Metadata | None = None


class _Versions(msgspec.Struct):
    # Versions are decoded one by one: all of a page decoded take several times the memory of their manifests.
    versions: list[msgspec.Raw] = []


class _Package(msgspec.Struct):
    name: str


class _Packages(msgspec.Struct):
    packages: list[_Package] = []


class _Repository(msgspec.Struct):
    name: str = ""
    format: str = ""
    mode: str = ""


class _Repositories(msgspec.Struct):
    repositories: list[_Repository] = []


_versions_decoder = msgspec.json.Decoder(_Versions)
_version_decoder = msgspec.json.Decoder(_Version)
_packages_decoder = msgspec.json.Decoder(_Packages)
_repository_decoder = msgspec.json.Decoder(_Repository)
_repositories_decoder = msgspec.json.Decoder(_Repositories)
# They hold what is elsewhere.
_NOT_FOR_DELETING = ("REMOTE_REPOSITORY", "VIRTUAL_REPOSITORY")


class ArtifactRegistry:
    """The requests to the API."""

    def __init__(self, api: GoogleApi) -> None:
        self._api = api

    def list_manifests(self, repository: Repository, budget: RequestBudget) -> Listing:
        """Return every manifest of ``repository``, however many, without what their documents name.

        A manifest with a hundred tags may have tags that are not named: ``has_unnamed_tags``.

        Raises:
            RepositoryNotFound: There is no such package.
            IncompleteListing: The repository has no REST name, or a page is malformed.
            PermissionDenied, RequestRefused, Unavailable: A page cannot be read.
            TimeLimitReached: The budget's deadline came before the last page.
        """
        name = package_name(repository)
        if name is None or not name.package:
            raise IncompleteListing(f"{repository}: the listing is cut short, and the name has no REST equivalent")
        path = f"{_repository_path(name)}/packages/{quote(name.package, safe='')}/versions"
        manifests: dict[Digest, Manifest] = {}
        parameters = [("view", "FULL"), ("pageSize", _PAGE_SIZE)]
        permission = "artifactregistry.versions.list"
        try:
            for page in self._api.pages(budget, path, parameters, permission, _decode_versions):
                manifests |= page
        except RequestRefused as error:
            if error.status == 404:
                raise RepositoryNotFound(f"{repository}: no such repository") from error
            raise
        except InvalidReference as error:
            raise IncompleteListing(f"{repository}: a version is malformed: {error}") from error
        return Listing(repository, manifests)

    def list_repositories(self, root: Repository, budget: RequestBudget) -> Iterator[str]:
        """Yield the full name of every repository at or under ``root``, in the order of the API.

        The names are as the API gives them, also outside the grammar.  Yields none of an Artifact Registry repository
        that is a remote or virtual one.

        Raises:
            RepositoryNotFound: The Artifact Registry repository of ``root`` does not exist.
            PermanentError: ``root`` names neither one nor a project.
            IncompleteListing: A page is malformed.
            PermissionDenied, RequestRefused, Unavailable: A page cannot be read.
            TimeLimitReached: The budget's deadline came before the last page.
        """
        name = package_name(root)
        if name is None:
            for one in self._list_project(root, budget):
                yield from self._list_packages(one, budget)
            return
        try:
            body = self._api.get(budget, _repository_path(name), [], "artifactregistry.repositories.get")
        except RequestRefused as error:
            if error.status == 404:
                raise RepositoryNotFound(f"{root}: no such repository") from error
            raise
        if _mode(body) not in _NOT_FOR_DELETING:
            yield from self._list_packages(name, budget)

    def _list_project(self, root: Repository, budget: RequestBudget) -> list[PackageName]:
        """Return the Docker repositories of a project in one location."""
        found = project_and_location(root)
        if found is None:
            raise PermanentError(f"{root}: write a root as gcr.io/PROJECT or LOCATION-docker.pkg.dev/PROJECT")
        project, location = found
        path = f"v1/projects/{project}/locations/{location}/repositories"
        pages = self._api.pages(
            budget,
            path,
            [("pageSize", _PAGE_SIZE)],
            "artifactregistry.repositories.list",
            _repositories_decoder.decode,
        )
        return [
            PackageName(project, location, item.name.rpartition("/")[2], "")
            for page in pages
            for item in page.repositories
            if item.format == "DOCKER" and item.mode not in _NOT_FOR_DELETING
        ]

    def _list_packages(self, name: PackageName, budget: RequestBudget) -> Iterator[str]:
        """Yield the full name of every package at or under ``name``."""
        parameters = [("pageSize", _PAGE_SIZE)]
        path, permission = f"{_repository_path(name)}/packages", "artifactregistry.packages.list"
        for page in self._api.pages(budget, path, parameters, permission, _packages_decoder.decode):
            for item in page.packages:
                package = unquote(item.name.rpartition("/packages/")[2])
                if not name.package or package == name.package or package.startswith(f"{name.package}/"):
                    found = PackageName(name.project, name.location, name.repository, package)
                    yield str(from_package_name(found))


def _repository_path(name: PackageName) -> str:
    return f"v1/projects/{name.project}/locations/{name.location}/repositories/{name.repository}"


def _decode_versions(body: bytes | bytearray) -> dict[Digest, Manifest]:
    versions = map(_version_decoder.decode, _versions_decoder.decode(body).versions)
    return {manifest.digest: manifest for manifest in map(_manifest, versions)}


def _manifest(version: _Version) -> Manifest:
    metadata = version.metadata or _Metadata()
    uploaded = parse_time(version.create_time)
    return Manifest(
        digest=parse_digest(version.name.rpartition("/")[2]),
        media_type=parse_media_type(metadata.media_type),
        tags=tuple(sorted({parse_tag(tag.name.rpartition("/tags/")[2]) for tag in version.related_tags})),
        # A time that is not set is sent as 1970.
        uploaded=uploaded if uploaded and uploaded > EPOCH else None,
        size=parse_number(metadata.image_size_bytes),
        has_unnamed_tags=len(version.related_tags) >= RELATED_TAGS_MAX,
    )


def _mode(body: bytes | bytearray) -> str:
    try:
        return _repository_decoder.decode(body).mode
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"the description of the repository is malformed: {error}") from error
