"""From OpenCV's camera to OpenGL's clip space, and what of a scene lies in it."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float64
from pose2rgbd_ros.geometry.camera import Camera

NEAR_M = 0.3


def clip_from_camera(camera: Camera, far_m: float, near_m: float = NEAR_M) -> Float64:
    """(4, 4): points of the optical frame to clip coordinates; w is the depth along the optical axis.

    Image row 0 is OpenGL's row 0, its bottom one, so that buffers are read without turning them over; triangles change
    their sense of rotation by it. Pixel centres at integers are OpenGL's at halves.
    """
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * camera.fx / camera.width, 2 * (camera.cx + 0.5) / camera.width - 1
    matrix[1, 1], matrix[1, 2] = 2 * camera.fy / camera.height, 2 * (camera.cy + 0.5) / camera.height - 1
    matrix[2, 2] = (far_m + near_m) / (far_m - near_m)
    matrix[2, 3] = -2 * far_m * near_m / (far_m - near_m)
    matrix[3, 2] = 1.0
    return matrix


def boxes_in_view(clip_from_map: Float64, low_m: Float64, high_m: Float64) -> Bool:
    """Which of the axis-aligned boxes (N, 3), (N, 3) may be seen: (N,); False only for those that surely are not."""
    planes = clip_from_map[3] + np.concatenate([clip_from_map[:3], -clip_from_map[:3]])  # (6, 4), inside >= 0
    centre, half = (low_m + high_m) / 2, (high_m - low_m) / 2
    reach = centre @ planes[:, :3].T + planes[:, 3] + half @ np.abs(planes[:, :3]).T
    return np.asarray((reach >= 0).all(axis=1))
