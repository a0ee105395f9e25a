"""The registry emulator against what is known of the wire: real requests over a real socket."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.emulator import Emulator
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.faults import (
    After,
    Before,
    BrokenJson,
    CutBody,
    Delay,
    DropAfter,
    DropBefore,
    Quota,
    Stall,
    Status,
    rule_from_json,
    too_many_requests,
)
from tests.emulator.images import (
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    load_listing,
    multi_arch,
    raw,
    referrer,
)
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERRING_MANIFEST,
    Refusal,
    Store,
    canonical,
    digest_of,
)
from tests.emulator.tls import make_tls
from tests.emulator.wire import ACCEPT, Pusher
from tests.support.processes import DEADLINE_S, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = ROOT / "tests" / "data"
PATH = "acme/api"
ABSENT = "sha256:" + "0" * 64
UPLOADED_MS = 1_600_000_000_000


@pytest.fixture(scope="module")
def started() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(started: Emulator) -> Emulator:
    started.reset()
    return started


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    with requests.Session() as session:
        yield Client(emulator.url, session)


class Client:
    """Requests to one registry, with all four types accepted."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session

    def __call__(self, method: str, path: str, **options: object) -> requests.Response:
        options.setdefault("headers", {"Accept": ACCEPT})
        options.setdefault("timeout", 10)
        return self.session.request(method, self.url + path, **options)  # type: ignore[arg-type]

    def listing(self, path: str = PATH, query: str = "n=10000") -> requests.Response:
        return self("GET", f"/v2/{path}/tags/list?{query}")

    def delete(self, reference: str, path: str = PATH) -> requests.Response:
        return self("DELETE", f"/v2/{path}/manifests/{reference}")

    def token(self, path: str = PATH, actions: str = "push,pull") -> str:
        answer = self("GET", f"/v2/token?service=here&scope=repository:{path}:{actions}")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


def code_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def captured(name: str) -> dict[str, object]:
    document = json.loads((DATA / f"{name}.tags-list.json").read_text())
    assert isinstance(document, dict)
    return document


# The listing.


@pytest.mark.parametrize("name", ["gcr-multi-arch", "gcr-cosign", "artifact-registry"])
def test_captured_listing_is_served_as_it_was_spelled(emulator: Emulator, client: Client, name: str) -> None:
    """Field order, strings for numbers, ``layerId`` on GCR alone: the bytes are the captured ones but for blanks."""
    listing = captured(name)
    path = str(listing["name"])
    repository = emulator.name(path)
    load_listing(emulator.store, repository, listing)
    children = listing["child"]
    assert isinstance(children, list)
    for child in children:
        emulator.store.repository(f"{repository}/{child}")
    emulator.behaviour.style = "ar" if name == "artifact-registry" else "gcr"

    answer = client.listing(path)

    assert answer.text == json.dumps(listing, separators=(",", ":"))


def test_jib_listing_is_served_with_its_content(emulator: Emulator, client: Client) -> None:
    """Digests in digest order; all that was captured is there."""
    listing = captured("gcr-jib")
    load_listing(emulator.store, emulator.name("acme/jib-service"), listing)

    answer = client.listing("acme/jib-service")

    assert answer.json() == listing
    assert list(answer.json()["manifest"]) == sorted(answer.json()["manifest"])


def test_path_above_a_repository_lists_its_children_only(emulator: Emulator, client: Client) -> None:
    """A path that only has children has an empty ``manifest``."""
    parent = captured("gcr-parent")
    load_listing(
        emulator.store, emulator.name("k8s-staging-kas-network-proxy/proxy-agent"), captured("gcr-multi-arch")
    )

    answer = client.listing("k8s-staging-kas-network-proxy")

    assert answer.text == json.dumps(parent, separators=(",", ":"))


def test_index_is_listed_with_size_and_created_zero(emulator: Emulator, client: Client) -> None:
    """An index has ``imageSizeBytes`` ``"0"`` and ``timeCreatedMs`` ``"0"``."""
    digest = load(emulator.store, emulator.name(PATH), multi_arch(1), uploaded=UPLOADED_MS)

    entry = client.listing().json()["manifest"][digest]

    assert entry == {
        "imageSizeBytes": "0",
        "layerId": "",
        "mediaType": OCI_INDEX,
        "tag": [],
        "timeCreatedMs": "0",
        "timeUploadedMs": str(UPLOADED_MS),
    }


def test_numbers_are_listed_as_numbers_when_asked_for(emulator: Emulator, client: Client) -> None:
    """Artifact Registry once sent times and sizes as numbers."""
    digest = load(emulator.store, emulator.name(PATH), image(1, size=5000), uploaded=UPLOADED_MS)
    emulator.behaviour.style, emulator.behaviour.numbers = "ar", True

    entry = client.listing().json()["manifest"][digest]

    assert (entry["timeUploadedMs"], entry["timeCreatedMs"], entry["imageSizeBytes"]) == (UPLOADED_MS, 0, 5000)


@pytest.mark.parametrize("style", ["gcr", "ar"])
def test_time_of_none_is_left_out_and_text_is_spelled_as_given(
    emulator: Emulator, client: Client, style: str
) -> None:
    """``timeCreatedMs`` has been missing, and a client must survive what is no number at all."""
    emulator.behaviour.style = style
    missing = load(emulator.store, emulator.name(PATH), image(1), uploaded=None, created_ms=None)
    odd = load(emulator.store, emulator.name(PATH), image(2), uploaded="soon", created_ms=-6795364578871)

    entries = client.listing().json()["manifest"]

    assert {"timeUploadedMs", "timeCreatedMs"}.isdisjoint(entries[missing])
    assert (entries[odd]["timeUploadedMs"], entries[odd]["timeCreatedMs"]) == ("soon", "-6795364578871")


def test_listing_shows_each_change_at_once(emulator: Emulator, client: Client) -> None:
    """What is kept of a listing ends with every push, tag, deletion and new repository below."""
    repository = emulator.name(PATH)
    digest = load(emulator.store, repository, image(1), uploaded=1)
    assert client.listing().json()["tags"] == []

    emulator.store.tag(repository, "v1", digest)
    assert client.listing().json()["tags"] == ["v1"]
    emulator.store.repository(f"{repository}/below")
    assert client.listing().json()["child"] == ["below"]
    emulator.store.delete_tag(repository, "v1")
    assert client.listing().json()["tags"] == []
    emulator.store.delete_manifest(repository, digest)
    assert client.listing().json()["manifest"] == {}
    load(emulator.store, repository, image(2))
    assert list(client.listing().json()["manifest"]) == [image(2).digest]


def test_unknown_repository_is_404_name_unknown(client: Client) -> None:
    """A repository that is gone has no listing."""
    assert code_of(client.listing("acme/nothing")) == (404, "NAME_UNKNOWN")


def test_foreign_listing_has_neither_manifest_nor_child(emulator: Emulator, client: Client) -> None:
    """Other registries know names and tags only."""
    load(emulator.store, emulator.name(PATH), image(1), tags="v1")
    emulator.behaviour.foreign = True

    assert client.listing().json() == {"name": PATH, "tags": ["v1"]}


