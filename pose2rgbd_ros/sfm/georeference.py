"""The map of structure from motion, which has no place and no size, tied to rough positions and attitudes (GPS, IMU).

One similarity for all frames, robust against positions that are wrong for a while; heights that drift are found and
taken out. What the positions say of each other also says how sure the similarity is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

LEAST_FRAMES = 3
LEAST_SIGMA_M = 0.02  # positions better than that are not believed: the frame's stamp alone is off by as much
LEAST_SIGMA_RAD = np.deg2rad(2.0)  # likewise attitudes
BAD = 4.0  # sigmas from which a position counts as wrong
DRIFTS = 4.0  # sigmas of its slope from which a drift of the heights is believed
_MAD = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Georeference:
    """x_map = scale * R_map_sfm @ x_sfm + t_map_sfm, and how well the recorded positions agree with it.

    Attributes:
        scale: metres in one unit of the map of structure from motion; `scale_sigma` relative to it.
        R_map_sfm, t_map_sfm: (3, 3), (3,).
        covariance: (7, 7) of log scale, rotation vector in the map (rad), translation of the frames' centre (m).
        centre_map: (3,) the frames' centre, about which the similarity turns and scales.
        residual_m: (N, 3) recorded minus aligned positions, a drift taken out.
        sigma_m: (3,) of the recorded positions along x, y, z of the map, robust; sigma_rad of the orientations.
        is_bad: (N,) recorded positions that disagree with the others.
        correlation: by how much sqrt(N) such positions are worth less than independent ones; 1 at best.
        height_drift_m: by how much the recorded heights drifted from the first to the last frame; 0 where not shown.
        attitude_offset_deg: median angle between recorded and aligned orientations.
    """

    scale: float
    R_map_sfm: Float64
    t_map_sfm: Float64
    covariance: Float64
    centre_map: Float64
    residual_m: Float64
    sigma_m: Float64
    sigma_rad: float
    is_bad: Bool
    correlation: float
    height_drift_m: float
    attitude_offset_deg: float

    @property
    def scale_sigma(self) -> float:
        """Standard deviation of the scale, as a share of it."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def tied_sigma_m(self) -> Float64:
        """(3,) sigma of a recorded position as one of many: wider, as neighbours resemble each other."""
        return self.sigma_m * self.correlation

    def points(self, points_sfm: Float64) -> Float64:
        """(N, 3) in the map."""
        return np.asarray(self.scale * points_sfm @ self.R_map_sfm.T + self.t_map_sfm)

    def poses(self, T_sfm_cam: Float64) -> Float64:
        """(N, 4, 4) in the map, of cameras (N, 4, 4)."""
        T_map_cam = np.array(T_sfm_cam)
        T_map_cam[:, :3, :3] = self.R_map_sfm @ T_sfm_cam[:, :3, :3]
        T_map_cam[:, :3, 3] = self.points(T_sfm_cam[:, :3, 3])
        return T_map_cam

    def undrifted(self, position_m: Float64, stamps_ns: Int64) -> Float64:
        """Recorded positions (N, 3) with the drift of their heights taken out."""
        seconds = (stamps_ns - stamps_ns[0]) / 1e9
        height = self.height_drift_m * (seconds / max(float(seconds[-1]), 1e-9) - 0.5)
        return np.asarray(position_m - height[:, None] * np.array([0.0, 0.0, 1.0]))

    def position_covariance(self, position_map: Float64) -> Float64:
        """(N, 3, 3) m2: what the similarity's own uncertainty does to positions (N, 3) in the map."""
        arm = position_map - self.centre_map
        jacobian = np.zeros((len(arm), 3, 7))
        jacobian[:, :, 0] = arm
        jacobian[:, :, 1:4] = -_cross(arm)
        jacobian[:, :, 4:] = np.eye(3)
        return np.asarray(jacobian @ self.covariance @ jacobian.transpose(0, 2, 1))


def georeference(T_sfm_cam: Float64, T_map_cam: Float64, stamps_ns: Int64) -> Georeference:
    """The similarity that carries cameras (N, 4, 4) of structure from motion to where they were recorded (N, 4, 4).

    Recorded orientations count little where positions spread, and hold the map upright where they lie on a line. The
    losses are Cauchy's, with sigmas measured from the residuals. Uncertainty heeds that GPS errors last: residuals are
    correlated from frame to frame.

    Raises:
        UserError: fewer than three frames, or recorded positions that all lie at one place.
    """
    if len(T_sfm_cam) < LEAST_FRAMES:
        raise UserError(f"{len(T_sfm_cam)} frames with a position; {LEAST_FRAMES} are needed to place and size the map")
    source, target = T_sfm_cam[:, :3, 3], T_map_cam[:, :3, 3]
    R_sfm, R_map = T_sfm_cam[:, :3, :3], T_map_cam[:, :3, :3]
    if np.ptp(target, axis=0).max() < 10 * LEAST_SIGMA_M or np.ptp(source, axis=0).max() <= 0:
        raise UserError("the recorded positions all lie at one place: they say nothing of the map's size")
    seconds = (stamps_ns - stamps_ns[0]) / 1e9
    time = seconds / max(float(seconds[-1]), 1e-9)  # 0..1 over the flight
    problem = _Problem(source, target, R_sfm, R_map, time)
    starts = [_robust_umeyama(source, target), _from_attitudes(source, target, R_sfm, R_map)]
    best = min((problem.solve(start) for start in starts), key=lambda found: found.cost)
    return problem.describe(best)


