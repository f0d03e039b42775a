"""The lookups of :mod:`lookup` compiled for a CPU: cells and weights are found point by point, and again for the gradient."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.models.relief.march_numba import cell, compiled

BLOCK = 16
"""Values of a gradient that have one mark."""

_ZERO, _ONE = np.float32(0), np.float32(1)


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
