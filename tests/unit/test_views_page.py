"""A dry run as an HTML page: everything is there, and nothing of a registry is taken for markup."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from cleaner.core.manifest import Links, Manifest
from cleaner.core.reference import Repository
from cleaner.core.rules import Reason
from cleaner.views.images import Planned, Result
from cleaner.views.page import LONGEST_OPEN, MEANINGS
from tests.support.builders import NOW, cosign, digest, listing, manifest, planned, policy
from tests.support.html import Element
from tests.support.pages import BY, branch, failed, made, reported
from tests.support.strategies import Case as Example, cases

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "</script><script>alert(1)</script><img/src=x/onerror=alert(1)>\"'&lt;"


def rows(html: str) -> list[list[str]]:
    """Return the cells of the images."""
    return [row.cells() for table in tables(html, "images") for row in table.one("tbody").all("tr")]


def tables(html: str, name: str) -> list[Element]:
    return [one for one in Element.parse(html).all("table") if one.attributes.get("class") == name]


def overview(html: str) -> list[list[str]]:
    (table,) = tables(html, "overview")
    return [row.cells() for row in table.one("tbody").all("tr")]


def totals(html: str) -> dict[str, str]:
    blocks = Element.parse(html).all("dl")[0].all("div")
    return {one.one("dt").text: one.one("dd").text for one in blocks}


def multi_arch() -> tuple[Manifest, ...]:
    """Return an index of two platforms with a signature and an attestation, and an SBOM of one platform."""
    index = manifest("new", 1, "main-2 v1", children="a b p")
    links = Links(index.links.children, platforms=("linux/amd64", "windows/amd64", "unknown/unknown"))
    return (
        Manifest(index.digest, index.media_type, index.tags, index.uploaded, links=links),
        manifest("a", 1, size=40_000_000),
        manifest("b", 1, size=60_000_000),
        manifest("p", 1, size=1000),
        manifest("sig", 1, cosign("new"), size=500),
        manifest("sbom", 1, cosign("a", ".sbom"), size=500),
    )


def test_row_of_an_image() -> None:
    """All that is known of it, in the order of the headings."""
    html = made(reported(multi_arch()))

    (heading,) = (table.one("thead").one("tr") for table in tables(html, "images"))
    assert rows(html) == [
        [
            "main-2 v1",
            digest("new")[7:19],
            "24h",
            "100 MB",
            "amd64, windows/amd64",
            "1 SBOM, 1 attestation, 1 signature",
            "keep",
            "protected: keep all",
            "tagged[0]",
        ]
    ]
    assert heading.cells() == [*("Tags", "Digest", "Age", "Size", "Platforms", "Attached", "Plan", "Because", "Rule")]


def test_what_a_cell_cuts_is_in_its_title() -> None:
    """Digest, upload time, and the digest in a referrer tag."""
    html = Element.parse(made(reported([manifest("stray", 8, cosign("gone"))])))

    titles = [one.attributes["title"] for one in html.all() if "title" in one.attributes]
    assert titles == [cosign("gone"), digest("stray"), "2024-04-23 12:00:00 UTC"]


@pytest.mark.parametrize(
    ("name", "because", "rule"),
    [
        ("main-1", "newest: 1st of main, keep 2", "tagged[1]"),
        ("main-3", "recent: keep_within 3d", "tagged[1]"),
        ("main-4", "expired: 4th of main, keep 2", "tagged[1]"),
        ("dev-1", "expired: delete_after 90d", "tagged[1]"),
        ("stray", "orphaned: keep 0", "orphans"),
        ("other", "unmatched: no rule for other", ""),
        ("unknown", "unknown-age", ""),
    ],
)
def test_why(name: str, because: str, rule: str) -> None:
    """The reason, what decided and the rule, as the table on a terminal has them."""
    held = [
        manifest("main-1", 1.1, "main-1"),
        manifest("main-2", 1.2, "main-2"),
        manifest("main-3", 1.3, "main-3"),
        manifest("main-4", 9, "main-4"),
        manifest("dev-1", 91, "dev-1"),
        manifest("stray", 8, cosign("gone")),
        manifest("other", 8, "other"),
        manifest("unknown", None, "main-00"),
    ]

    html = made(reported(held))

    (row,) = (row for row in rows(html) if row[1] == digest(name)[7:19])
    assert row[7:] == [because, rule]


def test_meanings_of_the_reasons() -> None:
    """Those that occur, in plain words; a new reason needs some."""
    html = Element.parse(made(reported(branch(3)), reported([manifest("stray", 8, cosign("gone"))], "gcr.io/acme/b")))

    (reasons,) = (one for one in html.all("dl") if one.attributes["class"] == "reasons")
    assert [(one.one("dt").text, one.one("dd").text) for one in reasons.all("div")] == [
        ("newest", "It is among the newest of its pool."),
        ("expired", "No rule keeps it."),
        ("orphaned", "Its subject does not exist."),
    ]
    assert MEANINGS.keys() == set(Reason)


def test_deleted_index_of_which_a_part_is_kept() -> None:
    """The row says so: the part has a tag that another rule keeps."""
    held = [manifest("x", 95, "main-1", children="a b"), manifest("a", 95, "other"), manifest("b", 95)]

    index, part = rows(made(reported(held)))

    if index[1] != digest("x")[7:19]:
        index, part = part, index
    assert index[6:8] == ["delete", "expired: delete_after 90d; 1 manifest of it is kept"]
    assert part[6] == "keep"


def test_orphans_are_counted() -> None:
    """In one number with the images where the command's overview does so, and apart where the command does so."""
    held = [*branch(3), manifest("stray", 8, cosign("gone"))]

    html = made(reported(held))

    assert overview(html)[0][:3] == ["gcr.io/acme/api", "2", "2"]
    assert totals(html)["Images deleted"] == "2"
    assert Element.parse(html).one("summary").text.startswith("2 images kept; 1 image and 1 orphan deleted; ")


