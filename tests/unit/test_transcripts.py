"""How pages are read, run and compared, by pages that are made for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documentation import Block, Page, read
from tests.support.transcripts import Command, Ended, Shell, commands, difference

TEXT = """\
# A page

See [this](#a-headings-code_and-signs), and a picture:

<picture><source srcset="dark.svg"><img src="light.svg"></picture>

## A heading's `code_` and: signs!

1. A step.  Put this into a file `main.tf` beside it:

   ```hcl
   a = 1
   ```

`policies.yaml`:

<!-- exit 2 -->
```console
$ one \\
    --two
printed

$ three
```

    indented

## A heading's `code_` and: signs!

| name | value |
|---|---|
| `a`, `--b B\\|C` | 1 |
| 2 | `c` |
"""


@pytest.fixture
def made() -> Page:
    return read("page.md", TEXT)


def test_page_is_read(made: Page) -> None:
    """Its headings as GitHub names them, its blocks with their places, its links, its tables."""
    assert [(one.anchor, one.line) for one in made.headings] == [
        ("a-page", 1),
        ("a-headings-code_-and-signs", 7),
        ("a-headings-code_-and-signs-1", 28),
    ]
    hcl, console = made.blocks
    assert (hcl.line, hcl.text, hcl.file) == (12, "a = 1\n", "main.tf")
    assert (console.line, console.language, console.file, console.comment) == (
        19,
        "console",
        "policies.yaml",
        "exit 2",
    )
    assert console.headings == ("A page", "A heading's code_ and: signs!")
    assert [link.target for link in made.links] == ["#a-headings-code_and-signs", "dark.svg", "light.svg"]
    assert made.indented == [26]
    assert made.names("A heading's code_ and: signs!") == ["a", "--b", "2"]
    assert "See [this]" in made.section("A page")


def test_commands_of_a_block(made: Page) -> None:
    """Each with what is printed under it; the comment is the exit code of the last."""
    assert list(commands(made.blocks[1])) == [
        Command("one \\\n    --two", ("printed", ""), "page.md:19"),
        Command("three", (), "page.md:23", 2),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one\ntwo", ["one", "two"]),
        ("# a comment\none  # another\n", ["one  # another"]),
        ("for a in b; do\n  one\ndone\ntwo", ["for a in b; do\n  one\ndone", "two"]),
        ("f() {\n  one\n}\nf", ["f() {\n  one\n}", "f"]),
        ("cat <<'EOF'\n  one\nEOF\ntwo", ["cat <<'EOF'\n  one\nEOF", "two"]),
    ],
)
def test_commands_of_a_block_without_outputs(text: str, found: list[str]) -> None:
    """A line each, or a construct of the shell."""
    assert [one.text for one in commands(Block("page.md", 1, "sh", text, ()))] == found


@pytest.mark.parametrize(
    ("expected", "out", "err"),
    [
        ("", "", ""),
        ("a\nb", "a\nb\n", ""),
        ("a  \n\nb\n", "a\n\nb\n\n", ""),
        ("a\nb\nc\nd", "a\nc\n", "b\nd\n"),
        ("a\n…", "a\nb\nc\n", ""),
        ("…\nb\n…", "a\nb\n", "c\n"),
        ("a\n…", "a\n", ""),
        ("at 2026-11-24 06:12:20 UTC", "at 2027-01-02 03:04:05 UTC", ""),
        ("in 0.1 s", "in 12.25 s", ""),
        ("7bcc50ac  2d", "b03bdf61  2d", ""),
        (f"x@sha256:{'1' * 64}", f"x@sha256:{'a' * 64}", ""),
        ("on 127.0.0.1:41949", "on 127.0.0.1:5005", ""),
        ("{", "\x1b[1;39m{\x1b[0m", ""),
    ],
)
def test_output_is_as_expected(expected: str, out: str, err: str) -> None:
    """But for what is different each time, and for where the lines of stderr come."""
    assert difference(expected.splitlines(), Ended(0, out, err)) == ""


@pytest.mark.parametrize(
    ("expected", "out", "err"),
    [
        ("", "a", ""),
        ("a", "", ""),
        ("a\nb", "b\na", ""),
        ("a\nb", "a", "a"),
        ("a", "a", "warning"),
        ("…\na", "a\nb", ""),
        ("a  b", "a b", ""),
        ("5 images", "6 images", ""),
        ("a 2d ago", "a 3d ago", ""),
        ("main-7bcc50a", "main-b03bdf6", ""),
    ],
)
def test_output_is_different(expected: str, out: str, err: str) -> None:
    """The difference has the lines of both."""
    found = difference(expected.splitlines(), Ended(0, out, err)).splitlines()

    assert all(f"- {line}" in found or f"  {line}" in found for line in expected.splitlines() if line != "…")
    assert found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    directory = tmp_path / "here"
    directory.mkdir()
    with Shell(directory, dict(os.environ), {"5005": "6006"}) as made:
        yield made


def test_shell_is_one_from_command_to_command(shell: Shell) -> None:
    """Variables and the directory stay; stdout is a terminal and stderr is not; nobody types."""
    assert shell.run(Command("export A=1; mkdir b; cd b", (), "")) == Ended(0, "", "")
    assert shell.run(Command("echo $A; basename $PWD >&2; false", (), "")) == Ended(1, "1\n", "b\n")
    assert shell.run(Command("tty -s <&1; echo $?; tty -s <&2; echo $?; cat", (), "")) == Ended(0, "0\n1\n", "")
    assert shell.run(Command("stty size <&1", (), "")).out == "200 100\n"


def test_ports_of_a_page_are_others_in_the_shell(shell: Shell) -> None:
    """And what is printed has those of the page."""
    assert shell.run(Command("echo 5005 > file; cat file", (), "")).out == "5005\n"
    assert shell.run(Command("grep -c 600[6] file", (), "")).out == "1\n"


def test_server_goes_on(shell: Shell) -> None:
    """Its first lines are its output; the shell can end it."""
    server = Command("while echo again; do sleep 0.05; done &", ("again", "again"), "")

    assert shell.run(server) == Ended(0, "again\nagain\n", "")
    assert shell.run(Command("kill %1", (), "")).code == 0
    assert shell.logs[0].read_text().startswith("again\n")
