"""What the registry takes for a credential, what it refuses to delete, and what a deletion takes along."""

from __future__ import annotations

from typing import Final

import requests

from tests.emulator.images import referrer
from tests.emulator.store import DANGLING_PARENT, DANGLING_TAG, FAILED_PRECONDITION, REFERRING_MANIFEST
from tests.verify_google.google import Bearer, describe
from tests.verify_google.question import question
from tests.verify_google.scratch import Scratch

_CODES: Final = ("cleaner/google/registry/errors.py", "The codes with which Google's registries refuse")


def _google_token(scratch: Scratch) -> Bearer:
    return Bearer(scratch.repository.host, scratch.google.access_token)


@question(
    "Does /v2/ take Google's own access token for reading?",
    expects="200",
    place=("docs/permissions.md", "Google's access token is sent to Google's registry hosts"),
)
def access_token_reads(scratch: Scratch) -> str:
    scratch.push(scratch.image())
    return describe(scratch.list_response(auth=_google_token(scratch)))


@question(
    "Does /v2/ take Google's own access token for deleting?",
    expects="202",
    place=("docs/permissions.md", "Google's hosts take the access token, so the role has no right to upload"),
)
def access_token_deletes(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content)
    return describe(scratch.delete(content.digest, auth=_google_token(scratch)))


@question("How is the deletion of a tagged digest refused?", expects=f"400 {DANGLING_TAG}", place=_CODES)
def tagged_digest(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content, "v1")
    return describe(scratch.delete(content.digest))


@question(
    "How is the deletion of a subject with a living referrer refused?",
    expects=f"400 {REFERRING_MANIFEST}",
    place=("docs/design.md", "Google refuses to delete a subject that has OCI referrers"),
)
def subject(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content)
    scratch.push(referrer(content))
    return describe(scratch.delete(content.digest))


@question("How is the deletion of a child of a tagged index refused?", expects=f"400 {DANGLING_PARENT}", place=_CODES)
def child_of_tagged_index(scratch: Scratch) -> str:
    content = scratch.index()
    scratch.push(content, "v1")
    return describe(scratch.delete(content.children[0].digest))


@question(
    "How is the deletion of a child of an untagged index refused?", expects=f"400 {DANGLING_PARENT}", place=_CODES
)
def child_of_untagged_index(scratch: Scratch) -> str:
    content = scratch.index()
    scratch.push(content)
    return describe(scratch.delete(content.children[0].digest))


@question(
    "How is the deletion of an immutable tag refused?",
    expects=f"400 {FAILED_PRECONDITION}",
    place=("docs/operations.md", "the first three tag deletions fail alike"),
    needs_immutable_tags=True,
)
def immutable_tag(scratch: Scratch) -> str:
    scratch.push(scratch.image(), "v1")
    return describe(scratch.delete("v1"))


@question(
    "What does the deletion of an index do to its children?",
    expects="both are kept",
    place=("docs/operations.md", "a kept child no longer exists after its index was deleted"),
)
def children_of_deleted_index(scratch: Scratch) -> str:
    content = scratch.index()
    scratch.push(content)
    deleted = scratch.delete(content.digest)
    if not deleted.ok:
        return f"the deletion is refused: {describe(deleted)}"

    def kept() -> int:
        return [scratch.head(child.digest).status_code for child in content.children].count(requests.codes.ok)

    # They might be deleted later.
    scratch.wait_until(lambda: kept() == 0)
    return ("both are deleted", "one is deleted", "both are kept")[kept()]


QUESTIONS: Final = (
    access_token_reads,
    access_token_deletes,
    tagged_digest,
    subject,
    child_of_tagged_index,
    child_of_untagged_index,
    immutable_tag,
    children_of_deleted_index,
)
