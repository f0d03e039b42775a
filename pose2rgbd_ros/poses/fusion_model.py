"""The least squares behind GPS + odometry fusion; docs/decisions/0007-fusion.md derives it.

Unknown at nodes about a second apart: the heading of the odometry's axes in the map, the body's position, the
wandering part of the GPS error (in standard deviations), and the odometry's scale error. Odometry ties neighbouring
nodes, fixes tie the two nodes around them, so the normal equations are block tridiagonal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solveh_banded

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.gps import FixTrack
from pose2rgbd_ros.poses.settings import PoseSettings

NODE_NS = 1_000_000_000
YAW, POSITION, WANDER, SCALE, STATES = 0, slice(1, 4), slice(4, 7), 7, 8
# A redescending (Cauchy) loss; the first, coarse solutions must not lose good fixes.
_LOSS_WIDTHS = (100.0, 30.0, 10.0, 5.0)
LOSS_WIDTH = 3.0
MOST_ITERATIONS = 25
_CONVERGED = 1e-3  # metres, radians
_SILENT_S, _UNKNOWN_SPEED_MPS = 2.5, 5.0  # without odometry for so long, the body may have gone anywhere
_SCALE_WALK_PER_SQRT_S = 1e-5  # constant, but never certain: keeps a live estimate awake
_START_SIGMA_M, _START_SIGMA_RAD = 1e3, 10.0
_LEAST_WHITE_M = 0.01


@dataclass(frozen=True)
class FusionModel:
    """Standard deviations of what drifts, in SI units; per square root of seconds for random walks."""

    walk: float
    drift: float
    yaw_walk: float
    wander_s: float
    wander_share: float

    @classmethod
    def of(cls, settings: PoseSettings) -> FusionModel:
        """The model of these settings."""
        return cls(
            walk=settings.odometry_walk_m_per_sqrt_min / np.sqrt(60.0),
            drift=settings.odometry_drift,
            yaw_walk=np.radians(settings.odometry_yaw_walk_deg_per_sqrt_min) / np.sqrt(60.0),
            wander_s=settings.fix_wander_s,
            wander_share=settings.fix_wander_share,
        )

    def looser(self, factor: float) -> FusionModel:
        """For an odometry that drifts so many times as much."""
        return replace(self, walk=factor * self.walk, drift=factor * self.drift, yaw_walk=factor * self.yaw_walk)

    def start_information(self) -> Float64:
        """What is known of the first node before any measurement, (8, 8)."""
        sigma = np.array([_START_SIGMA_RAD, *3 * [_START_SIGMA_M], 1.0, 1.0, 1.0, self.drift], dtype=np.float64)
        return np.diag(sigma**-2)


@dataclass(frozen=True, eq=False)
class Steps:
    """Odometry from node to node: duration `dt_s` (N-1,), displacement `step_m` (N-1, 3) in the odometry's axes."""

    dt_s: Float64
    step_m: Float64


@dataclass(frozen=True, eq=False)
class Anchors:
    """K fixes in order, each between `node` and `node` + 1, at `share` of the way in time.

    `before_m`, `after_m` (K, 3): odometry from the one node, and from the other, to the fix; `arm_m`: from the body to
    the antenna, in the odometry's axes. `position_m` (K, 3), up NaN: unknown; `sigma_m` (K, 3).
    """

    node: Int64
    share: Float64
    before_m: Float64
    after_m: Float64
    arm_m: Float64
    position_m: Float64
    sigma_m: Float64


@dataclass(frozen=True, eq=False)
class Prior:
    """Information `matrix` (8, 8) on the first node about `x` (8,), with a gradient left over, `vector` (8,)."""

    matrix: Float64
    x: Float64
    vector: Float64


@dataclass(frozen=True, eq=False)
class Normal:
    """Block tridiagonal normal equations: `A` (N, 8, 8), `B` (N-1, 8, 8) to the next node, `g` (N, 8)."""

    A: Float64
    B: Float64
    g: Float64


def solve(
    x: Float64,
    model: FusionModel,
    prior: Prior,
    steps: Steps,
    anchors: Anchors,
    coarse: bool = True,
    iterations: int = MOST_ITERATIONS,
) -> tuple[Float64, Normal, Float64]:
    """The states (N, 8) from a first guess, the equations there, and the weights (K, 2) of the fixes' two parts.

    With `coarse` the loss narrows step by step, for a guess from afar.
    """
    widths = (*(_LOSS_WIDTHS if coarse else ()), *[LOSS_WIDTH] * iterations)
    normal, weights = assemble(x, model, prior, steps, anchors, widths[0])
    for width in widths[1:]:
        change = _solve_banded(normal)
        x = x + change
        normal, weights = assemble(x, model, prior, steps, anchors, width)
        if width == LOSS_WIDTH and np.abs(change[:, :4]).max() < _CONVERGED:
            break
    return x, normal, weights


