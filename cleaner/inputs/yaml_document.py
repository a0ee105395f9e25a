"""Decodes a YAML document to the values that a JSON document has, and finds where in the text a value is.

PyYAML reads YAML 1.1, and Terraform's yamldecode() mostly YAML 1.2.  What would be another policy there is refused,
so that what is deployed is what was shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import yaml

from cleaner.core.errors import Mistake
from cleaner.core.policy_document import Repeating

# YAML is a superset of JSON.
_NEITHER = "neither JSON nor YAML"
_TAG = "tag:yaml.org,2002:"
# To PyYAML 010 is 8 and 1:30 is 90, to Terraform 010 is 10 and 1:30 a string.
_INTEGER = re.compile("-?(?:0|[1-9][0-9]*)")
# Python converts and prints long numbers in quadratic time, or not at all.
_NUMBER_MAX_CHARS = 100
# PyYAML takes seconds for some thousand open brackets; a document of policies has five levels.
_FLOW_LEVELS_MAX = 50


class Position(msgspec.Struct, frozen=True):
    """A place in a text: line and column count from 1; ``length`` is the number of characters there."""

    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class InvalidYaml(ValueError):
    """A text is not YAML, or not made of mappings, sequences and scalars alone; ``position`` says where, if known."""

    def __init__(self, problem: str, position: Position | None = None) -> None:
        super().__init__(f"{position}: {problem}" if position else problem)
        self.problem = problem
        self.position = position


def decode_yaml(text: str) -> object:
    """Return the value of a YAML document; None if it is empty.

    A mapping in which a key occurs twice becomes a ``Repeating``.

    Raises:
        InvalidYaml: ``text`` is not such a document; the message has line and column where they are known.
    """
    try:
        loader = _loader(text)
        root = loader.get_single_node()
        return _Decoder(loader).value(root) if root else None
    except RecursionError as error:
        raise InvalidYaml(f"{_NEITHER}: nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = Position(mark.line + 1, mark.column + 1) if mark else None
        # Of a regex in double quotation marks: "v\\d+".
        hint = "write regexes in single quotes" if "unknown escape" in (error.problem or "") else None
        raise InvalidYaml(
            ": ".join(filter(None, (_NEITHER, error.context, error.problem, hint))), position
        ) from error
    except InvalidYaml:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Of an escape that is no character, or a version of thousands of digits, PyYAML raises what Python does.
        raise InvalidYaml(f"{_NEITHER}: {error}") from error


def locate(text: str, mistakes: Sequence[Mistake]) -> list[Position | None]:
    """Return where in a YAML or JSON document each mistake is: at its value, or at its key if that is wrong.

    None if the text cannot be read.
    """
    try:
        # JSON may be indented with tabs.
        root = _loader(text.replace("\t", " ")).get_single_node()
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        root = None
    return [_position(_find(root, mistake)) if root else None for mistake in mistakes]


def _find(node: yaml.Node, mistake: Mistake) -> yaml.Node:
    """Return the node of a mistake; if it is about what is not there, the nearest one that would have it."""
    key: yaml.Node | None = None
    for step in (*mistake.path, *([mistake.key] if mistake.key else [])):
        found = _step(node, step)
        if found is None:
            return node
        key, node = found
    return key if mistake.key and key is not None else node


def _step(node: yaml.Node, step: int | str) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Return the node of a key, which an item of a sequence has not, and that of its value; None if there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    # Of a key that occurs twice the last one.
    for key, value in reversed(pairs):
        if key.value == step:
            return key, value
    merged = (_step(value, step) for key, value in pairs if key.tag == f"{_TAG}merge")
    return next(filter(None, merged), None)


def _position(node: yaml.Node) -> Position:
    start, end = node.start_mark, node.end_mark
    is_short = start.line == end.line and end.column > start.column
    return Position(start.line + 1, start.column + 1, end.column - start.column if is_short else 1)


def _loader(text: str) -> yaml.SafeLoader:
    class Loader(yaml.SafeLoader):
        def fetch_flow_collection_start(self, token: Any) -> None:
            if self.flow_level >= _FLOW_LEVELS_MAX:
                raise RecursionError
            super().fetch_flow_collection_start(token)

    return Loader(text)


class _Decoder:
    """Decodes the nodes of one document; a node that several aliases name is decoded once."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._values: dict[yaml.Node, object] = {}
        self._open: set[yaml.Node] = set()

    def value(self, node: yaml.Node) -> object:
        """Return the value of a node."""
        if node not in self._values:
            if node in self._open:
                raise _refused("an alias of what contains it", node)
            self._open.add(node)
            self._values[node] = self._decode(node)
        return self._values[node]

    def _decode(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item) for item in node.value]
        if not isinstance(node, yaml.ScalarNode) or node.tag != self._implicit_tag(node):
            raise _refused(f"the tag {node.tag!a} is not supported; write the value without it", node)
        match node.tag.removeprefix(_TAG):
            case "timestamp":
                raise _refused("a date; put it in quotation marks", node)
            case "int" | "float" if len(node.value) > _NUMBER_MAX_CHARS:
                raise _refused(f"a number of more than {_NUMBER_MAX_CHARS} characters", node)
            case "int" if not _INTEGER.fullmatch(node.value):
                raise _refused("write the integer in decimal digits, without a leading 0", node)
        value: object = self._loader.construct_object(node)
        return value

    def _implicit_tag(self, node: yaml.ScalarNode) -> str:
        """Return the tag that a scalar has if none is written."""
        is_plain = node.style is None
        resolve: Callable[..., str] = self._loader.resolve
        return resolve(yaml.ScalarNode, node.value, (is_plain, not is_plain))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        """Return a mapping with what ``<<`` merges into it."""
        pairs: dict[str, object] = {}
        repeated: dict[str, None] = {}
        merged: list[tuple[dict[str, object], yaml.Node]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a key must be a string", key_node)
            value = self.value(value_node)
            if key_node.tag == f"{_TAG}merge":
                if not isinstance(value, dict):
                    raise _refused("<< needs a mapping", value_node)
                merged.append((value, key_node))
                continue
            # As it is written: to YAML, `on` and `1` are no strings.
            key = str(key_node.value)
            if key in pairs:
                repeated[key] = None
            pairs[key] = value
        for mapping, key_node in merged:
            if both := sorted(pairs.keys() & mapping.keys()):
                # To PyYAML a key that is written beside << has precedence, to Terraform the last.
                raise _refused(f"<< gives the key {both[0]!a} a second value; write the keys without <<", key_node)
            pairs |= mapping
            repeated |= dict.fromkeys(mapping.repeated if isinstance(mapping, Repeating) else ())
        return Repeating(pairs.items(), *repeated) if repeated else pairs


def _refused(problem: str, node: yaml.Node) -> InvalidYaml:
    return InvalidYaml(problem, Position(node.start_mark.line + 1, node.start_mark.column + 1))
