"""Policies on the command line: of a file and of stdin, and how mistakes in them are reported."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cleaner.core.errors import ConfigurationError, InvalidPolicy
from cleaner.core.policy_document import MAX_DOCUMENT_CHARS, parse_policies
from cleaner.inputs.policies import read_policies
from tests.support.command_line import Operator, one_line

KEEP_1: dict[str, Any] = {"tagged": [{"match": ".*", "keep": 1}]}


def test_policies_of_a_file(operator: Operator, tmp_path: Path) -> None:
    """The first policy that matches decides, in JSON as in YAML, and is named by its position."""
    operator.builds(4)
    host = operator.emulator.host
    policies = [
        {"repositories": ["gcr.io/**"], **KEEP_1},
        {"repositories": [f"{host}/**"], "min_age": "90m", "tagged": [{"match": "(build)-.*", "keep": 3}]},
        {"repositories": ["**"], **KEEP_1},
    ]
    in_json, in_yaml = tmp_path / "policies.json", tmp_path / "policies.yaml"
    in_json.write_text(json.dumps(policies))
    in_yaml.write_text(
        f"- repositories: [gcr.io/**]\n  tagged: [{{match: .*, keep: 1}}]\n"
        f'- repositories: ["{host}/**"]\n  min_age: 90m\n  tagged:\n  - match: "(build)-.*"\n    keep: 3\n'
        f'- repositories: ["**"]\n  tagged: [{{match: .*, keep: 1}}]\n'
    )

    said = "min_age 90m; tagged[0] ((build)-.*): keep 3; untagged: keep 5; orphans: keep all"
    for path in (in_json, in_yaml):
        ended = operator.plan("--policies", str(path))
        assert f"{path}[1]: {said}" in " ".join(ended.out.split())
        ended = operator.plan("--policies", str(path), "-o", "json")
        assert ended.tags("delete") == ["build-3"]
        (entry,) = ended.document["delete"]
        assert (entry["rule"], entry["rank"], entry["pool"]) == (0, 4, ["build"])


def test_policies_of_stdin(operator: Operator) -> None:
    """What another program has made."""
    operator.builds(3)
    operator.monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([{"repositories": ["**"], **KEEP_1}])))

    ended = operator.plan("--policies", "-", "-o", "json")

    assert ended.tags("delete") == ["build-1", "build-2"]


def test_policies_of_stdin_are_named_so(operator: Operator) -> None:
    """In the table's heading and where none matches, as in errors."""
    operator.builds(1)
    for glob, said in (("**", "\nstdin[0]: min_age 1h"), ("gcr.io/**", ": no policy of stdin matches; ")):
        operator.monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([{"repositories": [glob]}])))
        ended = operator.plan("--policies", "-")
        assert (ended.code, said in ended.out + ended.err) == (0, True)


