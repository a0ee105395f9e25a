"""The command line over a real registry's socket: what it says, what it leaves, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cleaner.cli.explain import LEAST_HEX_DIGITS
from cleaner.cli.main import main
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import HostNotAllowed, InvalidPolicy, InvalidReference
from cleaner.core.policy import parse_policies
from cleaner.google.tokens import Access
from tests.emulator import Emulator, scenarios
from tests.emulator.faults import Before, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, load, multi_arch, raw
from tests.emulator.store import DANGLING_PARENT, OCI_INDEX
from tests.support.held import Held, assert_whole
from tests.support.processes import ROOT

PATH = "acme/api"
RETIRING = ("--delete-tags", ".*", "--keep", "2")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def tags(self, key: str) -> list[str]:
        """The first tag of each entry, in its order."""
        return [one["tags"][0] for one in self.document[key]]


def yes() -> bool:
    return True


def no() -> bool:
    return False


@dataclass(slots=True)
class Operator:
    """Somebody in front of a registry."""

    emulator: Emulator
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    questions: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.emulator.name(PATH)

    @property
    def tags(self) -> set[str]:
        """The tags that are left."""
        return set(self.emulator.store.tags(self.name))

    @property
    def deletions(self) -> int:
        return len(self.emulator.log.of("tag_delete")) + len(self.emulator.log.of("manifest_delete"))

    def builds(self, count: int, path: str = PATH) -> None:
        """Fill the repository: ``build-0`` is the newest, and one day old."""
        for at in range(count):
            uploaded = datetime.now(UTC) - timedelta(days=1 + at)
            load(self.emulator.store, self.emulator.name(path), image(at), tags=f"build-{at}", uploaded=uploaded)

    def load(self, content: Any, tags: Sequence[str] | str = (), *, days: float) -> str:
        uploaded = datetime.now(UTC) - timedelta(days=days)
        return load(self.emulator.store, self.name, content, tags=tags, uploaded=uploaded)

    def call(self, *arguments: str) -> Ended:
        """Call the command line in this process."""
        try:
            code = main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        read = self.capture.readouterr()
        return Ended(code, read.out, read.err)

    def plan(self, *arguments: str) -> Ended:
        return self.call("plan", self.name, "--insecure", self.emulator.host, *arguments)

    def prune(self, *arguments: str) -> Ended:
        return self.call("prune", self.name, "--insecure", self.emulator.host, *arguments)

    def answers(self, answer: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Sit at a terminal, and give this answer to every question."""

        def ask(_: Terminal, question: str) -> bool:
            self.questions.append(question)
            meanwhile()
            return answer()

        self.monkeypatch.setattr(Terminal, "ask", ask)
        made = Terminal.__init__

        def init(terminal: Terminal, environment: Any) -> None:
            made(terminal, environment)
            terminal.is_attended = True

        self.monkeypatch.setattr(Terminal, "__init__", init)


