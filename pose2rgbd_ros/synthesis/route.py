"""`pose2rgbd synthesize route`: what models show along routes never flown (PoseGAN, section 5.3 and figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3, trajectory
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.sim.flights.route import read_waypoints
from pose2rgbd_ros.streams.video_write import panels, write_video
from pose2rgbd_ros.synthesis.common import (
    NearestOther,
    Recording,
    Shower,
    Strip,
    common_camera,
    draw_strips,
    errors,
    load,
    trained_on,
    true_views,
)
from pose2rgbd_ros.synthesis.settings import RouteConfig
from pose2rgbd_ros.training.metrics import spread

# Virtual routes: poses never flown.


DOWN_RAD = np.deg2rad(50.0)  # how far cameras look below the horizon where a waypoint file does not say


def route_between(start: Float64, end: Float64, share: Float64) -> Float64:
    """Poses (N, 4, 4) at parts `share` (N,) of the way: position on the line, rotation on the shortest arc.

    `start` and `end` (4, 4). The paper's frame interpolation (section 6.2) and its linear route (section 5.3).
    """
    ends = [np.concatenate(se3.split(T))[:, None] for T in (start, end)]
    found = np.array(trajectory.interpolate_linear(np, ends[0], ends[1], np.asarray(share, dtype=np.float64)))
    return se3.make(found[:3].T, found[3:].T)


def linear_route(start: Float64, end: Float64, count: int) -> Float64:
    """Route A of the paper's figure 5: (count, 4, 4) from one pose to another. UserError: both in one place."""
    _require_apart(start, end)
    return route_between(start, end, np.linspace(0.0, 1.0, count))


def parabola_route(start: Float64, end: Float64, count: int, bend: float) -> Float64:
    """Route B of the paper's figure 5: the same, bent sideways by `bend` of its length at its middle, left if positive.

    How far and to which side the paper's parabola bends it does not say: this is a reconstruction. It bends in the
    horizontal plane, or along map x where the way leads straight up. UserError: both poses in one place.
    """
    route = linear_route(start, end, count)
    chord = end[:3, 3] - start[:3, 3]
    left = np.array([-chord[1], chord[0], 0.0])
    length = np.linalg.norm(left)
    left = left / length if length > 1e-6 * np.linalg.norm(chord) else np.array([1.0, 0.0, 0.0])
    u = np.linspace(0.0, 1.0, count)
    route[:, :3, 3] += (4 * u * (1 - u) * bend * np.linalg.norm(chord))[:, None] * left
    return route


def route_along_file(path: Path, count: int) -> Float64:
    """Poses (count, 4, 4) evenly along the lines through a waypoint file, `x y z [yaw_deg [pitch_deg]]` in the map.

    Cameras are level; without yaw they look along the way, without pitch 50 degrees down. UserError: a bad file.
    """
    points = read_waypoints(path)
    steps = np.diff(points.position_m, axis=0)
    passed = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
    at = np.interp(np.linspace(0.0, passed[-1], count), passed, np.arange(len(passed)))
    known = np.arange(len(passed))
    position = np.stack([np.interp(at, known, values) for values in points.position_m.T], axis=-1)
    if points.yaw_rad is None:
        course = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        yaw = course[np.minimum(at.astype(int), len(steps) - 1)]
    else:
        yaw = np.interp(at, known, points.yaw_rad)
    down = np.full(count, DOWN_RAD) if points.down_rad is None else np.interp(at, known, points.down_rad)
    return _level(position, yaw, down)


def _level(position_m: Float64, yaw_rad: Float64, down_rad: Float64) -> Float64:
    """Optical frames (N, 4, 4) whose x axis is horizontal; the top of a camera looking straight down is ahead."""
    ahead = np.stack([np.cos(yaw_rad), np.sin(yaw_rad), np.zeros_like(yaw_rad)], axis=-1)
    up = np.array([0.0, 0.0, 1.0])
    T = np.tile(np.eye(4), (len(position_m), 1, 1))
    T[:, :3, 2] = np.cos(down_rad)[:, None] * ahead - np.sin(down_rad)[:, None] * up
    T[:, :3, 1] = -np.sin(down_rad)[:, None] * ahead - np.cos(down_rad)[:, None] * up
    T[:, :3, 0] = np.cross(T[:, :3, 1], T[:, :3, 2])
    T[:, :3, 3] = position_m
    return T


def _require_apart(start: Float64, end: Float64) -> None:
    if np.linalg.norm(end[:3, 3] - start[:3, 3]) < 1e-6:
        raise UserError("the route starts and ends in the same place; choose other frames with --start and --end")


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
        write_video(video, (panels(each, pictures) for each in zip(*pictures.values(), strict=True)), config.rate_hz)
    draw_strips(
        out / "sheet.png",
        strips,
        f"{dataset.path.resolve().name}: views along routes never flown",
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
        return {"waypoints": route_along_file(config.waypoints, config.steps)}
    last = len(dataset) - 1
    end = last if config.end == -1 else config.end
    for name, frame in (("start", config.start), ("end", end)):
        if frame > last:
            raise UserError(f"{name} is {frame}, but {dataset.path} has the frames 0 to {last}")
    ends = dataset.T_map_cam[config.start], dataset.T_map_cam[end]
    return {"linear": linear_route(*ends, config.steps), "parabola": parabola_route(*ends, config.steps, config.bend)}


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
