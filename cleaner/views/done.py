"""What was done of plans, as tables, sentences and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter

import msgspec

from cleaner.core.errors import CleanerError, RepositoryNotFound
from cleaner.core.plan import Verdict
from cleaner.core.reference import Digest, Tag
from cleaner.engine.executor import Outcome
from cleaner.engine.report import Report
from cleaner.views import words
from cleaner.views.document import GONE, Document, done_document
from cleaner.views.images import Planned
from cleaner.views.tables import Column, Paint, table

# How many manifests that were not deleted are listed.
_NAMED = 10
_SAID = {
    Outcome.REFUSED.value: "refused",
    Outcome.FAILED.value: "failed",
    Outcome.KEPT.value: "kept after all",
    Outcome.LEFT.value: "not begun",
    GONE: "already gone",
}


class Done(msgspec.Struct, frozen=True, dict=True):
    """How the deletions of a plan ended.

    ``outcomes`` are those of the manifests that were to be deleted and that the run did not delete.  ``seconds`` is
    None for a plan that was not begun.
    """

    planned: Planned
    outcomes: Mapping[Digest, str]
    report: Report
    seconds: float | None = None
    error: CleanerError | None = None

    @classmethod
    def not_begun(cls, planned: Planned) -> Done:
        """Return how a plan ends of which nothing is carried out."""
        report = Report(planned.plan.repository, dry_run=False)
        return cls(planned, {one.manifest.digest: Outcome.LEFT.value for one in planned.plan.delete}, report)

    @property
    def is_begun(self) -> bool:
        """Whether it was begun."""
        return self.seconds is not None

    @cached_property
    def deleted(self) -> Sequence[Verdict]:
        """What the run deleted."""
        return [one for one in self.planned.plan.delete if one.manifest.digest not in self.outcomes]

    @property
    def size(self) -> int:
        """The sum of the sizes of what it deleted, in bytes."""
        return sum(verdict.manifest.size for verdict in self.deleted)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """The number of manifests by outcome, also of those that are ``kept`` and were ``deleted``."""
        counts = Counter(self.outcomes.values())
        counts[Outcome.KEPT.value] += len(self.planned.plan.kept)
        counts[Outcome.DELETED.value] = len(self.deleted)
        return counts

    @property
    def lost_tags(self) -> Mapping[Digest, Sequence[Tag]]:
        """The tags that were deleted of manifests that were not."""
        return {digest: sorted(tags) for digest, tags in self.report.lost_tags.items() if digest in self.outcomes}

    def lost(self, heading: str) -> list[str]:
        """Return how many these are behind ``heading``, and a line for each such manifest; nothing if there are none.

        Nothing else has a record of these tags.
        """
        tags = self.lost_tags
        lines = [f"  {self.outcomes[one]:<8} {words.short(one)} without {', '.join(tags[one])}" for one in tags]
        return [f"{heading}{words.lost(tags)}", *lines] if tags else []

    @property
    def end(self) -> str:
        """How it ended if not well, in a word or two."""
        if not self.is_begun:
            return "not begun"
        if self.error is None:
            return ""
        return "not found" if isinstance(self.error, RepositoryNotFound) else "error"

    @property
    def document(self) -> Document:
        """What was done, as a document."""
        return done_document(self.planned, self.outcomes, self.lost_tags)

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure; a repository that does not exist does not."""
        is_error = not isinstance(self.error, RepositoryNotFound | None)
        return is_error or Outcome.FAILED.value in self.outcomes.values()


def done_lines(done: Done) -> list[str]:
    """Return what was done of one plan; the lines of a list begin with two spaces."""
    count, outcomes = words.counted(len(done.deleted), "manifest"), done.outcomes
    lines = [f"deleted {count}, up to {words.size(done.size)}, in {done.seconds or 0:.1f} s"]
    # What ends with an error may also end in the middle of an image.
    said = _SAID | ({Outcome.LEFT.value: "not begun or not finished"} if done.error else {})
    if outcomes:
        counts = Counter(outcomes.values())
        lines.append(f"not deleted: {', '.join(f'{counts[one]:,} {said[one]}' for one in said if counts[one])}")
    untold = {None, Outcome.LEFT.value, GONE}
    undone = [one for one in done.planned.plan.delete if outcomes.get(one.manifest.digest) not in untold]
    # What the registry refused comes first.
    undone.sort(key=lambda one: one.manifest.digest not in done.report.undone)
    lines += [f"  {_undone(verdict, done)}" for verdict in undone[:_NAMED]]
    if len(undone) > _NAMED:
        lines.append(f"  and {len(undone) - _NAMED:,} more")
    return lines + done.lost("lost ")


def _undone(verdict: Verdict, done: Done) -> str:
    manifest = verdict.manifest
    tags = f" ({', '.join(map(words.short_tag, manifest.tags))})" if manifest.tags else ""
    undone = done.report.undone.get(manifest.digest)
    answer = " ".join([str(undone.status), *undone.codes]) if undone else ""
    outcome = done.outcomes[manifest.digest]
    return f"{outcome:<8} {words.short(manifest.digest)}{tags}{f': {answer}' if answer else ''}"


def done_table(ended: Sequence[Done], width: int | None, paint: Paint) -> Iterator[str]:
    """Yield what was done, one repository a row, in manifests."""

    def shown(one: Done, text: str) -> str:
        # Of a repository in which nothing was done, how it ended says all.
        is_empty = one.end and not one.deleted and {*one.outcomes.values()} <= {Outcome.LEFT.value, GONE}
        return "" if is_empty else text

    def number(name: str, style: str = "") -> Column:
        def text(one: Done) -> str:
            return shown(one, f"{one.counts[name]:,}")

        return Column(name.upper(), text, lambda one: style if one.counts[name] else "", is_number=True)

    def rare(name: str) -> Column:
        column = number(name)
        return msgspec.structs.replace(column, text=lambda one: column.text(one) if one.counts[name] else "")

    name = Column("REPOSITORY", lambda one: str(one.planned.plan.repository), least=24)
    deleted, failed = number("deleted"), number("failed", "red")
    size = Column("SIZE", lambda one: words.size(one.size) if one.size else "", is_number=True)
    end = Column("END", attrgetter("end"), lambda _: "red")
    whole = [name, number("kept"), deleted, number("refused"), failed, rare("left"), rare(GONE), size, end]
    return table(ended, [whole, [name, deleted, failed, end]], width, paint)


def done_total(ended: Sequence[Done]) -> str:
    """Return what was deleted in all repositories that were begun, in a sentence."""
    begun = [one for one in ended if one.is_begun]
    count = words.counted(sum(len(one.deleted) for one in begun), "manifest")
    where = words.counted(len(begun), "repository", "repositories")
    return f"deleted {count} of {where}, up to {words.size(sum(one.size for one in begun))}"
