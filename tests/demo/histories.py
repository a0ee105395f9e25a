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

RELEASE: Final = r"v[0-9]+\.[0-9]+\.[0-9]+"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a person who reads the policy expects of one image, with all that belongs to it."""

    is_kept: bool
    reason: str
    why: str


def kept(reason: str, why: str) -> Expected:
    return Expected(is_kept=True, reason=reason, why=why)


def deleted(reason: str, why: str) -> Expected:
    return Expected(is_kept=False, reason=reason, why=why)


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
    """Return the repositories of the demo, each with what must be kept and what deleted."""
    return [
        _branches(host, now),
        _jib(host),
        _multi_arch(host, now),
        _merged(host, now),
        _signatures(host, now),
        _vendor(now),
        _attic(host, now),
    ]


def _branches(host: str, now: datetime) -> History:
    history = History(
        "acme/api",
        "one image per build, tagged by branch or pull request",
        {
            "repositories": [f"{host}/acme/api"],
            "tagged": [
                {"match": RELEASE, "keep": "all"},
                {"match": "(main|release-[0-9]+)-[0-9a-f]{7}", "keep": 2, "delete_after": "90d"},
                {"match": "pr-([0-9]+)-[0-9a-f]{7}", "keep": 1, "delete_after": "14d"},
            ],
        },
    )
    for tags, days, expected in (
        ("main-3f2a1bc", 1, kept("newest", "2nd newest of main")),
        ("main-81fe2d0", 3, deleted("expired", "3rd newest of main")),
        ("main-5b0c7aa v1.4.2", 6, kept("protected", "a release")),
        ("main-0d9f3c1", 9, deleted("expired", "5th newest of main")),
        ("release-1-7c0ffee", 100, deleted("expired", "newest of release-1, but over 90 days old")),
        ("pr-52-a77e310", 2, kept("newest", "newest of pull request 52")),
        ("pr-52-1c9b0f4", 3, deleted("expired", "2nd newest of pull request 52")),
        ("pr-41-9d0c77e", 45, deleted("expired", "newest of pr-41, but over 14 days old")),
        ("v1.4.1", 60, kept("protected", "a release")),
        ("v1.4.0", 120, kept("protected", "a release")),
        ("debug", 200, kept("unmatched", "no rule matches its tag")),
    ):
        history.build(image(tags, size=48_000_000 + days), tags, now - timedelta(days=days), expected)
    pushed = image("api/main-e4d909c", with_blobs=True)
    history.push = [(pushed, ["main-e4d909c"])]
    history.expected[pushed.digest] = kept("too-young", "the push")
    return history


def _jib(host: str) -> History:
    """The captured body: created 0 everywhere, so only the upload time tells old from new."""
    pushed = image("jib-service/latest", with_blobs=True)
    history = History(
        "acme/jib-service",
        "built by Jib, which says 1970 for every creation",
        {"repositories": [f"{host}/acme/jib-service"], "untagged": {"keep": 2}},
        push=[(pushed, ["latest"])],
        captured="gcr-jib.tags-list.json",
    )
    history.expected = {
        pushed.digest: kept("too-young", "the push; latest names it now"),
        "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d": kept(
            "newest", "newest without a tag, since the push took latest"
        ),
        "sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6": kept(
            "newest", "2nd newest without a tag"
        ),
        "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb": deleted(
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
            "tagged": [{"match": RELEASE, "keep": "all"}, {"match": "main-[0-9a-f]{7}", "keep": 2}],
            "untagged": {"keep": 0},
            "orphans": {"keep": 0},
        },
        planned="As of now; the push makes main-2ab4e90 the 3rd newest of main, and it is deleted too.",
    )
    arm64 = image("proxy/arm64/unchanged", media_type=OCI_MANIFEST, platform="arm64", size=39_000_000)

    def built(name: str, arm: Content | None = None) -> Content:
        images = [_platform(f"proxy/{name}", "amd64"), arm or _platform(f"proxy/{name}", "arm64")]
        return index([*images, *map(attestation, images)])

    for name, days, arm, expected in (
        ("main-8d3b5f6", 2, None, kept("newest", "2nd newest of main")),
        ("main-2ab4e90", 5, arm64, deleted("expired", "3rd newest of main")),
        ("v1.4.2", 8, arm64, kept("protected", "a release")),
    ):
        uploaded = now - timedelta(days=days)
        content = history.build(built(name, arm), name, uploaded, expected)
        history.sign(content, uploaded)
    history.build(referrer(content), "", now - timedelta(days=7), None)
    lost = multi_arch("proxy/untagged", media_type=DOCKER_MANIFEST)
    history.build(lost, "", now - timedelta(days=20), deleted("expired", "no tag names it any more"))
    absent = image("proxy/absent")
    history.build(
        cosign_signature(absent),
        cosign_tag(absent),
        now - timedelta(days=33),
        deleted("orphaned", "what it signed no longer exists"),
    )
    pushed = multi_arch("proxy/main-c0ffee1", attestations=True, with_blobs=True)
    history.push = [(pushed, ["main-c0ffee1"]), (cosign_signature(pushed), [cosign_tag(pushed)])]
    history.expected[pushed.digest] = kept("too-young", "the push")
    return history


def _merged(host: str, now: datetime) -> History:
    """Each platform is pushed by digest as an index of its own, then one index lists them all."""
    history = History(
        "acme/gateway",
        "each platform pushed by digest, then merged",
        {
            "repositories": [f"{host}/acme/gateway"],
            "tagged": [{"match": "main-[0-9a-f]{7}", "keep": 2}],
            "untagged": {"keep": 1},
        },
    )
    for name, days, expected, helper in (
        ("main-66ad01e", 2, kept("newest", "2nd newest of main"), kept("needed", "follows main-66ad01e")),
        (
            "main-1f90d3b",
            4,
            deleted("expired", "3rd newest of main"),
            deleted("follows", "follows main-1f90d3b"),
        ),
    ):
        uploaded = now - timedelta(days=days)
        parts: list[Content] = []
        for architecture in ("amd64", "arm64"):
            platform = _platform(f"gateway/{name}", architecture)
            pair = [platform, attestation(platform)]
            history.build(index(pair), "", uploaded, helper)
            parts += pair
        history.build(index(parts), name, uploaded, expected)
    for days, expected in (
        (20, kept("newest", "newest without a tag")),
        (30, deleted("expired", "2nd newest without a tag")),
    ):
        history.build(image(f"gateway/{days}", size=80_000_000), "", now - timedelta(days=days), expected)
    pushed = multi_arch("gateway/main-70ba2c4", with_blobs=True)
    history.push = [(pushed, ["main-70ba2c4"])]
    history.expected[pushed.digest] = kept("too-young", "the push")
    return history


def _signatures(host: str, now: datetime) -> History:
    """What is signed is in another repository, so to this one every signature is an orphan."""
    history = History(
        "acme/signatures",
        "signatures of what is in other repositories",
        {"repositories": [f"{host}/acme/signatures"]},
    )
    for days in (3, 40, 300):
        history.build(
            referrer(image(f"elsewhere/{days}"), artifact_type=BUNDLE),
            "",
            now - timedelta(days=days),
            kept("protected", "its subject is elsewhere, and orphans are kept"),
        )
    pushed = referrer(image("elsewhere/now"), artifact_type=BUNDLE)
    history.push = [(pushed, [])]
    history.expected[pushed.digest] = kept("too-young", "the push")
    return history


def _vendor(now: datetime) -> History:
    history = History("acme/vendor", "somebody else's; no policy names it", None)
    for tag, days in (("2.0", 400), ("", 700)):
        expected = kept("", "no policy names this repository")
        history.build(image(f"vendor/{tag}", size=90_000_000), tag, now - timedelta(days=days), expected)
    pushed = image("vendor/2.1", with_blobs=True)
    history.push = [(pushed, ["2.1"])]
    history.expected[pushed.digest] = kept("", "the push")
    return history


def _attic(host: str, now: datetime) -> History:
    history = History(
        "acme/attic",
        "nobody pushes here any more",
        {
            "repositories": [f"{host}/acme/attic"],
            "tagged": [{"match": RELEASE, "keep": "all"}, {"match": "nightly-[0-9]+", "keep": 2}],
            "untagged": {"keep": 0},
        },
    )
    for tags, days, expected in (
        ("nightly-412", 190, kept("newest", "newest nightly")),
        ("nightly-411", 191, kept("newest", "2nd newest nightly")),
        ("nightly-410", 192, deleted("expired", "3rd newest nightly")),
        ("nightly-409 v0.9.0", 193, kept("protected", "a release")),
        ("nightly-408", 194, deleted("expired", "5th newest nightly")),
        ("", 260, deleted("expired", "no tag names it any more")),
    ):
        history.build(image(f"attic/{tags}", size=75_000_000 + days), tags, now - timedelta(days=days), expected)
    return history


def _platform(name: str, architecture: str) -> Content:
    size = {"amd64": 41_000_000, "arm64": 39_500_000}[architecture]
    return image(f"{name}/{architecture}", media_type=OCI_MANIFEST, platform=architecture, size=size)
