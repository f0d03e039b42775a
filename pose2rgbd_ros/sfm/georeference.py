"""The map of structure from motion, which has no place and no size, tied to rough positions and attitudes (GPS, IMU).

One similarity for all frames, robust against positions that are wrong for a while; heights that drift are found and
taken out. How sure it is depends less on how many positions there are than on how long their errors last: what GPS is
off by now it is still off by half a minute later. So scatter and duration are estimated together from the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.se3 import umeyama

LEAST_FRAMES = 3
LEAST_SIGMA_M = 0.02  # positions better than that are not believed: the frame's stamp alone is off by as much
# Attitudes are no better than a camera's mount is known, on a line of positions not even the pitch; nor are they worse.
LEAST_SIGMA_RAD, MOST_SIGMA_RAD = np.deg2rad(5.0), np.deg2rad(30.0)
LEAST_WHOLE_SIGMA_M, LEAST_WHOLE_SIGMA_RAD = 0.005, np.deg2rad(0.1)  # of poses that come whole, as of odometry
BAD = 4.0  # sigmas from which a position counts as wrong
LEAST_TO_DRIFT = 10  # frames
DRIFTS = 4.0  # sigmas of its slope from which a drift of the heights is believed
LASTS_S = (1.0, 4.0, 15.0, 60.0, 240.0)  # time constants that errors of positions may have
SEEN = 0.4  # share of the flight: errors that last longer do not show in it
LASTING = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 0.999)  # shares of their variance that last so long
MOST_RESIDUALS, RUN = 240, 20  # that tell of them; of more, so many in runs of so many
_MAD = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class PositionNoise:
    """Errors of recorded positions along one axis: independent ones, and those that last (Gauss-Markov processes).

    `white_m2`; `lasting_m2` (T,) of each of LASTS_S.
    """

    white_m2: float
    lasting_m2: Float64

    @property
    def variance_m2(self) -> float:
        return float(self.white_m2 + self.lasting_m2.sum())

    def covariance_m2(self, seconds: Float64, others: Float64) -> Float64:
        """(N, M) of positions at times (N,) and at others (M,); the same time is the same position."""
        apart = np.abs(seconds[:, None] - others)
        found = self.white_m2 * (apart == 0)
        for variance_m2, lasts_s in zip(self.lasting_m2, LASTS_S, strict=True):
            if variance_m2 > 0:
                found = found + variance_m2 * np.exp(-apart / lasts_s)
        return np.asarray(found)

    def variance_of_mean_m2(self, seconds: Float64) -> float:
        """Of the mean of positions at times (N,)."""
        some = seconds[np.unique(np.linspace(0, len(seconds) - 1, MOST_RESIDUALS).round().astype(int))]
        lasting = PositionNoise(0.0, self.lasting_m2).covariance_m2(some, some).mean()
        return float(self.white_m2 / len(seconds) + lasting)

    @classmethod
    def of(cls, residual_m: Float64, design: Float64, seconds: Float64) -> PositionNoise:
        """What the residuals (N, A) of A like axes tell of it, whatever of the design's columns (N, K) they contain.

        The likelihood of what is left of the residuals beside these columns (restricted maximum likelihood), averaged
        over all durations and shares, each as likely as the others beforehand. What is off by the same all along shows
        in no residual and is not in it.
        """
        which = _some(len(seconds))
        residual_m, design, seconds = residual_m[which], design[which], seconds[which]
        U, size, _ = np.linalg.svd(design)
        beside = U[:, int(np.count_nonzero(size > 1e-9 * size[0])) :]  # (N, F): contrasts without the design
        contrast = beside.T @ residual_m
        freedom = max(contrast.size, 1)
        logs, variances, kinds = [], [], []
        longest_s = max(SEEN * float(np.ptp(seconds)), LASTS_S[0])
        for number, lasts_s in enumerate(each for each in LASTS_S if each <= longest_s):
            value, vector = np.linalg.eigh(beside.T @ np.exp(-np.abs(seconds[:, None] - seconds) / lasts_s) @ beside)
            squared = (vector.T @ contrast) ** 2
            for share in LASTING:
                spread = 1 - share + share * np.maximum(value, 1e-9)
                variance_m2 = max(float((squared / spread[:, None]).sum()) / freedom, LEAST_SIGMA_M**2)
                logs.append(-0.5 * (residual_m.shape[1] * np.log(spread).sum() + freedom * np.log(variance_m2)))
                variances.append(variance_m2)
                kinds.append((number, share))
        chance = np.exp(np.array(logs) - max(logs))
        chance /= chance.sum()
        white_m2, lasting_m2 = 0.0, np.zeros(len(LASTS_S))
        for probability, variance_m2, (number, share) in zip(chance, variances, kinds, strict=True):
            white_m2 += probability * (1 - share) * variance_m2
            lasting_m2[number] += probability * share * variance_m2
        return cls(float(white_m2), lasting_m2)


@dataclass(frozen=True, eq=False)
class Georeference:
    """x_map = scale * R_map_sfm @ x_sfm + t_map_sfm, and how well the recorded positions agree with it.

    Attributes:
        scale: metres in one unit of the map of structure from motion; `scale_sigma` relative to it.
        R_map_sfm, t_map_sfm: (3, 3), (3,).
        covariance: (7, 7) of log scale, rotation vector in the map (rad), translation of the frames' centre (m);
            `tied_covariance` were positions independent of each other, with `tied_sigma_m`.
        centre_map: (3,) the frames' centre, about which the similarity turns and scales.
        residual_m: (N, 3) recorded minus aligned positions, a drift taken out.
        sigma_m: (3,) of the recorded positions along x, y, z of the map, robust; sigma_rad of all
            orientations together.
        is_bad: (N,) recorded positions that disagree with the others.
        noise: errors of the recorded positions along the ground and in height; `seconds` (N,) since the first frame.
        height_drift_m: by how much the recorded heights drifted from the first to the last frame; 0 where not shown.
        attitude_offset_deg: median angle between recorded and aligned orientations.
    """

    scale: float
    R_map_sfm: Float64
    t_map_sfm: Float64
    covariance: Float64
    tied_covariance: Float64
    centre_map: Float64
    residual_m: Float64
    sigma_m: Float64
    sigma_rad: float
    is_bad: Bool
    noise: tuple[PositionNoise, PositionNoise]
    seconds: Float64
    height_drift_m: float
    attitude_offset_deg: float

    @property
    def scale_sigma(self) -> float:
        """Standard deviation of the scale, as a share of it."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def correlation(self) -> Float64:
        """(3,): by how much sqrt(N) recorded positions are worth less than independent ones, along x, y, z."""
        return _correlation(self.noise, self.seconds)

    @property
    def tied_sigma_m(self) -> Float64:
        """(3,) sigma of independent positions whose mean were as unsure as that of the recorded ones."""
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

    def moved_by(self, covariance: Float64, position_map: Float64) -> Float64:
        """(N, 3, 3) m2: what a covariance (7, 7) of the similarity does to positions (N, 3) in the map."""
        arm = position_map - self.centre_map
        jacobian = np.zeros((len(arm), 3, 7))
        jacobian[:, :, 0] = arm
        jacobian[:, :, 1:4] = -_cross(arm)
        jacobian[:, :, 4:] = np.eye(3)
        return np.asarray(jacobian @ covariance @ jacobian.transpose(0, 2, 1))


