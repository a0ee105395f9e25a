"""Content as the real tools make it: images, indexes, attestations, signatures, referrers.

Everything is seeded: the same seed makes the same digests, another seed makes others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tests.emulator.names import digest_of
from tests.emulator.store import DOCKER_LIST, DOCKER_MANIFEST, INDEXES, NOW, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.emulator.store import Store

# What the tools write as the creation time, as Google's listing shows it.
CREATED_ZERO_MS: Final = 0  # Jib, kaniko, Bazel; and every index
CREATED_YEAR_ONE_MS: Final = -62_135_596_800_000  # cosign: Go's zero time

PLATFORMS: Final = ("amd64", "arm64", "arm", "ppc64le", "s390x", "riscv64")
_COSIGN_LAYER: Final = "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest that is not in a registry yet.  ``blobs`` are what a push must upload before it."""

    digest: str
    media_type: str
    body: bytes
    size: int
    created_ms: int
    blobs: tuple[bytes, ...] = ()
    children: tuple[Content, ...] = ()
    descriptor_extra: tuple[tuple[str, object], ...] = ()

    def descriptor(self) -> dict[str, object]:
        """How an index or a ``subject`` names it."""
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.body),
            **dict(self.descriptor_extra),
        }


def image(
    seed: object,
    *,
    media_type: str = DOCKER_MANIFEST,
    size: int | None = None,
    created_ms: int = CREATED_ZERO_MS,
    platform: str | None = None,
    subject: Content | str | None = None,
    with_blobs: bool = False,
) -> Content:
    """One platform's image.  ``with_blobs`` makes real blobs, so that strict stores take it."""
    config = json.dumps(
        {
            "architecture": platform or "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [{"created_by": f"seed {seed}"}],
        }
    ).encode()
    layer = hashlib.sha256(f"layer {seed}".encode()).digest() * 4
    docker = media_type == DOCKER_MANIFEST
    config_type = (
        "application/vnd.docker.container.image.v1+json" if docker else "application/vnd.oci.image.config.v1+json"
    )
    layer_type = (
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        if docker
        else "application/vnd.oci.image.layer.v1.tar+gzip"
    )
    layer_size = len(layer) if size is None else size - len(config)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "size": len(config), "digest": digest_of(config)},
        "layers": [{"mediaType": layer_type, "size": layer_size, "digest": digest_of(layer)}],
    }
    if subject is not None:
        document["subject"] = _subject(subject)
    body = _spell(document)
    return Content(
        digest=digest_of(body),
        media_type=media_type,
        body=body,
        size=len(config) + layer_size,
        created_ms=created_ms,
        blobs=(config, layer) if with_blobs else (),
        descriptor_extra=(("platform", {"architecture": platform, "os": "linux"}),) if platform else (),
    )


def index(
    children: Sequence[Content],
    *,
    media_type: str | None = None,
    absent: Iterable[str] = (),
    seed: object = None,
    subject: Content | str | None = None,
) -> Content:
    """An image index.  ``absent`` are digests that it lists besides, which nobody pushes.

    Its type is Docker's when all its children are Docker's, OCI's otherwise, unless told.
    """
    if media_type is None:
        docker = bool(children) and all(one.media_type in (DOCKER_MANIFEST, DOCKER_LIST) for one in children)
        media_type = DOCKER_LIST if docker else OCI_INDEX
    entries = [one.descriptor() for one in children]
    entries += [{"mediaType": OCI_MANIFEST, "size": 482, "digest": digest} for digest in absent]
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    if seed is not None:
        document["annotations"] = {"org.opencontainers.image.revision": str(seed)}
    if subject is not None:
        document["subject"] = _subject(subject)
    body = _spell(document)
    return Content(digest_of(body), media_type, body, 0, CREATED_ZERO_MS, children=tuple(children))


def referrers_index(listed: Sequence[Content], *, seed: object = None) -> Content:
    """The index of referrers that clients keep where a registry has no referrers API: each descriptor has a type."""
    typed = [
        replace(one, descriptor_extra=(*one.descriptor_extra, ("artifactType", _artifact_type(one))))
        for one in listed
    ]
    return index(typed, media_type=OCI_INDEX, seed=seed)


def _artifact_type(content: Content) -> str:
    document = json.loads(content.body)
    return str(document.get("artifactType") or document.get("config", {}).get("mediaType") or content.media_type)


