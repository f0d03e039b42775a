"""Do bounds fitted on lines A hold on lines B? Measured by dealing lines anew, with an error by resampling them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, cells_of

# From held-out pixels to a table of bounds: difficulty by features, quantiles by difficulty, how deep by other lines.
#
# Conformal prediction made to measure (after Romano, Patterson, Candes, "Conformalized quantile regression", 2019, and
# Angelopoulos et al., "Conformal risk control", 2022). Pixels are grouped by difficulty, and the bounds of a group are
# quantiles of what its pixels would have needed. Which quantiles is decided on lines left out in turn: the lower bound
# goes as deep as keeps false-safe pixels rare there, the upper one as far as the interval then has to, by a standard
# error among these lines more than their mean asks for. What is fitted and what it is checked on are never of the same
# line.


# Shares of the pixels, easiest first, that are given one pair of bounds each: few of the hardest make most of the risk.
GROUPS = (0.2, 0.4, 0.55, 0.68, 0.78, 0.85, 0.9, 0.935, 0.96, 0.98)
QUANTILES = {
    "confidence": (0.03, 0.1, 0.25, 0.5),
    "spread": (0.35, 0.6, 0.75, 0.85, 0.92, 0.97),
    "depth": (0.1, 0.35, 0.65, 0.9),
    "score": (0.35, 0.7),
}
PRIOR_PIXELS = 100.0  # weight of what the features say one by one against a cell's own pixels
LEAST_SHARE = 0.0005  # of depth, for a bound: a factor moves nothing that is 0
MOST_LOWER = 0.75  # a lower bound nearer than a quarter of depth says nothing: unknown
ERRORS = 1.0  # standard errors that are added to what left-out units miss
AIM = 0.5  # of the false-safe share allowed, so that other lines stay below it
# Shares of a group's pixels that may need more than a bound gives, deepest bound first.
TAILS = np.concatenate([[0.0], np.geomspace(1e-5, 0.7, 60)])
MOST_STRETCH = 8.0


@dataclass(frozen=True, eq=False)
class Pixels:
    """Held-out pixels whose depth the model and the recording know; all (N,).

    features: as bounds.FEATURES. unit: of the frame, -1 for frames that only widen the evidence. frame: its index.
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

    def __post_init__(self) -> None:
        """UserError for shares outside (0, 1) or a margin below 0."""
        if not 0.0 < self.level < 1.0 or not 0.0 < self.false_safe < 1.0 or not self.margin_m >= 0.0:
            raise UserError(
                f"level {self.level}, false-safe {self.false_safe}, margin {self.margin_m} m: "
                "the first two are shares between 0 and 1, the margin is not negative"
            )


def edges_of(pixels: Pixels, names: tuple[str, ...]) -> tuple[Float32, ...]:
    """Where the cells of the table part: quantiles of each feature, doubles left out."""
    edges = []
    for name, values in zip(names, pixels.features, strict=True):
        cuts = np.unique(np.quantile(values, QUANTILES[name])).astype(np.float32)
        edges.append(cuts[cuts > values.min()])
    return tuple(edges)


