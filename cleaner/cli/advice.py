"""What went wrong, and what a person can do about it."""

from __future__ import annotations

from cleaner.core.errors import CleanerError, NoCredentials, PermissionDenied, TimeLimitReached, Unavailable
from cleaner.google.transport import RetryableError


def advice(error: CleanerError) -> str:
    """Return both in one sentence."""
    match error:
        case PermissionDenied():
            return f"{error}: what is likely missing is {error.permission}"
        case NoCredentials():
            return f"{error}: run gcloud auth application-default login"
        case TimeLimitReached():
            return f"{error}: the same command goes on from there"
        case Unavailable():
            check = "check the host's name and the network, or " if _is_unanswered(error) else ""
            return f"{error}, at the last attempt: {check}try again later"
        case _:
            return str(error)


def _is_unanswered(error: Unavailable) -> bool:
    """Whether nobody answered; else there was an answer, and it was none to go on with."""
    cause = error.__cause__
    return isinstance(cause, TimeoutError) or (isinstance(cause, RetryableError) and cause.__cause__ is not None)
