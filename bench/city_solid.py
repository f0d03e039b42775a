"""Exact distances to the triangles of a simulated city, for benches that ask what a drone hits."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.sim.scene import Scene, merge

CELL_M = 4.0  # of the grid that finds triangles: distances up to this are exact, farther ones are told as this


class Solid:
    """The static city's triangles, to measure the distance to: no height map, which would fill what is below a
    crown.
    """

    def __init__(self, scene: Scene) -> None:
        mesh = merge([*(chunk for chunk in scene.chunks if len(chunk.triangles)), scene.ground])
        corners = mesh.position_m.astype(np.float64)[mesh.triangles]
        self._corners = corners
        low = np.floor(corners[..., :2].min(axis=1) / CELL_M).astype(int)
        high = np.floor(corners[..., :2].max(axis=1) / CELL_M).astype(int)
        near = (np.abs(low) < 200).all(axis=1) | (np.abs(high) < 200).all(axis=1)
        low, high = np.clip(low, -200, 200), np.clip(high, -200, 200)
        self._cells: dict[tuple[int, int], list[int]] = {}
        for index in np.flatnonzero(near):
            for i in range(low[index, 0], high[index, 0] + 1):
                for j in range(low[index, 1], high[index, 1] + 1):
                    self._cells.setdefault((i, j), []).append(int(index))

    def distance_m(self, point: np.ndarray) -> float:
        """From a point (3,) to the nearest surface; CELL_M for anything farther."""
        i, j = np.floor(point[:2] / CELL_M).astype(int)
        found = [k for a in (-1, 0, 1) for b in (-1, 0, 1) for k in self._cells.get((i + a, j + b), ())]
        if not found:
            return CELL_M
        corners = self._corners[np.unique(found)]
        close = (corners[..., 2].min(axis=1) < point[2] + CELL_M) & (corners[..., 2].max(axis=1) > point[2] - CELL_M)
        return min(CELL_M, _to_triangles(point, corners[close]))


def _to_triangles(point: np.ndarray, corners: np.ndarray) -> float:
    """Least distance from a point (3,) to triangles (N, 3, 3): to the plane where it lies above one, else to its
    edges.
    """
    if len(corners) == 0:
        return np.inf
    a, edges = corners[:, 0], np.roll(corners, -1, axis=1) - corners
    to = point - corners
    share = np.clip((to * edges).sum(-1) / np.maximum((edges**2).sum(-1), 1e-12), 0, 1)
    to_edges = np.linalg.norm(to - share[..., None] * edges, axis=-1).min(axis=1)
    normal = np.cross(edges[:, 0], edges[:, 1])
    size = np.linalg.norm(normal, axis=1)
    normal = normal / np.maximum(size, 1e-12)[:, None]
    above = (np.einsum("nij,nj->ni", np.cross(edges, to), normal) >= 0).all(axis=1) & (size > 1e-9)
    to_plane = np.abs(((point - a) * normal).sum(-1))
    return float(np.where(above, np.minimum(to_plane, to_edges), to_edges).min())
