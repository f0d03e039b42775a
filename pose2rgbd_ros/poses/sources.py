"""Poses of one thing over time, added as they were received: a recording's are kept whole, live ones for a while."""

from __future__ import annotations

import math
import sys
import threading
from array import array
from bisect import bisect_left
from collections import Counter

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.trajectory import AFTER_LAST_POSE, JUMP_NS, Method, Trajectory, look_up
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import PoseAnswer, RecordedPoses

KEEP_NS = 30_000_000_000
_MOST = 100_000  # poses, however fast they come
_NONE_YET = PoseAnswer(None, "no_pose", wait=True)
_NOT_YET = PoseAnswer(None, AFTER_LAST_POSE, wait=True)
_UNIT_WITHIN = 0.05


class PoseLog:
    """All poses of a recording in compact arrays, 64 bytes each, cleaned when they are asked for; nothing to wait for.

    `problems` counts by reason what was wrong (see Trajectory.from_recording).
    """

    def __init__(self, max_gap_ns: int = sys.maxsize, method: Method = "linear") -> None:
        self._max_gap_ns, self._method = max_gap_ns, method
        self._stamps_ns = array("q")
        self._numbers = array("d")  # seven per pose
        self._cleaned: tuple[RecordedPoses, dict[str, int]] | None = None

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def add(self, pose: PoseSample) -> None:
        """Append a pose as received."""
        self._stamps_ns.append(pose.stamp_ns)
        self._numbers.extend(pose.position_m)
        self._numbers.extend(pose.quat_xyzw)
        self._cleaned = None

    def shift(self, offset_ns: int) -> None:
        """Add to all stamps."""
        self._stamps_ns = array("q", (np.array(self._stamps_ns) + offset_ns).tobytes())
        self._cleaned = None

    def valid_share(self) -> float:
        """The part of the poses that is finite and whose quaternion is of unit length."""
        numbers = np.array(self._numbers).reshape(-1, 7)
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.abs(np.linalg.norm(numbers[:, 3:], axis=1) - 1) < _UNIT_WITHIN
        return float((np.isfinite(numbers).all(axis=1) & unit).mean()) if len(self) else 0.0

    def trajectory(self) -> Trajectory:
        """The cleaned poses. UserError when none is usable."""
        return self._clean()[0].trajectory

    @property
    def problems(self) -> dict[str, int]:
        """What was wrong."""
        try:
            return self._clean()[1]
        except UserError:  # not one usable pose
            return {"non_finite_pose": len(self)}

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The interpolated pose."""
        try:
            return self._clean()[0].pose_at(stamp_ns)
        except UserError:
            return PoseAnswer(None, "no_pose")

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing: what is recorded holds for all images."""

    def clear(self) -> None:
        """Forget all poses."""
        del self._stamps_ns[:], self._numbers[:]
        self._cleaned = None

    def _clean(self) -> tuple[RecordedPoses, dict[str, int]]:
        if self._cleaned is None:
            numbers = np.array(self._numbers).reshape(-1, 7)
            track, problems = Trajectory.from_recording(np.array(self._stamps_ns), numbers[:, :3], numbers[:, 3:])
            self._cleaned = RecordedPoses(track, self._max_gap_ns, self._method), problems
        return self._cleaned


