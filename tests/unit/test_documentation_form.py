"""The documentation's form: links that lead somewhere, blocks that a test covers, and pages of the right length."""

from __future__ import annotations

import json
import re
import shlex
from urllib.parse import urlsplit

import click
import pytest
import yaml

from cleaner.cli.main import NAME, cli
from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy_document import policies_from_document
from tests.support.documentation import Block, blocks, exists, names_of_pages, page, policies_of_pages
from tests.support.processes import ROOT

LINES_OF_README = 230
# Nothing is requested from them here.
HOSTS = {"cloud.google.com", "github.com", "img.shields.io"}

_HERE = "tests/unit/test_documentation_form.py"
_PAGES = "tests/e2e/test_documentation.py"
_TERRAFORM = "tests/e2e/terraform/test_terraform_readme.py"
# The test of each block: by its language, or by its page, its language and its heading.
COVERED: dict[str | tuple[str, str, str], str] = {
    "console": f"{_PAGES}::test_page_does_what_it_says",
    "fish": f"{_PAGES}::test_page_does_what_it_says",
    "sh": f"{_PAGES}::test_page_does_what_it_says",
    "yaml": f"{_HERE}::test_policies_are_valid",
    "json": f"{_HERE}::test_json_is_valid",
    ("docs/local.md", "sh", "Running it locally"): "tests/e2e/test_local.py::test_page_does_what_it_says",
    ("terraform/README.md", "sh", "Deploying with Terraform"): f"{_TERRAFORM}::test_page_does_what_it_says",
    ("README.md", "hcl", "Deploy"): f"{_TERRAFORM}::test_configuration_of_the_first_page_is_part_of_an_example",
    ("terraform/README.md", "hcl", "Example"): f"{_TERRAFORM}::test_readme_example_is_one_of_the_examples",
    ("terraform/README.md", "hcl", "When the topic exists"): f"{_TERRAFORM}::test_topic_that_exists_can_be_imported",
    ("terraform/README.md", "hcl", "State"): f"{_TERRAFORM}::test_configuration_can_be_read",
    (
        "terraform/README.md",
        "hcl",
        "Repositories of the same configuration",
    ): f"{_TERRAFORM}::test_configuration_can_be_read",
    ("terraform/README.md", "text", "Policies"): f"{_TERRAFORM}::test_readme_shows_the_mistakes_as_a_plan_does",
    ("docs/coming-from.md", "text", "Coming from another tool"): (
        "tests/unit/test_recipes.py::test_translations_of_commands_and_sentences_have_rules_for_the_same_tags"
    ),
    ("docs/policies.md", "text", "What is refused"): (f"{_HERE}::test_mistake_is_shown_as_it_is_said"),
}


def test_every_block_is_covered() -> None:
    """By a test that exists; no block is left out because nobody knows its language."""
    left_out = []
    for block in blocks():
        keys = (*((block.page, block.language, one) for one in block.headings), block.language)
        test = next((COVERED[key] for key in keys if key in COVERED), "")
        file, _, name = test.partition("::")
        if not test or f"def {name}(" not in (ROOT / file).read_text():
            left_out.append(f"{block.place}: {block.language or 'no language'}")

    assert not left_out, f"no test covers {', '.join(left_out)}"


def test_no_code_is_indented() -> None:
    """It stands in a fenced block, which has a language, and which a test covers."""
    found = [f"{name}:{line}" for name in names_of_pages() for line in page(name).indented]

    assert not found, f"code without a fence: {', '.join(found)}"


@pytest.mark.parametrize("name", names_of_pages())
def test_links_lead_somewhere(name: str) -> None:
    """To a file of the project, and to a heading or an image that is there; or to a known host."""
    broken = [f"{name}:{link.line}: {link.target}" for link in page(name).links if not leads(link.target, name)]

    assert not broken, f"these lead nowhere: {', '.join(broken)}"


def test_pages_that_the_code_names_exist() -> None:
    """In an alert's text, for example, which is read when there is no time to search."""
    files = [path for folder in ("cleaner", "terraform", "tests") for path in (ROOT / folder).rglob("*.*")]
    for file in (ROOT / "Makefile", *(one for one in files if one.suffix in (".py", ".tf", ".html", ".json"))):
        for name in re.findall(r"\bdocs/[a-z-]+\.md\b", file.read_text()):
            assert (ROOT / name).exists(), f"{file.relative_to(ROOT)} names {name}"


def leads(target: str, name: str) -> bool:
    parts = urlsplit(target)
    return parts.hostname in HOSTS if parts.scheme else exists(target, name)


def test_readme_is_short() -> None:
    """The rest is in docs/."""
    assert len(page("README.md").text.splitlines()) <= LINES_OF_README


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in policies_of_pages()])
def test_policies_are_valid(block: Block) -> None:
    """With the hosts that the page itself makes known."""
    insecure = frozenset(re.findall(r"(?:localhost|127\.0\.0\.1):\d+", block.text))

    assert policies_from_document(yaml.safe_load(block.text), insecure=insecure)


def test_rules_are_valid() -> None:
    """What is shown without its policy is a rule for tags; all else is a policy, or wrong on purpose."""
    policies = {block.place for block in policies_of_pages()}
    others = [block for block in blocks("yaml") if block.place not in policies and block.file != "bad.yaml"]

    for block in others:
        document = [{"repositories": ["gcr.io/acme/**"], "tagged": yaml.safe_load(block.text)}]
        assert policies_from_document(document), block.place


def test_mistake_is_shown_as_it_is_said() -> None:
    """The rule that is refused is the second one of a policy."""
    (shown,) = (block.text for block in page("docs/policies.md").blocks if block.language == "text")
    rules = [{"match": "v.*", "keep": 1}, {"match": "v*", "keep": 1}]

    with pytest.raises(InvalidPolicy) as caught:
        policies_from_document([{"repositories": ["gcr.io/acme/**"], "tagged": rules}])

    assert str(caught.value) == shown.strip()


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in blocks("json")])
def test_json_is_valid(block: Block) -> None:
    """Also where it is another tool's."""
    assert json.loads(block.text)


def code_in_sentences(beginning: str) -> list[tuple[str, str]]:
    """Return what follows ``beginning`` in code of the pages' sentences, each with its page."""
    found = (
        (name, text) for name in names_of_pages() for text in re.findall(rf"`{beginning}([^`\n]+)`", page(name).text)
    )
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("name", "text"), code_in_sentences(f"{NAME} "))
def test_command_in_a_sentence_is_one(name: str, text: str) -> None:
    """Its name and its options exist."""
    del name
    command, *rest = shlex.split(text.replace("…", ""))
    context = click.Context(cli, **cli.context_settings)
    for found in cli.commands.values() if command == "COMMAND" else [cli.get_command(context, command)]:
        assert found is not None
        known = {one for parameter in found.get_params(click.Context(found, context)) for one in parameter.opts}
        assert {one.partition("=")[0] for one in rest if one.startswith("-")} <= known


@pytest.mark.parametrize(("name", "text"), code_in_sentences("make "))
def test_target_in_a_sentence_is_one(name: str, text: str) -> None:
    """And so is each in a block, which a dry run of make finds."""
    del name
    assert re.search(rf"^{text.split()[0]}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize(("name", "text"), code_in_sentences("python -m "))
def test_module_in_a_sentence_is_one(name: str, text: str) -> None:
    """One of this project that can be run."""
    del name
    folder = ROOT / text.split()[0].replace(".", "/")
    assert (folder / "__main__.py").exists() or folder.with_suffix(".py").exists()
