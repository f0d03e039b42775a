"""3 x 3 convolutions in few multiplications: 4 x 4 outputs at a time, Winograd's F(4 x 4, 3 x 3) (Lavin, Gray 2016).

A tile's 6 x 6 inputs are mixed into 36 numbers, each of which meets its own channel matrix, and 36 products are mixed
into 4 x 4 outputs: 36 multiplications instead of 144, and the rounding of float32 (some 1e-6 of the largest term). The
matrix products are blocks that fit the registers (simd.py), quicker here than ONNX Runtime's.

Images are (4 rows of tiles + 2, 4 columns of tiles + 2, channels) float32, the first pixel at [1, 1]: a margin of zeros
lies around them, and what is beyond the image in the last tiles stays zero, as a convolution with zero padding sees it.
Channels are a multiple of eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.config import LANES, WIDE_LANES

if HAS_NUMBA:
    from pose2rgbd_ros.models.relief.simd import fma, load8, load16, pointer, positive, splat8, splat16, store

Float32 = NDArray[np.float32]

TILE, SPAN = 4, 6
ROWS_AT_ONCE = 6
TILES_AT_ONCE = 30
"""So many that their mixed inputs stay in the cache; not a power of two, or the 36 matrices fall on the same lines."""
_WEIGHTS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_TWO, _FOUR, _FIVE, _EIGHT = np.float32(2), np.float32(4), np.float32(5), np.float32(8)


def mixed_weights(weight: NDArray[np.floating]) -> Float32:
    """The 36 channel matrices (36, inputs, outputs) of a convolution's weight (outputs, inputs, 3, 3)."""
    mixed = np.einsum("ia,ocab,jb->ijco", _WEIGHTS, weight.astype(np.float64), _WEIGHTS)
    return np.ascontiguousarray(mixed.reshape(SPAN * SPAN, *mixed.shape[2:]), dtype=np.float32)


