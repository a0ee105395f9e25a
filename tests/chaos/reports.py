"""What is printed of the rounds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.rounds import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    faults: Counter[str] = sum((one.faults for one in outcomes), Counter())
    gaps: Counter[str] = sum((one.gaps for one in outcomes), Counter())
    counts: Counter[str] = sum((one.counts for one in outcomes), Counter())
    modes = Counter(one.case.mode for one in outcomes)
    rows = [
        ("rounds", f"{len(outcomes)}  ({', '.join(f'{count} {mode}' for mode, count in sorted(modes.items()))})"),
        ("requests", str(counts["requests"])),
        ("messages delivered", f"{counts['deliveries']}  ({counts['redelivered']} redelivered)"),
        ("command lines", str(counts["commands"])),
        ("runs cut within an image", str(counts["cuts"])),
        ("manifests pushed", str(counts["pushes"])),
        ("deletions", f"{counts['manifests deleted']} manifests, {counts['tags deleted']} tags"),
        ("refused by the registry", str(counts["refused"])),
        ("faults", str(faults.total())),
        *((f"  {name}", str(count)) for name, count in sorted(faults.items()) if count),
        ("gap cases", str(gaps.total())),
        *((f"  {name}", str(count)) for name, count in sorted(gaps.items())),
        ("losses", str(sum(len(one.losses) for one in outcomes))),
        ("seconds", f"{seconds:.0f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def failure(outcome: Outcome, most: int = 120) -> str:
    """What is printed of a round that did not go well."""
    case = outcome.case
    lines = [
        f"seed {case.seed} ({case.mode}): python -m tests.chaos --seed {case.seed} --rounds 1 --mode {case.mode}",
        *(f"LOSS: {loss.what}" for loss in outcome.losses),
        *(f"BROKEN: {text}" for text in outcome.broken),
        f"{case}",
        *outcome.trace[:most],
    ]
    if len(outcome.trace) > most:
        lines.append(f"… {len(outcome.trace) - most} lines more")
    return "\n".join(lines)
