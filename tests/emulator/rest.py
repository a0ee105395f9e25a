"""Google's REST APIs beside the registry: which request is about what, and what they all have in common.

Artifact Registry v1, Cloud Asset Inventory v1, and what ``gcloud artifacts docker images describe`` asks besides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote

from tests.emulator import rest_artifacts, rest_assets
from tests.emulator.answer import Answer, json_answer
from tests.emulator.paging import Query
from tests.emulator.store import FAILED_PRECONDITION, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulator.server import Registry

PREFIXES: Final = ("/v1/", "/v1beta2/")

_LOCATION: Final = "projects/{project}/locations/{location}"
_REPOSITORY: Final = f"{_LOCATION}/repositories/{{repository}}"
_PACKAGE: Final = f"{_REPOSITORY}/packages/{{package}}"
# The kinds that the log names requests by, and their paths.
_PATHS: Final = {
    "assets": "{scope}/assets",
    "rest_locations": "projects/{project}/locations",
    "rest_location": _LOCATION,
    "rest_settings": "projects/{project}/projectSettings",
    "rest_service": "projects/{project}/services/{service}",
    "rest_occurrences": "projects/{project}/occurrences",
    "rest_operation": f"{_LOCATION}/operations/{{operation}}",
    "rest_repositories": f"{_LOCATION}/repositories",
    "rest_repository": _REPOSITORY,
    "rest_docker_images": f"{_REPOSITORY}/dockerImages",
    "rest_docker_image": f"{_REPOSITORY}/dockerImages/{{image}}",
    "rest_packages": f"{_REPOSITORY}/packages",
    "rest_package": _PACKAGE,
    "rest_versions": f"{_PACKAGE}/versions",
    "rest_version": f"{_PACKAGE}/versions/{{version}}",
    "rest_tags": f"{_PACKAGE}/tags",
    "rest_tag": f"{_PACKAGE}/tags/{{tag}}",
}
_SCOPE: Final = r"(?P<scope>(?:projects|folders|organizations)/[^/]+)"
_ROUTES: Final = {
    kind: re.compile(
        "/v1(?:beta2)?/" + re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path.replace("{scope}", _SCOPE)),
    )
    for kind, path in _PATHS.items()
}

# No other service is on, and nothing is scanned.
_CONSTANT: Final[Mapping[tuple[str, str], Mapping[str, object]]] = {
    ("GET", "rest_service"): {"state": "DISABLED"},
    ("GET", "rest_occurrences"): {},
}


def kind_of(path: str) -> str:
    """The kind that the log names a request to these APIs by."""
    return next((kind for kind, route in _ROUTES.items() if route.fullmatch(path)), "rest_other")


def answer(registry: Registry, method: str, kind: str, path: str, query: str, body: bytes) -> Answer:
    """Answer a request.

    Raises:
        Refusal: With the status word of Google's APIs as its code.
    """
    method = "GET" if method == "HEAD" else method
    if kind == "rest_other":
        if method == "GET":
            raise Refusal(404, "NOT_FOUND", f"Method not found: {path}")
        raise Refusal(501, "UNIMPLEMENTED", f"Not implemented: {method} {path}")
    match = _ROUTES[kind].fullmatch(path)
    assert match is not None
    # A slash in a name is %2F there, which gcloud's client encodes once more.
    names = {name: unquote(value).replace("%2F", "/") for name, value in match.groupdict().items()}
    asked = Query(parse_qs(query))
    if kind == "assets" and method == "GET":
        return rest_assets.assets(registry.behaviour, names["scope"], asked)
    if (method, kind) in _CONSTANT:
        return json_answer(_CONSTANT[method, kind])
    handler = rest_artifacts.HANDLERS.get((method, kind))
    if handler is None:
        raise Refusal(405, "UNIMPLEMENTED", f"{method} is not supported here")
    try:
        return handler(registry, names, asked, body)
    except Refusal as refusal:
        raise _as_google_says(refusal) from refusal


def _as_google_says(refusal: Refusal) -> Refusal:
    """A refusal of the store with a status word of these APIs for the registry's code."""
    word = {"MANIFEST_UNKNOWN": "NOT_FOUND", "NAME_UNKNOWN": "NOT_FOUND"}.get(refusal.code, refusal.code)
    if word.startswith("GOOGLE_"):
        word = FAILED_PRECONDITION
    return Refusal(refusal.status, word, refusal.message)
