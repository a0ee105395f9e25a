"""Names that the code has and a page explains, read from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import click

from cleaner.cli.main import NAME, cli
from cleaner.core.rules import Reason
from cleaner.engine.executor import Outcome
from cleaner.schema import policies_schema
from cleaner.settings import Settings
from cleaner.views.document import GONE
from tests.emulator import scenarios
from tests.support.processes import ROOT

# With the settings that it is called with: Click remembers the names of the option for help that it sees first.
_GROUP = click.Context(cli, **cli.context_settings)
_LEVELS = ("debug", "info", "warning", "error", "critical")


class _Environment(dict[str, str]):
    """An environment that notes what is read of it."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: object = None) -> str | None:  # type: ignore[override]
        del default
        self.names.add(key)
        return dict.get(self, key)

    def __getitem__(self, key: str) -> str:
        self.names.add(key)
        return super().__getitem__(key)


def settings() -> set[str]:
    """Return the settings of the function, by what it reads of its environment."""
    environment = _Environment(POLICIES='[{"repositories": ["gcr.io/acme/**"]}]')
    Settings.from_environment(environment)
    return environment.names


def reasons() -> set[str]:
    return {reason.value for reason in Reason}


def outcomes() -> set[str]:
    """Return how a deletion that was planned can end without it."""
    return {outcome.value for outcome in Outcome if outcome is not Outcome.DELETED} | {GONE}


def keys(definition: str) -> set[str]:
    """Return the keys of a definition of the schema of policies, for example ``PolicyDocument``."""
    return set(policies_schema()["$defs"][definition]["properties"])


def defaults(definition: str) -> Mapping[str, object]:
    """Return the keys of a definition that have a default, with it."""
    properties = policies_schema()["$defs"][definition]["properties"]
    return {key: one["default"] for key, one in properties.items() if "default" in one}


def defaults_of_options() -> Mapping[str, str]:
    """Return what the help says of the defaults of options."""
    found = {}
    for command in cli.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and "Default: " in (parameter.help or ""):
                found[parameter.opts[-1]] = (parameter.help or "").partition("Default: ")[2]
    return found


def options() -> Mapping[str, set[str]]:
    """Return the names of each option of the command line, joined by a comma, with the commands that have it."""
    found: dict[str, set[str]] = {}
    for name, command in cli.commands.items():
        for parameter in command.get_params(click.Context(command, _GROUP)):
            if isinstance(parameter, click.Option):
                found.setdefault(", ".join(sorted(parameter.opts, key=len)), set()).add(name)
    return found


def texts() -> set[str]:
    """Return the texts in the code of the command line, those between the values of a formatted one too."""
    return {
        node.value
        for package in ("cli", "inputs", "views")
        for file in (ROOT / "cleaner" / package).glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def commands() -> set[str]:
    """Return how the commands are called, without options."""
    called = set()
    for name, command in cli.commands.items():
        context = click.Context(command, _GROUP)
        arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
        called.add(" ".join((NAME, name, *arguments)))
    return called


def variables() -> set[str]:
    """Return the variables of the environment that the help names."""
    _, _, rest = _GROUP.get_help().partition("Environment:\n")
    lines = re.findall(r"^  ([A-Z_, ]+)$", rest.partition("\n\n")[0], re.M)
    return {name for line in lines for name in line.split(", ")}


def scenarios_of_the_emulator() -> set[str]:
    """Return what the registry emulator can be filled with."""
    return {"demo", *(f"{name}=N" for name in ("burst", *scenarios._FILLERS))}


def exit_codes() -> set[str]:
    """Return the exit codes, as the help has them."""
    _, _, rest = _GROUP.get_help().partition("Exit codes:\n")
    return set(re.findall(r"^  (\d+)  ", rest.partition("\n\n")[0], re.M))


def terraform(kind: str) -> set[str]:
    """Return the variables, or outputs, of the module."""
    files = (ROOT / "terraform").glob("*.tf")
    return {name for file in files for name in re.findall(rf'^{kind} "(\w+)"', file.read_text(), re.M)}


def alerts() -> set[str]:
    """Return the titles of the module's alerts."""
    return set(re.findall(r'^ +title += "(.+)"', (ROOT / "terraform" / "alerts.tf").read_text(), re.M))


def log_messages() -> set[str]:
    """Return the messages of the function's log."""
    return {message for message, _ in _all_logged()}


def severities() -> Mapping[str, set[str]]:
    """Return the severities of each message whose severity is not decided at run time."""
    found: dict[str, set[str]] = {}
    for message, method in _all_logged():
        if method != "log":
            found.setdefault(message, set()).add(method.upper())
    return found


def _all_logged() -> Iterator[tuple[str, str]]:
    for file in (ROOT / "main.py", *(ROOT / "cleaner").rglob("*.py")):
        if file.parent.name != "cli":
            yield from _logged(ast.parse(file.read_text()))


def _logged(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each message with the method that it is logged by."""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Attribute) and _is_logger(call.func.value):
                    at = {"log": 1}.get(call.func.attr, 0 if call.func.attr in _LEVELS else None)
                    if at is not None:
                        yield from ((text, call.func.attr) for text in _texts(call.args[at], function, module))


def _is_logger(value: ast.expr) -> bool:
    """Whether it is ``logger``, or ``logging.getLogger(...)``."""
    match value:
        case ast.Name("logger") | ast.Call(func=ast.Attribute(attr="getLogger")):
            return True
    return False


def _texts(value: ast.expr, function: ast.FunctionDef, module: ast.Module) -> Iterator[str]:
    """Yield what a message can be: a text, one of a dictionary of the module, or what the function is called with."""
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Subscript(value=ast.Name(id=name)):
            (dictionary,) = (
                node.value
                for node in module.body
                if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == [name]
            )
            assert isinstance(dictionary, ast.Dict)
            yield from (text for one in dictionary.values for text in _texts(one, function, module))
        case ast.Name(id=name):
            at = [parameter.arg for parameter in function.args.args].index(name)
            for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == function.name:
                    yield from _texts(call.args[at], function, module)
        case _:
            raise AssertionError(f"no text: {ast.unparse(value)}")
