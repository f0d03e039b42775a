"""Where the streets run: an irregular grid, drawn straight in the plane of a plan and then bent.

The bend is a conformal map: it keeps right angles, so what is a rectangle on the plan is very nearly one in the map.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.city.config import LAYOUT, CityConfig, stream

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
