"""The sentences of ``--explain``: one for each rule, in agreement with the plan."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Manifest
from cleaner.core.policy import Policy
from cleaner.core.reference import Tag
from cleaner.core.rules import RULES, Reason, Running
from cleaner.views.explain import Finding, NothingToExplain, explain, find, findings
from cleaner.views.images import Planned
from tests.support.builders import NOW, cosign, digest, listing, manifest, one_rule, planned, policy
from tests.support.strategies import Case as Example, cases, listed_cases

CHART = "application/vnd.cncf.helm.config.v1+json"


def case(held: Iterable[Manifest], by: Policy, *, running: str = "", running_tags: str = "") -> Planned:
    """Return the plan for a repository of ``held`` and what it is made from."""
    manifests = tuple(held)
    plan = planned(manifests, by, running=running, running_tags=running_tags)
    deployed = Running(
        {digest(name): f"runner of {name}" for name in running.split()},
        {Tag(tag): f"runner of {tag}" for tag in running_tags.split()},
    )
    return Planned(
        plan, listing(*manifests), by, "policies.yaml[0]", NOW, deployed if running or running_tags else None
    )


def finding(of: Planned, name: str, reason: Reason) -> Finding:
    """Return what one rule says of the manifest ``name``."""
    manifest = of.listing.manifests[digest(name)]
    return next(one for one in findings(of, manifest) if one.reason is reason)


def said(of: Planned, name: str) -> list[str]:
    """Return the explanation of the manifest ``name``, by paragraph."""
    return explain(of, of.listing.manifests[digest(name)])


def short(name: str) -> str:
    """Return the digest of the manifest ``name`` as the explanation has it."""
    return digest(name)[7:19]


@given(listed_cases(), st.sampled_from([None, 1, 2, 5]))
def test_explanation_agrees_with_plan(example: Example, limit: int | None) -> None:
    """The first rule that says yes is the plan's reason; what is deleted has none."""
    by = policy(**{**example.keys, "max_deletions": limit})
    explained = case(example.held, by, running=example.running, running_tags=example.running_tags)
    for verdict in explained.plan.keep:
        found = findings(explained, verdict.manifest)
        assert next(one.reason for one in found if one.keeps) is verdict.reason
        assert explain(explained, verdict.manifest)[-1].startswith(f"It is kept, as {verdict.reason.value}")
    for deletion in explained.plan.delete:
        assert [one.reason for one in findings(explained, deletion.manifest) if one.keeps] == []
        assert explain(explained, deletion.manifest)[-1].startswith(f"It is deleted, as {deletion.reason.value}")


@given(cases())
def test_every_rule_has_a_sentence(example: Example) -> None:
    """Of any manifest there is one for each rule, in the rules' order, and no control character in it."""
    explained = case(example.held, policy(**example.keys))
    for held in example.held:
        lines = explain(explained, held)
        found = [line for line in lines if line.startswith("  ")]
        assert [line.split()[1] for line in found] == [
            *(reason.value for reason, _ in RULES),
            Reason.NEEDED.value,
            Reason.OVER_LIMIT.value,
        ]
        assert all(line.endswith(".") for line in found)
        assert all(line.isprintable() for line in lines)


# --- the reasons


def test_rank_in_a_pool_of_captured_groups() -> None:
    """The rule, its regex, the captured groups, the rank and ``keep`` are named."""
    held = [manifest(f"m{at}", at + 1, f"main-{at}") for at in range(7)] + [manifest("x", 1, "pr-1")]
    rules = [{"match": "v.*", "keep": "all"}, {"match": "([a-z]+)-[0-9]", "keep": 3, "delete_after": "90d"}]
    explained = case(held, policy(tagged=rules))
    pool = "the pool 'main' of tagged[1] (([a-z]+)-[0-9])"

    kept, expired = (finding(explained, name, Reason.NEWEST) for name in ("m2", "m6"))

    assert (kept.keeps, kept.sentence) == (True, f"Its rank in {pool} is 3, and keep is 3.")
    assert (expired.keeps, expired.sentence) == (False, f"Its rank in {pool} is 7, and keep is 3.")
    assert said(explained, "m2")[-1] == (
        f"It is kept, as newest: its rank in {pool} is 3, and the rule has keep 3, delete_after 90d."
    )
    assert said(explained, "m6")[-1] == (
        "It is deleted, as expired: no rule keeps it;"
        f" its rank in {pool} is 7, and the rule has keep 3, delete_after 90d."
    )


