"""Help, completion, and a command line of which something is not installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cleaner.cli.explain import LEAST_HEX_DIGITS
from cleaner.cli.policies import read_policies
from tests.support.command_line import Operator, run
from tests.support.processes import ROOT


@pytest.mark.parametrize("command", ["plan", "prune", "sweep"])
def test_help_explains_every_flag(operator: Operator, command: str) -> None:
    """With examples, and a default for whatever takes a value."""
    ended = operator.call(command, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert "examples:" in ended.out
    assert f"{command} gcr.io/acme" in ended.out
    for flag in ("--policies", "--workers", "--time-limit", "--insecure", "--running-scopes", "--log-level"):
        assert flag in ended.out
    for flag in ("--match", "--keep", "--keep-within", "--delete-after", "--keep-untagged", "--min-age"):
        assert (f"{flag} " in ended.out) == (command != "sweep")
    assert "None" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 120


def test_help_has_a_valid_policy(operator: Operator, tmp_path: Path) -> None:
    """The file that the help shows can be given to ``--policies``."""
    out = operator.call("--help").out
    _, _, rest = out.partition("policies.yaml:\n")
    path = tmp_path / "policies.yaml"
    path.write_text(rest.partition("\n\n")[0])

    policy, *others = read_policies(str(path))

    assert not others
    assert [rule.keep for rule in (*policy.tagged, policy.untagged)] == [None, 10, 5]


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
    path.write_text('[{"repositories": ["**"], "tagged": [{"match": ".*", "keep": 1}]}]')
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
    assert "--delete-after" in completed("registry-cleaner", "plan", "--del")
    for shell in ("zsh", "tcsh"):
        assert run("--print-completion", shell).stdout
