"""What is compared with what: the picture's motion with the vehicle's, or any two signals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from pose2rgbd_ros.alignment.correlate import fit
from pose2rgbd_ros.alignment.flow import FlowSignal
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal, Samples, course_rate, gaussian_mean, known_rows
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64

# What the picture as a whole does: how fast it moves, slides, turns and grows.


_LEAST_SHARE = 0.2  # of cells with texture; with fewer a pair of images says nothing
_ROUNDS = 4


def magnitude(cells: AnyArray, flow: FlowSignal) -> Float64:
    """Speed of the picture (N,), px/s: the mean over `cells`, those of the flow or freed of something, by texture,
    without the fastest and the slowest eighth.

    NaN where there is no texture.
    """
    speed = np.linalg.norm(cells, axis=-1).reshape(len(flow), -1).astype(np.float64)
    return _known(flow, _trimmed_mean(speed, _weights(flow))[:, None])[:, 0]


@functools.lru_cache(maxsize=2)
def sliding(flow: FlowSignal) -> Float64:
    """What an affine motion of the whole picture explains, robustly fitted to the cells (N, 4); NaN: no texture.

    Columns, all in px/s: right and down at the middle; then what is seen at the left and right edge of growing
    (forward motion) and of turning clockwise (roll).
    """
    rows, columns = flow.cells.shape[1:3]
    aspect = flow.height_px / flow.width_px
    y, x = np.meshgrid(
        aspect * ((2 * np.arange(rows) + 1) / rows - 1), (2 * np.arange(columns) + 1) / columns - 1, indexing="ij"
    )
    design = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=-1)
    cells = flow.cells.reshape(len(flow), -1, 2).astype(np.float64)
    texture = _weights(flow)
    weight = texture
    for _ in range(_ROUNDS):
        normal = np.einsum("nc,ci,cj->nij", weight, design, design) + 1e-9 * np.eye(3)
        right = np.einsum("nc,ci,nck->nik", weight, design, cells)
        fitted = np.linalg.solve(normal, right)
        residual = np.linalg.norm(cells - np.einsum("ci,nik->nck", design, fitted), axis=-1)
        scale = 1.5 * weighted_median(residual, texture)[:, None] + 1e-6
        weight = texture / (1.0 + (residual / scale) ** 2)
    u, v = fitted[..., 0], fitted[..., 1]
    columns_out = [u[:, 0], v[:, 0], (u[:, 1] + v[:, 2]) / 2, (v[:, 1] - u[:, 2]) / 2]
    return _known(flow, np.stack(columns_out, axis=-1))


def weighted_median(values: Float64, weight: Float64) -> Float64:
    """Medians (N,) of the rows of `values` (N, C), each value counted by its weight (N, C)."""
    order = np.argsort(values, axis=1)
    mass = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    middle = np.argmax(mass >= 0.5 * mass[:, -1:], axis=1)
    return np.asarray(np.take_along_axis(values, order, axis=1)[np.arange(len(values)), middle])


def _trimmed_mean(values: Float64, weight: Float64) -> Float64:
    """Means (N,) of the rows of `values` (N, C) without an eighth of the weight at either end."""
    order = np.argsort(values, axis=1)
    values, weight = np.take_along_axis(values, order, axis=1), np.take_along_axis(weight, order, axis=1)
    upto = np.cumsum(weight, axis=1)
    low, high = upto[:, -1:] / 8, upto[:, -1:] * 7 / 8
    kept = np.clip(np.minimum(upto, high) - np.maximum(upto - weight, low), 0.0, None)
    return np.asarray((kept * values).sum(axis=1) / np.maximum(kept.sum(axis=1), 1e-12))


def _weights(flow: FlowSignal) -> Float64:
    """Weights (N, cells): texture, but no cell counts more than the median one, so that one tree does not decide."""
    texture = flow.weight.reshape(len(flow), -1).astype(np.float64)
    return np.asarray(np.minimum(texture, np.median(texture, axis=1, keepdims=True) + 1e-9))


def _known(flow: FlowSignal, values: Float64) -> Float64:
    values[flow.quality < _LEAST_SHARE] = np.nan
    return values


_SHARPEST_S = 0.06
_TURNING_RADPS = 0.05  # turning that changes by less is no evidence
_SLOW_S, _SLOW_RATES_S = (4.0, 1.5)  # slower parts of sums, and of rates, are left out: depths change with the scene
_SMOOTH_VELOCITY_S = 0.3  # beside turn rates: its noise should explain nothing
_DEPTH_CHANGES = 0.1  # the scene's depth changes the picture's speed by so much, and slowly: a lag can mimic it
_MEDIAN_OF = 5  # samples of a median filter: single wrong ones vanish, edges stay

# Values (M, K) at even times (M,) int64.
At = Callable[[Int64], Float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Two signals that should agree: `follower` by the clock in question, `leader` by the one to align with.

    `width_s`: both are Gaussian means of this width. `span_ns`: first and last time known, of follower and leader.
    `through_zero`: where the leaders are 0, so are the followers. `unmodelled`: share of its mean by which the follower
    changes for reasons of its own; what it explains counts only beyond that. `raw`: the follower as measured, for
    pictures.
    """

    name: str
    follower: At
    leader: At
    width_s: float
    follower_span_ns: tuple[int, int]
    leader_span_ns: tuple[int, int]
    through_zero: bool = False
    unmodelled: float = 0.0
    labels: tuple[str, str] = ("", "")
    raw: Samples | None = None


