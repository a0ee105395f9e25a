"""The sentences of ``--explain``: which rules speak for an image, and that they agree with the plan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, strategies as st

from cleaner.cli.explain import Case, Finding, NothingToExplain, explain, find, findings
from cleaner.core.manifest import Manifest
from cleaner.core.policy import Policy
from cleaner.core.reference import Tag
from cleaner.core.rules import Reason, Running
from tests.support import oracle
from tests.support.builders import NOW, cosign, digest, listing, manifest, planned, policy
from tests.support.strategies import Case as Example, cases


def case(held: Iterable[Manifest], by: Policy, *, running: str = "", running_tags: str = "") -> Case:
    """Return the plan for a repository of ``held`` and what it rests on."""
    manifests = tuple(held)
    plan = planned(manifests, by, running=running, running_tags=running_tags)
    deployed = Running(
        {digest(name): f"runner of {name}" for name in running.split()},
        {Tag(tag): f"runner of {tag}" for tag in running_tags.split()},
    )
    return Case(plan, listing(*manifests), by, NOW, deployed if running or running_tags else None)


def finding(of: Case, name: str, reason: Reason) -> Finding:
    """Return what one rule says of the manifest ``name``."""
    manifest = of.listing.manifests[digest(name)]
    return next(one for one in findings(of, manifest) if one.reason is reason)


def said(of: Case, name: str) -> str:
    """Return the whole explanation of the manifest ``name``."""
    return "\n".join(explain(of, of.listing.manifests[digest(name)]))


@given(cases(), st.sampled_from([None, 1, 2, 5]))
def test_explanation_agrees_with_plan(example: Example, limit: int | None) -> None:
    """The first rule that says yes is the plan's reason; where none does, the manifest goes."""
    by = policy(**{**example.keys, "max_deletions": limit})
    explained = case(example.held, by, running=example.running, running_tags=example.running_tags)
    for verdict in explained.plan.keep:
        found = findings(explained, verdict.manifest)
        assert next(one.reason for one in found if one.keeps) is verdict.reason
    for deletion in explained.plan.delete:
        assert [one.reason for one in findings(explained, deletion.manifest) if one.keeps] == []


def kept_by_the_oracle(held: Iterable[Manifest], keys: Mapping[str, object]) -> dict[str, str]:
    """Return the oracle's reasons for what stays, by digest."""
    state = []
    for one in held:
        document = {"manifests": [{"digest": child} for child in one.links.children]}
        subject = {"subject": {"digest": one.links.subject}} if one.links.subject else {}
        uploaded = None if one.uploaded is None else round(one.uploaded.timestamp() * 1000)
        body = json.dumps(document | subject).encode()
        state.append(oracle.Held(one.digest, one.media_type, frozenset(one.tags), uploaded, body))
    reasons = oracle.decide(state, keys, round(NOW.timestamp() * 1000))
    return {digest: reason for digest, reason in reasons.items() if reason not in oracle.GOING}


@given(cases(), st.sampled_from(["(sha256)-.+", "([a-z0-9]+)-.+", "([a-z]*)[0-9]*-.{4,}"]))
def test_groups_of_cosign_tags(example: Example, group_by: str) -> None:
    """Where ``group_by`` captures cosign tags, too, the plan, its explanation and the oracle are of one mind."""
    keys = {**example.keys, "group_by": group_by}
    explained = case(example.held, policy(**keys))
    said = {
        one.digest: next((found.reason.value for found in findings(explained, one) if found.keeps), None)
        for one in example.held
    }
    kept = {verdict.manifest.digest: verdict.reason.value for verdict in explained.plan.keep}

    assert {name: reason for name, reason in said.items() if reason} == kept
    assert kept_by_the_oracle(example.held, keys) == kept


def test_image_that_its_cosign_tag_puts_in_a_group() -> None:
    """A tagged image is in the groups of all of its tags, and kept as the newest of any."""
    held = [manifest("old", 9, f"main-1 {cosign('gone', '')}"), *(manifest(f"m{at}", at, "main-2") for at in (1, 2))]
    explained = case(held, policy(keep=1, delete_tags=[".*"], group_by="([a-z0-9]+)-[0-9a-f]+"))

    found = finding(explained, "old", Reason.NEWEST)

    assert (found.keeps, said(explained, "old").endswith("It is kept, as newest.")) == (True, True)
    assert found.sentence == (
        "It is number 3 of 3 in its group 'main'; keep is 1 and number 1 of 1 in its group 'sha256'; keep is 1."
    )


@given(cases())
def test_every_manifest_can_be_explained(example: Example) -> None:
    """Whatever somebody has pushed: one sentence for each rule, and nothing that moves a terminal's cursor."""
    explained = case(example.held, policy(**example.keys))
    for held in example.held:
        lines = explain(explained, held)
        assert len([line for line in lines if line.startswith("  ")]) == 10
        assert all(line.isprintable() for line in lines)


def test_place_in_its_group() -> None:
    """Where an image stands among the newest is told with the numbers."""
    held = [manifest(f"m{at}", at + 1, f"main-{at}") for at in range(7)] + [manifest("x", 1, "pr-1")]
    explained = case(held, policy(keep=3, delete_tags=[".*"], group_by="([a-z]+)-[0-9]"))

    kept, expired = (finding(explained, name, Reason.NEWEST) for name in ("m2", "m6"))

    assert (kept.keeps, kept.sentence) == (True, "It is number 3 of 7 in its group 'main'; keep is 3.")
    assert (expired.keeps, expired.sentence) == (False, "It is number 7 of 7 in its group 'main'; keep is 3.")


