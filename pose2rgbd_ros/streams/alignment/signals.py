"""Vectors over time, and their values on an even grid: Gaussian means and slopes that know their gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

SECOND = 1_000_000_000
_SILENCE_NS = 3600 * SECOND  # after a longer one a few stamps are taken for wrong
_REACH = 3.5  # how many widths of the Gaussian count


@dataclass(frozen=True, eq=False)
class Samples:
    """Values (N, K) at strictly increasing `stamps_ns` (N,) int64; rows that are not finite are left out.

    UserError for shapes that do not fit. Stamps out of order are sorted, of equal ones the first stays.
    """

    stamps_ns: Int64
    values: Float64

    def __post_init__(self) -> None:
        stamps = np.asarray(self.stamps_ns, dtype=np.int64).reshape(-1)
        values = np.asarray(self.values, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or len(values) != len(stamps):
            raise UserError(
                f"samples need stamps (N,) and values (N, K), not {stamps.shape} and {values.shape}"
            )
        finite = known_rows(values)
        stamps, first = np.unique(stamps[finite], return_index=True)
        object.__setattr__(self, "stamps_ns", stamps)
        object.__setattr__(self, "values", values[finite][first])

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def period_s(self) -> float:
        """Median time between samples; NaN for fewer than two."""
        return float(np.median(np.diff(self.stamps_ns))) / SECOND if len(self) > 1 else float("nan")

    @property
    def duration_s(self) -> float:
        """From the first sample to the last."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) / SECOND if len(self) else 0.0

    def chosen(self, mask: Bool) -> Samples:
        """Those of a mask (N,)."""
        return Samples(self.stamps_ns[mask], self.values[mask])

    def seconds(self, origin_ns: int) -> Float64:
        """The stamps (N,) in seconds since `origin_ns`."""
        return (self.stamps_ns - origin_ns) / SECOND


def main_part(stamps_ns: Int64) -> Bool:
    """Which stamps (N,), in order, are not a few that lie an hour and more from all others, as one of 1970 does.

    Groups parted by such silences count if they hold a twentieth of the stamps; the largest always does.
    """
    if not len(stamps_ns):
        return np.zeros(0, dtype=bool)
    group = np.concatenate([[0], np.cumsum(np.diff(stamps_ns) > _SILENCE_NS)])
    size = np.bincount(group)
    return np.asarray((size >= min(0.05 * len(stamps_ns), size.max()))[group], dtype=bool)


def known_rows(values: Float64) -> Bool:
    """Which rows (N,) of (N, K) are finite throughout."""
    return np.asarray(np.isfinite(values).all(axis=1))


def gaussian_mean(
    time_s: Float64, values: Float64, at_s: Float64, width_s: float, weight: Float64 | None = None
) -> Float64:
    """Means (M, K) of `values` (N, K) about the times `at_s` (M,), weighted by a Gaussian; NaN where there are none.

    NaN too where the samples lie all on one side: at the ends and in gaps longer than about two widths.
    """
    time_s, values, weight = _thinned(time_s, values, weight, width_s)
    kernel, lag = _kernel(time_s, at_s, width_s)
    if weight is not None:
        kernel = kernel.multiply(weight[None, :]).tocsr()
    mass = np.asarray(kernel.sum(axis=1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (kernel @ values) / mass[:, None]
    mean[~_supported(kernel, lag, mass, width_s)] = np.nan
    return np.asarray(mean, dtype=np.float64)


def gaussian_slope(time_s: Float64, values: Float64, at_s: Float64, width_s: float) -> Float64:
    """Slopes (M, K) per second of `values` (N, K): a straight line fitted about each time of `at_s`, Gaussian weights.

    On even samples this is exactly the Gaussian mean of the derivative, of the same width: slopes of positions and
    means of velocities are comparable, and neither lags. NaN as in `gaussian_mean`.
    """
    kernel, lag = _kernel(time_s, at_s, width_s)
    mass = np.asarray(kernel.sum(axis=1)).ravel()
    first = kernel.multiply(lag).tocsr()
    s1 = np.asarray(first.sum(axis=1)).ravel()
    s2 = np.asarray(first.multiply(lag).sum(axis=1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = mass * s2 - s1**2
        slope = (mass[:, None] * (first @ values) - s1[:, None] * (kernel @ values)) / determinant[:, None]
    slope[~_supported(kernel, lag, mass, width_s) | ~(determinant > 1e-12 * mass**2)] = np.nan
    return np.asarray(slope, dtype=np.float64)


def _thinned(
    time_s: Float64, values: Float64, weight: Float64 | None, width_s: float
) -> tuple[Float64, Float64, Float64 | None]:
    """Fewer samples where there are many more than the Gaussian can tell apart: means of a sixth of its width."""
    if len(time_s) < 100 or (time_s[-1] - time_s[0]) / len(time_s) > width_s / 18:
        return time_s, values, weight
    part = np.floor((time_s - time_s[0]) / (width_s / 6)).astype(np.int64)
    first = np.flatnonzero(np.diff(part, prepend=-1))
    mass = np.ones(len(time_s)) if weight is None else weight
    total = np.add.reduceat(mass, first)
    mean = np.add.reduceat(values * mass[:, None], first, axis=0) / total[:, None]
    return np.add.reduceat(time_s * mass, first) / total, mean, total


def _kernel(time_s: Float64, at_s: Float64, width_s: float) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Gaussian weights (M, N) of samples about times, and the samples' times from there; within reach only."""
    begin = np.searchsorted(time_s, at_s - _REACH * width_s)
    end = np.searchsorted(time_s, at_s + _REACH * width_s, side="right")
    count = end - begin
    pointer = np.concatenate([[0], np.cumsum(count)])
    column = np.arange(pointer[-1]) - np.repeat(pointer[:-1] - begin, count)
    lag = time_s[column] - np.repeat(at_s, count)
    shape = (len(at_s), len(time_s))
    weights = np.exp(-0.5 * (lag / width_s) ** 2)
    return (
        sparse.csr_matrix((weights, column, pointer), shape=shape),
        sparse.csr_matrix((lag, column, pointer), shape=shape),
    )


def _supported(kernel: sparse.csr_matrix, lag: sparse.csr_matrix, mass: Float64, width_s: float) -> Bool:
    """Where the weighted samples lie about the time, not beside it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.asarray(kernel.multiply(lag).sum(axis=1)).ravel() / mass
    return np.asarray((mass > 0.3) & (np.abs(centre) < 0.5 * width_s))
