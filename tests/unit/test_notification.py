"""Messages: each form that Google and the operator send, and what is rejected."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from cleaner.core.errors import InvalidNotification
from cleaner.core.notification import (
    DATA_MAX_CHARS,
    OVERDUE_AGE,
    OVERDUE_ATTEMPT,
    Delivery,
    Named,
    Notification,
    PruneRequest,
    Pushed,
    Removed,
    SweepRequest,
    parse_data,
    parse_delivery,
)
from cleaner.core.reference import Digest, Repository, Tag

DIGEST = "sha256:" + "0123456789abcdef" * 4
TOPIC = "projects/acme/topics/requests"
PUSHES = "//pubsub.googleapis.com/projects/acme/topics/gcr"
REQUESTS = f"//pubsub.googleapis.com/{TOPIC}"
API = Repository("gcr.io", "acme/api")
HOST_NOT_ALLOWED = "host not allowed; expected one of Google's or of INSECURE_REGISTRIES"


def pushed(repository: Repository, digest: str = "", tag: str = "") -> Pushed:
    digests, tags = [Digest(digest)] if digest else [], [Tag(tag)] if tag else []
    return Pushed(repository, Named(frozenset(digests), frozenset(tags)))


def encoded(data: object) -> str:
    """Return a message's data: JSON, unless it is bytes already, in base64."""
    return base64.b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()


def delivered(data: object, *, source: str = PUSHES, topic: str = TOPIC, **message: object) -> Delivery:
    """Return the parsed delivery of ``data``."""
    body = {"message": {"data": encoded(data), **message}, "subscription": "projects/acme/subscriptions/s"}
    return parse_delivery(body, source, insecure=frozenset({"localhost:5000"}), requests_topic=topic)


def said(data: object, *, source: str = PUSHES) -> Notification:
    return delivered(data, source=source).notification


def rejection(data: object, *, source: str = PUSHES) -> str:
    """Return why the message is rejected."""
    with pytest.raises(InvalidNotification) as caught:
        said(data, source=source)
    return str(caught.value)


# --- INSERT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"digest": f"gcr.io/acme/api@{DIGEST}", "tag": "gcr.io/acme/api:v1"}, pushed(API, DIGEST, "v1")),
        ({"digest": f"gcr.io/acme/api@{DIGEST}"}, pushed(API, DIGEST)),
        ({"tag": "gcr.io/acme/api:v1"}, pushed(API, tag="v1")),
        (
            {"digest": f"us-docker.pkg.dev/acme/apps/api@{DIGEST}", "tag": "us-docker.pkg.dev/acme/apps/api:1.1"},
            pushed(Repository("us-docker.pkg.dev", "acme/apps/api"), DIGEST, "1.1"),
        ),
        (
            {"digest": f"localhost:5000/acme/api@{DIGEST}", "tag": "localhost:5000/acme/api:v1"},
            pushed(Repository("localhost:5000", "acme/api"), DIGEST, "v1"),
        ),
    ],
)
def test_push_names_its_repository(fields: dict[str, str], expected: Pushed) -> None:
    """By its digest, its tag or both; what the message names is kept."""
    assert said({"action": "INSERT", **fields}) == expected


def test_unknown_field_is_ignored() -> None:
    """Google may add fields."""
    assert said({"action": "INSERT", "tag": "gcr.io/acme/api:v1", "new": [{"x": None}]}) == pushed(API, tag="v1")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("us-docker.pkg.dev/acme/gcr.io/api", "gcr.io/acme/api"),
        ("us-docker.pkg.dev/acme/us.gcr.io/api", "us.gcr.io/acme/api"),
        ("europe-docker.pkg.dev/acme/eu.gcr.io/api", "eu.gcr.io/acme/api"),
        ("asia-docker.pkg.dev/acme/asia.gcr.io/api", "asia.gcr.io/acme/api"),
        ("us-docker.pkg.dev/example.com/acme/gcr.io/api", "gcr.io/example.com/acme/api"),
        ("europe-docker.pkg.dev/example.com/acme/eu.gcr.io/team/api", "eu.gcr.io/example.com/acme/team/api"),
    ],
)
def test_push_to_an_alias_is_a_push_to_the_same_repository(name: str, canonical: str) -> None:
    """In each field; the two fields may use different names."""
    host, _, path = canonical.partition("/")

    assert said({"action": "INSERT", "digest": f"{name}@{DIGEST}"}) == pushed(Repository(host, path), DIGEST)
    assert said({"action": "INSERT", "tag": f"{name}:v1"}) == pushed(Repository(host, path), tag="v1")
    assert said({"action": "INSERT", "digest": f"{name}@{DIGEST}", "tag": f"{canonical}:v1"}) == pushed(
        Repository(host, path), DIGEST, "v1"
    )
    assert said({"action": "PRUNE", "repository": name}, source=REQUESTS) == PruneRequest(Repository(host, path))


