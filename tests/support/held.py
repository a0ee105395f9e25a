"""What a repository held, and that it is whole after whatever happened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.emulator.store import DOCKER_MANIFEST, OCI_INDEX, OCI_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.emulator.store import Manifest, Store

_REFERRER_TAG: Final = re.compile(r"sha256-([0-9a-f]{64})(\..+)?")


@dataclass(frozen=True, slots=True)
class Held:
    """What a repository held at a moment: each manifest with its parts and its tags."""

    children: Mapping[str, tuple[str, ...]]
    subjects: Mapping[str, frozenset[str]]
    tags: Mapping[str, frozenset[str]]

    @classmethod
    def now(cls, store: Store, repository: str) -> Held:
        manifests = store.manifests(repository)
        return cls(
            {digest: manifest.children for digest, manifest in manifests.items()},
            {digest: _subjects(manifest, manifests) for digest, manifest in manifests.items()},
            {digest: frozenset(manifest.tags) for digest, manifest in manifests.items()},
        )

    def whole(self, digest: str) -> set[str]:
        """``digest``, and what belongs to it: children, and what is attached to any of them by subject or tag."""
        found: set[str] = set()
        pending = [digest]
        while pending:
            one = pending.pop()
            if one in found or one not in self.children:
                continue
            found.add(one)
            pending += self.children[one]
            pending += [other for other, subjects in self.subjects.items() if one in subjects]
        return found


def _subjects(manifest: Manifest, manifests: Mapping[str, Manifest]) -> frozenset[str]:
    named = {_subject_of_tag(manifest, tag, manifests) for tag in manifest.tags} | {manifest.subject}
    if not manifest.tags and _is_referrers_index(manifest):
        named |= {manifests[child].subject for child in manifest.children if child in manifests}
    return frozenset(subject for subject in named if subject)


def _subject_of_tag(manifest: Manifest, tag: str, manifests: Mapping[str, Manifest]) -> str | None:
    """The subject that a referrer tag names; None for an ordinary tag."""
    match = _REFERRER_TAG.fullmatch(tag)
    subject = f"sha256:{match[1]}" if match else manifest.digest
    if match is None or subject == manifest.digest:
        return None
    if match[2]:
        names_it = manifest.media_type in OCI_TYPES or (
            manifest.media_type == DOCKER_MANIFEST and subject in manifests
        )
    else:
        names_it = _is_referrers_index(manifest) or (manifest.media_type == OCI_INDEX and subject in manifests)
    return subject if names_it else None


def _is_referrers_index(manifest: Manifest) -> bool:
    """Whether it is an OCI index in which every descriptor has an ``artifactType``."""
    if manifest.media_type != OCI_INDEX:
        return False
    return all(entry.get("artifactType") for entry in json.loads(manifest.body).get("manifests") or [])


def assert_whole(before: Held, store: Store, repository: str, kept: Iterable[str]) -> None:
    """Every image of ``kept`` is as it was ``before``, with its tags and all that belongs to it.

    Besides, nothing that is left has lost a part.
    """
    now = Held.now(store, repository)
    for digest, children in now.children.items():
        lost = [child for child in children if child in before.children and child not in now.children]
        assert not lost, f"{repository}: {digest} has lost {lost}"
    for digest in kept:
        lost = sorted(before.whole(digest) - now.children.keys())
        assert not lost, f"{repository}: {digest} should be whole, and has lost {lost}"
        for part in before.whole(digest):
            assert now.tags[part] >= before.tags[part], f"{repository}: {part} has lost tags"
