"""Alignment of a network that has no geometry inside: how its pictures change with the pose is found by rendering them.

What Base and Slice show is blurred and their depth rough, so a rendering moved by its depth is no good guess of the
rendering at the other pose. Here the derivatives are those of the network itself, by central differences: twelve renderings,
made anew when the pose has moved on; of a small network one takes about a millisecond.
"""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.localization.refine_normal import (
    LEAST_PIXELS,
    Alignment,
    System,
    block_of,
    descend,
    normal_equations,
)
from pose2rgbd_ros.localization.refine_views import Picture, Views

SHIFT_SHARE = 0.02  # of the usual depth: about a pixel of a small picture
TURN_RAD = np.radians(1.0)


def search(
    query: Picture, views: Views, T_map_cam: Float64, blur_px: float, iterations: int, distance_m: float
) -> Alignment | None:
    """Move the pose from `T_map_cam` until its rendering, smoothed by `blur_px` as the image is, agrees with the image."""
    seen = query.seen
    if seen.sum() < LEAST_PIXELS:
        return None
    image = _smooth(query.rgb, blur_px)[seen]
    rows, columns = np.nonzero(seen)
    block = block_of(rows, columns, *seen.shape)
    units = np.array([SHIFT_SHARE * distance_m] * 3 + [TURN_RAD] * 3)

    def shown(T_cam_map: Float64) -> Float32:
        return _smooth(views.memory(se3.inverse(T_cam_map), query.camera).rgb, blur_px)[seen]

    last: list[
        tuple[Float64, Float64]
    ] = []  # a pose and the derivatives there, which hold for some way around it

    def derivatives_near(T_cam_map: Float64) -> Float64:
        if not last or not _is_near(T_cam_map, last[0][0], units):
            made = np.empty((6, len(image), 3))
            for axis, step in enumerate(np.diag(units)):
                there, back = (shown(se3.exponential(sign * step) @ T_cam_map) for sign in (1.0, -1.0))
                made[axis] = (there - back) / (2 * units[axis])
            last[:] = [(T_cam_map, made)]
        return last[0][1]

    def system(T_cam_map: Float64) -> System:
        derivatives = derivatives_near(T_cam_map)

        def jacobian(channel: int, gain: float) -> Float64:
            return np.asarray(-gain * derivatives[..., channel].T)

        return normal_equations(image, shown(T_cam_map), jacobian, block, 1.0)

    return descend(system, T_map_cam, iterations, distance_m)


def _smooth(rgb: np.ndarray, blur_px: float) -> Float32:
    values = rgb.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(values, (0, 0), blur_px), np.float32) if blur_px > 0 else values


def _is_near(T_a: Float64, T_b: Float64, units: Float64) -> bool:
    """Whether two poses are less than two of the steps apart."""
    apart = T_a @ se3.inverse(T_b)
    turn = np.arccos(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1.0, 1.0))
    return bool(np.linalg.norm(apart[:3, 3]) < 2 * units[0] and turn < 2 * units[3])