class PoseBuffer:
    """The poses of the last `keep_ns`, interpolated as `Trajectory.interpolate` does, over at most `max_gap_ns`.

    A stamp newer than the newest pose waits; with "cubic" so does one whose second pose after it may still come, its
    answer up to then being linear. Poses may come out of order by up to a second. Two in a row that are older than
    that are a jump of the clock: what was known before is forgotten. `problems` counts by reason what was wrong:
    non_finite_pose, duplicate_stamp (the first stays), too_old (all three left out), out_of_order, time_jump.
    Any thread may call any method.
    """

    def __init__(self, max_gap_ns: int, method: Method = "linear", keep_ns: int = KEEP_NS) -> None:
        self.problems: Counter[str] = Counter()
        self._max_gap_ns, self._method, self._keep_ns = max_gap_ns, method, keep_ns
        self._lock = threading.Lock()
        self._stamps_ns = array("q")
        self._numbers = array("d")  # seven per pose
        self._behind: tuple[int, tuple[float, ...]] | None = None

    def __len__(self) -> int:
        return len(self._stamps_ns)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest pose."""
        with self._lock:
            return self._stamps_ns[-1] if self._stamps_ns else None

    def add(self, pose: PoseSample) -> None:
        """Take in a pose as received; a bad one is counted and left out."""
        numbers = _numbers(pose)
        with self._lock:
            if numbers is None:
                self.problems["non_finite_pose"] += 1
            elif not self._stamps_ns or pose.stamp_ns > self._stamps_ns[-1]:
                self._append(pose.stamp_ns, numbers)
            elif pose.stamp_ns < self._stamps_ns[-1] - JUMP_NS:
                self._add_behind(pose.stamp_ns, numbers)
            else:
                self._insert(pose.stamp_ns, numbers)

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The interpolated pose."""
        with self._lock:
            if not self._stamps_ns:
                return _NONE_YET
            if stamp_ns > self._stamps_ns[-1]:
                return _NOT_YET
            looked = look_up(self._stamps_ns, self._pose, stamp_ns, self._max_gap_ns, self._method)
        return PoseAnswer(looked.T, looked.reason, looked.open)

    def trajectory(self) -> Trajectory:
        """All poses that are kept. UserError when there is none."""
        with self._lock:
            numbers = np.array(self._numbers).reshape(-1, 7)
            return Trajectory(np.array(self._stamps_ns), numbers[:, :3], numbers[:, 3:])

    def jumped_back(self, stamp_ns: int) -> None:
        """Forget what is known, unless it ends before that stamp: poses of a time before must not answer for it."""
        with self._lock:
            if self._stamps_ns and self._stamps_ns[-1] >= stamp_ns:
                self._forget()

    def clear(self) -> None:
        """Forget all poses."""
        with self._lock:
            self._forget()

    def _pose(self, i: int) -> array[float]:
        return self._numbers[7 * i : 7 * i + 7]

    def _append(self, stamp_ns: int, numbers: tuple[float, ...]) -> None:
        self._behind = None
        self._stamps_ns.append(stamp_ns)
        self._numbers.extend(numbers)
        oldest_ns = stamp_ns - self._keep_ns
        # An eighth more is kept so that arrays are seldom moved.
        if self._stamps_ns[0] < oldest_ns - self._keep_ns // 8 or len(self._stamps_ns) > _MOST:
            old = max(bisect_left(self._stamps_ns, oldest_ns), len(self._stamps_ns) - _MOST * 7 // 8)
            del self._stamps_ns[:old], self._numbers[: 7 * old]

    def _insert(self, stamp_ns: int, numbers: tuple[float, ...]) -> None:
        self._behind = None
        if stamp_ns < self._stamps_ns[-1]:
            self.problems["out_of_order"] += 1
        at = bisect_left(self._stamps_ns, stamp_ns)
        if self._stamps_ns[at] == stamp_ns:
            self.problems["duplicate_stamp"] += 1
            return
        self._stamps_ns.insert(at, stamp_ns)
        self._numbers[7 * at : 7 * at] = array("d", numbers)

    def _add_behind(self, stamp_ns: int, numbers: tuple[float, ...]) -> None:
        """A pose of long ago: a straggler, unless it goes on from one before it: then time jumped back."""
        before = self._behind
        if before is None or stamp_ns <= before[0]:
            self._behind = stamp_ns, numbers
            self.problems["too_old"] += 1
            return
        self._forget()
        self.problems["time_jump"] += 1
        self._append(*before)
        self._append(stamp_ns, numbers)

    def _forget(self) -> None:
        self._behind = None
        del self._stamps_ns[:], self._numbers[:]


def _numbers(pose: PoseSample) -> tuple[float, ...] | None:
    """Position and unit quaternion; None when they are not finite or the quaternion is zero.

    The quaternion is scaled step by step as `quaternions.normalize` does, so that the numbers are the same.
    """
    position = tuple(map(float, pose.position_m))
    quat = tuple(map(float, pose.quat_xyzw))
    if not all(map(math.isfinite, position + quat)):
        return None
    scale = max(map(abs, quat))
    if scale == 0:
        return None
    x, y, z, w = (part / scale for part in quat)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    return (*position, x / length, y / length, z / length, w / length)
