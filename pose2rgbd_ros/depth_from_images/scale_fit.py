"""The path that a relative track and noisy positions agree on, with the track's scale: a Gaussian process.

A track's own scale and heading wander from stretch to stretch; recorded positions are off independently and for a
while (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 2.7: a few unknowns of their own
beside the process). Linearised around the path, and anew until it stays. How large all these errors are is drawn, given
the flight, by elliptical slice sampling (Murray, Adams and MacKay, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.se3 import umeyama

# Logarithms of the errors' sizes, and how far beforehand they may be from that (standard deviations of a normal).
# Of positions, in their scatter about a smooth path: independent ones, those that last, how long (s), heights' factor.
# Of the track: its scale and heading wander, as random walks (over 10 s) and from second to second.
_MEAN = np.log([0.7, 1.5, 20.0, 1.3, 0.015, 0.02, np.deg2rad(2.0), np.deg2rad(2.0)])
_SPREAD = np.array([1.5, 1.0, 1.0, 0.4, 1.3, 1.3, 1.3, 1.3])
_WALK_S = 10.0
_ALIGNED_RAD = 1.0  # of the heading as a whole, beforehand
_AFTER_BREAK_S = 30.0  # of random walk, where the track begins anew
_LEAST_M = 0.01
_WITHIN = 0.001  # of the scale: what averaging over stretches leaves open
_ROUNDS = 6
_FEW, _BURN_IN = 20, 40  # draws
_MAD = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


@dataclass(frozen=True, eq=False)
class Legs:
    """A flight as places (K) with averaged positions, and the legs of the track between neighbouring ones.

    Attributes:
        seconds: (K,); position_m: (K, 3) recorded, in the map.
        leg: (S, 3) along axes of the map, in the track's unit, from place `start` (S,) to the next one. Between places
            without a leg the track is broken.
        frames: (S,) how many frames each stands for.
    """

    seconds: Float64
    position_m: Float64
    leg: Float64
    start: Int64
    frames: Float64

    @property
    def leg_s(self) -> Float64:
        """(S,) that each lasts."""
        return self.seconds[self.start + 1] - self.seconds[self.start]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the flight says.

    Attributes:
        log_scale: (M,) draws of the logarithm of metres per unit, its mean over all frames.
        leg_log_scale, leg_sigma: (S,) of each leg, and its standard deviation.
        drift: standard deviation of the legs' own about that mean, typical of what was drawn.
        leg_m: (S, 3) as they were, in the map.
        white_m, lasting_m: errors of averaged positions along the ground.
        jumped: (K - 1,) steps of the positions that are no motion.
    """

    log_scale: Float64
    leg_log_scale: Float64
    leg_sigma: Float64
    drift: float
    leg_m: Float64
    white_m: float
    lasting_m: float
    jumped: Bool


def fit(readings: list[Legs], scatter_m: float, jump: float, samples: int, seed: int) -> Fitted:
    """See the module; of several readings of the same legs the one that the positions agree with best.

    scatter_m: of averaged positions, about. jump: in sigmas, of a step that is none. ValueError: no leg has a length.
    """
    rng = np.random.default_rng(seed)
    mean = _MEAN.copy()
    mean[:2] += np.log(max(scatter_m, _LEAST_M))
    _, problem, sizes = max((_approached(legs, mean, jump, rng) for legs in readings), key=lambda each: each[0])
    drawn = _draw(problem, mean, sizes, rng, samples, _BURN_IN)
    every = (problem.mean_log_scale(each) for each in drawn)
    log_scale = [rng.normal(value, np.hypot(sigma, _WITHIN), 8) for value, sigma in every]
    sizes = np.median(drawn, axis=0)
    leg_log_scale, leg_sigma, drift = problem.leg_log_scale(sizes)
    path, _ = problem.improved(sizes)
    white_m, lasting_m = np.exp(sizes[:2])
    return Fitted(
        np.concatenate(log_scale), leg_log_scale, leg_sigma, drift, path.leg_m(problem.legs), float(white_m),
        float(lasting_m), problem.jumped,
    )  # fmt: skip


