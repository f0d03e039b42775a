"""Pages of the documentation site that are made when it is built, from what lies elsewhere in the repository: the
figures of bench/results, the list of decisions, and what `pose2rgbd COMMAND --help` says of every command.

docs/conf.py calls it; none of these pages is committed. Links between pages are as on a code host, relative to the file
in the repository; `site_links` turns them into links of the site.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

LINK = re.compile(r"(\]\(|\]: )([^)\s#]+)(?=[#)\s]|$)")
DEEPEST = 3  # words of a command: depth train sfmlearner
# Where a folder of the repository is on the site, and what a link to the folder itself means.
ROOMS = {"docs/decisions": "decisions/index.md", "bench/results": "figures/index.md"}


def site_path(target: str, root: Path) -> str:
    """Where a file of the repository is on the site, relative to its root; files that are no page lie in `files/`."""
    path = PurePosixPath(target)
    if target.rstrip("/") in ROOMS:
        return ROOMS[target.rstrip("/")]
    if path.parts[:2] == ("bench", "results"):
        return str(PurePosixPath("figures", *path.parts[2:]))
    if path.parts[:1] == ("docs",):
        return str(PurePosixPath(*path.parts[1:]))
    return {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}.get(target, f"files/{target}")


def site_links(text: str, page: str, root: Path, here: str | None = None) -> tuple[str, list[str]]:
    """The text of a page with links of the site, and the files of the repository that `files/` needs for them.

    `page` is its file in the repository and `here` its place on the site, where that does not follow from it.
    """
    here = here or site_path(page, root)
    needed = []

    def turned(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(page).parent / match[2])
        if re.match(r"\w+:", match[2]) or not (root / target).exists():
            return match[0]
        place = site_path(target, root)
        if place.startswith("files/"):
            needed.append(target)
        return match[1] + os.path.relpath(place, PurePosixPath(here).parent)

    return LINK.sub(turned, text), needed


# The command line -----------------------------------------------------------------------------------------------------


@dataclass
class Group:
    """Options that belong together, as `--help` frames them."""

    title: str
    about: str = ""
    rows: list[list[str]] = field(default_factory=list)  # of an option: how it is written, what it does


@dataclass
class Help:
    """What a command says of itself."""

    usage: str
    about: str
    groups: list[Group]


def read_help(text: str) -> Help:
    """The printed help, taken apart: usage, then paragraphs, then frames of options."""
    head, *frames = re.split(r"^╭─ ", text, flags=re.MULTILINE)
    usage, _, about = head.partition("\n\n")
    return Help(" ".join(usage.removeprefix("usage: ").split()), about.strip(), [_group(frame) for frame in frames])


def _group(frame: str) -> Group:
    title, _, body = frame.partition("\n")
    group = Group(title.strip(" ─╮"))
    lines = [line[2:].rstrip(" │") for line in body.splitlines() if line.startswith("│")]
    for rule in [at for at, line in enumerate(lines) if re.fullmatch(r"─+", line.strip())][:1]:
        group.about, lines = " ".join(lines[:rule]), lines[rule + 1 :]
    for line in lines:
        if line and not line.startswith(" "):
            written, _, does = line.partition("  ")
            group.rows.append([written, does.strip()])
        elif line.strip() and group.rows:
            group.rows[-1][1] = f"{group.rows[-1][1]} {line.strip()}".strip()
    group.rows = [row for row in group.rows if not row[0].startswith("-h, --help")]
    return group


def _said(*command: str) -> str:
    """What a command prints for --help."""
    from pose2rgbd_ros.cli.main import main

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # tyro frames options where the stream can show it
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    said.seek(0)
    return said.read()


def helps(command: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """A command and all below it, with what each prints. Where a command only lists others, those come after it."""
    said = _said(*command)
    yield tuple(command), said
    if "╭─" in said or not re.match(r"usage: .* (WHAT|MODEL)\b", said) or len(command) == DEEPEST:
        return
    for listed in re.findall(r"^  (\S+?),?(?= )", said, re.MULTILINE):
        yield from helps((*command, listed.replace("-N", "-10")))


def _markdown(command: tuple[str, ...], said: str) -> str:
    title = f"{'#' * min(len(command), 3)} {' '.join(command if len(command) > 1 else ('pose2rgbd', *command))}"
    if "╭─" not in said:
        return f"{title}\n\n```text\n{said.strip()}\n```\n"
    shown = read_help(said)
    blocks = [title, f"```text\n{shown.usage}\n```", _plain(shown.about)]
    for group in shown.groups:
        if group.rows:
            rows = [f"| `{written.replace('{None}|', '')}` | {_plain(does)} |" for written, does in group.rows]
            rows = [re.sub(r"(?<!\\)\|(?=[^ ])", r"\\|", row) for row in rows]
            heading = f"**{group.title.capitalize()}**" + (f": {_plain(group.about)}" if group.about else "")
            blocks += [heading, "\n".join(["| | |", "|---|---|", *rows])]
    return "\n\n".join(blocks) + "\n"


def _plain(text: str) -> str:
    """Text that is no Markdown, as Markdown."""
    return re.sub(r"([*_<>\[\]`|])", r"\\\1", html.unescape(text.replace(" (default: None)", "")))


def command_pages() -> dict[str, str]:
    """reference/cli/COMMAND.md for every command, and their list."""
    from pose2rgbd_ros.cli.main import COMMANDS

    os.environ["COLUMNS"] = "118"
    pages = {
        f"reference/cli/{name}.md": "\n".join(_markdown(command, said) for command, said in helps([name]))
        for name in COMMANDS
    }
    rows = [f"| [{name}]({name}.md) | {_plain(text)} |" for name, (_, text) in COMMANDS.items()]
    table = "\n".join(["| `pose2rgbd` | |", "|---|---|", *rows])
    pages["reference/cli/index.md"] = f"# Command line\n\nAs `--help` prints it.\n\n{table}\n\n{_toctree(COMMANDS)}"
    return pages


# All of them ----------------------------------------------------------------------------------------------------------


def _toctree(names: Iterable[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```", ""])


def _title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")


def below(folder: Path) -> str:
    """What puts the pages of a folder below its README in the site's navigation."""
    return "\n" + _toctree(sorted(path.stem for path in folder.glob("*.md") if path.stem != "README"))


