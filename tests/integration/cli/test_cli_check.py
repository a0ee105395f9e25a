"""``check``: the mistakes of a file of policies with their places, and what they decide for a list of tags."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Ended, Operator

MISTAKES = """\
- repositories: [acme/*]
  kep: 3
  tagged:
  - match: "("
    keep: -1
  - match: main-*
    delete_after: 1d
    delete_after: 2d
  - keep: 3
- <<: &base {dry_run: 7}
  repositories: ['gcr.io/acme/*']
  untagged: {}
"""


def check(operator: Operator, tmp_path: Path, text: str, *arguments: str, name: str = "p.yaml") -> Ended:
    (tmp_path / name).write_text(text)
    operator.monkeypatch.chdir(tmp_path)
    return operator.call("check", name, *arguments)


def test_all_mistakes_with_their_places(operator: Operator, tmp_path: Path) -> None:
    """File, line and column of the value, or of the key that is wrong; of what is missing, of the rule."""
    ended = check(operator, tmp_path, MISTAKES)

    assert (ended.code, ended.out) == (2, "")
    errors = [line.removeprefix("error: ") for line in ended.err.splitlines() if line.startswith("error: ")]
    assert [":".join(line.split(":")[:4]) for line in errors] == [
        "p.yaml:1:18: [0].repositories[0]",
        "p.yaml:2:3: [0]",
        "p.yaml:4:12: [0].tagged[0].match",
        "p.yaml:5:11: [0].tagged[0].keep",
        "p.yaml:6:12: [0].tagged[1].match",
        "p.yaml:8:19: [0].tagged[1].delete_after",
        "p.yaml:9:5: [0].tagged[2].match",
        "p.yaml:10:23: [1].dry_run",
        "p.yaml:12:13: [1].untagged",
    ]
    assert ended.err.splitlines()[-1] == "p.yaml: 9 mistakes"
    assert operator.emulator.log.total == 0


def test_caret_points(operator: Operator, tmp_path: Path) -> None:
    """The line is shown, with what is wrong underlined."""
    lines = check(operator, tmp_path, MISTAKES).err.splitlines()

    at = next(at for at, line in enumerate(lines) if "looks like a glob" in line)
    assert lines[at + 1 : at + 3] == ["     6 |   - match: main-*", "       |            ^^^^^^"]


@pytest.mark.parametrize(
    ("name", "text", "place", "said", "caret"),
    [
        ("p.json", '[{"repositories":\n\t["acme/*"]}]', "2:3", "has no host", "       |   ^^^^^^^^"),
        ("p.json", '[\n{"repositories": ["**"],}\n]', "2:25", "not a JSON array", f"       | {' ' * 24}^"),
        ("p.yaml", "- repositories: ['**'\n  min_age: 1h\n", "2:3", "neither JSON nor YAML", "       |   ^"),
        (
            "p.yaml",
            '- tagged: [{match: "v\\d"}]\n',
            "1:23",
            "write regexes in single quotes",
            f"       | {' ' * 22}^",
        ),
        (
            "p.yaml",
            "- {repositories: [gcr.io/a/*], tagged: [{match: [漢字, v*], keep: 1}]}\n",
            "1:54",
            "looks like a glob",
            f"       | {' ' * 55}^^",
        ),
        ("p.yaml", "- dry_run: 010\n", "1:12", "write the integer in decimal", f"       | {' ' * 11}^"),
    ],
)
def test_places_in_other_documents(
    operator: Operator, tmp_path: Path, name: str, text: str, place: str, said: str, caret: str
) -> None:
    """JSON as well, with tabs, and what cannot be parsed at all."""
    ended = check(operator, tmp_path, text, name=name)

    error, _, pointer, *_ = ended.err.splitlines()
    assert (ended.code, error.startswith(f"error: {name}:{place}: ")) == (2, True)
    assert said in error
    assert pointer == caret


def test_long_line_is_cut_around_the_mistake(operator: Operator, tmp_path: Path) -> None:
    """A generated document may be one line."""
    document = [{"repositories": ["gcr.io/acme/*"] * 300}, {"repositories": ["acme/*"]}]

    _, shown, pointer, *_ = check(operator, tmp_path, json.dumps(document), name="p.json").err.splitlines()

    assert max(len(shown), len(pointer)) <= 110
    assert shown[pointer.index("^") :].startswith('"acme/*"')


@pytest.mark.parametrize("text", ["", "[" * 10_000, f"[{' ' * 300_000}]", "- [" * 5000])
def test_what_cannot_be_located_is_refused_quickly(operator: Operator, tmp_path: Path, text: str) -> None:
    """One error, without a place where there is none."""
    ended = check(operator, tmp_path, text)

    assert ended.code == 2
    assert ended.err.count("error: p.yaml: ") + ended.err.count("error: p.yaml:1:1: ") == 1


def test_mistakes_as_data(operator: Operator, tmp_path: Path) -> None:
    """For editors and change requests."""
    ended = check(operator, tmp_path, "- repositories: ['**']\n  min_age: 5m\n", "-o", "json")

    assert ended.code == 2
    assert ended.document == {
        "file": "p.yaml",
        "valid": False,
        "mistakes": [
            {
                "line": 2,
                "column": 12,
                "path": [0, "min_age"],
                "problem": "must be 10m or more, not 5m",
                "correction": "",
            }
        ],
        "warnings": [],
    }
    valid = check(operator, tmp_path, "- repositories: ['**']\n", "-o", "jsonl")
    assert (valid.code, valid.document["valid"]) == (0, True)


VALID = """\
- repositories: ["us-docker.pkg.dev/acme/apps/**", "localhost:5000/*"]
  tagged:
  - match: ['(main|release-[0-9]+)-([0-9a-f]{7})', 'v.*']
    keep: 3
    delete_after: 90d
  untagged: {keep: 2}
"""


def test_rules_and_pools(operator: Operator, tmp_path: Path) -> None:
    """Without mistakes: exit code 0, and what splits the pools of each rule."""
    ended = check(operator, tmp_path, VALID)

    assert (ended.code, ended.err) == (0, "")
    assert [" ".join(line.split()) for line in ended.out.splitlines()] == [
        "p.yaml: 1 policy, no mistakes",
        "",
        "p.yaml[0]: us-docker.pkg.dev/acme/apps/**, localhost:5000/*",
        "min_age 1h",
        "RULE TAGS KEEPS POOLS",
        (
            "tagged[0] (main|release-[0-9]+)-([0-9a-f]{7}) keep 3, delete_after 90d one for each value of"
            " (main|release-[0-9]+) ([0-9a-f]{7})"
        ),
        "tagged[0] v.* keep 3, delete_after 90d one",
        "untagged (no tag) keep 2 one for each kind of content",
        "orphans (subject missing) keep all one",
    ]


def test_group_inside_a_repetition(operator: Operator, tmp_path: Path) -> None:
    """It is valid, and hardly what was meant."""
    text = "- repositories: ['**']\n  tagged:\n  - {match: '(?:(a|b)-)+x', keep: 1}\n"

    ended = check(operator, tmp_path, text)

    assert ended.code == 0
    assert ended.err == (
        "warning: p.yaml:3:13: [0].tagged[0].match: the group (a|b) of (?:(a|b)-)+x is inside a repetition, and pools"
        " go by its last match alone\n"
    )


def test_insecure_hosts(operator: Operator, tmp_path: Path) -> None:
    """Google's, this machine's, and those that are named."""
    text = "- repositories: ['registry:80/acme/*']\n"

    assert check(operator, tmp_path, text).code == 2
    assert check(operator, tmp_path, text, "--insecure", "registry:80").code == 0


def test_policies_of_stdin(operator: Operator) -> None:
    """As another program makes them."""
    operator.monkeypatch.setattr(sys, "stdin", io.StringIO("- 5\n"))

    ended = operator.call("check", "-")

    assert (ended.code, ended.err.splitlines()[0].startswith("error: stdin:1:3: [0]: must be")) == (2, True)


def entry(number: int, days: float, tags: Any, package: str = "us-docker.pkg.dev/acme/apps/api") -> dict[str, Any]:
    return {
        "createTime": (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z"),
        "metadata": {"imageSizeBytes": "1000", "mediaType": "application/vnd.oci.image.index.v1+json"},
        "package": package,
        "tags": tags,
        "updateTime": "2026-01-01T00:00:00Z",
        "version": f"sha256:{number:064x}",
    }


GCLOUD = [entry(at, 1 + at, [f"main-000000{at}"]) for at in range(5)]
GCLOUD += [entry(9, 99, "main-0000009,v1"), entry(8, 3, "odd"), entry(7, 3, "")]


def decided(document: dict[str, Any]) -> dict[str, tuple[str, object, object]]:
    entries = (*document["keep"], *document["delete"])
    return {",".join(one["tags"]): (one["reason"], one["rank"], one["pool"]) for one in entries}


def test_tags_of_gcloud(operator: Operator, tmp_path: Path) -> None:
    """Each entry is an image, by its upload time, tags and size; the table is plan's."""
    (tmp_path / "tags.json").write_text(json.dumps(GCLOUD))
    text = VALID.replace("release-[0-9]+)-([0-9a-f]{7})", "release-[0-9]+)-[0-9a-f]{7}")

    table = check(operator, tmp_path, text, "--tags", "tags.json")
    document = check(operator, tmp_path, text, "--tags", "tags.json", "-o", "json").document

    assert (table.code, table.err) == (0, "")
    assert table.out.startswith("us-docker.pkg.dev/acme/apps/api\np.yaml[0]: min_age 1h; ")
    assert "delete  tagged[0]  expired: 4th of main, keep 3" in table.out
    assert decided(document) == {
        "main-0000000": ("newest", 1, ["main"]),
        "main-0000001": ("newest", 2, ["main"]),
        "main-0000002": ("newest", 3, ["main"]),
        "main-0000003": ("expired", 4, ["main"]),
        "main-0000004": ("expired", 5, ["main"]),
        "main-0000009,v1": ("expired", 6, ["main"]),
        "odd": ("unmatched", None, None),
        "": ("newest", 1, None),
    }


def test_tags_of_several_images(operator: Operator, tmp_path: Path) -> None:
    """One row each; of which no policy is for is told."""
    other = [entry(1, 5, ["v1"], "us-docker.pkg.dev/acme/apps/web"), entry(2, 5, ["v1"], "gcr.io/acme/web")]
    (tmp_path / "tags.json").write_text(json.dumps([*GCLOUD, *other]))

    ended = check(operator, tmp_path, VALID, "--tags", "tags.json", "-q")

    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()[1:4]] == [
        *("us-docker.pkg.dev/acme/apps/api", "gcr.io/acme/web", "us-docker.pkg.dev/acme/apps/web")
    ]
    assert "no policy of p.yaml matches" in ended.out


def test_body_of_a_tags_list(operator: Operator, tmp_path: Path) -> None:
    """As the registry sends it; its name has no host, so it is on one that a policy is for."""
    milliseconds = [int((datetime.now(UTC) - timedelta(days=1 + at)).timestamp() * 1000) for at in range(5)]
    manifest = {
        f"sha256:{at:064x}": {
            "imageSizeBytes": "1000",
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "tag": [f"v{at}"],
            "timeUploadedMs": str(moment),
        }
        for at, moment in enumerate(milliseconds)
    }
    body = {"name": "acme/apps/api", "child": [], "tags": [f"v{at}" for at in range(5)], "manifest": manifest}
    (tmp_path / "tags.json").write_text(json.dumps(body))

    ended = check(operator, tmp_path, VALID, "--tags", "tags.json", "-o", "json")

    assert (ended.code, ended.document["repository"]) == (0, "us-docker.pkg.dev/acme/apps/api")
    assert ended.tags("delete") == ["v3", "v4"]


def test_body_without_times(operator: Operator, tmp_path: Path) -> None:
    """Of a registry that is not Google's: what is of unknown age is kept, and that is said."""
    (tmp_path / "tags.json").write_text('{"name": "acme/apps/api", "tags": ["v1", "odd"]}')

    ended = check(operator, tmp_path, VALID, "--tags", "tags.json", "-o", "json")

    assert [one["reason"] for one in ended.document["keep"]] == ["unknown-age"] * 2
    assert "no upload times are known" in ended.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "data was truncated"),
        ("5", "Expected `object`, got `int`"),
        ("[5]", "Expected `object`, got `int` - at `$[0]`"),
        ("[{}]", "Object missing required field `package` - at `$[0]`"),
        ('{"tags": []}', "Object missing required field `name`"),
        ('{"name": "a/b", "tags": 5}', "Expected `array | null`, got `int` - at `$.tags`"),
        ('{"name": "a/b", "tags": ["-"]}', "not a tag"),
        ('[{"package": "a", "version": "b"}]', "not a sha256 digest"),
        ('{"name": "a/\\u001b[31m", "tags": ["v1"]}', "not a repository name"),
        ("[" * 100_000, "got `array` - at `$[0]`"),
    ],
)
def test_file_that_has_no_tags(operator: Operator, tmp_path: Path, text: str, problem: str) -> None:
    """Exit code 2, what was expected, and where it is not so."""
    (tmp_path / "tags.json").write_text(text)

    ended = check(operator, tmp_path, VALID, "--tags", "tags.json")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.replace("\n", "").isprintable()
    error = ended.err.splitlines()[-1]
    assert error.startswith("error: tags.json: neither the body of a tags/list nor what gcloud artifacts ")
    assert problem in error


@pytest.mark.parametrize("option", ["--only=keep", "--sort=age", "--limit=3", "--all"])
def test_option_without_tags(operator: Operator, tmp_path: Path, option: str) -> None:
    """There is no table that it is for, and that is said."""
    plain = check(operator, tmp_path, VALID)

    ended = check(operator, tmp_path, VALID, option)

    name = option.partition("=")[0]
    assert (ended.code, ended.out, ended.err) == (0, plain.out, f"{name} has no effect without --tags\n{plain.err}")


def test_both_files_of_stdin(operator: Operator) -> None:
    """The second would be empty."""
    ended = operator.call("check", "-", "--tags", "-")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: --tags and FILE cannot both be stdin (see ")


def test_mistake_of_the_whole_document_has_no_place(operator: Operator, tmp_path: Path) -> None:
    """No line of it is where the mistake is."""
    (tmp_path / "p.json").write_text("x" * 300_000)

    ended = operator.call("check", str(tmp_path / "p.json"))

    assert ended.code == 2
    assert ended.err.splitlines() == [
        f"error: {tmp_path}/p.json: has more than 262,144 characters",
        f"{tmp_path}/p.json: 1 mistake",
    ]