def _approached(legs: Legs, mean: Float64, jump: float, rng: np.random.Generator) -> tuple[float, _Problem, Float64]:
    """Around the likeliest path: the evidence, and sizes of errors that are likely."""
    R, path = _Path.beginning(legs)
    legs = replace(legs, leg=legs.leg @ R.T)
    sizes = mean
    for draws in (_FEW, _FEW, 0):
        for _ in range(_ROUNDS):
            path, change = _Problem(legs, path, path.jumps(legs, jump)).improved(sizes)
            if change < 1e-3:
                break
        problem = _Problem(legs, path, path.jumps(legs, jump))
        if draws:
            sizes = np.median(_draw(problem, mean, sizes, rng, draws, draws), axis=0)
    return problem.evidence(sizes), problem, sizes


def _draw(
    problem: _Problem, mean: Float64, start: Float64, rng: np.random.Generator, count: int, burn_in: int
) -> Float64:
    """(count, 8) sizes of errors, as probable as they are given the flight."""
    at, drawn = start - mean, []
    height = problem.evidence(mean + at)
    for _ in range(burn_in + count):
        other = _SPREAD * rng.standard_normal(len(mean))
        level = height + np.log(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        low, high = angle - 2 * np.pi, angle
        while True:
            proposed = at * np.cos(angle) + other * np.sin(angle)
            height = problem.evidence(mean + proposed)
            if height > level or high - low < 1e-6:
                break
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)
        at = proposed
        drawn.append(mean + at)
    return np.array(drawn[burn_in:])


@dataclass(frozen=True, eq=False)
class _Path:
    """Where it is linearised: logarithm of the scale, deviations of each leg's, and turns (S, 3) of each."""

    log_scale: float
    deviation: Float64
    turn: Float64

    @classmethod
    def beginning(cls, legs: Legs) -> tuple[Float64, _Path]:
        """A rotation (3, 3) of all legs, and the scale; robust, from samples of runs of legs."""
        rng = np.random.default_rng(0)
        moved = legs.position_m[legs.start + 1] - legs.position_m[legs.start]
        best, least = None, np.inf
        count = len(moved)
        for trial in range(100):
            length = count if not trial else int(rng.integers(min(4, count), count + 1))
            first = int(rng.integers(0, count - length + 1))
            # From runs of legs, summed: what is random in single ones is then small.
            source, target = (np.cumsum(part[first : first + length], axis=0) for part in (legs.leg, moved))
            source, target = (np.vstack([np.zeros(3), part]) for part in (source, target))
            if not np.ptp(source, axis=0).max() > 0 or not np.ptp(target, axis=0).max() > 0:
                continue
            scale, R, _ = umeyama(source, target)
            if not scale > 0:
                continue
            error = float(np.median(np.linalg.norm(scale * legs.leg @ R.T - moved, axis=1)))
            if error < least:
                best, least = (scale, R), error
        if best is None:
            raise ValueError("no leg has a length")
        scale, R = best
        return R, cls(float(np.log(scale)), np.zeros(count), np.zeros((count, 3)))

    def leg_m(self, legs: Legs) -> Float64:
        """(S, 3)"""
        turned = Rotation.from_rotvec(self.turn).apply(legs.leg)
        return np.asarray(np.exp(self.log_scale + self.deviation)[:, None] * turned)

    def jumps(self, legs: Legs, sigmas: float) -> Bool:
        """(K - 1,): steps of the positions, where there is a leg, that no motion explains."""
        moved = legs.position_m[legs.start + 1] - legs.position_m[legs.start]
        off = np.linalg.norm(moved - self.leg_m(legs), axis=1)
        jumped = np.zeros(len(legs.seconds) - 1, bool)
        jumped[legs.start] = off > max(sigmas * float(np.median(off)) / 1.5, 3 * _LEAST_M)
        return jumped


