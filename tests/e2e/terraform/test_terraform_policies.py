"""The Terraform module: formatted, valid, tested, checked, and of one mind with the function that it deploys.

Everything runs in a copy, so that the working tree stays clean.  No test reaches Google.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import functions_framework
import pytest

from cleaner.core.errors import ConfigurationError
from cleaner.core.notification import PruneRequest, SweepRequest, parse_data
from cleaner.core.policy import Glob, policies_from_document
from cleaner.core.reference import parse_repository
from cleaner.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SOURCE = ROOT / "terraform"
CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

MINIMAL: Mapping[str, Any] = {
    "project_id": "acme-prod",
    "region": "us-central1",
    "repositories": ["us-docker.pkg.dev/acme-prod/apps"],
    "policies": [{"repositories": ["us-docker.pkg.dev/acme-prod/apps/**"]}],
}
# Every variable that reaches the function, none at its default.
EVERYTHING: Mapping[str, Any] = {
    "project_id": "example.com:legacy-app",
    "region": "europe-west3",
    "name": "pruner",
    "repositories": ["gcr.io/example.com/legacy-app", "europe-docker.pkg.dev/acme-data/jobs"],
    "policies": [
        {
            "repositories": ["gcr.io/example.com/legacy-app/*/**", "europe-docker.pkg.dev/acme-data/**"],
            "keep": 10,
            "keep_untagged": 0,
            "min_age": "1h30m",
            "max_age": "90d",
            "delete_tags": ["pr-[0-9]+", "(?i)tmp.*"],
            "protect_tags": [r"v\d+(\.\d+)*", "<&>", "naïve"],
            "group_by": "(?P<branch>.+)-[0-9a-f]{7}",
            "max_deletions": 1000,
            "dry_run": True,
        },
        {"repositories": ["gcr.io/example.com/legacy-app/api"], "max_age": None, "group_by": None},
    ],
    "dry_run": False,
    "other_gcr_projects": ["acme-data"],
    "running_scopes": ["organizations/456", "projects/acme-prod", "projects/example.com:legacy-app", "folders/123"],
    "sweep_roots": ["gcr.io/example.com/legacy-app"],
    "request_publishers": ["group:platform@example.com"],
    "workers": 7,
    "concurrency": 11,
    "timeout_seconds": 300,
    "time_limit_seconds": 240,
    "log_level": "DEBUG",
}


def _absent(what: str) -> NoReturn:
    """Fail where everything must be there, skip on a machine of somebody who works on something else."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_DATA_DIR": str(home / ".terraform"),
        # The provider wants some credential before it plans; a plan that only creates asks nobody.
        "GOOGLE_OAUTH_ACCESS_TOKEN": "unused",
    }


