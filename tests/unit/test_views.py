"""How a plan is shown: rows, tables that fit, texts for numbers and policies, the JSON document."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from cleaner.core.manifest import Links, Manifest
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Repository, Tag
from cleaner.views import words
from cleaner.views.document import Document, done_document, plan_document, policy_document, to_lines
from cleaner.views.images import Planned, Result, by_saving, selected
from cleaner.views.tables import overview_table, plan_table, summary_lines, total_line
from tests.support.builders import NOW, cosign, digest, listing, manifest, one_rule, planned, policy
from tests.support.strategies import Case as Example, cases

BY = policy(**one_rule(1, 0))


def plain(text: str, style: str) -> str:
    del style
    return text


def lines(shown: Planned, width: int | None, *, unfold: bool = False) -> list[str]:
    return list(plan_table(shown.rows, shown, width, plain, unfold=unfold))


def made(*held: Manifest, by: Any = BY, **also: Any) -> Planned:
    return Planned(planned(held, by, **also), listing(*held), by, "policies.yaml[0]", NOW)


def result(name: str, shown: Planned | None = None, **also: str) -> Result:
    return Result(Repository("gcr.io", f"acme/{name}"), shown, **also)


def index(name: str, age_days: float, tags: str, platforms: dict[str, str]) -> Manifest:
    """Return an index with the platforms of its children."""
    made = manifest(name, age_days, tags, children=" ".join(platforms))
    return Manifest(
        made.digest,
        made.media_type,
        made.tags,
        made.uploaded,
        links=Links(made.links.children, platforms=tuple(platforms.values()), has_descriptors=True),
    )


SIGNED = (
    index("new", 1, "latest v2", {"a": "linux/amd64", "b": "windows/amd64", "p": "unknown/unknown"}),
    manifest("a", 1, size=40_000_000),
    manifest("b", 1, size=60_000_000),
    manifest("p", 1, size=1000),
    manifest("sig", 1, cosign("new"), size=500),
    manifest("sbom", 1, cosign("a", ".sbom"), size=500),
    index("old", 9, "v1", {"c": "linux/amd64"}),
    manifest("c", 9, size=7_000_000),
    manifest("stray", 8, cosign("gone")),
)


def test_image_with_what_belongs_to_it() -> None:
    """Platforms, attestations and signatures are folded under the image; its size has those of its children."""
    row, stray, old = made(*SIGNED).rows

    assert [row.manifest.digest, stray.manifest.digest, old.manifest.digest] == list(
        map(digest, ("new", "stray", "old"))
    )
    assert row.platforms == ("linux/amd64", "windows/amd64")
    assert row.attached == {"attestation": 1, "signature": 1, "SBOM": 1}
    assert row.size == 100_001_000
    assert (row.is_deleted, old.is_deleted) == (False, True)
    assert [(part.what, part.depth) for part in row.parts] == [
        ("linux/amd64", 1),
        ("SBOM", 2),
        ("windows/amd64", 1),
        ("attestation", 1),
        ("signature", 1),
    ]


def test_redundant_index_is_a_part_of_the_index_that_it_follows() -> None:
    """It is no row of its own, and no platform."""
    held = [
        index("new", 9, "v1", {"a": "linux/amd64", "b": "linux/arm64"}),
        index("stale", 8, "", {"a": "linux/amd64"}),
        manifest("a", 9),
        manifest("b", 9),
    ]

    (row,) = made(*held).rows

    assert row.manifest.digest == digest("new")
    assert (row.platforms, row.attached) == (("linux/amd64", "linux/arm64"), {"redundant index": 1})
    assert "1 redundant index  keep" in lines(made(*held), 160)[1]
    assert "  1 idx  " in lines(made(*held), 95)[1]


def test_referrer_tags_come_after_ordinary_ones() -> None:
    """An image is known by its ordinary tags; which of the others are referrer tags depends on the repository."""
    held = [manifest("a", 9, "v1"), manifest("tool", 9, f"{cosign('a')} z tool")]

    (row,) = (row for row in made(*held).rows if row.manifest.digest == digest("tool"))

    assert row.tags == ("tool", "z", cosign("a"))
    (part,) = next(row for row in made(*held).rows if row.manifest.digest == digest("a")).parts
    assert (part.what, part.tags) == ("signature", ("tool", "z"))


@given(cases())
def test_nothing_is_left_out(example: Example) -> None:
    """Every manifest is in at least one row, with its verdict; the rows are newest first."""
    shown_plan = made(*example.held, by=policy(**example.keys))
    plan, rows = shown_plan.plan, shown_plan.rows
    shown = {(row.manifest.digest, row.is_deleted) for row in rows}
    shown |= {(part.manifest.digest, part.is_deleted) for row in rows for part in row.parts}

    kept = {(verdict.manifest.digest, False) for verdict in plan.keep}
    assert shown == kept | {(deletion.manifest.digest, True) for deletion in plan.delete}
    for row in rows:
        digests = [row.manifest.digest, *(part.manifest.digest for part in row.parts)]
        assert len(digests) == len(set(digests))
    known = [row.manifest.uploaded for row in rows if row.manifest.uploaded]
    assert known == sorted(known, reverse=True)


def test_chain_of_ten_thousand_signatures() -> None:
    """Anyone who may push can sign a signature, ten thousand times."""
    chain = [manifest("s0", 1, "v1")]
    chain += [manifest(f"s{at}", 1, cosign(f"s{at - 1}")) for at in range(1, 10_000)]

    shown = made(*chain)

    (row,) = shown.rows
    assert len(row.parts) == 9_999
    assert max(map(len, lines(shown, 80, unfold=True))) <= 80


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("unfold", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, unfold: bool) -> None:
    """Whatever the tags are like."""
    long = manifest("long", 3, " ".join(["x" * 128, "feature-some-branch-with-a-long-name-3f2a1bc", "v1"]))

    shown = lines(made(*SIGNED, long), width, unfold=unfold)

    assert max(map(len, shown)) <= width
    assert all(line == line.rstrip() for line in shown)


@given(cases(), st.integers(40, 200))
def test_no_line_of_any_repository_is_wider(example: Example, width: int) -> None:
    """Nor whatever is in the repository; a row is one line."""
    by = policy(**example.keys)
    shown = made(*example.held, by=by)
    rows = len(shown.rows)

    assert max(map(len, lines(shown, width, unfold=True)), default=0) <= width
    for at in (width, None):
        assert len(lines(shown, at)) == (rows + 1 if rows else 0)


def test_wide_table() -> None:
    """One image a line, with names where there is room, and what decided."""
    new, stray, old = (digest(name)[7:19] for name in ("new", "stray", "old"))
    attached = "1 SBOM, 1 attestation, 1 signature"
    between = " " * len(f"amd64, windows/amd64  {attached}")
    named = f"PLATFORMS             {'ATTACHED':<34}"
    expired = "tagged[0]  expired: 2nd, keep 1"
    first = f"latest, v2                     {new}  24h   100 MB  amd64, windows/amd64  {attached}"

    assert lines(made(*SIGNED), 200) == [
        f"TAGS                           DIGEST        AGE     SIZE  {named}  PLAN    RULE       BECAUSE",
        f"{first}  keep    tagged[0]  newest: 1st, keep 1",
        f"(signature without a subject)  {stray}   8d      0 B  {between}  delete  orphans    orphaned: keep 0",
        f"v1                             {old}   9d  7.00 MB  amd64{between[5:]}  delete  {expired}",
    ]


def test_table_for_a_pipe() -> None:
    """Every text is whole, whatever its length, and a row is one line: other programs read it."""
    tags = ["x" * 128, "feature-some-branch-with-a-long-name-3f2a1bc", "v1", "v2", "v3"]

    by = policy(tagged=[{"match": "(x+)", "keep": 1}, {"match": "[a-z0-9-]*", "keep": 0, "keep_within": "1d"}])
    shown = lines(made(*SIGNED, manifest("long", 3, " ".join(tags)), by=by), None)

    assert len(shown) == 5
    assert ", ".join(sorted(tags)) in shown[2]
    assert digest("long") in shown[2]
    assert shown[2].endswith(f"newest: 1st of {'x' * 128}, keep 1")


def test_long_tag_is_shortened_in_the_middle() -> None:
    """Its ends tell more: what it is for, and the commit."""
    shown = lines(made(manifest("long", 3, "feature-some-branch-with-a-long-name-for-a-tag-3f2a1bc")), 120)

    assert shown[1].startswith("feature-some-branch-…e-for-a-tag-3f2a1bc  ")


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (130, "TAGS DIGEST AGE SIZE PLATFORMS ATTACHED PLAN RULE BECAUSE"),
        (105, "TAGS DIGEST AGE SIZE PLAN RULE BECAUSE"),
        (80, "TAGS DIGEST AGE SIZE PLAN BECAUSE"),
        (60, "TAGS AGE PLAN BECAUSE"),
    ],
)
def test_narrow_tables_have_fewer_columns(width: int, headings: str) -> None:
    """The name, the verdict and why are in all of them."""
    heading, first, *_ = lines(made(*SIGNED), width)

    assert heading.split() == headings.split()
    assert first.startswith("latest, v2 ")
    assert " keep " in first
    assert "newest: " in first


RANKED = [
    {"match": "v.*", "keep": "all"},
    {"match": "(main|pr-[0-9]+)-.*", "keep": 1, "delete_after": "30d"},
    {"match": "nightly-.*", "keep_within": "7d"},
]


@pytest.mark.parametrize(
    ("held", "because"),
    [
        ("v1", "protected: keep all"),
        ("main-1", "newest: 1st of main, keep 1"),
        ("main-2", "expired: 2nd of main, keep 1"),
        ("pr-7-1", "expired: delete_after 30d"),
        ("nightly-1", "recent: keep_within 7d"),
        ("nightly-9", "expired: keep_within 7d"),
        ("odd", "unmatched: no rule for odd"),
        ("young", "too-young: min_age 1h"),
        ("plain", "newest: 1st, keep 1"),
        ("chart", "newest: 1st of chart, keep 1"),
        ("old chart", "expired: 2nd of chart, keep 1"),
        ("hostile", r"newest: 1st of \x1b[2J, keep 1"),
        ("ageless", "unknown-age"),
        ("deployed", "running: runner of deployed"),
    ],
)
def test_because(held: str, because: str) -> None:
    """The reason, and what decided: rank, pool and rule."""
    by = policy(tagged=RANKED, untagged={"keep": 1})
    repository = [
        manifest("v1", 90, "v1"),
        manifest("main-1", 2, "main-1"),
        manifest("main-2", 3, "main-2"),
        manifest("pr-7-1", 31, "pr-7-1"),
        manifest("nightly-1", 1, "nightly-1"),
        manifest("nightly-9", 9, "nightly-9"),
        manifest("odd", 5, "odd v2"),
        manifest("young", 0.01, "v3"),
        manifest("plain", 5),
        manifest("chart", 5, content="chart"),
        manifest("old chart", 6, content="chart"),
        manifest("hostile", 6, content="\x1b[2J"),
        manifest("ageless", None, "main-4"),
        manifest("deployed", 50, "main-5"),
    ]
    plan = planned(repository, by, running="deployed")

    verdict = next(one for one in (*plan.keep, *plan.delete) if one.manifest.digest == digest(held))

    assert words.because(verdict, by, NOW) == because


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (113, "113th")],
)
def test_ordinal(number: int, text: str) -> None:
    """As it is said."""
    assert words.ordinal(number) == text


@given(st.text("ab漢", max_size=30), st.integers(1, 20))
def test_middle(text: str, width: int) -> None:
    """What is shortened begins and ends as the text does, and takes no more columns than it may."""
    shown = words.middle(text, width)

    assert min(cell_len(text), width - 2) <= cell_len(shown) <= width
    first, _, last = shown.partition(words.ELLIPSIS)
    assert text.startswith(first.rstrip())
    assert text.endswith(last.lstrip())


@pytest.mark.parametrize("width", [80, 120, 200])
def test_wide_characters(width: int) -> None:
    """The kind of content may be in any script; a row is one line of the terminal all the same."""
    shown = lines(made(manifest("chart", 5, content="漢字" * 40), by=policy()), width)

    assert len(shown) == 2
    assert max(map(cell_len, shown)) <= width


@pytest.mark.parametrize(
    ("only", "sort", "limit", "names"),
    [
        (None, None, None, "new stray old"),
        ("keep", None, None, "new"),
        ("delete", None, None, "stray old"),
        (None, "age", None, "old stray new"),
        (None, "size", None, "new old stray"),
        (None, "name", None, "new stray old"),
        ("delete", "age", 1, "old"),
    ],
)
def test_selected_rows(only: Any, sort: str | None, limit: int | None, names: str) -> None:
    """Of some kind, in some order, up to a number."""
    rows = selected(made(*SIGNED).rows, only, sort, limit)

    assert [row.manifest.digest for row in rows] == list(map(digest, names.split()))


def test_overview() -> None:
    """One row a repository, the largest saving first, what failed at the end, and totals."""
    results = by_saving(
        [result("web", error="denied"), result("none", note="no such one"), result("api", made(*SIGNED))]
    )

    assert list(overview_table(results, None, plain)) == [
        "REPOSITORY        KEEP  DELETE    FREED  POLICY            NOTE",
        "gcr.io/acme/api      1       2  7.00 MB  policies.yaml[0]",
        "gcr.io/acme/none                                           no such one",
        "gcr.io/acme/web                                            denied",
    ]
    assert total_line(results) == (
        "3 repositories (1 failed): keep 1 image, delete 1 image and 1 orphan, up to 7.00 MB, as images share layers"
    )
    assert max(map(len, overview_table(results, 60, plain))) <= 60


def test_unfolded_parts_stand_under_their_image() -> None:
    """Each with its own age, size and verdict."""
    shown = lines(made(*SIGNED), 200, unfold=True)

    assert [line[:24].rstrip() for line in shown[1:7]] == [
        "latest, v2",
        "  linux/amd64",
        "    SBOM",
        "  windows/amd64",
        "  attestation",
        "  signature",
    ]
    assert all(line.endswith("keep               needed") for line in shown[2:7])


def test_tags_beyond_three_are_counted() -> None:
    """A release has a dozen aliases; --all shows them."""
    shown = made(manifest("a", 2, "t1 t2 t3 t4 t5"))

    assert lines(shown, 100)[1].startswith("t1, t2 and 3 more  ")
    assert lines(shown, 100, unfold=True)[1].startswith("t1, t2, t3, t4, t5  ")


def test_who_runs_it_is_told() -> None:
    """The reason alone does not name who runs it."""
    shown = lines(made(manifest("a", 2, "ci-1"), running="a"), 100)

    assert shown[1].endswith("keep  running: runner of a")


def test_summary() -> None:
    """Images, why they are kept, what is deleted with the others, and how much space that is at most."""
    assert summary_lines(made(*SIGNED)) == [
        "keep    1 image (6 manifests): 1 newest",
        "delete  1 image and 1 orphan (3 manifests), up to 7.00 MB, as images share layers",
    ]


def test_summary_where_nothing_is_deleted() -> None:
    """It says so."""
    assert summary_lines(made(manifest("a", 2, "v1"))) == [
        "keep    1 image: 1 newest",
        "delete  nothing",
    ]


def test_empty_repository() -> None:
    """No headings over nothing."""
    assert lines(made(), 80) == []
    assert summary_lines(made()) == ["keep    0 images", "delete  nothing"]


def test_ten_thousand_images_are_shown() -> None:
    """Repositories that were never pruned are what the command is for."""
    held = [manifest(f"i{at}", 2 + at / 100, f"main-{at:07x}") for at in range(10_000)]

    assert len(lines(made(*held), 100)) == 10_001


def test_largest_saving_comes_first() -> None:
    """By bytes, however many images they are; names decide among equals."""
    small = [manifest(f"s{at}", 9 + at, f"v{at}", size=1) for at in range(9)]
    large = [manifest("new", 1, "v1"), manifest("old", 9, "v0", size=1000)]
    results = [result("b"), result("a"), result("many-small", made(*small)), result("one-large", made(*large))]

    assert [one.repository.path for one in by_saving(results)] == [
        *("acme/one-large", "acme/many-small", "acme/a", "acme/b")
    ]


# --- the document


def read(document: Document | list[Document | str]) -> Any:
    return json.loads("\n".join(to_lines(document, "json")))


def entries(document: Document, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(document)[key]
    return found


HELD = tuple(
    manifest(name, age_days, tags, size=1000)
    for name, age_days, tags in (("a", 1, "v2"), ("b", 2, "v1"), ("c", None, ""), ("d", 5, "v0"))
)
NO_PLACE = {"rule": None, "rank": None, "pool": None}


def test_plan_document() -> None:
    """Repository, dry_run, policy, keep, delete and a summary; newest first, times in UTC, an unknown one as null."""
    document = read(plan_document(made(*HELD, running="b")))
    of_all = {"size": 1000, "media_type": HELD[0].media_type}

    assert [one.size for one in HELD] == [1000] * 4
    assert document == {
        "repository": "gcr.io/acme/api",
        "dry_run": True,
        "policy": policy_document(BY),
        "keep": [
            {"digest": digest("c"), "tags": [], "uploaded": None, **of_all, "reason": "unknown-age", **NO_PLACE},
            {
                "digest": digest("a"),
                "tags": ["v2"],
                "uploaded": "2024-04-30T12:00:00+00:00",
                **of_all,
                "reason": "newest",
                "rule": 0,
                "rank": 1,
                "pool": [],
            },
            {
                "digest": digest("b"),
                "tags": ["v1"],
                "uploaded": "2024-04-29T12:00:00+00:00",
                **of_all,
                "reason": "running",
                **NO_PLACE,
                "running": "runner of b",
            },
        ],
        "delete": [
            {
                "digest": digest("d"),
                "tags": ["v0"],
                "uploaded": "2024-04-26T12:00:00+00:00",
                **of_all,
                "reason": "expired",
                "rule": 0,
                "rank": 3,
                "pool": [],
            }
        ],
        "summary": {
            "kept": 3,
            "deleted": 1,
            "bytes": 1000,
            "kept_bytes": 3000,
            "reasons": {"unknown-age": 1, "newest": 1, "running": 1, "expired": 1},
        },
    }
    assert list(document) == ["repository", "dry_run", "policy", "keep", "delete", "summary"]


@given(cases())
def test_policy_of_a_document_is_a_policy(example: Example) -> None:
    """It can be given to the function as it is, and is the same."""
    by = policy(**example.keys)
    (read,) = policies_from_document([policy_document(by)])

    for key in ("min_age", "untagged", "orphans", "max_deletions", "dry_run"):
        assert getattr(read, key) == getattr(by, key)
    assert [words.rule_name(read, at) for at in range(len(read.tagged))] == [
        words.rule_name(by, at) for at in range(len(by.tagged))
    ]
    assert words.policy(read) == words.policy(by)


def test_documents_one_a_line() -> None:
    """For programs that read line by line."""
    document = plan_document(made(*HELD))

    assert [json.loads(line) for line in to_lines([document, document], "jsonl")] == [
        json.loads(*to_lines(document, "jsonl"))
    ] * 2
    assert read([document]) == [read(document)]


def test_document_of_some_rows() -> None:
    """What belongs to an image comes with it."""
    shown = made(*SIGNED)
    (row, *_) = selected(shown.rows, "delete", "age", 1)

    document = plan_document(shown, (row,), "delete", in_order=True)

    assert entries(document, "keep") == []
    assert [one["digest"] for one in entries(document, "delete")] == [digest("old"), digest("c")]
    assert document["summary"] == plan_document(shown)["summary"]


@pytest.mark.parametrize(
    ("name", "rule", "rank", "pool"),
    [
        ("release", 0, 1, []),
        ("main-2", 1, 2, ["main", None]),
        ("pr-7", 1, 1, ["pr", "7"]),
        ("untagged", "untagged", 1, None),
        ("chart", "untagged", 1, None),
        ("old chart", "untagged", 2, None),
        ("orphan", "orphans", 1, None),
        ("child", None, None, None),
        ("referrer", None, None, None),
        ("unmatched", None, None, None),
    ],
)
def test_place_in_the_document(name: str, rule: object, rank: object, pool: object) -> None:
    """The rule by its position, or untagged or orphans; the captured strings; null where no place decided."""
    held = [
        manifest("release", 9, "v1", children="child"),
        manifest("child", 9),
        manifest("referrer", 9, cosign("release")),
        manifest("main-1", 1, "main-1"),
        manifest("main-2", 2, "main-2"),
        manifest("pr-7", 3, "pr-7"),
        manifest("untagged", 4),
        manifest("chart", 5, content="chart"),
        manifest("old chart", 6, content="chart"),
        manifest("orphan", 9, cosign("gone")),
        manifest("unmatched", 9, "y"),
    ]
    rules = [{"match": "v.*", "keep": "all"}, {"match": ["(main)-.|(x)", "(pr)-(.)"], "keep": 1}]
    by = policy(tagged=rules, untagged={"keep": 1})

    document = plan_document(made(*held, by=by))

    entry = next(one for key in ("keep", "delete") for one in entries(document, key) if one["digest"] == digest(name))
    assert (entry["rule"], entry["rank"], entry["pool"]) == (rule, rank, pool)


def test_document_of_what_was_done() -> None:
    """What was not deleted is in keep, at the place of its age, with the outcome; the rest is in delete."""
    shown = made(*HELD, manifest("e", 9, "v-1"), running="d")

    document = done_document(shown, {digest("b"): "refused"})

    assert document["dry_run"] is False
    assert [one["digest"] for one in entries(document, "keep")] == list(map(digest, "cabd"))
    assert [one.get("outcome") for one in entries(document, "keep")] == [None, None, "refused", None]
    assert entries(document, "keep")[2]["reason"] == "expired"
    assert [one["digest"] for one in entries(document, "delete")] == [digest("e")]


def test_document_of_what_was_gone() -> None:
    """What another process has deleted was not deleted by this one, and is not kept: no number counts it."""
    shown = made(*HELD, manifest("e", 9, "v-1", size=1000))
    numbers = read(done_document(shown, {digest("b"): "left"}))["summary"]

    document = read(done_document(shown, {digest("e"): "gone", digest("b"): "left"}))

    assert [one["outcome"] for one in document["keep"] if "outcome" in one] == ["left", "gone"]
    assert digest("e") not in [one["digest"] for one in document["delete"]]
    changed = {key: numbers[key] - document["summary"][key] for key in ("kept", "kept_bytes", "deleted", "bytes")}
    assert changed == {"kept": 0, "kept_bytes": 0, "deleted": 1, "bytes": 1000}


def test_document_is_printable() -> None:
    """Also what JSON does not escape by itself."""
    text = "\x7f\x1b\x9b\u202e"

    lines = to_lines([text], "json")

    assert all(line.isprintable() and line.isascii() for line in lines)
    assert json.loads("\n".join(lines)) == [text]


def test_document_of_lost_tags() -> None:
    """They are apart from the tags that the manifest still has."""
    shown = made(*HELD, manifest("e", 9, "v-1 v-2 v-3"))

    document = done_document(shown, {digest("e"): "left"}, {digest("e"): [Tag("v-3"), Tag("v-1")]})

    entry = entries(document, "keep")[-1]
    assert (entry["tags"], entry["lost_tags"]) == (["v-2"], ["v-1", "v-3"])


# --- words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_234_567_890, "1.23 GB"),
        (5 * 10**15, "5.00 PB"),
        (2 * 10**18, "2000 PB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """Three digits, by thousands, as registries and disks are sold."""
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_age(seconds: int, text: str) -> None:
    """The greatest unit of which there are two; an age is never negative."""
    assert words.age(NOW - timedelta(seconds=seconds), NOW) == text


def test_unknown_age() -> None:
    """It has a word."""
    assert words.age(None, NOW) == "unknown"


def test_default_policy_in_words() -> None:
    """By its keys; what is off is left out."""
    assert words.policy(policy()) == "min_age 1h; tagged: no rules; untagged: keep 5; orphans: keep all"


def test_policy_in_words() -> None:
    """Each rule by its name, its regexes and its keys; durations as they were written."""
    rules = [
        {"match": "v.*", "keep": "all", "order": "version"},
        {"match": ["(main)-.*", "pr-.*"], "keep": 2, "keep_within": "36h", "delete_after": "14d"},
        {"match": "x" * 61, "keep_within": "90m"},
    ]
    by = policy(
        min_age="120m", tagged=rules, untagged={"keep": 0}, orphans={"keep": 0}, max_deletions=7, dry_run=True
    )

    assert words.policy(by).split("; ") == [
        "min_age 120m",
        "tagged[0] (v.*): keep all, order version",
        "tagged[1] ((main)-.* or pr-.*): keep 2, keep_within 36h, delete_after 14d",
        f"tagged[2] ({'x' * 60}...): keep 0, keep_within 90m",
        "untagged: keep 0",
        "orphans: keep 0",
        "max_deletions 7",
        "dry_run",
    ]
