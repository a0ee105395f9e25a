"""``make pictures``: draws the pictures of the documentation from what they show.

The page needs Chromium, and the dashboard Terraform.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.pictures.dashboard import dashboards, definition
from tests.pictures.flow import flows
from tests.pictures.page import page
from tests.pictures.terminal import shell, windows
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER: Final = ROOT / "docs" / "pictures"


def main() -> int:
    """Draw everything; the exit code is 1 if a program is missing."""
    try:
        _write(flows())
        with shell() as opened:
            _write(windows(opened))
            _write({"page.png": page(opened)})
        _write(dashboards(definition()))
    # What says so is made for tests.
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 1
    return 0


def _write(pictures: Mapping[str, str | bytes]) -> None:
    for name, picture in pictures.items():
        content = picture if isinstance(picture, bytes) else picture.encode()
        (_FOLDER / name).write_bytes(content)
        print(f"docs/pictures/{name}: {len(content) / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
