"""A Pub/Sub message becomes a value, or an ``InvalidNotification`` that says why it never can.

Whoever may publish to the topic writes these: nothing in them is believed before it has been matched as a whole.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Set as AbstractSet
from datetime import datetime

import msgspec

from cleaner.core.errors import InvalidNotification, InvalidReference
from cleaner.core.reference import (
    Digest,
    Repository,
    Tag,
    parse_digest_reference,
    parse_repository,
    parse_tag_reference,
)
from cleaner.core.times import parse_time

# A reference has at most 255 + 128 characters; ten times what two of them need is no notification.
DATA_MAX_CHARS = 16 * 1024


# A notification is flat; what the parser still bears depends on Python's version.
BRACKETS_MAX = 64


class Named(msgspec.Struct, frozen=True):
    """The digests and tags that messages about one repository name."""

    digests: AbstractSet[Digest] = frozenset()
    tags: AbstractSet[Tag] = frozenset()


NOTHING_NAMED = Named()


class Pushed(msgspec.Struct, frozen=True):
    """A manifest or tag of ``repository`` was pushed; ``named`` is what the message names."""

    repository: Repository
    named: Named


class Removed(msgspec.Struct, frozen=True):
    """A manifest or tag was deleted, by this function or another: nothing to do."""


class PruneRequest(msgspec.Struct, frozen=True):
    """The operator asks for ``repository`` to be pruned."""

    repository: Repository


class SweepRequest(msgspec.Struct, frozen=True):
    """The operator asks for every repository under ``root`` to be pruned."""

    root: Repository


Notification = Pushed | Removed | PruneRequest | SweepRequest


class Delivery(msgspec.Struct, frozen=True):
    """One delivered message: what it says, and when it was published (aware UTC; None where it is not told)."""

    notification: Notification
    published: datetime | None


class _Data(msgspec.Struct):
    action: str
    digest: str | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType = msgspec.UNSET
    repository: str | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Data)


def parse_delivery(body: object, source: str, *, insecure: AbstractSet[str], requests_topic: str) -> Delivery:
    """Return what a CloudEvent's body, the push envelope ``{"message": {"data": BASE64, …}}``, says.

    ``source`` is the CloudEvent's; ``requests_topic`` is the only topic from which a ``PRUNE`` or ``SWEEP`` counts,
    as ``projects/P/topics/T``, and empty if there is none.

    Raises:
        InvalidNotification: It is anything but one of the four notifications.
    """
    message = body.get("message") if isinstance(body, Mapping) else None
    if not isinstance(message, Mapping):
        raise InvalidNotification("no Pub/Sub message in the event")
    notification = parse_data(_decoded(message.get("data")), insecure)
    from_operator = bool(requests_topic) and source == f"//pubsub.googleapis.com/{requests_topic}"
    if isinstance(notification, PruneRequest | SweepRequest) and not from_operator:
        raise InvalidNotification("requests are taken from the requests topic alone")
    return Delivery(notification, parse_time(message.get("publishTime")))


def parse_data(data: bytes, insecure: AbstractSet[str] = frozenset()) -> Notification:
    """Return the notification in a message's data.

    Raises:
        InvalidNotification: It is no JSON object, or a field is missing, of a wrong type, outside the grammar or
            of a host that is not allowed.
    """
    if data.count(b"[") + data.count(b"{") > BRACKETS_MAX:
        raise InvalidNotification("data is nested too deeply")
    try:
        # msgspec alone does not look into what it skips.
        fields = _decoder.decode(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidNotification(f"data makes no sense: {error}") from error
    except RecursionError as error:
        raise InvalidNotification("data is nested too deeply") from error
    if fields.action == "DELETE":
        return Removed()
    try:
        if fields.action == "INSERT":
            return _pushed(fields, insecure)
        if fields.action in ("PRUNE", "SWEEP"):
            if fields.repository is msgspec.UNSET:
                raise InvalidNotification("no repository")
            repository = parse_repository(fields.repository, insecure)
            return PruneRequest(repository) if fields.action == "PRUNE" else SweepRequest(repository)
    except InvalidReference as error:
        raise InvalidNotification(str(error)) from error
    raise InvalidNotification("unknown action")


def _decoded(data: object) -> bytes:
    if not isinstance(data, str):
        raise InvalidNotification("the message has no data")
    if len(data) > DATA_MAX_CHARS:
        raise InvalidNotification("data is too long")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidNotification("data is not base64") from error


def _pushed(fields: _Data, insecure: AbstractSet[str]) -> Pushed:
    by_digest = None if fields.digest is msgspec.UNSET else parse_digest_reference(fields.digest, insecure)
    by_tag = None if fields.tag is msgspec.UNSET else parse_tag_reference(fields.tag, insecure)
    if by_digest and by_tag and by_digest[0] != by_tag[0]:
        raise InvalidNotification("digest and tag are of different repositories")
    pushed = by_digest or by_tag
    if not pushed:
        raise InvalidNotification("neither digest nor tag")
    digests = frozenset([by_digest[1]] if by_digest else [])
    tags = frozenset([by_tag[1]] if by_tag else [])
    return Pushed(pushed[0], Named(digests, tags))