def test_rank_by_version() -> None:
    """What the newest are is named where it is not the upload time."""
    held = [manifest("a", 1, "v1.9"), manifest("b", 2, "v1.10")]
    rules = [{"match": "v.*", "keep": 1, "order": "version"}]

    found = finding(case(held, policy(tagged=rules)), "a", Reason.NEWEST)

    assert (found.keeps, found.sentence) == (False, "Its rank in tagged[0] (v.*) is 2, by version, and keep is 1.")


def test_image_in_two_pools() -> None:
    """Each pool is named, with the rank there; a group that captured nothing is."""
    held = [manifest("old", 9, "main-1 ci"), *(manifest(f"m{at}", at, "main-2") for at in (1, 2))]
    explained = case(held, policy(tagged=[{"match": ["(main)-.*", "(x)?ci"], "keep": 1}]))
    rule = "tagged[0] ((main)-.* or (x)?ci)"

    found = finding(explained, "old", Reason.NEWEST)

    assert found.keeps
    assert found.sentence == (
        f"Its rank in the pool (none) of {rule} is 1, and keep is 1;"
        f" its rank in the pool 'main' of {rule} is 3, and keep is 1."
    )


def test_rank_among_untagged_images_of_one_content() -> None:
    """The kind of content is the pool, as the registry's users wrote it, and escaped."""
    held = [manifest("a", 1, content=f"{CHART}\x1b"), manifest("b", 2, content=f"{CHART}\x1b"), manifest("c", 3)]
    explained = case(held, policy(untagged={"keep": 1}))

    found = finding(explained, "b", Reason.NEWEST)

    assert found.sentence == f"Its rank in the pool of content '{CHART}\\x1b' of untagged is 2, and keep is 1."
    assert finding(explained, "c", Reason.NEWEST).keeps
    assert said(explained, "b")[0].endswith(f"Its kind of content is '{CHART}\\x1b'.")


@pytest.mark.parametrize(
    ("rule", "reason", "keeps", "sentence"),
    [
        ({"keep": "all"}, Reason.PROTECTED, True, "The rule tagged[0] (v.*) has keep all."),
        ({"keep": "all"}, Reason.NEWEST, False, "No rule with a number as keep applies to it."),
        ({"keep": "all"}, Reason.RECENT, False, "No rule with keep_within applies to it."),
        ({"keep": 1}, Reason.PROTECTED, False, "No rule with keep all applies to it."),
        (
            {"delete_after": "30d"},
            Reason.PROTECTED,
            False,
            "The rule tagged[0] (v.*) has keep all; but it is 40d old, and delete_after is 30d.",
        ),
        (
            {"keep": 5, "delete_after": "30d"},
            Reason.NEWEST,
            False,
            "Its rank in tagged[0] (v.*) is 1, and keep is 5; but it is 40d old, and delete_after is 30d.",
        ),
        ({"keep": 0}, Reason.NEWEST, False, "Its rank in tagged[0] (v.*) is 1, and keep is 0."),
        (
            {"keep_within": "50d"},
            Reason.RECENT,
            True,
            "It is 40d old, and keep_within of tagged[0] (v.*) is 50d.",
        ),
        (
            {"keep_within": "7d"},
            Reason.RECENT,
            False,
            "It is 40d old, and keep_within of tagged[0] (v.*) is 7d.",
        ),
        (
            {"keep_within": "50d", "keep": 1},
            Reason.RECENT,
            False,
            "It is 40d old, and keep_within of tagged[0] (v.*) is 50d, but newest comes first.",
        ),
    ],
)
def test_keys_of_a_rule(rule: dict[str, object], reason: Reason, keeps: bool, sentence: str) -> None:
    """Each key that decides is named with its value, as the policy has it."""
    explained = case([manifest("a", 40, "v1")], policy(tagged=[{"match": "v.*", **rule}]))

    found = finding(explained, "a", reason)

    assert (found.keeps, found.sentence) == (keeps, sentence)


