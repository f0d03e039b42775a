"""Poses over time and their interpolation, linear or cubic.

The one place where poses are interpolated; bag conversion, player and synchroniser all use it.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

# Between two poses: along a line and an arc, or along a smooth curve that heeds the poses before and after.
#
# Poses are seven numbers: x, y, z and a unit quaternion qx, qy, qz, qw. The formulas are written out so that the same
# lines serve single floats (`xp` is math; a lookup costs microseconds) and arrays (`xp` is numpy).


Method = Literal["linear", "cubic"]

Number = Any  # a float, or a float64 array (M,)
Vector = tuple[Number, Number, Number]
Quaternion = tuple[Number, Number, Number, Number]
Pose = Sequence[Number] | Float64  # seven numbers, or (7, M)

# A neighbour nearer than this part of the span lends it no slope: noise over a short time is a wild speed.
NEAREST_NEIGHBOUR = 1 / 3
_TINY = 1e-300  # under a root: keeps 0/0 away without a branch


def interpolate_linear(xp: Any, start: Pose, end: Pose, u: Number) -> Pose:
    """The pose a part `u` of the way: position on the line, orientation on the shortest arc (SLERP)."""
    position = [(1 - u) * a + u * b for a, b in zip(start[:3], end[:3], strict=True)]
    x, y, z = _turn(xp, start, end)
    return (*position, *_turned(xp, start, (u * x, u * y, u * z)))


def interpolate_cubic(xp: Any, poses: Sequence[Pose], a: Number, c: Number, u: Number) -> Pose:
    """The pose a part `u` of the way from the second to the third of four, on a Hermite curve that is C1 throughout.

    `a`, `c`: the spans before and after, in units of the one between. The speed at a pose is that of the parabola
    through it and its two neighbours, also for uneven spans. Orientations follow the same curve in the rotation vector
    from `start`, where the angular velocity at `end` becomes a slope through the inverse right Jacobian of SO(3).
    """
    before, start, end, after = poses
    weights = _hermite(u)
    position = []
    for p0, p1, p2, p3 in zip(before[:3], start[:3], end[:3], after[:3], strict=True):
        chord = p2 - p1
        slopes = _slope(p1 - p0, a, chord, 1.0), _slope(chord, 1.0, p3 - p2, c)
        position.append(p1 + _curve(weights, slopes[0], chord, slopes[1]))
    chords = _turn(xp, before, start), _turn(xp, start, end), _turn(xp, end, after)
    first = [_slope(w0, a, w1, 1.0) for w0, w1 in zip(chords[0], chords[1], strict=True)]
    last = [_slope(w1, 1.0, w2, c) for w1, w2 in zip(chords[1], chords[2], strict=True)]
    last = _chart_slope(xp, chords[1], last)
    turn = [_curve(weights, m1, w, m2) for m1, w, m2 in zip(first, chords[1], last, strict=True)]
    return (*position, *_turned(xp, start, turn))


def matrix_rows(pose: Pose) -> tuple[tuple[Number, Number, Number, Number], ...]:
    """The three upper rows of the pose's 4x4 matrix."""
    px, py, pz, x, y, z, w = pose
    return (
        (x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w), px),
        (2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w), py),
        (2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w, pz),
    )


def _hermite(u: Number) -> Vector:
    """Weights of the slope at the start, of the chord, and of the slope at the end."""
    return u * (1 - u) * (1 - u), u * u * (3 - 2 * u), -u * u * (1 - u)


def _curve(weights: Vector, first: Number, chord: Number, last: Number) -> Number:
    return weights[0] * first + weights[1] * chord + weights[2] * last


def _slope(chord_before: Number, before: Number, chord_after: Number, after: Number) -> Number:
    """Slope at the middle of the parabola through three points, from its two chords and their spans."""
    return (before / after * chord_after + after / before * chord_before) / (before + after)


