"""Relief without autograd, quickly: what rays meet and the features there, as the shader's convolutions read it.

The arithmetic is that of render_kernels.py in another order: neighbouring rays march their common way together
(beams.py), eight channels are one register (simd.py), and logarithms and exponentials are polynomials of a row.

An image of patches is (rows + margins, columns + margins, channels) as in winograd.py; a patch's channels are those of
its s x s pixels one after another, each `features` long: the ground's in whole registers, the coarse volume's likewise,
then the extra ones, and, with a memory, what that shows. Pixels of patches beyond the image repeat its edge: rays, t
and state have whole patches.
"""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.beams import clear_until
from pose2rgbd_ros.models.relief.charts import AXES, block_of, on_chart, texel_cell
from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS, EXTRA_CHANNELS, FULL_TEXELS, LANES, NONE_TEXELS
from pose2rgbd_ros.models.relief.kernels import cell, march_ray
from pose2rgbd_ros.models.relief.memory import BENT, LEVEL, SURE, TINY, recall_pixel
from pose2rgbd_ros.models.relief.recorded_depth import depth_images, refined
from pose2rgbd_ros.models.relief.render_kernels import nearest

if HAS_NUMBA:
    from pose2rgbd_ros.models.relief.simd import fma, load8, load8_short, pointer, splat8, store

_ZERO, _HALF, _ONE, _TWO, _NAN = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2), np.float32(np.nan)
_NONE, _PER_FADE = np.float32(NONE_TEXELS), np.float32(1 / (NONE_TEXELS - FULL_TEXELS))
_PI, _LEAST, _MOST = np.float32(np.pi), np.float32(1e-3), np.float32(1e3)
_TINY, _WHITE, _LOWEST, _INF = np.float32(1e-24), np.float32(255), np.float32(-80), np.float32(np.inf)
_EXTRA, _DIRECT = EXTRA_CHANNELS, DIRECT_CHANNELS

BEAM_PX = 8
"""Side of the squares of pixels whose rays go together."""


@compiled
def direct_band(T_grid_cam, rays, start, stop, direction):
    """Rows start..stop of rays (2, H, W), x and y at z = 1, in grid units: direction (3, H, W) float32."""
    for axis in range(3):
        a, b, c = T_grid_cam[axis, 0], T_grid_cam[axis, 1], T_grid_cam[axis, 2]
        for y in range(start, stop):
            for x in range(rays.shape[2]):
                direction[axis, y, x] = np.float32(a * rays[0, y, x] + b * rays[1, y, x] + c)


@compiled
def meet_band(volume, beams, T_grid_cam, bounds, origin, direction, start, stop, state, t, rise):
    """What the rays of rows start..stop meet: state, t (H, W), NaN for nothing, and the logit's rise (rows, W).

    bounds (4, H / BEAM_PX, W / BEAM_PX): lowest and highest x, then y, of the rays of each square; start begins one.
    """
    logits, top, around = volume
    flat, top_at, around_at, shape = pointer(logits), pointer(top), pointer(around), logits.shape
    ox, oy, oz = origin
    width, square = direction.shape[2], start // BEAM_PX
    for number in range(bounds.shape[2]):
        clear = clear_square(T_grid_cam, bounds, square, number, beams, ox, oy, oz)
        for y in range(start, stop):
            for x in range(number * BEAM_PX, min((number + 1) * BEAM_PX, width)):
                dx, dy, dz = direction[0, y, x], direction[1, y, x], direction[2, y, x]
                met, which, _, _, before, after = march_ray(
                    flat, shape, top_at, around_at, ox, oy, oz, dx, dy, dz, clear
                )
                t[y, x], state[y, x], rise[y - start, x] = met, which, after - before


