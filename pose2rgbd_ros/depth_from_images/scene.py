"""What sparse points of a scene say about frames: which others show the same from where, and how far it is.

Points are those of structure from motion (`sparse_points.npz` of an aligned dataset) or, where there are none, some of
the plane that neighbouring frames agree to see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera

MOST_POINTS = 60_000  # those of the longest tracks
FEWEST_POINTS = 30  # that a frame sees; one of fewer (between key frames of a video) is thought to see what lies in it
BEST_ANGLE_DEG = 10.0  # between two views at what they see: nearer ones hardly differ, farther ones look different
ANGLE_SPREAD, ZOOM_SPREAD = 0.6, 0.2  # of the logarithms of angle and size
MOST_TURN_DEG = 60.0
LOOKED_AT = 48  # points of a frame, for angles
LEAST_SCORE = 1e-3  # share of a frame's points: what few see, or from nearly the same place, is no help
LEAST_SHARE = 0.15  # of a frame's points that another must see
SURE_VIEWS = 3  # two views alone agree on false points as well, where a pattern repeats
# A point so many times nearer or farther than the middle one of those around it in the picture is a false match.
AROUND, FALSE = 8, 2.0
FALSE_FAR = 0.03  # share of the points that may lie behind the surface, as a repeating facade makes them
# Beyond what the points span, as shares of it: roofs and trees have few points.
FARTHER, NEARER = 0.25, 0.5
OF_PLANE = (0.13, 3.0)  # about a plane, as shares of its inverse depth: a quarter of its distance is the nearest


@dataclass(frozen=True, eq=False)
class SparseScene:
    """Points (P, 3) in the map, and who sees which: seen_frame and seen_point, (M,) indices each.

    farther, nearer: how far beyond the points surfaces are looked for at least, as shares of the inverse depth.
    """

    points: Float64
    seen_frame: Int64
    seen_point: Int64
    farther: float = 0.04
    nearer: float = 0.8

    @classmethod
    def of_plane(cls, T_map_cam: Float64, camera: Camera, normal: Float64, distance_m: float) -> SparseScene:
        """Points of the plane across `normal` (3,) that lies `distance_m` from the cameras, a lattice of each frame."""
        u, v = np.meshgrid(np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 9))
        rays = camera.unproject(np.stack([u, v], axis=-1).reshape(-1, 2))
        height = float(np.median(T_map_cam[:, :3, 3] @ normal)) - distance_m
        points: list[Float64] = []
        for T in T_map_cam:
            along = (rays @ T[:3, :3].T) @ normal
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = (height - T[:3, 3] @ normal) / along
            near = (depth > 0) & (depth < 6 * distance_m)
            points.append(se3.transform_points(T, rays[near] * depth[near, None]))
        nobody = np.zeros(0, np.int64)
        return cls(np.concatenate(points), nobody, nobody, *OF_PLANE)


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of a frame before its depth.

    others: frames to compare it with, best first. plane: (3,) a, b, c: the inverse depth of pixel (u, v) of the ideal
    camera is about a u + b v + c, which is a plane of the scene. farther, nearer: how much less and more it may be.
    """

    others: list[int]
    plane: Float64
    farther: float
    nearer: float


