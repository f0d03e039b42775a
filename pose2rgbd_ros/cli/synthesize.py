"""`pose2rgbd synthesize WHAT RUN [RUN ...] --dataset DATASET`: pictures and videos that models make of a place."""

from __future__ import annotations

import dataclasses
import importlib
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.main import Job, one_of
from pose2rgbd_ros.cli.results import Json
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
    json: Json = False


@dataclasses.dataclass
class Interpolate:
    """Make more frames between the recorded ones, and score that on frames that were left out."""

    runs: Runs
    dataset: Folder
    out: Out
    options: Annotated[InterpolateConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=InterpolateConfig)
    json: Json = False


@dataclasses.dataclass
class Movers:
    """Show recorded views without cars and people, and score that against the simulator's mover-free twin."""

    runs: Runs
    dataset: Folder
    out: Out
    options: Annotated[MoversConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=MoversConfig)
    json: Json = False


def _make(module: str, function: str, arguments: Route | Interpolate | Movers) -> int:
    """Do one job, print its table and where the pictures are. UserError for bad input."""
    made = importlib.import_module(f"pose2rgbd_ros.synthesis.{module}")  # torch only once it is needed
    scores = getattr(made, function)(arguments.runs, arguments.dataset, arguments.out, arguments.options)
    text = made.table(scores)
    (arguments.out / "table.md").write_text(text + "\n")
    print(f"{text}\n\nlook at {arguments.out / 'sheet.png'}")
    written = results.files(sheet=arguments.out / "sheet.png", table=arguments.out / "table.md")
    results.add(scores=[dataclasses.asdict(score) for score in scores], files=written)
    return 0


_route, _interpolate = partial(_make, "route", "synthesize_routes"), partial(_make, "interpolate", "interpolate")
_movers = partial(_make, "movers", "remove_movers")
JOBS: dict[str, Job] = {
    "route": (Route, _route, "views along virtual routes: sheet with a map, videos"),
    "interpolate": (Interpolate, _interpolate, "more frames: video, sheet, scores of left-out frames"),
    "movers": (Movers, _movers, "views without cars and people, scored inside their masks"),
}


def main(argv: list[str]) -> int:
    """One of them."""
    return one_of(JOBS, "synthesize", argv)