def _room(pages: dict[str, str], title: str, about: str) -> str:
    """A page that lists the pages beside it."""
    own = {PurePosixPath(name).stem: _title(text) for name, text in sorted(pages.items())}
    rows = "\n".join(f"- [{heading}]({name}.md)" for name, heading in own.items())
    return f"# {title}\n\n{about}\n\n{rows}\n\n{_toctree(own)}"


def made_pages(root: Path) -> tuple[dict[str, str], list[str]]:
    """Place on the site -> text, of pages that do not stand in docs/; and files that are linked and no pages."""
    pages, files = {}, []
    for path in [*sorted((root / "bench" / "results").rglob("*.md")), root / "CONTRIBUTING.md"]:
        page = path.relative_to(root).as_posix()
        text, needed = site_links(path.read_text(), page, root)
        heading = "" if re.match(r"# ", text) else f"# {path.stem.replace('_', ' ').capitalize()}\n\n"
        pages[site_path(page, root)] = heading + text
        files += needed
    figures = {name: text for name, text in pages.items() if name.startswith("figures/")}
    pages["figures/index.md"] = _room(
        figures, "Figures", "What was measured, by which command, on which machine: `bench/results/`."
    )
    decisions = {path.name: path.read_text() for path in (root / "docs" / "decisions").glob("0*.md")}
    pages["decisions/index.md"] = _room(
        decisions, "Decisions", "Why things are as they are, for whoever wants to change one."
    )
    return pages | command_pages(), files


def write_pages(root: Path, site: Path) -> None:
    """Write them below `site`, those that changed; pictures and files beside them."""
    pages, files = made_pages(root)
    for name, text in pages.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for picture in (root / "bench" / "results").rglob("*.[pj][np]g"):
        copy(picture, site / site_path(picture.relative_to(root).as_posix(), root))
    for name in files:
        copy(root / name, site / "files" / name)


def copy(source: Path, target: Path) -> None:
    """A file, or nothing where it is a folder."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
