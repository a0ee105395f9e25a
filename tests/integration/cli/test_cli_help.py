"""Help, version, completion, and what is said of mistyped names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cleaner.inputs.policies import read_policies
from cleaner.release import VERSION
from cleaner.views.explain import LEAST_HEX_DIGITS
from tests.support.command_line import Ended, Operator, environment, one_line, run
from tests.support.documentation import page


@pytest.mark.parametrize("command", ["plan", "prune", "sweep"])
def test_help_explains_every_flag(operator: Operator, command: str) -> None:
    """With examples, and a default for whatever takes a value."""
    ended = operator.call(command, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert "Examples:" in ended.out
    assert f"{command} gcr.io/acme" in ended.out
    for flag in ("--policies", "--workers", "--time-limit", "--insecure", "--running-scopes", "--verbose", "--quiet"):
        assert flag in ended.out
    for flag in ("--match", "--keep", "--keep-within", "--delete-after", "--keep-untagged", "--min-age"):
        assert f"{flag} " in ended.out
    assert operator.call(command, "-h").out == ended.out
    assert "None" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 120


@pytest.mark.parametrize("command", ["plan", "prune", "sweep", "check"])
def test_help_lists_nothing_without_a_text(operator: Operator, command: str) -> None:
    """The arguments are explained above the options, and are not listed among them."""
    assert not re.search("^  [A-Z.]+$", operator.call(command, "--help").out, re.MULTILINE)


def test_help_says_what_is_checked_on_demand(operator: Operator) -> None:
    """What is deployed is known with ``--running-scopes`` alone."""
    for command in ((), ("prune",)):
        text = " ".join(operator.call(*command, "--help").out.split())
        assert "--running-scopes" in text.partition("deployed")[0]


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
    """The help, the page and the program say the same number."""
    assert LEAST_HEX_DIGITS == 4

    assert "the first four digits or more are enough" in " ".join(operator.call("plan", "--help").out.split())
    assert "its first four hexadecimal digits or more are enough" in page("docs/command-line.md").text


def test_help_of_the_whole(operator: Operator) -> None:
    """Commands, exit codes, environment, credentials."""
    out = operator.call("--help").out

    for word in ("plan", "prune", "sweep", "Exit codes:", "a setting", "130", "141", "REQUESTS_TOPIC", "gcloud auth"):
        assert word in out


def test_help_without_arguments(operator: Operator) -> None:
    """The same as with ``--help``: somebody who tries the command learns how to go on."""
    ended = operator.call()

    assert (ended.code, ended.err) == (0, "")
    assert ended.out == operator.call("--help").out == operator.call("-h").out
    assert ended.out.startswith("Usage: registry-cleaner ")


def test_version(operator: Operator) -> None:
    """That of the project."""
    for flag in ("--version", "-V"):
        assert operator.call(flag) == Ended(0, f"registry-cleaner {VERSION}\n", "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("pln", "gcr.io/a/b"), "no such command: pln; did you mean plan? (see registry-cleaner --help)"),
        (("plan", "--delete-afer", "9d"), "no such option: --delete-afer; did you mean --delete-after?"),
        (("sweep", "--lokal"), "no such option: --lokal; did you mean --local?"),
        (("plan", "--helpp"), "no such option: --helpp; did you mean --keep or --html?"),
        (
            ("plan", "--keep-wit"),
            "no such option: --keep-wit; did you mean --keep-within, --keep or --keep-untagged?",
        ),
    ],
)
def test_did_you_mean(operator: Operator, given: tuple[str, ...], said: str) -> None:
    """A mistyped command or option is answered with the nearest one."""
    ended = operator.call(*given)

    assert (ended.code, said in one_line(ended)) == (2, True)


def test_completion(tmp_path: Path) -> None:
    """bash completes commands, options and files by the script that the command prints."""
    program = tmp_path / "registry-cleaner"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cleaner "$@"\n')
    program.chmod(0o755)

    def completed(*words: str) -> list[str]:
        line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        script = 'eval "$(_REGISTRY_CLEANER_COMPLETE=bash_source registry-cleaner)"'
        function = "$(complete -p registry-cleaner | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        command = f'{script}; {line}; {function} registry-cleaner; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(
            ["/bin/bash", "-c", command],
            env=environment(PATH=f"{tmp_path}:/usr/bin:/bin"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout.split()

    assert set(completed("registry-cleaner", "p")) == {"plan", "prune"}
    assert completed("registry-cleaner", "plan", "--del") == ["--delete-after"]
    assert completed("registry-cleaner", "plan", "-o", "jsonl") == ["jsonl"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_other_shells(shell: str) -> None:
    """Their scripts are printed as well."""
    ended = run(_REGISTRY_CLEANER_COMPLETE=f"{shell}_source")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "registry-cleaner" in ended.stdout
