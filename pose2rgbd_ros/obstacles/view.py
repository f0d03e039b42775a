"""What one depth image shows around the body: rays and points in a frame of the body, unknown where depth is NaN.

Every distance in this package is taken from the *lower* bound of depth: along each ray everything up to the bound is
free, and from there on nothing is. A ray of unknown depth says nothing, not even of the first metre.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera, pixel_grid

BEYOND_M = 1e6  # a depth of +inf ("nothing within the sensor's range") is taken to be here


@dataclass(frozen=True, eq=False)
class DepthView:
    """A depth image in a frame of the body, usually the level one (x forward, y left, z up, only yaw kept).

    lower_m (H, W) float32: lower bound of depth along the optical axis, NaN unknown. rays (H, W, 3) float32: the way
    per metre of depth, in the body frame; NaN where the lens has no ray. origin_m (3,): the optical centre in the body
    frame. step_u, step_v, (3,) or (H, W, 3): by how much a ray differs from its neighbour to the right, and below.
    """

    camera: Camera
    T_body_cam: Float64
    lower_m: Float32
    rays: Float32
    step_u: Float32
    step_v: Float32

    @property
    def origin_m(self) -> Float32:
        """The optical centre (3,) in the body frame."""
        return self.T_body_cam[:3, 3].astype(np.float32)

    @functools.cached_property
    def is_known(self) -> Bool:
        """Which pixels (H, W) have a depth."""
        return ~np.isnan(self.lower_m)

    @functools.cached_property
    def has_ray(self) -> Bool:
        """Which pixels (H, W) the lens has a ray for."""
        return ~np.isnan(self.rays[..., 0])

    def half_pixel(self, axis: Float64) -> Float32:
        """How far half a pixel reaches along an axis (3,) of the body frame, per metre of depth: () or (H, W).

        A pixel stands for all that lies in its cone: what is asked of rays is asked of rays this thick.
        """
        u = np.asarray(axis, np.float32)
        reach: Float32 = np.float32(0.5) * (np.abs(self.step_u @ u) + np.abs(self.step_v @ u))
        return reach

    @property
    def known(self) -> float:
        """Share of the view whose depth is known."""
        return float(self.is_known.mean())

    def sees(self, points_m: Float64) -> Bool:
        """Which points (..., 3) of the body frame lie inside the image; whether something hides them is not asked."""
        R, origin = self.T_body_cam[:3, :3], self.T_body_cam[:3, 3]
        points_cam = (points_m - origin) @ R
        uv = self.camera.project(points_cam)
        size = np.array([self.camera.width, self.camera.height])
        with np.errstate(invalid="ignore"):
            inside = np.asarray(((uv >= -0.5) & (uv <= size - 0.5)).all(axis=-1))
        if self.camera.is_distorted:  # a distortion polynomial may fold points from far outside back into the image
            back = self.camera.unproject(np.where(inside[..., None], uv, 0.0))
            with np.errstate(divide="ignore", invalid="ignore"):
                true = points_cam[..., :2] / points_cam[..., 2:]
                inside &= np.abs(back[..., :2] - true).max(axis=-1) < 1e-2
        return inside


def view_of(lower_m: Float32, camera: Camera, T_body_cam: Float64) -> DepthView:
    """The sight of a depth image.

    Args:
        lower_m: (H, W), lower bound of depth in metres along the optical axis; NaN is unknown, +inf farther than
            anything asked about, zero or less (and -inf, too close to measure) something that touches the lens.
        camera: that of the image; lens distortion is heeded.
        T_body_cam: (4, 4), optical frame to the body frame wanted: with :func:`level` of an attitude, the level one.

    UserError when image and camera differ in size, or the camera is not calibrated.
    """
    if lower_m.shape != (camera.height, camera.width):
        raise UserError(
            f"a depth image of {lower_m.shape[1]} x {lower_m.shape[0]} pixels, but a camera of {camera}; "
            "depth and camera_info belong together"
        )
    R = T_body_cam[:3, :3].astype(np.float32)
    turned = [part @ R.T for part in _rays_and_steps(camera)]
    lower = np.clip(lower_m, np.float32(0.0), np.float32(BEYOND_M))
    return DepthView(camera, np.asarray(T_body_cam, np.float64), lower, turned[0], turned[1], turned[2])


def level(R_map_body: Float64) -> Float64:
    """R_level_body (3, 3): the attitude without its yaw, so that x of the level frame is the heading in the
    horizontal plane.

    A body that points straight up or down has no heading by its x axis; its z axis (down or up) is then taken for it.
    """
    forward = R_map_body[:, 0]
    if np.hypot(forward[0], forward[1]) < 1e-3:
        forward = -np.sign(forward[2]) * R_map_body[:, 2]
    yaw = np.arctan2(forward[1], forward[0])
    c, s = np.cos(yaw), np.sin(yaw)
    R_level_map = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    turned: Float64 = R_level_map @ R_map_body
    return turned


@functools.lru_cache(maxsize=8)
def _rays_and_steps(camera: Camera) -> tuple[Float32, Float32, Float32]:
    """Rays (H, W, 3) in the optical frame and their change per pixel to the right and down, (3,) or (H, W, 3)."""
    rays = camera.rays()
    if camera.is_distorted:
        grid = pixel_grid(camera.width, camera.height)
        half_u, half_v = np.array([0.5, 0.0]), np.array([0.0, 0.5])
        step_u = camera.unproject(grid + half_u) - camera.unproject(grid - half_u)
        step_v = camera.unproject(grid + half_v) - camera.unproject(grid - half_v)
    else:
        step_u, step_v = np.array([1 / camera.fx, 0.0, 0.0]), np.array([0.0, 1 / camera.fy, 0.0])
    parts = tuple(np.nan_to_num(part) for part in (step_u, step_v))
    return rays.astype(np.float32), parts[0].astype(np.float32), parts[1].astype(np.float32)


# Point clouds: organised, one point per pixel or per block of pixels, NaN where depth is unknown; or the
# known points alone.


HIT_LOG_ODDS = float(np.log(0.7 / 0.3))  # of octomap's sensor model


def organised_cloud(
    depth_m: Float32, camera: Camera, T: Float64 | None = None, every: int = 1, out: Float32 | None = None
) -> Float32:
    """Points (h, w, 3) float32 of a depth image (H, W), in its optical frame, or in that to which T (4, 4) takes it.

    NaN where depth is unknown or the lens has no ray, and where depth is infinite (or BEYOND_M): there is no point
    there. With `every` above 1 each block of `every` x `every` pixels gives one point, the nearest known one, so that
    nothing thin is lost; h and w are then those of :func:`cloud_shape`. With `out`, (h, w, 3) float32, points are
    written there. UserError when image and camera do not fit.
    """
    sight = view_of(depth_m, camera, np.eye(4) if T is None else T)
    depth, rays = np.where(sight.lower_m < BEYOND_M, depth_m, np.float32(np.nan)), sight.rays
    if every > 1:
        depth, rays = _nearest_of_blocks(depth, rays, every)
    points = np.empty((*depth.shape, 3), np.float32) if out is None else out
    np.multiply(rays, depth[..., None], out=points)
    if T is not None:
        points += T[:3, 3].astype(np.float32)
    return points


def cloud_shape(camera: Camera, every: int = 1) -> tuple[int, int]:
    """Rows and columns of a cloud of one point per block of `every` x `every` pixels; what is left at edges counts."""
    return -(-camera.height // every), -(-camera.width // every)


def marks_of(points: Float32) -> Float32:
    """The known of these points (..., 3), each with the log-odds of a hit (N, 4), as octomap's tracking server takes
    them.
    """
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
