"""Blocks on the diagonal of the inverse of a large sparse matrix of cameras.

The inverse itself would be dense, 7 GB for 5,000 cameras. Cameras that see no point together have no entry in the
matrix, so it is dissected (George 1973): a row of cameras parts the others into two sides that do not touch, and so on.
Fronts are eliminated from the smallest parts up (Duff and Reid 1983), and the inverse is computed from the last front
down, only where the fronts have entries (Takahashi 1973): memory grows hardly faster than the number of cameras.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from pose2rgbd_ros.geometry.arrays import Float64, Int64

SIZE = 6  # unknowns of a camera
MOST_UNKNOWNS = 15_000  # of one front: more would need more than 5 GB at once
PARTED = 40  # cameras, above which they are parted once more


def diagonal_blocks(matrix: sparse.csr_array, together: sparse.csr_array, position_m: Float64) -> Float64 | None:
    """(B, 6, 6) of the inverse of a positive definite `matrix` (6 B, 6 B), blocks of cameras first.

    Cameras at positions (N, 3) have entries with those that they see points `together` with (N, N), and with the blocks
    after the last camera. None where too many of them see the same points.
    """
    count = len(position_m)
    others = np.arange(count, matrix.shape[0] // SIZE)
    root = _dissect(np.arange(count), position_m, together, others)
    root = _Front(np.concatenate([root.own, others]), root.below, root.border)
    if max(root.sizes()) > MOST_UNKNOWNS:
        return None
    blocks = np.zeros((count + len(others), SIZE, SIZE))
    root.eliminate(matrix)
    root.invert(np.zeros((0, 0)), blocks)
    return blocks


class _Front:
    """Cameras that are eliminated together, after those of the fronts below, and the later ones that they touch."""

    def __init__(self, own: Int64, below: list[_Front], touched: Int64) -> None:
        self.below = below
        self.gone: Int64 = np.concatenate([own, *(each.gone for each in below)])
        self.border: Int64 = np.setdiff1d(np.concatenate([touched, *(each.border for each in below)]), self.gone)
        self.own, self.cameras = own, np.concatenate([own, self.border])

    def sizes(self) -> Iterator[int]:
        """Unknowns of each front."""
        yield SIZE * len(self.cameras)
        for each in self.below:
            yield from each.sizes()

    def _places(self, below: _Front) -> tuple[Int64, ...]:
        """Where the border of a front below is in this one."""
        order = np.argsort(self.cameras)
        at = _unknowns(order[np.searchsorted(self.cameras, below.border, sorter=order)])
        return np.ix_(at, at)

    def eliminate(self, matrix: sparse.csr_array) -> Float64:
        """What is left for the border's unknowns where the cameras here and below are eliminated."""
        own, size = SIZE * len(self.own), SIZE * len(self.cameras)
        front = np.zeros((size, size))
        front[:own] = matrix[_unknowns(self.own)][:, _unknowns(self.cameras)].toarray()
        front[own:, :own] = front[:own, own:].T
        for each in self.below:
            front[self._places(each)] += each.eliminate(matrix)
        self.inverse = np.linalg.inv(front[:own, :own])
        self.gain = self.inverse @ front[:own, own:]
        return np.asarray(front[own:, own:] - front[own:, :own] @ self.gain)

    def invert(self, border: Float64, blocks: Float64) -> None:
        """Fill in the inverse's blocks (B, 6, 6) of the cameras here and below, given that of the border's unknowns."""
        across = -self.gain @ border
        own = self.inverse - across @ self.gain.T
        for i, camera in enumerate(self.own.tolist()):
            here = slice(SIZE * i, SIZE * (i + 1))
            blocks[camera] = own[here, here]
        whole = np.block([[own, across], [across.T, border]])
        for each in self.below:
            each.invert(whole[self._places(each)], blocks)


def _dissect(cameras: Int64, position_m: Float64, together: sparse.csr_array, others: Int64) -> _Front:
    """Fronts of some cameras; `others` are blocks that all of them touch."""
    sides: list[Int64] = []
    own = cameras
    if len(cameras) > PARTED:
        axis = np.argmax(np.ptp(position_m[cameras], axis=0))
        one, other = np.array_split(cameras[np.argsort(position_m[cameras, axis])], 2)
        touches = np.diff(together[one][:, other].indptr) > 0
        own, sides = one[touches], [one[~touches], other]
    below = [_dissect(side, position_m, together, others) for side in sides]
    return _Front(own, below, np.concatenate([together[own].indices, others]))


def _unknowns(cameras: Int64) -> Int64:
    return np.asarray((SIZE * cameras[:, None] + np.arange(SIZE)).ravel())