def assemble(
    x: Float64, model: FusionModel, prior: Prior, steps: Steps, anchors: Anchors, width: float = LOSS_WIDTH
) -> tuple[Normal, Float64]:
    """The normal equations at `x`, and the weights (K, 2) of the fixes, horizontally and vertically."""
    n = len(x)
    A, B, g = np.zeros((n, STATES, STATES)), np.zeros((n - 1, STATES, STATES)), np.zeros((n, STATES))
    A[0] += prior.matrix
    g[0] += prior.vector - prior.matrix @ (x[0] - prior.x)
    residual, J0, J1, information = _odometry(x, model, steps)
    rows = np.arange(n - 1)
    _add(A, B, g, rows, J0, J1, residual, information)
    residual, J0, J1, information, weights = _fixes(x, model, anchors, width)
    _add(A, B, g, anchors.node, J0, J1, residual, information)
    return Normal(A, B, g), weights


def _add(A: Float64, B: Float64, g: Float64, node: Int64, J0: Float64, J1: Float64, r: Float64, w: Float64) -> None:
    """Add residuals (K, m) of information (K, m) and Jacobians (K, m, 8) by the states of `node` and the next.

    `node` (K,) does not decrease.
    """
    if len(node) == 0:
        return
    J = np.concatenate([J0, J1, r[..., None]], axis=2) * np.sqrt(w)[..., None]
    first = np.flatnonzero(np.diff(node, prepend=-1))
    counts = np.diff(first, append=len(node))
    # All residuals of a node as the rows of one matrix, with rows of zeros where it has fewer than others.
    rows = np.zeros((len(first), counts.max(), *J.shape[1:]))
    rows[np.repeat(np.arange(len(first)), counts), np.arange(len(node)) - np.repeat(first, counts)] = J
    rows = rows.reshape(len(first), -1, J.shape[2])
    H = rows.swapaxes(1, 2) @ rows  # (nodes, 17, 17)
    at, s = node[first], STATES
    A[at] += H[:, :s, :s]
    A[at + 1] += H[:, s : 2 * s, s : 2 * s]
    B[at] += H[:, :s, s : 2 * s]
    g[at] -= H[:, :s, 2 * s]
    g[at + 1] -= H[:, s : 2 * s, 2 * s]


def _odometry(x: Float64, model: FusionModel, steps: Steps) -> tuple[Float64, Float64, Float64, Float64]:
    """Residuals (N-1, 8) between neighbouring nodes, Jacobians by both, information."""
    a, b, dt = x[:-1], x[1:], steps.dt_s
    yaw = (a[:, YAW] + b[:, YAW]) / 2
    scale = 1 + (a[:, SCALE] + b[:, SCALE]) / 2
    turned, across = turn(yaw, steps.step_m), turn_rate(yaw, steps.step_m)
    keep = np.exp(-dt / model.wander_s)
    r = b - a
    r[:, POSITION] -= scale[:, None] * turned
    r[:, WANDER] = b[:, WANDER] - keep[:, None] * a[:, WANDER]
    J0, J1 = np.zeros((len(dt), STATES, STATES)), np.zeros((len(dt), STATES, STATES))
    diagonal = np.arange(STATES)
    J0[:, diagonal, diagonal], J1[:, diagonal, diagonal] = -1.0, 1.0
    J0[:, [4, 5, 6], [4, 5, 6]] = -keep[:, None]
    for J in (J0, J1):
        J[:, POSITION, YAW] = -scale[:, None] * across / 2
        J[:, POSITION, SCALE] = -turned / 2
    silent = dt > _SILENT_S
    variance = np.zeros((len(dt), STATES))
    variance[:, YAW] = model.yaw_walk**2 * dt
    variance[:, POSITION] = (
        model.walk**2 * dt
        + model.drift**2 * np.linalg.norm(steps.step_m, axis=1)  # per square root of a metre
        + np.where(silent, (_UNKNOWN_SPEED_MPS * dt) ** 2, 0.0)
    )[:, None]
    variance[:, WANDER] = (1 - keep**2)[:, None]
    variance[:, SCALE] = _SCALE_WALK_PER_SQRT_S**2 * dt
    return r, J0, J1, 1 / variance


