"""Every policy of the documentation's recipes and translations deletes what is written under it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import yaml

from cleaner.core.manifest import IMAGE, Listing, Manifest
from cleaner.core.plan import plan
from cleaner.core.policy import find_policy
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import parse_repository
from tests.support.builders import NOW, manifest, name_of
from tests.support.documentation import page

DOCS = Path(__file__).parent.parent.parent / "docs"
ROW = re.compile(r"\| (\d+)d ago \| (.*?) ?\| (.+?) \|")
CONTENTS = {
    "image": IMAGE,
    "cache": "application/vnd.buildkit.cacheconfig.v0",
    "chart": "application/vnd.cncf.helm.config.v1+json",
}


# Its age in days, its tags and what it is.
Row = tuple[float, tuple[str, ...], str]


class Recipe(msgspec.Struct, frozen=True):
    """A policy of the documentation, the repository it is shown on, and the names of what it deletes there."""

    title: str
    repository: str
    rows: tuple[Row, ...]
    policies: str
    deleted: tuple[str, ...]


def recipes(name: str) -> Iterator[Recipe]:
    """Yield the recipes of a page; each has the repository and the table that stand nearest above it."""
    title = repository = policies = ""
    rows: list[Row] = []
    blocks = re.split(r"^```", (DOCS / name).read_text(), flags=re.MULTILINE)
    for number, block in enumerate(blocks):
        if number % 2:
            language, _, text = block.partition("\n")
            policies = text if language == "yaml" else policies
            continue
        for line in block.splitlines():
            if line.startswith("#"):
                title = line.strip("# ")
            elif line.startswith("| uploaded "):
                rows.clear()
            elif match := ROW.match(line):
                rows.append((int(match[1]), tuple(re.findall("`(.+?)`", match[2])), match[3]))
            elif line.startswith("Deletes "):
                yield Recipe(title, repository, tuple(rows), policies, tuple(re.findall("`(.+?)`", line)))
            elif named := re.search(r"`([a-z-]+\.pkg\.dev/[a-z/]+)`", line):
                repository = named[1]


ALL = [pytest.param(recipe, id=recipe.title) for name in ("recipes.md", "coming-from.md") for recipe in recipes(name)]


@pytest.mark.parametrize("recipe", ALL)
def test_a_documented_policy_deletes_what_is_written_under_it(recipe: Recipe) -> None:
    """What belongs to an image is deleted with it, and is not named there."""
    names = [names_of(tags, what) for _, tags, what in recipe.rows]

    deleted = deleted_of(recipe, recipe.rows)

    assert [name for name in names if name in deleted] == list(recipe.deleted)
    for (_, _, what), name in zip(recipe.rows, names, strict=True):
        assert {part in deleted for part in parts_of(name, what)} <= {name in deleted}


@pytest.mark.parametrize("age", [0, 0.5])
@pytest.mark.parametrize("recipe", [param for param in ALL if str(param.id).startswith("Keep two complete versions")])
def test_two_complete_versions_are_kept_while_the_next_is_pushed(recipe: Recipe, age: float) -> None:
    """Each architecture's push starts a run before the index that lists all of them is there."""
    rows = [
        (age if tags[0].startswith("2.1.0") else days, tags, what)
        for days, tags, what in recipe.rows
        if tags[0] != "2.1.0"
    ]

    kept = {name_of(one.digest) for one in manifests(rows)} - deleted_of(recipe, rows)

    for _, tags, what in rows:
        if tags[0] in ("1.9.0", "2.0.0"):
            assert {*tags, *parts_of(tags[0], what)} <= kept


def test_artifact_registrys_translation_keeps_the_newest_three_untagged_images() -> None:
    """``mostRecentVersions`` keeps them there, however old they are."""
    (recipe,) = (one for one in recipes("coming-from.md") if one.title.startswith("Artifact Registry"))
    rows: list[Row] = [(age, (), f"image: {name}") for age, name in ((40, "c"), (50, "b"), (60, "a"))]

    assert deleted_of(recipe, rows) == set()
    assert deleted_of(recipe, [(35, (), "image: d"), *rows]) == {"a"}


