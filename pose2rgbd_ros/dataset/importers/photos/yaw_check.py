"""Do the pixels of photographs agree with their recorded yaw? Photos that look straight down, matched pair by pair.

A drone's yaw is ambiguous when its camera looks straight down, and some firmware stores such photos turned by half a
turn. Two matched photos tell whether one of them is turned against the other; and the place in photo A where the
middle of photo B lies must be in the direction that the recorded positions and A's orientation predict, which tells
whether both are. The same matches tell how the heights of two photos over the ground that both show compare, so that
recorded heights which drift are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.ndimage import median_filter
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsqr

from pose2rgbd_ros.dataset.importers.photos.matching import Match, match_neighbours
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera

_LARGEST_TILT = np.cos(np.deg2rad(30))
# The votes of matched photos must agree that much, of 1, before all of them are called turned.
_CLEAR_VOTE = 0.3
# A photo is stored half a turn around if its own pairs say so, to within:
_HALF_TURN_WITHIN_DEG = 30.0
_FEWEST_MATCHES = 4  # that tell whether photos look down:
_AHEAD = 0.7  # one ahead of the other: that share of the way is along the image's height;
_CLEARLY_ALONG, _LEAST_SHIFT = 0.5, 0.05  # mean cosine of twice the angle between way and shift; image widths
_FEWEST_HEIGHTS = 5  # photos that hang together, before their heights are compared
_ROUNDS = 6  # of reweighting
_HALF_TURN: Float64 = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class YawCheck:
    """`error_deg` (N,): how far the pixels are turned, clockwise in the image, against the recorded orientation; the
    median over the photo's pairs, NaN where there is none. `turned` (N,): the photos stored half a turn around.
    `drift_m`: by how much recorded heights change that by the pictures do not, over `drift_s` seconds; `height_m`: above
    ground, by the pictures; 0 where nothing tells."""

    error_deg: Float64
    turned: Bool
    drift_m: float = 0.0
    drift_s: float = 0.0
    height_m: float = 0.0

    @property
    def checked(self) -> int:
        """Photos of which others tell something."""
        return int(np.isfinite(self.error_deg).sum())


def check_yaw(
    paths: Sequence[Path], T_map_cam: Float64, camera: Camera, stamps_ns: Sequence[int] | None = None
) -> YawCheck:
    """Compare photos at poses (N, 4, 4), NaN unknown, with their neighbours. Those not looking down are left out.

    Heights are compared where `stamps_ns` (N,) tells when each was taken.
    """
    # NaN compares false: photos without a pose are left out too.
    looking_down = np.flatnonzero(-T_map_cam[:, 2, 2] > _LARGEST_TILT)
    if len(looking_down) < 2 or not camera.is_calibrated:
        return YawCheck(np.full(len(paths), np.nan), np.zeros(len(paths), dtype=bool))
    matches = match_neighbours(paths, T_map_cam[:, :3, 3], looking_down)
    found = judge(matches, T_map_cam, camera)
    if stamps_ns is None:
        return found
    height_m = _height_above_ground(matches, T_map_cam, camera.fx / camera.width)
    drift_m, drift_s = height_drift(matches, T_map_cam[:, 2, 3], np.asarray(stamps_ns), height_m)
    return replace(found, drift_m=drift_m, drift_s=drift_s, height_m=height_m)


def look_down(paths: Sequence[Path], T_map_cam: Float64) -> bool | None:
    """Whether photos show the ground from above, as poses (N, 4, 4) that look down say; None where nothing tells.

    Photos taken one ahead of the other tell: on those that look down the ground moves along the image's height, on those
    that look ahead it grows about the middle. Half turns do not matter. Those taken beside each other look alike either way.
    """
    usable = np.flatnonzero(-T_map_cam[:, 2, 2] > _LARGEST_TILT)
    votes = []
    for match in match_neighbours(paths, T_map_cam[:, :3, 3], usable):
        for here, there, seen in ((match.i, match.j, match.j_in_i), (match.j, match.i, match.i_in_j)):
            way = T_map_cam[here, :3, :3].T @ (T_map_cam[there, :3, 3] - T_map_cam[here, :3, 3])
            way /= max(float(np.linalg.norm(way)), 1e-9)
            if abs(way[1]) > _AHEAD:
                votes.append(_vote(seen, way[:2]))
    weight = sum(abs(vote) for vote in votes)
    if len(votes) < 2 * _FEWEST_MATCHES or not weight > 0:
        return None
    along = sum((vote**2 / abs(vote)).real for vote in votes if abs(vote) > 0) / weight
    shift = float(np.median([abs(vote) for vote in votes]))
    return bool(along > _CLEARLY_ALONG and shift > _LEAST_SHIFT)


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
    with np.errstate(invalid="ignore"):
        opposite = np.abs(error) > 180.0 - _HALF_TURN_WITHIN_DEG
    return YawCheck(np.array(error), (sign[:, 0] < 0) & opposite)


def height_drift(
    matches: Sequence[Match], up_m: Float64, stamps_ns: Int64, height_m: float
) -> tuple[float, float]:
    """By how many metres heights `up_m` (N,) change that the photos do not show, and over how many seconds.

    The scale of a match is the ratio of the two heights above ground that both photos see, so hills do not matter. The
    largest group of photos that matches connect counts; what is left after a running median over an eighth of it, which
    removes single wrong heights.
    """
    if not matches:
        return 0.0, 0.0
    i, j = (np.array([getattr(match, name) for match in matches]) for name in "ij")
    count, rows = len(up_m), np.arange(len(matches))
    # Logarithms of heights: u[i] - u[j] = -log(scale), by least squares with outliers weighted down.
    differences = sparse.csr_matrix(
        (np.repeat([1.0, -1.0], len(rows)), (np.tile(rows, 2), np.concatenate([i, j]))), (len(rows), count)
    )
    told, weight, u = -np.log([match.scale for match in matches]), np.ones(len(rows)), np.zeros(count)
    for _ in range(_ROUNDS):
        system = sparse.vstack([sparse.diags(weight) @ differences, 1e-4 * sparse.eye(count)])
        u = lsqr(system, np.concatenate([weight * told, np.zeros(count)]))[0]
        residual = differences @ u - told
        scale = 2 * 1.4826 * float(np.median(np.abs(residual))) + 1e-6
        weight = 1.0 / (1.0 + (residual / scale) ** 2)
    _, group = connected_components(sparse.coo_matrix((np.ones(len(rows)), (i, j)), (count, count)), False)
    members = np.flatnonzero(group == np.bincount(group).argmax())
    if len(members) < _FEWEST_HEIGHTS:
        return 0.0, 0.0
    members = members[np.argsort(stamps_ns[members], kind="stable")]
    shown_m = height_m * np.exp(u[members] - np.median(u[members]))
    unseen = median_filter(up_m[members] - shown_m, max(3, len(members) // 8 | 1), mode="nearest")
    low, high = members[np.argmin(unseen)], members[np.argmax(unseen)]
    return float(np.ptp(unseen)), abs(float(stamps_ns[high] - stamps_ns[low])) * 1e-9


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
