"""The oracle of the OpenGL renderer: rays against every triangle of a scene, in float64 (Moeller and Trumbore)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.scene import Scene, merge

TILE = 16  # pixels a side that share their candidates
_EDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Cast:
    """`depth_m` (H, W) along the optical axis, NaN for the sky; `triangle` (H, W) into `MeshCaster.corners`, -1 for
    the sky.
    """

    depth_m: np.ndarray
    triangle: np.ndarray


class MeshCaster:
    """All triangles of a scene, movers included where they are at `t_s`; only those that face a ray are hit."""

    def __init__(self, scene: Scene, t_s: float | None = None) -> None:
        whole = merge([mesh for mesh in (*scene.chunks, scene.ground) if len(mesh.triangles)])
        corners = [whole.position_m.astype(float)[whole.triangles]]
        for mover in scene.movers if t_s is not None else ():
            moved = se3.transform_points(mover.T_map_mover(np.array([t_s]))[0], mover.mesh.position_m)
            corners.append(moved[mover.mesh.triangles])
        self.corners = np.concatenate(corners)  # (T, 3, 3)
        self.mover = np.arange(len(self.corners)) >= len(corners[0])
        self.ground = np.zeros(len(self.corners), bool)
        self.ground[len(corners[0]) - len(scene.ground.triangles) : len(corners[0])] = True
        normal = np.cross(self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0])
        self.normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)

    def cast(self, T_map_cam: np.ndarray, camera: Camera) -> Cast:
        """The first surface that faces the camera on the ray of each pixel."""
        rays = camera.rays()
        corners = se3.transform_points(se3.inverse(T_map_cam), self.corners.reshape(-1, 3)).reshape(-1, 3, 3)
        facing = np.einsum("ij,ij->i", np.cross(corners[:, 1], corners[:, 2]), corners[:, 0]) < 0
        all_indices = np.flatnonzero(facing & (corners[:, :, 2] > 0).any(axis=1))
        depth = np.full(rays.shape[:2], np.nan)
        triangle = np.full(rays.shape[:2], -1)
        for row in range(0, camera.height, TILE):
            for column in range(0, camera.width, TILE):
                part = np.s_[row : row + TILE, column : column + TILE]
                bundle = rays[part].reshape(-1, 3)
                indices = all_indices[_reaches(corners[all_indices], bundle)]
                t, which = nearest_hits(np.zeros_like(bundle), bundle, corners[indices])
                depth[part] = t.reshape(depth[part].shape)
                found = np.where(which >= 0, indices[which] if len(indices) else -1, -1)
                triangle[part] = found.reshape(depth[part].shape)
        return Cast(depth, triangle)

    def is_blocked(self, points_m: np.ndarray, direction: np.ndarray, margin_m: float = 0.02) -> np.ndarray:
        """Whether anything but the ground lies in that direction from points (N, 3): (N,)."""
        corners = self.corners[~self.ground]
        along = direction / direction[2]

        def flat(points: np.ndarray) -> np.ndarray:  # along the direction, onto the plane z = 0
            return points[..., :2] - points[..., 2:] * along[:2]

        at, low, high = flat(points_m), flat(corners).min(axis=1), flat(corners).max(axis=1)
        blocked = np.zeros(len(points_m), bool)
        for index, point in enumerate(points_m):
            near = ((low <= at[index]) & (high >= at[index])).all(axis=1)
            origin = (point + direction * margin_m)[None]
            candidates = corners[near]
            both = np.concatenate([candidates, candidates[:, ::-1]])
            blocked[index] = np.isfinite(nearest_hits(origin, direction[None], both)[0][0])
        return blocked

    def is_smooth(self, cast: Cast, T_map_cam: np.ndarray, camera: Camera) -> np.ndarray:
        """Pixels (H, W) whose 3x3 neighbourhood lies on one smooth surface."""
        here = cast.triangle[1:-1, 1:-1]
        points = se3.transform_points(T_map_cam, camera.rays() * cast.depth_m[..., None])
        smooth = np.zeros(cast.depth_m.shape, bool)
        inner = here >= 0
        for row in range(3):
            for column in range(3):
                part = np.s_[row : row + camera.height - 2, column : column + camera.width - 2]
                there, normal = cast.triangle[part], self.normal[here]
                off_plane = np.abs(np.einsum("hwi,hwi->hw", points[part] - points[1:-1, 1:-1], normal))
                alike = np.einsum("hwi,hwi->hw", normal, self.normal[there]) > np.cos(np.radians(20))
                inner &= (there >= 0) & alike & (off_plane < 0.02)
        smooth[1:-1, 1:-1] = inner
        return smooth


def _reaches(corners: np.ndarray, bundle: np.ndarray) -> np.ndarray:
    """Which triangles (T, 3, 3) are not wholly on the wrong side of a plane around the bundle of rays (N, 3), z = 1."""
    (left, top), (right, bottom) = bundle[:, :2].min(axis=0), bundle[:, :2].max(axis=0)
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    outside = (x < left * z).all(axis=1) | (x > right * z).all(axis=1)
    return ~(outside | (y < top * z).all(axis=1) | (y > bottom * z).all(axis=1))


def nearest_hits(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First hits of rays (N, 3), (N, 3) on triangles (T, 3, 3) turned towards them: (N,) parameter, NaN; (N,) index,
    -1.
    """
    if len(corners) == 0:
        return np.full(len(origin), np.nan), np.full(len(origin), -1)
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(one, two)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = -direction @ normal.T  # (N, T), positive where the triangle faces the ray
        start = origin[:, None] - corners[None, :, 0]
        turned = np.cross(start, direction[:, None])
        t = np.einsum("ntk,tk->nt", start, normal) / slope
        u = np.einsum("ntk,tk->nt", turned, two) / -slope
        v = np.einsum("ntk,tk->nt", turned, one) / slope
    u, v = -u, -v
    hit = (slope > 0) & (t > 0) & (u >= -_EDGE) & (v >= -_EDGE) & (u + v <= 1 + _EDGE)
    t = np.where(hit, t, np.inf)
    which = t.argmin(axis=1)
    nearest = t[np.arange(len(t)), which]
    return np.where(np.isfinite(nearest), nearest, np.nan), np.where(np.isfinite(nearest), which, -1)
