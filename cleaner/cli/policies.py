"""Which policy decides: of a file, of the flags, or the defaults."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cleaner.core.errors import ConfigurationError, InvalidPolicy
from cleaner.core.policy import Policy, find_policy, parse_policies, policies_from_document, policy_from_mapping
from cleaner.core.reference import Repository

# Flags named as the keys of a policy, by their names among the options.
KEYS = (
    "keep",
    "keep_untagged",
    "min_age",
    "max_age",
    "delete_tags",
    "protect_tags",
    "group_by",
    "max_deletions",
)


class Chosen(msgspec.Struct, frozen=True):
    """A policy and where it stands: ``policies.yaml[1]``, for one."""

    policy: Policy
    where: str


def flags_given(options: argparse.Namespace) -> dict[str, object]:
    """Return the keys of a policy that were given as flags, with their values."""
    return {key: value for key in KEYS if (value := getattr(options, key, None)) is not None}


def choose(options: argparse.Namespace, repository: Repository) -> Chosen | None:
    """Return the policy for ``repository``, or None where the file has none.

    Raises:
        ConfigurationError: The file cannot be read, or makes no sense.
    """
    if options.policies is None:
        flags = flags_given(options)
        policy = policy_from_mapping({"repositories": [str(repository)], **flags}, "flags")
        return Chosen(policy, "flags" if flags else "defaults")
    policies = read_policies(options.policies)
    policy_found = find_policy(policies, repository)
    if policy_found is None:
        return None
    return Chosen(policy_found, f"{name_of(options.policies)}[{policies.index(policy_found)}]")


def name_of(path: str) -> str:
    """Return what the file of policies is called where it is spoken of: ``-`` is stdin."""
    return "stdin" if path == "-" else path


def read_policies(path: str) -> tuple[Policy, ...]:
    """Return the policies of a file, JSON or YAML; ``-`` is stdin.

    Raises:
        ConfigurationError: The file cannot be read, or makes no sense; the message names the file.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8") from error
    where = name_of(path)
    if path.endswith((".yaml", ".yml")) or not text.lstrip().startswith("["):
        return policies_from_document(_yaml(text, where), where)
    return parse_policies(text, where)


def _yaml(text: str, where: str) -> object:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(f"{where}: not JSON, and YAML needs PyYAML: pip install PyYAML") from error

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        for position, entry in enumerate(root.value if isinstance(root, yaml.SequenceNode) else ()):
            pairs = entry.value if isinstance(entry, yaml.MappingNode) else ()
            keys = Counter(key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode))
            # `<<` merges another mapping in, and may do so more than once.
            del keys["<<"]
            if repeated := next((key for key, count in keys.items() if count > 1), None):
                # PyYAML takes the last one; what the other one said would be lost unseen.
                raise InvalidPolicy(f"{where}[{position}]", "occurs twice", repeated)
        document: object = loader.construct_document(root) if root else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigurationError(f"{where}: neither JSON nor YAML: {error}") from error
    return document


def checked(key: str, value: object) -> object:
    """Return ``value``, if a policy may have it for ``key``.

    Raises:
        argparse.ArgumentTypeError: It may not; the text says why.
    """
    entry: Mapping[str, object] = {"repositories": ["**"], key: value}
    try:
        policy_from_mapping(entry, "")
    except InvalidPolicy as error:
        raise argparse.ArgumentTypeError(error.problem) from error
    return value
