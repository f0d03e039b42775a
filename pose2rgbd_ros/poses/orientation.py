"""Orientation over time from what recordings have: a gimbal, an inertial unit, or the course over ground.

Orientations are trajectories without a way: positions are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.synchronizer import PoseAnswer, PoseSource

_SECOND = 1e9
# A longer silence counts as this long: with a stamp of 1970 the sums of squared times would have no digits left.
_LONGEST_SILENCE_NS = 3_600_000_000_000


class TurnedPoses:
    """Positions of one source, orientations of another, each with its own rate and gaps.

    `arm_m` (3,) is where, in the turned body, the positions are measured (a GPS antenna); poses are the body's.
    Reasons of the orientation begin with "orientation_".
    """

    def __init__(self, position: PoseSource, orientation: PoseSource, arm_m: Float64 | None = None) -> None:
        self._position, self._orientation = position, orientation
        self._arm_m = np.zeros(3) if arm_m is None else arm_m

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The body's pose; it waits while either source does."""
        at = self._position.pose_at(stamp_ns)
        if at.T is None:
            return at
        turned = self._orientation.pose_at(stamp_ns)
        if turned.T is None:
            return PoseAnswer(None, f"orientation_{turned.reason}", turned.wait)
        T = turned.T.copy()
        T[:3, 3] = at.T[:3, 3] - T[:3, :3] @ self._arm_m
        return PoseAnswer(T, wait=at.wait or turned.wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Tell both sources."""
        self._position.jumped_back(stamp_ns)
        self._orientation.jumped_back(stamp_ns)


class GimbalPoses:
    """A gimbal's orientations whose yaw counts from where the body heads, on top of that heading."""

    def __init__(self, gimbal: PoseSource, body: PoseSource) -> None:
        self._gimbal, self._body = gimbal, body

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The gimbal in the map; roll and pitch of the body do not matter."""
        at = self._gimbal.pose_at(stamp_ns)
        on = self._body.pose_at(stamp_ns) if at.T is not None else at
        if at.T is None or on.T is None:
            return on
        yaw = np.arctan2(on.T[1, 0], on.T[0, 0])
        T = np.eye(4)
        T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        return PoseAnswer(T @ at.T, wait=at.wait or on.wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Tell both sources."""
        self._gimbal.jumped_back(stamp_ns)
        self._body.jumped_back(stamp_ns)


@dataclass(frozen=True, eq=False)
class Course:
    """A body that points where it moves, level. `sigma_rad` (N,); where slow (`held`), the last heading holds."""

    trajectory: Trajectory
    sigma_rad: Float64
    held: Bool


def course(stamps_ns: Int64, position_m: Float64, slow_mps: float, smoothing_s: float, sigma_m: float = 1.0) -> Course:
    """The course over ground of positions (N, 3) in ENU, each good to `sigma_m` horizontally.

    The velocity is that of a straight line through the positions within `smoothing_s` on both sides, at least one on
    each. UserError when the body never moves as fast as `slow_mps`.
    """
    t_ns = np.concatenate([[0], np.cumsum(np.minimum(np.diff(stamps_ns), _LONGEST_SILENCE_NS))])
    around_ns, index, n = round(smoothing_s * _SECOND), np.arange(len(t_ns)), len(t_ns)
    low = np.minimum(np.searchsorted(t_ns, t_ns - around_ns), np.maximum(index - 1, 0))
    high = np.maximum(np.searchsorted(t_ns, t_ns + around_ns, side="right"), np.minimum(index + 2, n))
    velocity, spread = _slopes(t_ns / _SECOND, position_m[:, :2], low, high)
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    sigma_mps = sigma_m / np.sqrt(np.maximum(spread, 1e-12))
    moves = speed >= slow_mps
    if not moves.any():
        raise UserError(
            f"the course says no heading: the body never moves at {slow_mps:g} m/s (at most {speed.max():.2f}); "
            "course_speed_mps sets the limit"
        )
    last = np.maximum.accumulate(np.where(moves, index, -1))
    last = np.where(last < 0, int(np.argmax(moves)), last)
    yaw = np.arctan2(velocity[last, 1], velocity[last, 0])
    quats = quaternions.from_euler_rpy(np.stack([0 * yaw, 0 * yaw, yaw], axis=1))
    sigma_rad = np.arctan2(sigma_mps[last], speed[last])
    return Course(Trajectory(stamps_ns, np.zeros((n, 3)), quats), sigma_rad, ~moves)


def _slopes(t_s: Float64, xy: Float64, low: Int64, high: Int64) -> tuple[Float64, Float64]:
    """Slopes (N, 2) of lines fitted to the samples low..high-1, and sums (N,) of squared times about their means."""

    def windows(values: Float64) -> Float64:
        sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
        return np.asarray(sums[high] - sums[low])

    n = (high - low).astype(np.float64)
    # About the middle of each stretch the sums stay small; the whole track's middle is good enough up to a day.
    t = t_s - t_s.mean()
    at = xy - xy.mean(axis=0)
    st, sxy = windows(t), windows(at)
    spread = windows(t * t) - st**2 / n
    slope = (windows(t[:, None] * at) - st[:, None] * sxy / n[:, None]) / np.maximum(spread, 1e-12)[:, None]
    return slope, spread
