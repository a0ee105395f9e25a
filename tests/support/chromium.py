"""A headless Chromium that is driven over a pipe, by the Chrome DevTools Protocol.

It resolves no host name, and what it asks for is known.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.processes import DEADLINE_S, Child, inherited
from tests.support.programs import required

if TYPE_CHECKING:
    from collections.abc import Callable

_FLAGS: Final = (
    "--headless",
    # Its sandbox does not start as root, and in many containers.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
_CHUNK_BYTES: Final = 1 << 16


class Chromium:
    """One browser with one page."""

    def __init__(self) -> None:
        program = required("chromium", "chromium-browser", "google-chrome")
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        # Chromium reads its commands from descriptor 3 and writes its answers to 4.
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Not sh: some take descriptors of one digit only.
        shell = f'exec "$@" 3<&{commands} 4>&{answers}'
        command = ["bash", "-c", shell, "bash", program, *_FLAGS, f"--user-data-dir={self._profile}"]
        self._process = Child("chromium", command, inherited(), passed=(commands, answers))
        os.close(commands)
        os.close(answers)
        self._ids = count(1)
        self._unread = b""
        self._session = ""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        os.close(self._commands)
        os.close(self._answers)
        # A process of Chromium's that has just been killed may be the last to write there.
        with contextlib.suppress(OSError):
            shutil.rmtree(self._profile)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the result of a command."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._read_until(lambda one: one.get("id") == number, method)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path) -> None:
        """Load a file; earlier events are forgotten."""
        self.events.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, answer
        if not any(one["method"] == "Page.loadEventFired" for one in self.events):
            self._read_until(lambda one: one.get("method") == "Page.loadEventFired", f"{path.name} is loaded")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str, media: str = "screen") -> None:
        """Take part in ``light`` or ``dark``, on a screen or in print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def allow_scripts(self, *, allowed: bool) -> None:
        """Say whether scripts of the next page run; ``evaluate`` works either way."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def type(self, text: str) -> None:
        """Insert ``text`` where the focus is."""
        self.call("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """Return what the window shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def pdf(self) -> bytes:
        """Return the printed page."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])

    @property
    def requested(self) -> list[str]:
        """What was requested since the page was opened."""
        return [
            one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """What the console shows since the page was opened: errors, warnings and exceptions."""
        told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(one["params"]) for one in self.events if one["method"] in told]

    def _read_until(self, is_it: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + DEADLINE_S
        while True:
            while b"\0" not in self._unread:
                ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
                chunk = os.read(self._answers, _CHUNK_BYTES) if ready else b""
                assert chunk, f"chromium does not answer: {what}\n{self._process.tail()}"
                self._unread += chunk
            message, _, self._unread = self._unread.partition(b"\0")
            decoded = json.loads(message)
            if "method" in decoded:
                self.events.append(decoded)
            if is_it(decoded):
                return dict(decoded)
