"""The page of a dry run in a browser: from a file, without network, with scripts and without."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import cosign, digest, manifest
from tests.support.chromium import Chromium
from tests.support.pages import branch, failed, made, reported

HOSTILE = "</script><script>window.broken=1</script><img/src=//example.com/x/onerror=window.broken=1>"
LONG = "x" * 128
# 38 images of the first repository, 3 of the second, 1 of the third.
REPOSITORIES = (
    reported([*branch(36), manifest("stray", 8, cosign("gone")), manifest("long", 2, LONG)], "gcr.io/acme/api"),
    reported([manifest("hostile", 1, HOSTILE), *branch(2, "dev")], "gcr.io/acme/web"),
    reported([manifest("release", 9, "v1.0")], f"gcr.io/acme/{'deep/' * 20}name"),
    reported((), "gcr.io/acme/empty"),
    failed(f"403: {HOSTILE} {LONG}"),
)
IMAGES = 42
SHOWN = "[...document.querySelectorAll('.images tbody tr')].filter((row) => row.checkVisibility())"
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA
CONTRASTS = """
(() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [x, y, z] = colour.slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (one) => {
    const colour = parse(getComputedStyle(one).backgroundColor);
    return colour.length === 3 || colour[3] === 1 ? colour : ground(one.parentElement);
  };
  const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const found = {};
  for (const one of document.body.querySelectorAll("*")) {
    if (!hasText(one) || !one.checkVisibility() || one.localName === "script") continue;
    const [low, high] = [luminance(parse(getComputedStyle(one).color)), luminance(ground(one))].sort((a, b) => a - b);
    const name = `${one.localName}.${one.className}`;
    found[name] = Math.min(found[name] ?? 21, (high + 0.05) / (low + 0.05));
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "plan.html"
    path.write_text(made(*REPOSITORIES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def started() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def browser(started: Chromium) -> Chromium:
    """The browser as it is for each test: wide, light, with scripts."""
    started.resize(1600)
    started.prefer("light")
    started.allow_scripts(allowed=True)
    return started


def unfold(browser: Chromium) -> None:
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")


def shown(browser: Chromium) -> list[str]:
    """Return the first cell of each row that can be seen."""
    found: list[str] = browser.evaluate(f"{SHOWN}.map((row) => row.cells[0].innerText)")
    return found


def visible_repositories(browser: Chromium) -> list[str]:
    found: list[str] = browser.evaluate(
        "[...document.querySelectorAll('article')].filter((one) => one.checkVisibility())"
        ".map((one) => one.querySelector('h3').textContent)"
    )
    return found


def count_text(browser: Chromium) -> str:
    return str(browser.evaluate("document.querySelector('#shown').value"))


def search(browser: Chromium, text: str) -> None:
    browser.evaluate("document.querySelector('#text').focus(); document.querySelector('#text').select()")
    browser.type(text)


@pytest.mark.parametrize("allowed", [True, False], ids=["scripts", "no scripts"])
def test_everything_is_there_and_nothing_is_loaded(browser: Chromium, page: Path, allowed: bool) -> None:
    """With scripts and without; the console is empty, and no text of a registry has become a script."""
    browser.allow_scripts(allowed=allowed)

    browser.open(page)

    assert browser.requested == [page.as_uri()]
    assert browser.complaints == []
    assert browser.evaluate("window.broken") is None
    assert browser.evaluate("document.querySelector('#filter').checkVisibility()") is allowed
    unfold(browser)
    assert len(shown(browser)) == IMAGES
    assert HOSTILE in shown(browser)
    assert len(browser.evaluate("[...document.querySelectorAll('.overview tbody tr')].map((one) => 1)")) == 5
    assert HOSTILE in browser.evaluate("document.querySelector('#failed').innerText")


def test_what_got_into_the_page_would_not_run(browser: Chromium, page: Path, tmp_path: Path) -> None:
    """The page's own policy allows its own script and style and nothing else."""
    other = tmp_path / "other.html"
    more = "<script>window.broken=1</script><img src='http://example.com/x' onerror='window.broken=1'>"
    other.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{more}"), encoding="utf-8")

    browser.open(other)

    assert browser.evaluate("window.broken") is None
    assert count_text(browser) == f"{IMAGES} of {IMAGES} shown"
    assert len(browser.complaints) >= 2
    assert all("Content Security Policy" in one for one in browser.complaints)


def test_filter_by_plan_with_the_keyboard(browser: Chromium, page: Path) -> None:
    """Arrow keys choose; what has no match is hidden with its heading."""
    browser.open(page)
    unfold(browser)
    browser.evaluate("document.querySelector('[name=plan]').focus()")

    browser.press("ArrowRight", 39)

    deleted = shown(browser)
    assert set(browser.evaluate(f"{SHOWN}.map((row) => row.className)")) == {"delete"}
    assert visible_repositories(browser) == ["gcr.io/acme/api"]
    assert count_text(browser) == f"{len(deleted)} of {IMAGES} shown"

    browser.press("ArrowRight", 39)

    assert set(browser.evaluate(f"{SHOWN}.map((row) => row.className)")) == {"keep"}
    assert len(deleted) + len(shown(browser)) == IMAGES

    browser.press("ArrowRight", 39)

    assert len(shown(browser)) == IMAGES
    assert "gcr.io/acme/empty" in visible_repositories(browser)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MAIN-00007", {"main-00007"}),
        (digest("main-00003")[20:40], {"main-00003"}),
        (cosign("gone")[40:70], {"signature without a subject " + cosign("gone")[:19] + "...sig"}),
        ("protected tagged[0]", {"v1.0"}),
        ("nothing like it", set()),
    ],
)
def test_search(browser: Chromium, page: Path, text: str, expected: set[str]) -> None:
    """All words, in any cell or what it cuts; folded repositories are opened for it, and closed again."""
    browser.open(page)
    folded = browser.evaluate("document.querySelectorAll('details:not([open])').length")
    assert folded == 1

    search(browser, text)

    assert set(shown(browser)) == expected
    assert count_text(browser) == f"{len(expected)} of {IMAGES} shown"
    assert browser.evaluate("document.querySelector('#none').checkVisibility()") is (not expected)

    search(browser, " ")

    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == folded
    assert count_text(browser) == f"{IMAGES} of {IMAGES} shown"


def test_keyboard_without_scripts(browser: Chromium, page: Path) -> None:
    """The first stop skips to the images; Enter opens what is folded."""
    browser.allow_scripts(allowed=False)
    browser.open(page)

    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the images"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter", 13, "\r")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.localName") == "summary"
    before = len(shown(browser))
    browser.press("Enter", 13, "\r")

    assert len(shown(browser)) == IMAGES > before


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_look(browser: Chromium, page: Path, tmp_path: Path, scheme: str, width: int) -> None:
    """Nothing is cut or too pale to read."""
    browser.resize(width)
    browser.prefer(scheme)
    browser.open(page)
    unfold(browser)

    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = browser.evaluate(
        "[...document.querySelectorAll('body *')].filter((one) => one.checkVisibility()"
        " && getComputedStyle(one).position !== 'absolute' && one.getBoundingClientRect().right > innerWidth)"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert wide == []
    # Labels of narrow screens are for numbers.
    assert browser.evaluate("getComputedStyle(document.querySelector('#failed td'), '::after').content") == "none"
    contrasts: dict[str, Any] = browser.evaluate(CONTRASTS)
    assert len(contrasts) > 15
    assert {name: value for name, value in contrasts.items() if value < LEAST_CONTRAST} == {}
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground.strip("rgb()").split(",")[0]) > 127) is (scheme == "light")
    (tmp_path / f"{scheme}-{width}.png").write_bytes(picture := browser.screenshot())
    assert struct.unpack(">II", picture[16:24]) == (width, 900)


def test_print(browser: Chromium, page: Path) -> None:
    """What is folded is printed without scripts too, dark on white; what cannot be used on paper is not."""
    browser.allow_scripts(allowed=False)
    browser.prefer("dark", "print")
    browser.open(page)

    assert len(shown(browser)) == IMAGES
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("document.querySelector('.skip').checkVisibility()") is False
    assert browser.pdf().startswith(b"%PDF-")


def test_two_thousand_images_are_filtered_at_once(browser: Chromium, tmp_path: Path) -> None:
    """A key press must not be noticed."""
    path = tmp_path / "large.html"
    path.write_text(made(reported(branch(2000))), encoding="utf-8")
    browser.open(path)

    took_ms = browser.evaluate(
        "(() => { const text = document.querySelector('#text'), begin = performance.now();"
        " text.value = 'main-0199'; text.dispatchEvent(new Event('input', {bubbles: true}));"
        # The browser lays the page out anew before it can tell its height.
        " return document.body.offsetHeight && performance.now() - begin })()"
    )

    assert len(shown(browser)) == 10
    assert took_ms < 500
