"""Which lines of a flight are held out, and which frames come too close to them to be trained on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry.arrays import Bool, Float64

ALIKE_RAD = np.deg2rad(30.0)  # orientations nearer than this see the same


def choose_lines(groups: Sequence[range], share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Lines held out: about `share` of each group, at least one where there are two lines or more.

    They are spread over the group, never neighbours, and never the first or last of a group of three or more: those
    border on nothing, so their frames could not be told from their neighbours'.
    """
    chosen: list[int] = []
    for group in groups:
        chosen += [group[place] for place in _places(len(group), share, rng)]
    return tuple(sorted(chosen))


def _places(count: int, share: float, rng: np.random.Generator) -> list[int]:
    """Places below `count`: drawn one from each of equal parts, with a gap between any two."""
    if share <= 0 or count < 2:
        return []
    if count == 2:
        return [int(rng.integers(2))]
    inner = count - 2
    wanted = int(np.clip(round(share * count), 1, (inner + 1) // 2))
    # Drawn among what is left when every chosen place but the last takes its right neighbour with it.
    left = inner - (wanted - 1)
    cuts = np.floor(np.arange(1, wanted) * left / wanted + rng.random()).astype(int)
    return [1 + int(rng.integers(a, b)) + k for k, (a, b) in enumerate(itertools.pairwise([0, *cuts, left]))]


class Guard:
    """Tells which poses are near held-out ones: nearer than `radius_m`, and turned by less than 30 degrees.

    Args:
        position_m: (M, 3) of the held-out poses, close together along their lines.
        quat_xyzw: (M, 4) their orientations.
    """

    def __init__(self, position_m: Float64, quat_xyzw: Float64, radius_m: float) -> None:
        self._tree = cKDTree(position_m) if len(position_m) else None
        self._quat, self._radius_m = quat_xyzw, radius_m

    def __call__(self, position_m: Float64, quat_xyzw: Float64) -> Bool:
        """(N,) whether each of the poses (N, 3), (N, 4) is that near."""
        near = np.zeros(len(position_m), dtype=bool)
        if self._tree is None or self._radius_m <= 0:
            return near
        for i, found in enumerate(self._tree.query_ball_point(position_m, self._radius_m)):
            near[i] = bool(found) and np.abs(self._quat[found] @ quat_xyzw[i]).max() > np.cos(ALIKE_RAD / 2)
        return near
