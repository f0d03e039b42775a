"""What the picture as a whole does: how fast it moves, slides, turns and grows."""

from __future__ import annotations

import functools

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.streams.alignment.flow import FlowSignal

_LEAST_SHARE = 0.2  # of cells with texture; with fewer a pair of images says nothing
_ROUNDS = 4


def magnitude(cells: AnyArray, flow: FlowSignal) -> Float64:
    """Speed of the picture (N,), px/s: the mean over `cells`, those of the flow or freed of something, by texture, without
    the fastest and the slowest eighth.

    NaN where there is no texture.
    """
    speed = np.linalg.norm(cells, axis=-1).reshape(len(flow), -1).astype(np.float64)
    return _known(flow, _trimmed_mean(speed, _weights(flow))[:, None])[:, 0]


@functools.lru_cache(maxsize=2)
def sliding(flow: FlowSignal) -> Float64:
    """What an affine motion of the whole picture explains, robustly fitted to the cells (N, 4); NaN: no texture.

    Columns, all in px/s: right and down at the middle; then what is seen at the left and right edge of growing
    (forward motion) and of turning clockwise (roll).
    """
    rows, columns = flow.cells.shape[1:3]
    aspect = flow.height_px / flow.width_px
    y, x = np.meshgrid(
        aspect * ((2 * np.arange(rows) + 1) / rows - 1),
        (2 * np.arange(columns) + 1) / columns - 1,
        indexing="ij",
    )
    design = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=-1)
    cells = flow.cells.reshape(len(flow), -1, 2).astype(np.float64)
    texture = _weights(flow)
    weight = texture
    for _ in range(_ROUNDS):
        normal = np.einsum("nc,ci,cj->nij", weight, design, design) + 1e-9 * np.eye(3)
        right = np.einsum("nc,ci,nck->nik", weight, design, cells)
        fitted = np.linalg.solve(normal, right)
        residual = np.linalg.norm(cells - np.einsum("ci,nik->nck", design, fitted), axis=-1)
        scale = 1.5 * weighted_median(residual, texture)[:, None] + 1e-6
        weight = texture / (1.0 + (residual / scale) ** 2)
    u, v = fitted[..., 0], fitted[..., 1]
    columns_out = [u[:, 0], v[:, 0], (u[:, 1] + v[:, 2]) / 2, (v[:, 1] - u[:, 2]) / 2]
    return _known(flow, np.stack(columns_out, axis=-1))


def weighted_median(values: Float64, weight: Float64) -> Float64:
    """Medians (N,) of the rows of `values` (N, C), each value counted by its weight (N, C)."""
    order = np.argsort(values, axis=1)
    mass = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    middle = np.argmax(mass >= 0.5 * mass[:, -1:], axis=1)
    return np.asarray(np.take_along_axis(values, order, axis=1)[np.arange(len(values)), middle])


def _trimmed_mean(values: Float64, weight: Float64) -> Float64:
    """Means (N,) of the rows of `values` (N, C) without an eighth of the weight at either end."""
    order = np.argsort(values, axis=1)
    values, weight = np.take_along_axis(values, order, axis=1), np.take_along_axis(weight, order, axis=1)
    upto = np.cumsum(weight, axis=1)
    low, high = upto[:, -1:] / 8, upto[:, -1:] * 7 / 8
    kept = np.clip(np.minimum(upto, high) - np.maximum(upto - weight, low), 0.0, None)
    return np.asarray((kept * values).sum(axis=1) / np.maximum(kept.sum(axis=1), 1e-12))


def _weights(flow: FlowSignal) -> Float64:
    """Weights (N, cells): texture, but no cell counts more than the median one, so that one tree does not decide."""
    texture = flow.weight.reshape(len(flow), -1).astype(np.float64)
    return np.asarray(np.minimum(texture, np.median(texture, axis=1, keepdims=True) + 1e-9))


def _known(flow: FlowSignal, values: Float64) -> Float64:
    values[flow.quality < _LEAST_SHARE] = np.nan
    return values
