"""What the drawn pictures have in common: their colours, for a light and a dark page, and their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

Colours = Mapping[str, str | Sequence[str]]

# Those of the page that `plan --html` writes, and eight that are told apart by those who see no red or green, too.
_LIGHT: Final[Colours] = {
    "panel": "#ffffff", "line": "#d5dae1", "text": "#1c2128", "quiet": "#545d68",
    "accent": "#0a58ad", "soft": "#eaf2fc", "danger": "#a3142a", "warning": "#8a5a00",
    "series": ("#2b6cb0", "#e08a00", "#2f855a", "#b83280", "#6b46c1", "#0e7490", "#9b2c2c", "#4a5568"),
}  # fmt: skip
_DARK: Final[Colours] = {
    "panel": "#161b22", "line": "#2f3742", "text": "#e4e9ef", "quiet": "#9ea9b5",
    "accent": "#78b4ff", "soft": "#14243a", "danger": "#ff9fa4", "warning": "#e3b341",
    "series": ("#63a4f4", "#f6ad55", "#68d391", "#f687b3", "#b794f4", "#4fd1c5", "#fc8181", "#a0aec0"),
}  # fmt: skip
SCHEMES: Final = {"light": _LIGHT, "dark": _DARK}
_FONT: Final = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Liberation Sans, Arial, sans-serif"
MONOSPACE: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, Liberation Mono, monospace"

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def drawn(template: str, colours: Colours, **values: object) -> str:
    """Return the picture that a template draws in some colours."""
    return _TEMPLATES.get_template(template).render(colours=colours, font=_FONT, monospace=MONOSPACE, **values)
