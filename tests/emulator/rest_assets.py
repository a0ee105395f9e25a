"""Cloud Asset Inventory v1."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tests.emulator.answer import Answer, json_answer
from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from tests.emulator.paging import Query
    from tests.emulator.server import Behaviour

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


def assets(behaviour: Behaviour, scope: str, asked: Query) -> Answer:
    """What the inventory knows of a scope, by type and in pages.

    Raises:
        Refusal: 400, 403 or 404.
    """
    if scope in behaviour.denied_scopes:
        raise Refusal(403, "PERMISSION_DENIED", f"The caller does not have permission on {scope}")
    if scope not in behaviour.assets:
        raise Refusal(404, "NOT_FOUND", f"{scope} was not found")
    types = asked.all("assetTypes")
    if unknown := set(types) - _ASSET_TYPES:
        raise Refusal(400, "INVALID_ARGUMENT", f"unsupported asset types: {sorted(unknown)}")
    found = [one for one in behaviour.assets[scope] if not types or one.get("assetType") in types]
    size = asked.page_size
    try:
        start = int(asked.one("pageToken", "0"))
    except ValueError as error:
        raise Refusal(400, "INVALID_ARGUMENT", "invalid pageToken") from error
    page = found[start : start + size]
    if asked.all("contentType") != ["RESOURCE"]:
        page = [{key: value for key, value in one.items() if key != "resource"} for one in page]
    document: dict[str, object] = {
        "readTime": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "assets": page,
    }
    if start + size < len(found):
        document["nextPageToken"] = str(start + size)
    return json_answer(document)
