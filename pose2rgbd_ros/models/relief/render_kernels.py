"""Relief without autograd: per pixel the ray and the features where it meets something, in passes over a few rows.

The march between them is in kernels.py. The arithmetic is that of models/relief; only the order of some sums differs.
`s` is the shader's unshuffle: its input is (C s s, ceil(H / s), ceil(W / s)), channel (c s + row) s + column of a
patch, patches beyond the image repeating its edge.
"""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.models.backends import compiled
from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS, EXTRA_CHANNELS, FULL_TEXELS, NONE_TEXELS
from pose2rgbd_ros.models.relief.kernels import cell

_ZERO, _HALF, _ONE, _NAN = np.float32(0), np.float32(0.5), np.float32(1), np.float32(np.nan)
_NONE, _FADE = np.float32(NONE_TEXELS), np.float32(NONE_TEXELS - FULL_TEXELS)
_PI, _LEAST, _MOST = np.float32(np.pi), np.float32(1e-3), np.float32(1e3)
_TINY, _WHITE = np.float32(1e-12), np.float32(255)
_EXTRA, _DIRECT = EXTRA_CHANNELS, DIRECT_CHANNELS


@compiled
def direct_rows(T_grid_cam, rays, start, stop, direction):
    """Rows start..stop of rays (H, W, 2), x and y at z = 1, in grid units: direction (H, W, 3) float32."""
    T = T_grid_cam
    for y in range(start, stop):
        for x in range(rays.shape[1]):
            ray_x, ray_y = rays[y, x, 0], rays[y, x, 1]
            for axis in range(3):
                direction[y, x, axis] = np.float32(T[axis, 0] * ray_x + T[axis, 1] * ray_y + T[axis, 2])


@compiled
def look_up_rows(
    tables, origin, direction, found, focal_px, depth_scale_m, s, start, stop, shader_input, depth_m, sure
):
    """Rows start..stop of the shader's input (C s s, h, w), and what is known of their pixels before the shader.

    origin (1, 3), direction (H, W, 3) in grid units and found (5, H W) are those of the march. Fills depth_m (H, W),
    NaN where nothing is met or the place was never seen, and sure (H, W), the confidence.
    """
    # Arrays are taken out of `tables` once, and nothing called for a pixel makes a view of one: each would be counted,
    # which costs more than the arithmetic of a pixel.
    shape, seen, sky_shape, coarse_shape = (tables.logits.shape, tables.seen, tables.sky.shape, tables.coarse.shape)
    maps, starts, shapes, texel_m = tables.maps, tables.starts, tables.shapes, tables.texel_m
    coarse, sky = tables.coarse.reshape(-1, coarse_shape[3]), tables.sky.reshape(-1, sky_shape[2])
    coarse_step_m = tables.coarse_step_m
    step_x, step_y, step_z = tables.step_m
    ox, oy, oz = origin[0, 0] * step_x, origin[0, 1] * step_y, origin[0, 2] * step_z
    channels, extra = maps.shape[1], maps.shape[1] + coarse.shape[1]
    height, width, _ = direction.shape
    count, columns = extra + _EXTRA, shader_input.shape[2]
    row = np.empty((width, count), np.float32)
    for across in range(start * s, stop * s):
        patch, inner, y = across // s, across % s, min(across, height - 1)
        for x in range(width):
            dx, dy, dz = (direction[y, x, 0] * step_x, direction[y, x, 1] * step_y, direction[y, x, 2] * step_z)
            pixel = y * width + x
            t, rise = found[0, pixel], found[4, pixel] - found[3, pixel]
            if not np.isfinite(dx + dy + dz):
                dx = dy = dz = _ZERO
            length = max(np.sqrt(dx * dx + dy * dy + dz * dz), _TINY)
            row[x, extra], row[x, extra + 1], row[x, extra + 2] = dx / length, dy / length, dz / length
            depth_m[y, x], sure[y, x] = _NAN, _ZERO
            for channel in range(extra):
                row[x, channel] = _ZERO
            if np.isnan(t):
                add_sky(sky, sky_shape, dx, dy, dz, row, x)
                row[x, extra + 3] = row[x, extra + 4] = _ZERO
                continue
            row[x, extra + 3] = np.log(min(max(t / depth_scale_m, _LEAST), _MOST))
            row[x, extra + 4] = _ONE
            px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
            add_ground(maps, starts, shapes, texel_m, px, py, t / focal_px, row, x)
            add_coarse(coarse, coarse_shape, coarse_step_m, px, py, pz, row, x, channels)
            i, j = nearest(px / step_x, shape[2]), nearest(py / step_y, shape[1])
            if seen[nearest(pz / step_z, shape[0]), j, i]:
                depth_m[y, x], sure[y, x] = t, _ONE / (_ONE + np.exp(-_HALF * rise))
        for channel in range(count):
            for shift in range(s):
                plane = (channel * s + inner) * s + shift
                for column in range(columns):
                    x = min(column * s + shift, width - 1)
                    shader_input[plane, patch, column] = row[x, channel]


