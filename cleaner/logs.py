"""Writes log records as lines of JSON, with the field names that Cloud Logging reads.

Messages are constant; what varies is in fields, passed as ``extra``.  The only state is the trace of the current
request, a context variable: each thread, or copy of a context, has its own.
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

# LogEntry, "trace": the trace of the request; Cloud Logging groups lines by it.
_trace: ContextVar[str | None] = ContextVar("trace", default=None)
# X-Cloud-Trace-Context: TRACE_ID/SPAN_ID;o=1; W3C traceparent: 00-TRACE_ID-SPAN_ID-01.
_TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:[/;-].*)?")

# The attributes that the logging module sets; every other attribute of a record comes from `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object, in ASCII and without a line break."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
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
    """Writes each record to ``sys.stdout``, which is looked up for each record, with one call.

    functions-framework replaces ``sys.stdout`` for each request, and takes each call for one entry.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except (TypeError, ValueError, OSError):
            # A line that cannot be written must not end the run.
            self.handleError(record)


def configure(level: str) -> None:
    """Write this package's records from ``level``, and other packages' from WARNING, to stdout as JSON."""
    handler = StdoutHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level)


@contextmanager
def trace(headers: Iterable[str | None], project: str | None) -> Iterator[None]:
    """Add a request's trace to every record until the context ends.

    ``headers`` are the values of ``X-Cloud-Trace-Context`` and ``traceparent``, None for a missing one; the first
    well-formed one is used.  Only records of the current context have it: a worker thread has to run in a copy.
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
    """Return a value that JSON has no type for as one that it has a type for."""
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, set | frozenset) else str(value)
