"""The repositories of the demo, with what a person who reads their policies expects of each image.

Written by hand: nothing here asks the product.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    load_listing,
    multi_arch,
    referrer,
)
from tests.emulator.store import DOCKER_MANIFEST, OCI_MANIFEST

if TYPE_CHECKING:
    from tests.emulator.images import Content
    from tests.emulator.store import Store

DATA: Final = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a person who reads the policy expects of one image, with all that belongs to it."""

    stays: bool
    reason: str
    why: str


def stays(reason: str, why: str) -> Expected:
    return Expected(stays=True, reason=reason, why=why)


def goes(reason: str, why: str) -> Expected:
    return Expected(stays=False, reason=reason, why=why)


@dataclass(slots=True)
class History:
    """One repository: what CI has left there, what is pushed to it, and what has to become of each image.

    Nothing is pushed to what a sweep is for.  ``planned``, if any, is what there is to say about the plan before.
    """

    path: str
    about: str
    policy: dict[str, object] | None
    push: list[tuple[Content, list[str]]] = field(default_factory=list)
    expected: dict[str, Expected] = field(default_factory=dict)
    builds: list[tuple[Content, list[str], datetime]] = field(default_factory=list)
    captured: str = ""
    planned: str = ""

    def build(self, content: Content, tags: str, uploaded: datetime, expected: Expected | None) -> Content:
        """Add something that CI pushed at ``uploaded``; None for what belongs to another build."""
        self.builds.append((content, tags.split(), uploaded))
        if expected is not None:
            self.expected[content.digest] = expected
        return content

    def sign(self, content: Content, uploaded: datetime) -> None:
        self.build(cosign_signature(content), cosign_tag(content), uploaded, None)

    def load(self, store: Store, host: str) -> None:
        repository = f"{host}/{self.path}"
        if self.captured:
            load_listing(store, repository, json.loads((DATA / self.captured).read_text()))
        for content, tags, uploaded in self.builds:
            load(store, repository, content, tags=tags, uploaded=uploaded)


def histories(host: str, now: datetime) -> list[History]:
    """The repositories of the demo, each with what must stay and what must go.  Nothing here asks the product."""
    return [_branches(host, now), _jib(host), _multi_arch(host, now), _vendor(now), _attic(host, now)]


