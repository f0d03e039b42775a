"""Charts: feature textures that lie along the surface, where a map of the ground plane would be seen edge on.

Space is cut into blocks of 2^(levels - 1) finest texels a side. A block whose surface does not face up has a chart: a
small texture with its mip levels that is looked up along the axis which the surface faces most, so that a wall, a
facade or the side of a table is as sharp as ground seen from above. What is kept grows with the surface and not with
the volume. Neighbours along that axis share a chart: noise of the depth carries points over a block's border.

The field knows textures in charts of an atlas, and projection along the nearest axis as triplanar or box mapping; the
rule by which blocks get charts is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64
from pose2rgbd_ros.models.backends import compiled
from pose2rgbd_ros.models.relief.config import ReliefConfig, SeenPoints, chart_sides, chart_texels
from pose2rgbd_ros.models.relief.kernels import learn_four, read_four

logger = logging.getLogger(__name__)

Int32 = NDArray[np.int32]

NO_CHART = -1
AXES = 3
# A block needs so many seen points, and so large a share of what blocks of its place have, to be more than noise.
LEAST_POINTS, LEAST_SHARE = 6, 0.05
# Share of a block by which it begins early: what lies on the volume's own floor lies in its lowest block.
EARLY = 1e-3
_ZERO, _HALF, _ONE, _EARLY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(EARLY)


class Moments(NamedTuple):
    """Of the points seen in each block, (blocks,) and (blocks, 3), (blocks, 3, 3): number, sum, sum of squares, and sum
    of the unit directions in which they were seen. Points are counted from their block's corner, in blocks."""

    number: Float64
    total: Float64
    square: Float64
    way: Float64


def moments(points: Iterable[SeenPoints], config: ReliefConfig) -> Moments:
    """Of the blocks of a place, one after another as (Z, Y, X)."""
    blocks = int(np.prod(config.chart_grid))
    found = Moments(np.zeros(blocks), np.zeros((blocks, 3)), np.zeros((blocks, 3, 3)), np.zeros((blocks, 3)))
    for some in points:
        surface = (some.origin + some.depth[:, None] * some.direction).astype(np.float32)
        add_moments(surface, some.direction, np.float32(config.chart_m), config.chart_grid, *found)
    return found


@compiled
def block_of(x, y, z, chart_m, grid):
    """Number of the block that a point lies in, -1 beside all."""
    i, j, k = np.floor(x / chart_m + _EARLY), np.floor(y / chart_m + _EARLY), np.floor(z / chart_m + _EARLY)
    if not (i >= _ZERO and j >= _ZERO and k >= _ZERO and i < grid[2] and j < grid[1] and k < grid[0]):
        return -1
    return (int(k) * grid[1] + int(j)) * grid[2] + int(i)


@compiled
def add_moments(points, direction, chart_m, grid, count, total, square, way):
    """Add points (M, 3) seen in a direction (M, 3) to their blocks' :class:`Moments`."""
    local, seen = np.empty(3), np.empty(3)
    for n in range(len(points)):
        block = block_of(points[n, 0], points[n, 1], points[n, 2], chart_m, grid)
        if block < 0:
            continue
        length = _ZERO
        for axis in range(3):
            local[axis] = points[n, axis] / chart_m - np.floor(points[n, axis] / chart_m + _EARLY)
            length += direction[n, axis] ** 2
        for axis in range(3):
            seen[axis] = direction[n, axis] / np.sqrt(length)
        count[block] += 1
        for a in range(3):
            total[block, a] += local[a]
            way[block, a] += seen[a]
            for b in range(3):
                square[block, a, b] += local[a] * local[b]


def normals(found: Moments) -> tuple[Int64, Float64]:
    """Blocks (K,) with enough points to know their surface, and its normals (K, 3) towards those who saw it."""
    seen = found.number[found.number > 0]
    least = max(LEAST_POINTS, LEAST_SHARE * float(np.median(seen)) if len(seen) else 0.0)
    blocks = np.flatnonzero(found.number >= least)
    count, mean = found.number[blocks, None, None], found.total[blocks] / found.number[blocks, None]
    spread = found.square[blocks] / count - mean[:, :, None] * mean[:, None, :]
    normal = np.linalg.eigh(spread)[1][:, :, 0]
    away = (normal * found.way[blocks]).sum(1) > 0
    return blocks, np.where(away[:, None], -normal, normal)


