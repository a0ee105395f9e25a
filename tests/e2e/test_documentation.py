"""Every page of the documentation, followed from its top to its end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.clients import Site
from tests.support.documentation import names_of_pages, page
from tests.support.gcloud import IS_GROUP, mistake_of_gcloud
from tests.support.reader import Reader, mistake_of_terraform
from tests.support.transcripts import LANGUAGES, free_ports

# Those whose blocks need more than what the blocks before them have started.
ELSEWHERE = ("docs/local.md", "terraform/README.md")
PAGES = [
    name
    for name in names_of_pages()
    if any(block.language in LANGUAGES for block in page(name).blocks) and name not in ELSEWHERE
]


@pytest.mark.parametrize("name", PAGES)
def test_page_does_what_it_says(cloud: Site, tmp_path: Path, name: str) -> None:
    """Each command ends as it should, and prints what stands under it."""
    text = page(name).text
    is_active = "\n. .venv/bin/activate\n" not in text
    with Reader(tmp_path, cloud.environment, free_ports(text), is_active=is_active) as reader:
        reader.follow(page(name))

    if reader.complaints:
        pytest.fail("\n\n".join(reader.complaints), pytrace=False)


def in_sentences(program: str) -> list[tuple[str, list[str]]]:
    """Return what a program is called with in code of the pages' sentences, each with its page."""
    found = ((name, re.findall(rf"`{program} ([^`\n]+)`", page(name).text)) for name in names_of_pages())
    return [(name, shlex.split(text)) for name, texts in found for text in texts]


def test_gcloud_in_a_sentence_has_such_a_command() -> None:
    """A group of commands may be named, too."""
    for name, arguments in in_sentences("gcloud"):
        assert mistake_of_gcloud(arguments) in ("", IS_GROUP), f"{name}: gcloud {shlex.join(arguments)}"


def test_terraform_in_a_sentence_has_such_a_command() -> None:
    """With each of its options."""
    for name, arguments in in_sentences("terraform"):
        assert not mistake_of_terraform(arguments), f"{name}: terraform {shlex.join(arguments)}"
