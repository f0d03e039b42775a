"""From held-out pixels to a table of bounds: difficulty by features, quantiles by difficulty, a factor from other lines.

Split-conformal prediction made to measure (after Romano, Patterson, Candes, "Conformalized quantile regression", 2019,
and Angelopoulos et al., "Conformal risk control", 2022): quantiles are fitted on some lines, and one factor for each
side is chosen on lines left out in turn, so that the bounds hold there: the lower one for the share of false-safe
pixels, the interval for its level. What is fitted and what it is checked on are never of the same line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.rendering.intervals import IntervalTable, cells_of

# Shares of the pixels, easiest first, that are given one pair of bounds each: few of the hardest make most of the risk.
GROUPS = (0.2, 0.4, 0.55, 0.68, 0.78, 0.85, 0.9, 0.935, 0.96, 0.98)
QUANTILES = {
    "confidence": (0.03, 0.1, 0.25, 0.5),
    "spread": (0.35, 0.6, 0.75, 0.85, 0.92, 0.97),
    "depth": (0.1, 0.35, 0.65, 0.9),
    "score": (0.35, 0.7),
    "sighting": (),
}
PRIOR_PIXELS = 100.0  # weight of what the features tell one by one against a cell's own pixels
LEAST_SHARE = 0.002  # of depth, for a bound: a factor moves nothing that is 0
MOST_LOWER = 0.75  # a lower bound nearer than a quarter of depth says nothing: unknown
AIM = 0.6  # of the false-safe share allowed, so that other lines stay below it
FACTORS = (0.2, 8.0)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Held-out pixels whose depth the model and the recording know; all (N,).

    features: as intervals.FEATURES. unit: of the frame, -1 for frames that only widen the evidence. frame: its index.
    """

    features: tuple[Float32, ...]
    depth: Float32
    truth: Float32
    unit: np.ndarray
    frame: np.ndarray

    def at(self, chosen: np.ndarray) -> Pixels:
        features = tuple(values[chosen] for values in self.features)
        return Pixels(features, self.depth[chosen], self.truth[chosen], self.unit[chosen], self.frame[chosen])


@dataclass(frozen=True)
class Goal:
    """level: share of pixels within the interval. false_safe: at most this share may lie margin_m in front of it."""

    level: float = 0.9
    false_safe: float = 0.005
    margin_m: float = 2.0


def edges_of(pixels: Pixels, names: tuple[str, ...]) -> tuple[Float32, ...]:
    """Where the cells of the table part: quantiles of each feature, doubles left out."""
    edges = []
    for name, values in zip(names, pixels.features, strict=True):
        if name == "sighting":  # classes, not amounts
            edges.append((np.unique(values)[1:] - 0.5).astype(np.float32))
            continue
        cuts = np.unique(np.quantile(values, QUANTILES[name])).astype(np.float32)
        edges.append(cuts[cuts > values.min()])
    return tuple(edges)


