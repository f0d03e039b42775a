"""The march of :mod:`march` compiled for a CPU: the same arithmetic, stopped at the hit, empty space passed over.

Per cell of the ground, and per block of cells with those around it, the number of the highest layer with anything solid
is kept. Above it samples are empty without being looked up, and above the blocks several planes are passed at once.
Numba is optional: without it `HAS_NUMBA` is False and :mod:`march` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.config import FLOOR, HIT, INSIDE, SKY, TOLERANCE

if TYPE_CHECKING:  # the runtime has no torch
    from torch import Tensor

    from pose2rgbd_ros.models.relief.march import Hits

if HAS_NUMBA:
    from pose2rgbd_ros.models.relief.simd import number_at, pointer

_RAYS_A_TASK = 8192
_ZERO, _ONE, _TOLERANCE = np.float32(0), np.float32(1), np.float32(TOLERANCE)
_NO_PLANE = -9
_SHIFT = 3  # a block is 8 cells wide
_REACH = np.float32(7.9)  # cells a ray may move across before it can leave the blocks beside its own
_LEAST, _ABOVE = np.float32(1e-2), np.float32(1.01)
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)


@compiled
def highest_solid(logits, top):
    """Fill `top` (Y - 1, X - 1) int16: the highest layer solid at a corner of the cell, -1 for none."""
    layers, rows, columns = logits.shape
    column = np.empty((2, columns), np.int16)
    for j in range(rows):
        above, here = column[(j + 1) % 2], column[j % 2]
        here[:] = -1
        for k in range(layers):
            for i in range(columns):
                here[i] = max(here[i], np.int16(k) if logits[k, j, i] > _ZERO else np.int16(-1))
        if j > 0:
            for i in range(columns - 1):
                top[j - 1, i] = max(max(above[i], above[i + 1]), max(here[i], here[i + 1]))


@compiled
def bilinear(flat, base, to_u, to_v, u, v):
    """Between the number at `base` and its neighbours `to_u` and `to_v` on, at fractions u, v."""
    first, beside = number_at(flat, base), number_at(flat, base + to_u)
    first += (beside - first) * u
    second, beside = number_at(flat, base + to_v), number_at(flat, base + to_v + to_u)
    second += (beside - second) * u
    return first + (second - first) * v


@compiled
def cell(position, size):
    """The vertex before `position` such that there is one after it, and the fraction beyond it, clamped."""
    low = min(max(int(position), 0), size - 2)
    return low, min(max(position - np.float32(low), _ZERO), _ONE)


@compiled
def march_ray(flat, shape, top, around, ox, oy, oz, dx, dy, dz, clear):
    """One ray: (t, state, t_before, t_after, logit_before, logit_after) as :class:`march.Hits`.

    flat: the logits of `shape` (L, Y, X) in a row, float32 or the bits of half precision (:func:`simd.number_at`).
    top, around: of :func:`highest_layers`, in a row each. All three are pointers (:func:`simd.pointer`): arrays would
    be counted at each call. All else float32.
    clear: up to this t all samples are known to be above what is solid around them, so they are not looked at.
    """
    none = (_NAN, SKY, _NAN, _NAN, _ZERO, _ZERO)
    if not (np.isfinite(dx) and np.isfinite(dy) and np.isfinite(dz)):
        return none
    layers, rows, columns = shape
    to_y, to_z, blocks = columns, rows * columns, (columns - 2 >> _SHIFT) + 1
    if oz <= _ZERO:
        return (_NAN, INSIDE, _NAN, _NAN, _ZERO, _ZERO)
    x_last, y_last, z_last = np.float32(columns - 1), np.float32(rows - 1), np.float32(layers - 1)

    entry, leave = _ZERO, _INF
    ix, iy, iz = _ONE / dx, _ONE / dy, _ONE / dz
    for o, d, inverse, last in ((ox, dx, ix, x_last), (oy, dy, iy, y_last), (oz, dz, iz, z_last)):
        if d == _ZERO:
            if not (o >= _ZERO and o <= last):
                leave = -_INF
        else:
            near, far = (_ZERO - o) * inverse, (last - o) * inverse
            entry, leave = max(entry, min(near, far)), min(leave, max(near, far))

    t_before, logit_before = _NAN, -_ONE
    if ox >= _ZERO and ox <= x_last and oy >= _ZERO and oy <= y_last and oz <= z_last:
        i, u = cell(ox, columns)
        j, v = cell(oy, rows)
        k, w = cell(oz, layers)
        base = k * to_z + j * to_y + i
        below = bilinear(flat, base, 1, to_y, u, v)
        logit_before = below + (bilinear(flat, base + to_z, 1, to_y, u, v) - below) * w
        if logit_before > _ZERO:
            return (_NAN, INSIDE, _NAN, _NAN, _ZERO, _ZERO)
        t_before = _ZERO

    if entry <= leave < _INF:
        # u and v are the two axes across the dominant one; what is across z is looked up in `top` by (x, y).
        ax, ay, az = abs(dx), abs(dy), abs(dz)
        if ax >= ay and ax >= az:
            axis, o, d, inverse, last, to_k = 0, ox, dx, ix, x_last, 1
            ou, du, size_u, to_u, ov, dv, size_v, to_v = oy, dy, rows, to_y, oz, dz, layers, to_z
        elif ay >= az:
            axis, o, d, inverse, last, to_k = 1, oy, dy, iy, y_last, to_y
            ou, du, size_u, to_u, ov, dv, size_v, to_v = ox, dx, columns, 1, oz, dz, layers, to_z
        else:
            axis, o, d, inverse, last, to_k = 2, oz, dz, iz, z_last, to_z
            ou, du, size_u, to_u, ov, dv, size_v, to_v = ox, dx, columns, 1, oy, dy, rows, to_y
        slack = _TOLERANCE if entry > _ZERO else _ZERO
        if d > _ZERO:
            step = 1
            first = np.ceil(o + entry * d - slack)
            final = np.floor(o + leave * d + _TOLERANCE)
            lowest = _ZERO
        else:
            step = -1
            first = np.floor(o + entry * d + slack)
            final = np.ceil(o + leave * d - _TOLERANCE)
            lowest = _ONE if axis == 2 else _ZERO
        start = int(min(max(first, _ZERO), last))
        count = (int(min(max(final, lowest), last)) - start) * step + 1
        # Plane j is met at t_first + j * dt, at (u_first + j * du, v_first + j * dv).
        t_first, dt = max((np.float32(start) - o) * inverse, _ZERO), abs(inverse)
        u_first, v_first = ou + t_first * du, ov + t_first * dv
        du, dv = du * dt, dv * dt
        # So many planes on, a ray has not left the blocks around its own; so much it falls from plane to plane.
        reach, fall = 0, _ONE
        empty = _NO_PLANE  # the last plane passed over without a look
        j = 0
        if clear > t_first + dt:
            j = int(min((clear - t_first) * abs(d), np.float32(count)))
            empty = j - 1  # and blocks are not asked again for the few planes that remain
        else:
            reach = int(_REACH / max(max(abs(du), abs(dv)), _LEAST)) if axis == 2 else int(_REACH)
            fall = max(-dz * dt, _LEAST)
        while j < count:
            plane = start + j * step
            pv = v_first + np.float32(j) * dv
            m, u = cell(u_first + np.float32(j) * du, size_u)
            n, v = cell(pv, size_v)
            if axis == 2:
                row, column, lower, z = n, m, plane, np.float32(plane)
            elif axis == 1:
                row, column, lower, z = min(plane, rows - 2), m, n, pv
            else:
                row, column, lower, z = m, min(plane, columns - 2), n, pv
            if lower > top[row * (columns - 1) + column]:
                if reach > 0:
                    gap = z - np.float32(around[(row >> _SHIFT) * blocks + (column >> _SHIFT)]) - _ABOVE
                    if gap > _ZERO:
                        j += min(reach, int(gap / fall))
                empty = j
            else:
                logit = bilinear(flat, plane * to_k + m * to_u + n * to_v, to_u, to_v, u, v)
                t = t_first + np.float32(j) * dt
                if logit > _ZERO:
                    if empty == j - 1:
                        t_before = t_first + np.float32(empty) * dt
                        m, u = cell(u_first + np.float32(empty) * du, size_u)
                        n, v = cell(v_first + np.float32(empty) * dv, size_v)
                        base = (plane - step) * to_k + m * to_u + n * to_v
                        logit_before = bilinear(flat, base, to_u, to_v, u, v)
                    if np.isnan(t_before):
                        return (t, HIT, t, t, _ZERO, logit)
                    where = t_before + (t - t_before) * (logit_before / (logit_before - logit))
                    return (where, HIT, t_before, t, logit_before, logit)
                t_before, logit_before = t, logit
            j += 1
        if empty >= count - 1:
            last_j = np.float32(count - 1)
            t_before = t_first + last_j * dt
            m, u = cell(u_first + last_j * du, size_u)
            n, v = cell(v_first + last_j * dv, size_v)
            base = (start + (count - 1) * step) * to_k + m * to_u + n * to_v
            logit_before = bilinear(flat, base, to_u, to_v, u, v)

    if not dz < _ZERO:
        return none
    t = (_ZERO - oz) * iz
    x, y = ox + t * dx, oy + t * dy
    if x >= _ZERO and x <= x_last and y >= _ZERO and y <= y_last and not np.isnan(t_before):
        i, u = cell(x, columns)
        j, v = cell(y, rows)
        logit = bilinear(flat, j * to_y + i, 1, to_y, u, v)
        if logit > _ZERO:
            where = t_before + (t - t_before) * (logit_before / (logit_before - logit))
            return (where, HIT, t_before, t, logit_before, logit)
    return (t, FLOOR, t, t, _ZERO, _ZERO)


@compiled
def march_rays(logits, top, around, origin, direction, start, stop, state, found):
    """Rays start..stop of direction (N, 3) and origin (N, 3), or (1, 3) for all: state (N,) uint8, found (5, N).

    `found` takes the other fields of :class:`march.Hits` in their order.
    """
    flat, shape, last = pointer(logits), logits.shape, len(origin) - 1
    top, around = pointer(top), pointer(around)
    for index in range(start, stop):
        at = min(index, last)
        t, which, t_before, t_after, logit_before, logit_after = march_ray(
            flat,
            shape,
            top,
            around,
            origin[at, 0],
            origin[at, 1],
            origin[at, 2],
            direction[index, 0],
            direction[index, 1],
            direction[index, 2],
            _ZERO,
        )
        state[index] = which
        found[0, index], found[1, index], found[2, index] = t, t_before, t_after
        found[3, index], found[4, index] = logit_before, logit_after


Tops = tuple[NDArray[np.int16], NDArray[np.int16]]


def march_fast(logits: Tensor, origin: Tensor, direction: Tensor, threads: int = 1, tops: Tops | None = None) -> Hits:
    """:func:`march.march`, compiled where numba is there and all is on the CPU; nothing needs a gradient.

    tops: of :func:`highest_layers`, where they are known already.

    The first call of a process loads the compiled code (0.1 s), the first on a machine compiles it (some seconds).
    """
    import torch

    from pose2rgbd_ros.models.relief.march import Hits, march

    if not HAS_NUMBA or logits.device.type != "cpu":
        return march(logits, origin, direction)
    block = np.ascontiguousarray(logits.detach().numpy())
    rays = [np.ascontiguousarray(values.detach().numpy(), dtype=np.float32) for values in (origin, direction)]
    top, around = highest_layers(block) if tops is None else tops
    count = len(rays[0])
    state, found = np.empty(count, np.uint8), np.empty((5, count), np.float32)

    def run(start: int) -> None:
        march_rays(block, top, around, *rays, start, min(start + _RAYS_A_TASK, count), state, found)

    in_threads(run, range(0, count, _RAYS_A_TASK), threads)
    t, *others = torch.from_numpy(found)
    return Hits(t, torch.from_numpy(state), *others)


def highest_layers(logits: NDArray[np.float32]) -> Tops:
    """Below what height there may be anything solid in `logits` (L, Y, X).

    (Y - 1, X - 1): per cell of the ground the highest layer solid at one of its corners, -1 for none.
    (ceil((Y - 1) / 8), ceil((X - 1) / 8)): per block of 8 x 8 cells the highest in it and the eight blocks around it.
    """
    top = np.empty((logits.shape[1] - 1, logits.shape[2] - 1), np.int16)
    highest_solid(logits, top)
    beyond = [(0, -size % (1 << _SHIFT)) for size in top.shape]
    blocks = np.pad(top, beyond, constant_values=-1)
    blocks = blocks.reshape(blocks.shape[0] >> _SHIFT, 1 << _SHIFT, -1, 1 << _SHIFT).max(axis=(1, 3))
    for axis in (0, 1):
        blocks = np.pad(blocks, [(1, 1) if axis == side else (0, 0) for side in (0, 1)], constant_values=-1)
        blocks = np.lib.stride_tricks.sliding_window_view(blocks, 3, axis).max(-1)
    return top, np.ascontiguousarray(blocks)


def in_threads(run: Callable[[int], None], tasks: Iterable[int], threads: int) -> None:
    """Call `run` for each task in so many threads; the compiled functions hold no interpreter lock."""
    if threads <= 1:
        for task in tasks:
            run(task)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, tasks))


# The lookups of :mod:`lookup` compiled for a CPU: cells and weights are found point by point, and again for
# the gradient.


BLOCK = 16
"""Values of a gradient that have one mark."""


@compiled
def read_grid(table, shape, position, summed):
    """summed (N, C): trilinear values of a table (L Y X, C) at positions (N, 3) as (x, y, z)."""
    layers, rows, columns = shape
    for n in range(len(position)):
        i, u = cell(position[n, 0], columns)
        j, v = cell(position[n, 1], rows)
        k, w = cell(position[n, 2], layers)
        first = (k * rows + j) * columns + i
        for c in range(table.shape[1]):
            summed[n, c] = _ZERO
        read_four(table, first, columns, u, v, _ONE - w, summed, n)
        read_four(table, first + rows * columns, columns, u, v, w, summed, n)


@compiled
def learn_grid(gradient, shape, position, spread, marks):
    """Add what the gradient (N, C) of :func:`read_grid`'s sums says of the table to `spread`, and mark where."""
    layers, rows, columns = shape
    for n in range(len(position)):
        i, u = cell(position[n, 0], columns)
        j, v = cell(position[n, 1], rows)
        k, w = cell(position[n, 2], layers)
        first = (k * rows + j) * columns + i
        learn_four(gradient, n, first, columns, u, v, _ONE - w, spread, marks)
        learn_four(gradient, n, first + rows * columns, columns, u, v, w, spread, marks)


