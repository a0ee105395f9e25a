"""What depends on itself, and what is of an unknown type."""

from __future__ import annotations

import pytest

from tests.emulator.images import cosign_signature, cosign_tag, image, index, raw, referrer
from tests.emulator.store import OCI_INDEX
from tests.support.prune import ABSENT, ALL, children
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_signatures_that_sign_each_other_are_kept(world: World) -> None:
    """They are in a cycle; a signature with a tag for its own digest is an image like any other."""
    first, second = cosign_signature(ABSENT, seed=1), cosign_signature(ABSENT, seed=2)
    world.load(first, tags=cosign_tag(second))
    world.load(second, tags=cosign_tag(first))
    own = cosign_signature(ABSENT, seed=3)
    world.load(own, tags=cosign_tag(own))
    world.load(image("lone"))

    report = world.prune(**ALL)

    assert world.left == {first.digest, second.digest}
    assert report.reasons == {"needed": 2, "expired": 2}


def test_cycle_that_belongs_to_an_image_keeps_it(world: World) -> None:
    """No order deletes signatures that sign each other; they are kept, and so is the image that they sign."""
    subject = world.load(image("subject"), tags="v1")
    first, second = cosign_signature(ABSENT, seed=1), cosign_signature(ABSENT, seed=2)
    world.load(first, tags=[cosign_tag(second), cosign_tag(subject)])
    world.load(second, tags=cosign_tag(first))

    report = world.prune(**ALL)

    assert world.left == {subject, first.digest, second.digest}
    assert report.reasons == {"needed": 3}
    assert world.gone() == []


def test_loop_through_an_index_and_a_subject_ends(world: World) -> None:
    """An index lists what signs it, and is signed by what it lists: whatever happens, it ends."""
    signature = cosign_signature(ABSENT, seed=1)
    top = index([signature, image(1)], media_type=OCI_INDEX)
    world.load(top, tags="v1")
    world.store.tag(world.name, cosign_tag(top), signature.digest)
    about = referrer(top)
    world.load(about)
    world.store.tag(world.name, cosign_tag(about, suffix="att"), top.digest)

    world.prune(**ALL)
    world.prune(**ALL)

    assert world.left in (frozenset(), {top.digest, *children(top), about.digest})


def test_manifest_of_an_unknown_type_is_kept(world: World) -> None:
    """What it refers to is not known."""
    unknown = world.load(raw(b"{}", "application/vnd.unknown"))

    assert world.prune(**ALL).reasons == {"unknown-type": 1}
    assert world.left == {unknown}


@pytest.mark.parametrize("tags", ["", "v1"])
@pytest.mark.parametrize("suffix", ["json", "prettyjws"])
def test_docker_schema_1_is_an_image_and_is_never_read(world: World, suffix: str, tags: str) -> None:
    """It has neither children nor a subject; signed, its bytes do not match its digest."""
    media_type = f"application/vnd.docker.distribution.manifest.v1+{suffix}"
    world.load(raw(b'{"schemaVersion":1}', media_type), tags=tags.split())

    assert world.prune(**ALL).reasons == {"expired": 1}
    assert world.left == frozenset()
    assert world.log.counts["manifest_get"] == 0
