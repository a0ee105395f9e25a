"""The plan and the function refuse the same policies, with the same messages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
import yaml

from cleaner.core.errors import InvalidPolicy
from cleaner.core.policy_document import policies_from_document
from tests.support.documentation import policies_of_pages
from tests.support.policy_documents import ACCEPTED, APPS, MISTAKES_OF_EVERY_KIND, REFUSED, globs, one, rule
from tests.support.policy_mutations import mutated_documents
from tests.support.terraform import (
    POLICIES,
    PlannedPolicies,
    initialise,
    plan_policies,
    terraform,
    without_nulls,
)

# Terraform starts anew for every plan.
pytestmark = pytest.mark.timeout(300)

# Of these the message differs, or they cannot be put to a plan.
_SPECIAL = {
    # The variable's own `nullable = false` refuses it.
    "null",
    # It is one number for Terraform.
    "keep that is the number 1.0",
    # For Terraform it is not of the type, for the function not a duration.
    "min_age that ends its line",
}

NULLS: Mapping[str, object] = {
    "null for every key of a policy that has a default": one(
        min_age=None, tagged=None, untagged=None, orphans=None, max_deletions=None, dry_run=None
    ),
    "null for every key of a rule beside one": rule(keep=None, keep_within="7d", delete_after=None, order=None),
    "null in untagged": one(untagged={"keep": None, "keep_within": None, "delete_after": "30d", "order": None}),
    "null in orphans": one(orphans={"keep": 0, "keep_within": None, "delete_after": None, "order": None}),
    "untagged of nulls": one(untagged={"keep": None, "delete_after": None}),
    "null for an unknown key": one(protect_tags=None),
    "null for keep, whose default has an effect": rule(keep=None, keep_within="7d", delete_after="30d"),
}

SEVERAL: Mapping[str, object] = {
    "mistakes of every kind": MISTAKES_OF_EVERY_KIND,
    "mistakes in twelve policies": [{"repositories": [f"gcr.io/acme{number}"]} for number in range(12)],
    "more than a hundred mistakes": one(tagged=[1] * 250),
    "both durations too short": one(min_age="2h", untagged={"keep": 1, "keep_within": "3h", "delete_after": "1h"}),
    "min_age that is invalid is not compared": one(min_age="1y", untagged={"delete_after": "1m"}),
    "keep_within that is invalid is not compared": rule(keep_within="1y", delete_after="30d"),
    "a rule for every tag that looks like a glob": one(tagged=[{"match": "*", "keep": 1}, {"match": "x", "keep": 1}]),
    "an invalid glob again": [*globs("gcr.io/acme"), *globs("gcr.io/acme")],
    "an array within tagged": one(tagged=[[]]),
    "a document in a document": [[{"repositories": [APPS]}]],
    "an object of positions": {"0": {"repositories": [APPS]}},
    "an alias within an alias": globs("us-docker.pkg.dev/gcr.io/gcr.io/a", "us-docker.pkg.dev/a.b/c/gcr.io"),
    "a correction in several steps": globs(
        "https://us-docker.pkg.dev//Acme/gcr.io/api:v1", "docker://GCR.io/acme:v1"
    ),
    "a glob of 256 characters outside ASCII": globs("ü" * 256, "ü" * 255),
    "a regex of 1001 characters outside ASCII": one(tagged=[{"match": ["ü" * 1001, "ü" * 1000], "keep": 1}]),
}

# Regexes that look like globs, that match every tag, that are near either, and that are invalid.
REGEXES = r"""
    v* V* v1* main-* main_* a*b* v*.* * *-rc *v* *.* v1\.* v1\-* \\* \** \x76* \x{76}* \166* \Qv\E* \Qv1.\E*
    ^*-rc a|*b (*)-rc (?:*|x) (?i)*rc (?i)v* x|v* (v*) ((a|b*)c) (?P<x>v*) (?<x>v*) ^v*$ [ab]c* a{2}b* v** v***x
    ** **/v1 v*? (v* \Q* v.* .* .*.* ^.*$ (v)* (?:v1)* [v]* [0-9]*-[a-f]* [*] [v*] []*]x [^]*] [[:alpha:]*]
    [[:^alpha:]v*] [\]v*] [v\\*] v\* \d* \pN* \p{Greek}* \Qv*\E \Qv* v{0,} v+ v? .+ .*? \A.*\z (.*) (?:.+)
    ((.*)) ^(.*)$ (^.*$) (?P<all>.*) (?s).* (?s:.*) (.*)? (?:.+)* .*-?.* v?.* (?:release-)?.* .*(-.*)? ..* .*|x
    x|.* (x|.*) (?:a|(b|.*)) ((((.*)))) (a|(b|(c|(d|(e|.*))))) [^/]* \S+ [\w.-]+ \w[\w.-]* [\s\S]* [[:graph:]]+
    \PZ* [a-zA-Z0-9._-]* .*v .*-.* . .? ..+ .+.+ (.*)-(.*) (x|.*)v (a|b).* [a-z]+ \w+ \w* [^v].* \.* \Q.*\E
    .*\Qx\E x\Q|.* [.*] [|.*|]+ \|.* .*\b \B.* x| (?i) () $.* .*^ .{1,3} (.*)v|(.*) ((.*)v|x) \Qa\E?.* ( ) [ a)
    \Qab\E?.* \Q\E.* \Q\E \(.* .*\) (\.*) (.+.)* .+.* (((((((.*))))))) (?<all>.*) .+?
    (?P<x>a (?P<1>a) a** a{1001} (a)\1 (?=a) (?!a) (?<=a) (?<!a) (?>a) (?P=x) (?#x) \ \E \Z (a{100}){100} a++
    [[:x:]] [z-a] x{2,1} \p{Nope} \x{110000} (?z) / a/b /a/ # ${a} %{if} a" ' ü ü*
""".split()  # noqa: SIM905  # a list literal would be four times as long

# A message shows those that cannot be printed as they are in Python or in HCL, so none of these is among them.
WITH_WHITE_SPACE = ["a b", " ", "v* ", "( ", ".* ", ".*\n", "[ ]", "\\ ", "\\\n", "a\nb", "a\n  b"]

# Beginnings and parts of globs, for those that no table has.
_HOSTS = [
    "gcr.io",
    "eu.gcr.io",
    "us-docker.pkg.dev",
    "europe-docker.pkg.dev",
    "asia-docker.pkg.dev",
    "us-west1-docker.pkg.dev",
]
_HOSTS += [
    "*",
    "**",
    "*gcr.io",
    "gcr.*",
    "*.gcr.io",
    "*-docker.pkg.dev",
    "us-*",
    "us-*.pkg.dev",
    "*.dev",
    "*p*.dev",
    "**gcr.io",
]
_HOSTS += [
    "docker.io",
    "localhost:5000",
    "localhost",
    "us-docker.pkg.dev:443",
    "acme",
    "US-docker.pkg.dev",
    "https://gcr.io",
    "",
]
_SEGMENTS = [
    "acme",
    "apps",
    "*",
    "**",
    "a*",
    "example.com",
    "*.com",
    ".a.",
    ".",
    "gcr.io",
    "eu.gcr.io",
    "asia.gcr.io",
]
_SEGMENTS += ["api:v1", "api@sha256:0", "Api", "a**", "***", "", "[ab]", "ü", "gcf-artifacts"]


def _mistakes(document: object) -> list[str]:
    """Return the mistakes that the function's parser finds, as Terraform shows them."""
    try:
        policies_from_document(without_nulls(document), "policies")
    except InvalidPolicy as error:
        return [_without_reason(line) for line in str(error).splitlines()]
    return []


def _without_reason(line: str) -> str:
    # Terraform does not tell why a regex is invalid.
    return re.sub("(is not a regex in RE2's syntax): .*", r"\1", line)


def _place(line: str) -> str:
    """Return where a mistake is."""
    return line.split(": ")[0]


DOCUMENTS: Mapping[str, object] = {
    **{name: document for name, document in ACCEPTED.items() if name not in _SPECIAL},
    **{name: case.document for name, case in REFUSED.items() if name not in _SPECIAL},
    **NULLS,
    **SEVERAL,
}


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, PlannedPolicies]:
    """What a plan makes of each document."""
    home = tmp_path_factory.mktemp("policies")
    return dict(zip(DOCUMENTS, plan_policies(home, [*map(json.dumps, DOCUMENTS.values())]), strict=True))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_plan_refuses_what_the_function_refuses_with_its_messages(
    planned: Mapping[str, PlannedPolicies], name: str
) -> None:
    """What the function would not start with does not get as far as an apply; a null is an absent key."""
    expected = _mistakes(DOCUMENTS[name])

    assert sorted(planned[name].mistakes) == sorted(expected)


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if not _mistakes(DOCUMENTS[name])])
def test_accepted_policies_are_deployed_without_nulls(planned: Mapping[str, PlannedPolicies], name: str) -> None:
    """Nothing else is added or dropped."""
    assert planned[name].deployed == without_nulls(DOCUMENTS[name])


