"""Street lamps."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.city.builder import MeshBuilder
from pose2rgbd_ros.sim.city.layout import ALLEY, Layout
from pose2rgbd_ros.sim.city.placing import poses_on
from pose2rgbd_ros.sim.city.shapes import UNIT_UV, Shape, frustum
from pose2rgbd_ros.sim.city.terrain import Ground

HEIGHT_M = 6.4
REACH_M = 1.6  # how far the arm reaches, about
APART_M = 28.5
FROM_KERB_M = 0.4


def lamps(layout: Layout, ground: Ground, builder: MeshBuilder) -> Float64:
    """Add lamps at the kerbs, on either side in turn; returns their feet (N, 3) in the map."""
    spots, headings = [], []
    for axis, (along, across) in enumerate(((layout.y, layout.x), (layout.x, layout.y))):
        for number, (kind, middle) in enumerate(across.streets):
            if kind is ALLEY:
                continue
            for index, (begin, end) in enumerate(along.blocks):
                if (axis, number, index) in layout.closed:
                    continue
                run = np.arange(begin + 3.0, end - 2.0, APART_M / 2)
                side = np.where(np.arange(len(run)) % 2, 1.0, -1.0)
                cross = middle + side * (kind.road_m / 2 + FROM_KERB_M)
                spots.append(np.stack([cross, run] if axis == 0 else [run, cross], axis=-1))
                nothing = np.zeros_like(side)
                headings.append(np.stack([-side, nothing] if axis == 0 else [nothing, -side], axis=-1))
    if not spots:
        return np.zeros((0, 3))
    T = poses_on(ground, np.concatenate(spots), np.concatenate(headings))
    _lamp().place(builder, T, np.tile([92.0, 96.0, 100.0], (len(T), 1)))
    return T[:, :3, 3]


def _lamp() -> Shape:
    """A mast, and an arm with a head along x."""
    shape = Shape()
    turn = 2 * np.pi * np.arange(3) / 3
    foot = np.stack([0.085 * np.cos(turn), 0.085 * np.sin(turn), np.full(3, -0.1)], axis=-1)
    top = foot * [0.6, 0.6, 0] + [0, 0, HEIGHT_M]
    following = [1, 2, 0]
    shape.add(np.stack([foot, foot[following], top[following], top], axis=1), UNIT_UV, 0)
    arm = frustum((-0.1, -0.06, 1.4, 0.06), HEIGHT_M - 0.16, (-0.05, -0.05, 1.35, 0.05), HEIGHT_M + 0.04)
    shape.add(arm, UNIT_UV, 0)
    below = arm[0][[0, 1]], arm[2][[0, 1]]
    floor = np.array([[below[0][1], below[0][0], below[1][1], below[1][0]]])
    shape.add(floor, UNIT_UV, 0, np.array([250, 240, 210]) / 255, tinted=False)
    return shape
