"""Poses over time and their interpolation, linear or cubic (the curves themselves: interpolation.py).

The one place where poses are interpolated; bag conversion, player and synchroniser all use it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import interpolation, quaternions, se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.interpolation import NEAREST_NEIGHBOUR, Method, Pose
from pose2rgbd_ros.geometry.time_jumps import passed_once

BEFORE_FIRST_POSE = "before_first_pose"
AFTER_LAST_POSE = "after_last_pose"
POSE_GAP = "pose_gap"


@dataclass(frozen=True, eq=False)
class Interpolated:
    """Poses asked for at M stamps. Where `valid` is False, `T` is NaN and `reason` names why."""

    T: Float64  # (M, 4, 4)
    valid: Bool  # (M,)
    reason: list[str | None]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of one frame in another at strictly increasing stamps.

    `stamps_ns` int64 (N,), `position_m` float64 (N, 3), `quat_xyzw` float64 (N, 4) of unit length; N >= 1.
    UserError when that does not hold; `from_unsorted` cleans up recorded poses first.
    """

    stamps_ns: Int64
    position_m: Float64
    quat_xyzw: Float64

    def __post_init__(self) -> None:
        stamps, position, quat = _as_columns(self.stamps_ns, self.position_m, self.quat_xyzw)
        if len(stamps) == 0:
            raise UserError("a trajectory needs at least one pose; none was given")
        if np.any(np.diff(stamps) <= 0):
            i = int(np.argmax(np.diff(stamps) <= 0))
            raise UserError(f"pose stamps must increase: {stamps[i + 1]} ns follows {stamps[i]} ns")
        if not np.all(np.isfinite(position)):
            raise UserError(f"the pose at {stamps[~np.isfinite(position).all(axis=1)][0]} ns is not finite")
        for name, value in (
            ("stamps_ns", stamps),
            ("position_m", position),
            ("quat_xyzw", quaternions.normalize(quat)),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @classmethod
    def from_unsorted(
        cls, stamps_ns: npt.ArrayLike, position_m: npt.ArrayLike, quat_xyzw: npt.ArrayLike
    ) -> tuple[Trajectory, dict[str, int]]:
        """A trajectory from poses as recorded, and how many were touched, by reason.

        Dropped: "non_finite_pose" (NaN, infinity or a zero quaternion), "duplicate_stamp" (the first one received
        stays). Sorted into place, not dropped: "out_of_order". Reasons that did not occur are absent. UserError
        when nothing usable is left.
        """
        stamps, position, quat = _as_columns(stamps_ns, position_m, quat_xyzw)
        length = np.linalg.norm(quat, axis=1)
        usable = np.isfinite(position).all(axis=1) & np.isfinite(length) & (length > 0)
        counts = Counter({"non_finite_pose": int(np.sum(~usable))})
        stamps, position, quat = stamps[usable], position[usable], quat[usable]
        if len(stamps) == 0:
            raise UserError(
                f"no usable pose among {len(usable)}: all are NaN, infinite or have a zero quaternion"
            )
        counts["out_of_order"] = int(np.sum(stamps[1:] < np.maximum.accumulate(stamps)[:-1]))
        unique, first = np.unique(stamps, return_index=True)
        counts["duplicate_stamp"] = len(stamps) - len(unique)
        return cls(unique, position[first], quat[first]), {reason: n for reason, n in counts.items() if n}

    @classmethod
    def from_recording(
        cls, stamps_ns: npt.ArrayLike, position_m: npt.ArrayLike, quat_xyzw: npt.ArrayLike
    ) -> tuple[Trajectory, dict[str, int]]:
        """The same of poses in the order in which they were received, whose clock may have been set back on the way.

        Poses of a time that the clock passed twice are left out ("time_jump"): which of the two is meant by a stamp
        cannot be known.
        """
        stamps, position, quat = _as_columns(stamps_ns, position_m, quat_xyzw)
        once = passed_once(stamps, np.concatenate([position, quat], axis=1))
        if not once.any():
            raise UserError(
                f"no usable pose among {len(stamps)}: their clock jumps back and passes all times twice"
                if len(stamps)
                else "no pose was recorded"
            )
        track, counts = cls.from_unsorted(stamps[once], position[once], quat[once])
        jumped = int(np.sum(~once))
        return track, {**counts, "time_jump": jumped} if jumped else counts

    @property
    def T(self) -> Float64:
        """The poses as matrices, (N, 4, 4)."""
        return se3.make(self.position_m, self.quat_xyzw)

    def interpolate(
        self, stamps_ns: npt.ArrayLike, max_gap_ns: int | None = None, method: Method = "linear"
    ) -> Interpolated:
        """Poses at `stamps_ns` (M,), in any order; exactly the recorded pose where a stamp matches one.

        Nothing is extrapolated. A stamp between two poses more than `max_gap_ns` apart is refused ("pose_gap").
        "cubic" heeds the poses before and after as well; where one is missing, further than `max_gap_ns`, or nearer
        than a third of the span, the interpolation is linear.
        """
        asked = np.asarray(stamps_ns, dtype=np.int64).reshape(-1)
        limit = np.iinfo(np.int64).max if max_gap_ns is None else max_gap_ns
        after = np.searchsorted(self.stamps_ns, asked, side="left")
        end = np.minimum(after, len(self) - 1)
        start = np.maximum(after - 1, 0)
        exact = self.stamps_ns[end] == asked
        early, late = (after == 0) & ~exact, after == len(self)
        gap = ~exact & ~early & ~late & (self.stamps_ns[end] - self.stamps_ns[start] > limit)
        reason: list[str | None] = [None] * len(asked)
        for mask, name in ((early, BEFORE_FIRST_POSE), (late, AFTER_LAST_POSE), (gap, POSE_GAP)):
            for i in np.flatnonzero(mask):
                reason[i] = name
        valid = ~(early | late | gap)
        T = np.full((len(asked), 4, 4), np.nan)
        T[exact] = se3.make(self.position_m[end[exact]], self.quat_xyzw[end[exact]])
        inner = valid & ~exact
        T[inner] = self._between(asked[inner], start[inner], limit, method)
        return Interpolated(T, valid, reason)

    def _between(self, asked: Int64, start: Int64, limit_ns: int, method: Method) -> Float64:
        """Transforms (M, 4, 4) between the poses `start` and `start` + 1."""
        known = self.stamps_ns
        span = known[start + 1] - known[start]
        u = (asked - known[start]) / span
        found = np.array(interpolation.linear(np, self._poses(start), self._poses(start + 1), u))
        if method == "cubic":
            before = known[start] - known[np.maximum(start - 1, 0)]
            after = known[np.minimum(start + 2, len(self) - 1)] - known[start + 1]
            curved = np.ones(len(asked), dtype=np.bool_)
            for neighbour in (before, after):  # 0 where there is none
                curved &= (neighbour <= limit_ns) & (neighbour >= span * NEAREST_NEIGHBOUR)
            i, h = start[curved], span[curved]
            four = [self._poses(i + k) for k in (-1, 0, 1, 2)]
            curve = interpolation.cubic(np, four, before[curved] / h, after[curved] / h, u[curved])
            found[:, curved] = np.array(curve)
        return se3.make(found[:3].T, found[3:].T)

    def _poses(self, i: Int64) -> Float64:
        """Seven numbers each (7, M), as interpolation takes them."""
        return np.concatenate([self.position_m[i], self.quat_xyzw[i]], axis=1).T


@dataclass(frozen=True, eq=False)
class Looked:
    """A pose looked up: `T` (4, 4), or the `reason` why there is none. `open`: a later pose may change the answer."""

    T: Float64 | None
    reason: str | None = None
    open: bool = False


def look_up(
    stamps_ns: Sequence[int],
    pose: Callable[[int], Pose],
    stamp_ns: int,
    max_gap_ns: int,
    method: Method = "linear",
) -> Looked:
    """One pose among many, as `Trajectory.interpolate` finds it, in microseconds.

    `pose(i)` is the pose at the increasing `stamps_ns[i]`: x, y, z and a unit quaternion qx, qy, qz, qw.
    """
    end, n = bisect_left(stamps_ns, stamp_ns), len(stamps_ns)
    if end == n:
        return Looked(None, AFTER_LAST_POSE, open=True)
    if stamps_ns[end] == stamp_ns:
        return Looked(_matrix(pose(end)))
    if end == 0:
        return Looked(None, BEFORE_FIRST_POSE)
    start_ns, end_ns = stamps_ns[end - 1], stamps_ns[end]
    span = end_ns - start_ns
    if span > max_gap_ns:
        return Looked(None, POSE_GAP)
    u = (stamp_ns - start_ns) / span
    wanted = method == "cubic" and end > 1
    before = start_ns - stamps_ns[end - 2] if wanted else 0
    if not wanted or not span * NEAREST_NEIGHBOUR <= before <= max_gap_ns:
        return Looked(_matrix(interpolation.linear(math, pose(end - 1), pose(end), u)))
    after = stamps_ns[end + 1] - end_ns if end + 1 < n else None
    if after is None or not span * NEAREST_NEIGHBOUR <= after <= max_gap_ns:
        T = _matrix(interpolation.linear(math, pose(end - 1), pose(end), u))
        return Looked(T, open=after is None)
    four = [pose(i) for i in range(end - 2, end + 2)]
    return Looked(_matrix(interpolation.cubic(math, four, before / span, after / span, u)))


def _matrix(pose: Pose) -> Float64:
    return np.array((*interpolation.matrix_rows(pose), (0.0, 0.0, 0.0, 1.0)))


def _as_columns(
    stamps_ns: npt.ArrayLike, position_m: npt.ArrayLike, quat_xyzw: npt.ArrayLike
) -> tuple[Int64, Float64, Float64]:
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    position, quat = np.asarray(position_m, dtype=np.float64), np.asarray(quat_xyzw, dtype=np.float64)
    n = stamps.size
    if n == 0 and position.size == 0 and quat.size == 0:
        return stamps.reshape(0), position.reshape(0, 3), quat.reshape(0, 4)
    if stamps.shape != (n,) or position.shape != (n, 3) or quat.shape != (n, 4):
        raise UserError(
            f"poses need stamps (N,), positions (N, 3) and quaternions (N, 4), not {stamps.shape}, "
            f"{position.shape} and {quat.shape}"
        )
    return stamps, position, quat