def of_flow(flow: FlowSignal, motion: MotionSignal, use_rotation: bool = True) -> list[Evidence]:
    """Speed against magnitude, and turning against the sliding and turning of the picture."""
    found = [speed_evidence(flow, motion), growth_evidence(flow, motion)]
    if not use_rotation or not _turns(motion, max(motion.smoothing_s, _flow_width_s(flow))):
        return found
    if motion.rates is not None:
        found.append(turn_evidence(flow, motion))
    elif not motion.of_body:
        found.append(heading_evidence(flow, motion))
    return found


def speed_evidence(flow: FlowSignal, motion: MotionSignal, compensated: Float64 | None = None) -> Evidence:
    """The paper's: magnitude of the flow against speed.

    Turning moves the picture as well: `compensated` (N,) is the magnitude freed of it; without, turn rates are allowed
    to explain a part.
    """
    width_s = max(motion.smoothing_s, _flow_width_s(flow))
    size = magnitude(flow.cells, flow) if compensated is None else compensated
    size = _without_spikes(size) if compensated is not None or not _turns(motion, width_s) else size
    turns = compensated is None and _turns(motion, width_s)

    def leader(at_ns: Int64) -> Float64:
        velocity = motion.velocity(at_ns, width_s)
        columns = [np.linalg.norm(velocity, axis=1)]
        if turns:
            columns.append(np.abs(_turning(motion, at_ns, velocity, width_s)))
        return np.stack(columns, axis=-1)

    return Evidence(
        "speed",
        _flow_means(flow, size[:, None], width_s),
        leader,
        width_s,
        *_spans(flow, motion),
        unmodelled=_DEPTH_CHANGES,
        labels=("optical flow, px/s", "speed, m/s"),
        raw=_raw(flow, size[:, None]),
    )


def growth_evidence(flow: FlowSignal, motion: MotionSignal) -> Evidence:
    """How fast the picture grows against speed: what flying where one looks does, however much sky there is.

    Noise does not make a picture grow, so it stands still where the vehicle does.
    """
    width_s = max(motion.smoothing_s, _flow_width_s(flow))
    growth = sliding(flow)[:, 2:3]
    return Evidence(
        "growth",
        _flow_means(flow, growth, width_s),
        lambda at_ns: _speed(motion.velocity(at_ns, width_s)),
        width_s,
        *_spans(flow, motion),
        through_zero=True,
        unmodelled=_DEPTH_CHANGES,
        labels=("picture grows, px/s", "speed, m/s"),
        raw=_raw(flow, growth),
    )


def turn_evidence(flow: FlowSignal, motion: MotionSignal) -> Evidence:
    """Sliding and turning of the picture against measured turn rates; speed may explain a part.

    Not the velocity along the body's axes: it holds how the body is turned, and a swing and its rate together fit at
    any lag.
    """
    assert motion.rates is not None
    width_s = max(_flow_width_s(flow), 0.8 * motion.rates.period_s)
    slow_s = _slow_s(flow, width_s, _SLOW_RATES_S)
    means = _flow_means(flow, sliding(flow)[:, [0, 1, 3]], width_s)

    def leader(at_ns: Int64) -> Float64:
        velocity = motion.velocity(at_ns, max(_SMOOTH_VELOCITY_S, motion.smoothing_s))
        rates = motion.turn_rates(at_ns, width_s)
        assert rates is not None
        return np.concatenate([rates, _speed(velocity)], axis=1)

    return Evidence(
        "turning",
        lambda at_ns: _fast_part(means(at_ns), at_ns, slow_s, summed=False),
        _padded(leader, slow_s, summed=False),
        width_s,
        *_spans(flow, motion),
        through_zero=True,
        labels=("picture slides, px/s", "turn rate, rad/s"),
    )


