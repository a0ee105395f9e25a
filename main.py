"""The Cloud Function: a push's notification prunes the repository that was pushed to."""

from __future__ import annotations

import gc
import logging
import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import flask
import functions_framework
from cloudevents.http import CloudEvent
from werkzeug.exceptions import ClientDisconnected, HTTPException

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

# What is imported stays: to look through it for garbage, again and again, takes a tenth of what this adds to a start.
gc.disable()
try:
    from cleaner import logs
    from cleaner.core.errors import ConfigurationError, TransientError
    from cleaner.function import Function
    from cleaner.settings import Settings
finally:
    gc.enable()
    gc.freeze()

# The statuses of a request whose body is none that anybody reads.
_UNREADABLE = (400, 413, 415)


def _start() -> Function:
    """Return the function with its settings, read now: a bad policy stops the deployment, not the first push."""
    logs.configure("INFO")
    try:
        settings = Settings.from_environment(os.environ)
    except ConfigurationError as error:
        logging.getLogger(logs.LOGGER).critical("invalid configuration", extra={"error": str(error)})
        sys.exit(2)
    logs.configure(settings.log_level)
    # functions-framework takes WORKERS for its number of processes, each of which would list for itself.
    os.environ.pop("WORKERS", None)
    return Function(settings)


_function = _start()


@functions_framework.cloud_event
def prune(event: CloudEvent) -> None:
    """Handle one message; an exception has it delivered again."""
    if flask.has_request_context():
        flask.g.is_event = True
    with _traced(event.get("source")):
        _function.handle(event)


def _answer(error: Exception) -> ResponseReturnValue:
    """Answer a request on which ``prune`` did not return.

    One that never becomes an event is acknowledged: it would be delivered again until its retention ends.  What
    has to be delivered again has said so in the log.
    """
    if isinstance(error, TransientError | ClientDisconnected):
        return "", 500
    if "is_event" in flask.g:
        raise error
    if isinstance(error, HTTPException) and error.code not in _UNREADABLE:
        return error
    with _traced(flask.request.headers.get("ce-source") or f"//pubsub.googleapis.com{flask.request.path}"):
        reason = f"no event: {type(error).__name__}"
        logging.getLogger(logs.LOGGER).error("message rejected", extra={"reason": reason})
    return "", 200


if flask.has_app_context():
    # functions-framework runs this module within its app.  Whatever its parsers raise would have it answer 500.
    flask.current_app.register_error_handler(Exception, _answer)


def _traced(source: object) -> AbstractContextManager[None]:
    """Name the request's trace in every line; ``source`` is its CloudEvent's."""
    names = ("X-Cloud-Trace-Context", "traceparent") if flask.has_request_context() else ()
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or _project(source)
    return logs.trace([flask.request.headers.get(name) for name in names], project)


def _project(source: object) -> str | None:
    """Return the project of a topic's CloudEvent source, ``//pubsub.googleapis.com/projects/P/topics/T``."""
    parts = source.split("/") if isinstance(source, str) else []
    return parts[4] if parts[:4] == ["", "", "pubsub.googleapis.com", "projects"] and len(parts) > 4 else None