@compiled
def read_maps(table, starts, shapes, texels_m, points, shares, summed):
    """summed (N, C): bilinear values of some maps in a table (M, C) at points (N, 2), each with its share (N, maps)."""
    for n in range(len(points)):
        for c in range(table.shape[1]):
            summed[n, c] = _ZERO
        for level in range(len(starts)):
            if shares[n, level] > _ZERO:
                i, u = cell(points[n, 0] / texels_m[level], shapes[level, 1])
                j, v = cell(points[n, 1] / texels_m[level], shapes[level, 0])
                first = starts[level] + j * shapes[level, 1] + i
                read_four(table, first, shapes[level, 1], u, v, shares[n, level], summed, n)


@compiled
def learn_maps(gradient, starts, shapes, texels_m, points, shares, spread, marks):
    """Add what the gradient (N, C) of :func:`read_maps`'s sums says of the table to `spread`, and mark where."""
    for n in range(len(points)):
        for level in range(len(starts)):
            if shares[n, level] > _ZERO:
                i, u = cell(points[n, 0] / texels_m[level], shapes[level, 1])
                j, v = cell(points[n, 1] / texels_m[level], shapes[level, 0])
                first = starts[level] + j * shapes[level, 1] + i
                learn_four(gradient, n, first, shapes[level, 1], u, v, shares[n, level], spread, marks)


