"""How far is a pose from what the training poses span? One number in metres, aware of position and heading."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.models.relief.march_numba import compiled

OTHER_PASS = 3.0  # poses are of another pass when the way between them is so many times their distance
REACH_QUANTILE = 0.95
REACHES = 1.5
MOST_DEPTHS = 2.0
WAY_SHARE, SMALL_SHARE = 0.25, 0.1
USUAL_QUANTILE = 0.9
_SAMPLE = 400  # poses looked at for the reach
_LEAST_REACH_M = 0.1
_NEAREST, _AROUND = 24, 96
_STEPS, _TOLERANCE = 100, 1e-3
_EXACT_M = 0.01  # of the distance to a hull


class PoseDistance(NamedTuple):
    """What :class:`PoseScore` says of a pose, in metres."""

    beyond_m: float
    turned_m: float
    usual_m: float  # of turned_m, between passes of the flight

    @property
    def score(self) -> float:
        """Beyond, and what turned exceeds the usual by; a tenth of it counts anyhow, to tell near from very near."""
        return self.beyond_m + max(self.turned_m - self.usual_m, SMALL_SHARE * self.turned_m)


class PoseScore:
    """How far a pose is from what the training poses span, in metres, by two distances.

    * beyond: of its position to the convex hull of the training positions within `reach_m`, so that between the lines
      of a survey nothing is beyond, however far apart they are, but past the last line or above them all it is. Farther
      than `reach_m` from every training pose, as in a hole of the flight, what it is farther is added.
    * turned: to the training pose that looks most alike and is near: how far the turn between them moves what is seen
      at `distance_m`, and a quarter of the way between them. Usual is what 90 % of the training poses have to other
      passes: headings alternate from line to line, so the next one that looks the same way may be two lines off.

    `reach_m` follows from the flight: the distance that 95 % of its poses keep to the nearest one of another pass, and
    half as much again, but at most twice `distance_m`: farther apart, views share little.
    Both distances and their weights are of this project.
    """

    def __init__(self, T_map_cam_training: ArrayLike, distance_m: float) -> None:
        """`T_map_cam_training` (N, 4, 4), N >= 1; `distance_m` > 0 a typical depth."""
        T = np.asarray(T_map_cam_training, dtype=np.float64)
        self.distance_m = float(distance_m)
        self._positions, self._rotations = T[:, :3, 3].copy(), T[:, :3, :3].reshape(-1, 9).copy()
        self._tree = cKDTree(self._positions)
        self.reach_m, self.usual_m = self._usual()
        self._thinned = self._positions[_thinned(self._positions, self.reach_m / 6)]
        self._thinned_tree = cKDTree(self._thinned)

    def __call__(self, T_map_cam: ArrayLike) -> PoseDistance:
        """The distances of one pose (4, 4); infinite when it is not finite. Some 0.2 ms for 1,000 training poses."""
        T = np.asarray(T_map_cam, dtype=np.float64)
        if not np.isfinite(T).all():
            return PoseDistance(np.inf, np.inf, self.usual_m)
        turned_m = float(self._turned(T[:3, 3], T[:3, :3].reshape(9)).min())
        return PoseDistance(self._beyond(T[:3, 3]), turned_m, self.usual_m)

    def most_alike(self, T_map_cam: Float64, count: int) -> Float64:
        """The training poses (at most `count`, 4, 4) that look most like a pose (4, 4), by `turned`, best first."""
        order = np.argsort(self._turned(T_map_cam[:3, 3], T_map_cam[:3, :3].reshape(9)))[:count]
        found = np.tile(np.eye(4), (len(order), 1, 1))
        found[:, :3, :3], found[:, :3, 3] = self._rotations[order].reshape(-1, 3, 3), self._positions[order]
        return found

    def _beyond(self, position: Float64) -> float:
        nearest_m, near = self._tree.query(position, k=min(_NEAREST, len(self._positions)))
        nearest_m, near = np.atleast_1d(nearest_m), np.atleast_1d(near)
        radius_m = max(self.reach_m, 1.5 * float(nearest_m[0]))
        around = self._thinned_tree.query_ball_point(position, radius_m)
        if len(around) > _AROUND:
            around = [around[int(i)] for i in np.linspace(0, len(around) - 1, _AROUND)]
        candidates = np.concatenate([self._positions[near], self._thinned[around]]) - position
        farther_m = max(0.0, float(nearest_m[0]) - self.reach_m)
        return float(hull_distance(candidates, _STEPS, _TOLERANCE)) + farther_m

    def _turned(self, position: Float64, rotation: Float64) -> Float64:
        """(N,) to each training pose."""
        # |R1 - R2| / sqrt(2) = sqrt(3 - R1 . R2) is 2 sin(angle / 2): how far the turn moves a point at distance 1.
        chord = np.sqrt(np.maximum(3.0 - self._rotations @ rotation, 0.0))
        way = self._positions - position
        way_m = np.sqrt(np.einsum("ij,ij->i", way, way))
        return np.asarray(self.distance_m * chord + WAY_SHARE * way_m)

    def _usual(self) -> tuple[float, float]:
        """reach_m and usual_m; of a flight that passes nowhere twice, from its steps alone."""
        positions = self._positions
        steps_m = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        way_m = np.concatenate([[0.0], np.cumsum(steps_m)])
        step_m = float(np.median(steps_m)) if len(steps_m) else 0.0
        apart_m, turned_m = [0.0], [0.0]
        for index in np.unique(np.linspace(0, len(positions) - 1, min(_SAMPLE, len(positions))).astype(int)):
            gap_m = np.linalg.norm(positions - positions[index], axis=1)
            other = np.abs(way_m - way_m[index]) > OTHER_PASS * np.maximum(gap_m, step_m)
            if other.any():
                apart_m.append(float(gap_m[other].min()))
                turned_m.append(float(self._turned(positions[index], self._rotations[index])[other].min()))
        reach_m = max(
            min(REACHES * float(np.quantile(apart_m, REACH_QUANTILE)), MOST_DEPTHS * self.distance_m),
            OTHER_PASS * step_m,
            _LEAST_REACH_M,
        )
        return reach_m, float(np.quantile(turned_m, USUAL_QUANTILE))


def _thinned(points: Float64, apart_m: float) -> np.ndarray:
    """Indices of one point of each cell of a grid, `apart_m` wide."""
    cells = np.floor(points / max(apart_m, 1e-9)).astype(np.int64)
    return np.sort(np.unique(cells, axis=0, return_index=True)[1])


@compiled
def hull_distance(points, steps, tolerance):
    """Distance of the origin to the convex hull of points (N, D), by the pairwise method of Frank and Wolfe.

    It is exact to `tolerance` of the length found and to a centimetre, or to what `steps` steps reach.
    """
    count, size = points.shape
    weight = np.zeros(count)
    best = 0
    for i in range(count):
        if np.sum(points[i] ** 2) < np.sum(points[best] ** 2):
            best = i
    weight[best] = 1.0
    x = points[best].copy()
    for _ in range(steps):
        toward, away, least, most = 0, best, np.inf, -np.inf
        for i in range(count):
            slope = 0.0
            for k in range(size):
                slope += points[i, k] * x[k]
            if slope < least:
                toward, least = i, slope
            if weight[i] > 0.0 and slope > most:
                away, most = i, slope
        square = np.sum(x**2)
        wrong_m2 = square - least  # the length found times what it exceeds the distance by, at most
        if wrong_m2 <= max(tolerance * square, _EXACT_M * np.sqrt(square)) or square <= _EXACT_M**2:
            break
        direction = points[toward] - points[away]
        step = min((most - least) / max(np.sum(direction**2), 1e-300), weight[away])
        x += step * direction
        weight[toward] += step
        weight[away] = 0.0 if step == weight[away] else weight[away] - step
    return np.sqrt(np.sum(x**2))
