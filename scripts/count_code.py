"""How large the package is and how it hangs together: files, lines, circles of imports, ROS parameters, words.

    python scripts/count_code.py [PACKAGE_FOLDER]     # of another checkout, to compare; parameters are counted here
    only

Lines are those of the files below pose2rgbd_ros/; circles are groups of files that import each other, late imports and
those for types included. Parameters are the fields of each node's settings but for those of its profile.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pose2rgbd_ros"
SMALL, LONG = 80, 120


def imports(folder: Path) -> dict[str, set[str]]:
    """Files of the package by dotted name, each with those it imports."""
    paths = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(folder).with_suffix("").parts)
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[name] |= {one if one in paths else node.module for one in whole} & set(paths) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files each of which reaches all others."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, stack = set(), list(graph[start])
        while stack:
            name = stack.pop()
            if name not in seen:
                seen.add(name)
                stack += graph[name]
        reach[start] = seen
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def parameters(folder: Path) -> dict[str, int]:
    """Parameters of each node, as it declares them."""
    from pose2rgbd_ros.settings import parameter_fields

    found = {}
    for path in sorted((folder / "nodes").rglob("*.py")):
        for name in re.findall(r"(?:self|\"\w+\"), settings or (\w+Settings)\(\)", path.read_text()):
            parts = path.relative_to(folder).with_suffix("").parts
            found[name] = len(parameter_fields(getattr(importlib.import_module(".".join((PACKAGE, *parts))), name)))
    return found


def words(text: str) -> int:
    """Words of a page: what has a letter or a digit."""
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def main() -> int:
    """Print the figures."""
    folder = Path(sys.argv[1]) / PACKAGE if len(sys.argv) > 1 else ROOT / PACKAGE
    lines = {path: len(path.read_text().splitlines()) for path in sorted(folder.rglob("*.py"))}
    longest = max(lines, key=lambda path: lines[path])
    groups = circles(imports(folder))
    print(f"files                  {len(lines)}")
    print(f"of at most {SMALL} lines   {sum(count <= SMALL for count in lines.values())}")
    print(f"lines                  {sum(lines.values())}")
    print(f"longest file           {lines[longest]}  {longest.relative_to(folder)}")
    print(f"circles of imports     {len(groups)}")
    for group in groups:
        print("                       " + ", ".join(name.removeprefix(f"{PACKAGE}.") for name in group))
    launch = sum(len(path.read_text().splitlines()) for path in (folder.parent / "launch").glob("*.py"))
    print(f"launch lines           {launch}")
    if folder == ROOT / PACKAGE:
        counted = parameters(folder)
        each = ", ".join(f"{name.removesuffix('Settings')} {count}" for name, count in counted.items())
        print(f"ROS parameters         {sum(counted.values())}  ({each})")
    docs = sorted((folder.parent / "docs").rglob("*.md"))
    print(f"words, README          {words((folder.parent / 'README.md').read_text())}")
    total, marks = (sum(count(path.read_text()) for path in docs) for count in (words, lambda text: len(text.split())))
    print(f"words, docs            {total}  (with the bars of tables and other marks {marks})")
    tracked = subprocess.run(
        ["git", "-C", str(folder.parent), "ls-files", "*.py", "*.md", "*.yaml"],
        capture_output=True,
        text=True,
        check=True,
    )
    texts = [(folder.parent / name).read_text().splitlines() for name in tracked.stdout.splitlines()]
    print(f"lines over {LONG} columns  {sum(len(line) > LONG for text in texts for line in text)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
