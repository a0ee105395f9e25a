"""Faults on demand, and the two gaps that the emulator recognises."""

from __future__ import annotations

import time

import pytest
import requests

from tests.emulator import Emulator
from tests.emulator.faults import (
    After,
    Before,
    BrokenJson,
    CutBody,
    Delay,
    DropAfter,
    DropBefore,
    Quota,
    Stall,
    Status,
    too_many_requests,
)
from tests.emulator.images import image, index, load
from tests.emulator.wire import ACCEPT, Pusher
from tests.support.emulator_client import ABSENT, PATH, UPLOADED_MS, Client, code_of


def test_status_is_answered_without_the_work(emulator: Emulator, client: Client) -> None:
    """A 503 with ``Retry-After`` on the second deletion only; nothing goes in it."""
    digests = [load(emulator.store, emulator.name(PATH), image(n)) for n in range(3)]
    rule = emulator.faults.add(Status(503, retry_after=7), kind="manifest_delete", nth=2)

    answers = [client.delete(digest) for digest in digests]

    assert [answer.status_code for answer in answers] == [202, 503, 202]
    assert answers[1].headers["Retry-After"] == "7"
    assert emulator.store.digests(emulator.name(PATH)) == {digests[1]}
    assert (rule.seen, rule.hits, emulator.faults.counts["Status"]) == (3, 1, 1)


def test_429_is_json_or_plain_text(emulator: Emulator, client: Client) -> None:
    """Google sends both: ``TOOMANYREQUESTS`` and the text ``Quota Exceeded.``"""
    emulator.faults.add(too_many_requests(), nth=1)
    emulator.faults.add(too_many_requests(plain=True), nth=2)

    as_json, as_text = client.listing(), client.listing()

    assert code_of(as_json) == (429, "TOOMANYREQUESTS")
    assert (as_text.status_code, as_text.text) == (429, "Quota Exceeded.")


@pytest.mark.parametrize(("action", "left"), [(DropBefore(), 1), (DropAfter(), 0), (Stall(0.01), 1)])
def test_dropped_connection_has_done_the_work_or_not(
    emulator: Emulator, client: Client, action: DropBefore | DropAfter | Stall, left: int
) -> None:
    """Before the work, or after it: a deletion done whose answer is lost.  Logged with status 0."""
    digest = load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(action, method="DELETE")

    with pytest.raises(requests.ConnectionError):
        client.delete(digest)

    assert len(emulator.store.digests(emulator.name(PATH))) == left
    assert [entry.status for entry in emulator.log.entries] == [0]


def test_body_can_end_early(emulator: Emulator, client: Client) -> None:
    """``Content-Length`` promises more than comes."""
    load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(CutBody(), path="/tags/list")

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.listing()