def test_push_that_names_nothing_is_rejected() -> None:
    """Either may be absent, not both."""
    assert rejection({"action": "INSERT"}) == "neither digest nor tag; expected one or both"


def test_digest_and_tag_of_different_repositories_are_rejected() -> None:
    """It is unknown which one was meant."""
    for tag in ("gcr.io/acme/web:v1", "us.gcr.io/acme/api:v1", "gcr.io/acme/api/sub:v1"):
        fields = {"action": "INSERT", "digest": f"gcr.io/acme/api@{DIGEST}", "tag": tag}
        assert rejection(fields) == "digest and tag name different repositories"


@pytest.mark.parametrize("other", ["digest", "tag"])
def test_push_with_one_invalid_field_is_rejected(other: str) -> None:
    """Both fields are validated."""
    good = {"digest": f"gcr.io/acme/api@{DIGEST}", "tag": "gcr.io/acme/api:v1"}

    assert rejection({"action": "INSERT", **good, other: "evil.com/acme/api"}) == f"{other}: {HOST_NOT_ALLOWED}"
    assert rejection({"action": "INSERT", **good, other: None}).startswith("data is malformed: ")


@pytest.mark.parametrize("host", ["docker.io", "evil.com", "gcr.io.evil.com", "localhost:5001", "gcr.io:443", ""])
@pytest.mark.parametrize("action", ["INSERT", "PRUNE", "SWEEP"])
def test_host_that_is_not_allowed_is_rejected(host: str, action: str) -> None:
    """The reason names the field."""
    field, name = (
        ("digest", f"{host}/acme/api@{DIGEST}") if action == "INSERT" else ("repository", f"{host}/acme/api")
    )

    assert rejection({"action": action, field: name}, source=REQUESTS) == f"{field}: {HOST_NOT_ALLOWED}"


@pytest.mark.parametrize(
    ("field", "name", "problem"),
    [
        ("digest", "gcr.io/acme/api", "not a sha256 digest"),
        ("digest", f"gcr.io/acme/../api@{DIGEST}", "not a repository name"),
        ("digest", f"gcr.io/acme/api@{DIGEST}\n", "not a sha256 digest"),
        ("digest", f"gcr.io/acme/api@sha512:{'a' * 128}", "not a sha256 digest"),
        ("tag", "gcr.io/acme/api", "not a tag"),
        ("tag", "gcr.io/acme/api:", "not a tag"),
        ("tag", "gcr.io/acme/api:-", "not a tag"),
        ("tag", "gcr.io/Acme/api:v1", "not a repository name"),
    ],
)
def test_name_outside_the_grammar_is_rejected(field: str, name: str, problem: str) -> None:
    """The reason names the field, the invalid part and what was expected."""
    expected = {"digest": "HOST/PATH@sha256:HEX", "tag": "HOST/PATH:TAG"}[field]

    assert rejection({"action": "INSERT", field: name}) == f"{field}: {problem}; expected {expected}"


@pytest.mark.parametrize("action", ["insert", "INSERT ", "", "UPDATE"])
def test_unknown_action_is_rejected(action: str) -> None:
    """The reason names the known ones."""
    reason = rejection({"action": action, "tag": "gcr.io/acme/api:v1"})

    assert reason == "unknown action; expected INSERT, DELETE, PRUNE or SWEEP"


# --- DELETE


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": "us-docker.pkg.dev/acme/apps/api:1.1"},
        {"digest": f"gcr.io/acme/api@{DIGEST}"},
        {"tag": "evil.com/acme/api:v1"},
        {},
    ],
)
def test_deletion_is_ignored(fields: dict[str, str]) -> None:
    """This function's own deletions are announced too; the name is not read."""
    assert said({"action": "DELETE", **fields}) == Removed()
    assert said({"action": "DELETE", **fields}, source=REQUESTS) == Removed()


# --- PRUNE and SWEEP


def test_request_from_the_requests_topic_is_accepted() -> None:
    """For one repository, or for a root."""
    assert said({"action": "PRUNE", "repository": "gcr.io/acme/api"}, source=REQUESTS) == PruneRequest(API)
    assert said({"action": "SWEEP", "repository": "gcr.io/acme"}, source=REQUESTS) == SweepRequest(
        Repository("gcr.io", "acme")
    )