def test_no_policy_matches(operator: Operator, tmp_path: Path) -> None:
    """The repository is never touched, so no request is sent; that is no error."""
    operator.builds(3)
    path = tmp_path / "policies.json"
    path.write_text('[{"repositories": ["gcr.io/**"]}]')
    for ended in (operator.plan("--policies", str(path)), operator.prune("--policies", str(path), "--yes")):
        assert (ended.code, ended.out) == (0, "")
        assert ended.err == f"{operator.name}: no policy of {path} matches; nothing is deleted\n"
    assert operator.plan("--policies", str(path), "-o", "json").document["delete"] == []
    assert operator.emulator.log.total == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.json", "[", "p.json: not a JSON array of policies: "),
        (
            "p.json",
            '[{"repositories": ["**"], "dry_run": true, "dry_run": false}]',
            "p.json[0].dry_run: occurs twice",
        ),
        ("p.json", "[]", "p.json: must be an array of at least one policy"),
        ("p.json", '[{"repositories": ["**"], "taged": []}]', "p.json[0]: unknown key 'taged'; did you mean tagged?"),
        ("p.json", '[{"repositories": ["**"]}, {"dry_run": true}]', "p.json[1].repositories: is required"),
        ("p.yaml", "- repositories: ['**']\n  min_age: 5m\n", "p.yaml[0].min_age: must be 10m or more, not 5m"),
        ("p.yaml", "- repositories: ['**']\n  tagged: [{match: v*, keep: 1}]\n", "looks like a glob"),
        ("p.yaml", "- repositories: ['**']\n  dry_run: 1\n", "p.yaml[0].dry_run: must be true or false"),
        (
            "p.yaml",
            "- repositories: ['**']\n  ? [keep]\n  : 1\n",
            "p.yaml: line 2, column 5: ",
        ),
        ("p.yaml", "- repositories: ['**']\n  keep: \0\n", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "- 5\n", "p.yaml[0]: must be an object, not the number 5"),
        ("p.yaml", "- {repositories: ['**']\n  keep: 1\n", "p.yaml: line 2, column 3: "),
        ("p.yaml", "a: &a [*a]\n- b", "p.yaml: line 2, column 1: "),
        ("p.yaml", "- &a [*a]", "p.yaml: line 1, column 3: an alias of what contains it"),
        ("p.yaml", '- repositories: ["**"]\n  tagged: [{match: "v\\d+"}]\n', "found unknown escape character 'd'"),
        ("p.yaml", "repositories: ['**']\n", "p.yaml: must be an array of at least one policy"),
        ("p.yaml", "- repositories: !!python/name:os.system\n", "p.yaml: line 1, column 17: "),
        ("p.yaml", "- !!python/object/apply:os.system [x]\n", "p.yaml: line 1, column 3: "),
        *(
            ("p.yaml", f"- repositories: {date}\n", "line 1, column 17: a date; put it in quotation marks")
            for date in ("2024-13-01", "2026-11-01", "2026-11-01 10:00:00 +99:99")
        ),
        *(
            ("p.yaml", f"- dry_run: {number}\n", "line 1, column 12: write the integer in decimal digits, ")
            for number in ("010", "0x1f", "0b11", "1:30", "1_000", "+5", "00")
        ),
        *(
            (
                "p.yaml",
                f"- {{repositories: ['**'], untagged: {{keep: {number}}}}}\n",
                f"must be an integer of at least 0 or \"all\", not '{number}'",
            )
            for number in ("0o17", "1e1", "08")
        ),
        *(
            ("p.yaml", f"- dry_run: {value}\n", "is not supported; write the value without it")
            for value in (
                "!!bool maybe",
                "!!timestamp abc",
                "!!int ''",
                "!!float ''",
                "!!int abc",
                "!!null x",
                "!!str 5",
                "!!binary x",
                "!!merge x",
                "!!set x",
                "!x y",
            )
        ),
        ("p.yaml", f"- repositories: 0x{'f' * 5000}\n", "a number of more than 100 characters"),
        ("p.yaml", "- <<: 5\n", "line 1, column 7: << needs a mapping"),
        ("p.yaml", "- <<: [{keep: 1}]\n", "line 1, column 7: << needs a mapping"),
        (
            "p.yaml",
            "- {keep: 3, <<: {keep: 1}}\n",
            "line 1, column 13: << gives the key 'keep' a second value; write",
        ),
        ("p.yaml", "- {<<: {keep: 1}, keep: 3}\n", "line 1, column 4: << gives the key 'keep' a second value; write"),
        ("p.yaml", "- {<<: {a: 1}, <<: {a: 1}}\n", "line 1, column 16: << gives the key 'a' a second value; write"),
        ("p.yaml", "", "p.yaml: must be an array of at least one policy"),
        ("p", "\xff", "p: must be an array of at least one policy"),
    ],
)
def test_bad_policies(operator: Operator, tmp_path: Path, name: str, text: str, said: str) -> None:
    """Exit code 2, and one line that says where and what; no request is sent."""
    path = tmp_path / name
    path.write_text(text)

    ended = operator.plan("--policies", str(path))

    assert ended.code == 2
    assert said in one_line(ended)
    assert operator.emulator.log.total == 0


MISTAKES = """\
- repositories: [acme/*]
  keep: 3
  tagged:
  - match: "(\\n"
    keep: -1
  - match: main-*
    delete_after: 1d
    delete_after: 2d
- repositories: ['gcr.io/acme/*']
  untagged: {}
"""


