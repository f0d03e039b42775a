"""The inner loops of warping, compiled by Numba for the CPU: meshes of depth, fusion of depth, blending of colour.

Depth is float32 along the optical axis and 0 where unknown in here. A camera is float32 (4,): fx, fy, cx, cy, an ideal
pinhole. `T_to_from` are float32 (4, 4).

Not `depth_from_images.inverse_warp`, which looks one image up by known depth: here the target's depth is unknown at
first and drawn forward from the frames' meshes, and every pixel of every frame is weighed by how well it fits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Colour for pixels that have none, drawn in from those around (pull-push; Gortler et al., "The Lumigraph",
# 1996).


def fill_holes(image: NDArray[np.float32], known: NDArray[np.bool_]) -> bool:
    """Fill the pixels of `image` (H, W, C) that are not `known` (H, W), in place; True: none was known, nothing done.

    Each level of a pyramid is half as large, its pixels the mean of the known ones among four; a hole takes the
    colour of the finest level that has one, interpolated between neighbours.
    """
    if known.all():
        return False
    if not known.any():
        return True
    if min(image.shape[:2]) > 1:
        smaller, smaller_known = _halved(image, known)
        fill_holes(smaller, smaller_known)
        larger = _doubled(smaller, image.shape[:2])
    else:
        larger = np.broadcast_to(image[known].mean(axis=0), image.shape)
    image[~known] = larger[~known]
    return False


def _halved(image: NDArray[np.float32], known: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    height, width = known.shape
    pad = ((0, height % 2), (0, width % 2))
    weight = np.pad(known.astype(np.float32), pad)
    total = np.pad(np.where(known[..., None], image, 0), (*pad, (0, 0)))
    blocks = weight.shape[0] // 2, 2, weight.shape[1] // 2, 2
    count = weight.reshape(blocks).sum(axis=(1, 3))
    mean = total.reshape(*blocks, -1).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
    return mean.astype(np.float32), count > 0


def _doubled(image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bilinear, twice as large, cut to `shape`."""
    for axis in (0, 1):
        size = image.shape[axis]
        place = (np.arange(2 * size) + 0.5) / 2 - 0.5
        low = np.clip(np.floor(place), 0, size - 1).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)
        share = share.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image[: shape[0], : shape[1]]


def _compiled(function: Any) -> Any:
    """Compiled at the first call, and kept on disk where a folder allows."""
    # No sums are reordered beyond what a fused multiply-add does, so the same build gives the same picture.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        return njit(**options)(function)


NEAR = 1e-3  # nothing nearer the camera's plane is drawn
# Cosine between a surface and the ray to the frame's camera: what is more edge-on is as likely the rubber sheet that
# joins a roof to the street behind it as a wall. Sheets are used only where no frame knows better.
SOLID_COSINE = 0.15


@_compiled
def draw_mesh(depth, source, T_tgt_src, target, z_out, cosine_out):
    """Depth of one frame seen from the target: its pixels are vertices, neighbours are joined by triangles.

    Args:
        depth: (h, w) of the frame.
        z_out, cosine_out: (H, W) filled here: depth in the target, 0 where the frame shows nothing, and how squarely
            the frame saw that surface (1 facing it, 0 edge-on). A solid surface wins over a sheet, then the nearer.
    """
    height, width = depth.shape
    corner = np.empty((2, width, 7), np.float32)  # two rows of vertices: u, v, z in the target; x, y, z in the frame
    z_out[:] = 0
    cosine_out[:] = 0
    for row in range(height):
        line = corner[row % 2]
        for column in range(width):
            d = depth[row, column]
            x, y = (column - source[2]) / source[0] * d, (row - source[3]) / source[1] * d
            z = T_tgt_src[2, 0] * x + T_tgt_src[2, 1] * y + T_tgt_src[2, 2] * d + T_tgt_src[2, 3]
            vertex = line[column]
            vertex[6] = 1.0 if d > 0 and z > NEAR else 0.0
            if vertex[6] == 0:
                continue
            x_tgt = T_tgt_src[0, 0] * x + T_tgt_src[0, 1] * y + T_tgt_src[0, 2] * d + T_tgt_src[0, 3]
            y_tgt = T_tgt_src[1, 0] * x + T_tgt_src[1, 1] * y + T_tgt_src[1, 2] * d + T_tgt_src[1, 3]
            vertex[0], vertex[1] = x_tgt / z * target[0] + target[2], y_tgt / z * target[1] + target[3]
            vertex[2], vertex[3], vertex[4], vertex[5] = z, x, y, d
        if row == 0:
            continue
        above = corner[(row - 1) % 2]
        for column in range(width - 1):
            a, b, c, d4 = above[column], above[column + 1], line[column], line[column + 1]
            known = a[6] + b[6] + c[6] + d4[6]
            if known < 3:
                continue
            # Cut along the flatter diagonal, or away from the vertex that is unknown. Corners in the frame's winding.
            if (known == 4 and abs(a[5] - d4[5]) <= abs(b[5] - c[5])) or b[6] == 0 or c[6] == 0:
                if b[6] > 0:
                    _draw_triangle(a, b, d4, z_out, cosine_out)
                if c[6] > 0:
                    _draw_triangle(a, d4, c, z_out, cosine_out)
            else:
                if a[6] > 0:
                    _draw_triangle(a, b, c, z_out, cosine_out)
                if d4[6] > 0:
                    _draw_triangle(b, d4, c, z_out, cosine_out)


