"""The entry point of the Cloud Function: reads the settings, and passes each event to ``Function``."""

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

# Imported objects are never freed.  Searching them for garbage takes a tenth of the time that these imports take.
gc.disable()
try:
    from cleaner import logs
    from cleaner.core.errors import ConfigurationError, TransientError
    from cleaner.function import Function
    from cleaner.release import VERSION
    from cleaner.settings import Settings
finally:
    gc.enable()
    gc.freeze()

# The statuses of a request whose body cannot be read: malformed, too large, or of another type.
_UNREADABLE = (400, 413, 415)
_PUSH_REQUEST = '{"message": {"data": BASE64, "messageId": ID}, "subscription": NAME}'


def _start() -> Function:
    """Return the function; exit with 2 if its configuration is invalid, so that its deployment fails."""
    logs.configure("INFO")
    try:
        settings = Settings.from_environment(os.environ)
    except ConfigurationError as error:
        logging.getLogger(logs.LOGGER).critical("invalid configuration", extra={"error": str(error)})
        sys.exit(2)
    logs.configure(settings.log_level)
    # functions-framework takes WORKERS for its number of processes, whose runs would not be coalesced.
    os.environ.pop("WORKERS", None)
    function = Function(settings)
    facts = {
        "version": VERSION,
        "policies": len(settings.policies),
        "dry_run": settings.dry_run,
        "running_scopes": settings.running_scopes,
    }
    logging.getLogger(logs.LOGGER).info("ready", extra=facts)
    return function


_function = _start()


@functions_framework.cloud_event
def prune(event: CloudEvent) -> None:
    """Handle one message; it is delivered again if this raises."""
    if flask.has_request_context():
        _restore_attempt(event)
        flask.g.is_event = True
    with _traced(event.get("source")):
        _function.handle(event)


def _restore_attempt(event: CloudEvent) -> None:
    """Add the number of the delivery to the data of ``event``: functions-framework drops it from a push request."""
    body = flask.request.get_json(silent=True)
    if isinstance(event.data, dict) and isinstance(body, dict) and "deliveryAttempt" in body:
        event.data["deliveryAttempt"] = body["deliveryAttempt"]


def _respond(error: Exception) -> ResponseReturnValue:
    """Return the response to a request that raised ``error``.

    A request that is not a CloudEvent is acknowledged, because Pub/Sub would deliver it again until its retention
    ends.  A transient error has been logged before.
    """
    if isinstance(error, TransientError | ClientDisconnected):
        return "", 500
    if "is_event" in flask.g:
        raise error
    if isinstance(error, HTTPException) and error.code not in _UNREADABLE:
        return error
    with _traced(flask.request.headers.get("ce-source") or f"//pubsub.googleapis.com{flask.request.path}"):
        reason = f"not a Pub/Sub message ({type(error).__name__}); expected a CloudEvent, or {_PUSH_REQUEST}"
        logging.getLogger(logs.LOGGER).error("message rejected", extra={"reason": reason})
    return "", 200


if flask.has_app_context():
    # functions-framework imports this module within its app, and would respond 500 to what its parsers raise.
    flask.current_app.register_error_handler(Exception, _respond)


def _traced(source: object) -> AbstractContextManager[None]:
    """Add the request's trace to every log line; ``source`` is the source of the CloudEvent."""
    names = ("X-Cloud-Trace-Context", "traceparent") if flask.has_request_context() else ()
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or _project(source)
    return logs.trace([flask.request.headers.get(name) for name in names], project)


def _project(source: object) -> str | None:
    """Return P of the CloudEvent source ``//pubsub.googleapis.com/projects/P/topics/T``; None for any other."""
    parts = source.split("/") if isinstance(source, str) else []
    return parts[4] if parts[:4] == ["", "", "pubsub.googleapis.com", "projects"] and len(parts) > 4 else None
