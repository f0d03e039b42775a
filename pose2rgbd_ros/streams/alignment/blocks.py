"""The best lag to a fraction of a sample, its drift over time, and how certain both are: block by block of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.streams.alignment import correlate
from pose2rgbd_ros.streams.alignment.evidence import Evidence
from pose2rgbd_ros.streams.alignment.signals import SECOND, known_rows

_ROUNDS = 4  # of fitting the gain and moving the line
_REPLICATES = 400
_FLOOR_S = 0.001  # no clock is known better
_LEAST_BLOCKS_FOR_DRIFT, _LEAST_S_FOR_DRIFT = 8, 60.0
_SIGNIFICANT = 2.5  # sigma of a drift that is believed


@dataclass(frozen=True)
class Line:
    """Offset over time: `offset_s` at `reference_ns`, growing by `drift` seconds per second."""

    offset_s: float
    drift: float
    reference_ns: int

    def at(self, stamps_ns: Int64) -> Float64:
        """The offsets (N,) in seconds."""
        return np.asarray(self.offset_s + self.drift * (stamps_ns - self.reference_ns) / SECOND)


@dataclass(frozen=True)
class Refined:
    """The line and the standard deviations of its two numbers; infinite where the peak is no peak."""

    line: Line
    sigma_s: float
    drift_sigma: float


@dataclass(frozen=True, eq=False)
class _Curves:
    """Log likelihood (K, J) of K blocks at lags (J,) from the line; `centre_s` (K,) from the reference."""

    lag_s: Float64
    score: Float64
    centre_s: Float64


def refine(
    evidences: list[Evidence], times_ns: Int64, lag_s: float, reach_s: float, max_drift: float, seed: int
) -> Refined:
    """Improve on the lag found on the grid.

    `times_ns` (N,): even times by the follower's clock at which to compare. `reach_s`: how far from `lag_s` to look.
    `max_drift` in seconds per second; 0: none is looked for.
    """
    reference_ns = int(times_ns[0] + (times_ns[-1] - times_ns[0]) // 2)
    line = Line(lag_s, 0.0, reference_ns)
    duration_s = float(times_ns[-1] - times_ns[0]) / SECOND
    with_drift = max_drift > 0 and duration_s >= _LEAST_S_FOR_DRIFT
    pairs = [
        _Pair(item, times_ns, lag_s, reach_s + max_drift * duration_s * with_drift) for item in evidences
    ]
    for number in range(_ROUNDS):
        # The first round looks wide, the later ones close by.
        reach = reach_s + 0.5 * max_drift * duration_s * with_drift if number == 0 else min(reach_s, 0.3)
        curves = _curves(pairs, times_ns, line, reach)
        line = _improved(
            curves,
            line,
            max_drift if with_drift and len(curves.score) >= _LEAST_BLOCKS_FOR_DRIFT else 0.0,
            number == 0,
        )
    curves = _curves(pairs, times_ns, line, min(reach_s, 0.3))
    sigma_s, drift_sigma = _uncertainty(curves, seed)
    if line.drift and abs(line.drift) < _SIGNIFICANT * drift_sigma:
        steady = refine(evidences, times_ns, line.offset_s, reach_s, 0.0, seed)
        return Refined(steady.line, steady.sigma_s, drift_sigma)
    return Refined(line, sigma_s, drift_sigma if with_drift else float("nan"))


class _Pair:
    """One evidence near a lag: followers at the times compared, leaders at any lag about it."""

    def __init__(self, item: Evidence, times_ns: Int64, lag_s: float, reach_s: float) -> None:
        self.width_s = item.width_s
        self.follower = item.follower(times_ns)
        step_ns = (times_ns[1] - times_ns[0]) // 2
        first = times_ns[0] + round((lag_s - reach_s) * SECOND) - 4 * step_ns
        count = int((times_ns[-1] - times_ns[0] + 2 * reach_s * SECOND) // step_ns) + 9
        self._grid_ns = first + step_ns * np.arange(count, dtype=np.int64)
        values = item.leader(self._grid_ns)
        self._known = known_rows(values)
        self._origin_ns = int(first)
        seconds = (self._grid_ns - first) / SECOND
        filled = (
            np.stack(
                [np.interp(seconds, seconds[self._known], column[self._known]) for column in values.T],
                axis=-1,
            )
            if self._known.any()
            else np.zeros_like(values)
        )
        self._spline = CubicSpline(seconds, filled)
        self._step_s = step_ns / SECOND

    def leaders(self, at_s: Float64) -> tuple[Float64, Bool]:
        """Leaders (N, q) at times in seconds since the origin, and whether they are known there."""
        index = np.clip(np.rint(at_s / self._step_s).astype(int), 0, len(self._known) - 1)
        inside = (at_s >= 0) & (at_s <= (len(self._known) - 1) * self._step_s)
        return np.asarray(self._spline(at_s)), self._known[index] & inside

    def seconds(self, times_ns: Int64) -> Float64:
        """Since the origin."""
        return np.asarray((times_ns - self._origin_ns) / SECOND)


def _curves(pairs: list[_Pair], times_ns: Int64, line: Line, reach_s: float) -> _Curves:
    """Score the blocks about a line, with the gains that hold on the line."""
    step_s = float(times_ns[1] - times_ns[0]) / SECOND
    count = max(4, int(np.ceil(reach_s / (0.5 * step_s))))
    lag_s = np.linspace(-reach_s, reach_s, 2 * count + 1)
    total: Float64 | None = None
    fits = []
    for pair in pairs:
        base_s = pair.seconds(times_ns) + line.at(times_ns)
        leaders, known = pair.leaders(base_s)
        _, early = pair.leaders(base_s - reach_s)
        _, late = pair.leaders(base_s + reach_s)
        usable: Bool = known & early & late
        follower = np.where(usable[:, None], pair.follower, np.nan)
        if known_rows(follower).sum() < 4 * (leaders.shape[1] + follower.shape[1]):
            usable = known  # too little is left: the ends count, too
            follower = np.where(usable[:, None], pair.follower, np.nan)
        fits.append((pair, base_s, follower, correlate.fit(follower, leaders)))
    hang_s = [
        fit.correlation_steps(2 * np.sqrt(np.pi) * pair.width_s / step_s) * step_s for pair, _, _, fit in fits
    ]
    duration_s = len(times_ns) * step_s
    block_s = min(max(2.0, 2 * max(hang_s)), duration_s / 6)
    block = ((times_ns - times_ns[0]) / SECOND // block_s).astype(int)
    block = np.minimum(block, max(0, int(duration_s // block_s) - 1))
    for (pair, base_s, follower, fit), hang in zip(fits, hang_s, strict=True):
        precision = fit.precision
        known = known_rows(follower)
        scores = np.empty((block[-1] + 1, len(lag_s)))
        for j, lag in enumerate(lag_s):
            leaders, _ = pair.leaders(base_s[known] + lag)
            residual = follower[known] - fit.gain[0] - leaders @ fit.gain[1:]
            distance = ((residual @ precision) * residual).sum(axis=1)
            likely = -0.5 * (correlate.FREEDOM + len(precision)) * np.log1p(distance / correlate.FREEDOM)
            scores[:, j] = np.bincount(block[known], likely * step_s / hang, block[-1] + 1)
        total = scores if total is None else total + scores
    assert total is not None
    middle = times_ns[0] + ((np.arange(block[-1] + 1) + 0.5) * block_s * SECOND).astype(np.int64)
    return _Curves(lag_s, total, np.asarray((middle - line.reference_ns) / SECOND))


def _improved(curves: _Curves, line: Line, max_drift: float, wide: bool) -> Line:
    """The line at which the blocks together score best."""
    spline = CubicSpline(curves.lag_s, curves.score.T)
    block = np.arange(len(curves.score))
    reach = curves.lag_s[-1]

    def cost(parameters: Float64) -> float:
        lag = np.clip(
            parameters[0] + (parameters[1] if len(parameters) > 1 else 0.0) * curves.centre_s, -reach, reach
        )
        return -float(spline(lag)[block, block].sum())

    start = [float(curves.lag_s[np.argmax(curves.score.sum(axis=0))])]
    if max_drift:
        drift = 0.0
        if wide:
            start, drift = _coarse(curves, spline, max_drift)
        spread = max(float(np.abs(curves.centre_s).max()), 1.0)
        ends = np.array([start[0], drift * spread])  # scaled so that both numbers are seconds at the ends
        found = minimize(
            lambda p: cost(np.array([p[0], p[1] / spread])),
            ends,
            method="Nelder-Mead",
            options={"xatol": 1e-5, "fatol": 1e-7, "initial_simplex": ends + 0.02 * np.eye(3, 2)},
        )
        offset_s, slope = float(found.x[0]), float(found.x[1]) / spread
        return Line(line.offset_s + offset_s, line.drift + slope, line.reference_ns)
    total = curves.score.sum(axis=0)
    return Line(line.offset_s + _peak(curves.lag_s, total), line.drift, line.reference_ns)


def _coarse(curves: _Curves, spline: CubicSpline, max_drift: float) -> tuple[list[float], float]:
    """The best offset and drift on a grid."""
    spread = max(float(np.abs(curves.centre_s).max()), 1.0)
    step = curves.lag_s[1] - curves.lag_s[0]
    count = max(1, int(np.ceil(max_drift * spread / step)))
    best = (-np.inf, 0.0, 0.0)
    index = np.arange(len(curves.lag_s))
    for drift in np.linspace(-max_drift, max_drift, 2 * count + 1):
        shift = drift * curves.centre_s / step
        at = np.clip(index[None, :] + np.rint(shift)[:, None].astype(int), 0, len(index) - 1)
        total = np.take_along_axis(curves.score, at, axis=1).sum(axis=0)
        j = int(np.argmax(total))
        if total[j] > best[0]:
            best = (float(total[j]), float(curves.lag_s[j]), float(drift))
    return [best[1]], best[2]


def _peak(lag_s: Float64, score: Float64) -> float:
    """Where a sampled curve is highest, to a fraction of a step by the parabola through three samples."""
    j = int(np.clip(np.argmax(score), 1, len(score) - 2))
    left, middle, right = score[j - 1 : j + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(lag_s[j] + np.clip(shift, -1, 1) * (lag_s[1] - lag_s[0]))


def _uncertainty(curves: _Curves, seed: int) -> tuple[float, float]:
    """Sigma of the offset and of the drift: the larger of curvature and block bootstrap, which draws weights of blocks."""
    spline = CubicSpline(curves.lag_s, curves.score.T)
    block = np.arange(len(curves.score))
    gradient, bend = spline(0.0, 1)[block], spline(0.0, 2)[block]
    total = float(bend.sum())
    if not total < 0:
        return float("inf"), float("inf")
    weight = np.random.default_rng(seed).exponential(size=(_REPLICATES, len(block)))
    peaks = np.array([_peak(curves.lag_s, row) for row in weight @ curves.score])
    low, high = np.quantile(peaks, [0.1587, 0.8413])
    sigma_s = float(np.hypot(max((high - low) / 2, (-total) ** -0.5), _FLOOR_S))
    centre = curves.centre_s
    normal = -np.stack(
        [[bend.sum(), (bend * centre).sum()], [(bend * centre).sum(), (bend * centre**2).sum()]]
    )
    if np.linalg.det(normal) <= 0:
        return sigma_s, float("inf")
    inverse = np.linalg.inv(normal)
    design = np.stack([gradient, gradient * centre], axis=-1)
    sandwich = inverse @ (design.T @ design) @ inverse
    return sigma_s, float(np.sqrt(max(inverse[1, 1], sandwich[1, 1], 0.0)))
