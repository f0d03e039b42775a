"""Local features of images: SIFT keypoints and square-rooted descriptors (Lowe 2004; Arandjelovic and Zisserman 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8

LONGEST_PX = 480  # larger images are shrunk first: more pixels cost time and find no more places
CONTRAST = 0.01  # a quarter of OpenCV's default: small pictures of far ground are pale
MATCH_RATIO = 0.85  # best to second best distance; Lowe's 0.8 leaves too few matches in pictures of 144 px
DIMENSIONS = 128


@dataclass(frozen=True, eq=False)
class Features:
    """pixels: (N, 2) as (u, v) of the image given. descriptors: (N, 128) uint8, roots of SIFT's, 255 being 1."""

    pixels: Float64
    descriptors: UInt8

    def __len__(self) -> int:
        return len(self.pixels)


def extract(rgb: UInt8, count: int) -> Features:
    """At most `count` of the strongest features of an image (H, W, 3) uint8, one per place and direction."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    shrunk = min(1.0, LONGEST_PX / max(height, width))
    if shrunk < 1.0:
        grey = cv2.resize(grey, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=CONTRAST)
    keypoints, found = sift.detectAndCompute(grey, np.empty(0, np.uint8))
    if not keypoints:
        return Features(np.zeros((0, 2)), np.zeros((0, DIMENSIONS), np.uint8))
    scale = np.array([width / grey.shape[1], height / grey.shape[0]])
    pixels = (np.array([point.pt for point in keypoints]) + 0.5) * scale - 0.5
    sums = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
    return Features(pixels[:count], np.rint(255 * np.sqrt(found / sums)).astype(np.uint8)[:count])


def as_unit(descriptors: UInt8) -> Float32:
    """Descriptors (N, 128) as vectors of length about 1."""
    return np.asarray(descriptors, np.float32) / np.float32(255)


def match(query: Features, other: Features) -> np.ndarray:
    """Pairs (M, 2) of indices: mutual best matches that are clearly better than the second best."""
    if len(query) < 2 or len(other) < 2:
        return np.zeros((0, 2), int)
    likeness = as_unit(query.descriptors) @ as_unit(other.descriptors).T
    best = likeness.argmax(axis=1)
    rows = np.arange(len(query))
    mutual = likeness.argmax(axis=0)[best] == rows
    top = likeness[rows, best].copy()
    likeness[rows, best] = -1.0
    first, second = (np.sqrt(np.maximum(2 - 2 * cosine, 0)) for cosine in (top, likeness.max(axis=1)))
    kept = np.flatnonzero(mutual & (first < MATCH_RATIO * second))
    return np.stack([kept, best[kept]], axis=1)
