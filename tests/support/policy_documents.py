"""Documents of policies, as tables: what is accepted, and what is refused with which messages.

The parser, the JSON Schema and Terraform's validations are tested with the same documents.
"""

from __future__ import annotations

from typing import NamedTuple

APPS = "us-docker.pkg.dev/acme/apps/**"
REGEX = "not a regex in RE2's syntax: "
_REQUIRED_GLOBS = "an array of at least one glob like us-docker.pkg.dev/acme/apps/**"
_COUNT = 'an integer of at least 0 or "all"'
_DURATION = "a duration like 90m, 1h30m or 30d"
_RULE_KEYS = "known are keep, keep_within, delete_after, order"


class Refused(NamedTuple):
    """A document that is refused: its message, and what keeps a schema from refusing it as well."""

    document: object
    message: str
    beyond_schema: str = ""


def one(**keys: object) -> list[object]:
    """Return the document of one policy with these keys."""
    return [{"repositories": [APPS], **keys}]


def rule(**keys: object) -> list[object]:
    """Return the document of one policy that has one rule with these keys, for the tag ``x``."""
    return one(tagged=[{"match": "x", **keys}])


def globs(*texts: object) -> list[object]:
    """Return the document of one policy with these globs."""
    return [{"repositories": [*texts]}]


MISTAKES_OF_EVERY_KIND: list[object] = [
    {
        "repositories": ["gcr.io/acme/api:v1", 5, "acme/*"],
        "min_age": "1m",
        "tagged": [
            {"match": ["v*", None, "(", "x"], "keep": -1, "keep_within": "soon", "oder": "version"},
            {"keep": 0, "keep_within": "7d", "delete_after": "1d"},
            {"match": ".*"},
            7,
        ],
        "untagged": {"order": "version"},
        "orphans": {"keep": 3},
        "max_deletions": 0,
        "dry_run": "no",
    },
    "x",
    {"repositories": [APPS], "tagged": {}},
]

ACCEPTED: dict[str, object] = {
    "only repositories": one(),
    "every key": [
        {
            "repositories": ["gcr.io/acme/*", "us-docker.pkg.dev/acme/apps/api"],
            "min_age": "2h",
            "tagged": [
                {"match": "prod", "keep": "all"},
                {
                    "match": ["v(.*)", "w(.*)"],
                    "keep": 3,
                    "keep_within": "7d",
                    "delete_after": "30d",
                    "order": "version",
                },
            ],
            "untagged": {"keep": 2, "keep_within": "3h", "delete_after": "14d", "order": "uploaded"},
            "orphans": {"keep": "all", "delete_after": "90d"},
            "max_deletions": 100,
            "dry_run": True,
        },
        {"repositories": ["**"], "untagged": {"keep": 1}},
    ],
    "a glob that matches other names than aliases": [{"repositories": ["us-docker.pkg.dev/**/gcr.io/api"]}],
    "keep 0": rule(keep=0),
    "keep all": rule(keep="all"),
    "keep of many digits": rule(keep=10**30),
    "keep_within alone": rule(keep_within="1h"),
    "keep_within of nothing": rule(keep_within="0s", keep=1),
    "delete_after alone": rule(delete_after="61m"),
    "delete_after longer than keep_within": rule(keep=1, keep_within="7d", delete_after="8d"),
    "keep 0 and keep_within": rule(keep=0, keep_within="7d"),
    "null for keep_within": rule(keep=1, keep_within=None),
    "null for delete_after": rule(keep=0, delete_after=None),
    "null for both beside keep 0": rule(keep=0, keep_within=None, delete_after=None),
    "null for max_deletions": one(max_deletions=None),
    "max_deletions 1": one(max_deletions=1),
    "min_age of ten minutes": one(min_age="10m"),
    "min_age of ten minutes in seconds": one(min_age="600s"),
    "a list of one regex": one(tagged=[{"match": [".*"], "keep": 1}]),
    "a regex of 1000 characters": one(tagged=[{"match": "x" * 1000, "keep": 1}]),
    "no rules for tags": one(tagged=[]),
    "orphans keep 0": one(orphans={"keep": 0}),
    "orphans keep all": one(orphans={"keep": "all"}),
    "orphans keep_within": one(orphans={"keep_within": "7d"}),
    "orphans delete_after": one(orphans={"delete_after": "7d"}),
    "untagged order": one(untagged={"keep": 1, "order": "version"}),
    "untagged delete_after": one(untagged={"delete_after": "7d"}),
    "dry_run false": one(dry_run=False),
    "a glob again beside another": [
        {"repositories": [APPS]},
        {"repositories": [APPS, "gcr.io/acme/*"]},
    ],
    "every tag by the last rule": one(tagged=[{"match": "x", "keep": 1}, {"match": ".*", "keep": 1}]),
    "an empty quotation": one(tagged=[{"match": r"\Q\E.*", "keep": 1}, {"match": "x", "keep": 1}]),
    "white space by its escape": one(tagged=[{"match": [r"[^\s]+", r"\x20"], "keep": 1}]),
    "every tag but one, then that one": one(
        tagged=[{"match": "[^p].*|p[^r].*|pr[^o].*", "keep": 1}, {"match": "prod", "keep": "all"}]
    ),
    "glob on any host": globs("**"),
    "glob on any host of Artifact Registry": globs("*-docker.pkg.dev/acme/**"),
    "glob for functions": globs("us-docker.pkg.dev/acme/gcf-artifacts/**"),
    "glob for a domain's project": globs("gcr.io/example.com/acme/*"),
    "glob of one image": globs("gcr.io/acme/api"),
}

