"""Terraform's own tools, and Checkov, on the module."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.programs import absent, required
from tests.support.terraform import ROOT, SOURCE, terraform

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"


# -- Terraform's own tools -------------------------------------------------------------------------


def test_formatted() -> None:
    """``terraform fmt`` has nothing to change."""
    required("terraform")
    result = terraform(SOURCE, "fmt", "-check", "-diff", "-recursive")
    assert result.returncode == 0, result.stdout + result.stderr


def test_valid(module: Path) -> None:
    """``terraform validate`` accepts it without a warning."""
    result = json.loads(terraform(module, "validate", "-json").stdout)
    assert result["valid"], result["diagnostics"]
    assert result["diagnostics"] == []


# test_terraform_delivery.py runs the file of that name, and uses what it applies.
TEST_FILES = sorted(path.name for path in SOURCE.glob("tests/*.tftest.hcl") if path.name != "delivery.tftest.hcl")


@pytest.fixture(scope="session")
def terraform_tests(module: Path) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """The result of each file of tests; they run side by side, since each takes half a minute."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda file: terraform(module, "test", "-no-color", f"-filter=tests/{file}"), TEST_FILES)
        return dict(zip(TEST_FILES, results, strict=True))


@pytest.mark.parametrize("file", TEST_FILES)
def test_terraform_test(terraform_tests: Mapping[str, subprocess.CompletedProcess[str]], file: str) -> None:
    """``terraform test`` passes."""
    result = terraform_tests[file]
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Success! [1-9][0-9]* passed, 0 failed", result.stdout)


def test_static_security_checks() -> None:
    """Checkov finds nothing, and every exception has a reason and is still needed."""
    if not CHECKOV.exists():
        absent(f"{CHECKOV.relative_to(ROOT)} is not installed")
    command = [
        str(CHECKOV), "--directory", str(SOURCE), "--framework", "terraform", "--skip-download", "--output", "json",
        # They are calls of the module, which would stand for it in the report.
        "--skip-path", "examples",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    report = json.loads(result.stdout)
    failed = [
        f"{check['check_id']} {check['resource']}: {check['check_name']}"
        for check in report["results"]["failed_checks"]
    ]
    assert (result.returncode, failed, report["summary"]["parsing_errors"]) == (0, [], 0)

    used = {(check["check_id"], check["resource"].split("[")[0]) for check in report["results"]["skipped_checks"]}
    written = set()
    for file in SOURCE.glob("*.tf"):
        for resource, body in re.findall(r'^resource "(\w+" "\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            for check, reason in re.findall(r"#checkov:skip=(\w+):?(.*)", body):
                assert len(reason.split()) > 3, f"{check} on {resource} is skipped without a reason"
                written.add((check, resource.replace('" "', ".")))
    assert written == used
