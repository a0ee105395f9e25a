"""What Artifact Registry's names stand for: where the images of a repository or a package are in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from tests.emulator.names import GCR_LOCATIONS
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulator.server import Registry
    from tests.emulator.store import Store

# Every location that Artifact Registry has, whether a project has anything there or not.
_LOCATIONS: Final = """
    africa-south1 asia asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1 asia-south2
    asia-southeast1 asia-southeast2 australia-southeast1 australia-southeast2 europe europe-central2 europe-north1
    europe-southwest1 europe-west1 europe-west10 europe-west12 europe-west2 europe-west3 europe-west4 europe-west6
    europe-west8 europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2
    southamerica-east1 southamerica-west1 us us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2
    us-west3 us-west4
"""
LOCATIONS: Final = tuple(_LOCATIONS.split())


class Repository(NamedTuple):
    """A repository as REST names it, as clients pull from it, and the prefixes of its images in the store.

    Without the slash at the end.  The store knows ``us-docker.pkg.dev/P/gcr.io`` as ``gcr.io/P``.
    """

    name: str
    uri: str
    prefixes: tuple[str, ...]

    def mode(self, store: Store) -> str:
        return store.mode(next((one for one in self.prefixes if _exists(store, one)), self.prefixes[0]))

    def packages(self, store: Store) -> tuple[str, list[str]]:
        """The first prefix that has images, and the paths of these from there.

        Raises:
            Refusal: 404 ``NOT_FOUND``.
        """
        for prefix in self.prefixes:
            paths = store.under(prefix)
            if paths:
                return prefix, paths
        self.check(store)
        return self.prefixes[0], []

    def check(self, store: Store) -> None:
        """Refuse unless the repository exists.

        Raises:
            Refusal: 404 ``NOT_FOUND``.
        """
        if not any(_exists(store, prefix) for prefix in self.prefixes):
            raise not_found(self.name)


class Package(NamedTuple):
    """An image: as REST names it, and its full name in the store."""

    name: str
    held: str


def repository_of(registry: Registry, names: Mapping[str, str], repository: str | None = None) -> Repository:
    """The repository that a request names, which may not exist; ``repository`` is another of its location."""
    project, location = names["project"], names["location"]
    one = names["repository"] if repository is None else repository
    path, own = project.replace(":", "/", 1), registry.default_host
    uri = f"{location}-docker.pkg.dev/{path}/{one}"
    prefixes = [uri]
    if not is_google(own):
        # The emulator's own host is in every location.
        prefixes.append(f"{own}/{path}/{one}")
        if GCR_LOCATIONS.get(one) == location:
            prefixes.append(f"{own}/{path}")
    return Repository(f"projects/{project}/locations/{location}/repositories/{one}", uri, tuple(prefixes))


def repositories_in(registry: Registry, project: str, location: str) -> list[str]:
    """The identifiers of a project's repositories in a location, sorted."""
    store, path, own = registry.store, project.replace(":", "/", 1), registry.default_host
    found = set(store.below(f"{location}-docker.pkg.dev/{path}"))
    found |= {host for host, where in GCR_LOCATIONS.items() if where == location and store.below(f"{host}/{path}")}
    if not is_google(own):
        found |= set(store.below(f"{own}/{path}"))
    return sorted(found)


def package_of(registry: Registry, names: Mapping[str, str]) -> Package:
    """The package that a request names.

    Raises:
        Refusal: 404 ``NOT_FOUND``.
    """
    repository, package = repository_of(registry, names), names["package"]
    name = package_name(repository, package)
    held = registry.store.repositories_of(f"{prefix}/{package}" for prefix in repository.prefixes)
    if not held:
        raise not_found(name)
    return Package(name, held[0])


def package_name(repository: Repository, path: str) -> str:
    return f"{repository.name}/packages/{quote(path, safe='')}"


def not_found(name: str) -> Refusal:
    return Refusal(404, "NOT_FOUND", f"Requested entity was not found: {name}")


def is_google(host: str) -> bool:
    return host in GCR_LOCATIONS or host.endswith("-docker.pkg.dev")


def _exists(store: Store, prefix: str) -> bool:
    return bool(store.below(prefix)) or store.has_mode(prefix)