def test_pages_together_are_the_whole_listing(emulator: Emulator, client: Client) -> None:
    """Each page names the next in a relative ``Link``; the last has none; no manifest is in two."""
    digests = {load(emulator.store, emulator.name(PATH), image(n), tags=f"v{n}") for n in range(7)}
    emulator.behaviour.page_size = 3
    seen: list[str] = []
    tags: list[str] = []
    path: str | None = f"/v2/{PATH}/tags/list?n=10000"

    pages = 0
    while path:
        answer = client("GET", path)
        pages += 1
        seen += answer.json()["manifest"]
        tags += answer.json()["tags"]
        link = answer.links.get("next")
        assert link is None or link["url"].startswith(f"/v2/{PATH}/tags/list?")
        path = link["url"] if link else None

    assert (pages, len(seen), set(seen)) == (3, 7, digests)
    assert sorted(tags) == sorted(f"v{n}" for n in range(7))


def test_smaller_n_makes_smaller_pages(emulator: Emulator, client: Client) -> None:
    """Artifact Registry honours ``n``."""
    for n in range(4):
        load(emulator.store, emulator.name(PATH), image(n))
    emulator.behaviour.page_size = 100

    answer = client.listing(query="n=2")

    assert len(answer.json()["manifest"]) == 2
    assert "next" in answer.links


def test_link_can_point_elsewhere(emulator: Emulator, client: Client) -> None:
    """A hostile registry names another host as the next page."""
    for n in range(2):
        load(emulator.store, emulator.name(PATH), image(n))
    emulator.behaviour.page_size = 1
    emulator.behaviour.link = '<http://elsewhere.example{next}>; rel="next"'

    assert client.listing().links["next"]["url"].startswith(f"http://elsewhere.example/v2/{PATH}/tags/list?n=1&last=")


@pytest.mark.parametrize("cut_tags", [False, True])
def test_cut_listing_lacks_the_last_digests_without_a_word(
    emulator: Emulator, client: Client, cut_tags: bool
) -> None:
    """Google cuts a long list in digest order and sends no ``Link``."""
    digests = sorted(load(emulator.store, emulator.name(PATH), image(n), tags=f"v{n}") for n in range(5))
    emulator.behaviour.cut_at, emulator.behaviour.cut_tags = 3, cut_tags

    answer = client.listing()

    assert list(answer.json()["manifest"]) == digests[:3]
    assert len(answer.json()["tags"]) == (3 if cut_tags else 5)
    assert "Link" not in answer.headers


@pytest.mark.parametrize("path", [f"/v2/{PATH}/tags/list", "/v1/projects/acme/locations/us/repositories"])
def test_what_is_only_for_reading_refuses_other_methods(client: Client, path: str) -> None:
    """A client that deletes where nothing can be deleted is told so."""
    assert client("DELETE", path).status_code == 405


# Manifests.


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_manifest_is_found_only_when_its_type_is_accepted(
    emulator: Emulator, client: Client, media_type: str, method: str
) -> None:
    """A type that is left out of ``Accept`` is answered 404 ``MANIFEST_UNKNOWN``."""
    content = raw(b'{"schemaVersion":2}', media_type)
    load(emulator.store, emulator.name(PATH), content, tags="v1")
    url = f"/v2/{PATH}/manifests/v1"
    others = ", ".join({DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX} - {media_type})

    found = client(method, url, headers={"Accept": f"{others}, {media_type};q=0.5"})
    left_out = client(method, url, headers={"Accept": others})

    assert found.status_code == 200
    assert found.headers["Content-Type"] == media_type
    assert found.headers["Docker-Content-Digest"] == content.digest
    assert found.headers["Content-Length"] == str(len(content.body))
    assert found.content == (content.body if method == "GET" else b"")
    assert left_out.status_code == 404
    assert method == "HEAD" or code_of(left_out) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("reference", ["v9", ABSENT])
def test_unknown_manifest_is_404(emulator: Emulator, client: Client, reference: str) -> None:
    """Tag or digest, read or deleted: 404 ``MANIFEST_UNKNOWN``."""
    load(emulator.store, emulator.name(PATH), image(1))

    assert code_of(client("GET", f"/v2/{PATH}/manifests/{reference}")) == (404, "MANIFEST_UNKNOWN")
    assert code_of(client.delete(reference)) == (404, "MANIFEST_UNKNOWN")


def test_captured_index_is_served_with_its_body(emulator: Emulator, client: Client) -> None:
    """Its digest is the listing's, its five platforms are its children."""
    listing, body = captured("gcr-multi-arch"), (DATA / "gcr-multi-arch.index.json").read_bytes()
    digest = "sha256:c419394f3fa40c32352be5a6ec5865270376d4351a3756bb1893be3f28fcba32"
    load_listing(emulator.store, emulator.name(PATH), listing, {digest: body})

    answer = client("GET", f"/v2/{PATH}/manifests/v0.0.8")

    assert answer.content == body
    assert answer.headers["Docker-Content-Digest"] == digest
    assert code_of(client.delete(answer.json()["manifests"][0]["digest"])) == (400, DANGLING_PARENT)


# Deleting.


def test_deleted_tag_leaves_the_manifest(emulator: Emulator, client: Client) -> None:
    """202, and only the tag goes."""
    digest = load(emulator.store, emulator.name(PATH), image(1), tags=["v1", "latest"])

    assert client.delete("v1").status_code == 202
    assert emulator.store.tags(emulator.name(PATH)) == {"latest": digest}


@pytest.mark.parametrize(("style", "body"), [("gcr", b'{"errors":[]}'), ("ar", b"")])
def test_deletion_is_answered_202_with_the_styles_body(
    emulator: Emulator, client: Client, style: str, body: bytes
) -> None:
    """An untagged digest goes; the body is empty on AR and an empty list of errors on GCR."""
    emulator.behaviour.style = style
    digest = load(emulator.store, emulator.name(PATH), image(1))

    answer = client.delete(digest)

    assert (answer.status_code, answer.content) == (202, body)
    assert not emulator.store.digests(emulator.name(PATH))


def test_tagged_digest_is_refused(emulator: Emulator, client: Client) -> None:
    """The specification would delete it; Google refuses, also when a parent would be a reason too."""
    repository = emulator.name(PATH)
    child = image(1)
    load(emulator.store, repository, index([child]))
    emulator.store.tag(repository, "v1", child.digest)

    assert code_of(client.delete(child.digest)) == (400, DANGLING_TAG)
    client.delete("v1")
    assert code_of(client.delete(child.digest)) == (400, DANGLING_PARENT)


