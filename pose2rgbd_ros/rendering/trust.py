"""How far is a pose from what the training poses span? One number in metres, aware of position and heading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.models.backends import compiled

OTHER_PASS = 3.0  # poses are of another pass when the way between them is so many times their distance
REACH_QUANTILE = 0.95
REACHES = 1.5
MOST_DEPTHS = 2.0
WAY_SHARE, SMALL_SHARE = 0.25, 0.1
USUAL_QUANTILE = 0.9
_REACH_SAMPLE = 400  # poses looked at for the reach
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
        """Beyond, and what turned exceeds the usual by; a tenth of it counts anyhow: near or very near."""
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
        for index in np.unique(np.linspace(0, len(positions) - 1, min(_REACH_SAMPLE, len(positions))).astype(int)):
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


# Is a pose among those the model was trained on? Elsewhere its images are guesses and must not be trusted.


NEIGHBOURS = 4
QUANTILE = 0.95
SPACINGS = 3.0
MARGIN_FLOOR_M = 0.05
MARGIN_FLOOR_SHARE = 0.02
HEADING_FLOOR_DEG = 10.0
HEADING_CEILING_DEG = 45.0
_SPACING_SAMPLE = 2000  # poses looked at for the spacing
_CANDIDATES = 8


@dataclass(frozen=True)
class VolumeCheck:
    """The answer for one pose.

    distance_m: to the nearest training position. heading_deg: between the orientation and that of the training pose
    nearest in position and orientation together. reason: empty when inside, else one line with the figures.
    """

    inside: bool
    distance_m: float
    heading_deg: float
    reason: str


class TrainedVolume:
    """The training poses with a margin about each.

    A pose is inside when one of the training poses lies within `margin_m` of it and its orientation differs by at
    most `heading_deg` (the whole rotation, roll included). Both follow from how densely the place was recorded:

    * margin_m = max(3 q95(d4), 0.02 D, 0.05), with d4 each training pose's distance to its 4th nearest neighbour (or
      the farthest, when there are fewer), q95 the 95 % quantile and D the diagonal of the box around the positions;
    * heading_deg = 3 q95(a), kept within [10, 45], with a the smallest angle between a training pose and those
      neighbours.

    `T_map_cam_training` is (N, 4, 4), N >= 1; lengths are in the map's unit (metres).
    """

    def __init__(self, T_map_cam_training: ArrayLike) -> None:
        T = np.asarray(T_map_cam_training, dtype=np.float64)
        if T.ndim != 3 or T.shape[1:] != (4, 4) or len(T) == 0:
            raise ValueError(f"training poses of shape {T.shape}; expected (N, 4, 4) with N >= 1")
        self._positions, self._rotations = T[:, :3, 3].copy(), T[:, :3, :3].copy()
        self._by_position = cKDTree(self._positions)
        spacing_m, spacing_deg = self._spacing()
        diagonal_m = float(np.linalg.norm(np.ptp(self._positions, axis=0)))
        self.margin_m = max(SPACINGS * spacing_m, MARGIN_FLOOR_SHARE * diagonal_m, MARGIN_FLOOR_M)
        self.heading_deg = min(max(SPACINGS * spacing_deg, HEADING_FLOOR_DEG), HEADING_CEILING_DEG)
        # |R1 - R2| = sqrt(8) sin(angle / 2): scaled so that one allowance is 1 in position and in rotation alike.
        self._rotation_scale = 1 / (math.sqrt(8) * math.sin(math.radians(self.heading_deg) / 2))
        self._by_pose = cKDTree(self._joint(self._positions, self._rotations))

    @property
    def example_T_map_cam(self) -> Float64:
        """One of the training poses, (4, 4): a view that the model knows."""
        T = np.eye(4)
        middle = len(self._positions) // 2
        T[:3, :3], T[:3, 3] = self._rotations[middle], self._positions[middle]
        return T

    def check(self, T_map_cam: ArrayLike) -> VolumeCheck:
        """Look up one pose (4, 4); under 0.2 ms for 10,000 training poses. A pose that is not finite is outside."""
        T = np.asarray(T_map_cam, dtype=np.float64)
        if not np.isfinite(T).all():
            return VolumeCheck(False, math.nan, math.nan, "the pose is not finite")
        position, rotation = T[:3, 3], T[:3, :3]
        nearest_m = float(self._by_position.query(position)[0])
        distance_m, heading_deg = self._most_alike(position, rotation)
        allowed = f"allowed {self._metres(self.margin_m)}"
        reason = ""
        if nearest_m > self.margin_m:
            reason = f"{self._metres(nearest_m)} from the nearest training pose, {allowed}"
        elif heading_deg > self.heading_deg:
            reason = (
                f"looks {heading_deg:.0f} deg away from the training poses nearby, allowed {self.heading_deg:.0f} deg"
            )
        elif distance_m > self.margin_m:
            reason = f"{self._metres(distance_m)} from the nearest training pose that looks this way, {allowed}"
        return VolumeCheck(not reason, nearest_m, heading_deg, reason)

    def _metres(self, length_m: float) -> str:
        """With as many decimals as keep the length and the margin apart."""
        return f"{length_m:.{1 if self.margin_m >= 1 else 2}f} m"

    def _most_alike(self, position: Float64, rotation: Float64) -> tuple[float, float]:
        """Distance and angle (deg) to the training pose that exceeds its allowances least."""
        candidates = min(_CANDIDATES, len(self._positions))
        _, index = self._by_pose.query(self._joint(position, rotation), k=candidates)
        index = np.atleast_1d(index)
        offset = self._positions[index] - position
        distance_m = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        heading_deg = _angle_deg(self._rotations[index], rotation)
        best = int(np.maximum(distance_m / self.margin_m, heading_deg / self.heading_deg).argmin())
        return float(distance_m[best]), float(heading_deg[best])

    def _joint(self, position: Float64, rotation: Float64) -> Float64:
        """Position and rotation as one point (..., 12), in units of the allowances."""
        flat = rotation.reshape(*rotation.shape[:-2], 9)
        return np.concatenate([position / self.margin_m, flat * self._rotation_scale], axis=-1)

    def _spacing(self) -> tuple[float, float]:
        """q95 of the distance to the 4th neighbour in metres, and of the smallest angle to the four in degrees."""
        count = len(self._positions)
        if count == 1:
            return 0.0, 0.0
        some = np.linspace(0, count - 1, min(count, _SPACING_SAMPLE)).astype(int)
        distances, index = self._by_position.query(self._positions[some], k=min(NEIGHBOURS + 1, count))
        angles = _angle_deg(self._rotations[index[:, 1:]], self._rotations[some][:, None])
        return float(np.quantile(distances[:, -1], QUANTILE)), float(np.quantile(angles.min(axis=1), QUANTILE))


def _angle_deg(first: Float64, second: Float64) -> Float64:
    """Angle between rotations (..., 3, 3), from the chord: exact for small angles too."""
    difference = first - second
    chord = np.sqrt(np.einsum("...ij,...ij->...", difference, difference) / 8)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(chord, 1.0))), dtype=np.float64)


# May the depth at a pose be trusted? Elsewhere it is unknown: never a number, and never free space.


NOWHERE = -1.0  # a limit below every score: no held-out frame vouches for any pose


@dataclass(frozen=True)
class GuardAnswer:
    """Of one pose.

    inside: its depth may be trusted. score: how unlike the training poses it is (:class:`PoseScore`), in metres.
    limit: of the score, NaN without a calibration, NOWHERE when no held-out frame vouched for its depth.
    reason: empty when inside, else one line with the figures.
    distance_m, heading_deg: to the training poses, as :class:`VolumeCheck` says; is_near: whether within its margins.
    """

    inside: bool
    score: float
    limit: float
    reason: str
    distance_m: float = math.nan
    heading_deg: float = math.nan
    is_near: bool = False

    @property
    def is_calibrated(self) -> bool:
        return not math.isnan(self.limit)


class Guard:
    """Judges poses: by the score that held-out frames vouch for, or, uncalibrated, by margins about the training poses.

    Without a calibration a model of geometry (`any_camera`) is not bound to its training poses: it says pixel by pixel
    what it knows. With one it is: beyond the limit no held-out frame has shown how wrong it may be.
    """

    def __init__(
        self, T_map_cam_training: ArrayLike, distance_m: float, limit: float | None = None, any_camera: bool = False
    ) -> None:
        """`T_map_cam_training` (N, 4, 4), N >= 1; `distance_m` a typical depth; `limit` of the score, None: none."""
        self._volume = TrainedVolume(T_map_cam_training)
        self.score = PoseScore(T_map_cam_training, distance_m)
        self.limit = limit
        self._any_camera = any_camera
        self._last: tuple[bytes, GuardAnswer] | None = None  # asked for once to render and once to report

    @property
    def example_T_map_cam(self) -> Float64:
        """One of the training poses, (4, 4): a view that the model knows."""
        return self._volume.example_T_map_cam

    def check(self, T_map_cam: ArrayLike) -> GuardAnswer:
        """Judge one pose (4, 4); under 1 ms for 1,000 training poses. A pose that is not finite is outside."""
        key, last = np.asarray(T_map_cam, np.float64).tobytes(), self._last
        if last is None or last[0] != key:
            self._last = last = key, self._judge(T_map_cam)
        return last[1]

    def _judge(self, T_map_cam: ArrayLike) -> GuardAnswer:
        check, distance = self._volume.check(T_map_cam), self.score(T_map_cam)
        limit = math.nan if self.limit is None else self.limit
        if self.limit is None:
            inside = check.inside or (self._any_camera and math.isfinite(distance.score))
            reason = "" if inside else check.reason
        else:
            inside = distance.score <= self.limit
            reason = "" if inside else _reason(distance, check, self.limit)
        return GuardAnswer(inside, distance.score, limit, reason, check.distance_m, check.heading_deg, check.inside)


def _reason(distance: PoseDistance, check: VolumeCheck, limit: float) -> str:
    """The larger of the two distances in words."""
    if not math.isfinite(distance.score):
        return "the pose is not finite"
    if limit < 0:
        return "no held-out frame vouches for this model's depth anywhere; train longer or on more, and calibrate again"
    if distance.beyond_m >= distance.score / 2:
        text = f"{distance.beyond_m:.1f} m beyond the poses flown"
    else:
        text = f"looks {check.heading_deg:.0f} deg away from the training poses nearby"
    return f"{text}: score {distance.score:.1f}, held-out frames vouch up to {limit:.1f}"
