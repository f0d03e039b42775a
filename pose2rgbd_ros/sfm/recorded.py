"""What else was recorded, against a map of structure from motion: poses that came whole, and measured depth.

Poses of odometry or TF have no mount that is only assumed and no GPS: their attitudes are good, they drift, and they
may be better than what few images say. Measured depth gives the map its size.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.certainty import slope
from pose2rgbd_ros.sfm.reconstruct import SparseMap

WHOLE = ("pose", "tf")  # sources of positions whose attitudes come along
MOST_POINTS = 3000  # that judge recorded poses
MOST_ERROR_PX = 20.0
LEAST_FRAMES, LEAST_POINTS = 3, 20  # with measured depth, each with so many points
LEAST_SCALE_SIGMA = 0.003  # cameras that measure depth are not calibrated better
_ROUNDS, _DAMPING = 8, 1e-3


def is_whole(poses: PosesMeta | None) -> bool:
    """Whether positions and attitudes are of one source that needs neither GPS nor an assumed mount."""
    return poses is not None and poses.position in WHOLE


def errors_px(recorded: Dataset, found: SparseMap) -> tuple[float, float]:
    """How far features are from where points are seen (median): with recorded poses and camera, and with the map's."""
    points = np.unique(found.seen_point)
    points = points[:: max(1, len(points) // MOST_POINTS)]
    which = np.flatnonzero(np.isin(found.seen_point, points))
    frame, point = found.seen_frame[which], np.searchsorted(points, found.seen_point[which])
    seen_px, start = found.seen_px[which], found.points[points]
    own = found.T_sfm_cam[np.searchsorted(found.frames, frame)]
    before = _fitted_error_px(recorded.camera, recorded.T_map_cam[frame], start, point, seen_px)
    return before, _fitted_error_px(found.camera, own, start, point, seen_px)


def _fitted_error_px(camera: Camera, T_map_cam: Float64, start: Float64, point: Int64, seen_px: Float64) -> float:
    """Median error of features (M, 2) of points, which are first moved to where they fit best (Gauss, Newton)."""
    points, T_cam_map = start.copy(), se3.inverse(T_map_cam)
    R = T_cam_map[:, :3, :3]
    for _ in range(_ROUNDS):
        p, error_px, good = _look(camera, T_cam_map, points[point], seen_px)
        slopes = np.stack([slope(camera.project, p, axis) for axis in range(3)], axis=-1) @ R
        slopes[~good] = error_px[~good] = 0.0
        matrix, side = np.zeros((len(points), 3, 3)), np.zeros((len(points), 3))
        np.add.at(matrix, point, np.einsum("nij,nik->njk", slopes, slopes))
        np.add.at(side, point, np.einsum("nij,ni->nj", slopes, error_px))
        matrix += np.eye(3) * (_DAMPING * np.trace(matrix, axis1=1, axis2=2)[:, None, None] + 1e-12)
        points -= np.linalg.solve(matrix, side[:, :, None])[:, :, 0]
    _, error_px, good = _look(camera, T_cam_map, points[point], seen_px)
    return float(np.median(np.where(good, np.linalg.norm(error_px, axis=1), np.inf)))


def _look(camera: Camera, T_cam_map: Float64, points: Float64, seen_px: Float64) -> tuple[Float64, Float64, Bool]:
    """Points (M, 3) in their cameras, how far they are from where they are seen, and which of them count."""
    p = (T_cam_map[:, :3, :3] @ points[:, :, None])[:, :, 0] + T_cam_map[:, :3, 3]
    error_px = camera.project(p) - seen_px
    return p, error_px, np.asarray(np.linalg.norm(error_px, axis=1) < MOST_ERROR_PX)


def depth_ratio(recorded: Dataset, found: SparseMap) -> tuple[float, float] | None:
    """Measured depth over that of the map's points, and its sigma as a share; None without enough of it."""
    if recorded.depth_kind != "metric" or (recorded.meta.depth is not None and recorded.meta.depth.made):
        return None
    ratios = []
    for i, frame in enumerate(found.frames.tolist()):
        which = found.seen_by(frame)
        p = se3.transform_points(se3.inverse(found.T_sfm_cam[i]), found.points[found.seen_point[which]])
        depth_m = recorded.depth(frame)
        scale = np.array(depth_m.shape[::-1]) / (recorded.camera.width, recorded.camera.height)
        column, row = np.rint((found.seen_px[which] + 0.5) * scale - 0.5).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < depth_m.shape[1]) & (row < depth_m.shape[0]) & (p[:, 2] > 0)
        ratio = depth_m[row[inside], column[inside]] / p[inside, 2]
        ratio = ratio[np.isfinite(ratio)]
        if len(ratio) >= LEAST_POINTS:
            ratios.append(float(np.median(ratio)))
    if len(ratios) < LEAST_FRAMES:
        return None
    middle = float(np.median(ratios))
    spread = 1.4826 * float(np.median(np.abs(np.log(np.array(ratios) / middle))))
    return middle, float(np.hypot(spread / np.sqrt(len(ratios)), LEAST_SCALE_SIGMA))


def sized(found: SparseMap, factor: float) -> SparseMap:
    """The map made larger about the middle of its cameras."""
    T_map_cam, middle = found.T_sfm_cam.copy(), found.T_sfm_cam[:, :3, 3].mean(axis=0)
    T_map_cam[:, :3, 3] = middle + factor * (T_map_cam[:, :3, 3] - middle)
    return replace(found, T_sfm_cam=T_map_cam, points=middle + factor * (found.points - middle))
