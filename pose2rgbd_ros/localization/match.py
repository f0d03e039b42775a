"""From matched pixels of the camera's image and of a rendering with depth to a pose: features for large errors, flow
for small.

Each match is a pixel of the image and a point of the map; the pose comes from them by perspective-n-point in RANSAC
(Fischler and Bolles 1981) and from its inliers by Levenberg-Marquardt.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, UInt8
from pose2rgbd_ros.localization.views import Picture, RenderedMemory

# Local features of images: SIFT keypoints and square-rooted descriptors (Lowe 2004; Arandjelovic and
# Zisserman 2012).


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


def extract_features(rgb: UInt8, count: int) -> Features:
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


def match_features(query: Features, other: Features) -> np.ndarray:
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


FEWEST = 10  # matches that agree with a pose
FEATURES = 600
FLOW_STEP = 4  # every fourth pixel both ways is a match


def match_by_features(query: Picture, memory: RenderedMemory, error_px: float, seed: int) -> Float64 | None:
    """The pose (4, 4) from local features, or None where too few agree."""
    # Twice as large: pictures of 128 pixels hold few features, and those are small.
    seen, shown = (extract_features(_doubled(rgb), FEATURES) for rgb in (query.rgb, memory.rgb))
    pairs = match_features(seen, shown)
    pixels = (seen.pixels[pairs[:, 0]] - 0.5) / 2
    remembered = (shown.pixels[pairs[:, 1]] - 0.5) / 2
    return _pose(query, memory, pixels, remembered, error_px, seed)


def match_by_flow(query: Picture, memory: RenderedMemory, error_px: float, seed: int) -> Float64 | None:
    """The pose from dense optical flow (Kroeger et al. 2016, DIS), forward and back where both agree."""
    seen, shown = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (query.rgb, memory.rgb))
    seen = np.asarray(_like(seen, shown), np.uint8)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    there = np.asarray(flow.calc(shown, seen, np.empty(0, np.float32)))
    back = np.asarray(flow.calc(seen, shown, np.empty(0, np.float32)))
    height, width = shown.shape
    v, u = np.mgrid[FLOW_STEP // 2 : height : FLOW_STEP, FLOW_STEP // 2 : width : FLOW_STEP]
    remembered = np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64)
    moved = there[v, u].reshape(-1, 2)
    pixels = remembered + moved
    returned = cv2.remap(
        back, pixels[:, :1].astype(np.float32), pixels[:, 1:].astype(np.float32), cv2.INTER_LINEAR
    ).reshape(-1, 2)
    agree = np.linalg.norm(moved + returned, axis=1) < error_px
    return _pose(query, memory, pixels[agree], remembered[agree], error_px, seed)


def _pose(
    query: Picture, memory: RenderedMemory, pixels: Float64, remembered: Float64, error_px: float, seed: int
) -> Float64 | None:
    """From pixels (N, 2) of the query and of the rendering."""
    depth_m, known = _depth_at(memory, remembered)
    inside = known & _seen_at(query, pixels)
    if inside.sum() < FEWEST:
        return None
    pixels, depth_m = pixels[inside], depth_m[inside]
    points_cam = memory.camera.unproject(remembered[inside]) * depth_m[:, None]
    # About the rendering's camera: map coordinates may be large.
    cv2.setRNGSeed(seed)
    done, turn, shift, inliers = cv2.solvePnPRansac(
        points_cam, pixels, query.camera.K, np.zeros(4), iterationsCount=200, reprojectionError=error_px,
        confidence=0.999, flags=cv2.SOLVEPNP_SQPNP,
    )  # fmt: skip
    if not done or inliers is None or len(inliers) < FEWEST:
        return None
    kept = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points_cam[kept], pixels[kept], query.camera.K, np.zeros(4), turn, shift)
    T_query_memory = np.eye(4)
    T_query_memory[:3, :3], T_query_memory[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    if not np.isfinite(T_query_memory).all():
        return None
    found: Float64 = memory.T_map_cam @ se3.inverse(T_query_memory)
    return found


def _depth_at(memory: RenderedMemory, pixels: Float64) -> tuple[Float64, Bool]:
    """Depth at the nearest pixel, and whether it is known."""
    height, width = memory.depth_m.shape
    u = np.clip(np.rint(pixels[:, 0]).astype(int), 0, width - 1)
    v = np.clip(np.rint(pixels[:, 1]).astype(int), 0, height - 1)
    depth_m = memory.depth_m[v, u].astype(np.float64)
    return depth_m, np.isfinite(depth_m) & (depth_m > 0)


def _seen_at(query: Picture, pixels: Float64) -> Bool:
    height, width = query.seen.shape
    whole = np.rint(pixels).astype(int)
    inside = ((whole >= 0) & (whole < (width, height))).all(axis=1)
    u, v = np.clip(whole, 0, (width - 1, height - 1)).T
    found: Bool = inside & query.seen[v, u]
    return found


def _doubled(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def _like(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The image with the mean and contrast of the other."""
    gain = other.std() / max(float(image.std()), 1.0)
    return np.clip((image - image.mean()) * gain + other.mean(), 0, 255)
