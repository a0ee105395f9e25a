"""How manifests refer to one another: by referrer tags, by their documents, and by listing the same.

Also which documents have to be read to know that.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Set as AbstractSet

from cleaner.core.manifest import (
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Listing,
    Manifest,
    newest_first,
)
from cleaner.core.reference import Digest, Tag
from cleaner.core.walk import Edges

# cosign, "Storage specification", and distribution-spec, "Referrers Tag Schema".
_DIGEST_TAG = re.compile(r"sha256-([a-f0-9]{64})(\..+)?")


def tag_subject(manifest: Manifest, tag: Tag, present: Container[Digest]) -> Digest | None:
    """Return the subject that a referrer tag of ``manifest`` names; None if the tag is an ordinary one.

    ``present`` are the manifests of the repository.
    """
    if not tag.startswith("sha256-"):
        return None
    match = _DIGEST_TAG.fullmatch(tag)
    subject = Digest(f"sha256:{match[1]}") if match else manifest.digest
    # imgpkg tags an image with its own digest.
    if match is None or subject == manifest.digest:
        return None
    if match[2]:
        is_referrer_tag = manifest.is_oci or (manifest.media_type == DOCKER_MANIFEST and subject in present)
    else:
        is_index = manifest.media_type == OCI_INDEX
        is_referrer_tag = is_index and (manifest.links.is_referrers_index or subject in present)
    return subject if is_referrer_tag else None


def named_subjects(manifest: Manifest, manifests: Mapping[Digest, Manifest]) -> tuple[Digest, ...]:
    """Return the subjects that ``manifest`` names, each once: its document's, then those of its tags.

    An untagged referrers index names the subjects of what it lists.
    """
    links = manifest.links
    found = [links.subject] if links.subject else []
    for tag in manifest.tags:
        subject = tag_subject(manifest, tag, manifests)
        if subject:
            found.append(subject)
    if links.is_referrers_index and not manifest.tags:
        found += filter(None, (manifests[child].links.subject for child in links.children if child in manifests))
    return tuple(dict.fromkeys(found)) if found else ()


def blocked_subjects(manifest: Manifest, subjects: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return those of ``subjects`` that a document names, or whose referrers index ``manifest`` is."""
    if manifest.media_type != OCI_INDEX:
        return tuple(one for one in subjects if one == manifest.links.subject)
    if not manifest.tags:
        return tuple(subjects)
    # Anyone who may push can give an index ten thousand tags.
    tags = frozenset[str](manifest.tags)
    return tuple(one for one in subjects if one == manifest.links.subject or _referrers_tag(one) in tags)


def _referrers_tag(subject: Digest) -> str:
    """Return the tag of the referrers index of ``subject`` (distribution-spec, "Referrers Tag Schema")."""
    return subject.replace(":", "-")


def covering_indexes(manifests: Mapping[Digest, Manifest], children: Edges, parents: Edges) -> Edges:
    """Return by redundant index the indexes that it follows.

    An untagged index is redundant if another one lists all of its children that are there, and has a tag, lists
    more of them, or lists the same and is newer.  Of those that list the same each follows the next newer one; one of
    unknown age counts as newer than others.
    """
    found: dict[Digest, tuple[Digest, ...]] = {}
    # Indexes that list the same are compared with the others together.
    by_children: dict[frozenset[Digest], list[Digest]] = {}
    for digest, listed in children.items():
        if listed:
            by_children.setdefault(frozenset(listed), []).append(digest)
    for same, indexes in by_children.items():
        untagged = [one for one in indexes if not (manifests[one].tags or manifests[one].has_unnamed_tags)]
        if not untagged:
            continue
        first, *rest = sorted(same, key=lambda child: len(parents[child]))
        listing_all = {*parents[first]}
        for child in rest:
            if len(listing_all) == len(indexes):
                break
            listing_all.intersection_update(parents[child])
        preferred = listing_all.difference(untagged)
        for index in newest_first(manifests[one] for one in untagged):
            if preferred:
                found[index.digest] = tuple(sorted(preferred))
            # The next ones follow what this one follows, so they need not name it all again.
            preferred = {index.digest}
    return found


def must_be_read(listing: Listing) -> tuple[Digest, ...]:
    """Return the indexes, whose children are not known before they are read."""
    return tuple(digest for digest, manifest in listing.manifests.items() if manifest.media_type in INDEX_TYPES)


def may_have_subject(listing: Listing, also: AbstractSet[Digest] = frozenset()) -> tuple[Digest, ...]:
    """Return the OCI manifests whose documents are read for a subject.

    Those without a tag that no index lists, or that one lists without a platform and as no referrer; those that a
    referrers index lists; and those of ``also``.  The indexes of ``listing`` must have their children by then.
    """
    listed: set[Digest] = set()
    wanted = {*also}
    without_platform: set[Digest] = set()
    for index in map(listing.manifests.__getitem__, must_be_read(listing)):
        links = index.links
        listed.update(links.children)
        if links.is_referrers_index or _is_tagged_as_referrers_index(index, listing.manifests):
            wanted.update(links.children)
        else:
            without_platform.update(links.without_platform)
    hidden = listed - without_platform

    return tuple(
        digest
        for digest, manifest in listing.manifests.items()
        if manifest.media_type == OCI_MANIFEST and (digest in wanted or not (manifest.tags or digest in hidden))
    )


def _is_tagged_as_referrers_index(index: Manifest, present: Container[Digest]) -> bool:
    tags = index.tags if index.media_type == OCI_INDEX else ()
    return any(tag_subject(index, tag, present) for tag in tags if "." not in tag)
