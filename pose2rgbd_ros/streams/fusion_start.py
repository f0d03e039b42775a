"""How odometry lies in the map, roughly, from the shapes of both tracks; or why that cannot be told."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64

FEWEST_FIXES = 5
_WINDOW_S = 60.0
_LEAST_TRACK_SIGMAS = 5.0  # a track of fewer standard deviations of a fix shows no heading
_LEAST_COHERENCE = 0.5


def headings(at_s: Float64, fix_s: Float64, odometry_m: Float64, fix_m: Float64, sigma_m: float) -> Float64:
    """Heading of the odometry's axes in the map at times `at_s` (N,), radians, continuous.

    From displacements of odometry and GPS over the same stretches of way; `odometry_m`, `fix_m` (K, 2+) at the fixes'
    times `fix_s` (K,). UserError, with the reason, when the heading is not observable.
    """
    if len(fix_s) < FEWEST_FIXES:
        raise UserError(f"only {len(fix_s)} GPS fixes lie within the odometry")
    o, f = (xy[:, 0] + 1j * xy[:, 1] for xy in (odometry_m, fix_m))
    extent_m = _extent_m(o)
    if extent_m < _LEAST_TRACK_SIGMAS * sigma_m:
        raise UserError(
            f"the odometry moves only {extent_m:.1f} m among GPS fixes good to {sigma_m:.1f} m: too little to show "
            "its heading"
        )
    start, end = _stretches(o, max(_LEAST_TRACK_SIGMAS * sigma_m, 0.2 * extent_m))
    do, df = o[end] - o[start], f[end] - f[start]
    fits = np.abs(df) < 2 * np.abs(do) + 6 * sigma_m  # else an outlier's
    turns = np.where(fits, np.conj(do) * df, 0)
    middle_s = (fix_s[start] + fix_s[end]) / 2
    yaw = _windowed(at_s, middle_s, turns)
    left_over = turns * np.exp(-1j * np.interp(middle_s, at_s, yaw))
    coherence = float(left_over.sum().real) / max(float(np.abs(do * df).sum()), 1e-12)
    if coherence < _LEAST_COHERENCE:
        raise UserError("the odometry's track does not have the shape of the GPS's")
    return yaw


def _extent_m(o: np.ndarray) -> float:
    """Length of the diagonal of the box around the track."""
    return float(np.hypot(np.ptp(o.real), np.ptp(o.imag)))


def _stretches(o: np.ndarray, length_m: float) -> tuple[Int64, Int64]:
    """Pairs of indices (first, last) with so much way between them; the two ends when the way is shorter."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(o)))])
    last = np.searchsorted(way, way + length_m)
    first = np.flatnonzero(last < len(o))
    if len(first) == 0:
        return np.array([0]), np.array([len(o) - 1])
    return first, last[first]


def _windowed(at_s: Float64, turn_s: Float64, turns: np.ndarray) -> Float64:
    """The angle of the turns around each time; where there are few, that of all."""
    order = np.argsort(turn_s, kind="stable")
    sums = np.concatenate([[0], np.cumsum(turns[order])])
    low = np.searchsorted(turn_s[order], at_s - _WINDOW_S)
    high = np.searchsorted(turn_s[order], at_s + _WINDOW_S)
    total = turns.sum()
    local = sums[high] - sums[low] + 0.02 * total
    return np.asarray(np.unwrap(np.angle(np.where(np.abs(local) > 0, local, 1))))


def positions(yaw: Float64, step_m: Float64, start_m: Float64) -> Float64:
    """Dead reckoning (N, 3) from `start_m` by steps (N-1, 3) under headings (N,)."""
    c, s = np.cos(yaw[:-1]), np.sin(yaw[:-1])
    turned = np.stack(
        [c * step_m[:, 0] - s * step_m[:, 1], s * step_m[:, 0] + c * step_m[:, 1], step_m[:, 2]], axis=1
    )
    return np.vstack([start_m, start_m + np.cumsum(turned, axis=0)])