@_compiled
def _draw_triangle(a, b, c, z_out, cosine_out):
    """One triangle into the z-buffer, unless it is seen from behind."""
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if not area > 1e-9:
        return
    height, width = z_out.shape
    u0, u1 = max(math.ceil(min(a[0], b[0], c[0])), 0), min(math.floor(max(a[0], b[0], c[0])), width - 1)
    v0, v1 = max(math.ceil(min(a[1], b[1], c[1])), 0), min(math.floor(max(a[1], b[1], c[1])), height - 1)
    if u0 > u1 or v0 > v1:
        return
    cosine = _cosine(a, b, c)
    solid = cosine >= SOLID_COSINE
    inverse = 1 / area
    ia, ib, ic = inverse / a[2], inverse / b[2], inverse / c[2]
    for v in range(v0, v1 + 1):
        for u in range(u0, u1 + 1):
            wa = (b[0] - u) * (c[1] - v) - (b[1] - v) * (c[0] - u)
            wb = (c[0] - u) * (a[1] - v) - (c[1] - v) * (a[0] - u)
            wc = (a[0] - u) * (b[1] - v) - (a[1] - v) * (b[0] - u)
            if wa < 0 or wb < 0 or wc < 0:
                continue
            z = 1 / (wa * ia + wb * ib + wc * ic)  # 1/z is linear in the picture
            before = z_out[v, u]
            before_solid = cosine_out[v, u] >= SOLID_COSINE
            if before == 0 or (solid and not before_solid) or (solid == before_solid and z < before):
                z_out[v, u], cosine_out[v, u] = z, cosine


@_compiled
def _cosine(a, b, c):
    """Between the triangle's normal and the ray from the frame's camera to it."""
    px, py, pz = b[3] - a[3], b[4] - a[4], b[5] - a[5]
    qx, qy, qz = c[3] - a[3], c[4] - a[4], c[5] - a[5]
    nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
    rx, ry, rz = a[3] + b[3] + c[3], a[4] + b[4] + c[4], a[5] + b[5] + c[5]
    squared = (nx * nx + ny * ny + nz * nz) * (rx * rx + ry * ry + rz * rz)
    return abs(nx * rx + ny * ry + nz * rz) / math.sqrt(max(squared, 1e-30))


@_compiled
def fuse_depth(z, cosine, centres, target, spread, significant, angle, sharp, depth_out):
    """One depth a pixel from those of N frames: the nearest surface with enough frames behind it.

    Where no frame shows a solid surface, each sheet says only that the way to it is free: the farthest is taken.

    Args:
        z, cosine: (N, H, W) of `draw_mesh`.
        centres: (N, 3) the frames' cameras in the target.
        spread: relative difference at which two depths stop supporting each other.
        significant: share of the best support that a nearer surface needs to hide it.
        angle: radians between the two views of a surface at which a frame's say falls to 1 / e.
    """
    count, height, width = z.shape
    weight = np.empty(count, np.float32)
    support = np.empty(count, np.float32)
    for v in range(height):
        for u in range(width):
            farthest, solids = np.float32(0), 0
            for i in range(count):
                if z[i, v, u] > 0:
                    farthest = max(farthest, z[i, v, u])
                    solids += cosine[i, v, u] >= SOLID_COSINE
            depth_out[v, u] = farthest
            if solids == 0:
                continue
            x, y = (u - target[2]) / target[0], (v - target[3]) / target[1]
            for i in range(count):
                d, c = z[i, v, u], cosine[i, v, u]
                weight[i] = 0
                if d > 0 and c >= SOLID_COSINE:
                    dx, dy, dz = x * d - centres[i, 0], y * d - centres[i, 1], d - centres[i, 2]
                    near = (x * x + y * y + 1) * d * d / max(dx * dx + dy * dy + dz * dz, 1e-12)
                    say = math.exp(-_squared_angle(x * d, y * d, d, centres[i]) / (angle * angle))
                    weight[i] = c * say * min(near, np.float32(1)) ** (0.5 * sharp) + 1e-6
            best = np.float32(0)
            for i in range(count):
                support[i] = 0
                if weight[i] > 0:
                    for j in range(count):
                        if weight[j] > 0:
                            off = (z[j, v, u] / z[i, v, u] - 1) / spread
                            support[i] += weight[j] / (1 + off * off * off * off)
                    best = max(best, support[i])
            chosen = -1
            for i in range(count):
                if weight[i] > 0 and support[i] >= significant * best and (chosen < 0 or z[i, v, u] < z[chosen, v, u]):
                    chosen = i
            total, mean = np.float32(0), np.float32(0)
            if chosen >= 0:
                for j in range(count):
                    if weight[j] > 0:
                        off = (z[j, v, u] / z[chosen, v, u] - 1) / spread
                        share = weight[j] / (1 + off * off * off * off) if abs(off) < 2 else np.float32(0)
                        total += share
                        mean += share * z[j, v, u]
            depth_out[v, u] = mean / total


