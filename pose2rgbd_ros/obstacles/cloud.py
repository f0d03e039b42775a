"""Organised point clouds: one point per pixel, NaN where depth is unknown."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.sight import see


def organised_cloud(
    depth_m: Float32, camera: Camera, T: Float64 | None = None, out: Float32 | None = None
) -> Float32:
    """Points (H, W, 3) float32 of a depth image, in its optical frame, or in that to which T (4, 4) takes it.

    NaN where depth is unknown or the lens has no ray, and where depth is infinite: there is no point there. With `out`,
    (H, W, 3) float32, they are written there. UserError when image and camera do not fit.
    """
    sight = see(depth_m, camera, np.eye(4) if T is None else T)
    points = np.empty((*depth_m.shape, 3), np.float32) if out is None else out
    np.multiply(
        sight.rays, np.where(np.isfinite(depth_m), depth_m, np.float32(np.nan))[..., None], out=points
    )
    if T is not None:
        points += T[:3, 3].astype(np.float32)
    return points
