"""Imports point strictly down, the core touches nothing outside, and each outside thing has its one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cleaner"

# Every module of the package and the floor that it stands on; what it imports stands below.  A package stands for
# all of its modules, which may import one another.
FLOORS = {
    "cleaner.errors": 0,
    "cleaner.logs": 0,
    "cleaner.pace": 0,
    "cleaner.recent": 0,
    "cleaner.times": 0,
    "cleaner.reference": 1,
    "cleaner.transport": 1,
    "cleaner.credentials": 1,
    "cleaner.publisher": 1,
    "cleaner.policy": 2,
    "cleaner.manifest": 2,
    "cleaner.coalescing": 2,
    "cleaner.tokens": 2,
    "cleaner.rest": 2,
    "cleaner.running": 2,
    "cleaner.graph": 3,
    "cleaner.notification": 3,
    "cleaner.settings": 3,
    "cleaner.artifact_registry": 3,
    "cleaner.plan": 4,
    "cleaner.registry": 4,
    "cleaner.executor": 5,
    "cleaner.inventory": 5,
    "cleaner.refusals": 5,
    "cleaner.sweep": 5,
    "cleaner.prune": 6,
    "cleaner.function": 7,
    "main": 8,
    "cleaner.cli": 8,
    "cleaner.__main__": 9,
}

# Functions of values: the same in, the same out.
CORE = ("cleaner.reference", "cleaner.policy", "cleaner.manifest", "cleaner.graph", "cleaner.plan")
OUTSIDE = frozenset(
    {
        "asyncio",
        "builtins.open",
        "cleaner.logs",
        "concurrent",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "requests",
        "secrets",
        "select",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "urllib3",
        "uuid",
    }
)
# Names of the standard library that read a clock, the environment or a file, whatever they were imported as.
READING = frozenset({"now", "utcnow", "today", "environ", "getenv", "stdout", "stderr", "argv"})
READING_CALLS = frozenset({"open", "print", "input", "exec", "eval"})

# The one place of each outside thing.
PLACES = {
    "requests": {"cleaner.transport", "cleaner.credentials"},
    "urllib3": {"cleaner.transport"},
    "socket": {"cleaner.transport"},
    "http": {"cleaner.transport"},
    "google": {"cleaner.credentials", "cleaner.publisher"},
    "re2": {"cleaner.policy"},
    "flask": {"main"},
    "functions_framework": {"main"},
    "cloudevents": {"main"},
}
# What only the command line needs.
COMMAND_LINE = ("argparse", "rich", "rich_argparse", "shtab", "yaml")


def sources() -> dict[str, ast.Module]:
    """Return every module of the package, and main, by name."""
    found = {"main": ROOT / "main.py"}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return {name: ast.parse(path.read_text()) for name, path in found.items()}


SOURCES = sources()


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the full names of all that a module imports, wherever it does; of ``from a import b`` both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it points"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(tree: ast.Module) -> set[str]:
    """Return the modules of the package that a module imports."""
    return {name for name in imports(tree) if name in SOURCES and name != "cleaner"}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def storey(module: str) -> str:
    """Return the entry of the table that speaks for a module."""
    return next((entry for entry in FLOORS if is_within(module, entry)), module)


MODULES = sorted(SOURCES.keys() - {"cleaner"})


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_floor(module: str) -> None:
    """A new one gets its place in the table above."""
    assert storey(module) in FLOORS


def test_table_names_nothing_that_is_not_there() -> None:
    """An entry that is left over would say something about nobody."""
    assert {storey(module) for module in MODULES} == FLOORS.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_strictly_down(module: str) -> None:
    """So that whoever reads a module needs to know nothing of those above it."""
    floor = FLOORS[storey(module)]
    others = {storey(name) for name in own(SOURCES[module])} - {storey(module)}

    assert {name for name in others if FLOORS[name] >= floor} == set()


@pytest.mark.parametrize("module", CORE)
def test_core_imports_nothing_outside(module: str) -> None:
    """No clock, no network, no environment, no log, no threads, no chance."""
    imported = set(imports(SOURCES[module]))

    assert {name for name in imported for outside in OUTSIDE if is_within(name, outside)} == set()
    assert {name for name in imported if is_within(name, "cleaner")} <= {
        name
        for name in imported
        for allowed in (*CORE, "cleaner.errors", "cleaner.times")
        if is_within(name, allowed)
    }


@pytest.mark.parametrize("module", CORE)
def test_core_reads_nothing_outside(module: str) -> None:
    """The time comes as a value; so does everything else."""
    nodes = list(ast.walk(SOURCES[module]))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    assert attributes & READING == set()
    assert calls & READING_CALLS == set()


@pytest.mark.parametrize("outside", PLACES)
def test_outside_thing_has_its_one_place(outside: str) -> None:
    """The transport alone speaks HTTP; Google's libraries are behind two doors."""
    users = {module for module in MODULES if any(is_within(name, outside) for name in imports(SOURCES[module]))}

    assert {module for module in users if not is_within(module, "cleaner.cli")} <= PLACES[outside]


def test_credentials_use_google_auths_own_requests() -> None:
    """Not requests itself."""
    imported = set(imports(SOURCES["cleaner.credentials"]))

    assert not {name for name in imported if is_within(name, "requests")}


def loaded_by(module: str) -> set[str]:
    """Return the modules of the package that are loaded with one, or may be by a call."""
    found, pending = {module}, [module]
    while pending:
        for name in own(SOURCES[pending.pop()]) - found:
            found.add(name)
            pending.append(name)
    return found


def test_function_loads_nothing_of_the_command_line() -> None:
    """Nor a package that only that needs; the function's archive does not have them."""
    loaded = loaded_by("main")

    assert {"cleaner.function", "cleaner.plan", "cleaner.transport"} <= loaded
    assert not {module for module in loaded if is_within(module, "cleaner.cli") or module == "cleaner.__main__"}
    for module in loaded:
        imported = set(imports(SOURCES[module]))
        assert {name for name in imported for package in COMMAND_LINE if is_within(name, package)} == set(), module


@pytest.mark.parametrize("module", MODULES)
def test_broad_handlers_are_nowhere(module: str) -> None:
    """Errors are told apart by who must act; what nobody expected has to be seen."""
    broad = [
        node.lineno
        for node in ast.walk(SOURCES[module])
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]

    assert broad == []


@pytest.mark.parametrize("module", MODULES)
def test_patterns_of_the_standard_library_are_matched_whole(module: str) -> None:
    """``match`` and ``$`` let a trailing newline through."""
    called = {node.attr for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Attribute)}

    assert is_within(module, "cleaner.cli") or not called & {"match", "search"}
