"""Orientation over time from what recordings have: a gimbal, an inertial unit, or the course over ground.

Orientations are trajectories without a way: positions are zero.
"""

from __future__ import annotations

from array import array
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


class OrientationLog:
    """Recorded orientations in compact arrays, 40 bytes each; `flags` may say something of each."""

    def __init__(self) -> None:
        self.frame = ""
        self._stamps_ns = array("q")
        self._quats = array("d")
        self._flags = array("b")

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def add(self, stamp_ns: int, quat_xyzw: Float64, frame: str = "", flag: bool = False) -> None:
        """Append an orientation as received."""
        self.frame = self.frame or frame
        self._stamps_ns.append(stamp_ns)
        self._quats.extend(quat_xyzw)
        self._flags.append(flag)

    def shift(self, offset_ns: int) -> None:
        """Add to all stamps."""
        self._stamps_ns = array("q", (np.frombuffer(self._stamps_ns, np.int64) + offset_ns).tobytes())

    def trajectory(self) -> Trajectory:
        """By increasing stamps. UserError when no orientation is usable."""
        quats = np.frombuffer(self._quats).reshape(-1, 4)
        return Trajectory.from_recording(np.frombuffer(self._stamps_ns, np.int64), np.zeros((len(quats), 3)), quats)[0]

    def flagged(self) -> bool:
        """Whether most carry their flag."""
        return bool(np.mean(np.frombuffer(self._flags, np.int8)) > 0.5) if len(self) else False


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


@dataclass(frozen=True, eq=False)
class Course:
    """A body that points where it moves, level. `sigma_rad` (N,); where it was slow (`held`), the last heading
    holds.
    """

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
    told = np.maximum.accumulate(np.where(moves, index, -1))
    told = np.where(told < 0, int(np.argmax(moves)), told)
    yaw = np.arctan2(velocity[told, 1], velocity[told, 0])
    quats = quaternions.from_euler_rpy(np.stack([0 * yaw, 0 * yaw, yaw], axis=1))
    sigma_rad = np.arctan2(sigma_mps[told], speed[told])
    return Course(Trajectory(stamps_ns, np.zeros((n, 3)), quats), sigma_rad, ~moves)


def _slopes(t_s: Float64, xy: Float64, low: Int64, high: Int64) -> tuple[Float64, Float64]:
    """Slopes (N, 2) of lines fitted to the samples low..high-1, and the sums (N,) of squared times about their
    means.
    """

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


def gimbal_in_map(gimbal: Trajectory, yaw_in_earth: bool, body: Trajectory | None, max_gap_ns: int) -> Trajectory:
    """A gimbal's orientations in the map: as they are, or on top of the body's heading where they count from it.

    UserError when the heading is needed and there is none.
    """
    if yaw_in_earth:
        return gimbal
    if body is None:
        raise UserError("the gimbal's yaw counts from the vehicle's heading, and no orientation of it is recorded")
    at = body.interpolate(gimbal.stamps_ns, max_gap_ns)
    if not at.valid.any():
        raise UserError("the gimbal's yaw counts from the vehicle's heading, and they have no time in common")
    ahead = at.T[at.valid, :3, 0]
    yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
    level = quaternions.from_euler_rpy(np.stack([0 * yaw, 0 * yaw, yaw], axis=1))
    quats = quaternions.multiply(level, gimbal.quat_xyzw[at.valid])
    return Trajectory(gimbal.stamps_ns[at.valid], np.zeros((len(quats), 3)), quats)


def turned_by(orientation: Trajectory, T_child_body: Float64) -> Trajectory:
    """The orientations of a body of which another part was measured: R_map_child @ R_child_body."""
    quats = quaternions.multiply(orientation.quat_xyzw, quaternions.from_matrix(T_child_body[:3, :3]))
    return Trajectory(orientation.stamps_ns, orientation.position_m, quats)