@pytest.fixture(scope="module")
def registry() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def operator(
    registry: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Operator]:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "CLOUDSDK_")) or name in ("INSECURE_REGISTRIES", "RUNNING_SCOPES"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    registry.reset()
    yield Operator(registry, capsys, monkeypatch)
    registry.reset()


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run(*arguments: str, code: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own."""
    start = ["-c", code] if code else ["-m", "cleaner"]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(
        command,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_shell(command: str, operator: Operator) -> subprocess.CompletedProcess[str]:
    """Have a shell do what only that can."""
    return subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment(INSECURE_REGISTRIES=operator.emulator.host, PYTHONUNBUFFERED=""),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(ended: Ended) -> str:
    """The one line of an error, with nothing else said."""
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err


# --- plan


def test_plan_deletes_nothing(operator: Operator) -> None:
    """It asks for a token that is good for reading, and sends no DELETE."""
    operator.builds(4)
    operator.emulator.behaviour.auth = True

    assert operator.plan(*RETIRING).code == 0

    assert [one.path.rpartition(":")[2] for one in operator.emulator.log.of("token")] == ["pull"]
    assert operator.deletions == 0
    assert operator.tags == {f"build-{at}" for at in range(4)}


def test_plan_as_a_document(operator: Operator) -> None:
    """One JSON document on stdout and nothing on stderr."""
    operator.builds(4)

    ended = operator.plan(*RETIRING, "--format", "json")

    assert (ended.code, ended.err) == (0, "")
    assert list(ended.document) == ["repository", "dry_run", "keep", "delete"]
    assert ended.document["repository"] == operator.name
    assert ended.document["dry_run"] is True
    assert ended.tags("keep") == ["build-0", "build-1"]
    assert ended.tags("delete") == ["build-2", "build-3"]
    assert set(ended.document["keep"][0]) == {"digest", "tags", "uploaded", "reason"}
    assert datetime.fromisoformat(ended.document["keep"][0]["uploaded"]).utcoffset() == timedelta()


def test_plan_as_a_table(operator: Operator) -> None:
    """The repository, the policy in force, a line for each image, a summary; plain text where nobody sees colours."""
    operator.builds(3)

    lines = operator.plan(*RETIRING).out.splitlines()

    assert lines[0] == operator.name
    assert lines[1] == "flags: keep 2, keep_untagged 2, min_age 1h, delete_tags .*"
    assert [line.split()[0] for line in lines[3:7]] == ["TAGS", "build-0", "build-1", "build-2"]
    assert lines[6].endswith("delete  expired")
    assert lines[8] == "keep    2 images: 2 newest"
    assert lines[9].startswith("delete  1 image: ")
    assert "\x1b" not in "".join(lines)


def test_plan_without_a_policy_takes_the_defaults(operator: Operator) -> None:
    """The function's defaults: tagged images stay, the five newest untagged ones too.  It says so."""
    for at in range(7):
        operator.load(image(f"untagged {at}"), days=1 + at)
    operator.builds(7)

    ended = operator.plan()

    assert "defaults: keep 5, keep_untagged 5, min_age 1h" in ended.out
    assert "keep    12 images: 7 tagged, 5 newest" in ended.out
    assert "delete  2 images: " in ended.out


def test_plan_of_a_repository_that_is_not_there(operator: Operator) -> None:
    """There is nothing to prune; a document is a document all the same."""
    ended = operator.plan()
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"{operator.name}: no such repository\n"

    ended = operator.plan("--format", "json")
    assert ended.document == {"repository": operator.name, "dry_run": True, "keep": [], "delete": []}


def test_plan_unfolds(operator: Operator) -> None:
    """What belongs to an image is one column, or one line each."""
    built = multi_arch("m", attestations=True)
    operator.load(built, ["v1"], days=2)
    operator.load(cosign_signature(built), [cosign_tag(built)], days=2)

    folded, unfolded = operator.plan().out, operator.plan("--all").out

    assert "amd64, arm64  2 attestations, 1 signature  keep  tagged" in folded
    assert "linux/arm64" not in folded
    assert [line.split()[0] for line in unfolded.splitlines() if line.startswith("  ")] == [
        "linux/amd64",
        "linux/arm64",
        "attestation",
        "attestation",
        "signature",
    ]


def test_plan_explains(operator: Operator) -> None:
    """By tag or by digest, as the table shows it; a name of nothing is an error."""
    operator.builds(4)
    digest = operator.emulator.store.tags(operator.name)["build-3"]

    by_tag = operator.plan(*RETIRING, "--explain", "build-3")
    by_digest = operator.plan(*RETIRING, "--explain", digest[7:15])

    assert by_tag == by_digest
    assert by_tag.out.startswith(f"{operator.name}@{digest}\n")
    assert "newest         It is number 4 of 4 tagged images; keep is 2." in by_tag.out
    assert by_tag.out.endswith("\nIt is deleted, as expired: no rule keeps it.\n")
    operator.monkeypatch.setenv("COLUMNS", "80")
    assert operator.plan("--explain", "build-3").out.startswith(f"{operator.name}@\n{digest}\ndefaults: ")
    ended = operator.plan("--explain", "build-9")
    assert (ended.code, "no manifest has the tag or digest 'build-9'" in one_line(ended)) == (1, True)


def test_plan_knows_what_is_running(operator: Operator) -> None:
    """Who runs an image is told in all three ways."""
    operator.builds(4)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", f"{operator.emulator.url}/")
    operator.emulator.behaviour.assets = {
        "projects/acme": [
            {
                "name": "//container.googleapis.com/projects/acme/zones/z/clusters/c/k8s/namespaces/prod/pods/api",
                "assetType": "k8s.io/Pod",
                "resource": {"data": {"spec": {"containers": [{"image": f"{operator.name}:build-3"}]}}},
            }
        ]
    }
    scopes = ("--running-scopes", "projects/acme")

    table = operator.plan(*RETIRING, *scopes)
    document = operator.plan(*RETIRING, *scopes, "--format", "json").document
    explained = operator.plan(*RETIRING, *scopes, "--explain", "build-3")

    assert "keep    running: Pod prod/api" in table.out
    assert document["keep"][-1]["running"] == "Pod prod/api"
    assert "yes  running        Pod prod/api runs it." in explained.out
    operator.monkeypatch.setenv("RUNNING_SCOPES", "projects/acme")
    assert operator.plan(*RETIRING).out == table.out


def test_plan_fails_where_it_is_not_known_what_runs(operator: Operator) -> None:
    """Nothing is planned on half an answer; the missing permission is named."""
    operator.builds(4)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    operator.emulator.behaviour.denied_scopes = {"projects/acme"}

    ended = operator.plan(*RETIRING, "--running-scopes", "projects/acme")

    assert ended.code == 1
    assert "cloudasset.assets.listResource" in one_line(ended)


def test_readme_examples_run(operator: Operator, tmp_path: Path) -> None:
    """Each command, as it is printed there but for the port, ends in the line that is printed there."""
    scenarios.run(operator.emulator.store, operator.emulator.host, "demo")
    text = (ROOT / "README.md").read_text().replace("localhost:5000", operator.emulator.host)
    printed = {}
    for example in text.split("\n    $ ")[1:]:
        command, *rest = example.splitlines()
        printed[command] = [line[4:] for line in takewhile(lambda line: line.startswith("    ") or not line, rest)]
    (tmp_path / "policies.yaml").write_text("\n".join(printed.pop("cat policies.yaml")))
    operator.monkeypatch.chdir(tmp_path)

    for command, lines in printed.items():
        ended = operator.call(*shlex.split(command.removeprefix("python -m cleaner ")))
        assert (ended.code, ended.err) == (0, ""), command
        assert ended.out.splitlines()[-1] == [line for line in lines if line][-1]
    assert len(printed) == 3


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="there is no environment to activate")
def test_readme_examples_find_what_they_need(tmp_path: Path) -> None:
    """In a shell that knows nothing of the environment, what the README says before them makes them work."""
    before, _, _ = (ROOT / "README.md").read_text().partition("    $ python -m cleaner plan")
    setup = before.rpartition("\n    make setup\n")[2].partition("\n\n")[0].splitlines()
    assert [line.strip().split(" --")[0] for line in setup] == [". .venv/bin/activate", "python -m tests.emulator"]
    activate = setup[0].replace(".venv", sys.prefix)

    ended = subprocess.run(
        ["/bin/bash", "-c", f"{activate} && python -m tests.emulator --help && python -m cleaner plan --help"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "`policies.yaml`:\n\n    $ cat policies.yaml" in before


# --- policies


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
        ("p.json", '[{"repositories": ["**"], "keep": 1, "keep": 2}]', "p.json[0].keep: stands twice"),
        ("p.json", "[]", "p.json: must be an array of at least one policy"),
        ("p.json", '[{"repositories": ["**"], "kep": 1}]', "p.json[0]: unknown key 'kep'"),
        ("p.json", '[{"repositories": ["**"]}, {"keep": 1}]', "p.json[1].repositories: required"),
        ("p.yaml", "- repositories: ['**']\n  min_age: 5m\n", "p.yaml[0].min_age: must be 10m or longer, not 5m"),
        ("p.yaml", "- repositories: ['**']\n  keep: 1\n  keep: 2\n", "p.yaml[0].keep: stands twice"),
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
        (["--delete-tags", "("], "argument --delete-tags: bad regex '('"),
        (["--delete-tags", ".*", "--delete-tags", "["], "argument --delete-tags: bad regex '['"),
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
        ('[{"repositories": ["**"], "keep": 1, "keep": 2}]', "p.json[0]", "keep", "stands twice"),
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


# --- names, hosts, credentials, permissions


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docker.io/library/redis", "host not allowed: allowed are gcr.io"),
        ("localhost:5000/a", "named with --insecure localhost:5000"),
        ("localhost/a", "named with --insecure localhost:PORT"),
        ("nginx:latest", "host not allowed: allowed are gcr.io"),
        ("redis:7", "host not allowed: allowed are gcr.io"),
        ("redis:seven/a", "host not allowed: allowed are gcr.io"),
        ("gcr.io:443/acme/api", "host not allowed: allowed are gcr.io"),
        ("a:1,b:2/a", "host not allowed: allowed are gcr.io"),
        ("https://gcr.io/acme/api", "host not allowed: leave out https://"),
        ("http://localhost:5000/a", "host not allowed: leave out http://"),
        ("gcr.io/acme/api:latest", "HOST/PATH in lower case, without tag or digest"),
        ("gcr.io/Acme/api", "HOST/PATH in lower case"),
        ("gcr.io", "HOST/PATH"),
        ("gcr.io/a\x1b[31m/b", "'gcr.io/a\\x1b[31m/b': not a repository name"),
    ],
)
def test_bad_names(operator: Operator, name: str, said: str) -> None:
    """Exit code 2; the line says what would be right."""
    ended = operator.call("plan", name)

    assert ended.code == 2
    assert said in one_line(ended)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (HostNotAllowed(), "allowed are gcr.io"),
        (InvalidReference("host not allowed"), "it is HOST/PATH in lower case"),
    ],
)
def test_hint_goes_by_the_error_and_not_by_its_text(operator: Operator, error: InvalidReference, hint: str) -> None:
    """What another one says is for people."""

    def refuse(*_: object) -> NoReturn:
        raise error

    operator.monkeypatch.setattr("cleaner.cli.session.parse_repository", refuse)

    assert f"host not allowed: {hint}" in one_line(operator.call("plan", "quay.io/a/b"))


