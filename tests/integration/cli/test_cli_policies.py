"""Policies on the command line: of a file, of stdin and of flags, and what is wrong with them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy import parse_policies
from tests.support.command_line import Operator, one_line


def test_policies_of_a_file(operator: Operator, tmp_path: Path) -> None:
    """The first policy that matches decides, in JSON as in YAML, and is named by its place."""
    operator.builds(4)
    policies = [
        {"repositories": ["gcr.io/**"], "keep": 1},
        {"repositories": [f"{operator.emulator.host}/**"], "keep": 3, "delete_tags": [".*"]},
        {"repositories": ["**"], "keep": 1, "delete_tags": [".*"]},
    ]
    in_json, in_yaml = tmp_path / "policies.json", tmp_path / "policies.yaml"
    in_json.write_text(json.dumps(policies))
    in_yaml.write_text(
        f"- repositories: [gcr.io/**]\n  keep: 1\n"
        f'- repositories: ["{operator.emulator.host}/**"]\n  keep: 3\n  delete_tags:\n    - ".*"\n'
        f'- repositories: ["**"]\n  keep: 1\n  delete_tags: [".*"]\n'
    )

    for path in (in_json, in_yaml):
        ended = operator.plan("--policies", str(path))
        assert f"{path}[1]: keep 3, keep_untagged 3, min_age 1h, delete_tags .*".replace("\n", " ") in (
            " ".join(ended.out.split())
        )
        assert operator.plan("--policies", str(path), "--format", "json").tags("delete") == ["build-3"]


def test_policies_of_stdin(operator: Operator) -> None:
    """What another program has made."""
    operator.builds(3)
    policies = json.dumps([{"repositories": ["**"], "keep": 1, "delete_tags": [".*"]}])
    operator.monkeypatch.setattr(sys, "stdin", io.StringIO(policies))

    ended = operator.plan("--policies", "-", "--format", "json")

    assert ended.tags("delete") == ["build-1", "build-2"]


def test_policies_of_stdin_are_named_so(operator: Operator) -> None:
    """In the table's heading and where none matches, as in errors."""
    operator.builds(1)
    for glob, said in (("**", "\nstdin[0]: keep 5"), ("gcr.io/**", ": no policy of stdin matches, ")):
        operator.monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([{"repositories": [glob]}])))
        ended = operator.plan("--policies", "-")
        assert (ended.code, said in ended.out + ended.err) == (0, True)


def test_no_policy_matches(operator: Operator, tmp_path: Path) -> None:
    """The repository is never touched, so nobody is asked about it; that is no error."""
    operator.builds(3)
    path = tmp_path / "policies.json"
    path.write_text('[{"repositories": ["gcr.io/**"]}]')
    for ended in (operator.plan("--policies", str(path)), operator.prune("--policies", str(path), "--yes")):
        assert (ended.code, ended.out) == (0, "")
        assert ended.err == f"{operator.name}: no policy of {path} matches, so it is left alone\n"
    assert operator.plan("--policies", str(path), "--format", "json").document["delete"] == []
    assert operator.emulator.log.total == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.json", "[", "p.json: not a JSON array of policies: "),
        ("p.json", '[{"repositories": ["**"], "keep": 1, "keep": 2}]', "p.json[0].keep: occurs twice"),
        ("p.json", "[]", "p.json: must be an array of at least one policy"),
        ("p.json", '[{"repositories": ["**"], "kep": 1}]', "p.json[0]: unknown key 'kep'"),
        ("p.json", '[{"repositories": ["**"]}, {"keep": 1}]', "p.json[1].repositories: required"),
        ("p.yaml", "- repositories: ['**']\n  min_age: 5m\n", "p.yaml[0].min_age: must be 10m or longer, not 5m"),
        ("p.yaml", "- repositories: ['**']\n  keep: 1\n  keep: 2\n", "p.yaml[0].keep: occurs twice"),
        ("p.yaml", "- repositories: ['**']\n  ? [keep]\n  : 1\n", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "- repositories: ['**']\n  keep: \0\n", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "- 5\n- [keep]\n", "p.yaml[0]: must be an object, not the number 5"),
        ("p.yaml", "- {repositories: ['**']\n  keep: 1\n", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "a: &a [*a]\n- b", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "repositories: ['**']\n", "p.yaml: must be an array of at least one policy"),
        ("p.yaml", "- repositories: !!python/name:os.system\n", "p.yaml: neither JSON nor YAML: "),
        ("p.yaml", "", "p.yaml: must be an array of at least one policy"),
        ("p", "\xff", "p: must be an array of at least one policy"),
    ],
)
def test_bad_policies(operator: Operator, tmp_path: Path, name: str, text: str, said: str) -> None:
    """Exit code 2, and one line that says where and what; nobody is asked for anything."""
    path = tmp_path / name
    path.write_text(text)

    ended = operator.plan("--policies", str(path))

    assert ended.code == 2
    assert said in one_line(ended)
    assert operator.emulator.log.total == 0