def _turn(xp: Any, start: Pose, end: Pose) -> Vector:
    """The rotation vector that turns `start` into `end` about its own axes, the shorter way."""
    ax, ay, az, aw = start[3:]
    bx, by, bz, bw = end[3:]
    x = aw * bx - ax * bw - ay * bz + az * by
    y = aw * by - ay * bw - az * bx + ax * bz
    z = aw * bz - az * bw - ax * by + ay * bx
    w = aw * bw + ax * bx + ay * by + az * bz
    sine = xp.sqrt(x * x + y * y + z * z + _TINY)
    scale = xp.copysign(2 * _atan2(xp)(sine, abs(w)) / sine, w)
    return scale * x, scale * y, scale * z


def _turned(xp: Any, start: Pose, turn: Sequence[Number]) -> Quaternion:
    """The orientation of `start` turned by a rotation vector about its own axes, of unit length."""
    x, y, z = turn
    angle = xp.sqrt(x * x + y * y + z * z + _TINY)
    scale = xp.sin(angle / 2) / angle
    bx, by, bz, bw = scale * x, scale * y, scale * z, xp.cos(angle / 2)
    ax, ay, az, aw = start[3:]
    qx = aw * bx + ax * bw + ay * bz - az * by
    qy = aw * by + ay * bw + az * bx - ax * bz
    qz = aw * bz + az * bw + ax * by - ay * bx
    qw = aw * bw - ax * bx - ay * by - az * bz
    length = xp.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    return qx / length, qy / length, qz / length, qw / length


def _chart_slope(xp: Any, turn: Vector, rate: Sequence[Number]) -> list[Number]:
    """How the rotation vector changes at `turn` while the body turns at `rate`: the inverse right Jacobian of SO(3)."""
    square = turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2] + _TINY
    half = xp.sqrt(square) / 2
    k = (1 - half * xp.cos(half) / xp.sin(half)) / square
    once = _cross(turn, rate)
    twice = _cross(turn, once)
    return [v + a / 2 + k * b for v, a, b in zip(rate, once, twice, strict=True)]


def _cross(a: Sequence[Number], b: Sequence[Number]) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _atan2(xp: Any) -> Any:
    return xp.atan2 if hasattr(xp, "atan2") else xp.arctan2  # numpy 1 has only the longer name


# Clocks that are set back while stamps are taken by them.


# Stamps that go back by more are a clock set back or a recording that starts again, not messages out of order.
JUMP_NS = 1_000_000_000
# One stamp alone that leaps ahead by more is wrong, not a clock set forward and back.
_LEAP_NS = 10_000_000_000


def restarts(stamps_ns: Int64) -> list[int]:
    """Where, in stamps (N,) as they were received, time begins anew.

    Two in a row that are older than what was there by more than a second, the second newer than the first, are a jump
    back; one alone is a straggler.
    """
    newest = np.maximum.accumulate(stamps_ns)
    if not np.any(stamps_ns < newest - JUMP_NS):
        return []
    found: list[int] = []
    newest_ns, behind = int(stamps_ns[0]), -1
    for i, stamp_ns in enumerate(stamps_ns.tolist()):
        if stamp_ns >= newest_ns - JUMP_NS:
            newest_ns, behind = max(newest_ns, stamp_ns), -1
        elif behind >= 0 and stamp_ns > stamps_ns[behind]:
            found.append(behind)
            newest_ns, behind = stamp_ns, -1
        else:
            behind = i
    return found


def passed_once(stamps_ns: Int64, values: Float64) -> Bool:
    """Which stamps (N,), as they were received, are of times that the clock passed only once.

    A recording that was merely played again, the same `values` (N, K) at the same stamps, counts as one. A single
    stamp far ahead of those before and after it says nothing of theirs.
    """
    known = ~_leaps(stamps_ns)
    once = np.ones(len(stamps_ns), dtype=np.bool_)
    once[known] = _passed_once(stamps_ns[known], values[known])
    return once


def _leaps(stamps_ns: Int64) -> Bool:
    """Which stamps (N,) leap ahead alone: the next one goes on from where the one before was."""
    alone = np.zeros(len(stamps_ns), dtype=np.bool_)
    before, at, after = stamps_ns[:-2], stamps_ns[1:-1], stamps_ns[2:]
    alone[1:-1] = (at - before > _LEAP_NS) & (at - after > _LEAP_NS) & (after > before - JUMP_NS)
    return alone


