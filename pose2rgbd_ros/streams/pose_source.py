"""Where a frame is at a time: the question that the synchroniser asks, live and offline, and its simplest answers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.interpolation import Method
from pose2rgbd_ros.geometry.trajectory import Trajectory, look_up


@dataclass(frozen=True, eq=False)
class PoseAnswer:
    """`T` (4, 4), or why there is none. With `wait` a pose, or a better one, may still come: ask again later."""

    T: Float64 | None
    reason: str | None = None
    wait: bool = False


class PoseSource(Protocol):
    """The pose of one frame in another over time."""

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose at a time, in nanoseconds of the clock that stamps the poses."""

    def jumped_back(self, stamp_ns: int) -> None:
        """The clock of the stamps was set back to about this time: poses of later stamps are of a time before."""


class FixedPose:
    """A pose (4, 4) that holds always."""

    def __init__(self, T: Float64) -> None:
        self.T = T

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose."""
        return PoseAnswer(self.T)

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing."""


class RecordedPoses:
    """A whole recorded trajectory, never interpolated over more than `max_gap_ns`; there is nothing to wait for."""

    def __init__(self, trajectory: Trajectory, max_gap_ns: int, method: Method = "linear") -> None:
        self._trajectory = trajectory
        self._max_gap_ns, self._method = max_gap_ns, method
        self._stamps_ns = array("q", trajectory.stamps_ns.tobytes())
        self._poses = np.concatenate([trajectory.position_m, trajectory.quat_xyzw], axis=1)

    @property
    def trajectory(self) -> Trajectory:
        """The poses."""
        return self._trajectory

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The interpolated pose."""
        looked = look_up(self._stamps_ns, self._pose, stamp_ns, self._max_gap_ns, self._method)
        return PoseAnswer(looked.T, looked.reason)

    def _pose(self, i: int) -> list[float]:
        pose: list[float] = self._poses[i].tolist()
        return pose

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing: what is recorded holds for all images."""


class ChainedPoses:
    """Poses one on top of the other: T_map_body of the first, T_body_cam of the second, and so on.

    The names of the others stand before their reasons: "mount_pose_gap".
    """

    def __init__(self, first: PoseSource, **others: PoseSource) -> None:
        self._first = first
        self._others = others

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The product; the first part that has no pose tells why, and waits if any part that is missing does."""
        answer = self._first.pose_at(stamp_ns)
        if answer.T is None:
            return answer
        T, wait = answer.T, answer.wait
        for name, source in self._others.items():
            part = source.pose_at(stamp_ns)
            if part.T is None:
                return PoseAnswer(None, f"{name}_{part.reason}", part.wait)
            T, wait = T @ part.T, wait or part.wait
        return PoseAnswer(T, wait=wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Tell all parts."""
        for source in (self._first, *self._others.values()):
            source.jumped_back(stamp_ns)
