"""A flight: where the body and its camera are at any time, on which line, and which lines are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64
from pose2rgbd_ros.sim.flights.heldout import Guard
from pose2rgbd_ros.sim.flights.motion import Motion
from pose2rgbd_ros.sim.state import BodyState

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