@pytest.mark.parametrize(
    ("aim", "ages", "deleted"),
    [
        (
            "delete pull-request images after two weeks, keep releases and 10 builds of each branch",
            {"pr-52-a77e310": 13, "pr-41": 14, "v1.4.2": 90} | {f"main-{age:07x}": age for age in range(1, 12)},
            {"pr-41", "main-000000b"},
        ),
        (
            "keep the newest two builds of each branch",
            {"main-0000003": 1, "main-0000002": 2, "main-0000001": 3, "release-1-0000001": 90, "v1.4.2": 90},
            {"main-0000001"},
        ),
        (
            "delete what is older than 30 days, but keep the newest three",
            {"e": 29, "d": 31, "c": 32, "b": 33, "a": 34},
            {"b", "a"},
        ),
    ],
)
def test_first_page_has_policies_for_three_aims(aim: str, ages: Mapping[str, float], deleted: set[str]) -> None:
    """A comment beside each says what it is for."""
    shown = "".join(one.text for one in page("README.md").blocks if one.language == "yaml")
    comments = re.findall(r"^- repositories: .*# (.*)$", shown, re.MULTILINE)
    chosen = dict(zip(comments, policies_from_document(yaml.safe_load(shown)), strict=True))[aim]
    images = [manifest(tag, age, tag) for tag, age in ages.items()]

    todo = plan(Listing.of(parse_repository("us-docker.pkg.dev/acme/apps/api"), images), chosen, NOW)

    assert {name_of(one.manifest.digest) for one in todo.delete} == deleted


def test_translations_of_commands_and_sentences_have_rules_for_the_same_tags() -> None:
    """gcr-cleaner's regexes and Harbor's globs, which nothing here can read."""
    made = page("docs/coming-from.md")
    sections = {block.headings[-1] for block in made.blocks if block.language == "text"}
    assert sections == {"gcr-cleaner", "Harbor's tag retention rules"}
    for section in sections:
        original, translated = (block.text for block in made.blocks if block.headings[-1] == section)
        regexes = re.findall(r"-tag-filter-all '\^(.*)\$'", original)
        globs = re.findall(r"with tags matching (\S+)", original)

        (policy,) = yaml.safe_load(translated)
        matched = {rule["match"] for rule in policy["tagged"]} - {".*"}

        assert matched == {*regexes, *(glob.replace("*", ".*") for glob in globs)}, section


def test_the_pages_have_the_recipes_that_are_tested() -> None:
    """No policy of a page is left out because the page's form has changed."""
    for name in ("recipes.md", "coming-from.md"):
        assert sum(1 for _ in recipes(name)) == (DOCS / name).read_text().count("```yaml")
    assert len(list(recipes("recipes.md"))) >= 10
    assert [recipe.title.partition(" ")[0] for recipe in recipes("coming-from.md")] == [
        "Artifact",
        "gcr-cleaner",
        "Amazon",
        "zot",
        "Harbor's",
    ]


def deleted_of(recipe: Recipe, rows: Sequence[Row]) -> set[str]:
    """Return the names of what a recipe's policies delete of a table."""
    repository = parse_repository(recipe.repository)
    policy = find_policy(policies_from_document(yaml.safe_load(recipe.policies)), repository)
    assert policy is not None
    todo = plan(Listing.of(repository, manifests(rows)), policy, NOW)
    return {name_of(one.manifest.digest) for one in todo.delete}


def names_of(tags: Sequence[str], what: str) -> str:
    """Return the name by which the page speaks of an image: its first tag, or what stands behind the colon."""
    return tags[0] if tags else what.partition(": ")[2]


def parts_of(name: str, what: str) -> tuple[str, ...]:
    """Return the names of what an index lists; they have no spaces.  In backticks stand tags of the same table."""
    if match := re.fullmatch("index of `(.+)` and `(.+)`", what):
        return match.groups()
    if match := re.fullmatch("index of all in (.+) and (.+)", what):
        return tuple(f"{index}/{part}" for index in match.groups() for part in (index[-5:], "its-attestation"))
    match = re.fullmatch("index of (.+) and (.+)", what)
    return tuple(f"{name}/{part.replace(' ', '-')}" for part in match.groups()) if match else ()


def manifests(rows: Sequence[Row]) -> Iterator[Manifest]:
    """Yield the manifests of a table."""
    parts: dict[str, float] = {}
    for age, tags, what in rows:
        name, kind = names_of(tags, what), what.partition(": ")[0]
        if listed := parts_of(name, what):
            yield manifest(name, age, " ".join(tags), children=" ".join(listed))
            parts |= dict.fromkeys(listed, age)
        elif kind == "signature of an image elsewhere":
            yield manifest(name, age, subject=f"subject of {name}")
        else:
            yield manifest(name, age, " ".join(tags), content=CONTENTS[kind])
    tagged = {tag for _, tags, _ in rows for tag in tags}
    for name, age in parts.items():
        if name not in tagged:
            yield manifest(name, age)
