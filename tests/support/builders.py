"""Builds listings and policies from short names, and tells plans by those names.

A name stands for a digest: its SHA-256.  Every policy goes through the real parser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from types import MappingProxyType

from cleaner.core.history import Deleted, History
from cleaner.core.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    IMAGE,
    NO_DESCRIPTORS,
    OCI_INDEX,
    OCI_MANIFEST,
    Links,
    Listing,
    Manifest,
)
from cleaner.core.notification import Named
from cleaner.core.plan import Plan, plan
from cleaner.core.policy import Policy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.rules import Running
from cleaner.core.steps import Step

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
REPOSITORY = Repository("gcr.io", "acme/api")
KINDS = {"oci": OCI_MANIFEST, "docker": DOCKER_MANIFEST, "oci-index": OCI_INDEX, "docker-index": DOCKER_INDEX}

_names: dict[str, str] = {}


def digest(name: str) -> Digest:
    """Return the digest that ``name`` stands for; a digest stands for itself."""
    if name.startswith("sha256:"):
        return Digest(name)
    value = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    _names[value] = name
    return Digest(value)


def name_of(value: str) -> str:
    """Return the name that a digest was made from."""
    return _names.get(value, value)


def named(*names: str) -> list[str]:
    """Return names by their digests, the smallest first."""
    return sorted(names, key=digest)


def cosign(name: str, suffix: str = ".sig") -> str:
    """Return the tag by which cosign attaches something to the manifest ``name``."""
    return digest(name).replace(":", "-") + suffix


def manifest(
    name: str,
    age_days: float | None = 30,
    tags: str = "",
    *,
    children: str | None = None,
    subject: str = "",
    attests: str = "",
    kind: str = "",
    size: int = 0,
    without_platform: str = "",
    is_referrers_index: bool = False,
    lists_absent: bool = False,
    content: str = IMAGE,
) -> Manifest:
    """Return the manifest ``name``; ``age_days`` None leaves the upload time unknown.

    ``tags`` and ``children`` are separated by spaces, and so are the pairs ``ATTESTATION:ATTESTED`` of ``attests``
    and the children ``without_platform``; in a referrers index that is all of them.  An OCI index where it has
    children, else an OCI manifest; ``kind`` is a key of ``KINDS`` or any media type.  ``lists_absent``: the index
    also lists manifests that are not in the repository.
    """
    kind = kind or ("oci" if children is None else "oci-index")
    listed = tuple(digest(child) for child in (children or "").split())
    has_descriptors = bool(listed) or lists_absent
    is_empty_index = kind.endswith("index") and not has_descriptors
    return Manifest(
        digest=digest(name),
        media_type=KINDS.get(kind, kind),
        tags=tuple(sorted(Tag(tag) for tag in tags.split())),
        uploaded=None if age_days is None else NOW - timedelta(days=age_days),
        size=size,
        links=Links(
            listed,
            digest(subject) if subject else None,
            tuple(
                (digest(one), digest(other)) for one, _, other in (pair.partition(":") for pair in attests.split())
            ),
            without_platform=listed if is_referrers_index else tuple(map(digest, without_platform.split())),
            has_descriptors=has_descriptors,
            is_referrers_index=is_referrers_index or (is_empty_index and kind == "oci-index"),
            content=NO_DESCRIPTORS if is_empty_index else content,
        ),
    )


def listing(*manifests: Manifest) -> Listing:
    """Return a repository of ``manifests``, in their order."""
    return Listing.of(REPOSITORY, manifests)


def policy(**keys: object) -> Policy:
    """Return the policy that a document with these keys describes, for every repository."""
    return policies_from_document([{"repositories": ["**"], **keys}])[0]


def one_rule(
    keep: int | str = 5,
    untagged: int | str = 5,
    *,
    match: str | list[str] = ".*",
    delete_after: str | None = None,
    **keys: object,
) -> dict[str, object]:
    """Return the keys of a policy with one rule for tags, under which orphans are deleted.

    ``delete_after`` is that of tagged and untagged images; where 0 are kept it has no effect, and is left out.
    """

    def rule(count: int | str) -> dict[str, object]:
        return {"keep": count, **({"delete_after": delete_after} if delete_after and count != 0 else {})}

    tagged = [{"match": match, **rule(keep)}]
    return {"tagged": tagged, "untagged": rule(untagged), "orphans": {"keep": 0}, **keys}


def retiring(**keys: object) -> Policy:
    """Return a policy under which whatever is a day old is no longer kept for being new."""
    return policy(**{**one_rule(delete_after="1d"), **keys})


# Everything that is a day old and that nothing else keeps is deleted.
RETIRING = retiring()


def planned(
    manifests: Iterable[Manifest],
    by: Policy,
    *,
    just_pushed: str = "",
    named_tags: str = "",
    running: str = "",
    running_tags: str = "",
    already_deleted: int = 0,
    undeletable: str = "",
    refused: str = "",
    deleted: Iterable[Manifest] = (),
    lost_tags: Mapping[str, str] = MappingProxyType({}),
    history: History | None = None,
    has_immutable_tags: bool = False,
    untagged_before: str | None = None,
    only: str | None = None,
) -> Plan:
    """Return the plan for a repository of ``manifests``; the texts name manifests, or tags, separated by spaces.

    ``deleted`` and ``lost_tags`` are what a run has deleted already, ``already_deleted`` how many images beside them.
    With ``history`` that is what the run knows, and has observed.
    """
    if history is None:
        history = History(
            deleted={one.digest: Deleted(one, counts=True) for one in deleted},
            lost_tags={digest(name): {Tag(tag) for tag in tags.split()} for name, tags in lost_tags.items()},
            undeletable={digest(name) for name in undeletable.split()},
            refused={digest(name) for name in refused.split()},
            has_immutable_tags=has_immutable_tags,
        )
    there = listing(*manifests)
    restored = history.restore(there)
    for number in range(already_deleted):
        history.add_deleted(manifest(f"deleted {number}"), counts=True)
    return plan(
        restored,
        by,
        NOW,
        named=Named(
            frozenset(digest(name) for name in just_pushed.split()), frozenset(Tag(tag) for tag in named_tags.split())
        ),
        running=Running(
            {digest(name): f"runner of {name}" for name in running.split()},
            {Tag(tag): f"runner of {tag}" for tag in running_tags.split()},
        ),
        history=history,
        untagged_before=None if untagged_before is None else frozenset(map(digest, untagged_before.split())),
        only=None if only is None else frozenset(map(digest, only.split())),
    )


def kept(result: Plan) -> dict[str, str]:
    """Return the reason of each manifest that stays, by name."""
    return {name_of(verdict.manifest.digest): verdict.reason.value for verdict in result.keep}


def deleted(result: Plan) -> dict[str, str]:
    """Return the reason of each manifest that is deleted, by name."""
    return {name_of(verdict.manifest.digest): verdict.reason.value for verdict in result.delete}


def reasons(result: Plan) -> dict[str, str]:
    """Return the reason of every manifest, by name."""
    return kept(result) | deleted(result)


def steps_of(result: Plan, name: str) -> list[Step]:
    """Return the steps that delete the manifest ``name``, in their order."""
    return [step for step in result.steps if step.manifest.digest == digest(name)]


def after(result: Plan, name: str) -> set[str]:
    """Return which other manifests' steps come immediately before one of the manifest ``name``, by name."""
    before = {name_of(result.steps[at].manifest.digest) for step in steps_of(result, name) for at in step.after}
    return before - {name}


def possible_order(result: Plan) -> list[str]:
    """Return the manifests in an order in which the steps can delete them, by name; fails where there is none."""
    order = TopologicalSorter({at: step.after for at, step in enumerate(result.steps)}).static_order()
    steps = (result.steps[at] for at in order)
    return [name_of(step.manifest.digest) for step in steps if step.deletes_manifest]