def georeference(T_sfm_cam: Float64, T_map_cam: Float64, stamps_ns: Int64, whole: bool = False) -> Georeference:
    """The similarity that carries cameras (N, 4, 4) of structure from motion to where they were recorded (N, 4, 4).

    Recorded orientations of all frames together count as one, for their errors may be one (a mount that is only
    assumed): little where positions spread, while they hold the map upright where these lie on a line. Of poses that
    come `whole` (odometry, TF) each counts, and their errors last as those of the positions do. Sigmas are measured
    from the residuals; the loss of positions is Cauchy's.

    Raises:
        UserError: fewer than three frames, or recorded positions that all lie at one place.
    """
    if len(T_sfm_cam) < LEAST_FRAMES:
        raise UserError(f"{len(T_sfm_cam)} frames with a position; {LEAST_FRAMES} are needed to place and size the map")
    source, target = T_sfm_cam[:, :3, 3], T_map_cam[:, :3, 3]
    R_sfm, R_map = T_sfm_cam[:, :3, :3], T_map_cam[:, :3, :3]
    least_m = LEAST_WHOLE_SIGMA_M if whole else LEAST_SIGMA_M
    if np.ptp(target, axis=0).max() < 10 * least_m or np.ptp(source, axis=0).max() <= 0:
        raise UserError("the recorded positions all lie at one place: they say nothing of the map's size")
    seconds = (stamps_ns - stamps_ns[0]) / 1e9
    problem = _Problem(source, target, R_sfm, R_map, seconds, whole)
    starts = [_robust_umeyama(source, target), _from_attitudes(source, target, R_sfm, R_map)]
    best = min((problem.solve(start) for start in starts), key=problem.cost)
    return problem.describe(problem.weigh(best))


