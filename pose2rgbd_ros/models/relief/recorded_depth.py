"""Where rays end, by the depth that remembered frames recorded: finer than a volume's surface, and beyond the volume.

A volume tells about where a ray ends. Near there a recorded depth image is searched for the point at which the ray
meets it, as relief mapping searches a height field (Policarpo et al., 2005) and depth-image-based rendering warps
backwards: by fixed-point iteration. Colours are then looked up where they were recorded (memory.py), silhouettes are
the recorded ones, and far fields that no volume holds are shown by their frames. Frames that show what is behind a
point outvote one that has something there: what moved away does not come back.
"""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Int64
from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.memory import NEAR, VIEW

if HAS_NUMBA:
    from pose2rgbd_ros.models.relief.simd import pointer

# So many frames are asked of a ray, each in so many rounds at most.
REFINED_BY, ROUNDS = 3, 5
_SETTLED = np.float32(2e-3)  # share of the depth by which the last two rounds may differ
_SMOOTH = np.float32(0.02)  # share of it by which four pixels of one surface may, and what several frames say of one
_FACING = np.float32(0.2)  # cosine between a ray and a frame's optical axis, below which it is not looked up there
_BEFORE = np.float32(0.99)  # share of the depth up to which a surface lies before another
_BEHIND = np.float32(0.3)  # of the reach: a frame that shows what lies so far behind a surface does not see that
_FLOOR = np.float32(1e-3)  # of the reach: height above the volume's floor that is the floor
FARTHEST_PX = 3  # pixels around a silhouette in which what lies before is looked for
_AFAR = np.float32(1e5)  # where a ray begins that meets nothing

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NAN, _INFINITE = np.float32(np.nan), np.float32(np.inf)


def silhouette_px(cell_m: float, depth_m: float, focal_px: float) -> int:
    """How many pixels a volume's silhouettes may lie beside those recorded: a cell of it at a typical depth."""
    return int(np.clip(round(cell_m * focal_px / depth_m), 1, FARTHEST_PX))


def least_around(t: Float32, rows: Int64, columns: Int64, reach_px: int) -> Float32:
    """The least depth within reach_px of each pixel of a picture (H, W), of which t is NaN for none, near the pixels of
    its silhouettes (see memory.silhouettes), so many of which less one away at most; infinite elsewhere."""
    near = np.zeros(t.shape, np.uint8)
    near[rows, columns] = 1
    near = np.asarray(cv2.dilate(near, np.ones((2 * reach_px - 1,) * 2, np.uint8)))
    least = np.asarray(cv2.erode(np.nan_to_num(t, nan=np.inf), np.ones((2 * reach_px + 1,) * 2, np.uint8)))
    return np.where(near > 0, least, _INFINITE)


@compiled
def depth_images(view, ox, oy, oz):
    """What :func:`refined` reads of a memory.View for rays of one origin: pointers and sizes, taken out of arrays once,
    and the origin as each camera has it."""
    count, rows, columns = view.rgb.shape[:3]
    fx, fy, cx, cy = view.k
    scale = _ONE / np.float32(1 << view.shift)
    # A pixel of depth is as wide as several of the colours.
    k = fx * scale, fy * scale, (cx + _HALF) * scale - _HALF, (cy + _HALF) * scale - _HALF
    values, origins = pointer(view.values), np.empty((count, 3), np.float32)
    for number in range(count):
        for axis in range(3):
            at = number * VIEW + 4 * axis
            origins[number, axis] = values[at] * ox + values[at + 1] * oy + values[at + 2] * oz + values[at + 3]
    size = rows >> view.shift, columns >> view.shift
    return values, count, pointer(view.depth), size, k, view.depth_m, origins


@compiled
def refined(images, reach_m, ox, oy, oz, dx, dy, dz, t, near):
    """t of a ray, its direction per metre of depth, NaN if it is thought to meet nothing, by the depth that frames
    recorded; as it is where none of them has a surface on the ray within reach_m of it.

    images: of :func:`depth_images`. near: of :func:`least_around`; what lies before is looked for first, as a volume's
    silhouettes lie beside those that were recorded. Where the ray reaches the volume's floor, z = 0, or nothing,
    nothing is known of the place, and its end may be anywhere.
    """
    begin = _AFAR if np.isnan(t) else t
    behind_m = _BEHIND * reach_m
    if near < _BEFORE * begin:
        before = recorded_end(images, reach_m, behind_m, ox, oy, oz, dx, dy, dz, near)
        if not np.isnan(before):
            return before
    if np.isnan(t) or oz + t * dz < _FLOOR * reach_m:
        reach_m = _INFINITE
    end = recorded_end(images, reach_m, behind_m, ox, oy, oz, dx, dy, dz, begin)
    return t if np.isnan(end) else end


