"""The cases of ``tests/cases``: repositories, policies and what is expected of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from cleaner.core.manifest import Listing, Manifest, decode_links
from cleaner.core.policy import Policy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Digest, Tag, parse_repository
from cleaner.core.relations import may_have_subject, must_be_read

FOLDER = Path(__file__).parent.parent / "cases"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One case; ``README.md`` beside the files says what each key means."""

    what: str
    repository: str
    policy: list[dict[str, Any]]
    manifests: list[dict[str, Any]]
    expect: Mapping[str, str]
    reasons: Mapping[str, str] = msgspec.field(default_factory=dict)
    immutable_tags: bool = False
    left: list[str] = msgspec.field(default_factory=list)

    def the_policy(self) -> Policy:
        return policies_from_document(self.policy)[0]

    def bodies(self) -> dict[Digest, bytes]:
        """Return the bytes of each manifest."""
        return {
            Digest(one["digest"]): json.dumps(one["document"], separators=(",", ":")).encode()
            for one in self.manifests
        }

    def names(self) -> dict[str, str]:
        """Return the name of each manifest by its digest."""
        return {one["digest"]: one["name"] for one in self.manifests}

    def listing(self, now: datetime) -> Listing:
        """Return the repository at ``now``, with the documents that the product reads."""
        bodies = self.bodies()
        unread = Listing.of(
            parse_repository(self.repository),
            (
                Manifest(
                    Digest(one["digest"]),
                    one["media_type"],
                    tuple(sorted(map(Tag, one["tags"]))),
                    now - timedelta(seconds=one["age_seconds"]),
                )
                for one in self.manifests
            ),
        )

        def read(listing: Listing, digests: Iterable[Digest]) -> Listing:
            manifests = dict(listing.manifests)
            for digest in digests:
                links = decode_links(bodies[digest], digest, manifests[digest].media_type).within(manifests)
                manifests[digest] = msgspec.structs.replace(manifests[digest], links=links)
            return Listing(listing.repository, manifests)

        with_children = read(unread, must_be_read(unread))
        return read(with_children, may_have_subject(with_children))


def messages() -> list[tuple[dict[str, Any], str]]:
    """Return the data of each message of ``27-notifications.json``, and what it means."""
    document = json.loads((FOLDER / "27-notifications.json").read_text())
    return [(one["data"], one["expect"]) for one in document["messages"]]


CASES = {
    path.stem: msgspec.json.decode(path.read_bytes(), type=Case)
    for path in sorted(FOLDER.glob("*.json"))
    if path.stem != "27-notifications"
}
