"""Scenes of a few plain boxes on a flat ground, for tests of the renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pose2rgbd_ros.sim.scene import Light, Mesh, Mover, Scene

NOON = Light(sun_direction=(0.0, 0.0, 1.0), haze_per_m=0.0)
WHITE = np.full((1, 8, 8, 3), 255, np.uint8)


def mesh(quads: np.ndarray, tint: Sequence[int] = (255, 255, 255), layer: int = 0) -> Mesh:
    """Flat quads (Q, 4, 3), counter-clockwise seen from outside."""
    quads = np.asarray(quads, float)
    normal = np.cross(quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    first = 4 * np.arange(len(quads))[:, None]
    count = 4 * len(quads)
    return Mesh(
        quads.reshape(-1, 3).astype(np.float32),
        np.repeat(normal, 4, axis=0).astype(np.float32),
        np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), (len(quads), 1)),
        np.full(count, layer, np.uint8),
        np.tile(np.array(tint, np.uint8), (count, 1)),
        np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])]).astype(np.uint32),
    )


def box(low: Sequence[float], high: Sequence[float], tint: Sequence[int] = (255, 255, 255), layer: int = 0) -> Mesh:
    """An axis-aligned box with all six faces."""
    corner = np.array([low, high], float)
    quads = []
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            quad = np.empty((4, 3))
            quad[:, axis] = corner[side, axis]
            quad[:, one] = corner[[0, 1, 1, 0], one]
            quad[:, two] = corner[[0, 0, 1, 1], two]
            quads.append(quad if side else quad[::-1])
    return mesh(np.array(quads), tint, layer)


def ground(half_m: float = 60.0, tint: Sequence[int] = (255, 255, 255), cells: int = 12) -> Mesh:
    """A square at z = 0 in `cells` x `cells` quads, its uv from 0 to 1 across the whole."""
    at = np.linspace(-half_m, half_m, cells + 1)
    x, y = (edge.ravel() for edge in np.meshgrid(at[:-1], at[:-1]))
    step = at[1] - at[0]
    corners = [(x, y), (x + step, y), (x + step, y + step), (x, y + step)]
    quads = np.stack([np.stack([a, b, np.zeros_like(a)], axis=-1) for a, b in corners], axis=1)
    plain = mesh(quads, tint)
    return replace(plain, uv=((plain.position_m[:, :2] + half_m) / (2 * half_m)).astype(np.float32))


def plain_scene(chunks: Sequence[Mesh] = (), light: Light = NOON, movers: Sequence[Mover] = (), **parts: Any) -> Scene:
    """White ground and white texture unless given."""
    parts = {"ground": ground(), "ground_rgb": WHITE[0], "textures_rgb": WHITE, **parts}
    return Scene(tuple(chunks), light=light, movers=tuple(movers), **parts)