@compiled
def recorded_end(images, reach_m, behind_m, ox, oy, oz, dx, dy, dz, begin):
    """t within reach_m of where it begins at which a ray meets a surface that frames recorded; NaN: none did.

    A point of the ray is looked up in a frame, and moved along the ray to where it is as far from the frame as that
    recorded, until it stays. The first frame in which it does, and which the next one that shows the place does not
    contradict, decides; others that say the same are averaged with it.
    """
    found, agreed = _NAN, 0
    values, origins = images[0], images[6]
    for number in range(images[1]):
        at = number * VIEW
        step_z = values[at + 8] * dx + values[at + 9] * dy + values[at + 10] * dz
        if step_z <= _FACING:
            continue
        step_x = values[at] * dx + values[at + 1] * dy + values[at + 2] * dz
        step_y = values[at + 4] * dx + values[at + 5] * dy + values[at + 6] * dz
        ray = origins[number, 0], origins[number, 1], origins[number, 2], step_x, step_y, step_z
        if agreed > 0:
            end = looked_up(images, number, ray, found)
            if abs(end - found) <= _SMOOTH * found:
                agreed += 1
                found += (end - found) / np.float32(agreed)
                if agreed == REFINED_BY:
                    break
            continue
        end, before = begin, _NAN
        for _ in range(ROUNDS):
            before, end = end, looked_up(images, number, ray, end)
            if not abs(end - before) > _SETTLED * end:  # it stays, or is NaN
                break
        stays = abs(end - before) <= _SETTLED * end and abs(end - begin) <= reach_m
        if stays and not seen_through(images, number, behind_m, ox + end * dx, oy + end * dy, oz + end * dz):
            found, agreed = end, 1
    return found


@compiled
def looked_up(images, number, ray, t):
    """t at which a ray, its origin and direction as the camera of a frame has them, is as far as the frame recorded
    where it shows the ray's point at another t; NaN where it does not, or shows the sky."""
    _, _, depth, size, k, depth_m, _ = images
    rows, columns = size
    fx, fy, cx, cy = k
    from_x, from_y, from_z, step_x, step_y, step_z = ray
    zs = from_z + t * step_z
    if zs <= NEAR:
        return _NAN
    inverse = _ONE / zs
    us, vs = (from_x + t * step_x) * inverse * fx + cx, (from_y + t * step_y) * inverse * fy + cy
    if not (us > _ZERO and us < np.float32(columns - 1) and vs > _ZERO and vs < np.float32(rows - 1)):
        return _NAN
    u0, v0 = int(us), int(vs)
    fu, fv = us - np.float32(u0), vs - np.float32(v0)
    first = (number * rows + v0) * columns + u0
    a, b = np.float32(depth[first]), np.float32(depth[first + 1])
    c, d = np.float32(depth[first + columns]), np.float32(depth[first + columns + 1])
    least, most = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if least <= _ONE:  # the sky, or not known
        return _NAN
    if most - least > _SMOOTH * least:  # an edge: one of its sides, and nothing in between
        fu, fv = np.float32(fu > _HALF), np.float32(fv > _HALF)
    upper, lower = a + fu * (b - a), c + fu * (d - c)
    return (depth_m * (upper + fv * (lower - upper)) - from_z) / step_z


@compiled
def seen_through(images, but, behind_m, x, y, z):
    """Whether the first frame, but for one, that would show a point shows what lies more than behind_m behind it."""
    values, count, depth, size, k, depth_m, _ = images
    rows, columns = size
    fx, fy, cx, cy = k
    right, below = np.float32(columns) - _HALF, np.float32(rows) - _HALF
    for number in range(count):
        at = number * VIEW
        zs = values[at + 8] * x + values[at + 9] * y + values[at + 10] * z + values[at + 11]
        if number == but or zs <= NEAR:
            continue
        inverse = _ONE / zs
        us = (values[at] * x + values[at + 1] * y + values[at + 2] * z + values[at + 3]) * inverse * fx + cx
        vs = (values[at + 4] * x + values[at + 5] * y + values[at + 6] * z + values[at + 7]) * inverse * fy + cy
        if not (us > -_HALF and us < right and vs > -_HALF and vs < below):
            continue
        steps = depth[(number * rows + int(vs + _HALF)) * columns + int(us + _HALF)]
        if steps == 1:  # not known
            continue
        seen = depth_m * np.float32(steps)
        if steps == 0 or seen > zs + behind_m:
            return True
        if seen >= zs - behind_m:
            return False
    return False


@compiled
def refine(view, t, near, reach_m, eye, direction, found):
    """Fill found (N,) with the :func:`refined` t (N,), near (N,) of rays from the eye in directions (N, 3)."""
    ex, ey, ez = eye
    images = depth_images(view, ex, ey, ez)
    for n in range(len(t)):
        x, y, z = direction[n]
        found[n] = refined(images, reach_m, ex, ey, ez, x, y, z, t[n], near[n])