def test_child_goes_only_after_its_last_index(emulator: Emulator, client: Client) -> None:
    """A child shared by two living indexes is refused until both are gone."""
    repository = emulator.name(PATH)
    child = image(1)
    first, second = (load(emulator.store, repository, index([child], seed=n)) for n in (1, 2))

    assert client.delete(first).status_code == 202
    assert code_of(client.delete(child.digest)) == (400, DANGLING_PARENT)
    assert client.delete(second).status_code == 202
    assert client.delete(child.digest).status_code == 202


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_subject_with_a_living_referrer_is_refused(emulator: Emulator, client: Client, code: str) -> None:
    """By the ``subject`` field, with either of the codes that were seen."""
    subject = image(1, media_type=OCI_MANIFEST)
    digest = load(emulator.store, emulator.name(PATH), subject)
    sbom = load(emulator.store, emulator.name(PATH), referrer(subject))
    emulator.store.referrer_code = code

    assert code_of(client.delete(digest)) == (400, code)
    assert client.delete(sbom).status_code == 202
    assert client.delete(digest).status_code == 202


def test_index_can_be_a_referrer_and_docker_manifests_cannot(emulator: Emulator, client: Client) -> None:
    """Only OCI manifests and indexes have a ``subject``."""
    subject, other = image(1, media_type=OCI_MANIFEST), image(2)
    for content in (
        subject,
        other,
        index([image(3)], media_type=OCI_INDEX, subject=subject),
        image(4, subject=other),
        index([image(5)], subject=other),
    ):
        load(emulator.store, emulator.name(PATH), content)

    assert code_of(client.delete(subject.digest)) == (400, REFERRING_MANIFEST)
    assert client.delete(other.digest).status_code == 202


def test_cosign_signature_holds_nothing(emulator: Emulator, client: Client) -> None:
    """The registry does not know what a cosign tag means."""
    signed = image(1, media_type=OCI_MANIFEST)
    load(emulator.store, emulator.name(PATH), signed)
    load(emulator.store, emulator.name(PATH), cosign_signature(signed), tags=cosign_tag(signed))

    assert list(emulator.store.tags(emulator.name(PATH))) == [f"sha256-{signed.digest[7:]}.sig"]
    assert client.delete(signed.digest).status_code == 202


def test_self_reference_does_not_hold_a_manifest(emulator: Emulator) -> None:
    """A body cannot name its own digest, but a captured one may be invented so."""
    body = json.dumps({"subject": {"digest": ABSENT}}).encode()
    emulator.store.put_manifest("gcr.io/p/x", body, OCI_MANIFEST, digest=ABSENT, trust_digest=True)

    emulator.store.delete_manifest("gcr.io/p/x", ABSENT)

    assert not emulator.store.digests("gcr.io/p/x")


def test_immutable_tags_stay_and_so_do_their_manifests(emulator: Emulator, client: Client) -> None:
    """Neither deleted nor moved; an untagged manifest goes as ever."""
    repository = emulator.store.repository(emulator.name(PATH), immutable_tags=True)
    digest = load(emulator.store, repository, image(1), tags="v1")
    untagged = load(emulator.store, repository, image(2))

    assert code_of(client.delete("v1")) == (400, "FAILED_PRECONDITION")
    assert code_of(client.delete(digest)) == (400, "FAILED_PRECONDITION")
    assert client.delete(untagged).status_code == 202
    with pytest.raises(Refusal, match="immutable"):
        load(emulator.store, repository, image(3), tags="v1")
    assert emulator.store.tags(repository) == {"v1": digest}


def test_virtual_repository_deletes_nothing(emulator: Emulator, client: Client) -> None:
    """Virtual and remote repositories are not for deleting."""
    digest = load(emulator.store, emulator.name(PATH), image(1))
    emulator.store.set_mode(emulator.name("acme"), "REMOTE_REPOSITORY")

    assert code_of(client.delete(digest)) == (400, "FAILED_PRECONDITION")


def test_store_refuses_as_a_plain_reading_of_the_rules_would() -> None:
    """Random operations: the kept indexes of parents and referrers agree with a look at every manifest."""
    rng = random.Random(1)
    store, repository = Store(), "gcr.io/p/x"
    images = [image(n, media_type=OCI_MANIFEST) for n in range(20)]
    contents = [*images, *(index(rng.sample(images, 2), seed=n) for n in range(10))]
    contents += [referrer(rng.choice(contents), seed=n) for n in range(10)]
    outcomes = set()

    for _ in range(3000):
        content = rng.choice(contents)
        roll = rng.random()
        if roll < 0.3:
            tags = [f"t{rng.randrange(8)}"] if rng.random() < 0.3 else []
            store.put_manifest(repository, content.body, content.media_type, tags=tags)
            continue
        if roll < 0.4 and store.tags(repository):
            store.delete_tag(repository, rng.choice(sorted(store.tags(repository))))
            continue
        held = store.manifests(repository)
        expected = None
        if content.digest not in held:
            expected = "MANIFEST_UNKNOWN"
        elif content.digest in store.tags(repository).values():
            expected = DANGLING_TAG
        elif any(content.digest in one.children for one in held.values()):
            expected = DANGLING_PARENT
        elif any(one.subject == content.digest for one in held.values()):
            expected = REFERRING_MANIFEST
        try:
            store.delete_manifest(repository, content.digest)
            actual = None
        except Refusal as refusal:
            actual = refusal.code
        assert actual == expected
        outcomes.add(actual)

    assert outcomes == {None, "MANIFEST_UNKNOWN", DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST}


# Referrers.


def test_referrers_api_lists_what_names_the_subject(emulator: Emulator, client: Client) -> None:
    """An OCI index of descriptors with their artifact types; filtered when asked to."""
    subject = image(1, media_type=OCI_MANIFEST)
    load(emulator.store, emulator.name(PATH), subject)
    sbom = referrer(subject, artifact_type="application/spdx+json")
    for content in (sbom, referrer(subject, artifact_type="application/vnd.example.sig")):
        load(emulator.store, emulator.name(PATH), content)

    everything = client("GET", f"/v2/{PATH}/referrers/{subject.digest}")
    filtered = client("GET", f"/v2/{PATH}/referrers/{subject.digest}?artifactType=application/spdx%2Bjson")
    nothing = client("GET", f"/v2/{PATH}/referrers/{ABSENT}")

    assert everything.headers["Content-Type"] == OCI_INDEX
    assert len(everything.json()["manifests"]) == 2
    assert [one["digest"] for one in filtered.json()["manifests"]] == [sbom.digest]
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert nothing.json()["manifests"] == []


# Tokens.


def test_without_a_token_everything_is_challenged(emulator: Emulator, client: Client) -> None:
    """401 with a ``WWW-Authenticate`` that names the token endpoint and the repository's scope."""
    emulator.behaviour.auth = True

    answer = client.delete("v1")

    assert code_of(answer) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="{emulator.url}/v2/token",service="{emulator.host}",scope="repository:{PATH}:push"'
    )
    assert client("GET", "/v2/").status_code == 401


