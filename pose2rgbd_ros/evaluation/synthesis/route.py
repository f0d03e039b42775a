"""`pose2rgbd synthesize route`: what models show along routes that nobody flew (PoseGAN, section 5.3 and figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.synthesis import routes
from pose2rgbd_ros.evaluation.synthesis.config import RouteConfig
from pose2rgbd_ros.evaluation.synthesis.nearest import NearestOther
from pose2rgbd_ros.evaluation.synthesis.showing import (
    Recording,
    Shower,
    common_camera,
    errors,
    load,
    trained_on,
)
from pose2rgbd_ros.evaluation.synthesis.strips import Strip, draw_strips
from pose2rgbd_ros.evaluation.synthesis.truth import true_views
from pose2rgbd_ros.evaluation.synthesis.video import panels, write_video
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.validation import spread

_COLOURS = ("tab:red", "tab:orange", "tab:purple")
TRUTH, NEAREST = "truth", "nearest frame"


@dataclass(frozen=True)
class RouteScore:
    """Of one route and one source of pictures: mean RGB error in 0..255 (NaN without truth), and share of poses inside
    the volume in which the guard would trust the model (NaN where there is no guard)."""

    route: str
    source: str
    rgb_mae_px: float
    inside: float


def synthesize_routes(runs: Sequence[Path], folder: Path, out: Path, config: RouteConfig) -> list[RouteScore]:
    """Write sheet.png and, for each route, a video into `out`; returns the scores, of the nearest frame too.

    UserError: bad checkpoints, dataset or waypoints, a route without length, no truth where it is asked for.
    """
    settings.check(config)
    models, dataset = load(runs, config.device), Dataset(folder)
    camera = common_camera(models, config.size)
    recording = Recording(dataset, camera)
    scores: list[RouteScore] = []
    strips: list[Strip] = []
    ways = _ways(dataset, config)
    known = np.flatnonzero(trained_on(dataset, models))
    known = known if len(known) else np.arange(len(dataset))
    nearest = NearestOther(dataset, known)
    for name, T in ways.items():
        pictures: dict[str, UInt8] = {model.title: model.show(T, camera) for model in models}
        pictures[NEAREST] = recording.frames(nearest(T))
        if config.truth:
            pictures[TRUTH] = true_views(dataset, T, camera)
        scores += _scores(name, models, T, pictures)
        strips += _strips(name, pictures, config.columns)
        video = out / f"route_{name}.mp4"
        write_video(
            video, (panels(each, pictures) for each in zip(*pictures.values(), strict=True)), config.rate_hz
        )
    draw_strips(
        out / "sheet.png",
        strips,
        f"{dataset.path.resolve().name}: views along routes that nobody flew",
        lambda axes: _draw_map(axes, dataset, ways, config.columns),
    )
    return scores


def table(scores: Sequence[RouteScore]) -> str:
    """The scores as a Markdown table."""
    columns = [
        Column("route"),
        Column("source", "picture"),
        Column("rgb_mae_px", "RGB error", ".1f", "0..255"),
        Column("inside", "poses inside the trained volume", ".0%"),
    ]
    return Table(columns, [vars(score) for score in scores]).markdown()


def _ways(dataset: Dataset, config: RouteConfig) -> dict[str, Float64]:
    if config.waypoints is not None:
        return {"waypoints": routes.along_file(config.waypoints, config.steps)}
    last = len(dataset) - 1
    end = last if config.end == -1 else config.end
    for name, frame in (("start", config.start), ("end", end)):
        if frame > last:
            raise UserError(f"{name} is {frame}, but {dataset.path} has the frames 0 to {last}")
    ends = dataset.T_map_cam[config.start], dataset.T_map_cam[end]
    return {
        "linear": routes.linear(*ends, config.steps),
        "parabola": routes.parabola(*ends, config.steps, config.bend),
    }


def _scores(route: str, models: Sequence[Shower], T: Float64, pictures: dict[str, UInt8]) -> list[RouteScore]:
    inside = {model.title: model.inside(T) for model in models}
    truth = pictures.get(TRUTH)
    return [
        RouteScore(
            route,
            name,
            float("nan") if truth is None else float(errors(shown, truth).mean()),
            inside.get(name, float("nan")),
        )
        for name, shown in pictures.items()
        if name != TRUTH
    ]


def _strips(route: str, pictures: dict[str, UInt8], columns: int) -> list[Strip]:
    shown = spread(np.arange(len(next(iter(pictures.values())))), columns)
    titles = [f"{route} {number}" for number in range(1, len(shown) + 1)]
    return [
        Strip(name, list(images[shown]), titles if not row else ())
        for row, (name, images) in enumerate(pictures.items())
    ]


def _draw_map(axes: Axes, dataset: Dataset, ways: dict[str, Float64], columns: int) -> None:
    track = dataset.T_map_cam[:, :2, 3]
    axes.plot(*track.T, ".", color="0.75", markersize=1.5, label="recorded frames")
    for colour, (name, T) in zip(_COLOURS, ways.items(), strict=False):
        axes.plot(*T[:, :2, 3].T, color=colour, label=name)
        for number, at in enumerate(spread(np.arange(len(T)), columns), 1):
            axes.annotate(
                str(number),
                (float(T[at, 0, 3]), float(T[at, 1, 3])),
                color=colour,
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
            heading = T[at, :2, 2] / max(float(np.linalg.norm(T[at, :2, 2])), 1e-9)
            axes.quiver(*T[at, :2, 3], *heading, color=colour, width=0.006, scale=18)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("x, east [m]", fontsize=7)
    axes.set_ylabel("y, north [m]", fontsize=7, labelpad=0)
    axes.tick_params(labelsize=6)
    axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, 1.09), ncols=3, frameon=False)