@compiled
def clear_square(T_grid_cam, bounds, row, column, beams, ox, oy, oz):
    """Up to which t nothing is met by the rays of a square, whose `bounds` are those of :func:`meet_band`."""
    highest, starts, shapes = beams
    x_low, x_high = bounds[0, row, column], bounds[1, row, column]
    y_low, y_high = bounds[2, row, column], bounds[3, row, column]
    east, west = between(T_grid_cam, 0, x_low, x_high, y_low, y_high)
    south, north = between(T_grid_cam, 1, x_low, x_high, y_low, y_high)
    down, up = between(T_grid_cam, 2, x_low, x_high, y_low, y_high)
    return clear_until(highest, starts, shapes, ox, oy, oz, east, west, south, north, down, up)


@compiled
def between(T_grid_cam, axis, x_low, x_high, y_low, y_high):
    """Lowest and highest component of directions whose rays are within a rectangle at z = 1; NaN if that is."""
    a, b, c = T_grid_cam[axis, 0], T_grid_cam[axis, 1], T_grid_cam[axis, 2]
    least = min(a * x_low, a * x_high) + min(b * y_low, b * y_high) + c
    most = max(a * x_low, a * x_high) + max(b * y_low, b * y_high) + c
    return np.float32(least), np.float32(most)


@compiled
def see_band(volume, beams, tables, T_grid_cam, rays, bounds, view, s, features, start, stop, met, image, known):
    """Rows start..stop of a picture, start a multiple of BEAM_PX, from rays to the shader's input.

    view: the focal length in pixels and the scale of depth. met: direction, state and t as below. known: depth_m, sure.
    """
    direction, state, t = met
    origin = T_grid_cam[:, 3].astype(np.float32)
    rise = np.empty((BEAM_PX, direction.shape[2]), np.float32)
    for first in range(start, stop, BEAM_PX):
        last = min(first + BEAM_PX, stop)
        direct_band(T_grid_cam, rays, first, last, direction)
        meet_band(volume, beams, T_grid_cam, bounds, origin, direction, first, last, state, t, rise)
        look_up_band(
            tables, origin, direction, t, rise, view[0], view[1], s, features, first, last, image, known[0], known[1]
        )


@compiled
def logarithm(x):
    """Of a positive normal float32, to 1e-7 (the polynomial is that of the Cephes library)."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    f = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32) - _ONE
    e, z = np.float32(exponent), f * f
    y = np.float32(7.0376836292e-2) * f - np.float32(1.1514610310e-1)
    y = y * f + np.float32(1.1676998740e-1)
    y = y * f - np.float32(1.2420140846e-1)
    y = y * f + np.float32(1.4249322787e-1)
    y = y * f - np.float32(1.6668057665e-1)
    y = y * f + np.float32(2.0000714765e-1)
    y = y * f - np.float32(2.4999993993e-1)
    y = y * f + np.float32(3.3333331174e-1)
    return f + (y * f * z - e * np.float32(2.12194440e-4) - _HALF * z) + e * np.float32(0.693359375)


@compiled
def exponential(x):
    """Of a float32 between -80 and 80, to 1e-7 (the polynomial is that of the Cephes library)."""
    n = np.floor(x * np.float32(1.44269504) + _HALF)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    return (y * r * r + r + _ONE) * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def lengths(x, y, z, step_x, step_y, step_z, per_length):
    """One over the length in metres of a row of directions in grid units, 0 where they are not finite."""
    for n in range(len(x)):
        dx, dy, dz = x[n] * step_x, y[n] * step_y, z[n] * step_z
        square = dx * dx + dy * dy + dz * dz
        per_length[n] = _ONE / np.sqrt(max(square, _TINY)) if square < _INF else _ZERO


@compiled
def distances(t, depth_scale_m, far):
    """The shader's logarithm of a row of depths."""
    for n in range(len(t)):
        far[n] = logarithm(min(max(t[n] / depth_scale_m, _LEAST), _MOST))


@compiled
def confidences(rise, trust):
    """See network.confidence; of a row."""
    for n in range(len(rise)):
        trust[n] = _ONE / (_ONE + exponential(min(max(-_HALF * rise[n], _LOWEST), _ZERO)))


