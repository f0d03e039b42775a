"""How wrong a pose may be: a 6x6 covariance learnt from the errors on held-out frames.

Errors are looked at along the camera's own axes, where they are alike whatever the heading: a camera that is taken for
farther right is also taken for turned. Their shape is one 6x6 scatter matrix; its size follows each image's difficulty,
a log-linear function of what the network shows of its doubts (spread among crops, unlikeness of features), and a factor
that makes the region of LEVEL hold that share of the errors on lines left out: locally weighted conformal prediction
(Lei et al., "Distribution-free predictive inference for regression", 2018) with an ellipsoid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from pose2rgbd_ros.geometry.arrays import Float64

LEVEL = 0.9
LEVELS = (0.5, 0.9, 0.95)  # those reported
RIDGE = 0.1  # of the frames' number, on standardised features
TAIL = 4.0  # degrees of freedom of the scatter's Student t: single large errors do not stretch all ellipsoids
LEAST_M, LEAST_RAD = 1e-4, 1e-5  # errors below are none
_PARTS = (slice(0, 3), slice(3, 6))


@dataclass(frozen=True, eq=False)
class CovarianceModel:
    """Learnt from held-out frames.

    scatter: (6, 6) of errors over their difficulty, camera axes. weights: (2, 1 + M) of position's and rotation's log
    difficulty on (1, features). centre, spread: (M,) of the features; least, most: (M,) standardised, as calibrated on:
    beyond them nothing is extrapolated.
    """

    scatter: Float64
    weights: Float64
    centre: Float64
    spread: Float64
    least: Float64
    most: Float64

    def difficulty(self, features: Float64) -> Float64:
        """Factors (N, 2) on position's and rotation's errors, of features (N, M)."""
        standard = np.clip((features - self.centre) / self.spread, self.least, self.most)
        with_one = np.concatenate([np.ones((len(standard), 1)), standard], axis=1)
        return np.exp(with_one @ self.weights.T)

    def covariance_cam(self, features: Float64) -> Float64:
        """Covariances (N, 6, 6) along the cameras' axes, of features (N, M)."""
        factor = np.repeat(self.difficulty(features), 3, axis=1)
        return self.scatter * factor[:, :, None] * factor[:, None, :]

    def covariance_map(self, features: Float64, T_map_cam: Float64) -> Float64:
        """Covariance (6, 6) of one pose (4, 4) along the map's axes, as `Estimate` has it, of features (M,)."""
        turn = np.kron(np.eye(2), T_map_cam[:3, :3])
        return np.asarray(turn @ self.covariance_cam(features[None])[0] @ turn.T)


def errors_cam(T_estimated: Float64, T_true: Float64) -> Float64:
    """What poses (N, 4, 4) lack to the true ones, (N, 6): metres along and radians about the estimated camera's axes."""
    R_t = T_estimated[:, :3, :3].swapaxes(1, 2)
    moved = (R_t @ (T_true[:, :3, 3] - T_estimated[:, :3, 3])[..., None])[..., 0]
    return np.concatenate([moved, Rotation.from_matrix(R_t @ T_true[:, :3, :3]).as_rotvec()], axis=1)


def fit(errors: Float64, features: Float64, unit: np.ndarray) -> CovarianceModel:
    """The model of errors (N, 6) and features (N, M) of frames whose lines are numbered `unit` (N,)."""
    model = _fit(errors, features)
    parts = []
    for left_out in np.unique(unit):
        mine = unit != left_out
        if mine.any():
            parts.append(
                squared_distances(_fit(errors[mine], features[mine]), errors[~mine], features[~mine])
            )
    squared = np.concatenate(parts) if parts else squared_distances(model, errors, features)
    count = len(squared)
    share = min(LEVEL * (count + 1) / count, 1.0)  # the conformal quantile
    factor = np.sqrt(np.quantile(squared[:, :2], share, axis=0) / chi2.ppf(LEVEL, 3))
    scale = np.repeat(factor, 3)
    return _scaled(model, scale)


def squared_distances(model: CovarianceModel, errors: Float64, features: Float64) -> Float64:
    """Squared Mahalanobis distances (N, 3) of errors: of the position, the rotation and both together."""
    covariance = model.covariance_cam(features)
    parts = (*_PARTS, slice(0, 6))
    return np.stack([_squared(covariance[:, part, part], errors[:, part]) for part in parts], axis=1)


def coverage(squared: Float64) -> Float64:
    """Shares (3, 3) within the regions of LEVELS (rows) of position, rotation and both (columns); squared (N, 3)."""
    limits = np.array([[chi2.ppf(level, freedom) for freedom in (3, 3, 6)] for level in LEVELS])
    return np.asarray((squared[:, None, :] <= limits).mean(axis=0))


def _fit(errors: Float64, features: Float64) -> CovarianceModel:
    """Without the factor of coverage."""
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    standard = (features - centre) / spread
    sizes = np.stack([np.linalg.norm(errors[:, part], axis=1) for part in _PARTS], axis=1)
    target = np.log(np.maximum(sizes, (LEAST_M, LEAST_RAD)))
    slope = np.linalg.solve(
        standard.T @ standard + RIDGE * len(standard) * np.eye(standard.shape[1]),
        standard.T @ (target - target.mean(axis=0)),
    )
    weights = np.concatenate([target.mean(axis=0)[:, None], slope.T], axis=1)
    model = CovarianceModel(np.eye(6), weights, centre, spread, standard.min(axis=0), standard.max(axis=0))
    return _with_scatter(model, errors / np.repeat(model.difficulty(features), 3, axis=1))


def _with_scatter(model: CovarianceModel, errors: Float64) -> CovarianceModel:
    """Student-t scatter about zero (a bias counts as error) by iterated weights."""
    scatter = errors.T @ errors / len(errors) + 1e-12 * np.eye(6)
    for _ in range(20):
        weight = (TAIL + 6) / (TAIL + np.einsum("ni,ij,nj->n", errors, np.linalg.inv(scatter), errors))
        scatter = (errors * weight[:, None]).T @ errors / len(errors) + 1e-12 * np.eye(6)
    return CovarianceModel(scatter, model.weights, model.centre, model.spread, model.least, model.most)


def _scaled(model: CovarianceModel, scale: Float64) -> CovarianceModel:
    scatter = model.scatter * scale[:, None] * scale[None, :]
    return CovarianceModel(scatter, model.weights, model.centre, model.spread, model.least, model.most)


def _squared(covariance: Float64, errors: Float64) -> Float64:
    return np.asarray(np.einsum("ni,ni->n", errors, np.linalg.solve(covariance, errors[..., None])[..., 0]))
