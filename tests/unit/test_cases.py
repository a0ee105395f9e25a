"""Small repositories as they are found in practice come out as a sensible operator expects."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cleaner.core.errors import InvalidNotification
from cleaner.core.notification import Pushed, Removed, parse_data
from cleaner.core.plan import plan
from tests.support.cases import CASES, Case, messages

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_case_comes_out_as_expected(case: Case) -> None:
    """Each manifest is kept or deleted, and for the reason that is expected."""
    todo = plan(case.listing(NOW), case.the_policy(), NOW)

    names = case.names()
    fate = {names[one.manifest.digest]: "keep" for one in todo.keep}
    fate |= {names[one.manifest.digest]: "delete" for one in todo.delete}
    reasons = {names[one.manifest.digest]: one.reason.value for one in (*todo.keep, *todo.delete)}
    assert {name: fate[name] for name in case.expect} == case.expect
    assert {name: reasons[name] for name in case.reasons} == case.reasons


@pytest.mark.parametrize(("data", "meaning"), [pytest.param(*one, id=one[0].get("tag")) for one in messages()])
def test_message_means_what_is_expected(data: dict[str, Any], meaning: str) -> None:
    """Which repository it prunes, that it is ignored, or that it is rejected."""
    try:
        notification = parse_data(json.dumps(data).encode())
    except InvalidNotification:
        assert meaning == "rejected"
        return
    if isinstance(notification, Removed):
        assert meaning == "ignored"
        return
    assert isinstance(notification, Pushed)
    assert meaning == f"prune {notification.repository}"


def test_no_case_is_left_out() -> None:
    """An empty folder would pass."""
    assert (len(CASES), len(messages())) == (11, 25)