@_compiled
def _squared_angle(x, y, z, centre):
    """Square of the angle (rad) at a point between the ways to the target's camera (the origin) and to `centre`."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    dot = x * dx + y * dy + z * dz
    lengths = math.sqrt((x * x + y * y + z * z) * (dx * dx + dy * dy + dz * dz))
    return math.acos(min(max(dot / max(lengths, 1e-20), -1.0), 1.0)) ** 2


@_compiled
def blend_colour(
    depth, rgb, frame_depth, source, T_src_tgt, centres, target, tolerance, angle, power, sharp, rgb_out, weight_out
):
    """Colour of every pixel from the frames that see its surface.

    Args:
        depth: (H, W) of the target, 0 unknown: there only frames that know no depth in that direction count (sky).
        rgb, frame_depth: (N, h, w, 3) uint8 and (N, h, w).
        T_src_tgt, centres: (N, 4, 4), and the frames' cameras (N, 3) in the target.
        tolerance: relative difference of depth within which a frame's pixel shows that surface.
        angle, power: a frame's say is (angle^2 / (angle^2 + a^2))^power at a radians between the views.
        sharp: power of the ratio of the distances by which a frame farther away than the target says less.
        rgb_out, weight_out: (H, W, 3) in 0..255 and (H, W); weight 0 where no frame shows the pixel.
    """
    count, rows, columns = frame_depth.shape
    height, width = depth.shape
    for v in range(height):
        for u in range(width):
            d = depth[v, u]
            far = d == 0
            scale = np.float32(1.0) if far else d
            x, y, z = (u - target[2]) / target[0] * scale, (v - target[3]) / target[1] * scale, scale
            total = np.float32(0)
            r, g, b = np.float32(0), np.float32(0), np.float32(0)
            for i in range(count):
                T = T_src_tgt[i]
                shift = np.float32(0) if far else np.float32(1)  # at infinity only the direction matters
                xs = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3] * shift
                ys = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3] * shift
                zs = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3] * shift
                if zs <= NEAR:
                    continue
                us, vs = xs / zs * source[0] + source[2], ys / zs * source[1] + source[3]
                if not (us > -0.5 and us < columns - 0.5 and vs > -0.5 and vs < rows - 0.5):
                    continue
                say = np.float32(1)
                if not far:
                    a2 = _squared_angle(x, y, z, centres[i])
                    say = (angle * angle / (angle * angle + a2)) ** power
                    # A frame farther away blurs; nearer than the target it is not better.
                    say *= min(d / zs, np.float32(1)) ** sharp
                rim = min(min(us + 0.5, columns - 0.5 - us) / columns, min(vs + 0.5, rows - 0.5 - vs) / rows)
                say *= min(rim * 20 + 0.05, 1.0)  # faded out at the rim, so that no seam shows
                u0, v0 = math.floor(us), math.floor(vs)
                for dv in range(2):
                    for du in range(2):
                        ui, vi = min(max(u0 + du, 0), columns - 1), min(max(v0 + dv, 0), rows - 1)
                        share = (1 - abs(us - (u0 + du))) * (1 - abs(vs - (v0 + dv))) * say
                        known = frame_depth[i, vi, ui]
                        if far:
                            if known > 0:
                                continue
                        else:
                            off = abs(known / zs - 1) / tolerance if known > 0 else np.float32(10)
                            # What fails the test keeps a trace of a say, for where no frame passes it.
                            share *= np.float32(1) if off < 1 else np.float32(1e-4) / (off * off)
                        total += share
                        r += share * rgb[i, vi, ui, 0]
                        g += share * rgb[i, vi, ui, 1]
                        b += share * rgb[i, vi, ui, 2]
            weight_out[v, u] = total
            inverse = 1 / total if total > 0 else np.float32(0)
            rgb_out[v, u, 0], rgb_out[v, u, 1], rgb_out[v, u, 2] = r * inverse, g * inverse, b * inverse
