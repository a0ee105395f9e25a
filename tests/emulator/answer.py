"""An answer before it is HTTP, and the two shapes of an error's body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer(NamedTuple):
    """Status, body and headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def json_answer(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


def registry_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The distribution specification's error body."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


def google_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The error body of Google's REST APIs."""
    body = json.dumps({"error": {"code": status, "message": message, "status": code}}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})
