"""Decodes a YAML document to the values that a JSON document has, for the parser of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cleaner.core.policy_document import Repeating

if TYPE_CHECKING:
    import yaml

_TAG = "tag:yaml.org,2002:"
_NUMBERS = frozenset({f"{_TAG}int", f"{_TAG}float"})
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
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(f"the tag {node.tag!a} is not supported", node)
        if node.tag in _NUMBERS and len(node.value) > _NUMBER_MAX_CHARS:
            raise self._error(f"a number of more than {_NUMBER_MAX_CHARS} characters", node)
        try:
            value: object = self._loader.construct_object(node)
        except ValueError as error:
            # It has the form of a date or a number, like 2024-13-01.
            raise self._error(str(error), node) from error
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        """Return a mapping with what ``<<`` merges into it."""
        import yaml

        merged: dict[str, object] = {}
        own: dict[str, object] = {}
        repeated: dict[str, None] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a string", key_node)
            if key_node.tag == f"{_TAG}merge":
                merged |= self._merged(value_node)
                continue
            # As it is written: to YAML, `on` and `1` are no strings.
            key = str(key_node.value)
            if key in own:
                repeated[key] = None
            own[key] = self.value(value_node)
        pairs = merged | own
        return Repeating(pairs.items(), *repeated) if repeated else pairs

    def _merged(self, node: yaml.Node) -> dict[str, object]:
        """Return what ``<<`` merges: a mapping, or several, of which the first that has a key gives its value."""
        value = self.value(node)
        found: dict[str, object] = {}
        for mapping in reversed(value if isinstance(value, list) else [value]):
            if not isinstance(mapping, dict):
                raise self._error("<< needs a mapping, or a sequence of mappings", node)
            found |= mapping
        return found

    @staticmethod
    def _error(problem: str, node: yaml.Node) -> Exception:
        import yaml

        return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
