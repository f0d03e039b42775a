"""Weighted sums of the rows of large tables: how features and occupancy are read, and how they learn.

PyTorch's own ``embedding_bag`` does the same on any device; on a CPU its gradient sorts all indices, which took half of a
training step. Here the gradient is added up where it belongs, compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.models.relief.march_numba import AVAILABLE, compiled


def lookup(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums (N, C) of rows (N, K) of a table (M, C); differentiable in the table and the weights (N, K)."""
    if AVAILABLE and table.device.type == "cpu" and table.dtype == torch.float32:
        summed: Tensor = _Lookup.apply(table, index, weight)
        return summed
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


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, weight)
        summed = np.empty((len(index), table.shape[1]), np.float32)
        add_up(_numpy(table), _numpy(index), _numpy(weight), summed)
        return torch.from_numpy(summed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, index, weight = ctx.saved_tensors
        gradient = _numpy(gradients[0])
        for_table = for_weight = None
        if ctx.needs_input_grad[0]:
            spread = np.zeros(table.shape, np.float32)
            hand_out(gradient, _numpy(index), _numpy(weight), spread)
            for_table = torch.from_numpy(spread)
        if ctx.needs_input_grad[2]:
            slopes = np.empty(weight.shape, np.float32)
            compare(gradient, _numpy(table), _numpy(index), slopes)
            for_weight = torch.from_numpy(slopes)
        return for_table, None, for_weight


def _numpy(values: Tensor) -> Any:
    return np.ascontiguousarray(values.detach().numpy())


@compiled
def add_up(table, index, weight, summed):
    """summed[n] = sum over k of weight[n, k] * table[index[n, k]]."""
    for n in range(index.shape[0]):
        for c in range(table.shape[1]):
            summed[n, c] = np.float32(0)
        for k in range(index.shape[1]):
            row, share = index[n, k], weight[n, k]
            for c in range(table.shape[1]):
                summed[n, c] += share * table[row, c]


@compiled
def hand_out(gradient, index, weight, spread):
    """Add weight[n, k] * gradient[n] to spread[index[n, k]]."""
    for n in range(index.shape[0]):
        for k in range(index.shape[1]):
            row, share = index[n, k], weight[n, k]
            if share != np.float32(0):
                for c in range(spread.shape[1]):
                    spread[row, c] += share * gradient[n, c]


@compiled
def compare(gradient, table, index, slopes):
    """slopes[n, k] = gradient[n] . table[index[n, k]]."""
    for n in range(index.shape[0]):
        for k in range(index.shape[1]):
            row, slope = index[n, k], np.float32(0)
            for c in range(table.shape[1]):
                slope += gradient[n, c] * table[row, c]
            slopes[n, k] = slope
