"""Somebody who follows a page from its top to its end, in a copy of the project: saves files and runs commands.

Google is not there.  What stands in for the programs that would need it checks how they are called.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, Self

from tests.support.documentation import Block, Page, page
from tests.support.gcloud import mistake_of_gcloud
from tests.support.processes import ROOT, inherited
from tests.support.programs import absent, required
from tests.support.transcripts import LANGUAGES, Command, Shell, commands, difference

_COPIED: Final = (
    "Makefile",
    "cleaner",
    "docs",
    "main.py",
    "pyproject.toml",
    "requirements.txt",
    "terraform",
    "tests",
)
# What a program that is not run is called with; its arguments may have spaces and lines in them.
_NOTE: Final = '{{ printf "%s\\0" {name} "$@"; printf "\\036"; }} >>{calls}'
# The exit code of a shell that does not find a program.
_NOT_FOUND: Final = 127
# Its output is compared in test_demo.py, which has to run it anyway.
_RUN_ELSEWHERE: Final = "make demo"

_OWN: Final = {
    "python": f'exec {sys.executable} "$@"',
    "registry-cleaner": f'exec {sys.executable} -m cleaner "$@"',
    "functions-framework": f'exec {sys.executable} -m functions_framework "$@"',
}


class Reader:
    """A shell, the directory that it is in, and the programs that are on its path.

    ``complaints`` are what is not as a page says, each with its place.  Without ``is_active`` the page activates the
    virtual environment itself.
    """

    def __init__(
        self, home: Path, environment: Mapping[str, str], ports: Mapping[str, str], *, is_active: bool = True
    ) -> None:
        self.complaints: list[str] = []
        self.directory = home / "registry-cleaner"
        home.mkdir(exist_ok=True)
        _copy(self.directory)
        self._calls = home / "calls"
        self._calls.touch()
        others = _install(home / "bin", _stand_ins(self._calls))
        own = _install(self.directory / ".venv" / "bin", _OWN)
        # `make setup` has made it.
        (own / "activate").write_text(f"PATH={own}:$PATH\n")
        # A page that shows none means the reader's own.
        policies = next(one.text for one in page("docs/policies.md").blocks if one.language == "yaml")
        (self.directory / "policies.yaml").write_text(policies)
        path = ":".join((*((str(own),) if is_active else ()), str(others), inherited()["PATH"]))
        known = {**inherited(), **environment, "PATH": path, "PYTHONPATH": str(ROOT)}
        self.shell = Shell(self.directory, known, ports)

    def follow(self, whole: Page) -> None:
        """Save and run what a page has."""
        for block in whole.blocks:
            self.do(block)

    def do(self, block: Block, *, goes_on: bool = False) -> None:
        """Save a block as its file, and run it.  Its last command may be one that goes on."""
        if block.file:
            (self.directory / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / block.file).write_text(self.shell.here(block.text))
        if block.language not in LANGUAGES:
            return
        *others, last = commands(block)
        for command in (*others, replace(last, text=f"{last.text} &") if goes_on else last):
            self._do(command, is_compared=block.language == "console")

    def _do(self, command: Command, *, is_compared: bool) -> None:
        ended = self.shell.run(command)
        if ended.code == _NOT_FOUND:
            absent(f"{command.place}: {ended.err}")
        found = difference(command.printed, ended) if is_compared and command.text != _RUN_ELSEWHERE else ""
        if ended.code != command.code:
            found = f"exit code {ended.code}, not {command.code}\n{ended.err}"
        if found:
            self.complaints.append(f"{command.place}: {command.text}\n{found}")
        self.complaints += (f"{command.place}: {mistake}" for mistake in self._mistakes())

    def _mistakes(self) -> Iterator[str]:
        """Yield what is wrong with the calls since the last time."""
        *called, _ = self._calls.read_text().split("\x1e")
        self._calls.write_text("")
        for name, *arguments in (one.split("\0")[:-1] for one in called):
            if mistake := _CHECKS[name](arguments):
                yield f"{shlex.join((name, *arguments))}: {mistake}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shell.close()


def _copy(directory: Path) -> None:
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*", "__pycache__")
    directory.mkdir()
    for source in (ROOT / name for name in _COPIED):
        if source.is_dir():
            shutil.copytree(source, directory / source.name, ignore=ignored)
        else:
            shutil.copy(source, directory)


def _install(directory: Path, scripts: Mapping[str, str]) -> Path:
    directory.mkdir(parents=True)
    for name, text in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    return directory


def _stand_ins(calls: Path) -> dict[str, str]:
    """Return the programs that stand in for others."""
    noted = {name: _NOTE.format(name=name, calls=calls) for name in _CHECKS}
    # Of a state that is there it needs nobody to show the outputs.
    noted["terraform"] += f'\n[ ! -e terraform.tfstate ] || exec {shutil.which("terraform")} "$@"'
    # What a target does is shown by other tests; that there is one is checked by make.
    return noted | {"make": f'exec {required("make")} --dry-run PYTHON={sys.executable} PROCESSES=1 "$@" >/dev/null'}


def mistake_of_terraform(arguments: Sequence[str]) -> str:
    """Return what Terraform would not understand, empty if it would understand all."""
    name, *rest = (one for one in arguments if not one.startswith("-chdir="))
    shown = _help_of_terraform(name)
    if f"terraform [global options] {name}" not in shown:
        return f"there is no command {name}"
    # Both take the options of a plan as well.
    if name in ("apply", "destroy"):
        shown += _help_of_terraform("plan")
    options = [one.partition("=")[0] for one in rest if one.startswith("-")]
    return ", ".join(f"there is no option {one}" for one in options if not re.search(rf"^\s+{one}\b", shown, re.M))


@cache
def _help_of_terraform(name: str) -> str:
    command = [required("terraform"), name, "-help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def mistake_of_pip(arguments: Sequence[str]) -> str:
    """Return what is no extra of this project, empty if it is one."""
    return "" if list(arguments) == ["install", ".[cli]"] else "not what the project can be installed by"


_CHECKS: Final = {"gcloud": mistake_of_gcloud, "terraform": mistake_of_terraform, "pip": mistake_of_pip}