def _passed_once(stamps_ns: Int64, values: Float64) -> Bool:
    once = np.ones(len(stamps_ns), dtype=np.bool_)
    starts = restarts(stamps_ns)
    for start, end in itertools.pairwise([*starts, len(stamps_ns)]):
        before, again = stamps_ns[:start], stamps_ns[start:end]
        first = max(before.min(), again.min())
        last = min(before.max(), again.max())
        twice = start + np.flatnonzero((again >= first) & (again <= last))
        order = np.argsort(before, kind="stable")
        partner = order[np.minimum(np.searchsorted(before[order], stamps_ns[twice]), start - 1)]
        a, b = values[partner], values[twice]
        same = (stamps_ns[partner] == stamps_ns[twice]) & ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
        if not same.all():
            once &= (stamps_ns < first) | (stamps_ns > last)
    return once


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
            raise UserError(f"no usable pose among {len(usable)}: all are NaN, infinite or have a zero quaternion")
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
        found = np.array(interpolate_linear(np, self._poses(start), self._poses(start + 1), u))
        if method == "cubic":
            before = known[start] - known[np.maximum(start - 1, 0)]
            after = known[np.minimum(start + 2, len(self) - 1)] - known[start + 1]
            curved = np.ones(len(asked), dtype=np.bool_)
            for neighbour in (before, after):  # 0 where there is none
                curved &= (neighbour <= limit_ns) & (neighbour >= span * NEAREST_NEIGHBOUR)
            i, h = start[curved], span[curved]
            four = [self._poses(i + k) for k in (-1, 0, 1, 2)]
            curve = interpolate_cubic(np, four, before[curved] / h, after[curved] / h, u[curved])
            found[:, curved] = np.array(curve)
        return se3.make(found[:3].T, found[3:].T)

    def _poses(self, i: Int64) -> Float64:
        """Seven numbers each (7, M), as interpolation takes them."""
        return np.concatenate([self.position_m[i], self.quat_xyzw[i]], axis=1).T


def mutual_nearest(first_ns: Int64, second_ns: Int64, tolerance_ns: int) -> tuple[Int64, Int64]:
    """The numbers (P,) of stamps (N,) and (M,), in any order, that are each other's nearest within the tolerance.

    In the order of the first; of equal stamps any one may be taken.
    """
    if len(first_ns) == 0 or len(second_ns) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    to_second, to_first = _nearest(first_ns, second_ns), _nearest(second_ns, first_ns)
    close = np.abs(first_ns - second_ns[to_second]) <= tolerance_ns
    chosen = np.flatnonzero(close & (first_ns[to_first[to_second]] == first_ns))
    return chosen, to_second[chosen]


def _nearest(asked_ns: Int64, stamps_ns: Int64) -> Int64:
    """(N,) the number of the nearest of `stamps_ns` for each of `asked_ns`."""
    order = np.argsort(stamps_ns, kind="stable")
    ordered = stamps_ns[order]
    after = np.minimum(np.searchsorted(ordered, asked_ns), len(ordered) - 1)
    before = np.maximum(after - 1, 0)
    return np.asarray(order[np.where(asked_ns - ordered[before] <= ordered[after] - asked_ns, before, after)])


@dataclass(frozen=True, eq=False)
class Looked:
    """A pose looked up: `T` (4, 4), or the `reason` why there is none. `open`: a later pose may change the answer."""

    T: Float64 | None
    reason: str | None = None
    open: bool = False


def look_up(
    stamps_ns: Sequence[int], pose: Callable[[int], Pose], stamp_ns: int, max_gap_ns: int, method: Method = "linear"
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
        return Looked(_matrix(interpolate_linear(math, pose(end - 1), pose(end), u)))
    after = stamps_ns[end + 1] - end_ns if end + 1 < n else None
    if after is None or not span * NEAREST_NEIGHBOUR <= after <= max_gap_ns:
        T = _matrix(interpolate_linear(math, pose(end - 1), pose(end), u))
        return Looked(T, open=after is None)
    four = [pose(i) for i in range(end - 2, end + 2)]
    return Looked(_matrix(interpolate_cubic(math, four, before / span, after / span, u)))


def _matrix(pose: Pose) -> Float64:
    return np.array((*matrix_rows(pose), (0.0, 0.0, 0.0, 1.0)))


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
