"""An HTML page as its elements, strict about tags that are not closed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})


class Element:
    """An element with its attributes and what is in it."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.content: list[Element | str] = []

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return a root without a name that has the elements of ``text``; fails where tags do not match."""
        root = cls("", {})
        parser = _Parser(root)
        parser.feed(text)
        parser.close()
        assert parser.open == [root], f"not closed: {[one.name for one in parser.open[1:]]}"
        return root

    @property
    def text(self) -> str:
        """The text without markup, each run of white space as one space."""
        return " ".join("".join(self._texts()).split())

    def all(self, name: str = "", **attributes: str) -> list[Element]:
        """Return what is in it at any depth, with this name and these attributes, in the order of the page."""
        return [
            one
            for one in self._below()
            if (not name or one.name == name) and attributes.items() <= one.attributes.items()
        ]

    def one(self, name: str = "", **attributes: str) -> Element:
        (found,) = self.all(name, **attributes)
        return found

    def cells(self) -> list[str]:
        """Return the texts of a row's cells."""
        return [one.text for one in self.content if isinstance(one, Element)]

    def _below(self) -> Iterator[Element]:
        for one in self.content:
            if isinstance(one, Element):
                yield one
                yield from one._below()

    def _texts(self) -> Iterator[str]:
        for one in self.content:
            if isinstance(one, Element):
                yield from one._texts()
            else:
                yield one


class _Parser(HTMLParser):
    def __init__(self, root: Element) -> None:
        super().__init__()
        self.open = [root]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        assert closed.name == tag, f"<{closed.name}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)
