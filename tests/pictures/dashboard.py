"""The picture of the dashboard, drawn from Terraform's definition of it, with emulated data."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.pictures.day import BUCKETS, Line, lines, series
from tests.pictures.look import SCHEMES, Colours, drawn
from tests.support.terraform import MINIMAL, copy_module, initialise, make_plan, of_type

_WIDTH: Final = 960
_HEAD: Final = 46
# The height of a row of the mosaic.
_ROW: Final = 12.5
# Between two cards, and from the frame of a card to what is in it.
_GAP: Final = 12
_INSET: Final = 14
_LINE: Final = 16
_LOG_LINE: Final = 20
_AXIS: Final = 46
_TITLE_CHARS: Final = 58
# Between two bars.
_BETWEEN: Final = 1.6
_MARKS: Final = 2
_STEPS: Final = (1, 2, 2.5, 5, 10)
_UNITS: Final = {"run_seconds": "s", "oldest_unacked_message_age": "s", "utilizations": "%"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A value of the axis, or a threshold: where it is, and what stands there."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One series: its path, filled if it consists of bars, and its name in the legend."""

    path: str
    is_bars: bool
    name: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The area of a chart within its card."""

    top: float
    width: float
    height: float
    marks: Sequence[Mark]
    thresholds: Sequence[Mark]
    shapes: Sequence[Shape]


@dataclass(frozen=True, slots=True)
class Card:
    """One widget; those that are not charts have no ``plot``."""

    x: float
    y: float
    width: float
    height: float
    title: Sequence[str]
    plot: Plot | None
    lines: Sequence[Line]


def definition() -> str:
    """Return the dashboard as JSON, as Terraform plans it with as few variables as there may be."""
    with TemporaryDirectory(prefix="pictures-") as directory:
        home = copy_module(Path(directory))
        initialise(home)
        (planned,) = of_type(make_plan(home, MINIMAL, "pictures"), "google_monitoring_dashboard")
        text: str = planned["dashboard_json"]
        return text


def dashboards(defined: str) -> dict[str, str]:
    """Return the pictures of the dashboard that some JSON defines, by the names of their files."""
    return {f"dashboard-{scheme}.svg": _dashboard(defined, colours) for scheme, colours in SCHEMES.items()}


def _dashboard(defined: str, colours: Colours) -> str:
    document = json.loads(defined)
    layout = document["mosaicLayout"]
    cards = [_card(tile, _WIDTH / layout["columns"]) for tile in layout["tiles"]]
    height = max(card.y + card.height for card in cards) + _GAP / 2
    return drawn(
        "dashboard.svg", colours, title=document["displayName"], cards=cards, width=_WIDTH, height=f"{height:g}"
    )


def _card(tile: Mapping[str, Any], column: float) -> Card:
    widget = tile["widget"]
    x, y = tile.get("xPos", 0) * column + _GAP / 2, tile.get("yPos", 0) * _ROW + _HEAD
    width, height = tile["width"] * column - _GAP, tile["height"] * _ROW - _GAP
    title = textwrap.wrap(widget["title"], _TITLE_CHARS if width < _WIDTH / 2 else 2 * _TITLE_CHARS)
    top = _INSET + _LINE * len(title) + 8
    shown = int((height - top - _INSET) // _LOG_LINE) if "logsPanel" in widget else 0
    plot = _plot(widget["xyChart"], top, width, height) if "xyChart" in widget else None
    return Card(x, y, width, height, title, plot, lines()[:shown])


def _plot(chart: Mapping[str, Any], top: float, width: float, height: float) -> Plot:
    """Return the plot of a chart; its scale begins at 0, and bars are stacked."""
    found = [(one["plotType"] == "STACKED_BAR", *named) for one in chart["dataSets"] for named in _series(one)]
    unit = _unit(chart["dataSets"][0])
    thresholds = chart.get("thresholds", ())
    stacked = [sum(values) for values in zip(*(values for is_bar, _, values in found if is_bar), strict=True)]
    lined = [value for is_bar, _, values in found if not is_bar for value in values if not math.isnan(value)]
    step = _step(max([0, *stacked, *lined, *(one["value"] for one in thresholds)]), unit)
    across = width - 2 * _INSET - _AXIS
    down = height - top - _INSET - _LINE * (len(found) + 1)
    scale = down / (step * _MARKS)
    shapes, below = [], [0.0] * BUCKETS
    for is_bar, name, values in found:
        if is_bar:
            path = _bars(values, below, across, down, scale)
            below = [low + value for low, value in zip(below, values, strict=True)]
        else:
            path = _curve(values, across, down, scale)
        shapes.append(Shape(path, is_bar, name))
    return Plot(
        top,
        across,
        down,
        [Mark(down - at * step * scale, _spelled(at * step, step * _MARKS, unit)) for at in range(_MARKS + 1)],
        [Mark(down - one["value"] * scale, one.get("label", "")) for one in thresholds],
        shapes,
    )


def _series(data_set: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Return the series of a data set by their names, which are of its legend."""
    query = data_set["timeSeriesQuery"]
    reducer = query.get("timeSeriesFilter", {}).get("aggregation", {}).get("crossSeriesReducer", "")
    percentile = int(reducer.removeprefix("REDUCE_PERCENTILE_")) if "PERCENTILE" in reducer else 0
    names = re.findall(r'"([^"]+)"', "".join(re.findall(r"one_of\((.*?)\)", _text(query))))
    found = []
    for labels, values in series(_metric(query), percentile, names):
        legend: str = data_set["legendTemplate"]
        for label in labels:
            legend = re.sub(r"\$\{.*?\}", label, legend, count=1)
        found.append((re.sub(r"\$\{(.*?)\}", r"\1", legend), values))
    return found


