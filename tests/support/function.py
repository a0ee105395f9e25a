"""The function as a process, as Google serves it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.processes import Server, free_port, inherited

if TYPE_CHECKING:
    from collections.abc import Mapping


class FunctionProcess(Server):
    """The function, served by functions-framework as Google does, with these settings and no others."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
        signature: str = "cloudevent",
        shows: bool = False,
    ) -> None:
        self.port = port or free_port()
        environment = inherited() | {"PYTHONUNBUFFERED": "1", **settings}
        options = ["--target", "prune", "--signature-type", signature, "--host", "127.0.0.1"]
        command = [sys.executable, "-m", "functions_framework", *options, "--port", str(self.port)]
        super().__init__("functions-framework", command, environment, shows=shows)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def records(self) -> list[dict[str, object]]:
        """The log so far.

        Raises:
            AssertionError: A line on stdout is no JSON object.
        """
        return [_record(line) for line in self.lines]

    def logged(self, message: str, **facts: object) -> list[dict[str, object]]:
        """The records with this message and these fields."""
        wanted = {"message": message, **facts}
        return [one for one in self.records if all(one.get(key) == value for key, value in wanted.items())]

    def workers(self) -> int:
        """How many processes serve requests."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return len(children.split())


def _record(line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    assert isinstance(record, dict), f"not a JSON object on a line of the log: {line!r}"
    return record
