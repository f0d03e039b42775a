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
from pose2rgbd_ros.viewer.pictures import DEPTH, LAYERS, LOWER, Studio
from pose2rgbd_ros.viewer.place import COLOURS, Place

TRACK_COLOUR = (210, 210, 210)
_MOST_LINES = 20_000
# A camera's pyramid: its size is a share of the usual way between drawn frames, within these bounds in units.
_SIZE_SHARE, _SMALLEST, _LARGEST = 0.8, 0.03, 0.22
CLOUD_VIEWS, CLOUD_SIDE, CLOUD_POINTS = 48, 96, 120_000
_CLOUD_CELL = 0.02  # units: one point in each cell


def add_track(scene: Any, place: Place) -> list[tuple[str, Any, Int64]]:
    """The way, and a pyramid for each frame. Returns, by kind, the handle of the pyramids and which of the track's
    frames they are, in their order.
    """
    T = place.track.T_map_cam
    position, quat_wxyz = place.scene_pose(T)
    size = _pyramid_size(position)
    if len(position) > 1:
        steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
        lines = np.stack([position[:-1], position[1:]], axis=1)[steps < 8 * np.median(steps) + 1e-9][:_MOST_LINES]
        if len(lines):
            colours = np.full((len(lines), 2, 3), TRACK_COLOUR, np.uint8)
            scene.add_line_segments("/track/way", lines.astype(np.float32), colours, thickness=1.5,
                                    thickness_units="screen")  # fmt: skip
    camera = place.dataset.camera if place.dataset is not None else place.models[0].renderer.camera
    wide, tall = (camera.width / camera.fx, camera.height / camera.fy) if camera.is_calibrated else (1.0, 1.0)
    vertices, faces = _pyramid(wide / 2, tall / 2)
    added = []
    for kind, colour in COLOURS.items():
        mine = np.flatnonzero(place.track.kind == kind)
        if len(mine):
            handle = scene.add_batched_meshes_simple(
                f"/track/{kind}", vertices * size, faces, quat_wxyz[mine], position[mine], batched_colors=colour,
                lod="off", flat_shading=True, side="double", opacity=0.55, cast_shadow=False, receive_shadow=False,
            )  # fmt: skip
            added.append((kind, handle, mine))
    return added


def _pyramid_size(position: Float64) -> float:
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else _LARGEST
    return float(np.clip(_SIZE_SHARE * usual, _SMALLEST, _LARGEST))


def _pyramid(half_width: float, half_height: float) -> tuple[Float32, AnyArray]:
    """Vertices (5, 3) and faces of a camera (x right, y down, z ahead) of depth 1, its apex at the optical centre."""
    corners = [[x * half_width, y * half_height, 1.0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    faces = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 3, 2], [1, 4, 3]]
    return np.array([[0.0, 0.0, 0.0], *corners], np.float32), np.array(faces, np.uint32)


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
        known = np.isfinite(depth)
        points.append(place.to_scene(se3.transform_points(T[index], rays[known] * depth[known, None])))
        rgb = images["rgb"] if "rgb" in images else studio.coloured(model, DEPTH, images)
        colours.append(rgb.reshape(-1, 3)[known])
        progress(number / len(some))
    every, colour = np.concatenate(points), np.concatenate(colours)
    kept = _one_a_cell(every)
    what = "lower bound of depth" if layer == LOWER else "depth, without bounds: the model is not calibrated"
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
        "/cloud", cloud.points, cloud.colours, point_size=0.03, point_shape="square", precision="float32",
        point_shading="flat",
    )  # fmt: skip
