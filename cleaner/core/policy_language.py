"""The language of policies: the fields of these structs are its keys, their defaults its defaults.

The JSON Schema is made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cleaner.core import duration, glob, pattern
from cleaner.core.policy import DEFAULT_KEEP, DEFAULT_MIN_AGE


def _means(expected: str, description: str) -> Meta:
    """Describe a key: ``expected`` completes the sentence "must be …"."""
    return Meta(description=description, extra={"expected": expected})


_Count = Annotated[int, Meta(ge=0)]
_DurationText = Annotated[str, Meta(pattern=f"^{duration.PATTERN}$")]
_Regex = Annotated[
    str,
    Meta(min_length=1, max_length=pattern.MAX_CHARS),
    _means(f"a regex of 1 to {pattern.MAX_CHARS} characters", "An RE2 regex."),
]
_GlobText = Annotated[
    str,
    Meta(min_length=1, max_length=glob.MAX_CHARS),
    _means(f"a glob of 1 to {glob.MAX_CHARS} characters", "A glob for HOST/PATH."),
]
_A_DURATION = "a duration like 90m, 1h30m or 30d"


class RuleDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of the images that a rule is for; at least one key beside `match` and `order`."""

    keep: Annotated[
        _Count | Literal["all"] | UnsetType,
        _means(
            'an integer of at least 0 or "all"',
            "The newest this many of each pool are kept.  Default: 0 with keep_within, else all.",
        ),
    ] = UNSET
    keep_within: Annotated[
        _DurationText | None,
        _means(f"{_A_DURATION}, or null", "Images uploaded less than this ago are kept as well."),
    ] = None
    delete_after: Annotated[
        _DurationText | None,
        _means(
            f"{_A_DURATION}, or null",
            "Images uploaded this long ago or longer are not kept by this rule, even the newest.",
        ),
    ] = None
    order: Annotated[
        Literal["uploaded", "version"],
        _means(
            '"uploaded" or "version"',
            "Which images of a rule for tags are the newest: by upload time, or by the version in the tag.",
        ),
    ] = "uploaded"


class TagRuleDocument(RuleDocument, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule for tags; for each tag the first rule that matches it decides."""

    match: Annotated[
        _Regex | Annotated[list[_Regex], Meta(min_length=1)],
        _means(
            f"a regex of 1 to {pattern.MAX_CHARS} characters, or an array of at least one",
            "RE2 regexes for the whole tag.  What their groups capture splits the rule into pools.",
        ),
    ]


class OrphanRuleDocument(RuleDocument, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule for referrers whose subject is not in the repository."""

    keep: Annotated[
        Literal["all", 0] | UnsetType,
        _means('"all" or 0', "Whether they are kept.  Default: 0 with keep_within, else all."),
    ] = UNSET


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept in the repositories that a policy is for; the first policy that matches a repository decides."""

    repositories: Annotated[
        Annotated[list[_GlobText], Meta(min_length=1)],
        _means(
            "an array of at least one glob like us-docker.pkg.dev/acme/apps/**",
            "Globs for HOST/PATH: * within one segment, ** one or more whole segments.",
        ),
    ]
    min_age: Annotated[
        _DurationText,
        _means(f"{_A_DURATION}, of 10m or more", "No manifest uploaded less than this ago is ever deleted."),
    ] = DEFAULT_MIN_AGE.text
    tagged: Annotated[
        list[TagRuleDocument],
        _means("an array of rules", "For each tag the first rule that matches it decides; other tags are kept."),
    ] = []
    untagged: Annotated[RuleDocument, _means("a rule", "For images without a tag.")] = RuleDocument(keep=DEFAULT_KEEP)
    orphans: Annotated[
        OrphanRuleDocument, _means("a rule", "For referrers whose subject is not in the repository.")
    ] = OrphanRuleDocument(keep="all")
    max_deletions: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        _means(
            "an integer of at least 1, or null",
            "At most this many images and orphans are deleted per run, the oldest first.",
        ),
    ] = None
    dry_run: Annotated[bool, _means("true or false", "True: this policy only reports, whatever DRY_RUN says.")] = (
        False
    )


# What the items are of each key that may have an array of texts.
ITEMS = {"repositories": _GlobText, "match": _Regex}
# A rule has at least one of these keys.
DECIDING_KEYS = ("keep", "keep_within", "delete_after")


def expected_value(described: Any) -> str:
    """Return what a value of a described type must be, to complete the sentence "must be …"."""
    meta: Meta = described.__metadata__[-1]
    assert meta.extra  # noqa: S101  # every key is described by _means
    return str(meta.extra["expected"])
