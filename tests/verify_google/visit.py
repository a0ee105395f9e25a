"""One run: every question that can be asked of a repository, the clean-up, and the table."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import requests

from cleaner.cli.prune import INTERRUPTED
from cleaner.core.errors import CleanerError
from cleaner.core.reference import Repository, parse_repository
from tests.verify_google import deleting, messages, reading
from tests.verify_google.google import Failed
from tests.verify_google.question import Answer, Question, answer, not_asked
from tests.verify_google.scratch import Scratch
from tests.verify_google.table import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cleaner.cli.terminal import Terminal
    from tests.verify_google.google import Google
    from tests.verify_google.messages import Subscription

QUESTIONS: Final[tuple[Question, ...]] = (*deleting.QUESTIONS, *reading.QUESTIONS, *messages.QUESTIONS)


class Visit:
    """One run in one Artifact Registry repository: the questions that can be asked there, and their answers."""

    def __init__(
        self,
        google: Google,
        below: Repository,
        *,
        has_immutable_tags: bool,
        subscription: Subscription | None,
        wait_s: float,
    ) -> None:
        self.below = below
        self.has_immutable_tags = has_immutable_tags
        self._wait_s = wait_s
        self.answers: list[Answer] = []
        self.scratches: dict[Question, Scratch] = {}
        for question in QUESTIONS:
            obstacle = question.obstacle(
                has_immutable_tags=has_immutable_tags, has_subscription=subscription is not None
            )
            if obstacle:
                self.answers.append(not_asked(question, obstacle))
            else:
                repository = parse_repository(f"{below}/{question.name}")
                self.scratches[question] = Scratch(google, repository, wait_s, subscription)

    def run(self, terminal: Terminal) -> int:
        """Ask, clean up whatever happens, and print the table; return the exit code."""
        is_interrupted = False
        try:
            for number, (question, scratch) in enumerate(self.scratches.items(), 1):
                terminal.note(f"{number}/{len(self.scratches)} {question.text}")
                self.answers.append(answer(question, scratch))
        except KeyboardInterrupt:
            is_interrupted = True
            terminal.note("Interrupted; once more ends the clean-up as well.")
        finally:
            is_clean = self._clean(terminal)
        terminal.report(
            *table(sorted(self.answers, key=lambda one: QUESTIONS.index(one.question)), terminal.bar_width)
        )
        counts = Counter(one.verdict for one in self.answers)
        terminal.note(", ".join(f"{counts[verdict]} {verdict}" for verdict in ("same", "different", "unknown")))
        if is_interrupted:
            return INTERRUPTED
        # Where tags are immutable, what is left was announced.
        is_well = all(one.is_well for one in self.answers) and (is_clean or self.has_immutable_tags)
        return 0 if is_well else 1

    def _clean(self, terminal: Terminal) -> bool:
        """Delete what was pushed, and say what could not be deleted and why; return whether everything was."""
        tasks = dict(task for scratch in self.scratches.values() for task in scratch.clean_up())
        left = dict.fromkeys(tasks, "interrupted")
        try:
            terminal.note("Deleting what was pushed.")
            _attempt(tasks, left)
            if left and not self.has_immutable_tags:
                # What has just been deleted may still count as a reason to refuse.
                time.sleep(self._wait_s)
                _attempt(tasks, left)
        except KeyboardInterrupt:
            pass
        for name, reason in left.items():
            terminal.note(f"not deleted: {name}: {reason}")
        return not left


def _attempt(tasks: Mapping[str, Callable[[], str]], left: dict[str, str]) -> None:
    """Delete what is ``left``; remove from there what is deleted, and set why the others are not."""
    for name in list(left):
        try:
            reason = tasks[name]()
        except (requests.RequestException, Failed, CleanerError) as error:
            reason = str(error) if isinstance(error, Failed) else type(error).__name__
        if reason:
            left[name] = reason
        else:
            del left[name]
