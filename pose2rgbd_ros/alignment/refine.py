"""The best lag to a fraction of a sample, its drift over time, and how certain both are.

Gauss-Newton steps on offset, drift and the linear map together: where a signal is a ramp, the map could take the
offset's part, and the uncertainty must know. Residuals are taken for Student's t, correlated in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from pose2rgbd_ros.alignment import correlate
from pose2rgbd_ros.alignment.evidence import Evidence
from pose2rgbd_ros.alignment.signals import SECOND, known_rows
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

WHITE = 2 * np.sqrt(np.pi)  # over how many widths white noise hangs together after a Gaussian mean
_ROUNDS = 12
_CONVERGED_S = 1e-5
_REPLICATES = 400
_FLOOR_S = 0.003  # jitter of stamps, exposure, filters: nothing is known better
_LEAST_BLOCKS = 6
_SIGNIFICANT = 3.0  # sigma of a drift that is believed


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


class Pair:
    """One evidence near a lag: followers at even times (N,), leaders at any lag within reach."""

    def __init__(self, item: Evidence, times_ns: Int64, lag_s: float, reach_s: float) -> None:
        self.width_s, self.through_zero = item.width_s, item.through_zero
        self.follower = item.follower(times_ns)
        step_ns = int(times_ns[1] - times_ns[0]) // 2
        self._origin_ns = int(times_ns[0]) + round((lag_s - reach_s) * SECOND) - 4 * step_ns
        count = int((times_ns[-1] - times_ns[0] + 2 * reach_s * SECOND) // step_ns) + 9
        values = item.leader(self._origin_ns + step_ns * np.arange(count, dtype=np.int64))
        self._step_s = step_ns / SECOND
        self._known = known_rows(values)
        seconds = self._step_s * np.arange(count)
        filled = np.zeros_like(values)
        if self._known.any():
            known = seconds[self._known]
            filled = np.stack([np.interp(seconds, known, column[self._known]) for column in values.T], axis=-1)
        self._spline = CubicSpline(seconds, filled)
        self._slope, self._bend = self._spline.derivative(1), self._spline.derivative(2)

    def leaders(self, at_ns: Int64, lag_s: Float64) -> tuple[Float64, Float64, Float64, Bool]:
        """Leaders (N, q) beside the followers' times for lags (N,), their first and second derivatives, per second, and
        where they are known (N,)."""
        at_s = (at_ns - self._origin_ns) / SECOND + lag_s
        index = np.clip(np.rint(at_s / self._step_s).astype(int), 0, len(self._known) - 1)
        inside = (at_s >= 0) & (at_s <= (len(self._known) - 1) * self._step_s)
        near = self._known[index] & self._known[np.maximum(index - 1, 0)]
        near &= self._known[np.minimum(index + 1, len(self._known) - 1)]
        values, slopes, bends = (np.asarray(part(at_s)) for part in (self._spline, self._slope, self._bend))
        return values, slopes, bends, np.asarray(near & inside)


@dataclass(frozen=True, eq=False)
class _Step:
    """Normal equations of (offset, drift), by blocks of time: `gradient` (K, 2), `normal` (K, 2, 2).

    `curvature` (K, 2, 2) is what the score really bends by. Noise of the leaders makes steps look steep, and
    `normal` large, but has no part in it.
    """

    gradient: Float64
    normal: Float64
    curvature: Float64


def refine(
    evidences: list[Evidence], times_ns: Int64, lag_s: float, reach_s: float, max_drift: float, seed: int
) -> Refined:
    """Improve on the lag found on the grid.

    `times_ns` (N,): even times by the followers' clock at which to compare. `reach_s`: how far from `lag_s` to look.
    `max_drift` in seconds per second; 0: none is looked for.
    """
    reference_ns = int(times_ns[0] + (times_ns[-1] - times_ns[0]) // 2)
    half_s = float(times_ns[-1] - times_ns[0]) / SECOND / 2
    pairs = [Pair(item, times_ns, lag_s, reach_s + max_drift * half_s) for item in evidences]
    steady = _descend(pairs, times_ns, Line(lag_s, 0.0, reference_ns), reach_s, False, seed)
    if not max_drift:
        return steady
    start = _coarse_drift(pairs, times_ns, steady.line, max_drift)
    drifting = _descend(pairs, times_ns, start, reach_s + max_drift * half_s, True, seed)
    believed = abs(drifting.line.drift) > _SIGNIFICANT * drifting.drift_sigma
    if believed and abs(drifting.line.drift) <= max_drift:
        return drifting
    return Refined(steady.line, steady.sigma_s, drifting.drift_sigma)


def _descend(pairs: list[Pair], times_ns: Int64, line: Line, reach_s: float, with_drift: bool, seed: int) -> Refined:
    """Step to the best line near one; without drift, only the offset moves."""
    start = line
    use = 2 if with_drift else 1
    lost = Refined(start, float("inf"), float("inf"))
    for _ in range(_ROUNDS):
        step = _step(pairs, times_ns, line)
        normal = step.normal.sum(axis=0)[:use, :use]
        if not np.linalg.det(normal) > 0:
            return lost
        moved = np.linalg.solve(normal, step.gradient.sum(axis=0)[:use])
        moved *= min(1.0, 0.3 / max(abs(float(moved[0])), 1e-12))
        drift = line.drift + float(moved[1]) if with_drift else 0.0
        line = Line(line.offset_s + float(moved[0]), drift, line.reference_ns)
        if abs(line.offset_s - start.offset_s) > reach_s:
            return lost
        if abs(float(moved[0])) < _CONVERGED_S:
            break
    sigma_s, drift_sigma = _uncertainty(_step(pairs, times_ns, line), use, seed)
    return Refined(line, sigma_s, drift_sigma)


def _step(pairs: list[Pair], times_ns: Int64, line: Line) -> _Step:
    """Linearise about a line. The linear maps are fitted there, and what they could take over is projected out."""
    step_s = float(times_ns[1] - times_ns[0]) / SECOND
    elapsed_s = (times_ns - line.reference_ns) / SECOND
    rows, hangs = [], []
    for pair in pairs:
        leaders, slopes, bends, known = pair.leaders(times_ns, line.at(times_ns))
        fit = correlate.fit(np.where(known[:, None], pair.follower, np.nan), leaders, pair.through_zero)
        known = known_rows(fit.residual)
        if known.sum() < 2 * (leaders.shape[1] + pair.follower.shape[1] + 2):
            continue
        hang_s = step_s * fit.correlation_steps(WHITE * pair.width_s / step_s)
        residual = fit.residual[known]
        size = ((residual @ fit.precision) * residual).sum(axis=1)
        p = residual.shape[1]
        weight = (correlate.FREEDOM + p) / (correlate.FREEDOM + size) * step_s / hang_s
        sensitivity = slopes[known] @ fit.gain[1:]
        design = correlate.design_of(leaders[known], pair.through_zero)
        both = [
            correlate.without(design, column, weight) for column in (sensitivity, sensitivity * elapsed_s[known, None])
        ]
        toward = [column @ fit.precision * weight[:, None] for column in both]
        gradient = np.stack([(item * residual).sum(axis=1) for item in toward], axis=-1)
        normal = np.stack([np.stack([(a * b).sum(axis=1) for b in both], axis=-1) for a in toward], axis=-2)
        beyond = ((bends[known] @ fit.gain[1:] @ fit.precision) * residual).sum(axis=1) * weight
        powers = np.stack([np.ones(len(residual)), elapsed_s[known]], axis=-1)
        curvature = normal - beyond[:, None, None] * powers[:, :, None] * powers[:, None, :]
        rows.append((known, gradient, normal, curvature))
        hangs.append(hang_s)
    hang_s = max(hangs, default=1.0)
    duration_s = len(times_ns) * step_s
    count = max(_LEAST_BLOCKS, int(duration_s / max(2.0, 2 * hang_s)))
    block = np.minimum((np.arange(len(times_ns)) * count) // len(times_ns), count - 1)
    found = _Step(np.zeros((count, 2)), np.zeros((count, 2, 2)), np.zeros((count, 2, 2)))
    for known, *parts in rows:
        for total, part in zip((found.gradient, found.normal, found.curvature), parts, strict=True):
            np.add.at(total, block[known], part)
    return found


def _uncertainty(step: _Step, use: int, seed: int) -> tuple[float, float]:
    """Sigma of offset and drift: the larger of what the residuals' size says and a bootstrap that weights the
    blocks.
    """
    gradient, normal = step.gradient[:, :use], step.curvature[:, :use, :use]
    whole = normal.sum(axis=0)
    if not np.all(np.linalg.eigvalsh(whole) > 0):
        return float("inf"), float("inf")
    inverse = np.linalg.inv(whole)
    formal = np.sqrt(np.diag(inverse))
    weight = np.random.default_rng(seed).exponential(size=(_REPLICATES, len(gradient)))
    # Resampled blocks pull at the peak; how it bends is better known from all of them.
    replicate = (weight - weight.mean(axis=1, keepdims=True)) @ gradient @ inverse
    low, high = np.quantile(replicate, [0.1587, 0.8413], axis=0)
    sigma = np.maximum(formal, (high - low) / 2)
    return float(np.hypot(sigma[0], _FLOOR_S)), float(sigma[1]) if use > 1 else float("nan")


def _coarse_drift(pairs: list[Pair], times_ns: Int64, line: Line, max_drift: float) -> Line:
    """The best of a grid of drifts and offsets, so fine that a step from it leads to the peak."""
    half_s = float(times_ns[-1] - times_ns[0]) / SECOND / 2
    width_s = min(pair.width_s for pair in pairs)
    count = int(np.ceil(max_drift * half_s / width_s))
    if count < 1:
        return line
    best, found = -np.inf, line
    for drift in np.linspace(-max_drift, max_drift, 2 * count + 1):
        for number in (-1, 0, 1):
            tried = Line(line.offset_s + number * width_s, float(drift), line.reference_ns)
            score = 0.0
            for pair in pairs:
                leaders, _, _, known = pair.leaders(times_ns, tried.at(times_ns))
                fit = correlate.fit(np.where(known[:, None], pair.follower, np.nan), leaders, pair.through_zero)
                score += 0.5 * known.sum() * np.linalg.slogdet(fit.precision)[1] / pair.width_s
            if score > best:
                best, found = score, tried
    return found
