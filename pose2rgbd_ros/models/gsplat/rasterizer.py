"""Splats drawn on a CPU, for looking at them where there is no GPU; nothing is learnt through it.

After Zwicker et al., "EWA splatting" (2001), and Kerbl et al., "3D Gaussian Splatting" (2023), with the constants of
the latter's implementations: a splat's covariance is taken to the picture by the local affine map, 0.3 px² are added,
what covers less than 1/255 is left out, and splats are blended front to back until less than 1e-4 of the light is left.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.models.backends import compiled

Float32 = NDArray[np.float32]
NEAR_M = 0.01
BLUR_PX2 = 0.3
LEAST_ALPHA, MOST_ALPHA, LEAST_LIGHT = 1.0 / 255.0, 0.999, 1e-4
BEYOND_VIEW = 1.3  # tangents of the view's corners, times this: the affine map of what lies farther out is taken there


class Splats(NamedTuple):
    """N splats: means (N, 3), quats_wxyz (N, 4) of any length, scales (N, 3), opacities (N,) in 0..1, and spherical
    harmonics sh (N, K, 3) of K = 1, 4, 9 or 16; float32.
    """

    means: Float32
    quats_wxyz: Float32
    scales: Float32
    opacities: Float32
    sh: Float32


def rasterize(
    splats: Splats, T_cam_map: NDArray[np.float64], intrinsics: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[Float32, Float32, Float32]:
    """Colour (H, W, 3) before any background, mean depth (H, W) along the optical axis of what stops the light (0 where
    nothing does), and the share of light that is stopped (H, W).

    Args:
        T_cam_map: (4, 4), to the camera from where the means are.
        intrinsics: fx, fy, cx, cy; the first pixel has its centre at (0, 0).
        size: width and height.
    """
    width, height = size
    seen = _project(*splats, T_cam_map.astype(np.float64), *map(float, intrinsics), width, height)
    order = np.argsort(seen[:, _Z], kind="stable")
    rgb, depth = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    light = np.ones((height, width), np.float32)
    _blend(seen[order], rgb, depth, light)
    stopped = 1.0 - light
    return rgb, depth / np.maximum(stopped, np.float32(1e-10)), stopped


# Columns of a projected splat: depth, centre, the inverse of its covariance (xx, xy, yy), half width and height of what
# it covers, opacity, colour.
_Z, _U, _V, _A, _B, _C, _RU, _RV, _OPACITY, _R, _G, _BLUE, _COLUMNS = range(13)


@compiled
def _project(
    means: Any, quats: Any, scales: Any, opacities: Any, sh: Any, T: Any,
    fx: float, fy: float, cx: float, cy: float, width: int, height: int,
) -> Any:  # fmt: skip
    """Those of the splats that cover something of the picture, a row each."""
    found = np.empty((len(means), _COLUMNS), np.float32)
    count = 0
    eye = -(T[0, :3] * T[0, 3] + T[1, :3] * T[1, 3] + T[2, :3] * T[2, 3])
    most_x = BEYOND_VIEW * max(cx + 0.5, width - 0.5 - cx) / fx
    most_y = BEYOND_VIEW * max(cy + 0.5, height - 0.5 - cy) / fy
    M = np.empty((2, 3))
    for i in range(len(means)):
        px, py, pz = float(means[i, 0]), float(means[i, 1]), float(means[i, 2])
        z = T[2, 0] * px + T[2, 1] * py + T[2, 2] * pz + T[2, 3]
        opacity = float(opacities[i])
        if z <= NEAR_M or opacity < LEAST_ALPHA:
            continue
        x = (T[0, 0] * px + T[0, 1] * py + T[0, 2] * pz + T[0, 3]) / z
        y = (T[1, 0] * px + T[1, 1] * py + T[1, 2] * pz + T[1, 3]) / z
        at_x, at_y = min(max(x, -most_x), most_x), min(max(y, -most_y), most_y)
        for k in range(3):  # the affine map at the mean, times the rotation of the view
            M[0, k] = fx / z * (T[0, k] - at_x * T[2, k])
            M[1, k] = fy / z * (T[1, k] - at_y * T[2, k])
        w, a, b, c = float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])
        n = 2.0 / max(w * w + a * a + b * b + c * c, 1e-30)
        xx, xy, yy = BLUR_PX2, 0.0, BLUR_PX2
        for k in range(3):  # the axes of the splat, seen in the picture
            if k == 0:
                r0, r1, r2 = 1 - n * (b * b + c * c), n * (a * b + w * c), n * (a * c - w * b)
            elif k == 1:
                r0, r1, r2 = n * (a * b - w * c), 1 - n * (a * a + c * c), n * (b * c + w * a)
            else:
                r0, r1, r2 = n * (a * c + w * b), n * (b * c - w * a), 1 - n * (a * a + b * b)
            s = float(scales[i, k])
            u = s * (M[0, 0] * r0 + M[0, 1] * r1 + M[0, 2] * r2)
            v = s * (M[1, 0] * r0 + M[1, 1] * r1 + M[1, 2] * r2)
            xx, xy, yy = xx + u * u, xy + u * v, yy + v * v
        determinant = xx * yy - xy * xy
        # Where the splat still covers LEAST_ALPHA is an ellipse; these are half its width and height.
        reach = 2.0 * math.log(opacity / LEAST_ALPHA)
        half_u, half_v = math.sqrt(reach * xx), math.sqrt(reach * yy)
        u, v = fx * x + cx, fy * y + cy
        outside = u + half_u < 0 or v + half_v < 0 or u - half_u > width - 1 or v - half_v > height - 1
        if outside or not determinant > 0:  # also NaN
            continue
        row = found[count]
        count += 1
        row[_Z], row[_U], row[_V], row[_OPACITY] = z, u, v, opacity
        row[_A], row[_B], row[_C] = yy / determinant, -xy / determinant, xx / determinant
        row[_RU], row[_RV] = half_u, half_v
        dx, dy, dz = px - eye[0], py - eye[1], pz - eye[2]
        length = max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
        _colour(sh[i], dx / length, dy / length, dz / length, row)
    return found[:count]


@compiled
def _colour(sh: Any, x: float, y: float, z: float, row: Any) -> None:
    """Real spherical harmonics up to degree 3 in the direction from the eye to the splat; never below 0."""
    count = len(sh)
    for k in range(3):
        value = 0.5 + 0.28209479177387814 * sh[0, k]
        if count > 1:
            value += 0.4886025119029199 * (-y * sh[1, k] + z * sh[2, k] - x * sh[3, k])
        if count > 4:
            value += 1.0925484305920792 * (x * y * sh[4, k] - y * z * sh[5, k] - x * z * sh[7, k])
            value += 0.31539156525252005 * (2 * z * z - x * x - y * y) * sh[6, k]
            value += 0.5462742152960396 * (x * x - y * y) * sh[8, k]
        if count > 9:
            value += -0.5900435899266435 * y * (3 * x * x - y * y) * sh[9, k]
            value += 2.890611442640554 * x * y * z * sh[10, k]
            value += -0.4570457994644658 * y * (4 * z * z - x * x - y * y) * sh[11, k]
            value += 0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y) * sh[12, k]
            value += -0.4570457994644658 * x * (4 * z * z - x * x - y * y) * sh[13, k]
            value += 1.445305721320277 * z * (x * x - y * y) * sh[14, k]
            value += -0.5900435899266435 * x * (x * x - 3 * y * y) * sh[15, k]
        row[_R + k] = max(value, 0.0)


@compiled
def _blend(seen: Any, rgb: Any, depth: Any, light: Any) -> None:
    """Splats, the nearest first, onto pixels: each takes its share of the light that is left."""
    height, width = light.shape
    open_pixels = height * width
    for i in range(len(seen)):
        row = seen[i]
        a, b, c, opacity, z = row[_A], row[_B], row[_C], row[_OPACITY], row[_Z]
        for v in range(max(0, math.ceil(row[_V] - row[_RV])), min(height - 1, math.floor(row[_V] + row[_RV])) + 1):
            dv = np.float32(v) - row[_V]
            for u in range(max(0, math.ceil(row[_U] - row[_RU])), min(width - 1, math.floor(row[_U] + row[_RU])) + 1):
                left = light[v, u]
                if left <= LEAST_LIGHT:
                    continue
                du = np.float32(u) - row[_U]
                power = np.float32(0.5) * (a * du * du + c * dv * dv) + b * du * dv
                alpha = min(np.float32(MOST_ALPHA), opacity * math.exp(-power))
                if power < 0 or alpha < LEAST_ALPHA:
                    continue
                weight = alpha * left
                rgb[v, u, 0] += weight * row[_R]
                rgb[v, u, 1] += weight * row[_G]
                rgb[v, u, 2] += weight * row[_BLUE]
                depth[v, u] += weight * z
                light[v, u] = left - weight
                if left - weight <= LEAST_LIGHT:
                    open_pixels -= 1
        if open_pixels == 0:
            return