def test_policies_that_cannot_be_read(operator: Operator, tmp_path: Path) -> None:
    """A file that is not there, a folder, no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe[")
    for name, said in (("none", "No such file"), (".", "directory"), ("bytes", "not UTF-8")):
        ended = operator.plan("--policies", str(tmp_path / name))
        assert (ended.code, said in one_line(ended)) == (2, True)


def test_yaml_merges(operator: Operator, tmp_path: Path) -> None:
    """What several policies share may be written once."""
    operator.builds(4)
    path = tmp_path / "p.yaml"
    path.write_text(
        "- &base\n  repositories: [gcr.io/**]\n  keep: 1\n  delete_tags: ['.*']\n"
        "- <<: *base\n  repositories: ['**']\n  keep: 3\n"
    )

    assert operator.plan("--policies", str(path), "--format", "json").tags("delete") == ["build-3"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--keep", "0"], "argument --keep: must be an integer of at least 1"),
        (["--keep", "many"], "argument --keep: must be an integer, not 'many'"),
        (["--keep-untagged", "-1"], "argument --keep-untagged: "),
        (["--min-age", "5m"], "argument --min-age: must be 10m or longer, not 5m"),
        (["--max-age", "soon"], "argument --max-age: not a duration"),
        (["--delete-tags", "("], "argument --delete-tags: invalid regex '('"),
        (["--delete-tags", ".*", "--delete-tags", "["], "argument --delete-tags: invalid regex '['"),
        (["--group-by", "x"], "argument --group-by: must have at least one group"),
        (["--max-deletions", "0"], "argument --max-deletions: must be an integer of at least 1"),
        (["--workers", "0"], "argument --workers: must be a number from 1 to 100"),
        (["--time-limit", "0"], "argument --time-limit: must be longer than nothing"),
        (["--time-limit", "soon"], "argument --time-limit: not a duration"),
        (["--insecure", "localhost"], "argument --insecure: must be HOST:PORT"),
        (["--insecure", "gcr.io:443"], "argument --insecure: 'gcr.io:443' is Google's"),
        (["--policies", ""], "argument --policies: must be the name of a file, or - for stdin"),
        (["--running-scopes", "acme"], "argument --running-scopes: must be projects/P"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["--kee", "1"], "unrecognized arguments: --kee 1"),
        (["--policies", "p.json", "--keep", "3", "--min-age", "2h"], "--policies and --keep, --min-age exclude"),
        (["--explain", "v1", "--format", "json"], "--explain tells in sentences"),
    ],
)
def test_bad_flags(operator: Operator, flags: list[str], said: str) -> None:
    """Exit code 2, and one line that names the flag and says what is wrong with it."""
    ended = operator.plan(*flags)

    assert ended.code == 2
    assert said in one_line(ended)
    assert ended.err.endswith(" plan --help tells more)\n")
    assert operator.emulator.log.total == 0


@pytest.mark.parametrize(
    "arguments", [(), ("plan",), ("prune",), ("sweep", "gcr.io/p"), ("burn", "gcr.io/p/x"), ("plan", "a", "b")]
)
def test_missing_arguments(operator: Operator, arguments: tuple[str, ...]) -> None:
    """One line, exit code 2."""
    ended = operator.call(*arguments)

    assert (ended.code, one_line(ended).count("--help tells more")) == (2, 1)


@pytest.mark.parametrize(
    ("text", "where", "key", "problem"),
    [
        ("[]", "p.json", None, "must be an array of at least one policy"),
        ("[5]", "p.json[0]", None, "must be an object, not the number 5"),
        ('[{"repositories": ["**"]}, {"keep": 1}]', "p.json[1]", "repositories", "required"),
        ('[{"repositories": ["**"], "keep": 1, "keep": 2}]', "p.json[0]", "keep", "occurs twice"),
        ('[{"repositories": ["**"], "min_age": "1: 2"}]', "p.json[0]", "min_age", "not a duration like 90m, "),
    ],
)
def test_bad_policy_says_where_and_what(text: str, where: str, key: str | None, problem: str) -> None:
    """In fields, so that nobody has to take the text apart; the text is made of them."""
    with pytest.raises(InvalidPolicy) as caught:
        parse_policies(text, "p.json")

    error = caught.value
    assert (error.where, error.key) == (where, key)
    assert error.problem.startswith(problem)
    assert str(error) == f"{where}{'' if key is None else f'.{key}'}: {error.problem}"


def test_flags_say_what_policies_say(operator: Operator) -> None:
    """Each key has its flag."""
    operator.builds(1)
    flags = "--keep 7 --keep-untagged 0 --min-age 2h --max-age 30d --delete-tags a --delete-tags b"
    flags += " --protect-tags c --protect-tags d --group-by (e) --max-deletions 9"

    ended = operator.plan(*flags.split())

    said = "keep 7, keep_untagged 0, min_age 2h, max_age 30d, delete_tags a b, protect_tags c d, group_by (e),"
    assert f"flags: {said} max_deletions 9" in " ".join(ended.out.split())