def _terraform(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform") or "terraform"
    return subprocess.run(
        [program, *arguments], cwd=home, env=_environment(home), text=True, capture_output=True, check=False
    )


def _initialise(home: Path) -> None:
    result = _terraform(home, "init", "-backend=false", "-input=false", "-no-color")
    if result.returncode:
        _absent(f"terraform init found no providers: {result.stderr}")


def _plan(home: Path, variables: Mapping[str, Any], name: str, *options: str) -> dict[str, Any]:
    """Return the plan as ``terraform show -json`` gives it."""
    (home / f"{name}.tfvars.json").write_text(json.dumps(variables))
    planned = _terraform(
        home, "plan", "-no-color", "-input=false", f"-var-file={name}.tfvars.json", f"-out={name}.plan", *options
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Warning" not in planned.stdout, planned.stdout
    shown = _terraform(home, "show", "-json", f"{name}.plan")
    assert shown.returncode == 0, shown.stderr
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def _planned(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan["planned_values"]["root_module"]["resources"]


def _of_type(plan: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [resource["values"] for resource in _planned(plan) if resource["type"] == kind]


def _function(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    (function,) = _of_type(plan, "google_cloudfunctions2_function")
    service: Mapping[str, Any] = function["service_config"][0]
    return service


def _account(expression: Mapping[str, Any]) -> str:
    """Return the name of the service account's resource to which an argument refers, if to any."""
    references = expression.get("references", [])
    return "".join({name.split(".")[1] for name in references if name.startswith("google_service_account.")})


def _grants(plan: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Return every grant as (what it is on, role, whose it is); an account by its resource's name.

    The address of Pub/Sub's agent has the project's number, which is not known before an apply.
    """
    written = {
        resource["address"]: resource["expressions"]
        for resource in plan["configuration"]["root_module"]["resources"]
        if "_iam_" in resource["type"] and "member" in resource["expressions"]
    }
    grants = set()
    for resource in _planned(plan):
        if not resource["type"].endswith(("_iam_member", "_iam_binding", "_iam_policy")):
            continue
        values = resource["values"]
        on = " ".join(
            str(values[key])
            for key in ("project", "folder", "org_id", "location", "repository", "topic", "bucket", "name")
            if values.get(key)
        )
        for condition in values.get("condition") or []:
            on += f" if {condition['expression']}"
        expressions = written[f"{resource['type']}.{resource['name']}"]
        on += _account(expressions.get("service_account_id", {}))
        member = values.get("member") or _account(expressions["member"]) or "Pub/Sub"
        grants.add((f"{resource['type']}: {on}", values["role"], member))
    return grants


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the module and of what it deploys, with its providers."""
    if not shutil.which("terraform"):
        _absent("terraform is not installed")
    home = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*", "build", "__pycache__")
    for folder in ("terraform", "cleaner"):
        shutil.copytree(ROOT / folder, home / folder, ignore=ignored)
    for file in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / file, home)
    _initialise(home / "terraform")
    return home / "terraform"


@pytest.fixture(scope="session")
def minimal(module: Path) -> dict[str, Any]:
    """The plan with the variables that have no default."""
    return _plan(module, MINIMAL, "minimal")


@pytest.fixture(scope="session")
def everything(module: Path) -> dict[str, Any]:
    """The plan with everything turned on."""
    return _plan(module, EVERYTHING, "everything")


# -- Terraform's own tools -------------------------------------------------------------------------


def test_formatted() -> None:
    """``terraform fmt`` has nothing to change."""
    if not shutil.which("terraform"):
        _absent("terraform is not installed")
    result = _terraform(SOURCE, "fmt", "-check", "-diff", "-recursive")
    assert result.returncode == 0, result.stdout + result.stderr


def test_valid(module: Path) -> None:
    """``terraform validate`` accepts it without a warning."""
    result = json.loads(_terraform(module, "validate", "-json").stdout)
    assert result["valid"], result["diagnostics"]
    assert result["diagnostics"] == []


TEST_FILES = sorted(path.name for path in SOURCE.glob("tests/*.tftest.hcl"))


@pytest.fixture(scope="session")
def terraform_tests(module: Path) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """The result of each file of tests; they run side by side, since each takes half a minute."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda file: _terraform(module, "test", "-no-color", f"-filter=tests/{file}"), TEST_FILES)
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
        _absent(f"{CHECKOV.relative_to(ROOT)} is not installed")
    command = [
        str(CHECKOV), "--directory", str(SOURCE), "--framework", "terraform", "--skip-download", "--output", "json"
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


# -- Of one mind with the function -----------------------------------------------------------------


def test_function_accepts_the_least_environment(minimal: dict[str, Any]) -> None:
    """What Terraform sets by default are the function's own defaults, and the topic for requests."""
    settings = Settings.from_environment(_function(minimal)["environment_variables"])

    expected = Settings(
        policies=policies_from_document(MINIMAL["policies"]),
        requests_topic="projects/acme-prod/topics/registry-cleaner-requests",
    )
    assert settings == expected


def test_function_accepts_every_setting(everything: dict[str, Any]) -> None:
    """What Terraform sets reaches the function as it was written."""
    settings = Settings.from_environment(_function(everything)["environment_variables"])

    assert settings.policies == policies_from_document(EVERYTHING["policies"])
    assert settings.dry_run is False
    assert settings.workers == 7
    assert settings.time_limit_s == 240
    assert sorted(settings.running_scopes) == sorted(EVERYTHING["running_scopes"])
    assert settings.requests_topic == "projects/example.com:legacy-app/topics/pruner-requests"
    assert settings.log_level == "DEBUG"


def test_environment_has_no_setting_for_local_work_only(everything: dict[str, Any]) -> None:
    """No insecure registry and no other endpoint can be set in production."""
    assert set(_function(everything)["environment_variables"]) == {
        "POLICIES", "DRY_RUN", "WORKERS", "TIME_LIMIT", "RUNNING_SCOPES", "REQUESTS_TOPIC", "LOG_LEVEL",
        "GOOGLE_CLOUD_PROJECT", "THREADS",
    }  # fmt: skip


def test_messages_of_one_push_meet_in_one_instance(everything: dict[str, Any]) -> None:
    """An instance has a thread for each message that the platform sends it."""
    function = _function(everything)
    assert function["environment_variables"]["THREADS"] == str(function["max_instance_request_concurrency"]) == "11"


ACCEPTED: Sequence[object] = (
    {"repositories": ["a"]},
    {"repositories": ["**"]},
    {"repositories": ["*gcr.io/**/api-*", "localhost:5000/a_b/c..d/*"]},
    {"keep": 1},
    {"keep": 10**30},
    {"keep_untagged": 0},
    {"min_age": "10m"},
    {"min_age": "600s"},
    {"min_age": "5m5m"},
    {"min_age": "0010m"},
    {"min_age": "1h30m"},
    {"min_age": "86399999999999s"},
    {"max_age": None},
    {"max_age": "1s"},
    {"max_age": "0d1s"},
    {"max_age": "999999999d"},
    {"delete_tags": []},
    {"delete_tags": [""]},
    {"delete_tags": [r"v\d+", "(?i)x", r"\pL+", "[[:alpha:]]", "a{1000}", r"\Qa", "a/b", "/", "#", "${a}", "%{if}"]},
    {"delete_tags": ["(?P<a>x)|(y)", "(?<a>x)", "(?:a|b)*?", r"a\/", "a|", "|", "()", r"\x{10FFFF}", "ü+"]},
    {"delete_tags": ["(?P<a>x)(?P<a>y)"]},
    {"protect_tags": ["v.*"]},
    {"group_by": None},
    {"group_by": "(.+)-[0-9a-f]{7}"},
    {"group_by": "()"},
    {"group_by": "(?P<branch>.+)-.*"},
    {"group_by": "(?P<branch>.+)-(.*)"},
    {"group_by": "a|(b)"},
    {"group_by": r"(a)\Qb"},
    {"group_by": "(?i)(a)|b"},
    {"max_deletions": None},
    {"max_deletions": 1},
    {"dry_run": True},
    {"dry_run": False},
)

REFUSED: Sequence[object] = (
    None,
    5,
    "us-docker.pkg.dev/acme/apps",
    ["us-docker.pkg.dev/acme/apps"],
    {"protect_tag": ["v.*"]},
    {"Keep": 5},
    {"": 5},
    {"repositories": None},
    {"repositories": []},
    {"repositories": "a"},
    {"repositories": {"a": "a"}},
    {"repositories": [5]},
    {"repositories": [None]},
    {"repositories": ["a", ["b"]]},
    {"repositories": [""]},
    {"repositories": ["a//b"]},
    {"repositories": ["a/"]},
    {"repositories": ["/a"]},
    {"repositories": ["A"]},
    {"repositories": ["a b"]},
    {"repositories": ["a\n"]},
    {"repositories": ["a?"]},
    {"repositories": ["a/x**"]},
    {"repositories": ["a/***"]},
    {"keep": 0},
    {"keep": -1},
    {"keep": 1.5},
    {"keep": "5"},
    {"keep": True},
    {"keep": None},
    {"keep": [5]},
    {"keep_untagged": -1},
    {"keep_untagged": "0"},
    {"keep_untagged": None},
    {"min_age": None},
    {"min_age": 600},
    {"min_age": ""},
    {"min_age": "0s"},
    {"min_age": "599s"},
    {"min_age": "9m59s"},
    {"min_age": "10"},
    {"min_age": "10M"},
    {"min_age": "1y"},
    {"min_age": "-10m"},
    {"min_age": "1.5h"},
    {"min_age": "1h 30m"},
    {"min_age": "1h\n"},
    {"min_age": "86400000000000s"},
    {"min_age": "999999999d1d"},
    {"min_age": "9" * 400 + "d"},
    {"min_age": "0" * 5000 + "10m"},
    {"max_age": "0" * 5000 + "10m"},
    {"min_age": ["1h"]},
    {"max_age": "0s"},
    {"max_age": ""},
    {"max_age": 5},
    {"max_age": False},
    {"max_age": "1000000000d"},
    {"delete_tags": None},
    {"delete_tags": "x"},
    {"delete_tags": {"a": "x"}},
    {"delete_tags": [5]},
    {"delete_tags": [None]},
    {"delete_tags": ["("]},
    {"delete_tags": [")"]},
    {"delete_tags": ["a)(b"]},
    {"delete_tags": ["["]},
    {"delete_tags": ["*"]},
    {"delete_tags": ["a**"]},
    {"delete_tags": ["a{1001}"]},
    {"delete_tags": ["(a{100}){100}"]},
    {"delete_tags": ["\\"]},
    {"delete_tags": [r"\1"]},
    {"delete_tags": ["(?=a)"]},
    {"delete_tags": ["(?<!a)b"]},
    {"delete_tags": [r"\Z"]},
    {"protect_tags": ["ok", "(?!v)"]},
    {"protect_tags": "v.*"},
    {"group_by": ""},
    {"group_by": ".+"},
    {"group_by": "(?:.+)"},
    {"group_by": r"\(a\)"},
    {"group_by": "[(]a[)]"},
    {"group_by": "("},
    {"group_by": 5},
    {"group_by": ["(a)"]},
    {"group_by": False},
    {"max_deletions": 0},
    {"max_deletions": "10"},
    {"max_deletions": False},
    {"dry_run": "true"},
    {"dry_run": 1},
    {"dry_run": None},
)


def _as_policies(entry: object) -> object:
    """Return ``entry`` as the second of two policies, with a pattern where it is about another key."""
    if isinstance(entry, dict) and "repositories" not in entry:
        entry = {"repositories": ["gcr.io/acme/**"]} | entry
    return [{"repositories": ["gcr.io/acme/api"]}, entry]


# Go's RE2, which Terraform has, knows no single bytes, and wants the names of groups to be ASCII.  A number of
# thousands of digits is more than Python reads, whatever it is worth.
REFUSED_BY_THE_PLAN_ALONE = (
    {"delete_tags": [r"\C"]},
    {"delete_tags": ["(?<é>x)"]},
    {"min_age": "0" * 30 + "10m"},
    {"max_age": "0" * 30 + "10m"},
)
# The function's RE2 has a limit of memory, which the plan's has not.
REFUSED_BY_THE_FUNCTION_ALONE = ({"delete_tags": [r"\pL{600}"]},)

# Whole documents, which _as_policies would make right.
REFUSED_DOCUMENTS: Sequence[object] = ([], {}, "policies", {"repositories": ["a"]}, [[]], [{}], [{"keep": 5}], 5)


@pytest.fixture(scope="session")
def policies_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variable ``policies`` by itself: it needs no provider, so a plan takes no time."""
    if not shutil.which("terraform"):
        _absent("terraform is not installed")
    home = tmp_path_factory.mktemp("policies")
    shutil.copy(SOURCE / "policies.tf", home)
    return home


def _refusal(home: Path, document: object) -> str | None:
    """Return what a plan says of ``document``; None where it accepts it."""
    (home / "case.tfvars.json").write_text(json.dumps({"policies": document}))
    result = _terraform(home, "plan", "-json", "-input=false", "-var-file=case.tfvars.json")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    errors = [message["diagnostic"] for message in messages if message["@level"] == "error"]
    # A condition that cannot be evaluated would refuse too, but not say why.
    assert {error["summary"] for error in errors} <= {"Invalid value for variable"}, errors
    assert (result.returncode != 0) == bool(errors)
    return "\n".join(error["detail"] for error in errors) or None


@pytest.mark.parametrize("entry", ACCEPTED, ids=json.dumps)
def test_plan_and_function_accept_the_same_policies(policies_alone: Path, entry: object) -> None:
    """What the function takes, the plan takes."""
    document = _as_policies(entry)
    policies_from_document(document)
    assert _refusal(policies_alone, document) is None


@pytest.mark.parametrize(
    "document", [*map(_as_policies, REFUSED), *REFUSED_DOCUMENTS], ids=lambda document: json.dumps(document)[-60:]
)
def test_plan_and_function_refuse_the_same_policies(policies_alone: Path, document: object) -> None:
    """What the function would not start with does not get as far as an apply."""
    with pytest.raises(ConfigurationError):
        policies_from_document(document)
    assert _refusal(policies_alone, document)


@pytest.mark.parametrize("entry", REFUSED_BY_THE_PLAN_ALONE, ids=json.dumps)
def test_plan_refuses_what_the_function_takes(policies_alone: Path, entry: object) -> None:
    """The README of the module names each."""
    document = _as_policies(entry)
    policies_from_document(document)
    assert _refusal(policies_alone, document)


@pytest.mark.parametrize("entry", REFUSED_BY_THE_FUNCTION_ALONE, ids=json.dumps)
def test_plan_takes_what_the_function_refuses(policies_alone: Path, entry: object) -> None:
    """It is one thing alone, and the README of the module says so."""
    document = _as_policies(entry)
    with pytest.raises(ConfigurationError, match="too large"):
        policies_from_document(document)
    assert _refusal(policies_alone, document) is None


def test_refused_policy_is_named_by_position_and_key(policies_alone: Path) -> None:
    """The plan says which policy, which key and what is wrong."""
    refusal = _refusal(policies_alone, _as_policies({"keep": "5"}))
    assert refusal
    assert 'keep: must be a whole number of at least 1; given: policies[1].keep = "5"' in refusal

    misspelled = _refusal(policies_alone, _as_policies({"protect_tag": []}))
    assert misspelled
    assert "unknown key policies[1].protect_tag; known are repositories, keep" in misspelled


def test_refused_policy_that_is_no_object_is_told_so(policies_alone: Path) -> None:
    """A pattern where a policy belongs is not taken for a policy without patterns alone."""
    refusal = _refusal(policies_alone, ["us-docker.pkg.dev/acme-prod/apps/**"])
    assert refusal
    assert "policies: each must be an object" in refusal


REPOSITORIES = (
    "us-docker.pkg.dev/acme-prod/apps",
    "us-docker.pkg.dev/example.com/legacy-app/apps",
    "us-docker.pkg.dev/acme-prod/gcf-artifacts",
    "gcr.io/acme-prod",
    "eu.gcr.io/example.com/legacy-app",
)
PATTERNS = (
    "**",
    "*/**",
    "*",
    "*/*",
    "*/*/*",
    "*/*/*/*/*/*",
    "**/api",
    "**/apps/**",
    "*gcr.io/**",
    "*-docker.pkg.dev/**",
    "us-docker.pkg.dev",
    "us-docker.pkg.dev/**",
    "us-docker.pkg.dev/acme-prod",
    "us-docker.pkg.dev/acme-prod/*",
    "us-docker.pkg.dev/acme-prod/**",
    "us-docker.pkg.dev/acme-prod/apps",
    "us-docker.pkg.dev/acme-prod/apps/*",
    "us-docker.pkg.dev/acme-prod/apps/team/**",
    "us-docker.pkg.dev/acme-prod/app",
    "us-docker.pkg.dev/acme-prod/app/**",
    "us-docker.pkg.dev/acme-prod/app*/**",
    "us-docker.pkg.dev/acme-prod/*s/api-*",
    "us-docker.pkg.dev/acme-prod/foo*/**",
    "us-docker.pkg.dev/acme-prod/gcf-artifacts/**",
    "us-docker.pkg.dev/acme-prod/gcf-*/**",
    "us-docker.pkg.dev/*/gcf-artifacts",
    "us-docker.pkg.dev/**/gcf-artifacts/*",
    "us-docker.pkg.dev/example.com/legacy-app",
    "us-docker.pkg.dev/example.com/legacy-app/apps",
    "us-docker.pkg.dev/example.com/legacy-app/apps/**",
    "us-docker.pkg.dev/example.com/*",
    "us-docker.pkg.dev/example.com/*/**",
    "us-docker.pkg.dev/examplexcom/**",
    "europe-docker.pkg.dev/acme-prod/**",
    "us-docker.pkg.dev/acme-prod/gcr.io/**",
    "gcr.io",
    "gcr.io/*",
    "gcr.io/acme-prod",
    "gcr.io/acme-prod/api",
    "gcr.io/acme-prod/*",
    "gcr.io/acme-prod/**",
    "gcr.io/acme-*/**",
    "gcr.io/other-prod/**",
    "gcrxio/**",
    "eu.gcr.io/example.com/legacy-app",
    "eu.gcr.io/example.com/legacy-app/api",
    "eu.gcr.io/example.com/*",
    "eu.gcr.io/**/legacy-app",
)


def _warnings(home: Path, variables: Mapping[str, Any]) -> list[str]:
    """Return what a plan warns of."""
    (home / "warned.tfvars.json").write_text(json.dumps(variables))
    result = _terraform(home, "plan", "-json", "-input=false", "-var-file=warned.tfvars.json")
    assert result.returncode == 0, result.stdout
    messages = map(json.loads, result.stdout.splitlines())
    return [message["diagnostic"]["detail"] for message in messages if message["@level"] == "warn"]


def _images(pattern: str, repository: str) -> Iterator[str]:
    """Yield names of images in ``repository``, among them one that ``pattern`` matches if any does."""
    segments = re.sub(r"[*]+", "x", pattern).split("/")
    for start in range(len(segments)):
        yield "/".join([repository, *segments[start:]])
    # As many segments as the pattern has.
    yield "/".join([repository, *"xxxxxx"[: max(1, len(segments) - repository.count("/") - 1)]])


def test_plan_warns_of_the_patterns_that_match_nothing(module: Path) -> None:
    """The plan names those by which the function matches no image in any repository, and no others."""
    dead = {
        pattern
        for pattern in PATTERNS
        if not any(Glob.parse(pattern).matches(image) for place in REPOSITORIES for image in _images(pattern, place))
    }
    assert {"us-docker.pkg.dev/acme-prod/apps", "us-docker.pkg.dev/acme-prod/foo*/**"} < dead

    variables = {**MINIMAL, "repositories": REPOSITORIES, "policies": [{"repositories": PATTERNS}]}
    (warning,) = _warnings(module, variables)

    named = re.search(r"of `repositories`: (.*?)\.  ", warning)
    assert named
    assert set(named[1].split(", ")) == dead


def test_plan_warns_of_the_repositories_in_which_nothing_matches(module: Path) -> None:
    """A pattern that is a repository's own name, and a wildcard on functions' images, reach nothing."""
    policies = [{"repositories": ["gcr.io/**", "us-docker.pkg.dev/acme-prod/apps", "us-docker.pkg.dev/*/gcf*/**"]}]
    *_, warning = _warnings(module, {**MINIMAL, "repositories": REPOSITORIES, "policies": policies})

    named = re.search(r"an image in (.*?): ", warning)
    assert named
    assert set(named[1].split(", ")) == set(REPOSITORIES) - {"gcr.io/acme-prod"}


def test_watched_lines_are_lines_of_the_function(minimal: dict[str, Any]) -> None:
    """Each message that a metric, an alert or the dashboard looks for is one that the function writes."""
    written = "\n".join(file.read_text() for file in (ROOT / "cleaner").rglob("*.py"))
    filters = [
        *(metric["filter"] for metric in _of_type(minimal, "google_logging_metric")),
        *(
            condition["condition_matched_log"][0]["filter"]
            for alert in _of_type(minimal, "google_monitoring_alert_policy")
            for condition in alert["conditions"]
        ),
    ]
    watched = {
        message
        for text in filters
        for alternatives in re.findall(r"jsonPayload\.message=(\".*?\"|\(.*?\))", text)
        for message in re.findall(r'"(.*?)"', alternatives)
    }
    assert watched == {"manifest deleted", "prune finished", "message rejected", "permission denied"}
    assert [message for message in sorted(watched) if f'"{message}"' not in written] == []


def test_push_to_the_topics_path_is_an_event_of_the_topic(tmp_path: Path) -> None:
    """The path at which requests are delivered is what the function tells them by."""
    source = tmp_path / "main.py"
    source.write_text(
        textwrap.dedent("""
            import functions_framework

            @functions_framework.cloud_event
            def prune(event):
                print(event["source"])
        """)
    )
    # The package ships no types.
    app = functions_framework.create_app("prune", str(source), "cloudevent")  # type: ignore[no-untyped-call]
    client = app.test_client()
    body = {
        "message": {"data": "e30=", "messageId": "1", "publishTime": "2026-01-01T00:00:00Z"},
        "subscription": "projects/acme-prod/subscriptions/registry-cleaner-requests",
    }
    seen: list[str] = []
    for topic in (
        "projects/acme-prod/topics/registry-cleaner-requests",
        "projects/example.com:legacy-app/topics/gcr",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.print", seen.append)
            assert client.post(f"/{topic}", json=body).status_code == 200
    assert seen == [
        "//pubsub.googleapis.com/projects/acme-prod/topics/registry-cleaner-requests",
        "//pubsub.googleapis.com/projects/example.com:legacy-app/topics/gcr",
    ]


# -- What is deployed, and what it may do ----------------------------------------------------------


def _archived(plan: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the archive's files: name -> text."""
    (archive,) = (
        resource["values"]
        for resource in plan["prior_state"]["values"]["root_module"]["resources"]
        if resource["type"] == "archive_file"
    )
    return {source["filename"]: source["content"] for source in archive["source"]}


def test_only_what_runs_is_deployed(minimal: dict[str, Any]) -> None:
    """The archive holds the entry point, its requirements and the package without its command line."""
    package = {path.relative_to(ROOT) for path in (ROOT / "cleaner").rglob("*.py")}
    command_line = {path for path in package if path.parts[1] in ("cli", "__main__.py")}
    expected = {"main.py", "requirements.txt", *map(str, package - command_line)}
    assert set(_archived(minimal)) == expected


def test_what_is_deployed_starts(everything: dict[str, Any], tmp_path: Path) -> None:
    """The archive's files are enough: each can be imported from them, with the environment of the plan."""
    files = _archived(everything)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = sorted(name.removesuffix(".py").replace("/", ".") for name in files if name.endswith(".py"))
    # An editable installation would help out with what is missing.
    script = f"""
        import sys, {", ".join(modules)}
        print(*(sys.modules[name].__file__ for name in sys.modules if name.split(".")[0] in ("main", "cleaner")))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=os.environ | _function(everything)["environment_variables"],
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert {Path(file) for file in result.stdout.split()} == {
        tmp_path / name for name in files if name.endswith(".py")
    }


def test_new_code_has_a_new_name(module: Path, minimal: dict[str, Any]) -> None:
    """A change of what is deployed changes the object's name, so that the function is built again."""
    (before,) = _of_type(minimal, "google_storage_bucket_object")
    (again,) = _of_type(_plan(module, MINIMAL, "again"), "google_storage_bucket_object")
    assert again["name"] == before["name"]

    main = module.parent / "main.py"
    code = main.read_text()
    try:
        main.write_text(code + "\n# changed\n")
        (after,) = _of_type(_plan(module, MINIMAL, "changed"), "google_storage_bucket_object")
    finally:
        main.write_text(code)
    assert after["name"] != before["name"]


def test_old_code_stays_until_the_function_has_the_new(module: Path, minimal: dict[str, Any]) -> None:
    """On an update the new archive is uploaded first; the old one goes when nothing names it any more."""
    address = "google_storage_bucket_object.source"
    (planned,) = (change for change in minimal["resource_changes"] if change["address"] == address)
    attributes = dict.fromkeys(planned["change"]["after_unknown"]) | planned["change"]["after"]
    resource = {
        "mode": "managed",
        "type": planned["type"],
        "name": planned["name"],
        "provider": f'provider["{planned["provider_name"]}"]',
        "instances": [{"schema_version": 0, "attributes": attributes | {"name": "old.zip"}}],
    }
    state = {"version": 4, "terraform_version": "1.9.0", "serial": 1, "lineage": "", "outputs": {}}
    before = module / "terraform.tfstate"
    before.write_text(json.dumps(state | {"resources": [resource]}))
    try:
        update = _plan(module, MINIMAL, "update", "-refresh=false")
    finally:
        before.unlink()

    (change,) = (change for change in update["resource_changes"] if change["address"] == address)
    assert change["change"]["actions"] == ["create", "delete"]


def test_minimal_plan_grants_this_and_no_more(minimal: dict[str, Any]) -> None:
    """Each grant is one that is explained; none is on a project but those that exist nowhere else."""
    project = "google_project_iam_member: acme-prod"
    repository = "google_artifact_registry_repository_iam_member: acme-prod"
    (bucket,) = _of_type(minimal, "google_storage_bucket")
    assert _grants(minimal) == {
        # run: prunes the one repository, asks for repositories to be pruned.
        (f"{repository} us apps", "projects/acme-prod/roles/registry_cleaner_run", "run"),
        ("google_pubsub_topic_iam_member: acme-prod registry-cleaner-requests", "roles/pubsub.publisher", "run"),
        # trigger: invokes the one service.
        (
            "google_cloud_run_v2_service_iam_member: acme-prod us-central1 registry-cleaner",
            "roles/run.invoker",
            "trigger",
        ),
        # Pub/Sub: makes the trigger's tokens, where its agent is too old to have that right by itself.
        ("google_service_account_iam_member: trigger", "roles/iam.serviceAccountTokenCreator", "Pub/Sub"),
        # build: writes its log and its image, reads the source.
        (project, "roles/logging.logWriter", "build"),
        (f"{repository} us-central1 registry-cleaner-image", "roles/artifactregistry.writer", "build"),
        (f"google_storage_bucket_iam_member: {bucket['name']}", "roles/storage.objectViewer", "build"),
        (
            f'{project} if resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")',
            "roles/storage.objectViewer",
            "build",
        ),
    }


def test_nobody_is_everybody(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """Nothing is granted to the public."""
    assert not re.search("allUsers|allAuthenticatedUsers", json.dumps([minimal, everything]))


def test_running_scopes_give_the_two_roles_on_each_and_nothing_else(module: Path, minimal: dict[str, Any]) -> None:
    """Asking what is running needs the inventory's viewer and the scope's quota, there and nowhere else."""
    scopes = ["projects/acme-prod", "folders/123", "organizations/456"]
    plan = _plan(module, {**MINIMAL, "running_scopes": scopes}, "running")
    assert _grants(plan) - _grants(minimal) == {
        (f"google_{kind}_iam_member: {scope}", role, "run")
        for kind, scope in (("project", "acme-prod"), ("folder", "folders/123"), ("organization", "456"))
        for role in ("roles/cloudasset.viewer", "roles/serviceusage.serviceUsageConsumer")
    }


def test_dry_run_cannot_delete(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """The role of a dry run is for reading; turning it off adds what deleting needs, and no more."""
    (reading,) = _of_type(minimal, "google_project_iam_custom_role")
    for deleting in _of_type(everything, "google_project_iam_custom_role"):
        assert set(deleting["permissions"]) - set(reading["permissions"]) == {
            "artifactregistry.repositories.deleteArtifacts",
            "artifactregistry.repositories.uploadArtifacts",
        }
    assert not [name for name in reading["permissions"] if re.search("delete|upload|update|create|setIam", name)]


def test_right_to_upload_is_there_only_because_the_token_is_asked_for_with_it() -> None:
    """Should the function ever get its token without ``push``, the role can do without uploading."""
    from cleaner.google.tokens import Access

    assert "push" in Access.DELETE.value.split(",")
    assert "push" not in Access.READ.value.split(",")


# -- Documentation ---------------------------------------------------------------------------------


def _readme() -> str:
    return (SOURCE / "README.md").read_text()


def _table(heading: str) -> list[str]:
    """Return the first cells of the table under a heading, without their backquotes."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", _readme(), re.M | re.S)
    assert section, f"no section {heading}"
    return re.findall(r"^\| `([^`]+)` \|", section[1], re.M)


def _declared(kind: str) -> list[str]:
    return sorted(
        name for file in SOURCE.glob("*.tf") for name in re.findall(rf'^{kind} "(\w+)"', file.read_text(), re.M)
    )


def test_readme_has_every_variable_and_output() -> None:
    """The tables hold what there is and nothing else."""
    assert sorted(_table("Inputs")) == _declared("variable")
    assert sorted(_table("Outputs")) == _declared("output")


def test_readme_explains_every_resource(minimal: dict[str, Any], everything: dict[str, Any]) -> None:
    """The plan with minimal variables, and with all of them, holds nothing that the table does not explain."""
    planned = {
        f"{resource['type']}.{resource['name']}"
        for plan in (minimal, everything)
        for resource in _planned(plan)
        if resource["mode"] == "managed"
    }
    assert planned == set(_table("What it creates"))


def test_readme_names_every_permission_of_the_role(everything: dict[str, Any]) -> None:
    """Whoever reads the README knows what the function may do."""
    (role, *_) = _of_type(everything, "google_project_iam_custom_role")
    assert sorted(_table("What the function may do")) == sorted(role["permissions"])


def test_readme_example_plans(module: Path) -> None:
    """The minimal example is a whole configuration, and its plan warns of nothing."""
    (example, *_) = re.findall(r"```hcl\n(.*?)```", _readme(), re.S)
    home = module.parent
    (home / "main.tf").write_text(example)
    _initialise(home)
    result = _terraform(home, "plan", "-no-color", "-input=false")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Warning" not in result.stdout
    assert re.search(r"Plan: [0-9]+ to add, 0 to change, 0 to destroy", result.stdout)


@pytest.fixture(scope="session")
def outputs(module: Path) -> Mapping[str, Any]:
    """The outputs of the README's example, but for two `repositories`, as a state keeps them."""
    (example, *_) = re.findall(r"```hcl\n(.*?)```", _readme(), re.S)
    home = module.parent
    one = 'repositories = ["us-docker.pkg.dev/acme-prod/apps"]'
    assert one in example
    two = example.replace(one, one[:-1] + ', "gcr.io/acme-prod"]').replace(
        '"us-docker.pkg.dev/acme-prod/apps/**"', '"**"'
    )
    (home / "main.tf").write_text(two)
    _initialise(home)
    planned: dict[str, Any] = _plan(home, {}, "example")["planned_values"]["outputs"]
    return {name: {"value": output["value"], "type": output["type"]} for name, output in planned.items()}


@pytest.mark.parametrize("option", ["", " -chdir=terraform"])
def test_readme_commands_print_commands_that_work(outputs: Mapping[str, Any], tmp_path: Path, option: str) -> None:
    """What the README's commands print can be pasted into a shell, and says what the function understands."""
    commands = [line for block in re.findall(r"```sh\n(.*?)```", _readme(), re.S) for line in block.splitlines()]
    commands = [line.split(" #")[0].strip() for line in commands if line.startswith("terraform output")]
    assert len(commands) == 3
    state = {"version": 4, "terraform_version": "1.9.0", "serial": 1, "lineage": "", "outputs": outputs}
    # With -chdir as the root module is called, without as a configuration that calls it.
    home = tmp_path / option.partition("=")[2]
    home.mkdir(exist_ok=True)
    (home / "terraform.tfstate").write_text(json.dumps(state | {"resources": []}))
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    gcloud.chmod(0o755)

    asked: list[list[str]] = []
    for command in commands:
        called = command.replace("terraform ", f"terraform{option} ", 1)
        environment = _environment(tmp_path) | {"PATH": f"{gcloud.parent}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            ["/bin/sh", "-ec", f'pasted=$({called}); eval "$pasted"'],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        asked += map(json.loads, result.stdout.splitlines())

    messages = [arguments for arguments in asked if arguments[0] == "pubsub"]
    topic = "projects/acme-prod/topics/registry-cleaner-requests"
    assert all(arguments[:4] == ["pubsub", "topics", "publish", topic] for arguments in messages)
    texts = [arguments[4].removeprefix("--message=") for arguments in messages]
    assert {parse_data(text.replace("REPOSITORY", "gcr.io/acme-prod/api").encode()) for text in texts} == {
        SweepRequest(parse_repository("gcr.io/acme-prod")),
        SweepRequest(parse_repository("us-docker.pkg.dev/acme-prod/apps")),
        PruneRequest(parse_repository("gcr.io/acme-prod/api")),
    }
    (reading,) = [arguments for arguments in asked if arguments[0] != "pubsub"]
    assert reading[:2] == ["logging", "read"]
    assert 'resource.labels.service_name="registry-cleaner"' in reading[2]
    assert {argument.split("=")[0] for argument in reading[3:]} == {"--project", "--freshness", "--format"}


def test_every_variable_and_output_is_described() -> None:
    """Each has a description, each variable a type."""
    for file in SOURCE.glob("*.tf"):
        for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            assert re.search(r"^  description +=", body, re.M), name
            assert kind == "output" or re.search(r"^  type +=", body, re.M), name
