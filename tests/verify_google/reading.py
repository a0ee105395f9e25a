"""What the registry and the REST API list, and what a lookup finds."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests

from cleaner.core.times import EPOCH, parse_time
from tests.emulator.images import Content, referrer
from tests.emulator.store import DOCKER_MANIFEST, OCI_INDEX
from tests.verify_google.google import Failed, check, describe
from tests.verify_google.question import NotAsked, question
from tests.verify_google.scratch import Scratch

_AGE: Final = ("docs/policies.md", "Age is the time since the upload to the registry")
_REFERRERS: Final = ("docs/design.md", "are not read to see whether they name a subject")
_VERSIONS: Final = ("cleaner/google/artifact_registry.py", "class _Version(")
# Longer than a second: whoever rounds to seconds would show a new time as the old one.
_BETWEEN_PUSHES_S: Final = 1.5


def _push_three(scratch: Scratch) -> list[str]:
    contents = [scratch.image(number) for number in range(3)]
    for number, content in enumerate(contents):
        scratch.push(content, f"v{number}")
    return [content.digest for content in contents]


def _digests(page: requests.Response) -> set[str]:
    return set(page.json().get("manifest") or {})


@question(
    "Does tags/list honour n? (n=2 of 3)",
    expects="2 manifests, 2 tags",
    place=("cleaner/google/registry/listing.py", "Artifact Registry lists at most this many entries in one body"),
)
def page_size(scratch: Scratch) -> str:
    _push_three(scratch)
    page = check(scratch.list_response("?n=2")).json()
    return f"{len(page.get('manifest') or {})} manifests, {len(page.get('tags') or [])} tags"


@question(
    "Does a cut tags/list have a Link, and does that lead to the rest?",
    expects="a Link to the rest",
    place=("cleaner/google/registry/listing.py", "the pages that its ``Link`` headers name"),
)
def next_page(scratch: Scratch) -> str:
    missing = set(_push_three(scratch))
    response = check(scratch.list_response("?n=2"))
    missing -= _digests(response)
    if not missing:
        raise NotAsked("the list is not cut")
    link = response.links.get("next", {}).get("url")
    if link is None:
        return "no Link"
    url = urlsplit(urljoin(response.url, link))
    if url[:3] != urlsplit(response.url)[:3]:
        return f"a Link to {url.netloc}{url.path}"
    missing -= _digests(check(scratch.list_response(f"?{url.query}")))
    return f"a Link, and {len(missing)} of 3 manifests are still missing" if missing else "a Link to the rest"


@question("Is the referrers API served?", expects=f"200, {OCI_INDEX}", place=_REFERRERS)
def referrers_api(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content)
    scratch.push(referrer(content))
    response = scratch.referrers(content.digest)
    content_type = response.headers.get("Content-Type", "").partition(";")[0]
    return f"{describe(response)}, {content_type}" if response.ok else describe(response)


@question("Does the referrers API list a referrer at once?", expects="at once", place=_REFERRERS)
def new_referrer(scratch: Scratch) -> str:
    content = scratch.image()
    attached = referrer(content)
    scratch.push(content)
    scratch.push(attached)

    def is_listed() -> bool:
        entries = check(scratch.referrers(content.digest)).json().get("manifests") or []
        return any(entry.get("digest") == attached.digest for entry in entries)

    waited_s = scratch.wait_until(is_listed)
    if waited_s is None:
        return f"not within {scratch.wait_s:g} s"
    return f"after {waited_s:g} s" if waited_s else "at once"


@question("Which upload time has a digest that is pushed again?", expects="its first one", place=_AGE)
def repeated_push(scratch: Scratch) -> str:
    content = scratch.image()
    return _upload_time_after(scratch, content, "")


@question("Which upload time has a digest that gets a tag?", expects="its first one", place=_AGE)
def added_tag(scratch: Scratch) -> str:
    content = scratch.image()
    return _upload_time_after(scratch, content, "v1")


def _upload_time_after(scratch: Scratch, content: Content, tag: str) -> str:
    scratch.push(content)
    first = scratch.listed(content.digest).get("timeUploadedMs")
    time.sleep(_BETWEEN_PUSHES_S)
    scratch.push(content, tag)
    second = scratch.listed(content.digest).get("timeUploadedMs")
    if not (first and second):
        return "none"
    return "its first one" if first == second else f"a new one, {(int(second) - int(first)) / 1000:.1f} s later"


def _version(scratch: Scratch, digest: str, condition: str) -> dict[str, Any]:
    """Return the version that the REST API lists for a digest, once it has the field ``condition``, if ever.

    Raises:
        Failed: It lists no such version.
    """
    found: dict[str, Any] = {}

    def is_listed() -> bool:
        for version in scratch.google.versions(scratch.repository):
            if version.get("name", "").endswith(f"/versions/{digest}"):
                found.update(version)
        return condition in found

    scratch.wait_until(is_listed)
    if not found:
        raise Failed(f"versions.list has no such version within {scratch.wait_s:g} s")
    return found


@question(
    "Which tags does versions.list name? (v1, v2)",
    expects="v1, v2",
    place=("docs/design.md", "names at most 100 tags"),
)
def related_tags(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content, "v1")
    scratch.push(content, "v2")
    tags = _version(scratch, content.digest, "relatedTags").get("relatedTags", [])
    return ", ".join(sorted(tag["name"].rpartition("/tags/")[2] for tag in tags)) or "none"


@question("Is createTime of versions.list timeUploadedMs?", expects="the same millisecond", place=_VERSIONS)
def create_time(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content)
    created = parse_time(_version(scratch, content.digest, "createTime").get("createTime"))
    uploaded = scratch.listed(content.digest).get("timeUploadedMs")
    if created is None or not uploaded:
        return "no createTime" if created is None else "no timeUploadedMs"
    difference_ms = (created - EPOCH) // timedelta(milliseconds=1) - int(uploaded)
    return f"{difference_ms} ms later" if difference_ms else "the same millisecond"


@question("Which type and size does versions.list give? (metadata)", expects="those of tags/list", place=_VERSIONS)
def metadata(scratch: Scratch) -> str:
    content = scratch.image()
    scratch.push(content)
    found = _version(scratch, content.digest, "metadata").get("metadata", {})
    listed = scratch.listed(content.digest)
    fields = ("mediaType", "imageSizeBytes")
    wrong = [
        f"{field}: {found.get(field)}" for field in fields if str(found.get(field)) != str(listed.get(field, ""))
    ]
    return ", ".join(wrong) or "those of tags/list"


@question(
    "Does HEAD with Accept: */* find every type?",
    expects="200 for each",
    place=("cleaner/google/registry/endpoint.py", "A tag may have moved to a manifest of any type"),
)
def any_type(scratch: Scratch) -> str:
    oci, docker = scratch.index(), scratch.index(media_type=DOCKER_MANIFEST)
    attached = referrer(oci.children[0])
    for pushed in (oci, docker, attached):
        scratch.push(pushed)
    contents = {
        "OCI index": oci,
        "OCI image": oci.children[0],
        "Docker list": docker,
        "Docker image": docker.children[0],
        "OCI artifact with subject": attached,
    }
    wrong = []
    for name, content in contents.items():
        response = scratch.head(content.digest, accept="*/*")
        if response.status_code != requests.codes.ok:
            wrong.append(f"{response.status_code} for {name}")
        elif response.headers.get("Docker-Content-Digest") != content.digest:
            wrong.append(f"another digest for {name}")
    return ", ".join(wrong) or "200 for each"


QUESTIONS: Final = (
    page_size,
    next_page,
    referrers_api,
    new_referrer,
    repeated_push,
    added_tag,
    related_tags,
    create_time,
    metadata,
    any_type,
)
