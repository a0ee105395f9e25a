"""What a reference names, whether a manifest exists, and how deletions of tags and manifests end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import (
    CleanerError,
    PermissionDenied,
    RequestRefused,
    Unavailable,
)
from cleaner.core.manifest import MEDIA_TYPES
from cleaner.core.reference import Tag
from cleaner.google.registry.deletions import DELETED, NOT_SENT, DeletionResponse
from tests.emulator.faults import Before, DropAfter, DropBefore, Status
from tests.emulator.images import image, raw
from tests.emulator.store import (
    DANGLING_PARENT,
    DANGLING_TAG,
    REFERRING_MANIFEST,
)
from tests.support.readings import ABSENT, TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cleaner.google.transport import RequestBudget, Response
    from tests.emulator.faults import Action
    from tests.support.world import World


def test_tag_is_kept_if_the_registry_does_not_say_what_it_names(world: World) -> None:
    """An answer without the header is no digest at all, and not 'nothing there'."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(Status(200, body=b""), kind="manifest_head")

    response = world.client().delete_tag(Tag("v1"), digest, lambda: True)

    assert response == DeletionResponse(is_gone=False, current_digest="")
    assert world.tags == {"v1": digest}


@pytest.mark.parametrize("media_type", [*TYPES, "application/vnd.unknown"])
def test_manifest_of_any_type_exists(world: World, media_type: str) -> None:
    """A registry answers 404 for a manifest of a type that is not accepted, so any type is."""
    digest = world.load(raw(b"{}", media_type), tags="v1")
    client = world.client()

    assert client.exists(digest)
    assert not client.exists(ABSENT)
    assert client.delete_tag(Tag("v1"), digest, lambda: True) == DELETED


@pytest.mark.parametrize("media_type", [*TYPES, "application/vnd.unknown"])
def test_tag_that_moved_to_a_manifest_of_any_type_is_kept(world: World, media_type: str) -> None:
    """A response of 404 for a type that is not accepted would say that the tag no longer exists."""
    digest = world.load(image(1), tags="v1")
    moved_to = world.load(raw(b"{}", media_type), tags="v1")

    response = world.client().delete_tag(Tag("v1"), digest, lambda: True)

    assert response == DeletionResponse(is_gone=False, current_digest=moved_to)
    assert world.tags == {"v1": moved_to}
    assert world.asked("tag_delete") == []


def test_types_that_are_understood_are_preferred_where_a_tag_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that is asked for any type alone may convert a manifest, and give the digest of what it made."""
    digest = world.load(image(1), tags="v1")
    accepted = watch_accept(world, monkeypatch)
    client = world.client()

    client.delete_tag(Tag("v1"), digest, lambda: True)
    client.exists(digest)

    assert [types.split(", ") for types in accepted["HEAD"]] == [[*MEDIA_TYPES, "*/*"], ["*/*"]]


def watch_accept(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return what each request accepts from now on, by method."""
    accepted: dict[str, list[str]] = {}
    once = world.transport.once

    def watched(
        budget: RequestBudget, method: str, url: str, headers: Mapping[str, str], *, max_bytes: int
    ) -> Response:
        accepted.setdefault(method, []).append(headers["Accept"])
        return once(budget, method, url, headers, max_bytes=max_bytes)

    monkeypatch.setattr(world.transport, "once", watched)
    return accepted


@pytest.mark.parametrize(
    ("status", "error"), [(401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused), (503, Unavailable)]
)
def test_existence_that_cannot_be_read_is_an_error(world: World, status: int, error: type[CleanerError]) -> None:
    """Only 404 says that a manifest does not exist."""
    digest = world.load(image(1))
    world.faults.add(Status(status), kind="manifest_head")

    with pytest.raises(error):
        world.client().exists(digest)


@pytest.mark.parametrize("style", ["gcr", "ar"])
def test_deletion_of_a_tag_leaves_the_manifest(world: World, style: str) -> None:
    """Only the tag goes."""
    world.emulator.behaviour.style = style
    digest = world.load(image(1), tags=["v1", "v2"])

    assert world.client().delete_tag(Tag("v1"), digest, lambda: True).is_gone

    assert world.tags == {"v2": digest}
    assert world.left == {digest}


def test_deletion_of_what_is_not_there_is_a_success(world: World) -> None:
    """Another delivery got there first."""
    world.load(image(1))
    client = world.client()

    assert client.delete_manifest(ABSENT, lambda: True).is_gone
    assert client.delete_tag(Tag("v1"), ABSENT, lambda: True).is_gone


@pytest.mark.parametrize("code", [DANGLING_TAG, DANGLING_PARENT, REFERRING_MANIFEST])
def test_refused_deletion(world: World, code: str) -> None:
    """Google's three codes say that somebody needs it."""
    digest = world.load(image(1))
    world.faults.add(Status(400, code))

    outcome = world.client().delete_manifest(digest, lambda: True)

    assert (outcome.is_gone, outcome.is_refused, outcome.status, outcome.codes) == (False, True, 400, (code,))


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405, 409, 501])
@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b'{"errors":[{"code":"A"},{"code":"B"},{"message":"x"},{"code":""}]}', ("A", "B")),
        (b'{"errors":[]}', ()),
        (b'{"errors":null}', ()),
        (b'{"errors":{"code":"A"}}', ()),
        (b"Denied.", ()),
        (b"\xff", ()),
        (b"", ()),
        (b"[" * 100_000, ()),
    ],
)
def test_failed_deletion(world: World, status: int, body: bytes, codes: tuple[str, ...]) -> None:
    """Any other refusal is told with the codes that there are."""
    digest = world.load(image(1))
    world.faults.add(Status(status, body=body), kind="manifest_delete")

    outcome = world.client().delete_manifest(digest, lambda: True)

    assert (outcome.is_gone, outcome.is_refused, outcome.status, outcome.codes) == (False, False, status, codes)
    assert digest in world.left


