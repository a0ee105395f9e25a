"""A repository as a tree: images, newest first, with their parts below them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.emulator.store import INDEXES, Manifest
from tests.support.held import Held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a repository's tree."""

    branch: str
    label: str
    depth: int
    manifest: Manifest
    kind: str


def tree(manifests: dict[str, Manifest], held: Held) -> Iterator[Line]:
    """The lines of a repository: images, newest first, with their parts below them."""
    children = {child for one in manifests.values() for child in one.children}
    roots = [
        one
        for one in manifests.values()
        if one.digest not in children and not any(subject in manifests for subject in held.subjects[one.digest])
    ]
    for root in sorted(roots, key=lambda one: (-int(str(one.uploaded_ms)), one.digest)):
        yield Line("", names_of(root) + _suffix(root), 0, root, "")
        yield from _below(root, manifests, held, "", 1)


def _below(manifest: Manifest, manifests: dict[str, Manifest], held: Held, indent: str, depth: int) -> Iterator[Line]:
    described = _children(manifest)
    parts = [(described[child], manifests[child]) for child in manifest.children if child in manifests]
    attached = [one for one in manifests.values() if manifest.digest in held.subjects[one.digest]]
    parts += [("SBOM" if one.subject else "signature", one) for one in attached]
    for at, (kind, part) in enumerate(parts):
        last = at + 1 == len(parts)
        yield Line(f"{indent}{'└─ ' if last else '├─ '}", kind, depth, part, kind)
        yield from _below(part, manifests, held, indent + ("   " if last else "│  "), depth + 1)


def owners(digest: str, manifests: dict[str, Manifest]) -> list[str]:
    """What lists a manifest, or has it attached to what it lists, by name."""
    return sorted({names_of(one) for one in manifests.values() if digest in one.children})


def _children(manifest: Manifest) -> dict[str, str]:
    """What each child of an index is: a platform, or the attestation of one."""
    if manifest.media_type not in INDEXES:
        return {}
    entries = json.loads(manifest.body)["manifests"]
    platforms = {one["digest"]: "/".join((one["platform"]["os"], one["platform"]["architecture"])) for one in entries}
    found = {}
    for one in entries:
        of = one.get("annotations", {}).get("vnd.docker.reference.digest")
        found[one["digest"]] = f"attestation {platforms[of]}" if of else platforms[one["digest"]]
    return found


def parts_in_words(lines: Sequence[Line]) -> str:
    """The parts below an image in a few words."""
    kinds: Counter[str] = Counter()
    for line in lines:
        if not line.depth:
            break
        kinds[line.kind.partition(" ")[0]] += 1
    return ", ".join(kind if count == 1 else f"{count} {kind}s" for kind, count in kinds.items())


def names_of(manifest: Manifest) -> str:
    tags = [tag if not tag.startswith("sha256-") else "signature" for tag in manifest.tags]
    return ", ".join(tags) or "(no tag)"


def _suffix(manifest: Manifest) -> str:
    return " index" if manifest.media_type in INDEXES else ""


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]