@compiled
def reading(tables, per_texel, focal_px):
    """What :func:`surface_at` and :func:`sky_at` read of the tables: pointers and sizes, taken out of arrays once.

    per_texel: one over tables.texel_m, which the caller must keep.
    """
    maps_unit, coarse_unit = tables.units
    side_of, start_of, each, chart_m = tables.chart_layout
    of_maps = pointer(tables.maps), pointer(tables.starts), pointer(tables.shapes), pointer(per_texel), len(per_texel)
    of_charts = (
        pointer(tables.charts), pointer(tables.chart_of), tables.chart_of.shape, pointer(side_of), pointer(start_of),
        each, chart_m, tables.charts.shape[0] > 0,
    )  # fmt: skip
    across, up = _ONE / tables.coarse_step_m[0], _ONE / tables.coarse_step_m[1]
    of_coarse = pointer(tables.coarse), tables.coarse.shape, across, up, coarse_unit
    of_sky = pointer(tables.sky), tables.sky.shape
    return of_maps, of_charts, of_coarse, of_sky, tables.maps.shape[1], maps_unit, _ONE / focal_px


@compiled
def sky_at(places, dx, dy, dz, flat, at):
    """The features of a direction in which nothing is met, from flat[at] on: the sky's, and none of the volume's."""
    _, _, of_coarse, of_sky, ground, _, _ = places
    sky, sky_shape = of_sky
    sky_features(sky, sky_shape, dx, dy, dz, flat, at)
    for channel in range(0, of_coarse[1][3], LANES):
        store(flat, at + ground + channel, splat8(_ZERO))


@compiled
def surface_at(places, t, px, py, pz, flat, at):
    """The features of a point in metres at depth t, from flat[at] on: the ground's or a chart's, then the volume's."""
    of_maps, of_charts, of_coarse, _, ground, maps_unit, per_focal = places
    maps, starts, shapes, per_m, levels = of_maps
    charts, chart_of, chart_grid, sides, chart_starts, each, chart_m, charted = of_charts
    coarse, coarse_shape, coarse_x, coarse_z, coarse_unit = of_coarse
    across, coarsest = coarse_shape[3], levels - 1
    # The finest level that a pixel does not cover too many texels of, and its share (network.py).
    pixel_m, level, share = t * per_focal, coarsest, _ONE
    for candidate in range(coarsest):
        share = (_NONE - pixel_m * per_m[candidate]) * _PER_FADE
        if share > _ZERO:
            level = candidate
            break
    if level == coarsest or share > _ONE:
        share = _ONE
    whole, share = share == _ONE, share * maps_unit
    block = block_of(px, py, pz, chart_m, chart_grid) if charted else -1
    code = np.int64(chart_of[block]) if block >= 0 else np.int64(-1)
    table, other = maps, maps_unit - share
    if code >= 0:  # the surface has a texture of its own there
        table = charts
        chart_u, chart_v = on_chart(code % AXES, px, py, pz, chart_m)
        begin = code // AXES * each
        first, c0, c1, c2, c3 = chart_cell(chart_starts, sides, begin, level, chart_u, chart_v, share)
        below, beyond = sides[level] * ground, np.int64(0)
        second, e0, e1, e2, e3 = first, _ZERO, _ZERO, _ZERO, _ZERO
        if not whole:
            beyond = sides[level + 1] * ground
            second, e0, e1, e2, e3 = chart_cell(chart_starts, sides, begin, level + 1, chart_u, chart_v, other)
    else:
        first, c0, c1, c2, c3 = map_cell(starts, shapes, per_m, level, px, py, share)
        below, beyond = shapes[2 * level + 1] * ground, np.int64(0)
        second, e0, e1, e2, e3 = first, _ZERO, _ZERO, _ZERO, _ZERO
        if not whole:
            beyond = shapes[2 * level + 3] * ground
            second, e0, e1, e2, e3 = map_cell(starts, shapes, per_m, level + 1, px, py, other)
    first *= ground
    if not whole:
        second *= ground
        for channel in range(0, ground, LANES):
            fine = four(table, first + channel, ground, below, c0, c1, c2, c3)
            rough = four(table, second + channel, ground, beyond, e0, e1, e2, e3)
            store(flat, at + channel, fine + rough)
    else:
        for channel in range(0, ground, LANES):
            store(flat, at + channel, four(table, first + channel, ground, below, c0, c1, c2, c3))
    i, u = cell(px * coarse_x, coarse_shape[2])
    j, v = cell(py * coarse_x, coarse_shape[1])
    k, w = cell(pz * coarse_z, coarse_shape[0])
    below = coarse_shape[2] * across
    first = (k * coarse_shape[1] + j) * below + i * across
    second = first + coarse_shape[1] * below
    c0, c1, c2, c3 = (_ONE - u) * (_ONE - v), u * (_ONE - v), (_ONE - u) * v, u * v
    up, down = splat8(w * coarse_unit), splat8((_ONE - w) * coarse_unit)
    for channel in range(0, across, LANES):
        lower = four(coarse, first + channel, across, below, c0, c1, c2, c3)
        upper = four(coarse, second + channel, across, below, c0, c1, c2, c3)
        store(flat, at + ground + channel, fma(down, lower, up * upper))


