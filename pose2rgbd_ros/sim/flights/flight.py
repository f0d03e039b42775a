"""A flight: where the body and its camera are at any time, on which line, and which lines are held out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64, Int64
from pose2rgbd_ros.sim.flights.motion import Motion
from pose2rgbd_ros.sim.state import BodyState

# Which lines of a flight are held out, and which frames come too close to them to be trained on.


ALIKE_RAD = np.deg2rad(30.0)  # orientations nearer than this see the same


def choose_lines(groups: Sequence[range], share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Lines held out: about `share` of each group, at least one where there are two lines or more.

    They are spread over the group, never neighbours, and never the first or last of a group of three or more: those
    border on nothing, so their frames could not be told from their neighbours'.
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
