"""Files do not import each other in a circle; between folders `lint-imports` checks the direction."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "pose2rgbd_ros"


def modules(root: Path) -> dict[str, Path]:
    """Files by dotted name; a package by its own."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Files of the package that a file imports, anywhere in it: late imports and those for types count."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def circle(root: Path) -> list[str]:
    """The files of one circle of imports; empty without one."""
    known = modules(root)
    graph = {
        name: {other for other in imported(path, known) if other in known and other != name}
        for name, path in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_imports() -> None:
    assert circle(ROOT) == []


@pytest.mark.parametrize("late", [False, True])
def test_a_circle_is_found(tmp_path: Path, late: bool) -> None:
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "a.py").write_text(f"from {PACKAGE}.b import B\n")
    (folder / "b.py").write_text(f"def f():\n    from {PACKAGE} import a\n" if late else f"import {PACKAGE}.a\n")
    assert set(circle(tmp_path)) == {f"{PACKAGE}.a", f"{PACKAGE}.b"}
