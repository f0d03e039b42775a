"""From matched pixels of an image and of a rendering or frame with depth to a pose: features for large errors, flow for
small.

Each match is a pixel of the image and a point of the map; the pose comes from them by perspective-n-point in RANSAC
(Fischler and Bolles 1981) and from its inliers by Levenberg-Marquardt.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.views import Picture, RenderedMemory

# Local features of images: SIFT keypoints and square-rooted descriptors (Lowe 2004; Arandjelovic and Zisserman 2012).


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


# The pose of a camera from points of the map and their pixels: robust start, refinement on its inliers, covariance.


FEWEST_POINTS = 6
LEAST_SIGMA_PX = 0.5  # matches are no better than this, however well a few of them agree
_CONFIDENCE = 0.9999
_ROUNDS = 3  # refinement and choice of inliers in turn


@dataclass(frozen=True, eq=False)
class Solved:
    """T_map_cam (4, 4), which points agree with it (N,), covariance (6, 6) as in `Estimate`, root mean square in
    pixels.
    """

    T_map_cam: Float64
    inliers: Bool
    covariance: Float64
    rms_px: float


def solve(
    points_map: Float64, pixels: Float64, camera: Camera, threshold_px: float, iterations: int, seed: int
) -> Solved | None:
    """P3P in RANSAC (MAGSAC++ scores), then least squares on the inliers; None where nothing agrees.

    Args:
        points_map: (N, 3) metres.
        pixels: (N, 2) of a calibrated camera, distorted or not.
        threshold_px: an inlier's largest distance between pixel and projection, in the undistorted image.
    """
    pixels = _undistorted(pixels, camera)
    usable = np.asarray(np.isfinite(pixels).all(axis=1) & np.isfinite(points_map).all(axis=1))
    if usable.sum() < FEWEST_POINTS:
        return None
    points, seen = np.ascontiguousarray(points_map[usable]), np.ascontiguousarray(pixels[usable])
    centre = np.median(points, axis=0)  # small numbers keep their digits
    found = _ransac(points - centre, seen, camera, threshold_px, iterations, seed)
    if found is None:
        return None
    rotation, translation, inside = found
    for _ in range(_ROUNDS):
        if inside.sum() < FEWEST_POINTS:
            return None
        refined = cv2.solvePnPRefineLM(points[inside] - centre, seen[inside], camera.K, None, rotation, translation)
        rotation, translation = (np.asarray(part, np.float64) for part in refined)
        error = _errors_px(points - centre, seen, camera, rotation, translation)
        inside = np.asarray(error < threshold_px)
    T_cam_map = np.eye(4)
    T_cam_map[:3, :3], T_cam_map[:3, 3] = cv2.Rodrigues(rotation)[0], translation.ravel()
    T_map_cam = se3.inverse(T_cam_map)
    T_map_cam[:3, 3] += centre
    if inside.sum() < FEWEST_POINTS or not np.isfinite(T_map_cam).all():
        return None
    inliers = np.zeros(len(points_map), np.bool_)
    inliers[np.flatnonzero(usable)[inside]] = True
    rms_px = float(np.sqrt(np.mean(error[inside] ** 2)))
    return Solved(T_map_cam, inliers, covariance(T_map_cam, points[inside], camera, rms_px), rms_px)


def covariance(T_map_cam: Float64, points_map: Float64, camera: Camera, rms_px: float) -> Float64:
    """(6, 6) of position (m) and rotation (rad) about the map's axes, from how pixels of the points depend on them."""
    R_t = T_map_cam[:3, :3].T
    x, y, z = ((points_map - T_map_cam[:3, 3]) @ R_t.T).T
    jacobian = np.concatenate(pixel_motion(x / z, y / z, z, camera)) @ np.kron(np.eye(2), R_t)
    scale = np.linalg.norm(jacobian, axis=0)  # metres and radians differ by the scene's size
    information = (jacobian / scale).T @ (jacobian / scale)
    sigma_px = max(rms_px / np.sqrt(2), LEAST_SIGMA_PX)
    result: Float64 = sigma_px**2 * np.linalg.pinv(information, hermitian=True) / np.outer(scale, scale)
    return result


