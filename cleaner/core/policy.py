"""The operator's policies: which images of a repository are kept, by rules for their tags."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from cleaner.core.duration import Duration
from cleaner.core.glob import Glob
from cleaner.core.pattern import Pattern
from cleaner.core.reference import Repository, Tag

DEFAULT_KEEP = 5
DEFAULT_MIN_AGE = Duration.parse("1h")
# The children of an index are pushed before the index; a shorter age could delete them in between.
SHORTEST_MIN_AGE = timedelta(minutes=10)

# What the groups of a rule's pattern captured of a tag: the images with the same captures are a pool.
Captures = tuple[str | None, ...]


class Rule(msgspec.Struct, frozen=True):
    """What is kept of the images that a rule is for.

    ``match`` is empty in the rules for untagged images and orphans.  ``keep`` is how many of the newest of each pool
    are kept; None keeps all.  ``order`` says which of a pool are its newest.
    """

    match: tuple[Pattern, ...] = ()
    keep: int | None = None
    keep_within: Duration | None = None
    delete_after: Duration | None = None
    order: Literal["uploaded", "version"] = "uploaded"

    def captures(self, tag: Tag) -> Captures | None:
        """Return what the first pattern that matches ``tag`` captured; None if none matches."""
        for pattern in self.match:
            if match := pattern.fullmatch(tag):
                return match.groups()
        return None

    def is_retired(self, uploaded: datetime, now: datetime) -> bool:
        """Return whether what was uploaded then is ``delete_after`` old, so that this rule does not keep it."""
        return self.delete_after is not None and now - uploaded >= self.delete_after.value

    def is_recent(self, uploaded: datetime, now: datetime) -> bool:
        """Return whether what was uploaded then is younger than ``keep_within``."""
        return self.keep_within is not None and now - uploaded < self.keep_within.value


DEFAULT_UNTAGGED = Rule(keep=DEFAULT_KEEP)
# A subject that is not in the repository may be elsewhere.
DEFAULT_ORPHANS = Rule()


class Policy(msgspec.Struct, frozen=True):
    """One entry of ``POLICIES``, with the defaults of the keys that it does not have.

    Of ``tagged`` the first rule that matches a tag decides.
    """

    repositories: tuple[Glob, ...]
    min_age: Duration = DEFAULT_MIN_AGE
    tagged: tuple[Rule, ...] = ()
    untagged: Rule = DEFAULT_UNTAGGED
    orphans: Rule = DEFAULT_ORPHANS
    max_deletions: int | None = None
    dry_run: bool = False

    def matches(self, repository: Repository) -> bool:
        """Return whether one of the policy's globs matches ``repository``."""
        return any(glob.matches(str(repository)) for glob in self.repositories)

    def is_young(self, uploaded: datetime, now: datetime) -> bool:
        """Return whether what was uploaded then is younger than ``min_age``."""
        return now - uploaded < self.min_age.value

    def rule_of(self, tag: Tag) -> tuple[int, Captures] | None:
        """Return the position in ``tagged`` of the rule that decides for ``tag``, and what it captured.

        None if no rule matches.
        """
        for position, rule in enumerate(self.tagged):
            captures = rule.captures(tag)
            if captures is not None:
                return position, captures
        return None


def find_policy(policies: Iterable[Policy], repository: Repository) -> Policy | None:
    """Return the first policy that matches ``repository``; None if none does, and nothing of it may be deleted."""
    return next((policy for policy in policies if policy.matches(repository)), None)
