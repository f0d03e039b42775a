"""From matched pixels of the camera's image and of a rendering with depth to a pose: features for large errors, flow for small.

Each match is a pixel of the image and a point of the map; the pose comes from them by perspective-n-point in RANSAC
(Fischler and Bolles 1981) and from its inliers by Levenberg-Marquardt.
"""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64
from pose2rgbd_ros.localization import features
from pose2rgbd_ros.localization.refine_views import Memory, Picture

FEWEST = 10  # matches that agree with a pose
FEATURES = 600
FLOW_STEP = 4  # every fourth pixel both ways is a match


def by_features(query: Picture, memory: Memory, error_px: float, seed: int) -> Float64 | None:
    """The pose (4, 4) from local features, or None where too few agree."""
    # Twice as large: pictures of 128 pixels hold few features, and those are small.
    seen, shown = (features.extract(_doubled(rgb), FEATURES) for rgb in (query.rgb, memory.rgb))
    pairs = features.match(seen, shown)
    pixels = (seen.pixels[pairs[:, 0]] - 0.5) / 2
    remembered = (shown.pixels[pairs[:, 1]] - 0.5) / 2
    return _pose(query, memory, pixels, remembered, error_px, seed)


def by_flow(query: Picture, memory: Memory, error_px: float, seed: int) -> Float64 | None:
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
    query: Picture, memory: Memory, pixels: Float64, remembered: Float64, error_px: float, seed: int
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
    turn, shift = cv2.solvePnPRefineLM(
        points_cam[kept], pixels[kept], query.camera.K, np.zeros(4), turn, shift
    )
    T_query_memory = np.eye(4)
    T_query_memory[:3, :3], T_query_memory[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    if not np.isfinite(T_query_memory).all():
        return None
    found: Float64 = memory.T_map_cam @ se3.inverse(T_query_memory)
    return found


def _depth_at(memory: Memory, pixels: Float64) -> tuple[Float64, Bool]:
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
