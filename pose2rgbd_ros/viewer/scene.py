"""What stands in the scene beside the picture: the track, its cameras, a cloud of the model's depth.

The same functions fill a viewer's own scene and the page of `--export`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.viewer.pictures import DEPTH, LAYERS, LOWER, Studio
from pose2rgbd_ros.viewer.place import COLOURS, Place

TRACK_COLOUR = (210, 210, 210)
_PAUSE = 8.0  # usual steps: a longer one is no way that was flown, but a pause of the recording
_CLICK_RAD, _TOO_NEAR = 0.01, 0.05  # how exactly a camera is to be clicked at; nearer ones, in units, are not meant
# A camera's pyramid: its size is a share of the usual way between drawn frames, within these bounds in units.
_SIZE_SHARE, _SMALLEST, _LARGEST = 0.6, 0.03, 0.12
CLOUD_VIEWS, CLOUD_SIDE, CLOUD_POINTS = 48, 128, 150_000
CLOUD_LOOSEST, _CLOUD_DEPTHS = 0.1, 2.5  # share of the depth that a bound may be less; times the typical depth
_CLOUD_CELL = 0.02  # units: one point in each cell


def add_track(scene: Any, place: Place) -> list[Any]:
    """The way, and a pyramid of lines for each frame, in the colour of its kind. Returns their handles.

    Lines are what a browser without a graphics card draws at no cost, other than meshes.
    """
    T = place.track.T_map_cam
    position, _ = place.scene_pose(T)
    handles = []
    if len(position) > 1:
        steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
        way = np.stack([position[:-1], position[1:]], axis=1)[steps < _PAUSE * np.median(steps) + 1e-9]
        handles.append(_add_lines(scene, "/track/way", way, TRACK_COLOUR))
    camera = place.dataset.camera if place.dataset is not None else place.models[0].renderer.camera
    edges = _pyramid(camera) * _pyramid_size(position)
    for kind, colour in COLOURS.items():
        mine = np.flatnonzero(place.track.kind == kind)
        lines = edges.reshape(-1, 3) @ T[mine, :3, :3].swapaxes(1, 2) + position[mine, None]
        handles.append(_add_lines(scene, f"/track/{kind}", lines.reshape(-1, 2, 3), colour))
    return [handle for handle in handles if handle is not None]


def _add_lines(scene: Any, name: str, lines: Float64, colour: tuple[int, int, int]) -> Any:
    if not len(lines):
        return None
    return scene.add_line_segments(name, lines.astype(np.float32), colour, thickness=1.5, thickness_units="screen")


def picked_frame(place: Place, origin: AnyArray, direction: AnyArray) -> int | None:
    """Which frame of the track a click means: the nearest whose camera the ray (in the scene) all but meets."""
    position, _ = place.scene_pose(place.track.T_map_cam)
    ahead = place.track.T_map_cam[:, :3, 2]
    to_middle = position + 0.6 * _pyramid_size(position) * ahead - np.asarray(origin, np.float64)
    distance = np.linalg.norm(to_middle, axis=1)
    cosine = to_middle @ np.asarray(direction, np.float64) / np.maximum(distance, 1e-9)
    radius = np.arctan2(0.7 * _pyramid_size(position), distance) + _CLICK_RAD
    hit = np.flatnonzero((np.arccos(np.clip(cosine, -1, 1)) < radius) & (distance > _TOO_NEAR))
    return int(hit[distance[hit].argmin()]) if len(hit) else None


def _pyramid_size(position: Float64) -> float:
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else _LARGEST
    return float(np.clip(_SIZE_SHARE * usual, _SMALLEST, _LARGEST))


def _pyramid(camera: Camera) -> Float64:
    """The eight edges (8, 2, 3) of what a camera (x right, y down, z ahead) sees, to depth 1."""
    wide, tall = (camera.width / camera.fx, camera.height / camera.fy) if camera.is_calibrated else (1.0, 1.0)
    corners = np.array([[x * wide / 2, y * tall / 2, 1.0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    sides = np.stack([np.zeros_like(corners), corners], axis=1)
    return np.concatenate([sides, np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)])


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points (N, 3) in the scene and their colours uint8 (N, 3); words about what they are."""

    points: Float32
    colours: UInt8
    note: str = ""


def make_cloud(studio: Studio, model: int, progress: Callable[[float], None] = lambda share: None) -> Cloud:
    """The lower bound of a model's depth, or its depth where it is not calibrated, seen from all along the track.

    UserError: the model has no depth, or one without a unit.
    """
    place, renderer = studio.place, studio.place.models[model].renderer
    if renderer.depth_kind is None:
        raise UserError(f"{place.models[model].name} shows no depth, so there is no cloud of it")
    if renderer.depth_kind != "metric":
        raise UserError(f"the depth of {place.models[model].name} is relative: without a unit it makes no cloud")
    layer = LOWER if LOWER in studio.layers(model) else DEPTH
    camera = renderer.camera
    if renderer.any_camera:
        camera = camera.resized(CLOUD_SIDE, max(round(CLOUD_SIDE * camera.height / camera.width), 1))
    rays = camera.rays().reshape(-1, 3)
    T = place.track.T_map_cam
    some = np.linspace(0, len(T) - 1, min(CLOUD_VIEWS, len(T))).round().astype(int)
    points, colours = [], []
    for number, index in enumerate(some, 1):
        images = studio.render(model, T[index], camera)
        depth = images[LAYERS[layer]].reshape(-1).astype(np.float64)
        known = ~images["unknown"].reshape(-1) & (depth < _CLOUD_DEPTHS * renderer.guard.score.distance_m)
        if layer == LOWER:  # a loose bound warns of a surface, but shows none
            known &= depth > (1 - CLOUD_LOOSEST) * images["depth"].reshape(-1)
        points.append(place.to_scene(se3.transform_points(T[index], rays[known] * depth[known, None])))
        rgb = images["rgb"] if "rgb" in images else studio.coloured(model, DEPTH, images)
        colours.append(rgb.reshape(-1, 3)[known])
        progress(number / len(some))
    every, colour = np.concatenate(points), np.concatenate(colours)
    kept = _one_a_cell(every)
    bound = f"the lower bound of depth, where it is at most {CLOUD_LOOSEST:.0%} less"
    what = bound if layer == LOWER else "depth, without bounds: the model is not calibrated"
    return Cloud(every[kept].astype(np.float32), colour[kept].astype(np.uint8), what)


def _one_a_cell(points: Float64) -> Int64:
    """Indices of one point of each cell, in cells that grow until the points are few enough."""
    cell = _CLOUD_CELL
    while True:
        kept = np.unique(np.floor(points / cell).astype(np.int64), axis=0, return_index=True)[1]
        if len(kept) <= CLOUD_POINTS:
            return kept
        cell *= 1.3


def add_cloud(scene: Any, cloud: Cloud) -> Any:
    """The handle of the points."""
    return scene.add_point_cloud(
        "/cloud", cloud.points, cloud.colours, point_size=0.02, point_shape="square", precision="float32",
        point_shading="flat",
    )  # fmt: skip