@compiled
def look_up_band(
    tables, origin, direction, t, rise, focal_px, depth_scale_m, s, features, start, stop, image, depth_m, sure
):
    """Rows start..stop: features into the image of patches, and what is known of pixels before the shader.

    t, rise: as :func:`meet_band` left them. Fills depth_m (H, W), NaN where nothing is met or the place was never seen,
    and sure (H, W), the confidence, where they have the pixel.
    """
    per_texel, shape = _ONE / tables.texel_m, tables.shape
    places = reading(tables, per_texel, focal_px)
    seen, seen_bytes = pointer(tables.seen), tables.seen.shape[2]
    step_x, step_y, step_z = tables.step_m
    per_x, per_y, per_z = _ONE / step_x, _ONE / step_y, _ONE / step_z
    ox, oy, oz = origin[0] * step_x, origin[1] * step_y, origin[2] * step_z
    looks = tables.maps.shape[1] + tables.coarse.shape[3]
    height, width = depth_m.shape
    flat, row_of_patches, patch_size = pointer(image), image.shape[1] * image.shape[2], image.shape[2]
    columns, rows = direction.shape[2], stop - start
    per_length, far, trust = (
        np.empty((rows, columns), np.float32),
        np.empty((rows, columns), np.float32),
        np.empty((rows, columns), np.float32),
    )
    for row in range(rows):
        y = start + row
        lengths(direction[0, y], direction[1, y], direction[2, y], step_x, step_y, step_z, per_length[row])
        distances(t[y], depth_scale_m, far[row])
        confidences(rise[row], trust[row])
    place = np.empty(columns, np.int64)
    for x in range(columns):
        place[x] = (x // s) * patch_size + (x % s) * features
    # Square by square, as rays were marched: what neighbours read lies close together.
    for left in range(0, columns, BEAM_PX):
        for y in range(start, stop):
            row = y - start
            line = (y // s + 1) * row_of_patches + patch_size + (y % s) * s * features
            for x in range(left, min(left + BEAM_PX, columns)):
                at = line + place[x]
                extra = at + looks
                met = t[y, x]
                dx, dy, dz = direction[0, y, x] * step_x, direction[1, y, x] * step_y, direction[2, y, x] * step_z
                if per_length[row, x] == _ZERO:
                    dx = dy = dz = _ZERO
                length = per_length[row, x]
                flat[extra], flat[extra + 1], flat[extra + 2] = dx * length, dy * length, dz * length
                depth, certain = _NAN, _ZERO
                if np.isnan(met):
                    sky_at(places, dx, dy, dz, flat, at)
                    flat[extra + 3] = flat[extra + 4] = _ZERO
                else:
                    flat[extra + 3], flat[extra + 4] = far[row, x], _ONE
                    px, py, pz = ox + met * dx, oy + met * dy, oz + met * dz
                    surface_at(places, met, px, py, pz, flat, at)
                    i, j, k = (
                        nearest(px * per_x, shape[2]),
                        nearest(py * per_y, shape[1]),
                        nearest(pz * per_z, shape[0]),
                    )
                    if seen[(j * shape[2] + i) * seen_bytes + (k >> 3)] >> (k & 7) & 1:
                        depth, certain = met, trust[row, x]
                if x < width and y < height:
                    depth_m[y, x], sure[y, x] = depth, certain


@compiled
def edge_band(
    volume, beams, tables, T_grid_cam, rays, bounds, t, size, within, smooth, focal_px, s, features, start, stop, ends,
    image,
):  # fmt: skip
    """Rows start..stop, start a multiple of BEAM_PX: at silhouettes where the rays within a pixel end, and, of the
    first `smooth` of them if those are several, their features on average for the middle ray's (see network.Relief).

    bounds: as of :func:`meet_band`, of these rays as well. size: rows and columns of the picture; t is known of the
    rows beside start..stop, too. within: (R, 2) where in a pixel rays go. Fills ends (R, H, W).
    """
    logits, top, around = volume
    solid, top_at, around_at = pointer(logits), pointer(top), pointer(around)
    per_texel = _ONE / tables.texel_m
    places = reading(tables, per_texel, focal_px)
    step_x, step_y, step_z = tables.step_m
    gx, gy, gz = np.float32(T_grid_cam[0, 3]), np.float32(T_grid_cam[1, 3]), np.float32(T_grid_cam[2, 3])
    ox, oy, oz = gx * step_x, gy * step_y, gz * step_z
    looks = tables.maps.shape[1] + tables.coarse.shape[3]
    flat, row_of_patches, patch_size = pointer(image), image.shape[1] * image.shape[2], image.shape[2]
    height, width = size
    several, share = np.empty(len(within) * looks, np.float32), splat8(_ONE / np.float32(smooth))
    looked = pointer(several)
    bent = np.empty((BEAM_PX, t.shape[1]), np.bool_)
    for first in range(start, stop, BEAM_PX):
        last = min(first + BEAM_PX, stop)
        find_bent(t, height, width, first, last, bent)
        for left in range(0, t.shape[1], BEAM_PX):
            clear = -_ONE
            for y in range(first, last):
                line = (y // s + 1) * row_of_patches + patch_size + (y % s) * s * features
                for x in range(left, min(left + BEAM_PX, t.shape[1])):
                    if not bent[y - first, x]:
                        continue
                    v, u, above, below, west, east = around_pixel(y, x, height, width)
                    if clear < _ZERO:
                        clear = clear_square(T_grid_cam, bounds, first // BEAM_PX, left // BEAM_PX, beams, gx, gy, gz)
                    for number in range(len(within)):
                        dx, dy, dz = ray_within(
                            T_grid_cam, rays, v, u, above, below, west, east, within[number, 0], within[number, 1]
                        )
                        met, _, _, _, _, _ = march_ray(
                            solid, logits.shape, top_at, around_at, gx, gy, gz, dx, dy, dz, clear
                        )
                        ends[number, y, x] = met
                        if number < smooth and smooth > 1:
                            far, px, py, pz = end_of(met, ox, oy, oz, dx * step_x, dy * step_y, dz * step_z)
                            if far:
                                sky_at(places, px, py, pz, looked, number * looks)
                            else:
                                surface_at(places, met, px, py, pz, looked, number * looks)
                    if smooth > 1:
                        at = line + (x // s) * patch_size + (x % s) * features
                        for channel in range(0, looks, LANES):
                            total = load8(looked, channel)
                            for number in range(1, smooth):
                                total = total + load8(looked, number * looks + channel)
                            store(flat, at + channel, total * share)


@compiled
def around_pixel(y, x, height, width):
    """The pixel of the picture that one of a patch repeats, and the rows and columns beside it."""
    v, u = min(y, height - 1), min(x, width - 1)
    return v, u, max(v - 1, 0), min(v + 1, height - 1), max(u - 1, 0), min(u + 1, width - 1)


@compiled
def ray_within(T_grid_cam, rays, v, u, above, below, west, east, right, down):
    """Direction in grid units of the ray so many pixels right of, and below, a pixel's middle."""
    # Of a picture of one row or column there are none.
    right, down = np.float64(right) / max(east - west, 1), np.float64(down) / max(below - above, 1)
    x = rays[0, v, u] + right * (rays[0, v, east] - rays[0, v, west]) + down * (rays[0, below, u] - rays[0, above, u])
    y = rays[1, v, u] + right * (rays[1, v, east] - rays[1, v, west]) + down * (rays[1, below, u] - rays[1, above, u])
    return (
        np.float32(T_grid_cam[0, 0] * x + T_grid_cam[0, 1] * y + T_grid_cam[0, 2]),
        np.float32(T_grid_cam[1, 0] * x + T_grid_cam[1, 1] * y + T_grid_cam[1, 2]),
        np.float32(T_grid_cam[2, 0] * x + T_grid_cam[2, 1] * y + T_grid_cam[2, 2]),
    )


@compiled
def recall_band(
    tables, memory, reach, T_grid_cam, rays, direction, t, ends, size, within, s, features, start, stop, image,
    depth_m,
):  # fmt: skip
    """Rows start..stop: behind a pixel's features what remembered frames add to their colour, how sure they are and how
    far apart (see network.with_recalled); and depth_m (H, W), where it is known, as those frames recorded it.

    memory: a memory.View. reach: metres and pixels in which recorded depth is looked for (see recorded_depth.py); 0 m:
    it is as the volume has it. ends, size, within: see :func:`edge_band`, which was there before.
    """
    reach_m, reach_px = reach
    values, rgb, depth = pointer(memory.values), pointer(memory.rgb), pointer(memory.depth)
    filtered = pointer(memory.filtered)
    count, high, wide = memory.rgb.shape[:3]
    fx, fy, cx, cy = memory.k
    step_x, step_y, step_z = tables.step_m
    ox, oy, oz = (
        np.float32(T_grid_cam[0, 3]) * step_x,
        np.float32(T_grid_cam[1, 3]) * step_y,
        np.float32(T_grid_cam[2, 3]) * step_z,
    )
    images = depth_images(memory, ox, oy, oz)
    ground, before = tables.maps.shape[1], tables.maps.shape[1] + tables.coarse.shape[3] + _EXTRA
    flat, row_of_patches, patch_size = pointer(image), image.shape[1] * image.shape[2], image.shape[2]
    height, width = size
    above_px = min(reach_px - 1, start)
    bent = np.empty((above_px + min(stop + reach_px - 1, t.shape[0]) - start, direction.shape[2]), np.bool_)
    find_bent(t, height, width, start - above_px, start - above_px + len(bent), bent)
    for left in range(0, direction.shape[2], BEAM_PX):
        for y in range(start, stop):
            line = (y // s + 1) * row_of_patches + patch_size + (y % s) * s * features
            for x in range(left, min(left + BEAM_PX, direction.shape[2])):
                at = line + (x // s) * patch_size + (x % s) * features
                r = g = b = sure = apart = near = _ZERO
                dx, dy, dz = direction[0, y, x] * step_x, direction[1, y, x] * step_y, direction[2, y, x] * step_z
                met = t[y, x]
                edge = len(within) > 0 and bent[y - start + above_px, x]
                if reach_m > _ZERO:
                    near, v, u = _INF, min(y, height - 1), min(x, width - 1)
                    if len(within) > 0 and any_near(bent, v - start + above_px, u, reach_px - 1):
                        near = least_of(t, v, u, height, width, reach_px)
                    met = refined(images, reach_m, ox, oy, oz, dx, dy, dz, met, near)
                    if x < width and y < height and not np.isnan(depth_m[y, x]):
                        depth_m[y, x] = met
                if edge:
                    v, u, above, below, west, east = around_pixel(y, x, height, width)
                    for number in range(len(within)):
                        dx, dy, dz = ray_within(
                            T_grid_cam, rays, v, u, above, below, west, east, within[number, 0], within[number, 1]
                        )
                        dx, dy, dz, ended = dx * step_x, dy * step_y, dz * step_z, ends[number, y, x]
                        if reach_m > _ZERO:
                            ended = refined(images, reach_m, ox, oy, oz, dx, dy, dz, ended, near)
                        far, px, py, pz = end_of(ended, ox, oy, oz, dx, dy, dz)
                        red, green, blue, say, square = recall_pixel(
                            values, count, rgb, depth, high, wide, fx, fy, cx, cy, memory.shift, memory.depth_m,
                            memory.per_apart, memory.angle2, far, px, py, pz, ox, oy, oz,
                        )  # fmt: skip
                        certain = say / (say + SURE)
                        r, g, b = r + certain * red, g + certain * green, b + certain * blue
                        sure, apart = sure + certain, apart + np.sqrt(square)
                    per_sure = _ONE / max(sure, TINY)
                    r, g, b = r * per_sure, g * per_sure, b * per_sure
                    sure, apart = sure / np.float32(len(within)), apart / np.float32(len(within))
                else:
                    far, px, py, pz = end_of(met, ox, oy, oz, dx, dy, dz)
                    r, g, b, say, square = recall_pixel(
                        values, count, filtered, depth, high, wide, fx, fy, cx, cy, memory.shift, memory.depth_m,
                        memory.per_apart, memory.angle2, far, px, py, pz, ox, oy, oz,
                    )  # fmt: skip
                    sure, apart = say / (say + SURE), np.sqrt(square)
                flat[at + before] = sure * (r * LEVEL - (_HALF + flat[at] + flat[at + ground]))
                flat[at + before + 1] = sure * (g * LEVEL - (_HALF + flat[at + 1] + flat[at + ground + 1]))
                flat[at + before + 2] = sure * (b * LEVEL - (_HALF + flat[at + 2] + flat[at + ground + 2]))
                flat[at + before + 3], flat[at + before + 4] = sure, apart * LEVEL


@compiled
def find_bent(t, height, width, start, stop, bent):
    """Whether pixels of rows start..stop are silhouettes (see memory.silhouettes), into bent (rows, W); of t (H, W) the
    picture is height x width pixels, beyond which the last ones are repeated."""
    near = np.empty((3, t.shape[1] + 2), np.float32)  # inverse depth of the row above, this one, and that below
    for y in range(start, stop):
        v = min(y, height - 1)
        for row, at in enumerate((max(v - 1, 0), v, min(v + 1, height - 1))):
            for x in range(width):
                inverse = _ONE / t[at, x]
                near[row, x + 1] = _ZERO if np.isnan(inverse) else inverse
            near[row, 0] = near[row, 1]
            near[row, width + 1] = near[row, width]
        for x in range(width):
            twice = near[1, x + 1] + near[1, x + 1]
            across, down = abs(twice - near[1, x] - near[1, x + 2]), abs(twice - near[0, x + 1] - near[2, x + 1])
            bent[y - start, x] = max(across, down) > BENT * near[1, x + 1]
        for x in range(width, t.shape[1]):
            bent[y - start, x] = bent[y - start, width - 1]


@compiled
def any_near(bent, y, x, px):
    """Whether a pixel within so many is a silhouette's."""
    for row in range(max(y - px, 0), min(y + px + 1, bent.shape[0])):
        for column in range(max(x - px, 0), min(x + px + 1, bent.shape[1])):
            if bent[row, column]:
                return True
    return False


@compiled
def least_of(t, v, u, height, width, px):
    """The least t within so many pixels of one of the picture; infinite if there is none."""
    least = _INF
    for row in range(max(v - px, 0), min(v + px + 1, height)):
        for column in range(max(u - px, 0), min(u + px + 1, width)):
            if t[row, column] < least:
                least = t[row, column]
    return least


@compiled
def end_of(t, ox, oy, oz, dx, dy, dz):
    """Whether a ray meets nothing, and the point where it ends in metres, or then its direction."""
    if not np.isnan(t):
        return False, ox + t * dx, oy + t * dy, oz + t * dz
    if np.isfinite(dx + dy + dz):
        return True, dx, dy, dz
    return True, _ZERO, _ZERO, _ZERO


@compiled
def map_cell(starts, shapes, per_m, level, x, y, share):
    """The texel before a point, counted from the first of all, and the weights of it and its three neighbours."""
    rows, columns = shapes[2 * level], shapes[2 * level + 1]
    i, u = cell(x * per_m[level], columns)
    j, v = cell(y * per_m[level], rows)
    first = starts[level] + j * columns + i
    return first, share * (_ONE - u) * (_ONE - v), share * u * (_ONE - v), share * (_ONE - u) * v, share * u * v


@compiled
def chart_cell(starts, sides, begin, level, a, b, share):
    """As :func:`map_cell` on a level of the chart whose texels begin there, at a place 0..1 both."""
    first, u, v = texel_cell(begin + starts[level], sides[level], a, b)
    return first, share * (_ONE - u) * (_ONE - v), share * u * (_ONE - v), share * (_ONE - u) * v, share * u * v


@compiled
def four(table, first, right, below, a, b, c, d):
    """Eight channels of four neighbours in a table of int16, weighted."""
    upper = fma(splat8(b), load8_short(table, first + right), splat8(a) * load8_short(table, first))
    first += below
    return fma(splat8(d), load8_short(table, first + right), fma(splat8(c), load8_short(table, first), upper))


@compiled
def sky_features(sky, shape, dx, dy, dz, flat, at):
    """Features of a direction in which nothing is met."""
    rows, columns, channels = shape
    elevation = np.arctan2(dz, np.sqrt(dx * dx + dy * dy)) / _PI + _HALF
    azimuth = np.arctan2(dy, dx) / (_PI + _PI) + _HALF
    i, u = cell(azimuth * np.float32(columns - 1), columns)
    j, v = cell(elevation * np.float32(rows - 1), rows)
    first, below = (j * columns + i) * channels, columns * channels
    a, b, c, d = (_ONE - u) * (_ONE - v), u * (_ONE - v), (_ONE - u) * v, u * v
    for channel in range(0, channels, LANES):
        upper = fma(splat8(b), load8(sky, first + channels + channel), splat8(a) * load8(sky, first + channel))
        lower = splat8(c) * load8(sky, first + below + channel)
        last = load8(sky, first + below + channels + channel)
        store(flat, at + channel, upper + fma(splat8(d), last, lower))


@compiled
def compose_band(
    image, residual, ground, recalled, light, metres, unit_m, s, features, start, stop, depth_m, rgb, depth
):
    """Rows start..stop of the finished images from the shader's answer (h, w, 4 s s or more): as `compose_rows`.

    recalled: where among a pixel's features the remembered colour begins; 0: there is none, else the answer has five
    numbers a pixel. light (2, 3): factor and summand of the colours.
    """
    height, width = depth_m.shape
    patches, answers, each = residual.shape[1], residual.shape[2], 5 if recalled > 0 else 4
    flat, answer, row_of_patches = pointer(image), pointer(residual), image.shape[1] * image.shape[2]
    for y in range(start, min(stop, height)):
        line = (y // s + 1) * row_of_patches + image.shape[2] + (y % s) * s * features
        more = (y // s) * patches * answers + (y % s) * s * each
        for column in range(patches):
            for x in range(column * s, min(column * s + s, width)):
                at = line + column * image.shape[2] + (x - column * s) * features
                add = more + column * answers + (x - column * s) * each
                if len(rgb):
                    trust = _ZERO
                    if recalled > 0:
                        trust = _TWO / (_ONE + exponential(min(max(-answer[add + 4], _LOWEST), -_LOWEST)))
                    for channel in range(_DIRECT):
                        value = _HALF + flat[at + channel] + flat[at + ground + channel] + answer[add + channel]
                        if recalled > 0:
                            value += trust * flat[at + recalled + channel]
                        value = value * light[0, channel] + light[1, channel]
                        level = np.rint(min(max(value * _WHITE, _ZERO), _WHITE))
                        rgb[y, x, channel] = np.uint8(np.int32(level))
                if len(depth):
                    value = depth_m[y, x] + metres * answer[add + _DIRECT]
                    depth[y, x] = _ZERO if value < _ZERO else value / unit_m
