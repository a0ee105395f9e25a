"""The Cloud Function: a push's notification prunes the repository that was pushed to."""

from __future__ import annotations

import gc
import logging
import os
import sys

import flask
import functions_framework
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent

# What is imported stays: to look through it for garbage, again and again, takes a tenth of what this adds to a start.
gc.disable()
try:
    from cleaner import logs
    from cleaner.errors import ConfigurationError
    from cleaner.function import Function
    from cleaner.settings import Settings
finally:
    gc.enable()
    gc.freeze()


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


def _reject(error: Exception) -> tuple[str, int]:
    """Acknowledge a request that never becomes an event: it would be delivered again until its retention ends."""
    logging.getLogger(logs.LOGGER).error("message rejected", extra={"reason": f"no event: {type(error).__name__}"})
    return "OK", 200


if flask.has_app_context():
    # functions-framework runs this module within its app.  It answers 400 where it cannot read a request as an event,
    # a push of a message without data for one, and 500 where the event's own library gives up.
    for failure in (400, GenericException, RecursionError):
        flask.current_app.register_error_handler(failure, _reject)


@functions_framework.cloud_event
def prune(event: CloudEvent) -> None:
    """Handle one message; an exception has it delivered again."""
    headers = flask.request.headers
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or _project(event.get("source"))
    with logs.trace(headers.get("X-Cloud-Trace-Context") or headers.get("traceparent"), project):
        _function.handle(event)


def _project(source: object) -> str | None:
    """Return the project of a topic's CloudEvent source, ``//pubsub.googleapis.com/projects/P/topics/T``."""
    parts = source.split("/") if isinstance(source, str) else []
    return parts[4] if parts[:4] == ["", "", "pubsub.googleapis.com", "projects"] and len(parts) > 4 else None
