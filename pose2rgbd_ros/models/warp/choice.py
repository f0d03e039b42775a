"""Which recorded frames to warp: those that see what the target sees, from nearly where it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

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
            ((np.arange(PROBES_PER_SIDE) + 0.5) / PROBES_PER_SIDE * size).astype(int)
            for size in (height, width)
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
