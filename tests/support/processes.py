"""Processes that tests start, and waiting for them.

Every process is started in a session of its own and ended with all that it has started.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT: Final = Path(__file__).parent.parent.parent
# Long enough for a machine that is busy with something else; nothing waits for it to pass.
DEADLINE_S: Final = 30.0
_PATIENCE_S: Final = 0.01
# How long a process that was asked to end gets.  gunicorn would wait half a minute for its requests.
_GRACE_S: Final = 1.0


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until ``condition()`` holds.

    Raises:
        AssertionError: It did not within ``timeout_s``.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(_PATIENCE_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is below those that Linux gives to whoever asks for any, as the tests that run beside this one do all the time:
    it has to be free still when the process is up that is told to listen on it.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Died(AssertionError):
    """A process ended that should be running; the text is what it wrote last."""


class Written:
    """A file that a process writes to, which stays readable when it is closed."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        """The whole lines so far."""
        if self.file.closed:
            return self._lines
        # The process writes where the file's position is, so it must not be moved.
        content = os.pread(self.file.fileno(), os.fstat(self.file.fileno()).st_size, 0)
        return content.decode(errors="replace").split("\n")[:-1]

    def close(self) -> None:
        self._lines = self.lines()
        self.file.close()


class Child:
    """A process, in a session of its own.

    With ``shows`` its stdout is ours, and ``lines`` stay empty.  ``passed`` are file descriptors that it gets.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: Path = ROOT,
        shows: bool = False,
        passed: Sequence[int] = (),
    ) -> None:
        self.name = name
        # Files and not pipes: what was written before an answer is there when the answer is.
        self._out = Written()
        self._err = Written()
        # Once it is gone, its number may be another's.
        self._gone = False
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=None if shows else self._out.file,
            stderr=self._err.file,
            start_new_session=True,
            pass_fds=passed,
        )

    @property
    def lines(self) -> list[str]:
        """The whole lines on stdout so far."""
        return self._out.lines()

    @property
    def errors(self) -> list[str]:
        """The whole lines on stderr so far."""
        return self._err.lines()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until ``condition()`` holds.

        Raises:
            Died: The process ended first.
            AssertionError: It did not within ``timeout_s``.
        """

        def holds() -> bool:
            if condition():
                return True
            if self.returncode is not None:
                raise Died(f"{self.name} ended with {self.returncode}, before {what}:\n{self.tail()}")
            return False

        try:
            wait_for(holds, what, timeout_s)
        except Died:
            raise
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.name} wrote:\n{self.tail()}") from None

    def wait_for_port(self, port: int, timeout_s: float = DEADLINE_S) -> None:
        self.wait_for(lambda: is_listening(port), f"it listens on port {port}", timeout_s)

    def wait_for_end(self, timeout_s: float = DEADLINE_S) -> int:
        """Return the exit code of a process that ends by itself."""
        return self._process.wait(timeout_s)

    def tail(self) -> str:
        return "\n".join([*self.lines[-20:], *self.errors[-20:]])

    def stop(self) -> None:
        """End the process and whatever it has started; it is gone when this returns."""
        if not self._gone and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """``kill -9`` for the process and whatever it has started."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self._gone = True
            self._out.close()
            self._err.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Server(Child):
    """A process that listens on a port of 127.0.0.1."""

    port: int

    def wait_until_up(self) -> Self:
        """Wait until it takes requests; ended, if it never does."""
        try:
            self.wait_for_port(self.port)
        except BaseException:
            self.stop()
            raise
        return self


# The settings of whoever runs the tests must not leak in; credentials must not either.
_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


def inherited(*more: str) -> dict[str, str]:
    """What a process of the product may know of our environment; ``more`` are further names."""
    return {name: value for name, value in os.environ.items() if name in (*_PASSED_ON, *more)}
