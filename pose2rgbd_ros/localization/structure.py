"""Structure-based localization: features of RGB-D frames, lifted by their depth, matched to an image; then PnP.

The classical way, as Active Search stands for it in the paper's table; here the points are the training frames' own
and no model is built from them. Needs metric depth and calibrated cameras.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.localization import pnp
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.match import Features, match_features
from pose2rgbd_ros.localization.retrieval import FEWEST_FEATURES, FrameIndex

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
        """See `Finder`. The score is the share of `least_inliers` that is missing."""
        if not camera.is_calibrated:
            return Estimate(None, accepted=False, reason="the image's camera is not calibrated")
        features = self.index.extract(rgb)
        if len(features) < FEWEST_FEATURES:
            return Estimate(
                None, accepted=False, reason=f"the image has {len(features)} features; it is blank or blurred"
            )
        rows, points_map = self._correspondences(features)
        chosen = self.settings
        solved = pnp.solve(
            points_map, features.pixels[rows], camera, chosen.threshold_px, chosen.iterations, chosen.seed
        )
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
        """Which of the image's features (M,) may be which points of the map (M, 3); a feature may come several
        times.
        """
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
