"""Prints the JSON Schema of policies, which editors read: ``python -m cleaner.schema``.

It is made from the structs of ``core.policy_language``.  What they cannot say and a schema can is added here.  Only
the parser checks regexes, hosts of globs, comparisons of durations, and rules or policies that are never used.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from cleaner.core.pattern import WHITE_SPACE
from cleaner.core.policy_language import DECIDING_KEYS, PolicyDocument

_HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:registry-cleaner:policies",
    "title": "Policies",
    "description": "What is kept in which repositories; the first policy that matches a repository decides.",
}
_LITERALS = r"[a-z0-9._{}-]|\*(?!\*)"
_GLOB = r"^(?:\*\*|(?:{host})+)(?:/(?:\*\*|(?:{path})+))*$".format(
    host=_LITERALS.format(":"), path=_LITERALS.format("")
)
_IS_GIVEN = {"not": {"type": "null"}}
# A rule that keeps none by count, also by default, keeps by age alone.
_KEEPS_NONE = {
    "anyOf": [
        {"required": ["keep"], "properties": {"keep": {"const": 0}}},
        {
            "required": ["keep_within"],
            "properties": {"keep_within": _IS_GIVEN},
            "not": {"required": ["keep"]},
        },
    ]
}


def policies_schema() -> dict[str, Any]:
    """Return the schema of the array of policies."""
    schema = msgspec.json.schema(list[PolicyDocument])
    definitions: dict[str, dict[str, Any]] = schema["$defs"]
    for definition in definitions.values():
        definition["title"] = definition["title"].removesuffix("Document")
        if "keep" in definition["properties"]:
            _add_conditions(definition)
    definitions["PolicyDocument"]["properties"]["repositories"]["items"]["pattern"] = _GLOB
    one, several = definitions["TagRuleDocument"]["properties"]["match"]["anyOf"]
    for regex in (one, several["items"]):
        regex["not"] = {"pattern": WHITE_SPACE}
    return {**_HEAD, **schema, "minItems": 1}


def _add_conditions(rule: dict[str, Any]) -> None:
    rule["anyOf"] = [{"required": [key], "properties": {key: _IS_GIVEN}} for key in DECIDING_KEYS]
    rule["if"] = _KEEPS_NONE
    rule["then"] = {
        "description": "Where keep is 0, delete_after has no effect.",
        "properties": {"delete_after": {"type": "null"}},
    }


def main() -> None:
    """Write the schema to stdout."""
    sys.stdout.write(json.dumps(policies_schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