def fit(pixels: Pixels, edges: tuple[Float32, ...], goal: Goal, focal_px: float) -> IntervalTable:
    """The table of all `pixels`, its factors from leaving out each unit in turn."""
    cell = cells_of(edges, pixels.features)
    shape = tuple(len(edge) + 1 for edge in edges)
    wanted = _Wanted.of(pixels, goal)
    units = np.unique(pixels.unit[pixels.unit >= 0])
    lower, upper = np.full(len(cell), np.nan), np.full(len(cell), np.nan)
    for unit in units:
        inside = pixels.unit == unit
        down, up = _shares(cell[~inside], wanted.at(~inside), shape, goal)
        lower[inside], upper[inside] = down[cell[inside]], up[cell[inside]]
    judged = (pixels.unit >= 0) & np.isfinite(lower)
    factors = _factors(lower[judged], upper[judged], wanted.at(judged), goal)
    down, up = _shares(cell, wanted, shape, goal)
    down, up = down * factors[0], up * factors[1]
    unknown = ~(down <= MOST_LOWER)
    down[unknown] = up[unknown] = np.nan
    farthest = float(np.quantile(pixels.depth, 0.9995))
    return IntervalTable(
        edges,
        down.reshape(shape).astype(np.float32),
        up.reshape(shape).astype(np.float32),
        farthest,
        focal_px,
    )


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Of pixels (N,): the shares of depth by which the bounds must lie apart from it.

    safe: for the lower bound not to be false-safe. lower: for it to be no farther than the truth. upper: for the other
    bound to be no nearer. All may be negative.
    """

    safe: Float64
    lower: Float64
    upper: Float64

    @classmethod
    def of(cls, pixels: Pixels, goal: Goal) -> _Wanted:
        depth, truth = np.maximum(pixels.depth, 1e-6).astype(np.float64), pixels.truth.astype(np.float64)
        return cls(1 - (truth + goal.margin_m) / depth, 1 - truth / depth, truth / depth - 1)

    def at(self, chosen: np.ndarray) -> _Wanted:
        return _Wanted(self.safe[chosen], self.lower[chosen], self.upper[chosen])


def _shares(cell: np.ndarray, wanted: _Wanted, shape: tuple[int, ...], goal: Goal) -> tuple[Float64, Float64]:
    """Bounds (cells,) as shares of depth, before the factors; NaN in cells of which no pixel tells anything."""
    error = np.minimum(np.abs(wanted.lower), 1.0)
    difficulty = _difficulty(cell, error, shape)
    of_pixel = difficulty[cell]
    cuts = np.unique(np.quantile(of_pixel, GROUPS))
    group = np.searchsorted(cuts, of_pixel, side="right")
    down, up = np.full(len(cuts) + 1, np.nan), np.full(len(cuts) + 1, np.nan)
    miss = 1 - goal.level
    for number in range(len(cuts) + 1):
        inside = group == number
        if not inside.any():
            continue
        below = wanted.lower[inside]
        low = max(
            np.quantile(below, 1 - miss / 2),
            np.quantile(wanted.safe[inside], 1 - AIM * goal.false_safe),
            LEAST_SHARE,
        )
        left = float(np.clip(miss - np.mean(below > low), 0.0, 1.0))
        down[number] = low
        up[number] = max(np.quantile(wanted.upper[inside], 1 - left), LEAST_SHARE)
    down, up = _rising(down), _rising(up)
    told = np.isfinite(difficulty)
    of_cell = np.searchsorted(cuts, np.where(told, difficulty, np.inf), side="right")
    return np.where(told, down[of_cell], np.nan), np.where(told, up[of_cell], np.nan)


def _rising(values: Float64) -> Float64:
    """What is harder has no narrower bound; an empty group has that of the one before."""
    return np.maximum.accumulate(np.nan_to_num(values, nan=LEAST_SHARE))


def _difficulty(cell: np.ndarray, error: Float64, shape: tuple[int, ...]) -> Float64:
    """Mean error (cells,), drawn to the product of what each feature tells by itself; NaN where one tells nothing."""
    size = int(np.prod(shape))
    total = np.bincount(cell, error, size).reshape(shape)
    count = np.bincount(cell, minlength=size).reshape(shape).astype(np.float64)
    overall = max(float(error.mean()), 1e-9)
    prior = np.full(shape, overall)
    for axis in range(len(shape)):
        others = tuple(other for other in range(len(shape)) if other != axis)
        with np.errstate(invalid="ignore"):
            share = total.sum(others) / count.sum(others) / overall
        place = [1] * len(shape)
        place[axis] = shape[axis]
        prior = prior * share.reshape(place)
    return np.asarray((total + PRIOR_PIXELS * prior) / (count + PRIOR_PIXELS)).reshape(-1)


def _factors(lower: Float64, upper: Float64, wanted: _Wanted, goal: Goal) -> tuple[float, float]:
    """What to multiply bounds (N,) of pixels left out by, for the goal to hold on them: nearer side, farther side."""

    def is_safe(factor: float) -> bool:
        is_inside = np.mean(wanted.lower > factor * lower) <= (1 - goal.level) / 2 + 0.005
        return bool(np.mean(wanted.safe > factor * lower) <= AIM * goal.false_safe and is_inside)

    down = _least(is_safe)
    missed = wanted.lower > down * lower

    def holds(factor: float) -> bool:
        return bool(np.mean(missed | (wanted.upper > factor * upper)) <= 1 - goal.level)

    return down, _least(holds)


def _least(good: Callable[[float], bool]) -> float:
    """The least factor that is good, within 1 %; the largest if none is."""
    low, high = FACTORS
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if good(middle) else (middle, high)
    return high
