"""Error messages with what a person can do about the error."""

from __future__ import annotations

from cleaner.core.errors import (
    CleanerError,
    NoCredentials,
    PermissionDenied,
    TimeLimitReached,
    Unavailable,
)
from cleaner.google.transport import RetryableError


def advice(error: CleanerError) -> str:
    """Return an error, and what to do about it, in one sentence."""
    match error:
        case PermissionDenied():
            return f"{error}: the permission that is likely missing is {error.permission}"
        case NoCredentials():
            return f"{error}; run: gcloud auth application-default login"
        case TimeLimitReached():
            return f"{error}: run the same command again, or use a longer --time-limit"
        case Unavailable():
            check = "check the host's name and the network, or " if _is_unanswered(error) else ""
            return f"{error}, at the last attempt: {check}try again later"
        case _:
            return str(error)


def _is_unanswered(error: Unavailable) -> bool:
    """Return whether there was no response, rather than one that cannot be used."""
    cause = error.__cause__
    return isinstance(cause, TimeoutError) or (isinstance(cause, RetryableError) and cause.__cause__ is not None)