def test_token_opens_the_repository_it_was_asked_for_and_no_other(emulator: Emulator, client: Client) -> None:
    """One token, one scope; ``push`` is what deleting needs."""
    emulator.behaviour.auth = True
    digest = load(emulator.store, emulator.name(PATH), image(1))
    emulator.store.repository(emulator.name("acme/other"))
    token = client.token()
    reading = client.token(actions="pull")

    def ask(method: str, path: str, bearer: str) -> int:
        return client(method, path, headers={"Authorization": f"Bearer {bearer}", "Accept": ACCEPT}).status_code

    assert ask("GET", f"/v2/{PATH}/tags/list", token) == 200
    assert ask("GET", "/v2/acme/other/tags/list", token) == 401
    assert ask("GET", f"/v2/{PATH}/tags/list", reading) == 200
    assert ask("DELETE", f"/v2/{PATH}/manifests/{digest}", reading) == 401
    assert ask("DELETE", f"/v2/{PATH}/manifests/{digest}", token) == 202
    assert ask("GET", "/v2/", token) == 200


def test_token_ends_when_it_says_and_when_told(emulator: Emulator, client: Client) -> None:
    """``expires_in`` is what it lives; tokens can also be ended at will."""
    emulator.behaviour.auth, emulator.behaviour.expires_in = True, 0
    emulator.store.repository(emulator.name(PATH))
    ended = client.token()
    emulator.behaviour.expires_in = 300
    answer = client("GET", f"/v2/token?service=x&scope=repository:{PATH}:pull")
    living = answer.json()["token"]

    def ask(token: str) -> int:
        return client("GET", f"/v2/{PATH}/tags/list", headers={"Authorization": f"Bearer {token}"}).status_code

    assert answer.json()["expires_in"] == 300
    assert datetime.fromisoformat(answer.json()["issued_at"]).tzinfo is not None
    assert ask(ended) == 401
    assert ask(living) == 200
    emulator.expire_tokens()
    assert ask(living) == 401


def test_denied_repository_fails_at_the_token(emulator: Emulator, client: Client) -> None:
    """A permission that is missing can already fail there, as ``DENIED``."""
    emulator.behaviour.auth, emulator.behaviour.denied = True, {PATH}

    assert code_of(client("GET", f"/v2/token?scope=repository:{PATH}:pull")) == (403, "DENIED")
    assert client.token("acme/other")


def test_log_tells_a_google_credential_from_a_token(emulator: Emulator, client: Client) -> None:
    """A test can say that no credential was sent, and where one was."""
    emulator.store.repository(emulator.name(PATH))
    token = client.token()

    for header in ("", f"Bearer {token}", "Bearer ya29.secret", "Basic dTpw"):
        client("GET", f"/v2/{PATH}/tags/list", headers={"Authorization": header} if header else {})

    assert [entry.authorization for entry in emulator.log.of("tags_list")] == ["", "token", "credential", "basic"]
    assert [entry.path for entry in emulator.log.credentials()] == [f"/v2/{PATH}/tags/list"]
    assert emulator.log.counts == {"token": 1, "tags_list": 4}
    assert "ya29" not in repr(emulator.log.entries)


# Pushing.


def test_push_over_the_wire_arrives_whole_and_is_announced(emulator: Emulator) -> None:
    """Blobs, children, then the index by its tags; one INSERT per manifest and per tag."""
    emulator.behaviour.auth = True
    emulator.store.strict = True
    built = multi_arch(1, attestations=True, with_blobs=True)

    with Pusher(emulator.url, token=True) as pusher:
        published = pusher.push(PATH, built, ["v1", "latest"])

    repository = emulator.name(PATH)
    held = emulator.store.manifests(repository)
    assert held.keys() == {built.digest, *(one.digest for one in built.children)}
    assert {one.digest: one.size for one in (built, *built.children)} == {key: one.size for key, one in held.items()}
    assert emulator.store.tags(repository) == {"v1": built.digest, "latest": built.digest}
    assert published[-1] == {
        "action": "INSERT",
        "digest": f"{repository}@{built.digest}",
        "tag": f"{repository}:latest",
    }
    assert len(published) == 7
    assert not emulator.log.credentials()


def test_put_by_digest_is_verified(emulator: Emulator, client: Client) -> None:
    """A digest that is not the content's is 400 ``DIGEST_INVALID``; the right one is 201 and names it."""
    content = referrer(ABSENT)
    headers = {"Content-Type": content.media_type}

    wrong = client("PUT", f"/v2/{PATH}/manifests/{ABSENT}", data=content.body, headers=headers)
    right = client("PUT", f"/v2/{PATH}/manifests/{content.digest}", data=content.body, headers=headers)

    assert code_of(wrong) == (400, "DIGEST_INVALID")
    assert right.status_code == 201
    assert right.headers["Docker-Content-Digest"] == content.digest
    assert right.headers["Location"] == f"/v2/{PATH}/manifests/{content.digest}"
    assert right.headers["OCI-Subject"] == ABSENT
    assert emulator.store.digests(emulator.name(PATH)) == {content.digest}


@pytest.mark.parametrize("body", [b"{", b"[]", json.dumps({"mediaType": OCI_INDEX}).encode()])
def test_put_of_what_is_no_such_manifest_is_refused(client: Client, body: bytes) -> None:
    """Not JSON, not an object, or of another type than the header says: 400 ``MANIFEST_INVALID``."""
    answer = client("PUT", f"/v2/{PATH}/manifests/v1", data=body, headers={"Content-Type": OCI_MANIFEST})

    assert code_of(answer) == (400, "MANIFEST_INVALID")


def test_second_push_of_a_tag_moves_it_and_of_a_digest_keeps_its_time(emulator: Emulator) -> None:
    """A moved tag leaves the old manifest untagged; content pushed again keeps the upload time it had."""
    repository = emulator.name(PATH)
    old, new = image(1, with_blobs=True), image(2, with_blobs=True)
    load(emulator.store, repository, old, uploaded=UPLOADED_MS)
    with Pusher(emulator.url, force=True) as pusher:
        pusher.push(PATH, old, ["latest"])
        pusher.push(PATH, new, ["latest"])

    held = emulator.store.manifests(repository)
    assert held[old.digest].uploaded_ms == UPLOADED_MS
    assert not held[old.digest].tags
    assert emulator.store.tags(repository) == {"latest": new.digest}


def test_strict_store_refuses_an_index_without_its_child(emulator: Emulator) -> None:
    """By default an index may list what is not there (sparse indexes); strict says no, and for blobs too."""
    strict, sparse, whole = Store(strict=True), index([], absent=[ABSENT]), image(1, with_blobs=True)

    load(emulator.store, "gcr.io/p/x", sparse)
    for content in (sparse, image(1)):
        with pytest.raises(Refusal) as refused:
            load(strict, "gcr.io/p/x", content)
        assert refused.value.code == "MANIFEST_BLOB_UNKNOWN"
    load(strict, "gcr.io/p/x", whole)
    assert strict.digests("gcr.io/p/x") == {whole.digest}


