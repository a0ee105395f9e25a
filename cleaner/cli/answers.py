"""What the log of a run says and its report does not: the registry's answers, and the tags that went for nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from cleaner.core.reference import Digest, Tag
from cleaner.logs import LOGGER

_DENIED = 403


class Answers(logging.Handler):
    """Collects from a run's log, by digest.

    ``words`` are what the registry said to deletions that it did not carry out; ``lost`` the tags that were deleted
    of manifests that were not; ``denied`` says whether a deletion was.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.words: dict[Digest, str] = {}
        self.lost: dict[Digest, list[Tag]] = {}
        self.denied = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a record about a deletion."""
        facts = vars(record)
        match record.getMessage():
            case "tag deleted":
                self.lost.setdefault(facts["digest"], []).append(facts["tag"])
            case "manifest deleted":
                self.lost.pop(facts["digest"], None)
            case _ if "status" in facts and "digest" in facts:
                self.words[facts["digest"]] = " ".join([str(facts["status"]), *facts["codes"]])
                self.denied = self.denied or facts["status"] == _DENIED


@contextmanager
def registry_answers() -> Iterator[Answers]:
    """Return what is said until the end of the context: the log has it, and nothing else does."""
    answers = Answers()
    logger = logging.getLogger(LOGGER)
    before = logger.level
    # What is written of it is for the other handlers to say.
    logger.setLevel(min(logger.getEffectiveLevel(), answers.level))
    logger.addHandler(answers)
    try:
        yield answers
    finally:
        logger.removeHandler(answers)
        logger.setLevel(before)
