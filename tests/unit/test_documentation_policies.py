"""What docs/policies.md says that is counted, kept, higher or refused, for the tags and texts that it names."""

from __future__ import annotations

import re

import pytest
import yaml

from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.version import version_key
from tests.support.builders import manifest, name_of, planned, policy
from tests.support.documentation import page

PAGE = page("docs/policies.md")
BESIDE = re.compile("`([^`]+)`(?:, [^`]+,)? beside `([^`]+)`")


def deleted_of(rule: dict[str, object], *tags: str) -> set[str]:
    """Return the tags that one rule deletes, of images that were uploaded a day after another in their order."""
    images = [manifest(tag, 30 - at, tag) for at, tag in enumerate(tags)]
    return {name_of(one.manifest.digest) for one in planned(images, policy(tagged=[rule])).delete}


def said(beginning: str) -> str:
    """Return the one line of the page that begins so."""
    (line,) = (line for line in PAGE.text.splitlines() if line.startswith(beginning))
    return line


def test_patterns_that_capture_the_same_share_a_pool() -> None:
    """Only the newer of the two is kept."""
    (rule,) = (block.text for block in PAGE.blocks if block.headings[-1] == "Several patterns")
    older, newer, captured = re.findall("`([^`]+)`", said("Here `pr-"))

    assert deleted_of(yaml.safe_load(rule)[0], older, newer) == {older}
    assert captured in older
    assert captured in newer


@pytest.mark.parametrize(("order", "deletes_running"), [("uploaded", True), ("version", False)])
def test_tag_that_is_set_later_does_not_make_an_image_newer(order: str, deletes_running: bool) -> None:
    """A rollback's image is the oldest, and kept by the highest date."""
    match, keep = re.findall("`(?:match|keep): ([^`]+)`", said("With `match: 'prod-"))
    (running,) = re.findall("the tag `([^`]+)`", said("With `match: 'prod-"))
    rule = {"match": yaml.safe_load(match), "keep": int(keep), "order": order}

    assert (running in deleted_of(rule, running, "prod-20260411", "prod-20260429")) == deletes_running


def test_versions_in_their_order() -> None:
    """The page has a chain of them."""
    chain = re.findall("`([^`]+)`", said("So a release candidate").partition(": ")[2])

    assert len(chain) == 4
    assert sorted(chain, key=version_key) == chain


def test_versions_in_the_wrong_order() -> None:
    """Those for which the page says which is higher."""
    (table,) = (table for table in PAGE.tables if table.heading == "Versions")
    compared = [(found, row[1]) for row in table.rows if (found := BESIDE.match(row[0]))]

    assert len(compared) == 3
    for found, order in compared:
        (first,) = re.findall("`([^`]+)` is (?:higher|lower)", order)
        (second,) = {found[1], found[2]} - {first}
        assert (version_key(first) > version_key(second)) == order.endswith("higher"), order


def test_release_of_an_older_line_is_deleted() -> None:
    """Unless each line has a pool of its own."""
    keep, late, *newer = re.findall("`(?:keep: )?([^`]+)`", said("With `keep: 3`, `v1.8.1`").replace("`min_age`", ""))
    (lines,) = re.findall("a pool, `([^`]+)`", said("Give each minor version a pool"))
    rule = {"match": "v.*", "keep": int(keep), "order": "version"}

    assert deleted_of(rule, *newer, late) == {late}
    assert deleted_of(rule | {"match": lines}, *newer, late) == set()


@pytest.mark.parametrize(
    "regex", re.findall("`([^`]+)`", said("- a regex that looks like a glob").rpartition(" like ")[2])
)
def test_globs_are_refused_as_regexes(regex: str) -> None:
    """Those that the page names."""
    with pytest.raises(InvalidPolicy, match="looks like a glob"):
        policy(tagged=[{"match": regex, "keep": 1}])


@pytest.mark.parametrize("regex", re.findall("`([^`]+)`", said("- a rule after one that evidently")))
def test_rule_that_is_never_reached_is_refused(regex: str) -> None:
    """After each regex that the page names."""
    with pytest.raises(InvalidPolicy, match="every tag"):
        policy(tagged=[{"match": regex, "keep": 1}, {"match": "v.*", "keep": 1}])


def test_name_of_a_gcr_repository_is_refused() -> None:
    """With the one that is to be written."""
    wrong, right = re.findall("`([^`.]+\\.[^`]+/[^`]+)`", said("- a glob for the Artifact Registry name"))

    with pytest.raises(InvalidPolicy, match=re.escape(right)):
        policies_from_document([{"repositories": [wrong]}])