@dataclass
class _Solution:
    """Parameters: log scale, rotation vector, position of the source's centre in the map, height drift."""

    x: Float64
    cost: float
    sigma_m: Float64
    sigma_rad: float
    with_drift: bool


@dataclass
class _Problem:
    source: Float64
    target: Float64
    R_sfm: Float64
    R_map: Float64
    time: Float64

    def __post_init__(self) -> None:
        self.centre = self.source.mean(axis=0)

    def residuals(self, x: Float64) -> tuple[Float64, Float64]:
        """(N, 3) m, recorded minus aligned, drift taken out; (N, 3) rad recorded against aligned orientation."""
        R = Rotation.from_rotvec(x[1:4]).as_matrix()
        aligned = np.exp(x[0]) * (self.source - self.centre) @ R.T + x[4:7]
        position = self.target - aligned
        position[:, 2] -= x[7] * (self.time - 0.5)
        turn = Rotation.from_matrix(self.R_map @ (R @ self.R_sfm).transpose(0, 2, 1)).as_rotvec()
        return position, turn

    def solve(self, start: tuple[float, Float64, Float64]) -> _Solution:
        scale, R, t = start
        x = np.concatenate([[np.log(scale)], Rotation.from_matrix(R).as_rotvec(), scale * R @ self.centre + t, [0.0]])
        with_drift = False
        for _ in range(_ROUNDS):
            sigma_m, sigma_rad = self._sigmas(x)
            free = np.arange(8 if with_drift else 7)
            scales = np.array([1e-3, 1e-2, 1e-2, 1e-2, 1.0, 1.0, 1.0, 1.0])

            found = least_squares(
                self._weighted, x[free], x_scale=scales[free], loss="cauchy", max_nfev=200,
                args=(free, x.copy(), sigma_m, sigma_rad),
            )  # fmt: skip
            x[free] = found.x
            with_drift = with_drift or self._drifts(x)
        sigma_m, sigma_rad = self._sigmas(x)
        position, turn = self.residuals(x)
        # Comparable between starts, whose sigmas differ: the negative log likelihood of Cauchy's distribution.
        cost = sum(
            float(np.sum(np.log(s) + np.log1p((r / s) ** 2))) for r, s in ((position, sigma_m), (turn, sigma_rad))
        )
        return _Solution(x, cost, sigma_m, sigma_rad, with_drift)

    def _weighted(self, part: Float64, free: Int64, x: Float64, sigma_m: Float64, sigma_rad: float) -> Float64:
        x[free] = part
        position, turn = self.residuals(x)
        return np.concatenate([(position / sigma_m).ravel(), (turn / sigma_rad).ravel()])

    def _sigmas(self, x: Float64) -> tuple[Float64, float]:
        position, turn = self.residuals(x)
        freedom = np.sqrt(3 * len(position) / max(3 * len(position) - len(x), 1))
        flat = _MAD * np.median(np.abs(position[:, :2])) * freedom  # one sigma for east and north
        sigma_m = np.maximum([flat, flat, _MAD * np.median(np.abs(position[:, 2])) * freedom], LEAST_SIGMA_M)
        return sigma_m, max(float(_MAD * np.median(np.abs(turn))), float(LEAST_SIGMA_RAD))

    def _drifts(self, x: Float64) -> bool:
        """Whether the heights' residuals have a slope over the flight that their scatter does not explain."""
        height = self.residuals(x)[0][:, 2]
        if len(height) < 10:
            return False
        slope, offset = np.polyfit(self.time, height, 1)
        rest = height - slope * self.time - offset
        sigma = _MAD * np.median(np.abs(rest)) / np.sqrt(np.sum((self.time - self.time.mean()) ** 2))
        return bool(abs(slope) > DRIFTS * sigma * _correlation_factor(rest))

    def describe(self, found: _Solution) -> Georeference:
        x = found.x
        scale, R = float(np.exp(x[0])), Rotation.from_rotvec(x[1:4]).as_matrix()
        position, turn = self.residuals(x)
        is_bad = np.asarray((np.abs(position) > BAD * found.sigma_m).any(axis=1))
        return Georeference(
            scale, R, x[4:7] - scale * R @ self.centre, self._covariance(found), x[4:7].copy(), position,
            found.sigma_m, found.sigma_rad, is_bad, max(map(_correlation_factor, position.T)),
            float(x[7]) if found.with_drift else 0.0, float(np.rad2deg(np.median(np.linalg.norm(turn, axis=1)))),
        )  # fmt: skip

    def _covariance(self, found: _Solution) -> Float64:
        x = found.x
        position, _ = self.residuals(x)
        arm = np.exp(x[0]) * (self.source - self.centre) @ Rotation.from_rotvec(x[1:4]).as_matrix().T
        weight = 1 / (1 + (position / found.sigma_m) ** 2)
        jacobian = np.zeros((len(arm), 3, 8))
        jacobian[:, :, 0] = arm
        jacobian[:, :, 1:4] = -_cross(arm)
        jacobian[:, :, 4:7] = np.eye(3)
        jacobian[:, 2, 7] = self.time - 0.5
        free = np.arange(8 if found.with_drift else 7)
        scaled = jacobian[:, :, free] * (np.sqrt(weight) / found.sigma_m)[:, :, None]
        information = np.einsum("nij,nik->jk", scaled, scaled)
        information /= max(map(_correlation_factor, position.T)) ** 2
        # The attitudes' share holds what a line of positions leaves open. Their common offset (a mount that is only
        # assumed) is one error and not N: they count as one frame.
        information[1:4, 1:4] += np.eye(3) / found.sigma_rad**2
        return np.asarray(np.linalg.inv(information)[:7, :7])


