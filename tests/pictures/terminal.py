"""Pictures of a terminal: the command line, run as a program against a registry that it takes for Google's."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.emulator import Emulator
from tests.emulator.tls import make_tls
from tests.pictures.look import MONOSPACE
from tests.pictures.registry import API, POLICIES, PROJECT, fill
from tests.support.clients import Site
from tests.support.processes import ROOT, inherited

if TYPE_CHECKING:
    from collections.abc import Iterator

BY: Final = ("-p", "policies.yaml")
_TARGETS: Final = {"plan": API, "overview": PROJECT}
_COLUMNS: Final = 100
_MARGIN: Final = 2
_HOSTS: Final = ("us-docker.pkg.dev", "artifactregistry.googleapis.com", "serviceusage.googleapis.com")
_READ_BYTES: Final = 1 << 16
_THEME: Final = TerminalTheme(
    (13, 17, 23),
    (214, 220, 228),
    [(72, 79, 88), (255, 123, 114), (86, 211, 100), (227, 179, 65),
     (121, 192, 255), (210, 168, 255), (86, 212, 221), (214, 220, 228)],
)  # fmt: skip
# Rich's own refers to a font on another host, which neither GitHub nor a reader without a network would load.
_FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: MONOSPACE; font-size: {char_height}px }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("MONOSPACE", MONOSPACE)


@dataclass(frozen=True, slots=True)
class Shell:
    """A working directory with policies, from which a registry can be reached."""

    site: Site

    def run(self, *arguments: str) -> str:
        """Return what the command line writes to a terminal.

        Raises:
            AssertionError: It fails, or has something to say on stderr.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "cleaner", *arguments],
            cwd=self.site.home,
            env={
                **inherited(),
                **self.site.environment,
                "PYTHONPATH": str(ROOT),
                "COLUMNS": str(_COLUMNS),
                "TERM": "xterm-256color",
            },
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        written = b""
        # Linux reports the end as an error.
        with suppress(OSError):
            while chunk := os.read(ours, _READ_BYTES):
                written += chunk
        os.close(ours)
        complaints = process.communicate()[1].decode()
        assert (process.returncode, complaints) == (0, ""), complaints
        return written.decode().replace("\r\n", "\n")


@contextmanager
def shell() -> Iterator[Shell]:
    """Start a registry and return a shell from which it is Google's, filled as of now."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="pictures-")))
        (directory / "policies.yaml").write_text(POLICIES)
        tls = make_tls(_HOSTS, directory)
        metadata = stack.enter_context(Emulator())
        registry = stack.enter_context(Emulator(tls=tls, default_host=_HOSTS[0], auth=True))
        fill(registry.store, datetime.now(UTC))
        yield Shell(Site(registry, metadata, tls.ca_file, directory))


def windows(shell: Shell) -> dict[str, str]:
    """Return the pictures of a terminal in which a plan was made, by the names of their files."""
    return {f"{name}.svg": _window(shell, name, "plan", target, *BY) for name, target in _TARGETS.items()}


def _window(shell: Shell, name: str, *arguments: str) -> str:
    output = shell.run(*arguments)
    prompt = Text.assemble(("$ ", "green"), (f"registry-cleaner {' '.join(arguments)}", "bold"))
    console = Console(file=StringIO(), record=True, width=_COLUMNS + 2 * _MARGIN, force_terminal=True)
    console.print(Padding(Text("\n").join([prompt, Text.from_ansi(output.rstrip())]), (0, _MARGIN, 1, _MARGIN)))
    svg = console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id=name)
    return "".join(f"{line.strip()}\n" for line in svg.splitlines() if line.strip())
