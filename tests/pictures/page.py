"""The picture of the page that ``plan --html`` writes, taken by a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.pictures.registry import PROJECT
from tests.pictures.terminal import BY
from tests.support.chromium import Chromium

if TYPE_CHECKING:
    from tests.pictures.terminal import Shell

WIDTH: Final = 1280
HEIGHT: Final = 1192
# The same command draws the same picture, whenever it is run.
_DATE: Final = "document.querySelector('header time').textContent = '2026-01-05 09:00:00 UTC'"
_UNFOLD: Final = "document.querySelector('details').open = true"


def page(shell: Shell) -> bytes:
    """Return the top of the page of the whole project, with its first images, as PNG."""
    file = shell.site.home / "plan.html"
    file.write_text(shell.run("plan", PROJECT, *BY, "--html", "-"))
    with Chromium() as browser:
        browser.resize(WIDTH, HEIGHT)
        browser.call("Emulation.setScrollbarsHidden", hidden=True)
        browser.prefer("light")
        browser.open(file)
        browser.evaluate(_DATE)
        browser.evaluate(_UNFOLD)
        return browser.screenshot()
