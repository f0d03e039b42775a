"""What one image of lower bounds says about space: where the nearest surface may be, and what is free before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera

FINEST_SIDE = 64  # images are pooled to at most this many blocks a side: hundreds of poses are to be compared


@dataclass(frozen=True, eq=False)
class LowerView:
    """One pose's lower bounds, pooled into blocks of pixels.

    T_cam_map: (4, 4). points_map: (M, 3) where surfaces may begin, one for each block in which anything is known.
    reach_m: (M,) how far the surface of a block may lie from its point: half its diagonal. free_to_m: (h, w) depth up to
    which every pixel of a block is free, NaN where one of them is unknown. known: share of all pixels.
    """

    camera: Camera
    block: int
    T_cam_map: Float64
    points_map: Float64
    reach_m: Float64
    free_to_m: Float64
    known: float

    def sees(self, points_map: Float64) -> tuple[Bool, Bool]:
        """Of points (..., 3): whether they lie in the picture, and whether they are free: before the lower bound."""
        points = se3.transform_points(self.T_cam_map, points_map)
        uv = self.camera.project(points) + 0.5  # NaN behind the camera
        u, v = uv[..., 0], uv[..., 1]
        with np.errstate(invalid="ignore"):
            inside: Bool = (u >= 0) & (u < self.camera.width) & (v >= 0) & (v < self.camera.height)
        free = np.zeros_like(inside)
        column, row = (places[inside].astype(np.intp) // self.block for places in (u, v))
        with np.errstate(invalid="ignore"):
            free[inside] = points[inside, 2] < self.free_to_m[row, column]
        return inside, free


class ViewMaker:
    """Makes views of one camera; the rays are computed once."""

    def __init__(self, camera: Camera) -> None:
        """UserError: the camera is not calibrated."""
        self._camera = camera
        self._block = -(-max(camera.width, camera.height) // FINEST_SIDE)
        h, w = (-(-side // self._block) for side in (camera.height, camera.width))
        corner = self._block / 2 - 0.5
        u, v = np.meshgrid(np.arange(w) * self._block + corner, np.arange(h) * self._block + corner)
        self._rays = camera.unproject(np.stack([u, v], axis=-1))
        # Of a lens without a ray at a block's centre nothing can be placed.
        self._reach = np.sqrt(0.5) * self._block / min(camera.fx, camera.fy) if camera.is_calibrated else 0.0

    def view(self, lower_m: Float32, T_map_cam: Float64) -> LowerView:
        """The view of lower bounds (H, W), NaN unknown, from a pose."""
        lowest, all_known = self._pooled(lower_m)
        points = self._rays * lowest[..., None]
        there = np.isfinite(points).all(axis=-1)
        return LowerView(
            self._camera,
            self._block,
            se3.inverse(T_map_cam),
            se3.transform_points(T_map_cam, points[there]),
            self._reach * lowest[there],
            np.where(all_known, lowest, np.nan),
            float(np.isfinite(lower_m).mean()),
        )

    def _pooled(self, lower_m: Float32) -> tuple[Float64, Bool]:
        """The least known value of each block, NaN if none, and whether all of it is known."""
        k = self._block
        rows, columns = (-side % k for side in lower_m.shape)
        padded = np.pad(lower_m, ((0, rows), (0, columns)), mode="edge").astype(np.float64)
        blocks = padded.reshape(padded.shape[0] // k, k, padded.shape[1] // k, k)
        known = np.isfinite(blocks)
        least = np.where(known, blocks, np.inf).min(axis=(1, 3))
        return np.where(np.isfinite(least), least, np.nan), np.asarray(known.all(axis=(1, 3)))