@pytest.mark.parametrize("command", ["plan", "prune"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("us-docker.pkg.dev/acme", "that is us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme/apps", "that is us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme.com/p/apps", "that is us-docker.pkg.dev/DOMAIN/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme/gcr.io", "that is gcr.io/PROJECT/IMAGE"),
        ("eu.gcr.io/acme", "that is eu.gcr.io/PROJECT/IMAGE"),
        ("gcr.io/acme.com/p", "that is gcr.io/DOMAIN/PROJECT/IMAGE"),
    ],
)
def test_name_that_ends_before_the_image(operator: Operator, command: str, name: str, said: str) -> None:
    """No image can be there, whatever the credentials are: exit code 2, and how a whole name is spelled."""
    ended = operator.call(command, name)

    assert ended.code == 2
    assert one_line(ended) == f"error: {name!r}: names no image: {said}\n"


def test_insecure_hosts_add_up(operator: Operator) -> None:
    """Comma separated, given more than once, or as the function's setting."""
    operator.builds(1)
    host = operator.emulator.host
    given = ("--insecure", "b:2", "--insecure", f"a:1,{host}", "--format", "json")
    assert operator.call("plan", operator.name, *given).code == 0
    assert operator.call("plan", operator.name).code == 2
    operator.monkeypatch.setenv("INSECURE_REGISTRIES", host)
    assert operator.call("plan", operator.name).code == 0
    assert operator.call("plan", operator.name, "--insecure", "a:1").code == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("INSECURE_REGISTRIES", "gcr.io:80"),
        ("RUNNING_SCOPES", "everything"),
        ("GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", "localhost"),
        ("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", "ftp://x"),
    ],
)
def test_bad_settings(operator: Operator, setting: str, value: str) -> None:
    """Those of the environment are read as the function reads them."""
    operator.monkeypatch.setenv(setting, value)

    ended = operator.call("plan", "gcr.io/acme/api")

    assert ended.code == 2
    assert one_line(ended).startswith(f"error: {setting}: ")