class Charts(NamedTuple):
    """codes: of each block, (Z, Y, X), 3 times the number of its chart plus the axis that faces, or NO_CHART.

    number: of charts. share: of the points that are seen.
    """

    codes: Int32
    number: int
    share: float


def choose_charts(points: Iterable[SeenPoints], config: ReliefConfig, most: int = 2**29, flat: bool = False) -> Charts:
    """Which blocks of a place get one; most seen first.

    Args:
        points: of the known surface.
        config: of the network; its `charts` counts for nothing.
        most: so many at most, where most was seen; with a warning.
        flat: also where the surface faces up and nothing else in its column does: else the ground-plane map has it.
    """
    found = moments(points, config)
    blocks, normal = normals(found)
    axis = np.abs(normal).argmax(1)
    towards = np.take_along_axis(normal, axis[:, None], 1)[:, 0] > 0
    grid = config.chart_grid
    facing = np.full(int(np.prod(grid)), -1)
    facing[blocks] = 2 * axis + towards
    order = blocks[np.argsort(-found.number[blocks], kind="stable")]
    codes = np.full(len(facing), NO_CHART, np.int32)
    on_plane = np.zeros(len(facing), bool)
    column = np.full(grid[1] * grid[2], False)
    steps = (1, grid[2], grid[1] * grid[2])
    number = 0
    for block in order:
        if codes[block] != NO_CHART or on_plane[block]:
            continue
        axis_of = int(facing[block]) // 2
        group = [block, *_beside(int(block), axis_of, steps, grid, facing, codes, on_plane)]
        below = int(block) % steps[2]
        if axis_of == 2 and not flat and not column[below]:
            column[below] = True
            on_plane[group] = True
            continue
        codes[group] = AXES * number + axis_of
        number += 1
        if number == most:
            logger.warning(
                "there is room for %d charts of the surface, where most was seen; --box.model-mb makes more", most
            )
            break
    share = found.number[codes != NO_CHART].sum() / max(found.number.sum(), 1.0)
    return Charts(codes.reshape(grid), number, float(share))


def _beside(
    block: int,
    axis: int,
    steps: Sequence[int],
    grid: Sequence[int],
    facing: Int64,
    codes: Int32,
    on_plane: NDArray[np.bool_],
) -> list[int]:
    """Neighbours of a block along the axis its surface faces that are free, and empty or face the same way."""
    size, step = grid[2 - axis], steps[axis]
    at = block // step % size
    found = []
    for other, is_there in ((block - step, at > 0), (block + step, at < size - 1)):
        free = is_there and codes[other] == NO_CHART and not on_plane[other]
        if free and facing[other] in (-1, facing[block]):
            found.append(other)
    return found


# How charts are read, and how they learn.


@compiled
def chart_codes(codes, chart_m, points, found):
    """found (N,): the codes of the blocks that points (N, 3) lie in."""
    grid = codes.shape
    flat = codes.reshape(-1)
    for n in range(len(points)):
        block = block_of(points[n, 0], points[n, 1], points[n, 2], chart_m, grid)
        found[n] = flat[block] if block >= 0 else -1


@compiled
def on_chart(axis, x, y, z, chart_m):
    """Where on a chart that faces an axis a point lies, 0..1 both."""
    across, up = (y if axis == 0 else x) / chart_m, (y if axis == 2 else z) / chart_m
    return max(across - np.floor(across + _EARLY), _ZERO), max(up - np.floor(up + _EARLY), _ZERO)


@compiled
def texel(at, side):
    """The texel before a place on a level, 0..1, and the fraction beyond it."""
    position = at * np.float32(side - 1)
    low = min(int(position), side - 2)
    return low, position - np.float32(low)


@compiled
def texel_cell(start, side, a, b):
    """The texel before a place, 0..1 both, on a level whose texels begin at `start`, and the fractions beyond it."""
    i, u = texel(a, side)
    j, v = texel(b, side)
    return start + j * side + i, u, v


