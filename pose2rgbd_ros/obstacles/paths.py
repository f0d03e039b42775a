"""Where a body will be: paths resampled by arc length, and constant twists carried on. Pure numpy, no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3, trajectory
from pose2rgbd_ros.geometry.arrays import Float64

Facing = Literal["auto", "given", "path"]
MOST_POSES = 10_000  # of one path: what a profile of them still fits into a message of a megabyte
STANDING_MPS, STANDING_RADPS = 0.05, 0.01  # slower is standing still
_TINY_M = 1e-9


@dataclass(frozen=True, eq=False)
class BodyPath:
    """Poses to come, in the map frame.

    T_map_body: (N, 4, 4). distance_m: (N,) along the path from its first pose. time_s: (N,) after the stamp of the path
    or twist, NaN without a speed. direction: (N, 3) unit vectors along the path, NaN where it goes nowhere.
    """

    T_map_body: Float64
    distance_m: Float64
    time_s: Float64
    direction: Float64

    def __len__(self) -> int:
        return len(self.T_map_body)

    def part(self, first: int, end: int) -> BodyPath:
        """The poses from `first` to before `end`."""
        return BodyPath(
            *(values[first:end] for values in (self.T_map_body, self.distance_m, self.time_s, self.direction))
        )

    def moved(self, T_to_from: Float64) -> BodyPath:
        """The same path in another frame."""
        direction = self.direction @ T_to_from[:3, :3].T
        return BodyPath(T_to_from @ self.T_map_body, self.distance_m, self.time_s, direction)


@dataclass(frozen=True, eq=False)
class Waypoints:
    """A path as it was given: positions (M, 3) in the map, orientations (M, 4) of the body, times (M,) or NaN."""

    position_m: Float64
    quat_xyzw: Float64
    time_s: Float64

    def __post_init__(self) -> None:
        """UserError: empty, or a pose that is not finite."""
        if len(self.position_m) == 0:
            raise UserError("the path is empty; give it at least one pose")
        bad = np.asarray(~np.isfinite(np.hstack([self.position_m, self.quat_xyzw])).all(axis=1))
        if bad.any():
            raise UserError(
                f"pose {int(bad.argmax())} of the path holds NaN or infinity ({int(bad.sum())} of {len(bad)} do)"
            )

    @property
    def arc_m(self) -> Float64:
        """Length of the path up to each pose, (M,)."""
        steps = np.linalg.norm(np.diff(self.position_m, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def faced(points: Waypoints, facing: Facing) -> Waypoints:
    """The path with orientations to rely on.

    "given": those of the poses. "path": level, the body's x axis along the path (where it goes straight up or down:
    as before). "auto": along the path when no pose says an orientation (all are zero or the identity), else as given.

    Raises:
        UserError: an orientation that counts is all zero.
    """
    quat = points.quat_xyzw
    blank = ~quat[:, :3].any(axis=1)  # the identity at any length, or zero
    if facing == "path" or (facing == "auto" and blank.all()):
        yaw = _headings_rad(points.position_m)
        rpy = np.stack([np.zeros_like(yaw), np.zeros_like(yaw), yaw], axis=-1)
        return Waypoints(points.position_m, quaternions.from_euler_rpy(rpy), points.time_s)
    zero = ~quat.any(axis=1)
    if zero.any():
        raise UserError(
            f"pose {int(zero.argmax())} of the path has an orientation that is all zero; set w = 1 for none, "
            "or face along the path"
        )
    return Waypoints(points.position_m, quaternions.normalize(quat), points.time_s)


def resampled(
    points: Waypoints, spacing_m: float, first_m: float = 0.0, most: int = MOST_POSES, cut: bool = False
) -> BodyPath:
    """Poses every `spacing_m` of arc length from `first_m` on, and the last one; 0: the poses as they are.

    The last step may be a millionth longer than `spacing_m`: rounding adds no pose beside the last one.

    Positions lie on the straight lines between the poses, orientations on the shortest arcs (SLERP), times are
    interpolated. More than `most` poses are refused, or with `cut` the path is cut off there.

    Raises:
        UserError: too many poses.
    """
    arc, length = points.arc_m, float(points.arc_m[-1])
    first = min(max(first_m, 0.0), length)
    rest = arc > first + _TINY_M
    count = (1 + int(rest.sum())) if spacing_m <= 0 else 2 + int(min((length - first) / spacing_m, 1e9))
    if spacing_m <= 0 and first == 0.0 and not cut:
        count = len(arc)
    if count > most and not cut:
        raise UserError(
            f"{count} poses; at most {most} are rendered for one path: give a larger spacing than {spacing_m:g} m, or "
            "parts"
        )
    if spacing_m > 0:
        s: Float64 = first + spacing_m * np.arange(min(count, most) + 1, dtype=np.float64)
        s = np.append(s[s < length - 1e-6 * spacing_m], length)[:most]
        return _at(points, arc, s)
    if first == 0.0:
        poses = se3.make(points.position_m, points.quat_xyzw)
        path = BodyPath(poses, arc, points.time_s, _directions(points.position_m, arc, arc))
    else:
        path = _at(points, arc, np.concatenate([[first], arc[rest]]))
    return path.part(0, most)


def along(points: Waypoints, position_m: npt.ArrayLike, from_m: float, within_m: float) -> float:
    """How far along the path the body is: the arc length nearest to it in [from_m, from_m + within_m]."""
    arc, position = points.arc_m, np.asarray(position_m, dtype=np.float64)
    if len(arc) < 2:
        return 0.0
    start, chord = points.position_m[:-1], np.diff(points.position_m, axis=0)
    length = np.diff(arc)
    low = np.clip(from_m - arc[:-1], 0.0, length)
    high = np.clip(from_m + within_m - arc[:-1], 0.0, length)
    unit = chord / np.maximum(length, _TINY_M)[:, None]
    offset = np.clip(np.sum((position - start) * unit, axis=1), low, high)
    away = np.linalg.norm(start + offset[:, None] * unit - position, axis=1)
    away[(arc[1:] < from_m) | (arc[:-1] > from_m + within_m)] = np.inf
    nearest = int(away.argmin())
    return float(arc[nearest] + offset[nearest])


def carried_on(T_map_body: Float64, twist: npt.ArrayLike, horizon_s: float, count: int) -> BodyPath:
    """Where a body is in the next `horizon_s` seconds if its twist (6,) stays: `count` poses, now and the end included.

    twist: velocity (m/s) and turning (rad/s) in the frame of the body. A body that stands still has one pose.

    Raises:
        UserError: a twist that is not finite.
    """
    xi = np.asarray(twist, dtype=np.float64)
    if not np.isfinite(xi).all():
        raise UserError("the twist holds NaN or infinity")
    speed, turning = float(np.linalg.norm(xi[:3])), float(np.linalg.norm(xi[3:]))
    if count < 2 or (speed < STANDING_MPS and turning < STANDING_RADPS):
        return BodyPath(T_map_body[None], np.zeros(1), np.zeros(1), np.full((1, 3), np.nan))
    time_s = np.linspace(0.0, horizon_s, count)
    T = T_map_body @ se3.exponential(time_s[:, None] * xi)
    direction = np.full((count, 3), np.nan)
    if speed >= STANDING_MPS:
        direction = T[:, :3, :3] @ (xi[:3] / speed)
    return BodyPath(T, speed * time_s, time_s, direction)


def _at(points: Waypoints, arc: Float64, s: Float64) -> BodyPath:
    """The path at arc lengths s (N,), ascending."""
    if len(arc) == 1:
        T, time_s = se3.make(points.position_m, points.quat_xyzw), points.time_s
    else:
        after = np.clip(np.searchsorted(arc, s, side="right"), 1, len(arc) - 1)
        # Of poses on one spot the last counts: a span without length is never interpolated in.
        span = arc[after] - arc[after - 1]
        u = np.where(span > 0, (s - arc[after - 1]) / np.where(span > 0, span, 1.0), 1.0).clip(0.0, 1.0)
        seven = np.concatenate([points.position_m, points.quat_xyzw], axis=1).T
        between = np.stack(list(trajectory.interpolate_linear(np, seven[:, after - 1], seven[:, after], u)), axis=-1)
        T = se3.make(between[:, :3], between[:, 3:])
        with np.errstate(invalid="ignore"):
            time_s = (1 - u) * points.time_s[after - 1] + u * points.time_s[after]
    return BodyPath(T, s - s[0], np.atleast_1d(time_s), _directions(points.position_m, arc, s))


def _directions(position_m: Float64, arc: Float64, s: Float64) -> Float64:
    """Unit vectors along the path at arc lengths s (N,): of the span that begins there, at the end of the last one."""
    moves = np.flatnonzero(np.diff(arc) > _TINY_M)
    if len(moves) == 0:
        return np.full((len(s), 3), np.nan)
    chords = position_m[moves + 1] - position_m[moves]
    unit = chords / np.linalg.norm(chords, axis=1, keepdims=True)
    span = np.searchsorted(arc[moves + 1], s, side="right").clip(0, len(moves) - 1)
    return cast(Float64, unit[span])


def _headings_rad(position_m: Float64) -> Float64:
    """Yaw along the path at each pose (M,), held where it goes nowhere, or straight up or down; 0 if it always does."""
    chords = np.diff(position_m, axis=0)[:, :2]
    moves = np.hypot(chords[:, 0], chords[:, 1]) > 1e-6
    if not moves.any():
        return np.zeros(len(position_m))
    yaw = np.arctan2(chords[:, 1], chords[:, 0])
    index = np.where(moves, np.arange(len(yaw)), -1)
    index = np.maximum.accumulate(index)
    index[index < 0] = int(moves.argmax())
    held = yaw[index]
    return np.append(held, held[-1])