@pytest.mark.parametrize("action", ["PRUNE", "SWEEP"])
@pytest.mark.parametrize(
    "source",
    [
        PUSHES,
        "",
        TOPIC,
        REQUESTS + "/",
        REQUESTS + "2",
        REQUESTS + "\n",
        REQUESTS.upper(),
        "https:" + REQUESTS,
        "//pubsub.googleapis.com/projects/evil/topics/requests",
        f"//evil.com/{TOPIC}",
        "//pubsub.googleapis.com/",
    ],
)
def test_request_from_elsewhere_is_rejected(action: str, source: str) -> None:
    """Who may push images must not be able to request a sweep; the topic is compared as a whole."""
    fields = {"action": action, "repository": "gcr.io/acme/api"}

    assert rejection(fields, source=source) == "PRUNE and SWEEP are accepted only from the topic REQUESTS_TOPIC"


@pytest.mark.parametrize("source", ["", "//pubsub.googleapis.com/", PUSHES])
def test_without_a_requests_topic_every_request_is_rejected(source: str) -> None:
    """An empty setting matches no source."""
    with pytest.raises(InvalidNotification):
        delivered({"action": "PRUNE", "repository": "gcr.io/acme/api"}, source=source, topic="")


def test_push_from_the_requests_topic_is_accepted() -> None:
    """Only requests need a certain topic."""
    assert said({"action": "INSERT", "tag": "gcr.io/acme/api:v1"}, source=REQUESTS) == pushed(API, tag="v1")


@pytest.mark.parametrize("action", ["PRUNE", "SWEEP"])
def test_request_without_a_valid_repository_is_rejected(action: str) -> None:
    """It is missing, has a wrong type, or is not a name."""
    assert rejection({"action": action}, source=REQUESTS) == "no repository; expected HOST/PATH"
    for name in ("gcr.io", "gcr.io/acme/*"):
        reason = rejection({"action": action, "repository": name}, source=REQUESTS)
        assert reason == "repository: not a repository name; expected HOST/PATH"
    wrongs: tuple[object, ...] = (None, 5, ["gcr.io/acme/api"], {}, True)
    for wrong in wrongs:
        assert "is malformed" in rejection({"action": action, "repository": wrong}, source=REQUESTS)


# --- anything else

GOOD = b'"action": "INSERT", "tag": "gcr.io/acme/api:v1"'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"not json",
        b"{%s" % GOOD,
        b"{%s}}" % GOOD,
        b"{%s,}" % GOOD,
        b"\xef\xbb\xbf{%s}" % GOOD,
        b'{%s, "x": "\xff"}' % GOOD,
        b'{%s, "\xff": 1}' % GOOD,
        b'{%s, "x": "\xed\xa0\x80"}' % GOOD,
        b'{%s, "x": "\xc0\xaf"}' % GOOD,
        b'{%s, "x": NaN}' % GOOD,
        b'{%s, "x": "\x00"}' % GOOD,
        "{}".encode("utf-16"),
        (b"{%s}" % GOOD).decode().encode("utf-16-le"),
        b"{%s" % GOOD + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"{%s" % GOOD + b', "x": ' + b'{"a":' * 2400,
        b"[" * 12_000,
        b"[]",
        b"null",
        b"5",
        b'"INSERT"',
        b"[{%s}]" % GOOD,
        b"{}",
        b'{"tag": "gcr.io/acme/api:v1"}',
        b'{"action": null, "tag": "gcr.io/acme/api:v1"}',
        b'{"action": 5, "tag": "gcr.io/acme/api:v1"}',
        b'{"action": ["INSERT"], "tag": "gcr.io/acme/api:v1"}',
        b'{"Action": "INSERT", "tag": "gcr.io/acme/api:v1"}',
        b'{"action": "INSERT", "tag": 5}',
        b'{"action": "INSERT", "tag": ["gcr.io/acme/api:v1"]}',
        b'{"action": "INSERT", "tag": {"x": 1}}',
        b'{"action": "INSERT", "digest": true}',
        b'{"action": "INSERT", "tag": "\\ud800"}',
        b'{"action": "INSERT", "tag": "gcr.io/acme/api:v1\\u0000"}',
        b'{"action": "INSERT", "tag": ""}',
    ],
)
def test_rejected_data(data: bytes) -> None:
    """Not UTF-8 JSON, nested too deeply, not an object, a field missing or of a wrong type."""
    assert rejection(data)
    with pytest.raises(InvalidNotification):
        parse_data(data)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b'{"message": {}}',
        "text",
        5,
        [],
        [{"message": {}}],
        {},
        {"message": None},
        {"message": []},
        {"message": "e30="},
        {"Message": {"data": "e30="}},
        {"data": "e30="},
        {"message": {}},
        {"message": {"data": None}},
        {"message": {"data": 5}},
        {"message": {"data": {}}},
        {"message": {"data": b"e30="}},
        {"message": {"data": ""}},
        {"message": {"data": "%%%"}},
        {"message": {"data": "e30"}},
        {"message": {"data": "e3 0="}},
        {"message": {"data": "e30=\n"}},
        {"message": {"data": "\u0435\u0437\u043e="}},
        {"message": {"data": "\ud800"}},
        {"message": {"data": "\x00"}},
    ],
)
def test_body_without_a_message_is_rejected(body: object) -> None:
    """The framework passes a body that is not JSON as bytes, and an empty one as None."""
    with pytest.raises(InvalidNotification):
        parse_delivery(body, PUSHES, insecure=frozenset(), requests_topic="")


