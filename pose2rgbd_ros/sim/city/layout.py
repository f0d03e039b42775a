"""Where the streets run, on an irregular grid drawn straight in the plane of a plan and then bent; ground heights.

The bend is a conformal map: it keeps right angles, so what is a rectangle on the plan is very nearly one in the map.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.city.config import LAYOUT, RELIEF, CityConfig, stream

BLOCK, ROAD, WALK, FAR = range(4)  # kinds of bands
FAR_M = np.array([22.0, 55, 100, 165, 255, 380, 550, 780, 1100, 1550, 2200, 3000])  # beyond the built square
STOP_M = 6.5  # the stretch before a crossing that carries the stop line
RIM = 1.42  # the bend is conformal within this share of half the extent: just past the corners
CELL_M = 16.0  # widest cell of the ground in the built square


@dataclass(frozen=True)
class StreetType:
    """Widths of one kind of street: the roadway, lanes and parking strips included, and one pavement."""

    name: str
    road_m: float
    walk_m: float
    lane_m: float  # width of one driving lane; what is left of the roadway is parking
    speed_mps: float

    @property
    def width_m(self) -> float:
        return self.road_m + 2 * self.walk_m


ALLEY = StreetType("alley", 5.6, 2.0, 2.8, 5.5)
STREET = StreetType("street", 9.6, 2.3, 2.8, 8.0)
AVENUE = StreetType("avenue", 11.0, 3.4, 3.3, 10.0)


@dataclass
class Axis:
    """The plan along one axis: lines, and what lies between each two of them.

    `lines` (N+1,) ascending; `kind`, `number` (N,): the kind of each band and the number of its block or street (-1
    outside the built square); `streets`: type and middle of each street; `blocks` (B, 2) begin and end of each block.
    """

    lines: Float64
    kind: Int64
    number: Int64
    streets: list[tuple[StreetType, float]]
    blocks: Float64


@dataclass(frozen=True)
class Block:
    """A piece of land between streets: plan rectangle, and the ranges of grid blocks that it spans."""

    low: tuple[float, float]
    high: tuple[float, float]
    columns: tuple[int, int]
    rows: tuple[int, int]
    inner: bool  # streets on all four sides

    @property
    def size(self) -> tuple[float, float]:
        return self.high[0] - self.low[0], self.high[1] - self.low[1]


class Warp:
    """Takes the plan to the map; fades out far from the city."""

    def __init__(self, rng: np.random.Generator, extent_m: float) -> None:
        self._half = extent_m / 2
        angle = rng.uniform(0, 2 * np.pi, 2)
        self._square = rng.uniform(0.03, 0.045) * np.exp(1j * angle[0])
        self._cube = rng.uniform(0.006, 0.012) * np.exp(1j * angle[1])

    def to_map(self, plan: Float64) -> Float64:
        """(..., 2) to (..., 2)."""
        z = plan[..., 0] + 1j * plan[..., 1]
        return _as_xy(z + self._shift(z))

    def to_plan(self, xy_m: Float64) -> Float64:
        """The inverse, by a contraction: each round leaves a fraction of the error."""
        target = xy_m[..., 0] + 1j * xy_m[..., 1]
        z = target.copy()
        for _ in range(24):
            z = target - self._shift(z)
        return _as_xy(z)

    def _shift(self, z: np.ndarray) -> np.ndarray:
        relative = z / self._half
        radius = np.abs(relative)
        fade = 1 - smoothstep((radius - RIM) / 2.5)
        relative = relative * np.minimum(1.0, RIM / np.maximum(radius, 1e-9))
        return fade * self._half * relative**2 * (self._square + self._cube * relative)


@dataclass
class Layout:
    """Streets, blocks and the grid of ground cells of a city."""

    x: Axis
    y: Axis
    blocks: list[Block]
    closed: list[tuple[int, int, int]] = field(default_factory=list)  # (axis of the street, its number, block beside)
    warp: Warp = field(kw_only=True)
    half_m: float = field(kw_only=True)


def smoothstep(x: Float64) -> Float64:
    """0 below 0, 1 above 1, and C1 between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def make_layout(config: CityConfig) -> Layout:
    """Draw the street grid of a city."""
    rng = stream(config.seed, LAYOUT)
    x, y = (_axis(rng, config.extent_m) for _ in range(2))
    warp = Warp(rng, config.extent_m)
    blocks, closed = _blocks(rng, x, y)
    return Layout(x, y, blocks, closed, warp=warp, half_m=config.extent_m / 2)


