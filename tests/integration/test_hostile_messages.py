"""A thousand messages by somebody who may publish to the topic and means harm.

None makes a request, raises, or is delivered again; each leaves one line that says what became of it.  A seed names a
message, so that a red test is the same one for everybody.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from cleaner.core.policy_document import parse_policies
from cleaner.function import Function
from cleaner.google.transport import Transport
from cleaner.logs import JsonFormatter
from cleaner.settings import Settings
from tests.support.deliveries import Event

SEEDS = 1000
HEX = "0123456789abcdef" * 4
PUSHES = "//pubsub.googleapis.com/projects/acme/topics/gcr"
REQUESTS = "//pubsub.googleapis.com/projects/acme/topics/requests"
REJECTED, NO_POLICY, NOTHING = "message rejected", "no policy matches", ""


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Function:
    """A function that deletes for real, whose policy takes every repository, and that may ask nobody anything."""

    def refuse(*_: object, **__: object) -> Any:
        pytest.fail("a request was made")

    monkeypatch.setattr(Transport, "send", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return Function(
        Settings(
            parse_policies('[{"repositories": ["**"]}]'),
            dry_run=False,
            insecure_registries=frozenset({"localhost:5000"}),
            requests_topic="projects/acme/topics/requests",
        )
    )


# --- names

LOOK_ALIKES = str.maketrans(
    {"g": "\u0261", "c": "\u0441", "r": "\u0433", "i": "\u0456", "o": "\u043e", ".": "\u3002"}
)
SEPARATORS = ("\n", "\r", "\t", " ", "\x00", "\u200b", "\u2028", "\ufeff", "\u00ad", "\ud800")
EVIL = ("evil.com", "169.254.169.254", "metadata.google.internal", "127.0.0.1:8080", "[::1]", "localhost")
HOSTS = ("gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io", "us-docker.pkg.dev", "europe-west1-docker.pkg.dev")


def bad_host(chance: random.Random) -> str:
    """Return a host that is not allowed, most of them made to look as if it were."""
    host, evil, odd = chance.choice(HOSTS), chance.choice(EVIL), chance.choice(SEPARATORS)
    return chance.choice(
        [
            evil,
            f"{host}.{evil}",
            f"{evil}.{host}",
            f"{evil}-{host}",
            f"{evil}_{host}",
            f"1{host}",
            f"{host}x",
            f"{host}@{evil}",
            f"{host}:443@{evil}",
            f"user:password@{host}",
            f"@{host}",
            f"{host}:443",
            f"{host}:0x50",
            f"{host}:",
            f"{host}.",
            f"{host}..",
            f".{host}",
            f"{host}{odd}",
            f"{odd}{host}",
            host[:2] + odd + host[2:],
            host.upper(),
            host.title(),
            host.translate(LOOK_ALIKES),
            host.replace(".", "\uff0e"),
            host.replace(".", "%2e"),
            host.replace(".", "x"),
            "us\u2010docker.pkg.dev",
            "us--docker.pkg.dev",
            "us-central\u0661-docker.pkg.dev",
            f"{host}#{evil}",
            f"{host}?{evil}",
            f"{host}\\{evil}",
            f"{host}%2f{evil}",
            f"{host}%00.{evil}",
            f"{host};{evil}",
            f"{host},{evil}",
            f"https://{host}",
            f"//{host}",
            f"https:/{host}",
            f"file://{host}",
            f"{evil}/{host}",
            f"{evil}#/{host}",
            f"localhost:5000@{evil}",
            "localhost:50000",
            "localhost:5000.",
            "xn--gcr-5cd.io",
            "0x7f.1",
            "2130706433",
            "evil.com-docker.pkg.dev",
            "us-docker.pkg.dev.",
            "-docker.pkg.dev",
            "",
            "a" * chance.randrange(1, 9000),
        ]
    )


def bad_path(chance: random.Random) -> str:
    """Return a path outside the grammar, most of them made to lead elsewhere."""
    good, odd = chance.choice(["acme/api", "acme/apps/api"]), chance.choice(SEPARATORS)
    other = chance.choice(["other/secret", "v2/token", "..", "_catalog"])
    return chance.choice(
        [
            "",
            "/",
            f"/{good}",
            f"{good}/",
            f"//{good}",
            good.replace("/", "//"),
            f"../{good}",
            f"{good}/../{other}",
            f"{good}/..",
            f"{good}/./x",
            f"{good}/.",
            f"{good}/%2e%2e/{other}",
            f"{good}%2f..%2f{other}",
            f"{good}%252f{other}",
            f"{good}\\..\\{other}",
            f"{good}?n=1&last=x",
            f"{good}#fragment",
            f"{good};v=1",
            f"{good}&scope=repository:{other}:push",
            f"{good}:push,pull repository:{other}",
            f"{good},{other}",
            f"{good}{odd}",
            f"{odd}{good}",
            good.replace("/", odd),
            good.upper(),
            good.replace("a", "\u0430"),
            good.replace("a", "\u24d0"),
            f"{good}\u0661",
            f"{good}/_x",
            f"{good}/.x",
            f"{good}/-x",
            f"_{good}",
            f".{good}",
            f"-{good}",
            f"{good}*",
            f"{good}/**",
            f"{good}$(id)",
            f"{good}'\"`",
            f"{good}<script>",
            f"{good}\r\nAuthorization: x",
            f"{good}@{good}",
            "a/" * 200 + "a",
            "a" * 249,
            "a" * chance.randrange(250, 9000),
        ]
    )


def bad_local_path(chance: random.Random) -> str:
    """Return a path outside the grammar of hosts that are not Google's."""
    good = chance.choice(["acme/api", "acme/apps/api"])
    google = [f"{good}_", f"{good}___x", f"{good}..x", f"{good}._x", f"{good}-", f"{good}.", good.replace("/", "./")]
    return chance.choice([bad_path(chance), chance.choice(google)])