def _branches(host: str, now: datetime) -> History:
    history = History(
        "acme/api",
        "one image per build, tagged by branch",
        {
            "repositories": [f"{host}/acme/api"],
            "keep": 2,
            "group_by": "(.+)-[0-9a-f]{7}",
            "delete_tags": ["(main|pr-[0-9]+)-[0-9a-f]{7}"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
            "max_age": "30d",
        },
    )
    for tags, days, expected in (
        ("main-3f2a1bc", 1, stays("newest", "2nd newest of main")),
        ("main-81fe2d0", 3, goes("expired", "3rd newest of main")),
        ("main-5b0c7aa v1.4.2", 6, stays("protected-tag", "a release")),
        ("main-0d9f3c1", 9, goes("expired", "5th newest of main")),
        ("pr-52-a77e310", 2, stays("newest", "newest of pr-52")),
        ("pr-52-1c9b0f4", 3, stays("newest", "2nd newest of pr-52")),
        ("pr-52-7f00d1e", 4, goes("expired", "3rd newest of pr-52")),
        ("pr-41-9d0c77e", 45, goes("expired", "newest of pr-41, but 30 days old")),
        ("pr-41-2b6e11f", 46, goes("expired", "2nd newest of pr-41, but 30 days old")),
        ("v1.4.1", 60, stays("protected-tag", "a release")),
        ("v1.4.0", 120, stays("protected-tag", "a release")),
    ):
        history.build(image(tags, size=48_000_000 + days), tags, now - timedelta(days=days), expected)
    pushed = image("api/main-e4d909c", with_blobs=True)
    history.push = [(pushed, ["main-e4d909c"])]
    history.expected[pushed.digest] = stays("too-young", "the push")
    return history


def _jib(host: str) -> History:
    """The captured body: created 0 everywhere, so only the upload time tells old from new."""
    pushed = image("jib-service/latest", with_blobs=True)
    history = History(
        "acme/jib-service",
        "built by Jib, which says 1970 for every creation",
        {"repositories": [f"{host}/acme/jib-service"], "keep_untagged": 2},
        push=[(pushed, ["latest"])],
        captured="gcr-jib.tags-list.json",
    )
    history.expected = {
        pushed.digest: stays("too-young", "the push; latest names it now"),
        "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d": stays(
            "newest", "newest without a tag, since the push took latest"
        ),
        "sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6": stays(
            "newest", "2nd newest without a tag"
        ),
        "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb": goes(
            "expired", "3rd newest without a tag"
        ),
    }
    return history


def _multi_arch(host: str, now: datetime) -> History:
    history = History(
        "acme/proxy",
        "multi-arch, attested by BuildKit, signed by cosign",
        {
            "repositories": [f"{host}/acme/proxy"],
            "keep": 2,
            "keep_untagged": 0,
            "group_by": "(.+)-[0-9a-f]{7}",
            "delete_tags": ["main-[0-9a-f]{7}", "sha256-[0-9a-f]{64}\\.sig"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
        },
        planned="As of now; the push makes main-2ab4e90 the 3rd newest of main, and it goes too.",
    )
    arm64 = image("proxy/arm64/unchanged", media_type=OCI_MANIFEST, platform="arm64", size=39_000_000)

    def built(name: str, arm: Content | None = None) -> Content:
        images = [
            image(f"proxy/{name}/amd64", media_type=OCI_MANIFEST, platform="amd64", size=41_000_000),
            arm or image(f"proxy/{name}/arm64", media_type=OCI_MANIFEST, platform="arm64", size=39_500_000),
        ]
        return index([*images, *map(attestation, images)])

    for name, days, arm, expected in (
        ("main-8d3b5f6", 2, None, stays("newest", "2nd newest of main")),
        ("main-2ab4e90", 5, arm64, goes("expired", "3rd newest of main")),
        ("v1.4.2", 8, arm64, stays("protected-tag", "a release")),
    ):
        uploaded = now - timedelta(days=days)
        content = history.build(built(name, arm), name, uploaded, expected)
        history.sign(content, uploaded)
    history.build(referrer(content), "", now - timedelta(days=7), None)
    lost = multi_arch("proxy/untagged", media_type=DOCKER_MANIFEST)
    history.build(lost, "", now - timedelta(days=20), goes("expired", "no tag names it any more"))
    gone = image("proxy/gone")
    history.build(
        cosign_signature(gone), cosign_tag(gone), now - timedelta(days=33), goes("orphan", "what it signed is gone")
    )
    pushed = multi_arch("proxy/main-c0ffee1", attestations=True, with_blobs=True)
    history.push = [(pushed, ["main-c0ffee1"]), (cosign_signature(pushed), [cosign_tag(pushed)])]
    history.expected[pushed.digest] = stays("too-young", "the push")
    return history


def _vendor(now: datetime) -> History:
    history = History("acme/vendor", "somebody else's; no policy names it", None)
    for tag, days in (("2.0", 400), ("", 700)):
        expected = stays("", "no policy names this repository")
        history.build(image(f"vendor/{tag}", size=90_000_000), tag, now - timedelta(days=days), expected)
    pushed = image("vendor/2.1", with_blobs=True)
    history.push = [(pushed, ["2.1"])]
    history.expected[pushed.digest] = stays("", "the push")
    return history


def _attic(host: str, now: datetime) -> History:
    history = History(
        "acme/attic",
        "nobody pushes here any more",
        {
            "repositories": [f"{host}/acme/attic"],
            "keep": 2,
            "keep_untagged": 0,
            "delete_tags": ["nightly-[0-9]+"],
            "protect_tags": ["v[0-9]+\\.[0-9]+\\.[0-9]+"],
        },
    )
    for tags, days, expected in (
        ("nightly-412", 190, stays("newest", "newest with a tag")),
        ("nightly-411", 191, stays("newest", "2nd newest with a tag")),
        ("nightly-410", 192, goes("expired", "3rd newest with a tag")),
        ("nightly-409 v0.9.0", 193, stays("protected-tag", "a release")),
        ("nightly-408", 194, goes("expired", "5th newest with a tag")),
        ("", 260, goes("expired", "no tag names it any more")),
    ):
        history.build(image(f"attic/{tags}", size=75_000_000 + days), tags, now - timedelta(days=days), expected)
    return history