def _text(query: Mapping[str, Any]) -> str:
    text: str = query["timeSeriesFilter"]["filter"] if "timeSeriesFilter" in query else query["prometheusQuery"]
    return text


def _metric(query: Mapping[str, Any]) -> str:
    """Return the last part of a metric's name."""
    filtered = re.search(r'metric\.type="[^"]*/(\w+)"', _text(query))
    queried = re.search(r":user_registry_cleaner_(\w+?)(?:_sum)?\{", _text(query))
    found = filtered or queried
    return found[1] if found else _text(query)


def _unit(data_set: Mapping[str, Any]) -> str:
    query = data_set["timeSeriesQuery"]
    unit: str = query.get("unitOverride") or _UNITS.get(_metric(query), "1")
    return unit


def _step(most: float, unit: str) -> float:
    """Return the distance of two marks, so that the last one is not below ``most``; whole for what is counted."""
    least = max(most / _MARKS, 1 if unit == "1" else 0.01)
    return next(
        step * 10.0**power
        for power in count(math.floor(math.log10(least)))
        for step in _STEPS
        if step * 10.0**power >= least * 0.999 and (unit != "1" or (step * 10.0**power).is_integer())
    )


def _spelled(value: float, top: float, unit: str) -> str:
    match unit:
        case _ if not value:
            return "0"
        case "By":
            power, name = next((power, name) for power, name in ((9, "GB"), (6, "MB"), (0, "B")) if top >= 10**power)
            return f"{value / 10**power:g} {name}"
        case "%":
            return f"{100 * value:g}%"
        case "s":
            return f"{value:g} s"
        case _:
            return f"{value:,g}"


def _bars(values: Sequence[float], below: Sequence[float], width: float, height: float, scale: float) -> str:
    path, pitch = "", width / BUCKETS
    for at, (value, low) in enumerate(zip(values, below, strict=True)):
        if value:
            x, y, up = at * pitch + _BETWEEN / 2, height - low * scale, value * scale
            path += f"M{x:.1f} {y:.1f}v{-up:.1f}h{pitch - _BETWEEN:.1f}v{up:.1f}z"
    return path


def _curve(values: Sequence[float], width: float, height: float, scale: float) -> str:
    """Return a line, with a gap where there is no value."""
    path, pen = "", "M"
    for at, value in enumerate(values):
        if math.isnan(value):
            pen = "M"
        else:
            path += f"{pen}{(at + 0.5) * width / BUCKETS:.1f} {height - value * scale:.1f}"
            pen = "L"
    return path