def test_blob_is_pushed_in_each_of_the_ways(emulator: Emulator, client: Client) -> None:
    """POST and PUT, POST, PATCHes and PUT, one POST; a mount falls back to an upload."""
    blob = b"x" * 3_000_000
    url, digest = f"/v2/{PATH}/blobs/uploads/", digest_of(blob)

    def start(query: str = "") -> str:
        answer = client("POST", url + query)
        assert answer.status_code == 202
        return answer.headers["Location"]

    def is_there() -> bool:
        head = client("HEAD", f"/v2/{PATH}/blobs/{digest}")
        emulator.store.clear()
        return head.status_code == 200 and head.headers["Content-Length"] == str(len(blob))

    assert client("PUT", f"{start()}?digest={digest}", data=blob).status_code == 201
    assert is_there()
    mounted = start(f"?mount={digest}&from=acme/other")
    assert client("PATCH", mounted, data=iter([blob[:1000], blob[1000:2000]])).headers["Range"] == "0-1999"
    assert client("PATCH", mounted, data=blob[2000:]).status_code == 202
    assert client("PUT", f"{mounted}?digest={digest}").headers["Location"] == f"/v2/{PATH}/blobs/{digest}"
    assert client("GET", f"/v2/{PATH}/blobs/{digest}").content == blob
    assert is_there()
    assert client("POST", f"{url}?digest={digest}", data=blob).status_code == 201
    assert is_there()
    assert code_of(client("POST", f"{url}?digest={ABSENT}", data=blob)) == (400, "DIGEST_INVALID")
    assert code_of(client("GET", f"/v2/{PATH}/blobs/{ABSENT}")) == (404, "BLOB_UNKNOWN")
    assert code_of(client("PUT", f"{url}nonsense?digest={digest}")) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_pushes_an_image_layout_and_reads_it_back(emulator: Emulator, tmp_path: Path) -> None:
    """A real client, with tokens on: an index, its platforms and their blobs arrive, and it can delete by digest."""
    built = multi_arch(1, with_blobs=True)
    layout = tmp_path / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    parts = [built.body, *(child.body for child in built.children), *(b for c in built.children for b in c.blobs)]
    for part in parts:
        (blobs / digest_of(part)[7:]).write_bytes(part)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {**built.descriptor(), "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    emulator.behaviour.auth, emulator.store.strict = True, True
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    target = f"docker://{emulator.host}/{PATH}:v1"

    def skopeo(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(shutil.which("skopeo")), "--policy", str(policy), *arguments]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)

    pushed = skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:v1", target)
    read = skopeo("inspect", "--raw", "--tls-verify=false", target)

    assert pushed.returncode == 0, pushed.stderr
    assert read.stdout.encode() == built.body, read.stderr
    repository = emulator.name(PATH)
    assert emulator.store.tags(repository) == {"v1": built.digest}
    assert emulator.store.digests(repository) == {built.digest, *(child.digest for child in built.children)}


# Names.


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ("us-docker.pkg.dev/p/gcr.io/x", "gcr.io/p/x"),
        ("us-docker.pkg.dev/p/us.gcr.io/x/y", "us.gcr.io/p/x/y"),
        ("europe-docker.pkg.dev/p/eu.gcr.io/x", "eu.gcr.io/p/x"),
        ("asia-docker.pkg.dev/p/asia.gcr.io/x", "asia.gcr.io/p/x"),
        ("us-docker.pkg.dev/example.com/p/gcr.io/x", "gcr.io/example.com/p/x"),
        ("europe-docker.pkg.dev/p/gcr.io/x", "europe-docker.pkg.dev/p/gcr.io/x"),
        ("us-docker.pkg.dev/p/apps/x", "us-docker.pkg.dev/p/apps/x"),
    ],
)
def test_repository_with_two_names_is_one(given: str, one: str) -> None:
    """A ``gcr.io`` repository also answers to an Artifact Registry name, in its own location only."""
    assert canonical(given) == one


def test_host_header_chooses_among_hosts(emulator: Emulator, client: Client) -> None:
    """Several registries at once; what is no alias is the emulator's own host."""
    emulator.behaviour.aliases["gcr.io"] = "gcr.io"
    emulator.behaviour.aliases["us-docker.pkg.dev"] = "us-docker.pkg.dev"
    load(emulator.store, "gcr.io/acme/api", image(1), tags="there")
    load(emulator.store, emulator.name("acme/api"), image(1), tags="here")

    def tags(host: str, path: str) -> object:
        return client("GET", f"/v2/{path}/tags/list", headers={"Host": host}).json()["tags"]

    assert tags("gcr.io", PATH) == ["there"]
    assert tags("us-docker.pkg.dev", "acme/gcr.io/api") == ["there"]
    assert tags(emulator.host, PATH) == ["here"]


# Artifact Registry's REST API.


@pytest.mark.parametrize(
    ("repository", "rest"),
    [
        ("us-docker.pkg.dev/acme/apps/api", "projects/acme/locations/us/repositories/apps/packages/api"),
        ("europe-west4-docker.pkg.dev/p/r/a/b", "projects/p/locations/europe-west4/repositories/r/packages/a%2Fb"),
        ("gcr.io/acme/api", "projects/acme/locations/us/repositories/gcr.io/packages/api"),
        ("us.gcr.io/acme/api", "projects/acme/locations/us/repositories/us.gcr.io/packages/api"),
        ("eu.gcr.io/acme/a/b", "projects/acme/locations/europe/repositories/eu.gcr.io/packages/a%2Fb"),
        ("asia.gcr.io/acme/api", "projects/acme/locations/asia/repositories/asia.gcr.io/packages/api"),
        ("gcr.io/example.com/p/api", "projects/example.com:p/locations/us/repositories/gcr.io/packages/api"),
    ],
)
def test_repository_is_found_by_its_rest_name(emulator: Emulator, client: Client, repository: str, rest: str) -> None:
    """``HOST/PATH`` and the REST name are one: its versions, its package, its repository."""
    digest = load(emulator.store, repository, image(1))
    above, _, package = rest.rpartition("/packages/")

    assert client("GET", f"/v1/{rest}/versions").json()["versions"][0]["name"] == f"{rest}/versions/{digest}"
    assert client("GET", f"/v1/{above}/packages").json() == {"packages": [{"name": f"{above}/packages/{package}"}]}
    assert client("GET", f"/v1/{above}").json() == {
        "name": above,
        "format": "DOCKER",
        "mode": "STANDARD_REPOSITORY",
    }


@pytest.mark.parametrize(
    "rest",
    ["locations/anywhere/repositories/apps/packages/api", "locations/us/repositories/gcr.io/packages/apps%2Fapi"],
)
def test_own_host_has_a_rest_name_too(emulator: Emulator, client: Client, rest: str) -> None:
    """``127.0.0.1:PORT/P/R/PKG`` is in every location and in ``gcr.io``: a local registry can be asked by REST."""
    load(emulator.store, emulator.name("acme/apps/api"), image(1))

    answer = client("GET", f"/v1/projects/acme/{rest}/versions")

    assert len(answer.json()["versions"]) == 1