def fit(pixels: Pixels, edges: tuple[Float32, ...], goal: Goal, focal_px: float) -> IntervalTable:
    """The table of all `pixels`; how deep its quantiles are follows from leaving out each unit in turn."""
    cell = cells_of(edges, pixels.features)
    shape = tuple(len(edge) + 1 for edge in edges)
    wanted = _Wanted.of(pixels, goal)
    left_out = []
    for unit in np.unique(pixels.unit[pixels.unit >= 0]):
        inside = pixels.unit == unit
        others = _Groups.of(cell[~inside], wanted.at(~inside), shape)
        left_out.append((others, cell[inside], wanted.at(inside)))
    depth = _choose(left_out, goal)
    down, up = _Groups.of(cell, wanted, shape).bounds(depth)
    unknown = ~(down <= MOST_LOWER)
    down[unknown] = up[unknown] = np.nan
    farthest = float(np.quantile(pixels.depth, 0.9995))
    return IntervalTable(
        edges, down.reshape(shape).astype(np.float32), up.reshape(shape).astype(np.float32), farthest, focal_px
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


@dataclass(frozen=True)
class _Depth:
    """Which quantiles the bounds are: places in TAILS. stretch: what multiplies both where none is deep enough."""

    safe: int
    lower: int
    upper: int
    stretch: float = 1.0


@dataclass(frozen=True, eq=False)
class _Groups:
    """Pixels by difficulty. group: (cells,) of each cell, -1 where no pixel says anything.

    safe, lower, upper: (groups, len(TAILS)) quantiles of what is wanted, a column a tail.
    """

    group: np.ndarray
    safe: Float64
    lower: Float64
    upper: Float64

    @classmethod
    def of(cls, cell: np.ndarray, wanted: _Wanted, shape: tuple[int, ...]) -> _Groups:
        difficulty = _difficulty(cell, np.minimum(np.abs(wanted.lower), 1.0), shape)
        of_pixel = difficulty[cell]
        cuts = np.unique(np.quantile(of_pixel, GROUPS))
        place = np.searchsorted(cuts, of_pixel, side="right")
        known = np.isfinite(difficulty)
        group = np.where(known, np.searchsorted(cuts, np.where(known, difficulty, 0.0), side="right"), -1)
        parts = [np.flatnonzero(place == number) for number in range(len(cuts) + 1)]
        return cls(group, *(_quantiles(values, parts) for values in (wanted.safe, wanted.lower, wanted.upper)))

    def bounds(self, depth: _Depth) -> tuple[Float64, Float64]:
        """Shares of depth (cells,) nearer and farther; NaN in cells of which no pixel says anything."""
        down = np.maximum(self.safe[:, depth.safe], self.lower[:, depth.lower])
        both = down, self.upper[:, depth.upper]
        rising = (np.maximum.accumulate(np.maximum(side * depth.stretch, LEAST_SHARE)) for side in both)
        near, far = (np.where(self.group < 0, np.nan, side[self.group]) for side in rising)
        return near, far


def _quantiles(values: Float64, parts: list[np.ndarray]) -> Float64:
    """(parts, len(TAILS)) of values at the parts' indices; of an empty part those of the one before."""
    table = np.zeros((len(parts), len(TAILS)))
    for number, part in enumerate(parts):
        table[number] = np.quantile(values[part], 1 - TAILS) if len(part) else table[max(number - 1, 0)]
    return table


def _choose(left_out: list[tuple[_Groups, np.ndarray, _Wanted]], goal: Goal) -> _Depth:
    """The least deep bounds that meet the goal on the pixels left out, their cells and what they want given."""
    miss, last = 1 - goal.level, len(TAILS) - 1

    def share(depth: _Depth, count: Callable[[_Wanted, Float64, Float64], Bool]) -> float:
        counts = np.zeros((2, len(left_out)))
        for number, (groups, cell, wanted) in enumerate(left_out):
            down, up = groups.bounds(depth)
            near, far = down[cell], up[cell]
            counts[:, number] = count(wanted, near, far).sum(), np.isfinite(near).sum()
        return _likely_share(*counts)

    def least(limit: float, depth: Callable[[int], _Depth], count: Callable[[_Wanted, Float64, Float64], Bool]) -> int:
        low, high = 0, last
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if share(depth(middle), count) <= limit else (low, middle - 1)
        return low

    def is_unsafe(wanted: _Wanted, near: Float64, far: Float64) -> Bool:
        return wanted.safe > near

    def is_nearer(wanted: _Wanted, near: Float64, far: Float64) -> Bool:
        return wanted.lower > near

    def is_outside(wanted: _Wanted, near: Float64, far: Float64) -> Bool:
        return (wanted.lower > near) | (wanted.upper > far)

    lower = least(miss / 2, lambda tail: _Depth(last, tail, last), is_nearer)
    safe = least(AIM * goal.false_safe, lambda tail: _Depth(tail, lower, last), is_unsafe)
    stretch = 1.0
    while safe == 0 and stretch < MOST_STRETCH:
        if share(_Depth(0, lower, last, stretch), is_unsafe) <= AIM * goal.false_safe:
            break
        stretch *= 1.1
    upper = least(miss, lambda tail: _Depth(safe, lower, tail, stretch), is_outside)
    return _Depth(safe, lower, upper, stretch)


def _likely_share(found: Float64, known: Float64) -> float:
    """The share found of known (U,) over units, and a standard error more: the fewer and the more unlike, the wider.

    An upper confidence bound of the risk instead of the risk itself, as Bates et al., "Distribution-free,
    risk-controlling prediction sets", 2021, but over units and by the normal distribution.
    """
    count, total = len(found), max(float(known.sum()), 1.0)
    share = float(found.sum()) / total
    error = np.sqrt(np.sum((found - share * known) ** 2) * count / max(count - 1, 1)) / total
    return share + ERRORS * float(error)


def _difficulty(cell: np.ndarray, error: Float64, shape: tuple[int, ...]) -> Float64:
    """Mean error (cells,), drawn to the product of what each feature says by itself; NaN where one says nothing."""
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


DEALS = 3  # of the lines into halves A and B, both ways
BOOTSTRAPS = 1000
RELIABILITY_LEVELS, RELIABILITY_STEP = (0.5, 0.7, 0.8, 0.9, 0.95), 4
NOTHING = "no frame vouches for depth at any pose: the guard withholds all of it"
RISK_SHARES = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class ShareInterval:
    """A share, and the interval of 95 % by resampling lines."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        return [round(number, 5) for number in (self.value, self.low, self.high)]


@dataclass(frozen=True, eq=False)
class MeasuredDepth:
    """By dealing the lines that calibrate: on lines that the bounds were not fitted on, but that set the guard's limit.

    coverage: of known pixels, those within the interval. below: those nearer than the lower bound. false_safe: those
    whose lower bound exceeds the truth by the margin. known: of pixels of recorded depth, those with a depth.
    width: median width of the interval as a share of depth. judged: frame -> its false-safe and its known pixels,
    summed over the deals in which its line was not fitted on; frames of no line are never judged.
    reliability: pairs of the share promised and the share held. risk_coverage: of the share kept, narrowest intervals
    first, the mean error in metres and the share of depths farther than the truth by the margin.
    """

    coverage: ShareInterval
    below: ShareInterval
    false_safe: ShareInterval
    known: ShareInterval
    width: float
    judged: dict[int, tuple[int, int]]
    reliability: list[tuple[float, float]]
    risk_coverage: list[tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """For calibration.yaml: value, lower and upper end of 95 % by resampling lines."""
        named = {name: getattr(self, name).to_list() for name in ("coverage", "below", "false_safe", "known")}
        curves = {
            "reliability": [[round(value, 4) for value in pair] for pair in self.reliability],
            "risk_coverage": [[round(value, 4) for value in row] for row in self.risk_coverage],
        }
        return {**named, "width_median_share": round(self.width, 5), **curves}

    def line(self, calibration: Calibration, kind: str) -> str:
        """One line for the console."""
        limit = calibration.guard_limit
        reach = f"guard limit {limit:.1f} m" if limit >= 0 else NOTHING
        return (
            f"calibrated on held-out {kind}: {calibration.level:.0%} interval holds {self.coverage.value:.1%} "
            f"({self.coverage.low:.1%} to {self.coverage.high:.1%}), false-safe {self.false_safe.value:.2%} "
            f"(up to {self.false_safe.high:.2%}), known {self.known.value:.0%}, {reach}"
        )


@dataclass(frozen=True)
class Judged:
    """What the calibrated renderer, guard and all, makes of frames that no calibration, weights or limit was chosen on.

    coverage, below, false_safe, known: as in `MeasuredDepth`, of the renderer's depth. passed: share of frames
    that are in the guard. frames, units, kind: how many frames, of how many lines or stretches; no frame when nothing
    was left to judge on, and then all shares are NaN.
    """

    coverage: ShareInterval
    below: ShareInterval
    false_safe: ShareInterval
    known: ShareInterval
    passed: ShareInterval
    frames: int
    units: int
    kind: str

    @classmethod
    def of(cls, looks: Iterable[Look], kind: str, margin_m: float) -> Judged:
        """Count frames, one after another."""
        sums: dict[int, Float64] = {}
        for look in looks:
            counts = look.counts(margin_m)
            sums[look.unit] = sums.get(look.unit, np.zeros(len(counts))) + counts
        if not sums:
            nothing = ShareInterval(*(float("nan"),) * 3)
            return cls(*(nothing,) * 5, 0, 0, kind)
        frames, passed, asked, known, within, below, false_safe = np.array(list(sums.values())).T
        return cls(
            estimate(within, known), estimate(below, known), estimate(false_safe, known), estimate(known, asked),
            estimate(passed, frames), int(frames.sum()), len(sums), kind,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """For calibration.yaml: value, lower and upper end of 95 % by resampling lines."""
        size = {"frames": self.frames, "units": self.units, "unit": self.kind}
        if self.frames == 0:
            return size
        names = ("coverage", "below", "false_safe", "known", "passed")
        return {**size, **{name: getattr(self, name).to_list() for name in names}}

    def line(self, level: float) -> str:
        """One line for the console."""
        if self.frames == 0:
            return "nothing was left to judge on: these figures are of the frames that set the bounds and the limit"
        return (
            f"judged on {self.frames} other held-out frames ({self.units} {self.kind}): the guard passes "
            f"{self.passed.value:.0%}, {level:.0%} interval holds {self.coverage.value:.1%} ({self.coverage.low:.1%} "
            f"to {self.coverage.high:.1%}), false-safe {self.false_safe.value:.2%} (up to {self.false_safe.high:.2%}), "
            f"known {self.known.value:.0%}"
        )


@dataclass(frozen=True, eq=False)
class Look:
    """One frame as the calibrated renderer shows it. unit: its line. inside: in the guard. truth, depth, lower, upper:
    (H, W), NaN unknown."""

    unit: int
    inside: bool
    truth: Float32
    depth: Float32
    lower: Float32
    upper: Float32

    def counts(self, margin_m: float) -> Float64:
        """1, whether it is inside, and pixels: of recorded depth, known, within, nearer than the bound, false-safe."""
        asked = np.isfinite(self.truth)
        known = asked & np.isfinite(self.depth)
        with np.errstate(invalid="ignore"):
            within = known & (self.lower <= self.truth) & (self.truth <= self.upper)
            below = known & (self.truth < self.lower)
            false_safe = known & (self.lower > self.truth + margin_m)
        pixels = [flag.sum() for flag in (asked, known, within, below, false_safe)]
        return np.array([1, self.inside, *pixels], np.float64)


@dataclass(eq=False)
class _Counts:
    """Sums by unit (U,)."""

    asked: Float64
    known: Float64
    within: Float64
    below: Float64
    false_safe: Float64


def measure(
    pixels: Pixels, asked: dict[int, int], edges: tuple[Float32, ...], goal: Goal, focal_px: float
) -> MeasuredDepth:
    """Deal the units into halves, fit on one and count on the other.

    asked: unit -> how many of its sampled pixels have a recorded depth, known to the model or not; also of units of
    which the model knows nothing.
    """
    units = np.unique(pixels.unit[pixels.unit >= 0])
    counts = _Counts(*(np.zeros(len(units)) for _ in range(5)))
    of_frame: dict[int, tuple[int, int]] = {}
    shown: list[Float32] = []
    for chosen in tqdm(deals(units), "trying on other lines", unit="deal", disable=None, delay=2.0, leave=False):
        mine = np.isin(pixels.unit, chosen) | (pixels.unit < 0)
        table = fit(pixels.at(mine), edges, goal, focal_px)
        other = pixels.at(~mine)
        known, lower, upper = bounds_of(table, other)
        flags = (known, known & (lower <= other.truth) & (other.truth <= upper), known & (other.truth < lower),
                 known & (lower > other.truth + goal.margin_m))  # fmt: skip
        place = np.searchsorted(units, other.unit)
        for name, flag in zip(("known", "within", "below", "false_safe"), flags, strict=True):
            setattr(counts, name, getattr(counts, name) + np.bincount(place, flag, len(units)))
        for unit in np.setdiff1d(units, chosen):
            counts.asked[np.searchsorted(units, unit)] += asked[int(unit)]
        for frame in np.unique(other.frame):
            inside, before = other.frame == frame, of_frame.get(int(frame), (0, 0))
            of_frame[int(frame)] = (
                before[0] + int(flags[3][inside].sum()), before[1] + int(known[inside].sum()),
            )  # fmt: skip
        shown.append(np.stack([(upper - lower) / other.depth, other.depth - other.truth])[:, known])
    blind = np.array([count for unit, count in asked.items() if unit >= 0 and unit not in units], np.float64)
    width, error_m = np.concatenate(shown, axis=1)
    return MeasuredDepth(
        coverage=estimate(counts.within, counts.known),
        below=estimate(counts.below, counts.known),
        false_safe=estimate(counts.false_safe, counts.known),
        known=estimate(np.append(counts.known, 0 * blind), np.append(counts.asked, DEALS * blind)),
        width=float(np.median(width)) if len(width) else float("nan"),
        judged=of_frame,
        reliability=_reliability(pixels, edges, goal, focal_px),
        risk_coverage=_risk_coverage(width, error_m, goal.margin_m),
    )


def _reliability(pixels: Pixels, edges: tuple[Float32, ...], goal: Goal, focal_px: float) -> list[tuple[float, float]]:
    """Of one deal of the units: the share each level promises, and the share held on the other half."""
    chosen = deals(np.unique(pixels.unit[pixels.unit >= 0]))[0]
    some = np.arange(len(pixels.depth)) % RELIABILITY_STEP == 0
    mine = np.isin(pixels.unit, chosen) | (pixels.unit < 0)
    fitted, other = pixels.at(mine & some), pixels.at(~mine & some)
    found = []
    for level in RELIABILITY_LEVELS:
        table = fit(fitted, edges, Goal(level, goal.false_safe, goal.margin_m), focal_px)
        known, lower, upper = bounds_of(table, other)
        held = known & (lower <= other.truth) & (other.truth <= upper)
        found.append((level, float(held.sum() / max(known.sum(), 1))))
    return found


def _risk_coverage(width: Float32, error_m: Float32, margin_m: float) -> list[tuple[float, float, float]]:
    """See :class:`MeasuredDepth`; width and error_m (N,)."""
    by_width = error_m[np.argsort(width, kind="stable")]
    rows = []
    for share in RISK_SHARES:
        kept = by_width[: round(share * len(by_width))]
        if len(kept):
            rows.append((share, float(np.abs(kept).mean()), float((kept > margin_m).mean())))
    return rows


def bounds_of(table: IntervalTable, pixels: Pixels) -> tuple[Bool, Float32, Float32]:
    """Which pixels (N,) are known, and their bounds (0 and infinity where not)."""
    cell = cells_of(table.edges, pixels.features)
    down, up = table.lower.reshape(-1)[cell], table.upper.reshape(-1)[cell]
    known = np.isfinite(down) & (pixels.depth <= table.farthest)
    lower = np.where(known, np.maximum(pixels.depth * (1 - down), 0.0), 0.0)
    return known, lower, np.where(known, pixels.depth * (1 + up), np.inf)


def deals(units: np.ndarray) -> list[np.ndarray]:
    """Halves of the units to fit on; each is followed by the other half."""
    rng = np.random.default_rng(0)
    halves = []
    for _ in range(DEALS):
        shuffled = rng.permutation(units)
        middle = len(units) // 2
        halves += [shuffled[:middle], shuffled[middle:]]
    return halves


def estimate(part: Float64, whole: Float64) -> ShareInterval:
    """The share, with its spread over resampled units; NaN of nothing."""
    if not whole.any():
        return ShareInterval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(part), size=(BOOTSTRAPS, len(part)))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = part[draws].sum(1) / whole[draws].sum(1)
        value = part.sum() / whole.sum()
    low, high = np.nanquantile(shares, (0.025, 0.975))
    return ShareInterval(float(value), float(low), float(high))