def _axis(rng: np.random.Generator, extent_m: float) -> Axis:
    count = max(3, round((extent_m + 13) / 72))
    avenue = {int(rng.integers(0, count - 1))}
    if count > 5:
        avenue.add((min(avenue) + (count - 1) // 2) % (count - 1))
    types = [AVENUE if i in avenue else (ALLEY if rng.random() < 0.3 else STREET) for i in range(count - 1)]
    widths = rng.uniform(0.72, 1.3, count)
    widths *= (extent_m - sum(kind.width_m for kind in types)) / widths.sum()
    lines, kinds, numbers, streets, blocks = [-extent_m / 2], [], [], [], []

    def band(width: float, kind: int, number: int) -> None:
        lines.append(lines[-1] + width)
        kinds.append(kind)
        numbers.append(number)

    for i, width in enumerate(widths):
        blocks.append((lines[-1], lines[-1] + width))
        inner = width - 2 * STOP_M
        pieces = int(np.ceil(inner / CELL_M))
        for piece in [STOP_M, *([inner / pieces] * pieces), STOP_M]:
            band(piece, BLOCK, i)
        if i < count - 1:
            kind = types[i]
            streets.append((kind, lines[-1] + kind.width_m / 2))
            band(kind.walk_m, WALK, i)
            band(kind.road_m, ROAD, i)
            band(kind.walk_m, WALK, i)
    half = extent_m / 2
    lines[-1] = half
    far = FAR_M
    lines = [*(-half - far[::-1]), *lines, *(half + far)]
    outside = [FAR] * len(far)
    minus = [-1] * len(far)
    return Axis(
        np.array(lines),
        np.array([*outside, *kinds, *outside]),
        np.array([*minus, *numbers, *minus]),
        streets,
        np.array(blocks),
    )


def _blocks(rng: np.random.Generator, x: Axis, y: Axis) -> tuple[list[Block], list[tuple[int, int, int]]]:
    """Blocks of the grid, some of them grown together where a street is left out between them."""
    columns, rows = len(x.blocks), len(y.blocks)
    owner = np.full((columns, rows), -1)
    closed: list[tuple[int, int, int]] = []
    spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for i, j in rng.permutation([(i, j) for i in range(columns) for j in range(rows)]).tolist():
        if owner[i, j] >= 0:
            continue
        wide = x.blocks[i, 1] - x.blocks[i, 0] < y.blocks[j, 1] - y.blocks[j, 0]
        a, b = (i + 1, j) if wide else (i, j + 1)
        street = None
        inside = 0 < j < rows - 1 if wide else 0 < i < columns - 1  # streets do not end at the edge of the city
        if rng.random() < 0.3 and inside and a < columns and b < rows and owner[a, b] < 0:
            street = (0, i, j) if wide else (1, j, i)
            kind = (x if wide else y).streets[street[1]][0]
            street = None if kind is AVENUE else street  # avenues run through
        if street is None:
            a, b = i, j
        else:
            closed.append(street)
        owner[i : a + 1, j : b + 1] = len(spans)
        spans.append(((i, a), (j, b)))
    blocks = [
        Block(
            (x.blocks[i, 0], y.blocks[j, 0]),
            (x.blocks[a, 1], y.blocks[b, 1]),
            (i, a),
            (j, b),
            i > 0 and j > 0 and a < columns - 1 and b < rows - 1,
        )
        for (i, a), (j, b) in sorted(spans)
    ]
    return blocks, sorted(closed)


def _as_xy(z: np.ndarray) -> Float64:
    return np.stack([z.real, z.imag], axis=-1)


# Height of the ground: gentle relief under the city, hills towards the horizon, kerbs along the streets.

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
