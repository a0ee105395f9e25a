"""The version that is deployed is the one that the changelog describes."""

from __future__ import annotations

import re
from pathlib import Path

from cleaner.release import VERSION

ROOT = Path(__file__).parent.parent.parent


def test_version_is_the_newest_of_the_changelog() -> None:
    """Its heading has the date of the release; changes of the next one may stand above it."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    numbered = [heading for heading in headings if heading != "Unreleased"]

    assert headings.index(numbered[0]) <= 1
    assert re.fullmatch(rf"{re.escape(VERSION)} \(\d{{4}}-\d\d-\d\d\)", numbered[0])


def test_version_is_a_label_once_its_dots_are_hyphens() -> None:
    """A label of Google's takes no dots."""
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", VERSION)
