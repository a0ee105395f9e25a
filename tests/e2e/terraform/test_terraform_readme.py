"""The module's README: its tables, its example and its commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cleaner.core.notification import PruneRequest, SweepRequest, parse_data
from cleaner.core.policy_document import parse_policies
from cleaner.core.reference import parse_repository
from tests.support.clients import Site
from tests.support.documentation import page
from tests.support.programs import required
from tests.support.reader import Reader
from tests.support.terraform import (
    EVERYTHING,
    SOURCE,
    environment_of,
    initialise,
    make_plan,
    of_type,
    plan_policies,
    planned_resources,
    service_of,
    without_nulls,
)

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)


PAGE = page("terraform/README.md")


def _variables() -> Mapping[str, tuple[str, str]]:
    """Return the type and the default of each variable, as they are written; an object is just called that."""
    found = {}
    for file in SOURCE.glob("*.tf"):
        for name, body in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            (kind,) = re.findall(r"^  type += (\w+(?:\(\w+\))?)", body, re.M)
            default = re.findall(r"^  default += (.*?)(?: +#.*)?$", body, re.M)
            found[name] = kind, *(default or ["required"])
    return found


def test_readme_has_the_type_and_the_default_of_each_variable() -> None:
    """As the code has them."""
    (table,) = (table for table in PAGE.tables if table.heading == "Inputs")
    shown = {name.strip("`"): (kind.strip("`"), default.strip("`")) for name, kind, default, _ in table.rows[1:]}
    # Whatever it is, modules/policies says what it must be.
    assert shown.pop("policies") == ("any`: a list of objects", "required")

    assert shown == {name: facts for name, facts in _variables().items() if name != "policies"}


def test_configuration_can_be_read() -> None:
    """What the README shows in parts is Terraform's language, as Terraform formats it."""
    program = required("terraform")
    for block in PAGE.blocks:
        if block.language == "hcl":
            command = [program, "fmt", "-check", "-diff", "-"]
            ended = subprocess.run(command, input=block.text, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, f"{block.place}: {ended.stdout}{ended.stderr}"


def test_readme_cost_adds_up() -> None:
    """Each line is its amount times its price, and the last one is the sum."""
    rows = re.findall(r"^\|.*\| ([0-9.]+) \|[^|]*\| ([0-9.]+) \|$", PAGE.section("What it costs"), re.M)
    *lines, (dollars, left) = [(round(float(one) * 100), round(float(two) * 100)) for one, two in rows]

    assert len(lines) == 9
    assert (sum(one for one, _ in lines), sum(two for _, two in lines)) == (dollars, left)
    seconds = 30_000 * 5.8
    expected = [seconds * 0.000024, seconds * 0.0000025, 0.48 * 0.4, 960_000 / 2**30 * 40, 30_000 * 25 / 2**20 * 0.5]
    assert [round(value * 100) for value in [*expected, 15 * 0.258]] == [one for one, _ in lines[:6]]


def test_readme_explains_every_resource(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """The plan with minimal variables, and with all of them, holds nothing that the table does not explain."""
    planned = {
        f"{resource['type']}.{resource['name']}"
        for plan in (minimal, everything)
        for resource in planned_resources(plan)
        if resource["mode"] == "managed"
    }
    assert planned == set(PAGE.names("What it creates"))


def test_page_names_every_permission_of_the_roles(everything: dict[str, Any]) -> None:
    """Whoever reads docs/permissions.md knows what the function may do."""
    permissions = {
        permission
        for role in of_type(everything, "google_project_iam_custom_role")
        for permission in role["permissions"]
    }
    (table,) = (
        one for one in page("docs/permissions.md").tables if one.heading == "Which call needs which permission"
    )
    assert {name.strip("`") for name, _, when in table.rows if re.match("always|with ", when)} == permissions


def _example() -> tuple[str, str]:
    """Return the example's policies and its configuration."""
    policies, configuration = (one.text for one in PAGE.blocks if one.file in ("policies.yaml", "main.tf"))
    return policies, configuration


def test_readme_example_is_one_of_the_examples() -> None:
    """Which are planned in test_terraform_examples.py."""
    policies, configuration = _example()
    example = SOURCE / "examples" / "policies-from-yaml"

    assert (example / "policies.yaml").read_text() == policies
    assert (example / "main.tf").read_text() == configuration.replace('".//terraform"', '"../.."')


def test_configuration_of_the_first_page_is_part_of_an_example() -> None:
    """Which has more outputs, and is planned in test_terraform_examples.py."""
    (shown,) = (block.text for block in page("README.md").blocks if block.language == "hcl")
    _, configuration = _example()

    first, whole = (
        [" ".join(part.split()) for part in re.findall(r"^\w.*?}$", text, re.M | re.S)]
        for text in (shown, configuration)
    )
    assert [part.split()[1] for part in first] == ['"cleaner"', '"logs_command"', '"sweep_commands"', '"policies"']
    assert [part for part in first if part not in whole] == []


def test_policies_of_the_first_page_are_accepted(tmp_path: Path) -> None:
    """By the module, which its configuration gives them to."""
    (text,) = (block.text for block in page("README.md").blocks if block.file == "policies.yaml")

    (plan,) = plan_policies(tmp_path, [text], "yamldecode")
    assert plan.mistakes == []


@pytest.fixture(scope="session")
def example(module: Path) -> Mapping[str, Any]:
    """The plan of the README's example, but for two `repositories`, with the import that it shows."""
    policies, configuration = _example()
    home = module.parent
    one = 'repositories = ["us-docker.pkg.dev/acme-prod/apps"]'
    assert one in configuration
    (home / "main.tf").write_text(configuration.replace(one, one[:-1] + ', "gcr.io/acme-prod"]'))
    (home / "policies.yaml").write_text(policies.replace('"us-docker.pkg.dev/acme-prod/apps/**"', '"**"'))
    (imported,) = (block.text for block in PAGE.blocks if block.text.startswith("import {"))
    (home / "import.tf").write_text(imported)
    initialise(home)
    return make_plan(home, {}, "example")


@pytest.fixture(scope="session")
def outputs(example: Mapping[str, Any]) -> Mapping[str, Any]:
    """The outputs of the example, as a state keeps them."""
    planned = example["planned_values"]["outputs"]
    return {name: {"value": output["value"], "type": output["type"]} for name, output in planned.items()}


def test_topic_that_exists_can_be_imported(example: Mapping[str, Any]) -> None:
    """As the README shows it: the plan creates everything else."""
    imported = {one["address"] for one in example["resource_changes"] if "importing" in one["change"]}

    assert imported == {"module.cleaner.google_pubsub_topic.gcr[0]"}


def state_of(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "version": 4,
        "terraform_version": "1.9.0",
        "serial": 1,
        "lineage": "",
        "outputs": outputs,
        "resources": [],
    }


@pytest.mark.parametrize("option", ["", " -chdir=terraform"])
def test_readme_commands_print_commands_that_work(outputs: Mapping[str, Any], tmp_path: Path, option: str) -> None:
    """What the README's commands print can be pasted into a shell, and says what the function understands."""
    commands = [line for block in PAGE.blocks if block.language == "sh" for line in block.text.splitlines()]
    commands = [line.split("#")[0].strip() for line in commands if re.match(r"terraform output .*#", line)]
    assert len(commands) == 3
    # With -chdir as the root module is called, without as a configuration that calls it.
    home = tmp_path / option.partition("=")[2]
    home.mkdir(exist_ok=True)
    (home / "terraform.tfstate").write_text(json.dumps(state_of(outputs)))
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    gcloud.chmod(0o755)

    asked: list[list[str]] = []
    for command in commands:
        called = command.replace("terraform ", f"terraform{option} ", 1)
        environment = environment_of(tmp_path) | {"PATH": f"{gcloud.parent}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            ["/bin/sh", "-ec", f'pasted=$({called}); eval "$pasted"'],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        asked += map(json.loads, result.stdout.splitlines())

    messages = [arguments for arguments in asked if arguments[0] == "pubsub"]
    topic = "projects/acme-prod/topics/registry-cleaner-requests"
    assert all(arguments[:4] == ["pubsub", "topics", "publish", topic] for arguments in messages)
    texts = [arguments[4].removeprefix("--message=") for arguments in messages]
    assert {parse_data(text.replace("REPOSITORY", "gcr.io/acme-prod/api").encode()) for text in texts} == {
        SweepRequest(parse_repository("gcr.io/acme-prod")),
        SweepRequest(parse_repository("us-docker.pkg.dev/acme-prod/apps")),
        PruneRequest(parse_repository("gcr.io/acme-prod/api")),
    }
    (reading,) = [arguments for arguments in asked if arguments[0] != "pubsub"]
    assert reading[:2] == ["logging", "read"]
    assert 'resource.labels.service_name="registry-cleaner"' in reading[2]
    assert {argument.split("=")[0] for argument in reading[3:]} == {"--project", "--freshness", "--format"}


def test_page_does_what_it_says(cloud: Site, outputs: Mapping[str, Any], tmp_path: Path) -> None:
    """Each command of it, where the example is applied."""
    with Reader(tmp_path, cloud.environment, {}) as reader:
        (reader.directory / "terraform.tfstate").write_text(json.dumps(state_of(outputs)))
        reader.follow(PAGE)

    assert reader.complaints == []


def test_readme_shows_the_mistakes_as_a_plan_does(tmp_path: Path) -> None:
    """The messages are those of a plan, in its order."""
    (shown,) = (block.text for block in PAGE.blocks if block.text.startswith("Mistakes in policies:\n"))
    glob = "us-docker.pkg.dev/acme-prod/apps"
    policy = {"repositories": [glob], "tagged": [{"match": "v*", "keep": "all"}], "untaged": {"keep": 5}}

    (plan,) = plan_policies(tmp_path, [json.dumps([policy])])
    assert plan.mistakes == [line.strip() for line in shown.splitlines()[1:]]


def test_output_is_what_the_function_reads(everything: dict[str, Any]) -> None:
    """``terraform output -raw policies`` can be given to the command line."""
    text = everything["planned_values"]["outputs"]["policies"]["value"]

    assert text == service_of(everything)["environment_variables"]["POLICIES"]
    assert json.loads(text) == without_nulls(EVERYTHING["policies"])
    assert parse_policies(text)


def test_every_variable_and_output_is_described() -> None:
    """Each has a description, each variable a type."""
    for file in (*SOURCE.glob("*.tf"), *SOURCE.glob("modules/**/*.tf")):
        for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            assert re.search(r"^  description +=", body, re.M), name
            assert kind == "output" or re.search(r"^  type +=", body, re.M), name