def test_mistakes_of_the_first_policy_stand_first(planned: Mapping[str, PlannedPolicies]) -> None:
    """Also where there are more than ten policies."""
    places = [_place(mistake) for mistake in planned["mistakes in twelve policies"].mistakes]
    assert places == [f"policies[{position}].repositories[0]" for position in range(12)]


def _differences(home: Path, documents: Sequence[object]) -> Iterator[str]:
    """Yield each mistake that only one of both finds."""
    for document, plan in zip(documents, plan_policies(home, [*map(json.dumps, documents)]), strict=True):
        found, expected = set(plan.mistakes), set(_mistakes(document))
        yield from (f"only the plan: {mistake} in {document}" for mistake in found - expected)
        yield from (f"only the function: {mistake} in {document}" for mistake in expected - found)


def _random_regexes(count: int) -> Iterator[str]:
    random = Random(1)
    parts = [
        *"aab1-***..?+|(())^$",
        ".*",
        "(.*)",
        "(?:",
        "(?i)",
        "(?s:",
        "(?P<n>",
        "[ab]",
        "[^/]",
        "[\\w.-]",
        "{2}",
        "[",
        "]",
    ]
    parts += [
        "\\w",
        "\\b",
        "\\.",
        "\\*",
        "\\x61",
        "\\Qa\\E",
        "\\Qab\\E",
        "\\Q",
        "\\E",
        "\\A",
        "\\z",
        "\\S",
        "\\pL",
        "\\",
        "é",
    ]
    for _ in range(count):
        yield "".join(random.choices(parts, k=random.randint(1, 8)))