@compiled
def read_four(table, first, columns, u, v, factor, summed, n):
    """Add the bilinear mean of four neighbours to row n of `summed`."""
    a, b = factor * (_ONE - u) * (_ONE - v), factor * u * (_ONE - v)
    c, d = factor * (_ONE - u) * v, factor * u * v
    for channel in range(table.shape[1]):
        summed[n, channel] += (
            a * table[first, channel]
            + b * table[first + 1, channel]
            + c * table[first + columns, channel]
            + d * table[first + columns + 1, channel]
        )


@compiled
def learn_four(gradient, n, first, columns, u, v, factor, spread, marks):
    """Hand row n of the gradient out to the four neighbours."""
    a, b = factor * (_ONE - u) * (_ONE - v), factor * u * (_ONE - v)
    c, d = factor * (_ONE - u) * v, factor * u * v
    channels = spread.shape[1]
    for channel in range(channels):
        slope = gradient[n, channel]
        spread[first, channel] += a * slope
        spread[first + 1, channel] += b * slope
        spread[first + columns, channel] += c * slope
        spread[first + columns + 1, channel] += d * slope
    if len(marks):
        for row in (first, first + columns):
            for block in range(row * channels // BLOCK, ((row + 2) * channels - 1) // BLOCK + 1):
                marks[block] = 1
