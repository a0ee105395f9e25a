"""Histories to start with, by name: ``NAME`` or ``NAME=COUNT``.

Each fills repositories of one host, with upload times that go back from now, a minute apart.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.emulator.images import (
    PLATFORMS,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    load_listing,
    multi_arch,
    referrer,
)
from tests.emulator.store import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulator.store import Store

DATA: Final = Path(__file__).parent.parent / "data"
_STEP: Final = timedelta(minutes=1)
# Older than any min_age that a benchmark would set.
_NEWEST: Final = timedelta(days=2)


def run(store: Store, host: str, scenario: str, path: str = "acme/api") -> list[str]:
    """Load ``scenario`` into ``host``; return the repositories that it filled.

    Raises:
        ValueError: There is no such scenario.
    """
    name, _, count = scenario.partition("=")
    now = datetime.now(tz=UTC)
    if name == "demo":
        return demo(store, host, now)
    if name == "burst":
        return burst(store, host, now, int(count or 50))
    filler = _FILLERS.get(name)
    if filler is None:
        raise ValueError(f"no scenario {name!r}; there are: burst, demo, {', '.join(sorted(_FILLERS))}")
    repository = f"{host}/{path}"
    filler(store, repository, now, int(count or _COUNTS[name]))
    return [repository]


def untagged(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` untagged Docker manifests and nothing else."""
    for at in range(count):
        load(store, repository, image(at), uploaded=now - _NEWEST - at * _STEP)


def tagged(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` Docker manifests with one tag each, ``build-0`` the newest."""
    for at in range(count):
        load(store, repository, image(at), tags=f"build-{at}", uploaded=now - _NEWEST - at * _STEP)


def indexes(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` indexes with two OCI platforms each; the newest third has tags, ``v0`` the newest."""
    for at in range(count):
        tags = f"v{at}" if at < count // 3 else ()
        load(store, repository, multi_arch(at), tags=tags, uploaded=now - _NEWEST - at * _STEP)


def referrers(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` tagged images, each with an OCI referrer."""
    for number in range(count):
        uploaded = now - timedelta(days=count - number)
        subject = load(store, repository, image(number), tags=f"v{number}", uploaded=uploaded)
        load(store, repository, referrer(subject), uploaded=uploaded)


def merged(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` builds of two platforms: an untagged index for each, and the tagged one that is merged of them."""
    for at in range(count):
        uploaded = now - _NEWEST - at * _STEP
        built = multi_arch(at, media_type=OCI_MANIFEST)
        for platform in built.children:
            load(store, repository, index([platform], media_type=OCI_INDEX, seed=at), uploaded=uploaded)
        load(store, repository, built, tags=f"v1.{at}.0", uploaded=uploaded)


def signatures(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` cosign signatures of images that another repository holds."""
    for at in range(count):
        signed = image(at)
        load(
            store,
            repository,
            cosign_signature(signed),
            tags=cosign_tag(signed),
            uploaded=now - _NEWEST - at * _STEP,
        )


def mixed(store: Store, repository: str, now: datetime, count: int) -> None:
    """``count`` builds as CI leaves them: attested indexes, branch tags, signatures, referrers, some releases."""
    for at in range(count):
        built = multi_arch(at, platforms=PLATFORMS[: 1 + at % 3], attestations=at % 2 == 0)
        tags = [f"main-{at:07x}"] if at % 3 else [f"v1.{at}.0", f"main-{at:07x}"]
        uploaded = now - _NEWEST - at * _STEP
        load(store, repository, built, tags=tags if at % 4 else (), uploaded=uploaded)
        if at % 5 == 0:
            load(store, repository, cosign_signature(built), tags=cosign_tag(built), uploaded=uploaded)
        if at % 7 == 0:
            load(store, repository, referrer(built), uploaded=uploaded)


def burst(store: Store, host: str, now: datetime, count: int) -> list[str]:
    """``count`` small repositories, ``acme/service-0`` and so on, with six untagged images each."""
    repositories = [f"{host}/acme/service-{at}" for at in range(count)]
    for repository in repositories:
        for at in range(6):
            load(store, repository, image(f"{repository}/{at}"), uploaded=now - _NEWEST - at * _STEP)
    return repositories


def demo(store: Store, host: str, now: datetime) -> list[str]:
    """What a CI leaves behind: a Jib service, signed and attested multi-arch builds, branches and releases."""
    jib, proxy = f"{host}/acme/jib-service", f"{host}/acme/proxy-agent"
    listing = json.loads((DATA / "gcr-jib.tags-list.json").read_text())
    load_listing(store, jib, listing)
    for at in range(4):
        load(store, jib, image(f"jib/{at}", size=114_600_000 + at), uploaded=now - timedelta(days=30 + at))

    for at in range(6):
        uploaded = now - timedelta(days=2 + 3 * at)
        built = multi_arch(f"proxy/{at}", media_type=OCI_MANIFEST, attestations=True)
        load(
            store, proxy, built, tags=["latest", f"v1.4.{6 - at}"] if at == 0 else f"v1.4.{6 - at}", uploaded=uploaded
        )
        load(store, proxy, cosign_signature(built), tags=cosign_tag(built), uploaded=uploaded)
    for at in range(3):
        built = multi_arch(f"proxy/lost/{at}", media_type=DOCKER_MANIFEST)
        load(store, proxy, built, uploaded=now - timedelta(days=40 + at))

    api = f"{host}/acme/api"
    for at in range(8):
        uploaded = now - timedelta(days=1 + at)
        load(
            store, api, image(f"api/main/{at}", size=48_000_000), tags=f"main-{0x3F2A1BC - at:07x}", uploaded=uploaded
        )
        load(
            store, api, image(f"api/pr/{at}", size=48_000_000), tags=f"pr-41-{0x91C77D0 + at:07x}", uploaded=uploaded
        )
    for at in range(3):
        load(
            store,
            api,
            image(f"api/release/{at}", size=47_000_000),
            tags=f"v1.4.{at}",
            uploaded=now - timedelta(days=90 - at),
        )
    return [api, jib, proxy]


_FILLERS: Final[dict[str, Callable[[Store, str, datetime, int], None]]] = {
    "indexes": indexes,
    "merged": merged,
    "mixed": mixed,
    "referrers": referrers,
    "signatures": signatures,
    "tagged": tagged,
    "untagged": untagged,
}
_COUNTS: Final = {
    "indexes": 300,
    "merged": 100,
    "mixed": 60,
    "referrers": 200,
    "signatures": 100,
    "tagged": 1000,
    "untagged": 2000,
}
