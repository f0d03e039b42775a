"""How well one signal explains another at every lag: normalised cross-correlation of vectors, gaps left out.

For one value each this is the classical coefficient. For several it is the share of the followers' covariance that a
linear map of the leaders leaves unexplained (Wilks' lambda), so neither units, axes, focal length nor mounting need be
known: the map is fitted anew at every lag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from pose2rgbd_ros.alignment.signals import known_rows
from pose2rgbd_ros.geometry.arrays import Float64, Int64

FREEDOM = 4.0  # of Student's t, the distribution of residuals: heavy tails
_ROUNDS = 6  # of its reweighting
_STANDS_OUT = 0.05  # an autocorrelation below is noise
_FLOOR = 1e-6  # share of the variance that is never counted as explained: rounding


@dataclass(frozen=True, eq=False)
class Profile:
    """Over L lags, in steps: `lag` (L,) int64; `unexplained` (L,) the log of Wilks' lambda, 0 for nothing explained;
    `count` (L,) steps at which both signals are known."""

    lag: Int64
    unexplained: Float64
    count: Int64

    @property
    def correlation(self) -> Float64:
        """Multiple correlation (L,), 0 to 1."""
        return np.sqrt(np.maximum(0.0, 1.0 - np.exp(self.unexplained)))


def profile(followers: Float64, leaders: Float64, lags: tuple[int, int], through_zero: bool = False) -> Profile:
    """Compare followers (N, p) with leaders (M, q) of the same step; NaN rows are gaps.

    At lag k the leaders' row i + k stands beside the followers' row i. `lags`: first and last lag, inclusive.
    `through_zero`: the map has no constant; what it explains is still counted against a constant alone.
    """
    known_f, f = _standardised(followers, not through_zero)
    known_m, m = _standardised(leaders, not through_zero)
    lag = np.arange(lags[0], lags[1] + 1)

    def over_lags(left: Float64, right: Float64) -> Float64:
        """Sums (L, a, b) of left[i, a] * right[i + lag, b]."""
        sums = fftconvolve(right[:, None, :], left[::-1, :, None], axes=0)
        at = lag + len(left) - 1
        inside = (at >= 0) & (at < len(sums))
        result = np.zeros((len(lag), *sums.shape[1:]))
        result[inside] = sums[at[inside]]
        return result

    one_f, one_m = known_f[:, None], known_m[:, None]
    count = over_lags(one_f, one_m)[:, 0, 0]
    n = np.maximum(count, 1.0)
    sum_f, sum_m = over_lags(f, one_m)[:, :, 0], over_lags(one_f, m)[:, 0, :]
    ff = over_lags(_products(f), one_m)[:, :, 0].reshape(len(lag), f.shape[1], f.shape[1])
    mm = over_lags(one_f, _products(m))[:, 0, :].reshape(len(lag), m.shape[1], m.shape[1])
    fm = over_lags(f, m)
    whole = _centred(ff, sum_f, sum_f, n) + _FLOOR * np.eye(f.shape[1])
    zero = 0.0 if through_zero else 1.0
    ff, mm, fm = (
        _centred(sums, zero * left, zero * right, n)
        for sums, left, right in ((ff, sum_f, sum_f), (mm, sum_m, sum_m), (fm, sum_f, sum_m))
    )
    gain = np.linalg.solve(mm + _FLOOR * np.eye(m.shape[1]), np.swapaxes(fm, 1, 2))
    left_over = ff - fm @ gain + _FLOOR * np.eye(f.shape[1])
    unexplained = np.minimum(np.linalg.slogdet(left_over)[1] - np.linalg.slogdet(whole)[1], 0.0)
    rounded = np.rint(count).astype(np.int64)
    unexplained[rounded <= followers.shape[1] + leaders.shape[1] + 1] = 0.0
    return Profile(lag, unexplained, rounded)


@dataclass(frozen=True, eq=False)
class Fit:
    """The linear map at one lag: followers = `gain` (1 + q, p) of (1, leaders); through zero its first row is 0.

    `residual` (N, p), NaN in gaps, and its inverse covariance `precision` (p, p) without the outliers.
    """

    gain: Float64
    residual: Float64
    precision: Float64

    def correlation_steps(self, least: float) -> float:
        """Over how many steps the residuals hang together: the integral of their autocorrelation, at least `least`."""
        known = known_rows(self.residual)
        r = np.where(known[:, None], self.residual, 0.0) @ np.linalg.cholesky(self.precision)
        size = np.linalg.norm(r, axis=1)
        r *= np.minimum(1.0, 3.0 / np.maximum(size, 1e-12))[:, None]
        power = (np.abs(np.fft.rfft(r, 2 * len(r), axis=0)) ** 2).sum(axis=1)
        pairs = np.fft.irfft(np.abs(np.fft.rfft(known.astype(float), 2 * len(r))) ** 2)[: len(r)]
        correlation = np.fft.irfft(power)[: len(r)] / np.maximum(pairs, 1.0)
        if correlation[0] < 1e-6:  # nothing left but rounding: whitened residuals are otherwise about 1
            return least
        correlation /= correlation[0]
        # Never rising again, and counted only where it stands out: otherwise a hair's breadth at the cut decides how
        # much evidence a short record holds.
        falling = np.minimum.accumulate(correlation)
        stands_out = np.maximum(falling - _STANDS_OUT, 0.0) / (1.0 - _STANDS_OUT)
        return max(least, float(2 * stands_out.sum() - 1))


def fit(followers: Float64, leaders: Float64, through_zero: bool = False, rounds: int = _ROUNDS) -> Fit:
    """The map between rows that stand beside each other, (N, p) and (N, q); NaN rows are gaps.

    Least squares, reweighted in `rounds` as for residuals of Student's t distribution: single wrong stretches count
    little.
    """
    known = known_rows(followers) & known_rows(leaders)
    design = design_of(leaders, through_zero)
    scale = np.maximum(np.abs(design[known]).max(axis=0, initial=0.0), 1e-12)
    x, y = design[known] / scale, followers[known]
    p = followers.shape[1]
    weight = np.ones(len(y))
    precision = np.eye(p)
    for _ in range(rounds):
        root = np.sqrt(weight)[:, None]
        gain = np.linalg.lstsq(root * x, root * y, rcond=1e-9)[0]
        residual = y - x @ gain
        covariance = (weight[:, None] * residual).T @ residual / max(float(weight.sum()), 1.0)
        precision = np.linalg.inv(covariance + (1e-9 * np.trace(covariance) + 1e-12) * np.eye(p))
        weight = (FREEDOM + p) / (FREEDOM + ((residual @ precision) * residual).sum(axis=1))
    left = np.full(followers.shape, np.nan)
    left[known] = residual
    return Fit(gain / scale[:, None], left, precision)


def without(design: Float64, columns: Float64, weight: Float64) -> Float64:
    """What of `columns` (N, p) the design (N, k) cannot explain, by weighted least squares."""
    root = np.sqrt(weight)[:, None]
    scale = np.maximum(np.abs(design).max(axis=0, initial=0.0), 1e-12)
    gain = np.linalg.lstsq(root * (design / scale), root * columns, rcond=1e-9)[0]
    return np.asarray(columns - (design / scale) @ gain)


def design_of(leaders: Float64, through_zero: bool) -> Float64:
    """Leaders (N, q) with the constant before them (N, 1 + q), 0 where the map goes through zero."""
    return np.concatenate([np.full((len(leaders), 1), 0.0 if through_zero else 1.0), leaders], axis=1)


def _standardised(values: Float64, centred: bool) -> tuple[Float64, Float64]:
    """Where rows are known (N,), and the values, less their mean if centred, over their deviation; 0 in gaps."""
    known = known_rows(values)
    rows = values[known]
    if not len(rows):
        return known.astype(float), np.zeros_like(values)
    mean = rows.mean(axis=0) if centred else np.zeros(rows.shape[1])
    deviation = np.sqrt(((rows - mean) ** 2).mean(axis=0))
    result = np.where(known[:, None], (values - mean) / np.where(deviation > 1e-12, deviation, 1.0), 0.0)
    return known.astype(float), result


def _products(values: Float64) -> Float64:
    return np.asarray((values[:, :, None] * values[:, None, :]).reshape(len(values), -1))


def _centred(sums: Float64, left: Float64, right: Float64, n: Float64) -> Float64:
    """Covariances (L, a, b) of sums of products and the sums of their factors."""
    return np.asarray(sums / n[:, None, None] - left[:, :, None] * right[:, None, :] / n[:, None, None] ** 2)
