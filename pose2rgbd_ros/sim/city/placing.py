"""Where small things may stand, and how they stand there."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.sim.city.terrain import Ground

CLEARANCE_TEXELS = 1024


def poses_on(ground: Ground, plan: Float64, heading_plan: Float64, base_m: float = 0.0) -> Float64:
    """Poses (N, 4, 4) in the map on the ground at plan points (N, 2), x along a plan heading (N, 2), tilted like the ground.

    `base_m`: length over which the tilt is measured; 0 keeps things upright.
    """
    heading = heading_plan / np.linalg.norm(heading_plan, axis=-1, keepdims=True)
    reach = max(base_m / 2, 0.5)
    ahead, behind = plan + reach * heading, plan - reach * heading
    points = [
        np.concatenate([ground.layout.warp.to_map(p), ground.plan_height_m(p)[:, None]], axis=-1)
        for p in (ahead, behind)
    ]
    along = points[0] - points[1]
    if not base_m:
        along[:, 2] = 0.0
        middle = np.concatenate(
            [ground.layout.warp.to_map(plan), ground.plan_height_m(plan)[:, None]], axis=-1
        )
    else:
        middle = (points[0] + points[1]) / 2
    return frames(middle, along)


def frames(origin_m: Float64, forward: Float64) -> Float64:
    """Poses (N, 4, 4) with x along `forward` (N, 3) and y level."""
    T = np.zeros((len(forward), 4, 4))
    level = np.sqrt(forward[:, 0] ** 2 + forward[:, 1] ** 2)
    length = np.sqrt(level**2 + forward[:, 2] ** 2)
    cosine, sine = level / length, forward[:, 2] / length
    T[:, :3, 0] = forward / length[:, None]
    T[:, 0, 1], T[:, 1, 1] = -forward[:, 1] / level, forward[:, 0] / level
    T[:, 0, 2], T[:, 1, 2], T[:, 2, 2] = -sine * T[:, 1, 1], sine * T[:, 0, 1], cosine
    T[:, :3, 3] = origin_m
    T[:, 3, 3] = 1.0
    return T


def scaled(T: Float64, scale: npt.ArrayLike) -> Float64:
    """Poses with their axes stretched: by (N,) or by (N, 3)."""
    scale = np.asarray(scale, float)
    T = T.copy()
    T[:, :3, :3] *= (scale[:, None] if scale.ndim == 1 else scale)[:, None, :]
    return T


class Clearance:
    """Distance from any point of the plan to the nearest building, on a raster."""

    def __init__(self, rects: Float64, half_m: float) -> None:
        self._half, self._per_m = half_m, CLEARANCE_TEXELS / (2 * half_m)
        free = np.full((CLEARANCE_TEXELS, CLEARANCE_TEXELS), 255, np.uint8)
        for x0, y0, x1, y1 in np.rint((rects + half_m) * self._per_m).astype(int).tolist():
            free[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 0
        distance = cv2.distanceTransform(free, cv2.DIST_L2, 5)
        self._distance_m: Float32 = (distance / self._per_m).astype(np.float32)

    def m(self, plan: Float64) -> Float32:
        """(N,) of (N, 2), short by up to a texel."""
        column, row = np.clip((plan + self._half) * self._per_m, 0, CLEARANCE_TEXELS - 1).astype(int).T
        return self._distance_m[row, column]


def spread(plan: Float64, apart_m: float) -> Bool:
    """Which of the points (N, 2) to keep so that no two lie in one square of this side, nor very close across its edge."""
    keep = np.zeros(len(plan), bool)
    for shift in (0.0, 0.5):
        cell = np.floor(plan / apart_m + shift).astype(int)
        _, first = np.unique(cell, axis=0, return_index=True)
        mask = np.zeros(len(plan), bool)
        mask[first] = True
        keep = mask if shift == 0.0 else keep & mask
    return keep
