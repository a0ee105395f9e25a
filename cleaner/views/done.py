"""What was done of plans, as tables, sentences and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter

import msgspec

from cleaner.core.errors import CleanerError, RepositoryNotFound
from cleaner.core.plan import Verdict
from cleaner.core.reference import Digest, Tag
from cleaner.engine.executor import Outcome
from cleaner.engine.report import Report
from cleaner.views import words
from cleaner.views.document import Document, done_document
from cleaner.views.images import Planned
from cleaner.views.tables import Column, Paint, table

# How many manifests that were not deleted are listed.
_NAMED = 10


class Done(msgspec.Struct, frozen=True):
    """How the deletions of a plan ended.

    ``outcomes`` are those of the manifests that were to be deleted and were not.
    """

    planned: Planned
    outcomes: Mapping[Digest, str]
    report: Report
    seconds: float | None = None
    error: CleanerError | None = None
    interrupted: bool = False

    @classmethod
    def not_begun(cls, planned: Planned) -> Done:
        """Return how a plan ends of which nothing is carried out."""
        report = Report(planned.plan.repository, dry_run=False)
        return cls(planned, {one.manifest.digest: Outcome.LEFT.value for one in planned.plan.delete}, report)

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
    todo = done.planned.plan
    deleted = [one for one in todo.delete if one.manifest.digest not in done.outcomes]
    size = sum(verdict.manifest.size for verdict in deleted)
    lines = [f"deleted {words.counted(len(deleted), 'manifest')}, up to {words.size(size)}, in {done.seconds:.1f} s"]
    counts = Counter(done.outcomes.values())
    if counts:
        lines.append(f"kept    {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(counts.items()))}")
    # What the registry refused comes first.
    left = Outcome.LEFT.value
    undone = [one for one in todo.delete if done.outcomes.get(one.manifest.digest, left) != left]
    undone.sort(key=lambda one: one.manifest.digest not in done.report.undone)
    lines += [f"  {_undone(verdict, done)}" for verdict in undone[:_NAMED]]
    if len(undone) > _NAMED:
        lines.append(f"  and {len(undone) - _NAMED:,} more")
    return lines + done.lost("lost    ")


def _undone(verdict: Verdict, done: Done) -> str:
    manifest = verdict.manifest
    tags = f" ({', '.join(map(words.short_tag, manifest.tags))})" if manifest.tags else ""
    undone = done.report.undone.get(manifest.digest)
    answer = " ".join([str(undone.status), *undone.codes]) if undone else ""
    outcome = done.outcomes[manifest.digest]
    return f"{outcome:<8} {words.short(manifest.digest)}{tags}{f': {answer}' if answer else ''}"


def done_table(ended: Sequence[Done], width: int | None, paint: Paint) -> Iterator[str]:
    """Yield what was done, one repository a row, in manifests."""

    def number(name: str, text: Callable[[int], str] = "{:,}".format, style: str = "") -> Column:
        # Of a repository in which nothing was counted, how it ended says all.
        def cell(one: Done) -> str:
            report = one.report
            is_empty = not (report.kept or report.deleted or report.refused or report.failed) and one.end
            return "" if is_empty else text(getattr(report, name))

        return Column(name.upper(), cell, lambda one: style if getattr(one.report, name) else "", is_number=True)

    name = Column("REPOSITORY", lambda one: str(one.report.repository), least=24)
    deleted, failed = number("deleted"), number("failed", style="red")
    size = number("size", lambda count: words.size(count) if count else "")
    end = Column("END", attrgetter("end"), lambda _: "red")
    whole = [name, number("kept"), deleted, number("refused"), failed, size, end]
    return table(ended, [whole, [name, deleted, failed, end]], width, paint)


def done_total(ended: Sequence[Done]) -> str:
    """Return what was deleted in all repositories, in a sentence."""
    count = words.counted(sum(one.report.deleted for one in ended), "manifest")
    where = words.counted(len(ended), "repository", "repositories")
    return f"deleted {count} of {where}, up to {words.size(sum(one.report.size for one in ended))}"
