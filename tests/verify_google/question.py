"""A question to the registry, and its answer beside what the documentation expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import requests

from cleaner.core.errors import CleanerError
from tests.verify_google.google import Failed
from tests.verify_google.scratch import Scratch

ROOT: Final = Path(__file__).parent.parent.parent
Ask: TypeAlias = Callable[[Scratch], str]


class NotAsked(Exception):
    """What was found out on the way leaves nothing to ask; the text says what."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the repository's documentation relies on a fact: the line of ``file`` that contains ``phrase``."""

    file: str
    phrase: str

    def __str__(self) -> str:
        lines = (ROOT / self.file).read_text(encoding="utf-8").split("\n")
        return next(
            (f"{self.file}:{number}" for number, line in enumerate(lines, 1) if self.phrase in line), self.file
        )


@dataclass(frozen=True, slots=True)
class Question:
    """What ``ask`` finds out in a scratch repository, and what it returns if the documentation is right.

    ``name`` is the last part of the scratch repository's name.
    """

    name: str
    text: str
    expects: str
    place: Place
    ask: Ask
    needs_immutable_tags: bool
    needs_subscription: bool

    def obstacle(self, *, has_immutable_tags: bool, has_subscription: bool) -> str:
        """Return why it cannot be asked; empty if it can."""
        if self.needs_immutable_tags and not has_immutable_tags:
            return "the repository has no immutable tags"
        if has_immutable_tags and not self.needs_immutable_tags:
            # Whatever it pushed under a tag could not be deleted.
            return "the repository has immutable tags"
        if self.needs_subscription and not has_subscription:
            return "give SUBSCRIPTION=projects/P/subscriptions/S"
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was seen; ``verdict`` is ``same``, ``different`` or ``unknown``."""

    question: Question
    seen: str
    verdict: str
    has_failed: bool = False

    @property
    def is_well(self) -> bool:
        """Whether it is as expected, or could not be asked."""
        return self.verdict != "different" and not self.has_failed


def question(
    text: str,
    *,
    expects: str,
    place: tuple[str, str],
    needs_immutable_tags: bool = False,
    needs_subscription: bool = False,
) -> Callable[[Ask], Question]:
    """Make a question of the function that asks it; its name is the function's."""

    def make(ask: Ask) -> Question:
        name = ask.__name__.replace("_", "-")
        return Question(name, text, expects, Place(*place), ask, needs_immutable_tags, needs_subscription)

    return make


def not_asked(asked: Question, reason: str) -> Answer:
    """Return the answer to a question that cannot be asked."""
    return Answer(asked, f"not asked: {reason}", "unknown")


def answer(asked: Question, scratch: Scratch) -> Answer:
    """Ask in ``scratch``; an error is an answer too."""
    try:
        seen = asked.ask(scratch)
    except NotAsked as reason:
        return not_asked(asked, str(reason))
    except (
        Failed,
        CleanerError,
        requests.RequestException,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        return Answer(asked, f"failed: {_reason(error)}", "unknown", has_failed=True)
    return Answer(asked, seen, "same" if seen == asked.expects else "different")


def _reason(error: Exception) -> str:
    """Return what an error says; the texts of most of ``requests``' are Python's, and long."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.request.method} {error.response.status_code}: {error.response.text[:200]}"
    return str(error) if isinstance(error, (Failed, CleanerError)) else type(error).__name__