def test_no_credentials(operator: Operator, tmp_path: Path) -> None:
    """The line says how to get some."""
    operator.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    ended = operator.call("plan", "gcr.io/acme/api")

    assert ended.code == 1
    assert one_line(ended).endswith("run gcloud auth application-default login\n")


@pytest.mark.parametrize("command", ["plan", "prune"])
def test_permission_denied(operator: Operator, command: str) -> None:
    """The permission that is likely missing is named."""
    operator.builds(1)
    operator.emulator.behaviour.auth = True
    operator.emulator.behaviour.denied = {PATH}
    yes = ("--yes",) if command == "prune" else ()

    ended = operator.call(command, operator.name, "--insecure", operator.emulator.host, *yes)

    assert ended.code == 1
    assert "what is likely missing is artifactregistry.repositories.downloadArtifacts" in one_line(ended)


def test_registry_that_does_not_answer(operator: Operator) -> None:
    """What was asked, and what came."""
    operator.builds(1)
    operator.emulator.faults.add(Status(503), kind="tags_list")

    ended = operator.plan("--time-limit", "1")

    assert ended.code == 1
    assert "tags/list?n=10000: status 503, at the last attempt: try again later" in one_line(ended)


def test_host_that_is_not_there(operator: Operator) -> None:
    """Nobody listens: the line says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

    ended = operator.call("plan", f"{host}/acme/api", "--insecure", host, "--time-limit", "1")

    assert ended.code == 1
    assert one_line(ended).endswith(
        "ConnectionError, at the last attempt: check the host's name and the network, or try again later\n"
    )


def test_running_scope_that_is_not_there(operator: Operator) -> None:
    """It is named, and not by the path of a request."""
    operator.builds(7)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    operator.emulator.faults.add(Status(404), kind="assets")

    ended = operator.plan(*RETIRING, "--running-scopes", "projects/acme")

    assert (ended.code, one_line(ended)) == (1, "error: projects/acme: no such project, folder or organization\n")


def test_manifest_that_makes_no_sense(operator: Operator) -> None:
    """It never will, and nothing is planned on it."""
    operator.load(raw(b'{"manifests": 7}', OCI_INDEX), days=9)

    ended = operator.prune("--yes")

    assert ended.code == 1
    assert "makes no sense" in one_line(ended)


# --- prune


def test_prune_without_a_terminal_needs_yes(operator: Operator) -> None:
    """Exit code 2 before anybody is asked for anything."""
    operator.builds(4)

    ended = operator.prune(*RETIRING)

    assert ended.code == 2
    assert "--yes prunes without a question" in one_line(ended)
    assert operator.emulator.log.total == 0


def test_prune_with_yes(operator: Operator) -> None:
    """The plan is shown and carried out, and what was done is told."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes")

    assert (ended.code, ended.err) == (0, "")
    assert operator.tags == {"build-0", "build-1"}
    assert "delete  2 images: " in ended.out
    assert "\ndeleted 2 manifests, " in ended.out


