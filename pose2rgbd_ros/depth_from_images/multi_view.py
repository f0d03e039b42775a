"""How far the scene is, told by two views of it alone: the true distance is the one at which neighbours agree.

For training without depth (:func:`ground_distance`) and with depth whose unit is unknown (:func:`depth_unit_m`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import KDTree

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Frames
from pose2rgbd_ros.geometry.camera import Camera, resample
from pose2rgbd_ros.geometry.depth import resize_nearest

# Of the distance: nearer views hardly move against each other, farther ones share nothing.
BASELINE = 0.3
MOST_TURN_DEG = 40.0
PAIRS = 24
CANDIDATES = 64
# Normalised correlation of the best candidate, and by how much it must stand out from those 1.3 times off or more.
LEAST_AGREEMENT, LEAST_CONTRAST = 0.35, 0.02


class Views(NamedTuple):
    """Pictures (N, H, W) float32 grey, poses (N, 4, 4), and the rays (H, W, 3) of their camera."""

    grey: Float32
    T_map_cam: Float64
    camera: Camera


def grey_views(rgb: Iterable[AnyArray], T_map_cam: Float64, camera: Camera, size: int = 64) -> Views:
    """Small grey copies of frames, N of (H, W, 3) uint8."""
    small = camera.resized(size, size)
    grey = np.stack(
        [cv2.resize(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
         for image in rgb]
    ).astype(np.float32)  # fmt: skip
    return Views(grey, T_map_cam, small)


def depth_unit_m(views: Views, depth: Frames) -> float:
    """Metres in one unit of relative depth, N of (h, w), the same for all frames; NaN unknown.

    Raises:
        UserError: no unit makes neighbouring frames agree, or several do: then the scale must be given.
    """

    def shape_of(index: int) -> Float64:
        return np.asarray(resize_nearest(depth[index], views.camera.width, views.camera.height), np.float64)

    known = [np.nanmedian(shape) for shape in map(shape_of, _spread(len(views.grey), 32)) if np.isfinite(shape).any()]
    if not known:
        raise UserError("no pixel of the training frames has a known depth; train with --relief.depth pictures")
    median = float(np.median(known))
    found = _best_distance(
        views, lambda index, distance: shape_of(index) * (distance / median), "the unit of the depth"
    )
    return found / median


def ground_distance(views: Views, normal: Float64) -> float:
    """Typical distance (m) from the cameras to a plane that neighbours agree to see, across `normal` (3,) in the map.

    UserError as :func:`depth_unit_m`.
    """
    along = views.T_map_cam[:, :3, 3] @ normal
    rays = views.camera.rays()

    def shape_of(index: int, distance: float) -> Float64:
        height = along[index] - (np.median(along) - distance)
        down = -(rays @ views.T_map_cam[index, :3, :3].T) @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = height / down
        return np.where((depth > 0) & (depth < 6 * distance), depth, np.nan)

    return _best_distance(views, shape_of, "how far the ground is")


def agreement(views: Views, pairs: list[tuple[int, int]], shape_of: Callable[[int], Float64]) -> float:
    """Mean normalised correlation of frames with what their partners show of the surface at these depths; 0 at
    worst.
    """
    rays = views.camera.rays()
    scores = []
    for one, other in pairs:
        depth = shape_of(one)
        points = se3.transform_points(
            se3.inverse(views.T_map_cam[other]) @ views.T_map_cam[one], rays * depth[..., None]
        )
        uv = views.camera.project(points).astype(np.float32)
        height, width = views.grey.shape[1:]
        inside = (uv > 0).all(axis=-1) & (uv[..., 0] < width - 1) & (uv[..., 1] < height - 1)
        if inside.mean() < 0.15:
            scores.append(0.0)
            continue
        seen = resample(views.grey[other], uv, nearest=False)
        scores.append(max(0.0, correlation(views.grey[one][inside], seen[inside])))
    return float(np.mean(scores)) if scores else 0.0


def correlation(a: Float32, b: Float32) -> float:
    """Normalised correlation of values (N,); 0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / scale if scale > 1e-3 else 0.0


def find_pairs(T_map_cam: Float64, distance_m: float, count: int = PAIRS) -> list[tuple[int, int]]:
    """Frames, evenly spaced, each with one about BASELINE * distance_m away that looks the same way."""
    position, forward = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    tree = KDTree(position)
    pairs = []
    for one in _spread(len(T_map_cam), count):
        near = np.array(tree.query_ball_point(position[one], 2 * BASELINE * distance_m))
        alike = near[(forward[near] @ forward[one] > np.cos(np.radians(MOST_TURN_DEG))) & (near != one)]
        baseline = np.linalg.norm(position[alike] - position[one], axis=1)
        alike, baseline = (alike[baseline > BASELINE / 2 * distance_m], baseline[baseline > BASELINE / 2 * distance_m])
        if len(alike):
            pairs.append((int(one), int(alike[np.abs(baseline - BASELINE * distance_m).argmin()])))
    return pairs


def _best_distance(views: Views, shape_of: Callable[..., Float64], what: str) -> float:
    """The typical distance (m) at which pairs agree best, refined once; UserError where none stands out."""
    position = views.T_map_cam[:, :3, 3]
    extent = float(np.linalg.norm(np.ptp(position, axis=0)))
    if not extent > 0:
        raise UserError(f"all training frames were taken at one place, from which nobody can tell {what}")
    candidates = np.geomspace(extent / 300, 3 * extent, CANDIDATES)
    scores = np.array([_score(views, shape_of, distance) for distance in candidates])
    best = int(scores.argmax())
    others = scores[np.abs(np.log(candidates / candidates[best])) > np.log(1.3)]
    if scores[best] < LEAST_AGREEMENT or scores[best] - others.max(initial=0.0) < LEAST_CONTRAST:
        raise UserError(
            f"the frames do not tell {what}: neighbouring views agree with a correlation of {scores[best]:.2f} at best "
            f"(at {candidates[best]:.3g} m) and {others.max(initial=0.0):.2f} elsewhere; poses too inexact, or views "
            "too "
            "few and too alike. Give metric depth"
        )
    fine = candidates[best] * np.geomspace(1 / 1.12, 1.12, 25)
    pairs = find_pairs(views.T_map_cam, float(candidates[best]))
    refined = [agreement(views, pairs, partial(shape_of, distance=distance)) for distance in fine]
    return float(fine[int(np.argmax(refined))])


def _score(views: Views, shape_of: Callable[..., Float64], distance: float) -> float:
    pairs = find_pairs(views.T_map_cam, distance)
    # A distance at which few frames have a partner at all is not supported by the flight.
    share = min(1.0, 4 * len(pairs) / min(PAIRS, len(views.grey)))
    return share * agreement(views, pairs, partial(shape_of, distance=distance))


def _spread(count: int, most: int) -> AnyArray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
