"""A log record as one line of JSON, by the field names that Cloud Logging reads.

Messages are constant; what varies stands in fields, given as ``extra``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

LOGGER = "cleaner"

# LogEntry, "trace": the name of the request's trace, which groups its lines in Cloud Logging.
_trace: ContextVar[str | None] = ContextVar("trace", default=None)
# X-Cloud-Trace-Context: TRACE_ID/SPAN_ID;o=1; W3C traceparent: 00-TRACE_ID-SPAN_ID-01.
_TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:[/;-].*)?")

# What the logging module sets itself; everything else on a record came as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object in ASCII, without a line break."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        entry: dict[str, object] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        trace = _trace.get()
        if trace:
            entry["logging.googleapis.com/trace"] = trace
        entry.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=_plain)


class StdoutHandler(logging.Handler):
    """Writes each record with one call to whatever ``sys.stdout`` is at that moment.

    functions-framework puts another stdout in place for each request, and reads one call as one entry.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line."""
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except (TypeError, ValueError, OSError):
            # A line that cannot be written must not end what it tells about.
            self.handleError(record)


def configure(level: str) -> None:
    """Send this package's records of ``level`` and above, and everybody's warnings, to stdout as JSON."""
    handler = StdoutHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level)


@contextmanager
def trace(headers: Iterable[str | None], project: str | None) -> Iterator[None]:
    """Name a request's trace in every record until the end: the first that one of ``headers`` names.

    They are ``X-Cloud-Trace-Context`` and ``traceparent``.  Only records of this context: a worker thread has to run
    in a copy of it.
    """
    match = next(filter(None, (_TRACE_ID.fullmatch(header or "") for header in headers)), None)
    name = None
    if match:
        name = f"projects/{project}/traces/{match[1]}" if project else match[1]
    token = _trace.set(name)
    try:
        yield
    finally:
        _trace.reset(token)


def _plain(value: object) -> object:
    """Return what JSON has no word for as something that it has."""
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, set | frozenset) else str(value)
