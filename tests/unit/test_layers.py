"""Imports point down, what decides or shows does no I/O, and each outside library is used in one place."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter

import pytest

from tests.support.sources import MODULES, PACKAGES, SOURCES, imports, is_within, loaded_by, own_imports

# Each layer, and the layers that it may import.  A layer is a package, or the modules at the edge of the function.
EDGE = ("cleaner.function", "cleaner.settings", "cleaner.logs", "cleaner.coalescing")
LAYERS: dict[str, tuple[str, ...]] = {
    "cleaner.core": (),
    "cleaner.google": ("cleaner.core",),
    "cleaner.engine": ("cleaner.core", "cleaner.google"),
    **dict.fromkeys(EDGE, ("cleaner.core", "cleaner.google", "cleaner.engine", *EDGE)),
    "cleaner.views": ("cleaner.core", "cleaner.engine"),
    "cleaner.inputs": ("cleaner.core", "cleaner.settings"),
    "cleaner.cli": (
        *(f"cleaner.{name}" for name in ("core", "google", "engine", "settings", "logs", "release")),
        *("cleaner.inputs", "cleaner.views"),
    ),
    "main": ("cleaner.core", "cleaner.release", *EDGE),
    "cleaner.release": (),
    "cleaner.schema": ("cleaner.core",),
    "cleaner.__main__": ("cleaner.cli",),
}
PURE = [module for module in MODULES if is_within(module, "cleaner.core") or is_within(module, "cleaner.views")]
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
READING = frozenset({"environ", "stdout", "stderr", "argv"})
READING_CALLS = frozenset({"now", "utcnow", "today", "getenv", "open", "print", "input", "exec", "eval"})

# The one place of each outside thing.
PLACES = {
    "requests": {"cleaner.google.transport", "cleaner.google.credentials"},
    "urllib3": {"cleaner.google.transport"},
    "socket": {"cleaner.google.transport"},
    "http": {"cleaner.google.transport"},
    "google": {"cleaner.google.credentials", "cleaner.google.pubsub"},
    "re2": {"cleaner.core.pattern"},
    "flask": {"main"},
    "functions_framework": {"main"},
    "cloudevents": {"main"},
}
# What only the command line needs.
COMMAND_LINE = ("click", "jinja2", "rich", "yaml")


def layer_of(module: str) -> str:
    """Return the layer of a module."""
    return next(layer for layer in LAYERS if is_within(module, layer))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A module can be read without knowing the layers above it."""
    layer = layer_of(module)

    assert {layer_of(name) for name in own_imports(module)} <= {layer, *LAYERS[layer]}


def test_imports_have_no_cycle() -> None:
    """Also within a layer, so the modules can be read in an order."""
    order = [*TopologicalSorter({module: own_imports(module) for module in MODULES}).static_order()]

    assert sorted(order) == MODULES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_package_defines_no_names(package: str) -> None:
    """Each name is imported from one module."""
    assert [type(node) for node in SOURCES[package].body] == [ast.Expr]


@pytest.mark.parametrize("module", PURE)
def test_what_decides_and_shows_imports_nothing_outside(module: str) -> None:
    """No clock, network, environment, log, threads or random numbers."""
    imported = set(imports(SOURCES[module]))

    assert {name for name in imported for outside in OUTSIDE if is_within(name, outside)} == set()


@pytest.mark.parametrize("module", PURE)
def test_what_decides_and_shows_reads_nothing_outside(module: str) -> None:
    """The time is passed as a value."""
    nodes = list(ast.walk(SOURCES[module]))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    calls = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in called
        if isinstance(node, ast.Name | ast.Attribute)
    }

    assert attributes & READING == set()
    assert calls & READING_CALLS == set()


@pytest.mark.parametrize("outside", PLACES)
def test_outside_library_is_used_in_one_place(outside: str) -> None:
    """HTTP is in the transport; Google's libraries are in two modules."""
    users = {module for module in MODULES if any(is_within(name, outside) for name in imports(SOURCES[module]))}

    assert {module for module in users if not is_within(module, "cleaner.cli")} <= PLACES[outside]


def test_credentials_use_google_auths_own_requests() -> None:
    """Only the transport uses requests itself."""
    imported = set(imports(SOURCES["cleaner.google.credentials"]))

    assert not {name for name in imported if is_within(name, "requests")}


def test_function_loads_nothing_of_the_command_line() -> None:
    """Nor a package that only the command line needs: the function's archive has neither."""
    loaded = loaded_by("main")

    assert {"cleaner.function", "cleaner.core.plan", "cleaner.google.transport"} <= loaded
    seldom = ("cleaner.cli", "cleaner.inputs", "cleaner.views")
    assert not {module for module in loaded for package in seldom if is_within(module, package)}
    assert not loaded & {"cleaner.__main__", "cleaner.schema"}
    for module in loaded:
        imported = set(imports(SOURCES[module]))
        assert {name for name in imported for package in COMMAND_LINE if is_within(name, package)} == set(), module


@pytest.mark.parametrize("module", MODULES)
def test_no_handler_catches_every_exception(module: str) -> None:
    """An unexpected exception must not be hidden."""
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
def test_regexes_are_matched_with_fullmatch(module: str) -> None:
    """``match`` with ``$`` accepts a trailing newline."""
    called = {
        node.func.attr
        for node in ast.walk(SOURCES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert not called & {"match", "search"}
