"""A flight: smooth motion in time, the lines that are flown, and which of them are held out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64, Int64
from pose2rgbd_ros.sim.state import BodyState

PERIOD_S = 0.5  # between control points
_DEGREE = 5
_PAD = 4  # repeated control points that bring the spline to rest; two periods of them are flown
LEAD_S = 2 * PERIOD_S  # what the rest at the start adds before the first control point's time


class Motion:
    """Position and attitude over time, four times continuously differentiable.

    A uniform B-spline keeps between its control points: it is never faster than they are, flies their straight lines
    exactly, at their speed, and rounds their bends. At both ends it is at rest, and stays so beyond them.

    Args:
        control: (n, 6) x, y, z in metres, then roll, pitch, yaw in radians (unwrapped), every 0.5 s.
    """

    def __init__(self, control: Float64) -> None:
        padded = np.concatenate([control[:1].repeat(_PAD, axis=0), control, control[-1:].repeat(_PAD, axis=0)])
        # Control point i has its peak at knot i + 3; time 0 is the first at which the spline is defined, knot 5.
        knots = (np.arange(len(padded) + _DEGREE + 1) - _DEGREE) * PERIOD_S
        self.duration_s = float(knots[len(padded)])
        self._value = BSpline(knots, padded, _DEGREE)
        self._rate = self._value.derivative()
        self._second = self._rate.derivative()

    def control_time_s(self, index: int) -> float:
        """When the control point of this index counts most."""
        return LEAD_S + index * PERIOD_S

    def pose(self, t_s: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Positions (N, 3) and roll, pitch, yaw (N, 3)."""
        value = self._at(self._value, t_s)
        return value[:, :3], value[:, 3:]

    def T_map_body(self, t_s: npt.ArrayLike) -> Float64:
        """Poses (N, 4, 4)."""
        return _transforms(self._at(self._value, t_s))

    def velocity_mps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map."""
        return self._at(self._rate, t_s)[:, :3]

    def acceleration_mps2(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map, gravity not included."""
        return self._at(self._second, t_s)[:, :3]

    def angular_velocity_body_radps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the body, from the rates of roll, pitch and yaw."""
        return _body_rates(self._at(self._value, t_s)[:, 3:], self._at(self._rate, t_s)[:, 3:])

    def state(self, t_s: float) -> BodyState:
        """All of that at one time, at little more than the cost of one."""
        value, rate = self._at(self._value, t_s), self._at(self._rate, t_s)
        return BodyState(
            float(t_s),
            _transforms(value)[0],
            rate[0, :3],
            self._at(self._second, t_s)[0, :3],
            _body_rates(value[:, 3:], rate[:, 3:])[0],
        )

    def _at(self, spline: BSpline, t_s: npt.ArrayLike) -> Float64:
        t = np.clip(np.atleast_1d(np.asarray(t_s, float)), 0.0, self.duration_s)
        return np.asarray(spline(t), dtype=np.float64)


def _transforms(pose: Float64) -> Float64:
    """Poses (N, 4, 4) of rows x, y, z, roll, pitch, yaw (N, 6); angles about the fixed axes x, y, z in this order."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(pose[:, 3:]).T, np.cos(pose[:, 3:]).T
    T = np.zeros((len(pose), 4, 4))
    T[:, 0, 0], T[:, 0, 1], T[:, 0, 2] = cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr
    T[:, 1, 0], T[:, 1, 1], T[:, 1, 2] = sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr
    T[:, 2, 0], T[:, 2, 1], T[:, 2, 2] = -sp, cp * sr, cp * cr
    T[:, :3, 3], T[:, 3, 3] = pose[:, :3], 1.0
    return T


def _body_rates(rpy_rad: Float64, rpy_rate_radps: Float64) -> Float64:
    """Angular velocity (N, 3) in the body."""
    roll, pitch, _ = rpy_rad.T
    roll_rate, pitch_rate, yaw_rate = rpy_rate_radps.T
    return np.stack(
        [
            roll_rate - yaw_rate * np.sin(pitch),
            pitch_rate * np.cos(roll) + yaw_rate * np.cos(pitch) * np.sin(roll),
            -pitch_rate * np.sin(roll) + yaw_rate * np.cos(pitch) * np.cos(roll),
        ],
        axis=-1,
    )


