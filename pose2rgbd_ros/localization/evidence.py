"""How unlike the training images an image is, in a few figures that all grow with doubt.

They decide both how large the covariance is and whether the pose is accepted at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.dataset.sharpness import sharpness
from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.localization.memory import Memory
from pose2rgbd_ros.localization.reading import Reading

DOUBTS = {
    "features": "what the network sees in it differs from the training images",
    "shift": "its crops are placed far apart",
    "turn": "its crops are turned apart",
    "realism": "the discriminator does not take it for a recorded image",
    "memory": "it shows little of what training frames near its pose show",
}
MOST_COMPONENTS = 64
_LEAST_M, _LEAST_RAD = 1e-3, 1e-4


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """A Gaussian of a trunk's features by probabilistic PCA (Tipping and Bishop, 1999).

    centre: (F,). axes: (K, F) orthonormal rows. deviation: (K,) along them. rest: deviation in all other directions.
    """

    centre: Float64
    axes: Float64
    deviation: Float64
    rest: float

    @classmethod
    def of(cls, features: Float32) -> FeatureModel:
        """Of features (N, F) of training frames."""
        values = features.astype(np.float64)
        centre = values.mean(axis=0)
        _, sizes, axes = np.linalg.svd(values - centre, full_matrices=False)
        variance = sizes**2 / max(len(values) - 1, 1)
        count = min(MOST_COMPONENTS, max(len(values) // 4, 1), len(variance))
        left = max(values.shape[1] - count, 1)
        floor = 1e-6 * max(variance.sum() / values.shape[1], 1e-12)
        rest = np.sqrt(max(variance[count:].sum() / left, floor))
        return cls(centre, axes[:count], np.sqrt(np.maximum(variance[:count], floor)), float(rest))

    def unlikeness(self, features: Float32) -> float:
        """Mahalanobis distance of features (F,), over the root of F: about 1 for training frames."""
        away = features.astype(np.float64) - self.centre
        along = self.axes @ away
        outside = max(float(away @ away - along @ along), 0.0)
        squared = float(((along / self.deviation) ** 2).sum()) + outside / self.rest**2
        return float(np.sqrt(squared / len(away)))


def doubts(reading: Reading, view: UInt8, features: FeatureModel, memory: Memory) -> Float64:
    """The figures (5,) of DOUBTS, on scales on which their errors are even; `view` as `Memory` takes it."""
    again = memory.found_again(view, reading.T_map_cam)
    return np.array(
        [
            np.log(max(features.unlikeness(reading.features), 1e-6)),
            np.log(max(float(np.linalg.norm(reading.spread[:3])), _LEAST_M)),
            np.log(max(float(np.linalg.norm(reading.spread[3:])), _LEAST_RAD)),
            0.0 if np.isnan(reading.realism) else -reading.realism,
            -np.log1p(again),
        ]
    )


def image_figures(rgb: UInt8) -> Float64:
    """Mean and standard deviation of grey, and sharpness, of an image (S, S, 3): (3,), see gate.FIGURES."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.array([float(grey.mean()), float(grey.std()), sharpness(grey)])
