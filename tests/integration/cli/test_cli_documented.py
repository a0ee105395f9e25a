"""The keys of the documents that the command line prints, and the table that explains them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.emulator.faults import Status
from tests.support.command_line import RETIRING, Operator
from tests.support.documentation import page

PAGE = page("docs/command-line.md")


def test_documents_of_plans_have_the_keys_of_the_table(operator: Operator) -> None:
    """Every key is explained, and every key that is explained is written, in one case or another."""
    operator.builds(5)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    pod: Any = {"spec": {"containers": [{"image": f"{operator.name}:build-4"}]}}
    asset: Any = {"name": "//container.googleapis.com/pods/api", "assetType": "k8s.io/Pod", "resource": {"data": pod}}
    operator.emulator.behaviour.assets = {"projects/acme": [asset]}
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE", path=r"/sha256:")
    planned = operator.plan(*RETIRING, "--running-scopes", "projects/acme", "-o", "json").document
    pruned = operator.prune(*RETIRING, "--yes", "-o", "json").document
    operator.builds(1, "acme/web")
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/web/tags", skip=1)
    several = json.loads(operator.call("plan", f"{operator.emulator.host}/acme", *RETIRING, "-o", "json").out)
    documents = [planned, pruned, *several]

    keys = {key for one in documents for part in (one, *one["keep"], *one["delete"]) for key in part}
    summaries = {key for one in documents for key in one["summary"]}

    assert keys == set(PAGE.names("JSON"))
    (row,) = (row for table in PAGE.tables for row in table.rows if row[0] == "`summary`")
    assert summaries == set(re.findall("`(.+?)`", row[1]))


def test_explanation_has_the_keys_that_are_named(operator: Operator) -> None:
    """In their order; those of each rule behind `rules`."""
    operator.builds(4)

    document = operator.plan(*RETIRING, "--explain", "build-3", "-o", "json").document

    assert keys_of(document) == named_in("With `--explain` the document has")


def test_checks_have_the_keys_that_are_shown(operator: Operator, tmp_path: Path) -> None:
    """With a mistake, all of them."""
    (tmp_path / "p.yaml").write_text("- repositories: ['acme']\n")

    document = operator.call("check", str(tmp_path / "p.yaml"), "-o", "json").document

    (shown,) = re.findall(r'`(\{"file".*?\})`', PAGE.text)
    assert keys_of(document) == re.findall(r'"(\w+)"', shown)


def named_in(sentence: str) -> list[str]:
    """Return the names that the line with these words has, in their order."""
    (line,) = (line for line in PAGE.text.splitlines() if sentence in line)
    return re.findall("`([a-z_]+)`", line)


def keys_of(document: Any) -> list[str]:
    """Return the keys of a document and of the first document in each of its lists, as they are written."""
    return [one for key, value in document.items() for one in (key, *(keys_of(value[0]) if _listed(value) else ()))]


def _listed(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
