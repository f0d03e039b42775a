"""Direct alignment: the pose at which a rendering with depth, moved there, looks most like the camera's image.

Gauss-Newton on SE(3) over the differences of brightness (Lucas and Kanade 1981; Baker and Matthews 2004), with the mean
of both pictures' gradients (Malis 2004, "efficient second-order minimisation").
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.localization.refine_normal import (
    LEAST_PIXELS,
    Alignment,
    System,
    block_of,
    descend,
    normal_equations,
    total,
)
from pose2rgbd_ros.localization.refine_views import Memory, Picture


def align(
    query: Picture, memories: Sequence[Memory], T_map_cam: Float64, iterations: int
) -> Alignment | None:
    """Move the query camera from `T_map_cam` until its image agrees with the renderings, moved there by their depth.

    Each rendering has a say of its own, so what one shows wrongly the others correct; one that does not overlap enough
    with the image has none. None where none does, or nothing says where the camera is.
    """
    pairs = [_Pair(query, memory) for memory in memories]

    def system_at(T_cam_map: Float64) -> System | None:
        return total([system for pair in pairs if (system := pair.system(T_cam_map)) is not None])

    return descend(system_at, T_map_cam, iterations, pairs[0].distance_m)


class _Pair:
    """What does not change from step to step."""

    def __init__(self, query: Picture, memory: Memory) -> None:
        known = np.isfinite(memory.depth_m) & (memory.depth_m > 0)
        self._camera = query.camera
        height, width = known.shape
        points_cam = (memory.camera.rays() * memory.depth_m[..., None])[known]
        self._points_map = se3.transform_points(memory.T_map_cam, points_cam)
        self.distance_m = float(np.median(points_cam[:, 2])) if len(points_cam) else 1.0
        values = memory.rgb.astype(np.float32)
        self._memory = values[known]
        self._gradient = [part[known] for part in _gradients(values)]
        image = query.rgb.astype(np.float32)
        self._query = (image, *_gradients(image))
        self._seen = query.seen.astype(np.float32)
        rows, columns = np.nonzero(known)
        self._block = block_of(rows, columns, height, width)
        self._size = height * width

    def system(self, T_cam_map: Float64) -> System | None:
        points = se3.transform_points(T_cam_map, self._points_map)
        pixels, inside = self._project(points)
        if inside.sum() < LEAST_PIXELS:
            return None
        points, pixels = points[inside], pixels[inside]
        image, du, dv = (_look_up(part, pixels) for part in self._query)
        shown_du, shown_dv = (part[inside] for part in self._gradient)
        along_u, along_v = _motion(points, self._camera.fx, self._camera.fy)

        def jacobian(channel: int, gain: float) -> Float64:
            gu = 0.5 * (du[:, channel] + gain * shown_du[:, channel])
            gv = 0.5 * (dv[:, channel] + gain * shown_dv[:, channel])
            J: Float64 = gu[:, None] * along_u + gv[:, None] * along_v
            return J

        used = len(points) / self._size
        return normal_equations(image, self._memory[inside], jacobian, self._block[inside], used)

    def _project(self, points: Float64) -> tuple[Float32, Bool]:
        camera, z = self._camera, np.maximum(points[:, 2], 1e-6)
        u = camera.fx * points[:, 0] / z + camera.cx
        v = camera.fy * points[:, 1] / z + camera.cy
        inside = (
            (points[:, 2] > 0.1) & (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1)
        )
        pixels = np.stack([u, v], axis=1).astype(np.float32)
        inside[inside] = _look_up(self._seen, pixels[inside]) > 0.99
        return pixels, inside


def _look_up(image: Float32, pixels: Float32) -> Float32:
    """Values (N[, C]) at pixels (N, 2)."""
    count = len(pixels)
    if count == 0:
        return np.zeros((0, *image.shape[2:]), np.float32)
    rows = -(-count // 1024)  # OpenCV refuses maps of more than 32767 rows or columns
    padded = np.zeros((rows * 1024, 2), np.float32)
    padded[:count] = pixels
    u, v = (np.ascontiguousarray(axis.reshape(rows, 1024)) for axis in padded.T)
    found = cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).reshape(rows * 1024, *image.shape[2:])[:count]


def _gradients(image: Float32) -> tuple[Float32, Float32]:
    """Derivatives to the right and down, levels per pixel (Scharr)."""
    return tuple(  # type: ignore[return-value]
        np.asarray(cv2.Scharr(image, cv2.CV_32F, *way, scale=1 / 32, borderType=cv2.BORDER_REPLICATE))
        for way in ((1, 0), (0, 1))
    )


def _motion(points: Float64, fx: float, fy: float) -> tuple[Float64, Float64]:
    """How a pixel's u and v move (N, 6) with a twist of the points: shift, then turn."""
    x, y, z = points.T
    zero = np.zeros_like(z)
    along_u = np.stack(
        [fx / z, zero, -fx * x / z**2, -fx * x * y / z**2, fx * (1 + x**2 / z**2), -fx * y / z], axis=1
    )
    along_v = np.stack(
        [zero, fy / z, -fy * y / z**2, -fy * (1 + y**2 / z**2), fy * x * y / z**2, fy * x / z], axis=1
    )
    return along_u, along_v
