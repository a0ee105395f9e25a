"""What the emulator deletes and refuses, and what it knows of referrers."""

from __future__ import annotations

import json
import random

import pytest

from tests.emulator import Emulator
from tests.emulator.images import cosign_signature, cosign_tag, image, index, load, referrer
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERRING_MANIFEST,
    Refusal,
    Store,
)
from tests.support.emulator_client import ABSENT, PATH, Client, code_of


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


@pytest.mark.parametrize("takes", [False, True])
def test_index_takes_children_along_if_told(emulator: Emulator, client: Client, takes: bool) -> None:
    """Nested ones too; not those with a tag, or in another living index, and nothing by default."""
    repository = emulator.name(PATH)
    alone, tagged, shared, inner = (image(n) for n in range(4))
    nested = index([inner], media_type=OCI_INDEX)
    top = load(emulator.store, repository, index([alone, tagged, shared, nested], absent=[ABSENT]))
    other = load(emulator.store, repository, index([shared], seed=1))
    emulator.store.tag(repository, "v1", tagged.digest)
    emulator.behaviour.index_takes_children = takes
    children = {alone.digest, nested.digest, inner.digest}

    answer = client.delete(top)

    assert answer.status_code == 202
    left = emulator.store.digests(repository)
    assert left == {tagged.digest, shared.digest, other} | (set() if takes else children)
    assert code_of(client.delete(shared.digest)) == (400, DANGLING_PARENT)


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


def test_immutable_tags_are_those_of_all_below(emulator: Emulator, client: Client) -> None:
    """Google sets it for a repository of Artifact Registry, says so by REST, and it holds for every image there."""
    emulator.store.repository(emulator.name("acme/apps"), immutable_tags=True)
    for repository in ("acme/apps/a/b", "acme/other/a"):
        load(emulator.store, emulator.name(repository), image(1), tags="v1")

    def described(name: str) -> object:
        return client("GET", f"/v1/projects/acme/locations/us/repositories/{name}").json().get("dockerConfig")

    assert (described("apps"), described("other")) == ({"immutableTags": True}, None)
    assert code_of(client.delete("v1", "acme/apps/a/b")) == (400, "FAILED_PRECONDITION")
    assert client.delete("v1", "acme/other/a").status_code == 202


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
