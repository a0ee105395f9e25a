"""Decodes a YAML document to the values that a JSON document has, for the parser of policies.

PyYAML reads YAML 1.1, and Terraform's yamldecode() mostly YAML 1.2.  What would be another policy there is refused,
so that what is deployed is what was shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cleaner.core.policy_document import Repeating

if TYPE_CHECKING:
    import yaml

_TAG = "tag:yaml.org,2002:"
# To PyYAML 010 is 8 and 1:30 is 90, to Terraform 010 is 10 and 1:30 a string.
_INTEGER = re.compile("-?(?:0|[1-9][0-9]*)")
# Python converts and prints long numbers in quadratic time, or not at all.
_NUMBER_MAX_CHARS = 100
# PyYAML takes seconds for some thousand open brackets; a document of policies has five levels.
_FLOW_LEVELS_MAX = 50


class InvalidYaml(ValueError):
    """A text is not YAML, or not made of mappings, sequences and scalars alone."""


def decode_yaml(text: str) -> object:
    """Return the value of a YAML document; None if it is empty.

    A mapping in which a key occurs twice becomes a ``Repeating``.

    Raises:
        ImportError: PyYAML is not installed.
        InvalidYaml: ``text`` is not such a document; the message has line and column where they are known.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def fetch_flow_collection_start(self, token: Any) -> None:
            if self.flow_level >= _FLOW_LEVELS_MAX:
                raise RecursionError
            super().fetch_flow_collection_start(token)

    try:
        loader = Loader(text)
        root = loader.get_single_node()
        return _Decoder(loader).value(root) if root else None
    except RecursionError as error:
        raise InvalidYaml("nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidYaml(f"{where}{': '.join(filter(None, (error.context, error.problem)))}") from error
    except yaml.YAMLError as error:
        raise InvalidYaml(str(error)) from error
    except InvalidYaml:
        raise
    except (ValueError, OverflowError) as error:
        # An escape that is no character, or a version of thousands of digits.
        raise InvalidYaml(str(error)) from error


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
                raise self._error("an alias of what contains it", node)
            self._open.add(node)
            self._values[node] = self._decode(node)
        return self._values[node]

    def _decode(self, node: yaml.Node) -> object:
        import yaml

        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item) for item in node.value]
        if not isinstance(node, yaml.ScalarNode) or node.tag != self._implicit_tag(node):
            raise self._error(f"the tag {node.tag!a} is not supported; write the value without it", node)
        match node.tag.removeprefix(_TAG):
            case "timestamp":
                raise self._error("a date; put it in quotation marks", node)
            case "int" | "float" if len(node.value) > _NUMBER_MAX_CHARS:
                raise self._error(f"a number of more than {_NUMBER_MAX_CHARS} characters", node)
            case "int" if not _INTEGER.fullmatch(node.value):
                raise self._error("an integer is written in decimal digits, without a 0 before them", node)
        value: object = self._loader.construct_object(node)
        return value

    def _implicit_tag(self, node: yaml.ScalarNode) -> str:
        """Return the tag that a scalar has if none is written."""
        import yaml

        is_plain = node.style is None
        resolve: Callable[..., str] = self._loader.resolve
        return resolve(yaml.ScalarNode, node.value, (is_plain, not is_plain))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        """Return a mapping with what ``<<`` merges into it."""
        import yaml

        pairs: dict[str, object] = {}
        repeated: dict[str, None] = {}
        merged: list[tuple[dict[str, object], yaml.Node]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a string", key_node)
            value = self.value(value_node)
            if key_node.tag == f"{_TAG}merge":
                if not isinstance(value, dict):
                    raise self._error("<< needs a mapping", value_node)
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
                raise self._error(f"<< gives the key {both[0]!a} a second value; write the keys out", key_node)
            pairs |= mapping
            repeated |= dict.fromkeys(mapping.repeated if isinstance(mapping, Repeating) else ())
        return Repeating(pairs.items(), *repeated) if repeated else pairs

    @staticmethod
    def _error(problem: str, node: yaml.Node) -> Exception:
        import yaml

        return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
