"""Weighted sums of the rows of large tables: how features and occupancy are read, and how they learn.

Plain PyTorch does it on any device. On a CPU, where points need no gradient, compiled code finds the cells itself: as
tensors, indices and weights took most of a training step. The gradient is added up where it belongs, and who owns the
table can have it gathered (:class:`Gathered`), so that nobody goes through what was not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.backends import HAS_NUMBA
from pose2rgbd_ros.models.relief import charts, kernels

Float32 = NDArray[np.float32]


class Gathered:
    """The gradient of a table on a CPU, kept from step to step: zero but in the blocks that are marked.

    values: (numel,) float32. marks: uint8, one a block of lookup_numba.BLOCK values, not 0 where it was touched. Once
        it is made, backward passes add to it and leave the parameter's own ``grad`` alone; whoever takes it clears
        it.
    """

    def __init__(self, table: nn.Parameter) -> None:
        self.values = np.zeros(table.numel(), np.float32)
        self.marks = np.zeros(-(-table.numel() // kernels.BLOCK), np.uint8)
        table.gathered = self  # type: ignore[attr-defined]

    def add(self, gradient: Tensor) -> None:
        """Add a dense gradient of the table's shape."""
        self.values += gradient.numpy().reshape(-1)
        self.marks[:] = 1


def gathered(table: Tensor) -> Gathered | None:
    """Where the gradient of a table is gathered, if it is."""
    return getattr(table, "gathered", None)


def compiled_for(table: Tensor, *points: Tensor) -> bool:
    """Whether compiled code reads `table` at `points`, which then are constants."""
    plain = table.device.type == "cpu" and table.dtype == torch.float32
    return HAS_NUMBA and plain and not any(each.requires_grad for each in points)


def sample_grid(table: Tensor, position: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Trilinear values (N, C) of a table (L Y X, C), or a shape of as many, at positions (N, 3): :func:`trilinear`."""
    if compiled_for(table, position):
        summed: Tensor = _Grid.apply(table, position, shape)
        return summed
    return lookup(table.reshape(int(np.prod(shape)), -1), *trilinear(position, shape))


def sample_maps(
    table: Tensor,
    points: Tensor,
    shares: Tensor,
    starts: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    texels_m: Sequence[float],
) -> Tensor:
    """Sums (N, C) of some maps, one after another in a table (M, C), at points (N, 2) in metres.

    shares: (N, maps) how much each counts. starts, shapes, texels_m: each map's first row, rows and columns, and texel.
    """
    if compiled_for(table, points, shares):
        layout = np.array(starts), np.array(shapes), np.array(texels_m, np.float32)
        summed: Tensor = _Maps.apply(table, points, shares, layout)
        return summed
    indices, weights = [], []
    for level, (start, shape, texel_m) in enumerate(zip(starts, shapes, texels_m, strict=True)):
        index, weight = bilinear(points / texel_m, shape)
        indices.append(index + start)
        weights.append(weight * shares[:, level, None])
    return lookup(table, torch.cat(indices, 1), torch.cat(weights, 1))


def chart_codes(codes: Tensor, points: Tensor, chart_m: float) -> Tensor:
    """(N,) of the codes (Z, Y, X) of blocks (see charts.py) those of the blocks that points (N, 3) lie in."""
    block = (points.detach() / chart_m + charts.EARLY).floor().long()
    last = torch.tensor(codes.shape[::-1], device=points.device) - 1
    inside = ((block >= 0) & (block <= last)).all(1)
    i, j, k = block.clamp(min=torch.zeros_like(last), max=last).unbind(1)
    return torch.where(inside, codes[k, j, i], charts.NO_CHART)


def sample_charts(table: Tensor, points: Tensor, codes: Tensor, shares: Tensor, layout: charts.Layout) -> Tensor:
    """Sums (N, C) of the levels of charts in a table (M, C) at points (N, 3) of these codes (N,), 0 without a chart.

    shares: (N, levels) how much each level counts.
    """
    if compiled_for(table, points, shares):
        summed: Tensor = _Charts.apply(table, points, codes, shares, layout)
        return summed
    local = points / float(layout.chart_m)
    x, y, z = (local - (local.detach() + charts.EARLY).floor()).unbind(1)
    number, axis = torch.div(codes.long().clamp(min=0), charts.AXES, rounding_mode="floor"), codes % charts.AXES
    at = torch.stack([torch.where(axis == 0, y, x), torch.where(axis == 2, y, z)], 1)
    indices, weights = [], []
    for level, (side, start) in enumerate(zip(layout.side.tolist(), layout.starts.tolist(), strict=True)):
        index, weight = bilinear(at * (side - 1), (side, side))
        indices.append(index + (number * layout.each + start)[:, None])
        weights.append(weight * torch.where(codes >= 0, shares[:, level], 0.0)[:, None])
    return lookup(table, torch.cat(indices, 1), torch.cat(weights, 1))


def lookup(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums (N, C) of rows (N, K) of a table (M, C); differentiable in the table and the weights (N, K)."""
    return functional.embedding_bag(index, table, per_sample_weights=weight.to(table.dtype), mode="sum")


def trilinear(position: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Cells (N, 8) of a flattened grid of `shape` (L, Y, X) around positions (N, 3) as (x, y, z), weights (N, 8).

    Positions are clamped to the grid; the weights are differentiable in them.
    """
    layers, rows, columns = shape
    index, weight = bilinear(position[:, :2], (rows, columns))
    z = position[:, 2].clamp(0.0, layers - 1.0)
    k = z.detach().floor().clamp(max=layers - 2.0)
    up, plane = (z - k)[:, None], k.long()[:, None] * (rows * columns)
    indices = torch.cat([index + plane, index + (plane + rows * columns)], 1)
    return indices, torch.cat([weight * (1 - up), weight * up], 1)


def bilinear(position: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cells (N, 4) of a flattened grid of `shape` (Y, X) around positions (N, 2) as (x, y), and weights (N, 4)."""
    rows, columns = shape
    x, y = position[:, 0].clamp(0.0, columns - 1.0), position[:, 1].clamp(0.0, rows - 1.0)
    i, j = x.detach().floor().clamp(max=columns - 2.0), y.detach().floor().clamp(max=rows - 2.0)
    u, v = x - i, y - j
    first = j.long() * columns + i.long()
    index = torch.stack([first, first + 1, first + columns, first + columns + 1], 1)
    weight = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], 1)
    return index, weight


