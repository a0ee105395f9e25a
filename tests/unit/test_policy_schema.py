"""The JSON Schema of policies: generated from the structs, and of one mind with the parser."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cleaner import schema
from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy_document import policies_from_document
from cleaner.schema import policies_schema
from tests.support.policy_documents import ACCEPTED, REFUSED, Refused
from tests.support.policy_mutations import mutated_documents
from tests.support.sources import ROOT, loaded_by

FILE = ROOT / "cleaner" / "policies.schema.json"
SCHEMA: dict[str, Any] = json.loads(FILE.read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

# What a schema cannot express; each refusal that it lacks is for one of these reasons.
BEYOND = {
    "durations": "a comparison of two durations, or with a bound",
    "end of a text": "in Python's regexes, a $ also matches before a newline at the end",
    "integers with a fraction": "to a schema, 1.0 is an integer",
    "regexes": "whether a regex is in RE2's syntax, and looks like a glob",
    "hosts": "which hosts are allowed depends on a setting",
    "number of segments": "how many a name has depends on the host",
    "other rules": "an earlier rule that matches every tag",
    "other policies": "an earlier policy with the same globs",
}


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object within a JSON value."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def test_file_is_what_the_command_prints() -> None:
    """``make schema`` writes it; it is the same in every run."""
    done = subprocess.run([sys.executable, "-m", "cleaner.schema"], cwd=ROOT, capture_output=True, check=True)

    assert done.stdout == FILE.read_bytes()


def test_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Indented, in ASCII, with a newline at its end."""
    schema.main()

    printed = capsys.readouterr().out
    assert json.loads(printed) == policies_schema() == SCHEMA
    assert printed.isascii()
    assert printed.endswith("\n}\n")


def test_schema_is_valid() -> None:
    """By the draft that it names."""
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_describes_every_key() -> None:
    """Editors show the descriptions; they refuse unknown keys."""
    definitions = SCHEMA["$defs"]

    assert {name: definition["title"] for name, definition in definitions.items()} == {
        "PolicyDocument": "Policy",
        "TagRuleDocument": "TagRule",
        "RuleDocument": "Rule",
        "OrphanRuleDocument": "OrphanRule",
    }
    for definition in definitions.values():
        assert definition["additionalProperties"] is False
        assert definition["description"]
        assert all(value["description"] for value in definition["properties"].values())


def test_schema_has_the_defaults_of_the_language() -> None:
    """Each as a document has it."""
    defaults = {
        (name.removesuffix("Document"), key): value["default"]
        for name, definition in SCHEMA["$defs"].items()
        for key, value in definition["properties"].items()
        if "default" in value
    }

    assert {key: value for (name, key), value in defaults.items() if name == "Policy"} == {
        "min_age": "1h",
        "tagged": [],
        "untagged": {"keep": 5},
        "orphans": {"keep": "all"},
        "max_deletions": None,
        "dry_run": False,
    }
    for rule in ("Rule", "TagRule", "OrphanRule"):
        assert {key: value for (name, key), value in defaults.items() if name == rule} == {
            "keep_within": None,
            "delete_after": None,
            "order": "uploaded",
        }


def test_defaults_of_the_schema_are_valid() -> None:
    """A document in which they are written out means the same."""
    defaults = {
        key: value["default"]
        for key, value in SCHEMA["$defs"]["PolicyDocument"]["properties"].items()
        if "default" in value
    }

    assert policies_from_document([{"repositories": ["**"], **defaults}]) == policies_from_document(
        [{"repositories": ["**"]}]
    )


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_schema_accepts_what_the_parser_accepts(document: object) -> None:
    """An editor marks no valid document."""
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_schema_refuses_what_the_parser_refuses(case: Refused) -> None:
    """Except what a schema cannot express."""
    assert VALIDATOR.is_valid(case.document) is (case.beyond_schema in BEYOND)


def test_refusals_beyond_the_schema_have_known_reasons() -> None:
    """Each reason has a case."""
    assert {case.beyond_schema for case in REFUSED.values()} - {""} == BEYOND.keys()


def test_schema_refuses_no_mutated_document_that_the_parser_accepts() -> None:
    """Documents near valid ones, of a fixed seed."""
    accepted = 0
    for document in mutated_documents(seed=2):
        try:
            policies_from_document(document)
        except InvalidPolicy:
            continue
        accepted += 1
        assert VALIDATOR.is_valid(document), document
    assert accepted > 50


def test_references_within_the_schema_are_to_its_definitions() -> None:
    """An editor needs no other file."""
    references = {found["$ref"] for found in objects(SCHEMA) if "$ref" in found}

    assert references == {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


def test_schema_is_packaged_and_not_loaded_by_the_function() -> None:
    """Neither the module nor the file is read there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["tool"]["setuptools"]["package-data"]["cleaner"] == [FILE.name]
    assert "cleaner.schema" not in loaded_by("main")
