"""The offset between the clock of the images and the clock of the poses, with its uncertainty, or why it is not known.

The paper's Algorithm 1, automatic. Every lag is scored by how much of the picture's motion the vehicle's motion
explains (`correlate`), as a log likelihood ratio against no relation at all; the evidence of speed and of turning adds
up. About the best lag, blocks of time are looked at one by one: their curves give the sub-sample peak, the drift of the
clock, and by resampling the blocks the uncertainty. That holds for noise; what the scene and the flow's own faults do
to the answer shows in parts of the picture, looked at by themselves, and in how far it lies from the peak of the
scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from pose2rgbd_ros.alignment import correlate, evidence
from pose2rgbd_ros.alignment.evidence import Evidence
from pose2rgbd_ros.alignment.flow import FlowSignal
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal, Samples, known_rows, main_part
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.settings import setting

_LEAST_S_FOR_DRIFT = 60.0
_SHORTEST_S = 4.0  # in less, three or four swings fit at offsets that are all as sure of themselves
_LONGEST_S = 12 * 3600.0  # memory grows with it
_TWO_CLOCKS_S = 0.01  # by which the clocks of two sensors of one vehicle are taken to differ
_NEAR_S = 0.15  # a peak is at least so wide,
_PLAUSIBLE = 3.0  # score from which on a lag is worth a second look
_PEAK_DEPTH = 3.0  # and reaches down to so much below its top
_ELSEWHERE_S = 0.5  # a part of the picture that answers further away counts as that far: another peak
_LIKE = 0.7  # correlation from which on it is not for want of likeness that an answer is unsure


@dataclass(frozen=True)
class AlignOptions:
    """How the offset is looked for."""

    max_offset_s: float = setting(
        5.0, "largest offset looked for; 0: any at which --min-overlap of the signals meets, however far", ge=0.0
    )
    min_overlap: float = setting(
        0.5, "least share of the shorter signal that must meet the other; it bounds the offsets too", ge=0.05, le=1.0
    )
    rotation: bool = setting(True, "also compare turn rates with the turning of the picture")
    drift: bool = setting(True, "on records of a minute and more: also a drift of the clock")
    max_drift_ppm: float = setting(600.0, "largest drift looked for", ge=0.0, le=1e5)
    least_confidence: float = setting(0.85, "below, the answer counts as not observable", ge=0.0, le=1.0)
    most_sigma_s: float = setting(0.25, "a less certain answer counts as not observable", ge=0.0)
    seed: int = setting(0, "draws the bootstrap", ge=0)


@dataclass(frozen=True, eq=False)
class Curve:
    """Of one evidence, or all together: `lag_s` (L,), `score` (L,) log likelihood ratio, `correlation` (L,) 0 to 1."""

    name: str
    lag_s: Float64
    score: Float64
    correlation: Float64


@dataclass(frozen=True, eq=False)
class Alignment:
    """Add `offset_s` + `drift_ppm` * 1e-6 * (seconds since `reference_ns`) to image stamps.

    `observable` False: do not; `why` says why not, and what was found is reported for the record. `sigma_s` is of the
    offset at the reference, which lies in the middle: noise, how far parts of the picture answer apart, and how far the
    answer of `refine` is from `peak_s`, where the scores of all evidence peak. `looked_s`: first and last offset
    looked at. `confidence`, 0 to 1, is the probability that this peak is the right one: against all other lags, and
    against no relation at all. `overlap_ns`: first and last image stamp that meet motion. `left_out`: pairs of images
    and samples of motion whose stamps lie hours from all others.
    """

    observable: bool
    why: str
    offset_s: float = float("nan")
    drift_ppm: float = 0.0
    drift_sigma_ppm: float = float("nan")
    sigma_s: float = float("nan")
    peak_s: float = float("nan")
    looked_s: tuple[float, float] = (float("nan"), float("nan"))
    confidence: float = 0.0
    correlation: float = 0.0
    second_peak: float = 0.0
    second_peak_s: float = float("nan")
    reference_ns: int = 0
    overlap_ns: tuple[int, int] = (0, 0)
    left_out: int = 0
    curves: list[Curve] = field(default_factory=list)

    def summary(self) -> str:
        """In one line, for terminal and report."""
        if not np.isfinite(self.offset_s):
            return f"image time offset not observable: {self.why}"
        drift = f", drift {self.drift_ppm:+.0f} ppm" if self.drift_ppm else ""
        summary = (
            f"{self.offset_s:+.3f} s{drift} (sigma {self.sigma_s:.3f} s, confidence {self.confidence:.2f}, "
            f"correlation {self.correlation:.2f})"
        )
        if self.left_out:
            summary += f"; {counted(self.left_out, 'sample')} left out, whose stamps lie hours from all others"
        if self.observable:
            return f"image time offset {summary}"
        return f"image time offset not observable: {self.why}; the best was {summary}"

    def looked(self, options: AlignOptions) -> str:
        """Which offsets were looked at, and what bounded them; "" when none was."""
        first, last = self.looked_s
        if not np.isfinite(first + last):
            return ""
        limit = options.max_offset_s
        reached = 0 < limit <= max(abs(first), abs(last)) + _NEAR_S
        why = (
            "--max-offset-s" if reached else f"beyond, less than {100 * options.min_overlap:.0f} % meets: --min-overlap"
        )
        return f"{first:+.2f} to {last:+.2f} s ({why})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML; unknown numbers are None."""
        numbers = {
            name: round(float(getattr(self, name)), 6) if np.isfinite(getattr(self, name)) else None
            for name in (
                *("offset_s", "sigma_s", "peak_s", "drift_ppm", "drift_sigma_ppm", "confidence", "correlation"),
                *("second_peak", "second_peak_s"),
            )
        }
        return {
            "observable": self.observable,
            "why": self.why,
            **numbers,
            "reference_ns": self.reference_ns,
            "looked_s": [round(float(value), 3) if np.isfinite(value) else None for value in self.looked_s],
            "overlap_ns": list(self.overlap_ns),
            "left_out": self.left_out,
            "evidence": {
                curve.name: {
                    "best_s": round(float(curve.lag_s[np.argmax(curve.score)]), 4) if curve.score.any() else None,
                    "score": round(float(curve.score.max(initial=0.0)), 2),
                    "correlation": round(float(curve.correlation.max(initial=0.0)), 4),
                }
                for curve in self.curves
            },
        }

    def offsets_ns(self, stamps_ns: Int64) -> Int64:
        """What to add to image stamps (N,)."""
        elapsed_s = (np.asarray(stamps_ns, dtype=np.int64) - self.reference_ns) / SECOND
        return np.rint((self.offset_s + 1e-6 * self.drift_ppm * elapsed_s) * SECOND).astype(np.int64)