class _Grid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, position: Tensor, shape: tuple[int, int, int]) -> Tensor:
        rows = _rows(table, int(np.prod(shape)))
        ctx.table, ctx.at, ctx.shape = table, _numpy(position), shape
        summed = np.empty((len(position), rows.shape[1]), np.float32)
        kernels.read_grid(rows, shape, ctx.at, summed)
        return torch.from_numpy(summed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        spread = _Spread(ctx.table, int(np.prod(ctx.shape)))
        kernels.learn_grid(_numpy(gradients[0]), ctx.shape, ctx.at, spread.rows, spread.marks)
        return spread.gradient, None, None


class _Maps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, points: Tensor, shares: Tensor, layout: tuple[Any, ...]) -> Tensor:
        ctx.table, ctx.at, ctx.layout = table, (_numpy(points), _numpy(shares)), layout
        summed = np.empty((len(points), table.shape[1]), np.float32)
        kernels.read_maps(_numpy(table), *layout, *ctx.at, summed)
        return torch.from_numpy(summed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        spread = _Spread(ctx.table, len(ctx.table))
        kernels.learn_maps(_numpy(gradients[0]), *ctx.layout, *ctx.at, spread.rows, spread.marks)
        return spread.gradient, None, None, None


class _Charts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, points: Tensor, codes: Tensor, shares: Tensor, layout: charts.Layout
    ) -> Tensor:
        ctx.table, ctx.at, ctx.layout = table, (_numpy(points), _numpy(codes), _numpy(shares)), layout
        summed = np.empty((len(points), table.shape[1]), np.float32)
        charts.read_charts(_numpy(table), *layout, *ctx.at, summed)
        return torch.from_numpy(summed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        spread = _Spread(ctx.table, len(ctx.table))
        charts.learn_charts(_numpy(gradients[0]), *ctx.layout, *ctx.at, spread.rows, spread.marks)
        return spread.gradient, None, None, None, None


class _Spread:
    """Where a backward pass adds up: `rows` (M, C) with `marks`, and what it returns as the table's gradient."""

    def __init__(self, table: Tensor, count: int) -> None:
        into = gathered(table)
        self.gradient = torch.zeros_like(table) if into is None else None
        if into is None:
            assert self.gradient is not None
            self.rows, self.marks = _rows(self.gradient, count), np.empty(0, np.uint8)
        else:
            self.rows, self.marks = into.values.reshape(count, -1), into.marks


def _rows(table: Tensor, count: int) -> Float32:
    return _numpy(table).reshape(count, -1)


def _numpy(values: Tensor) -> Any:
    return np.ascontiguousarray(values.detach().numpy())