def _fixes(
    x: Float64, model: FusionModel, anchors: Anchors, width: float
) -> tuple[Float64, Float64, Float64, Float64, Float64]:
    """Residuals (K, 3) of the fixes, Jacobians by both nodes, information, and robust weights (K, 2)."""
    a, b, u = x[anchors.node], x[anchors.node + 1], anchors.share[:, None]
    wander_m = np.sqrt(model.wander_share) * anchors.sigma_m
    white_m = np.sqrt((1 - model.wander_share) * anchors.sigma_m**2 + _LEAST_WHITE_M**2)
    antenna = predict(a, b, anchors.share, anchors.before_m, anchors.after_m, anchors.arm_m)
    r = antenna + wander_m * ((1 - u) * a[:, WANDER] + u * b[:, WANDER]) - anchors.position_m
    J0, J1 = np.zeros((len(r), 3, STATES)), np.zeros((len(r), 3, STATES))
    for J, state, part, way_m in ((J0, a, 1 - u, anchors.before_m), (J1, b, u, anchors.after_m)):
        lever_m = (1 + state[:, SCALE, None]) * way_m + anchors.arm_m
        J[:, :, YAW] = part * turn_rate(state[:, YAW], lever_m)
        J[:, :, SCALE] = part * turn(state[:, YAW], way_m)
        for axis in range(3):
            J[:, axis, POSITION.start + axis] = part[:, 0]
            J[:, axis, WANDER.start + axis] = part[:, 0] * wander_m[:, axis]
    known = np.isfinite(r[:, 2])
    r[~known, 2] = 0.0
    whitened = r / white_m
    squared = np.stack([np.sum(whitened[:, :2] ** 2, axis=1), whitened[:, 2] ** 2], axis=1)
    weights = 1 / (1 + squared / width**2)
    information = weights[:, [0, 0, 1]] / white_m**2
    information[~known, 2] = 0.0
    return r, J0, J1, information, weights


def predict(
    a: Float64, b: Float64, share: Float64, before_m: Float64, after_m: Float64, arm_m: Float64 | float = 0.0
) -> Float64:
    """Positions (K, 3) between states `a` and `b` (K, 8): reckoned from both, blended by the time between."""
    u = share[:, None]
    from_a = a[:, POSITION] + turn(a[:, YAW], (1 + a[:, SCALE, None]) * before_m + arm_m)
    from_b = b[:, POSITION] + turn(b[:, YAW], (1 + b[:, SCALE, None]) * after_m + arm_m)
    return (1 - u) * from_a + u * from_b


