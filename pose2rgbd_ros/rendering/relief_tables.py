"""A relief network's tables as the compiled kernels read them: the same functions, fewer lookups.

The ground-plane map is a sum of levels, and level l has a vertex at every 2^l-th vertex of level 0. A bilinear
function stays bilinear on a finer grid, so levels l, l + 1, ... added up at the vertices of level l are one table with
the same values in between: instead of every level two tables are looked up where a level fades out, elsewhere one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pose2rgbd_ros.models.relief.features import SKY_COLUMNS, SKY_ROWS, Features
from pose2rgbd_ros.models.relief.march_numba import highest_layers
from pose2rgbd_ros.models.relief.network import Relief

Float32 = NDArray[np.float32]


class ReliefTables(NamedTuple):
    """Arrays for relief_kernels.py.

    logits: (L, Y, X). top, around: of :func:`highest_layers`. seen: (L, Y, X) uint8. step_m: (3,) along x, y, z.
    maps: (M, C) the sums of levels, one after another; starts, shapes, texel_m: (levels,), (levels, 2), (levels,).
    coarse: (Lc, Yc, Xc, Cv). coarse_step_m: (2,) across and up. sky: (rows, columns, C).
    """

    logits: Float32
    top: NDArray[np.int16]
    around: NDArray[np.int16]
    seen: NDArray[np.uint8]
    step_m: Float32
    maps: Float32
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]
    texel_m: Float32
    coarse: Float32
    coarse_step_m: Float32
    sky: Float32


def relief_tables(model: Relief) -> ReliefTables:
    """The tables of a network, on the CPU."""
    config = model.config
    logits = _numpy(model.volume.logits)
    levels = level_sums(model.features)
    sizes = [rows * columns for rows, columns, _ in (level.shape for level in levels)]
    return ReliefTables(
        logits,
        *highest_layers(logits),
        np.ascontiguousarray(model.volume.seen.cpu().numpy()),
        np.array(config.step_m, np.float32),
        np.concatenate([level.reshape(-1, config.channels) for level in levels]),
        np.cumsum([0, *sizes[:-1]]),
        np.array([level.shape[:2] for level in levels], np.int64),
        np.array([config.texel_m(level) for level in range(config.levels)], np.float32),
        _numpy(model.features.coarse).reshape(*config.coarse_shape, config.coarse_channels),
        np.array([config.coarse_cell_m, config.coarse_layer_m], np.float32),
        _numpy(model.features.sky).reshape(SKY_ROWS, SKY_COLUMNS, config.channels),
    )


def level_sums(features: Features) -> list[Float32]:
    """Per level l the sum of levels l, l + 1, ... at the vertices of level l, (rows, columns, C).

    Each reaches as far as the coarsest level: outside its own extent a level is clamped, which a table of its own extent
    could not say of a sum.
    """
    config = features.config
    maps, sums = _numpy(features.maps), [np.zeros((0, 0, config.channels), np.float32)] * config.levels
    total: Float32 | None = None
    for level in reversed(range(config.levels)):
        shape = config.map_shape(level)
        start = features.starts[level]
        table = maps[start : start + shape[0] * shape[1]].reshape(*shape, -1)
        if total is not None:
            finer = _twice(total)
            beyond = [(0, finer.shape[axis] - table.shape[axis]) for axis in (0, 1)]
            table = finer + np.pad(table, (*beyond, (0, 0)), mode="edge")
        total = sums[level] = np.ascontiguousarray(table)
    return sums


def _twice(table: Float32) -> Float32:
    """(rows, columns, C) at twice the density: (2 rows - 1, 2 columns - 1, C)."""
    for axis in (0, 1):
        values = np.moveaxis(table, axis, 0)
        finer = np.empty((2 * len(values) - 1, *values.shape[1:]), np.float32)
        finer[::2] = values
        finer[1::2] = (values[:-1] + values[1:]) / 2
        table = np.moveaxis(finer, 0, axis)
    return table


def _numpy(tensor: Tensor) -> Float32:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
