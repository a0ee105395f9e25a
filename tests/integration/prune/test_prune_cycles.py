"""What depends on itself, and what is of an unknown type."""

from __future__ import annotations

import pytest

from tests.emulator.images import cosign_signature, cosign_tag, image, index, raw, referrer
from tests.emulator.store import OCI_INDEX
from tests.support.prune import ABSENT, ALL, children
from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")


def test_loops_of_cosign_tags_end(world: World) -> None:
    """Signatures that name one another, or themselves, hang on nothing else: they stay, and nobody hangs."""
    first, second = cosign_signature(ABSENT, seed=1), cosign_signature(ABSENT, seed=2)
    world.load(first, tags=cosign_tag(second))
    world.load(second, tags=cosign_tag(first))
    own = cosign_signature(ABSENT, seed=3)
    world.load(own, tags=cosign_tag(own))
    world.load(image("lone"))

    report = world.prune(**ALL)

    assert world.left == {first.digest, second.digest, own.digest}
    assert report.reasons == {"needed": 3, "expired": 1}


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


def test_nothing_of_an_unknown_type_goes(world: World) -> None:
    """What this program does not understand it does not judge."""
    unknown = world.load(raw(b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"))

    assert world.prune(**ALL).reasons == {"unknown-type": 1}
    assert world.left == {unknown}