def turn(yaw: Float64, vector: Float64) -> Float64:
    """Vectors (K, 3) turned about z by (K,) radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y, z = vector[:, 0], vector[:, 1], vector[:, 2]
    return np.stack([c * x - s * y, s * x + c * y, z], axis=1)


def turn_rate(yaw: Float64, vector: Float64) -> Float64:
    """The derivative of `turn` by the angle."""
    turned = turn(yaw, vector)
    return np.stack([-turned[:, 1], turned[:, 0], np.zeros(len(turned))], axis=1)


def _solve_banded(normal: Normal) -> Float64:
    n = len(normal.A)
    bands = np.zeros((2 * STATES, n, STATES))  # lower form: bands[k, node, column] is k rows below the diagonal
    for column in range(STATES):
        for k in range(2 * STATES - column):
            row = column + k
            if row < STATES:
                bands[k, :, column] = normal.A[:, row, column]
            else:
                bands[k, :-1, column] = normal.B[:, column, row - STATES]
    flat = bands.reshape(2 * STATES, n * STATES)
    return np.asarray(solveh_banded(flat, normal.g.reshape(-1), lower=True)).reshape(n, STATES)


def covariances(normal: Normal) -> Float64:
    """The marginal covariance of each node, (N, 8, 8): the diagonal blocks of the inverse."""
    n = len(normal.A)
    inverses = np.zeros_like(normal.A)
    inverses[0] = np.linalg.inv(normal.A[0])
    for i in range(1, n):
        B = normal.B[i - 1]
        inverses[i] = np.linalg.inv(normal.A[i] - B.T @ inverses[i - 1] @ B)
    P = inverses.copy()
    for i in range(n - 2, -1, -1):
        gain = inverses[i] @ normal.B[i]
        P[i] += gain @ P[i + 1] @ gain.T
    return P


def marginalize_first(x: Float64, model: FusionModel, prior: Prior, steps: Steps, anchors: Anchors) -> Prior:
    """The prior on the second node that says what the first and everything between the two said."""
    between = anchors.node == 0
    pair = Anchors(*(getattr(anchors, name)[between] for name in Anchors.__dataclass_fields__))
    normal, _ = assemble(x[:2], model, prior, Steps(steps.dt_s[:1], steps.step_m[:1]), pair)
    gain = normal.B[0].T @ np.linalg.inv(normal.A[0])
    matrix = normal.A[1] - gain @ normal.B[0]
    return Prior((matrix + matrix.T) / 2, x[1].copy(), normal.g[1] - gain @ normal.g[0])


# How odometry lies in the map, roughly, from the shapes of both tracks; or why that cannot be known.


FEWEST_FIXES = 5
_WINDOW_S = 60.0
_LEAST_TRACK_SIGMAS = 5.0  # a track of fewer standard deviations of a fix shows no heading
_LEAST_COHERENCE = 0.5


def start_headings(at_s: Float64, fix_s: Float64, odometry_m: Float64, fix_m: Float64, sigma_m: float) -> Float64:
    """Heading of the odometry's axes in the map at times `at_s` (N,), radians, continuous.

    From displacements of odometry and GPS over the same stretches of way; `odometry_m`, `fix_m` (K, 2+) at the fixes'
    times `fix_s` (K,). UserError, with the reason, when the heading is not observable.
    """
    if len(fix_s) < FEWEST_FIXES:
        raise UserError(f"only {len(fix_s)} GPS fixes lie within the odometry")
    o, f = (xy[:, 0] + 1j * xy[:, 1] for xy in (odometry_m, fix_m))
    extent_m = _extent_m(o)
    if extent_m < _LEAST_TRACK_SIGMAS * sigma_m:
        raise UserError(
            f"the odometry moves only {extent_m:.1f} m among GPS fixes good to {sigma_m:.1f} m: too little to show "
            "its heading"
        )
    start, end = _stretches(o, max(_LEAST_TRACK_SIGMAS * sigma_m, 0.2 * extent_m))
    do, df = o[end] - o[start], f[end] - f[start]
    fits = np.abs(df) < 2 * np.abs(do) + 6 * sigma_m  # else an outlier's
    turns = np.where(fits, np.conj(do) * df, 0)
    middle_s = (fix_s[start] + fix_s[end]) / 2
    yaw = _windowed(at_s, middle_s, turns)
    left_over = turns * np.exp(-1j * np.interp(middle_s, at_s, yaw))
    coherence = float(left_over.sum().real) / max(float(np.abs(do * df).sum()), 1e-12)
    if coherence < _LEAST_COHERENCE:
        raise UserError("the odometry's track does not have the shape of the GPS's")
    return yaw


def _extent_m(o: np.ndarray) -> float:
    """Length of the diagonal of the box around the track."""
    return float(np.hypot(np.ptp(o.real), np.ptp(o.imag)))


def _stretches(o: np.ndarray, length_m: float) -> tuple[Int64, Int64]:
    """Pairs of indices (first, last) with so much way between them; the two ends when the way is shorter."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(o)))])
    last = np.searchsorted(way, way + length_m)
    first = np.flatnonzero(last < len(o))
    if len(first) == 0:
        return np.array([0]), np.array([len(o) - 1])
    return first, last[first]


def _windowed(at_s: Float64, turn_s: Float64, turns: np.ndarray) -> Float64:
    """The angle of the turns around each time; where there are few, that of all."""
    order = np.argsort(turn_s, kind="stable")
    sums = np.concatenate([[0], np.cumsum(turns[order])])
    low = np.searchsorted(turn_s[order], at_s - _WINDOW_S)
    high = np.searchsorted(turn_s[order], at_s + _WINDOW_S)
    total = turns.sum()
    local = sums[high] - sums[low] + 0.02 * total
    return np.asarray(np.unwrap(np.angle(np.where(np.abs(local) > 0, local, 1))))


def start_positions(yaw: Float64, step_m: Float64, start_m: Float64) -> Float64:
    """Dead reckoning (N, 3) from `start_m` by steps (N-1, 3) under headings (N,)."""
    c, s = np.cos(yaw[:-1]), np.sin(yaw[:-1])
    turned = np.stack([c * step_m[:, 0] - s * step_m[:, 1], s * step_m[:, 0] + c * step_m[:, 1], step_m[:, 2]], axis=1)
    return np.vstack([start_m, start_m + np.cumsum(turned, axis=0)])


# Odometry and GPS fixes as the network of nodes that fusion solves, and a first guess of it.


