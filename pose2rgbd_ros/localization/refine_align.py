"""Direct alignment: the pose at which a rendering with depth, moved there, looks most like the camera's image.

Gauss-Newton on SE(3) over the differences of brightness (Lucas and Kanade 1981; Baker and Matthews 2004), with the mean
of both pictures' gradients (Malis 2004, "efficient second-order minimisation"). Gain and offset of every colour channel
are unknowns too, eliminated by their Schur complement: exposure and white balance do not matter. Differences far above
the usual one are weighed down (Huber 1964), so movers and what the rendering shows wrongly pull little.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.localization.refine_views import Memory, Picture

HUBER = 1.345
LEAST_PIXELS = 40
_BLOCKS = 8  # per side; differences are alike within a block, so a block counts as one observation


@dataclass(frozen=True, eq=False)
class Alignment:
    """T_map_cam: (4, 4). covariance: (6, 6) as in Estimate. used: share of the picture's pixels. spread: of their
    differences, in levels. step: the last one, in standard errors."""

    T_map_cam: Float64
    covariance: Float64
    used: float
    spread: float


@dataclass(frozen=True, eq=False)
class _System:
    """Normal equations of a twist of the query camera: H step = -g; by blocks of the picture for the covariance."""

    H: Float64
    g: Float64
    scores: Float64
    cost: float
    used: float
    spread: float


def align(query: Picture, memory: Memory, T_map_cam: Float64, iterations: int) -> Alignment | None:
    """Move the query camera from `T_map_cam` until the two pictures agree.

    None where they do not overlap enough, or nothing in them says where the camera is.
    """
    pair = _Pair(query, memory)
    T_cam_map = se3.inverse(T_map_cam)
    system = pair.system(T_cam_map)
    damping = 1e-3
    for _ in range(iterations):
        if system is None:
            return None
        step = _solve(system, damping)
        if step is None:
            return None
        moved = se3.exponential(step) @ T_cam_map
        tried = pair.system(moved)
        if tried is not None and tried.cost <= system.cost * (1 + 1e-6):
            T_cam_map, system, damping = moved, tried, damping / 3
            if np.linalg.norm(step[:3]) < 1e-3 * pair.distance_m and np.linalg.norm(step[3:]) < 2e-4:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    if system is None:
        return None
    found = se3.inverse(T_cam_map)
    covariance = _covariance(system, found[:3, :3])
    return None if covariance is None else Alignment(found, covariance, system.used, system.spread)


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
        self._block = (rows * _BLOCKS // height) * _BLOCKS + columns * _BLOCKS // width
        self._size = height * width

    def system(self, T_cam_map: Float64) -> _System | None:
        points = se3.transform_points(T_cam_map, self._points_map)
        pixels, inside = self._project(points)
        if inside.sum() < LEAST_PIXELS:
            return None
        points, pixels = points[inside], pixels[inside]
        image, du, dv = (_look_up(part, pixels) for part in self._query)
        memory, block = self._memory[inside], self._block[inside]
        gradient_u, gradient_v = (part[inside] for part in self._gradient)
        along_u, along_v = _motion(points, self._camera.fx, self._camera.fy)
        H, g = np.zeros((6, 6)), np.zeros(6)
        scores = np.zeros((_BLOCKS * _BLOCKS, 6))
        cost = spread = 0.0
        for channel in range(3):
            levels, remembered = image[:, channel], memory[:, channel]
            gain, offset, weight, sigma = _photometric(levels, remembered)
            difference = levels - gain * remembered - offset
            gu = 0.5 * (du[:, channel] + gain * gradient_u[:, channel])
            gv = 0.5 * (dv[:, channel] + gain * gradient_v[:, channel])
            J = gu[:, None] * along_u + gv[:, None] * along_v
            light = np.stack([remembered, np.ones_like(remembered)], axis=1)
            weighted = weight[:, None] * light
            # What gain and offset could explain is taken out of J: the Schur complement of the two.
            J = J - light @ np.linalg.lstsq(weighted.T @ light, weighted.T @ J, rcond=None)[0]
            weight = weight / max(sigma, 0.5) ** 2
            per_pixel = (weight * difference)[:, None] * J
            H += (weight[:, None] * J).T @ J
            g += per_pixel.sum(axis=0)
            scores += np.stack([np.bincount(block, column, _BLOCKS**2) for column in per_pixel.T], axis=1)
            # The share of the difference that is unexplained: pictures that overlap less do not win by it.
            cost += float((weight * difference**2).mean() * max(sigma, 0.5) ** 2) / max(
                float(levels.var()), 1.0
            )
            spread += sigma / 3
        return _System(H, g, scores, cost, len(points) / self._size, spread)

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


def _photometric(levels: Float32, remembered: Float32) -> tuple[float, float, Float32, float]:
    """Gain and offset from memory to image, robust weights of the pixels, and the spread of the differences."""
    weight = np.ones_like(levels)
    gain, offset, sigma = 1.0, 0.0, 1.0
    for _ in range(3):
        total = weight.sum()
        mean, other = (weight * remembered).sum() / total, (weight * levels).sum() / total
        centred = remembered - mean
        gain = float((weight * centred * (levels - other)).sum() / max((weight * centred**2).sum(), 1e-6))
        gain = min(max(gain, 0.2), 5.0)
        offset = float(other - gain * mean)
        size = np.abs(levels - gain * remembered - offset)
        sigma = max(1.4826 * float(np.median(size)), 0.5)
        weight = np.minimum(1.0, HUBER * sigma / np.maximum(size, 1e-6)).astype(np.float32)
    return gain, offset, weight, sigma


def _solve(system: _System, damping: float) -> Float64 | None:
    """The damped step (Levenberg 1944; Marquardt 1963)."""
    try:
        step = -np.linalg.solve(system.H + damping * np.diag(np.diag(system.H)), system.g)
    except np.linalg.LinAlgError:
        return None
    return step if np.isfinite(step).all() else None


def _covariance(system: _System, R_map_cam: Float64) -> Float64 | None:
    """From the normal equations and the differences, about the map's axes.

    Neighbouring differences are alike, so pixels are no independent observations: the spread of the blocks' pulls takes
    the place of that of the pixels' differences (Liang and Zeger 1986, the "sandwich").
    """
    try:
        inverse = np.linalg.inv(system.H)
    except np.linalg.LinAlgError:
        return None
    covariance = inverse @ (system.scores.T @ system.scores) @ inverse
    turn = np.kron(np.eye(2), R_map_cam)
    covariance = turn @ covariance @ turn.T
    if not np.isfinite(covariance).all():
        return None
    return np.asarray(0.5 * (covariance + covariance.T))
