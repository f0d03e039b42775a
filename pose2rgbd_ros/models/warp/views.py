"""The view warped from those of the kept frames that are nearest to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map

# Which recorded frames to warp: those that see what the target sees, from nearly where it is.


PROBES_PER_SIDE = 8  # points of each frame's surface that stand for what it sees
CANDIDATES_PER_FRAME = 16  # frames looked at closely for one that is chosen
FEWEST_CANDIDATES = 96
CELLS_PER_SIDE = 16  # of the target's picture; the nearest point in each is looked for
TURN_WEIGHT = 0.1
SATURATION = 64.0
SHARP_POWER = 8.0
ANGLE_RAD = 0.25  # between two views of a point, at which the second is half as useful

Float64 = NDArray[np.float64]


class FrameChoice:
    """Chooses frames for a target by position, viewing direction and overlap.

    A turn about the optical axis costs nothing: the lines of a survey flown back and forth serve each other.

    Args:
        T_map_cam: (M, 4, 4) of the frames.
        depth: (M, h, w), NaN unknown.
        camera: of the frames, an ideal pinhole.
    """

    def __init__(self, T_map_cam: Float64, depth: NDArray[np.floating], camera: Camera) -> None:
        self._T_map_cam, self._camera = T_map_cam, camera
        self._T_cam_map = se3.inverse(T_map_cam)
        self._probes_map = self._probes(depth)
        known = np.isfinite(self._probes_map).all(axis=-1)
        distance = np.linalg.norm(self._probes_map - T_map_cam[:, None, :3, 3], axis=-1)
        self.scene_distance = float(np.median(distance[known])) if known.any() else 1.0

    def __call__(self, T_map_cam: Float64, camera: Camera, count: int) -> NDArray[np.int64]:
        """Indices of at most `count` frames for a target (4, 4), the most useful first."""
        near = self._alike(T_map_cam, max(count * CANDIDATES_PER_FRAME, FEWEST_CANDIDATES))
        points = self._visible_probes(near, T_map_cam, camera)
        if len(points) == 0:
            return near[:count]
        use = self._use(near, points, T_map_cam[:3, 3])
        return near[_cover(use, count)]

    def _alike(self, T_map_cam: Float64, count: int) -> NDArray[np.int64]:
        """The frames nearest in position (in scene distances) and viewing direction (in radians)."""
        shift = self._T_map_cam[:, :3, 3] - T_map_cam[:3, 3]
        turn = self._T_map_cam[:, :3, 2] - T_map_cam[:3, 2]
        cost = (shift**2).sum(axis=1) / self.scene_distance**2 + TURN_WEIGHT * (turn**2).sum(axis=1)
        count = min(count, len(cost))
        nearest = np.argpartition(cost, count - 1)[:count]
        return nearest[np.argsort(cost[nearest], kind="stable")].astype(np.int64)

    def _visible_probes(self, frames: NDArray[np.int64], T_map_cam: Float64, camera: Camera) -> Float64:
        """Surface points (P, 3) of these frames that fall into the target's picture."""
        points = self._probes_map[frames].reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=1)]
        in_target = se3.transform_points(se3.inverse(T_map_cam), points)
        inside = _inside(camera, in_target)
        points, in_target = points[inside], in_target[inside]
        order = np.argsort(in_target[:, 2], kind="stable")
        points, in_target = points[order], in_target[order]
        size = np.array([camera.width, camera.height])
        uv = in_target[:, :2] / in_target[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
        cell = np.clip((uv + 0.5) / size * CELLS_PER_SIDE, 0, CELLS_PER_SIDE - 1).astype(int)
        _, first = np.unique(cell @ (CELLS_PER_SIDE, 1), return_index=True)
        return points[first]

    def _use(self, frames: NDArray[np.int64], points: Float64, position: Float64) -> Float64:
        """(F, P): 0 where a frame does not see a point, up to 1 where it sees it as the target does."""
        in_frame = np.einsum("fij,pj->fpi", self._T_cam_map[frames, :3, :3], points)
        in_frame += self._T_cam_map[frames, None, :3, 3]
        way_target = position - points
        way_frame = self._T_map_cam[frames, None, :3, 3] - points
        lengths = np.linalg.norm(way_target, axis=-1), np.linalg.norm(way_frame, axis=-1)
        cosine = (way_frame * way_target).sum(axis=-1) / np.maximum(lengths[0] * lengths[1], 1e-12)
        alike = ANGLE_RAD**2 / (ANGLE_RAD**2 + 2 * (1 - cosine))
        sharp = np.minimum(lengths[0] / np.maximum(lengths[1], 1e-12), 1.0) ** SHARP_POWER
        return np.where(_inside(self._camera, in_frame), alike * sharp, 0.0)

    def _probes(self, depth: NDArray[np.floating]) -> Float64:
        """(M, P, 3) points of each frame's surface in the map, NaN where its depth is unknown."""
        height, width = depth.shape[1:]
        rows, columns = (
            ((np.arange(PROBES_PER_SIDE) + 0.5) / PROBES_PER_SIDE * size).astype(int) for size in (height, width)
        )
        rays = self._camera.rays()[np.ix_(rows, columns)].reshape(-1, 3)
        some = depth[:, rows][:, :, columns].reshape(len(depth), -1, 1).astype(np.float64)
        return np.asarray(se3.transform_points(self._T_map_cam, rays * some))


def _cover(use: Float64, count: int) -> NDArray[np.int64]:
    """Rows of `use` (F, P) chosen one after the other, each for what it adds where the others show little."""
    count = min(count, len(use))
    covered = np.zeros(use.shape[1])
    free = np.ones(len(use), dtype=bool)
    chosen = []
    for _ in range(count):
        gain = (np.log1p(SATURATION * (covered + use)) - np.log1p(SATURATION * covered)).sum(axis=1)
        best = int(np.where(free, gain, -1.0).argmax())
        chosen.append(best)
        free[best] = False
        covered += use[best]
    return np.asarray(chosen, dtype=np.int64)


def _inside(camera: Camera, points_cam: Float64) -> NDArray[np.bool_]:
    """Which points (..., 3) fall into the picture of an ideal pinhole."""
    z = points_cam[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = points_cam[..., 0] / z * camera.fx + camera.cx
        v = points_cam[..., 1] / z * camera.fy + camera.cy
        inside = (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (v < camera.height - 0.5) & (z > 0)
    return np.asarray(inside)


Float32 = NDArray[np.float32]
WIDEST = 3.0  # |x/z|, |y/z|: an ideal pinhole in the place of a distorted target ends here (71.6 degrees off the axis)
# Chosen on another city (--city.seed 5) than the one reported on.
DEPTH_SPREAD = 0.015
DEPTH_SIGNIFICANT = 0.15
DEPTH_ANGLE_RAD = 0.7
COLOUR_TOLERANCE = 0.03
COLOUR_ANGLE_RAD = 0.08
COLOUR_POWER = 1.5
COLOUR_SHARP = 6.0
DEPTH_SHARP = 2.0


class StoredFrames:
    """The frames kept, of one ideal pinhole, and any view warped from the most useful of them.

    Holes, where no chosen frame shows a surface, have depth NaN. Their colour is that of a frame which looks in the
    same direction and knows no depth there either (sky); where there is none, the colours around are drawn in
    (`fill_holes`). So every pixel of colour is an answer and counts.
    """

    def __init__(
        self, rgb: NDArray[np.uint8], depth: NDArray[np.float16], T_map_cam: NDArray[np.float64], camera: Camera
    ) -> None:
        """rgb (M, h, w, 3), depth (M, h, w) in metres, NaN unknown, T_map_cam (M, 4, 4)."""
        self._rgb, self._depth, self._T_map_cam, self._camera = rgb, depth, T_map_cam, camera
        self._choice = FrameChoice(T_map_cam, depth, camera)

    def view(self, T_map_cam: NDArray[np.float64], camera: Camera, count: int) -> tuple[Float32, Float32]:
        """Colour (H, W, 3) in 0..255 and depth (H, W) in metres, NaN unknown, of one pose (4, 4) from `count` frames.

        UserError: the camera is not calibrated.
        """
        if not camera.is_calibrated:
            raise UserError("the camera asked for is not calibrated (K[0] = 0), which warping needs")
        if camera.is_distorted:
            pinhole = pinhole_around(camera, finer=2)  # its depth is looked up, not interpolated
            colour, depth = self.view(T_map_cam, pinhole, count)
            lookup = resample_map(pinhole, camera)
            return resample(colour, lookup, False), resample(depth, lookup, True, np.nan)
        chosen = self._choice(T_map_cam, camera, count)
        depth = np.nan_to_num(self._depth[chosen].astype(np.float32), nan=0.0)
        T_tgt_src = se3.compose(se3.inverse(T_map_cam), self._T_map_cam[chosen])
        return warp(self._rgb[chosen], depth, T_tgt_src, self._camera, camera)


def warp(
    rgb: NDArray[np.uint8], frame_depth: Float32, T_tgt_src: NDArray[np.float64], source: Camera, target: Camera
) -> tuple[Float32, Float32]:
    """Colour (H, W, 3) in 0..255 and depth (H, W), NaN unknown, of an ideal pinhole `target`.

    Args:
        rgb: (N, h, w, 3). frame_depth: (N, h, w), 0 unknown. T_tgt_src: (N, 4, 4).
        source: camera of the frames, an ideal pinhole.
    """
    kernels = compiled_kernels()
    forward = T_tgt_src.astype(np.float32)
    backward = se3.inverse(T_tgt_src).astype(np.float32)
    centres = np.ascontiguousarray(forward[:, :3, 3])
    source_k, target_k = _pinhole(source), _pinhole(target)
    z = np.empty((len(rgb), target.height, target.width), np.float32)
    cosine = np.empty_like(z)
    for i in range(len(rgb)):
        kernels.draw_mesh(frame_depth[i], source_k, forward[i], target_k, z[i], cosine[i])
    depth = np.empty(z.shape[1:], np.float32)
    kernels.fuse_depth(
        z, cosine, centres, target_k, DEPTH_SPREAD, DEPTH_SIGNIFICANT, DEPTH_ANGLE_RAD, DEPTH_SHARP, depth
    )
    colour = np.empty((*depth.shape, 3), np.float32)
    weight = np.empty_like(depth)
    kernels.blend_colour(
        depth, rgb, frame_depth, source_k, backward, centres, target_k,
        COLOUR_TOLERANCE, COLOUR_ANGLE_RAD, COLOUR_POWER, COLOUR_SHARP, colour, weight,
    )  # fmt: skip
    empty = kernels.fill_holes(colour, weight > 0)
    if empty:
        colour[:] = rgb.mean(axis=(0, 1, 2))
    return colour, np.where(depth > 0, depth, np.nan).astype(np.float32)


def compiled_kernels() -> Any:
    """The module of inner loops, imported when something is warped. UserError: Numba is missing or broken here."""
    try:
        from pose2rgbd_ros.models.warp import kernels as kernels_
    except (ImportError, OSError, SystemError) as error:  # the latter: built for another NumPy or system
        raise UserError(f"warping needs Numba, which is not usable here ({error}); install numba") from error
    return kernels_


def pinhole_around(camera: Camera, finer: int = 1) -> Camera:
    """An ideal pinhole, `finer` times the size, that sees what a distorted camera sees, out to WIDEST."""
    rays = camera.rays()[..., :2]
    low = np.maximum(np.nanmin(rays, axis=(0, 1)), -WIDEST)
    high = np.minimum(np.nanmax(rays, axis=(0, 1)), WIDEST)
    width, height = camera.width * finer, camera.height * finer
    # The outermost rays go through the centres of the outermost pixels.
    fx, fy = (np.array([width, height]) - 1) / np.maximum(high - low, 1e-6)
    return Camera(width, height, fx, fy, -low[0] * fx, -low[1] * fy)


def _pinhole(camera: Camera) -> Float32:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