_SECOND = 1e9
_LONGEST_GAP_NS = 1_000_000_000  # of odometry around a fix
_MOST_YAW_SIGMA_RAD = np.radians(20.0)
_MOST_OUTLIERS = 0.5
OUTLIER_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Network:
    """Odometry and fixes as nodes, steps and anchors. `stamps_ns` (N,), `odometry_m` (N, 3) of the nodes."""

    stamps_ns: Int64
    odometry_m: Float64
    steps: Steps
    anchors: Anchors
    fix_stamps_ns: Int64

    @classmethod
    def of(cls, odometry: Trajectory, fixes: FixTrack, antenna_m: Float64) -> Network:
        """Nodes about a second apart; fixes without odometry around them are left out."""
        index = node_indices(odometry.stamps_ns)
        stamps, node_m = odometry.stamps_ns[index], odometry.position_m[index]
        at = odometry.interpolate(fixes.stamps_ns, _LONGEST_GAP_NS)
        within = at.valid & (fixes.stamps_ns > stamps[0]) & (fixes.stamps_ns < stamps[-1])
        fixes, T = fixes.only(within), at.T[within]
        node = np.searchsorted(stamps, fixes.stamps_ns, side="right") - 1
        span_ns = stamps[node + 1] - stamps[node]
        anchors = Anchors(
            node=node,
            share=(fixes.stamps_ns - stamps[node]) / span_ns,
            before_m=T[:, :3, 3] - node_m[node],
            after_m=T[:, :3, 3] - node_m[node + 1],
            arm_m=T[:, :3, :3] @ antenna_m,
            position_m=fixes.position_m,
            sigma_m=fixes.sigma_m,
        )
        return cls(stamps, node_m, Steps(np.diff(stamps) / _SECOND, np.diff(node_m, axis=0)), anchors, fixes.stamps_ns)

    def start(self) -> Float64:
        """A first guess of the states (N, 8). UserError, with the reason, when the heading is not observable."""
        anchors = self.anchors
        origin_ns = self.stamps_ns[0]
        odometry_m = self.odometry_m[anchors.node] + anchors.before_m
        node_s, fix_s = (self.stamps_ns - origin_ns) / _SECOND, (self.fix_stamps_ns - origin_ns) / _SECOND
        sigma_m = float(np.median(anchors.sigma_m[:, :2])) if len(fix_s) else 0.0
        yaw = start_headings(node_s, fix_s, odometry_m, anchors.position_m, sigma_m)
        x = np.zeros((len(node_s), STATES))
        x[:, YAW] = yaw
        x[:, POSITION] = start_positions(yaw, self.steps.step_m, np.zeros(3))
        error = anchors.position_m - self.predict(x)
        offset = np.median(error, axis=0)
        if not np.isfinite(offset[2]):
            known = error[np.isfinite(error[:, 2]), 2]
            offset[2] = np.median(known) if len(known) else self.odometry_m[0, 2]
        x[:, POSITION] += offset
        return x

    def predict(self, x: Float64) -> Float64:
        """Where the antenna is at the fixes by the states, (K, 3)."""
        a = self.anchors
        return predict(x[a.node], x[a.node + 1], a.share, a.before_m, a.after_m, a.arm_m)

    def without(self, held: Bool) -> Network:
        """The same without some of the fixes."""
        kept = Anchors(*(getattr(self.anchors, name)[~held] for name in Anchors.__dataclass_fields__))
        return Network(self.stamps_ns, self.odometry_m, self.steps, kept, self.fix_stamps_ns[~held])


def node_indices(stamps_ns: Int64) -> Int64:
    """The first pose of every second, and the last one."""
    slots = (stamps_ns - stamps_ns[0]) // NODE_NS
    _, first = np.unique(slots, return_index=True)
    last = len(stamps_ns) - 1
    if first[-1] != last:
        near = len(first) > 1 and stamps_ns[last] - stamps_ns[first[-1]] < NODE_NS // 2
        first = np.append(first[:-1] if near else first, last)
    return first


def require_observable(sigma: Float64, weights: Float64) -> None:
    """UserError when the solution, of standard deviations (N, 8), leaves the heading open or refuses most fixes."""
    yaw_sigma = float(np.median(sigma[:, YAW]))
    if not yaw_sigma < _MOST_YAW_SIGMA_RAD:
        raise UserError(f"the motion shows the odometry's heading only to {np.degrees(yaw_sigma):.0f} degrees")
    outliers = float(np.mean(weights[:, 0] < OUTLIER_WEIGHT))
    if outliers > _MOST_OUTLIERS:
        raise UserError(f"{100 * outliers:.0f} % of the fixes do not fit the odometry's track, whatever its heading")


def standard_deviations(normal: Normal) -> Float64:
    """Of all states at all nodes, (N, 8)."""
    covariance = covariances(normal)
    return np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