def padded_to_lanes(count: int) -> int:
    """The next multiple of eight."""
    return -(-count // LANES) * LANES


@compiled
def mix_in(d0, d1, d2, d3, d4, d5):
    """Six inputs along one axis, mixed."""
    two, four, five = splat8(_TWO), splat8(_FOUR), splat8(_FIVE)
    even, odd = d4 - four * d2, d3 - four * d1
    near, far = d4 - d2, two * (d3 - d1)
    return (
        fma(four, d0, d4 - five * d2),
        even + odd,
        even - odd,
        near + far,
        near - far,
        fma(four, d1, d5 - five * d3),
    )


@compiled
def mix_out(m0, m1, m2, m3, m4, m5):
    """Six products along one axis, mixed into four outputs."""
    two, four, eight = splat8(_TWO), splat8(_FOUR), splat8(_EIGHT)
    sum_1, sum_2, gap_1, gap_2 = m1 + m2, m3 + m4, m1 - m2, m3 - m4
    return m0 + sum_1 + sum_2, fma(two, gap_2, gap_1), fma(four, sum_2, sum_1), fma(eight, gap_2, gap_1 + m5)


@compiled
def load_row(image, at, step):
    """Six pixels side by side, mixed."""
    return mix_in(
        load8(image, at),
        load8(image, at + step),
        load8(image, at + 2 * step),
        load8(image, at + 3 * step),
        load8(image, at + 4 * step),
        load8(image, at + 5 * step),
    )


@compiled
def store_column(mixed, at, step, rows):
    """Six values one below another, mixed, to every sixth matrix."""
    v0, v1, v2, v3, v4, v5 = rows
    store(mixed, at, v0)
    store(mixed, at + 6 * step, v1)
    store(mixed, at + 12 * step, v2)
    store(mixed, at + 18 * step, v3)
    store(mixed, at + 24 * step, v4)
    store(mixed, at + 30 * step, v5)


@compiled
def gather_tiles(image, columns, first, stop, mixed):
    """Tiles first .. stop - 1 of an image, row by row with `columns` to a row, into mixed (36, tiles, channels)."""
    channels, row = image.shape[2], image.shape[1] * image.shape[2]
    step = mixed.shape[1] * channels
    image, mixed = pointer(image), pointer(mixed)
    for tile in range(first, stop):
        corner = TILE * (tile // columns) * row + TILE * (tile % columns) * channels
        for channel in range(0, channels, LANES):
            at = corner + channel
            a0, a1, a2, a3, a4, a5 = load_row(image, at, channels)
            b0, b1, b2, b3, b4, b5 = load_row(image, at + row, channels)
            c0, c1, c2, c3, c4, c5 = load_row(image, at + 2 * row, channels)
            d0, d1, d2, d3, d4, d5 = load_row(image, at + 3 * row, channels)
            e0, e1, e2, e3, e4, e5 = load_row(image, at + 4 * row, channels)
            f0, f1, f2, f3, f4, f5 = load_row(image, at + 5 * row, channels)
            to = (tile - first) * channels + channel
            store_column(mixed, to, step, mix_in(a0, b0, c0, d0, e0, f0))
            store_column(mixed, to + step, step, mix_in(a1, b1, c1, d1, e1, f1))
            store_column(mixed, to + 2 * step, step, mix_in(a2, b2, c2, d2, e2, f2))
            store_column(mixed, to + 3 * step, step, mix_in(a3, b3, c3, d3, e3, f3))
            store_column(mixed, to + 4 * step, step, mix_in(a4, b4, c4, d4, e4, f4))
            store_column(mixed, to + 5 * step, step, mix_in(a5, b5, c5, d5, e5, f5))


@compiled
def load_products(products, at, step):
    """A row of six products, mixed into four."""
    return mix_out(
        load8(products, at),
        load8(products, at + step),
        load8(products, at + 2 * step),
        load8(products, at + 3 * step),
        load8(products, at + 4 * step),
        load8(products, at + 5 * step),
    )


@compiled
def store_outputs(image, at, row, count, column, bias, relu):
    """The first `count` of a column of four outputs."""
    for number in range(count):
        value = column[number] + bias
        store(image, at + number * row, positive(value) if relu else value)


@compiled
def scatter_tiles(products, columns, first, stop, bias, relu, height, width, margin, image):
    """The outputs of tiles first .. stop - 1 from products (36, tiles, channels) into an image of a margin.

    bias (channels,) is added, and what is negative becomes 0 where `relu` is; outputs beyond height and width are left
    out.
    """
    channels, row = image.shape[2], image.shape[1] * image.shape[2]
    step = products.shape[1] * channels
    image, products, bias = pointer(image), pointer(products), pointer(bias)
    for tile in range(first, stop):
        y, x = TILE * (tile // columns), TILE * (tile % columns)
        down, across = min(height - y, TILE), min(width - x, TILE)
        corner = (y + margin) * row + (x + margin) * channels
        for channel in range(0, channels, LANES):
            at = (tile - first) * channels + channel
            a0, a1, a2, a3 = load_products(products, at, step)
            b0, b1, b2, b3 = load_products(products, at + 6 * step, step)
            c0, c1, c2, c3 = load_products(products, at + 12 * step, step)
            d0, d1, d2, d3 = load_products(products, at + 18 * step, step)
            e0, e1, e2, e3 = load_products(products, at + 24 * step, step)
            f0, f1, f2, f3 = load_products(products, at + 30 * step, step)
            to, more = corner + channel, load8(bias, channel)
            store_outputs(image, to, row, down, mix_out(a0, b0, c0, d0, e0, f0), more, relu)
            if across > 1:
                store_outputs(image, to + channels, row, down, mix_out(a1, b1, c1, d1, e1, f1), more, relu)
            if across > 2:
                store_outputs(image, to + 2 * channels, row, down, mix_out(a2, b2, c2, d2, e2, f2), more, relu)
            if across > 3:
                store_outputs(image, to + 3 * channels, row, down, mix_out(a3, b3, c3, d3, e3, f3), more, relu)


@compiled
def multiply(mixed, tiles, weights, products):
    """products (36, tiles, outputs) = mixed (36, tiles, channels) times weights (36, channels, outputs).

    As many tiles as asked for, up to the next multiple of six; outputs are a multiple of 16.
    """
    space, channels, outputs = mixed.shape[1], mixed.shape[2], weights.shape[2]
    rows, columns, sums = pointer(mixed), pointer(weights), pointer(products)
    for matrix in range(SPAN * SPAN):
        for left in range(0, outputs, WIDE_LANES):
            for tile in range(matrix * space, matrix * space + tiles, ROWS_AT_ONCE):
                at, to = matrix * channels * outputs + left, tile * outputs + left
                times(rows, tile * channels, channels, columns, at, outputs, sums, to)


@compiled
def times(rows, row, channels, columns, column, outputs, sums, to):
    """Six rows by 16 columns: as many sums as AVX2 has registers for, and nearly as many as AVX-512 keeps busy with."""
    a = b = c = d = e = f = splat16(np.float32(0))
    for channel in range(row, row + channels):
        values = load16(columns, column)
        column += outputs
        a = fma(splat16(rows[channel]), values, a)
        b = fma(splat16(rows[channel + channels]), values, b)
        c = fma(splat16(rows[channel + 2 * channels]), values, c)
        d = fma(splat16(rows[channel + 3 * channels]), values, d)
        e = fma(splat16(rows[channel + 4 * channels]), values, e)
        f = fma(splat16(rows[channel + 5 * channels]), values, f)
    store(sums, to, a)
    store(sums, to + outputs, b)
    store(sums, to + 2 * outputs, c)
    store(sums, to + 3 * outputs, d)
    store(sums, to + 4 * outputs, e)
    store(sums, to + 5 * outputs, f)


class Convolution(NamedTuple):
    """A layer: weights (36, inputs, outputs) of :func:`mixed_weights`, bias (outputs,), whether a ReLU follows."""

    weights: Float32
    bias: Float32
    relu: bool


def convolution(weight: Float32, bias: Float32, relu: bool) -> Convolution:
    """Of a weight (outputs, inputs, 3, 3); outputs become a multiple of 16, inputs of eight, by zeros."""
    outputs, inputs = weight.shape[:2]
    more = -outputs % WIDE_LANES
    weight = np.pad(weight, [(0, more), (0, -inputs % LANES), (0, 0), (0, 0)])
    return Convolution(mixed_weights(weight), np.pad(bias, (0, more)).astype(np.float32), relu)


def scratch(layers: Sequence[Convolution]) -> list[tuple[Float32, Float32]]:
    """What :func:`convolve` needs for each layer, for one thread."""
    sizes = [layer.weights.shape[1:] for layer in layers]
    return [tuple(np.zeros((SPAN * SPAN, TILES_AT_ONCE, count), np.float32) for count in pair) for pair in sizes]  # type: ignore[misc]


@compiled
def convolve(image, layer, height, width, start, stop, margin, outcome, mixed, products):
    """Rows start..stop of tiles through a layer, into an image of that margin."""
    weights, bias, relu = layer
    columns = (width + TILE - 1) // TILE
    for first in range(start * columns, stop * columns, TILES_AT_ONCE):
        last = min(first + TILES_AT_ONCE, stop * columns)
        gather_tiles(image, columns, first, last, mixed)
        multiply(mixed, last - first, weights, products)
        scatter_tiles(products, columns, first, last, bias, relu, height, width, margin, outcome)
