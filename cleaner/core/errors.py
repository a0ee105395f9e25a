"""The exceptions that this package raises, as a tree split by who must act.

After a ``TransientError`` another delivery of the message may succeed; a ``PermanentError`` needs a person.  Callers
decide by class and attributes, never by an error's text.  ``transport.RetryableError`` is not in the tree: it leaves
its module only as the cause of an error that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class CleanerError(Exception):
    """The base of all errors; ``transient`` says whether the same request may succeed later."""

    transient: ClassVar[bool] = False


class ConfigurationError(CleanerError):
    """A setting or a policy is invalid, so the process must not start."""


class Mistake(msgspec.Struct, frozen=True):
    """One mistake in a document of policies.

    ``path`` leads to the invalid value by positions, counted from 0, and keys: ``(0, "tagged", 1, "match")``.
    ``correction`` says what to write instead; empty if that is not evident.  ``key`` is the key of that value that is
    itself wrong; empty if none is.
    """

    path: tuple[int | str, ...]
    problem: str
    correction: str = ""
    key: str = ""

    @property
    def steps(self) -> str:
        """The path as it is written: ``[0].tagged[1].match``."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)

    @property
    def text(self) -> str:
        """The problem and the correction."""
        return f"{self.problem}; {self.correction}" if self.correction else self.problem

    def describe(self, where: str) -> str:
        """Return the mistake as one sentence; ``where`` is the document's name."""
        return f"{where}{self.steps}: {self.text}"


class InvalidPolicy(ConfigurationError):
    """A document of policies has mistakes, all of which are in ``mistakes``; ``where`` is the document's name.

    The text has one line for each mistake, up to ``SHOWN_MAX``.
    """

    SHOWN_MAX: ClassVar[int] = 100

    def __init__(self, where: str, mistakes: Sequence[Mistake]) -> None:
        lines = [mistake.describe(where) for mistake in mistakes[: self.SHOWN_MAX]]
        if len(mistakes) > self.SHOWN_MAX:
            lines.append(f"{where}: {len(mistakes) - self.SHOWN_MAX} more mistakes")
        super().__init__("\n".join(lines))
        self.where = where
        self.mistakes = tuple(mistakes)


class InvalidReference(CleanerError):
    """A name, tag or digest is outside the distribution spec's grammar, or its host is not allowed."""


class HostNotAllowed(InvalidReference):
    """A name's host is neither one of Google's nor in ``INSECURE_REGISTRIES``; no request is sent to it."""

    def __init__(self) -> None:
        super().__init__("host not allowed")


class InvalidNotification(CleanerError):
    """A message is malformed or not allowed; it is acknowledged, and the error's text is logged as the reason."""


class TransientError(CleanerError):
    """Another delivery of the message may succeed."""

    transient = True


class Unavailable(TransientError):
    """A service failed in every attempt, or sent what cannot be read."""


class Unanswered(Unavailable):
    """A deletion was sent and never answered: the tag or digest ``reference`` may have been deleted."""

    def __init__(self, message: str, reference: str) -> None:
        super().__init__(message)
        self.reference = reference


class TimeLimitReached(TransientError):
    """The time limit is reached; the next delivery continues with what is left."""


class PermanentError(CleanerError):
    """The same request fails until a person changes something."""


class AnswerTooLong(PermanentError):
    """A response is longer than the limit for responses of its kind."""


class PermissionDenied(PermanentError):
    """A token or read access was refused; ``permission`` is the IAM permission that is likely missing."""

    def __init__(self, message: str, permission: str) -> None:
        super().__init__(message)
        self.permission = permission


class NoCredentials(PermanentError):
    """No usable application default credentials were found."""


class RepositoryNotFound(PermanentError):
    """The repository does not exist in the registry, so there is nothing to prune."""


class RequestRefused(PermanentError):
    """A service refused a request with a 4xx status that has no class of its own.

    ``status`` is the HTTP status, ``codes`` are the registry's error codes in the order of its response.
    """

    def __init__(self, message: str, status: int, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes


class IncompleteListing(PermanentError):
    """The registry returns no complete listing, so nothing may be deleted."""


class CutShort(IncompleteListing):
    """The registry left entries out of a listing; another API may list them."""


class TooManyEntries(CutShort):
    """The repository has more entries than the registry lists, and will have as many the next time."""


class InvalidManifest(PermanentError):
    """A manifest matches its digest and is malformed, so reading it again cannot help."""


class KeptManifestGone(PermanentError):
    """The registry deleted a child that is kept when its index was deleted.

    ``index`` and ``child`` are their digests.
    """

    def __init__(self, index: str, child: str) -> None:
        super().__init__(f"{child} no longer exists, although only {index} was deleted")
        self.index = index
        self.child = child
