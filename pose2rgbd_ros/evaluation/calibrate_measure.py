"""Do bounds fitted on lines A hold on lines B? Measured by dealing the lines anew, with an error by resampling lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose2rgbd_ros.evaluation.calibrate_fit import Goal, Pixels, fit
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.rendering.calibration import Calibration
from pose2rgbd_ros.rendering.intervals import IntervalTable, cells_of

DEALS = 3  # of the lines into halves A and B, both ways
BOOTSTRAPS = 1000
RELIABILITY_LEVELS, RELIABILITY_STEP = (0.5, 0.7, 0.8, 0.9, 0.95), 4
NOTHING = "no frame vouches for depth at any pose: the guard withholds all of it"
RISK_SHARES = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A share, and the interval of 95 % by resampling lines."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        return [round(number, 5) for number in (self.value, self.low, self.high)]


@dataclass(frozen=True, eq=False)
class Measured:
    """By dealing the lines that calibrate: on lines that the bounds were not fitted on, but that set the guard's limit.

    coverage: of known pixels, those within the interval. below: those nearer than the lower bound. false_safe: those
    whose lower bound exceeds the truth by the margin. known: of pixels of recorded depth, those with a depth.
    width: median width of the interval as a share of depth. judged: frame -> its false-safe and its known pixels,
    summed over the deals in which its line was not fitted on; frames of no line are never judged.
    reliability: pairs of the share promised and the share held. risk_coverage: of the share kept, narrowest intervals
    first, the mean error in metres and the share of depths farther than the truth by the margin.
    """

    coverage: Estimate
    below: Estimate
    false_safe: Estimate
    known: Estimate
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

    coverage, below, false_safe, known: as in `Measured`, of the depth that the renderer gives. passed: share of frames
    that are in the guard. frames, units, kind: how many frames, of how many lines or stretches; no frame when nothing was
    left to judge on, and then all shares are NaN.
    """

    coverage: Estimate
    below: Estimate
    false_safe: Estimate
    known: Estimate
    passed: Estimate
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
            nothing = Estimate(*(float("nan"),) * 3)
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
            f"{self.passed.value:.0%}, {level:.0%} interval holds {self.coverage.value:.1%} ({self.coverage.low:.1%} to "
            f"{self.coverage.high:.1%}), false-safe {self.false_safe.value:.2%} (up to {self.false_safe.high:.2%}), "
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
) -> Measured:
    """Deal the units into halves, fit on one and count on the other.

    asked: unit -> how many of its sampled pixels have a recorded depth, known to the model or not; also of units of
    which the model knows nothing.
    """
    units = np.unique(pixels.unit[pixels.unit >= 0])
    counts = _Counts(*(np.zeros(len(units)) for _ in range(5)))
    of_frame: dict[int, tuple[int, int]] = {}
    shown: list[Float32] = []
    for chosen in deals(units):
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
    return Measured(
        coverage=estimate(counts.within, counts.known),
        below=estimate(counts.below, counts.known),
        false_safe=estimate(counts.false_safe, counts.known),
        known=estimate(np.append(counts.known, 0 * blind), np.append(counts.asked, DEALS * blind)),
        width=float(np.median(width)) if len(width) else float("nan"),
        judged=of_frame,
        reliability=_reliability(pixels, edges, goal, focal_px),
        risk_coverage=_risk_coverage(width, error_m, goal.margin_m),
    )


def _reliability(
    pixels: Pixels, edges: tuple[Float32, ...], goal: Goal, focal_px: float
) -> list[tuple[float, float]]:
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
    """See :class:`Measured`; width and error_m (N,)."""
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


def estimate(part: Float64, whole: Float64) -> Estimate:
    """The share, with its spread over resampled units; NaN of nothing."""
    if not whole.any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(part), size=(BOOTSTRAPS, len(part)))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = part[draws].sum(1) / whole[draws].sum(1)
        value = part.sum() / whole.sum()
    low, high = np.nanquantile(shares, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))
