"""A camera found by the training frame that looks most like its image, or between the few that do.

Frames are compared by VLAD (Jegou et al. 2010): what is left of each local feature after its nearest visual word,
summed by word. Sums of local features keep their likeness when the view moves; a picture made small, or its gradients
in cells, does
not: on lines of a flight 20 m away from the nearest frame of like heading these found a frame 75 m away, VLAD that one.
The paper's DenseVLAD is this on a dense grid and with a vocabulary learnt from other places; here the vocabulary is
learnt from the training frames, so nothing has to be downloaded.
"""

from __future__ import annotations

import functools
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
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.match import DIMENSIONS, Features, as_unit, extract_features, match_features, solve

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
        """See `PoseEstimator`. The score is 1 - likeness of the best frame; the camera is not looked at."""
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


# Structure-based localization: features of RGB-D frames, lifted by their depth, matched to an image; then PnP.
#
# The classical way, as Active Search stands for it in the paper's table; here the points are the training frames' own
# and no model is built from them. Needs metric depth and calibrated cameras.


_EDGE_SHARE = 0.1  # depth that changes so much from a pixel to the next is an edge: the feature may be on either side
_KEPT_FRAMES = 2000  # lifted features are 10 kB a frame


@dataclass(frozen=True)
class StructureSettings:
    """How an image is matched and when its pose is believed.

    shortlist: frames that are matched. threshold_px: an inlier's largest error. least_inliers: features of the image
    that must agree, each counted once; by chance some 6 of 400 wrong matches do. iterations, seed: of RANSAC.
    """

    shortlist: int = 15
    threshold_px: float = 3.0
    least_inliers: int = 15
    iterations: int = 3000
    seed: int = 0


class Structure:
    """Features and PnP on a dataset's training frames.

    Raises:
        UserError: frames without metric depth, or of an uncalibrated camera.
    """

    name = "structure"

    def __init__(self, index: FrameIndex, settings: StructureSettings | None = None) -> None:
        self.check(index.dataset)
        self.index, self.settings = index, settings or StructureSettings()
        self._lifted = functools.lru_cache(_KEPT_FRAMES)(self._lift)

    @staticmethod
    def check(dataset: Dataset) -> None:
        """UserError for a dataset this cannot be built from, before it is indexed."""
        if dataset.depth_kind != "metric" or not dataset.camera.is_calibrated:
            raise UserError(f"{dataset.path}: points of the map need metric depth and a calibrated camera")

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See `PoseEstimator`. The score is the share of `least_inliers` that is missing."""
        if not camera.is_calibrated:
            return Estimate(None, accepted=False, reason="the image's camera is not calibrated")
        features = self.index.extract(rgb)
        if len(features) < FEWEST_FEATURES:
            return Estimate(
                None, accepted=False, reason=f"the image has {len(features)} features; it is blank or blurred"
            )
        rows, points_map = self._correspondences(features)
        chosen = self.settings
        solved = solve(points_map, features.pixels[rows], camera, chosen.threshold_px, chosen.iterations, chosen.seed)
        if solved is None:
            return Estimate(None, accepted=False, reason=f"no pose agrees with the {len(rows)} matched features")
        agreeing = len(np.unique(rows[solved.inliers]))
        accepted = agreeing >= chosen.least_inliers
        return Estimate(
            solved.T_map_cam,
            solved.covariance,
            accepted,
            "" if accepted else f"{agreeing} features agree with the pose, {chosen.least_inliers} are needed",
            score=max(0.0, 1.0 - agreeing / chosen.least_inliers),
            limit=0.0,
        )

    def _correspondences(self, features: Features) -> tuple[np.ndarray, Float64]:
        """Which of the image's features (M,) may be which points of the map (M, 3); one may come several times."""
        places, _ = self.index.shortlist(self.index.describe(features), self.settings.shortlist)
        rows, points = [np.zeros(0, int)], [np.zeros((0, 3))]
        for place in places:
            pairs = match_features(features, self.index.features[place])
            found = self._lifted(int(place))[pairs[:, 1]]
            known = np.isfinite(found).all(axis=1)
            rows.append(pairs[known, 0])
            points.append(found[known])
        return np.concatenate(rows), np.concatenate(points)

    def _lift(self, place: int) -> Float64:
        """Points of the map (N, 3) under a frame's features; NaN where depth is unknown or has an edge."""
        dataset, camera = self.index.dataset, self.index.dataset.camera
        depth_m = dataset.depth(int(self.index.frames[place]))
        if depth_m.shape != (camera.height, camera.width):
            depth_m = resize_nearest(depth_m, camera.width, camera.height)
        pixels = self.index.features[place].pixels
        column, row = np.rint(pixels).astype(int).T
        around = np.stack(
            [
                depth_m[np.clip(row + down, 0, camera.height - 1), np.clip(column + right, 0, camera.width - 1)]
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
            ]
        )
        here = around[4].astype(np.float64)
        here[np.ptp(around, axis=0) > _EDGE_SHARE * here] = np.nan  # NaN in `around` stays NaN there, and is allowed
        points_cam = camera.unproject(pixels) * here[:, None]
        return se3.transform_points(self.index.T_map_cam[place], points_cam)