def test_url_safe_base64_is_rejected() -> None:
    """Pub/Sub does not send it, and a decoder that ignores hyphens would return other bytes."""
    with pytest.raises(InvalidNotification, match="not base64"):
        parse_delivery({"message": {"data": "-_-_"}}, PUSHES, insecure=frozenset(), requests_topic="")


def test_data_longer_than_the_limit_is_rejected() -> None:
    """The longest accepted data is read."""
    longest = b"{%s}" % GOOD
    longest += b" " * (DATA_MAX_CHARS // 4 * 3 - len(longest))

    assert said(longest) == pushed(API, tag="v1")
    assert rejection(longest + b" ") == "data is longer than 16384 characters"


# --- when it was published


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T12:00:00.123Z", datetime(2024, 5, 1, 12, microsecond=123_000, tzinfo=UTC)),
        ("2024-05-01T12:00:00.123456789Z", datetime(2024, 5, 1, 12, microsecond=123_456, tzinfo=UTC)),
        ("2024-05-01T14:00:00+02:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
    ],
)
def test_publish_time_is_read_as_utc(text: str, time: datetime) -> None:
    """RFC 3339, with or without a fraction."""
    assert delivered({"action": "DELETE"}, publishTime=text).published == time


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        5,
        [],
        "yesterday",
        "2024-05-01T12:00:00",
        "2024-13-01T12:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9" * 5000,
    ],
)
def test_malformed_publish_time_is_none(text: object) -> None:
    """The message is accepted; a time without a zone is malformed."""
    assert delivered({"action": "DELETE"}, publishTime=text) == Delivery(Removed(), None)


def test_message_without_a_publish_time_has_none() -> None:
    """The caller may use the CloudEvent's time."""
    assert delivered({"action": "DELETE"}).published is None


# --- How often, and how old


@pytest.mark.parametrize(
    ("number", "attempt"),
    [(1, 1), (5, 5), (100, 100), (0, None), (-1, None), ("5", None), (5.5, None), (None, None), ([5], None)],
)
def test_attempt_is_the_number_of_the_delivery(number: object, attempt: int | None) -> None:
    """Pub/Sub counts from 1; anything else counts as unknown."""
    body = {"message": {"data": encoded({"action": "DELETE"})}, "deliveryAttempt": number}

    assert parse_delivery(body, PUSHES, insecure=frozenset(), requests_topic="").attempt == attempt


NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("attempt", "age", "overdue"),
    [
        (OVERDUE_ATTEMPT, None, True),
        (OVERDUE_ATTEMPT - 1, None, False),
        # The count decides where there is one: a message may have waited for an instance.
        (1, 2 * OVERDUE_AGE, False),
        (OVERDUE_ATTEMPT, SECOND, True),
        (None, OVERDUE_AGE, True),
        (None, OVERDUE_AGE - SECOND, False),
        (None, None, False),
        # A clock may be behind.
        (None, -OVERDUE_AGE, False),
    ],
)
def test_overdue_by_attempts_or_else_by_age(attempt: int | None, age: timedelta | None, *, overdue: bool) -> None:
    """From the fifth delivery on, and from an hour on where deliveries are not counted."""
    delivery = Delivery(Removed(), NOW - age if age is not None else None, attempt)

    assert delivery.is_overdue(NOW) == overdue