@compiled
def read_charts(table, side, starts, each, chart_m, points, codes, shares, summed):
    """summed (N, C): bilinear values of charts in a table (M, C) at points (N, 3) of these codes (N,), each level with
    its share (N, levels); 0 where there is no chart. `each`: texels of a chart."""
    for n in range(len(points)):
        for c in range(table.shape[1]):
            summed[n, c] = _ZERO
        if codes[n] < 0:
            continue
        a, b = on_chart(codes[n] % AXES, points[n, 0], points[n, 1], points[n, 2], chart_m)
        for level in range(len(starts)):
            if shares[n, level] > _ZERO:
                first, u, v = texel_cell(codes[n] // AXES * each + starts[level], side[level], a, b)
                read_four(table, first, side[level], u, v, shares[n, level], summed, n)


@compiled
def learn_charts(gradient, side, starts, each, chart_m, points, codes, shares, spread, marks):
    """Add what the gradient (N, C) of :func:`read_charts`'s sums says of the table to `spread`, and mark where."""
    for n in range(len(points)):
        if codes[n] < 0:
            continue
        a, b = on_chart(codes[n] % AXES, points[n, 0], points[n, 1], points[n, 2], chart_m)
        for level in range(len(starts)):
            if shares[n, level] > _ZERO:
                first, u, v = texel_cell(codes[n] // AXES * each + starts[level], side[level], a, b)
                learn_four(gradient, n, first, side[level], u, v, shares[n, level], spread, marks)


class Layout(NamedTuple):
    """Where a chart's levels lie: texels along a side and first texel of each (levels,), texels of a chart, and the
    side of a chart in metres."""

    side: Int64
    starts: Int64
    each: int
    chart_m: np.float32


def layout(levels: int, chart_m: float) -> Layout:
    """See :class:`Layout`."""
    side = np.array(chart_sides(levels))
    return Layout(side, np.cumsum([0, *side[:-1] ** 2]), chart_texels(levels), np.float32(chart_m))


def chart_means(points: Float32, values: Float32, codes: Int32, where: Layout, charts: int) -> Float32:
    """Direct colours (charts texels, 3) of charts, from the coarsest level on what values (M, 3) at points (M, 3) of
    these codes (M,) still lack; they are drawn to 0 where there are few. What they explain is taken from the values."""
    table = np.zeros((charts * where.each, values.shape[1]), np.float32)
    for level in reversed(range(len(where.side))):
        count = np.zeros(len(table), np.float32)
        add_to_texels(points, values, codes, where.side[level], where.starts[level], *where[2:], table, count)
        told = count > 0
        table[told] /= (count[told] + _HALF)[:, None]
        take_from_texels(points, values, codes, where.side[level], where.starts[level], *where[2:], table)
    return table


@compiled
def add_to_texels(points, values, codes, side, start, each, chart_m, table, count):
    """Add values (M, 3) to the texels of one level nearest to their points."""
    for n in range(len(points)):
        if codes[n] < 0:
            continue
        a, b = on_chart(codes[n] % AXES, points[n, 0], points[n, 1], points[n, 2], chart_m)
        last = np.float32(side - 1)
        index = codes[n] // AXES * each + start + int(b * last + _HALF) * side + int(a * last + _HALF)
        count[index] += _ONE
        for c in range(values.shape[1]):
            table[index, c] += values[n, c]


@compiled
def take_from_texels(points, values, codes, side, start, each, chart_m, table):
    """Take from values (M, 3) what one level says at the points, by bilinear interpolation."""
    for n in range(len(points)):
        if codes[n] < 0:
            continue
        a, b = on_chart(codes[n] % AXES, points[n, 0], points[n, 1], points[n, 2], chart_m)
        first, u, v = texel_cell(codes[n] // AXES * each + start, side, a, b)
        for c in range(values.shape[1]):
            upper = table[first, c] + (table[first + 1, c] - table[first, c]) * u
            lower = table[first + side, c] + (table[first + side + 1, c] - table[first + side, c]) * u
            values[n, c] -= upper + (lower - upper) * v


def level_sums(config: ReliefConfig, table: Float32) -> Float32:
    """A table (M, C) of charts whose levels are each the sum of itself and all coarser ones, as backend.py reads them:
    a bilinear function stays bilinear on a finer grid."""
    side = chart_sides(config.levels)
    starts = np.cumsum([0, *(each**2 for each in side)])
    charts = table.reshape(config.charts, chart_texels(config.levels), -1).copy()
    for level, (finer, coarser) in reversed(list(enumerate(pairwise(side)))):
        rough = charts[:, starts[level + 1] : starts[level + 2]].reshape(config.charts, coarser, coarser, -1)
        for axis in (1, 2):
            rough = np.moveaxis(rough, axis, 0)
            between = np.empty((2 * len(rough) - 1, *rough.shape[1:]), np.float32)
            between[::2], between[1::2] = rough, (rough[:-1] + rough[1:]) / 2
            rough = np.moveaxis(between, 0, axis)
        charts[:, starts[level] : starts[level + 1]] += rough.reshape(config.charts, finer**2, -1)
    return np.ascontiguousarray(charts.reshape(table.shape))