def _correlation_factor(residual: Float64) -> float:
    """By how much sqrt(N) samples that follow each other are worth less than independent ones (AR(1))."""
    centred = np.clip(residual - np.median(residual), *(np.array([-1, 1]) * 5 * (np.median(np.abs(residual)) + 1e-9)))
    lag = float(np.sum(centred[1:] * centred[:-1]) / max(np.sum(centred**2), 1e-12))
    lag = min(max(lag, 0.0), 0.98)
    return float(np.sqrt((1 + lag) / (1 - lag)))


def _robust_umeyama(source: Float64, target: Float64) -> tuple[float, Float64, Float64]:
    """Umeyama's closed form, weights by Cauchy's loss, begun from the best of small random samples (seeded)."""
    rng = np.random.default_rng(0)
    samples = [np.arange(len(source))]
    samples += [rng.choice(len(source), min(6, len(source)), replace=False) for _ in range(100)]
    best, least = umeyama(source, target), np.inf
    for sample in samples:
        found = umeyama(source[sample], target[sample])
        error = float(np.median(_errors(found, source, target)))
        if error < least:
            best, least = found, error
    for _ in range(10):
        errors = _errors(best, source, target)
        best = umeyama(source, target, 1 / (1 + (errors / max(float(np.median(errors)), LEAST_SIGMA_M)) ** 2))
    return best


def _errors(found: tuple[float, Float64, Float64], source: Float64, target: Float64) -> Float64:
    scale, R, t = found
    return np.asarray(np.linalg.norm(scale * source @ R.T + t - target, axis=1))


def umeyama(source: Float64, target: Float64, weights: Float64 | None = None) -> tuple[float, Float64, Float64]:
    """Scale, R (3, 3) and t (3,) that carry points (N, 3) onto others with the least squared error (Umeyama 1991)."""
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    mean_source, mean_target = weights @ source, weights @ target
    from_mean = source - mean_source
    U, spread, Vt = np.linalg.svd((target - mean_target).T @ (from_mean * weights[:, None]))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = U * sign @ Vt
    scale = float((spread * sign).sum() / max(float(weights @ (from_mean**2).sum(axis=1)), 1e-18))
    scale = max(scale, 1e-9)
    return scale, R, mean_target - scale * R @ mean_source


def _from_attitudes(source: Float64, target: Float64, R_sfm: Float64, R_map: Float64) -> tuple[float, Float64, Float64]:
    """Rotation from the orientations alone, scale and place from the positions: for cameras that fly along a line."""
    R = Rotation.from_matrix(R_map @ R_sfm.transpose(0, 2, 1)).mean().as_matrix()
    turned = (source - np.median(source, axis=0)) @ R.T
    moved = target - np.median(target, axis=0)
    scale = float(
        np.median(np.linalg.norm(moved, axis=1)) / max(float(np.median(np.linalg.norm(turned, axis=1))), 1e-12)
    )
    return max(scale, 1e-9), R, np.median(target, axis=0) - scale * R @ np.median(source, axis=0)


def _cross(vectors: Float64) -> Float64:
    """(N, 3, 3): matrices whose product with w is v x w."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
