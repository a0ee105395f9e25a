"""Where in a file of policies its mistakes are."""

from __future__ import annotations

from collections.abc import Iterable
from json import JSONDecodeError

import msgspec

from cleaner.core.errors import ConfigurationError, InvalidPolicy, Mistake
from cleaner.core.pattern import capturing_groups
from cleaner.core.policy import Policy
from cleaner.inputs.yaml_document import InvalidYaml, Position, locate


class Located(msgspec.Struct, frozen=True):
    """A mistake, or what is likely one, and its place in the file; None if it has none, or that is not known."""

    mistake: Mistake
    position: Position | None

    def describe(self, name: str) -> str:
        """Return it as one sentence behind its place in the file ``name``."""
        where = f"{name}:{self.position.line}:{self.position.column}" if self.position else name
        steps = self.mistake.steps
        return f"{where}: {f'{steps}: ' if steps else ''}{self.mistake.text}"


def mistakes_of(error: ConfigurationError, text: str) -> list[Located]:
    """Return the mistakes for which a file with this text is refused, in its order, up to ``SHOWN_MAX``.

    Raises:
        ConfigurationError: ``error`` is not about the text.
    """
    cause = error.__cause__
    if isinstance(cause, InvalidYaml):
        return [Located(Mistake((), cause.problem), cause.position)]
    if not isinstance(error, InvalidPolicy):
        raise error
    if isinstance(cause, JSONDecodeError):
        return [Located(error.mistakes[0], Position(cause.lineno, cause.colno))]
    found = _located(error.mistakes[: error.SHOWN_MAX], text)
    return sorted(found, key=lambda one: (one.position.line, one.position.column) if one.position else (0, 0))


def repeated_groups(policies: Iterable[Policy], text: str) -> list[Located]:
    """Return the groups inside a repetition: they capture the last repetition only, which makes pools of that."""
    problem = "the group {} of {} is inside a repetition, and pools go by its last match alone"
    found = [
        Mistake((at, "tagged", position, "match"), problem.format(group.text, pattern.pattern))
        for at, policy in enumerate(policies)
        for position, rule in enumerate(policy.tagged)
        for pattern in rule.match
        for group in capturing_groups(pattern.pattern)
        if group.is_repeated
    ]
    return _located(found, text)


def _located(mistakes: Iterable[Mistake], text: str) -> list[Located]:
    mistakes = list(mistakes)
    # A mistake of the whole document is at no place.
    positions = locate(text, mistakes)
    return [Located(one, at if one.path else None) for one, at in zip(mistakes, positions, strict=True)]