def bad_digest(chance: random.Random) -> str:
    """Return a digest outside the grammar."""
    odd = chance.choice(SEPARATORS)
    return chance.choice(
        [
            "",
            HEX,
            f"sha256:{HEX[1:]}",
            f"sha256:{HEX}0",
            f"sha256:{HEX.upper()}",
            f"SHA256:{HEX}",
            f"sha256-{HEX}",
            f"sha512:{HEX}{HEX}",
            f"sha256:{HEX}{odd}",
            f"{odd}sha256:{HEX}",
            f"sha256:{HEX[:-1]}\u0661",
            f"sha256:{HEX}/../x",
            f"sha256:{HEX}@sha256:{HEX}",
            f"@sha256:{HEX}",
            f"sha256:{HEX}?x",
            "sha256:" + "../" * 21 + "x",
            "latest",
        ]
    )


def bad_tag(chance: random.Random) -> str:
    """Return a tag outside the grammar."""
    odd = chance.choice(SEPARATORS)
    return chance.choice(
        [
            "",
            ".x",
            "-x",
            f"v1{odd}",
            f"{odd}v1",
            "v1/x",
            "v1:x",
            "v1@x",
            "../x",
            "v1?x",
            "t" * 129,
            "\u0442",
            "v 1",
            "%76",
        ]
    )


def good_name(chance: random.Random) -> str:
    return f"{chance.choice(HOSTS)}/acme/{chance.choice(['api', 'apps/api', 'a.b_c-d'])}"


# --- messages: each returns the event, and the message of the one line that it may leave