@pytest.fixture(params=["tag", "manifest"])
def deletion(world: World, request: pytest.FixtureRequest) -> Callable[[Callable[[], bool]], DeletionResponse]:
    """Deletes the tag ``v1`` of one image, or another image."""
    digest = world.load(image(1), tags="v1")
    untagged = world.load(image(2))
    client = world.client()
    if request.param == "tag":
        return lambda precondition: client.delete_tag(Tag("v1"), digest, precondition)
    return lambda precondition: client.delete_manifest(untagged, precondition)


DELETES = ("tag_delete", "manifest_delete")


def test_precondition_that_is_false_sends_nothing(
    world: World, deletion: Callable[[Callable[[], bool]], DeletionResponse]
) -> None:
    """Neither a DELETE nor a HEAD."""
    assert deletion(lambda: False) == NOT_SENT
    assert world.log.total == 0


@pytest.mark.parametrize("fault", [DropBefore(), DropAfter(), Status(503)], ids=repr)
def test_precondition_is_called_before_each_attempt(
    world: World, deletion: Callable[[Callable[[], bool]], DeletionResponse], fault: Action
) -> None:
    """If it is False the second time, the first DELETE may have succeeded, and the response says that it was sent."""
    for kind in DELETES:
        world.faults.add(fault, kind=kind)
    attempts = iter([True, False])

    assert deletion(lambda: next(attempts)) == DeletionResponse(is_gone=False, was_sent=True, is_doubtful=True)
    assert len(world.asked(*DELETES)) == 1


def test_deletion_whose_response_was_lost_is_a_success(
    world: World, deletion: Callable[[Callable[[], bool]], DeletionResponse]
) -> None:
    """The second attempt finds nothing, since the first has deleted it."""
    for kind in DELETES:
        world.faults.add(DropAfter(), kind=kind, times=1)

    assert deletion(lambda: True) == DELETED


def test_deletion_of_a_moved_tag_is_not_sent(world: World) -> None:
    """The response names the digest that the tag names now."""
    digest = world.load(image(1), tags="v1")
    other = world.load(image(2), tags="v1")

    response = world.client().delete_tag(Tag("v1"), digest, lambda: True)

    assert response == DeletionResponse(is_gone=False, current_digest=other)
    assert world.tags == {"v1": other}


def test_tag_that_moves_between_two_attempts_is_kept(world: World) -> None:
    """The check is part of what is retried."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(DropBefore(), kind="tag_delete", times=1)
    attempts = itertools.count()

    def precondition() -> bool:
        if next(attempts) == 1:
            world.load(image(2), tags="v1")
        return True

    response = world.client().delete_tag(Tag("v1"), digest, precondition)

    assert (response.is_gone, response.was_sent, response.current_digest) == (False, True, world.tags["v1"])
    assert world.tags["v1"] != digest


@pytest.mark.parametrize(
    ("status", "error"), [(401, PermissionDenied), (403, PermissionDenied), (400, RequestRefused), (503, Unavailable)]
)
def test_tag_that_cannot_be_read_is_not_deleted(world: World, status: int, error: type[CleanerError]) -> None:
    """Without knowing what it names, no DELETE is sent."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(Status(status), kind="manifest_head")

    with pytest.raises(error):
        world.client().delete_tag(Tag("v1"), digest, lambda: True)

    assert world.asked(*DELETES) == []


def test_tag_whose_deletion_is_denied_is_a_failed_deletion(world: World) -> None:
    """401 to the DELETE itself does not end the run."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(Status(401, "UNAUTHORIZED"), kind="tag_delete")

    response = world.client().delete_tag(Tag("v1"), digest, lambda: True)

    assert response == DeletionResponse(is_gone=False, was_sent=True, status=401, codes=("UNAUTHORIZED",))


@pytest.mark.parametrize("kind", ["manifest_head", "tag_delete"])
def test_tag_is_checked_again_with_a_fresh_token(google: World, kind: str) -> None:
    """A 401 to either request repeats both."""
    google.emulator.behaviour.takes_access_token = False
    digest = google.load(image(1), tags="v1")
    client = google.client()
    client.exists(digest)
    google.log.clear()
    google.faults.add(Before(google.emulator.expire_tokens), kind=kind, nth=1)

    assert client.delete_tag(Tag("v1"), digest, lambda: True) == DELETED

    again = [("HEAD", "v1", 200), ("DELETE", "v1", 202)]
    first = [("HEAD", "v1", 401)] if kind == "manifest_head" else [("HEAD", "v1", 200), ("DELETE", "v1", 401)]
    assert google.asked("manifest_head", "tag_delete") == [*first, *again]
    assert google.log.counts["token"] == 1
