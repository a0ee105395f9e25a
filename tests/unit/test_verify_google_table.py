"""The questions to Google's registry, and the table of their answers, without a registry."""

from __future__ import annotations

import pytest

from tests.verify_google.question import Answer, Question
from tests.verify_google.table import fill, table
from tests.verify_google.visit import QUESTIONS


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_question_names_a_line_of_the_documentation(question: Question) -> None:
    """Whoever changes that line finds the question here, and names the new line."""
    file, _, line = str(question.place).partition(":")

    assert file == question.place.file
    assert line.isdecimal(), f"{file} has no line with {question.place.phrase!r}"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("both are kept", ["both are kept"]),
        ("the first upload time", ["the first upload", "time"]),
        ("400 GOOGLE_MANIFEST_DANGLING_TAG", ["400", "GOOGLE_MANIFEST_", "DANGLING_TAG"]),
        ("terraform/README.md:247", ["terraform/", "README.md:247"]),
        ("vnd.oci.image.index.v1+json", ["vnd.oci.image.", "index.v1+json"]),
        ("x" * 20, ["x" * 16, "x" * 4]),
        ("a " + "x" * 20 + " b", ["a", "x" * 16, "xxxx b"]),
    ],
)
def test_text_is_cut_where_it_can_be_read(text: str, lines: list[str]) -> None:
    """At spaces, else behind a mark, else anywhere."""
    assert fill(text, 16) == lines


@pytest.mark.parametrize(("width", "used"), [(40, 80), (80, 80), (120, 120), (400, 180)])
def test_table_takes_the_width_that_there_is(width: int, used: int) -> None:
    """From 80 columns on, up to what is still read at a glance."""
    answers = [Answer(QUESTIONS[0], "401 " + "UNAUTHORIZED " * 50, "different")]

    lines = list(table(answers, width))

    assert used - 5 <= max(map(len, lines)) <= used
    assert lines[0].split() == ["question", "expected", "seen", "result", "documentation"]
    assert "different" in lines[2]
