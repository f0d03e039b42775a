"""Poses over time and their interpolation: positions linearly, orientations by SLERP.

The one place where poses are interpolated; bag conversion, player and synchroniser all use it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

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

    @property
    def T(self) -> Float64:
        """The poses as matrices, (N, 4, 4)."""
        return se3.make(self.position_m, self.quat_xyzw)

    def interpolate(self, stamps_ns: npt.ArrayLike, max_gap_ns: int | None = None) -> Interpolated:
        """Poses at `stamps_ns` (M,), in any order; exactly the recorded pose where a stamp matches one.

        Nothing is extrapolated. A stamp between two poses more than `max_gap_ns` apart is refused ("pose_gap").
        """
        asked = np.asarray(stamps_ns, dtype=np.int64).reshape(-1)
        after = np.searchsorted(self.stamps_ns, asked, side="left")
        end = np.minimum(after, len(self) - 1)
        start = np.maximum(after - 1, 0)
        exact = self.stamps_ns[end] == asked
        early, late = (after == 0) & ~exact, after == len(self)
        span = self.stamps_ns[end] - self.stamps_ns[start]
        gap = (
            ~exact & ~early & ~late & (span > (np.iinfo(np.int64).max if max_gap_ns is None else max_gap_ns))
        )
        reason: list[str | None] = [None] * len(asked)
        for mask, name in ((early, BEFORE_FIRST_POSE), (late, AFTER_LAST_POSE), (gap, POSE_GAP)):
            for i in np.flatnonzero(mask):
                reason[i] = name
        valid = ~(early | late | gap)
        return Interpolated(self._between(asked, start, end, exact, valid), valid, reason)

    def _between(self, asked: Int64, start: Int64, end: Int64, exact: Bool, valid: Bool) -> Float64:
        """Transforms (M, 4, 4) between the poses `start` and `end`; NaN where not `valid`."""
        position = np.full((len(asked), 3), np.nan)
        quat = np.tile(quaternions.IDENTITY, (len(asked), 1))
        position[exact], quat[exact] = self.position_m[end[exact]], self.quat_xyzw[end[exact]]
        inner = valid & ~exact
        i, j = start[inner], end[inner]
        u = (asked[inner] - self.stamps_ns[i]) / (self.stamps_ns[j] - self.stamps_ns[i])
        position[inner] = (1 - u[:, None]) * self.position_m[i] + u[:, None] * self.position_m[j]
        quat[inner] = quaternions.slerp(self.quat_xyzw[i], self.quat_xyzw[j], u)
        T = se3.make(position, quat)
        T[~valid] = np.nan
        return T


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
