"""The modules of the program as syntax trees, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def sources() -> dict[str, ast.Module]:
    """Return every module of the package, and main, by name."""
    found = {"main": ROOT / "main.py"}
    for path in sorted((ROOT / "cleaner").rglob("*.py")):
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


def own_imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    return {name for name in imports(SOURCES[module]) if name in SOURCES and name not in PACKAGES}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def loaded_by(module: str) -> set[str]:
    """Return the modules of the package that are loaded with one, or may be by a call."""
    found, pending = {module}, [module]
    while pending:
        for name in own_imports(pending.pop()) - found:
            found.add(name)
            pending.append(name)
    return found


# Their ``__init__`` holds a docstring and nothing else.
PACKAGES = frozenset(name for name in SOURCES if any(other.startswith(f"{name}.") for other in SOURCES))
MODULES = sorted(SOURCES.keys() - PACKAGES)
