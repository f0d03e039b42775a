"""A camera found by the training frame that looks most like its image, or between the few that do.

Frames are compared by VLAD (Jegou et al. 2010): what is left of each local feature after its nearest visual word,
summed by word. Sums of local features keep their likeness when the view moves; a picture made small, or its gradients
in cells, does
not: on lines of a flight 20 m away from the nearest frame of like heading these found a frame 75 m away, VLAD that one.
The paper's DenseVLAD is this on a dense grid and with a vocabulary learnt from other places; here the vocabulary is
learnt from the training frames, so nothing has to be downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import nnls
from tqdm import tqdm

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.match import DIMENSIONS, Features, as_unit, extract_features

FEWEST_FEATURES = 8  # an image with fewer is black, blurred or blank: nothing says where it is from
_SAMPLE = 30_000  # features that the vocabulary is learnt from
_QUIET_FRAMES = 200
_SUM_WEIGHT = 100.0  # how strictly the weights of an interpolation add up to 1


@dataclass(frozen=True)
class IndexSettings:
    """features: at most so many an image. words: of the vocabulary. seed: of the vocabulary."""

    features: int = 400
    words: int = 64
    seed: int = 0


class FrameIndex:
    """The features of a dataset's training frames, and which frames look like an image.

    Args:
        dataset: where the frames are.
        frames: (N,) indices of those that may be used.

    Raises:
        UserError: no frames, or none with features.
    """

    def __init__(self, dataset: Dataset, frames: Int64, settings: IndexSettings | None = None) -> None:
        self.dataset, self.frames = dataset, np.asarray(frames, np.int64)
        self.settings = settings or IndexSettings()
        if len(self.frames) == 0:
            raise UserError(f"{dataset.path}: no training frames to look images up in")
        shown = tqdm(self.frames, "features", unit="frame", disable=len(frames) < _QUIET_FRAMES or None, leave=False)
        self.features: list[Features] = [self.extract(dataset.rgb(int(index))) for index in shown]
        self.T_map_cam: Float64 = dataset.T_map_cam[self.frames]
        self._words = self._vocabulary()
        self._vlads: Float32 = np.stack([self.describe(each) for each in self.features])

    def extract(self, rgb: UInt8) -> Features:
        """The features of an image (H, W, 3) uint8, of the kind the frames have."""
        return extract_features(rgb, self.settings.features)

    def describe(self, features: Features) -> Float32:
        """VLAD (words * 128,) of an image's features: each word's part of length 1, then the whole."""
        parts = np.zeros_like(self._words)
        if len(features):
            local = as_unit(features.descriptors)
            nearest = ((self._words**2).sum(axis=1) - 2 * local @ self._words.T).argmin(axis=1)
            np.add.at(parts, nearest, local - self._words[nearest])
        parts /= np.maximum(np.linalg.norm(parts, axis=1, keepdims=True), 1e-9)
        return (parts / max(float(np.linalg.norm(parts)), 1e-9)).ravel().astype(np.float32)

    def shortlist(self, vlad: Float32, count: int) -> tuple[Int64, Float32]:
        """The `count` most alike frames as places in `frames`, best first, and their likeness -1..1."""
        likeness = self._vlads @ vlad
        best = np.argsort(-likeness, kind="stable")[:count]
        return best, likeness[best]

    def weights(self, vlad: Float32, places: Int64) -> Float64:
        """Shares (K,), summing to 1 and not negative, in which frames mix to the description of an image."""
        mixed = np.vstack([self._vlads[places].T, np.full(len(places), _SUM_WEIGHT)])
        target = np.append(vlad, _SUM_WEIGHT).astype(np.float64)
        found, _ = nnls(mixed.astype(np.float64), target, maxiter=100 * len(places))
        return np.asarray(found / found.sum())

    def _vocabulary(self) -> Float32:
        rng = np.random.default_rng(self.settings.seed)
        share = max(1, _SAMPLE // len(self.features))
        dealt = [each.descriptors[rng.permutation(len(each))[:share]] for each in self.features]
        sample = as_unit(np.concatenate(dealt))
        words = min(self.settings.words, len(sample) // 4)
        if words < 1:
            raise UserError(f"{self.dataset.path}: the training frames are blank, there is nothing to compare with")
        start = sample[rng.permutation(len(sample))[:words]]  # kmeans of OpenCV draws from a generator of its own
        labels = ((start**2).sum(axis=1) - 2 * sample @ start.T).argmin(axis=1).astype(np.int32)
        criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 15, 1e-4)
        _, _, centres = cv2.kmeans(sample, words, labels, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        return np.asarray(centres, np.float32).reshape(words, DIMENSIONS)


class Retrieval:
    """The pose of the most alike frame, or (`neighbours` above 1) one between the poses of the most alike ones.

    The mix is Torii et al.'s (2011), as in the rows "+ Inter" of the paper's table: the frames' descriptions are
    mixed to that of the image, and the poses in the same shares. That shares may not be negative is a reconstruction.
    """

    def __init__(self, index: FrameIndex, neighbours: int = 1) -> None:
        self.index, self.neighbours = index, neighbours
        self.name = "retrieval" if neighbours == 1 else "retrieval + interpolation"

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See `Finder`. The score is 1 - likeness of the best frame; the camera is not looked at."""
        features = self.index.extract(rgb)
        if len(features) < FEWEST_FEATURES:
            return Estimate(
                None, accepted=False, reason=f"the image has {len(features)} features; it is blank or blurred"
            )
        vlad = self.index.describe(features)
        places, likeness = self.index.shortlist(vlad, self.neighbours)
        T = self.index.T_map_cam[places]
        found = T[0] if self.neighbours == 1 else se3.mean(T, self.index.weights(vlad, places))
        return Estimate(found, score=1.0 - float(likeness[0]))