def test_version_says_what_the_listing_says(emulator: Emulator, client: Client) -> None:
    """View FULL: the upload as ``createTime``, tags, size, type and build time."""
    content = cosign_signature(ABSENT)
    digest = load(emulator.store, "gcr.io/acme/api", content, tags=["v1", "a"], uploaded=1_597_194_959_140)
    name = "projects/acme/locations/us/repositories/gcr.io/packages/api"

    full = client("GET", f"/v1/{name}/versions?view=FULL").json()["versions"][0]
    basic = client("GET", f"/v1/{name}/versions").json()["versions"][0]

    assert full["createTime"] == "2020-08-12T01:15:59.140321Z"
    assert [tag["name"] for tag in full["relatedTags"]] == [f"{name}/tags/v1", f"{name}/tags/a"]
    assert full["metadata"]["imageSizeBytes"] == str(content.size)
    assert full["metadata"]["mediaType"] == OCI_MANIFEST
    assert full["metadata"]["buildTime"] == "0001-01-01T00:00:00.000000Z"
    assert full["name"] == f"{name}/versions/{digest}"
    assert {"relatedTags", "metadata"}.isdisjoint(basic)


def test_related_tags_end_at_a_hundred(emulator: Emulator, client: Client) -> None:
    """A version with more tags than that does not say so."""
    load(emulator.store, "gcr.io/acme/api", image(1), tags=[f"t{n}" for n in range(150)])

    answer = client("GET", "/v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions?view=FULL")

    assert len(answer.json()["versions"][0]["relatedTags"]) == 100


def test_versions_pages_are_complete_though_some_go_in_between(emulator: Emulator, client: Client) -> None:
    """A page's token says where to go on, not how many were seen; a listing that is cut elsewhere is whole here."""
    digests = sorted(load(emulator.store, "gcr.io/acme/api", image(n)) for n in range(7))
    emulator.behaviour.cut_at = 1
    path = "/v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions"

    first = client("GET", f"{path}?pageSize=3").json()
    emulator.store.delete_manifest("gcr.io/acme/api", digests[0])
    second = client("GET", path, params={"pageSize": "3", "pageToken": first["nextPageToken"]}).json()
    third = client("GET", path, params={"pageSize": "3", "pageToken": second["nextPageToken"]}).json()

    seen = [one["name"].rpartition("/")[2] for page in (first, second, third) for one in page["versions"]]
    assert seen == digests
    assert "nextPageToken" not in third


@pytest.mark.parametrize(
    "path", ["", "/packages", "/packages/other/versions"], ids=["repository", "packages", "versions"]
)
def test_unknown_rest_resource_is_404(client: Client, path: str) -> None:
    """In the shape of Google's REST errors."""
    answer = client("GET", f"/v1/projects/acme/locations/us/repositories/none{path}")

    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


def test_repositories_are_listed_with_their_modes(emulator: Emulator, client: Client) -> None:
    """Standard, remote and virtual ones of a project's location, ``gcr.io``'s among them."""
    load(emulator.store, "us-docker.pkg.dev/acme/apps/api", image(1))
    load(emulator.store, "us-docker.pkg.dev/acme/cache/library/nginx", image(1))
    load(emulator.store, "gcr.io/acme/api", image(1))
    load(emulator.store, "europe-docker.pkg.dev/acme/elsewhere/api", image(1))
    emulator.store.set_mode("us-docker.pkg.dev/acme/cache", "REMOTE_REPOSITORY")

    answer = client("GET", "/v1/projects/acme/locations/us/repositories").json()

    assert [(one["name"].rpartition("/")[2], one["mode"]) for one in answer["repositories"]] == [
        ("apps", "STANDARD_REPOSITORY"),
        ("cache", "REMOTE_REPOSITORY"),
        ("gcr.io", "STANDARD_REPOSITORY"),
    ]


def test_rest_wants_a_google_credential_and_no_token(emulator: Emulator, client: Client) -> None:
    """With authorisation on: a bearer that is not the registry's own."""
    load(emulator.store, "gcr.io/acme/api", image(1))
    emulator.behaviour.auth = True
    path = "/v1/projects/acme/locations/us/repositories/gcr.io/packages"

    def ask(header: dict[str, str]) -> int:
        return client("GET", path, headers=header).status_code

    assert ask({}) == 401
    assert ask({"Authorization": f"Bearer {client.token()}"}) == 401
    assert ask({"Authorization": "Bearer ya29.secret"}) == 200


# Cloud Asset Inventory.


@pytest.mark.parametrize("scope", ["projects/acme", "folders/1", "organizations/2"])
def test_inventory_is_filtered_by_type_and_paged(emulator: Emulator, client: Client, scope: str) -> None:
    """Every page has its ``readTime``; a type that was not asked for is on none."""
    pod, job, other = "k8s.io/Pod", "run.googleapis.com/Job", "storage.googleapis.com/Bucket"
    emulator.behaviour.assets[scope] = [
        {"name": f"//{kind}/{n}", "assetType": kind, "resource": {"data": {"n": n}}}
        for n in range(3)
        for kind in (pod, job, other)
    ]
    names: list[str] = []
    token: str | None = ""

    while token is not None:
        params = {"assetTypes": [pod, job], "contentType": "RESOURCE", "pageSize": "4", "pageToken": token or None}
        page = client("GET", f"/v1/{scope}/assets", params=params).json()
        assert page["readTime"]
        assert all(one["resource"]["data"] for one in page["assets"])
        names += [one["name"] for one in page["assets"]]
        token = page.get("nextPageToken")

    assert len(names) == 6
    assert not any(other in name for name in names)
    assert emulator.log.counts["assets"] == 2