_EMPTY_RULE = "has no effect: it needs keep, keep_within or delete_after"

# Each document has one mistake.
REFUSED: dict[str, Refused] = {
    # The document.
    "an empty array": Refused([], "POLICIES: must be an array of at least one policy"),
    "an object": Refused({"repositories": [APPS]}, "POLICIES: must be an array of at least one policy"),
    "null": Refused(None, "POLICIES: must be an array of at least one policy"),
    "a string": Refused("x", "POLICIES: must be an array of at least one policy"),
    **{
        f"a policy that is {kind}": Refused(
            [{"repositories": [APPS]}, entry], f"POLICIES[1]: must be an object, not {kind}"
        )
        for entry, kind in (
            (None, "null"),
            ([], "an empty array"),
            ([1], "an array"),
            ("x", "'x'"),
            (3, "the number 3"),
            (1.5, "the number 1.5"),
            (True, "true"),
        )
    },
    # Keys.
    "a misspelled key of a policy": Refused(
        one(repositorys=[APPS]), "POLICIES[0]: unknown key 'repositorys'; did you mean repositories?"
    ),
    "an unknown key of a policy": Refused(
        one(zzz=5),
        (
            "POLICIES[0]: unknown key 'zzz'; known are repositories, min_age, tagged, untagged, orphans,"
            " max_deletions, dry_run"
        ),
    ),
    "a misspelled key of a rule": Refused(
        rule(keep=1, keep_witin="7d"),
        "POLICIES[0].tagged[0]: unknown key 'keep_witin'; did you mean keep_within?",
    ),
    "an unknown key of a rule": Refused(
        rule(keep=1, zzz=1), f"POLICIES[0].tagged[0]: unknown key 'zzz'; {_RULE_KEYS}, match"
    ),
    "match in untagged": Refused(
        one(untagged={"match": ".*", "keep": 1}), f"POLICIES[0].untagged: unknown key 'match'; {_RULE_KEYS}"
    ),
    "match in orphans": Refused(
        one(orphans={"match": ".*", "keep": 0}), f"POLICIES[0].orphans: unknown key 'match'; {_RULE_KEYS}"
    ),
    "a key in capitals": Refused(
        rule(keep=1, Keep=2), "POLICIES[0].tagged[0]: unknown key 'Keep'; did you mean keep?"
    ),
    "no repositories": Refused([{"min_age": "1h"}], f"POLICIES[0].repositories: is required: {_REQUIRED_GLOBS}"),
    "no match": Refused(
        one(tagged=[{"keep": 1}]),
        "POLICIES[0].tagged[0].match: is required: a regex of 1 to 1000 characters, or an array of at least one",
    ),
    # Types.
    **{
        f"repositories that is {shown}": Refused(
            [{"repositories": value}], f"POLICIES[0].repositories: must be {_REQUIRED_GLOBS}, not {shown}"
        )
        for value, shown in ((None, "null"), (APPS, f"'{APPS}'"), ([], "an empty array"), ({"a": 1}, "an object"))
    },
    **{
        f"a glob that is {shown}": Refused(
            globs(APPS, value),
            f"POLICIES[0].repositories[1]: must be a glob of 1 to 255 characters, not {shown}",
        )
        for value, shown in (
            (None, "null"),
            (1, "the number 1"),
            ([APPS], "an array"),
            ("", "''"),
            ("g" * 256, f"'{'g' * 60}...'"),
        )
    },
    **{
        f"min_age that is {shown}": Refused(
            one(min_age=value), f"POLICIES[0].min_age: must be {_DURATION}, of 10m or more, not {shown}"
        )
        for value, shown in (
            (None, "null"),
            (3600, "the number 3600"),
            ("1y", "'1y'"),
            ("", "''"),
            (["1h"], "an array"),
        )
    },
    "min_age that is too short": Refused(
        one(min_age="9m59s"), "POLICIES[0].min_age: must be 10m or more, not 9m59s", "durations"
    ),
    "min_age that ends its line": Refused(
        one(min_age="1h\n"), "POLICIES[0].min_age: '1h\\n' is not a duration", "end of a text"
    ),
    "min_age that is too long": Refused(
        one(min_age="9999999999w"), "POLICIES[0].min_age: '9999999999w' is too long a duration", "durations"
    ),
    **{
        f"tagged that is {shown}": Refused(
            one(tagged=value), f"POLICIES[0].tagged: must be an array of rules, not {shown}"
        )
        for value, shown in ((None, "null"), ({"match": ".*"}, "an object"), ("x", "'x'"))
    },
    **{
        f"{where} that is {shown}": Refused(one(**keys), f"POLICIES[0].{path}: must be an object, not {shown}")
        for value, shown in ((None, "null"), ("x", "'x'"), (0, "the number 0"), ([], "an empty array"))
        for where, path, keys in (
            ("a rule", "tagged[0]", {"tagged": [value]}),
            ("untagged", "untagged", {"untagged": value}),
            ("orphans", "orphans", {"orphans": value}),
        )
    },
    **{
        f"max_deletions that is {shown}": Refused(
            one(max_deletions=value),
            f"POLICIES[0].max_deletions: must be an integer of at least 1, or null, not {shown}",
        )
        for value, shown in (
            (0, "the number 0"),
            (-1, "the number -1"),
            (1.5, "the number 1.5"),
            ("1", "'1'"),
            (True, "true"),
        )
    },
    **{
        f"dry_run that is {shown}": Refused(
            one(dry_run=value), f"POLICIES[0].dry_run: must be true or false, not {shown}"
        )
        for value, shown in ((None, "null"), ("true", "'true'"), (1, "the number 1"))
    },
    **{
        f"keep that is {shown}": Refused(
            rule(keep=value, delete_after="30d"),
            f"POLICIES[0].tagged[0].keep: must be {_COUNT}, not {shown}",
            beyond,
        )
        for value, shown, beyond in (
            (None, "null", ""),
            (-1, "the number -1", ""),
            (1.5, "the number 1.5", ""),
            (1.0, "the number 1.0", "integers with a fraction"),
            ("5", "'5'", ""),
            ("ALL", "'ALL'", ""),
            (True, "true", ""),
            ([], "an empty array", ""),
            (-(10**30), "a number of many digits", ""),
        )
    },
    "keep that is invalid beside keep_within": Refused(
        rule(keep="none", keep_within="7d", delete_after="30d"),
        f"POLICIES[0].tagged[0].keep: must be {_COUNT}, not 'none'",
    ),
    **{
        f"orphans keep that is {shown}": Refused(
            one(orphans={"keep": value, "keep_within": "7d"}),
            f'POLICIES[0].orphans.keep: must be "all" or 0, not {shown}',
        )
        for value, shown in ((1, "the number 1"), (None, "null"), (False, "false"), ("0", "'0'"))
    },
    **{
        f"{key} that is {shown}": Refused(
            rule(keep=1, **{key: value}), f"POLICIES[0].tagged[0].{key}: must be {_DURATION}, or null, not {shown}"
        )
        for key in ("keep_within", "delete_after")
        for value, shown in ((30, "the number 30"), ("30", "'30'"), ("1.5h", "'1.5h'"), ("", "''"), (False, "false"))
    },
    **{
        f"order that is {shown}": Refused(
            rule(keep=1, order=value),
            f'POLICIES[0].tagged[0].order: must be "uploaded" or "version", not {shown}',
        )
        for value, shown in ((None, "null"), ("semver", "'semver'"), (1, "the number 1"))
    },
    **{
        f"match that is {shown}": Refused(
            one(tagged=[{"match": value, "keep": 1}]),
            (
                "POLICIES[0].tagged[0].match: must be a regex of 1 to 1000 characters, or an array of at least one,"
                f" not {shown}"
            ),
        )
        for value, shown in (
            (None, "null"),
            ("", "''"),
            ([], "an empty array"),
            (1, "the number 1"),
            ("x" * 1001, f"'{'x' * 60}...'"),
        )
    },
    **{
        f"a regex that is {shown}": Refused(
            one(tagged=[{"match": ["a", value], "keep": 1}]),
            f"POLICIES[0].tagged[0].match[1]: must be a regex of 1 to 1000 characters, not {shown}",
        )
        for value, shown in ((None, "null"), ("", "''"), (["x"], "an array"))
    },
    # Rules.
    "a rule with nothing but match": Refused(one(tagged=[{"match": "x"}]), f"POLICIES[0].tagged[0]: {_EMPTY_RULE}"),
    "a rule with nothing but match and order": Refused(
        rule(order="version"), f"POLICIES[0].tagged[0]: {_EMPTY_RULE}"
    ),
    "a rule of nulls": Refused(rule(keep_within=None, delete_after=None), f"POLICIES[0].tagged[0]: {_EMPTY_RULE}"),
    "untagged without a key": Refused(one(untagged={}), f"POLICIES[0].untagged: {_EMPTY_RULE}"),
    "orphans without a key": Refused(one(orphans={}), f"POLICIES[0].orphans: {_EMPTY_RULE}"),
    "delete_after where keep is 0": Refused(
        rule(keep=0, delete_after="30d"),
        "POLICIES[0].tagged[0].delete_after: has no effect where keep is 0; remove it, or set keep",
    ),
    "delete_after where keep is 0 beside keep_within": Refused(
        rule(keep=0, keep_within="7d", delete_after="30d"),
        "POLICIES[0].tagged[0].delete_after: has no effect where keep is 0; remove it, or set keep",
    ),
    "delete_after where keep is 0 by default": Refused(
        rule(keep_within="7d", delete_after="30d"),
        (
            "POLICIES[0].tagged[0].delete_after: has no effect where keep is 0, its default with keep_within;"
            " remove it, or set keep"
        ),
    ),
    "delete_after of untagged where keep is 0": Refused(
        one(untagged={"keep": 0, "delete_after": "30d"}),
        "POLICIES[0].untagged.delete_after: has no effect where keep is 0; remove it, or set keep",
    ),
    "delete_after of orphans where keep is 0": Refused(
        one(orphans={"keep": 0, "delete_after": "30d"}),
        "POLICIES[0].orphans.delete_after: has no effect where keep is 0; remove it, or set keep",
    ),
    **{
        f"delete_after {delete_after} with keep_within {keep_within}": Refused(
            rule(keep=1, keep_within=keep_within, delete_after=delete_after),
            (
                f"POLICIES[0].tagged[0].delete_after: {delete_after} must be longer than keep_within,"
                f" which is {keep_within}"
            ),
            "durations",
        )
        for delete_after, keep_within in (("7d", "1w"), ("6d23h", "7d"))
    },
    **{
        f"delete_after {delete_after} with min_age {min_age}": Refused(
            one(min_age=min_age, tagged=[{"match": "x", "delete_after": delete_after}]),
            f"POLICIES[0].tagged[0].delete_after: {delete_after} must be longer than min_age, which is {min_age}",
            "durations",
        )
        for delete_after, min_age in (("2h", "120m"), ("1h", "2h"))
    },
    "delete_after with the default min_age": Refused(
        rule(delete_after="60m"),
        "POLICIES[0].tagged[0].delete_after: 60m must be longer than min_age, which is 1h",
        "durations",
    ),
    "delete_after of untagged with the default min_age": Refused(
        one(untagged={"delete_after": "30m"}),
        "POLICIES[0].untagged.delete_after: 30m must be longer than min_age, which is 1h",
        "durations",
    ),
    "delete_after of orphans with the default min_age": Refused(
        one(orphans={"delete_after": "30m"}),
        "POLICIES[0].orphans.delete_after: 30m must be longer than min_age, which is 1h",
        "durations",
    ),
    "a rule after one for every tag": Refused(
        one(tagged=[{"match": ".*", "keep": 1}, {"match": "prod", "keep": "all"}]),
        "POLICIES[0].tagged[1]: is never reached, since tagged[0] matches every tag",
        "other rules",
    ),
    "a rule after one for every tag, in a list": Refused(
        one(tagged=[{"match": "a", "keep": 1}, {"match": ["b", ".*"], "keep": 1}, {"match": "c", "keep": 1}]),
        "POLICIES[0].tagged[2]: is never reached, since tagged[1] matches every tag",
        "other rules",
    ),
    # Regexes.
    "a regex that looks like a glob": Refused(
        one(tagged=[{"match": "v*", "keep": "all"}]),
        (
            "POLICIES[0].tagged[0].match: 'v*' looks like a glob; as a regex write 'v.*',"
            " or '(?:v)*' for what 'v*' means"
        ),
        "regexes",
    ),
    "a regex of a list that looks like a glob": Refused(
        one(tagged=[{"match": ["main", "main-*"], "keep": "all"}]),
        (
            "POLICIES[0].tagged[0].match[1]: 'main-*' looks like a glob; as a regex write 'main-.*',"
            " or 'main(?:-)*' for what 'main-*' means"
        ),
        "regexes",
    ),
    "a regex that begins with a star": Refused(
        one(tagged=[{"match": "*-rc", "keep": 1}]),
        "POLICIES[0].tagged[0].match: '*-rc' looks like a glob; as a regex write '.*-rc'",
        "regexes",
    ),
    "a regex that looks like a glob and is invalid": Refused(
        one(tagged=[{"match": "(v*", "keep": 1}]),
        "POLICIES[0].tagged[0].match: '(v*' looks like a glob",
        "regexes",
    ),
    "a long regex that looks like a glob": Refused(
        one(tagged=[{"match": "x" * 70 + "*", "keep": 1}]),
        (
            f"POLICIES[0].tagged[0].match: '{'x' * 60}...' looks like a glob; as a regex write '{'x' * 70}.*',"
            f" or '{'x' * 69}(?:x)*' for what '{'x' * 60}...' means"
        ),
        "regexes",
    ),
    "an invalid regex": Refused(
        one(tagged=[{"match": "a(", "keep": 1}]),
        f"POLICIES[0].tagged[0].match: 'a(' is {REGEX}missing ): a(",
        "regexes",
    ),
    "a back-reference": Refused(
        one(tagged=[{"match": ["a", r"(b)\1"], "keep": 1}]),
        rf"POLICIES[0].tagged[0].match[1]: '(b)\1' is {REGEX}invalid escape sequence: \1",
        "regexes",
    ),
    "a long invalid regex": Refused(
        one(tagged=[{"match": "(" + "x" * 100, "keep": 1}]),
        f"POLICIES[0].tagged[0].match: '({'x' * 59}...' is {REGEX}missing ): ({'x' * 48}...",
        "regexes",
    ),
    **{
        f"a regex with {what}": Refused(
            one(tagged=[{"match": [regex], "keep": 1}]),
            (
                f"POLICIES[0].tagged[0].match[0]: '{shown}' has white space or a control character,"
                " which no tag has; write a long regex as a list of several, each in single quotation marks"
            ),
        )
        for what, regex, shown in (
            ("a space", "v1|prod| staging", "v1|prod| staging"),
            ("a newline at its end", "prod\n", r"prod\n"),
            ("a space and the star of a glob", "v* ", "v* "),
            ("a space that is invalid", "( ", "( "),
        )
    },
    # Globs.
    **{
        f"a glob with {what}": Refused(
            globs(APPS, glob),
            f"POLICIES[0].repositories[1]: '{glob}' {problem}{f'; write {correction}' if correction else ''}",
            beyond,
        )
        for what, glob, problem, correction, beyond in (
            (
                "no host",
                "acme/apps/**",
                "has no host; a glob is for HOST/PATH, like us-docker.pkg.dev/acme/apps/**",
                "",
                "hosts",
            ),
            (
                "a host that is not allowed",
                "docker.io/acme/*",
                "is on the host docker.io, which is not allowed",
                "",
                "hosts",
            ),
            (
                "a port that is not allowed",
                "localhost:5000/**",
                "is on the host localhost:5000, which is not allowed",
                "",
                "hosts",
            ),
            (
                "a wildcard in a host that is not allowed",
                "*.docker.io/acme/*",
                "is on the host *.docker.io, which is not allowed",
                "",
                "hosts",
            ),
            (
                "an alias",
                "us-docker.pkg.dev/acme/gcr.io/api",
                "is an alias, which is read as another name",
                "gcr.io/acme/api",
                "hosts",
            ),
            (
                "the alias of a domain's project",
                "asia-docker.pkg.dev/example.com/acme/asia.gcr.io/**",
                "is an alias, which is read as another name",
                "asia.gcr.io/example.com/acme/**",
                "hosts",
            ),
            (
                "an alias of too few segments",
                "europe-docker.pkg.dev/acme/eu.gcr.io",
                "is an alias, which is read as another name",
                "eu.gcr.io/acme/**",
                "hosts",
            ),
            (
                "a tag",
                "gcr.io/acme/api:v1",
                "has a tag or digest, and names of repositories have none",
                "gcr.io/acme/api",
                "",
            ),
            (
                "a digest",
                f"gcr.io/acme/api@sha256:{'0' * 9}",
                "has a tag or digest, and names of repositories have none",
                "gcr.io/acme/api",
                "",
            ),
            (
                "too few segments",
                "us-docker.pkg.dev/acme/apps",
                "has too few segments for an image's name",
                "us-docker.pkg.dev/acme/apps/**",
                "number of segments",
            ),
            ("a host alone", "gcr.io", "has too few segments for an image's name", "gcr.io/**", "number of segments"),
            ("a wildcard alone", "*", "has too few segments for an image's name", "*/**", "number of segments"),
            (
                "a domain and too few segments",
                "gcr.io/example.com/acme",
                "has too few segments for an image's name",
                "gcr.io/example.com/acme/**",
                "number of segments",
            ),
            ("a scheme", "https://gcr.io/acme/api", "is a URL; a glob is for HOST/PATH", "gcr.io/acme/api", ""),
            ("an empty segment", "gcr.io//acme/api", "has an empty segment", "gcr.io/acme/api", ""),
            ("a slash at its end", "gcr.io/acme/", "has an empty segment", "gcr.io/acme/**", ""),
            (
                "capitals",
                "gcr.io/acme/Api",
                "has characters that no name has in the segment 'Api'",
                "gcr.io/acme/api",
                "",
            ),
            (
                "other wildcards",
                "gcr.io/acme/{a,b}",
                "has characters that no name has in the segment '{a,b}'",
                "",
                "",
            ),
            (
                "** beside other characters",
                "gcr.io/acme/api**",
                "has ** in the segment 'api**', which must be ** alone",
                "",
                "",
            ),
        )
    },
    "globs of earlier policies": Refused(
        [{"repositories": [APPS]}, {"repositories": ["gcr.io/acme/*"]}, {"repositories": ["gcr.io/acme/*", APPS]}],
        "POLICIES[2].repositories: never applies: earlier policies have all of its globs",
        "other policies",
    ),
}
