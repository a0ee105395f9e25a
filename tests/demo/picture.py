"""How an outcome is shown to a person, and the words for it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import yaml
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tests.demo.outcome import Outcome, Swept
from tests.demo.tree import owners, parts_in_words, short, tree
from tests.emulator.store import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_WORDS: Final = {
    "unknown-type": "its media type is not understood",
    "unknown-age": "the registry gives no upload time",
    "too-young": "younger than min_age, which is an hour here",
    "just-pushed": "somebody has just pushed it again",
    "unmatched": "no rule matches its tag",
    "protected": "a rule keeps all",
    "newest": "among the newest of its pool",
    "recent": "younger than keep_within",
    "needed": "something that is kept needs it",
    "over-limit": "max_deletions is reached",
    "expired": "an image that no rule keeps",
    "follows": "belongs to an image that is deleted",
    "orphaned": "its subject no longer exists",
}
REASONS_TO_DELETE: Final = frozenset({"expired", "follows", "orphaned"})


def chapter(console: Console, text: str, about: str = "") -> None:
    console.print()
    title = Text.assemble((text, "bold"), about)
    console.print(Rule(title, align="left", characters="─", style="dim"))


class Picture:
    """Prints outcomes for a person."""

    def __init__(self, console: Console, now: datetime) -> None:
        self._console = console
        self._now = now

    def repository(self, outcome: Outcome) -> None:
        history = outcome.history
        chapter(self._console, history.path, f": {history.about}")
        if history.policy is not None:
            self._console.print(Text(in_yaml([history.policy]).rstrip(), style="dim"))
        self._console.print(Text("\nBefore, with the push" if history.push else "\nBefore", style="bold"))
        self._console.print(self._before(outcome))
        self._console.print(Text("\nAfter", style="bold"))
        self._console.print(self._after(outcome))
        if outcome.runs:
            self._console.print(
                f"\n{len(outcome.deleted)} of {len(outcome.before)} manifests deleted, {_megabytes(outcome.size)}:"
                f" {counted(outcome.messages, 'message')}, {counted(outcome.runs, 'run')},"
                f" {counted(outcome.requests, 'request')}, {outcome.seconds:.2f} s"
            )
        else:
            self._console.print(f"\nuntouched: {counted(outcome.messages, 'message')}, no request")

    def sweep(self, swept: Swept) -> None:
        self.repository(swept.outcome)
        self._console.print(
            f"The sweep asked for {counted(len(swept.pruned), 'repository', 'repositories')}, this one among them;"
            f" the other {len(swept.pruned) - 1} had nothing more to delete."
        )

    def totals(self, outcomes: Sequence[Outcome], announced: int, asked: int) -> None:
        chapter(self._console, "All in all")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("repository")
        for heading in ("messages", "runs", "requests", "seconds", "kept", "deleted", "size"):
            table.add_column(heading, justify="right")
        for one in outcomes:
            table.add_row(
                one.history.path,
                str(one.messages),
                str(one.runs),
                str(one.requests),
                f"{one.seconds:.2f}" if one.runs else "",
                str(len(one.after)),
                str(len(one.deleted)),
                _megabytes(one.size) if one.size else "",
            )
        self._console.print(table)
        reasons = Counter(
            reason for one in outcomes for digest, reason in one.reasons.items() if digest in one.before
        )
        self._console.print()
        words = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for reason, meaning in IN_WORDS.items():
            if reasons[reason]:
                words.add_row(str(reasons[reason]), _fate(reason not in REASONS_TO_DELETE), reason, meaning)
        self._console.print(words)
        self._console.print(
            f"\nGoogle announces those deletions too: {counted(announced, 'message')},"
            f" acknowledged with {counted(asked, 'request')} to the registry."
        )

    def _before(self, outcome: Outcome) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("image, digest", no_wrap=True, overflow="ellipsis")
        table.add_column("age", justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column("reason", no_wrap=True)
        table.add_column("that is", overflow="fold", ratio=1)
        root = ""
        for line in tree(outcome.before, outcome.held):
            digest = line.manifest.digest
            left = digest in outcome.after
            root = root if line.depth else digest
            why = outcome.history.expected[digest].why if digest in outcome.history.expected else ""
            if line.depth and left and root not in outcome.after:
                why = f"{' and '.join(owners(digest, outcome.after))} needs it"
            table.add_row(
                Text.assemble((line.branch, "dim"), line.label, (f" {short(digest)}", "dim")),
                _age(line.manifest, self._now),
                _fate(left),
                outcome.reasons.get(digest, ""),
                Text(why, style="dim"),
            )
        return table

    def _after(self, outcome: Outcome) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        lines = list(tree(outcome.after, outcome.held))
        for at, line in enumerate(lines):
            if line.depth:
                continue
            table.add_row(
                Text.assemble(line.label, (f" {short(line.manifest.digest)}", "dim")), _age(line.manifest, self._now)
            )
            parts = parts_in_words(lines[at + 1 :])
            if parts:
                table.add_row(Text.assemble(("└─ ", "dim"), parts), "")
        return table


def in_yaml(policies: list[dict[str, object]]) -> str:
    """Return policies as people write them."""
    return str(yaml.safe_dump(policies, sort_keys=False, width=100))


def _fate(is_kept: bool) -> Text:  # it is all that there is
    return Text("kept", style="green") if is_kept else Text("deleted", style="red")


def _age(manifest: Manifest, now: datetime) -> str:
    age = now - datetime.fromtimestamp(int(str(manifest.uploaded_ms)) / 1000, UTC)
    if age < timedelta(minutes=5):
        return "now"
    return f"{age.days} d" if age < timedelta(days=1000) else f"{age.days / 365.25:.0f} y"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def counted(count: int, what: str, whats: str = "") -> str:
    return f"{count or 'no'} {what if count == 1 else whats or what + 's'}"
