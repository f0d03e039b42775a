"""How far the clock of images is from that of a log, by where the images' own track says the camera was.

The motion of pictures (`align.py`) needs no poses and is what a conversion begins with; its peak is flat where
positions are noisy. Once structure from motion has found the camera's way, that way must lie on the logged positions,
at one offset in time alone: metres of noise over metres a second, and less with every fix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.se3 import umeyama

LOOKED_S, STEP_S = 15.0, 0.1  # to both sides
FEWEST_FIXES = 8
LEAST_OVERLAP = 0.7  # share of the images that must meet the log
MOST_SIGMA_S = 0.5  # from which the answer is no better than a clock set by hand
APART_SIGMAS = 6.0  # another offset may be as good as the best only so near to it
SURE_DELTA = 9.0  # of chi square, by which all others must be worse
LEAST_BREADTH = 0.05  # of a way flown: along a line a scale that drifts passes for an offset
ROBUST = 1.5  # sigmas from which a fix counts less
ROUNDS = 4
IN_90 = 1.645  # standard deviations


@dataclass(frozen=True)
class TrackOffset:
    """Add `offset_s` to image stamps to look up their positions in the log.

    sigma_s: standard deviation, with the similarity between both tracks unknown and the fixes' errors as long as they
        last. residual_m: root mean square of what is left along each axis. `why` not: "" where it is `observable`.
    """

    offset_s: float
    sigma_s: float
    residual_m: float
    why: str = ""

    @property
    def observable(self) -> bool:
        return not self.why


def offset_of_tracks(
    stamps_ns: Int64, position: Float64, log_stamps_ns: Int64, log_position_m: Float64, looked_s: float = LOOKED_S
) -> TrackOffset:
    """The offset at which a track (N, 3) at (N,) lies best, by some similarity, on positions (M, 3) at (M,).

    The track may be in any unit and frame. Between fixes the log is taken to go straight.
    """
    begun_ns = int(stamps_ns[0])
    seconds, log_s = ((each - begun_ns) / 1e9 for each in (stamps_ns, log_stamps_ns))
    if len(seconds) < FEWEST_FIXES or len(log_s) < FEWEST_FIXES:
        return _unknown(f"{min(len(seconds), len(log_s))} positions are too few")
    tried = np.arange(-looked_s, looked_s + STEP_S / 2, STEP_S)
    fits = [_fit(seconds, position, log_s, log_position_m, float(t)) for t in tried]
    cost = np.array([np.inf if fit is None else fit.cost for fit in fits])
    if not np.isfinite(cost).any():
        return _unknown(f"images and log do not overlap within {looked_s:g} s of the offset known before")
    best = int(np.argmin(cost))
    offset_s = _between(tried, cost, best)
    fit = _fit(seconds, position, log_s, log_position_m, offset_s) or fits[best]
    assert fit is not None
    sigma_s, number = _sigma(fit, seconds[fit.inside])
    found = TrackOffset(offset_s, sigma_s, float(np.sqrt(np.mean(fit.residual**2))))
    if not 0 < best < len(tried) - 1:
        return _but(found, f"the best of the offsets looked at is the last of them, {tried[best]:+.1f} s")
    if _breadth(position) < LEAST_BREADTH:
        return _but(found, "the way flown is nearly one line, along which a map that grows looks like other times")
    if not sigma_s < MOST_SIGMA_S:
        return _but(found, f"the way flown leaves it open by {sigma_s:.1f} s: it must change its speed or direction")
    # How much worse than the best the others are, in independent errors of the best one's size.
    worse = number * (cost / cost[best] - 1)
    rival = np.abs(tried - offset_s) > max(APART_SIGMAS * sigma_s, 2 * STEP_S)
    if (worse[rival] < SURE_DELTA).any():
        other = tried[rival][np.argmin(worse[rival])]
        return _but(found, f"{offset_s:+.2f} s and {other:+.2f} s fit nearly alike")
    return found


class _Fit(NamedTuple):
    """At one offset: which images meet the log, what is left of them (K, 3), the track (K, 3) on it, the mean cost."""

    inside: Int64
    residual: Float64
    placed: Float64
    weight: Float64
    cost: float


def _fit(seconds: Float64, position: Float64, log_s: Float64, log_m: Float64, offset_s: float) -> _Fit | None:
    """The best similarity at an offset, robust; None where too little overlaps."""
    at = seconds + offset_s
    inside = np.flatnonzero((at >= log_s[0]) & (at <= log_s[-1]))
    if len(inside) < max(FEWEST_FIXES, LEAST_OVERLAP * len(seconds)):
        return None
    target = np.column_stack([np.interp(at[inside], log_s, axis) for axis in log_m.T])
    weight = np.ones(len(inside))
    for _ in range(ROUNDS):
        scale, R, t = umeyama(position[inside], target, weight)
        placed = scale * position[inside] @ R.T + t
        residual = target - placed
        length = np.linalg.norm(residual, axis=1)
        limit = ROBUST * max(float(np.median(length)), 1e-9)
        weight = np.minimum(1.0, limit / np.maximum(length, 1e-9))
    cost = np.where(length < limit, length**2, limit * (2 * length - limit))  # Huber's
    return _Fit(inside, residual, placed, weight, float(cost.mean()))


def _breadth(position: Float64) -> float:
    """How broad a way (N, 3) is beside its length: the ratio of its second and its first standard deviation."""
    spread = np.linalg.svd(position - position.mean(axis=0), compute_uv=False)
    return float(spread[1] / max(spread[0], 1e-12))


def _between(tried: Float64, cost: Float64, best: int) -> float:
    """The lowest place of the parabola through the cost at the best offset and its neighbours."""
    if not 0 < best < len(tried) - 1 or not np.isfinite(cost[best - 1 : best + 2]).all():
        return float(tried[best])
    before, low, after = cost[best - 1 : best + 2]
    bend = before - 2 * low + after
    return float(tried[best] + STEP_S * (0.5 * (before - after) / bend if bend > 0 else 0.0))


def _sigma(fit: _Fit, seconds: Float64) -> tuple[float, float]:
    """Of the offset, with the similarity's seven unknowns beside it; and how many independent errors there are.

    Velocities are those of the track, which is smooth beside the log. Errors last: interpolated fixes share theirs, and
    those of GPS wander, so that fewer count than there are images.
    """
    velocity = np.gradient(fit.placed, seconds, axis=0)
    centred = fit.placed - fit.placed.mean(axis=0)
    x, y, z = centred.T
    zero = np.zeros_like(x)
    turns = [np.column_stack(each) for each in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    moves = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    J = np.stack([velocity, centred, *turns, *moves], axis=-1).reshape(-1, 8)
    J = J * np.sqrt(np.repeat(fit.weight, 3))[:, None]
    size = np.maximum(np.linalg.norm(J, axis=0), 1e-12)  # a straight line does not show the turn about itself
    covariance = np.linalg.pinv((J / size).T @ (J / size), rcond=1e-9, hermitian=True) / np.outer(size, size)
    # What the similarity can do as well as the offset shows in how little of the velocity is left beside it.
    others = (J / size)[:, 1:]
    left = J[:, 0] - others @ np.linalg.lstsq(others, J[:, 0], rcond=1e-9)[0]
    if float(left @ left) < 1e-6 * float(J[:, 0] @ J[:, 0]):
        return float("inf"), 1.0
    variance = float(np.mean(fit.residual**2 * fit.weight[:, None]))
    lasting = _lasting(fit.residual)
    return float(np.sqrt(covariance[0, 0] * variance * lasting)), len(fit.residual) / lasting


def _lasting(residual: Float64) -> float:
    """How many neighbouring residuals (K, 3) count as one: 1 and twice the sum of their autocorrelations, while > 0."""
    centred = residual - residual.mean(axis=0)
    power = max(float((centred**2).mean()), 1e-18)
    total = 1.0
    for lag in range(1, len(centred) // 2):
        alike = float((centred[lag:] * centred[:-lag]).mean()) / power
        if alike <= 0.05:
            break
        total += 2 * alike
    return total


def _unknown(why: str) -> TrackOffset:
    return TrackOffset(float("nan"), float("inf"), float("nan"), why)


def _but(found: TrackOffset, why: str) -> TrackOffset:
    return TrackOffset(found.offset_s, found.sigma_s, found.residual_m, why)
