"""Log lines: one JSON object each, with Cloud Logging's names, also through the framework's own stdout."""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from functions_framework import execution_id

from cleaner import logs

TRACE = "0123456789abcdef0123456789abcdef"
logger = logging.getLogger(logs.LOGGER)


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """Configure logging as the function does, and restore it afterwards."""
    root, level = logging.getLogger(), logger.level
    before = (root.handlers[:], root.level)
    root.handlers.clear()
    logs.configure("INFO")
    yield
    root.handlers[:], root.level = before[0], before[1]
    logger.setLevel(level)


def only_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the one line on stdout."""
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert out.endswith("\n")
    assert out.isascii()
    decoded = json.loads(out)
    assert isinstance(decoded, dict)
    return decoded


def test_record_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Severity, message and time have Cloud Logging's names; the other fields are beside them."""
    logger.info("manifest deleted", extra={"repository": "gcr.io/acme/api", "tags": ("v1", "v2"), "size": 5})

    entry = only_line(capsys)
    assert datetime.fromisoformat(entry.pop("time")).tzinfo == UTC
    assert entry == {
        "severity": "INFO",
        "message": "manifest deleted",
        "repository": "gcr.io/acme/api",
        "tags": ["v1", "v2"],
        "size": 5,
    }


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR", "CRITICAL"])
def test_level_is_the_severity(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Python and Cloud Logging have the same names."""
    logger.log(logging.getLevelName(level), "x")

    assert only_line(capsys)["severity"] == level


def test_untrusted_text_does_not_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break, another alphabet or half a character cannot forge an entry of the log."""
    text = 'a\n{"severity": "ERROR"}\r\u2028\x00\u00e9\U0001f600\ud800"'

    logger.error("message rejected", extra={"reason": text})

    assert only_line(capsys)["reason"] == text


def test_values_without_a_json_type_are_written_as_strings_or_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """A time in ISO 8601, a set as a list, anything else as its string."""
    uploaded = datetime(2024, 5, 1, 12, tzinfo=UTC)

    logger.info(
        "x", extra={"uploaded": uploaded, "digests": frozenset({"a"}), "other": ValueError("why"), "none": None}
    )

    entry = only_line(capsys)
    assert (entry["uploaded"], entry["digests"]) == ("2024-05-01T12:00:00+00:00", ["a"])
    assert (entry["other"], entry["none"]) == ("why", None)


def test_exception_is_logged_with_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    """On the same line."""
    try:
        raise ValueError("no\nway")
    except ValueError:
        logger.exception("failed")

    entry = only_line(capsys)
    assert entry["severity"] == "ERROR"
    assert entry["stack_trace"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: no\nway" in entry["stack_trace"]


def test_arguments_of_other_packages_records_are_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    """The same handler writes urllib3's warnings."""
    logging.getLogger("urllib3").warning("retrying %s of %d", "x", 3)

    assert only_line(capsys)["message"] == "retrying x of 3"


def test_level_applies_to_this_package_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Of other packages, only warnings are written, also at DEBUG."""
    logs.configure("DEBUG")
    logger.debug("manifest kept")
    logging.getLogger("urllib3").info("chatter")
    assert only_line(capsys)["message"] == "manifest kept"

    logs.configure("ERROR")
    logger.warning("x")
    assert capsys.readouterr().out == ""


def test_configuring_twice_writes_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The first lines may be needed before the settings are known."""
    logs.configure("INFO")
    logs.configure("INFO")

    logger.info("x")

    assert only_line(capsys)["message"] == "x"


@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file"), BrokenPipeError()])
def test_line_that_cannot_be_written_raises_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run does not end because of a line."""

    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise error

    monkeypatch.setattr(logging, "raiseExceptions", False)
    with contextlib.redirect_stdout(Broken()):
        logger.info("x")


def test_line_that_cannot_be_formatted_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's record with wrong arguments, or a key that JSON cannot have."""
    monkeypatch.setattr(logging, "raiseExceptions", False)

    logging.getLogger("urllib3").warning("%d", "x")
    logger.info("x", extra={"counts": {(1, 2): 3}})


# --- the request's trace


@pytest.mark.parametrize(
    "header",
    [
        TRACE,
        f"{TRACE}/123",
        f"{TRACE}/123;o=1",
        f"{TRACE};o=1",
        f"00-{TRACE}-0123456789abcdef-01",
    ],
)
def test_trace_is_in_every_line(header: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From X-Cloud-Trace-Context or traceparent; with the project, if it is known."""
    with logs.trace([header], "acme"):
        logger.info("x")
    assert only_line(capsys)["logging.googleapis.com/trace"] == f"projects/acme/traces/{TRACE}"

    with logs.trace([header], None):
        logger.info("x")
    assert only_line(capsys)["logging.googleapis.com/trace"] == TRACE


@pytest.mark.parametrize(
    "header", [None, "", "x", TRACE[1:], TRACE + "0", "/1;o=1", f"x{TRACE}", f"{TRACE}\n", "\ud800"]
)
def test_malformed_trace_header_is_ignored(header: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Anybody can send one."""
    with logs.trace([header], "acme"):
        logger.info("x")

    assert "logging.googleapis.com/trace" not in only_line(capsys)


def test_trace_ends_with_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    """The surrounding trace is restored, also after an exception."""
    other = TRACE[::-1]
    with logs.trace([TRACE], None):
        with contextlib.suppress(KeyError), logs.trace([other], None):
            raise KeyError
        logger.info("inside")
    assert only_line(capsys)["logging.googleapis.com/trace"] == TRACE

    logger.info("outside")
    assert "logging.googleapis.com/trace" not in only_line(capsys)


def test_trace_is_only_in_the_context_and_its_copies(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker thread that runs in a copy belongs to the request; another thread does not."""
    with logs.trace([TRACE], None):
        context = contextvars.copy_context()
        for target in (lambda: context.run(logger.info, "mine"), lambda: logger.info("other's")):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    mine, others = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert mine["logging.googleapis.com/trace"] == TRACE
    assert "logging.googleapis.com/trace" not in others


# --- the framework's own stdout, with LOG_EXECUTION_ID=true


@contextlib.contextmanager
def request(stream: io.StringIO, name: str) -> Iterator[None]:
    """Replace stdout as the framework does for a request."""
    token = execution_id.execution_context_var.set(execution_id.ExecutionContext(name, "42"))  # type: ignore[arg-type, no-untyped-call]  # no types
    try:
        with contextlib.redirect_stdout(execution_id.LoggingHandlerAddExecutionId(stream)):  # type: ignore[no-untyped-call]  # no types
            yield
    finally:
        execution_id.execution_context_var.reset(token)


def test_line_is_extended_with_the_execution_id() -> None:
    """The framework adds its label to the object, and does not put the line into a message."""
    stream = io.StringIO()

    with request(stream, "abc"), logs.trace([TRACE], "acme"):
        logger.info("manifest deleted", extra={"tags": ("v1",)})
        logger.error("message rejected", extra={"reason": "\u00e9\n"})

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["tags"], first["severity"]) == ("manifest deleted", ["v1"], "INFO")
    assert first["logging.googleapis.com/trace"] == f"projects/acme/traces/{TRACE}"
    assert (second["severity"], second["reason"]) == ("ERROR", "\u00e9\n")
    for entry in (first, second):
        assert entry["logging.googleapis.com/labels"] == {"execution_id": "abc"}
        assert entry["logging.googleapis.com/spanId"] == "42"


def test_each_request_has_its_own_stdout() -> None:
    """The handler looks up stdout when it writes, not when it is made."""
    one, two = io.StringIO(), io.StringIO()

    with request(one, "abc"):
        logger.info("first")
    with request(two, "def"):
        logger.info("second")

    assert json.loads(one.getvalue())["message"] == "first"
    assert json.loads(two.getvalue())["message"] == "second"
    assert sys.stdout not in (one, two)


def test_line_is_written_in_one_call() -> None:
    """The framework takes each call for one entry."""
    calls: list[str] = []

    class Recording(io.StringIO):
        def write(self, text: str) -> int:
            calls.append(text)
            return super().write(text)

    with contextlib.redirect_stdout(Recording()):
        logger.info("x")

    assert len(calls) == 1
    assert calls[0].endswith("}\n")
