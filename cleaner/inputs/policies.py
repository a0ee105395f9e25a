"""The policies that decide: of a file, of the flags for one rule, or the default policy."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Set as AbstractSet
from pathlib import Path

import msgspec

from cleaner.core.errors import ConfigurationError, InvalidPolicy, Mistake
from cleaner.core.policy import Policy, find_policy
from cleaner.core.policy_document import MAX_DOCUMENT_CHARS, parse_policies, policies_from_document
from cleaner.core.reference import Repository
from cleaner.inputs.yaml_document import InvalidYaml, decode_yaml

# Read from the working directory where neither a file nor a flag is given.
FOUND = "policies.yaml"
# The hosts of this machine, which need no --insecure.
_LOCAL_HOST = re.compile(r"(?<![a-z0-9.-])(?:localhost|127\.0\.0\.1):[0-9]{1,5}(?![0-9])")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_EVERY_TAG = ".*"
# Flags by where their values are in a policy; ``match`` and its patterns have longer paths.
_POLICY_FLAGS = {"min_age": ("min_age",), "max_deletions": ("max_deletions",), "keep_untagged": ("untagged", "keep")}
_RULE_KEYS = ("match", "keep", "keep_within", "delete_after")
FLAG_KEYS = (*_RULE_KEYS, *_POLICY_FLAGS)
# A key in the text of a mistake; what is in quotation marks was given.
_KEY = re.compile(rf"'[^']*'|\b({'|'.join(sorted(FLAG_KEYS, key=len, reverse=True))})\b")


class Policies(msgspec.Struct, frozen=True):
    """The policies of a command; ``name`` is that of the file, or says that there is none.

    ``is_file`` is False for those of flags and for the default policy, which are for any repository that is named.
    ``is_default``: there is neither a file nor a flag.  ``is_found``: nobody has named the file.
    """

    name: str
    policies: tuple[Policy, ...]
    is_file: bool
    is_default: bool = False
    is_found: bool = False

    def choose(self, repository: Repository) -> Policy | None:
        """Return the policy for ``repository``; None if there is none."""
        return find_policy(self.policies, repository) if self.is_file else self.policies[0]

    @property
    def no_match(self) -> str:
        """What is to be said of a repository for which there is none."""
        return f"no policy of {self.name} matches; nothing is deleted"

    def nothing_under(self, root: str) -> str:
        """Return what is to be said if no repository was found under a root."""
        return f"no repository under {root}{f' is matched by {self.name}' if self.is_file else ''}"

    def where(self, policy: Policy) -> str:
        """Return the place of a policy: ``policies.yaml[1]``, for example."""
        return f"{self.name}[{self.policies.index(policy)}]" if self.is_file else self.name


def policies_of(path: str | None, policy: Policy | None, insecure: AbstractSet[str]) -> Policies:
    """Return the policies of the file ``path``, or ``policy``, or those of ``policies.yaml``, or the default policy.

    ``policy`` is that of flags.

    Raises:
        ConfigurationError: The file cannot be read, or is invalid.
    """
    # A link that leads nowhere is a mistake, and not the default policy.
    is_found = path is None and policy is None and (Path(FOUND).is_file() or Path(FOUND).is_symlink())
    file = FOUND if is_found else path
    if file is None:
        if policy is None:
            return Policies("default policy", (policy_of_flags({}),), is_file=False, is_default=True)
        return Policies("flags", (policy,), is_file=False)
    return Policies(name_of(file), read_policies(file, insecure), is_file=True, is_found=is_found)


def policy_of_flags(flags: Mapping[str, object]) -> Policy:
    """Return the policy that the flags for one rule describe, for every repository; without flags the default policy.

    Raises:
        InvalidPolicy: A value is invalid; ``flag_problem`` says of each mistake which.
    """
    policy: dict[str, object] = {"repositories": ["**"]}
    rule = {key: _value(flags[key]) for key in _RULE_KEYS if key in flags}
    if rule:
        policy["tagged"] = [{"match": _EVERY_TAG, **rule}]
    if "keep_untagged" in flags:
        policy["untagged"] = {"keep": _value(flags["keep_untagged"])}
    for key in ("min_age", "max_deletions"):
        if key in flags:
            policy[key] = _value(flags[key])
    return policies_from_document([policy], "flags")[0]


def flag_problem(mistake: Mistake) -> str:
    """Return a mistake of ``policy_of_flags`` behind its flag; flags are named in the place of keys."""
    return f"{_flag_of(mistake)}: {_KEY.sub(lambda found: flag(found[0]) if found[1] else found[0], mistake.text)}"


def _flag_of(mistake: Mistake) -> str:
    _, *path = mistake.path
    if path[:1] == ["tagged"]:
        # What is wrong with the rule as a whole is that it has nothing but ``match``.
        return flag(str(path[2]) if len(path) > 2 else "match")
    return flag(next(key for key, where in _POLICY_FLAGS.items() if path == [*where]))


def flag(key: str) -> str:
    """Return the flag for a key."""
    return f"--{key.replace('_', '-')}"


def local_hosts(text: str) -> frozenset[str]:
    """Return the hosts of this machine that a text names, as ``HOST:PORT``."""
    return frozenset(_LOCAL_HOST.findall(text))


def name_of(path: str) -> str:
    """Return the name of a file of policies in messages; ``-`` is stdin."""
    return "stdin" if path == "-" else path


def read_policies(path: str, insecure: AbstractSet[str] = frozenset()) -> tuple[Policy, ...]:
    """Return the policies of a file, JSON or YAML; ``-`` is stdin.

    ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's and this machine's.

    Raises:
        ConfigurationError: The file cannot be read, is neither JSON nor YAML, or has what Terraform reads otherwise.
        InvalidPolicy: It has mistakes; the error has all of them.
    """
    return parse_text(read_text(path), path, insecure)


def parse_text(text: str, path: str, insecure: AbstractSet[str] = frozenset()) -> tuple[Policy, ...]:
    """Return the policies of the text of the file ``path``, as ``read_policies`` does.

    Raises:
        ConfigurationError: It is neither JSON nor YAML, or has what Terraform reads otherwise.
        InvalidPolicy: It has mistakes; the error has all of them.
    """
    where = name_of(path)
    if len(text) > MAX_DOCUMENT_CHARS:
        raise InvalidPolicy(where, [Mistake((), f"has more than {MAX_DOCUMENT_CHARS:,} characters")])
    insecure = insecure | local_hosts(text)
    if not path.endswith((".yaml", ".yml")) and text.lstrip().startswith("["):
        return parse_policies(text, where, insecure)
    try:
        document = decode_yaml(text)
    except InvalidYaml as error:
        raise ConfigurationError(f"{where}: {error}") from error
    return policies_from_document(document, where, insecure)


def read_text(path: str, max_chars: int = MAX_DOCUMENT_CHARS) -> str:
    """Return the text of a file, or as much of it as shows that it is too long; ``-`` is stdin.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.read(max_chars + 1)
        # Some editors write a byte order mark.
        with Path(path).open(encoding="utf-8-sig") as file:
            return file.read(max_chars + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name_of(path)}: not UTF-8") from error


def _value(given: object) -> object:
    """Return the value of a flag as a document has it: an integer, or else what was given."""
    return int(given) if isinstance(given, str) and _INTEGER.fullmatch(given) else given
