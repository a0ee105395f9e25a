"""Each name has one page that explains it, in a table that has all names of its kind and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import yaml

from cleaner.core.rules import Reason
from cleaner.settings import Settings
from tests.support import code_names
from tests.support.documentation import names_in, names_of_pages, page


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of names, the page and the heading of the table that explains them, and what there is."""

    title: str
    owner: str
    heading: str
    names: Callable[[], set[str]]


# The first page has the keys in short.
IN_SHORT = ("README.md", "Keys")

KINDS = (
    Kind("settings", "docs/operations.md", "Settings", code_names.settings),
    Kind("log lines", "docs/operations.md", "Log lines", code_names.log_messages),
    Kind("reasons", "docs/operations.md", "Reasons", code_names.reasons),
    Kind("alerts", "docs/operations.md", "Alerts and dashboard", code_names.alerts),
    Kind("keys of a policy", "docs/policies.md", "Keys of a policy", lambda: code_names.keys("PolicyDocument")),
    Kind("keys of a rule", "docs/policies.md", "Keys of a rule", lambda: code_names.keys("TagRuleDocument")),
    Kind("keys in short", *IN_SHORT, lambda: code_names.keys("PolicyDocument") | code_names.keys("TagRuleDocument")),
    Kind("commands", "docs/command-line.md", "Command line", code_names.commands),
    Kind("options", "docs/command-line.md", "Options", lambda: {*", ".join(code_names.options()).split(", ")}),
    Kind("exit codes", "docs/command-line.md", "Exit codes", code_names.exit_codes),
    Kind("variables", "docs/command-line.md", "Environment", code_names.variables),
    Kind("outcomes", "docs/command-line.md", "What could not be deleted", code_names.outcomes),
    Kind("scenarios", "docs/local.md", "The registry emulator", code_names.scenarios_of_the_emulator),
    Kind("inputs of Terraform", "terraform/README.md", "Inputs", lambda: code_names.terraform("variable")),
    Kind("outputs of Terraform", "terraform/README.md", "Outputs", lambda: code_names.terraform("output")),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_owner_has_every_name(kind: Kind) -> None:
    """And none that does not exist."""
    explained, there_are = set(page(kind.owner).names(kind.heading)), kind.names()

    place = f"{kind.owner}, {kind.heading!r}"
    lacking, unknown = sorted(there_are - explained), sorted(explained - there_are)

    assert not lacking, f"{place}, lacks these {kind.title}: {', '.join(lacking)}"
    assert not unknown, f"{place}, has {kind.title} that do not exist: {', '.join(unknown)}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_no_other_page_has_the_table_again(kind: Kind) -> None:
    """A fact that stands twice is changed once."""
    names = kind.names()
    again = [
        f"{name}:{table.line}"
        for name in names_of_pages()
        for table in page(name).tables
        if (name, table.heading) not in {(kind.owner, kind.heading), IN_SHORT}
        # Some of them may be what another table is about.
        and len(names.intersection(table.names())) * 3 > len(names) * 2
    ]
    assert again == []


def rows(kind: str) -> list[tuple[str, ...]]:
    """Return the rows of a kind's table, without the heading's."""
    (owner, heading) = next((one.owner, one.heading) for one in KINDS if one.title == kind)
    return [row for table in page(owner).tables if table.heading == heading for row in table.rows[1:]]


def test_reasons_are_in_the_order_in_which_they_are_looked_for() -> None:
    """The first that applies is given."""
    assert page("docs/operations.md").names("Reasons") == [reason.value for reason in Reason]


@pytest.mark.parametrize(("name", "default"), [(row[0].strip("`"), row[1]) for row in rows("settings")])
def test_setting_has_its_default(name: str, default: str) -> None:
    """Set to what the page calls its default, it is as if it were not set."""
    least = {"POLICIES": '[{"repositories": ["gcr.io/acme/**"]}]'}
    values = {"required": least["POLICIES"], "empty": "", "Google's": f"https://{GOOGLES.get(name)}.googleapis.com"}
    value = values.get(default, default.strip("`"))

    assert Settings.from_environment({**least, name: value}) == Settings.from_environment(least)
    assert (name in least) == (default == "required")


GOOGLES = {
    "GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT": "artifactregistry",
    "GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT": "cloudasset",
}


@pytest.mark.parametrize("definition", ["PolicyDocument", "TagRuleDocument"])
def test_keys_have_their_defaults(definition: str) -> None:
    """Those of the schema; what depends on other keys is a sentence."""
    kind = {"PolicyDocument": "keys of a policy", "TagRuleDocument": "keys of a rule"}[definition]
    shown = {row[0].strip("`"): yaml.safe_load(row[1][1:-1]) for row in rows(kind) if re.fullmatch("`[^`]+`", row[1])}

    assert shown == code_names.defaults(definition)


def test_log_lines_have_their_severity() -> None:
    """All that a message can have, where it is written in the code."""
    shown = {name: set(row[1].split(", ")) for row in rows("log lines") for name in names_in(row[0])}

    assert {name: shown[name] & levels for name, levels in code_names.severities().items()} == code_names.severities()


def test_options_have_their_commands() -> None:
    """Those that take them, or all."""
    commands = code_names.options()
    every = set().union(*commands.values())
    shown = {}
    for name, taken_by, *_ in rows("options"):
        shown[", ".join(names_in(name))] = every if taken_by == "all" else set(names_in(taken_by))

    assert shown == commands


def test_options_have_their_defaults() -> None:
    """As the help has them, in as many words or in others."""
    helps = code_names.defaults_of_options()
    for name, _, _, default in rows("options"):
        option = names_in(name)[-1]
        shown, said = default.replace("`", ""), helps.get(option, "")
        assert shown.partition(" ")[0].rstrip(",") == said.partition(" ")[0].rstrip(".,"), option


def test_outputs_of_terraform_that_are_shown_exist() -> None:
    """Wherever a page prints one."""
    shown = {one for name in names_of_pages() for one in re.findall(r"\boutput -raw (\w+)", page(name).text)}

    assert len(shown) >= 4
    assert shown <= code_names.terraform("output")


def test_messages_of_the_command_line_are_in_its_code() -> None:
    """At least a long part of each; what varies is in capitals, a name of a file, or dots."""
    texts = code_names.texts()
    (table,) = (one for one in page("docs/command-line.md").tables if one.heading == "Warnings and messages")
    for message, _ in table.rows[1:]:
        parts = (part.strip(" '`") for part in re.split(r"…|[:,] |\b[A-Z]+\b|\w+\.yaml", message))
        assert any(len(part) >= 10 and any(part in text for text in texts) for part in parts), message
