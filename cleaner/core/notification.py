"""Parses Pub/Sub messages.

Anybody who may publish to the topic can write them, so every name in them is matched as a whole before it is used.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec

from cleaner.core.errors import HostNotAllowed, InvalidNotification, InvalidReference
from cleaner.core.reference import (
    Digest,
    Repository,
    Tag,
    parse_digest_reference,
    parse_repository,
    parse_tag_reference,
)
from cleaner.core.times import parse_time

# Two references have at most 2 * (255 + 128) characters; a notification is never ten times as long.
DATA_MAX_CHARS = 16 * 1024

# A message that ends without success is an error from this delivery on; where Pub/Sub does not count the deliveries,
# which it does for a subscription with a dead-letter topic, from this age on.  With a backoff of 10 s, doubled each
# time, and runs of up to 500 s, the fifth delivery begins between 3 and 40 minutes after the first.  Deliveries that
# Cloud Run refuses while every instance is busy count, too.
OVERDUE_ATTEMPT = 5
OVERDUE_AGE = timedelta(hours=1)

# A notification is flat.  How deep a document the parser can read depends on Python's version.
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
    """A manifest or tag was deleted, by this function or by another client."""


class PruneRequest(msgspec.Struct, frozen=True):
    """The operator requests that ``repository`` is pruned."""

    repository: Repository


class SweepRequest(msgspec.Struct, frozen=True):
    """The operator requests that every repository under ``root`` is pruned."""

    root: Repository


Notification = Pushed | Removed | PruneRequest | SweepRequest


class Delivery(msgspec.Struct, frozen=True):
    """One delivery of a message, when the message was published (aware UTC), and how often it has been delivered.

    The last two are None if unknown.
    """

    notification: Notification
    published: datetime | None
    attempt: int | None = None

    def is_overdue(self, now: datetime) -> bool:
        """Return whether the message has been delivered so often, or is so old, that somebody has to look at it."""
        if self.attempt is not None:
            return self.attempt >= OVERDUE_ATTEMPT
        return self.published is not None and now - self.published >= OVERDUE_AGE


class _Data(msgspec.Struct):
    action: str
    digest: str | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType = msgspec.UNSET
    repository: str | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Data)


def parse_delivery(body: object, source: str, *, insecure: AbstractSet[str], requests_topic: str) -> Delivery:
    """Return the message in a CloudEvent's body ``{"message": {"data": BASE64, …}, "deliveryAttempt": N}``.

    ``source`` is the source of the CloudEvent.  ``PRUNE`` and ``SWEEP`` are accepted only from ``requests_topic``,
    ``projects/P/topics/T``; from nowhere if that is empty.

    Raises:
        InvalidNotification: The message is malformed or not allowed; the error says what was expected.
    """
    message = body.get("message") if isinstance(body, Mapping) else None
    if not isinstance(message, Mapping):
        raise InvalidNotification('no Pub/Sub message in the event; expected {"message": {"data": BASE64}}')
    notification = parse_data(_decoded(message.get("data")), insecure)
    from_operator = bool(requests_topic) and source == f"//pubsub.googleapis.com/{requests_topic}"
    if isinstance(notification, PruneRequest | SweepRequest) and not from_operator:
        raise InvalidNotification("PRUNE and SWEEP are accepted only from the topic REQUESTS_TOPIC")
    attempt = body.get("deliveryAttempt") if isinstance(body, Mapping) else None
    return Delivery(
        notification,
        parse_time(message.get("publishTime")),
        attempt if isinstance(attempt, int) and attempt > 0 else None,
    )


def parse_data(data: bytes, insecure: AbstractSet[str] = frozenset()) -> Notification:
    """Return the notification in a message's data.

    Raises:
        InvalidNotification: The data is not a JSON object, or a field is missing, has a wrong type or a name outside
            the grammar, or names a host that is not allowed.
    """
    if data.count(b"[") + data.count(b"{") > BRACKETS_MAX:
        raise InvalidNotification("data is nested too deeply")
    try:
        # ``decode`` also finds bytes that are not UTF-8 in fields that msgspec skips.
        fields = _decoder.decode(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidNotification(f"data is malformed: {error}") from error
    except RecursionError as error:
        raise InvalidNotification("data is nested too deeply") from error
    if fields.action == "DELETE":
        return Removed()
    if fields.action == "INSERT":
        return _pushed(fields, insecure)
    if fields.action in ("PRUNE", "SWEEP"):
        if fields.repository is msgspec.UNSET:
            raise InvalidNotification("no repository; expected HOST/PATH")
        with _naming("repository", "HOST/PATH"):
            repository = parse_repository(fields.repository, insecure)
        return PruneRequest(repository) if fields.action == "PRUNE" else SweepRequest(repository)
    raise InvalidNotification("unknown action; expected INSERT, DELETE, PRUNE or SWEEP")


def _decoded(data: object) -> bytes:
    if not isinstance(data, str):
        raise InvalidNotification("the message has no data; expected a base64 string")
    if len(data) > DATA_MAX_CHARS:
        raise InvalidNotification(f"data is longer than {DATA_MAX_CHARS} characters")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidNotification("data is not base64") from error


def _pushed(fields: _Data, insecure: AbstractSet[str]) -> Pushed:
    repositories: set[Repository] = set()
    digests: set[Digest] = set()
    tags: set[Tag] = set()
    if fields.digest is not msgspec.UNSET:
        with _naming("digest", "HOST/PATH@sha256:HEX"):
            repository, digest = parse_digest_reference(fields.digest, insecure)
        repositories.add(repository)
        digests.add(digest)
    if fields.tag is not msgspec.UNSET:
        with _naming("tag", "HOST/PATH:TAG"):
            repository, tag = parse_tag_reference(fields.tag, insecure)
        repositories.add(repository)
        tags.add(tag)
    if not repositories:
        raise InvalidNotification("neither digest nor tag; expected one or both")
    if len(repositories) > 1:
        raise InvalidNotification("digest and tag name different repositories")
    return Pushed(repositories.pop(), Named(frozenset(digests), frozenset(tags)))


@contextmanager
def _naming(field: str, expected: str) -> Iterator[None]:
    """Turn the error of a name into one that says which field has it, and what was expected there."""
    try:
        yield
    except HostNotAllowed as error:
        allowed = "one of Google's or of INSECURE_REGISTRIES"
        raise InvalidNotification(f"{field}: {error}; expected {allowed}") from error
    except InvalidReference as error:
        raise InvalidNotification(f"{field}: {error}; expected {expected}") from error
