"""Accept or reject: an image that is none of the place must not become a pose.

Two checks, both made of recorded frames alone; no image of another place is needed. First the image itself: brightness,
contrast and sharpness may lie a little beyond those of the training frames, no more. Then a score of how unlike it is:
the mean over the doubts of their excess above the usual, each in units of its own spread among held-out
frames. Its limit lets a wanted share of the held-out frames pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.localization.predict import PosePrediction

# What some training frames looked like, as a few local features each: is the image of what lies near the pose?
#
# A regressor answers for every image. Features of the image that are found again, in one plane's arrangement, in
# training frames about the answered pose speak for both the place and the pose; another place, alike in style, has
# none.


MOST_FRAMES, MOST_FEATURES = 600, 100
NEAR_FRAMES, CHECKED_FRAMES = 16, 3
FEWEST_MATCHES = 6
RATIO = 0.85  # of the best to the second best distance
REPROJECTION_PX = 5.0  # a plane through a city is a rough plane
METRES_PER_RADIAN = 30.0  # when frames near a pose are looked for


@dataclass(frozen=True, eq=False)
class KeyframeFeatures:
    """T_map_cam (M, 4, 4) of the frames; points (M, K, 2) float32 pixels; descriptors (M, K, 128) uint8; count (M,) how
    many of the K are there."""

    T_map_cam: Float64
    points: Float32
    descriptors: UInt8
    count: np.ndarray

    @classmethod
    def of(cls, views: Iterable[UInt8], T_map_cam: Float64) -> KeyframeFeatures:
        """Of views (SIDE_PX, SIDE_PX, 3) at poses (M, 4, 4)."""
        found = [local_features(view) for view in views]
        points = np.zeros((len(found), MOST_FEATURES, 2), np.float32)
        descriptors = np.zeros((len(found), MOST_FEATURES, 128), np.uint8)
        count = np.array([len(at) for at, _ in found])
        for row, (at, described) in enumerate(found):
            points[row, : len(at)], descriptors[row, : len(at)] = at, described
        return cls(T_map_cam, points, descriptors, count)

    def found_again(self, view: UInt8, T_map_cam: Float64) -> int:
        """How many features of a view one frame near the pose (4, 4) shows in the same arrangement."""
        at, described = local_features(view)
        near = self._near(T_map_cam)
        if len(at) < FEWEST_MATCHES or not len(near):
            return 0
        partner, clear = self._matches(described, near)
        most = 0
        for row in np.argsort(-clear.sum(axis=0), kind="stable")[:CHECKED_FRAMES]:
            mine = np.flatnonzero(clear[:, row])
            if len(mine) > max(most, FEWEST_MATCHES - 1):
                theirs = self.points[near[row]][partner[mine, row]]
                most = max(most, _in_one_plane(at[mine], theirs))
        return most

    def _near(self, T_map_cam: Float64) -> np.ndarray:
        """The nearest frames, nearest first."""
        away_m = np.linalg.norm(self.T_map_cam[:, :3, 3] - T_map_cam[:3, 3], axis=1)
        cosine = (np.einsum("nij,ij->n", self.T_map_cam[:, :3, :3], T_map_cam[:3, :3]) - 1) / 2
        distance = away_m + METRES_PER_RADIAN * np.arccos(np.clip(cosine, -1, 1))
        return np.argsort(distance)[:NEAR_FRAMES]

    def _matches(self, described: UInt8, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The feature of each near frame that is most alike to each of the view's, (Q, near), and whether it is so by
        far."""
        mine, theirs = described.astype(np.float32), self.descriptors[near].astype(np.float32)
        product = (mine @ theirs.reshape(-1, 128).T).reshape(len(mine), len(near), -1)
        squared = (mine**2).sum(1)[:, None, None] + (theirs**2).sum(2) - 2 * product
        squared[:, np.arange(squared.shape[2]) >= self.count[near, None]] = np.inf
        partner = squared.argmin(axis=2)
        first = np.take_along_axis(squared, partner[..., None], 2)[..., 0]
        np.put_along_axis(squared, partner[..., None], np.inf, 2)
        second = squared.min(axis=2)
        return partner, np.isfinite(second) & (first < RATIO**2 * second)