@compiled
def nearest(position, size):
    """Number of the vertex nearest to a position."""
    return min(max(int(np.rint(position)), 0), size - 1)


@compiled
def add_ground(maps, starts, shapes, texel_m, x, y, pixel_m, row, pixel):
    """Ground-plane features where a pixel of size pixel_m shows (x, y)."""
    coarsest = len(starts) - 1
    level, share = coarsest, _ONE
    for candidate in range(coarsest):
        share = (_NONE - pixel_m / texel_m[candidate]) / _FADE
        if share > _ZERO:
            level = candidate
            break
    if level == coarsest or share >= _ONE:
        add_level(maps, starts, shapes, texel_m, level, x, y, _ONE, row, pixel)
    else:
        add_level(maps, starts, shapes, texel_m, level, x, y, share, row, pixel)
        add_level(maps, starts, shapes, texel_m, level + 1, x, y, _ONE - share, row, pixel)


@compiled
def add_level(maps, starts, shapes, texel_m, level, x, y, share, row, pixel):
    """Add a share of one level of the ground-plane map."""
    rows, columns = shapes[level, 0], shapes[level, 1]
    i, u = cell(x / texel_m[level], columns)
    j, v = cell(y / texel_m[level], rows)
    first = starts[level] + j * columns + i
    add_four(maps, first, first + columns, u, v, share, row, pixel, 0)


@compiled
def add_coarse(coarse, shape, step_m, x, y, z, row, pixel, channel):
    """Features of the coarse volume at a point."""
    layers, rows, columns, _ = shape
    i, u = cell(x / step_m[0], columns)
    j, v = cell(y / step_m[0], rows)
    k, w = cell(z / step_m[1], layers)
    first = (k * rows + j) * columns + i
    add_four(coarse, first, first + columns, u, v, _ONE - w, row, pixel, channel)
    first += rows * columns
    add_four(coarse, first, first + columns, u, v, w, row, pixel, channel)


@compiled
def add_sky(sky, shape, dx, dy, dz, row, pixel):
    """Features of a direction in which nothing is met."""
    rows, columns, _ = shape
    elevation = np.arctan2(dz, np.sqrt(dx * dx + dy * dy)) / _PI + _HALF
    azimuth = np.arctan2(dy, dx) / (_PI + _PI) + _HALF
    i, u = cell(azimuth * np.float32(columns - 1), columns)
    j, v = cell(elevation * np.float32(rows - 1), rows)
    first = j * columns + i
    add_four(sky, first, first + columns, u, v, _ONE, row, pixel, 0)


@compiled
def add_four(table, first, second, u, v, factor, row, pixel, channel):
    """Add the bilinear mean of rows first, first + 1, second, second + 1 of a table (M, C) from a channel on."""
    a, b = factor * (_ONE - u) * (_ONE - v), factor * u * (_ONE - v)
    c, d = factor * (_ONE - u) * v, factor * u * v
    # Unsigned: an index that may be negative is tested at every access.
    low, high, one = np.uintp(first), np.uintp(second), np.uintp(1)
    for each in range(table.shape[1]):
        number = np.uintp(each)
        row[np.uintp(pixel), np.uintp(channel + each)] += (
            a * table[low, number]
            + b * table[low + one, number]
            + c * table[high, number]
            + d * table[high + one, number]
        )


@compiled
def compose_rows(shader_input, residual, channels, metres, unit_m, s, start, stop, depth_m, rgb, depth):
    """Rows start..stop of the finished images from the shader's answer (4 s s, h, w).

    depth_m as :func:`look_up_rows` left it. metres: what 1 of the residual depth means; unit_m: metres in one unit of
    the finished depth. rgb uint8 (H, W, 3) and depth (H, W) are filled; either may be of no rows if it is not wanted.
    """
    width = depth_m.shape[1]
    for y in range(start, stop):
        patch, inner = y // s, y % s
        if len(rgb):
            for channel in range(_DIRECT):
                for across in range(s):
                    ground = shader_input[(channel * s + inner) * s + across, patch]
                    coarse = shader_input[((channels + channel) * s + inner) * s + across, patch]
                    more = residual[(channel * s + inner) * s + across, patch]
                    for column in range((width - across + s - 1) // s):
                        value = _HALF + ground[column] + coarse[column] + more[column]
                        level = np.rint(min(max(value, _ZERO), _ONE) * _WHITE)
                        rgb[y, column * s + across, channel] = np.uint8(level)
        if len(depth):
            for x in range(width):
                value = depth_m[y, x] + metres * residual[(_DIRECT * s + inner) * s + x % s, patch, x // s]
                depth[y, x] = _ZERO if value < _ZERO else value / unit_m
