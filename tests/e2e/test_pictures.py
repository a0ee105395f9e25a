"""The pictures of the documentation: they are what is drawn now, and load nothing else.

Those of the dashboard are compared in ``terraform/test_terraform_observability.py``, which has its definition.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.pictures.dashboard import dashboards
from tests.pictures.flow import flows
from tests.pictures.page import HEIGHT, WIDTH
from tests.pictures.terminal import shell, windows
from tests.support.processes import ROOT

FOLDER = ROOT / "docs" / "pictures"
DRAWN = sorted(FOLDER.glob("*.svg"))
MOST_BYTES = 200_000
SVG = "{http://www.w3.org/2000/svg}"
HARMLESS = {"svg", "title", "style", "defs", "clipPath", "marker", "g", "circle", "path", "rect", "text"}


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own


def test_no_picture_is_missing() -> None:
    """Nor is there one that nothing draws."""
    schemes = [f"{name}-{scheme}.svg" for name in ("flow", "dashboard") for scheme in ("light", "dark")]

    assert {file.name for file in FOLDER.iterdir()} == {*schemes, "plan.svg", "overview.svg", "page.png"}


def test_flow_is_what_is_drawn() -> None:
    """A change of the template needs ``make pictures``."""
    for name, drawn in flows().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == drawn, f"{name} is stale: make pictures"


def test_terminal_is_what_the_command_line_shows() -> None:
    """A change of what a plan looks like needs ``make pictures``."""
    with shell() as opened:
        for name, drawn in windows(opened).items():
            assert (FOLDER / name).read_text(encoding="utf-8") == drawn, f"{name} is stale: make pictures"


def test_page_has_the_size_of_the_window() -> None:
    """Browsers differ in how they draw, so the picture itself is not compared."""
    picture = (FOLDER / "page.png").read_bytes()

    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (WIDTH, HEIGHT)
    assert len(picture) < MOST_BYTES


@pytest.mark.parametrize("file", DRAWN, ids=lambda file: file.name)
def test_drawn_picture_stands_alone(file: Path) -> None:
    """GitHub shows it as an image: no script runs, and nothing is loaded."""
    text = file.read_text(encoding="utf-8")
    root = parsed(text)

    assert root.tag == f"{SVG}svg"
    assert len(text.encode()) < MOST_BYTES
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= HARMLESS
    assert not [name for one in root.iter() for name in one.attrib if name.startswith("on") or "href" in name]
    assert re.findall(r"\w+://[^\s\"']*|@import|@font-face", text) == ["http://www.w3.org/2000/svg"]
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))


def test_dashboard_shows_what_its_definition_has() -> None:
    """A widget that is added is drawn where it is: a metric that is not known, a threshold, and no chart at all."""
    chart = {
        "dataSets": [
            {
                "plotType": "LINE",
                "legendTemplate": "zone ${resource.labels.zone}",
                "timeSeriesQuery": {"prometheusQuery": "sum by (zone) (new_metric)"},
            }
        ],
        "thresholds": [{"value": 3, "label": "too much"}],
    }
    tiles = [
        {"width": 24, "height": 16, "widget": {"title": "A new metric", "xyChart": chart}},
        {"xPos": 24, "width": 24, "height": 16, "widget": {"title": "A text", "text": {"content": "?"}}},
    ]
    defined = {"displayName": "new dashboard", "mosaicLayout": {"columns": 48, "tiles": tiles}}

    for drawn in dashboards(json.dumps(defined)).values():
        root = parsed(drawn)
        texts = {one.text for one in root.iter(f"{SVG}text")}
        assert {"new dashboard", "A new metric", "A text", "zone resource.labels.zone", "too much"} <= texts
        cards = [one.attrib["transform"] for one in root.findall(f"{SVG}g")]
        assert cards == ["translate(6.0 46.0)", "translate(486.0 46.0)"]