def test_broken_json_comes_with_200(emulator: Emulator, client: Client) -> None:
    """The status promises what the body does not hold."""
    load(emulator.store, emulator.name(PATH), image(1))
    emulator.faults.add(BrokenJson(), kind="tags_list")

    answer = client.listing()

    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_callback_changes_the_state_before_or_after_a_request(emulator: Emulator, client: Client) -> None:
    """A tag that moves at the second request; a push that arrives right after a listing."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)
    emulator.faults.add(Before(lambda: emulator.store.tag(repository, "latest", new)), kind="manifest_head", nth=2)
    emulator.faults.add(After(lambda: load(emulator.store, repository, image(3))), kind="tags_list")

    heads = [client("HEAD", f"/v2/{PATH}/manifests/latest").headers["Docker-Content-Digest"] for _ in range(2)]
    listed = client.listing().json()["manifest"]

    assert heads == [old, new]
    assert len(listed) == 2
    assert len(emulator.store.digests(repository)) == 3


def test_chance_is_the_same_for_the_same_seed(emulator: Emulator, client: Client) -> None:
    """A run that failed can be run again."""

    def run(seed: int) -> list[int]:
        emulator.faults.clear()
        emulator.faults.seed(seed)
        emulator.faults.add(Status(500), probability=0.5)
        return [client("GET", "/v2/").status_code for _ in range(20)]

    first = run(1)

    assert {200, 500} == set(first)
    assert run(1) == first
    assert run(2) != first


def test_rule_hits_every_nth_after_some_and_only_so_often(emulator: Emulator, client: Client) -> None:
    """``skip``, ``every`` and ``times`` together."""
    emulator.faults.add(Status(500), skip=1, every=2, times=2)

    assert [client("GET", "/v2/").status_code for _ in range(8)] == [200, 200, 500, 200, 500, 200, 200, 200]


def test_latency_is_what_was_asked_for(emulator: Emulator, client: Client) -> None:
    """No answer comes earlier, and a rule's delay adds to it; how much later is the machine's affair."""
    emulator.faults.latency_s = 0.02
    emulator.faults.add(Delay(0.03), skip=5)

    def best() -> float:
        return min(client("GET", "/v2/").elapsed.total_seconds() for _ in range(5))

    assert best() >= 0.02
    assert best() >= 0.05


def test_quota_refuses_what_is_beyond_it(emulator: Emulator, client: Client) -> None:
    """Only the methods it names, counted as accepted and refused; over as soon as it is lifted."""
    quota = emulator.faults.quota = Quota(0.001, methods=frozenset({"DELETE"}), burst=5, retry_after=1)

    statuses = [client.delete(ABSENT).status_code for _ in range(8)]

    assert statuses == [404] * 5 + [429] * 3
    assert (quota.accepted, quota.refused) == (5, 3)
    assert sum(accepted + refused for accepted, refused in quota.windows.values()) == 8
    assert client("GET", "/v2/").status_code == 200
    emulator.faults.quota = None
    assert client.delete(ABSENT).status_code == 404


def test_quota_fills_again() -> None:
    """A token bucket holds what time has put into it, and no more than it can."""
    quota = Quota(200, burst=2)
    now = time.monotonic()

    assert [quota.take(now) for _ in range(3)] == [True, True, False]
    assert [quota.take(now + 0.006) for _ in range(2)] == [True, False]
    assert [quota.take(now + 60) for _ in range(3)] == [True, True, False]


def test_quota_of_whole_seconds() -> None:
    """Each has its own."""
    quota = Quota(5, fixed=True)
    now = time.monotonic()

    assert [quota.take(now) for _ in range(8)] == [True] * 5 + [False] * 3
    assert quota.take(now + 1)
    assert sorted(quota.windows.values()) == [[1, 0], [5, 3]]


# The two gaps.


def test_tag_that_moved_between_look_and_deletion_is_a_gap(emulator: Emulator, client: Client) -> None:
    """The client saw one manifest and took the tag off another: recorded with both."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)

    client("HEAD", f"/v2/{PATH}/manifests/latest")
    emulator.store.tag(repository, "latest", new)
    client.delete("latest")

    (gap,) = emulator.gaps
    assert (gap.kind, gap.repository, gap.tag) == ("tag-moved", repository, "latest")
    assert (gap.expected, gap.found, gap.attempt) == (old, new, 1)
    assert gap.seconds >= 0


def test_tag_that_was_looked_at_again_is_no_gap(emulator: Emulator, client: Client) -> None:
    """The last look of the same client counts; a deletion without any look is no gap but a mistake."""
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    for tag in ("latest", "unseen"):
        emulator.store.tag(repository, tag, old)

    client("HEAD", f"/v2/{PATH}/manifests/latest")
    emulator.store.tag(repository, "latest", new)
    client("HEAD", f"/v2/{PATH}/manifests/latest")
    client.delete("latest")
    emulator.store.tag(repository, "unseen", new)
    client.delete("unseen")

    assert emulator.gaps == []


def test_look_of_another_client_does_not_hide_a_gap(emulator: Emulator, client: Client) -> None:
    """Clients are told apart by their tokens."""
    emulator.behaviour.auth = True
    repository = emulator.name(PATH)
    old, new = (load(emulator.store, repository, image(n)) for n in (1, 2))
    emulator.store.tag(repository, "latest", old)
    first, second = ({"Authorization": f"Bearer {client.token()}", "Accept": ACCEPT} for _ in range(2))

    client("HEAD", f"/v2/{PATH}/manifests/latest", headers=first)
    emulator.store.tag(repository, "latest", new)
    client("HEAD", f"/v2/{PATH}/manifests/latest", headers=second)
    client("DELETE", f"/v2/{PATH}/manifests/latest", headers=first)

    assert [(gap.expected, gap.found) for gap in emulator.gaps] == [(old, new)]


@pytest.mark.parametrize("strict", [False, True])
def test_index_whose_child_went_in_between_is_a_gap(emulator: Emulator, strict: bool) -> None:
    """A push skipped an upload because the child was there; then it was gone.  A child that never was is no gap."""
    repository = emulator.name(PATH)
    child = image(1, with_blobs=True)
    built = index([child])
    emulator.store.strict = strict
    load(emulator.store, repository, child, uploaded=UPLOADED_MS)
    gone = Before(lambda: emulator.store.delete_manifest(repository, child.digest))
    emulator.faults.add(gone, kind="manifest_put")

    with Pusher(emulator.url) as pusher:
        try:
            pusher.push(PATH, built, ["v1"])
            refused = False
        except requests.HTTPError:
            refused = True
    emulator.store.strict = False
    load(emulator.store, repository, index([], absent=[ABSENT]))

    (gap,) = emulator.gaps
    assert refused == strict
    assert (gap.kind, gap.expected, gap.found) == ("child-gone", child.digest, built.digest)
    assert gap.age_s == pytest.approx(time.time() - UPLOADED_MS / 1000, abs=10)
