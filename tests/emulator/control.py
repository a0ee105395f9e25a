"""What is under ``/_emulator/``: looking into a running emulator and changing it, for other processes."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.emulator.answer import Answer, json_answer
from tests.emulator.faults import Quota, rule_from_json

if TYPE_CHECKING:
    from tests.emulator.server import Registry


def answer(registry: Registry, method: str, path: str, query: str, body: bytes) -> Answer:
    """Answer a control request.  A document that makes no sense is answered 400 with what is wrong."""
    try:
        document = json.loads(body) if body else {}
        return _answer(registry, f"{method} {path.removeprefix('/_emulator/')}", query, document)
    except (ValueError, TypeError, KeyError) as error:
        return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)


def _answer(registry: Registry, what: str, query: str, document: dict[str, object]) -> Answer:  # noqa: C901
    faults, log, store = registry.faults, registry.log, registry.store
    match what:
        case "GET state":
            return json_answer(store.dump(bodies="bodies" in parse_qs(query, keep_blank_values=True)))
        case "GET counters":
            return json_answer(counters(registry))
        case "POST counters/reset":
            log.clear()
            faults.counts.clear()
        case "GET log":
            return json_answer([entry._asdict() for entry in log.entries])
        case "GET gaps":
            return json_answer([{one.name: getattr(gap, one.name) for one in fields(gap)} for gap in store.gaps])
        case "POST rules":
            rule = rule_from_json(document)
            faults.rules = [*faults.rules, rule]
        case "DELETE rules":
            faults.rules = []
        case "POST seed":
            faults.seed(int(str(document["seed"])))
        case "POST latency":
            faults.latency_s = float(str(document["ms"])) / 1000
        case "POST quota":
            faults.quota = _quota(document)
        case "DELETE quota":
            faults.quota = None
        case "POST behaviour":
            _behave(registry, document)
        case "POST tokens/expire":
            registry.expire_tokens()
        case "POST load":
            store.load(document, registry.default_host)
        case "POST clear":
            store.clear()
        case _:
            return json_answer({"error": f"unknown: {what}"}, 404)
    return json_answer({})


def counters(registry: Registry) -> dict[str, object]:
    """The counts as one document."""
    quota = registry.faults.quota
    return {
        "requests": registry.log.total,
        "kinds": dict(registry.log.counts),
        "statuses": {str(status): count for status, count in registry.log.statuses.items()},
        "faults": dict(registry.faults.counts),
        "bytes": registry.log.bytes_sent,
        "gaps": len(registry.store.gaps),
        "quota": None
        if quota is None
        else {
            "accepted": quota.accepted,
            "refused": quota.refused,
            "windows": {str(second): counts for second, counts in quota.windows.items()},
        },
    }


def _quota(document: dict[str, object]) -> Quota:
    given = dict(document)
    methods = given.pop("methods", ["DELETE"])
    if not isinstance(methods, list):
        raise TypeError("methods must be a list")
    return Quota(methods=frozenset(methods), **given)  # type: ignore[arg-type]  # the dataclass checks the names


def _behave(registry: Registry, document: dict[str, object]) -> None:
    behaviour = registry.behaviour
    known = {one.name for one in fields(behaviour)}
    for key, value in document.items():
        if key not in known:
            raise KeyError(key)
        kind = type(getattr(behaviour, key))
        setattr(behaviour, key, kind(value) if kind in (set, frozenset) and isinstance(value, list) else value)