def heading_evidence(flow: FlowSignal, motion: MotionSignal) -> Evidence:
    """How far the picture has slid and turned against the course over ground and the distance gone.

    For vehicles that fly where they look. Course and distance have white noise where they come from positions; their
    rates would have hardly anything else. Both sides lose their slow part: the picture's sum drifts.
    """
    width_s = max(motion.smoothing_s, _flow_width_s(flow))
    slow_s = _slow_s(flow, width_s, _SLOW_S)
    means = _flow_means(flow, sliding(flow)[:, [0, 1, 3]], width_s)

    def leader(at_ns: Int64) -> Float64:
        velocity = motion.velocity(at_ns, width_s)
        step_s = float(at_ns[1] - at_ns[0]) / SECOND
        return np.concatenate([course_rate(velocity, step_s)[:, None], _speed(velocity)], axis=1)

    return Evidence(
        "heading",
        lambda at_ns: _fast_part(means(at_ns), at_ns, slow_s, summed=True),
        _padded(leader, slow_s, summed=True),
        width_s,
        *_spans(flow, motion),
        through_zero=True,
        labels=("picture has slid, px", "course, rad"),
    )


def without_turning(flow: FlowSignal, motion: MotionSignal, offset_ns: int) -> Float64:
    """Magnitude of the flow (N,) less what turning makes of it; `offset_ns` is added to the flow's stamps.

    How much each cell moves for each turn rate is fitted, beside what speed does, so that neither lens nor mounting
    need be known.
    """
    width_s = _flow_width_s(flow)
    at_ns = flow.stamps_ns + offset_ns
    smooth_s = max(width_s, motion.smoothing_s)
    rates = motion.turn_rates(at_ns, width_s)
    velocity = motion.velocity(at_ns, smooth_s)
    if rates is None:
        even_ns = np.arange(at_ns[0], at_ns[-1] + SECOND // 20, SECOND // 20)
        turning = course_rate(motion.velocity(even_ns, smooth_s), 0.05)
        rates = np.interp(at_ns, even_ns, turning)[:, None]
    cells = flow.cells.reshape(len(flow), -1).astype(np.float64)
    others = velocity if motion.of_body else _speed(velocity)
    gain = fit(cells, np.concatenate([rates, others], axis=1)).gain[1 : 1 + rates.shape[1]]
    known = known_rows(rates)
    turned = np.where(known[:, None], np.nan_to_num(rates) @ gain, 0.0)
    size = magnitude((cells - turned).reshape(flow.cells.shape), flow)
    return np.where(known, size, np.nan)


def of_samples(name: str, follower: Samples, leader: Samples) -> Evidence:
    """Any two signals."""
    width_s = max(_SHARPEST_S, 0.7 * follower.period_s, 0.7 * leader.period_s)

    def means(samples: Samples) -> At:
        origin_ns = int(samples.stamps_ns[0])
        return lambda at_ns: gaussian_mean(
            samples.seconds(origin_ns), samples.values, (at_ns - origin_ns) / SECOND, width_s
        )

    return Evidence(name, means(follower), means(leader), width_s, *_spans(follower, leader), labels=(name, name))


def _raw(flow: FlowSignal, values: Float64) -> Samples:
    """Values of each pair of images (N, 1), without single wrong ones."""
    known = known_rows(values)
    return Samples(flow.stamps_ns[known], median_filter(values[known], (_MEDIAN_OF, 1)))


def _flow_means(flow: FlowSignal, values: Float64, width_s: float) -> At:
    """Means of the displacement: each pair counts by its interval, so that jitter of the stamps averages out."""
    known = known_rows(values)
    values, interval_s = median_filter(values[known], (_MEDIAN_OF, 1)), flow.interval_s[known]
    origin_ns = int(flow.stamps_ns[0])
    time_s = (flow.stamps_ns[known] - origin_ns) / SECOND
    weight = interval_s / np.median(interval_s) if len(interval_s) else interval_s
    return lambda at_ns: gaussian_mean(time_s, values, (at_ns - origin_ns) / SECOND, width_s, weight)


def _turning(motion: MotionSignal, at_ns: Int64, velocity: Float64, width_s: float) -> Float64:
    """One turn rate (M,): the size of the measured one, or the course's."""
    rates = motion.turn_rates(at_ns, width_s)
    if rates is not None:
        return np.asarray(np.linalg.norm(rates, axis=1))
    if motion.of_body:  # no course without a map
        return np.zeros(len(at_ns))
    step_s = float(at_ns[1] - at_ns[0]) / SECOND if len(at_ns) > 1 else 1.0
    return course_rate(velocity, step_s)


def _slow_s(flow: FlowSignal, width_s: float, most_s: float) -> float:
    """Width of the Gaussian mean that counts as slow, less on short records."""
    duration_s = float(flow.stamps_ns[-1] - flow.stamps_ns[0]) / SECOND
    return float(np.clip(0.1 * duration_s, 3 * width_s, max(most_s, 3 * width_s)))


def _padded(leader: At, slow_s: float, summed: bool) -> At:
    """The fast part of leaders, which are looked at beyond the times asked for, where they may be known as well."""

    def fast(at_ns: Int64) -> Float64:
        step_ns = int(at_ns[1] - at_ns[0])
        pad = int(np.ceil(4 * slow_s * SECOND / step_ns))
        wide_ns = at_ns[0] + step_ns * np.arange(-pad, len(at_ns) + pad, dtype=np.int64)
        return _fast_part(leader(wide_ns), wide_ns, slow_s, summed)[pad : pad + len(at_ns)]

    return fast


def _fast_part(rates: Float64, at_ns: Int64, slow_s: float, summed: bool) -> Float64:
    """Rates at even times (M, K), or their sums over time, less their Gaussian mean of width `slow_s`.

    NaN near gaps and ends. What was missed in a gap is not known, so each part between gaps is summed by itself.
    """
    step_s = float(at_ns[1] - at_ns[0]) / SECOND
    known = known_rows(rates)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    result = np.full(rates.shape, np.nan)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        part = rates[begin:end]
        if summed:
            part = np.asarray(step_s * (np.cumsum(part, axis=0) - 0.5 * part), dtype=np.float64)
        time_s = step_s * np.arange(len(part), dtype=np.float64)
        result[begin:end] = part - gaussian_mean(time_s, part, time_s, slow_s)
    return result


def _without_spikes(size: Float64) -> Float64:
    """Clipped at 6 deviations from the median: a camera that pans by itself says nothing about speed."""
    middle = float(np.nanmedian(size)) if np.isfinite(size).any() else 0.0
    spread = 1.4826 * float(np.nanmedian(np.abs(size - middle))) if np.isfinite(size).any() else 0.0
    return np.asarray(np.clip(size, middle - 6 * spread, middle + 6 * spread))


def _speed(velocity: Float64) -> Float64:
    return np.asarray(np.linalg.norm(velocity, axis=1)[:, None])


def _turns(motion: MotionSignal, width_s: float) -> bool:
    """Whether the vehicle turns now more and now less; a steady curve moves the picture as steadily."""
    even_ns = np.arange(motion.stamps_ns[0], motion.stamps_ns[-1], round(width_s * SECOND / 2))
    if len(even_ns) < 8:
        return False
    rates = motion.turn_rates(even_ns, width_s)
    if rates is None:
        rates = _turning(motion, even_ns, motion.velocity(even_ns, width_s), width_s)[:, None]
    rates = rates[known_rows(rates)]
    if not len(rates):
        return False
    unsteady = np.linalg.norm(rates - np.median(rates, axis=0), axis=1)
    return float(np.quantile(unsteady, 0.95)) > _TURNING_RADPS


def _flow_width_s(flow: FlowSignal) -> float:
    return max(_SHARPEST_S, 0.8 * float(np.median(flow.interval_s))) if len(flow) else _SHARPEST_S


def _spans(follower: FlowSignal | Samples, leader: MotionSignal | Samples) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last time of both, 0 where there is none."""
    of, to = (
        (int(stamps_ns[0]), int(stamps_ns[-1])) if len(stamps_ns) else (0, 0)
        for stamps_ns in (follower.stamps_ns, leader.stamps_ns)
    )
    return of, to