@dataclass(frozen=True, eq=False)
class _Solution:
    """Parameters `x`: log scale, rotation vector, position of the source's centre in the map, height drift (or none).

    `correlation` (3,): by how much sqrt(N) positions are worth less than independent ones along x, y, z.
    """

    x: Float64
    with_drift: bool = False
    noise: tuple[PositionNoise, PositionNoise] | None = None
    correlation: Float64 = field(default_factory=lambda: np.ones(3))

    @property
    def free(self) -> Int64:
        return np.arange(8 if self.with_drift else 7)


@dataclass
class _Problem:
    source: Float64
    target: Float64
    R_sfm: Float64
    R_map: Float64
    seconds: Float64
    whole: bool

    def __post_init__(self) -> None:
        self.centre = self.source.mean(axis=0)
        self.time = self.seconds / max(float(self.seconds[-1]), 1e-9)  # 0..1 over the flight

    def residuals(self, x: Float64) -> tuple[Float64, Float64]:
        """(N, 3) m, recorded minus aligned, drift taken out; (N, 3) rad recorded against aligned orientation."""
        R = Rotation.from_rotvec(x[1:4]).as_matrix()
        aligned = np.exp(x[0]) * (self.source - self.centre) @ R.T + x[4:7]
        position = self.target - aligned
        position[:, 2] -= x[7] * (self.time - 0.5)
        turn = Rotation.from_matrix(self.R_map @ (R @ self.R_sfm).transpose(0, 2, 1)).as_rotvec()
        return position, turn

    def solve(self, start: tuple[float, Float64, Float64]) -> _Solution:
        """The similarity next to a start."""
        scale, R, t = start
        x = np.concatenate([[np.log(scale)], Rotation.from_matrix(R).as_rotvec(), scale * R @ self.centre + t, [0.0]])
        # From the first round on: positions on a line whose errors wander would else turn the map about it.
        found = self._with_noise(_Solution(x))
        for _ in range(_ROUNDS):
            found = self._fit(found)
        return found

    def cost(self, found: _Solution) -> float:
        """Comparable between starts, whose sigmas differ: the negative log likelihood of Cauchy's distribution."""
        (position, turn), (sigma_m, sigma_rad) = self.residuals(found.x), self._sigmas(found.x)
        positions = (np.log(sigma_m) + np.log1p((position / sigma_m) ** 2)) / found.correlation**2
        attitudes = np.log(sigma_rad) + np.log1p((turn / sigma_rad) ** 2)
        return float(positions.sum() + attitudes.sum() / len(turn))

    def weigh(self, found: _Solution) -> _Solution:
        """The similarity that heeds how long errors last; with a drift of the heights where that is shown beyond what
        such errors and those of the attitudes would explain."""
        for _ in range(2):
            found = self._fit(self._with_noise(found))
        if len(self.source) >= LEAST_TO_DRIFT:
            drifting = self._fit(replace(found, with_drift=True))
            drifting = self._fit(self._with_noise(drifting))
            sigma = np.sqrt(self._covariances(drifting)[0][7, 7])
            if abs(drifting.x[7]) > DRIFTS * sigma:
                return drifting
        return found

    def _fit(self, found: _Solution) -> _Solution:
        sigma_m, sigma_rad = self._sigmas(found.x)
        count, free = len(self.source), found.free
        scales = np.array([1e-3, 1e-2, 1e-2, 1e-2, 1.0, 1.0, 1.0, 1.0])
        turns = np.full(3 * count, self._attitudes(found) / count)
        share = np.concatenate([np.tile(1 / found.correlation**2, count), turns])

        def loss(squared: Float64) -> Float64:
            """Cauchy's of positions; of attitudes the soft absolute value: however far off, they hold the map."""
            more, root = 1 + squared, np.sqrt(1 + squared)
            positions = np.stack([np.log(more), 1 / more, -1 / more**2])
            attitudes = np.stack([2 * (root - 1), 1 / root, -0.5 / root**3])
            return np.where(np.arange(6 * count) < 3 * count, positions, attitudes) * share

        x = found.x.copy()
        arguments = (free, x.copy(), sigma_m, sigma_rad)
        x[free] = least_squares(
            self._weighted, x[free], x_scale=scales[free], loss=loss, max_nfev=200, args=arguments
        ).x
        return replace(found, x=x)

    def _attitudes(self, found: _Solution) -> float:
        """As how many independent ones all attitudes count."""
        return len(self.source) / float(found.correlation[0]) ** 2 if self.whole else 1.0

    def _weighted(self, part: Float64, free: Int64, x: Float64, sigma_m: Float64, sigma_rad: float) -> Float64:
        x[free] = part
        position, turn = self.residuals(x)
        return np.concatenate([(position / sigma_m).ravel(), (turn / sigma_rad).ravel()])

    def _sigmas(self, x: Float64) -> tuple[Float64, float]:
        position, turn = self.residuals(x)
        freedom = np.sqrt(3 * len(position) / max(3 * len(position) - len(x), 1))
        flat = _MAD * np.median(np.abs(position[:, :2])) * freedom  # one sigma for east and north
        least = (LEAST_WHOLE_SIGMA_M, LEAST_WHOLE_SIGMA_RAD) if self.whole else (LEAST_SIGMA_M, LEAST_SIGMA_RAD)
        sigma_m = np.maximum([flat, flat, _MAD * np.median(np.abs(position[:, 2])) * freedom], least[0])
        return sigma_m, float(np.clip(_MAD * np.median(np.abs(turn)), least[1], MOST_SIGMA_RAD))

    def describe(self, found: _Solution) -> Georeference:
        x = found.x
        scale, R = float(np.exp(x[0])), Rotation.from_rotvec(x[1:4]).as_matrix()
        position, turn = self.residuals(x)
        sigma_m, sigma_rad = self._sigmas(x)
        found = self._with_noise(found)
        assert found.noise is not None
        covariance, tied = self._covariances(found)
        return Georeference(
            scale, R, x[4:7] - scale * R @ self.centre, covariance[:7, :7], tied[:7, :7], x[4:7].copy(), position,
            sigma_m, sigma_rad / np.sqrt(self._attitudes(found)), self._is_bad(x), found.noise, self.seconds,
            float(x[7]) if found.with_drift else 0.0, float(np.rad2deg(np.median(np.linalg.norm(turn, axis=1)))),
        )  # fmt: skip

    def _is_bad(self, x: Float64) -> Bool:
        return np.asarray((np.abs(self.residuals(x)[0]) > BAD * self._sigmas(x)[0]).any(axis=1))

    def _with_noise(self, found: _Solution) -> _Solution:
        """Scatter and duration of the positions' errors, from what is left of them."""
        position, _ = self.residuals(found.x)
        good = ~self._is_bad(found.x)
        if np.count_nonzero(good) < LEAST_FRAMES:
            good[:] = True
        # Residuals are what these columns cannot explain: shift, turn and scale, and the drift.
        arm = self.source - self.centre
        design = np.column_stack([np.ones(len(arm)), arm, *([self.time - 0.5] if found.with_drift else [])])[good]
        seconds = self.seconds[good]
        noise = (
            PositionNoise.of(position[good, :2], design, seconds),
            PositionNoise.of(position[good, 2:], design, seconds),
        )
        return replace(found, noise=noise, correlation=_correlation(noise, self.seconds))

    def _covariances(self, found: _Solution) -> tuple[Float64, Float64]:
        """(8, 8) of the estimates, or (7, 7) without drift: what errors of such size and duration do to them, and were
        all good positions independent with their tied sigma."""
        assert found.noise is not None
        x = found.x
        position, _ = self.residuals(x)
        sigma_m, sigma_rad = self._sigmas(x)
        arm = np.exp(x[0]) * (self.source - self.centre) @ Rotation.from_rotvec(x[1:4]).as_matrix().T
        jacobian = np.zeros((len(arm), 3, 8))
        jacobian[:, :, 0] = arm
        jacobian[:, :, 1:4] = -_cross(arm)
        jacobian[:, :, 4:7] = np.eye(3)
        jacobian[:, 2, 7] = self.time - 0.5
        jacobian = jacobian[:, :, found.free]
        tied_weight = np.broadcast_to(1 / (sigma_m * found.correlation) ** 2, position.shape)
        weighted = jacobian * (tied_weight / (1 + (position / sigma_m) ** 2))[:, :, None]
        # The attitudes' share holds what a line of positions leaves open.
        attitude = np.zeros((len(found.free),) * 2)
        attitude[1:4, 1:4] = np.eye(3) * self._attitudes(found) / sigma_rad**2
        information = np.einsum("nij,nik->jk", weighted, jacobian) + attitude
        spread = attitude.copy()
        for some in np.array_split(np.arange(len(arm)), -(-len(arm) // 500)):
            for axes, noise in zip(([0, 1], [2]), found.noise, strict=True):
                between = noise.covariance_m2(self.seconds[some], self.seconds)
                for axis in axes:
                    spread += weighted[some, axis].T @ between @ weighted[:, axis]
        gain = np.linalg.inv(information)
        good = jacobian * (tied_weight * ~self._is_bad(x)[:, None])[:, :, None]
        tied = np.linalg.inv(np.einsum("nij,nik->jk", good, jacobian) + attitude)
        return np.asarray(gain @ spread @ gain), tied


def _correlation(noise: tuple[PositionNoise, PositionNoise], seconds: Float64) -> Float64:
    """(3,): by how much sqrt(N) such positions are worth less than independent ones, along x, y, z."""
    flat, height = (
        max(1.0, np.sqrt(len(seconds) * each.variance_of_mean_m2(seconds) / each.variance_m2)) for each in noise
    )
    return np.array([flat, flat, height])


def _some(count: int) -> Int64:
    """Indices of at most MOST_RESIDUALS of so many, in runs: neighbours tell of short times, the runs of long ones."""
    if count <= MOST_RESIDUALS:
        return np.arange(count)
    starts = np.linspace(0, count - RUN, MOST_RESIDUALS // RUN).round().astype(np.int64)
    return np.unique(starts[:, None] + np.arange(RUN))


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