def attestation(of: Content, *, as_referrer: bool = False, is_annotated: bool = True, seed: object = 0) -> Content:
    """BuildKit's provenance for one platform: an OCI manifest that an index lists as ``unknown/unknown``.

    As a referrer it is what BuildKit makes with ``oci-artifact=true``: its ``subject`` is the platform.
    """
    config = _spell({"architecture": "unknown", "os": "unknown", "config": {}})
    statement = _spell(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "subject": [{"digest": {"sha256": of.digest[7:]}}],
            **({"predicate": {"build": str(seed)}} if seed else {}),
        }
    )
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.in-toto+json",
                "digest": digest_of(statement),
                "size": len(statement),
                "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
            }
        ],
    }
    if as_referrer:
        document["subject"] = _subject(of)
    body = _spell(document)
    annotations = {
        "vnd.docker.reference.digest": of.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return Content(
        digest=digest_of(body),
        media_type=OCI_MANIFEST,
        body=body,
        size=len(config) + len(statement),
        created_ms=CREATED_ZERO_MS,
        blobs=(config, statement),
        descriptor_extra=(
            *((("annotations", annotations),) if is_annotated else ()),
            ("platform", {"architecture": "unknown", "os": "unknown"}),
        ),
    )


def cosign_tag(subject: Content | str, suffix: str = "sig") -> str:
    """The tag by which cosign finds what it attached to ``subject``: ``sha256-HEX.sig``."""
    digest = subject if isinstance(subject, str) else subject.digest
    return digest.replace(":", "-") + (f".{suffix}" if suffix else "")


def cosign_signature(of: Content | str, *, seed: object = 0) -> Content:
    """A cosign signature; push it with the tag :func:`cosign_tag`.  The registry does not know what it signs."""
    digest = of if isinstance(of, str) else of.digest
    payload = _spell(
        {"critical": {"image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}}
    )
    config = _spell(
        {
            "architecture": "",
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"}],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(payload)]},
            "config": {},
        }
    )
    signature = hashlib.sha256(f"{digest} {seed}".encode()).hexdigest()
    body = _spell(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": len(config),
                "digest": digest_of(config),
            },
            "layers": [
                {
                    "mediaType": _COSIGN_LAYER,
                    "size": len(payload),
                    "digest": digest_of(payload),
                    "annotations": {"dev.cosignproject.cosign/signature": signature},
                }
            ],
        }
    )
    return Content(
        digest_of(body), OCI_MANIFEST, body, len(config) + len(payload), CREATED_YEAR_ONE_MS, blobs=(config, payload)
    )


def referrer(subject: Content | str, *, artifact_type: str = "application/spdx+json", seed: object = 0) -> Content:
    """An OCI 1.1 referrer: an OCI manifest with ``subject`` and ``artifactType``."""
    empty = b"{}"
    layer = _spell({"about": _subject(subject)["digest"], "seed": str(seed)})
    body = _spell(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(empty), "size": 2},
            "layers": [{"mediaType": artifact_type, "digest": digest_of(layer), "size": len(layer)}],
            "subject": _subject(subject),
        }
    )
    return Content(digest_of(body), OCI_MANIFEST, body, 2 + len(layer), CREATED_ZERO_MS, blobs=(empty, layer))


def raw(body: bytes, media_type: str, *, size: int = 0, created_ms: int = 0) -> Content:
    """Any bytes as a manifest: nonsense, unknown types, hostile depth."""
    return Content(digest_of(body), media_type, body, size, created_ms)


def load(
    store: Store,
    repository: str,
    content: Content,
    *,
    tags: Iterable[str] | str = (),
    uploaded: datetime | int | str | None = NOW,
    created_ms: int | str | None = NOW,
) -> str:
    """Put ``content``, its children first, into the store; return its digest.

    ``uploaded``: an aware datetime, ms, None (left out of listings), or any text to be spelled as it is.
    The parts of an index get the same upload time; the blobs that ``content`` carries come along.
    """
    if isinstance(uploaded, datetime):
        uploaded = round(uploaded.timestamp() * 1000)
    for child in content.children:
        if not store.has(repository, child.digest):
            load(store, repository, child, uploaded=uploaded)
    for blob in content.blobs:
        store.put_blob(repository, blob)
    store.put_manifest(
        repository,
        content.body,
        content.media_type,
        tags=[tags] if isinstance(tags, str) else tags,
        size=content.size,
        uploaded_ms=uploaded,
        created_ms=content.created_ms if created_ms == NOW else created_ms,
    )
    return content.digest


def multi_arch(
    seed: object,
    *,
    platforms: Sequence[str] = ("amd64", "arm64"),
    media_type: str = OCI_MANIFEST,
    attestations: bool = False,
    with_blobs: bool = False,
) -> Content:
    """An index with one image per platform and, as BuildKit does, one attestation for each."""
    images = [
        image(f"{seed}/{name}", media_type=media_type, platform=name, with_blobs=with_blobs) for name in platforms
    ]
    return index([*images, *([attestation(one) for one in images] if attestations else [])])


def load_listing(
    store: Store,
    repository: str,
    listing: Mapping[str, object],
    bodies: Mapping[str, bytes] | None = None,
) -> list[str]:
    """Fill a repository from a captured ``tags/list`` body; return its digests in the body's order.

    The digests stay as they were captured.  ``bodies`` are the manifests that were captured too; the others are
    invented and do not match their digests, which shows only when one of them is read.
    """
    manifests = listing.get("manifest")
    if not isinstance(manifests, dict):
        raise TypeError("the listing has no manifest map")
    for digest, entry in manifests.items():
        body = (bodies or {}).get(digest)
        if body is None:
            body = image(digest, media_type=entry["mediaType"]).body if entry["mediaType"] not in INDEXES else b"{}"
        store.put_manifest(
            repository,
            body,
            entry["mediaType"],
            digest=digest,
            trust_digest=True,
            tags=entry.get("tag", ()),
            size=int(entry.get("imageSizeBytes", 0)),
            uploaded_ms=_ms(entry.get("timeUploadedMs")),
            created_ms=_ms(entry.get("timeCreatedMs")),
        )
    return list(manifests)


def _ms(value: object) -> int | str | None:
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        return int(value)
    return value if isinstance(value, (int, str)) else None


def _spell(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _subject(subject: Content | str) -> dict[str, object]:
    if isinstance(subject, str):
        return {"mediaType": OCI_MANIFEST, "digest": subject, "size": 482}
    return {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.body)}
