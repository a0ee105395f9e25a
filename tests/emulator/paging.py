"""What a request to one of Google's REST APIs asks for: one page, some fields, a filter."""

from __future__ import annotations

import base64
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from tests.emulator.store import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Page sizes beyond it are cut down to it, as Google's APIs do.
PAGE_MAX: Final = 1000
PAGE_DEFAULT: Final = 100


class Query:
    """The parameters of a request."""

    def __init__(self, asked: Mapping[str, Sequence[str]]) -> None:
        self._asked = asked

    def one(self, name: str, default: str = "") -> str:
        return self._asked.get(name, [default])[0]

    def all(self, name: str) -> Sequence[str]:
        return self._asked.get(name, [])

    @property
    def is_full(self) -> bool:
        """``view``, by name or by number as Google's own client sends it, is FULL."""
        return self.one("view") in ("FULL", "2")

    @property
    def page_size(self) -> int:
        text = self.one("pageSize", "0")
        if not text.isdecimal():
            raise Refusal(400, "INVALID_ARGUMENT", "invalid pageSize")
        return min(int(text) or PAGE_DEFAULT, PAGE_MAX)

    def page(self, items: Sequence[str]) -> tuple[Sequence[str], dict[str, str]]:
        """One page of sorted items, and the token of the next.

        The token is the last item shown, so that what is deleted between two pages moves nothing.
        """
        size, token = self.page_size, self.one("pageToken")
        try:
            start = bisect_right(items, base64.urlsafe_b64decode(token).decode()) if token else 0
        except ValueError as error:
            raise Refusal(400, "INVALID_ARGUMENT", "invalid pageToken") from error
        page = items[start : start + size]
        if start + size >= len(items):
            return page, {}
        return page, {"nextPageToken": base64.urlsafe_b64encode(page[-1].encode()).decode()}
