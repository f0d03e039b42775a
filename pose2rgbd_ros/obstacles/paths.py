"""Where a body will be, and how much room there is along that path. Pure numpy, no ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3, trajectory
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.clearance import (
    DOWN,
    Nearby,
    SurfaceFinder,
    Surfaces,
    coarser,
    free_distance_along,
    height_above_ground,
    nearest_obstacle,
)
from pose2rgbd_ros.obstacles.view import DepthView, view_of

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


# How much room there is along a path, from bounds of depth at its poses.
#
# **What is taken from where.** *Free space* is known from a pose's own view alone: up to the lower bound along each
# ray. What other poses see free is not added, since the errors of all views would add up. *Surfaces* are merged: one
# that a neighbouring view shows counts for a pose too, even outside its own view or where it looks through it, anywhere
# between its lower and upper bound. That can only make distances smaller, so they stay lower bounds; and it keeps a
# body clear of what its own camera has just passed. *Knowledge* is never merged: at a pose whose own view is unknown
# clearance and rooms are NaN whatever its neighbours saw. But a conflict is one wherever it was seen from.
#
# The camera sees no more than its field of view: clearance is the distance to what is in view, and a camera that looks
# down knows nothing of the room ahead, which is NaN then.


FINEST_SIGHT = 128  # larger images are pooled to their least bounds


@dataclass(frozen=True)
class ProfileSettings:
    """radius_m: of the body. range_m: the largest distance reported. near_m, unknown_share: see free_distance_along.

    min_known: share of a view that must be known. merged: the surfaces of how many views before and after a pose count.
    """

    radius_m: float = 1.0
    range_m: float = 100.0
    near_m: float = 10.0
    min_known: float = 0.5
    merged: int = 4
    unknown_share: float = 0.0


@dataclass(frozen=True, eq=False)
class Profile:
    """Of the first n poses of a path, arrays (n,): lower bounds in metres, NaN unknown.

    clearance_m: from the body's centre to the nearest possible surface in view; inf: none there. ahead_m: how far the
        ball can go along the path's direction before it touches something. below_m: height of the body's centre above
        what is below it. known: share of the view. first_conflict_m: along the path, where the ball first may touch
        something, NaN: nowhere known. first_unknown_m: of the first pose without clearance, NaN: none.
    """

    clearance_m: Float64
    ahead_m: Float64
    below_m: Float64
    known: Float64
    in_distribution: Bool
    first_conflict_m: float
    first_unknown_m: float
    message: str


class ProfileBuilder:
    """Gathers a profile while the poses of a path are rendered, in order and in parts of any size.

    What a later view shows to an earlier pose is taken over, so the parts make no difference to the end. Time grows
    with the number of poses alone: surfaces are kept for `merged` poses.
    """

    def __init__(self, path: BodyPath, camera: Camera, T_body_cam: Float64, settings: ProfileSettings) -> None:
        """UserError: the camera is not calibrated."""
        if not camera.is_calibrated:
            raise UserError("clearances need a calibrated camera, and this one has K[0] = 0")
        self._path, self._camera, self._T_body_cam, self._settings = path, camera, T_body_cam, settings
        self._finder = SurfaceFinder(camera)
        self._recent: deque[tuple[int, Surfaces]] = deque(maxlen=settings.merged)
        count = len(path)
        self._clearance, self._ahead, self._below, self._known = (np.full(count, np.nan) for _ in range(4))
        self._conflict = np.full(count, np.inf)  # from each pose on, before the next
        self._inside = np.zeros(count, bool)
        self.done = 0

    def add(self, lower_m: Float32, upper_m: Float32, in_distribution: Bool) -> None:
        """Take the next B poses: bounds of depth (B, H, W), NaN unknown, and the guard's word on each (B,).

        ValueError: more than the path has.
        """
        if self.done + len(lower_m) > len(self._path):
            raise ValueError(f"{self.done + len(lower_m)} views of a path of {len(self._path)} poses")
        for lower, upper, inside in zip(lower_m, upper_m, in_distribution, strict=True):
            self._add(lower, upper, bool(inside))

    def profile(self) -> Profile:
        """As far as it goes."""
        n = self.done
        distance_m, unknown = self._path.distance_m[:n], np.isnan(self._clearance[:n])
        struck = distance_m + self._conflict[:n]
        first_conflict_m = float(struck.min(initial=np.inf))
        return Profile(
            self._clearance[:n].copy(),
            self._ahead[:n].copy(),
            self._below[:n].copy(),
            self._known[:n].copy(),
            self._inside[:n].copy(),
            first_conflict_m if np.isfinite(first_conflict_m) else float("nan"),
            float(distance_m[unknown.argmax()]) if unknown.any() else float("nan"),
            self._message(unknown),
        )

    def _add(self, lower_m: Float32, upper_m: Float32, inside: bool) -> None:
        k, T_map_body, settings = self.done, self._path.T_map_body[self.done], self._settings
        T_map_cam = T_map_body @ self._T_body_cam
        T_here_cam = T_map_cam.copy()  # axes of the map, origin in the body's centre
        T_here_cam[:3, 3] -= T_map_body[:3, 3]
        self._known[k], self._inside[k] = float(np.isfinite(lower_m).mean()), inside
        if inside and self._known[k] >= settings.min_known:
            self._look(k, view_of(*coarser(lower_m, self._camera, FINEST_SIGHT), T_here_cam))
        own = self._finder.surfaces(lower_m, upper_m, T_map_cam)
        self._meet(k, own)
        for earlier, surfaces in self._recent:
            self._meet(k, surfaces)
            self._meet(earlier, own)
        self._recent.append((k, own))
        self.done += 1

    def _look(self, k: int, sight: DepthView) -> None:
        """Free space by the pose's own view."""
        settings = self._settings
        rules = (settings.radius_m, settings.near_m, settings.range_m, settings.unknown_share)
        nearest_m = nearest_obstacle(sight).distance_m
        self._clearance[k] = np.inf if np.isnan(nearest_m) else nearest_m
        if np.isfinite(self._path.direction[k]).all():
            self._ahead[k] = free_distance_along(sight, self._path.direction[k], *rules)
        self._below[k] = height_above_ground(sight, *rules)

    def _meet(self, k: int, surfaces: Surfaces) -> None:
        """Surfaces that pose k has to heed."""
        if len(surfaces) == 0:
            return
        path, radius_m = self._path, self._settings.radius_m
        near, direction = surfaces.near(path.T_map_body[k, :3, 3]), path.direction[k]
        # What is NaN, unknown, stays so.
        self._clearance[k] = np.minimum(self._clearance[k], near.distance_m)
        self._below[k] = np.minimum(self._below[k], near.contact_m(DOWN, radius_m) + radius_m)
        if np.isfinite(direction).all():
            self._ahead[k] = np.minimum(self._ahead[k], near.contact_m(direction, radius_m))
        self._conflict[k] = min(self._conflict[k], self._strike_m(k, near))

    def _strike_m(self, k: int, near: Nearby) -> float:
        """How far from pose k on, and before the next, the ball touches a surface; inf: it does not."""
        radius_m, poses = self._settings.radius_m, self._path.T_map_body
        if near.distance_m < radius_m:
            return 0.0
        step = poses[min(k + 1, len(poses) - 1), :3, 3] - poses[k, :3, 3]
        length = float(np.linalg.norm(step))
        if length == 0 or near.distance_m > radius_m + length:
            return float("inf")
        met_m = near.contact_m(step / length, radius_m)
        return met_m if met_m < length else float("inf")

    def _message(self, unknown: Bool) -> str:
        """One line about what is unknown, and why."""
        n, said = self.done, []
        outside = unknown & ~self._inside[:n]
        for which, why in (
            (outside, "unlike what the model was trained on"),
            (unknown & ~outside, f"less than {self._settings.min_known:.0%} of the view is known"),
        ):
            if which.any():
                at_m = self._path.distance_m[which.argmax()]
                said.append(f"clearance unknown at {which.sum()} of {n} poses, first at {at_m:.1f} m: {why}")
        if not unknown.all():
            if np.isnan(self._path.direction[:n]).all():
                said.append("the body does not move, so nothing is ahead of it")
            elif np.isnan(self._ahead[:n][~unknown]).all():
                said.append("the room ahead is unknown: the camera does not see the way")
        return "; ".join(said)
