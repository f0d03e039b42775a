"""How bright each training frame is beside the others, by the surfaces that several of them show.

A surface has one colour, and a frame a gain per colour channel (Brown and Lowe, "Automatic panoramic image stitching
using invariant features", 2007, section 6): of what frames show of the same cell of the volume, all gains are found at
once. A guess of each frame against the average of all, whose part it is and whose neighbours are as bright as it,
finds less of a gain that changes slowly.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64
from pose2rgbd_ros.models.relief.config import ReliefConfig, SeenPoints

CELLS = 3.0  # of the volume, a side of what counts as the same surface: about two pixels
DARK, CLIPPED = 0.04, 0.98  # colours beyond tell no gain
# The pull towards a gain of 1, beside all that a frame's surfaces tell: small differences between neighbours would
# else add up along a flight to gains of a third.
PULL = 0.2
WORTH = 0.03  # standard deviation of gains from which the light is learnt by itself; of even light they make 0.02
TO_DEVIATION = 1.4826  # of a median deviation
ROUNDS, LEAST_OFF = 4, 0.05  # of weighing surfaces by one over how far off they are: edges, gloss, what moved


def matched_gains(points: Iterable[SeenPoints], config: ReliefConfig) -> Float32:
    """Logarithm of the gain of each frame (T, 3), their mean 0; 0 of one that shares no surface with others.

    points: of each of the T frames in turn, as `seen_points` has them.
    """
    frame, cell, colour, frames = _seen_by_several(points, config)
    found = np.zeros((frames, 3), np.float32)
    if len(frame):
        for channel in range(3):
            found[:, channel] = _solve(frame, cell, colour[:, channel], frames)
    return found - found.mean(0) if frames else found


def differ(gains: Float32) -> bool:
    """Whether the logarithms of gains (T, 3) are farther apart than those of a camera that keeps its exposure."""
    mean = gains.mean(1)
    return bool(TO_DEVIATION * np.median(np.abs(mean - np.median(mean))) > WORTH)


def _seen_by_several(points: Iterable[SeenPoints], config: ReliefConfig) -> tuple[Int64, Int64, Float64, int]:
    """Of each frame and cell that another frame sees too: their numbers, and the mean logarithm of colour (N, 3).

    Last the number of frames.
    """
    side_m = CELLS * np.array(config.step_m)
    shape = np.ceil(np.array(config.size_m) / side_m).astype(np.int64)
    cells, sums, frame = [np.zeros(0, np.int64)], [np.zeros((0, 3))], [np.zeros(0, np.int64)]
    number = 0
    for number, some in enumerate(points, 1):
        at = np.floor((some.origin + some.depth[:, None] * some.direction) / side_m).astype(np.int64)
        good = ((some.rgb > DARK) & (some.rgb < CLIPPED) & (at >= 0) & (at < shape)).all(1)
        there, which = np.unique(np.ravel_multi_index(tuple(at[good].T), tuple(shape)), return_inverse=True)
        log_colour = np.log(some.rgb[good].astype(np.float64))
        total = np.stack([np.bincount(which, log_colour[:, channel], len(there)) for channel in range(3)], 1)
        sums.append(total / np.bincount(which, minlength=len(there))[:, None])
        cells.append(there)
        frame.append(np.full(len(there), number - 1))
    _, cell, seen = np.unique(np.concatenate(cells), return_inverse=True, return_counts=True)
    several = seen[cell] > 1
    _, cell = np.unique(cell[several], return_inverse=True)
    return np.concatenate(frame)[several], cell, np.concatenate(sums)[several], number


def _solve(frame: Int64, cell: Int64, value: Float64, frames: int) -> Float64:
    """Gains (T,) of frames by which values (N,) less their frame's agree in each cell, robustly."""
    weight, cells = np.ones(len(value)), int(cell.max()) + 1
    for _ in range(ROUNDS):
        table = sparse.csr_matrix((weight, (frame, cell)), (frames, cells))
        in_frame, in_cell = np.asarray(table.sum(1))[:, 0], np.asarray(table.sum(0))[0]
        # The cells' colours are the means of what is left of the values, and so leave the equations.
        to_cell_means = table @ sparse.diags(1 / in_cell)
        equations = sparse.diags((1 + PULL) * in_frame) - to_cell_means @ table.T
        value_of_cell = np.bincount(cell, weight * value, cells)
        gain, _ = cg(equations, np.bincount(frame, weight * value, frames) - to_cell_means @ value_of_cell)
        off = value - gain[frame]
        off -= (np.bincount(cell, weight * off, cells) / in_cell)[cell]
        weight = 1 / np.maximum(np.abs(off), LEAST_OFF)
    return np.asarray(gain)