def smooth_noise(rng: np.random.Generator, count: int, every: int, columns: int) -> Float64:
    """Seeded noise (count, columns) of unit standard deviation, band-limited: its own nodes are `every` rows apart.

    Values stay within 4 standard deviations.
    """
    nodes = count // every + _DEGREE + 2
    control = np.clip(rng.standard_normal((nodes, columns)), -2.5, 2.5)
    spline = BSpline(np.arange(nodes + _DEGREE + 1.0) - _DEGREE, control, _DEGREE)
    inside = np.arange(200) / 200
    weights = np.array([BSpline.basis_element(np.arange(7.0))(inside + k) for k in range(6)])
    spread = np.sqrt((weights**2).sum(axis=0).mean())  # what averaging independent nodes leaves of their spread
    return np.asarray(spline(np.arange(count) / every) / spread, dtype=np.float64)


# Which lines of a flight are held out, and which frames come too close to them to be trained on.


ALIKE_RAD = np.deg2rad(30.0)  # orientations nearer than this see the same


def choose_lines(groups: Sequence[range], share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Lines held out: about `share` of each group, at least one where there are two lines or more.

    They are spread over the group, never neighbours, and never the first or last of a group of three or more: those
    border on nothing, so their frames could not be kept apart from their neighbours'.
    """
    chosen: list[int] = []
    for group in groups:
        chosen += [group[place] for place in _places(len(group), share, rng)]
    return tuple(sorted(chosen))


def _places(count: int, share: float, rng: np.random.Generator) -> list[int]:
    """Places below `count`: drawn one from each of equal parts, with a gap between any two."""
    if share <= 0 or count < 2:
        return []
    if count == 2:
        return [int(rng.integers(2))]
    inner = count - 2
    wanted = int(np.clip(round(share * count), 1, (inner + 1) // 2))
    # Drawn among what is left when every chosen place but the last takes its right neighbour with it.
    left = inner - (wanted - 1)
    cuts = np.floor(np.arange(1, wanted) * left / wanted + rng.random()).astype(int)
    return [1 + int(rng.integers(a, b)) + k for k, (a, b) in enumerate(itertools.pairwise([0, *cuts, left]))]


class Guard:
    """Tells which poses are near held-out ones: nearer than `radius_m`, and turned by less than 30 degrees.

    Args:
        position_m: (M, 3) of the held-out poses, close together along their lines.
        quat_xyzw: (M, 4) their orientations.
    """

    def __init__(self, position_m: Float64, quat_xyzw: Float64, radius_m: float) -> None:
        self._tree = cKDTree(position_m) if len(position_m) else None
        self._quat, self._radius_m = quat_xyzw, radius_m

    def __call__(self, position_m: Float64, quat_xyzw: Float64) -> Bool:
        """(N,) whether each of the poses (N, 3), (N, 4) is that near."""
        near = np.zeros(len(position_m), dtype=bool)
        if self._tree is None or self._radius_m <= 0:
            return near
        for i, found in enumerate(self._tree.query_ball_point(position_m, self._radius_m)):
            near[i] = bool(found) and np.abs(self._quat[found] @ quat_xyzw[i]).max() > np.cos(ALIKE_RAD / 2)
        return near


_TEST_STEP_S = 0.1  # between the held-out poses the guard looks at


@dataclass(frozen=True, eq=False)
class Lines:
    """The lines of a flight in time: line k lasts from start_s[k] to stop_s[k], (L,) each, ascending."""

    start_s: Float64
    stop_s: Float64
    held_out: tuple[int, ...]
    guard_m: float


class Flight:
    """A smooth flight of the body (x forward, y left, z up) with a camera mounted rigidly on it.

    Times are seconds from take-off, scalars or (N,); before 0 and after `duration_s` the body hovers where it then is.

    Attributes:
        name: of the plan.
        duration_s: at both ends the body is at rest.
        T_body_cam: (4, 4) pose of the camera's optical frame in the body.
        lines: how many lines the flight has, numbered in the order of time.
        held_out_lines: those held out for testing, ascending.
    """

    def __init__(self, name: str, motion: Motion, T_body_cam: Float64, lines: Lines) -> None:
        self.name, self.T_body_cam = name, T_body_cam
        self.duration_s = motion.duration_s
        self.lines, self.held_out_lines = len(lines.start_s), lines.held_out
        self._motion, self._lines = motion, lines
        self._guard: Guard | None = None

    def T_map_body(self, t_s: npt.ArrayLike) -> Float64:
        """Poses of the body, (N, 4, 4)."""
        return self._motion.T_map_body(t_s)

    def T_map_cam(self, t_s: npt.ArrayLike) -> Float64:
        """Poses of the camera's optical frame, (N, 4, 4)."""
        return se3.compose(self.T_map_body(t_s), self.T_body_cam)

    def position_m(self, t_s: npt.ArrayLike) -> Float64:
        """Of the body in the map, (N, 3)."""
        return self._motion.pose(t_s)[0]

    def velocity_mps(self, t_s: npt.ArrayLike) -> Float64:
        """Of the body in the map, (N, 3)."""
        return self._motion.velocity_mps(t_s)

    def acceleration_mps2(self, t_s: npt.ArrayLike) -> Float64:
        """Of the body in the map, gravity not included, (N, 3)."""
        return self._motion.acceleration_mps2(t_s)

    def angular_velocity_body_radps(self, t_s: npt.ArrayLike) -> Float64:
        """Of the body against the map, in the body's axes, (N, 3)."""
        return self._motion.angular_velocity_body_radps(t_s)

    def state(self, t_s: float) -> BodyState:
        """All of that at one time."""
        return self._motion.state(t_s)

    def line(self, t_s: npt.ArrayLike) -> Int64:
        """Number of the line flown, (N,); -1 on turns, before the first line and after the last."""
        t, lines = np.atleast_1d(np.asarray(t_s, float)), self._lines
        latest = self._latest(t)
        on = (latest >= 0) & (t <= np.append(lines.stop_s, -np.inf)[latest])
        return np.where(on, latest, -1)

    def split(self, t_s: npt.ArrayLike) -> AnyArray:
        """The set of each frame, (N,) of "train", "test", "unused".

        Held-out lines are "test", whole. The turns at their ends are "unused", and so is whatever passes a held-out
        pose within the guard's distance and is turned by less than 30 degrees against it. The rest is "train": that
        includes lines which cross a held-out one at an angle. They show the same ground from another direction, as
        its neighbours do; what is held out is the pose, not the place.
        """
        t = np.atleast_1d(np.asarray(t_s, float))
        held_out = np.array([*self.held_out_lines, -2])
        latest = self._latest(t)
        line = self.line(t)
        beside = (line < 0) & (np.isin(latest, held_out) | np.isin(latest + 1, held_out))
        result = np.where(np.isin(line, held_out), "test", np.where(beside, "unused", "train"))
        left = np.flatnonzero(result == "train")
        near = self._near_test(t[left])
        result[left[near]] = "unused"
        return result

    def _latest(self, t_s: Float64) -> Int64:
        """The line begun last, -1 before the first."""
        return np.searchsorted(self._lines.start_s, t_s, side="right").astype(np.int64) - 1

    def _near_test(self, t_s: Float64) -> AnyArray:
        if self._guard is None:
            spans = [
                np.arange(self._lines.start_s[k], self._lines.stop_s[k] + _TEST_STEP_S, _TEST_STEP_S)
                for k in self.held_out_lines
            ]
            self._guard = Guard(*self._oriented(np.concatenate([*spans, []])), self._lines.guard_m)
        return self._guard(*self._oriented(t_s))

    def _oriented(self, t_s: Float64) -> tuple[Float64, Float64]:
        position, rpy = self._motion.pose(t_s)
        return position, quaternions.from_euler_rpy(rpy)
