"""The program's names, comments, docstrings and messages use none of the words that the project has retired.

They are metaphors, or are easily misread by a reader whose first language is not English.  The standard terms of
registries, graphs and schedulers stand in their place: cycle, kept, deleted, blocked, pending, malformed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.sources import ROOT

FILES = sorted({*(ROOT / "cleaner").rglob("*.py"), ROOT / "main.py"})

# Each alternative is a retired word; a space stands for any space, also one over two lines of a comment.
RETIRED = (
    r"knots?",
    r"turnstiles?",
    r"(?:a|the|one|no|another|second|last|next|new|each|every) looks?",
    r"spar(?:e|es|ed|ing)",
    r"stripped",
    r"tells?|told|telling",
    r"stand(?:s|ing)? against|stood against",
    r"belongs? nowhere",
    r"h(?:o|e)ld(?:s|ing)? back",
    r"put(?:s|ting)? off",
    r"put(?:s|ting)? behind",
    r"hang(?:s|ing)? (?:on|upon|together)",
    r"pass(?:es|ed|ing)? over",
    r"crossed",
    r"in doubt",
    r"stays?|stayed",
    r"goes(?! on\b)",
    r"(?:makes?|made) no sense",
    # ``is None`` is code, and "there is none" is plain.
    r"(?<!there\s)(?-i:is none)",
)
PATTERN = re.compile(r"\b(?:{})\b".format("|".join(RETIRED).replace(" ", r"[\s#]+")), re.IGNORECASE)


def retired_words(text: str) -> list[tuple[int, str]]:
    """Return each retired word in a text, with its line, counted from 1; also those within names."""
    # In ``is_in_doubt`` the words are separated as well.
    spaced = text.replace("_", " ")
    found = PATTERN.finditer(spaced)
    return [(spaced.count("\n", 0, match.start()) + 1, " ".join(match[0].split())) for match in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_no_retired_words(path: Path) -> None:
    """The message has the file, the line and the word."""
    found = [f"{path.relative_to(ROOT)}:{line}: {word}" for line, word in retired_words(path.read_text())]

    assert not found, "retired words:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def _knots() -> None:", [(1, "knots")]),
        ("is_in_doubt = True", [(1, "in doubt")]),
        ("class _Turnstile:", [(1, "Turnstile")]),
        ("x = 1\n# It makes no\n# sense.", [(2, "makes no # sense")]),
        ("Whatever is spared stays.", [(1, "spared"), (1, "stays")]),
        ("A page that is none.", [(1, "is none")]),
        ("Returns None if there is none.", []),
        ("It is deleted after a look.", [(1, "a look")]),
        ("it goes first", [(1, "goes")]),
        ("if value is None: return stripes.strip()", []),
        ("It looks like a glob; the run goes on.", []),
        ("A step that waits for another one is blocked.", []),
    ],
)
def test_retired_word_is_found(text: str, found: list[tuple[int, str]]) -> None:
    """In names, and over two lines; as a whole word only."""
    assert retired_words(text) == found