def estimate_offset(flow: FlowSignal, motion: MotionSignal, options: AlignOptions | None = None) -> Alignment:
    """What to add to image stamps so that they are by the clock of the motion."""
    options = options or AlignOptions()
    flow, motion, left_out = _sensible(flow, motion)
    found = replace(_estimate(flow, motion, options), left_out=left_out)
    if found.observable:
        parts = (_estimate(part, motion, options) for part in _parts(flow))
        found = _widened(found, _scatter_s(found, [part for part in parts if np.isfinite(part.offset_s)]), options)
    if motion.two_clocks:
        found = replace(found, sigma_s=float(np.hypot(found.sigma_s, _TWO_CLOCKS_S)))
    return found


def _parts(flow: FlowSignal) -> list[FlowSignal]:
    """The same flow with half of what it holds: the halves of the picture, whose scene and errors are not the same, and
    half as many images a second."""
    rows, columns = flow.cells.shape[1:3]
    every = slice(None)
    halves = [(every, slice(columns // 2)), (every, slice(columns // 2, None))]
    halves += [(slice(rows // 2), every), (slice(rows // 2, None), every)]
    return [flow.coarser(), *(flow.in_cells(*half) for half in halves)]


def _scatter_s(found: Alignment, parts: list[Alignment]) -> float:
    """How far the answers of parts lie from that of the whole (root mean square), seconds; the surer a part is, the
    more
    it counts."""
    sigma_s = np.array([part.sigma_s for part in parts])
    weight = 1.0 / (found.sigma_s + np.where(np.isfinite(sigma_s), sigma_s, np.inf))
    apart_s = [
        part.offset_s + 1e-6 * part.drift_ppm * (found.reference_ns - part.reference_ns) / SECOND - found.offset_s
        for part in parts
    ]
    square = np.clip(apart_s, -_ELSEWHERE_S, _ELSEWHERE_S) ** 2
    return float(np.sqrt(np.average(square, weights=weight))) if weight.any() else 0.0


def _widened(found: Alignment, by_s: float, options: AlignOptions) -> Alignment:
    """The same, known less well; not observable where that is too little."""
    sigma_s = float(np.hypot(found.sigma_s, by_s))
    if sigma_s <= options.most_sigma_s:
        return replace(found, sigma_s=sigma_s)
    why = f"parts of the picture answer {by_s:.2f} s apart: the offset is known to {sigma_s:.2f} s only"
    return replace(found, sigma_s=sigma_s, observable=False, why=why)


def _sensible(flow: FlowSignal, motion: MotionSignal) -> tuple[FlowSignal, MotionSignal, int]:
    """Without stamps that lie hours from all others, and how many those were."""
    seen, moved = main_part(flow.stamps_ns), main_part(motion.stamps_ns)
    left_out = int((~seen).sum() + (~moved).sum())
    if not seen.all():
        flow = flow.chosen(seen)
    if not moved.all():
        kept = motion.stamps_ns[moved]
        motion = motion.within(int(kept[0]), int(kept[-1]))
    return flow, motion, left_out


def _estimate(flow: FlowSignal, motion: MotionSignal, options: AlignOptions) -> Alignment:
    longest_s = max(float(np.ptp(s)) / SECOND if len(s) else 0.0 for s in (flow.stamps_ns, motion.stamps_ns))
    if longest_s > _LONGEST_S:
        return Alignment(
            False,
            f"stamps span {longest_s / 3600:.0f} h, and at most {_LONGEST_S / 3600:.0f} h are looked at; cut the "
            "recording, or its log, to the flight",
        )
    if len(flow) < 8:
        return Alignment(False, f"only {counted(len(flow), 'pair')} of images, near enough in time for optical flow")
    found = evidence.of_flow(flow, motion, options.rotation)
    if options.rotation:
        # Once both can be laid side by side, the turning is taken out of the magnitude.
        compared = _compare(found, options)
        if compared is not None and compared.score.max() > _PLAUSIBLE:
            offset_ns = round(float(compared.lag_s[np.argmax(compared.score)]) * SECOND)
            freed = evidence.without_turning(flow, motion, offset_ns)
            found = [evidence.speed_evidence(flow, motion, freed), *found[1:]]
    return align(found, options)


def align_samples(follower: Samples, leader: Samples, options: AlignOptions | None = None) -> Alignment:
    """The same for any two signals, as speeds of two sources: what to add to the follower's stamps."""
    follower, leader = (item.chosen(main_part(item.stamps_ns)) for item in (follower, leader))
    return align([evidence.of_samples("signal", follower, leader)], options or AlignOptions())


def align(evidences: list[Evidence], options: AlignOptions) -> Alignment:
    """The same for evidence of any kind. All followers share a clock, and all leaders."""
    times_ns, curves = _curves(evidences, options)
    if not curves:
        return Alignment(False, _apart(evidences, options))
    return _answer(evidences, curves, times_ns, options)


def _compare(evidences: list[Evidence], options: AlignOptions) -> Curve | None:
    """All evidence at every lag, coarsely."""
    _, curves = _curves(evidences, options)
    return curves[-1] if curves else None


def _curves(evidences: list[Evidence], options: AlignOptions) -> tuple[Int64, list[Curve]]:
    """The times compared, and the score of each evidence and, last, of all together; none where nothing meets."""
    step_ns = _step_ns(evidences)
    times_ns = _grid(evidences, step_ns)
    origin_ns = _origin_ns(evidences, times_ns, step_ns)
    first, last = _lags(evidences, options, times_ns, step_ns, origin_ns)
    if last - first < 2 or len(times_ns) < 8:
        return times_ns, []
    curves = [_curve(item, times_ns, step_ns, origin_ns, (first, last), options) for item in evidences]
    score = np.sum([curve.score for curve in curves], axis=0)
    correlation = np.max([curve.correlation for curve in curves], axis=0)
    return times_ns, [*curves, Curve("all", curves[0].lag_s, score, correlation)]


def _apart(evidences: list[Evidence], options: AlignOptions) -> str:
    """Why the signals never meet."""
    follower, leader = evidences[0].follower_span_ns, evidences[0].leader_span_ns
    apart = f"images and motion are {(leader[0] - follower[0]) / SECOND:+.3f} s apart, and at no offset"
    if options.max_offset_s > 0:
        return f"{apart} within {options.max_offset_s:g} s enough of them meets; --max-offset-s 0 looks at any offset"
    return f"{apart} {100 * options.min_overlap:.0f} % of the shorter meets; --min-overlap asks for less"


def _answer(evidences: list[Evidence], curves: list[Curve], times_ns: Int64, options: AlignOptions) -> Alignment:
    total = curves[-1]
    best = int(np.argmax(total.score))
    if not total.score[best] > 0:
        return Alignment(False, "the picture's motion follows the vehicle's at no offset", curves=curves)
    duration_s = float(times_ns[-1] - times_ns[0]) / SECOND
    reach_s = min(0.5, 0.1 * duration_s)
    max_drift = 1e-6 * options.max_drift_ppm if options.drift and duration_s >= _LEAST_S_FOR_DRIFT else 0.0
    # What says nothing about this lag in the large has no say in the small.
    informative = [item for item, curve in zip(evidences, curves, strict=False) if curve.score[best] > 0]
    refined = refine(informative, times_ns, float(total.lag_s[best]), reach_s, max_drift, options.seed)
    refined = replace(refined, sigma_s=refined.sigma_s * _disagreement(curves[:-1], best))
    line = refined.line
    near_s = max(_NEAR_S, 4 * min(refined.sigma_s, options.most_sigma_s))
    confidence = _mass(total, best, line.offset_s, near_s)
    second, second_s = _second_peak(total, best)
    correlation = float(total.correlation[best])
    peak_s = _peak_s(total, best)
    # With a drift the scores, which know of none, peak elsewhere. Without, the two are answers to one question: how far
    # they part is how little is known, and where it is more than the finer one allows for, it has gone astray.
    beside_s = 0.0 if line.drift else line.offset_s - peak_s
    if abs(beside_s) > max(refined.sigma_s, 0.5 * float(total.lag_s[1] - total.lag_s[0])):
        line = replace(line, offset_s=peak_s)
    sigma_s = float(np.hypot(refined.sigma_s, beside_s))
    why = _why(sigma_s, confidence, correlation, second, second_s, duration_s, options)
    if duration_s < _SHORTEST_S:
        why = f"only {duration_s:.1f} s of images; at least {_SHORTEST_S:g} s are needed"
    images, span = evidences[0].follower_span_ns, evidences[0].leader_span_ns
    offset_ns = round(line.offset_s * SECOND)
    overlap = max(images[0], span[0] - offset_ns), min(images[1], span[1] - offset_ns)
    return Alignment(
        observable=not why,
        why=why,
        offset_s=line.offset_s,
        drift_ppm=1e6 * line.drift,
        drift_sigma_ppm=1e6 * refined.drift_sigma,
        sigma_s=sigma_s,
        peak_s=peak_s,
        looked_s=(float(total.lag_s[0]), float(total.lag_s[-1])),
        confidence=confidence,
        correlation=correlation,
        second_peak=second,
        second_peak_s=second_s,
        reference_ns=line.reference_ns,
        overlap_ns=overlap,
        curves=curves,
    )


def _step_ns(evidences: list[Evidence]) -> int:
    """Steps of half the sharpest Gaussian's width."""
    return round(SECOND * min(item.width_s for item in evidences) / 2)


def _grid(evidences: list[Evidence], step_ns: int) -> Int64:
    """Even times over the followers, by their clock."""
    first = min(item.follower_span_ns[0] for item in evidences)
    last = max(item.follower_span_ns[1] for item in evidences)
    return first + step_ns * np.arange((last - first) // step_ns + 1, dtype=np.int64)


def _origin_ns(evidences: list[Evidence], times_ns: Int64, step_ns: int) -> int:
    """The least lag, 0 or more, at which the steps of the followers fall on the beginning of the leaders.

    Lags count from there, so that the same signals are compared at the same times however their clocks differ.
    """
    return int(evidences[0].leader_span_ns[0] - times_ns[0]) % step_ns


def _lags(
    evidences: list[Evidence], options: AlignOptions, times_ns: Int64, step_ns: int, origin_ns: int
) -> tuple[int, int]:
    """First and last lag in steps from the origin: within the largest offset, and where enough of the signals meets."""
    leader = evidences[0].leader_span_ns
    length = min(leader[1] - leader[0], int(times_ns[-1] - times_ns[0]))
    needed = round(options.min_overlap * length)
    first = leader[0] + needed - int(times_ns[-1])
    last = leader[1] - needed - int(times_ns[0])
    if options.max_offset_s > 0:
        most = round(options.max_offset_s * SECOND)
        first, last = max(first, -most), min(last, most)
    return -(-(first - origin_ns) // step_ns), (last - origin_ns) // step_ns


def _curve(
    item: Evidence, times_ns: Int64, step_ns: int, origin_ns: int, lags: tuple[int, int], options: AlignOptions
) -> Curve:
    """Score one evidence at every lag."""
    follower = item.follower(times_ns)
    count = len(times_ns) + lags[1] - lags[0]
    first_ns = times_ns[0] + origin_ns
    leader = item.leader(first_ns + step_ns * np.arange(lags[0], lags[0] + count, dtype=np.int64))
    found = correlate.profile(follower, leader, (0, lags[1] - lags[0]), item.through_zero)
    step_s = step_ns / SECOND
    lag_s = np.asarray((found.lag + lags[0]) * step_s + origin_ns / SECOND, dtype=np.float64)
    usable = found.count >= 0.5 * options.min_overlap * max(1, int(found.count.max(initial=0)))
    unexplained = np.where(usable, found.unexplained, 0.0)
    best = int(np.argmin(unexplained))
    fit = correlate.fit(follower, leader[best : best + len(follower)], item.through_zero)
    hang = fit.correlation_steps(WHITE * item.width_s / step_s)
    independent = found.count / hang
    p, q = follower.shape[1], leader.shape[1]
    # Bartlett's factor for few samples; half a logarithm for each parameter of the map, which chance would use.
    # It comes in gradually, about two samples for each: few prove nothing, and no single one may decide.
    each = independent / (p + q + 1)
    factor = np.maximum(independent - 1 - (p + q + 1) / 2, 0.0) * np.clip(each - 1.5, 0.0, 1.0)
    counted = _beyond(unexplained, follower, item.unmodelled)
    score = -0.5 * factor * counted - 0.5 * p * q * np.log(np.maximum(independent, 1.0))
    return Curve(item.name, lag_s, np.maximum(score, 0.0), np.sqrt(np.maximum(0.0, 1 - np.exp(unexplained))))


def _disagreement(curves: list[Curve], best: int) -> float:
    """By how much more the evidence parts than its own uncertainty allows, at least 1 (Birge's ratio)."""
    lost = [float(curve.score.max() - curve.score[best]) for curve in curves if curve.score.max() > _PLAUSIBLE]
    return float(np.sqrt(max(1.0, 2 * sum(lost) / (len(lost) - 1)))) if len(lost) > 1 else 1.0


def _beyond(unexplained: Float64, follower: Float64, unmodelled: float) -> Float64:
    """Logarithms of the share left unexplained (L,), as if the follower had noise of `unmodelled` times its mean as
    well.
    """
    known = follower[known_rows(follower)]
    variance = float(known.var(axis=0).mean()) if len(known) else 0.0
    if not unmodelled or not variance > 0:
        return unexplained
    noise = (unmodelled * float(np.abs(known.mean(axis=0)).mean())) ** 2 / variance
    return np.asarray(np.log((np.exp(unexplained) + noise) / (1 + noise)))


def _mass(total: Curve, best: int, offset_s: float, near_s: float) -> float:
    """Posterior probability of the main peak: every lag alike before, or no relation at all."""
    top = float(total.score[best])
    weight = np.exp(total.score - top)
    unrelated = len(total.score) * np.exp(-top)
    low = np.flatnonzero(total.score < top - _PEAK_DEPTH)
    left, right = low[low < best].max(initial=-1), low[low > best].min(initial=len(total.score))
    main = np.abs(total.lag_s - offset_s) <= near_s
    main[left + 1 : right] = True
    return float(weight[main].sum() / (weight.sum() + unrelated))


def _second_peak(total: Curve, best: int) -> tuple[float, float]:
    """The next best lag outside the main peak: its score relative to the best, and where it is."""
    low = total.score < 0.5 * total.score[best]
    left = best - int(np.argmax(low[best::-1])) if low[: best + 1].any() else 0
    right = best + int(np.argmax(low[best:])) if low[best:].any() else len(low) - 1
    outside = np.ones(len(low), dtype=bool)
    outside[left : right + 1] = False
    if not outside.any():
        return 0.0, float("nan")
    at = int(np.argmax(np.where(outside, total.score, -np.inf)))
    return float(total.score[at] / total.score[best]), float(total.lag_s[at])


def _peak_s(total: Curve, best: int) -> float:
    """The lag of the highest score, between the steps by the parabola through the three about it."""
    if not 0 < best < len(total.score) - 1:
        return float(total.lag_s[best])
    before, top, after = total.score[best - 1 : best + 2]
    bend = before - 2 * top + after
    share = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(total.lag_s[best] + share * (total.lag_s[best + 1] - total.lag_s[best]))


def _why(
    sigma_s: float,
    confidence: float,
    correlation: float,
    second: float,
    second_s: float,
    duration_s: float,
    options: AlignOptions,
) -> str:
    """Why the answer is not to be used; "" when it is."""
    if not np.isfinite(sigma_s):
        return "the scores have a highest place, but no peak there"
    if sigma_s > options.most_sigma_s:
        return f"the peak is too flat: the offset is known to {sigma_s:.2f} s only"
    if confidence >= options.least_confidence:
        return ""
    if second > 0.7:
        return f"ambiguous: an offset of {second_s:+.2f} s fits almost as well"
    if correlation < _LIKE:
        return f"the picture's motion hardly follows the vehicle's (correlation {correlation:.2f})"
    return (
        f"the motions are alike (correlation {correlation:.2f}), but change too little in {duration_s:.1f} s to rule "
        f"out chance or another offset (confidence {confidence:.2f} of the {options.least_confidence:.2f} needed)"
    )


# The best lag to a fraction of a sample, its drift over time, and how certain both are.
#
# Gauss-Newton steps on offset, drift and the linear map together: where a signal is a ramp, the map could take the
# offset's part, and the uncertainty must know. Residuals are taken for Student's t, correlated in time.


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
    """Sigma of offset and drift: the larger of what the residuals' size says and a bootstrap that weights blocks."""
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