@pytest.mark.parametrize(
    ("held", "unmatched", "newest"),
    [
        (
            manifest("a", 9, "v1 latest"),
            "No rule matches latest.",
            "Its rank in tagged[0] (v.*) is 1, and keep is 1.",
        ),
        (manifest("a", 9, "x"), "No rule matches x.", "No rule matches a tag of it."),
        (
            manifest("a", 9, "v1 v2"),
            "A rule matches every tag: v1 by tagged[0] (v.*) and v2 by tagged[0] (v.*).",
            "Its rank in tagged[0] (v.*) is 1, and keep is 1.",
        ),
        (manifest("a", None, "v1"), "A rule matches every tag: v1 by tagged[0] (v.*).", "Its age is unknown."),
        (
            manifest("a", 0.01),
            "Applies to tagged images only.",
            "It is younger than min_age: it may be a part of an index that is not uploaded yet.",
        ),
    ],
)
def test_images_that_some_rules_do_not_apply_to(held: Manifest, unmatched: str, newest: str) -> None:
    """The tags that no rule matches are named, and why an image has no rank."""
    explained = case([held], policy(tagged=[{"match": "v.*", "keep": 1}]))

    assert finding(explained, "a", Reason.UNMATCHED).sentence == unmatched
    assert finding(explained, "a", Reason.NEWEST).sentence == newest


def test_rules_after_the_reason_have_their_say() -> None:
    """A young release is kept for its age, and would be kept for its tag."""
    explained = case([manifest("a", 0.01, "v1.2")], policy(tagged=[{"match": "v.*", "keep": "all"}]))

    lines = said(explained, "a")

    assert "  yes  too-young      It is 14m old; min_age is 1h." in lines
    assert "  yes  protected      The rule tagged[0] (v.*) has keep all." in lines
    assert lines[-1] == "It is kept, as too-young."


@pytest.mark.parametrize(
    ("kind", "keeps", "sentence"),
    [
        ("oci", False, "Its media type 'application/vnd.oci.image.manifest.v1+json' is supported."),
        ("application/x\n", True, r"Its media type 'application/x\n' is not supported."),
    ],
)
def test_media_type(kind: str, keeps: bool, sentence: str) -> None:
    """It is named, and escaped."""
    found = finding(case([manifest("a", 9, kind=kind)], policy()), "a", Reason.UNKNOWN_TYPE)

    assert (found.keeps, found.sentence) == (keeps, sentence)


def test_who_runs_it() -> None:
    """An index whose child is deployed is kept for that, and both are named."""
    held = [manifest("index", 9, "ci-1", children="amd64"), manifest("amd64", 9)]

    found = finding(case(held, policy(**one_rule(1)), running="amd64"), "index", Reason.RUNNING)

    assert found.sentence == "runner of amd64 runs what it lists."
    assert finding(case(held, policy()), "index", Reason.RUNNING).sentence == "Not checked, without --running-scopes."


@pytest.mark.parametrize(("limit", "keeps"), [(1, True), (2, False)])
def test_limit_of_deletions(limit: int, keeps: bool) -> None:
    """The limit is named, and whether the image is left for a later run."""
    held = [manifest("a", 8, "ci-1"), manifest("b", 9, "ci-2")]

    found = finding(case(held, policy(**one_rule(0), max_deletions=limit)), "a", Reason.OVER_LIMIT)

    left = "; this one is left for a later run" if keeps else ""
    assert (found.keeps, found.sentence) == (keeps, f"max_deletions is {limit}, the oldest first{left}.")


# --- the classes, and what needs what


CLASSES = [
    manifest("index", 9, "v1", children="amd64 ref"),
    manifest("amd64", 9),
    manifest("ref", 9, subject="gone", without_platform=""),
    manifest("stale", 8, children="amd64"),
    manifest("sig", 9, cosign("amd64")),
    manifest("refs", 9, cosign("index", ""), children="sbom", is_referrers_index=True),
    manifest("sbom", 9, subject="index"),
    manifest("untagged-refs", 9, children="sbom", is_referrers_index=True),
    manifest("both", 9, f"tool {cosign('amd64')}"),
    manifest("stray", 9, f"{cosign('gone')} {cosign('lost', '.att')}"),
    manifest("plain", 9),
]


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("index", Kind.TAGGED_IMAGE, "It is a tagged image: it has the tag v1."),
        (
            "both",
            Kind.TAGGED_IMAGE,
            f"has the tag tool; it is also a referrer of {short('amd64')}, by the tag sha256-{short('amd64')}...sig.",
        ),
        ("amd64", Kind.CHILD, f"It is a child: {short('index')} (v1) and {short('stale')} list it."),
        (
            "stale",
            Kind.CHILD,
            f"It is a child: a redundant index, since {short('index')} (v1) lists all of its children as well.",
        ),
        ("ref", Kind.ORPHAN, f"{short('gone')}, which is not in the repository; {short('index')} (v1) lists it."),
        ("sig", Kind.REFERRER, f"a referrer of {short('amd64')}, by the tag sha256-{short('amd64')}...sig."),
        ("refs", Kind.REFERRER, f"a referrer of {short('index')} (v1), by the tag sha256-{short('index')}..."),
        ("sbom", Kind.CHILD, "list it."),
        (
            "untagged-refs",
            Kind.CHILD,
            f"It is a child: a redundant index, since {short('refs')} lists all of its children as well.",
        ),
        ("stray", Kind.ORPHAN, ", none of which is in the repository."),
        (
            "plain",
            Kind.UNTAGGED_IMAGE,
            "it has no tag, no index lists it, and it names no subject.  Its kind of content is 'image'.",
        ),
    ],
)
def test_class(name: str, kind: Kind, sentence: str) -> None:
    """The class is the graph's, and the sentence has what makes it so: tags, indexes, subjects."""
    explained = case(CLASSES, policy())

    text = said(explained, name)[0]

    assert Graph.of(explained.listing).kind(explained.listing.manifests[digest(name)]) is kind
    assert text.startswith(f"It is a{'n' if kind.value[0] in 'aeiou' else ''} {kind.value}")
    assert text.endswith(sentence)