class _Problem:
    """Recorded positions (3K,) around a path: covariances of all that may be off, and what is simply unknown.

    Unknown beforehand: the scale, and where each run of positions between jumps lies.
    """

    def __init__(self, legs: Legs, path: _Path, jumped: Bool) -> None:
        self.legs, self.path, self.jumped = legs, path, jumped
        K, S = len(legs.seconds), len(legs.leg)
        leg_m = path.leg_m(legs)
        broken = np.ones(K - 1, bool)
        broken[legs.start] = False
        track = np.append(0, np.cumsum(broken))  # (K,) part of the track that a place belongs to
        run = np.append(0, np.cumsum(broken | jumped))
        place = np.arange(K)
        # A place lies at the end of the legs before it in its part of the track.
        reached = (legs.start[None] < place[:, None]) & (track[legs.start][None] == track[:, None])
        along = np.einsum("ks,sa->kas", reached, leg_m).reshape(3 * K, S)
        across = _turned_by(path.turn, leg_m)  # (S, 3, 3)
        turning = [np.einsum("ks,sa->kas", reached, across[:, :, axis]).reshape(3 * K, S) for axis in range(3)]
        middle_s = (legs.seconds[legs.start] + legs.seconds[legs.start + 1]) / 2
        clock = middle_s - middle_s[0] + _AFTER_BREAK_S * (track[legs.start] - track[legs.start[0]])
        self.walk = np.minimum(clock[:, None], clock) / _WALK_S
        self.each = np.diag(1 / np.maximum(legs.leg_s, 1e-3))
        self.along, self.turning = along, turning
        self.weight = legs.frames / legs.frames.sum()
        self.grams = [along @ self.walk @ along.T, along @ self.each @ along.T]
        self.grams += [sum(part @ kind @ part.T for part in turning) for kind in (self.walk, self.each)]
        self.aligned = sum(np.outer(sums := part.sum(axis=1), sums) for part in turning) * _ALIGNED_RAD**2
        self.apart_s = np.abs(legs.seconds[:, None] - legs.seconds)
        is_run = (run[:, None] == np.unique(run)).astype(float)
        self.unknown = np.column_stack([np.kron(is_run, np.eye(3)), along.sum(axis=1)])  # (3K, U)
        arrived = np.einsum("ks,sa->ka", reached, leg_m)
        # Linearised about the path, whose own deviations are part of what is off.
        shifted = along @ path.deviation + sum(part @ path.turn[:, axis] for axis, part in enumerate(turning))
        self.off = (legs.position_m - arrived).ravel() + shifted

    def covariance(self, sizes: Float64) -> Float64:
        """(3K, 3K) of all that may be off, m2."""
        white, lasting, lasts_s, height, *track = np.exp(sizes)
        noise = lasting**2 * np.exp(-self.apart_s / lasts_s)
        noise.flat[:: len(noise) + 1] += white**2 + _LEAST_M**2
        C = self.aligned + sum(size**2 * gram for size, gram in zip(track, self.grams, strict=True))
        for axis, factor in enumerate((1.0, 1.0, height**2)):
            C[axis::3, axis::3] += factor * noise
        return np.asarray(C)

    def evidence(self, sizes: Float64) -> float:
        """Logarithm of the restricted likelihood."""
        try:
            factor = cho_factor(self.covariance(sizes), lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return -np.inf
        weighted = cho_solve(factor, np.column_stack([self.unknown, self.off]), check_finite=False)
        information = self.unknown.T @ weighted[:, :-1]
        projected = self.unknown.T @ weighted[:, -1]
        left = self.off @ weighted[:, -1] - projected @ np.linalg.solve(information, projected)
        return float(-np.log(np.diagonal(factor[0])).sum() - 0.5 * np.linalg.slogdet(information)[1] - 0.5 * left)

    def _solved(self, sizes: Float64) -> tuple[tuple[Float64, bool], Float64, Float64, Float64]:
        """Cholesky factor; covariance (U, U) and values (U,) of what was unknown; what is left, weighted (3K,)."""
        factor = cho_factor(self.covariance(sizes), lower=True, check_finite=False)
        weighted = cho_solve(factor, self.unknown, check_finite=False)
        spread = np.linalg.inv(self.unknown.T @ weighted)
        value = spread @ (weighted.T @ self.off)
        return factor, spread, value, cho_solve(factor, self.off - self.unknown @ value, check_finite=False)

    def _prior(self, sizes: Float64) -> tuple[Float64, Float64]:
        """(S, S) of the legs' scales and of each axis of their turns."""
        walk, each, turn_walk, turn_each = np.exp(2 * sizes[4:])
        return walk * self.walk + each * self.each, turn_walk * self.walk + turn_each * self.each + _ALIGNED_RAD**2

    def improved(self, sizes: Float64) -> tuple[_Path, float]:
        """The path that is likeliest, and by how much it changed (relative, or radians)."""
        _, _, value, left = self._solved(sizes)
        scales, turns = self._prior(sizes)
        deviation = scales @ (self.along.T @ left)
        turn = np.stack([turns @ (part.T @ left) for part in self.turning], axis=1)
        # Not farther at once than the linearisation holds.
        log_scale = float(np.clip(value[-1], -1.0, 1.0))
        turned = turn - self.path.turn
        turned *= min(1.0, 0.7 / max(float(np.abs(turned).max()), 1e-9))
        deviated = np.clip(deviation - self.path.deviation, -0.5, 0.5)
        path = _Path(self.path.log_scale + log_scale, self.path.deviation + deviated, self.path.turn + turned)
        return path, float(max(abs(log_scale), np.abs(turned).max(), np.abs(deviated).max()))

    def mean_log_scale(self, sizes: Float64) -> tuple[float, float]:
        """Of the legs, weighted by their frames, and its standard deviation."""
        values, spread = self._leg_scales(sizes, self.weight[None])
        return float(values[0]), float(np.sqrt(spread[0, 0]))

    def leg_log_scale(self, sizes: Float64) -> tuple[Float64, Float64, float]:
        """(S,) of each leg, its standard deviation, and that of all frames' about their mean."""
        S = len(self.legs.leg)
        values, spread = self._leg_scales(sizes, np.eye(S))
        centred = np.eye(S) - self.weight
        others = centred @ spread @ centred.T
        about = values - self.weight @ values
        return values, np.sqrt(np.diagonal(spread)), float(np.sqrt(self.weight @ (about**2 + np.diagonal(others))))

    def _leg_scales(self, sizes: Float64, which: Float64) -> tuple[Float64, Float64]:
        """Means (W,) and covariance (W, W) of combinations (W, S) of the legs' log scales."""
        factor, spread, value, left = self._solved(sizes)
        scales, _ = self._prior(sizes)
        shared = self.along @ scales @ which.T  # (3K, W)
        solved = cho_solve(factor, shared, check_finite=False)
        total = which.sum(axis=1)
        values = total * (self.path.log_scale + value[-1]) + shared.T @ left
        rest = -self.unknown.T @ solved  # (U, W)
        rest[-1] += total
        return values, which @ scales @ which.T - shared.T @ solved + rest.T @ spread @ rest


def _turned_by(turn: Float64, vectors: Float64) -> Float64:
    """(S, 3, 3): derivative of exp(turn) applied to a vector (which gave `vectors`) by the rotation vector."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    angle = np.linalg.norm(turn, axis=1)[:, None, None]
    a, b, c = turn.T
    W = np.stack([zero, -c, b, c, zero, -a, -b, a, zero], axis=-1).reshape(-1, 3, 3)
    small = np.maximum(angle, 1e-6)
    left = np.eye(3) + (1 - np.cos(small)) / small**2 * W + (small - np.sin(small)) / small**3 * (W @ W)
    return np.asarray(-cross @ left)
