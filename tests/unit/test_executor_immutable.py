"""Tags that the registry deletes none of: they are taken for immutable, and no further one is begun."""

from __future__ import annotations

import pytest

from cleaner.engine.executor import TagDeletions
from cleaner.google.registry.deletions import DELETED, NOT_FOUND, NOT_SENT, DeletionResponse
from tests.support.execution import MemoryDeleter, Steps, carry_out

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(60, method="thread")

REFUSAL = DeletionResponse(is_gone=False, was_sent=True, status=400, codes=("GOOGLE_MANIFEST_DANGLING_TAG",))
IMMUTABLE = DeletionResponse(is_gone=False, was_sent=True, status=400, codes=("FAILED_PRECONDITION",))


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_no_tag_is_begun_after_three_that_failed_alike(workers: int) -> None:
    """Besides the third at most what the other workers have begun; what has no tag is deleted."""
    steps = Steps()
    for number in range(60):
        steps.add(f"image{number}", tags=f"t{number}")
        steps.add(f"untagged{number}")
    deleter = MemoryDeleter(responses={f"t{number}": IMMUTABLE for number in range(60)})
    tag_deletions = TagDeletions()

    result = carry_out(steps, deleter, workers=workers, tag_deletions=tag_deletions)

    tried = [what for what in deleter.requests if what.startswith("t")]
    assert 3 <= len(tried) <= 3 + workers - 1
    assert len(deleter.requests) == len(tried) + 60
    assert tag_deletions.immutable == IMMUTABLE
    # Nothing is left that could be deleted.
    assert (result.is_cut, result.error) == (False, None)


A, B, C = IMMUTABLE, *(DeletionResponse(is_gone=False, was_sent=True, status=status) for status in (403, 412))


@pytest.mark.parametrize(
    ("responses", "tried", "immutable"),
    [
        ((A, A, A, A), 3, A),
        # Failures that differ do not count together.
        ((A, B, A, B, A, B), 5, A),
        ((A, B, C, A, B, C), 6, None),
        # A tag was deleted, so tags can be.
        ((DELETED, A, A, A, A), 5, None),
        ((A, A, DELETED, A, A), 5, None),
        # Somebody else has deleted it.
        ((NOT_FOUND, A, A, A, A), 4, A),
        # What is refused, or not sent, has not failed.
        ((REFUSAL, REFUSAL, REFUSAL, REFUSAL), 4, None),
        ((NOT_SENT, NOT_SENT, NOT_SENT, NOT_SENT), 4, None),
        ((A, REFUSAL, A, NOT_SENT, A, A), 5, A),
    ],
)
def test_tags_are_immutable_if_three_failed_alike_and_none_was_deleted(
    responses: tuple[DeletionResponse, ...], tried: int, immutable: DeletionResponse | None
) -> None:
    """One worker tries them one after the other."""
    steps = Steps()
    for number in range(len(responses)):
        steps.add(f"image{number}", tags=f"t{number}")
    deleter = MemoryDeleter(responses={f"t{number}": response for number, response in enumerate(responses)})
    deleter.responses |= {f"image{number}": REFUSAL for number in range(len(responses))}
    tag_deletions = TagDeletions()

    carry_out(steps, deleter, workers=1, tag_deletions=tag_deletions)

    assert len([what for what in deleter.requests if what.startswith("t")]) == tried
    assert tag_deletions.immutable == immutable


def test_manifests_that_fail_do_not_make_tags_immutable() -> None:
    """The tags were deleted, or there were none."""
    steps = Steps()
    for number in range(4):
        steps.add(f"untagged{number}")
    steps.add("image", tags="t")
    deleter = MemoryDeleter(responses={f"untagged{number}": IMMUTABLE for number in range(4)})
    tag_deletions = TagDeletions()

    carry_out(steps, deleter, workers=1, tag_deletions=tag_deletions)

    assert deleter.requests[-2:] == ["t", "image"]
    assert tag_deletions.immutable is None


def test_failures_of_a_runs_plans_count_together() -> None:
    """Two tags failed before the plan was cut; the third of the next plan is the last that is tried."""
    tag_deletions = TagDeletions()
    tried = []
    for names in ("ab", "cdef", "gh"):
        steps = Steps()
        for name in names:
            steps.add(f"image {name}", tags=name)
        deleter = MemoryDeleter(responses=dict.fromkeys(names, IMMUTABLE))
        carry_out(steps, deleter, workers=1, tag_deletions=tag_deletions)
        tried.append("".join(deleter.requests))

    assert tried == ["ab", "c", ""]
