"""No two faces of the city share a plane where they overlap: there a depth buffer would flicker."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.scene import merge

APART_M = 0.02
CELL_M = 6.0


def cells_of(low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Groups of the boxes that reach into one cell of a grid."""
    first, last = (np.floor((edge + side) / CELL_M).astype(int) for edge, side in ((low, -0.03), (high, 0.03)))
    groups: dict[tuple[int, int, int], list[int]] = {}
    for index, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for x in range(a[0], b[0] + 1):
            for y in range(a[1], b[1] + 1):
                for z in range(a[2], b[2] + 1):
                    groups.setdefault((x, y, z), []).append(index)
    return [np.array(group) for group in groups.values() if len(group) > 1]


def overlap(a: np.ndarray, b: np.ndarray, normal: np.ndarray) -> bool:
    """Whether two triangles (3, 3) share area, seen along `normal`: no side of either tells them apart."""
    u = np.cross(normal, [0.3, 0.5, 0.8])
    u /= np.linalg.norm(u)
    plane = np.stack([u, np.cross(normal, u)], axis=1)
    flat = a @ plane, b @ plane
    for corners in flat:
        for k in range(3):
            side = corners[(k + 1) % 3] - corners[k]
            across = np.array([-side[1], side[0]]) / np.linalg.norm(side)
            p, q = flat[0] @ across, flat[1] @ across
            if p.max() < q.min() + 0.004 or q.max() < p.min() + 0.004:
                return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_no_two_overlapping_faces_lie_in_one_plane(seed):
    city = City(CityConfig(seed=seed, extent_m=300.0))
    mesh = merge([*city.scene.chunks, city.scene.ground])
    faces = mesh.position_m.astype(float)[mesh.triangles]
    faces = faces[np.abs(faces[..., :2]).max(axis=(1, 2)) < 180.0]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    low, high = faces.min(axis=1), faces.max(axis=1)
    flickering = set()
    for group in cells_of(low, high):
        i, j = np.nonzero(np.triu(np.abs(normals[group] @ normals[group].T) > 0.9998, 1))
        a, b = group[i], group[j]
        away = np.abs(np.einsum("kj,kvj->kv", normals[a], faces[b] - faces[a][:, :1])).max(axis=1)
        near = (high[a] + APART_M > low[b]).all(axis=1) & (high[b] + APART_M > low[a]).all(axis=1)
        for p, q in zip(a[(away < APART_M) & near], b[(away < APART_M) & near], strict=True):
            if overlap(faces[p], faces[q], normals[p]):
                flickering.add((int(p), int(q)))
    assert not flickering, [faces[list(pair)].round(2).tolist() for pair in sorted(flickering)[:3]]
