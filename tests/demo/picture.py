"""How an outcome is shown to a person, and the words for it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

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
    "unknown-type": "nobody knows what it is",
    "unknown-age": "nobody knows how old it is",
    "too-young": "younger than min_age, which is an hour here",
    "just-pushed": "somebody has just pushed it again",
    "protected-tag": "protect_tags matches its tag",
    "tagged": "delete_tags does not match its tag",
    "newest": "among the newest that keep counts",
    "needed": "something that stays needs it",
    "over-limit": "max_deletions is reached",
    "expired": "an image that no rule keeps",
    "follows": "belongs to an image that goes",
    "orphan": "what it belongs to is gone",
}


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
            policy = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
            for key, value in history.policy.items():
                policy.add_row(Text(key, style="dim"), Text(json.dumps(value, ensure_ascii=False)))
            self._console.print(policy)
        self._console.print(Text("\nBefore, with the push" if history.push else "\nBefore", style="bold"))
        self._console.print(self._before(outcome))
        self._console.print(Text("\nAfter", style="bold"))
        self._console.print(self._after(outcome))
        if outcome.runs:
            self._console.print(
                f"\n{len(outcome.went)} of {len(outcome.before)} manifests went, {_megabytes(outcome.size)}:"
                f" {counted(outcome.messages, 'message')}, {counted(outcome.runs, 'run')},"
                f" {counted(outcome.requests, 'request')}, {outcome.seconds:.2f} s"
            )
        else:
            self._console.print(f"\nuntouched: {counted(outcome.messages, 'message')}, no request")

    def sweep(self, swept: Swept) -> None:
        self.repository(swept.outcome)
        self._console.print(
            f"The sweep asked for {counted(len(swept.pruned), 'repository', 'repositories')}, this one among them;"
            f" the other {len(swept.pruned) - 1} had nothing more to lose."
        )

    def totals(self, outcomes: Sequence[Outcome], announced: int, asked: int) -> None:
        chapter(self._console, "All in all")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("repository")
        for heading in ("messages", "runs", "requests", "seconds", "stay", "went", "size"):
            table.add_column(heading, justify="right")
        for one in outcomes:
            table.add_row(
                one.history.path,
                str(one.messages),
                str(one.runs),
                str(one.requests),
                f"{one.seconds:.2f}" if one.runs else "",
                str(len(one.after)),
                str(len(one.went)),
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
                gone = reason in ("expired", "follows", "orphan")
                fate = Text("went" if gone else "stays", style="red" if gone else "green")
                words.add_row(str(reasons[reason]), fate, reason, meaning)
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
                Text("stays", style="green") if left else Text("goes", style="red"),
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


def _age(manifest: Manifest, now: datetime) -> str:
    age = now - datetime.fromtimestamp(int(str(manifest.uploaded_ms)) / 1000, UTC)
    if age < timedelta(minutes=5):
        return "now"
    return f"{age.days} d" if age < timedelta(days=1000) else f"{age.days / 365.25:.0f} y"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def counted(count: int, what: str, whats: str = "") -> str:
    return f"{count or 'no'} {what if count == 1 else whats or what + 's'}"