@pytest.mark.parametrize("command", ["plan", "prune", "sweep"])
def test_mistakes_are_printed_one_a_line(operator: Operator, tmp_path: Path, command: str) -> None:
    """All of them, in the document's order, with exit code 2; no request is sent."""
    path = tmp_path / "p.yaml"
    path.write_text(MISTAKES)
    more = ("--dry-run",) if command == "sweep" else ()

    ended = operator.call(command, "gcr.io/acme/api", "--policies", str(path), *more)

    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert all(line.startswith(f"error: {path}[") for line in lines)
    assert [line.removeprefix(f"error: {path}").partition(": ")[0] for line in lines] == [
        "[0]",
        "[0].repositories[0]",
        "[0].tagged[0].keep",
        "[0].tagged[0].match",
        "[0].tagged[1].delete_after",
        "[0].tagged[1].match",
        "[1].untagged",
    ]
    assert operator.emulator.log.total == 0


def test_mistakes_beyond_a_hundred_are_counted(operator: Operator, tmp_path: Path) -> None:
    """A generated document can have any number of them."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps([5] * 103))

    ended = operator.plan("--policies", str(path))

    assert ended.code == 2
    assert len(ended.err.splitlines()) == 101
    assert ended.err.endswith(f"error: {path}: 3 more mistakes\n")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("- repositories: [gcr.io/a/b]\n  dry_run: true\n  dry_run: false\n", ["[0].dry_run"]),
        ("- repositories: [gcr.io/a/b]\n  untagged: {keep: 1, keep: 2}\n", ["[0].untagged.keep"]),
        ("- repositories: [gcr.io/a/b]\n  tagged: [{match: a, keep: 1, match: b}]\n", ["[0].tagged[0].match"]),
        ("- &a\n  repositories: [gcr.io/a/b]\n  dry_run: true\n  dry_run: true\n", ["[0].dry_run"]),
        (
            "- {repositories: [gcr.io/a/b], min_age: 1h, dry_run: true, dry_run: true, min_age: 1h, min_age: 2h}\n",
            ["[0].dry_run", "[0].min_age"],
        ),
        ("- repositories: [gcr.io/a/b]\n  <<: {dry_run: true, dry_run: false}\n", ["[0].dry_run"]),
    ],
)
def test_repeated_key_of_yaml(tmp_path: Path, text: str, paths: list[str]) -> None:
    """It is refused at any level: what its first value says would be lost."""
    file = tmp_path / "p.yaml"
    file.write_text(text)

    with pytest.raises(InvalidPolicy, match="occurs twice") as caught:
        read_policies(str(file))

    assert [one.describe("") for one in caught.value.mistakes] == [f"{path}: occurs twice" for path in paths]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        "{a: " * 10_000,
        "- " * 10_000,
        "? " * 10_000,
        "- repositories: " + "[" * 10_000,
        "".join(f"{' ' * at}a:\n" for at in range(500)),
    ],
    ids=["[", "[]", "{", "-", "?", "value", "indented"],
)
@pytest.mark.parametrize("name", ["p.yaml", "p.json"])
def test_deeply_nested_document(operator: Operator, tmp_path: Path, name: str, text: str) -> None:
    """It is refused in one line, whichever way it nests."""
    path = tmp_path / name
    path.write_text(text)

    ended = operator.plan("--policies", str(path))

    assert (ended.code, one_line(ended).startswith(f"error: {path}: ")) == (2, True)


@pytest.mark.parametrize("text", [r'- "\U00110000"', r'- "\UFFFFFFFF"', "%YAML 1." + "9" * 5000 + "\n---\n- a"])
def test_what_yaml_cannot_hold_is_an_error(operator: Operator, tmp_path: Path, text: str) -> None:
    """An escape that is no character, and a version with thousands of digits."""
    path = tmp_path / "policies.yaml"
    path.write_text(text)

    ended = operator.plan("--policies", str(path))

    assert ended.code == 2
    assert one_line(ended).startswith(f"error: {path}: ")


def test_flow_levels_of_yaml_are_limited(operator: Operator, tmp_path: Path) -> None:
    """PyYAML could read some hundred open brackets, and would take seconds for some thousand."""
    path = tmp_path / "p.yaml"
    path.write_text(f"- {'[' * 51}{']' * 51}\n")

    ended = operator.plan("--policies", str(path))

    assert (ended.code, one_line(ended)) == (2, f"error: {path}: neither JSON nor YAML: nested too deeply\n")


def test_aliases_of_aliases(tmp_path: Path) -> None:
    """A short document of 30 levels, each with ten aliases of the one before, is decoded once a level."""
    lists = [f"- &b{at} [{', '.join([f'*b{at - 1}'] * 10)}]\n" for at in range(1, 30)]
    path = tmp_path / "p.yaml"
    path.write_text("".join(["- &b0 [x]\n", *lists]))

    with pytest.raises(InvalidPolicy, match="must be an object, not an array"):
        read_policies(str(path))


@pytest.mark.parametrize("name", ["p.yaml", "p.json", "-"])
def test_document_that_is_too_long(operator: Operator, tmp_path: Path, name: str) -> None:
    """It is refused before it is parsed, and not read to its end."""
    text = f"[{' ' * MAX_DOCUMENT_CHARS}]"
    path = tmp_path / name
    path.write_text(text)
    operator.monkeypatch.setattr(sys, "stdin", io.StringIO(text * 2))

    ended = operator.plan("--policies", "-" if name == "-" else str(path))

    assert ended.code == 2
    assert one_line(ended).endswith(": has more than 262,144 characters\n")
    assert name != "-" or sys.stdin.read()


def test_policies_that_cannot_be_read(operator: Operator, tmp_path: Path) -> None:
    """A file that does not exist, a folder, a file that is no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe[")
    for name, said in (("none", "No such file"), (".", "directory"), ("bytes", "not UTF-8")):
        ended = operator.plan("--policies", str(tmp_path / name))
        assert (ended.code, said in one_line(ended)) == (2, True)


@pytest.mark.parametrize(
    ("name", "said"), [("p.json", "not a JSON array of policies: "), ("p.yaml", "neither JSON nor YAML: ")]
)
def test_byte_order_mark(tmp_path: Path, name: str, said: str) -> None:
    """Some editors write one at the beginning of a file; it changes nothing."""
    path = tmp_path / name
    path.write_text('[{"repositories": ["**"]}]', encoding="utf-8-sig")
    assert len(read_policies(str(path))) == 1

    path.write_text("[", encoding="utf-8-sig")
    with pytest.raises(ConfigurationError, match=said):
        read_policies(str(path))


def test_insecure_hosts_are_allowed_in_globs(operator: Operator, tmp_path: Path) -> None:
    """Those of ``--insecure`` and of this machine, and no other host."""
    path = tmp_path / "p.yaml"
    path.write_text("- repositories: ['registry:5000/acme/*', 'localhost:5000/acme/*']\n")

    allowed = operator.call("plan", "gcr.io/acme/api", "--policies", str(path), "--insecure", "registry:5000")
    refused = operator.call("plan", "gcr.io/acme/api", "--policies", str(path), "--insecure", "registry:5001")

    assert allowed.code == 0
    assert refused.code == 2
    assert "'registry:5000/acme/*' is on the host registry:5000, which is not allowed" in one_line(refused)


def test_yaml_merges(operator: Operator, tmp_path: Path) -> None:
    """What several policies share may be written once."""
    operator.builds(4)
    path = tmp_path / "p.yaml"
    path.write_text(
        "- repositories: [gcr.io/acme/*]\n  <<: &base\n    min_age: 2h\n    untagged: {keep: 1}\n"
        "- repositories: [gcr.io/other/*]\n  tagged: [&rule {match: .*, keep: 3}]\n"
        "- {<<: *base, repositories: ['**'], tagged: [*rule], dry_run: true}\n"
    )

    ended = operator.plan("--policies", str(path))

    assert f"{path}[2]: min_age 2h; tagged[0] (.*): keep 3; untagged: keep 1; orphans: keep all; dry_run" in (
        " ".join(ended.out.split())
    )


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("[]", (), "must be an array of at least one policy"),
        ("[5]", (0,), "must be an object, not the number 5"),
        ('[{"repositories": ["**"]}, {"dry_run": true}]', (1, "repositories"), "is required: "),
        ('[{"repositories": ["**"], "min_age": "1: 2"}]', (0, "min_age"), "must be a duration like 90m, "),
    ],
)
def test_mistake_says_where_and_what(text: str, path: tuple[object, ...], problem: str) -> None:
    """In fields, of which its line is made."""
    with pytest.raises(InvalidPolicy) as caught:
        parse_policies(text, "p.json")

    (mistake,) = caught.value.mistakes
    assert (caught.value.where, mistake.path) == ("p.json", path)
    assert mistake.problem.startswith(problem)
    assert str(caught.value) == mistake.describe("p.json")
