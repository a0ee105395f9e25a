"""What is said beside a plan: rules that match nothing, and what to do next."""

from __future__ import annotations

from typing import Any

import pytest

from cleaner.core.manifest import Manifest
from cleaner.views.hints import hints
from cleaner.views.images import Planned
from tests.support.builders import NOW, cosign, listing, manifest, planned, policy

TAGS = ("v1.4.2", "v1.4.1", "main-3f2a1bc", "main-81fe2d0", "release-2")
HELD = tuple(manifest(tag, 9, tag) for tag in TAGS)


def said(*rules: dict[str, Any], held: tuple[Manifest, ...] = HELD, where: str = "p.yaml[0]") -> list[str]:
    return hints([made(*rules, held=held, where=where)])


def made(*rules: dict[str, Any], held: tuple[Manifest, ...] = HELD, where: str = "p.yaml[0]") -> Planned:
    by = policy(tagged=list(rules))
    return Planned(planned(held, by), listing(*held), by, where, NOW)


@pytest.mark.parametrize(
    ("regex", "reading"),
    [
        ("v1", r"; 'v1[-.].*' would match 2"),
        ("main", "; 'main[-.].*' would match 2"),
        ("v1|v2", "; '(?:v1|v2)[-.].*' would match 2"),
        ("rel", "; 'rel.*' would match 1"),
        ("2", "; '.*2' would match 2"),
        (r"-3f", "; '.*-3f.*' would match 1"),
        ("MAIN-.*", "; '(?i)MAIN-.*' would match 2"),
        ("nightly", ": a regex is matched against the whole tag"),
    ],
)
def test_rule_that_matches_no_tag(regex: str, reading: str) -> None:
    """It is named, with the nearest regex that would match some."""
    kept = {"match": "main-.*|v.*|release-.*", "keep": 9}

    assert said({"match": regex, "keep": "all"}, kept) == [
        f"warning: p.yaml[0]: tagged[0] ({regex}) matches none of the 5 tags{reading}"
    ]


def test_rule_that_is_never_reached() -> None:
    """Earlier rules match all of its tags."""
    assert said({"match": "[a-z].*", "keep": 1}, {"match": "v.*", "keep": "all"}) == [
        "warning: p.yaml[0]: tagged[1] (v.*) decides for no tag: earlier rules match all of its tags"
    ]


def test_no_rule_for_any_image() -> None:
    """Nothing is deleted, and what to do next is said."""
    assert said() == [
        (
            "hint: all 5 tagged images are kept, since no rule matches a tag:"
            " add a rule under tagged, or try --match REGEX --keep N"
        )
    ]


def test_nothing_to_say() -> None:
    """Every rule decides for a tag; or there is no tag, or only one of a signature."""
    assert said({"match": ".*", "keep": 1}) == []
    assert said({"match": "v1", "keep": 1}, held=(manifest("a", 9),)) == []
    assert said({"match": "v1", "keep": 1}, held=(manifest("a", 9), manifest("s", 9, cosign("a")))) == []
    assert said({"match": "v1", "keep": 1}, held=()) == []


def test_rule_of_several_repositories() -> None:
    """It is warned of if it matches no tag in any of them, once."""
    rules = ({"match": "v.*", "keep": 1}, {"match": "x-.*", "keep": 1}, {"match": ".*", "keep": 1})
    one = made(*rules, held=HELD[:2])
    other = made(*rules, held=HELD[2:])

    assert hints([one, other]) == [
        "warning: p.yaml[0]: tagged[1] (x-.*) matches none of the 5 tags: a regex is matched against the whole tag"
    ]