def test_inventory_of_an_unknown_or_forbidden_scope_fails(emulator: Emulator, client: Client) -> None:
    """404 for a scope that does not exist, 403 where the permission is missing."""
    emulator.behaviour.denied_scopes.add("folders/1")

    assert client("GET", "/v1/projects/none/assets").json()["error"]["status"] == "NOT_FOUND"
    denied = client("GET", "/v1/folders/1/assets")
    assert (denied.status_code, denied.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


# Faults.


def test_status_is_answered_without_the_work(emulator: Emulator, client: Client) -> None:
    """A 503 with ``Retry-After`` on the second deletion only; nothing goes in it."""
    digests = [load(emulator.store, emulator.name(PATH), image(n)) for n in range(3)]
    rule = emulator.faults.add(Status(503, retry_after=7), kind="manifest_delete", nth=2)

    answers = [client.delete(digest) for digest in digests]

    assert [answer.status_code for answer in answers] == [202, 503, 202]
    assert answers[1].headers["Retry-After"] == "7"
    assert emulator.store.digests(emulator.name(PATH)) == {digests[1]}
    assert (rule.seen, rule.hits, emulator.faults.counts["Status"]) == (3, 1, 1)


def test_429_is_json_or_plain_text(emulator: Emulator, client: Client) -> None:
    """Google sends both: ``TOOMANYREQUESTS`` and the text ``Quota Exceeded.``"""
    emulator.faults.add(too_many_requests(), nth=1)
    emulator.faults.add(too_many_requests(plain=True), nth=2)

    as_json, as_text = client.listing(), client.listing()

    assert code_of(as_json) == (429, "TOOMANYREQUESTS")
    assert (as_text.status_code, as_text.text) == (429, "Quota Exceeded.")


@pytest.mark.parametrize(("action", "left"), [(DropBefore(), 1), (DropAfter(), 0), (Stall(0.01), 1)])
def test_dropped_connection_has_done_the_work_or_not(
    emulator: Emulator, client: Client, action: DropBefore | DropAfter | Stall, left: int
) -> None:
    """Before the work, or after it: a deletion done whose answer is lost.  Logged with status 0."""
    digest = load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(action, method="DELETE")

    with pytest.raises(requests.ConnectionError):
        client.delete(digest)

    assert len(emulator.store.digests(emulator.name(PATH))) == left
    assert [entry.status for entry in emulator.log.entries] == [0]


def test_body_can_end_early(emulator: Emulator, client: Client) -> None:
    """``Content-Length`` promises more than comes."""
    load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(CutBody(), path="/tags/list")

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.listing()


def test_broken_json_comes_with_200(emulator: Emulator, client: Client) -> None:
    """The status promises what the body does not hold."""
    load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(BrokenJson(), kind="tags_list")

    answer = client.listing()

    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_callback_changes_the_state_before_or_after_a_request(emulator: Emulator, client: Client) -> None:
    """A tag that moves at the second request; a push that arrives right after a listing."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)
    emulator.faults.add(Before(lambda: emulator.store.tag(repository, "latest", new)), kind="manifest_head", nth=2)
    emulator.faults.add(After(lambda: load(emulator.store, repository, image(3))), kind="tags_list")

    heads = [client("HEAD", f"/v2/{PATH}/manifests/latest").headers["Docker-Content-Digest"] for _ in range(2)]
    listed = client.listing().json()["manifest"]

    assert heads == [old, new]
    assert len(listed) == 2
    assert len(emulator.store.digests(repository)) == 3


def test_chance_is_the_same_for_the_same_seed(emulator: Emulator, client: Client) -> None:
    """A run that failed can be run again."""

    def run(seed: int) -> list[int]:
        emulator.faults.clear()
        emulator.faults.seed(seed)
        emulator.faults.add(Status(500), probability=0.5)
        return [client("GET", "/v2/").status_code for _ in range(20)]

    first = run(1)

    assert {200, 500} == set(first)
    assert run(1) == first
    assert run(2) != first


def test_rule_hits_every_nth_after_some_and_only_so_often(emulator: Emulator, client: Client) -> None:
    """``skip``, ``every`` and ``times`` together."""
    emulator.faults.add(Status(500), skip=1, every=2, times=2)

    assert [client("GET", "/v2/").status_code for _ in range(8)] == [200, 200, 500, 200, 500, 200, 200, 200]


def test_latency_is_what_was_asked_for(emulator: Emulator, client: Client) -> None:
    """No answer comes earlier, and a rule's delay adds to it; how much later is the machine's affair."""
    emulator.faults.latency_s = 0.02
    emulator.faults.add(Delay(0.03), skip=5)

    def best() -> float:
        return min(client("GET", "/v2/").elapsed.total_seconds() for _ in range(5))

    assert best() >= 0.02
    assert best() >= 0.05


def test_quota_refuses_what_is_beyond_it(emulator: Emulator, client: Client) -> None:
    """Only the methods it names, counted as accepted and refused; over as soon as it is lifted."""
    quota = emulator.faults.quota = Quota(0.001, methods=frozenset({"DELETE"}), burst=5, retry_after=1)

    statuses = [client.delete(ABSENT).status_code for _ in range(8)]

    assert statuses == [404] * 5 + [429] * 3
    assert (quota.accepted, quota.refused) == (5, 3)
    assert sum(accepted + refused for accepted, refused in quota.windows.values()) == 8
    assert client("GET", "/v2/").status_code == 200
    emulator.faults.quota = None
    assert client.delete(ABSENT).status_code == 404


def test_quota_fills_again() -> None:
    """A token bucket holds what time has put into it, and no more than it can."""
    quota = Quota(200, burst=2)
    now = time.monotonic()

    assert [quota.take(now) for _ in range(3)] == [True, True, False]
    assert [quota.take(now + 0.006) for _ in range(2)] == [True, False]
    assert [quota.take(now + 60) for _ in range(3)] == [True, True, False]


def test_quota_of_whole_seconds() -> None:
    """Each has its own."""
    quota = Quota(5, fixed=True)
    now = time.monotonic()

    assert [quota.take(now) for _ in range(8)] == [True] * 5 + [False] * 3
    assert quota.take(now + 1)
    assert sorted(quota.windows.values()) == [[1, 0], [5, 3]]


# The two gaps.


def test_tag_that_moved_between_look_and_deletion_is_a_gap(emulator: Emulator, client: Client) -> None:
    """The client saw one manifest and took the tag off another: recorded with both."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)

    client("HEAD", f"/v2/{PATH}/manifests/latest")
    emulator.store.tag(repository, "latest", new)
    client.delete("latest")

    (gap,) = emulator.gaps
    assert (gap.kind, gap.repository, gap.tag) == ("tag-moved", repository, "latest")
    assert (gap.expected, gap.found, gap.attempt) == (old, new, 1)
    assert gap.seconds >= 0


def test_tag_that_was_looked_at_again_is_no_gap(emulator: Emulator, client: Client) -> None:
    """The last look of the same client counts; a deletion without any look is no gap but a mistake."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    for tag in ("latest", "unseen"):
        emulator.store.tag(repository, tag, old)

    client("HEAD", f"/v2/{PATH}/manifests/latest")
    emulator.store.tag(repository, "latest", new)
    client("HEAD", f"/v2/{PATH}/manifests/latest")
    client.delete("latest")
    emulator.store.tag(repository, "unseen", new)
    client.delete("unseen")

    assert emulator.gaps == []


def test_look_of_another_client_does_not_hide_a_gap(emulator: Emulator, client: Client) -> None:
    """Clients are told apart by their tokens."""
    emulator.behaviour.auth = True
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)
    first, second = ({"Authorization": f"Bearer {client.token()}", "Accept": ACCEPT} for _ in range(2))

    client("HEAD", f"/v2/{PATH}/manifests/latest", headers=first)
    emulator.store.tag(repository, "latest", new)
    client("HEAD", f"/v2/{PATH}/manifests/latest", headers=second)
    client("DELETE", f"/v2/{PATH}/manifests/latest", headers=first)

    assert [(gap.expected, gap.found) for gap in emulator.gaps] == [(old, new)]


@pytest.mark.parametrize("strict", [False, True])
def test_index_whose_child_went_in_between_is_a_gap(emulator: Emulator, strict: bool) -> None:
    """A push skipped an upload because the child was there; then it was gone.  A child that never was is no gap."""
    repository = emulator.name(PATH)
    child = image(1, with_blobs=True)
    built = index([child])
    emulator.store.strict = strict
    load(emulator.store, repository, child, uploaded=UPLOADED_MS)
    gone = Before(lambda: emulator.store.delete_manifest(repository, child.digest))
    emulator.faults.add(gone, kind="manifest_put")

    with Pusher(emulator.url) as pusher:
        try:
            pusher.push(PATH, built, ["v1"])
            refused = False
        except requests.HTTPError:
            refused = True
    emulator.store.strict = False
    load(emulator.store, repository, index([], absent=[ABSENT]))

    (gap,) = emulator.gaps
    assert refused == strict
    assert (gap.kind, gap.expected, gap.found) == ("child-gone", child.digest, built.digest)
    assert gap.age_s == pytest.approx(time.time() - UPLOADED_MS / 1000, abs=10)


# Content.


def test_same_seed_makes_the_same_content() -> None:
    """Two runs have the same digests; another seed has others; no two kinds share one."""

    def made(seed: int) -> list[str]:
        one = image(seed)
        contents = [one, image(seed, media_type=OCI_MANIFEST), index([one]), attestation(one)]
        contents += [cosign_signature(one), referrer(one), multi_arch(seed), multi_arch(seed, attestations=True)]
        return [content.digest for content in contents]

    assert made(1) == made(1)
    assert len({*made(1), *made(2)}) == 16


def test_attestation_stands_in_its_index_as_buildkit_writes_it() -> None:
    """Platform ``unknown/unknown``, and an annotation that names the image."""
    built = multi_arch(1, attestations=True)

    entries = json.loads(built.body)["manifests"]

    assert [one["platform"]["architecture"] for one in entries] == ["amd64", "arm64", "unknown", "unknown"]
    assert entries[2]["annotations"] == {
        "vnd.docker.reference.digest": entries[0]["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }


# Credentials.


def test_google_library_finds_its_credentials_here(emulator: Emulator) -> None:
    """As on a machine of Google's: a metadata server that the environment names."""
    emulator.behaviour.auth = True
    script = (
        "import google.auth, google.auth.transport.requests as transport\n"
        "credentials, project = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])\n"
        "credentials.refresh(transport.Request())\n"
        "print(credentials.token, project)\n"
    )
    machine = {"GCE_METADATA_HOST": emulator.host, "GCE_METADATA_IP": emulator.host}
    # No key, home or proxy of whoever runs the test.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **machine}

    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert found.stdout.split() == [ACCESS_TOKEN, "acme"], found.stderr


def test_service_account_key_is_exchanged_here(client: Client) -> None:
    """The ``token_uri`` of a key may name the emulator."""
    assert client("POST", "/oauth/token", data={"assertion": "x"}).json()["access_token"] == ACCESS_TOKEN
    assert code_of(client("GET", "/computeMetadata/v1/nothing")) == (404, "NOT_FOUND")


# TLS.


def test_emulator_poses_as_gcr_io_through_its_proxy(tmp_path: Path) -> None:
    """A client that trusts the test's authority and uses its proxy talks HTTPS to ``gcr.io``, and gets here."""
    tls = make_tls(["gcr.io", "artifactregistry.googleapis.com"], tmp_path)
    with Emulator(tls=tls) as emulator, requests.Session() as session:
        load(emulator.store, "gcr.io/acme/api", image(1), tags="v1")
        # The machine's own trust and proxies must not win over the test's.
        session.trust_env = False
        session.verify = str(tls.ca_file)
        session.proxies = {"https": emulator.proxy_url}

        listing = session.get("https://gcr.io/v2/acme/api/tags/list", timeout=5)
        rest = session.get(
            "https://artifactregistry.googleapis.com/v1/projects/acme/locations/us/repositories/gcr.io/packages",
            timeout=5,
        )
        with pytest.raises(requests.exceptions.SSLError):
            session.get("https://example.com/", timeout=5)

        assert listing.json()["tags"] == ["v1"]
        assert len(rest.json()["packages"]) == 1
        assert emulator.proxy is not None
        assert emulator.proxy.connects == ["gcr.io:443", "artifactregistry.googleapis.com:443", "example.com:443"]


# A process of its own.


def test_process_serves_is_controlled_and_ends_cleanly() -> None:
    """Its first line is its address; ``/_emulator/`` looks into it and changes it; SIGTERM ends it with 0."""
    command = [sys.executable, "-m", "tests.emulator", "--scenario", "untagged=3", "--scenario", "demo", "--auth"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process, requests.Session() as session:
        host = process.stdout.readline().strip()
        client = Client(f"http://{host}", session)
        try:
            control = "/_emulator"
            bearer = {"Authorization": f"Bearer {client.token()}"}
            assert client("GET", f"/v2/{PATH}/tags/list", headers=bearer).status_code == 200
            client("POST", f"{control}/tokens/expire")
            assert client("GET", f"/v2/{PATH}/tags/list", headers=bearer).status_code == 401
            client("POST", f"{control}/behaviour", json={"auth": False, "denied": ["x"]})
            assert client.listing().status_code == 200
            client("POST", f"{control}/counters/reset")
            rule = {"action": "status", "status": 429, "retry_after": 1, "where": {"kind": "tags_list", "times": 1}}
            assert client("POST", f"{control}/rules", json=rule).status_code == 200
            assert client("POST", f"{control}/rules", json={"action": "nonsense"}).status_code == 400
            assert [client.listing().status_code for _ in range(2)] == [429, 200]
            counters = client("GET", f"{control}/counters").json()
            assert (counters["requests"], counters["kinds"], counters["faults"]) == (
                2,
                {"tags_list": 2},
                {"Status": 1},
            )
            client("POST", f"{control}/quota", json={"per_second": 1, "burst": 1, "methods": ["DELETE"]})
            assert [client.delete(ABSENT).status_code for _ in range(2)] == [404, 429]
            state = client("GET", f"{control}/state?bodies").json()
            assert {f"{host}/acme/jib-service", f"{host}/acme/proxy-agent"} <= set(state["repositories"])
            client("POST", f"{control}/clear")
            client("POST", f"{control}/load", json=state)
            assert client("GET", f"{control}/state?bodies").json() == state
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_load_of_a_dump_gives_the_same_state() -> None:
    """With ``{host}`` in a name for the emulator's own."""
    store, copy = Store(), Store()
    for repository in ("{host}/acme/api", "gcr.io/acme/api"):
        load(store, repository, multi_arch(1, attestations=True), tags="v1", uploaded=datetime.now(tz=UTC))
    store.repository("gcr.io/acme/api", immutable_tags=True)
    store.set_mode("gcr.io/acme", "VIRTUAL_REPOSITORY")

    copy.load(json.loads(json.dumps(store.dump())), host="here:1")

    expected = json.loads(json.dumps(store.dump()).replace("{host}", "here:1"))
    assert copy.dump() == expected


def test_rule_from_json_refuses_what_it_does_not_know() -> None:
    """A misspelt rule must not pass as no rule."""
    assert rule_from_json({"action": "delay", "seconds": 1, "where": {"nth": 2}}).times == 1
    with pytest.raises(KeyError):
        rule_from_json({"action": "explode"})
    with pytest.raises(TypeError):
        rule_from_json({"action": "status", "status": 500, "where": {"often": True}})


def test_stop_ends_requests_that_are_still_waiting() -> None:
    """A stalled request does not hold the emulator up, and the client sees its connection end."""
    emulator = Emulator(latency_ms=3_600_000).start()
    with requests.Session() as session:
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{emulator.url}/v2/", timeout=0.05)
        stop = threading.Thread(target=emulator.stop, daemon=True)
        stop.start()
        stop.join(DEADLINE_S)
    assert not stop.is_alive()