def local_features(view: UInt8) -> tuple[Float32, UInt8]:
    """The strongest SIFT features of a view (H, W, 3): pixels (K, 2) and descriptors (K, 128), K <= MOST_FEATURES."""
    grey = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
    detector = cv2.SIFT.create(MOST_FEATURES, contrastThreshold=0.01)
    points, described = detector.detectAndCompute(grey, None)
    if described is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    # More than asked for come where several are equally strong.
    at = np.array([point.pt for point in points], np.float32)[:MOST_FEATURES]
    return at, described[:MOST_FEATURES].astype(np.uint8)


def _in_one_plane(first: Float32, second: Float32) -> int:
    """How many pairs of points (P, 2) one homography explains."""
    cv2.setRNGSeed(0)
    _, held = cv2.findHomography(first, second, cv2.USAC_FAST, REPROJECTION_PX, maxIters=500)
    return 0 if held is None else int(held.sum())


# How unlike the training images an image is, in a few figures that all grow with doubt.
#
# They decide both how large the covariance is and whether the pose is accepted at all.


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


def novelty_cues(found: PosePrediction, features: FeatureModel, memory: KeyframeFeatures) -> Float64:
    """The figures (5,) of DOUBTS, on scales on which their errors are even."""
    shift_m, turn_rad = (float(np.linalg.norm(part)) for part in np.split(found.spread, 2))
    return np.array([
        np.log(max(features.unlikeness(found.features), 1e-6)),
        np.log(max(shift_m, _LEAST_M)),
        np.log(max(turn_rad, _LEAST_RAD)),
        0.0 if np.isnan(found.realism) else -found.realism,
        -np.log1p(memory.found_again(found.features_view, found.T_map_cam)),
    ])  # fmt: skip


# What image_figures says: (what is too little, what is too much, factors by which it may lie beyond the training
# frames).
FIGURES = {
    "mean": ("too dark", "overexposed", 0.75, 1.3),
    "contrast": ("almost without contrast", "of too much contrast", 0.6, 1.6),
    "sharpness": ("blurred", "sharper than an image of the place", 0.6, 1.7),
}
TAIL = 0.005  # share of the training frames on each side that does not count


@dataclass(frozen=True, eq=False)
class Gate:
    """least, most: (3,) of image_figures among training frames. usual, spread: (5,) of the doubts among held-out
    frames.
    limit: of the score."""

    least: Float64
    most: Float64
    usual: Float64
    spread: Float64
    limit: float

    @classmethod
    def fit(cls, figures: Float64, doubts: Float64, true_accept: float) -> Gate:
        """Of image figures (N, 3) of training and held-out frames and doubts (M, 5) of held-out ones."""
        least, most = np.quantile(figures, (TAIL, 1 - TAIL), axis=0)
        usual, high = np.quantile(doubts, (0.5, 0.9), axis=0)
        gate = cls(least, most, usual, high - usual, np.inf)
        scores = np.array([gate.score(one) for one in doubts])
        return cls(least, most, usual, gate.spread, float(np.quantile(scores, true_accept, method="higher")))

    def look(self, figures: Float64) -> str:
        """What is wrong with an image of these figures (3,); empty when nothing is."""
        for value, least, most, (name, (low, high, shrink, grow)) in zip(
            figures, self.least, self.most, FIGURES.items(), strict=True
        ):
            what = low if value < shrink * least else high if value > grow * most else ""
            if what:
                return f"the image is {what}: {name} {value:.3g}, training frames {least:.3g} to {most:.3g}"
        return ""

    def score(self, doubts: Float64) -> float:
        """Of doubts (5,): 0 for an image without unusual ones."""
        return float(np.mean(self._excess(doubts)))

    def reason(self, doubts: Float64) -> str:
        """Why doubts (5,) are too many; empty when the score is within the limit."""
        score = self.score(doubts)
        if score <= self.limit:
            return ""
        largest = list(DOUBTS.values())[int(np.argmax(self._excess(doubts)))]
        return f"not like the place: {largest} (score {score:.2f}, limit {self.limit:.2f})"

    def _excess(self, doubts: Float64) -> Float64:
        varies = self.spread > 1e-9  # a doubt that is the same for all frames says nothing
        return np.where(varies, np.maximum(doubts - self.usual, 0.0) / np.where(varies, self.spread, 1.0), 0.0)