def test_prune_as_a_document(operator: Operator) -> None:
    """What has gone is in delete, and the registry agrees."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes", "--format", "json")

    assert (ended.code, ended.err) == (0, "")
    assert ended.document["dry_run"] is False
    assert ended.tags("keep") == ["build-0", "build-1"]
    assert ended.tags("delete") == ["build-2", "build-3"]
    assert {one["digest"] for one in ended.document["keep"]} == operator.emulator.store.digests(operator.name)


def test_prune_asks_on_a_terminal(operator: Operator) -> None:
    """No is no, and harms nobody."""
    operator.builds(4)
    operator.answers(no)

    ended = operator.prune(*RETIRING)

    assert (ended.code, ended.err) == (0, "nothing was deleted\n")
    assert len(operator.questions) == 1
    assert operator.questions[0].startswith(f"Delete 2 manifests of {operator.name}, ")
    assert operator.deletions == 0
    outcomes = [one.get("outcome") for one in operator.prune(*RETIRING, "--format", "json").document["keep"]]
    assert outcomes == [None, None, "left", "left"]


def test_prune_does_what_was_agreed_to(operator: Operator) -> None:
    """Yes is yes."""
    operator.builds(4)
    operator.answers(yes)

    assert operator.prune(*RETIRING).code == 0

    assert operator.tags == {"build-0", "build-1"}


def test_prune_deletes_only_what_was_shown(operator: Operator) -> None:
    """What is pushed while somebody thinks makes another image old; nobody agreed to that one."""
    operator.builds(4)

    def push() -> None:
        operator.load(image("new"), ["build-new"], days=0.5)

    operator.answers(yes, push)

    assert operator.prune(*RETIRING).code == 0

    assert operator.tags == {"build-new", "build-0", "build-1"}
    assert operator.plan(*RETIRING, "--format", "json").tags("delete") == ["build-1"]


def test_prune_with_nothing_to_delete_asks_nothing(operator: Operator) -> None:
    """There is nothing to agree to."""
    operator.builds(2)
    operator.answers(yes)

    ended = operator.prune(*RETIRING)

    assert (ended.code, ended.err, operator.questions) == (0, "", [])
    assert ended.out.endswith("delete  nothing\n")
    assert operator.prune(*RETIRING, "--format", "json").document["delete"] == []


@pytest.mark.parametrize("by", ["policy", "flag"])
def test_prune_that_only_reports(operator: Operator, tmp_path: Path, by: str) -> None:
    """A policy with dry_run is reported, whatever is agreed to; it says why."""
    operator.builds(4)
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps([{"repositories": ["**"], "keep": 2, "delete_tags": [".*"], "dry_run": by == "policy"}])
    )
    flags = ("--policies", str(path), *(("--dry-run",) if by == "flag" else ()))

    for more in ((), ("--yes",)):
        ended = operator.prune(*flags, *more, "--format", "json")
        assert ended.code == 0
        assert ended.document["dry_run"] is True
        assert ended.tags("delete") == ["build-2", "build-3"]
        assert ended.err == f"nothing was deleted: {'--dry-run' if by == 'flag' else f'dry_run of {path}[0]'}\n"

    assert operator.deletions == 0


def test_prune_where_something_is_refused(operator: Operator) -> None:
    """What came to need an image meanwhile is no error of ours: exit code 0, told with the registry's words."""
    operator.builds(4)
    digest = operator.emulator.store.tags(operator.name)["build-3"]
    fault = Status(400, DANGLING_PARENT)
    operator.emulator.faults.add(fault, method="DELETE", path=digest)

    ended = operator.prune(*RETIRING, "--yes", "--format", "json")

    assert (ended.code, ended.err) == (0, "")
    assert [len(ended.document[key]) for key in ("keep", "delete")] == [3, 1]
    assert ended.document["keep"][2]["digest"] == digest
    assert ended.document["keep"][2]["outcome"] == "refused"
    operator.builds(4)
    text = operator.prune(*RETIRING, "--yes").out
    assert f"kept    1 refused\n  refused  {digest[7:19]} (build-3): 400 {DANGLING_PARENT}\n" in text


def test_prune_where_something_fails(operator: Operator) -> None:
    """Any other refusal ends in exit code 1; where it is a missing permission, that is named."""
    operator.builds(5)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 1
    assert "deleted 0 manifests, 0 B at most" in ended.out
    assert "kept    3 failed\n  failed   " in ended.out
    assert ended.err.endswith(
        "deletions denied: what is likely missing is artifactregistry.repositories.deleteArtifacts\n"
    )
    assert ended.err.count("\n") == 1


def test_denied_deletion_names_what_the_role_grants(operator: Operator) -> None:
    """The command line, the token for deleting and Terraform's custom role name the same permissions."""
    operator.builds(3)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")
    source = (ROOT / "terraform" / "repositories.tf").read_text()

    def granted(what: str) -> set[str]:
        found = source.partition(f"{what}_permissions = [")[2].partition("]")[0]
        return set(re.findall(r'"(artifactregistry\.[A-Za-z.]+)"', found))

    ended = operator.prune(*RETIRING, "--yes")

    assert set(ended.err.rpartition(" is ")[2].split()) <= granted("deleting")
    assert {Access.READ.permission} <= granted("reading")
    assert set(Access.DELETE.permission.split(", ")) == {Access.READ.permission, *granted("deleting")}


def test_prune_names_ten_failures(operator: Operator) -> None:
    """A thousand lines would say no more."""
    operator.builds(16)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE")

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.out.count("  failed   ") == 10
    assert ended.out.endswith("  and 4 more\n")


def test_prune_that_is_cut_off(operator: Operator) -> None:
    """What went is told, what did not is left for next time, and the exit code is 1."""
    operator.builds(6)
    operator.emulator.faults.add(Status(503), kind="manifest_delete", skip=2)

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "2", "--format", "json")

    assert ended.code == 1
    assert ended.err.startswith("error: DELETE ")
    assert ended.err.count("\n") == 1
    assert len(ended.document["delete"]) == 2
    assert [one.get("outcome") for one in ended.document["keep"]] == [None, None, "left", "left"]