def test_largest_saving_is_first_and_failures_are_last() -> None:
    """With the numbers of each, and of all."""
    small, large = [manifest("a", 99, "dev-1", size=1000)], [manifest("b", 99, "dev-1", size=5000)]
    kept = [manifest("c", 1, "v1", size=10_000)]

    html = made(
        failed("503: unavailable"),
        reported(small, "gcr.io/acme/small"),
        reported(kept, "gcr.io/acme/kept"),
        reported(large, "gcr.io/acme/large"),
    )

    assert overview(html) == [
        ["gcr.io/acme/large", "0", "1", "0 B", "5.00 kB", ""],
        ["gcr.io/acme/small", "0", "1", "0 B", "1.00 kB", ""],
        ["gcr.io/acme/kept", "1", "0", "10.0 kB", "0 B", ""],
        ["gcr.io/acme/broken", "no plan: 503: unavailable"],
    ]
    bars = [[one.attributes["width"] for one in bar.all("rect")] for bar in Element.parse(html).all("svg")]
    assert bars == [["0.00", "50.00"], ["0.00", "10.00"], ["100.00", "0.00"]]
    assert totals(html) == {
        "Repositories": "4 1 without a plan",
        "Images kept": "1",
        "Images deleted": "2",
        "Freed at most": "6.00 kB images share layers",
    }


def test_links_within_the_page_lead_somewhere() -> None:
    """Of a repository in the overview to its own images."""
    html = Element.parse(made(failed("503"), reported(branch(3), "gcr.io/acme/a"), reported((), "gcr.io/acme/b")))

    for link in html.all("a"):
        assert html.one(id=link.attributes["href"].removeprefix("#")), link.text
    (table,) = (one for one in html.all("table") if one.attributes["class"] == "overview")
    for link in table.all("a"):
        assert html.one(id=link.attributes["href"].removeprefix("#")).text == link.text


@pytest.mark.parametrize(
    ("names", "heading"),
    [
        (["gcr.io/acme/api"], "What would be deleted in gcr.io/acme/api"),
        (["gcr.io/acme/api", "gcr.io/acme/web"], "What would be deleted in gcr.io/acme"),
        (["gcr.io/b/x", "gcr.io/a/x"], "What would be deleted in gcr.io/a and gcr.io/b"),
        (
            [f"gcr.io/p{at}/x" for at in range(5)],
            "What would be deleted in gcr.io/p0, gcr.io/p1, gcr.io/p2 and 2 more",
        ),
        ([], "What would be deleted in no repositories"),
    ],
)
def test_heading_names_the_targets(names: list[str], heading: str) -> None:
    """One repository by its name, several by their projects."""
    html = Element.parse(made(*(reported((), name) for name in names)))

    assert html.one("h1").text == heading
    assert html.one("header").text.endswith("Planned at 2024-05-01 12:00:00 UTC by registry-cleaner 1.2.3.")
    assert "nothing has been deleted" in html.one("header").text


def test_nothing_to_report() -> None:
    """No table, and a sentence."""
    html = made()

    assert not Element.parse(html).all("table")
    assert "There are no repositories." in Element.parse(html).text
    assert totals(html)["Freed at most"] == "0 B images share layers"


def test_empty_repository() -> None:
    """It has a row, and no headings over nothing."""
    html = made(reported(()))

    assert overview(html) == [["gcr.io/acme/api", "0", "0", "0 B", "0 B", ""]]
    assert rows(html) == []
    assert "It has no images." in Element.parse(html).text


