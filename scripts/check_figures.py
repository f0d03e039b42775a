"""Name the figures whose code is newer than they are, and those that nothing says how to make again.

    python scripts/check_figures.py            # names old pages; exit status 1 only for what a minute repairs
    python scripts/check_figures.py --all      # with a line a page: what changed, and the command that makes it again
    python scripts/check_figures.py --strict   # also 1 for an old page that `pose2rgbd bench quick` makes

`bench/results/sources.yaml` says of every page which command makes it and which code it measures. A page is old when
that code is not what it was at the page's last commit; comments, docstrings and layout do not count. Not dates are
compared but contents, so a page measured on a branch is old once other code has been merged to it.

Repaired in a minute: a page that is not in sources.yaml, or the other way round; code or a script that is not there; a
link to a page that is not there; a paragraph of README with a figure that names no page and no command.

Why old pages only warn: docs/decisions/0022-figures-and-their-code.md.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("bench") / "results"
SETS = ("quick", "full", "alone", "past")
SCRIPT = re.compile(r"^python (bench/\S+\.py)")
# A number with a unit that something was measured in; sizes of images (px) and durations of trainings are settings.
FIGURE = re.compile(r"\d\s?(?:%|Hz|FPS|ms|dB|m|MB|of 255|CPU-\w+)(?![\w/])")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
COMMAND = re.compile(r"`(?:make|pose2rgbd|python) [^`]+`")


@dataclass(frozen=True)
class Old:
    """A page whose code is another now: `changed` are the files."""

    page: str
    set: str
    command: str
    changed: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.changed) - 1} more" if len(self.changed) > 1 else ""
        return f"{RESULTS / self.page}.md ({self.set}): {self.changed[0]}{more} changed; again by `{self.command}`"


def sources(root: Path) -> dict[str, dict[str, Any]]:
    """By page what sources.yaml says of it."""
    return yaml.safe_load((root / RESULTS / "sources.yaml").read_text()) or {}


def measured_code(source: dict[str, Any]) -> list[str]:
    """Paths that a page measures: the code it names, and the script of its command."""
    script = SCRIPT.match(source.get("command", ""))
    return [*source.get("code", []), *([script[1]] if script else [])]


def mistakes(root: Path) -> Iterator[str]:
    """What is wrong whatever the history says, a line each."""
    known = sources(root)
    pages = {path.stem for path in (root / RESULTS).glob("*.md")}
    where = RESULTS / "sources.yaml"
    for page in sorted(pages - known.keys()):
        yield f"{RESULTS / page}.md is not in {where}: say there which command makes it and what code it measures"
    for page, source in known.items():
        if page not in pages:
            made = source.get("command")
            yield f"{where}: {page}: there is no {RESULTS / page}.md; make it by `{made}`, or remove it here"
        if source.get("set") not in SETS:
            yield f"{where}: {page}: set is {source.get('set')!r}; choose one of: {', '.join(SETS)}"
        elif source["set"] != "past" and not (source.get("command") and source.get("code")):
            yield f"{where}: {page}: command and code are missing"
        for path in measured_code(source):
            if not (root / path).exists():
                yield f"{where}: {page}: {path} does not exist; name what it measures now"
    yield from _links(root)
    yield from _readme(root)


def _links(root: Path) -> Iterator[str]:
    """Links of README and docs to results that are not there."""
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for link in LINK.findall(path.read_text() if path.exists() else ""):
            if RESULTS.as_posix() in link and not (path.parent / link).exists():
                yield f"{path.relative_to(root)}: the link to {link} leads nowhere"


def _readme(root: Path) -> Iterator[str]:
    """Paragraphs of README with a figure, that name neither a page of results, nor one that does, nor a command.

    A table belongs to the paragraph before it.
    """
    if not (root / "README.md").exists():
        return
    blocks = re.split(r"\n\s*\n(?!\|)", (root / "README.md").read_text())
    for block in blocks:
        prose = "\n".join(line for line in block.splitlines() if not line.startswith("    "))  # not commands
        if (
            FIGURE.search(prose)
            and not COMMAND.search(prose)
            and not any(_leads(root, to) for to in LINK.findall(prose))
        ):
            yield f"README.md: figures that name no page: {' '.join(prose.split())[:70]} ..."


def _leads(root: Path, link: str) -> bool:
    """Whether a link is to results, or to a page of docs that has such a link."""
    path = root / link
    if RESULTS.as_posix() in link:
        return path.exists()
    return path.suffix == ".md" and path.is_file() and RESULTS.as_posix() in path.read_text()


def old_pages(root: Path) -> list[Old]:
    """Pages whose code changed since. OSError: git is not there, or no history is."""
    found = []
    for page, source in sources(root).items():
        code = measured_code(source)
        measured = git(root, "log", "-1", "--format=%H", "--", str(RESULTS / f"{page}.md"))
        if source.get("set") == "past" or not measured or not code:
            continue
        changed = tuple(_changed(root, measured[0].strip(), code))
        if changed:
            found.append(Old(page, source["set"], source["command"], changed))
    return found


def _changed(root: Path, since: str, code: list[str]) -> Iterator[str]:
    """Files that do something else than at a commit, or are new or gone."""
    # A line a file: ":mode mode blob blob status<tab>path".
    for line in git(root, "diff", "--raw", "--no-renames", "--abbrev=40", since, "HEAD", "--", *code):
        facts, path = line.split("\t", 1)
        before, after = facts.split()[2:4]
        if _meaning(root, before, path) != _meaning(root, after, path):
            yield path


@cache
def _meaning(root: Path, blob: str, path: str) -> str:
    """A file's content; of Python what it does, without comments, docstrings and layout."""
    if not blob.strip("0"):
        return ""  # the file is not there
    text = _git(root, "cat-file", "blob", blob)
    if not path.endswith(".py"):
        return text
    try:
        tree = ast.parse(text)
    except SyntaxError:  # of a commit that was never right, or of a newer Python
        return text
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return ast.dump(tree)


def shallow(root: Path) -> bool:
    """Whether the history was cut off: what is older than it cannot be judged, and counts as its first commit."""
    return git(root, "rev-parse", "--is-shallow-repository") == ["true"]


def git(root: Path, *arguments: str) -> list[str]:
    """Lines of git's answer. OSError: git is not there, or this is not its checkout."""
    return _git(root, *arguments).splitlines()


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise OSError((done.stderr.strip() or "git failed").splitlines()[0])
    return done.stdout


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Print what is wrong and what is old; 1 for the former, with --strict also for old pages of the quick set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a line for every old page")
    parser.add_argument("--strict", action="store_true", help="old pages of the quick set fail too")
    options = parser.parse_args(argv)
    wrong = list(mistakes(root))
    for line in wrong:
        print(f"error: {line}")
    old: list[Old] = []
    try:
        if shallow(root):
            print("note: the history is cut off (a shallow clone): what is older than it is not judged")
        old = old_pages(root)
    except OSError as error:
        print(f"note: without git's history ages are unknown ({error})")
    for page in old:
        if options.all or page.set == "quick":
            print(f"{'error' if options.strict and page.set == 'quick' else 'warning'}: {page}")
    for set_ in () if options.all else SETS[1:]:
        names = [page.page for page in old if page.set == set_]
        if names:
            print(f"warning: older than their code (set {set_}; --all says more): {', '.join(names)}")
    print(f"{len(sources(root))} pages of figures, {len(old)} older than their code, {len(wrong)} to repair")
    return 1 if wrong or (options.strict and any(page.set == "quick" for page in old)) else 0


if __name__ == "__main__":
    sys.exit(main())
