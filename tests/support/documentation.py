"""The pages of the documentation: their headings, links, tables and fenced blocks, each with its line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.processes import ROOT

_PARSER: Final = MarkdownIt("commonmark").enable("table")
_COMMENT: Final = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; ``anchor`` is what GitHub calls it in an address."""

    text: str
    level: int
    anchor: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.  ``line`` is that of its first line.

    ``headings`` are those that it is under, the page's title first; ``before`` is the paragraph before it, and
    ``comment`` what stands between the two.
    """

    page: str
    line: int
    language: str
    text: str
    headings: tuple[str, ...]
    comment: str = ""
    before: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is to be saved as, as the paragraph before it says; empty if it is none."""
        named = re.search(r"^`([^`]+)`:$| into (?:a file )?`([^`]+)`", self.before)
        return (named[1] or named[2]) if named else ""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a link or an image leads."""

    target: str
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table, as the cells of its rows in Markdown, the heading's row first."""

    heading: str
    line: int
    rows: tuple[tuple[str, ...], ...]

    def names(self) -> list[str]:
        """Return the names in the first cells."""
        return [name for row in self.rows[1:] for name in names_in(row[0])]


def names_in(cell: str) -> list[str]:
    """Return the names in a cell: code, of an option without its value; a number needs no backquotes."""
    names = re.findall(r"`([^`]+)`", cell) or [cell]
    return [name.partition(" ")[0] if name.startswith("-") else name for name in names]


@dataclass(slots=True)
class Page:
    """A page, read from top to bottom."""

    name: str
    text: str
    headings: list[Heading] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    # What would be shown as code, and is not a fenced block.
    indented: list[int] = field(default_factory=list)

    def section(self, heading: str) -> str:
        """Return the lines under a heading, as far as the next of its level or a higher one."""
        at = next((at for at, one in enumerate(self.headings) if one.text == heading), None)
        assert at is not None, f"{self.name} has no heading {heading!r}"
        first = self.headings[at]
        after = (one.line for one in self.headings[at + 1 :] if one.level <= first.level)
        lines = self.text.splitlines()
        return "\n".join(lines[first.line : next(after, len(lines) + 1) - 1])

    def names(self, heading: str) -> list[str]:
        """Return the names in the first cells of the tables under a heading."""
        found = [table for table in self.tables if table.heading == heading]
        assert found, f"{self.name} has no table under {heading!r}"
        return [name for table in found for name in table.names()]


def names_of_pages() -> list[str]:
    """Return the pages, as paths from the root."""
    globs = ("*.md", "docs/*.md", "terraform/README.md", "terraform/examples/*/README.md", "tests/cases/README.md")
    return [path.relative_to(ROOT).as_posix() for glob in globs for path in sorted(ROOT.glob(glob))]


@cache
def page(name: str) -> Page:
    """Return a page."""
    return read(name, (ROOT / name).read_text())


def read(name: str, text: str) -> Page:
    """Return the page that a text is."""
    made = Page(name, text)
    _Reader(made).read(_PARSER.parse(text))
    return made


class _Reader:
    """Reads the tokens of one page."""

    def __init__(self, made: Page) -> None:
        self._page = made
        self._anchors: Counter[str] = Counter()
        self._path: list[Heading] = []
        self._comment = ""
        self._before = ""

    def read(self, tokens: Sequence[Token]) -> None:
        for at, token in enumerate(tokens):
            line = token.map[0] + 1 if token.map else 0
            self._add_links(token, line)
            if token.type == "heading_open":
                self._add_heading(token, tokens[at + 1], line)
            elif token.type == "table_open":
                self._add_table(tokens[at:], line)
            elif token.type == "fence":
                self._add_block(token, line)
            elif token.type == "code_block":
                self._page.indented.append(line)
            if token.type == "html_block" and (comment := _COMMENT.fullmatch(token.content.strip())):
                self._comment = comment[1]
            elif token.type == "inline":
                self._before, self._comment = token.content, ""
            elif token.type == "fence":
                self._before = self._comment = ""

    def _add_heading(self, token: Token, inline: Token, line: int) -> None:
        text = _plain(inline)
        # As GitHub does: no punctuation, a hyphen for each space, and a number for those that are equal otherwise.
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = self._anchors[anchor]
        self._anchors[anchor] += 1
        made = Heading(text, int(token.tag[1:]), f"{anchor}-{count}" if count else anchor, line)
        self._page.headings.append(made)
        self._path = [one for one in self._path if one.level < made.level] + [made]

    def _add_block(self, token: Token, line: int) -> None:
        headings = tuple(one.text for one in self._path)
        language = token.info.strip()
        made = Block(self._page.name, line + 1, language, token.content, headings, self._comment, self._before)
        self._page.blocks.append(made)

    def _add_table(self, tokens: Sequence[Token], line: int) -> None:
        rows: list[list[str]] = []
        for token in tokens:
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token.content)
        heading = self._path[-1].text if self._path else ""
        self._page.tables.append(Table(heading, line, tuple(map(tuple, rows))))

    def _add_links(self, token: Token, line: int) -> None:
        found: list[str] = []
        for one in (token, *(token.children or ())):
            found += [str(one.attrs[name]) for name in ("href", "src") if one.attrs and name in one.attrs]
            if one.type in ("html_block", "html_inline"):
                found += _html_links(one.content)
        self._page.links += [Link(target, line) for target in found]


def _plain(inline: Token) -> str:
    return "".join(one.content for one in inline.children or () if one.type in ("text", "code_inline"))


def _html_links(text: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            del tag
            found.extend(value for name, value in attrs if name in ("href", "src", "srcset") and value)

    Parser().feed(text)
    return found


def blocks(*languages: str) -> Iterator[Block]:
    """Yield the blocks of all pages, in these languages if any are given."""
    for name in names_of_pages():
        yield from (one for one in page(name).blocks if not languages or one.language in languages)


def policies_of_pages() -> Iterator[Block]:
    """Yield the blocks that are policies; what is wrong on purpose is to be saved as ``bad.yaml``."""
    return (
        block for block in blocks("yaml") if block.text.startswith("- repositories:") and block.file != "bad.yaml"
    )


def exists(target: str, source: str) -> bool:
    """Whether a relative link on the page ``source`` leads to a file, or a folder, and to a heading of it."""
    file, _, anchor = target.partition("#")
    path = ((ROOT / source).parent / file).resolve() if file else ROOT / source
    if not path.exists() or not path.is_relative_to(ROOT.resolve()):
        return False
    if not anchor:
        return True
    if path.suffix != ".md":
        # GitHub shows lines of code: #L10-L20.
        return re.fullmatch(r"L\d+(-L\d+)?", anchor) is not None
    return anchor in {heading.anchor for heading in page(path.relative_to(ROOT.resolve()).as_posix()).headings}
