"""The surface of the streets, the land and the fields: one gapless mesh over the grid of ground cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.sim.city.config import OUTSKIRTS, stream
from pose2rgbd_ros.sim.city.layout import BLOCK, FIELD, LAND, PAVEMENT, ROAD, ROADWAY, WALK, Axis, Ground, Layout
from pose2rgbd_ros.sim.city.shapes import MeshBuilder, TextureArray

ROAD_TILE_M = 8.0  # length of street in one repeat of a road texture
PAVING_TILE_M = 3.0
FIELD_TILE_M = 24.0


@dataclass(frozen=True, eq=False)
class Street:
    """A street: its middle (K, 3) in the map on the roadway, and its width, pavements included."""

    points_m: Float64
    width_m: float


def streets(layout: Layout, ground: Ground) -> list[Street]:
    """All streets of the built square, without the parts that are closed."""
    found = []
    for axis, (along, across) in enumerate(((layout.y, layout.x), (layout.x, layout.y))):
        for number, (kind, middle) in enumerate(across.streets):
            closed = [block for a, street, block in layout.closed if a == axis and street == number]
            for begin, end in _open_runs(along, closed):
                steps = np.linspace(begin, end, max(2, round((end - begin) / 4.0) + 1))
                line = np.full_like(steps, middle)
                plan = np.stack([line, steps] if axis == 0 else [steps, line], axis=-1)
                z = ground.plan_height_m(plan)
                points = np.concatenate([layout.warp.to_map(plan), z[:, None]], axis=-1)
                found.append(Street(points, kind.width_m))
    return found


def _open_runs(along: Axis, closed: list[int]) -> list[tuple[float, float]]:
    """Begin and end of the stretches that are no closed blocks, each to the middle of the street that ends it."""
    runs, begin = [], float(along.blocks[0, 0])
    for block in closed:
        runs.append((begin, along.streets[block - 1][1]))
        begin = along.streets[block][1]
    runs.append((begin, float(along.blocks[-1, 1])))
    return [run for run in runs if run[0] < run[1]]  # nothing is open between two closed blocks in a row


class Surface:
    """Lays the cells of the ground: land into `ground` for the baked picture, all else into `chunks`."""

    def __init__(self, ground: Ground, textures: TextureArray, seed: int, snow: bool = False) -> None:
        self._ground, self._layout, self._textures = ground, ground.layout, textures
        self._seed, self._snow = seed, snow
        x, y = self._layout.x, self._layout.y
        self._i, self._j = (a.ravel() for a in np.indices(ground.kind.shape))
        self._kind = ground.kind.ravel()
        self._plan = np.stack(
            [
                np.stack([x.lines[self._i + di], y.lines[self._j + dj]], axis=-1)
                for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1))
            ],
            axis=1,
        )
        self._lift = ground.lift_m[self._i, self._j]

    def lay(self, chunks: MeshBuilder, land: MeshBuilder) -> None:
        """Add everything."""
        self._land(land)
        self._pavement(chunks)
        self._roadway(chunks)
        self._fields(chunks)
        self._kerbs(chunks)

    def _corners(self, which: Bool) -> Float64:
        """Map corners (N, 4, 3) of cells, counter-clockwise from above."""
        g = self._ground
        i, j = self._i[which], self._j[which]
        corners = []
        for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
            z = g.z_m[i + di, j + dj] + self._lift[which]
            corners.append(np.concatenate([g.xy_m[i + di, j + dj], z[:, None]], axis=-1))
        return np.stack(corners, axis=1)

    def _land(self, land: MeshBuilder) -> None:
        which = self._kind == LAND
        half = self._layout.half_m
        land.add(self._corners(which), self._plan[which] / (2 * half) + 0.5, 0)

    def _pavement(self, chunks: MeshBuilder) -> None:
        which = self._kind == PAVEMENT
        tint = self._mottle(which, 0.05)
        chunks.add(self._corners(which), self._plan[which] / PAVING_TILE_M, self._textures["paving"], tint)

    def _mottle(self, which: Bool, amount: float) -> Float64:
        """A brightness for each corner, the same where corners meet; breaks the repetition of tiles."""
        x, y = self._plan[which][..., 0], self._plan[which][..., 1]
        wave = np.sin(x * 0.21 + 1.3 * np.sin(y * 0.13)) + np.sin(y * 0.17 + 1.7 * np.sin(x * 0.11))
        return 255 * np.repeat((0.96 - amount + amount * wave / 2)[..., None], 3, axis=-1)

    def _roadway(self, chunks: MeshBuilder) -> None:
        x, y, i, j = self._layout.x, self._layout.y, self._i, self._j
        road = self._kind == ROADWAY
        road_x, road_y = road & (x.kind[i] == ROAD), road & (y.kind[j] == ROAD)
        junction = road_x & road_y
        tint = self._mottle(road, 0.06)
        uv = np.zeros((len(i), 4, 2))
        layer = np.zeros(len(i), int)
        uv[junction] = self._plan[junction] / ROAD_TILE_M
        layer[junction] = self._textures["junction"]
        for axis, here in ((0, road_x & ~junction), (1, road_y & ~junction)):
            uv[here], layer[here] = self._lanes(axis, here)
        chunks.add(self._corners(road), uv[road], layer[road], tint)

    def _lanes(self, axis: int, which: Bool) -> tuple[Float64, Int64]:
        """Texture coordinates and layers of roadway that runs along y (axis 0) or along x (axis 1)."""
        across, along = (self._layout.x, self._layout.y) if axis == 0 else (self._layout.y, self._layout.x)
        a, b = (self._i[which], self._j[which]) if axis == 0 else (self._j[which], self._i[which])
        plan = self._plan[which]
        cross, run = plan[..., axis], plan[..., 1 - axis]
        low, high = across.lines[a, None], across.lines[a + 1, None]
        right = (cross - low) / (high - low)
        if axis == 1:
            right = 1 - right  # looking along +x, y grows to the left
        type_of = [kind.name for kind, _ in across.streets]
        names = np.array([type_of[number] for number in across.number[a]])
        starts, ends = _at_crossing(along)
        place = np.where(along.kind[b] != BLOCK, "zebra", "road")
        place = np.where(along.number[b] < 0, "road", place)
        place = np.where(starts[b] | ends[b], "stop", place)
        # A stop line looks away from its crossing: forwards at the start of a block, backwards at its end.
        begin, end = along.lines[b, None], along.lines[b + 1, None]
        fraction = (run - begin) / (end - begin)
        backwards = (place == "stop") & ends[b]
        right = np.where(backwards[:, None], 1 - right, right)
        forward = np.where(backwards[:, None], 1 - fraction, fraction)
        # A crossing is as finely painted along the street as across it, so that both blur at the same distance.
        zebra = (place == "zebra")[:, None]
        forward = np.where(zebra, fraction * (end - begin) / (high - low), forward)
        forward = np.where((place == "road")[:, None], run / ROAD_TILE_M, forward)
        layer = self._textures.each([f"{p}_{n}" for p, n in zip(place, names, strict=True)])
        return np.stack([right, forward], axis=-1), layer

    def _fields(self, chunks: MeshBuilder) -> None:
        """The country: strips of fields, each with one crop."""
        which = self._kind == FIELD
        rng = stream(self._seed, OUTSKIRTS)
        x, y = self._layout.x, self._layout.y
        # Bands of one block form one field; far bands are fields of their own.
        column, row = (np.where(a.number < 0, 100 + np.arange(len(a.kind)), a.number) for a in (x, y))
        count = 100 + max(len(x.kind), len(y.kind))
        crops = self._textures.each(["meadow", "crop", "soil", "meadow", "stubble", "crop"])
        crop = crops[rng.integers(0, len(crops), (count, count))]
        colour = 255 * (
            0.86 + 0.14 * rng.random((count, count, 1)) * [1, 1, 0.8] + rng.uniform(-0.05, 0.05, (count, count, 3))
        )
        if self._snow:  # no colours of crops below snow
            colour = 255 - 0.1 * (255 - colour.mean(axis=-1, keepdims=True)) * np.ones(3)
        verge = (x.kind[self._i] == WALK) | (y.kind[self._j] == WALK)
        at = column[self._i[which]], row[self._j[which]]
        near = np.abs(self._plan[which]).max(axis=(1, 2)) < self._layout.half_m + 30
        layer = np.where(verge[which] | near, self._textures["meadow"], crop[at])
        chunks.add(self._corners(which), self._plan[which] / FIELD_TILE_M, layer, colour[at])

    def _kerbs(self, chunks: MeshBuilder) -> None:
        """Upright faces wherever neighbouring cells lie at different heights."""
        g = self._ground
        lift = g.lift_m
        for axis in (0, 1):
            step = np.diff(lift, axis=axis)
            i, j = np.nonzero(step)
            high_is_second = step[i, j] > 0
            # The line between the two cells, with the higher cell to its left.
            if axis == 0:
                a, b = (i + 1, j), (i + 1, j + 1)
                flip = high_is_second
            else:
                a, b = (i, j + 1), (i + 1, j + 1)
                flip = ~high_is_second
            start = np.where(flip, b, a)
            stop = np.where(flip, a, b)
            low = np.minimum(lift[i, j], lift[i + (axis == 0), j + (axis == 1)])
            high = low + np.abs(step[i, j])
            p, q = g.xy_m[start[0], start[1]], g.xy_m[stop[0], stop[1]]
            zp, zq = g.z_m[start[0], start[1]], g.z_m[stop[0], stop[1]]
            corners = np.stack(
                [
                    np.concatenate([xy, (z + lift_m)[:, None]], axis=-1)
                    for xy, z, lift_m in ((p, zp, low), (q, zq, low), (q, zq, high), (p, zp, high))
                ],
                axis=1,
            )
            length = np.linalg.norm(q - p, axis=-1)
            uv = np.zeros((len(i), 4, 2))
            uv[:, 1:3, 0] = length[:, None] / 2
            uv[:, 2:, 1] = 0.06
            chunks.add(corners, uv, self._textures["kerb"], 235)


def _at_crossing(axis: Axis) -> tuple[Bool, Bool]:
    """For each band: whether it is the first, or the last, of a block that has a street there."""
    block = axis.kind == BLOCK
    before, after = np.roll(axis.kind, 1), np.roll(axis.kind, -1)
    return block & (before == WALK), block & (after == WALK)