def pixel_motion(x: Float64, y: Float64, z: Float64, camera: Camera) -> tuple[Float64, Float64]:
    """How u and v of points (x, y, 1) * z, each (N,), move (N, 6) with a twist of the points: shift, then turn."""
    zero, fx, fy = np.zeros_like(z), camera.fx, camera.fy
    along_u = np.stack([fx / z, zero, -fx * x / z, -fx * x * y, fx * (1 + x**2), -fx * y], axis=1)
    along_v = np.stack([zero, fy / z, -fy * y / z, -fy * (1 + y**2), fy * x * y, fy * x], axis=1)
    return along_u, along_v


def _ransac(
    points: Float64, pixels: Float64, camera: Camera, threshold_px: float, iterations: int, seed: int
) -> tuple[Float64, Float64, Bool] | None:
    settings = cv2.UsacParams()
    settings.threshold, settings.confidence, settings.maxIterations = threshold_px, _CONFIDENCE, iterations
    settings.randomGeneratorState = seed
    settings.score, settings.sampler = cv2.SCORE_METHOD_MAGSAC, cv2.SAMPLING_UNIFORM
    settings.loMethod, settings.loIterations = cv2.LOCAL_OPTIM_INNER_LO, 10
    try:
        answer = cv2.solvePnPRansac(points, pixels, camera.K.copy(), np.zeros(4), params=settings)
    except cv2.error:  # no three points that give a pose
        return None
    is_found, _, rotation, translation, inliers = answer
    if not is_found or inliers is None or len(inliers) < FEWEST_POINTS:
        return None
    inside = np.zeros(len(points), bool)
    inside[np.asarray(inliers).ravel()] = True
    return np.asarray(rotation, np.float64), np.asarray(translation, np.float64), inside


def _errors_px(points: Float64, pixels: Float64, camera: Camera, rotation: Float64, translation: Float64) -> Float64:
    """(N,) infinite for points behind the camera."""
    at_camera = points @ cv2.Rodrigues(rotation)[0].T + translation.ravel()
    depth = np.where(at_camera[:, 2] > 0, at_camera[:, 2], np.nan)
    projected = at_camera[:, :2] / depth[:, None] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    return np.nan_to_num(np.linalg.norm(projected - pixels, axis=1), nan=np.inf)


def _undistorted(pixels: Float64, camera: Camera) -> Float64:
    """The pixels as the same camera would see them without its lens's distortion; NaN beyond its field."""
    return camera.unproject(pixels)[:, :2] * (camera.fx, camera.fy) + (camera.cx, camera.cy)


# The pose of an image from one rendering.


_FAST_ITERATIONS = 200  # of RANSAC: most matches are right
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
    height, width = memory.depth_m.shape
    u, v = np.clip(np.rint(remembered).astype(int), 0, (width - 1, height - 1)).T
    depth_m = memory.depth_m[v, u].astype(np.float64)
    height, width = query.seen.shape
    whole = np.rint(pixels).astype(int)
    inside = np.isfinite(depth_m) & (depth_m > 0) & ((whole >= 0) & (whole < (width, height))).all(axis=1)
    u, v = np.clip(whole, 0, (width - 1, height - 1)).T
    inside &= query.seen[v, u]
    if inside.sum() < FEWEST:
        return None
    # About the rendering's camera: map coordinates may be large.
    points = memory.camera.unproject(remembered[inside]) * depth_m[inside, None]
    solved = solve(points, pixels[inside], query.camera, error_px, _FAST_ITERATIONS, seed)
    if solved is None or solved.inliers.sum() < FEWEST:
        return None
    found: Float64 = memory.T_map_cam @ solved.T_map_cam
    return found


def _doubled(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def _like(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The image with the mean and contrast of the other."""
    gain = other.std() / max(float(image.std()), 1.0)
    return np.clip((image - image.mean()) * gain + other.mean(), 0, 255)
