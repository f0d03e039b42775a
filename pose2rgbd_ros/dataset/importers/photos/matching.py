"""Overlapping photographs matched by their features: how one lies in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.streams.alignment.flow import grey_file

_SIDE_PX = 640
_FEATURES = 1500
_NEIGHBOURS = 4
_FEWEST_INLIERS = 15
_RATIO = 0.8
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Match:
    """Photos `i` and `j` show the same ground. Where each one's middle lies in the other, (2,) in image widths from
    the middle, x right and y down; `turn_rad`: the direction to the right of j, seen in i, clockwise; `scale`: lengths in i
    over those in j of the same ground, which is the height of j over that of i."""

    i: int
    j: int
    j_in_i: Float64
    i_in_j: Float64
    turn_rad: float
    scale: float
    inliers: int


@dataclass(frozen=True, eq=False)
class _Features:
    points: Float64  # (M, 2) from the middle, in image widths
    descriptors: AnyArray  # (M, 32) ORB


def match_neighbours(paths: Sequence[Path], position_m: Float64, usable: AnyArray) -> list[Match]:
    """Match each photo of the indices `usable` with those taken nearest to it; about 70 kB of memory per photo."""
    if len(usable) < 2:
        return []
    features = {
        int(i): _features(paths[i])
        for i in tqdm(usable, desc="yaw check", unit="photo", leave=False, disable=None)
    }
    found = []
    for i, j in _pairs(position_m, usable):
        first, second = features[i], features[j]
        match = _match(i, j, first, second) if first and second else None
        if match:
            found.append(match)
    return found


def _features(path: Path) -> _Features | None:
    """ORB features of a photo made small; None when it cannot be read (the import says so)."""
    try:
        grey = grey_file(path.read_bytes(), _SIDE_PX)
    except (OSError, UserError):
        return None
    scale = _SIDE_PX / max(grey.shape)
    if scale < 1:
        size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    keypoints, descriptors = cv2.ORB.create(nfeatures=_FEATURES).detectAndCompute(grey, None)
    if descriptors is None or len(keypoints) < _FEWEST_INLIERS:
        return None
    height, width = grey.shape
    points = np.array([point.pt for point in keypoints]) - [(width - 1) / 2, (height - 1) / 2]
    return _Features(points / width, descriptors)


def _pairs(position_m: Float64, usable: AnyArray) -> list[tuple[int, int]]:
    count = min(_NEIGHBOURS + 1, len(usable))
    _, nearest = cKDTree(position_m[usable, :2]).query(position_m[usable, :2], k=count)
    pairs = {
        (min(int(usable[i]), int(usable[j])), max(int(usable[i]), int(usable[j])))
        for i, row in enumerate(np.asarray(nearest))
        for j in row
        if i != j
    }
    return sorted(pairs)


def _match(i: int, j: int, first: _Features, second: _Features) -> Match | None:
    """None unless enough features agree on one turn, shift and scale."""
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(good) < _FEWEST_INLIERS:
        return None
    a = first.points[[match.queryIdx for match in good]]
    b = second.points[[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's common generator
    found, inliers = cv2.estimateAffinePartial2D(b, a, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE)
    if found is None or inliers is None or inliers.sum() < _FEWEST_INLIERS:
        return None
    similarity: Float64 = np.array(found, dtype=np.float64)
    R, shift = similarity[:, :2], similarity[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(R))))
    if not 0.5 < scale < 2.0:
        return None
    turn = float(np.arctan2(R[1, 0], R[0, 0]))
    middle: Float64 = np.array(-np.linalg.solve(R, shift), dtype=np.float64)
    return Match(i, j, shift, middle, turn, scale, int(inliers.sum()))
