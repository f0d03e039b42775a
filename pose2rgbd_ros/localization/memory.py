"""What some training frames looked like, as a few local features each: is the image of what lies near the pose?

A regressor answers for every image. Features of the image that are found again, in one plane's arrangement, in training
frames about the answered pose speak for both the place and the pose; another place, alike in style, has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8

SIDE_PX = 128  # of the views that features are taken from, whatever the network's size
MOST_FRAMES, MOST_FEATURES = 600, 100
NEAR_FRAMES, CHECKED_FRAMES = 16, 3
FEWEST_MATCHES = 6
RATIO = 0.85  # of the best to the second best distance
REPROJECTION_PX = 5.0  # a plane through a city is a rough plane
METRES_PER_RADIAN = 30.0  # when frames near a pose are looked for


@dataclass(frozen=True, eq=False)
class Memory:
    """T_map_cam (M, 4, 4) of the frames; points (M, K, 2) float32 pixels; descriptors (M, K, 128) uint8; count (M,) how
    many of the K are there."""

    T_map_cam: Float64
    points: Float32
    descriptors: UInt8
    count: np.ndarray

    @classmethod
    def of(cls, views: Iterable[UInt8], T_map_cam: Float64) -> Memory:
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
