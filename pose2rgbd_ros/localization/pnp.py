"""A camera's pose from points of the map and their pixels: robust start, refinement on its inliers, covariance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64
from pose2rgbd_ros.geometry.camera import Camera

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
    """(6, 6) of position (m) and rotation (rad) about the map's axes, from how the pixels of the points depend on
    them.
    """
    R_t = T_map_cam[:3, :3].T
    away = points_map - T_map_cam[:3, 3]
    x, y, z = (away @ R_t.T).T
    zero = np.zeros_like(z)
    by_point = np.stack(
        [camera.fx / z, zero, -camera.fx * x / z**2, zero, camera.fy / z, -camera.fy * y / z**2], axis=1
    ).reshape(-1, 2, 3)
    # A pose off by a position d and a turn w puts the point at R^T (away - d - w x away).
    crossed = np.zeros((len(away), 3, 3))
    crossed[:, [2, 0, 1], [1, 2, 0]], crossed[:, [1, 2, 0], [2, 0, 1]] = away, -away
    jacobian = (by_point @ R_t @ np.concatenate([np.broadcast_to(-np.eye(3), crossed.shape), crossed], axis=2)).reshape(
        -1, 6
    )
    scale = np.linalg.norm(jacobian, axis=0)  # metres and radians differ by the scene's size
    information = (jacobian / scale).T @ (jacobian / scale)
    sigma_px = max(rms_px / np.sqrt(2), LEAST_SIGMA_PX)
    result: Float64 = sigma_px**2 * np.linalg.pinv(information, hermitian=True) / np.outer(scale, scale)
    return result


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
