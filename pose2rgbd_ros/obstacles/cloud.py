"""Point clouds: organised, one point per pixel or per block of pixels, NaN where depth is unknown; or the known points alone."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.sight import BEYOND_M, see

HIT_LOG_ODDS = float(np.log(0.7 / 0.3))  # of octomap's sensor model


def organised_cloud(
    depth_m: Float32,
    camera: Camera,
    T: Float64 | None = None,
    every: int = 1,
    out: Float32 | None = None,
) -> Float32:
    """Points (h, w, 3) float32 of a depth image (H, W), in its optical frame, or in that to which T (4, 4) takes it.

    NaN where depth is unknown or the lens has no ray, and where depth is infinite (or BEYOND_M): there is no point there.
    With `every` above 1 each block of `every` x `every` pixels gives one point, the nearest known one, so that nothing thin
    is lost; h and w are then those of :func:`cloud_shape`. With `out`, (h, w, 3) float32, points are written there. UserError
    when image and camera do not fit.
    """
    sight = see(depth_m, camera, np.eye(4) if T is None else T)
    depth, rays = np.where(sight.lower_m < BEYOND_M, depth_m, np.float32(np.nan)), sight.rays
    if every > 1:
        depth, rays = _nearest_of_blocks(depth, rays, every)
    points = np.empty((*depth.shape, 3), np.float32) if out is None else out
    np.multiply(rays, depth[..., None], out=points)
    if T is not None:
        points += T[:3, 3].astype(np.float32)
    return points


def cloud_shape(camera: Camera, every: int = 1) -> tuple[int, int]:
    """Rows and columns of a cloud of one point per block of `every` x `every` pixels; what is left at the edges counts."""
    return -(-camera.height // every), -(-camera.width // every)


def marks_of(points: Float32) -> Float32:
    """The known of these points (..., 3), each with the log-odds of a hit (N, 4), as octomap's tracking server takes them."""
    known = points.reshape(-1, 3)
    known = known[np.isfinite(known).all(axis=1)]
    return np.column_stack([known, np.full(len(known), HIT_LOG_ODDS, np.float32)])


def colours_of(rgb: AnyArray) -> AnyArray:
    """Colours (H, W, 3) uint8 as the float32 (H, W) of PointCloud2's field rgb: the bytes of 0x00RRGGBB."""
    wide = rgb.astype(np.uint32)
    return (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).view(np.float32)


def _nearest_of_blocks(depth: Float32, rays: Float32, every: int) -> tuple[Float32, Float32]:
    """The nearest known depth of each block, and its ray; NaN where none of a block is known."""
    below, beside = -depth.shape[0] % every, -depth.shape[1] % every
    blocks = np.pad(depth, ((0, below), (0, beside)), constant_values=np.nan)
    h, w = blocks.shape[0] // every, blocks.shape[1] // every
    blocks = blocks.reshape(h, every, w, every).transpose(0, 2, 1, 3).reshape(h, w, -1)
    nearest = np.where(np.isnan(blocks), np.float32(np.inf), blocks).argmin(axis=2)
    rows = np.minimum(np.arange(h)[:, None] * every + nearest // every, depth.shape[0] - 1)
    columns = np.minimum(np.arange(w) * every + nearest % every, depth.shape[1] - 1)
    return depth[rows, columns], rays[rows, columns]