def test_referrer_by_its_document_and_by_what_it_lists() -> None:
    """A subject in a document and the subjects of what a referrers index lists are named as such."""
    held = [
        manifest("image", 9, "v1"),
        manifest("sbom", 9, subject="image"),
        manifest("refs", 9, children="sbom", is_referrers_index=True),
    ]
    explained = case(held, policy())
    alone = case(held[:2], policy())

    assert said(alone, "sbom")[0] == f"It is a referrer of {short('image')} (v1), by the subject in its document."
    assert (
        said(explained, "refs")[0] == f"It is a referrer of {short('image')} (v1), by the subjects of what it lists."
    )


def test_manifest_that_is_needed_through_another() -> None:
    """A signature of a platform is kept for the index that lists the platform."""
    held = [manifest("index", 9, "v1", children="amd64"), manifest("amd64", 9), manifest("sig", 9, cosign("amd64"))]
    explained = case(held, policy(untagged={"keep": 0}))

    assert finding(explained, "sig", Reason.NEEDED).sentence == (
        f"{short('amd64')} is its subject, and {short('index')} (v1), kept as unmatched, needs that."
    )
    assert finding(explained, "amd64", Reason.NEEDED).sentence == (
        f"{short('index')} (v1) lists it, and is kept as unmatched."
    )


def test_redundant_index_is_needed_by_the_index_that_it_follows() -> None:
    """The index that lists the same is named, with the reason for which it is kept."""
    held = [
        manifest("index", 9, "v1", children="amd64 arm64"),
        manifest("stale", 8, children="amd64"),
        manifest("amd64", 9),
        manifest("arm64", 9),
    ]

    found = finding(case(held, policy(untagged={"keep": 0})), "stale", Reason.NEEDED)

    assert found.sentence == f"{short('index')} (v1) lists all of its children as well, and is kept as unmatched."


def test_referrer_needs_its_subject() -> None:
    """A subject that only its referrer keeps names that referrer."""
    held = [manifest("old", 9, "ci-1"), manifest("sig", 9, f"keep {cosign('old')}")]

    found = finding(case(held, policy(tagged=[{"match": "ci-.*", "keep": 0}])), "old", Reason.NEEDED)

    assert found.sentence == f"{short('sig')} (keep) is a referrer of it, and is kept as unmatched."


def test_what_follows_names_what_it_belongs_to() -> None:
    """A child that is deleted names the index that is deleted before it."""
    held = [manifest("index", 9, children="amd64"), manifest("amd64", 9)]

    lines = said(case(held, policy(untagged={"keep": 0})), "amd64")

    assert lines[-1] == f"It is deleted, as follows: it belongs to {short('index')}, and is deleted after that."


@pytest.mark.parametrize(
    ("keep", "verdict"),
    [
        ("all", "kept, as protected: "),
        (0, "deleted, as orphaned, if the registry confirms that none of its subjects exists; "),
    ],
)
def test_orphan(keep: str | int, verdict: str) -> None:
    """The rule for orphans decides; before a deletion the registry is asked for the subjects."""
    explained = case([manifest("sig", 9, cosign("gone"))], policy(orphans={"keep": keep}))

    assert said(explained, "sig")[-1] == (f"It is {verdict}its rank in orphans is 1, and the rule has keep {keep}.")


# --- the name of a manifest


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