def test_place_among_untagged_images() -> None:
    """Untagged images are counted on their own, by keep_untagged."""
    held = [manifest("a", 1), manifest("b", 2), manifest("tagged", 1, "v1")]

    found = finding(case(held, policy(keep_untagged=1)), "b", Reason.NEWEST)

    assert found.sentence == "It is number 2 of 2 untagged images; keep_untagged is 1."


def test_image_that_is_among_the_newest_and_too_old() -> None:
    """Both are told: where it stands, and that max_age is over."""
    held = [manifest("a", 40, "v1")]

    found = finding(case(held, policy(max_age="30d", delete_tags=[".*"])), "a", Reason.NEWEST)

    assert found.sentence == "It is number 1 of 1 tagged images; keep is 5; but it is 40d old, and max_age is 30d."


def test_rules_behind_the_reason_are_told_too() -> None:
    """A young release is kept for being young, and would be for its tag."""
    text = said(case([manifest("a", 0.01, "v1.2")], policy(protect_tags=["v.*"])), "a")

    assert "  yes  too-young      It is 14m old; min_age is 1h." in text
    assert "  yes  protected-tag  protect_tags has v.*, which matches v1.2." in text
    assert text.endswith("It is kept, as too-young.")


def test_tags_that_delete_tags_does_not_match() -> None:
    """The tag that keeps an image is named."""
    held = [manifest("a", 9, "ci-1 latest")]

    assert finding(case(held, policy(delete_tags=["ci-.*"])), "a", Reason.TAGGED).sentence == (
        "delete_tags does not match latest."
    )


def test_who_runs_it() -> None:
    """An index whose child is deployed is kept for that, and both are named."""
    held = [manifest("index", 9, "ci-1", children="amd64"), manifest("amd64", 9)]

    found = finding(case(held, policy(delete_tags=[".*"], keep=1), running="amd64"), "index", Reason.RUNNING)

    assert found.sentence == "runner of amd64 runs what it lists."


def test_child_that_is_needed_by_way_of_another() -> None:
    """A signature of a platform stays for the index that lists it."""
    held = [
        manifest("index", 9, "v1", children="amd64"),
        manifest("amd64", 9),
        manifest("sig", 9, cosign("amd64")),
    ]
    explained = case(held, policy(keep_untagged=0))
    amd64, index = digest("amd64")[7:19], digest("index")[7:19]

    assert finding(explained, "sig", Reason.NEEDED).sentence == (
        f"{amd64} has it attached, and {index} (v1), kept as tagged, needs that."
    )
    assert f"It is a child: {index} (v1) lists it." in said(explained, "amd64")
    assert f"It is a referrer: it is about {amd64}." in said(explained, "sig")


def test_what_follows_says_whom() -> None:
    """A child that goes names the index that it goes after."""
    held = [manifest("index", 9, children="amd64"), manifest("amd64", 9)]

    text = said(case(held, policy(keep_untagged=0)), "amd64")

    assert text.endswith(f"It is deleted, as follows: it belongs to {digest('index')[7:19]}, and goes after that.")


@pytest.mark.parametrize(
    "name", ["v1", digest("a"), digest("a")[7:], digest("a")[7:13], digest("a")[:20]], ids=lambda name: name[:20]
)
def test_manifest_is_found(name: str) -> None:
    """A tag will do, and a digest or its beginning, with or without the algorithm."""
    held = listing(manifest("a", 9, "v1"), manifest("b", 9, "v2"))

    assert find(held, name).digest == digest("a")


@pytest.mark.parametrize("name", ["v3", "V1", digest("a")[7:10], digest("c"), "", "sha256:"])
def test_manifest_is_not_found(name: str) -> None:
    """Three digits are more likely a mistake than a digest."""
    with pytest.raises(NothingToExplain, match="no manifest has the tag or digest"):
        find(listing(manifest("a", 9, "v1")), name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (digest("a")[7:10], ": of a digest, 4 digits or more are needed"),
        (digest("a")[:8], ": of a digest, 4 digits or more are needed"),
        ("sha256:", ": of a digest, 4 digits or more are needed"),
        ("v3", ""),
        ("ffff", ""),
    ],
)
def test_too_few_digits_are_told(name: str, hint: str) -> None:
    """One manifest's digest begins so, and still it is not taken for that one."""
    with pytest.raises(NothingToExplain) as caught:
        find(listing(manifest("a", 9, "v1")), name)

    assert str(caught.value) == f"gcr.io/acme/api: no manifest has the tag or digest {name!r}{hint}"


def test_tag_comes_before_a_digest() -> None:
    """A commit's hash as a tag may be the beginning of another manifest's digest."""
    tag = digest("b")[7:14]

    assert find(listing(manifest("a", 9, tag), manifest("b", 9)), tag).digest == digest("a")


def test_beginning_of_two_digests() -> None:
    """Nobody guesses which was meant."""
    twins = [digest(f"sha256:{'abcd'}{end * 60}") for end in "01"]
    held = listing(*(manifest(twin, 9) for twin in twins))

    with pytest.raises(NothingToExplain, match="2 digests begin with 'abcd'"):
        find(held, "abcd")