def test_plan_judges_regexes_as_the_function_does(tmp_path: Path) -> None:
    """Whether one is valid, looks like a glob, has white space, or matches every tag and so hides the next rule."""
    policies = [
        {
            "repositories": [f"gcr.io/acme/{number}"],
            "tagged": [{"match": regex, "keep": 1}, {"match": "x", "keep": 1}],
        }
        for number, regex in enumerate([*REGEXES, *WITH_WHITE_SPACE, *_random_regexes(200)])
    ]
    documents = [policies[start : start + 40] for start in range(0, len(policies), 40)]

    assert list(_differences(tmp_path, documents)) == []


def test_plan_judges_globs_as_the_function_does(tmp_path: Path) -> None:
    """Whether one can match an image, and which correction is offered."""
    random = Random(1)
    texts = [
        "/".join([random.choice(_HOSTS), *random.choices(_SEGMENTS, k=random.randint(0, 4))]) for _ in range(400)
    ]
    documents = [globs(*filter(None, texts[start : start + 80])) for start in range(0, len(texts), 80)]

    assert list(_differences(tmp_path, documents)) == []


def _is_text_for_terraform(document: object) -> bool:
    """Return whether a document is JSON that means the same to both."""
    try:
        text = json.dumps(document, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return document is not None and "\\ud800" not in text and not re.search(r"[0-9]\.[0-9]|[0-9]e", text)


def test_plan_finds_mistakes_of_random_documents_where_the_function_does(tmp_path: Path) -> None:
    """Whatever is in a document, it is either accepted by both or refused by both, at the same places."""
    documents = [*filter(_is_text_for_terraform, mutated_documents(seed=7, count=120))]
    assert len(documents) > 60

    differences = [
        document
        for document, plan in zip(documents, plan_policies(tmp_path, [*map(json.dumps, documents)]), strict=True)
        if {*map(_place, plan.mistakes)} != {*map(_place, _mistakes(document))}
    ]
    assert differences == []


# The function's engine is RE2 in C++, Terraform's is Go's, which is made after it.  The README of the module has the
# differences.
@pytest.mark.parametrize("regex", [r"\C", "(?<é>x)", "(?P<é>x)"])
def test_regex_that_the_plan_alone_refuses(tmp_path: Path, regex: str) -> None:
    """Go's RE2 knows no single bytes, and wants the names of groups to be ASCII."""
    document = one(tagged=[{"match": regex, "keep": 1}])
    assert _mistakes(document) == []

    (plan,) = plan_policies(tmp_path, [json.dumps(document)])
    assert plan.mistakes == [f"policies[0].tagged[0].match: '{regex}' is not a regex in RE2's syntax"]


@pytest.mark.parametrize("regex", [r"\pL{600}"])
def test_regex_that_the_function_alone_refuses(tmp_path: Path, regex: str) -> None:
    """The function's RE2 has a limit of memory, which the plan's has not."""
    document = one(tagged=[{"match": regex, "keep": 1}])
    with pytest.raises(InvalidPolicy, match="too large"):
        policies_from_document(document)

    (plan,) = plan_policies(tmp_path, [json.dumps(document)])
    assert plan.mistakes == []


@pytest.mark.parametrize("date", ["2026-11-01", "2026-1-1", "2026-11-01T10:00:00.5-05:00"])
def test_date_that_yaml_makes_of_a_tag_is_refused(tmp_path: Path, date: str) -> None:
    """As a regex it would match no tag, and the tag would lose its rule."""
    document = "- {{repositories: [gcr.io/acme/*], tagged: [{{match: [prod, {}], keep: all}}]}}"

    plans = plan_policies(tmp_path, [document.format(date), document.format(f"'{date}'")], decoder="yamldecode")

    assert plans[1].mistakes == []
    (mistake,) = plans[0].mistakes
    assert re.fullmatch(
        r"policies\[0\]\.tagged\[0\]\.match\[1\]: '2026-\d\d-01T\d\d:00:00(Z|-05:00)'"
        r" is what yamldecode\(\) makes of a date; put the tag in quotation marks",
        mistake,
    )


def test_number_without_a_fraction_is_an_integer(tmp_path: Path) -> None:
    """Terraform has one type of numbers; the function reads what is deployed, an integer."""
    (plan,) = plan_policies(tmp_path, [json.dumps(rule(keep=1.0))])
    assert json.dumps(plan.deployed) == json.dumps(rule(keep=1), sort_keys=True)


def test_duration_that_ends_its_line_is_refused(tmp_path: Path) -> None:
    """A block scalar of YAML ends so."""
    (plan,) = plan_policies(tmp_path, [json.dumps(one(min_age="1h\n"))])
    assert plan.mistakes == [
        "policies[0].min_age: must be a duration like 90m, 1h30m or 30d, of 10m or more, not '1h\\n'"
    ]


def test_document_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """The function does not read it."""
    document = one(tagged=[{"match": ["x" * 1000] * 262, "keep": 1}])
    assert len(json.dumps(document)) > 262_144

    (plan,) = plan_policies(tmp_path, [json.dumps(document)])
    assert plan.mistakes == ["policies: has more than 262,144 characters"]


def test_yaml_of_the_documentation_is_read_as_the_command_line_reads_it(tmp_path: Path) -> None:
    """One file serves ``plan``, ``check`` and ``terraform apply``."""
    # Those for a local registry are for the command line alone.
    examples = [block.text for block in policies_of_pages() if "localhost:" not in block.text]
    assert len(examples) > 10

    for text, plan in zip(examples, plan_policies(tmp_path, examples, decoder="yamldecode"), strict=True):
        assert plan == PlannedPolicies([], yaml.safe_load(text))


def test_policies_of_a_typed_caller_are_accepted(tmp_path: Path) -> None:
    """What a caller's variable declares and nobody sets is null, and a set of globs is as good as a list."""
    shutil.copytree(POLICIES, tmp_path / "policies")
    (tmp_path / "main.tf").write_text("""
        variable "policies" {
          type = list(object({
            repositories = set(string)
            min_age      = optional(string)
            tagged = optional(list(object({
              match        = list(string)
              keep         = optional(number)
              keep_within  = optional(string)
              delete_after = optional(string)
              order        = optional(string)
            })))
            untagged      = optional(object({ keep = optional(number), delete_after = optional(string) }))
            orphans       = optional(object({ keep = optional(number), delete_after = optional(string) }))
            max_deletions = optional(number)
            dry_run       = optional(bool)
          }))
          default = [
            { repositories = ["gcr.io/acme/**"] },
            {
              repositories = ["us-docker.pkg.dev/acme/apps/**"]
              tagged       = [{ match = ["main-.*"], keep = 3 }, { match = [".*"], delete_after = "30d" }]
              untagged     = { keep = 1 }
              orphans      = { delete_after = "30d" }
            },
          ]
        }
        module "policies" {
          source   = "./policies"
          policies = var.policies
        }
        output "policies" {
          value = jsonencode(module.policies.policies)
        }
    """)
    initialise(tmp_path)
    result = terraform(tmp_path, "plan", "-no-color", "-input=false", "-out=typed.plan")
    assert result.returncode == 0, result.stdout + result.stderr

    shown = json.loads(terraform(tmp_path, "show", "-json", "typed.plan").stdout)
    assert json.loads(shown["planned_values"]["outputs"]["policies"]["value"]) == [
        {"repositories": ["gcr.io/acme/**"]},
        {
            "repositories": ["us-docker.pkg.dev/acme/apps/**"],
            "tagged": [{"match": ["main-.*"], "keep": 3}, {"match": [".*"], "delete_after": "30d"}],
            "untagged": {"keep": 1},
            "orphans": {"delete_after": "30d"},
        },
    ]
