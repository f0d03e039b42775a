"""Where a place is shown badly: errors of pixels, carried to where the surface stands, means over cells of the map."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera

MOST_POINTS = 2_000_000  # of all frames; of more, every n-th pixel of a row and a column is taken
CELLS = (24, 110)  # along the longer side, at least and at most
POINTS_A_CELL = 30  # about; of fewer the mean says little
FEWEST_POINTS = 4  # in a cell that is shown
INSIDE = (0.01, 0.99)  # quantiles of the points' places: a horizon would leave nothing of the place to see


@dataclass(frozen=True)
class ErrorMap:
    """Mean errors of cells of the map, NaN where too few pixels fell: rgb_px (of 255) and depth_m, each (rows, columns)
    or None; extent_m: left, right, bottom, top of the picture; axes: the two of the map's axes that it lies along.
    """

    rgb_px: Float64 | None
    depth_m: Float64 | None
    extent_m: tuple[float, float, float, float]
    axes: tuple[int, int] = (0, 1)


@dataclass
class ErrorPoints:
    """Collects errors frame by frame, for `frames` of them."""

    camera: Camera
    frames: int
    _points_m: list[Float32] = field(default_factory=list)
    _rgb_px: list[Float32] = field(default_factory=list)
    _depth_m: list[Float32] = field(default_factory=list)

    def __post_init__(self) -> None:
        pixels = self.camera.width * self.camera.height * max(self.frames, 1)
        self._every = max(1, int(np.ceil(np.sqrt(pixels / MOST_POINTS))))
        self._rays = self.camera.rays()[:: self._every, :: self._every]

    def add(
        self, T_map_cam: Float64, depth_m: np.ndarray, rgb_error_px: np.ndarray | None, depth_error_m: np.ndarray | None
    ) -> None:
        """A frame: its pose (4, 4), true depth (H, W), NaN unknown, and the errors (H, W) there."""
        depth = depth_m[:: self._every, :: self._every]
        known = np.isfinite(depth)
        points = (self._rays * depth[..., None])[known] @ T_map_cam[:3, :3].T + T_map_cam[:3, 3]
        self._points_m.append(points.astype(np.float32))
        for kept, error in ((self._rgb_px, rgb_error_px), (self._depth_m, depth_error_m)):
            if error is not None:
                kept.append(error[:: self._every, :: self._every][known].astype(np.float32))

    def map(self) -> ErrorMap | None:
        """Of all that was collected; None of nothing. It lies along the two axes in which the place is largest."""
        points = np.concatenate(self._points_m) if self._points_m else np.zeros((0, 3), np.float32)
        points_known = np.isfinite(points).all(axis=1)
        if not points_known.any():
            return None
        low, high = np.quantile(points[points_known], INSIDE, axis=0)
        across, up = sorted(np.argsort(high - low, kind="stable")[1:].tolist())
        cell_m = max(float(high[across] - low[across]), float(high[up] - low[up]), 1e-3)
        cell_m /= float(np.clip(np.sqrt(points_known.sum() / POINTS_A_CELL), *CELLS))
        columns, rows = (max(1, int(np.ceil((high[axis] - low[axis]) / cell_m))) for axis in (across, up))
        at = np.floor((points[:, [up, across]] - low[[up, across]]) / cell_m)
        inside = points_known & (at >= 0).all(axis=1) & (at < (rows, columns)).all(axis=1)
        index = np.where(inside, at[:, 0] * columns + at[:, 1], 0).astype(np.int64)

        def mean(errors: list[Float32]) -> Float64 | None:
            if not errors:
                return None
            values = np.concatenate(errors)
            used = inside & np.isfinite(values)
            count = np.bincount(index[used], minlength=rows * columns)
            total = np.bincount(index[used], weights=values[used], minlength=rows * columns)
            cells = np.where(count >= FEWEST_POINTS, total / np.maximum(count, 1), np.nan)
            return np.asarray(cells.reshape(rows, columns), np.float64)

        left, bottom = float(low[across]), float(low[up])
        extent_m = (left, left + columns * cell_m, bottom, bottom + rows * cell_m)
        return ErrorMap(mean(self._rgb_px), mean(self._depth_m), extent_m, (across, up))