class Outlooks:
    """Of every frame.

    Args:
        T_map_cam: (N, 4, 4); camera: an ideal pinhole.
        rank: (N,) a frame is compared with frames of its own rank and below, and of points only those count that two
            of these see: what is held out says nothing about what trains.
    """

    def __init__(self, scene: SparseScene, T_map_cam: Float64, camera: Camera, rank: Int64, most: int) -> None:
        self._scene, self._T_map_cam, self._camera, self._rank, self._most = scene, T_map_cam, camera, rank, most
        n, count = len(T_map_cam), len(scene.points)
        observed = csr_array(
            (np.ones(len(scene.seen_frame), np.float32), (scene.seen_frame, scene.seen_point)), shape=(n, count)
        )
        if len(scene.seen_frame):
            longest = np.argsort(-observed.sum(axis=0), kind="stable")[: max(MOST_POINTS, 2 * FEWEST_POINTS * n)]
        else:
            longest = np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64)
        self._points, observed = scene.points[longest], csr_array(observed[:, longest])
        # By rank: which points two frames of this rank or below see.
        self._views = {
            int(r): np.asarray(observed[rank <= r].sum(axis=0)) if len(scene.seen_frame) else None
            for r in np.unique(rank)
        }
        few = np.diff(observed.indptr) < FEWEST_POINTS
        rows = [self._in_view(i) if few[i] else observed.indices[slice(*observed.indptr[i : i + 2])] for i in range(n)]
        index = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        columns = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
        self._seen = csr_array((np.ones(len(columns), np.float32), columns, index), shape=(n, len(self._points)))
        self._by_point = self._seen.tocsc()

    def _in_view(self, frame: int) -> Int64:
        uv = self._camera.project(se3.transform_points(se3.inverse(self._T_map_cam[frame]), self._points))
        with np.errstate(invalid="ignore"):
            inside = ((uv >= 0) & (uv < [self._camera.width, self._camera.height])).all(axis=1)
        return np.flatnonzero(inside)

    def of(self, frame: int) -> Outlook | None:
        """None where nothing can be said: too few points, or fewer than two others that see them."""
        mine = self._seen.indices[slice(*self._seen.indptr[frame : frame + 2])]
        views = self._views[int(self._rank[frame])]
        if views is not None:
            sure, mine = mine[views[mine] >= SURE_VIEWS], mine[views[mine] >= 2]
            mine = sure if len(sure) >= FEWEST_POINTS else mine
        if len(mine) < FEWEST_POINTS:
            return None
        T_map_cam = self._T_map_cam[frame]
        points_cam = se3.transform_points(se3.inverse(T_map_cam), self._points[mine])
        points_cam = points_cam[points_cam[:, 2] > 0]
        others = self._others(frame, mine)
        if len(others) < 2 or len(points_cam) < FEWEST_POINTS:
            return None
        pixels, depth = without_false(self._camera.project(points_cam), points_cam[:, 2])
        plane, farther, nearer = _plane(pixels, 1 / depth, self._scene)
        return Outlook(others, plane, farther, nearer)

    def _others(self, frame: int, mine: Int64) -> list[int]:
        """Frames that share many points, see them from angles that differ enough, and not all from one side."""
        shared = np.asarray(self._by_point[:, mine].sum(axis=1), np.float64)
        forward = self._T_map_cam[:, :3, 2]
        alike = forward @ forward[frame] > np.cos(np.radians(MOST_TURN_DEG))
        allowed = (shared >= LEAST_SHARE * len(mine)) & (self._rank <= self._rank[frame]) & alike
        allowed[frame] = False
        near = np.flatnonzero(allowed)
        some = self._points[mine[np.linspace(0, len(mine) - 1, min(len(mine), LOOKED_AT)).astype(np.int64)]]
        towards, length = _directions(self._T_map_cam[near, :3, 3], some)
        here, here_length = _directions(self._T_map_cam[[frame], :3, 3], some)
        angle_deg = _angle_deg(towards, here[0])
        zoom = np.median(np.abs(np.log(length / here_length)), axis=1)  # a flight straight ahead changes the size too
        unlike = (np.log(np.maximum(angle_deg, 1e-6) / BEST_ANGLE_DEG) / ANGLE_SPREAD) ** 2 + (zoom / ZOOM_SPREAD) ** 2
        score = shared[near] * np.exp(-0.5 * unlike)
        chosen: list[int] = []
        for _ in range(min(self._most, len(near))):
            best = int(score.argmax())
            if score[best] <= LEAST_SCORE * len(mine):
                break
            chosen.append(int(near[best]))
            score *= np.minimum(1.0, _angle_deg(towards, towards[best]) / (BEST_ANGLE_DEG / 2))
            score[best] = 0
        return chosen


def without_false(pixels: Float64, depth: Float64) -> tuple[Float64, Float64]:
    """Pixels (K, 2) and depth (K,) of the points that are about as far as those around them in the picture."""
    if len(pixels) <= AROUND:
        return pixels, depth
    _, around = KDTree(pixels).query(pixels, k=AROUND + 1)
    ratio = depth / np.median(depth[around[:, 1:]], axis=1)
    kept = (ratio < FALSE) & (ratio > 1 / FALSE)
    return pixels[kept], depth[kept]


def _directions(position: Float64, points: Float64) -> tuple[Float64, Float64]:
    """Unit vectors (N, P, 3) from points (P, 3) to cameras (N, 3), and how far (N, P)."""
    offset = position[:, None] - points
    length = np.maximum(np.linalg.norm(offset, axis=2), 1e-9)
    return offset / length[..., None], length


def _angle_deg(towards: Float64, other: Float64) -> Float64:
    """(N,) between directions (N, P, 3) and others (P, 3), median of the points."""
    cosine = np.clip(np.einsum("npk,pk->np", towards, other), -1, 1)
    return np.asarray(np.median(np.degrees(np.arccos(cosine)), axis=1), np.float64)


def _plane(uv: Float64, inverse: Float64, scene: SparseScene) -> tuple[Float64, float, float]:
    """The plane of most points at pixels (M, 2) with inverse depths (M,), and how far below and above it to look."""
    A = np.column_stack([uv, np.ones(len(uv))])
    kept = np.ones(len(A), bool)
    for _ in range(6):
        plane: Float64 = np.asarray(np.linalg.lstsq(A[kept], inverse[kept], rcond=None)[0], np.float64)
        residual = inverse - A @ plane
        spread = 1.4826 * float(np.median(np.abs(residual[kept]))) + 1e-12
        kept = np.abs(residual) < 2.5 * spread
    low, high = np.quantile(residual, [FALSE_FAR, 0.99])
    middle, span = float(np.median(inverse)), float(high - low)
    farther = -float(low) + max(FARTHER * span, scene.farther * middle)
    return plane, farther, float(high) + max(NEARER * span, scene.nearer * middle)
