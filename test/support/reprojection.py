"""Is a dataset geometrically true? One frame seen from another through depth, poses and intrinsics.

Needs the files' contents only, so it can judge any dataset with metric depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

FLAT = 0.02  # second difference of inverse depth, relative: above it a pixel lies at an edge
DETAIL = 20  # difference of grey values within a pixel's neighbourhood
NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame: rgb (H, W, 3) uint8, depth_m (H, W) with NaN unknown, pose (4, 4)."""

    rgb: np.ndarray
    depth_m: np.ndarray
    T_map_cam: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How well the points of one frame fit another one.

    `seen`: share of the points inside the other image that its depth confirms. `agreeing`: of all points but those
    hidden behind the other's surface, the share that lies on that surface; the rest hangs in the air in front of it.
    Of all points not hidden: `depth_error_m`, the median distance from the surface; and of those among them with
    detail around them (where the surroundings are plain, any place has the right colour) `colour_error`, the median
    difference of colour (0..255), and `colour_by_chance`, that of the same pixels without the geometry.
    """

    points: int
    seen: float
    agreeing: float
    depth_error_m: float
    colour_error: float
    colour_by_chance: float


def reproject(source: Picture, target: Picture, camera: Camera, tolerance_m: float = 0.02) -> Agreement:
    """Take the pixels of `source` that lie inside surfaces into `target`, and compare what is there.

    A pixel sees the surface somewhere in its area, so a point is confirmed when it lies between the nearest and the
    farthest of the four depths around it, `tolerance_m` given for the files' quantisation.
    """
    inside = _inside_surfaces(source.depth_m)
    rays = camera.rays()[inside]
    points_map = se3.transform_points(source.T_map_cam, rays * source.depth_m[inside][:, None])
    points = se3.transform_points(se3.inverse(target.T_map_cam), points_map)
    uv = camera.project(points)
    with np.errstate(invalid="ignore"):
        within = ((uv >= 0) & (uv < np.array([camera.width, camera.height]) - 1)).all(axis=1)
    within[within] = np.isfinite(_around(target.depth_m, uv[within])).all(axis=0)
    uv, z, corners = uv[within], points[within, 2], _around(target.depth_m, uv[within])
    in_front = z < corners.min(axis=0) - tolerance_m
    behind = z > corners.max(axis=0) + tolerance_m
    on = ~in_front & ~behind
    detailed = _detailed(source.rgb)[inside][within] & ~behind
    here = source.rgb[inside][within][detailed].astype(float)
    return Agreement(
        points=len(z),
        seen=float(on.mean()),
        agreeing=float(on.sum() / max(1, (on | in_front).sum())),
        depth_error_m=float(np.median(np.abs(z[~behind] - _between(corners, uv)[~behind]))),
        colour_error=float(np.median(np.abs(_bilinear(target.rgb, uv[detailed]) - here))),
        colour_by_chance=float(np.median(np.abs(target.rgb[inside][within][detailed] - here))),
    )


def _detailed(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, NEIGHBOURS) > DETAIL


def _inside_surfaces(depth_m: np.ndarray) -> np.ndarray:
    """Pixels all of whose neighbours lie on one smooth surface: there inverse depth is linear in the image."""
    inverse = 1 / depth_m
    curved = np.full(depth_m.shape, np.inf)
    middle = inverse[1:-1, 1:-1]
    across = np.abs(inverse[1:-1, :-2] + inverse[1:-1, 2:] - 2 * middle)
    down = np.abs(inverse[:-2, 1:-1] + inverse[2:, 1:-1] - 2 * middle)
    curved[1:-1, 1:-1] = np.maximum(across, down) / middle
    edge = ~(curved < FLAT)
    return cv2.dilate(edge.astype(np.uint8), NEIGHBOURS) == 0


def _around(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The four pixels around each point, (4, N): top left, top right, bottom left, bottom right."""
    column, row = np.floor(uv).astype(int).T
    return np.stack([image[row + down, column + right] for down in (0, 1) for right in (0, 1)])


def _weights(uv: np.ndarray) -> np.ndarray:
    right, down = (uv - np.floor(uv)).T
    return np.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down])


def _between(corners: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Depth between four pixels, exact on planes."""
    return 1 / (_weights(uv) / corners).sum(axis=0)


def _bilinear(rgb: np.ndarray, uv: np.ndarray) -> np.ndarray:
    return np.stack([(_weights(uv) * _around(rgb[..., c], uv)).sum(axis=0) for c in range(3)], axis=-1)
