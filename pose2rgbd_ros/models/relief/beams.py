"""How far the rays of a few neighbouring pixels run through empty space together, so that none of them looks there.

The rays of a patch of pixels stay within a box that moves and grows with t. In a pyramid of the highest solid layer
around every block of the ground, finer from level to level, the box is moved on as long as it is above all that is
below it; where it is not, the next finer level is asked, until none lets it on. From there each ray marches by itself
(:func:`kernels.march_ray`): what is passed over would have been found empty, so every ray meets what it met before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.models.backends import compiled

_ZERO, _ONE, _INF = np.float32(0), np.float32(1), np.float32(np.inf)
_ABOVE = np.float32(1.01)  # layers: a sample between two layers looks at the one below it
_BESIDE = np.float32(0.02)  # cells: the corners of a box are rounded
_AT_LEAST = np.float32(0.5)  # cells: a shorter step is not worth it
_MOST_STEPS = 64


class Pyramid(NamedTuple):
    """Per level l and block of 2^l x 2^l cells the highest solid layer in it and in the eight around it, -1 for none.

    highest: all levels in a row, int16. starts: (levels,) each one's first. shapes: (levels, 2) blocks along y and x,
    with one block more on each side than there are on the ground.
    """

    highest: NDArray[np.int16]
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]


def pyramid(top: NDArray[np.int16]) -> Pyramid:
    """Of the highest solid layer per cell, (Y - 1, X - 1) int16, up to one block for all."""
    levels, blocks = [], top
    while True:
        around = np.pad(blocks, 2, constant_values=-1)
        for axis in (0, 1):
            around = np.lib.stride_tricks.sliding_window_view(around, 3, axis).max(-1)
        levels.append(np.ascontiguousarray(around))
        if max(blocks.shape) == 1:
            break
        blocks = np.pad(blocks, [(0, size % 2) for size in blocks.shape], constant_values=-1)
        blocks = blocks.reshape(blocks.shape[0] // 2, 2, -1, 2).max(axis=(1, 3))
    sizes = [level.size for level in levels]
    return Pyramid(
        np.concatenate([level.ravel() for level in levels]),
        np.cumsum([0, *sizes[:-1]]),
        np.array([level.shape for level in levels], np.int64),
    )


@compiled
def leaves_at(start, low, high, near, far):
    """The first t at which a side of the interval start + t [low, high] is no longer within [near, far]."""
    until = _INF
    if high > _ZERO:
        until = (far - start) / high
    if low < _ZERO:
        until = min(until, (near - start) / low)
    return until


@compiled
def clear_until(highest, starts, shapes, ox, oy, oz, x_least, x_most, y_least, y_most, z_least, z_most):
    """Up to which t all rays from (ox, oy, oz) with directions between least and most are above what is solid.

    In grid units, float32. 0 where nothing can be said, as of rays that are not finite.
    """
    spread = abs(x_least) + abs(x_most) + abs(y_least) + abs(y_most) + abs(z_least) + abs(z_most)
    if not (spread < _INF and spread > _ZERO):
        return _ZERO
    least = _AT_LEAST / spread
    t, level, finest = _ZERO, len(starts) - 1, False
    for _ in range(_MOST_STEPS):
        x_low, x_high = ox + t * x_least - _BESIDE, ox + t * x_most + _BESIDE
        y_low, y_high = oy + t * y_least - _BESIDE, oy + t * y_most + _BESIDE
        size = np.float32(1 << level)
        column, row = np.floor((x_low + x_high) / (size + size)), np.floor((y_low + y_high) / (size + size))
        west, east = (column - _ONE) * size, (column + _ONE + _ONE) * size
        south, north = (row - _ONE) * size, (row + _ONE + _ONE) * size
        step = _ZERO
        if x_low > west and x_high < east and y_low > south and y_high < north:
            rows, columns = shapes[level, 0], shapes[level, 1]
            floor = _ABOVE - _ONE
            if row >= -_ONE and row < np.float32(rows - 1) and column >= -_ONE and column < np.float32(columns - 1):
                block = starts[level] + (int(row) + 1) * columns + int(column) + 1
                floor = np.float32(highest[np.uintp(block)]) + _ABOVE
            if oz + t * z_least > floor:
                until = leaves_at(ox, x_least, x_most, west + _BESIDE, east - _BESIDE)
                until = min(until, leaves_at(oy, y_least, y_most, south + _BESIDE, north - _BESIDE))
                if z_least < _ZERO:
                    until = min(until, (floor - oz) / z_least)
                step = until - t
        if step > least:
            t += step
            if not finest:
                level = min(level + 1, len(starts) - 1)
            finest = False
        elif level > 0:
            level, finest = level - 1, True
        else:
            break
        if t == _INF:
            break
    return t