def test_prune_that_is_cut_off_between_tags_and_image(operator: Operator) -> None:
    """Tags that went for nothing are told, with the image that is still there and what it means for the next run."""
    operator.builds(6)
    digest = operator.emulator.store.tags(operator.name)["build-5"]
    operator.emulator.faults.add(Status(500), method="DELETE", path="/sha256:")

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "1")

    assert ended.code == 1
    assert operator.tags == {f"build-{at}" for at in range(5)}
    assert "\ndeleted 0 manifests, " in ended.out
    assert ended.out.endswith(
        "\nkept    4 left\n"
        "lost    1 tag of 1 manifest still there: one without tags is judged as untagged the next time, by\n"
        "        keep_untagged\n"
        f"  left     {digest[7:19]} without build-5\n"
    )
    assert "\n(untagged)" in operator.plan(*RETIRING).out


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(Status(400, DANGLING_PARENT), "refused"), (Status(405, "UNSUPPORTED"), "failed"), (Status(500), "left")],
    ids=["refused", "failed", "left"],
)
def test_document_names_tags_that_went_for_nothing(operator: Operator, fault: Status, outcome: str) -> None:
    """What an entry of the document has in ``tags`` is there; ``lost_tags`` are those that no longer are."""
    operator.builds(2)
    image_of_three = image("three")
    digest = operator.load(image_of_three, ["a", "b", "c"], days=9)
    operator.emulator.faults.add(fault, method="DELETE", path="/sha256:")

    ended = operator.prune(*RETIRING, "--yes", "--time-limit", "1", "--format", "json")

    *others, entry = ended.document["keep"]
    assert (entry["digest"], entry["outcome"]) == (digest, outcome)
    assert (entry["tags"], entry["lost_tags"]) == ([], ["a", "b", "c"])
    assert [one.get("lost_tags") for one in others] == [None, None]
    assert operator.tags == {"build-0", "build-1"}


def test_image_that_keeps_some_of_its_tags(operator: Operator) -> None:
    """A tag that cannot be deleted stays, and so does the image; only what went before it is lost."""
    operator.builds(2)
    operator.load(image("three"), ["a", "b", "c"], days=9)
    operator.emulator.faults.add(Status(403, "DENIED"), method="DELETE", path="/b$")

    entry = operator.prune(*RETIRING, "--yes", "--format", "json").document["keep"][-1]

    assert (entry["outcome"], entry["tags"], entry["lost_tags"]) == ("failed", ["b", "c"], ["a"])
    assert operator.tags == {"build-0", "build-1", "b", "c"}


def test_what_left_means_is_told(operator: Operator) -> None:
    """Neither the help nor the README says that what is left was not begun, and both name the tags that went."""
    text, shown = (ROOT / "README.md").read_text(), operator.call("prune", "--help").out
    row = next(line for line in text.splitlines() if line.startswith("| `left` |"))

    assert "not begun, or did not end" in row
    assert "left (not begun, or not ended" in " ".join(shown.split())
    assert "lost_tags" in text
    assert "lost_tags" in shown


def test_prune_beyond_the_time_limit(operator: Operator) -> None:
    """No further deletion begins, and the line says how to go on."""
    operator.builds(12)
    operator.emulator.faults.latency_s = 0.15

    ended = operator.prune(*RETIRING, "--yes", "--workers", "1", "--time-limit", "1")

    assert ended.code == 1
    assert "time is over" in ended.err
    assert ended.err.endswith("the same command goes on from there\n")
    assert 2 < len(operator.tags) < 12


def test_prune_where_a_tag_moves(operator: Operator) -> None:
    """CI moves a tag between the plan and its end: the tag stays, and what it names now."""
    operator.builds(4)
    newest = operator.emulator.store.tags(operator.name)["build-0"]

    def move() -> None:
        operator.emulator.store.tag(operator.name, "build-3", newest)

    operator.emulator.faults.add(Before(move), kind="manifest_head", path="build-3", nth=1)

    ended = operator.prune(*RETIRING, "--yes", "--format", "json")

    assert ended.code == 0
    assert "build-3" in operator.tags
    outcomes = {one["tags"][0]: one.get("outcome") for one in ended.document["keep"]}
    assert outcomes == {"build-0": None, "build-1": None, "build-3": "stayed"}


def test_prune_where_something_is_wanted_after_all(operator: Operator) -> None:
    """Somebody gives an image a name while somebody else thinks: it stays, and is told as kept."""
    operator.builds(4)

    def release() -> None:
        digest = operator.emulator.store.tags(operator.name)["build-2"]
        operator.emulator.store.tag(operator.name, "v1", digest)

    operator.answers(yes, release)

    ended = operator.prune(*RETIRING, "--protect-tags", "v.*", "--format", "json")

    assert (ended.code, operator.tags) == (0, {"build-0", "build-1", "build-2", "v1"})
    assert [one.get("outcome") for one in ended.document["keep"]] == [None, None, "stayed"]


def test_prune_beside_the_function(operator: Operator) -> None:
    """What another run has deleted while somebody was thinking is gone, and told as gone."""
    operator.builds(4)

    def others() -> None:
        for tag in ("build-2", "build-3"):
            operator.emulator.store.force_delete(
                operator.name, operator.emulator.store.delete_tag(operator.name, tag)
            )

    operator.answers(yes, others)

    ended = operator.prune(*RETIRING, "--format", "json")

    assert ended.code == 0
    assert ended.tags("delete") == ["build-2", "build-3"]


