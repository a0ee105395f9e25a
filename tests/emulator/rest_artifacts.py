"""Artifact Registry v1: locations, repositories, packages, versions, tags, Docker images, and deletions.

A handler answers one method of one kind of resource; the names in the request's path are given decoded.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.emulator import rest_resources as resources
from tests.emulator.answer import Answer, json_answer
from tests.emulator.rest_names import (
    LOCATIONS,
    not_found,
    package_name,
    package_of,
    repositories_in,
    repository_of,
)
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.emulator.paging import Query
    from tests.emulator.server import Registry
    from tests.emulator.store import Manifest

    Names: TypeAlias = Mapping[str, str]
    Handler: TypeAlias = Callable[[Registry, Names, Query, bytes], Answer]

_OF_VERSION: Final = re.compile(r'version\s*=\s*"?(?:[^"]*/versions/)?(?P<digest>[^"/]+)"?')


def _listed(field: str, items: Sequence[object], more: Mapping[str, str]) -> Answer:
    """A page.  Google's APIs leave an empty list out."""
    return json_answer({**({field: items} if items else {}), **more})


# Projects and locations.


def _list_locations(_registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    page, more = asked.page(LOCATIONS)
    return _listed("locations", [_location(names["project"], one) for one in page], more)


def _get_location(_registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    if names["location"] not in LOCATIONS:
        raise not_found(f"projects/{names['project']}/locations/{names['location']}")
    return json_answer(_location(names["project"], names["location"]))


def _location(project: str, location: str) -> dict[str, object]:
    return {"name": f"projects/{project}/locations/{location}", "locationId": location}


def _get_settings(_registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    # Container Registry is closed: every gcr.io name is Artifact Registry's.
    name = f"projects/{names['project']}/projectSettings"
    return json_answer({"name": name, "legacyRedirectionState": "REDIRECTION_FROM_GCR_IO_ENABLED"})


def _get_operation(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    name = f"projects/{names['project']}/locations/{names['location']}/operations/{names['operation']}"
    if name not in registry.operations:
        raise not_found(name)
    return json_answer(_operation(name))


def _operation(name: str) -> dict[str, object]:
    return {"name": name, "done": True, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}


def _done(registry: Registry, names: Names) -> Answer:
    """The operation that a deletion begins, which has ended already."""
    name = f"projects/{names['project']}/locations/{names['location']}/operations/{uuid.uuid4()}"
    registry.operations.add(name)
    return json_answer(_operation(name))


# Repositories and packages.


def _list_repositories(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    page, more = asked.page(repositories_in(registry, names["project"], names["location"]))
    shown = [resources.repository(repository_of(registry, names, one), registry.store) for one in page]
    return _listed("repositories", shown, more)


def _get_repository(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    repository = repository_of(registry, names)
    repository.check(registry.store)
    return json_answer(resources.repository(repository, registry.store))


def _list_packages(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    repository = repository_of(registry, names)
    prefix, paths = repository.packages(registry.store)
    page, more = asked.page(paths)
    shown = [resources.package(package_name(repository, path), f"{prefix}/{path}", registry.store) for path in page]
    return _listed("packages", shown, more)


def _get_package(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    package = package_of(registry, names)
    return json_answer(resources.package(package.name, package.held, registry.store))


def _delete_package(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    registry.store.delete_repository(package_of(registry, names).held)
    return _done(registry, names)


# Versions.


def _list_versions(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    package = package_of(registry, names)
    page, more = asked.page(registry.store.order(package.held))

    def spell() -> bytes:
        manifests = registry.store.some(package.held, page)
        shown = [resources.version(one, package.name, is_full=asked.is_full) for one in manifests]
        return _listed("versions", shown, more).body

    key = ("versions", package.name, asked.is_full, *page[:1], len(page))
    body = registry.store.kept_until_changed(package.held, key, spell)
    return Answer(200, body, {"Content-Type": "application/json"})


def _get_version(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    package = package_of(registry, names)
    manifest = _manifest(registry, package.held, names["version"], f"{package.name}/versions/{names['version']}")
    return json_answer(resources.version(manifest, package.name, is_full=asked.is_full))


def _delete_version(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    package = package_of(registry, names)
    is_forced = asked.one("force").lower() == "true"
    registry.store.delete_manifest(package.held, names["version"], with_tags=is_forced)
    return _done(registry, names)


def _manifest(registry: Registry, held: str, digest: str, name: str) -> Manifest:
    found = registry.store.some(held, [digest])
    if not found:
        raise not_found(name)
    return found[0]


# Tags.


def _list_tags(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    package = package_of(registry, names)
    tags = registry.store.tags(package.held)
    wanted = asked.one("filter")
    if wanted:
        match = _OF_VERSION.fullmatch(wanted)
        if match is None:
            raise Refusal(400, "INVALID_ARGUMENT", f"the emulator does not know the filter {wanted}")
        tags = {tag: digest for tag, digest in tags.items() if digest == match["digest"]}
    page, more = asked.page(sorted(tags))
    return _listed("tags", [resources.tag(package.name, one, tags[one]) for one in page], more)


def _get_tag(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    package, tag = package_of(registry, names), names["tag"]
    tags = registry.store.tags(package.held)
    if tag not in tags:
        raise not_found(f"{package.name}/tags/{tag}")
    return json_answer(resources.tag(package.name, tag, tags[tag]))


def _create_tag(registry: Registry, names: Names, asked: Query, body: bytes) -> Answer:
    package, tag = package_of(registry, names), asked.one("tagId")
    if not tag:
        raise Refusal(400, "INVALID_ARGUMENT", "no tagId")
    if tag in registry.store.tags(package.held):
        raise Refusal(409, "ALREADY_EXISTS", f"{package.name}/tags/{tag} already exists")
    return _set_tag(registry, names, tag, body)


def _patch_tag(registry: Registry, names: Names, _asked: Query, body: bytes) -> Answer:
    package, tag = package_of(registry, names), names["tag"]
    if tag not in registry.store.tags(package.held):
        raise not_found(f"{package.name}/tags/{tag}")
    return _set_tag(registry, names, tag, body)


def _set_tag(registry: Registry, names: Names, tag: str, body: bytes) -> Answer:
    package = package_of(registry, names)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, str):
        raise Refusal(400, "INVALID_ARGUMENT", "no version")
    digest = version.rpartition("/")[2]
    registry.store.tag(package.held, tag, digest)
    return json_answer(resources.tag(package.name, tag, digest))


def _delete_tag(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    registry.store.delete_tag(package_of(registry, names).held, names["tag"])
    return json_answer({})


# Docker images.


def _list_docker_images(registry: Registry, names: Names, asked: Query, _body: bytes) -> Answer:
    repository, store = repository_of(registry, names), registry.store
    prefix, paths = repository.packages(store)
    page, more = asked.page(
        sorted(f"{path}@{digest}" for path in paths for digest in store.order(f"{prefix}/{path}"))
    )
    shown: list[object] = []
    for path, _, digest in (one.rpartition("@") for one in page):
        shown += [resources.docker_image(one, repository, path) for one in store.some(f"{prefix}/{path}", [digest])]
    return _listed("dockerImages", shown, more)


def _get_docker_image(registry: Registry, names: Names, _asked: Query, _body: bytes) -> Answer:
    path, _, digest = names["image"].rpartition("@")
    package = package_of(registry, {**names, "package": path})
    manifest = _manifest(registry, package.held, digest, names["image"])
    return json_answer(resources.docker_image(manifest, repository_of(registry, names), path))


HANDLERS: Final[Mapping[tuple[str, str], Handler]] = {
    ("GET", "rest_locations"): _list_locations,
    ("GET", "rest_location"): _get_location,
    ("GET", "rest_settings"): _get_settings,
    ("GET", "rest_operation"): _get_operation,
    ("GET", "rest_repositories"): _list_repositories,
    ("GET", "rest_repository"): _get_repository,
    ("GET", "rest_packages"): _list_packages,
    ("GET", "rest_package"): _get_package,
    ("DELETE", "rest_package"): _delete_package,
    ("GET", "rest_versions"): _list_versions,
    ("GET", "rest_version"): _get_version,
    ("DELETE", "rest_version"): _delete_version,
    ("GET", "rest_tags"): _list_tags,
    ("POST", "rest_tags"): _create_tag,
    ("GET", "rest_tag"): _get_tag,
    ("PATCH", "rest_tag"): _patch_tag,
    ("DELETE", "rest_tag"): _delete_tag,
    ("GET", "rest_docker_images"): _list_docker_images,
    ("GET", "rest_docker_image"): _get_docker_image,
}
