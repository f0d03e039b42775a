"""How wrong a pose may be: a 6x6 covariance learnt from the errors on held-out frames.

Errors are looked at along right, ahead and up as the camera has them, where they are alike whatever the heading: a
    camera that is taken for farther right is also taken for turned, and one flown level is hardly wrong in height.
    Their shape is one 6x6 scatter matrix; its size follows each image's difficulty, a log-linear function of what
    speaks for doubt (spread among crops, unlikeness of features), and a factor that makes the region of LEVEL hold
    that share of the errors on lines
left out in turn: locally weighted conformal prediction (Lei et al., "Distribution-free predictive inference for
regression", 2018) with an ellipsoid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from pose2rgbd_ros.geometry.arrays import Bool, Float64

LEVEL = 0.9
MOST_LEVEL = 0.95
LEVELS = (0.5, 0.9, 0.95)  # those reported
RIDGE = 0.03  # of the frames' number, on standardised features
ROLLED = 1e-3
TAIL = 4.0  # degrees of freedom of the scatter's Student t: single large errors do not stretch all ellipsoids
LEAST_M, LEAST_RAD = 1e-4, 1e-5  # errors below are none
_PARTS = (slice(0, 3), slice(3, 6))


@dataclass(frozen=True, eq=False)
class CovarianceModel:
    """Learnt from held-out frames.

    scatter: (6, 6) of errors over their difficulty, level axes. weights: (2, 1 + M) of position's and rotation's log
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

    def covariance_level(self, features: Float64) -> Float64:
        """Covariances (N, 6, 6) along the cameras' level axes, of features (N, M)."""
        factor = np.repeat(self.difficulty(features), 3, axis=1)
        return self.scatter * factor[:, :, None] * factor[:, None, :]

    def covariance_map(self, features: Float64, T_map_cam: Float64) -> Float64:
        """Covariance (6, 6) of one pose (4, 4) along the map's axes, as `Estimate` has it, of features (M,)."""
        turn = np.kron(np.eye(2), level_axes(T_map_cam[None])[0])
        return np.asarray(turn @ self.covariance_level(features[None])[0] @ turn.T)


def level_axes(T_map_cam: Float64) -> Float64:
    """Rotations (N, 3, 3) to the map from right, ahead and up as cameras (N, 4, 4) have them: up is the map's z, right
    the camera's x made level; the map's own axes for a camera rolled onto its side."""
    right = T_map_cam[:, :3, 0] * (1.0, 1.0, 0.0)
    length = np.linalg.norm(right, axis=1, keepdims=True)
    right = np.where(length > ROLLED, right / np.maximum(length, ROLLED), (1.0, 0.0, 0.0))
    up = np.broadcast_to([0.0, 0.0, 1.0], right.shape)
    return np.stack([right, np.cross(up, right), up], axis=2)


def errors(T_estimated: Float64, T_true: Float64) -> Float64:
    """What poses (N, 4, 4) lack to the true ones, (N, 6): metres along and radians about the estimated camera's level
    axes; true rotation = exp(rotation) @ estimated."""
    axes_t = level_axes(T_estimated).swapaxes(1, 2)
    moved = T_true[:, :3, 3] - T_estimated[:, :3, 3]
    turned = Rotation.from_matrix(T_true[:, :3, :3] @ T_estimated[:, :3, :3].swapaxes(1, 2)).as_rotvec()
    return np.concatenate([(axes_t @ part[..., None])[..., 0] for part in (moved, turned)], axis=1)


def fit(errors: Float64, features: Float64, unit: np.ndarray) -> CovarianceModel:
    """The model of errors (N, 6) and features (N, M) of frames whose lines are numbered `unit` (N,)."""
    model = _fit(errors, features)
    squared = squared_distances(model, errors, features)
    units = np.unique(unit)
    if len(units) > 1:
        for left_out in units:
            mine = unit != left_out
            squared[~mine] = squared_distances(_fit(errors[mine], features[mine]), errors[~mine], features[~mine])
    scale = np.repeat([_factor(squared[:, part], unit) for part in (0, 1)], 3)
    return replace(model, scatter=model.scatter * scale[:, None] * scale)