def test_registry_texts_are_no_markup() -> None:
    """Tags, names, platforms, kinds of content, policies and errors are shown as they are."""
    held = [
        manifest("a", 9, f"v1 {HOSTILE}"),
        manifest("b", 9, content=HOSTILE),
        manifest("c", 9, children="d"),
        manifest("d", 9),
        manifest("e", 9, "main-1"),
    ]
    links = Links(held[2].links.children, platforms=(HOSTILE,), has_descriptors=True)
    held[2] = Manifest(held[2].digest, held[2].media_type, (), held[2].uploaded, links=links)
    plan = planned(held, BY, running="e")
    kept = {key: replace(one, detail=HOSTILE if one.detail else "") for key, one in plan.kept.items()}
    shown = Planned(replace(plan, kept=kept), listing(*held), BY, HOSTILE, NOW)

    html = made(Result(Repository("h", HOSTILE), shown), failed(HOSTILE, HOSTILE))

    parsed = Element.parse(html)
    plain = Element.parse(made(reported(held), failed("503")))
    assert {one.name for one in parsed.all()} == {one.name for one in plain.all()}
    assert len(parsed.all("script")) == 1
    attributes = {name for one in parsed.all() for name in one.attributes}
    assert attributes == {name for one in plain.all() for name in one.attributes}
    images = {row[1]: row for row in rows(html)}
    texts = [
        images[digest("a")[7:19]][0],
        images[digest("b")[7:19]][7].replace("\\'", "'"),
        images[digest("c")[7:19]][4],
        images[digest("e")[7:19]][7],
        *(one.text for one in parsed.all("p", **{"class": "policy"})),
        parsed.all("h3")[0].text,
        *(one.text for one in parsed.all("bdi")),
    ]
    assert len(texts) == 7
    for text in texts:
        assert HOSTILE in text


def test_error_text_that_no_file_takes() -> None:
    """JSON may have lone surrogates."""
    html = made(failed("bad \ud800 name"))

    assert "bad \\ud800 name" in html
    html.encode()


def test_two_thousand_images() -> None:
    """The page stays below two megabytes, and has every row."""
    html = made(reported(branch(2000)))

    assert len(html.encode()) < 2_000_000
    assert len(rows(html)) == 2000


def test_only_long_repositories_are_folded() -> None:
    """A reader of a short one needs no click."""
    folded = {}
    for count in (LONGEST_OPEN, LONGEST_OPEN + 1):
        details = Element.parse(made(reported(branch(count)))).one("details")
        folded[count] = "open" not in details.attributes

    assert folded == {LONGEST_OPEN: False, LONGEST_OPEN + 1: True}


def test_page_loads_nothing() -> None:
    """No address but those within the page, and a policy that allows none; it comes before what it is for."""
    html = Element.parse(made(failed("503"), reported(branch(30))))

    addresses = [
        one.attributes[name] for one in html.all() for name in ("href", "src", "action") if name in one.attributes
    ]
    assert {address for address in addresses if not address.startswith("#")} == {"data:,"}
    names = [one.name for one in html.one("head").all()]
    assert names[:2] == ["meta", "meta"]
    policy_text = html.one("head").all("meta")[1].attributes["content"]
    assert policy_text.startswith("default-src 'none'; ")
    assert "unsafe" not in policy_text
    assert "url(" not in html.one("style").text
    assert "@import" not in html.one("style").text


def test_markup_says_what_things_are() -> None:
    """Headings of tables have a scope, tables a caption, controls a label; an id is used once."""
    html = Element.parse(made(failed("503"), reported(branch(30)), reported(branch(2), "gcr.io/acme/web")))

    assert html.one("html").attributes["lang"] == "en"
    assert all(one.attributes["scope"] in ("row", "col") for one in html.all("th"))
    assert all(one.all("caption") for one in html.all("table"))
    labelled = [control for label in html.all("label") for control in label.all("input")]
    assert labelled == html.all("input")
    ids = [one.attributes["id"] for one in html.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    named = [one.attributes["aria-labelledby"] for one in html.all() if "aria-labelledby" in one.attributes]
    assert set(named) <= set(ids)
    levels = [int(one.name[1]) for one in html.all() if one.name in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


@given(cases())
def test_every_row_of_any_repository_is_there(example: Example) -> None:
    """With well-formed markup."""
    by: Any = policy(**example.keys)
    shown = reported(example.held, by=by)
    assert shown.planned

    found = rows(made(shown))

    assert [row[1] for row in found] == [one.manifest.digest[7:19] for one in shown.planned.rows]
    assert [row[6] for row in found] == [one.decision for one in shown.planned.rows]
    assert {len(row) for row in found} <= {9}


def test_files_beside_the_modules_are_packaged() -> None:
    """An installed command has them as well."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    beside = {path.name for path in (ROOT / "cleaner" / "views").iterdir() if path.is_file() and path.suffix != ".py"}

    assert set(project["tool"]["setuptools"]["package-data"]["cleaner.views"]) == beside


def test_page_is_the_same_each_time() -> None:
    """It reads no clock; the order of the repositories does not matter."""
    first, second = reported(branch(3), "gcr.io/acme/a"), reported(branch(3), "gcr.io/acme/b")

    assert made(first, second) == made(second, first)
    assert NOW.isoformat() in made(first)