def envelope(data: object, source: object = PUSHES) -> Event:
    """Return the event that delivers a message with this data: JSON, or bytes as they are."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    message = {"data": base64.b64encode(raw).decode(), "messageId": "1", "publishTime": "2024-05-01T12:00:00Z"}
    return Event({"message": message, "subscription": "s"}, {"source": source, "time": "2024-05-01T12:00:00Z"})


def names(chance: random.Random, host: Callable[[random.Random], str], path: Callable[[random.Random], str]) -> Event:
    name = f"{host(chance)}/{path(chance)}"
    by_digest, by_tag = f"{name}@sha256:{HEX}", f"{name}:v1"
    fields = chance.choice([{"digest": by_digest}, {"tag": by_tag}, {"digest": by_digest, "tag": by_tag}])
    return envelope({"action": "INSERT", **fields})


def host_trick(chance: random.Random) -> tuple[Event, str]:
    return names(chance, bad_host, lambda _: "acme/api"), REJECTED


def path_trick(chance: random.Random) -> tuple[Event, str]:
    return names(chance, lambda again: again.choice(HOSTS), bad_path), REJECTED


def local_path_trick(chance: random.Random) -> tuple[Event, str]:
    return names(chance, lambda _: "localhost:5000", bad_local_path), REJECTED


def reference_trick(chance: random.Random) -> tuple[Event, str]:
    name = good_name(chance)
    bad = {"digest": f"{name}@{bad_digest(chance)}", "tag": f"{name}:{bad_tag(chance)}"}
    good = {"digest": f"{name}@sha256:{HEX}", "tag": f"{name}:v1"}
    key = chance.choice(["digest", "tag"])
    return envelope({"action": "INSERT", **chance.choice([{}, good]), key: bad[key]}), REJECTED


def two_repositories(chance: random.Random) -> tuple[Event, str]:
    name = good_name(chance)
    other = chance.choice([f"{name}x", f"{name}/x", "gcr.io/acme/other", f"{bad_host(chance)}/acme/api"])
    pair = {"digest": f"{name}@sha256:{HEX}", "tag": f"{other}:v1"}
    if chance.random() < 0.5:
        pair = {"digest": f"{other}@sha256:{HEX}", "tag": f"{name}:v1"}
    return envelope({"action": "INSERT", **pair}), REJECTED


def any_value(chance: random.Random) -> object:
    return chance.choice(
        [
            None,
            True,
            0,
            -1,
            10**400,
            1.5,
            [],
            {},
            [good_name(chance)],
            {"x": good_name(chance)},
            "",
            "\x00",
            "\ud800",
            "x" * 9000,
            [[[[]]]],
        ]
    )


def wrong_type(chance: random.Random) -> tuple[Event, str]:
    data: dict[str, object] = {"action": "INSERT", "tag": f"{good_name(chance)}:v1"}
    key = chance.choice(["action", "tag", "digest", "repository"])
    data[key] = chance.choice([None, True, 0, 10**400, 1.5, [], {}, [good_name(chance)]])
    return envelope(data), REJECTED


def wrong_document(chance: random.Random) -> tuple[Event, str]:
    document = any_value(chance)
    return envelope([document] if isinstance(document, dict) else document), REJECTED


def wrong_action(chance: random.Random) -> tuple[Event, str]:
    action = chance.choice(
        ["insert", "INSERT ", "INSERT\x00", "\u0130NSERT", "DELETE\n", "UPDATE", "", "*", "x" * 9000]
    )
    return envelope({"action": action, "tag": f"{good_name(chance)}:v1"}), REJECTED


def wrong_encoding(chance: random.Random) -> tuple[Event, str]:
    good = json.dumps({"action": "INSERT", "tag": f"{good_name(chance)}:v1"}).encode()
    noise = chance.randbytes(chance.randrange(1, 2000))
    raw = chance.choice(
        [
            noise,
            good + noise,
            noise + good,
            good[:-1],
            good * 2,
            good.decode().encode("utf-16"),
            good.decode().encode("utf-32"),
            b"\xef\xbb\xbf" + good,
            good.replace(b"}", b', "x": "\xff"}'),
            good.replace(b"}", b', "\xc0\xaf": 1}'),
            good.replace(b"acme", b"ac\xedme"),
            good.replace(b"acme", b"\xed\xa0\x80"),
            good.replace(b'"INSERT"', b"'INSERT'"),
            b"\x1f\x8b" + noise,
            b"\x00" + good,
        ]
    )
    return envelope(raw), REJECTED


def bomb(chance: random.Random) -> tuple[Event, str]:
    depth = chance.randrange(3000, 5000)
    tag = f"{good_name(chance)}:v1"
    raw = chance.choice(
        [
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"a":' * (depth // 2),
            b'{"action": "INSERT", "tag": ' + b"[" * depth + b"]" * depth + b"}",
            b'{"action": "INSERT", "tag": "%s", "x": ' % tag.encode() + b"[" * depth + b"]" * depth + b"}",
            b'{"action": "INSERT", "tag": "%s", "x": ' % tag.encode() + b" " * 200_000 + b"1}",
            b'{"action": "INSERT", "tag": "' + b"a" * 1_000_000 + b'"}',
            b" " * 1_000_000,
        ]
    )
    return envelope(raw), REJECTED


def wrong_data(chance: random.Random) -> tuple[Event, str]:
    good = base64.b64encode(json.dumps({"action": "INSERT", "tag": f"{good_name(chance)}:v1"}).encode()).decode()
    data = chance.choice(
        [
            any_value(chance),
            good + chance.choice(["=", "\n", " ", "!", "\u0430", "\ud800", "\x00", "A"]),
            chance.choice(["-_", "%", "\u0661"]) + good,
            good.encode(),
            [good],
        ]
    )
    return Event({"message": {"data": data}}, {"source": PUSHES}), REJECTED


def wrong_body(chance: random.Random) -> tuple[Event, str]:
    good = {"data": base64.b64encode(b'{"action": "DELETE"}').decode()}
    body = chance.choice(
        [
            None,
            b"",
            chance.randbytes(100),
            json.dumps({"message": good}).encode(),
            json.dumps({"message": good}),
            [],
            [{"message": good}],
            5,
            1.5,
            True,
            {},
            good,
            {"message": None},
            {"message": [good]},
            {"message": json.dumps(good)},
            {"Message": good},
            {"message": {"message": good}},
            {None: good},
            object(),
        ]
    )
    return Event(body, {"source": any_value(chance)}), REJECTED


def request_from_elsewhere(chance: random.Random) -> tuple[Event, str]:
    source = chance.choice(
        [
            PUSHES,
            REQUESTS + chance.choice(["/", "x", "\n", "?", "#", "\x00", "/../requests"]),
            REQUESTS.upper(),
            REQUESTS[2:],
            "https:" + REQUESTS,
            REQUESTS.replace("pubsub.googleapis.com", "evil.com"),
            REQUESTS.replace("acme", "evil"),
            "",
            None,
            5,
            [REQUESTS],
            {"source": REQUESTS},
            REQUESTS.encode(),
        ]
    )
    data = {"action": chance.choice(["PRUNE", "SWEEP"]), "repository": good_name(chance)}
    return envelope(data, source), REJECTED


def bad_request(chance: random.Random) -> tuple[Event, str]:
    repository = chance.choice(
        [
            f"{bad_host(chance)}/acme",
            f"gcr.io/{bad_path(chance)}",
            any_value(chance),
            f"gcr.io/acme/api@sha256:{HEX}",
            "gcr.io/acme/api:v1",
            "gcr.io",
        ]
    )
    return envelope({"action": chance.choice(["PRUNE", "SWEEP"]), "repository": repository}, REQUESTS), REJECTED


def deletion(chance: random.Random) -> tuple[Event, str]:
    name = chance.choice([good_name(chance), f"{bad_host(chance)}/{bad_path(chance)}"])
    fields = {
        chance.choice(["tag", "digest", "repository"]): chance.choice([f"{name}:v1", f"{name}@sha256:{HEX}", ""])
    }
    source = chance.choice([PUSHES, REQUESTS, ""])
    # What JSON cannot carry as UTF-8 is no message at all.
    expected = REJECTED if "\ud800" in "".join(fields.values()) else NOTHING
    return envelope({"action": "DELETE", **fields}, source), expected


def functions_own_image(chance: random.Random) -> tuple[Event, str]:
    name = chance.choice(
        [
            "us-docker.pkg.dev/acme/gcf-artifacts/function",
            "us-central1-docker.pkg.dev/acme/gcf-artifacts/acme__us--central1__prune",
            "gcr.io/gcf-artifacts/x",
            "us-docker.pkg.dev/acme/gcr.io/gcf-artifacts",
        ]
    )
    data = chance.choice([{"tag": f"{name}:latest"}, {"digest": f"{name}@sha256:{HEX}"}])
    return envelope({"action": "INSERT", **data}), NO_POLICY


KINDS: tuple[Callable[[random.Random], tuple[Event, str]], ...] = (
    host_trick,
    host_trick,
    host_trick,
    path_trick,
    path_trick,
    path_trick,
    local_path_trick,
    reference_trick,
    reference_trick,
    two_repositories,
    wrong_type,
    wrong_document,
    wrong_action,
    wrong_encoding,
    wrong_encoding,
    bomb,
    wrong_data,
    wrong_body,
    request_from_elsewhere,
    bad_request,
    deletion,
    functions_own_image,
)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_hostile_message_comes_to_nothing(seed: int, function: Function, caplog: pytest.LogCaptureFixture) -> None:
    """No request, no exception, one line; in Cloud Logging's format a short one."""
    event, expected = KINDS[seed % len(KINDS)](random.Random(seed))
    caplog.set_level(logging.INFO, logger="cleaner")

    function.handle(event)

    assert [record.getMessage() for record in caplog.records] == [expected] * bool(expected)
    for record in caplog.records:
        assert record.levelname == ("ERROR" if expected == REJECTED else "INFO")
        assert expected != REJECTED or record.__dict__["reason"]
        line = JsonFormatter().format(record)
        assert line.isascii()
        assert "\n" not in line
        assert len(line) < 1000


def test_messages_are_as_many_and_as_different_as_they_claim() -> None:
    """Hardly any two are the same, and every kind is among them."""
    made = [KINDS[seed % len(KINDS)](random.Random(seed)) for seed in range(SEEDS)]

    assert len({repr(event) for event, _ in made}) > 0.8 * SEEDS
    assert {expected for _, expected in made} == {REJECTED, NO_POLICY, NOTHING}
    assert sum(expected == REJECTED for _, expected in made) > 0.8 * SEEDS


def test_what_is_refused_here_would_be_asked_for_otherwise(function: Function) -> None:
    """The proof that a request would be seen: an honest message makes one."""
    honest = envelope({"action": "INSERT", "tag": "localhost:5000/acme/api:v1"})

    with pytest.raises(pytest.fail.Exception, match="a request was made"):
        function.handle(honest)
