"""The tree of exceptions that this package raises on purpose.

Split by who must act: a transient error ends well when the message is delivered again, a permanent one needs a
person.  Nothing is decided by an error's text.  ``transport.RetryableError`` is not in the tree: it leaves its module
only as the cause of an error that is.
"""

from __future__ import annotations

from typing import ClassVar


class CleanerError(Exception):
    """The root of the tree; ``transient`` says whether the same request may succeed later."""

    transient: ClassVar[bool] = False


class ConfigurationError(CleanerError):
    """A setting or policy is invalid: the process must not start."""


class InvalidPolicy(ConfigurationError):
    """A policy is invalid.

    ``where`` is the document's name, with the policy's position if one is at fault; ``key`` the key, None where
    the fault is that of no single one; ``problem`` says what is wrong.
    """

    def __init__(self, where: str, problem: str, key: str | None = None) -> None:
        super().__init__(f"{where}: {problem}" if key is None else f"{where}.{key}: {problem}")
        self.where = where
        self.key = key
        self.problem = problem


class InvalidReference(CleanerError):
    """A name, tag or digest is outside the distribution spec's grammar, or its host is not allowed."""


class HostNotAllowed(InvalidReference):
    """A name's host is neither one of Google's nor named as insecure: no request goes there."""

    def __init__(self) -> None:
        super().__init__("host not allowed")


class InvalidNotification(CleanerError):
    """A message can never be carried out: it is acknowledged, and its reason is logged."""


class TransientError(CleanerError):
    """Worth another delivery."""

    transient = True


class Unavailable(TransientError):
    """A service still fails after every attempt, or what it sends cannot be read."""


class TimeLimitReached(TransientError):
    """The run's time is over; what is left waits for the next delivery."""


class PermanentError(CleanerError):
    """The same request will fail again until a person changes something."""


class AnswerTooLong(PermanentError):
    """An answer is longer than anything that makes sense; the next one will be, too."""


class PermissionDenied(PermanentError):
    """A token or a reading was refused; ``permission`` is the IAM permission that is likely missing."""

    def __init__(self, message: str, permission: str) -> None:
        super().__init__(message)
        self.permission = permission


class NoCredentials(PermanentError):
    """There are no usable application default credentials."""


class RepositoryNotFound(PermanentError):
    """The registry knows no such repository: there is nothing to prune."""


class RequestRefused(PermanentError):
    """A service refused a request with a 4xx that no other class names.

    ``status`` is the HTTP status, ``codes`` the registry's error codes in the order of its answer.
    """

    def __init__(self, message: str, status: int, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes


class IncompleteListing(PermanentError):
    """The registry does not give a complete listing, so nothing may be deleted."""


class CutShort(IncompleteListing):
    """The registry left entries out of a listing; another way of asking may give them."""


class InvalidManifest(PermanentError):
    """A manifest matches its digest and still makes no sense; it never will."""


class KeptManifestGone(PermanentError):
    """The registry deleted a child that is kept together with its index."""

    def __init__(self, index: str, child: str) -> None:
        super().__init__(f"{child} no longer exists, although only {index} was deleted")
        self.index = index
        self.child = child