def test_prune_leaves_whole_images(operator: Operator) -> None:
    """Signed, attested, multi-platform: what is kept keeps its parts."""
    kept = []
    for at in range(6):
        built = multi_arch(f"m{at}", attestations=True)
        digest = operator.load(built, [f"build-{at}"], days=1 + at)
        operator.load(cosign_signature(built), [cosign_tag(built)], days=1 + at)
        kept += [digest] if at < 2 else []
    before = Held.now(operator.emulator.store, operator.name)

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 0
    assert "delete  4 images and 20 manifests of images: " in ended.out
    assert_whole(before, operator.emulator.store, operator.name, kept)
    assert len(operator.emulator.store.digests(operator.name)) == 12


def test_prune_of_a_repository_that_vanishes(operator: Operator) -> None:
    """Somebody removes it while somebody else thinks: nothing is left to do."""
    operator.builds(4)
    operator.answers(yes, lambda: operator.emulator.store.remove_repository(operator.name))

    ended = operator.prune(*RETIRING)

    assert ended.code == 0
    assert ended.err == f"{operator.name}: no such repository\n"


# --- what else is around


def test_log_on_demand(operator: Operator) -> None:
    """JSON on stderr, a line each, and stdout is still one document; without the flag there is none."""
    operator.builds(4)

    ended = operator.prune(*RETIRING, "--yes", "--format", "json", "--log-level", "INFO")

    records = [json.loads(line) for line in ended.err.splitlines()]
    assert [one["message"] for one in records].count("manifest deleted") == 2
    assert len(ended.document["delete"]) == 2
    operator.builds(4)
    assert operator.prune(*RETIRING, "--yes").err == ""


def test_log_of_what_only_shows(operator: Operator) -> None:
    """There is none, as the help says: the reasons are the result itself."""
    operator.builds(4)

    assert operator.plan(*RETIRING, "--log-level", "DEBUG").err == ""
    assert operator.prune(*RETIRING, "--dry-run", "--log-level", "DEBUG").err == "nothing was deleted: --dry-run\n"
    assert "--dry-run none" in " ".join(operator.call("plan", "--help").out.split())


def test_log_level_hides_no_failure(operator: Operator) -> None:
    """What the registry said is told in the end, whatever the log leaves out."""
    operator.builds(3)
    operator.emulator.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete")

    ended = operator.prune(*RETIRING, "--yes", "--log-level", "ERROR")

    assert ended.err == ""
    assert f": 400 {DANGLING_PARENT}" in ended.out


