"""The commands and flags of gcloud, by the table from which it completes them in a shell."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support.programs import absent, required

IS_GROUP: Final = "it is a group of commands"


@cache
def _table() -> dict[str, Any]:
    program = Path(required("gcloud")).resolve()
    file = program.parent.parent / "data" / "cli" / "gcloud_completions.py"
    if not file.exists():
        absent(f"gcloud has no table of its commands, {file}")
    found: dict[str, Any] = runpy.run_path(str(file))["STATIC_COMPLETION_CLI_TREE"]
    return found


def mistake_of_gcloud(arguments: Sequence[str]) -> str:
    """Return what gcloud would not understand, empty if it would understand all."""
    at = _table()
    flags: dict[str, Any] = dict(at["flags"])
    rest = list(arguments)
    while rest and rest[0] in at["commands"]:
        at = at["commands"][rest.pop(0)]
        flags |= at["flags"]
    if at["commands"]:
        return f"there is no command {rest[0]}" if rest else IS_GROUP
    for flag in (one.partition("=")[0] for one in rest if one.startswith("-")):
        known = flags.get(flag) or flags.get(flag.replace("--no-", "--", 1))
        if known is None:
            return f"there is no flag {flag}"
    return ""
