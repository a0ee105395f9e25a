"""The policy that decides: of a file, of the flags for one rule, or the default policy."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from cleaner.cli.yaml_document import InvalidYaml, decode_yaml
from cleaner.core.errors import ConfigurationError, InvalidPolicy, Mistake
from cleaner.core.policy import Policy, find_policy
from cleaner.core.policy_document import MAX_DOCUMENT_CHARS, parse_policies, policies_from_document
from cleaner.core.reference import Repository

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_EVERY_TAG = ".*"
# Flags by where their values are in a policy; ``match`` and its patterns have longer paths.
_POLICY_FLAGS = {"min_age": ("min_age",), "max_deletions": ("max_deletions",), "keep_untagged": ("untagged", "keep")}
_RULE_KEYS = ("match", "keep", "keep_within", "delete_after")


class Chosen(msgspec.Struct, frozen=True):
    """A policy and its place: ``policies.yaml[1]``, for example."""

    policy: Policy
    where: str


def flags_given(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of the flags for one rule that were given."""
    return tuple(_flag(key) for key in (*_RULE_KEYS, *_POLICY_FLAGS) if getattr(options, key, None) is not None)


def policy_of_flags(options: argparse.Namespace) -> Policy:
    """Return the policy that the flags for one rule describe, for every repository; without flags the default policy.

    Raises:
        InvalidPolicy: A value is invalid; ``flag_of`` returns the flag of each mistake.
    """
    policy: dict[str, object] = {"repositories": ["**"]}
    rule = {key: _value(value) for key in _RULE_KEYS if (value := getattr(options, key, None)) is not None}
    if rule:
        policy["tagged"] = [{"match": _EVERY_TAG, **rule}]
    if options.keep_untagged is not None:
        policy["untagged"] = {"keep": _value(options.keep_untagged)}
    for key in ("min_age", "max_deletions"):
        if (value := getattr(options, key)) is not None:
            policy[key] = _value(value)
    return policies_from_document([policy], "flags")[0]


def flag_of(mistake: Mistake) -> str:
    """Return the flag whose value is a mistake of ``policy_of_flags``."""
    _, *path = mistake.path
    if path[:1] == ["tagged"]:
        # What is wrong with the rule as a whole is that it has nothing but ``match``.
        return _flag(str(path[2]) if len(path) > 2 else "match")
    return _flag(next(key for key, where in _POLICY_FLAGS.items() if path == [*where]))


def choose(options: argparse.Namespace, repository: Repository) -> Chosen | None:
    """Return the policy for ``repository``; None if the file has none.

    Raises:
        ConfigurationError: The file cannot be read, or is invalid.
    """
    if options.policies is None:
        return Chosen(policy_of_flags(options), "flags" if flags_given(options) else "default policy")
    policies = read_policies(options.policies, options.insecure)
    found = find_policy(policies, repository)
    return None if found is None else Chosen(found, f"{name_of(options.policies)}[{policies.index(found)}]")


def name_of(path: str) -> str:
    """Return the name of a file of policies in messages; ``-`` is stdin."""
    return "stdin" if path == "-" else path


def read_policies(path: str, insecure: AbstractSet[str] = frozenset()) -> tuple[Policy, ...]:
    """Return the policies of a file, JSON or YAML; ``-`` is stdin.

    ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's.

    Raises:
        ConfigurationError: The file cannot be read, or is neither JSON nor YAML.
        InvalidPolicy: It has mistakes; the error has all of them.
    """
    where = name_of(path)
    text = _read(path)
    if len(text) > MAX_DOCUMENT_CHARS:
        raise InvalidPolicy(where, [Mistake((), f"has more than {MAX_DOCUMENT_CHARS:,} characters")])
    if not path.endswith((".yaml", ".yml")) and text.lstrip().startswith("["):
        return parse_policies(text, where, insecure)
    try:
        document = decode_yaml(text)
    except ImportError as error:
        raise ConfigurationError(f"{where}: not JSON, and YAML needs PyYAML: pip install PyYAML") from error
    except InvalidYaml as error:
        raise ConfigurationError(f"{where}: neither JSON nor YAML: {error}") from error
    return policies_from_document(document, where, insecure)


def _read(path: str) -> str:
    """Return the text of a file, or as much of it as shows that it is too long."""
    try:
        if path == "-":
            return sys.stdin.read(MAX_DOCUMENT_CHARS + 1)
        # Some editors write a byte order mark.
        with Path(path).open(encoding="utf-8-sig") as file:
            return file.read(MAX_DOCUMENT_CHARS + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8") from error


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _value(given: object) -> object:
    """Return the value of a flag as a document has it: an integer, or else what was given."""
    return int(given) if isinstance(given, str) and _INTEGER.fullmatch(given) else given