@pytest.mark.parametrize("command", ["plan", "prune", "sweep"])
def test_help_explains_every_flag(operator: Operator, command: str) -> None:
    """With examples, and a default for whatever takes a value."""
    ended = operator.call(command, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert "examples:" in ended.out
    assert f"{command} gcr.io/acme" in ended.out
    for flag in ("--policies", "--workers", "--time-limit", "--insecure", "--running-scopes", "--log-level"):
        assert flag in ended.out
    assert "None" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 120


def test_how_many_digits_explain_needs(operator: Operator) -> None:
    """The help, the README and the program say the same number."""
    assert LEAST_HEX_DIGITS == 4
    words = "of a digest, the first four digits or more are enough"

    assert words in " ".join(operator.call("plan", "--help").out.split())
    assert words in (ROOT / "README.md").read_text()


def test_help_of_the_whole(operator: Operator) -> None:
    """Commands, exit codes, environment, credentials."""
    out = operator.call("--help").out

    for word in ("plan", "prune", "sweep", "exit codes:", "a setting", "130", "141", "REQUESTS_TOPIC", "gcloud auth"):
        assert word in out


WITHOUT = """\
import sys
for name in ("rich", "rich_argparse", "shtab", "yaml"):
    sys.modules[name] = None
sys.argv[0] = "__main__.py"
from cleaner.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_nothing_but_what_the_function_needs(operator: Operator, tmp_path: Path) -> None:
    """Neither rich nor shtab nor PyYAML has to be there for tables, documents, JSON policies and help."""
    operator.builds(3)
    path = tmp_path / "p.json"
    path.write_text('[{"repositories": ["**"], "keep": 1, "delete_tags": [".*"]}]')
    given = ("plan", operator.name, "--insecure", operator.emulator.host, "--policies", str(path))

    table, document = run(*given, code=WITHOUT), run(*given, "--format", "json", code=WITHOUT)

    assert (table.returncode, table.stderr) == (0, "")
    assert "delete  expired" in table.stdout
    assert len(json.loads(document.stdout)["delete"]) == 2
    assert "examples:" in run("plan", "--help", code=WITHOUT).stdout


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """One line says what to install."""
    path = tmp_path / "p.yaml"
    path.write_text("- repositories: ['**']\n")

    yaml = run("plan", "gcr.io/a/b", "--policies", str(path), code=WITHOUT)
    completion = run("--print-completion", "bash", code=WITHOUT)

    assert (yaml.returncode, yaml.stderr) == (
        2,
        f"error: {path}: not JSON, and YAML needs PyYAML: pip install PyYAML\n",
    )
    assert completion.returncode == 2
    assert "completion needs shtab: pip install shtab" in completion.stderr
    assert completion.stderr.count("\n") == 1


def test_completion(tmp_path: Path) -> None:
    """bash completes commands, flags and their values by what is printed."""
    printed = run("--print-completion", "bash")
    assert (printed.returncode, printed.stderr) == (0, "")
    script = tmp_path / "completion.bash"
    script.write_text(printed.stdout)

    def completed(*words: str) -> list[str]:
        line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'"
        function = "$(complete -p registry-cleaner | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        command = f'source {script}; {line}; {function} registry-cleaner; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(
            ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=20
        ).stdout.split()

    assert set(completed("registry-cleaner", "p")) == {"plan", "prune"}
    assert "--delete-tags" in completed("registry-cleaner", "plan", "--del")
    for shell in ("zsh", "tcsh"):
        assert run("--print-completion", shell).stdout


@pytest.mark.parametrize("what", ["plan", "large plan", "help"])
def test_pipe_that_nobody_reads(operator: Operator, what: str) -> None:
    """``| head`` ends it without a word."""
    operator.builds(400 if what == "large plan" else 1)
    given = "--help" if what == "help" else f"plan {operator.name}"
    # The reader is gone before anything is written.
    command = f"{{ sleep 0.1; {sys.executable} -m cleaner {given}; echo $? >&2; }} | true"

    ended = in_shell(command, operator)

    assert ended.stderr == "141\n"


@pytest.mark.parametrize("given", ["plan", "prune --yes", "--help", "--print-completion bash"])
@pytest.mark.parametrize(
    ("streams", "said"),
    [
        (">/dev/full", "error: stdout: No space left on device\n"),
        (">&-", "error: stdout: Bad file descriptor\n"),
        (">&- 2>&- <&-", ""),
        (">&- 2>/dev/full", ""),
    ],
)
def test_stdout_that_takes_nothing(operator: Operator, given: str, streams: str, said: str) -> None:
    """A full disk, no stdout at all: exit code 1 and one line, and nothing goes that could not be shown."""
    operator.builds(3)
    name = "" if given.startswith("--") else operator.name
    flags = f"{name} {shlex.join(RETIRING)}" if name else ""

    ended = in_shell(f"{sys.executable} -m cleaner {given} {flags} {streams}", operator)

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)
    assert operator.deletions == 0


def test_no_stderr_and_no_stdin(operator: Operator) -> None:
    """What would be said there is lost, and the result is not; nobody there is nobody to ask."""
    operator.builds(3)
    command = f"{sys.executable} -m cleaner"

    for streams in ("2>&-", "2>/dev/full", "2>&- <&-"):
        assert in_shell(f"{command} plan {operator.name} --format json {streams}", operator).returncode == 0
    assert in_shell(f"{command} prune {operator.name} 2>&- <&-", operator).returncode == 2
    ended = in_shell(f"{command} plan {operator.name} --policies - <&-", operator)
    assert (ended.returncode, ended.stderr) == (2, "error: stdin: must be an array of at least one policy\n")


SHORT_OF_SPACE = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from cleaner.__main__ import run
run()
"""


def test_disk_that_is_full_in_the_end(operator: Operator, tmp_path: Path) -> None:
    """What was deleted is told on stderr then."""
    operator.builds(4)
    given = ("prune", operator.name, *RETIRING, "--yes", "--format", "json")

    with (tmp_path / "out").open("w") as out:
        ended = subprocess.run(
            [sys.executable, "-c", SHORT_OF_SPACE, *given],
            env=environment(INSECURE_REGISTRIES=operator.emulator.host),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    said, document = ended.stderr.split("\n", 1)
    assert (ended.returncode, said) == (1, "error: stdout: File too large")
    assert [one["tags"] for one in json.loads(document)["delete"]] == [["build-2"], ["build-3"]]
    assert operator.tags == {"build-0", "build-1"}


@pytest.mark.parametrize("missing", ["argparse", "requests", "cleaner.cli.main"])
def test_interrupted_while_it_starts(missing: str) -> None:
    """Ctrl-C among the imports is one line, by whichever name the command is called."""
    (script,) = re.findall(r'registry-cleaner = "(.+):run"', (ROOT / "pyproject.toml").read_text())
    code = f"""\
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "{missing}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""
    for start in (
        f"import {script}; {script}.run()",
        'import runpy; runpy.run_module("cleaner", run_name="__main__")',
    ):
        ended = run("--help", code=code + start)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_output_that_the_encoding_cannot_spell(operator: Operator) -> None:
    """A terminal of the last century gets a question mark."""
    operator.builds(1)

    ended = run(
        "plan",
        operator.name,
        "--insecure",
        operator.emulator.host,
        "--protect-tags",
        "\xe9",
        PYTHONIOENCODING="ascii",
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "protect_tags ?" in ended.stdout


def test_after_the_listing_nothing_is_asked_twice(operator: Operator) -> None:
    """A prune reads what manifests name once: the second listing finds them remembered."""
    for at in range(4):
        operator.load(multi_arch(f"m{at}"), [f"build-{at}"], days=1 + at)

    assert operator.prune(*RETIRING, "--yes").code == 0

    assert len(operator.emulator.log.of("manifest_get")) == 4
    assert len(operator.emulator.log.of("tags_list")) == 2
