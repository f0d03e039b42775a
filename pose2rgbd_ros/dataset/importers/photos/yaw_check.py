"""Do the pixels of photographs agree with their recorded yaw? Photos that look straight down, matched pair by pair.

A drone's yaw is ambiguous when its camera looks straight down, and some firmware stores such photos turned by half a
turn. Two matched photos tell whether one of them is turned against the other; and the place in photo A where the
middle of photo B lies must be in the direction that the recorded positions and A's orientation predict, which tells
whether both are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.importers.photos.matching import Match, match_neighbours
from pose2rgbd_ros.geometry.arrays import Bool, Float64
from pose2rgbd_ros.geometry.camera import Camera

_LARGEST_TILT = np.cos(np.deg2rad(30))
# The votes of matched photos must agree that much, of 1, before all of them are called turned.
_CLEAR_VOTE = 0.3
_HALF_TURN: Float64 = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class YawCheck:
    """`error_deg` (N,): how far the pixels are turned, clockwise in the image, against the recorded orientation; the
    median over the photo's pairs, NaN where there is none. `turned` (N,): the photos stored half a turn around."""

    error_deg: Float64
    turned: Bool

    @property
    def checked(self) -> int:
        """Photos of which others tell something."""
        return int(np.isfinite(self.error_deg).sum())


def check_yaw(paths: Sequence[Path], T_map_cam: Float64, camera: Camera) -> YawCheck:
    """Compare photos at poses (N, 4, 4), NaN unknown, with their neighbours. Those not looking down are left out."""
    # NaN compares false: photos without a pose are left out too.
    looking_down = np.flatnonzero(-T_map_cam[:, 2, 2] > _LARGEST_TILT)
    if len(looking_down) < 2 or not camera.is_calibrated:
        return YawCheck(np.full(len(paths), np.nan), np.zeros(len(paths), dtype=bool))
    matches = match_neighbours(paths, T_map_cam[:, :3, 3], looking_down)
    return judge(matches, T_map_cam, camera)


def turn(T_map_cam: Float64, turned: Bool) -> Float64:
    """New poses, with those of turned photos rotated by half a turn about the optical axis."""
    return np.where(turned[:, None, None], T_map_cam @ _HALF_TURN, T_map_cam)


def judge(matches: Sequence[Match], T_map_cam: Float64, camera: Camera) -> YawCheck:
    """Which photos are turned, by their matches."""
    focal = camera.fx / camera.width
    height_m = _height_above_ground(matches, T_map_cam, focal)
    votes: list[list[complex]] = [[] for _ in T_map_cam]
    for match in matches:
        for here, there, seen in (
            (match.i, match.j, match.j_in_i),
            (match.j, match.i, match.i_in_j),
        ):
            expected = focal * _middle_of(T_map_cam[there], T_map_cam[here], height_m)
            votes[here].append(_vote(seen, expected))
    sign = _relative_signs(matches, T_map_cam)
    for group in np.unique(sign[:, 1]):
        members = np.flatnonzero(sign[:, 1] == group)
        scores = [sign[member, 0] * vote.real for member in members for vote in votes[member]]
        weight = sum(abs(vote) for member in members for vote in votes[member])
        if sum(scores) < -_CLEAR_VOTE * weight:
            sign[members, 0] *= -1
        elif sum(scores) <= _CLEAR_VOTE * weight:
            sign[members, 0] = 1  # the votes contradict each other: nothing is known
    error = [_median_angle([vote for vote in item if abs(vote) > 0]) for item in votes]
    return YawCheck(np.array(error), sign[:, 0] < 0)


def _height_above_ground(matches: Sequence[Match], T_map_cam: Float64, focal: float) -> float:
    """The height at which recorded distances fit the shifts in the photos, in metres; turned photos do not matter."""
    heights = [
        focal * np.linalg.norm(T_map_cam[match.i, :2, 3] - T_map_cam[match.j, :2, 3]) / np.linalg.norm(seen)
        for match in matches
        for seen in (match.j_in_i, match.i_in_j)
        if np.linalg.norm(seen) > 0
    ]
    return float(np.median(heights)) if heights else 1.0


def _middle_of(T_there: Float64, T_here: Float64, height_m: float) -> Float64:
    """Where the ground in the middle of one photo lies in another one: (2,), in focal lengths from the middle."""
    axis = T_there[:3, 2]
    ground = T_there[:3, 3] + axis * (height_m / -axis[2])
    x, y, z = T_here[:3, :3].T @ (ground - T_here[:3, 3])
    return np.array([x, y]) / z if z > 0 else np.zeros(2)


def _vote(seen: Float64, expected: Float64) -> complex:
    """The turn from the expected to the seen direction, as a complex number whose size tells how much it counts."""
    ratio = complex(*seen) * complex(*expected).conjugate()
    weight = float(min(np.linalg.norm(seen), np.linalg.norm(expected)))
    return ratio / abs(ratio) * weight if abs(ratio) > 0 else 0j


def _relative_signs(matches: Sequence[Match], T_map_cam: Float64) -> Float64:
    """For each photo a sign, -1 for those turned against the others of their group, and the group: (N, 2).

    Groups are photos that matches connect, the surest match first.
    """
    count = len(T_map_cam)
    sign = np.stack([np.ones(count), np.arange(count, dtype=np.float64)], axis=1)
    for match in sorted(matches, key=lambda match: (-match.inliers, match.i, match.j)):
        same = sign[:, 1] == sign[match.j, 1]
        if sign[match.i, 1] == sign[match.j, 1]:
            continue
        right = T_map_cam[match.i, :3, :3].T @ T_map_cam[match.j, :3, 0]
        agrees = np.cos(match.turn_rad - np.arctan2(right[1], right[0]))
        if agrees * sign[match.i, 0] * sign[match.j, 0] < 0:
            sign[same, 0] *= -1
        sign[same, 1] = sign[match.i, 1]
    return sign


def _median_angle(votes: Sequence[complex]) -> float:
    """The angle, in degrees, with the smallest sum of distances to the others; NaN of none."""
    if not votes:
        return np.nan
    angles = np.degrees(np.angle(votes))
    apart = np.abs((angles[:, None] - angles + 180) % 360 - 180)
    return float(angles[np.argmin(apart.sum(axis=1))])
