"""Builds listings and policies from short names, and tells plans by those names.

A name stands for a digest: its SHA-256.  Every policy goes through the real parser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cleaner.core.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Links, Listing, Manifest
from cleaner.core.plan import Deletion, Plan, Running, plan
from cleaner.core.policy import Policy, policies_from_document
from cleaner.core.reference import Digest, Repository, Tag

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
) -> Manifest:
    """Return the manifest ``name``; ``age_days`` None leaves the upload time unknown.

    ``tags`` and ``children`` are separated by spaces, and so are the pairs ``ATTESTATION:ATTESTED`` of ``attests``.
    An OCI index where it has children, else an OCI manifest; ``kind`` is a key of ``KINDS`` or any media type.
    """
    kind = kind or ("oci" if children is None else "oci-index")
    return Manifest(
        digest=digest(name),
        media_type=KINDS.get(kind, kind),
        tags=tuple(sorted(Tag(tag) for tag in tags.split())),
        uploaded=None if age_days is None else NOW - timedelta(days=age_days),
        size=size,
        links=Links(
            tuple(digest(child) for child in (children or "").split()),
            digest(subject) if subject else None,
            tuple(
                (digest(one), digest(other)) for one, _, other in (pair.partition(":") for pair in attests.split())
            ),
        ),
    )


def listing(*manifests: Manifest) -> Listing:
    """Return a repository of ``manifests``, in their order."""
    return Listing.of(REPOSITORY, manifests)


def policy(**keys: object) -> Policy:
    """Return the policy that a document with these keys describes, for every repository."""
    return policies_from_document([{"repositories": ["**"], **keys}])[0]


def retiring(**keys: object) -> Policy:
    """Return a policy under which tags protect nothing and whatever is a day old is no longer kept for being new."""
    return policy(**{"delete_tags": [".*"], "max_age": "1d", **keys})


# Everything that is a day old and that nothing else keeps goes.
RETIRING = retiring()


def planned(
    manifests: Iterable[Manifest],
    by: Policy,
    *,
    just_pushed: str = "",
    running: str = "",
    running_tags: str = "",
    already_deleted: int = 0,
    passed_over: str = "",
    stripped: Iterable[Manifest] = (),
) -> Plan:
    """Return the plan for a repository of ``manifests``; the texts name manifests, or tags, separated by spaces."""
    return plan(
        listing(*manifests),
        by,
        NOW,
        just_pushed=frozenset(digest(name) for name in just_pushed.split()),
        running=Running(
            {digest(name): f"runner of {name}" for name in running.split()},
            {Tag(tag): f"runner of {tag}" for tag in running_tags.split()},
        ),
        already_deleted=already_deleted,
        passed_over=frozenset(digest(name) for name in passed_over.split()),
        stripped=frozenset(each.digest for each in stripped),
    )


def kept(result: Plan) -> dict[str, str]:
    """Return the reason of each manifest that stays, by name."""
    return {name_of(verdict.manifest.digest): verdict.reason.value for verdict in result.keep}


def deleted(result: Plan) -> dict[str, str]:
    """Return the reason of each manifest that goes, by name."""
    return {name_of(deletion.manifest.digest): deletion.verdict.reason.value for deletion in result.delete}


def reasons(result: Plan) -> dict[str, str]:
    """Return the reason of every manifest, by name."""
    return kept(result) | deleted(result)


def deletion(result: Plan, name: str) -> Deletion:
    """Return how the manifest ``name`` goes."""
    return next(each for each in result.delete if each.manifest.digest == digest(name))


def after(result: Plan, name: str) -> set[str]:
    """Return what has to go before the manifest ``name``, by name."""
    return {name_of(other) for other in deletion(result, name).after}


def needs(result: Plan, name: str) -> set[str]:
    """Return what would have to stay with the manifest ``name``, by name."""
    return {name_of(other) for other in deletion(result, name).needs}


def possible_order(result: Plan) -> list[str]:
    """Return the deletions in an order that honours every ``after``, by name; fails where there is none."""
    waiting = {each.manifest.digest: set(each.after) for each in result.delete}
    order: list[str] = []
    while waiting:
        ready = [each for each, before in waiting.items() if not before & waiting.keys()]
        assert ready, f"these wait for one another: {sorted(map(name_of, waiting))}"
        for each in ready:
            del waiting[each]
        order.extend(map(name_of, ready))
    return order
