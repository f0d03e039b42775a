"""`pose2rgbd synthesize WHAT RUN [RUN ...] --dataset DATASET`: pictures and videos that models make of a place."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from pose2rgbd_ros.reports.table import aligned
from pose2rgbd_ros.synthesis.settings import InterpolateConfig, MoversConfig, RouteConfig

Runs = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(help="checkpoints that show colour, or the run folders around them; shown beside each other"),
]
Folder = Annotated[Path, tyro.conf.arg(help="the dataset's folder")]
Out = Annotated[Path, tyro.conf.arg(help="folder for the sheet, the videos and the table")]


@dataclasses.dataclass
class Route:
    """Fly virtual routes between two frames of a recording, straight and in a parabola, or along waypoints."""

    runs: Runs
    dataset: Folder
    out: Out
    options: Annotated[RouteConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=RouteConfig)


@dataclasses.dataclass
class Interpolate:
    """Make more frames between the recorded ones, and score that on frames that were left out."""

    runs: Runs
    dataset: Folder
    out: Out
    options: Annotated[InterpolateConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=InterpolateConfig)


@dataclasses.dataclass
class Movers:
    """Show recorded views without cars and people, and score that against the simulator's mover-free twin."""

    runs: Runs
    dataset: Folder
    out: Out
    options: Annotated[MoversConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=MoversConfig)


# What there is: its arguments, the module and function that do it, and a line about it.
KINDS: dict[str, tuple[Any, str, str, str]] = {
    "route": (Route, "route", "synthesize_routes", "views along virtual routes: sheet with a map, videos"),
    "interpolate": (Interpolate, "interpolate", "interpolate", "more frames: video, sheet, scores of left-out frames"),
    "movers": (Movers, "movers", "remove_movers", "views without cars and people, scored inside their masks"),
}


def usage() -> str:
    """The list of kinds."""
    rows = aligned((name, text) for name, (*_, text) in KINDS.items())
    return (
        f"usage: pose2rgbd synthesize WHAT [options]   (pose2rgbd synthesize WHAT --help tells its options)\n\n{rows}"
    )


def main(argv: list[str]) -> int:
    """Do one kind, print its table and where the pictures are; 2 when there is no such kind. UserError for bad
    input.
    """
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not argv or argv[0] not in KINDS:
        wrong = f"there is no '{argv[0]}' to synthesize" if argv else "synthesize what?"
        print(f"error: {wrong}\n\n{usage()}", file=sys.stderr)
        return 2
    kind, file, function, _ = KINDS[argv[0]]
    arguments: Any = tyro.cli(kind, args=argv[1:], prog=f"pose2rgbd synthesize {argv[0]}")
    module = importlib.import_module(f"pose2rgbd_ros.synthesis.{file}")  # torch only once it is needed
    scores = getattr(module, function)(arguments.runs, arguments.dataset, arguments.out, arguments.options)
    text = module.table(scores)
    (arguments.out / "table.md").write_text(text + "\n")
    print(f"{text}\n\nlook at {arguments.out / 'sheet.png'}")
    return 0
