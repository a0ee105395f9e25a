"""What went wrong, and what a person can do about it."""

from __future__ import annotations

from cleaner.errors import CleanerError, NoCredentials, PermissionDenied, TimeLimitReached, Unavailable


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
            return f"{error}, at the last attempt"
        case _:
            return str(error)
