"""What is pushed to the emulator over the wire, and the content that tests make."""

from __future__ import annotations

import json

import pytest

from tests.emulator import Emulator
from tests.emulator.images import (
    attestation,
    cosign_signature,
    image,
    index,
    load,
    multi_arch,
    referrer,
    referrers_index,
)
from tests.emulator.names import digest_of
from tests.emulator.store import OCI_INDEX, OCI_MANIFEST, Refusal, Store
from tests.emulator.wire import Pusher
from tests.support.emulator_client import ABSENT, PATH, UPLOADED_MS, Client, code_of


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
    assert {entry.kind for entry in emulator.log.credentials()} == {"token"}


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


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("content_range", ["0-3", "5-8", "bytes 0-3/8", "nonsense"])
def test_chunk_that_does_not_follow_the_last_is_refused(
    emulator: Emulator, client: Client, method: str, content_range: str
) -> None:
    """416 with where the upload ends; the chunk that follows is taken then, and the blob is whole."""
    begun = client("POST", f"/v2/{PATH}/blobs/uploads/").headers["Location"]
    client("PATCH", begun, data=b"abcd", headers={"Content-Range": "0-3"})
    blob = b"abcdefgh"
    put = f"{begun}?digest={digest_of(blob)}"

    refused = client(method, put, data=b"efgh", headers={"Content-Range": content_range})
    taken = client("PATCH", begun, data=b"efgh", headers={"Content-Range": "4-7"})

    assert code_of(refused) == (416, "BLOB_UPLOAD_INVALID")
    assert (refused.headers["Range"], refused.headers["Location"]) == ("0-3", begun)
    assert (taken.status_code, taken.headers["Range"]) == (202, "0-7")
    assert client("PUT", put).status_code == 201
    assert emulator.store.get_blob(emulator.name(PATH), digest_of(blob)) == blob


@pytest.mark.parametrize("content", [b"", b"content"])
def test_head_of_a_blob_says_its_length(emulator: Emulator, client: Client, content: bytes) -> None:
    """Also of an empty one."""
    digest = emulator.store.put_blob(emulator.name(PATH), content)

    answer = client("HEAD", f"/v2/{PATH}/blobs/{digest}")

    assert answer.headers["Content-Length"] == str(len(content))


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


def test_referrers_index_gives_the_type_of_each_referrer() -> None:
    """As clients write it: the document's type, or else its config's; nothing else of the descriptors differs."""
    listed = [referrer(image(1), artifact_type="application/x"), cosign_signature(image(1))]

    made = referrers_index(listed)

    entries = json.loads(made.body)["manifests"]
    types = [one.pop("artifactType") for one in entries]
    assert types == ["application/x", "application/vnd.oci.image.config.v1+json"]
    assert entries == json.loads(index(listed).body)["manifests"]
    assert [one.digest for one in made.children] == [one.digest for one in listed]
