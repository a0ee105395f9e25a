"""Google's REST APIs beside the registry: Artifact Registry v1 and Cloud Asset Inventory v1."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, unquote

from tests.emulator.answer import Answer, json_answer
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from tests.emulator.server import Registry
    from tests.emulator.store import Manifest

# Page sizes beyond it are cut down to it, as Google's APIs do.
PAGE_MAX: Final = 1000
PAGE_DEFAULT: Final = 100
RELATED_TAGS_MAX: Final = 100

_GCR: Final = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
_REST: Final = re.compile(
    r"/v1/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/repositories"
    r"(?:/(?P<repository>[^/]+)(?:/packages(?P<packages>)(?:/(?P<package>[^/]+)/versions)?)?)?"
)
_ASSETS: Final = re.compile(r"/v1/(?P<scope>(?:projects|folders|organizations)/[^/]+)/assets")
# What runs containers, or keeps what ran, of the documentation's table "Resource types", and one that does neither.
_ASSET_TYPES: Final = frozenset(
    {
        "aiplatform.googleapis.com/CustomJob",
        "aiplatform.googleapis.com/Model",
        "aiplatform.googleapis.com/ReasoningEngine",
        "appengine.googleapis.com/Version",
        "apps.k8s.io/DaemonSet",
        "apps.k8s.io/Deployment",
        "apps.k8s.io/ReplicaSet",
        "apps.k8s.io/StatefulSet",
        "batch.googleapis.com/Job",
        "batch.k8s.io/CronJob",
        "batch.k8s.io/Job",
        "clouddeploy.googleapis.com/Release",
        "dataflow.googleapis.com/Job",
        "k8s.io/Pod",
        "k8s.io/PodTemplate",
        "k8s.io/ReplicationController",
        "run.googleapis.com/Execution",
        "run.googleapis.com/Job",
        "run.googleapis.com/Revision",
        "run.googleapis.com/Service",
        "run.googleapis.com/WorkerPool",
        "storage.googleapis.com/Bucket",
        "workstations.googleapis.com/WorkstationConfig",
    }
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# These APIs tell a time to the microsecond, and the registry to the millisecond.
_FINER_US: Final = 321


def kind_of(path: str) -> str:
    """The kind that the log names a request to these APIs by."""
    match = _REST.fullmatch(path)
    if match is None:
        return "assets" if _ASSETS.fullmatch(path) else "other"
    if match["package"] is not None:
        return "rest_versions"
    if match["packages"] is not None:
        return "rest_packages"
    return "rest_repositories" if match["repository"] is None else "rest_repository"


def answer(registry: Registry, kind: str, path: str, query: str) -> Answer:
    """Answer a GET.

    Raises:
        Refusal: 400, 403 or 404, with the status word of Google's APIs as its code.
    """
    asked = parse_qs(query)
    if kind == "assets":
        match = _ASSETS.fullmatch(path)
        assert match is not None
        return _assets(registry, unquote(match["scope"]), asked)
    match = _REST.fullmatch(path)
    assert match is not None
    project, location = unquote(match["project"]), unquote(match["location"])
    if kind == "rest_repositories":
        return _repositories(registry, project, location, asked)
    repository = unquote(match["repository"])
    prefixes = _prefixes(registry, project, location, repository)
    parent = f"projects/{project}/locations/{location}/repositories/{repository}"
    if kind == "rest_repository":
        if not any(_exists(registry, prefix) for prefix in prefixes):
            raise Refusal(404, "NOT_FOUND", f"Requested entity was not found: {parent}")
        return json_answer(_repository(registry, parent, prefixes))
    if kind == "rest_packages":
        return _packages(registry, parent, prefixes, asked)
    return _versions(registry, parent, prefixes, unquote(match["package"]), asked)


def _prefixes(registry: Registry, project: str, location: str, repository: str) -> list[str]:
    """Where the images of a REST repository are, without the slash at the end.

    The store knows ``us-docker.pkg.dev/P/gcr.io`` as ``gcr.io/P``.  The emulator's own host is in every location.
    """
    path, own = project.replace(":", "/", 1), registry.default_host
    prefixes = [f"{location}-docker.pkg.dev/{path}/{repository}", f"{own}/{path}/{repository}"]
    return [*prefixes, f"{own}/{path}"] if _GCR.get(repository) == location else prefixes


def _exists(registry: Registry, prefix: str) -> bool:
    return bool(registry.store.below(prefix)) or registry.store.has_mode(prefix)


def _repository(registry: Registry, name: str, prefixes: list[str]) -> dict[str, object]:
    prefix = next((one for one in prefixes if _exists(registry, one)), prefixes[0])
    return {"name": name, "format": "DOCKER", "mode": registry.store.mode(prefix)}


def _repositories(registry: Registry, project: str, location: str, asked: dict[str, list[str]]) -> Answer:
    path = project.replace(":", "/", 1)
    names = set(registry.store.below(f"{location}-docker.pkg.dev/{path}"))
    names |= {host for host, where in _GCR.items() if where == location and registry.store.below(f"{host}/{path}")}
    if registry.default_host not in _GCR:
        names |= set(registry.store.below(f"{registry.default_host}/{path}"))
    parent = f"projects/{project}/locations/{location}/repositories"
    page, more = _page(sorted(names), asked)
    shown = [_repository(registry, f"{parent}/{one}", _prefixes(registry, project, location, one)) for one in page]
    return json_answer({"repositories": shown, **more})


def _packages(registry: Registry, parent: str, prefixes: list[str], asked: dict[str, list[str]]) -> Answer:
    for prefix in prefixes:
        names = registry.store.under(prefix)
        if names:
            break
    else:
        if not any(_exists(registry, prefix) for prefix in prefixes):
            raise Refusal(404, "NOT_FOUND", f"Requested entity was not found: {parent}")
    page, more = _page(names, asked)
    packages = [{"name": f"{parent}/packages/{quote(one, safe='')}"} for one in page]
    return json_answer({"packages": packages, **more})


def _versions(
    registry: Registry, parent: str, prefixes: list[str], package: str, asked: dict[str, list[str]]
) -> Answer:
    store = registry.store
    held = set(store.repositories_of(f"{prefix}/{package}" for prefix in prefixes))
    name = next((one for one in (f"{prefix}/{package}" for prefix in prefixes) if one in held), None)
    if name is None:
        raise Refusal(404, "NOT_FOUND", f"Requested entity was not found: {parent}/packages/{package}")
    page, more = _page(store.order(name), asked)
    full = asked.get("view", ["BASIC"])[0] == "FULL"
    prefix = f"{parent}/packages/{quote(package, safe='')}"
    manifests = store.some(name, page)
    return json_answer({"versions": [_version(one, prefix, full=full) for one in manifests], **more})


def _version(one: Manifest, prefix: str, *, full: bool) -> dict[str, object]:
    version: dict[str, object] = {"name": f"{prefix}/versions/{one.digest}"}
    uploaded = timestamp(one.uploaded_ms)
    if uploaded is not None:
        version["createTime"] = version["updateTime"] = uploaded
    if not full:
        return version
    if one.tags:
        tags = list(one.tags)[:RELATED_TAGS_MAX]
        version["relatedTags"] = [
            {"name": f"{prefix}/tags/{quote(tag, safe='')}", "version": f"{prefix}/versions/{one.digest}"}
            for tag in tags
        ]
    metadata: dict[str, object] = {"imageSizeBytes": str(one.size), "mediaType": one.media_type}
    built = timestamp(one.created_ms)
    if built is not None:
        metadata["buildTime"] = built
    metadata["name"] = f"{prefix.replace('/packages/', '/dockerImages/')}@{one.digest}"
    version["metadata"] = metadata
    return version


def timestamp(ms: int | str | None) -> str | None:
    """Milliseconds as RFC 3339, as Google spells it: finer than the registry does; None for what is no time."""
    if not isinstance(ms, int):
        return None
    try:
        when = _EPOCH + timedelta(milliseconds=ms, microseconds=_FINER_US if ms > 0 else 0)
    except OverflowError:
        return None
    return when.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + f".{when.microsecond:06d}Z"


def _page(items: list[str], asked: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """One page of sorted items, and the token of the next.

    The token is the last item shown, so that what is deleted between two pages moves nothing.
    """
    size = _size(asked)
    token = asked.get("pageToken", [""])[0]
    try:
        start = bisect_right(items, base64.urlsafe_b64decode(token).decode()) if token else 0
    except ValueError as error:
        raise Refusal(400, "INVALID_ARGUMENT", "invalid pageToken") from error
    page = items[start : start + size]
    if start + size >= len(items):
        return page, {}
    return page, {"nextPageToken": base64.urlsafe_b64encode(page[-1].encode()).decode()}


def _size(asked: dict[str, list[str]]) -> int:
    text = asked.get("pageSize", ["0"])[0]
    if not text.isdecimal():
        raise Refusal(400, "INVALID_ARGUMENT", "invalid pageSize")
    return min(int(text) or PAGE_DEFAULT, PAGE_MAX)


def _assets(registry: Registry, scope: str, asked: dict[str, list[str]]) -> Answer:
    behaviour = registry.behaviour
    if scope in behaviour.denied_scopes:
        raise Refusal(403, "PERMISSION_DENIED", f"The caller does not have permission on {scope}")
    if scope not in behaviour.assets:
        raise Refusal(404, "NOT_FOUND", f"{scope} was not found")
    types = asked.get("assetTypes")
    if unknown := set(types or ()) - _ASSET_TYPES:
        raise Refusal(400, "INVALID_ARGUMENT", f"unsupported asset types: {sorted(unknown)}")
    assets = [one for one in behaviour.assets[scope] if types is None or one.get("assetType") in types]
    size = _size(asked)
    try:
        start = int(asked.get("pageToken", ["0"])[0])
    except ValueError as error:
        raise Refusal(400, "INVALID_ARGUMENT", "invalid pageToken") from error
    page = assets[start : start + size]
    if asked.get("contentType") != ["RESOURCE"]:
        page = [{key: value for key, value in one.items() if key != "resource"} for one in page]
    document: dict[str, object] = {
        "readTime": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "assets": page,
    }
    if start + size < len(assets):
        document["nextPageToken"] = str(start + size)
    return json_answer(document)
