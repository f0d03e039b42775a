"""Height of the ground: gentle relief under the city, hills towards the horizon, kerbs along the streets."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.city.config import RELIEF, CityConfig, stream
from pose2rgbd_ros.sim.city.layout import BLOCK, FAR, ROAD, WALK, Layout, smoothstep

KERB_M = 0.12
LAND, ROADWAY, PAVEMENT, FIELD = range(4)  # kinds of cells


class Relief:
    """A smooth height for every point of the map, a sum of seeded waves."""

    def __init__(self, config: CityConfig) -> None:
        rng = stream(config.seed, RELIEF)
        self._half = config.extent_m / 2
        self._city = _waves(rng, 4, (0.9, 1.8), config.extent_m)
        self._hills = _waves(rng, 7, (2.0, 6.0), 420.0)
        self._height_m = config.relief_m
        self._offset, self._scale = 0.0, 1.0
        side = np.linspace(-self._half, self._half, 65)
        sample = _sum(self._city, np.stack(np.meshgrid(side, side), axis=-1))
        self._offset = (sample.max() + sample.min()) / 2
        self._scale = np.ptp(sample)

    def height_m(self, xy_m: Float64) -> Float64:
        """Heights (...,) of points (..., 2)."""
        gentle = self._height_m * (_sum(self._city, xy_m) - self._offset) / self._scale
        far = smoothstep((np.linalg.norm(xy_m, axis=-1) - 1.3 * self._half) / 1400.0)
        return gentle + far * (28.0 + 11.0 * _sum(self._hills, xy_m))


class Ground:
    """The grid of ground cells: heights at the crossings of the plan's lines, a kind and a kerb for each cell.

    `z_m` (Nx, Ny) at the lines; `kind` (Nx-1, Ny-1); `lift_m` (Nx-1, Ny-1) is added to the corners of a cell. Cells
    are two triangles each, split along the diagonal from the lowest to the highest line numbers.
    """

    def __init__(self, layout: Layout, relief: Relief) -> None:
        self.layout = layout
        x, y = layout.x, layout.y
        plan = np.stack(np.meshgrid(x.lines, y.lines, indexing="ij"), axis=-1)
        self.xy_m = layout.warp.to_map(plan)
        self.z_m = relief.height_m(self.xy_m)
        self.kind = _cell_kinds(layout)
        raised = (self.kind == LAND) | (self.kind == PAVEMENT)
        self.lift_m = np.where(raised, KERB_M, 0.0)

    def height_m(self, xy_m: Float64) -> Float64:
        """Height (...,) of the ground's triangles at (..., 2); beyond the world, at its rim."""
        return self.plan_height_m(self.layout.warp.to_plan(xy_m))

    def plan_height_m(self, plan: Float64) -> Float64:
        """The same for points of the plan."""
        i, s = _locate(self.layout.x.lines, plan[..., 0])
        j, t = _locate(self.layout.y.lines, plan[..., 1])
        z = self.z_m
        z00, z10, z01, z11 = z[i, j], z[i + 1, j], z[i, j + 1], z[i + 1, j + 1]
        below = z00 + s * (z10 - z00) + t * (z11 - z10)
        above = z00 + t * (z01 - z00) + s * (z11 - z01)
        return np.where(s >= t, below, above) + self.lift_m[i, j]


def _locate(lines: Float64, values: Float64) -> tuple[Int64, Float64]:
    """Band of each value and where in it (0..1)."""
    band = np.clip(np.searchsorted(lines, values, side="right") - 1, 0, len(lines) - 2)
    return band, np.clip((values - lines[band]) / (lines[band + 1] - lines[band]), 0.0, 1.0)


def _cell_kinds(layout: Layout) -> Int64:
    kx, ky = np.meshgrid(layout.x.kind, layout.y.kind, indexing="ij")
    kind = np.full(kx.shape, LAND)
    kind[(kx == WALK) | (ky == WALK)] = PAVEMENT
    kind[(kx == ROAD) | (ky == ROAD)] = ROADWAY
    far = (kx == FAR) | (ky == FAR)
    kind[far & (kind != ROADWAY)] = FIELD
    for axis, street, block in layout.closed:
        along, across = (layout.y, layout.x) if axis == 0 else (layout.x, layout.y)
        width = (across.number == street) & (across.kind != BLOCK)
        land = (along.number == block) & (along.kind == BLOCK)
        # The pavement of the street at either end runs on past the one that is closed.
        ends = (along.kind == WALK) & (np.roll(land, 1) | np.roll(land, -1))
        for rows, value in ((land, LAND), (ends, PAVEMENT)):
            cells = np.ix_(width, rows) if axis == 0 else np.ix_(rows, width)
            kind[cells] = value
    return kind


def _waves(
    rng: np.random.Generator, count: int, cycles: tuple[float, float], length_m: float
) -> tuple[Float64, Float64, Float64]:
    """Wave vectors (count, 2) in radians a metre, phases and weights (count,)."""
    angle = rng.uniform(0, 2 * np.pi, count)
    rate = 2 * np.pi * rng.uniform(*cycles, count)[:, None] / (length_m * cycles[1])
    vectors = rate * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return vectors, rng.uniform(0, 2 * np.pi, count), rng.uniform(0.5, 1.0, count)


def _sum(waves: tuple[Float64, Float64, Float64], xy_m: Float64) -> Float64:
    vectors, phase, weight = waves
    return np.asarray(np.sin(xy_m @ vectors.T + phase) @ weight)