def squared_distances(model: CovarianceModel, errors: Float64, features: Float64) -> Float64:
    """Squared Mahalanobis distances (N, 3) of errors: of the position, the rotation and both together."""
    return squared_of(model.covariance_level(features), errors)


def squared_of(covariance: Float64, errors: Float64) -> Float64:
    """Squared Mahalanobis distances (N, 3), as above, of errors (N, 6) by covariances (N, 6, 6) along the same axes."""
    parts = (*_PARTS, slice(0, 6))
    return np.stack([_squared(covariance[:, part, part], errors[:, part]) for part in parts], axis=1)


def probabilities(squared: Float64) -> Float64:
    """The smallest regions (N, 3) that hold errors, as shares promised: of position, rotation and both."""
    return np.asarray(chi2.cdf(squared, (3, 3, 6)))


def inside(squared: Float64) -> Bool:
    """Whether errors lie within the regions of LEVELS: (N, levels, 3) of position, rotation, both; squared (N, 3)."""
    return np.asarray(probabilities(squared)[:, None, :] <= np.array(LEVELS)[:, None])


def _factor(squared: Float64, unit: np.ndarray) -> float:
    """How much larger deviations have to be for the region of LEVEL to hold it, by one standard error among lines more:
    few lines, or lines unlike one another, make larger covariances. squared (N,) of three dimensions."""
    share = LEVEL * (len(squared) + 1) / len(squared)  # the conformal quantile
    limit = np.quantile(squared, min(share, 1.0))
    held = np.array([np.mean(squared[unit == one] <= limit) for one in np.unique(unit)])
    error = held.std(ddof=1) / np.sqrt(len(held)) if len(held) > 1 else 0.0
    return float(np.sqrt(np.quantile(squared, min(share + error, MOST_LEVEL)) / chi2.ppf(LEVEL, 3)))


def _fit(errors: Float64, features: Float64) -> CovarianceModel:
    """Without the factor of coverage."""
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    standard = (features - centre) / spread
    sizes = np.stack([np.linalg.norm(errors[:, part], axis=1) for part in _PARTS], axis=1)
    target = np.log(np.maximum(sizes, (LEAST_M, LEAST_RAD)))
    # More doubt never means a smaller error; the rows below the frames' are the ridge.
    damped = np.concatenate([standard, np.sqrt(RIDGE * len(standard)) * np.eye(standard.shape[1])])
    around = np.concatenate([target - target.mean(axis=0), np.zeros((standard.shape[1], 2))])
    slope = np.stack([nnls(damped, column)[0] for column in around.T], axis=1)
    weights = np.concatenate([target.mean(axis=0)[:, None], slope.T], axis=1)
    model = CovarianceModel(np.eye(6), weights, centre, spread, standard.min(axis=0), standard.max(axis=0))
    return _with_scatter(model, errors / np.repeat(model.difficulty(features), 3, axis=1))


def _with_scatter(model: CovarianceModel, errors: Float64) -> CovarianceModel:
    """Student-t scatter about zero (a bias counts as error) by iterated weights."""
    scatter = errors.T @ errors / len(errors) + 1e-12 * np.eye(6)
    for _ in range(20):
        weight = (TAIL + 6) / (TAIL + np.einsum("ni,ij,nj->n", errors, np.linalg.inv(scatter), errors))
        scatter = (errors * weight[:, None]).T @ errors / len(errors) + 1e-12 * np.eye(6)
    return replace(model, scatter=scatter)


def _squared(covariance: Float64, errors: Float64) -> Float64:
    return np.asarray(np.einsum("ni,ni->n", errors, np.linalg.solve(covariance, errors[..., None])[..., 0]))
