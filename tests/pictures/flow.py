"""The picture of what happens on a push."""

from __future__ import annotations

from tests.pictures.look import SCHEMES, drawn


def flows() -> dict[str, str]:
    """Return the pictures of the way from a push to the deletions, by the names of their files."""
    return {f"flow-{scheme}.svg": drawn("flow.svg", colours) for scheme, colours in SCHEMES.items()}
